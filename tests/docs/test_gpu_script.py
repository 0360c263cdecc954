"""scripts/gpu.sh: its stages, what they name, and what becomes of those that fail or last."""

import importlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from pages import ROOT

from seg_jax import experiment


@pytest.fixture(scope="module")
def scripts():
    """Import a module of scripts/gpu by its name."""
    folder = str(ROOT / "scripts" / "gpu")
    sys.path.insert(0, folder)
    yield importlib.import_module
    sys.path.remove(folder)


def test_help_names_what_there_is(scripts):
    stages = scripts("stages")
    head = (ROOT / "scripts" / "gpu.sh").read_text()
    for run, names in stages.RUNS.items():
        minutes, listed = re.search(rf"gpu\.sh {run} +(\d+) minutes: (.*)", head).groups()
        assert listed.split(", ") == list(names)
        seconds = sum(stages.STAGES[name].seconds for name in names)
        assert seconds == 60 * int(minutes)
    values = dict.fromkeys(("python", "data", "work", "scratch", "pack", "limit"), "x")
    for name, stage in stages.STAGES.items():
        assert f"\n{name} " in f"\n{stages.listing()}"
        words = [scripts("run")._fill(word, values) for word in (*stage.command, *stage.tiny)]
        assert "{" not in "".join(words)
        assert all((ROOT / word).is_file() for word in words if word.startswith("scripts/"))


def test_experiments_that_it_names_exist(scripts):
    smoke, controlled = scripts("smoke"), scripts("controlled")
    names = {*smoke.NETWORKS, *scripts("together").NETWORKS, *scripts("costs").NETWORKS}
    assert names <= {*experiment.names()}
    assert scripts("deterministic").NAME in experiment.suite("quick") + experiment.names()
    heads = {controlled.NAME.format(head) for head in controlled.HEADS}
    assert heads == {*experiment.suite("controlled")}
    families = {experiment.get(name).family for name in experiment.suite("published")}
    assert families <= {experiment.get(name).family for name in smoke.NETWORKS}
    known = json.loads(smoke.REFERENCE.read_text())
    assert known.keys() <= {*smoke.NETWORKS}


def test_a_stage_that_fails_or_takes_too_long_ends_nothing_else(scripts, tmp_path, monkeypatch):
    stages, run = scripts("stages"), scripts("run")
    late = "trap 'echo saved > {work}/summary.md; exit 75' TERM; echo begun; sleep 60 & wait"
    good = "cd {work} && mkdir -p checkpoints && touch a.json b.npy checkpoints/c.json"
    fake = {
        "good": stages.Stage(30, "", ("bash", "-c", good)),
        "bad": stages.Stage(30, "", ("bash", "-c", "echo went wrong; exit 3")),
        "late": stages.Stage(3, "", ("bash", "-c", late)),
        "last": stages.Stage(30, "", ("bash", "-c", 'echo "$0 $JAX_PLATFORMS"')),
    }
    monkeypatch.setattr(stages, "STAGES", fake)
    monkeypatch.setattr(run, "GRACE", 2)
    runner = run.Runner(tmp_path / "out", tmp_path / "work", tmp_path / "scratch", tiny=False)
    runner.run(list(fake))
    states = {
        one["stage"]: one for one in json.loads((runner.out / "summary.json").read_text())["stages"]
    }
    assert [one["state"] for one in states.values()] == [
        "ok", "failed, code 3", "cut off at its limit", "ok",
    ]  # fmt: skip
    assert states["late"]["found"] == "saved\n" and states["late"]["seconds"] < 3
    assert "went wrong" in (runner.out / "summary.txt").read_text()
    assert "begun" in (runner.out / "log.txt").read_text()
    with tarfile.open(runner.out / "results.tar.gz") as archive:
        names = archive.getnames()
    assert [name for name in names if name.startswith("good/")] == ["good/a.json"]


def test_spare_time_goes_to_the_stage_that_takes_it(scripts, tmp_path, monkeypatch):
    stages, run = scripts("stages"), scripts("run")
    fake = {
        "first": stages.Stage(30, "", ("true",)),
        "second": stages.Stage(40, "", ("true",), takes_spare=True),
        "third": stages.Stage(50, "", ("true",)),
    }
    monkeypatch.setattr(stages, "STAGES", fake)
    runner = run.Runner(tmp_path / "out", tmp_path / "work", tmp_path / "scratch", tiny=False)
    runner.run(list(fake))
    assert [outcome.limit for outcome in runner.outcomes] == [30, 70, 50]


JOB = """
import sys, time
sys.path.insert(0, {folder!r})
import turns
from pathlib import Path
time.sleep(float(sys.argv[1]))
folder = Path(sys.argv[3])
with turns.alone(folder):
    start = time.monotonic()
    time.sleep(0.3)
    (folder.parent / f"{{sys.argv[1]}}.txt").write_text(f"{{start}} {{time.monotonic()}}")
"""


def test_they_compile_together_and_measure_in_turn(scripts, tmp_path):
    turns = scripts("turns")
    code = JOB.format(folder=str(Path(turns.__file__).parent))
    seen = {}

    def measure(*seconds, compile_seconds):
        words = {name: ["-c", code, name] for name in seconds}
        return turns.measure(words, tmp_path, compile_seconds=compile_seconds, report=seen.update)

    assert measure("0", "0.4", compile_seconds=600) == {"0": 0, "0.4": 0}
    assert measure("60", compile_seconds=0)["60"] < 0
    assert seen["0"] == "done" and "not compiled" in seen["60"]
    spans = sorted(
        tuple(map(float, (tmp_path / f"{name}.txt").read_text().split())) for name in ("0", "0.4")
    )
    assert spans[0][1] <= spans[1][0], "one measured while the other did"


def test_only_what_is_missing_is_installed_and_wheels_keep_their_content(scripts, tmp_path):
    environment, pack = scripts("environment"), scripts("pack")
    assert {"jax", "grain", "tyro"} <= environment.wanted().keys()
    assert not environment.needs(Path("numpy-1.0-py3-none-any.whl")), "the one here will do"
    assert environment.needs(Path("no_such_package-1.0-py3-none-any.whl"))
    wheel = tmp_path / "a-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.py", "x = 1\n" * 1000)
    stored = pack.stored(wheel)
    with zipfile.ZipFile(io.BytesIO(stored)) as archive:
        assert archive.read("a.py") == b"x = 1\n" * 1000
    assert wheel.stat().st_size < 1000 < len(stored)


@pytest.mark.slow
def test_the_smokes_reference_is_what_a_cpu_computes(scripts, tmp_path):
    smoke = scripts("smoke")
    name = "segnet_basic_camvid"
    words = [smoke.__file__, "--work", tmp_path, "--one", name, "--precision", "float32"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *words], check=True, env=environment)
    found = json.loads((tmp_path / f"{name}.json").read_text())
    apart = smoke.differences(found, json.loads(smoke.REFERENCE.read_text())[name])
    assert found["finite"] and max(apart.values()) < 1e-3
    wrong = smoke.differences({**found, "loss": 1.1 * found["loss"]}, found)
    assert wrong["loss"] > smoke.LIMITS["loss"] and wrong["grad_norm"] == 0
