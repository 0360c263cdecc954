"""A convolution of stride 1 computed by a form of its own, in its value and in both gradients."""

import dataclasses
import functools
from collections.abc import Callable

import jax
from jax import numpy as jnp

from seg_jax.nn.conv_geometry import Geometry

Array = jax.Array
Convolution = Callable[[Array, Array, Geometry], Array]


@dataclasses.dataclass(frozen=True)
class Form:
    """How to compute a convolution: x [n h w cin], kernel [kh kw cin cout], y [n h w cout].

    Attributes:
      value: y of (x, kernel, geometry).
      of_images: the gradient of x, of (x, kernel, gradient of y, geometry).
      of_kernel: that of the kernel, of the same.
    """

    value: Convolution
    of_images: Callable[[Array, Array, Array, Geometry], Array]
    of_kernel: Callable[[Array, Array, Array, Geometry], Array]


@functools.cache
def of_kernel_only(conv: Convolution, form: Form) -> Form:
    """Return the form of a convolution that JAX differentiates, but for the kernel's gradient,
    which is another form's.
    """

    def of_images(x, kernel, gradient, geometry):
        return jax.vjp(lambda x: conv(x, kernel, geometry), x)[1](gradient)[0]

    return Form(conv, of_images, form.of_kernel)


def conv(x: Array, kernel: Array, geometry: Geometry, form: Form) -> Array:
    """Return y by a form. It has a gradient, and gradients of that where the form's functions have
    them, but as max pooling no forward mode (`jax.jvp`).
    """
    # In shard_map both differ among devices if one does: the gradient of a kernel that is the same
    # on all of them is then their sum.
    return _conv(x + _zero(kernel), kernel + _zero(x), geometry, form)


def _zero(array: Array) -> Array:
    return jnp.zeros_like(array[:1, :1, :1, :1])[0, 0, 0, 0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(x: Array, kernel: Array, geometry: Geometry, form: Form) -> Array:
    return form.value(x, kernel, geometry)


def _forward(
    x: Array, kernel: Array, geometry: Geometry, form: Form
) -> tuple[Array, tuple[Array, Array]]:
    return _conv(x, kernel, geometry, form), (x, kernel)


def _backward(geometry: Geometry, form: Form, saved: tuple[Array, Array], gradient: Array) -> tuple:
    return form.of_images(*saved, gradient, geometry), form.of_kernel(*saved, gradient, geometry)


_conv.defvjp(_forward, _backward)
