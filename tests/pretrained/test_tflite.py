"""Google's TensorFlow Lite files: the reader against a writer, and the network against masks that
its publishers made with their own runtime.
"""

import functools

import jax
import numpy as np
import pytest
from PIL import Image
from tflite_writer import write_convolution

from seg_jax import pretrained
from seg_jax.checks import UserError
from seg_jax.pretrained import cache, catalogue, loading
from seg_jax.pretrained.converters import google
from seg_jax.pretrained.formats import tflite

FLOAT = "weights/deeplabv3_mnv2_dm05_voc/deeplabv3.tflite"
UINT8 = "weights/deeplabv3_mnv2_voc_uint8/deeplabv3_mnv2_pascal_quant.tflite"
IMAGENET = "weights/mobilenet_v2_imagenet_uint8/mobilenet_v2_1.0_224_quant.tflite"


@pytest.fixture
def file(rng, tmp_path):
    kernel = rng.integers(0, 256, (4, 3, 3, 2)).astype(np.uint8)
    bias = rng.normal(size=4).astype(np.float32)
    scale, zero = np.float32([0.5, 0.25, 2.0, 1.0]), np.array([128, 3, 0, 255])
    path = tmp_path / "net.tflite"
    path.write_bytes(write_convolution(kernel, bias, scale, zero))
    return path, kernel, bias, scale, zero


def test_reads_what_was_written(file):
    path, kernel, bias, scale, zero = file
    graph = tflite.read(path)
    (found,) = graph.convolutions
    assert (found.scope, found.stride, found.rate) == ("net/conv", 2, 3)
    assert graph.input_shape == (1, 9, 9, 2) and graph.input_quantization is None
    for out in range(4):
        expected = (kernel[out] - zero[out].astype(np.float32)) * scale[out]
        np.testing.assert_array_equal(found.kernel[..., out], expected)
    np.testing.assert_array_equal(found.bias, bias)


@pytest.mark.parametrize("end", [100, -30])
def test_a_damaged_file_is_named(file, end):
    path = file[0]
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(UserError, match="net.tflite: no network of images, or damaged"):
        tflite.read(path)


def test_another_file_is_no_tflite(tmp_path):
    (tmp_path / "x.tflite").write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(UserError, match="x.tflite: no TensorFlow Lite file"):
        tflite.read(tmp_path / "x.tflite")


# The second image lies on its side: Google's test turns it upright and the mask back.
@pytest.mark.parametrize(("name", "agreement"), [("rotation0", 1.0), ("rotation90_flop", 0.9995)])
def test_google_s_masks_are_reproduced(test_data, name, agreement):
    """Google's own test of this file lets 1 % of the pixels differ."""
    folder = (test_data / FLOAT).parent

    def turn(x):
        return x if name == "rotation0" else x[::-1, ::-1].swapaxes(0, 1)

    loaded = pretrained.load(test_data / FLOAT)
    assert loaded.name == "google_deeplabv3_mobilenetv2_dm05_voc"
    image = np.asarray(Image.open(folder / f"segmentation_input_{name}.jpg"))
    x = loaded.preprocessing(np.ascontiguousarray(turn(image)))
    apply = jax.jit(functools.partial(loaded.model.apply, train=False))
    logits = apply(loaded.variables, x[None])["out"]
    mask = turn(np.asarray(logits)[0].argmax(-1))
    golden = np.asarray(Image.open(folder / f"segmentation_golden_{name}.png"))
    assert len(np.unique(golden)) == 3  # background, horse, person, times ten
    assert (mask * 10 == golden).mean() >= agreement


def test_folded_norms_only_add_the_bias(test_data):
    """Each norm of the imported network is x + bias, to the bit."""
    loaded = pretrained.load(test_data / UINT8)
    norm = loaded.variables["params"]["backbone"]["conv"]["bn"]
    statistics = loaded.variables["batch_stats"]["backbone"]["conv"]["bn"]
    epsilon = np.float32(loaded.model.backbone.norm.epsilon)
    factor = jax.lax.rsqrt(statistics["var"] + epsilon) * norm["scale"]
    np.testing.assert_array_equal(factor, 1.0)
    assert not statistics["mean"].any() and norm["bias"].any()


def test_weights_of_another_network_are_refused(test_data):
    with pytest.raises(UserError, match="as google_deeplabv3_mobilenetv2_dm05_voc: these weights"):
        pretrained.load(test_data / IMAGENET, "google_deeplabv3_mobilenetv2_dm05_voc")
    entry = catalogue.get("google_deeplabv3_mobilenetv2_voc_uint8")
    model = entry.experiment().model
    with pytest.raises(UserError, match="output stride of 32, the network one of 16"):
        loading.convert(test_data / IMAGENET, entry, model)
    model = model.clone(backbone=model.backbone.clone(output_stride=32))
    with pytest.raises(UserError, match=r"missing.*aspp/aspp0.*; .* unknown .*MobilenetV2/Conv_1"):
        google.from_tflite(model, tflite.read(test_data / IMAGENET))


def test_a_classifier_segments_nothing(test_data):
    with pytest.raises(UserError, match="google_mobilenetv2_imagenet_uint8 is a classifier"):
        pretrained.load(test_data / IMAGENET)


def test_imported_weights_are_found_by_name(test_data, tmp_path, monkeypatch):
    monkeypatch.setenv("SEG_JAX_WEIGHTS", str(tmp_path / "weights"))
    name = "google_deeplabv3_mobilenetv2_dm05_voc"
    with pytest.raises(UserError, match=f"{name} is not imported: get deeplabv3.tflite"):
        pretrained.load(name)
    cache.add(test_data / FLOAT, name)
    assert pretrained.load(name).name == name
    with pytest.raises(UserError, match="SHA-256 is 350af.*, that of google_deeplabv3.* 68a5"):
        cache.add(test_data / UINT8, name)
