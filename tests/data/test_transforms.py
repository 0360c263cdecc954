"""Image and label move together, and each exactly as its definition says."""

import numpy as np
import pytest
from scipy import ndimage

from seg_jax.data import sampling, transforms
from seg_jax.data.config import Augmentation
from seg_jax.data.transforms import Change
from seg_jax.types import IGNORE

PAD = (11, 22, 33)
COLORS = np.random.default_rng(7).integers(0, 256, (256, 3), dtype=np.uint8)
COLORS[IGNORE] = PAD  # padding, too, shows its label


def painted(rng, height, width):
    """An image whose colour says its label."""
    label = np.kron(rng.integers(0, 21, (height // 5 + 1, width // 5 + 1)), np.ones((5, 5)))
    label = label[:height, :width].astype(np.uint8)
    return COLORS[label], label


def config(**changes):
    return Augmentation(**{"crop": (32, 40), "flip": 0.5, **changes})


@pytest.mark.parametrize("size", [(50, 60), (20, 60), (50, 25), (12, 13), (32, 40)])
def test_crop_pad_and_flip_keep_every_pixel_with_its_label(rng, size):
    image, label = painted(rng, *size)
    for _ in range(20):
        new_image, new_label = transforms.augment(image, label, rng, config(), pad_value=PAD)
        assert new_image.shape == (32, 40, 3) and new_image.dtype == np.uint8
        assert new_label.shape == (32, 40) and new_label.dtype == np.uint8
        np.testing.assert_array_equal(new_image, COLORS[new_label])
        padded = 32 * 40 - min(32, size[0]) * min(40, size[1])
        assert (new_label == IGNORE).sum() == padded


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("pad", ["end", "end_after_flip", "centre"])
@pytest.mark.parametrize("size", [(9, 12), (9, 40), (30, 13)])
def test_padding_lies_where_each_release_has_it(rng, size, pad, mirror):
    image, label = painted(rng, *size)
    change = Change(size, top=0, left=0, mirror=mirror)
    crop = (20, 21)
    found, found_label = transforms.apply(image, label, change, crop=crop, pad_value=PAD, pad=pad)
    flip = np.fliplr if mirror else np.copy
    missing = [max(0, side - old) for side, old in zip(crop, size, strict=True)]
    before = [n // 2 if pad == "centre" else 0 for n in missing]  # semseg's int(pad / 2)
    sides = [(first, n - first) for first, n in zip(before, missing, strict=True)]
    part = label[:20, :21]
    if pad == "end":  # the padding is mirrored as well
        expected = flip(np.pad(part, sides, constant_values=IGNORE))
    else:
        expected = np.pad(flip(part), sides, constant_values=IGNORE)
    np.testing.assert_array_equal(found_label, expected)
    np.testing.assert_array_equal(found, COLORS[expected])
    settings = config(crop=crop, pad=pad)
    _, drawn = transforms.augment(image, label, rng, settings, pad_value=PAD)
    inside = (drawn != IGNORE).any(0)
    if pad != "end" and size[1] < crop[1]:
        assert list(np.flatnonzero(inside)[[0, -1]]) == [before[1], before[1] + size[1] - 1]


@pytest.mark.parametrize("elastic_px", [0.0, 4.0])
@pytest.mark.parametrize("scale", [(0.5, 0.5), (0.7, 1.9), (2.0, 2.0)])
def test_scaled_and_deformed_pictures_stay_aligned_off_the_borders(rng, scale, elastic_px):
    image, label = painted(rng, 57, 71)
    # The bilinear value mixes labels only where the 3x3 pixels around the nearest one differ.
    inner = ndimage.maximum_filter(label, 3) == ndimage.minimum_filter(label, 3)
    settings = config(scale=scale, elastic_px=elastic_px)
    compared = 0
    for seed in range(10):
        new_image, new_label = transforms.augment(
            image, label, np.random.default_rng(seed), settings, pad_value=PAD
        )
        _, new_inner = transforms.augment(
            image, inner.astype(np.uint8), np.random.default_rng(seed), settings, pad_value=PAD
        )
        np.testing.assert_array_equal(new_inner == IGNORE, new_label == IGNORE)
        sure = new_inner == 1
        np.testing.assert_array_equal(new_image[sure], COLORS[new_label[sure]])
        assert (new_image[new_label == IGNORE] == PAD).all()
        compared += sure.sum()
    assert compared > 500


def bilinear_loop(image, y, x):
    """Half-pixel bilinear interpolation at a point of the picture, with replicated borders."""
    height, width, _ = image.shape
    y, x = np.clip(y - 0.5, 0, height - 1), np.clip(x - 0.5, 0, width - 1)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    fy, fx = y - y0, x - x0
    upper = image[y0, x0] * (1 - fx) + image[y0, x1] * fx
    lower = image[y1, x0] * (1 - fx) + image[y1, x1] * fx
    return upper * (1 - fy) + lower * fy


@pytest.mark.parametrize("elastic", [False, True])
@pytest.mark.parametrize("new_size", [(13, 16), (21, 29), (37, 31)])
def test_resampling_equals_a_loop_over_pixels(rng, new_size, elastic):
    image = rng.integers(0, 256, (19, 23, 3), dtype=np.uint8)
    label = rng.integers(0, 21, (19, 23), dtype=np.uint8)
    shift = rng.normal(0, 2, (2, 3, 3)) if elastic else None
    change = Change(size=new_size, top=3, left=2, mirror=False, displacement=shift)
    crop = (24, 24)
    new_image, new_label = transforms.apply(image, label, change, crop=crop, pad_value=PAD)

    axes = [first + np.arange(24) + 0.5 for first in (3, 2)]
    field = np.zeros((2, 24, 24)) if shift is None else field_by_scipy(shift, axes, new_size)
    for row in range(24):
        for column in range(24):
            y = (axes[0][row] + field[0, row, column]) * 19 / new_size[0]
            x = (axes[1][column] + field[1, row, column]) * 23 / new_size[1]
            beyond = axes[0][row] > new_size[0] or axes[1][column] > new_size[1]
            if beyond or not (0 <= y < 19 and 0 <= x < 23):
                assert new_label[row, column] == IGNORE
                np.testing.assert_array_equal(new_image[row, column], PAD)
                continue
            expected = bilinear_loop(image.astype(float), y, x)
            np.testing.assert_allclose(new_image[row, column], expected, atol=0.5 + 1e-6)
            assert new_label[row, column] == label[int(y), int(x)]


def field_by_scipy(displacement, axes, size):
    """The displacement field as one two-dimensional spline interpolation."""
    knots = displacement.shape[-1]
    points = np.meshgrid(
        *(axis / side * (knots - 1) for axis, side in zip(axes, size, strict=True)), indexing="ij"
    )
    return np.stack(
        [ndimage.map_coordinates(part, points, order=3, mode="mirror") for part in displacement]
    )


def test_displacement_field_interpolates_its_knots_and_is_smooth(rng):
    displacement = rng.normal(0, 10, (2, 3, 3))
    size = (40, 60)
    at_knots = [np.array([0.0, side / 2, side]) for side in size]
    np.testing.assert_allclose(
        sampling.displacement_field(displacement, at_knots, size), displacement, atol=1e-12
    )
    dense = [np.arange(side) + 0.5 for side in size]
    field = sampling.displacement_field(displacement, dense, size)
    np.testing.assert_allclose(field, field_by_scipy(displacement, dense, size), atol=1e-12)
    constant = sampling.displacement_field(np.full((2, 3, 3), 1.5), dense, size)
    np.testing.assert_allclose(constant, 1.5, atol=1e-12)


def test_a_constant_displacement_is_a_shifted_crop(rng):
    image, label = painted(rng, 40, 40)
    shift = np.stack([np.full((3, 3), 3.0), np.full((3, 3), -2.0)])
    change = Change((40, 40), top=5, left=6, mirror=True, displacement=shift)
    new_image, new_label = transforms.apply(image, label, change, crop=(20, 20), pad_value=PAD)
    np.testing.assert_array_equal(new_label, label[8:28, 4:24][:, ::-1])
    np.testing.assert_array_equal(new_image, image[8:28, 4:24][:, ::-1])


def test_elastic_displacements_have_the_asked_spread(rng):
    settings = config(elastic_px=10.0)
    drawn = np.stack([transforms.draw(rng, (50, 50), settings).displacement for _ in range(500)])
    assert abs(drawn.mean()) < 0.5  # 9000 values: standard error 0.1
    assert abs(drawn.std() - 10) < 0.4


def test_scales_are_continuous_or_deeplabs_steps(rng):
    continuous = [transforms.draw_scale(rng, config(scale=(0.5, 1.5))) for _ in range(400)]
    assert min(continuous) >= 0.5 and max(continuous) <= 1.5
    assert len(set(continuous)) == 400 and abs(np.mean(continuous) - 1) < 0.05

    steps = config(scale=(0.5, 2.0), scale_step=0.25)
    drawn = [transforms.draw_scale(rng, steps) for _ in range(700)]
    values, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_array_equal(values, np.arange(0.5, 2.01, 0.25))  # DeepLab's seven scales
    assert counts.min() > 60  # 100 expected of each


def test_every_crop_position_and_both_directions_occur(rng):
    drawn = [transforms.draw(rng, (34, 41), config()) for _ in range(300)]
    assert {change.top for change in drawn} == {0, 1, 2}
    assert {change.left for change in drawn} == {0, 1}
    assert 110 < sum(change.mirror for change in drawn) < 190
    never = [transforms.draw(rng, (34, 41), config(flip=0.0)).mirror for _ in range(50)]
    assert not any(never)


def test_one_setting_does_not_shift_the_draws_of_another():
    plain = transforms.draw(np.random.default_rng(3), (90, 90), config())
    more = {"elastic_px": 5.0, "rotate": 1.0, "blur": 1.0, "jitter": (0.1, 0.1, 0.1)}
    elastic = transforms.draw(np.random.default_rng(3), (90, 90), config(**more))
    assert (plain.top, plain.left, plain.mirror) == (elastic.top, elastic.left, elastic.mirror)


def turned_by_loop(image, label, angle_deg):
    """OpenCV's warpAffine of getRotationMatrix2D about the image's centre, pixel by pixel."""
    height, width = label.shape
    out, out_label = np.empty_like(image), np.full_like(label, IGNORE)
    out[:] = PAD
    turn = np.exp(
        1j * np.deg2rad(angle_deg)
    )  # y points down: this is clockwise on the array's axes
    for row, column in np.ndindex(height, width):
        offset = complex(column + 0.5 - width / 2, row + 0.5 - height / 2) * turn
        x, y = offset.real + width / 2, offset.imag + height / 2
        if 0 <= y < height and 0 <= x < width:
            out[row, column] = np.floor(bilinear_loop(image.astype(float), y, x) + 0.5)
            out_label[row, column] = label[int(y), int(x)]
    return out, out_label


@pytest.mark.parametrize("angle_deg", [-10.0, 7.3, 45.0])
def test_rotation_equals_a_loop_over_pixels(rng, angle_deg):
    image, label = rng.integers(0, 256, (19, 23, 3), dtype=np.uint8), np.zeros((19, 23), np.uint8)
    label[:, :] = rng.integers(0, 21, (19, 23))
    change = Change((19, 23), 0, 0, mirror=False, angle_deg=angle_deg)
    found, found_label = transforms.apply(image, label, change, crop=(19, 23), pad_value=PAD)
    expected, expected_label = turned_by_loop(image, label, angle_deg)
    np.testing.assert_array_equal(found_label, expected_label)
    # Half a value of a byte more or less: sums in float32 and float64 round differently.
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found != expected).mean() < 0.01
    assert 0.02 < (found_label == IGNORE).mean() < 0.4  # its corners


def test_a_quarter_turn_is_counter_clockwise(rng):
    image, label = painted(rng, 20, 20)
    change = Change((20, 20), 0, 0, mirror=False, angle_deg=90.0)
    found, found_label = transforms.apply(image, label, change, crop=(20, 20), pad_value=PAD)
    inner = found_label != IGNORE  # rounding may put a border row outside
    assert inner.mean() > 0.85
    np.testing.assert_array_equal(found_label[inner], np.rot90(label)[inner])
    np.testing.assert_array_equal(found[inner], np.rot90(image)[inner])


def test_turned_pictures_stay_aligned_off_the_borders(rng):
    image, label = painted(rng, 57, 71)
    inner = ndimage.maximum_filter(label, 3) == ndimage.minimum_filter(label, 3)
    settings = config(scale=(0.7, 1.6), rotate=1.0, rotation_deg=30.0, elastic_px=2.0)
    compared = 0
    for seed in range(10):
        pair = [
            transforms.augment(image, what, np.random.default_rng(seed), settings, pad_value=PAD)
            for what in (label, inner.astype(np.uint8))
        ]
        (new_image, new_label), (_, new_inner) = pair
        sure = new_inner == 1
        np.testing.assert_array_equal(new_image[sure], COLORS[new_label[sure]])
        assert (new_image[new_label == IGNORE] == PAD).all()
        compared += sure.sum()
    assert compared > 500


@pytest.mark.parametrize("angle_deg", [0.0, 9.0])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(
    ("size", "top", "left"), [((44, 52), 9, 11), ((60, 75), 0, 35), ((20, 60), 0, 20)]
)
def test_the_blur_sees_what_the_crop_leaves_out(rng, size, top, left, mirror, angle_deg):
    """As published: the whole image is scaled, turned and blurred, and then cropped."""
    image = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    label = rng.integers(0, 21, (40, 50), dtype=np.uint8)
    whole = Change(size, 0, 0, mirror=False, angle_deg=angle_deg)
    canvas, canvas_label = transforms.apply(image, label, whole, crop=size, pad_value=PAD)
    weights = np.exp(-(np.arange(-2, 3) ** 2) / (2 * 1.1**2))
    weights = np.outer(weights, weights) / weights.sum() ** 2
    framed = np.pad(canvas.astype(float), ((2, 2), (2, 2), (0, 0)), mode="reflect")
    blurred = sum(
        weights[down, right] * framed[down : down + size[0], right : right + size[1]]
        for down in range(5)
        for right in range(5)
    )
    expected = np.empty((32, 40, 3))
    expected[:] = PAD
    expected_label = np.full((32, 40), IGNORE)
    part = blurred[top : top + 32, left : left + 40]
    expected[: part.shape[0], : part.shape[1]] = part
    expected_label[: part.shape[0], : part.shape[1]] = canvas_label[
        top : top + 32, left : left + 40
    ]
    if mirror:
        expected, expected_label = expected[:, ::-1], expected_label[:, ::-1]
    change = Change(size, top, left, mirror=mirror, angle_deg=angle_deg, blur=True)
    found, found_label = transforms.apply(image, label, change, crop=(32, 40), pad_value=PAD)
    np.testing.assert_array_equal(found_label, expected_label)
    assert np.abs(found - expected).max() <= 0.501
    assert (found != canvas[:32, :40]).mean() > 0.5 if canvas.shape[0] >= 32 else True


def test_jitter_equals_torchvision_s_definition(rng):
    image = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    label = rng.integers(0, 21, (9, 11), dtype=np.uint8)
    brightness, contrast, saturation = 1.2, 0.7, 1.4
    bright = np.minimum(image * 1.2, 255)
    grey = bright @ (0.299, 0.587, 0.114)
    contrasted = np.clip(contrast * bright + (1 - contrast) * grey.mean(), 0, 255)
    own_grey = (contrasted @ (0.299, 0.587, 0.114))[..., None]
    expected = np.clip(saturation * contrasted + (1 - saturation) * own_grey, 0, 255)
    change = Change((9, 11), 0, 0, mirror=False, jitter=(brightness, contrast, saturation))
    found, found_label = transforms.apply(image, label, change, crop=(9, 11), pad_value=PAD)
    assert np.abs(found - expected).max() <= 0.51
    np.testing.assert_array_equal(found_label, label)


def test_padding_and_corners_keep_the_mean_colour_under_jitter(rng):
    image, label = painted(rng, 20, 30)
    settings = config(jitter=(0.4, 0.4, 0.4), rotate=1.0, rotation_deg=20.0)
    for seed in range(5):
        new_image, new_label = transforms.augment(
            image, label, np.random.default_rng(seed), settings, pad_value=PAD
        )
        assert (new_label == IGNORE).sum() > 32 * 40 - 20 * 30
        assert (new_image[new_label == IGNORE] == PAD).all()


def test_rotation_blur_and_jitter_are_drawn_as_often_and_as_far_as_asked(rng):
    settings = config(rotate=0.5, rotation_deg=10.0, blur=0.25, jitter=(0.1, 0.2, 0.0))
    drawn = [transforms.draw(rng, (50, 60), settings) for _ in range(800)]
    angles = np.array([change.angle_deg for change in drawn])
    assert 330 < (angles != 0).sum() < 470
    assert 9 < np.abs(angles).max() <= 10 and abs(angles[angles != 0].mean()) < 1
    assert 140 < sum(change.blur for change in drawn) < 260
    factors = np.array([change.jitter for change in drawn])
    assert np.all(np.abs(factors - 1).max(0) <= (0.1, 0.2, 0))
    assert np.all(np.abs(factors - 1).max(0)[:2] > (0.09, 0.18))
    plain = [transforms.draw(rng, (50, 60), config()) for _ in range(50)]
    assert {(change.angle_deg, change.blur, change.jitter) for change in plain} == {
        (0.0, False, None)
    }


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"rotate": 1.5}, "rotate"),
        ({"rotation_deg": -1.0}, "rotation_deg"),
        ({"blur": -0.5}, "blur"),
        ({"jitter": (0.1, 2.0, 0.0)}, "jitter"),
        ({"jitter": (-0.1, 0.0, 0.0)}, "jitter"),
    ],
)
def test_an_augmentation_that_cannot_be_is_refused(fields, name):
    with pytest.raises(ValueError, match=name):
        config(**fields)
