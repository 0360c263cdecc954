"""`seg_jax.kernels` as a library: what is chosen where, and the examples in a bare process."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from seg_jax import kernels
from seg_jax.kernels import gpu
from seg_jax.kernels.crf import CrfParams, exact_products, exact_tpu, mean_field
from seg_jax.kernels.crf.cases import scene
from seg_jax.kernels.dense_crf import MAX_CLASSES, MAX_SIDE
from seg_jax.nn import lowering

PAGE = Path(__file__).parents[2] / "docs/kernels.md"
UNARY, RGB = scene(13, 17, 3)


@pytest.mark.parametrize(
    "platform, generation, expected",
    [("tpu", None, "exact_tpu"), ("gpu", 9, "exact_hopper"), ("gpu", 8, "lattice"),
     ("gpu", 10, "lattice"), ("gpu", None, "lattice"), ("cpu", None, "lattice")],
)  # fmt: skip
def test_each_platform_gets_its_own(monkeypatch, platform, generation, expected):
    monkeypatch.setattr(gpu, "generation", lambda: generation)
    with lowering.for_platform(platform):
        assert kernels.choose_dense_crf((513, 400, 21), np.uint8) == expected
        # What a kernel does not take goes to the plain form, on the same platform.
        plain = "exact" if platform == "tpu" else "lattice"
        for shape, dtype in (
            ((2, 514, 10, 21), np.uint8),
            ((9, 9, 257), np.uint8),
            ((9, 9, 3), np.float32),
        ):
            assert kernels.choose_dense_crf(shape, dtype) == plain


def test_the_limits_are_the_kernels():
    assert (MAX_SIDE, MAX_CLASSES) == (exact_products.MAX_SIDE, exact_tpu.MAX_CLASSES)


def test_a_name_never_falls_back(monkeypatch):
    """Not for a platform, nor for a GPU of another generation."""
    for name in ("exact_tpu", "exact_hopper"):
        with pytest.raises(NotImplementedError, match=f"{name}.*this is cpu"):
            kernels.dense_crf(UNARY, RGB, implementation=name)
    monkeypatch.setattr(gpu, "generation", lambda: 8)
    with lowering.for_platform("gpu"), pytest.raises(NotImplementedError, match="generation 8"):
        kernels.dense_crf(UNARY, RGB, implementation="exact_hopper")
    with pytest.raises(ValueError, match=r"unary must be \[h w k\]"):
        kernels.dense_crf(UNARY[0, 0], RGB)


def test_what_is_chosen_runs():
    params = CrfParams(bilateral_px=5.0, bilateral_rgb=20.0)
    chosen = kernels.choose_dense_crf(UNARY.shape, RGB.dtype, traced=False)
    q = kernels.dense_crf(UNARY, RGB, params)
    np.testing.assert_array_equal(q, mean_field(UNARY, RGB, params, implementation=chosen))
    assert "pallas" not in str(jax.make_jaxpr(lambda u: kernels.dense_crf(u, RGB, params))(UNARY))


@pytest.mark.slow
def test_the_pages_examples_need_no_other_part():
    """Three lines each, in a process that imports neither Flax nor any data library."""
    blocks = re.findall(r"^```python title=.*?\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    lines = [[line for line in block.splitlines() if line] for block in blocks]
    assert [len(block) for block in lines] == [3, 3, 3]
    code = "\n".join(
        (
            "import sys, jax, numpy as np; from jax import numpy as jnp",
            "rng = np.random.default_rng(0)",
            "rgb = rng.integers(0, 256, (9, 11, 3), np.uint8)",
            "probabilities = rng.dirichlet(np.ones(3), (9, 11))",
            *blocks,
            "assert refined.shape == exact.shape == gradient.shape == (9, 11, 3)",
            "assert abs(np.asarray(exact).sum(-1) - 1).max() < 1e-5 and abs(gradient).max() > 0",
            "other = {'flax', 'optax', 'grain', 'PIL', 'orbax', 'tyro'} & set(sys.modules)",
            "assert not other, other",
        )
    )
    subprocess.run([sys.executable, "-c", code], check=True)
