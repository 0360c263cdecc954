"""A run folder on a bucket (gs://, s3://, ...): trained and read in a copy here, sent as it grows.

A bucket has no renames, no appending and no locks, on which a run folder rests. So the run is in a
folder of the cache; a checkpoint counts on the bucket as soon as its checksums are there, which are
sent last. fsspec reads and writes, with its package for the service (gcsfs, s3fs, adlfs).

URL/.training    written every minute by the process that trains: the lock
"""

import contextlib
import json
import logging
import os
import re
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from seg_jax import checks, files
from seg_jax.runs import folder as run_folder
from seg_jax.runs import integrity

_LEASE = ".training"
_REFRESH_SECONDS = 60.0
_PATIENCE_SECONDS = 90.0  # without a sign of life, another process is taken for dead
_CHECKPOINT = re.compile(rf"{run_folder.CHECKPOINTS}/(\d{{8,}})/(.+)")
_log = logging.getLogger(__name__)
_open: dict[Path, "Mirror"] = {}  # by the copy, of those that this process trains


def copy_of(url: str) -> Path:
    """Return the folder here that holds the copy of a run on a bucket."""
    scheme, _, rest = url.partition("://")
    parts = PurePosixPath(rest).parts
    if len(parts) < 2 or not all(map(_is_plain, parts)):
        raise checks.UserError(f"{url}: name a folder of a bucket, e.g. gs://bucket/runs/name")
    return files.place("cache") / "buckets" / scheme / Path(*parts)


def fetched(path: str | Path) -> Path:
    """Return the folder of a run to read: that of a bucket as it is now, copied; else the path."""
    url = files.bucket_url(path)
    if not url:
        return Path(path)
    mirror = Mirror(url)
    mirror.pull()
    return mirror.copy


@contextlib.contextmanager
def trained(path: Path, *, distributed: bool = False) -> Iterator[Path]:
    """Yield the folder in which to train a run; one on a bucket is fetched, and sent at the end and
    whenever `send` is called.

    Raises:
      UserError: the bucket cannot be reached, another process trains there, several processes are
        to train together, or what was trained could not be sent at last.
    """
    url = files.bucket_url(path)
    if not url:
        yield path
        return
    if distributed:
        raise checks.UserError(
            f"--workdir {url}: the processes of --distributed share one folder: mount the bucket "
            "on every host (gcsfuse, mountpoint-s3, `mounts` in clusters.toml)"
        )
    mirror = Mirror(url)
    with mirror.lease():
        mirror.pull()
        _open[mirror.copy] = mirror
        try:
            yield mirror.copy
        except BaseException:  # its exit code is what a scheduler goes by
            mirror.push()
            raise
        else:
            mirror.push(must=True)
        finally:
            del _open[mirror.copy]


def send(run: Path) -> None:
    """Send what is new in a run's folder, if it is the copy of one on a bucket that is trained."""
    if mirror := _open.get(Path(run)):
        mirror.push()


def send_results(path: str | Path) -> None:
    """Send what an evaluation has written into the copy of a run on a bucket."""
    if url := files.bucket_url(path):
        mirror = Mirror(url)
        mirror.push_results()


class Mirror:
    """A run on a bucket, and its copy here.

    Attributes:
      url: of the run.
      copy: the folder here.
    """

    def __init__(self, url: str):
        self.url, self.copy = url, copy_of(url)
        self._sent: dict[str, tuple[int, int]] = {}  # name: size and time of what was sent
        try:
            import fsspec

            self._fs, self._root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            package = files.BUCKETS[url.partition("://")[0]]
            raise checks.UserError(f"{url}: {error}; pip install {package}") from error

    def pull(self) -> None:
        """Fetch the run, unless the copy is as far: then what is trained here is the newer.

        Raises:
          UserError: the bucket cannot be read, or a process of this machine trains in the copy.
        """
        there = self._listed()
        names = [name for name in there if self._counts(name, there)]
        newest = max((int(step) for step in map(_step, names) if step), default=0)
        here = max(_steps_here(self.copy), default=-1)
        if not names and here > 0:
            _log.warning("%s is empty: the run goes on from step %d of its copy in %s; delete that "
                         "folder to begin anew", self.url, here, self.copy)  # fmt: skip
        if not names or newest <= here:
            return
        with run_folder.lock(self.copy):
            for name in names:
                path = self.copy / name
                if _step(name) and path.is_file() and path.stat().st_size == there[name]:
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                fetching = path.with_name(f".fetching.{path.name}")
                with self._reported("read"):
                    self._fs.get_file(f"{self._root}/{name}", str(fetching))
                fetching.replace(path)
            for step in set(_steps_here(self.copy)) - {int(_step(name) or -1) for name in names}:
                shutil.rmtree(self.copy / run_folder.CHECKPOINTS / f"{step:08d}")

    def push(self, *, must: bool = False) -> None:
        """Send what is new, and remove the checkpoints that are gone here.

        Args:
          must: a failure is an error; else it is logged, and the next call sends the rest.
        """
        try:
            with self._reported("written"):
                self._push()
        except checks.UserError as error:
            if must:
                raise checks.UserError(f"{error}; what was trained is in {self.copy}") from error
            _log.warning("%s; the run goes on in %s", error, self.copy)

    def push_results(self) -> None:
        """Send the records and the page; another process may be training in the run."""
        with self._reported("written"):
            for path in sorted(self.copy.glob("*")):
                if re.fullmatch(r"result[^/]*\.json|report\.html", path.name):
                    self._fs.put_file(str(path), f"{self._root}/{path.name}")

    def _push(self) -> None:
        found = {
            str(path.relative_to(self.copy)): path
            for path in sorted(self.copy.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }
        # The configuration, then checkpoints with their checksums last, then what tells of them.
        for name in sorted(filter(_is_name, found), key=_rank):
            status = found[name].stat()
            state = (status.st_size, status.st_mtime_ns)
            if self._sent.get(name) != state:
                self._fs.put_file(str(found[name]), f"{self._root}/{name}")
                self._sent[name] = state
        gone = {name for name in self._listed() if _step(name)} - set(found)
        for name in sorted(gone, key=_rank, reverse=True):  # checksums first: it no longer counts
            self._fs.rm_file(f"{self._root}/{name}")
            self._sent.pop(name, None)

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        """Hold the run for this process, as far as a bucket allows that: see docs/launching.md.

        Raises:
          UserError: another process shows signs of life.
        """
        mine = {"host": socket.gethostname(), "pid": os.getpid(), "id": uuid.uuid4().hex}
        self._wait_for_others()
        self._show(mine)
        ended = threading.Event()

        def refresh() -> None:
            while not ended.wait(_REFRESH_SECONDS):
                with contextlib.suppress(Exception):  # a network that is away comes back
                    self._show(mine)

        thread = threading.Thread(target=refresh, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with contextlib.suppress(Exception):
                self._fs.rm_file(f"{self._root}/{_LEASE}")

    def _show(self, mine: dict[str, Any]) -> None:
        content = json.dumps({**mine, "time": time.time()}).encode()
        with self._reported("written"):
            self._fs.pipe_file(f"{self._root}/{_LEASE}", content)

    def _wait_for_others(self) -> None:
        """Return as soon as nobody trains; whoever was killed shows no sign of life."""
        before, until = self._seen(), time.monotonic() + _PATIENCE_SECONDS
        if before is None:
            return
        _log.warning("%s: %s trained here last; is it alive? (%.0f s)", self.url, _name(before),
                     _PATIENCE_SECONDS)  # fmt: skip
        while time.monotonic() < until:
            time.sleep(min(1.0, _PATIENCE_SECONDS / 4))
            now = self._seen()
            if now is None:
                return
            if now != before:
                raise run_folder.InUse(
                    f"another process is training in {self.url} ({_name(now)}): wait for it, or "
                    "end it"
                )

    def _seen(self) -> bytes | None:
        with self._reported("read"):
            try:
                return self._fs.cat_file(f"{self._root}/{_LEASE}", end=4096)
            except FileNotFoundError:
                return None

    def _listed(self) -> dict[str, int]:
        """Return the sizes of the run's files on the bucket by name, odd names left out."""
        with self._reported("read"):
            self._fs.invalidate_cache()
            try:
                found = self._fs.find(self._root, detail=True)
            except FileNotFoundError:
                found = {}
        start = len(self._root.strip("/")) + 1
        names = {path.strip("/")[start:]: entry["size"] for path, entry in found.items()}
        return {name: size for name, size in names.items() if _is_name(name)}

    def _counts(self, name: str, there: dict[str, int]) -> bool:
        step = _step(name)
        whole = f"{run_folder.CHECKPOINTS}/{step}/{integrity.CHECKSUMS}"
        return step is None or whole in there

    @contextlib.contextmanager
    def _reported(self, done: str) -> Iterator[None]:
        """Turn whatever a service's library raises into one line."""
        try:
            yield
        except checks.UserError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise checks.UserError(f"{self.url} could not be {done} ({reason:.300})") from error


def _is_plain(part: str) -> bool:
    """Whether a part of a name is a file's or folder's: a key may be anything, "../../x" too."""
    return bool(re.fullmatch(r"[^/\\\x00-\x1f]+", part)) and not part.startswith(".")


def _is_name(name: str) -> bool:
    """Whether a name is sent and fetched: no hidden files, nothing that leads elsewhere."""
    return all(map(_is_plain, name.split("/")))


def _step(name: str) -> str | None:
    """Return the step of the checkpoint that a file belongs to, None: to none."""
    found = _CHECKPOINT.fullmatch(name)
    return found.group(1) if found else None


def _steps_here(copy: Path) -> list[int]:
    found = (copy / run_folder.CHECKPOINTS).glob("*")
    return [int(path.name) for path in found if re.fullmatch(r"\d{8,}", path.name)]


def _rank(name: str) -> tuple[int, str]:
    if name == run_folder.CONFIG:
        return 0, name
    if _step(name) is None:
        return 3, name
    return 2 if name.endswith(f"/{integrity.CHECKSUMS}") else 1, name


def _name(lease: bytes) -> str:
    try:
        content = json.loads(lease)
        return checks.printable(f"process {content['pid']} on {content['host']}")[:200]
    except (ValueError, KeyError, TypeError):
        return "somebody"
