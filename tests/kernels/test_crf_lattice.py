"""The permutohedral lattices, `lattice` and `host`: values, capacity, traces, which one ran."""

import sys
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from seg_jax.kernels.crf import (
    CrfParams,
    api,
    choose,
    lattice,
    lattice_numba,
    mean_field,
    numba_common,
)
from seg_jax.kernels.crf.cases import SETTINGS, scene

SHORT = replace(SETTINGS["v1"], iterations=3)
UNARY, RGB = scene(24, 30, 5)
BATCH = tuple(np.stack(x) for x in zip((UNARY, RGB), scene(24, 30, 5, seed=1), strict=True))


def slow_filter(feature, q):
    """The lattice with Python's dictionaries and exact coordinates, after Adams et al. 2010."""
    d = feature.shape[1]
    axis = np.arange(1, d + 1)
    scaled = feature * (d + 1) * np.sqrt(2 / 3) / np.sqrt(axis * (axis + 1))
    basis = np.triu(np.ones((d + 1, d)), 0)
    basis[axis, axis - 1] = -axis
    rows, corners = {}, []
    for place, value in zip(scaled @ basis.T, q, strict=True):
        # Among the d + 1 nearest points of each remainder, the enclosing simplex: by sorting.
        base = np.round(place / (d + 1)) * (d + 1)
        order = np.argsort(-(place - base), kind="stable")
        excess = int(base.sum()) // (d + 1)
        for i in (
            order[len(order) - excess :] if excess > 0 else order[: -excess or None][: abs(excess)]
        ):
            base[i] -= np.sign(excess) * (d + 1)
        rest = place - base
        order = np.argsort(-rest, kind="stable")
        rest = rest[order] / (d + 1)
        weights = [
            1 - rest[0] + rest[-1],
            *(rest[d - k] - rest[d - k + 1] for k in range(1, d + 1)),
        ]
        vertices = []
        for k, weight in enumerate(weights):
            vertex = base.astype(int) + k
            vertex[order[d + 1 - k :]] -= d + 1
            key = tuple(vertex)
            rows[key] = rows.get(key, 0) + weight * value
            vertices.append((key, weight))
        corners.append(vertices)
    for i in range(d + 1):
        step = -np.ones(d + 1, int)
        step[i] = d
        rows = {
            key: value
            + 0.5 * rows.get(tuple(key + step), 0)
            + 0.5 * rows.get(tuple(np.array(key) - step), 0)
            for key, value in rows.items()
        }
    alpha = 1 / (1 + 0.5**d)
    return alpha * np.array([sum(w * rows[key] for key, w in vertices) for vertices in corners])


@pytest.mark.parametrize("d", [2, 5])
def test_filter_is_the_slow_one(d, rng):
    feature = rng.normal(0, 2, (150, d)).astype(np.float32)
    q = rng.random((150, 3)).astype(np.float32)
    built = jax.jit(lattice.build, static_argnums=1)(feature, 150 * (d + 1))
    np.testing.assert_allclose(lattice.apply(built, q), slow_filter(feature, q), rtol=2e-4)


MU = np.random.default_rng(5)
VARIANTS = {
    "v1": replace(SHORT, normalisation="after"),
    "v2 symmetric": replace(
        SETTINGS["v2"],
        iterations=3,
        normalisation="symmetric",
        compatibility=MU.uniform(0.5, 1.5, 5).astype(np.float32),
    ),
    "v1 before": replace(
        SHORT,
        normalisation="before",
        compatibility=MU.uniform(0, 2, (5, 5)).astype(np.float32),
    ),
}


@pytest.mark.parametrize("params", VARIANTS.values(), ids=VARIANTS)
def test_host_and_lattice_agree(params):
    """A batch of two against two pictures: different code from the features to the softmax."""
    loops = np.stack(
        [
            mean_field(*pair, params, implementation="lattice_numba")
            for pair in zip(*BATCH, strict=True)
        ]
    )
    ours = mean_field(*BATCH, params, implementation="lattice")
    np.testing.assert_allclose(ours, loops, atol=2e-5)
    np.testing.assert_array_equal(mean_field(*BATCH, params, implementation="lattice_numba"), loops)
    assert (loops.argmax(-1) != BATCH[0].argmin(-1)).any(), "a CRF that changes nothing"


def test_lattice_is_close_to_the_definition():
    """On 24 x 30 pixels both smooth away the same errors; they are not the same filter."""
    exact = mean_field(*BATCH, SHORT, implementation="reference")
    ours = mean_field(*BATCH, SHORT, implementation="lattice")
    assert (exact.argmax(-1) == ours.argmax(-1)).mean() > 0.98
    assert np.abs(exact - ours).mean() < 0.01


def test_threads_change_nothing(monkeypatch):
    monkeypatch.setattr(numba_common, "_MIN_PIXELS", 1)
    results = []
    for cores in (1, 3):
        monkeypatch.setattr(numba_common, "_threads", lambda cores=cores: cores)
        results.append(np.asarray(mean_field(UNARY, RGB, SHORT, implementation="lattice_numba")))
    np.testing.assert_array_equal(*results)


def test_lattice_runs_again_where_the_capacity_is_too_small(rng, monkeypatch):
    """White noise: nearly every pixel has its own six vertices, far above 1.25 a pixel."""
    rgb = rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)
    unary = rng.normal(size=(16, 16, 3)).astype(np.float32)
    runs, run = [], lattice.run
    monkeypatch.setattr(
        lattice, "run", lambda *a: (runs.append((a[3], result := run(*a))), result)[1]
    )
    ours = mean_field(unary, rgb, SHORT, implementation="lattice")
    (first, (_, count, _)), (second, _) = runs
    assert first[0] == 320 < int(count[0]) <= second[0]
    np.testing.assert_allclose(
        ours, mean_field(unary, rgb, SHORT, implementation="lattice_numba"), atol=1e-5
    )


@pytest.mark.parametrize("implementation", ["lattice_numba", "lattice"])
def test_too_small_a_width_is_an_error(implementation):
    params = replace(SHORT, bilateral_rgb=0.001)
    with pytest.raises(ValueError, match="too small for the lattice's keys"):
        mean_field(*BATCH, params, implementation=implementation)


def test_in_a_trace_there_is_no_capacity_to_miss_and_no_silent_overflow(rng):
    rgb = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    unary = rng.normal(size=(8, 8, 3)).astype(np.float32)
    params = replace(SHORT, normalisation="none", bilateral_weight=0.1, spatial_weight=0.1)
    traced = jax.jit(lambda u, p: mean_field(u, rgb, p))
    np.testing.assert_allclose(traced(unary, params), mean_field(unary, rgb, params), atol=1e-5)
    assert np.isnan(traced(unary, replace(params, bilateral_rgb=0.001))).all()


def test_gradient_of_the_lattice_is_that_of_differences(rng):
    unary = rng.normal(size=(8, 8, 3)).astype(np.float32)
    rgb = rng.normal(90, 20, (8, 8, 3)).astype(np.uint8)
    target = rng.normal(size=unary.shape)
    params = replace(SHORT, bilateral_rgb=20.0, bilateral_weight=1.0, spatial_weight=1.0)

    def loss(unary, params, implementation="lattice_numba"):
        q = mean_field(unary, rgb, params, implementation=implementation)
        return (q * target.astype(np.float32)).sum()

    by_unary, by_params = jax.jit(
        jax.grad(partial(loss, implementation="lattice"), argnums=(0, 1))
    )(unary, params)
    direction = rng.normal(size=unary.shape).astype(np.float32)
    difference = (
        loss(unary + 0.01 * direction, params) - loss(unary - 0.01 * direction, params)
    ) / 0.02
    np.testing.assert_allclose(np.vdot(by_unary, direction), difference, rtol=1e-2)
    for name in ("bilateral_weight", "spatial_weight", "compatibility"):
        value = getattr(params, name)
        more, less = (loss(unary, replace(params, **{name: value + s})) for s in (0.02, -0.02))
        np.testing.assert_allclose(getattr(by_params, name), (more - less) / 0.04, rtol=1e-2)


def test_choice():
    assert choose(platform="cpu", traced=False) == "lattice_numba"
    assert choose(platform="cpu", traced=True) == "lattice"
    assert choose(platform="gpu", traced=False) == "lattice"
    assert choose(platform="tpu", traced=True) == "lattice"


def test_choice_without_numba(monkeypatch):
    monkeypatch.setattr(api, "find_spec", lambda name: None)
    assert choose(platform="cpu", traced=False) == "lattice"


def test_the_chosen_one_runs(monkeypatch):
    """The proof that no other one did: each is replaced by one that only says its name."""
    ran = []
    for module in (lattice_numba, lattice):
        monkeypatch.setattr(
            module, "mean_field", lambda u, rgb, p, name=module.__name__: (ran.append(name), u)[1]
        )
    mean_field(UNARY, RGB, SHORT)
    jax.jit(lambda u: mean_field(u, RGB, SHORT))(UNARY)
    mean_field(UNARY, RGB, SHORT, implementation="lattice")
    assert [name.rsplit(".")[-1] for name in ran] == ["lattice_numba", "lattice", "lattice"]


@pytest.mark.parametrize(
    "implementation, instead", [("lattice_numba", "lattice"), ("exact_numba", "exact")]
)
def test_host_refuses_a_trace(implementation, instead):
    with pytest.raises(ValueError, match=f"use implementation='{instead}'"):
        jax.jit(lambda u: mean_field(u, RGB, CrfParams(), implementation=implementation))(UNARY)


def test_without_numba_the_error_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "seg_jax.kernels.crf.lattice_numba")
    monkeypatch.delitem(sys.modules, "seg_jax.kernels.crf.lattice_numba_kernels")
    monkeypatch.delattr("seg_jax.kernels.crf.lattice_numba_kernels")
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(ModuleNotFoundError, match="pip install numba"):
        mean_field(UNARY, RGB, implementation="lattice_numba")
