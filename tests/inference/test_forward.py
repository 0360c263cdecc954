"""Windows and stitching against the network applied to the whole image at once."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from small_task import TRACES, SmallNet, small_experiment, small_variables

from seg_jax.checks import UserError
from seg_jax.experiment import EvalConfig
from seg_jax.inference import forward, windows
from seg_jax.models.unet import UNet


def whole_image(experiment, variables, image):
    """Class probabilities of one pass over an image that was prepared by hand."""
    x = experiment.data.preprocessing(image)[None]
    apply = jax.jit(functools.partial(experiment.model.apply, train=False))
    logits = np.asarray(apply(variables, x)["out"])[0]
    exp = np.exp(logits - logits.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


@pytest.fixture
def image(rng):
    return rng.integers(0, 256, (21, 37, 3)).astype(np.uint8)


@pytest.mark.parametrize("evaluation", [{"bucket": 16}, {"canvas": (40, 41)}, {"bucket": 1}])
def test_padding_changes_nothing(image, evaluation):
    """Padding is the mean colour, 0 after preprocessing, as the convolution's own padding."""
    experiment = small_experiment(**evaluation)
    variables = small_variables(experiment.model)
    found = forward.predict_probabilities(experiment, variables, image)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, whole_image(experiment, variables, image), atol=1e-6)
    labels = forward.predict_labels(experiment, variables, image)
    np.testing.assert_array_equal(labels, found.argmax(-1))


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("tile", [(12, 14), (48, 48)])
def test_tiles_of_a_valid_network_equal_the_mirrored_whole(image, tile, batch_size):
    model = SmallNet(padding="VALID", kernel=5)
    experiment = small_experiment(model, mode="tile", canvas=tile, batch_size=batch_size)
    variables = small_variables(model)
    mirrored = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="reflect")
    np.testing.assert_allclose(
        forward.predict_probabilities(experiment, variables, image),
        whole_image(experiment, variables, mirrored),
        atol=1e-6,
    )


def test_unet_s_tiles_are_seamless(rng):
    """Tiles whose outputs are multiples of the pooling stride equal one pass over the whole."""
    model = UNet(num_classes=3, depth=1, width=1 / 8)
    assert model.margin == 8
    experiment = small_experiment(model, mode="tile", canvas=(36, 36), batch_size=2)
    image = rng.integers(0, 256, (40, 60, 3)).astype(np.uint8)  # 2 x 3 tiles of 20 x 20
    init = functools.partial(model.init, jax.random.key(0), train=False)
    shapes = jax.eval_shape(init, np.zeros((1, 36, 36, 3), np.float32))
    variables = jax.tree.map(lambda s: rng.normal(0, 0.2, s.shape).astype(np.float32), shapes)
    mirrored = np.pad(image, ((8, 8), (8, 8), (0, 0)), mode="reflect")
    found = forward.predict_probabilities(experiment, variables, image)
    # Sums over the whole image have another order than over a tile: float32 agrees to ~1e-6.
    expected = whole_image(experiment, variables, mirrored)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.std(axis=(0, 1)).min() > 0.01


def test_a_network_that_keeps_the_size_is_tiled_without_overlap(image):
    """Equal to a slow loop over tiles of an image mirrored at the bottom and the right."""
    experiment = small_experiment(mode="tile", canvas=(8, 10))
    variables = small_variables(experiment.model)
    continued = np.pad(image, ((0, 3), (0, 3), (0, 0)), mode="reflect")
    slow = np.zeros((24, 40, 3), np.float32)
    for top in range(0, 24, 8):
        for left in range(0, 40, 10):
            part = (slice(top, top + 8), slice(left, left + 10))
            slow[part] = whole_image(experiment, variables, continued[part])
    found = forward.predict_probabilities(experiment, variables, image)
    np.testing.assert_allclose(found, slow[:21, :37], atol=1e-6)


def test_a_tile_larger_than_the_image_mirrors_again_and_again(rng):
    model = SmallNet(padding="VALID", kernel=5)
    experiment = small_experiment(model, mode="tile", canvas=(32, 32))
    image = rng.integers(0, 256, (2, 1, 3)).astype(np.uint8)
    found = forward.predict_probabilities(experiment, small_variables(model), image)
    assert found.shape == (2, 1, 3)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)


def test_one_compilation_a_bucket(rng):
    experiment = small_experiment(SmallNet(num_classes=4), bucket=32)
    variables = small_variables(experiment.model)
    TRACES.clear()
    for height, width in ((1, 1), (20, 31), (32, 32), (33, 5), (60, 30), (64, 32)):
        image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        assert forward.predict_labels(experiment, variables, image).shape == (height, width)
    assert TRACES == [(1, 32, 32, 3), (1, 64, 32, 3)]


def test_the_same_with_variables_on_the_device(image):
    experiment = small_experiment()
    variables = small_variables(experiment.model)
    on_device = jax.device_put(variables)
    np.testing.assert_array_equal(
        forward.predict_probabilities(experiment, variables, image),
        forward.predict_probabilities(experiment, on_device, image),
    )


def test_errors_name_the_setting_and_the_remedy(image):
    valid = SmallNet(padding="VALID", kernel=5)
    for model, evaluation, message in (
        (None, {"canvas": (20, 40)}, r"canvas 20x40 does not cover an image of 21x37"),
        (valid, {"mode": "whole"}, r"lose 2 px.*use 'tile'"),
        (valid, {"mode": "tile"}, r"without evaluation.canvas"),
        (valid, {"mode": "tile", "canvas": (4, 40)}, r"leaves nothing of a tile"),
    ):
        experiment = small_experiment(model, **evaluation)
        with pytest.raises(UserError, match=message):
            forward.predict_labels(experiment, small_variables(experiment.model), image)


@pytest.mark.parametrize(
    "fields",
    [
        {"bucket": 0},
        {"bucket_rest": -1},
        {"batch_size": 0},
        {"canvas": (0, 9)},
        {"trimap_px": (2, 1)},
        {"trimap_px": (0, 1)},
    ],
)
def test_an_impossible_protocol_is_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        EvalConfig(**fields)


@pytest.mark.parametrize(
    ("size", "bucket", "rest", "expected"),
    [
        ((375, 500), 64, 0, (384, 512)),
        ((375, 500), 64, 1, (385, 513)),
        ((385, 513), 64, 1, (385, 513)),
        ((386, 1), 64, 1, (449, 1)),
        ((20, 33), 32, 32, (32, 64)),
    ],
)
def test_sizes_are_padded_to_the_next_bucket(size, bucket, rest, expected):
    assert windows.input_size(size, EvalConfig(bucket=bucket, bucket_rest=rest)) == expected


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)],
)
def test_other_arrays_than_images_are_refused(image):
    experiment = small_experiment()
    with pytest.raises(ValueError, match=r"image must be uint8 \[h w 3\], got"):
        forward.predict_labels(experiment, small_variables(experiment.model), image)


def test_regions_partition_the_image(image):
    evaluation = EvalConfig(mode="tile", canvas=(10, 12))
    count = np.zeros(image.shape[:2], int)
    for window in windows.cut(image, evaluation, margin=2, pad_value=(0, 0, 0)):
        assert window.image.shape == (10, 12, 3)
        count[window.region] += 1
    np.testing.assert_array_equal(count, 1)


def test_images_are_grouped_by_input_size():
    sizes = [(10, 10), (17, 3), (16, 16), (1, 1), (20, 9)]
    groups = list(windows.by_input_size(sizes, EvalConfig(bucket=16)))
    assert groups == [[0, 2, 3], [1, 4]]
    one = dataclasses.replace(EvalConfig(), canvas=(32, 32))
    assert list(windows.by_input_size(sizes, one)) == [[0, 1, 2, 3, 4]]
