"""The file of outcomes and its page."""

import json
from pathlib import Path

import pytest

from seg_jax import checks, experiment
from seg_jax.cli import compile as verb
from seg_jax.targets import page, programs, survey, table, topology

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "experiments" / "targets.json"
WANTED = [("net", "v5e-8", "train"), ("net", "h100x8", "train"), ("crf", "v5e-8", "kernel")]


def made(found):
    name, target, mode = found
    return {"experiment": name, "target": target, "mode": mode, "status": "compiled"}


def test_goes_on_where_it_stopped(tmp_path):
    path, calls = tmp_path / "targets.json", []

    def compile_one(found):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(found)
        return made(found)

    with pytest.raises(KeyboardInterrupt):
        survey.run(WANTED, path, compile_one=compile_one, say=calls.count)
    assert set(survey.load(path)) == set(WANTED[:2])
    again = []
    added = survey.run(
        WANTED, path, compile_one=lambda found: again.append(found) or made(found), say=again.count
    )
    assert added == 1 and again == WANTED[2:] and len(survey.load(path)) == 3


def test_no_further_one_after_the_time(tmp_path):
    path = tmp_path / "targets.json"
    assert survey.run(WANTED, path, compile_one=made, say=WANTED.count, seconds=-1) == 0


def test_a_compiler_that_aborts_is_an_outcome(monkeypatch):
    monkeypatch.setattr(survey.sys, "executable", "/bin/false")
    entry = survey.in_a_process(WANTED[0])
    assert survey.key(entry) == WANTED[0]
    assert entry["status"] == "error" and "ended with code 1" in entry["error"]


def test_the_page_is_that_of_the_file():
    entries = survey.load(COMMITTED)
    text = page.markdown(entries, experiment.names())
    assert (ROOT / "docs" / "targets.md").read_text() == text, "python -m seg_jax.targets.page"
    assert "Nothing on this page has run" in text
    overview = text.partition("## Every experiment, every target")[2]
    for name in experiment.names():
        assert f"| {name} train |" in overview


def test_committed_outcomes_are_of_what_there_is():
    known = {*experiment.names(), *programs.KERNELS}
    for entry in json.loads(COMMITTED.read_text()):
        assert entry["experiment"] in known and entry["target"] in table.TARGETS
        assert entry["status"] in ("compiled", "does not fit", "error")
        if entry["status"] == "compiled":
            assert entry["fits"] and 0 < entry["peak_bytes"] <= entry["memory_bytes"]
            assert entry["arguments_bytes"] + entry["temporaries_bytes"] <= entry["peak_bytes"]


def test_what_is_compiled_is_checked_first():
    with pytest.raises(checks.UserError, match="--for is missing: python -m seg_jax compile NAME"):
        verb.compile_programs(["unet_synthetic"])
    with pytest.raises(checks.UserError, match="did you mean unet_synthetic"):
        verb.compile_programs(["unet_synthetics", "--for", "v5e-8"])
    with pytest.raises(checks.UserError, match="did you mean v5e-8"):
        verb.compile_programs(["unet_synthetic", "--for", "v5e8"])


def test_every_target_is_listed(capsys):
    assert verb.compile_programs(["--for", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(table.TARGETS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, mode",
    [
        ("unet_synthetic", "train"),
        ("fcn32s_resnet14_synthetic", "train"),
        ("crf/lattice", "kernel"),
    ],
)
def test_compiles_for_tpu(name, mode):
    if not topology.available("tpu"):
        pytest.skip("libtpu is not installed: bash scripts/targets.sh --install")
    entry = survey.in_a_process((name, "v5e-8", mode), ["--cycles"])
    assert entry["status"] == "compiled", entry
    assert entry["estimated_cycles"] > 0
    if mode == "train":
        assert entry["collectives"]["all-reduce"]["count"] > 0
