"""Hostile configurations of runs and releases: none runs anything or takes much."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from seg_jax import config, experiment, pretrained, results
from seg_jax.checks import UserError
from seg_jax.experiment import Experiment
from seg_jax.runs import folder as run_folder
from seg_jax.sweep import search

FORMER = Path(__file__).parents[1] / "golden" / "revision_3e7ce58"
LAZY = {
    "type": "etils.epy.lazy_imports_utils.LazyModule",
    "module_name": "evil",
    "adhoc_kwargs": None,
}
EVIL = """
import dataclasses
import flax.linen
open("ran", "w").close()

@dataclasses.dataclass(frozen=True)
class X:
    num_classes: int = 3

class Net(flax.linen.Module):
    num_classes: int = 3
"""


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """A stranger's folder, in which the user stands, with a module that says when it is run."""
    shutil.copytree(FORMER, tmp_path / "theirs")
    for place in (tmp_path, tmp_path / "theirs" / "run"):
        (place / "evil.py").write_text(EVIL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as `python -m seg_jax` did
    yield tmp_path / "theirs"
    assert not (tmp_path / "ran").exists()
    assert not [name for name in sys.modules if "evil" in name]


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


READERS = {
    "run": ("run/config.json", lambda folder: run_folder.read_config(folder / "run")),
    "run given to predict, export or submit": (
        "run/config.json",
        lambda folder: pretrained.load(folder / "run"),
    ),
    "release": ("run/release/config.json", lambda folder: pretrained.load(folder / "run/release")),
}
TYPES = {
    "a module in the folder": {"type": "theirs.run.evil.Net", "num_classes": 3},
    "a dataclass of a module in the folder": {"type": "theirs.run.evil.X", "num_classes": 3},
    "a module in the current folder": {"type": "evil.Net", "num_classes": 3},
    "lazy import of a loaded library": LAZY,
    "a dataclass of a loaded library": {"type": "optax._src.base.GradientTransformationExtraArgs"},
    "ours, but no network": {"type": "seg_jax.experiment.TrainConfig", "steps": 1, "batch_size": 1},
    "ours, but no configuration": {"type": "seg_jax.runs.log.RunLog"},
    "no name": {"type": 1},
    "no type": {},
    "a list": [],
    "a number": 3,
}


@pytest.mark.parametrize("field", ["model", "data", "optim"])
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("reader", READERS)
def test_no_foreign_type_is_built_or_imported(theirs, reader, kind, field):
    name, read = READERS[reader]
    edit(theirs / name, lambda content: content["experiment"].update({field: TYPES[kind]}))
    with pytest.raises(UserError) as caught:
        read(theirs)
    message = str(caught.value)
    assert name in message and field in message and "\n" not in message


def test_the_fields_of_a_network_are_no_way_in(theirs):
    model = {**config.to_dict(experiment.get("unet_voc").model), "norm": LAZY}
    edit(theirs / "run/config.json", lambda content: content["experiment"].update(model=model))
    with pytest.raises(UserError, match="model.norm: unknown type 'etils.epy.lazy_imports"):
        run_folder.read_config(theirs / "run")


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"3", b'{"type": 1}', b"null", b"[" * 200_000, b"\xa5", b'{"a":' * 500],
    ids=lambda content: content[:12].decode("latin-1"),
)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_configuration_is_one_line(theirs, reader, content):
    name, read = READERS[reader]
    (theirs / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read(theirs)
    assert name in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("group", "change", "field"),
    [
        ("train", {"steps": "many"}, "train.steps should be int, found 'many'"),
        ("train", {"batch_size": None}, "train.batch_size should be int, found None"),
        ("train", {"batch_size": 10**9}, "train: batch_size must be at most 65536"),
        ("evaluation", {"mode": "sideways"}, "evaluation.mode should be Literal"),
        ("evaluation", {"canvas": [10**5, 10**5]}, "evaluation: canvas_height must be at most"),
        ("evaluation", {"scales": [1e9]}, "evaluation: largest_of_scales must be at most"),
        ("data", {"workers": 10**6}, "data: workers must be at most 1024"),
        ("data", {"root": 3}, "data.root should be .*Path"),
        ("model", {"num_classes": 10**6}, "model.num_classes must be at most 255"),
        ("model", {"num_classes": 2.5}, "model.num_classes should be int, found 2.5"),
        ("model", {"depth": 10**9}, "model.depth must be at most 256"),
        ("model", {"width": 1e12}, "model.width must be at most 16"),
        ("model", {"speed": 1}, "model: UNet has no field 'speed'"),
        ("model", {"parent": None}, "model: UNet has no field 'parent'"),
    ],
)
def test_fields_of_wrong_type_or_size_are_named(theirs, group, change, field):
    unet = config.to_dict(experiment.get("unet_voc").model)

    def damage(content):
        content["experiment"]["model"] = unet
        content["experiment"][group].update(change)

    edit(theirs / "run/config.json", damage)
    with pytest.raises(UserError, match=field):
        run_folder.read_config(theirs / "run")


@pytest.mark.parametrize("name", ["/tmp/elsewhere", "../../elsewhere", "a\x1b[2J"])
def test_a_name_that_leads_elsewhere_is_refused(theirs, name):
    """`export` wrote NAME.onnx: to an absolute path, say."""
    edit(theirs / "run/config.json", lambda content: content["experiment"].update(name=name))
    with pytest.raises(UserError, match="cannot be the name of a file"):
        run_folder.read_config(theirs / "run")


@pytest.mark.parametrize("place", ["run/config.json", "run/result.json", "sweep/sweep.json"])
@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "folder"])
def test_only_regular_files_are_read(theirs, place, kind):
    path = theirs / place
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(kind)
    read = {
        "run/config.json": lambda: run_folder.read_config(theirs / "run"),
        "run/result.json": lambda: results.load(theirs / "run"),
        "sweep/sweep.json": lambda: search._check_same(path, {}),
    }[place]
    with pytest.raises(UserError, match="not a regular file"):
        read()


def test_large_files_are_refused_before_they_are_read(theirs):
    with (theirs / "run/config.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match="1099511627776 bytes, more than the 16777216"):
        run_folder.read_config(theirs / "run")


def test_types_that_the_user_registered_are_built():
    found = experiment.get("unet_voc")
    assert config.from_dict(config.to_dict(found), Experiment) == found
