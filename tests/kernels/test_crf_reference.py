"""The definition against loops in float64, and what `mean_field` refuses."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seg_jax.kernels.crf import CrfParams, mean_field
from seg_jax.kernels.crf.cases import scene

PARAMS = CrfParams(
    iterations=3,
    bilateral_weight=4.0,
    bilateral_px=9.0,
    bilateral_rgb=25.0,
    spatial_weight=2.0,
    spatial_px=2.0,
)
CLASSES = 4
MATRIX = np.random.default_rng(5).uniform(0, 2, (CLASSES, CLASSES)).astype(np.float32)
COMPATIBILITIES = {"scalar": 1.5, "vector": np.float32([0.5, 1, 1.5, 2]), "matrix": MATRIX}


def loops(unary, rgb, params):
    """Algorithm 1 of the paper in float64, pixel by pixel."""
    height, width, classes = unary.shape
    energy = unary.reshape(-1, classes).astype(np.float64)
    colour = rgb.reshape(-1, 3).astype(np.float64)
    position = np.array([(x, y) for y in range(height) for x in range(width)], np.float64)
    size = height * width
    appearance, smoothness = np.zeros((size, size)), np.zeros((size, size))
    for i in range(size):
        near = ((position[i] - position) ** 2).sum(1)
        alike = ((colour[i] - colour) ** 2).sum(1)
        appearance[i] = np.exp(
            -near / (2 * params.bilateral_px**2) - alike / (2 * params.bilateral_rgb**2)
        )
        smoothness[i] = np.exp(-near / (2 * params.spatial_px**2))
    mu = np.asarray(params.compatibility, np.float64)
    if mu.ndim < 2:
        # Potts as Eq. 2 has it: a penalty for different labels; for a vector the reward for equal.
        mu = mu * (1 - np.eye(classes)) if mu.ndim == 0 else -np.diag(mu)
    total = np.zeros((size, size))
    for weight, k in ((params.bilateral_weight, appearance), (params.spatial_weight, smoothness)):
        n = k.sum(1)
        total += (
            weight
            * {
                "after": k / n[:, None],
                "before": k / n[None, :],
                "symmetric": k / np.sqrt(n[:, None] * n[None, :]),
                "none": k,
            }[params.normalisation]
        )
    q = np.exp(-energy)
    q /= q.sum(1, keepdims=True)
    for _ in range(params.iterations):
        new = np.zeros_like(q)
        message = total @ q
        for i in range(size):
            for label in range(classes):
                new[i, label] = np.exp(-energy[i, label] - mu[label] @ message[i])
        q = new / new.sum(1, keepdims=True)
    return q.reshape(unary.shape)


@pytest.mark.parametrize("normalisation", ["after", "symmetric", "before", "none"])
def test_reference_is_the_paper(normalisation):
    unary, rgb = scene(9, 11, CLASSES)
    params = replace(PARAMS, normalisation=normalisation)
    if normalisation == "none":  # sums of a hundred pixels instead of means: smaller weights
        params = replace(params, bilateral_weight=0.1, spatial_weight=0.1)
    ours = mean_field(unary, rgb, params, implementation="reference")
    np.testing.assert_allclose(ours, loops(unary, rgb, params), atol=2e-6)


@pytest.mark.parametrize("compatibility", COMPATIBILITIES.values(), ids=COMPATIBILITIES)
def test_compatibility(compatibility):
    unary, rgb = scene(9, 11, CLASSES)
    params = replace(PARAMS, compatibility=compatibility)
    ours = mean_field(unary, rgb, params, implementation="reference")
    np.testing.assert_allclose(ours, loops(unary, rgb, params), atol=2e-6)


def test_gradient_is_that_of_finite_differences():
    unary, rgb = scene(9, 11, CLASSES)
    target = np.random.default_rng(1).normal(size=unary.shape)
    params = replace(PARAMS, compatibility=MATRIX)

    def loss(unary, params):
        q = mean_field(unary, rgb, params, implementation="reference")
        return jnp.sum(q * target.astype(np.float32))

    by_unary, by_params = jax.jit(jax.grad(loss, argnums=(0, 1)))(unary, params)
    step = 1e-4
    for name in ("bilateral_weight", "spatial_weight"):
        more, less = (
            (loops(unary, rgb, replace(params, **{name: getattr(params, name) + s})) * target).sum()
            for s in (step, -step)
        )
        np.testing.assert_allclose(getattr(by_params, name), (more - less) / (2 * step), rtol=1e-3)
    direction = np.random.default_rng(2).normal(size=unary.shape)
    more, less = ((loops(unary + s * direction, rgb, params) * target).sum() for s in (step, -step))
    np.testing.assert_allclose(np.vdot(by_unary, direction), (more - less) / (2 * step), rtol=1e-3)
    assert float(by_params.bilateral_px) == 0, "widths are constants of the derivative"


def test_batches_by_axis_and_by_vmap():
    pairs = [scene(9, 11, CLASSES, seed) for seed in (0, 1)]
    unary, rgb = (np.stack(x) for x in zip(*pairs, strict=True))
    each = np.stack([mean_field(*pair, PARAMS, implementation="reference") for pair in pairs])

    def call(unary, rgb):
        return mean_field(unary, rgb, PARAMS, implementation="reference")

    np.testing.assert_allclose(call(unary, rgb), each, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(call)(unary, rgb), each, atol=1e-6)


UNARY, RGB = scene(9, 11, CLASSES)
MISTAKES = {
    "transposed": (UNARY.transpose(2, 0, 1), RGB, {}, r"rgb must be \(4, 9, 3\)"),
    "flat": (UNARY.reshape(-1, CLASSES), RGB, {}, "unary must be"),
    "labels": (UNARY.argmax(-1)[..., None], RGB, {}, "unary must be floating"),
    "infinite": (np.where(UNARY > 3, np.float32(np.inf), UNARY), RGB, {}, "not finite"),
    "scaled": (UNARY, RGB / np.float32(255), {}, "rgb must span 0..255"),
    "int32": (UNARY, RGB.astype(np.int32), {}, "rgb must be uint8"),
    "name": (UNARY, RGB, {"implementation": "refrence"}, "did you mean reference"),
    "params": (UNARY, RGB, {"params": {"iterations": 1}}, "must be a CrfParams"),
    "vector": (UNARY, RGB, {"params": CrfParams(compatibility=(1.0, 2.0))}, r"a scalar, \[4\]"),
}


@pytest.mark.parametrize("unary, rgb, options, message", MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_named(unary, rgb, options, message):
    with pytest.raises(ValueError, match=message):
        mean_field(unary, rgb, **options)


def test_params_are_checked_when_made():
    with pytest.raises(ValueError, match="bilateral_px must be positive, got 0"):
        CrfParams(bilateral_px=0)
    with pytest.raises(ValueError, match="did you mean symmetric"):
        CrfParams(normalisation="symetric")


def test_large_pictures_are_refused():
    with pytest.raises(ValueError, match="321 x 321 is more than"):
        mean_field(*scene(321, 321, 2), implementation="reference")
