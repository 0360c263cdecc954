"""Keeps Orbax silent: the error that it raises says what is wrong, in one line instead of 2,000."""

import contextlib
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

_LOGGERS = ("absl", "orbax", "asyncio")
_LOOP = "Event loop is closed"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress what Orbax' threads and coroutines print beside the error that they raise."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    hook, threading.excepthook = threading.excepthook, lambda _: None
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    # Before the operation: threads of one that fails may call its closed loop before we hear of it.
    before = sys.unraisablehook
    ours = _ignore_calls_of_a_closed_loop()
    try:
        yield
    except BaseException:  # threads and coroutines of the failed operation end later than it does
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        raise
    else:
        if sys.unraisablehook is ours:
            sys.unraisablehook = before
    finally:
        threading.excepthook = hook
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _ignore_calls_of_a_closed_loop() -> Callable[["sys.UnraisableHookArgs"], object]:
    """Have threads that call an event loop after its end pass in silence; return the hook."""
    before = sys.unraisablehook
    if getattr(before, "ignores_leftovers", False):
        return before

    def hook(found: "sys.UnraisableHookArgs") -> None:
        if not (isinstance(found.exc_value, RuntimeError) and _LOOP in str(found.exc_value)):
            before(found)

    hook.ignores_leftovers = True  # pyright: ignore[reportFunctionMemberAccess]
    sys.unraisablehook = hook
    return hook
