"""Transformations of gradients whose numbers may be traced, and reductions over whole trees."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

_BETA2, _EPSILON = 0.999, 1e-8  # of Adam, as in its paper


def packed(tree: Any) -> list[jax.Array]:
    """Return the leaves of a tree, of one type, with all vectors and scalars as one vector.

    A network has hundreds of them: biases, scales of norms, running averages. What is done to all
    is one operation then, for the compiler and for the device.
    """
    leaves = jax.tree.leaves(tree)
    small = [leaf.ravel() for leaf in leaves if leaf.ndim < 2]
    return [leaf for leaf in leaves if leaf.ndim > 1] + ([jnp.concatenate(small)] if small else [])


def global_norm(tree: Any) -> jax.Array:
    """Return the Euclidean norm of all leaves together."""
    return optax.tree.norm(packed(tree))


def clip_by_global_norm(limit: Any) -> optax.GradientTransformation:
    """Return `optax.clip_by_global_norm`, with the norm that the step reports anyway."""

    def update(updates, state, params=None):
        norm = global_norm(updates)
        clipped = jax.tree.map(lambda g: jnp.where(norm < limit, g, g / norm * limit), updates)
        return clipped, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def clip_by_value(limit: Any) -> optax.GradientTransformation:
    """Clip every component of the gradient to [-limit, limit]."""

    def update(updates, state, params=None):
        return jax.tree.map(lambda g: jnp.clip(g, -limit, limit), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def scale_by_adam(beta1: Any, one_minus_beta1: Any) -> optax.GradientTransformation:
    """Return `optax.scale_by_adam` with a beta1 that may be traced.

    optax computes 1 - beta1 from what it is given: in float32, for a traced number, which is
    another number than for a constant.
    """
    usual = optax.scale_by_adam()

    def update(updates, state, params=None):
        del params
        count = optax.safe_increment(state.count)
        mean = jax.tree.map(lambda g, m: one_minus_beta1 * g + beta1 * m, updates, state.mu)
        square = optax.tree.update_moment_per_elem_norm(updates, state.nu, _BETA2, 2)
        scaled = jax.tree.map(
            lambda m, v: m / (jnp.sqrt(v) + _EPSILON),
            optax.tree.bias_correction(mean, beta1, count),
            optax.tree.bias_correction(square, _BETA2, count),
        )
        return scaled, optax.ScaleByAdamState(count, mean, square)

    return optax.GradientTransformation(usual.init, update)
