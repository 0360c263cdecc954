"""Hostile folders of sweeps, and records: nothing is written outside, every error is one line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from readers import READERS
from small_record import small_record

from seg_jax import results
from seg_jax.checks import UserError
from seg_jax.evaluation import crf_search
from seg_jax.export import convert
from seg_jax.pretrained.network import Pretrained

FORMER = Path(__file__).parents[1] / "golden" / "revision_3e7ce58"


@pytest.fixture
def journal(tmp_path):
    shutil.copytree(FORMER / "sweep", tmp_path / "folder" / "sweep")
    return tmp_path / "folder" / "sweep" / "journal.log"


def go_on(journal):
    return READERS["journal of a sweep"].read(journal.parents[1])


def add(journal, **operation):
    first = json.loads(journal.read_text().splitlines()[0])
    line = json.dumps({"worker_id": first["worker_id"], **operation})
    journal.write_text(journal.read_text() + line + "\n")


@pytest.mark.parametrize(
    "run", ["../../elsewhere", "/tmp/elsewhere", ".", "", 3, "trial-0001/..", "x"]
)
def test_a_trial_stays_in_the_folder_of_the_sweep(journal, run):
    """The attribute `run` of a queued trial was a path that the trial was written to."""
    add(journal, op_code=4, study_id=0, datetime_start="2026-11-28T00:00:00+00:00", state=4)
    add(journal, op_code=8, trial_id=2, user_attr={"run": run})
    with pytest.raises(UserError, match=r"journal\.log is no journal of this sweep \(run is"):
        go_on(journal)
    assert not (journal.parents[2] / "elsewhere").exists()


NEW_TRIAL = {"op_code": 4, "study_id": 0, "datetime_start": "2026-11-28T00:00:00+00:00"}


@pytest.mark.parametrize(
    "operation",
    [
        {"op_code": 99},
        {"op_code": "x"},
        {},
        {"op_code": 8, "trial_id": 2, "user_attr": {"ended": 3}},
        {"op_code": 8, "trial_id": 2, "user_attr": {"ended": {"state": "complete"}}},
        {"op_code": 8, "trial_id": 2, "user_attr": {"run": {}}},
        {"op_code": 9, "trial_id": 2, "system_attr": {"fixed_params": {"optim.base_lr": 1e9}}},
        {"op_code": 5, "trial_id": 2, "param_name": "a", "distribution": "[" * 100_000},
    ],
    ids=lambda operation: str(operation)[:60],
)
def test_unknown_operations_and_values_are_one_line(journal, operation):
    add(journal, **NEW_TRIAL)
    add(journal, **operation)
    with pytest.raises(UserError, match=r"journal\.log") as caught:
        go_on(journal)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_worker_killed_before_its_trial_had_a_folder_leaves_no_gap(journal):
    """It waited for ever: the trial and its retry counted as two."""
    lines = journal.read_text().splitlines(keepends=True)
    begun = next(number for number, line in enumerate(lines) if '"op_code":4' in line)
    journal.write_text("".join(lines[: begun + 1]))
    text = go_on(journal)
    assert "trial-0001  complete" in text and "trial-0002  complete" in text


def test_values_outside_the_space_are_refused(journal):
    text = journal.read_text()
    journal.write_text(
        text.replace('"param_value_internal":0.0125', '"param_value_internal":12.5', 1)
    )
    assert journal.read_text() != text
    with pytest.raises(UserError, match="optim.base_lr is 12.5.*which the space does not have"):
        go_on(journal)


@pytest.fixture
def record(tmp_path):
    results.save(small_record(), tmp_path / "result.json")
    return tmp_path / "result.json"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(device={}), "device.platform should be str, found None"),
        (lambda d: d["device"].update(kind=3), "device.kind should be str, found 3"),
        (lambda d: d["device"].pop("devices"), "device.devices should be int"),
        (
            lambda d: d["counts"]["confusion"][0].__setitem__(0, -5),
            "counts.confusion has a negative",
        ),
        (lambda d: d["counts"]["confusion"][0].__setitem__(0, 2**63 - 1), "impossibly large"),
        (lambda d: d.update(classes=["a"] * 3), "a class .* is there twice"),
        (lambda d: d.update(classes=[]), "has 0 classes"),
        (lambda d: d["metrics"].update(mean_iou=10**400), "metrics.mean_iou is 1000"),
        (lambda d: d["metrics"].update(mean_iou=True), "metrics.mean_iou is True"),
        (lambda d: d.update(config=3), "config should be an object, found 3"),
        (lambda d: d.update(versions={"jax": None}), "versions.jax should be str"),
    ],
)
def test_damaged_records_are_one_line(record, change, message):
    data = json.loads(record.read_text())
    change(data)
    record.write_text(json.dumps(data))
    with pytest.raises(UserError, match=message):
        results.load(record)


class Evil:
    def __reduce__(self):
        return (Path("ran").touch, ())


@pytest.mark.parametrize(
    "array",
    [
        np.array([Evil()], object),
        np.zeros((5, 6), np.float32),
        np.zeros((5, 6, 3), np.float64),
        np.zeros((6, 5, 3), np.float32),
    ],
    ids=["objects", "two axes", "float64", "another size"],
)
def test_a_cache_of_the_crf_search_holds_probabilities_only(tmp_path, monkeypatch, array):
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match=r"a\.npy: no probabilities of this image; delete the file"):
        crf_search._load(tmp_path / "a.npy", (5, 6))
    assert not Path("ran").exists()


def test_a_cache_whose_header_promises_more_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((5, 6, 3), np.float32))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content.replace(b"(5, 6, 3), }     ", b"(5, 6, 99999), } "))
    with pytest.raises(UserError, match="no probabilities"):
        crf_search._load(tmp_path / "a.npy", (5, 6))


@pytest.mark.parametrize("name", ["/tmp/elsewhere", "../elsewhere", ".."])
def test_an_export_is_written_where_the_user_is(tmp_path, monkeypatch, name):
    """The name of a release is a stranger's text."""
    from small_task import small_experiment, small_variables

    task = small_experiment(canvas=(8, 8))
    loaded = Pretrained(task, small_variables(task.model), name)
    monkeypatch.setattr(convert.pretrained, "load", lambda source, **_: loaded)
    with pytest.raises(
        UserError, match="the name of the network '.*' cannot be the name of a file"
    ):
        convert.export("release", format="stablehlo")
