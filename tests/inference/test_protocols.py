"""Every protocol against a slow loop written from its paper or release."""

import dataclasses
import functools
import math
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from small_task import MemorySource, SmallNet, small_experiment, small_variables

from seg_jax import experiment, metrics
from seg_jax.checks import UserError
from seg_jax.evaluation import evaluate
from seg_jax.experiment import EvalConfig
from seg_jax.inference import forward, protocols, windows
from seg_jax.nn import input_sizes, resize

EXPLAINED = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
MEAN = np.float32((100, 90, 80))


@pytest.fixture
def image(rng):
    smooth = ndimage.gaussian_filter(rng.normal(size=(21, 37, 3)), (3, 3, 0))
    return np.uint8(np.clip(128 + 600 * smooth, 0, 255))


@functools.cache
def compiled(model):
    return jax.jit(functools.partial(model.apply, train=False))


def network(task, variables):
    """Logits [h w k] of a float image [h w 3], mirrored or not."""

    def run(image, mirrored=False):
        x = np.float32((image - MEAN) / 50)[None]
        x = x[:, :, ::-1] if mirrored else x
        logits = np.asarray(compiled(task.model)(variables, x)["out"])[0]
        return logits[:, ::-1] if mirrored else logits

    return run


def softmax(logits):
    exp = np.exp(logits - logits.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


def sample(array, rows, columns):
    """Bilinear interpolation at pixel coordinates, the border repeated, by SciPy."""
    points = np.meshgrid(rows, columns, indexing="ij")
    planes = np.moveaxis(array.astype(np.float64), -1, 0)
    return np.stack(
        [ndimage.map_coordinates(plane, points, order=1, mode="nearest") for plane in planes], -1
    )


def align_corners(array, size):
    return sample(
        array, *(np.linspace(0, old - 1, new) for old, new in zip(array.shape, size, strict=False))
    )


def half_pixel(array, size):
    pairs = zip(array.shape, size, strict=False)
    return sample(array, *((np.arange(new) + 0.5) * old / new - 0.5 for old, new in pairs))


def padded(image, size):
    canvas = np.empty((*size, 3))
    canvas[:] = MEAN
    canvas[: image.shape[0], : image.shape[1]] = image
    return canvas


@pytest.mark.parametrize("flip", [False, True])
def test_deeplab_v3_averages_the_probabilities_of_scales_and_mirror_images(image, flip):
    """The release: the padded canvas is resized, its logits are resized back, then the softmax."""
    name = "scales_flip" if flip else "scales"
    task = small_experiment(canvas=(25, 41), scaling="align_corners")
    task = dataclasses.replace(task, evaluation=protocols.apply(name, task.evaluation))
    variables = small_variables(task.model)
    run = network(task, variables)
    canvas = padded(image, (25, 41))
    found = []
    for scale in (0.5, 0.75, 1, 1.25, 1.5, 1.75):
        scaled = align_corners(canvas, (int(24 * scale + 1), int(40 * scale + 1)))
        for mirrored in (False, True)[: 1 + flip]:
            found.append(softmax(align_corners(run(scaled, mirrored), (25, 41))))
    expected = np.mean(found, 0)[:21, :37]
    actual = forward.predict_probabilities(task, variables, image)
    np.testing.assert_allclose(actual, expected, atol=2e-6)
    # The views differ by more than the tolerance, so that leaving one out would be noticed.
    assert np.abs(softmax(run(canvas))[:21, :37] - expected).max() > 1e-2


def test_quarter_turns_and_mirror_images_are_averaged(image):
    """Of a canvas that is not square: turned by a quarter, its sides change places."""
    task = small_experiment(canvas=(25, 41), flip=True, turns=4)
    variables = small_variables(task.model)
    run = network(task, variables)
    canvas = padded(image, (25, 41))
    found = [
        np.rot90(softmax(run(np.rot90(canvas, turn), mirrored)), -turn)
        for turn in range(4)
        for mirrored in (False, True)
    ]
    actual = forward.predict_probabilities(task, variables, image)
    np.testing.assert_allclose(actual, np.mean(found, 0)[:21, :37], atol=2e-6)
    assert np.abs(np.subtract(*found[2:4])).max() > 1e-2  # the views differ


def test_deeplab_v2_takes_the_highest_logit_of_three_scales(image):
    task = small_experiment(canvas=(25, 41), scaling="align_corners")
    task = dataclasses.replace(task, evaluation=protocols.apply("scales_max", task.evaluation))
    variables = small_variables(task.model)
    run = network(task, variables)
    canvas = padded(image, (25, 41))
    sizes = ((13, 21), (19, 31), (25, 41))
    logits = [align_corners(run(align_corners(canvas, size)), (25, 41)) for size in sizes]
    expected = softmax(np.max(logits, 0))[:21, :37]
    actual = forward.predict_probabilities(task, variables, image)
    np.testing.assert_allclose(actual, expected, atol=2e-6)


@pytest.mark.parametrize("canvas", [257, 385, 513, 641, 769, 897])
def test_the_logits_are_interpolated_once(canvas):
    """From the network's grid of stride 16 to the scaled canvas and on to 513 px is one way: the
    grid's points are pixels of every canvas."""
    matrix = resize.align_corners_matrix
    grid = (canvas - 1) // 16 + 1
    twice = matrix(canvas, 513) @ matrix(grid, canvas)
    np.testing.assert_allclose(twice, matrix(grid, 513), atol=1e-12)


def test_scales_and_mirror_images_on_four_devices():
    """Counted on the devices, in batches where each image is followed by its mirror image."""
    task = small_experiment(batch_size=3, scales=(0.5, 1.0), flip=True)
    variables = small_variables(task.model, seed=1)
    source = MemorySource(((20, 31), (16, 16), (9, 30), (32, 30)))
    assert len(jax.local_devices()) == 4
    seen = {}
    scores = evaluate.evaluate(
        task, variables, source, boundaries=False, progress=False,
        on_image=lambda index, found: seen.update({index: found}),
    )  # fmt: skip
    counts = 0
    for index in range(len(source)):
        example = source[index]
        expected = forward.predict_labels(task, variables, example["image"])
        assert (seen[index] != expected).mean() < 2e-3  # ties
        counts = counts + np.asarray(metrics.confusion(example["label"], seen[index], 3))
    np.testing.assert_array_equal(scores.confusion, counts)


def test_half_pixel_scales_of_a_bucketed_image(image):
    """For networks without aligned corners: size times scale, only the border is clamped."""
    task = small_experiment(bucket=8, scales=(0.5, 1.0, 1.5), flip=True)
    variables = small_variables(task.model)
    run = network(task, variables)
    canvas = padded(image, (24, 40))
    found = []
    for size in ((12, 20), (24, 40), (36, 60)):
        for mirrored in (False, True):
            found.append(softmax(half_pixel(run(half_pixel(canvas, size), mirrored), (24, 40))))
    actual = forward.predict_probabilities(task, variables, image)
    np.testing.assert_allclose(actual, np.mean(found, 0)[:21, :37], atol=2e-6)


class OnGrid(SmallNet):
    """Takes sides 8 k + 1, as DeepLab does with aligned corners."""

    def legal_sizes(self, side):
        return input_sizes.nearest_sides(side, step=8, rest=1)

    def __call__(self, image, *, train):
        input_sizes.check_sides(image, self.legal_sizes)
        return super().__call__(image, train=train)


def test_views_of_other_sizes_than_the_network_takes_are_padded(image):
    """Before they are mirrored, as an image is to its canvas; scores of the padding are cropped."""
    task = small_experiment(canvas=(22, 38), scaling="align_corners", scales=(1.0, 0.75), flip=True)
    variables = small_variables(task.model)
    run = network(task, variables)  # takes every size
    canvas = padded(image, (22, 38))
    found = []
    for size, legal in (((22, 38), (25, 41)), ((17, 29), (17, 33))):
        view = padded(align_corners(canvas, size), legal)
        for mirrored in (False, True):
            scores = run(view, mirrored)[: size[0], : size[1]]
            found.append(softmax(align_corners(scores, (22, 38))))
    on_grid = dataclasses.replace(task, model=OnGrid())
    actual = forward.predict_probabilities(on_grid, variables, image)
    np.testing.assert_allclose(actual, np.mean(found, 0)[:21, :37], atol=2e-6)


@pytest.mark.parametrize("canvas", [(13, 45), (40, 41)])  # shrinks one axis and enlarges the other
def test_logits_of_a_resized_image_are_resized_to_its_size(image, canvas):
    task = small_experiment(mode="resize", canvas=canvas, trimap_px=())
    variables = small_variables(task.model)
    small = Image.fromarray(image).resize(canvas[::-1], Image.Resampling.BILINEAR)
    logits = network(task, variables)(np.asarray(small, np.float32))
    expected = softmax(half_pixel(logits, image.shape[:2]))
    actual = forward.predict_probabilities(task, variables, image)
    np.testing.assert_allclose(actual, expected, atol=2e-6)
    # Interpolating probabilities would give a difference above the tolerance.
    assert np.abs(half_pixel(softmax(logits), image.shape[:2]) - expected).max() > 1e-3


def pspnet_eval(run, image, *, scales, base_size, crop, mirrored_sum=True):
    """eval_sub.m, scale_process.m and caffe_process.m of PSPNet's release, line by line (resizing
    without Matlab's antialiasing)."""
    rows, columns = image.shape[:2]
    total = 0
    for scale in scales:
        long_size = round(base_size * scale) + 1
        new_rows = new_columns = long_size
        if rows > columns:
            new_columns = round(long_size / rows * columns)
        else:
            new_rows = round(long_size / columns * rows)
        # To bytes, as Matlab does; float32 decides how ties are rounded.
        scaled = windows.resized(image, (new_rows, new_columns))
        assert np.abs(scaled - half_pixel(image, scaled.shape[:2])).max() < 0.5001
        big = padded(scaled, (max(new_rows, crop), max(new_columns, crop)))
        stride = math.ceil(crop * 2 / 3)
        data, count = np.zeros((*big.shape[:2], 3)), np.zeros((*big.shape[:2], 1))
        for grid_y in range(math.ceil((big.shape[0] - crop) / stride) + 1):
            for grid_x in range(math.ceil((big.shape[1] - crop) / stride) + 1):
                end_y = min(grid_y * stride + crop, big.shape[0])
                end_x = min(grid_x * stride + crop, big.shape[1])
                part = np.s_[end_y - crop : end_y, end_x - crop : end_x]
                if mirrored_sum:
                    scores = softmax(run(big[part]) + run(big[part], mirrored=True))
                else:
                    scores = softmax(run(big[part]))
                data[part] += scores
                count[part] += 1
        back = half_pixel((data / count)[:new_rows, :new_columns], (rows, columns))
        total = total + back / back.sum(-1, keepdims=True)
    return total / len(scales)


def sliding_task(**fields):
    own = {"canvas": (16, 16), "long_side": 33, "flip": True, "fusion": "mirror_logits"}
    return small_experiment(**{"mode": "sliding", **own, **fields})


@pytest.mark.parametrize("scales", [(1.0,), protocols.SIX_SCALES])
@pytest.mark.parametrize("transposed", [False, True])
def test_pspnet_s_sliding_windows(image, scales, transposed):
    image = image.swapaxes(0, 1) if transposed else image
    task = sliding_task(scales=scales, batch_size=3)
    variables = small_variables(task.model)
    expected = pspnet_eval(network(task, variables), image, scales=scales, base_size=32, crop=16)
    actual = forward.predict_probabilities(task, variables, image)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_sliding_windows_without_mirror_images(image):
    task = sliding_task(flip=False)
    variables = small_variables(task.model)
    run = network(task, variables)
    expected = pspnet_eval(run, image, scales=(1,), base_size=32, crop=16, mirrored_sum=False)
    actual = forward.predict_probabilities(task, variables, image)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_windows_of_pspnet_s_release():
    """513 px in windows of 473: 0 and 40; 897 px: 0, 316 and 424."""
    assert windows.window_starts(513, 473, 2 / 3) == [0, 40]
    assert windows.window_starts(897, 473, 2 / 3) == [0, 316, 424]
    assert windows.window_starts(473, 473, 2 / 3) == [0]
    evaluation = protocols.apply("sliding473_scales", EvalConfig())
    long_sides = [max(size) for size in windows.scaled_sizes((375, 500), evaluation)]
    assert long_sides == [512 * scale + 1 for scale in protocols.SIX_SCALES]


@pytest.mark.parametrize("devices", [1, 4])
def test_the_evaluation_of_sliding_windows_equals_image_after_image(devices, monkeypatch):
    task, source = sliding_task(batch_size=3), MemorySource(((20, 31), (16, 16), (33, 18)))
    variables = small_variables(task.model, seed=1)
    chosen = jax.devices()[:devices]
    monkeypatch.setattr(jax, "local_devices", lambda: chosen)
    seen = {}
    scores = evaluate.evaluate(
        task, variables, source, on_image=lambda i, found: seen.update({i: found}), progress=False
    )
    counts = 0
    for index in range(3):
        example = source[index]
        expected = forward.predict_probabilities(task, variables, example["image"]).argmax(-1)
        # Batches of other sizes are summed in another order: a tie may fall the other way.
        assert (seen[index] != expected).mean() < 2e-3
        counts = counts + np.asarray(metrics.confusion(example["label"], seen[index], 3))
    np.testing.assert_array_equal(scores.confusion, counts)
    assert scores.images == 3 and not np.isnan(scores.boundary_f1)


def test_probabilities_can_be_refined_before_the_decision():
    """What a CRF needs: the image and its fused probabilities at its own size."""
    task, source = small_experiment(flip=True), MemorySource(((20, 31), (16, 16)))
    variables = small_variables(task.model, seed=1)
    seen = []

    def refine(image, probabilities):
        seen.append(image.shape)
        assert probabilities.shape == (*image.shape[:2], 3)
        np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
        return np.where(np.arange(3) == 1, 2, probabilities)  # always class 1

    scores = evaluate.evaluate(task, variables, source, refine=refine, progress=False)
    assert sorted(seen) == [(16, 16, 3), (20, 31, 3)]
    assert scores.confusion[:, 1].sum() == scores.confusion.sum() > 0


def test_every_protocol_has_its_name():
    for name in protocols.PROTOCOLS:
        evaluation = protocols.apply(name, EvalConfig(canvas=(65, 65)))
        assert protocols.name_of(evaluation) == name
        assert protocols.words(evaluation).startswith(f"{name}: ")
        assert f"`{name}`" in EXPLAINED
    with pytest.raises(UserError, match="did you mean scales_flip"):
        protocols.apply("scales_flp", EvalConfig())
    assert protocols.name_of(EvalConfig(scales=(1.0, 2.0))) == ""


@pytest.mark.parametrize(
    ("evaluation", "words"),
    [
        ({"bucket": 64}, "native: whole image, sides padded to multiples of 64 px"),
        ({"bucket_rest": 1}, "native: whole image, sides padded to multiples of 64 + 1 px"),
        ({"bucket": 1}, "native: whole image"),
        ({"canvas": (513, 513)}, "pad513: whole image, padded to 513x513 px"),
        ({"mode": "tile", "canvas": (99, 99)}, "single: overlap-tile, 99x99 px tiles"),
        (
            {"canvas": (9, 9), "scales": (1.0, 2.0), "fusion": "max_logits"},
            "whole image, padded to 9x9 px, scales 1 2, highest logits",
        ),
        (
            protocols.PROTOCOLS["sliding473"].fields,
            "sliding473: 473x473 px windows every 0.667 of their side, long side 513 px, "
            "mirror images, mirror images' logits added, mean of the probabilities",
        ),
    ],
)
def test_protocols_in_words(evaluation, words):
    assert protocols.words(EvalConfig(**evaluation)) == words


def test_the_experiments_use_their_papers_protocols():
    named = {
        name: protocols.name_of(experiment.get(name).evaluation)
        for name in ("fcn8s_vgg16_voc", "unet_voc", "pspnet_resnet101_voc", "gcn_resnet152_voc",
                     "deeplab_v2_resnet101_voc", "deeplab_v3plus_xception65_voc")
    }  # fmt: skip
    assert named == {
        "fcn8s_vgg16_voc": "native",
        "unet_voc": "tile572",
        "pspnet_resnet101_voc": "sliding473",
        "gcn_resnet152_voc": "single",
        "deeplab_v2_resnet101_voc": "pad513",
        "deeplab_v3plus_xception65_voc": "pad513",
    }


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ({"mode": "sliding"}, "'sliding' without evaluation.canvas"),
        ({"mode": "sliding", "canvas": (8, 8), "fusion": "max_logits"}, "'max_logits', but"),
        ({"mode": "tile", "canvas": (8, 8), "scales": (0.5,)}, "overlap-tile has one scale"),
    ],
)
def test_contradictory_settings_are_refused(evaluation, message, image):
    task = small_experiment(**evaluation)
    with pytest.raises(UserError, match=message):
        forward.predict_labels(task, small_variables(task.model), image)


def test_sliding_windows_of_a_valid_network_are_refused(image):
    task = small_experiment(SmallNet(padding="VALID"), mode="sliding", canvas=(16, 16))
    with pytest.raises(UserError, match="lose 1 px.*use 'tile'"):
        forward.predict_labels(task, small_variables(task.model), image)


@pytest.mark.parametrize(
    "fields",
    [{"scales": ()}, {"scales": (1.0, 0.0)}, {"stride": 0.0}, {"stride": 1.5}, {"long_side": 0}],
)
def test_an_impossible_configuration_is_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        EvalConfig(**fields)
