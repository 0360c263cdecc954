"""Names for the operations of functions that are no modules."""

import functools
from collections.abc import Callable

import jax


def scoped(function: Callable) -> Callable:
    """Put the function's name on what it computes, as Flax puts the modules' on theirs.

    Profiles show it, and `python -m seg_jax show` finds pools and resizings by it.
    """

    @functools.wraps(function)
    def named(*args, **kwargs):
        with jax.named_scope(function.__name__):
            return function(*args, **kwargs)

    return named
