"""TensorFlow's files without TensorFlow. Those in `files` were written by TensorFlow 2.21: a
checkpoint of its first version's Saver, and the graph of it, frozen.
"""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from seg_jax import pretrained
from seg_jax.backbones.xception import Xception
from seg_jax.checks import UserError
from seg_jax.pretrained import cache
from seg_jax.pretrained.converters import google
from seg_jax.pretrained.formats import tensorflow

FILES = Path(__file__).parent / "files"
VARIABLES = {
    "net/conv/weights": np.arange(54, dtype=np.float32).reshape(3, 3, 2, 3),
    "net/conv/BatchNorm/gamma": np.float32([1, 2, 3]),
    "net/conv/BatchNorm/moving_mean": np.float32([0.5, 0.5, 0.5]),
    "net/expand/depthwise/depthwise_weights": -np.arange(12, dtype=np.float32).reshape(2, 2, 3, 1),
    "logits/semantic/biases": np.float32([7]),
}


def test_reads_a_checkpoint():
    found = tensorflow.read(FILES / "model.ckpt.index")
    assert found.keys() == {*VARIABLES, "global_step"} and found["global_step"] == 30000
    for name, expected in VARIABLES.items():
        np.testing.assert_array_equal(found[name], expected)


def test_reads_a_frozen_graph():
    found = tensorflow.read(FILES / "frozen.pb")
    assert found.keys() == VARIABLES.keys()
    for name, expected in VARIABLES.items():
        np.testing.assert_array_equal(found[name], expected)


def test_a_long_index_has_several_blocks():
    """Names with common beginnings, as Xception has: keys are stored by what differs."""
    index = FILES / "many.ckpt.index"
    found = tensorflow.read(index)
    assert len(found) == 500
    for number, (name, value) in enumerate(sorted(found.items())):
        assert name == f"xception_65/middle_flow/block1/unit_{number:03}/weights"
        np.testing.assert_array_equal(value, np.float32([number, -number]))


@pytest.mark.parametrize("name", ["model.ckpt.index", "frozen.pb"])
def test_damaged_files_are_named(tmp_path, name):
    path = tmp_path / name
    data = (FILES / name).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=f"{name}: no TensorFlow (checkpoint|frozen graph), or dam"):
        tensorflow.read(path)


def test_an_index_without_its_numbers(tmp_path):
    shutil.copy(FILES / "model.ckpt.index", tmp_path)
    with pytest.raises(UserError, match="0 of its 1 files model.ckpt.data-.* are beside it"):
        tensorflow.read(tmp_path / "model.ckpt.index")


def test_a_checkpoint_is_kept_with_its_numbers(tmp_path, monkeypatch):
    """A folder that an archive was unpacked into stands for the one checkpoint in it."""
    monkeypatch.setenv("SEG_JAX_WEIGHTS", str(tmp_path / "weights"))
    name = "google_deeplabv3plus_xception65_voc_trainaug"
    folder = tmp_path / "unpacked"
    folder.mkdir()
    for file in FILES.glob("model.ckpt.*"):
        shutil.copy(file, folder)
    kept = cache.add(folder / "model.ckpt.index", name)
    assert cache.find(name) == kept
    assert len(tensorflow.read(kept)) == 6
    for path in (folder, name):
        with pytest.raises(
            UserError, match=f"as {name}: these weights do not fit this DeepLabV3Plus"
        ):
            pretrained.load(path, name)


def test_a_classifier_s_own_tensors_may_be_left_over(rng):
    """The backbone alone, of a checkpoint that also holds logits and what training leaves."""
    model = Xception(41, middle_units=1, width=1 / 16)
    image = np.zeros((1, 65, 65, 3), np.float32)
    shapes = jax.eval_shape(lambda key: model.init(key, image, train=False), jax.random.key(0))
    tensors = {"xception_41/logits/weights": np.zeros((1, 1, 8, 9)), "global_step": np.zeros(())}
    tensors["xception_41/entry_flow/conv1_1/weights/Momentum"] = np.zeros(3)
    scopes = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}
    for path, leaf in jax.tree.leaves_with_path(shapes):
        *modules, kind, name = (entry.key for entry in path[1:])
        scope = google.scope("/".join(["backbone", *modules]), 41)
        value = rng.normal(size=leaf.shape).astype(np.float32)
        if kind == "bn":
            tensors[f"{scope}/BatchNorm/{scopes[name]}"] = value
        elif scope.endswith("depthwise"):
            tensors[f"{scope}/depthwise_weights"] = value.transpose(0, 1, 3, 2)
        else:
            tensors[f"{scope}/weights"] = value
    found = google.from_checkpoint(model, tensors, depth=41, ignore="xception_41/logits/.*")
    assert jax.tree.structure(found) == jax.tree.structure(shapes)
    with pytest.raises(UserError, match="1 unknown to the network: xception_41/logits/weights"):
        google.from_checkpoint(model, tensors, depth=41)
