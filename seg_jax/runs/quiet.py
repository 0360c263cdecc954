"""Keeps Orbax silent: the error that it raises says what is wrong, in one line instead of 2,000."""

import contextlib
import logging
import sys
import threading
import warnings
from collections.abc import Iterator

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
    try:
        yield
    except BaseException:
        _ignore_leftovers()
        raise
    finally:
        threading.excepthook = hook
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _ignore_leftovers() -> None:
    """Ignore, from now on, the coroutines of a failed operation, which end later than it does."""
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    before = sys.unraisablehook
    if getattr(before, "ignores_leftovers", False):
        return

    def hook(found: "sys.UnraisableHookArgs") -> None:
        if not (isinstance(found.exc_value, RuntimeError) and _LOOP in str(found.exc_value)):
            before(found)

    hook.ignores_leftovers = True  # pyright: ignore[reportFunctionMemberAccess]
    sys.unraisablehook = hook
