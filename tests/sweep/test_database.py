"""Several workers on one storage: SQLite, and a real PostgreSQL where its programs are there."""

import collections
import getpass
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import database_worker
import pytest

from seg_jax.checks import UserError
from seg_jax.sweep import storage

ROOT = Path(__file__).parents[2]


def program(name):
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name, path=os.pathsep.join([*map(str, folders), os.environ["PATH"]]))


@pytest.fixture
def postgresql(tmp_path_factory):
    """A PostgreSQL on loopback in a temporary folder; yields its URL."""
    initdb, postgres = program("initdb"), program("postgres")
    if not (initdb and postgres):
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("no psycopg here: pip install seg_jax[sweep-db]")
    user = "nobody" if getpass.getuser() == "root" else None  # initdb refuses root
    place = Path(subprocess.check_output(["mktemp", "-d", "/tmp/pg.XXXXXX"], text=True).strip())
    if user:
        shutil.chown(place, user)
    options = {"user": user, "cwd": "/", "stdout": subprocess.DEVNULL}
    arguments = ["-D", place / "data", "-U", "sweeps", "--auth=trust", "--no-sync"]
    subprocess.run([initdb, *arguments], check=True, **options)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [postgres, "-D", place / "data", "-p", str(port), "-h", "127.0.0.1", "-k", place],
        stderr=subprocess.DEVNULL, **options,
    )  # fmt: skip
    try:
        for _ in range(100):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"postgresql://sweeps@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
        shutil.rmtree(place, ignore_errors=True)


def start(folder, url, sampler):
    return subprocess.Popen(
        [sys.executable, ROOT / "tests/sweep/database_worker.py", folder, url, sampler],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def is_at_work(folder, worker):
    """Whether a worker has done half of a trial that has not ended."""
    for step in folder.glob("trial-*/step4"):
        mine = step.read_text() == str(worker.pid)
        if mine and not (step.parent / "ended").exists():
            return step.parent
    return None


def interrupt(folder, worker, number):
    for _ in range(12_000):  # the imports of three workers, on a busy machine
        if run := is_at_work(folder, worker):
            worker.send_signal(number)
            return run
        assert worker.poll() is None, worker.stderr.read()
        time.sleep(0.02)
    raise AssertionError("the worker did no trial")


def check_interrupted_workers(folder, url, sampler, straight):
    """Three workers, one killed and one stopped: as if there had been one that nothing befell."""
    folder.mkdir()
    killed, stopped, last = (start(folder, url, sampler) for _ in range(3))
    taken = [interrupt(folder, killed, signal.SIGKILL), interrupt(folder, stopped, signal.SIGTERM)]
    assert last.wait(240) == 0, last.stderr.read()
    for worker in (killed, stopped, last):
        worker.communicate()  # closes the pipe
    outcome = database_worker.sweep(folder, url, sampler)  # finished: nothing is done
    assert [(t.run, t.values, t.miou, t.state) for t in outcome.trials] == [
        (t.run, t.values, t.miou, t.state) for t in straight.trials
    ]
    runs = sorted(path.parent for path in folder.glob("trial-*/ended"))
    assert len(runs) == database_worker.TRIALS
    for run in runs:
        assert len((run / "ended").read_text().split()) == 1, run  # none is done twice
    for run in taken:
        steps = collections.Counter((run / f"step{n}").read_text() for n in range(1, 11))
        assert len(steps) == 2, run  # begun by one, continued by another


@pytest.mark.slow
def test_interrupted_workers_on_sqlite(tmp_path):
    straight = database_worker.sweep(tmp_path / "straight", "", "random")
    check_interrupted_workers(tmp_path / "sweep", "", "random", straight)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["grid", "random"])
def test_interrupted_workers_on_postgresql(tmp_path, postgresql, sampler):
    straight = database_worker.sweep(tmp_path / "straight", "", sampler)
    check_interrupted_workers(tmp_path / "sweep", postgresql, sampler, straight)


def test_storage_that_cannot_be_reached_is_named_without_its_password(tmp_path):
    with pytest.raises(UserError, match="cannot be used|sweep-db") as caught:
        database_worker.sweep(tmp_path, "postgresql://me:secret@127.0.0.1:1/x")
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_on_a_network_file_system_is_warned_of(tmp_path, monkeypatch):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nserver:/x {tmp_path}/far nfs4 rw 0 0\n")
    monkeypatch.setattr(storage, "_MOUNTS", mounts)
    far, near = (storage.default(tmp_path / name) for name in ("far", "near"))
    assert "--storage postgresql://" in storage.network_warning(far)
    assert storage.network_warning(near) == ""
    assert storage.network_warning("postgresql://far") == ""
