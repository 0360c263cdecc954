"""ONNX in onnxruntime, and LiteRT, agree with the network: scripts/test_export.sh runs these."""

import dataclasses
import importlib
import importlib.util
import json

import jax
import numpy as np
import pytest
from PIL import Image

from seg_jax import data, pretrained
from seg_jax import experiment as experiments
from seg_jax.export import convert, single_pass
from seg_jax.inference import forward

LIBRARIES = {
    "onnx": ("jax2onnx", "onnxruntime"),
    "tflite": ("litert_converter", "ai_edge_litert"),
}
# Third parties' warnings, in 2026-11: dm-pix, which jax2onnx looks for, and LiteRT's bindings.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(params=LIBRARIES)
def format(request):
    missing = [name for name in LIBRARIES[request.param] if not importlib.util.find_spec(name)]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: bash scripts/test_export.sh")
    return request.param


def drawn(rng, size, count):
    """Images of large blocks, so that a network sees more than noise."""
    blocks = rng.integers(0, 256, (count, -(-size[0] // 16), -(-size[1] // 16), 3))
    return np.kron(blocks, np.ones((1, 16, 16, 1)))[:, : size[0], : size[1]].astype(np.uint8)


def random_variables(found, rng):
    """Random numbers that no layer of the network is blind to; variances are positive."""
    shape = (1, *found.data.augmentation.crop, found.data.preprocessing.inputs)
    shapes = jax.eval_shape(
        lambda key: found.model.init(key, np.zeros(shape, np.float32), train=False),
        jax.random.key(0),
    )

    def draw(path, leaf):
        name = path[-1].key
        if name in ("var", "scale"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(leaf.dtype)
        fan_in = max(1, int(np.prod(leaf.shape[:-1])))
        return (rng.normal(size=leaf.shape) * np.sqrt(2 / fan_in)).astype(leaf.dtype)

    return jax.tree.map_with_path(draw, shapes)


def compare_logits(format, planned, variables, images):
    """Compare what a network alone says, on images of the size it sees; the error is relative to
    the largest logit, which grows with the depth of a network of random numbers."""
    model, normalise = planned.model, planned.data.preprocessing
    expected = model.apply(variables, normalise(images), train=False)["out"]
    expected = np.asarray(expected)
    assert np.std(expected, axis=(1, 2)).max() > 1e-3 * np.abs(expected).max()  # it sees the image
    converter = importlib.import_module(f"seg_jax.export.{format}")
    size = images.shape[1:3]
    run = single_pass.function(planned, size, "logits")
    answers = converter.load(converter.convert(run, variables, size, len(images)))(images)
    assert answers.dtype == np.float32
    assert np.max(np.abs(answers - expected)) < 1e-5 * np.max(np.abs(expected))


@pytest.mark.slow
@pytest.mark.parametrize("name", experiments.suite("quick"))
def test_every_architecture_is_converted(format, name, rng):
    found = experiments.get(name)
    planned, size = single_pass.plan(found)
    compare_logits(format, planned, random_variables(found, rng), drawn(rng, size, 2))


@pytest.mark.slow
def test_pspnet_s_bins_keep_their_size_where_they_do_not_divide_the_map(format, rng):
    found = experiments.get(
        "pspnet_resnet14_synthetic"
    )  # maps of 12x16: bins of 6 do not divide 16
    evaluation = dataclasses.replace(found.evaluation, canvas=(89, 121))
    planned, size = single_pass.plan(dataclasses.replace(found, evaluation=evaluation))
    assert size == (89, 121)
    compare_logits(format, planned, random_variables(found, rng), drawn(rng, size, 1))


@pytest.mark.slow
def test_a_mirrored_tile_is_converted(format, rng):
    found = experiments.get("unet_isbi2012")
    model = experiments.shrink(found.model)
    side = max(model.legal_sizes(200))
    evaluation = dataclasses.replace(found.evaluation, canvas=(side, side))
    found = dataclasses.replace(found, model=model, evaluation=evaluation)
    variables = random_variables(found, rng)
    planned, size = single_pass.plan(found)
    assert size[0] < side
    converter = importlib.import_module(f"seg_jax.export.{format}")
    run = single_pass.function(planned, size, "probabilities")
    (image,) = drawn(rng, size, 1)
    expected = forward.predict_probabilities(planned, variables, image)
    answer = converter.load(converter.convert(run, variables, size, None))(image[None])
    np.testing.assert_allclose(answer[0], expected, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_published_network_on_real_images(format, test_data, tmp_path):
    """Google's DeepLab v3 on photographs of VOC, resized inside the file to 257 px."""
    source = data.open_source("voc2012", test_data / "data" / "VOCdevkit", "val")
    wide = [index for index in range(len(source)) if source.size(index) == (375, 500)][:20]
    weights = test_data / "weights" / "deeplabv3_mnv2_dm05_voc" / "deeplabv3.tflite"
    path, difference = convert.export(
        weights, tmp_path / "net", format=format, size=(375, 500), output="probabilities"
    )
    assert difference < 1e-3
    about = json.loads((tmp_path / "net.json").read_text())
    assert about["input"]["shape"] == [1, 375, 500, 3]
    assert about["classes"][15] == "person"
    run = importlib.import_module(f"seg_jax.export.{format}").load(path.read_bytes())
    loaded = pretrained.load(weights)
    differing = pixels = 0
    for index in wide:
        image = source[index]["image"]
        expected = forward.predict_probabilities(loaded.experiment, loaded.variables, image)
        found = run(image[None])[0]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
        differing += np.count_nonzero(found.argmax(-1) != expected.argmax(-1))
        pixels += image.shape[0] * image.shape[1]
    assert len(wide) == 20
    assert differing / pixels < 1e-5


def test_labels_of_a_image_file(format, test_data, tmp_path):
    """The whole way of the command line, by default to labels, on Google's own test image."""
    folder = test_data / "weights" / "deeplabv3_mnv2_dm05_voc"
    path, _ = convert.export(folder / "deeplabv3.tflite", tmp_path / "net", format=format)
    with Image.open(folder / "segmentation_input_rotation0.jpg") as photo:
        image = np.asarray(photo.convert("RGB").resize((257, 257), Image.Resampling.BILINEAR))
    loaded = pretrained.load(folder / "deeplabv3.tflite")
    expected = forward.predict_labels(loaded.experiment, loaded.variables, image)
    found = importlib.import_module(f"seg_jax.export.{format}").load(path.read_bytes())(image[None])
    assert found.dtype == np.uint8
    assert len(np.unique(expected)) > 1
    assert np.mean(found[0] != expected) < 1e-4
