"""Caffe's files: the reader against a writer of Caffe's own schema, and what layers are called.

That the networks then compute the authors' logits is tested in `parity/test_published_caffe.py`.
"""

import numpy as np
import pytest
from caffe_writer import caffemodel

from seg_jax.checks import UserError
from seg_jax.models.fcn import FCN
from seg_jax.models.segnet import SegNetBasic
from seg_jax.pretrained import catalogue
from seg_jax.pretrained.converters import caffe
from seg_jax.pretrained.formats import caffe as caffe_file

THIN = 1 / 16


@pytest.fixture
def layers(rng):
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    return {"conv1_1": [draw(4, 3, 3, 3), draw(4)], "relu": [], "bn": [draw(4), draw(4), draw(1)]}


@pytest.mark.parametrize("fields", [{}, {"old": True}, {"double": True}])
def test_reads_what_was_written(tmp_path, layers, fields):
    (tmp_path / "net.caffemodel").write_bytes(caffemodel(layers, **fields))
    found = caffe_file.read(tmp_path / "net.caffemodel")
    assert list(found) == ["conv1_1.0", "conv1_1.1", "bn.0", "bn.1", "bn.2"]
    for name, blob in found.items():
        layer, _, index = name.rpartition(".")
        expected = layers[layer][int(index)]
        np.testing.assert_array_equal(blob.reshape(expected.shape), expected)
        assert blob.dtype == np.float32


@pytest.mark.parametrize("content", [b"", b"\xff\xff\xff", b"\x89PNG\r\n\x1a\n" * 9])
def test_another_file_is_named(tmp_path, content):
    (tmp_path / "x.caffemodel").write_bytes(content)
    with pytest.raises(UserError, match="x.caffemodel: no .caffemodel file"):
        caffe_file.read(tmp_path / "x.caffemodel")


def test_a_cut_file_is_named(tmp_path, layers):
    (tmp_path / "x.caffemodel").write_bytes(caffemodel(layers)[:-5])
    with pytest.raises(UserError, match="x.caffemodel: no .caffemodel file, or damaged"):
        caffe_file.read(tmp_path / "x.caffemodel")


def vgg(rng, *, fc6=(256, 32 * 49)):
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    blobs, channels = {}, 3
    for stage, (depth, width) in enumerate(((2, 4), (2, 8), (3, 16), (3, 32), (3, 32)), start=1):
        for layer in range(1, depth + 1):
            blobs[f"conv{stage}_{layer}.0"] = draw(width, channels, 3, 3)
            blobs[f"conv{stage}_{layer}.1"] = draw(1, 1, 1, width)
            channels = width
    blobs |= {"fc6.0": draw(1, 1, *fc6), "fc6.1": draw(1, 1, 1, 256)}
    blobs |= {"fc7.0": draw(1, 1, 256, 256), "fc7.1": draw(1, 1, 1, 256)}
    return blobs | {"fc8.0": draw(1, 1, 10, 256), "fc8.1": draw(1, 1, 1, 10)}


def test_vgg16_s_fc6_reads_pool5_in_a_row(rng):
    """As a convolution of its 7x7 window it is the inner product that Caffe computes."""
    blobs = vgg(rng)
    fc6 = caffe.vgg16(None, blobs, width=THIN)["params"]["fc6"]
    window = rng.normal(size=(7, 7, 32)).astype(np.float32)
    actual = np.einsum("hwc,hwco->o", window, fc6["kernel"]) + fc6["bias"]
    row = window.transpose(2, 0, 1).ravel()
    expected = blobs["fc6.0"][0, 0] @ row + blobs["fc6.1"][0, 0, 0]
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-3)


def test_segnet_s_norms_are_scale_and_shift(rng):
    """y = scale x + shift: mean 0, variance 1."""
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    blobs, channels = {}, 3
    for name in ("conv1", "conv2", "conv3", "conv4", *(f"conv_decode{i}" for i in (4, 3, 2, 1))):
        blobs |= {f"{name}.0": draw(4, channels, 7, 7), f"{name}.1": draw(4)}
        blobs |= {f"{name}_bn.0": draw(1, 4, 1, 1), f"{name}_bn.1": draw(1, 4, 1, 1)}
        channels = 4
    blobs |= {"conv_classifier.0": draw(11, 4, 1, 1), "conv_classifier.1": draw(11)}
    found = caffe.from_segnet(SegNetBasic(width=THIN, num_classes=11), blobs)
    norm = found["params"]["conv2_bn"]
    np.testing.assert_array_equal(norm["scale"], blobs["conv2_bn.0"].ravel())
    np.testing.assert_array_equal(norm["bias"], blobs["conv2_bn.1"].ravel())
    assert not found["batch_stats"]["conv2_bn"]["mean"].any()
    np.testing.assert_array_equal(found["batch_stats"]["conv2_bn"]["var"], 1.0)
    del blobs["conv2_bn.1"]
    with pytest.raises(UserError, match="1 missing in the weights: conv2_bn/bias .from conv2_bn.1"):
        caffe.from_segnet(SegNetBasic(width=THIN, num_classes=11), blobs)


def test_fcn_s_fixed_layers_are_checked(rng):
    """Upsampling that is not bilinear, or another factor of a pool, is another network."""
    blobs = {"scale_pool4.0": np.full(512, 0.5, np.float32)}
    with pytest.raises(UserError, match="scale_pool4 is 0.5, the network's 0.01"):
        caffe.from_fcn(FCN(pool4_scale=0.01), blobs)
    with pytest.raises(UserError, match="upscore2 is not the fixed bilinear|upscore2.0 is not"):
        caffe.from_fcn(FCN(), {"upscore2.0": rng.normal(size=(21, 21, 4, 4)).astype(np.float32)})


def test_no_name_of_the_catalogue_is_an_experiment_s():
    """`--init NAME` looks for a run first: a name must mean one thing."""
    from seg_jax import experiment

    assert not set(catalogue.names()) & set(experiment.names())
