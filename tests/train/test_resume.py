"""`kill -9` at random moments, the same command again: the same bits as if nothing had happened."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

from seg_jax.runs import checkpoint, log

HERE = Path(__file__).parent
STEPS = 24


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny.write_pictures(tmp_path_factory.mktemp("voc"))


@pytest.fixture(scope="module")
def start(root, tmp_path_factory):
    """Start `fit` in a process of its own."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("xla")),
        "PYTHONPATH": f"{HERE.parent}:{HERE.parents[1]}",
    }

    def start(workdir, *, pause=0.0, **extra):
        command = [sys.executable, HERE / "fit_worker.py", root, workdir, STEPS, pause]
        return subprocess.Popen(
            list(map(str, command)), env=environment | extra,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return start


def finish(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def wait_for_step(process, workdir, step):
    deadline = time.monotonic() + 240
    while not any(line["step"] >= step for line in log.read(workdir)):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def assert_same_run(ours, theirs):
    (_, a, step), (_, b, _) = map(checkpoint.restore_variables, (ours, theirs))
    assert step == STEPS
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)
    ours, theirs = (
        [(line["step"], line["loss"]) for line in log.read(run) if line["kind"] == "train"]
        for run in (ours, theirs)
    )
    assert ours == theirs


@pytest.fixture(scope="module")
def untouched(start, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "untouched"
    code, _, err = finish(start(run))
    assert code == 0, err
    return run


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(start, untouched, tmp_path):
    run, chance = tmp_path / "run", random.Random()
    kills = sorted(chance.sample(range(1, STEPS - 5), 4))  # perhaps before the first checkpoint
    print("killed after steps", kills)  # shown if the test fails
    for step in kills:
        process = start(run, pause=0.05)
        wait_for_step(process, run, step)
        time.sleep(chance.uniform(0, 0.1))  # anywhere: in a step, in a save, in a log line
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close(), process.stderr.close()
    code, out, err = finish(start(run))
    assert code == 0, err
    assert "resume after step" in out
    assert_same_run(run, untouched)


@pytest.mark.slow
def test_a_run_that_was_stopped_by_sigterm_ends_with_the_same_bits(start, untouched, tmp_path):
    process = start(tmp_path / "run", pause=0.05)
    wait_for_step(process, tmp_path / "run", 4)
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process)
    assert code == 75 and "`fit again` goes on" in err
    assert "Traceback" not in err
    code, out, err = finish(start(tmp_path / "run"))
    assert code == 0, err
    assert_same_run(tmp_path / "run", untouched)
