"""Every way of being stopped saves and says what is kept; nothing hangs, a full disk neither."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny

from seg_jax.runs import checkpoint, log
from seg_jax.train import termination

HERE = Path(__file__).parent
pytestmark = pytest.mark.slow


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

    def start(workdir, *, steps=24, pause=0.05, **extra):
        command = [sys.executable, HERE / "fit_worker.py", root, workdir, steps, pause]
        return subprocess.Popen(
            list(map(str, command)), env=environment | extra,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return start


def finish(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def wait_for(process, condition):
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def reached(run, step):
    return lambda: any(line["step"] >= step for line in log.read(run))


@pytest.mark.parametrize("number", termination.SIGNALS)
def test_every_signal_saves_in_one_line_with_exit_code_75(start, tmp_path, number):
    process = start(tmp_path / "run")
    wait_for(process, reached(tmp_path / "run", 4))
    process.send_signal(number)
    code, _, err = finish(process)
    step = checkpoint.newest(tmp_path / "run")
    assert code == 75, err
    last = err.strip().splitlines()[-1]
    assert f"{number.name}, saved at step {step}; `fit again` goes on from there" in last
    assert step >= 4 and "Traceback" not in err


def test_a_signal_while_the_first_step_is_compiled_says_that_nothing_is_saved(start, tmp_path):
    process = start(tmp_path / "run", JAX_COMPILATION_CACHE_DIR=str(tmp_path / "xla"))
    while "steps" not in process.stdout.readline():
        assert process.poll() is None
    began = time.monotonic()
    process.terminate()
    code, _, err = finish(process)
    assert code == 128 + signal.SIGTERM, err
    assert "SIGTERM before anything was saved; `fit again` begins anew" in err
    assert time.monotonic() - began < 30
    assert checkpoint.newest(tmp_path / "run") is None


def test_a_second_signal_while_saving_changes_nothing_and_a_third_ends_at_once(start, tmp_path):
    process = start(tmp_path / "run", FAULT="saving@3")
    wait_for(process, reached(tmp_path / "run", 3))
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 128 + signal.SIGINT
    process.stdout.close(), process.stderr.close()
    assert checkpoint.newest(tmp_path / "run") == 1


def test_a_disk_that_does_not_answer_is_given_up_after_the_stated_time(start, tmp_path):
    process = start(tmp_path / "run", FAULT="saving@3")
    wait_for(process, reached(tmp_path / "run", 3))
    process.terminate()
    code, _, err = finish(process)
    assert code == 75 and "saved at step 1; `fit again` goes on" in err, err


def test_a_run_that_is_blocked_inside_a_library_ends_within_the_stated_time(start, tmp_path):
    process = start(tmp_path / "run", FAULT="block@5", GRACE="1")
    while "in a library" not in process.stdout.readline():
        assert process.poll() is None
    time.sleep(0.5)  # from the worker's last line to the lock
    process.terminate()
    code, _, err = finish(process)
    assert code == 75 and "saved at step 3" in err and "it did not answer" in err, err


def test_a_full_disk_neither_hangs_a_run_nor_fills_the_terminal(start, tmp_path):
    process = start(tmp_path / "run", steps=40, pause=0, FAULT="full@5")
    code, _, err = finish(process)
    lines = [line for line in err.splitlines() if line.strip()]
    assert code == 2 and len(lines) < 40, err
    assert "Traceback" not in err
    assert "00000040 could not be written" in lines[-1] and "make room" in lines[-1]
    assert checkpoint.newest(tmp_path / "run") == 3


def test_a_full_disk_does_not_keep_a_signal_from_ending_the_run(start, tmp_path):
    process = start(tmp_path / "run", steps=4000, FAULT="full@5")
    wait_for(process, reached(tmp_path / "run", 4))
    time.sleep(3)
    process.terminate()
    code, _, err = finish(process)
    assert code == 2 and "could not be written" in err, err
    assert checkpoint.newest(tmp_path / "run") == 3


def test_a_terminal_that_is_gone_does_not_end_a_run(start, tmp_path):
    process = start(tmp_path / "run")
    wait_for(process, reached(tmp_path / "run", 2))
    process.stdout.close(), process.stderr.close()  # nobody reads: a broken pipe
    assert process.wait(300) == 0
    assert checkpoint.newest(tmp_path / "run") == 24
