"""Progress bars and messages that say enough on a terminal and little in a log file.

Progress is never worth a run: where standard output or error cannot be written (a full disk, a
closed terminal), it is dropped, and `lost` says so to whoever keeps a log.
"""

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

from tqdm import tqdm

from seg_jax.checks import printable

SILENCE_SECONDS = 10.0  # the longest, while something is being waited for
_REDRAW_SECONDS = 0.1  # of a bar on a terminal

lost: dict[str, str] = {}  # name of the stream: why it cannot be written


def bar(iterable: Any = None, *, shown: bool = True, leave: bool = False, **options: Any) -> tqdm:
    """Return a progress bar on standard error.

    Args:
      iterable: what is counted; None: call `update`.
      shown: draw it.
      leave: keep it on the screen when it is done.
      **options: of tqdm: total, initial, desc, unit.
    """
    terminal = sys.stderr is not None and sys.stderr.isatty()
    stream: Any = (_Lenient if terminal else _Lines)(sys.stderr, "standard error")
    return _Bar(
        iterable,
        disable=not shown or sys.stderr is None,
        leave=leave,
        mininterval=_REDRAW_SECONDS if terminal else SILENCE_SECONDS,
        file=stream,
        **options,
    )


class _Bar(tqdm):
    """A bar that is also drawn anew when nothing has happened for a while."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._stop_beat = (lambda: None) if self.disable else _every(SILENCE_SECONDS, self._beat)

    def _beat(self) -> float:
        """Draw it if that is due; return the seconds until it is due again."""
        with self.get_lock():
            due = self.last_print_t + SILENCE_SECONDS - time.time()
            if due > 0:
                return due
            self.refresh(nolock=True)
            # Otherwise the next update would draw it once more, a moment later.
            self.last_print_t, self.last_print_n = time.time(), self.n
        return SILENCE_SECONDS

    def close(self) -> None:
        """Draw it for the last time."""
        getattr(self, "_stop_beat", lambda: None)()
        super().close()


@contextlib.contextmanager
def waiting(what: str, *, shown: bool = True, note: str = "") -> Iterator[None]:
    """Say on standard error what is being waited for, and every 10 s how long it has been.

    Args:
      what: e.g. "compiling the training step".
      shown: print it.
      note: follows it on the first line.
    """
    if not shown:
        yield
        return
    began = time.monotonic()
    say(f"{what} {note}".rstrip(), error=True)
    stop = _every(
        SILENCE_SECONDS,
        lambda: say(f"{what}: {time.monotonic() - began:.0f} s so far", error=True),
    )
    try:
        yield
    finally:
        stop()


_waits: list[threading.Event] = []  # the ends of what is being waited for, the innermost last


def _every(seconds: float, act: Callable[[], float | None]) -> Callable[[], None]:
    """Call a function in a thread every so many seconds; return what ends that.

    It may return the seconds until its next call. Of a wait within a wait, only the inner one is
    called: an evaluation's progress, not that of the training it belongs to.
    """
    stopped = threading.Event()
    _waits.append(stopped)

    def run() -> None:
        wait = seconds
        while not stopped.wait(wait):
            wait = (act() if _waits[-1:] == [stopped] else None) or seconds

    def stop() -> None:
        stopped.set()
        if stopped in _waits:
            _waits.remove(stopped)

    threading.Thread(target=run, daemon=True, name="progress").start()
    return stop


def say(text: str = "", *, error: bool = False) -> None:
    """Print lines, at once, on standard output or standard error; control characters escaped."""
    stream, name = (
        (sys.stderr, "standard error") if error else (sys.stdout, "standard output")
    )  # fmt: skip
    lenient = _Lenient(stream, name)
    lenient.write(f"{printable(text, lines=True)}\n")
    lenient.flush()


def show(text: str, *, end: str = "\n") -> None:
    """Print a command's result: as `say`, but a result that cannot be written is an error.

    Raises:
      OSError: of standard output.
    """
    print(printable(text, lines=True), end=end)  # noqa: T201


class Block:
    """Lines at the end of a terminal's output that are drawn anew in their place.

    Where standard error is no terminal, nothing is drawn.
    """

    def __init__(self) -> None:
        self._height = 0
        self.drawn = sys.stderr is not None and sys.stderr.isatty()

    def draw(self, lines: Sequence[str]) -> None:
        """Replace the lines drawn before; each is cut to the terminal's width."""
        if not self.drawn:
            return
        width = shutil.get_terminal_size().columns - 1
        up = f"\x1b[{self._height}F\x1b[J" if self._height else ""
        shown = "".join(f"{printable(line)[:width]}\n" for line in lines)
        stream = _Lenient(sys.stderr, "standard error")
        stream.write(up + shown)
        stream.flush()
        self._height = len(lines)

    def say(self, text: str) -> None:
        """Print lines above the block, which the next `draw` puts below them."""
        self.draw(())
        say(text)


def silence(stream: IO[str], name: str, error: Exception) -> None:
    """Send what else is written to a stream to nowhere, its buffer included."""
    lost[name] = getattr(error, "strerror", None) or str(error)
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError, AttributeError):
        pass  # no file, or closed: nothing that could be written later


class _Lenient:
    """A text stream whose write errors are noted in `lost` instead of raised."""

    def __init__(self, stream: IO[str] | None, name: str):
        self._stream, self._name = stream, name

    def write(self, text: str) -> int:
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        self._try("flush")

    def _try(self, method: str, *arguments: str) -> None:
        if self._stream is None:  # it was closed before the program began
            return
        try:
            getattr(self._stream, method)(*arguments)
        except UnicodeEncodeError as error:  # a terminal without this letter
            if error.encoding and arguments:
                plain = arguments[0].encode(error.encoding, "replace").decode(error.encoding)
                self._try(method, plain)
        except (OSError, ValueError) as error:  # ValueError: it is closed
            silence(self._stream, self._name, error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Lines(_Lenient):
    """The same for a bar that is not drawn on a terminal: each drawing is a line of its own."""

    def write(self, text: str) -> int:
        if line := text.replace("\x1b[A", "").strip("\r\n "):  # a bar within a bar moves up
            super().write(f"{line}\n")
        return len(text)
