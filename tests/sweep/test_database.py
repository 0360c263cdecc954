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
import threading
import time
from pathlib import Path

import database_worker
import optuna
import pytest
from optuna.storages import RetryHeartbeatStaleTrialCallback

from seg_jax import experiment
from seg_jax.checks import UserError
from seg_jax.runs import folder as run_folder
from seg_jax.sweep import search, storage, study

ROOT = Path(__file__).parents[2]


def program(name):
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name, path=os.pathsep.join([*map(str, folders), os.environ["PATH"]]))


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class PostgreSQL:
    """A server on loopback in a temporary folder."""

    def __init__(self, place, port, options):
        self._place, self._port, self._options = place, port, options
        self.url = f"postgresql://sweeps@127.0.0.1:{port}/postgres"

    def start(self):
        addresses = ["-p", str(self._port), "-h", "127.0.0.1", "-k", self._place]
        self._server = subprocess.Popen(
            [program("postgres"), "-D", self._place / "data", *addresses],
            stderr=subprocess.DEVNULL, **self._options,
        )  # fmt: skip
        for _ in range(600):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.1)

    def stop(self):
        self._server.send_signal(signal.SIGINT)
        self._server.wait(30)


@pytest.fixture
def server():
    """A PostgreSQL that has started."""
    initdb = program("initdb")
    if not (initdb and program("postgres")):
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
    port = free_port()
    started = PostgreSQL(place, port, options)
    started.start()
    try:
        yield started
    finally:
        started.stop()
        shutil.rmtree(place, ignore_errors=True)


def start(folder, url, sampler, hold=""):
    return subprocess.Popen(
        [sys.executable, ROOT / "tests/sweep/database_worker.py", folder, url, sampler, hold],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def interrupt(folder, worker, number):
    """End a worker in the middle of its trial, in which it stays; return the run folder."""
    for _ in range(12_000):  # the imports of three workers, on a busy machine
        for step in folder.glob(f"trial-*/step{database_worker.MIDDLE}"):
            if step.read_text() == str(worker.pid):
                worker.send_signal(number)
                return step.parent
        assert worker.poll() is None, worker.stderr.read()
        time.sleep(0.02)
    raise AssertionError("the worker did no trial")


def check_interrupted_workers(folder, url, sampler, straight):
    """Three workers, one killed and one stopped: as if there had been one that nothing befell."""
    folder.mkdir()
    killed, stopped, last = (start(folder, url, sampler, hold) for hold in ("hold", "hold", ""))
    taken = [interrupt(folder, killed, signal.SIGKILL), interrupt(folder, stopped, signal.SIGTERM)]
    assert last.wait(240) == 0, last.stderr.read()
    for worker in (killed, stopped, last):
        worker.communicate()  # closes the pipe
    outcome = database_worker.sweep(folder, url, sampler)  # finished: nothing is done
    assert [(t.run, t.values, t.miou, t.state, t.error) for t in outcome.trials] == [
        (t.run, t.values, t.miou, t.state, t.error) for t in straight.trials
    ], "".join(path.read_text() for path in folder.glob("trial-*/error.txt"))
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
def test_interrupted_workers_on_postgresql(tmp_path, server, sampler):
    straight = database_worker.sweep(tmp_path / "straight", "", sampler)
    check_interrupted_workers(tmp_path / "sweep", server.url, sampler, straight)


def few_trials(folder, run_trial, *, url="", trials=3, **settings):
    return search.sweep(
        experiment.get("unet_synthetic"), database_worker.SPACE, folder, trials=trials,
        run_trial=run_trial, sampler="random", url=url, pruner="none", **settings,
    )  # fmt: skip


def states(outcome):
    return [(trial.run, trial.state, trial.error) for trial in outcome.trials]


COMPLETE = [(f"trial-000{number}", "complete", "") for number in (1, 2, 3)]


@pytest.mark.slow
def test_a_sweep_outlives_a_restart_of_its_database(tmp_path, server, caplog):
    restarts = iter([True])

    def trial(found, run, report):
        report(1, 0.5)
        if next(restarts, False):
            server.stop()
            threading.Timer(2.0, server.start).start()
        report(2, 0.5)
        return 0.5

    assert states(few_trials(tmp_path, trial, url=server.url, say=print)) == COMPLETE
    assert "storage does not answer" in caplog.text and "Connection refused" in caplog.text


@pytest.mark.slow
def test_a_sweep_outlives_a_restart_of_its_proxy(tmp_path):
    pytest.importorskip("grpc", reason="no grpcio here: pip install seg_jax[sweep-db]")
    port = free_port()
    script = (
        "import optuna; from optuna.storages import RDBStorage, run_grpc_proxy_server\n"
        f"database = RDBStorage('sqlite:///{tmp_path}/proxy.db')\n"
        f"run_grpc_proxy_server(database, host='127.0.0.1', port={port})"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path[1:])}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    proxies = []

    def start_proxy():
        proxies.append(subprocess.Popen([sys.executable, "-c", script], **quiet))

    def trial(found, run, report):
        if len(proxies) == 1:
            proxies[0].kill()
            proxies[0].wait()
            threading.Timer(2.0, start_proxy).start()
        report(1, 0.5)
        return 0.5

    start_proxy()
    try:
        outcome = few_trials(tmp_path / "sweep", trial, url=f"grpc://127.0.0.1:{port}", say=print)
    finally:
        for proxy in proxies:
            proxy.kill()
            proxy.wait()
    assert states(outcome) == COMPLETE and len(proxies) == 2


@pytest.mark.slow
def test_a_database_that_stays_away_ends_the_worker_and_loses_nothing(
    tmp_path, server, monkeypatch
):
    monkeypatch.setattr(storage, "_OUTAGE_SECONDS", 1)
    outages = iter([False, True])

    def trial(found, run, report):
        if next(outages, False):
            server.stop()
        report(1, 0.5)
        return 0.5

    with pytest.raises(study.StorageLost, match="does not answer .*the same command goes on"):
        few_trials(tmp_path, trial, url=server.url, say=print)
    server.start()
    monkeypatch.setattr(storage, "worker", lambda: {})  # as a new process of another machine
    monkeypatch.setattr(storage, "is_gone", lambda worker: True)
    assert states(few_trials(tmp_path, trial, url=server.url, say=print)) == COMPLETE


@pytest.mark.parametrize("reports", [True, False])
def test_a_worker_that_was_taken_for_dead_leaves_the_trial_to_its_successor(tmp_path, reports):
    """No trial fails for it: the worker notices when it next writes, and goes on with others."""
    ran = []

    def trial(found, run, report):
        ran.append(run.name)
        if ran == ["trial-0001"]:
            other = optuna.load_study(study_name=tmp_path.name, storage=url)
            (mine,) = other.get_trials(states=[optuna.trial.TrialState.RUNNING])
            other.tell(mine.number, state=optuna.trial.TrialState.FAIL)  # for want of heartbeats
            RetryHeartbeatStaleTrialCallback()(other, other.trials[mine.number])
        if reports:
            report(1, 0.5)
        return 0.5

    url = storage.default(tmp_path)
    assert states(few_trials(tmp_path, trial, say=print)) == COMPLETE
    assert sorted(ran) == ["trial-0001", "trial-0001", "trial-0002", "trial-0003"]
    assert not list(tmp_path.glob("*/error.txt"))


def test_a_successor_waits_for_the_worker_that_is_still_in_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(search, "_LOOK_SECONDS", 0.01)
    tries, lines = [], []

    def trial(found, run, report):
        tries.append(run.name)
        if len(tries) < 4:
            raise run_folder.InUse(f"another process is training in {run}: wait for it, or end it")
        return 0.5

    assert states(few_trials(tmp_path, trial, trials=1, say=lines.append)) == COMPLETE[:1]
    assert tries == ["trial-0001"] * 4
    assert lines[0].startswith("trial-0001 waits: another process is training")
    assert len(lines) == 2


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
