"""The README's eight lines of Python, with a small network in the published file's place."""

import shutil

import numpy as np
import pytest
from pages import ROOT, blocks
from PIL import Image
from small_task import small_experiment, small_variables

from seg_jax import pretrained
from seg_jax.pretrained.network import Pretrained

GOOGLE = "weights/deeplabv3_mnv2_dm05_voc/deeplabv3.tflite"


@pytest.fixture
def code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3)).astype(np.uint8)
    Image.fromarray(image).save("photo.jpg")
    (block,) = blocks(ROOT / "README.md", "python")
    return compile(block.text, "README.md", "exec")


def test_with_a_small_network(code, monkeypatch):
    found = small_experiment(bucket=64)
    network = Pretrained(found, small_variables(found.model))
    asked = []
    monkeypatch.setattr(pretrained, "load", lambda path: asked.append(path) or network)
    names = {}
    exec(code, names)
    assert asked == ["deeplabv3.tflite"]
    assert names["x"].shape == (64, 64, 3) and names["x"].dtype == np.float32
    expected = network.model.apply(network.variables, names["x"][None], train=False)["out"]
    np.testing.assert_array_equal(names["logits"], expected)


@pytest.mark.slow
def test_with_google_s_weights(code, test_data):
    shutil.copy(test_data / GOOGLE, "deeplabv3.tflite")
    names = {}
    exec(code, names)
    assert names["loaded"].name == "google_deeplabv3_mobilenetv2_dm05_voc"
    assert names["logits"].shape[0] == 1 and names["logits"].shape[-1] == 21
    assert np.isfinite(names["logits"]).all()
