"""Several processes that train together end together, within seconds, and say why.

What one process knows (an error, a signal) the others learn through the key-value store of JAX's
coordination service. Without that they would wait for it in their next collective operation until
a barrier's time is over, and abort.
"""

import contextlib
import ctypes
import itertools
import json
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any, NoReturn

import jax

from seg_jax import checks, progress

_POLL_SECONDS = 0.3
_UNWIND_SECONDS = 2.0  # in which a process may find the error itself, or end its step
_LINGER_SECONDS = 5.0  # in which the first process, which keeps the store, waits for the others
_STOP_AFTER = 3  # steps: see `agree_to_stop`
_CUT_OFF = "another process is gone without a word, or does not answer"
_GO_ON = "the same command goes on from the last checkpoint"
_runs = itertools.count()  # the same on every process: all of them train the same runs in turn


class Peers:
    """The other processes of this run.

    Attributes:
      index: of this process.
      stop_reason: the signal for which all stop, empty: none came.
    """

    def __init__(self) -> None:
        # Not public, but what Orbax and JAX's own libraries use.
        from jax._src import distributed

        self._client: Any = distributed.global_state.client
        self._prefix = f"seg_jax/run{next(_runs)}"
        self.index, self._count = jax.process_index(), jax.process_count()
        self._over = threading.Event()
        self._stop_step: int | None = None
        self.stop_reason = ""

    def agree_to_stop(self, number: int, wanted: str | None) -> bool:
        """Return whether all processes stop after this step.

        Who wants to stop after step n names n + 3. The others cannot be past it: they have at most
        one step in flight, which needs this process. Whoever comes first is obeyed.

        Args:
          number: of the step that was sent to the devices.
          wanted: why this process wants to stop, None: it does not.
        """
        key = f"{self._prefix}/stop"
        if wanted and self._stop_step is None:
            with contextlib.suppress(jax.errors.JaxRuntimeError):  # another one came first
                self._client.key_value_set(f"{key}/at", f"{number + _STOP_AFTER} {wanted}")
        if self._stop_step is None:
            for _, value in self._client.key_value_dir_get(key):
                step, self.stop_reason = value.split()
                self._stop_step = int(step)
        return self._stop_step is not None and number >= self._stop_step

    def publish(self, code: int, reason: str) -> None:
        """Tell the others that this process ends, with which exit code, and why."""
        with contextlib.suppress(Exception):  # the store may be gone
            value = json.dumps({"code": code, "reason": reason})
            self._client.key_value_set(f"{self._prefix}/failed/{self.index}", value, True)

    def failure(self) -> tuple[int, int, str] | None:
        """Return (process, exit code, reason) of another process that ended, None: none did."""
        try:
            found = self._client.key_value_dir_get(f"{self._prefix}/failed")
        except Exception:  # the process that keeps the store is gone
            return (-1, 1, _CUT_OFF)
        for key, value in sorted(found):
            index, content = int(key.rpartition("/")[2]), json.loads(value)
            if index != self.index:
                return index, content["code"], content["reason"]
        return None

    def watch(self) -> None:
        """End this process soon after another one ended; runs in a thread of its own."""
        while not self._over.wait(_POLL_SECONDS):
            failure = self.failure()
            if failure and not self._over.wait(_UNWIND_SECONDS):
                self._follow(*failure)

    def end(self, error: BaseException) -> NoReturn:
        """End this process for an error, after the others were told."""
        self._over.set()
        mine = isinstance(error, checks.UserError | SystemExit)
        failure = None if mine else self._wait_for_failure()
        if failure:
            self._follow(*failure)
        code, reason = 1, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        if isinstance(error, checks.UserError):
            code, reason = 2, f"error: {error}"
        elif isinstance(error, SystemExit):
            code, reason = int(error.code or 0), str(error)
        elif is_cut_off(error):
            reason = f"{_CUT_OFF}: {str(error).partition(chr(10))[0][:200]}; {_GO_ON}"
        else:
            traceback.print_exception(error)
        self.publish(code, reason)
        self._say(reason)
        self._leave(code)

    def _wait_for_failure(self) -> tuple[int, int, str] | None:
        until = time.monotonic() + _UNWIND_SECONDS
        while time.monotonic() < until:
            failure = self.failure()
            if failure:
                return failure
            time.sleep(0.1)
        return None

    def _follow(self, index: int, code: int, reason: str) -> NoReturn:
        known = f"ends with process {index}: {reason}" if index >= 0 else f"{_CUT_OFF}; {_GO_ON}"
        self._say(known)
        self._leave(code)

    def _say(self, text: str) -> None:
        progress.say(f"process {self.index}: {checks.printable(text)}", error=True)

    def _leave(self, code: int) -> NoReturn:
        """Exit without JAX's barrier; the first process, which keeps the store, is the last."""
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        with contextlib.suppress(Exception):
            self._client.key_value_set(f"{self._prefix}/gone/{self.index}", "", True)
            until = time.monotonic() + _LINGER_SECONDS
            while self.index == 0 and time.monotonic() < until:
                if len(self._client.key_value_dir_get(f"{self._prefix}/gone")) >= self._count:
                    break
                time.sleep(0.1)
        os._exit(code)

    def close(self) -> None:
        """End the watch."""
        self._over.set()


@contextlib.contextmanager
def together() -> Iterator[Peers | None]:
    """Yield the other processes of a run, None if there are none; an error ends all of them."""
    if jax.process_count() == 1:
        yield None
        return
    peers = Peers()
    _catch_aborts(peers.index)
    threading.Thread(target=peers.watch, daemon=True).start()
    try:
        yield peers
    except BaseException as error:
        if not getattr(error, "agreed", False):
            peers.end(error)
        raise
    finally:
        peers.close()


def is_cut_off(error: BaseException | None) -> bool:
    """Return whether an error says that another process cannot be reached."""
    words = r"Gloo|NCCL|UNAVAILABLE|DEADLINE_EXCEEDED|[Cc]onnection|coordination service|[Bb]arrier"
    while error is not None:
        if isinstance(error, jax.errors.JaxRuntimeError) and re.search(words, str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


# Kept alive: C code calls it.
_handler: Any = None


def _catch_aborts(index: int) -> None:
    """End with one line and exit code 1 where JAX's coordination agent would abort.

    It does so, in a thread of C++ and with a dump of its stack, as soon as the first process is
    gone; nothing that can be set keeps it from that.
    """
    global _handler
    if _handler is not None:
        return
    dumps = _filter_standard_error()

    def ended(number: int) -> None:
        time.sleep(0.3)  # for the filter to read what was printed before
        if not dumps:
            os._exit(128 + number)
        progress.say(f"process {index}: {_CUT_OFF}; {_GO_ON}", error=True)
        os._exit(1)

    _handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(ended)
    library = ctypes.CDLL(None)
    library.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    library.signal.restype = ctypes.c_void_p
    library.signal(signal.SIGABRT, ctypes.cast(_handler, ctypes.c_void_p))


# The lines of JAX's coordination service, and of its stack dump.
_NOISE = re.compile(
    rb"^[EFWI]\d{4} .*(coordination|distributed/|client\.h)|CoordinationServiceError"
    rb"|^\s+@ +0x|^\*\*\* |^\d+$|^The tasks have crashed|^RPC: /"
)


def _filter_standard_error() -> list[bytes]:
    """Drop from C++'s standard error what the coordination service dumps; return the list of it."""
    dropped: list[bytes] = []
    try:
        real = os.dup(2)
    except OSError:  # closed
        return dropped
    # Python's own goes past the filter.
    sys.stderr = open(real, "w", buffering=1, errors="backslashreplace", closefd=False)
    readable, writable = os.pipe2(os.O_CLOEXEC)
    os.dup2(writable, 2)
    os.close(writable)

    def forward() -> None:
        rest = b""
        while piece := os.read(readable, 65536):
            *lines, rest = (rest + piece).split(b"\n")
            dropped.extend(line for line in lines if _NOISE.search(line))
            kept = [line + b"\n" for line in lines if not _NOISE.search(line)]
            with contextlib.suppress(OSError):
                os.write(real, b"".join(kept))

    threading.Thread(target=forward, daemon=True).start()
    return dropped
