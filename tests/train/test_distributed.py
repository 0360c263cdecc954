"""Two processes joined on localhost (gloo) compute what one process computes."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import distributed_worker
import fit_worker
import jax
import numpy as np
import pytest
import tiny

from seg_jax.runs import checkpoint, log
from seg_jax.train import loop

HERE = Path(__file__).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def start(
    script: str, *arguments: object, count: int = 2, devices: int = 2, **extra: str
) -> list[subprocess.Popen]:
    """Start joined processes of a few CPU devices each."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "SEG_JAX_COORDINATOR": f"localhost:{free_port()}",
        "SEG_JAX_PROCESSES": str(count),
        "PYTHONPATH": f"{HERE.parent}:{HERE.parents[1]}",
        **extra,
    }
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    return [
        subprocess.Popen(
            command, env=environment | {"SEG_JAX_PROCESS": str(index)},
            stderr=subprocess.PIPE, text=True,
        )
        for index in range(count)
    ]  # fmt: skip


def finish(processes: list[subprocess.Popen]) -> tuple[list[int], list[str]]:
    try:
        errors = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], errors


def test_two_processes_give_the_result_of_one(tmp_path):
    codes, errors = finish(start("distributed_worker.py", tmp_path))
    assert codes == [0, 0], errors
    state, per_device = tiny.setup(tiny.Tiny())
    state, metrics = tiny.run(state, per_device, distributed_worker.batches(), devices=4)
    for index in range(2):
        found = np.load(tmp_path / f"{index}.npz")
        for path, leaf in jax.tree.leaves_with_path((state.params, state.batch_stats)):
            np.testing.assert_allclose(found[jax.tree_util.keystr(path)], leaf, atol=1e-6, rtol=0)
        np.testing.assert_allclose(found["losses"], [m["loss"] for m in metrics], rtol=1e-5)
        # They connected as they joined: Gloo waits for 30 s only, compilations may differ by more.
        assert len(found["connected"]) > 0
        np.testing.assert_array_equal(found["connected_later"], found["connected"])


@pytest.mark.slow
def test_a_run_of_two_processes_is_terminated_and_goes_on_in_one(tmp_path):
    root = tiny.write_pictures(tmp_path / "voc")
    run, cache = tmp_path / "run", {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "xla")}
    processes = start("fit_worker.py", root, run, 8, 0.5, **cache)
    while not any(line["step"] >= 1 for line in log.read(run)):
        assert all(process.poll() is None for process in processes), finish(processes)
        time.sleep(0.01)
    processes[1].terminate()  # a cluster warns all processes, but perhaps not at once
    codes, errors = finish(processes)
    assert codes == [75, 75], errors
    saved = checkpoint.newest(run)
    assert 0 < saved < 8 and f"SIGTERM, saved at step {saved}; `fit again` goes on" in errors[0]

    experiment = fit_worker.make_experiment(root, steps=8)
    assert loop.fit(experiment, run).trained == 8 - saved
    loop.fit(experiment, tmp_path / "whole")
    (_, ours, _), (_, whole, _) = map(checkpoint.restore_variables, (run, tmp_path / "whole"))
    assert tiny.largest_difference(ours, whole) < 1e-6


# What the process with the fault says, and with which exit code all end.
FAULTS = {
    "error@5": (2, "error: p3.jpg: cannot be decoded"),
    "crash@5": (1, "TypeError: a bug"),
    "data@5": (2, "error: p3.png: label value 77"),
    "SIGINT@5": (75, "SIGINT, saved at step"),
    "SIGKILL@5": (1, ""),
    "full@5": (2, "could not be written: "),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("count", "victim"), [(2, 0), (2, 1), (4, 0), (4, 2)])
def test_a_fault_in_one_process_ends_all_within_seconds_with_its_reason(
    tmp_path, shared_cache, count, victim, fault
):
    if fault == "full@5" and victim:
        pytest.skip("only the first process writes")
    root = tiny.write_pictures(tmp_path / "voc")
    run, environment = tmp_path / "run", {"FAULT": fault, "FAULT_PROCESS": str(victim)}
    processes = start(
        "fit_worker.py", root, run, 40, 0.1,
        count=count, devices=4 // count, **environment, **shared_cache,
    )  # fmt: skip
    fell = time.monotonic()
    while processes[victim].poll() is None and time.monotonic() < fell + 240:
        if not any(line["step"] >= 5 for line in log.read(run)):
            fell = time.monotonic()
        time.sleep(0.05)
    codes, errors = finish(processes)
    seconds = time.monotonic() - fell
    shown = "\n".join(f"--- {index}: {codes[index]}\n{text}" for index, text in enumerate(errors))
    code, reason = FAULTS[fault]
    killed = fault.startswith("SIGKILL")
    assert codes[victim] == (-signal.SIGKILL if killed else code), shown
    for index in range(count):
        said = [line for line in errors[index].splitlines() if not line.startswith("\r")]
        if index == victim:
            assert killed or reason in errors[index], shown
            continue
        assert codes[index] == code, shown
        assert "Traceback" not in errors[index] and "@ 0x" not in errors[index], shown
        assert len(said) < 12, shown
        ended = "another process is gone" if killed else reason
        assert ended in errors[index], shown
        if code != 75:
            assert f"process {index}: " in errors[index], shown
    assert seconds < 30, (seconds, shown)
    assert checkpoint.newest(run) >= 3


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory):
    return {"JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("xla"))}
