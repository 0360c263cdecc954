"""A StableHLO file runs where there is nothing but JAX, for any number of images."""

import dataclasses
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax import export
from PIL import Image
from small_task import CLASSES, small_experiment, small_variables

from seg_jax import checks, experiment, pretrained
from seg_jax.data.label_map import LabelMap
from seg_jax.export import convert, single_pass, stablehlo
from seg_jax.inference import forward
from seg_jax.nn import lowering, pool, resize
from seg_jax.nn.conv import Conv, DepthwiseConv
from seg_jax.pretrained import release

COLOURS = ((0, 0, 0), (1, 2, 3), (255, 128, 7))
ELSEWHERE = """
import sys
import numpy as np
from jax import export
call = export.deserialize(bytearray(open(sys.argv[1], "rb").read())).call
images = np.load(sys.argv[2])
np.save(sys.argv[3], np.concatenate([np.asarray(call(images[:n])) for n in (1, 3)]))
assert not {"seg_jax", "flax", "PIL"} & set(sys.modules)
"""


@pytest.fixture
def released(tmp_path):
    found = small_experiment(canvas=(20, 30))
    variables = {"batch_stats": {}, **small_variables(found.model)}
    loaded = pretrained.Pretrained(found, variables, "", LabelMap(CLASSES, COLOURS))
    release.save(loaded, tmp_path / "release", license="mit", card="")
    return tmp_path / "release"


def test_any_number_of_images_in_a_process_without_seg_jax(released, tmp_path, rng):
    path, difference = convert.export(released, tmp_path / "a" / "net.shlo", format="stablehlo")
    assert difference == 0
    images = rng.integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    places = (path, tmp_path / "images.npy", tmp_path / "labels.npy")
    subprocess.run([sys.executable, "-c", ELSEWHERE, *map(str, places)], check=True, cwd=tmp_path)
    loaded = pretrained.load(released)
    expected = [
        forward.predict_labels(loaded.experiment, loaded.variables, image) for image in images
    ]
    expected = np.stack([expected[0], *expected])
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), expected)


def test_the_file_says_what_it_takes(released, tmp_path):
    path, _ = convert.export(
        released, tmp_path / "net.stablehlo", format="stablehlo", size=(17, 25), output="logits"
    )
    about = json.loads((tmp_path / "net.stablehlo.json").read_text())
    assert about["input"]["shape"] == ["any", 17, 25, 3]
    assert about["output"]["shape"] == ["any", 17, 25, 3]
    assert about["classes"] == list(CLASSES)
    assert about["colours"] == [list(colour) for colour in COLOURS]
    exported = export.deserialize(bytearray(path.read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "rocm", "tpu")
    assert str(exported.in_avals) == "(ShapedArray(uint8[n,17,25,3]),)"
    assert str(exported.out_avals) == "(ShapedArray(float32[n,17,25,3]),)"


def test_images_of_any_size(released, tmp_path, rng):
    path, difference = convert.export(
        released, tmp_path / "net.stablehlo", format="stablehlo", any_size=True
    )
    assert difference == 0
    about = json.loads((tmp_path / "net.stablehlo.json").read_text())
    assert about["input"]["shape"] == ["any", "32 k + 0", "32 k + 0", 3]
    assert about["classes"] == list(CLASSES) and about["inside"] == "nothing"
    loaded, call = pretrained.load(released), stablehlo.load(path.read_bytes())
    for count, height, width in ((1, 96, 160), (2, 224, 128)):
        images = rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
        planned, _ = single_pass.plan_exactly(loaded.experiment, (height, width))
        expected = [forward.predict_labels(planned, loaded.variables, image) for image in images]
        np.testing.assert_array_equal(call(images), expected)
    with pytest.raises(checks.UserError, match="--any-size: the converter to onnx takes fixed"):
        convert.export(released, tmp_path / "net.onnx", format="onnx", any_size=True)
    with pytest.raises(checks.UserError, match="--size and --resize-to are for files of one size"):
        convert.export(released, format="stablehlo", any_size=True, size=(96, 96))


def unpooled(x):
    y, indices = pool.max_pool_with_indices(x, window=2, stride=2)
    return pool.max_unpool(y, indices, x.shape[1:3])


@pytest.mark.parametrize(
    ("function", "sizes"),
    [
        (lambda x: resize.resize_half_pixel(x, (x.shape[1] * 4, x.shape[2] // 2)), (6, 10)),
        (lambda x: resize.resize_align_corners(x, (x.shape[1] * 4 - 3, x.shape[2] + 5)), (6, 10)),
        (lambda x: resize.upsample_from_corner(x, 4, (4 * x.shape[1], 4 * x.shape[2])), (6, 10)),
        (lambda x: resize.upsample_bilinear_fixed(x, kernel_size=8, stride=4), (6, 10)),
        (lambda x: pool.adaptive_average_pool(x, 3), (8, 10)),
        (lambda x: pool.average_pool(x, window=3, stride=1, padding=1), (6, 10)),
        (lambda x: unpooled(x), (6, 10)),
    ],
    ids=["half", "align", "corner", "fcn", "adaptive", "average", "unpool"],
)  # fmt: skip
def test_layers_of_a_symbolic_size_are_those_of_numbers(function, sizes, rng):
    h, w = export.symbolic_shape("2*h, 2*w", constraints=["h >= 3", "w >= 3"])
    with lowering.use("xla"):  # as `convert_any_size` does
        call = export.export(jax.jit(function))(jax.ShapeDtypeStruct((1, h, w, 2), np.float32)).call
    for size in (sizes, sizes[::-1]):
        x = rng.normal(size=(1, *size, 2)).astype(np.float32)
        np.testing.assert_allclose(call(x), jax.jit(function)(x), atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["fcn8s_resnet14_synthetic", "segnet_basic_synthetic", "deeplab_v2_resnet14_synthetic",
     "pspnet_resnet14_synthetic"],
)  # fmt: skip
def test_networks_of_any_size(name, rng):
    found = experiment.get(name)
    found = dataclasses.replace(found, model=experiment.shrink(found.model))
    run, sides = single_pass.any_size(found, "probabilities")
    shape = (1, 160 + sides[1], 160 + sides[1], 3)
    variables = found.model.init(jax.random.key(0), np.zeros(shape, np.float32), train=False)
    call = stablehlo.load(stablehlo.convert_any_size(run, variables, sides, None))
    step, rest = sides
    for height, width in ((160 + rest, 224 + rest), (step * (100 // step + 1) + rest, 192 + rest)):
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        planned, _ = single_pass.plan_exactly(found, (height, width))
        expected = forward.predict_probabilities(planned, variables, image)
        np.testing.assert_allclose(call(image[None])[0], expected, atol=1e-5)


def test_what_no_file_of_any_size_can_be_is_one_line():
    valid = experiment.get("unet_isbi2012")
    with pytest.raises(checks.UserError, match="scores lose .* px on each side"):
        single_pass.any_size(valid, "labels")


def test_a_conversion_that_is_not_the_network_is_not_written(released, tmp_path, monkeypatch):
    def other(run, variables, size, batch):
        return original(
            lambda variables, image, **how: run(variables, 255 - image, **how),
            variables, size, batch,
        )  # fmt: skip

    original = stablehlo.convert
    monkeypatch.setattr(stablehlo, "convert", other)
    with pytest.raises(checks.UserError, match="labels differ by 0.* nothing was written"):
        convert.export(released, tmp_path / "net", format="stablehlo")
    assert not (tmp_path / "net").exists()


def test_a_missing_library_is_named_with_the_remedy(released, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(checks.UserError, match=r"onnx needs jax2onnx .*scripts/test_export\.sh"):
        convert.export(released, tmp_path / "net", format="onnx")


class Depthwise(nn.Module):
    """One depthwise convolution between two that are dense."""

    @nn.compact
    def __call__(self, image, *, train):
        x = Conv(256, 3, name="first")(image)
        x = DepthwiseConv(3, name="depthwise")(x)
        return {"out": Conv(256, 1, name="score")(x)}


def test_each_platform_has_its_form_of_convolution_and_all_share_the_weights(rng):
    found = small_experiment(Depthwise(), canvas=(8, 8))
    shapes = jax.eval_shape(found.model.init, jax.random.key(0), np.zeros((1, 8, 8, 3)), train=True)
    draw = lambda leaf: rng.normal(size=leaf.shape).astype(np.float32)  # noqa: E731
    variables = jax.tree.map(draw, shapes)
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(variables))
    run = single_pass.function(found, (8, 8), "labels")
    artefact = stablehlo.convert(run, variables, (8, 8), 1)
    assert weights < len(artefact) < 1.3 * weights

    exported = export.deserialize(bytearray(artefact))
    image = jax.ShapeDtypeStruct((1, 8, 8, 3), np.uint8)
    plain = export.export(jax.jit(run), platforms=exported.platforms)(variables, image)
    # Depthwise ones have 256 groups. They are on one side of the choice, as if there were no other.
    groups = "feature_group_count = 256"
    assert exported.mlir_module().count(groups) == plain.mlir_module().count(groups) > 0


@pytest.mark.slow
def test_a_published_network_on_real_images(test_data, tmp_path):
    """Google's DeepLab v3, resized inside the file to the 257 px it takes, on two photographs."""
    folder = test_data / "weights" / "deeplabv3_mnv2_dm05_voc"
    path, _ = convert.export(
        folder / "deeplabv3.tflite", tmp_path / "net", format="stablehlo", size=(320, 240)
    )
    photos = [Image.open(folder / f"segmentation_input_rotation{r}.jpg") for r in ("0", "90_flop")]
    images = np.stack([np.asarray(photo.convert("RGB").resize((240, 320))) for photo in photos])
    found = stablehlo.load(path.read_bytes())(images)
    loaded = pretrained.load(folder / "deeplabv3.tflite")
    for image, labels in zip(images, found, strict=True):
        expected = forward.predict_labels(loaded.experiment, loaded.variables, image)
        assert len(np.unique(expected)) > 1
        assert np.mean(labels != expected) < 1e-5
