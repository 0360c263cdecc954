"""experiments/index.json agrees with the code, and `list` reads it without importing jax."""

import json
import subprocess
import sys

import pytest

from seg_jax import analysis, experiment
from seg_jax.analysis import index, overview

PATH = experiment.folder() / "index.json"
STORED = json.loads(PATH.read_text())
ENTRIES = {entry["name"]: entry for entry in STORED["experiments"]}
ADVICE = f"run `{index.REWRITE}`"


def test_it_was_written_for_these_experiments():
    assert STORED["sources"] == index.digest(PATH.parent), ADVICE
    assert set(ENTRIES) <= set(experiment.names()), ADVICE


def test_everything_but_parameters_is_as_computed(monkeypatch):
    monkeypatch.setattr(
        overview, "parameter_count", lambda found: ENTRIES[found.name]["parameters"]
    )
    for name, entry in ENTRIES.items():
        assert as_json(analysis.summary(experiment.get(name))) == entry, ADVICE


@pytest.mark.parametrize("name", ["fcn8s_vgg16_voc", "unet_isbi2012", "segnet_basic_camvid"])
def test_parameters_are_as_counted(name):
    counted = overview.parameter_count(experiment.get(name))
    assert counted == ENTRIES[name]["parameters"], ADVICE


@pytest.mark.slow
def test_all_parameters_are_as_counted():
    for name, entry in ENTRIES.items():
        counted = overview.parameter_count(experiment.get(name))
        assert counted == entry["parameters"], f"{name}: {ADVICE}"


def as_json(value):
    return json.loads(json.dumps(value))


def test_listings_fit_100_columns_and_are_in_the_order_of_the_papers():
    entries = index.load()
    lines = index.listing(entries).splitlines()
    assert max(map(len, lines)) <= 100
    names = [line.split()[0] for line in lines[1:-2]]
    assert sorted(names) == sorted(entry["name"] for entry in entries)
    chosen = [n for n in names if n in ("unet_isbi2012", "unet_voc", "fcn8s_vgg16_voc")]
    assert chosen == ["fcn8s_vgg16_voc", "unet_isbi2012", "unet_voc"]
    row = {line.split()[0]: line for line in lines[1:-2]}
    assert "134.4 M  65.5 VOC 2011 seg11valid" in row["fcn8s_vgg16_voc"]
    assert "warping 0.00035 ISBI 2012" in row["unet_isbi2012"]

    long = index.long_listing(entries)
    assert max(map(len, long.splitlines())) <= 100
    assert "134,362,751" in long and "62.2 VOC 2012 test" in long
    assert "warping error 0.0003529, Rand error 0.0382 ISBI 2012 test" in long
    assert "DeepLab on MobileNetV2, without ASPP and decoder" in " ".join(long.split())


def test_every_experiment_has_a_note_of_its_own():
    notes = [entry["notes"] for entry in STORED["experiments"]]
    assert all(notes)
    assert not any("partial(" in note for note in notes)


def test_an_experiment_that_the_index_lacks_is_computed(tmp_path, monkeypatch):
    folder = tmp_path / "experiments"
    folder.mkdir()
    known = [entry for entry in STORED["experiments"] if entry["name"] != "unet_isbi2012"]
    (folder / "index.json").write_text(json.dumps({"sources": "", "experiments": known}))
    monkeypatch.setattr(experiment, "names", lambda: tuple(ENTRIES))
    found = {entry["name"]: entry for entry in index.load(folder)}
    assert as_json(found["unet_isbi2012"]) == ENTRIES["unet_isbi2012"]


def test_list_imports_neither_jax_nor_numpy():
    code = (
        "import sys; from seg_jax.__main__ import main; main(['list']); "
        "assert not {'jax', 'flax', 'numpy', 'seg_jax.experiment'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "fcn8s_vgg16_voc" in done.stdout
