"""`env`, and the places that it names: the user's own by default, the old ones still found."""

import json
import logging
from pathlib import Path

import pytest

from seg_jax import __main__ as command_line
from seg_jax import data, files
from seg_jax.cli import env
from seg_jax.pretrained import cache


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A user without files, in an empty folder; returns where the user's data and caches belong."""
    for variable in (*files.VARIABLES.values(), "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    files._say_former.cache_clear()
    return tmp_path


def test_a_variable_names_another_place(places, monkeypatch):
    assert files.place("weights") == places / "share/seg_jax/weights"
    assert files.place("cache") == places / "cache/seg_jax"
    monkeypatch.setenv("SEG_JAX_WEIGHTS", "elsewhere")
    assert cache.folder() == Path("elsewhere")


def test_what_lies_in_the_old_place_is_found_and_said(places, monkeypatch, caplog):
    for name in ("camvid", "weights/torchvision_resnet50_imagenet"):
        Path("data", name).mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        assert data.find_root("camvid") == Path("data/camvid")
        assert data.find_root("camvid") == Path("data/camvid")
    assert len(caplog.records) == 1
    assert str(places / "share/seg_jax/data") in caplog.text and "SEG_JAX_DATA" in caplog.text
    assert cache.name_of(Path("data/weights/torchvision_resnet50_imagenet/x.pth"))
    assert data.default_root("cityscapes") == places / "share/seg_jax/data/cityscapes"
    monkeypatch.setenv("SEG_JAX_DATA", str(places / "all"))  # what is said counts alone
    assert data.default_root("camvid") == places / "all/camvid"


def test_env_prints_what_a_bug_report_needs(places, monkeypatch, capsys):
    monkeypatch.setenv("SEG_JAX_HUB_TOKEN", "hf_secret")
    monkeypatch.setenv("SEG_JAX_IMAGE_PIXELS", "123")
    assert command_line.main(["env", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["versions"].keys() >= {"python", "jax", "flax", "optax", "numpy", "grain"}
    assert found["device"]["platform"] == "cpu" and found["device"]["devices"] == 4
    assert found["places"]["weights"]["path"] == str(places / "share/seg_jax/weights")
    assert found["variables"]["SEG_JAX_IMAGE_PIXELS"] == "123"
    assert "hf_secret" not in str(found)
    found["variables"].pop("XLA_FLAGS", None)  # as long as whoever runs the tests writes it
    text = env.as_text(found | {"device": found["device"], "accelerators": {
        "device files": {"NVIDIA GPU": ["/dev/nvidia0"]}, "plugins": {}}})  # fmt: skip
    assert "not used" in text and "/dev/nvidia0" in text
    for line in text.splitlines():
        assert len(line) <= 100 or str(places) in line
