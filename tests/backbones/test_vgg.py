"""VGG: names, sizes, the published parameter count, and where its samples lie in the image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seg_jax.backbones.vgg import DEEPLAB_POOLS, DEEPLAB_RATES, VGG, Pool
from seg_jax.nn.sample_grid import Grid


def evaluate_shapes(model, size):
    image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    return jax.eval_shape(
        lambda key, x: model.init_with_output(key, x, train=False), jax.random.key(0), image
    )


def test_layers_of_configuration_d():
    features, variables = evaluate_shapes(VGG(), (224, 224))
    expected = {
        f"conv{stage}_{layer}"
        for stage, depth in enumerate((2, 2, 3, 3, 3), start=1)
        for layer in range(1, depth + 1)
    }
    assert set(variables["params"]) == expected
    # Table 2 of the paper: 138M in all, of which 123,642,856 are those of fc6, fc7 and fc8.
    convolutions = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert convolutions == 138_357_544 - (25_089 * 4096 + 4097 * 4096 + 4097 * 1000)
    assert [features[f"c{stage}"].shape[1:] for stage in range(1, 6)] == [
        (112, 112, 64), (56, 56, 128), (28, 28, 256), (14, 14, 512), (7, 7, 512),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rounding", "sides"), [("ceil", [50, 25, 13, 7, 4]), ("floor", [49, 24, 12, 6, 3])]
)
def test_odd_sides_round_as_asked(rounding, sides):
    features, _ = evaluate_shapes(VGG(width=1 / 16, pool_rounding=rounding), (99, 99))
    assert [features[f"c{stage}"].shape[1] for stage in range(1, 6)] == sides


def test_width_and_depths_shrink_it():
    features, variables = evaluate_shapes(VGG(width=1 / 8, depths=(1, 1, 1, 1, 1)), (64, 64))
    assert [features[f"c{stage}"].shape[3] for stage in range(1, 6)] == [8, 16, 32, 64, 64]
    assert len(variables["params"]) == 5


def test_deeplabs_trunk_keeps_its_map_at_an_eighth():
    """Windows of 3 keep samples on pixels 0, 8, ...; those of 2, half a pixel after 0."""
    model = VGG(width=1 / 16, pools=DEEPLAB_POOLS, rates=DEEPLAB_RATES)
    features, variables = evaluate_shapes(model, (321, 321))
    assert [features[f"c{stage}"].shape[1] for stage in range(1, 6)] == [161, 81, 41, 41, 41]
    assert [model.grid(stage) for stage in range(6)] == [
        Grid(stride) for stride in (1, 2, 4, 8, 8, 8)
    ]
    plain = evaluate_shapes(VGG(width=1 / 16), (321, 321))[1]
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, plain)
    windows_of_2 = (*(Pool(2, 2, 1),) * 3, Pool(2, 1, 0), Pool(3, 1, 1))
    assert VGG(pools=windows_of_2, rates=DEEPLAB_RATES).grid(5) == Grid(8, 0.5)


@pytest.mark.parametrize("field", ["depths", "pools", "rates"])
def test_every_stage_wants_its_own(field):
    with pytest.raises(ValueError, match=f"{field} .* must be five, one for each stage"):
        evaluate_shapes(VGG(**{field: getattr(VGG(), field)[:4]}), (64, 64))


@pytest.mark.parametrize("padding", [1, 20])
def test_grid_is_the_centre_of_what_a_sample_sees(padding):
    """The pools take the last row of each window where brightness rises, the first where it falls:
    together the gradients reach from the first to the last row that the sample can see.
    """
    model = VGG(width=1 / 16, depths=(1, 1, 2, 1, 1), conv1_1_padding=padding)
    stage, row = 3, 9
    _, variables = evaluate_shapes(model, (128, 32))
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.1, np.float32), variables["params"])

    @jax.jit
    @jax.grad
    def seen(image):
        features = model.apply({"params": params}, image, train=False)
        return jnp.sum(features[f"c{stage}"][0, row])

    rising = np.broadcast_to(np.linspace(1, 2, 128)[:, None, None], (1, 128, 32, 3))
    rows = [
        np.flatnonzero(np.any(np.asarray(seen(np.float32(image))), axis=(0, 2, 3)))
        for image in (rising, rising[:, ::-1])
    ]
    grid = model.grid(stage)
    assert grid.stride == 2**stage
    assert (rows[1].min() + rows[0].max()) / 2 == grid.stride * row + grid.origin
