"""Progress bars that say enough on a terminal and little in a log file."""

import sys
from typing import Any

from tqdm import tqdm

# A log file gets a line now and then.
_INTERVAL_SECONDS = 0.1 if sys.stderr.isatty() else 30.0


def bar(iterable: Any = None, *, shown: bool = True, leave: bool = False, **options: Any) -> tqdm:
    """Return a progress bar on standard error.

    Args:
      iterable: what is counted; None: call `update`.
      shown: draw it.
      leave: keep it on the screen when it is done.
      **options: of tqdm: total, initial, desc, unit.
    """
    return tqdm(iterable, disable=not shown, leave=leave, mininterval=_INTERVAL_SECONDS, **options)
