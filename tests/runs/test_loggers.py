"""What a run tells its loggers, W&B and MLflow among them; none of them ends it."""

import json
import sys

import numpy as np
import pytest

from seg_jax.checks import UserError
from seg_jax.runs import log, loggers, trackers

IMAGE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


class Recorder:
    """A logger that keeps what it is told; `fails`: the method that raises."""

    def __init__(self, fails=""):
        self.told, self.fails = [], fails

    def _tell(self, what, *values):
        self.told.append((what, *values))
        if what == self.fails:
            raise ValueError(f"no\n{what}\x1b[2J")

    def open(self, run, step, fields):
        self._tell("open", run.name, step, dict(fields))
        return self

    def scalars(self, step, values):
        self._tell("scalars", step, dict(values))

    def images(self, step, images):
        self._tell("images", step, dict(images))

    def close(self):
        self._tell("close")


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(loggers._LOGGERS, "_entries", dict(loggers._LOGGERS._entries))


def session(run, step, names, fields=None, steps=(1, 2)):
    run.mkdir(exist_ok=True)
    run_log = log.RunLog(run, step, active=True, names=names, fields=fields)
    for number in steps:
        run_log.write("train", number, {"loss": number / 8})
    found = {"mean_iou": 0.5, "per_class_iou": {"road (wet)": None, "sky": 0.25}}
    run_log.write("evaluate", steps[-1], found)
    run_log.images(steps[-1], {"evaluate/confusion": IMAGE})
    run_log.event(steps[-1], "a message is no number")
    run_log.close()


def test_a_logger_is_told_all_numbers_and_images(tmp_path, registry):
    recorder, idle = Recorder(), Recorder()
    loggers.register("recorder")(recorder.open)
    session(tmp_path / "run", 0, ("recorder", "recorder"), {"train.steps": 3})
    opened, one, two, evaluated, (what, step, images), closed = recorder.told
    assert opened == ("open", "run", 0, {"train.steps": 3}) and closed == ("close",)
    assert one == ("scalars", 1, {"train/loss": 1 / 8})
    assert two == ("scalars", 2, {"train/loss": 2 / 8})
    assert evaluated[1] == 2 and evaluated[2] == pytest.approx(
        {"evaluate/mean_iou": 0.5, "evaluate/per_class_iou/road (wet)": np.nan,
         "evaluate/per_class_iou/sky": 0.25}, nan_ok=True)  # fmt: skip
    assert (what, step) == ("images", 2)
    np.testing.assert_array_equal(images["evaluate/confusion"], IMAGE)
    assert not (tmp_path / "run/tensorboard").exists()  # was not named
    loggers.register("idle")(idle.open)
    log.RunLog(tmp_path / "run", 2, active=False, names=("idle",)).write("train", 3, {"loss": 1.0})
    assert not idle.told  # of another process


@pytest.mark.parametrize("method", ["open", "scalars", "images", "close"])
def test_one_that_raises_is_dropped_and_said_once(tmp_path, registry, caplog, method):
    bad, good = Recorder(method), Recorder()
    loggers.register("bad")(bad.open)
    loggers.register("good")(good.open)
    session(tmp_path, 0, ("bad", "good"))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    message = caplog.records[0].getMessage()
    assert message.startswith(f"logger bad failed and is dropped (ValueError: no {method}\\x1b[2J)")
    said = [line["message"] for line in log.read(tmp_path) if line["kind"] == "event"]
    assert message in said and len(said) == 2
    assert [call[0] for call in bad.told][-1] == method and len(good.told) == 6
    assert [line["step"] for line in log.read(tmp_path) if line["kind"] == "train"] == [1, 2]


def test_unknown_and_absent_ones_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="logger: unknown name 'wanbd'; did you mean wandb"):
        loggers.check(["tensorboard", "wanbd"])
    # A folder `wandb`, as W&B leaves it where it runs, is no library.
    for name in ("wandb", "mlflow"):
        (tmp_path / name).mkdir()
        monkeypatch.delitem(sys.modules, name, raising=False)
    kept = [path for path in sys.path if not path.endswith("-packages")]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *kept])
    for name in ("wandb", "mlflow"):
        with pytest.raises(UserError, match=rf'{name}, which is not .*"seg_jax\[tracking\]"$'):
            loggers.check([name])


@pytest.mark.parametrize("content", ["[]", '{"wandb": 3}', '{"wandb": "../../x"}', "{", "3"])
def test_a_file_that_holds_no_ids_is_refused(tmp_path, content):
    assert trackers.stored_ids(tmp_path) == {}
    (tmp_path / "loggers.json").write_text(content)
    with pytest.raises(UserError, match=r"loggers\.json"):
        trackers.stored_ids(tmp_path)


def test_wandb_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = tmp_path / "run"
    session(run, 0, ("wandb",), {"train.steps": 3})
    first = trackers.stored_ids(run)["wandb"]
    session(run, 2, ("wandb",), {"train.steps": 4}, steps=(3,))  # goes on
    assert trackers.stored_ids(run) == {"wandb": first}
    files = sorted((run / "wandb").glob(f"offline-run-*/run-{first}.wandb"))
    begun, gone_on = (path.read_bytes() for path in files)
    for part in (b"train/loss", b"evaluate/per_class_iou/road (wet)", b"0.125", b"train.steps"):
        assert part in begun, part
    assert b"0.375" in gone_on
    assert len(list((run / "wandb").glob("offline-run-*/files/media/images/**/*.png"))) == 2
    session(run, 0, ("wandb",))  # begins anew
    assert trackers.stored_ids(run)["wandb"] != first


@pytest.mark.filterwarnings("ignore")  # of SQLAlchemy about what MLflow calls
def test_mlflow_in_a_local_store(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    from mlflow.tracking import MlflowClient

    run = tmp_path / "run"
    session(run, 0, ("mlflow",), {"train.steps": 3})
    first = trackers.stored_ids(run)["mlflow"]
    session(run, 2, ("mlflow",), {"train.steps": 4}, steps=(3,))
    assert trackers.stored_ids(run) == {"mlflow": first}
    client = MlflowClient()
    found = client.get_run(first)
    assert found.info.run_name == "run" and found.info.status == "FINISHED"
    assert found.data.params == {"train.steps": "3"}
    history = client.get_metric_history(first, "train/loss")
    assert [(each.step, each.value) for each in history] == [(1, 1 / 8), (2, 2 / 8), (3, 3 / 8)]
    assert np.isnan(found.data.metrics["evaluate/per_class_iou/road _wet_"])
    pictures = [item.path for item in client.list_artifacts(first, "images")]
    assert sum(path.endswith(".png") for path in pictures) == 2
    lines = [line for line in log.read(run) if "dropped" in json.dumps(line)]
    assert not lines
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
    session(run, 3, ("mlflow",), steps=(4,))  # the other store does not have it
    assert trackers.stored_ids(run)["mlflow"] != first
