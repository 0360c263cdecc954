"""Two processes joined on localhost (gloo) compute what one process computes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import distributed_worker
import jax
import numpy as np
import tiny

HERE = Path(__file__).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def test_two_processes_give_the_result_of_one(tmp_path):
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "SEG_JAX_COORDINATOR": f"localhost:{free_port()}",
        "SEG_JAX_PROCESSES": "2",
        "PYTHONPATH": str(HERE.parent),
    }
    command = [sys.executable, str(HERE / "distributed_worker.py"), str(tmp_path)]
    processes = [
        subprocess.Popen(
            command, env=environment | {"SEG_JAX_PROCESS": str(index)},
            stderr=subprocess.PIPE, text=True,
        )
        for index in range(2)
    ]  # fmt: skip
    try:
        errors = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors

    state, per_device = tiny.setup(tiny.Tiny())
    state, metrics = tiny.run(state, per_device, distributed_worker.batches(), devices=4)
    for index in range(2):
        found = np.load(tmp_path / f"{index}.npz")
        for path, leaf in jax.tree.leaves_with_path((state.params, state.batch_stats)):
            np.testing.assert_allclose(found[jax.tree_util.keystr(path)], leaf, atol=1e-6, rtol=0)
        np.testing.assert_allclose(found["losses"], [m["loss"] for m in metrics], rtol=1e-5)
