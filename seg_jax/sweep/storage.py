"""Where the trials of a sweep are kept: a file on one machine, or a database for many."""

import contextlib
import functools
import importlib
import importlib.util
import logging
import os
import re
import socket
import time
import urllib.parse
import warnings
from pathlib import Path
from typing import Any

from seg_jax import files
from seg_jax.checks import UserError

_log = logging.getLogger(__name__)

JOURNAL = "journal.log"  # of sweeps that began before there was a database
DATABASE = "sweep.db"
# A worker on another machine that has been silent for this long is taken for dead.
HEARTBEAT_SECONDS, GRACE_SECONDS = 15, 90
_OUTAGE_SECONDS = 600  # for which a database may be away once a sweep is at work
_MOST_BYTES = 64 * 2**20  # of a journal; a trial takes one or two kilobytes
_DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql"}
_NETWORK = {
    "nfs", "nfs4", "cifs", "smb3", "9p", "lustre", "gpfs", "beegfs", "ceph", "fuse.sshfs",
    "fuse.gcsfuse", "fuse.s3fs", "glusterfs", "fuse.glusterfs", "afs", "virtiofs",
}  # fmt: skip
_MOUNTS = Path("/proc/self/mounts")


def default(workdir: Path) -> str:
    """Return the storage of a folder: its journal, where an older sweep left one, else SQLite."""
    if os.path.lexists(workdir / JOURNAL):
        return str(workdir / JOURNAL)
    return f"sqlite:///{(workdir / DATABASE).absolute()}"


def is_journal(url: str) -> bool:
    """Whether a storage is Optuna's journal file: one process at a time, no heartbeats."""
    return "://" not in url


def without_password(text: str) -> str:
    """Return a text with the passwords of the URLs in it replaced: records keep commands."""
    return re.sub(r"(\w://[^\s:/@]+):[^\s@/]+@", r"\1:***@", text)


def reason(error: object) -> str:
    """Return the first line of what a driver raised, without passwords."""
    lines = without_password(str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def network_warning(url: str) -> str:
    """Say what may go wrong if a file storage lies on a network file system; empty: nothing."""
    if not (is_journal(url) or url.startswith("sqlite")):
        return ""
    path = Path(url.removeprefix("sqlite:///"))
    kind = _filesystem(path)
    if kind not in _NETWORK:
        return ""
    return (
        f"{path} is on a network file system ({kind}), whose locks may fail when several processes "
        "write: give --storage postgresql://USER@HOST/DATABASE"
    )


def _filesystem(path: Path) -> str:
    """Return the type of the file system that holds a path; empty where that is not known."""
    try:
        lines = _MOUNTS.read_text().splitlines()
    except OSError:
        return ""
    mounts = [line.split() for line in lines]
    points = {fields[1].replace("\\040", " "): fields[2] for fields in mounts if len(fields) > 2}
    parents = [str(parent) for parent in (path.absolute(), *path.absolute().parents)]
    return next((points[parent] for parent in parents if parent in points), "")


def connect(url: str, retry: Any) -> Any:
    """Open a storage.

    Args:
      url: a journal's path, or sqlite:///, postgresql://, mysql:// or grpc://HOST:PORT.
      retry: called with study and trial once a trial's worker is taken for dead.

    Raises:
      UserError: it cannot be reached, or a library is missing.
    """
    shown = without_password(url)
    try:
        if is_journal(url):
            return _journal(Path(url))
        if url.startswith("grpc://"):
            return _grpc(url)
        return _database(url, retry)
    except ImportError as error:
        raise UserError(
            f"--storage {shown}: {error}; `pip install seg_jax[sweep-db]` installs what it needs"
        ) from error
    except UserError:
        raise
    except Exception as error:  # whatever a driver raises
        raise UserError(f"--storage {shown} cannot be used: {reason(error):.300}") from error


def _journal(path: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    _drop_torn_line(path)
    return JournalStorage(JournalFileBackend(str(path)))


def _grpc(url: str) -> Any:
    from optuna.storages import GrpcStorageProxy

    parsed = urllib.parse.urlsplit(url)
    if not parsed.hostname or not parsed.port:
        raise UserError(f"--storage {url}: write grpc://HOST:PORT")
    proxy = GrpcStorageProxy(host=parsed.hostname, port=parsed.port)
    proxy.wait_server_ready(timeout=10)
    return proxy


def unreachable(url: str) -> tuple[type[Exception], ...]:
    """Return what a connected storage raises that does not answer."""
    from optuna.exceptions import StorageInternalError

    if not url.startswith("grpc://"):
        return (StorageInternalError,)
    return (StorageInternalError, importlib.import_module("grpc").RpcError)


def wait(connected: Any) -> None:
    """Wait until a proxy is back; databases are waited for when they are connected to."""
    if (wait_until_ready := getattr(connected, "wait_server_ready", None)) is not None:
        with contextlib.suppress(ConnectionError):
            wait_until_ready(timeout=_OUTAGE_SECONDS)


def _database(url: str, retry: Any) -> Any:
    from optuna.storages import RDBStorage

    kind, _, rest = url.partition("://")
    if kind in _DRIVERS:
        if importlib.util.find_spec(_DRIVERS[kind]) is None:
            raise ImportError(f"the library {_DRIVERS[kind]} is not installed")
        url = f"{kind}+{_DRIVERS[kind]}://{rest}"
    sqlite = kind == "sqlite"
    arguments = {"timeout": 60} if sqlite else {"connect_timeout": 10}
    database = RDBStorage(
        url,
        engine_kwargs={"connect_args": arguments, "pool_pre_ping": not sqlite},
        heartbeat_interval=HEARTBEAT_SECONDS,
        grace_period=GRACE_SECONDS,
        heartbeat_stale_trial_callback=retry,
    )
    if not sqlite:
        _wait_for_restarts(database.engine)
    return database


def _wait_for_restarts(engine: Any) -> None:
    """Let a new connection wait for a database that does not answer: trials and heartbeats of all
    threads go on once it is back.
    """
    from sqlalchemy import event

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, _record: Any, arguments: Any, named: Any) -> Any:
        deadline, told = time.monotonic() + _OUTAGE_SECONDS, False
        while True:
            try:
                return dialect.connect(*arguments, **named)
            except dialect.loaded_dbapi.OperationalError as error:
                if time.monotonic() > deadline:
                    raise
                if not told:
                    _log.warning(
                        "the sweep's storage does not answer (%.200s): waiting for up to %d "
                        "minutes", reason(error), _OUTAGE_SECONDS // 60,
                    )  # fmt: skip
                told = True
                time.sleep(1)


@functools.cache
def _here() -> str:
    """Return what names this machine and its process numbers."""
    try:
        space = os.readlink("/proc/self/ns/pid")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        space = boot = ""
    return f"{socket.gethostname()} {boot} {space}"


def _started(process: int) -> str:
    """Return when a process of this machine started, in clock ticks; empty: it is not there."""
    try:
        content = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return ""
    fields = content.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]


def worker() -> dict[str, str]:
    """Return what tells this process from all others."""
    return {"machine": _here(), "process": str(os.getpid()), "started": _started(os.getpid())}


def is_gone(other: Any) -> bool:
    """Whether a worker was on this machine and is there no more."""
    if not isinstance(other, dict) or other.get("machine") != _here():
        return False
    process = other.get("process")
    if not isinstance(process, str) or not process.isdecimal() or len(process) > 10:
        return False
    return _started(int(process)) != other.get("started")


def _drop_torn_line(journal: Path) -> None:
    """Cut off a last line without an end, which a crash of the machine may leave: Optuna would
    append to it, and never again read the file.
    """
    if not os.path.lexists(journal):
        return
    content = files.read_bytes(journal, most=_MOST_BYTES)
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(journal, whole)


def quiet() -> contextlib.ExitStack:
    """Return a context without Optuna's remarks on experimental features and repeated reports."""
    stack = contextlib.ExitStack()
    stack.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
    return stack
