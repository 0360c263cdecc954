"""Named scopes for functions that are not Flax modules."""

import functools
from collections.abc import Callable

import jax


def scoped(function: Callable) -> Callable:
    """Label the function's operations with its name, as Flax does for modules.

    Profiles show it, and `python -m seg_jax show` finds pooling and resizing layers by it.
    """

    @functools.wraps(function)
    def named(*args, **kwargs):
        with jax.named_scope(function.__name__):
            return function(*args, **kwargs)

    return named
