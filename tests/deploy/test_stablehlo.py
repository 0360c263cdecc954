"""A StableHLO file runs where there is nothing but JAX, for any number of pictures."""

import json
import subprocess
import sys

import numpy as np
import pytest
from jax import export
from PIL import Image
from small_task import CLASSES, SmallNet, small_experiment, small_variables

from seg_jax import checks, deploy, inference, pretrained
from seg_jax.data.label_map import LabelMap
from seg_jax.deploy import single_pass, stablehlo
from seg_jax.pretrained import release

COLOURS = ((0, 0, 0), (1, 2, 3), (255, 128, 7))
ELSEWHERE = """
import sys
import numpy as np
from jax import export
call = export.deserialize(bytearray(open(sys.argv[1], "rb").read())).call
pictures = np.load(sys.argv[2])
np.save(sys.argv[3], np.concatenate([np.asarray(call(pictures[:n])) for n in (1, 3)]))
assert not {"seg_jax", "flax", "PIL"} & set(sys.modules)
"""


@pytest.fixture
def released(tmp_path):
    found = small_experiment(canvas=(20, 30))
    variables = {"batch_stats": {}, **small_variables(found.model)}
    loaded = pretrained.Pretrained(found, variables, "", LabelMap(CLASSES, COLOURS))
    release.save(loaded, tmp_path / "release", licence="mit", card="")
    return tmp_path / "release"


def test_any_number_of_pictures_in_a_process_without_seg_jax(released, tmp_path, rng):
    path, difference = deploy.export(released, tmp_path / "a" / "net.shlo", format="stablehlo")
    assert difference == 0
    pictures = rng.integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    np.save(tmp_path / "pictures.npy", pictures)
    places = (path, tmp_path / "pictures.npy", tmp_path / "labels.npy")
    subprocess.run([sys.executable, "-c", ELSEWHERE, *map(str, places)], check=True, cwd=tmp_path)
    loaded = pretrained.load(released)
    expected = [
        inference.predict_labels(loaded.experiment, loaded.variables, image) for image in pictures
    ]
    expected = np.stack([expected[0], *expected])
    np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), expected)


def test_the_file_says_what_it_takes(released, tmp_path):
    path, _ = deploy.export(
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


def test_a_conversion_that_is_not_the_network_is_not_written(released, tmp_path, monkeypatch):
    def other(run, size, batch):
        return convert(lambda image: run(255 - image), size, batch)

    convert = stablehlo.convert
    monkeypatch.setattr(stablehlo, "convert", other)
    with pytest.raises(checks.UserError, match="labels differ by 0.* nothing was written"):
        deploy.export(released, tmp_path / "net", format="stablehlo")
    assert not (tmp_path / "net").exists()


def test_a_missing_library_is_named_with_the_remedy(released, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(checks.UserError, match=r"onnx needs jax2onnx .*scripts/test_export\.sh"):
        deploy.export(released, tmp_path / "net", format="onnx")


def test_convolutions_are_xla_s_own(rng):
    found = small_experiment(SmallNet(), canvas=(8, 8))
    run = single_pass.function(found, small_variables(found.model), (8, 8), "labels")
    text = export.deserialize(bytearray(stablehlo.convert(run, (8, 8), 1))).mlir_module()
    assert text.count("stablehlo.convolution") >= 2


@pytest.mark.slow
def test_a_published_network_on_real_pictures(test_data, tmp_path):
    """Google's DeepLab v3, squashed inside the file to the 257 px it takes, on two photographs."""
    folder = test_data / "weights" / "deeplabv3_mnv2_dm05_voc"
    path, _ = deploy.export(
        folder / "deeplabv3.tflite", tmp_path / "net", format="stablehlo", size=(320, 240)
    )
    photos = [Image.open(folder / f"segmentation_input_rotation{r}.jpg") for r in ("0", "90_flop")]
    pictures = np.stack([np.asarray(photo.convert("RGB").resize((240, 320))) for photo in photos])
    found = stablehlo.load(path.read_bytes())(pictures)
    loaded = pretrained.load(folder / "deeplabv3.tflite")
    for picture, labels in zip(pictures, found, strict=True):
        expected = inference.predict_labels(loaded.experiment, loaded.variables, picture)
        assert len(np.unique(expected)) > 1
        assert np.mean(labels != expected) < 1e-5
