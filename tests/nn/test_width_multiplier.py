import pytest

from seg_jax.nn.width_multiplier import scaled


@pytest.mark.parametrize(
    ("channels", "width", "expected"),
    [(64, 1.0, 64), (64, 1 / 8, 8), (32, 1 / 16, 4), (3, 1 / 16, 3), (64, 2, 128)],
)
def test_scaled_keeps_at_least_four(channels, width, expected):
    assert scaled(channels, width) == expected


def test_width_must_be_positive():
    with pytest.raises(ValueError, match="width must be positive, got 0"):
        scaled(64, 0)
