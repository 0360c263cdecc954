"""`exact` as a Pallas kernel for TPUs (Mosaic). Compiled and interpreted; it has not run on a TPU.

One program per block of 512 pixels loops over the list of near blocks and fetches the next one from
HBM while it computes with the current one: two matrix products for the squared distances in
position and in colour, exact as in `exact_hopper`, the powers of two, and kernel times Q, both in
two parts of 8 significant bits. Lists of a picture of 513 x 513 do not fit in scalar memory: each
program gets only its own row.

Tested in Pallas' interpreter for TPU kernels, which also checks the copies for races.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from seg_jax.kernels.crf import exact, exact_products
from seg_jax.kernels.crf.block_sparsity import Tiles
from seg_jax.kernels.crf.exact_products import MAX_CLASSES
from seg_jax.kernels.crf.params import CrfParams
from seg_jax.nn import lowering

TILE = 512  # pixels of a block
_LANES = 128
_SLOTS = 2  # blocks in flight
_DEPTH = exact_products.DEPTH


def mean_field(unary: jax.Array, rgb: jax.Array, params: CrfParams) -> jax.Array:
    """Return the marginals of a batch of energies, float32 [n h w k], and images, uint8 [n h w 3].

    Raises:
        NotImplementedError: the platform that is compiled for is not a TPU.
        ValueError: the images are not uint8, or larger than `exact_products.MAX_SIDE`; more than
            MAX_CLASSES classes.
    """
    if lowering.platform() != "tpu":
        raise NotImplementedError(
            "implementation='exact_tpu' is a kernel for TPUs and this is "
            f"{lowering.platform()}; use implementation='exact', the same sums in plain JAX"
        )
    return exact.run(unary, rgb, params, bilateral, tile=TILE)


def bilateral(
    tiles: Tiles, rgb: jax.Array, params: CrfParams, *, interpret: Any = False
) -> exact.Filter:
    """Return the bilateral kernel of an image [h w 3]: q, float32 [h*w k], -> K q.

    Args:
        tiles: of `block_sparsity.make` with blocks of a multiple of 128 pixels.
        rgb: uint8.
        params: its widths.
        interpret: False: compile it; `pltpu.InterpretParams`: interpret it.
    """
    (a_px, b_px), (a_rgb, b_rgb) = exact_products.of_image(tiles, rgb, name="exact_tpu")
    b = jnp.concatenate([b_px, b_rgb], axis=1)  # one copy fetches both
    # exp(-d^2 / (2 theta^2)) as a power of two, which the hardware computes.
    widths = jnp.stack([jnp.float32(params.bilateral_px), jnp.float32(params.bilateral_rgb)])
    rates = (-math.log2(math.e) / 2) / jnp.square(widths)

    @jax.custom_vjp
    def apply(q):
        classes = q.shape[1]
        if classes > MAX_CLASSES:
            raise ValueError(
                f"implementation='exact_tpu' takes at most {MAX_CLASSES} classes, got {classes}; "
                "use implementation='exact'"
            )
        # Two parts of 8 significant bits side by side: for 64 classes or fewer the lanes are there.
        high, low = _parts(q)
        q = jnp.concatenate([high, low], axis=1)
        q = jnp.pad(q, ((0, 0), (0, -q.shape[1] % _LANES)))
        result = _multiply(a_px, a_rgb, b, tiles.sort(q), tiles.keys, tiles.near, rates, interpret)
        result = tiles.unsort(result)
        return result[:, :classes] + result[:, classes : 2 * classes]

    # K is symmetric: it is its own transpose.
    apply.defvjp(lambda q: (apply(q), None), lambda _, gradient: (apply(gradient),))
    return apply


def _multiply(a_px, a_rgb, b, q, keys, count, rates, interpret):
    blocks, tile, classes = q.shape

    def own(*shape):
        return pl.BlockSpec((None, *shape), lambda block, *_: (block, 0, 0))

    row = pl.BlockSpec((None, 1, blocks), lambda block, *_: (block, 0, 0), memory_space=pltpu.SMEM)
    in_hbm = pl.BlockSpec(memory_space=pltpu.HBM)
    kernel = pl.pallas_call(
        _kernel,
        out_shape=jax.ShapeDtypeStruct((blocks, tile, classes), jnp.float32),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,  # count and rates, in scalar memory for all programs
            grid=(blocks,),
            in_specs=[row, own(tile, _DEPTH), own(tile, _DEPTH), in_hbm, in_hbm],
            out_specs=own(tile, classes),
            scratch_shapes=[
                pltpu.VMEM((_SLOTS, 2 * _DEPTH, tile), jnp.bfloat16),
                pltpu.VMEM((_SLOTS, tile, classes), jnp.bfloat16),
                pltpu.SemaphoreType.DMA((_SLOTS, 2)),
            ],
        ),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",)),
        interpret=interpret,
        name="crf_exact_tpu",
    )
    return kernel(count, rates, keys[:, None, :], a_px, a_rgb, b, q)


def _kernel(count, rates, keys, a_px, a_rgb, b, q, out, other, values, arrived):
    steps = count[pl.program_id(0)]

    def copies(step):
        slot, key = lax.rem(step, _SLOTS), keys[0, step]
        return [
            pltpu.make_async_copy(source.at[key], target.at[slot], arrived.at[slot, number])
            for number, (source, target) in enumerate(((b, other), (q, values)))
        ]

    def fetch(step):
        for copy in copies(step):
            copy.start()

    out[...] = jnp.zeros_like(out)
    fetch(jnp.int32(0))  # the list is not empty: every block is near itself

    def add(step, _):
        @pl.when(step + 1 < steps)
        def _():
            fetch(step + 1)

        for copy in copies(step):
            copy.wait()
        slot = lax.rem(step, _SLOTS)
        # Products of bfloat16 on the matrix unit, summed in float32.
        px = jnp.dot(a_px[...], other[slot, :_DEPTH], preferred_element_type=jnp.float32)
        rgb = jnp.dot(a_rgb[...], other[slot, _DEPTH:], preferred_element_type=jnp.float32)
        for weights in _parts(jnp.exp2(px * rates[0] + rgb * rates[1])):
            out[...] += jnp.dot(weights, values[slot], preferred_element_type=jnp.float32)
        return 0

    lax.fori_loop(0, steps, add, 0)


def _parts(x):
    """Return two bfloat16 whose sum is x, float32, to 16 significant bits."""
    high = x.astype(jnp.bfloat16)
    return high, (x - high.astype(jnp.float32)).astype(jnp.bfloat16)
