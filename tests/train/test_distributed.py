"""Two processes joined on localhost (gloo) compute what one process computes."""

import os
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


def start_two(script: str, *arguments: object, **extra: str) -> list[subprocess.Popen]:
    """Start two joined processes of two CPU devices each."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "SEG_JAX_COORDINATOR": f"localhost:{free_port()}",
        "SEG_JAX_PROCESSES": "2",
        "PYTHONPATH": f"{HERE.parent}:{HERE.parents[1]}",
        **extra,
    }
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    return [
        subprocess.Popen(
            command, env=environment | {"SEG_JAX_PROCESS": str(index)},
            stderr=subprocess.PIPE, text=True,
        )
        for index in range(2)
    ]  # fmt: skip


def finish(processes: list[subprocess.Popen]) -> tuple[list[int], list[str]]:
    try:
        errors = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], errors


def test_two_processes_give_the_result_of_one(tmp_path):
    codes, errors = finish(start_two("distributed_worker.py", tmp_path))
    assert codes == [0, 0], errors
    state, per_device = tiny.setup(tiny.Tiny())
    state, metrics = tiny.run(state, per_device, distributed_worker.batches(), devices=4)
    for index in range(2):
        found = np.load(tmp_path / f"{index}.npz")
        for path, leaf in jax.tree.leaves_with_path((state.params, state.batch_stats)):
            np.testing.assert_allclose(found[jax.tree_util.keystr(path)], leaf, atol=1e-6, rtol=0)
        np.testing.assert_allclose(found["losses"], [m["loss"] for m in metrics], rtol=1e-5)


@pytest.mark.slow
def test_a_run_of_two_processes_is_terminated_and_goes_on_in_one(tmp_path):
    root = tiny.write_pictures(tmp_path / "voc")
    run, cache = tmp_path / "run", {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "xla")}
    processes = start_two("fit_worker.py", root, run, 8, 0.5, **cache)
    while not any(line["step"] >= 1 for line in log.read(run)):
        assert all(process.poll() is None for process in processes), finish(processes)
        time.sleep(0.01)
    processes[1].terminate()  # a cluster warns all processes, but perhaps not at once
    codes, errors = finish(processes)
    assert codes == [1, 1], errors
    saved = checkpoint.newest(run)
    assert 0 < saved < 8 and "the same command goes on" in errors[0]

    experiment = fit_worker.make_experiment(root, steps=8)
    assert loop.fit(experiment, run).trained == 8 - saved
    loop.fit(experiment, tmp_path / "whole")
    (_, ours, _), (_, whole, _) = map(checkpoint.restore_variables, (run, tmp_path / "whole"))
    assert tiny.largest_difference(ours, whole) < 1e-6
