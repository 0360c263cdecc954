"""Legal sides against a search over all of them; the message of the check."""

import jax
import pytest

from seg_jax.nn.input_sizes import check_sides, nearest_sides


@pytest.mark.parametrize(("step", "rest"), [(8, 1), (8, 2), (32, 1), (32, 32)])
def test_nearest_sides_are_the_neighbours_among_all_legal_ones(step, rest):
    legal = [step * k + rest for k in range(100)]
    for side in range(1, 600):
        below = [value for value in legal if value <= side][-1:]
        above = [value for value in legal if value >= side][:1]
        assert nearest_sides(side, step=step, rest=rest) == tuple(dict.fromkeys(below + above))


def test_check_names_the_side_and_the_nearest_legal_ones():
    def legal(side):
        return nearest_sides(side, step=8, rest=1)

    check_sides(jax.ShapeDtypeStruct((1, 33, 41, 3), "float32"), legal)
    message = "image width 42 px does not fit the grid of scores; the nearest that do: 41, 49$"
    with pytest.raises(ValueError, match=message):
        check_sides(jax.ShapeDtypeStruct((1, 33, 42, 3), "float32"), legal)
