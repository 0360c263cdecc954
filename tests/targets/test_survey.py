"""The file of outcomes and its page."""

import json
import os
from pathlib import Path

import pytest

from seg_jax import checks, experiment, overrides
from seg_jax.cli import compile as verb
from seg_jax.targets import compiling, page, programs, survey, table, topology

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "experiments" / "targets.json"
WANTED = [("net", "v5e-8", "train"), ("net", "h100x8", "train"), ("crf", "v5e-8", "kernel")]


def made(found):
    name, target, mode = found
    return {"experiment": name, "target": target, "mode": mode, "status": "compiled"}


def test_goes_on_where_it_stopped_and_begins_with_what_takes_least(tmp_path):
    path, calls = tmp_path / "targets.json", []

    def compile_one(found, left):
        assert left is None
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(found)
        return made(found)

    with pytest.raises(KeyboardInterrupt):
        survey.run(WANTED, path, compile_one=compile_one, say=calls.count)
    # A GPU's compiler is the fastest, and half a program takes half the time.
    assert calls == [WANTED[1], WANTED[2]] and set(survey.load(path)) == set(calls)
    again = []
    added = survey.run(
        WANTED,
        path,
        compile_one=lambda found, _: again.append(found) or made(found),
        say=again.count,
    )
    assert added == 1 and again == WANTED[:1] and len(survey.load(path)) == 3


def test_known_times_decide_the_order(tmp_path):
    path, calls = tmp_path / "targets.json", []
    slow = made(("net", "v6e-8", "train")) | {"compile_seconds": 1000.0}
    fast = made(("deep_resnet101", "v5p-8", "train")) | {"compile_seconds": 1.0}
    survey.save(path, {survey.key(entry): entry for entry in (slow, fast)})
    wanted = [("net", "v5e-8", "train"), ("deep_resnet101", "v5e-8", "train")]
    survey.run(wanted, path, compile_one=lambda found, _: calls.append(found), say=calls.count)
    assert calls == wanted[::-1]


def test_what_is_cut_off_is_not_recorded(tmp_path, monkeypatch):
    """By the time, or by a signal from outside: the next run compiles it."""
    path, said = tmp_path / "targets.json", []
    assert not survey.run(WANTED, path, compile_one=lambda *_: None, say=said.append)
    assert not path.exists() and said[0].endswith("cut off, not recorded")
    over = survey.run(
        WANTED, path, compile_one=lambda found, _: made(found), say=said.append, seconds=-1
    )
    assert over == 0 and not path.exists() and "goes on" in said[-1]
    script = tmp_path / "compiler"
    monkeypatch.setattr(survey.sys, "executable", str(script))
    for line in ("exec sleep 20", "kill -TERM $$", "kill -KILL $$"):
        script.write_text(f"#!/bin/sh\n{line}\n")
        script.chmod(0o755)
        assert survey.in_a_process(WANTED[0], timeout=0.5) is None


def test_the_file_keeps_the_sums_of_an_entry(tmp_path):
    path = tmp_path / "targets.json"
    details = {"cycles_by": [{"module": "", "cycles": 7}], "without_estimate": {"copy": 1}}
    survey.add(path, made(WANTED[0]) | details | {"estimated_cycles": 7})
    assert survey.load(path) == {WANTED[0]: made(WANTED[0]) | {"estimated_cycles": 7}}


def test_two_runs_lose_nothing_of_each_other(tmp_path):
    path = tmp_path / "targets.json"

    def compile_one(found, _left):
        survey.add(path, made(("other", *found[1:])))  # in the meantime, by another process
        return made(found)

    survey.run(WANTED, path, compile_one=compile_one, say=WANTED.count)
    assert len(survey.load(path)) == 6


def test_a_compiler_that_aborts_is_an_outcome(monkeypatch):
    monkeypatch.setattr(survey.sys, "executable", "/bin/false")
    entry = survey.in_a_process(WANTED[0])
    assert survey.key(entry) == WANTED[0]
    assert entry["status"] == "error" and "ended with code 1" in entry["error"]


def test_an_experiment_is_compiled_with_its_overrides(monkeypatch):
    """By a stand-in for the compiler's process, which prints what it is given."""
    monkeypatch.setattr(
        survey,
        "_ONE",
        "import json, sys; given = json.load(sys.stdin); print(json.dumps([{'target': "
        "sys.argv[1], 'batch': given['train']['batch_size'], 'width': given['model']['width']}]))",
    )
    chosen = overrides.apply(
        experiment.get("unet_synthetic"), {"train.batch_size": 24, "model.width": 2.0}
    )
    found = survey.of_experiment(chosen, "v6e-8")
    assert found == {"target": "v6e-8", "batch": 24, "width": 2.0}
    monkeypatch.setattr(survey, "_ONE", "raise SystemExit('the compiler is not here')")
    failed = survey.of_experiment(chosen, "v6e-8")
    assert failed["status"] == "error" and "is not here" in failed["error"]


def test_the_page_is_that_of_the_file():
    entries = survey.load(COMMITTED)
    text = page.markdown(entries, experiment.names())
    assert (ROOT / "docs" / "targets.md").read_text() == text, "python -m seg_jax.targets.page"
    assert "Nothing on this page has run" in text
    overview = text.partition("## Every experiment, every target")[2].partition("## v5e-8")[0]
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


@pytest.mark.parametrize(
    ("name", "target", "wanted"),
    [("crf/exact_hopper", "a100x8", "H100 and H200"), ("crf/exact_tpu", "h100x8", "tpu")],
)
def test_a_kernel_is_not_compiled_for_a_chip_that_it_is_not_for(name, target, wanted):
    entry = compiling.kernel_entry(name, table.get(target))
    assert entry["status"] == "error" and entry["error"] == f"a kernel for {wanted} only"


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


def test_the_surveyed_targets_are_those_whose_compiler_is_here(monkeypatch):
    there = {"tpu": True, "gpu": False}
    monkeypatch.setattr(topology, "available", there.get)
    assert verb._surveyed() == ("v5e-8", "v5e-16", "v6e-8", "v5p-8", "v4-8")
    there["tpu"] = False
    with pytest.raises(checks.UserError, match=r"no compiler .* `bash scripts/targets.sh --inst"):
        verb.compile_programs(["unet_synthetic", "--for", "survey"])


def test_kernels_are_shared_while_a_survey_runs(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_a=1")
    monkeypatch.setattr(topology, "MOST_KERNELS", 3)
    with topology.shared_kernels() as trim:
        first, *_, last = os.environ["XLA_FLAGS"].split()
        kernels = Path(last.removeprefix("--xla_gpu_kernel_cache_file="))
        assert first == "--xla_a=1" and kernels.parent.is_dir()
        trim()
        kernels.write_bytes(b"123")
        trim()
        assert kernels.exists()
        kernels.write_bytes(b"1234")
        trim()
        assert not kernels.exists()
    assert os.environ["XLA_FLAGS"] == "--xla_a=1" and not kernels.parent.exists()


@pytest.mark.parametrize("name, asked", [("h100x8", True), ("a100x8", False)])
def test_estimates_are_asked_for_where_xla_has_them(name, asked, monkeypatch):
    for variable in ("XLA_FLAGS", "JAX_PLATFORMS", "JAX_SKIP_CUDA_CONSTRAINTS_CHECK"):
        monkeypatch.setenv(variable, "")
    monkeypatch.setattr(topology, "available", lambda platform: True)
    monkeypatch.setattr(topology, "_platforms", lambda names: None)
    topology.prepare(table.get(name))
    assert ("cost_model_stats" in os.environ["XLA_FLAGS"]) == asked


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
