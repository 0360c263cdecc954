"""`exact` as a Pallas kernel for Hopper GPUs (Mosaic GPU, sm_90). It has not run on a GPU yet.

One warpgroup per block of 64 pixels loops over the list of near blocks, fetches the next 64 pixels
by TMA while it processes the current ones, and issues three matrix products on the tensor cores for
each pair of blocks: squared distance in position, in colour, and kernel times Q. Distances are
exact with bfloat16 operands (`exact_products`). Only the kernel and Q are rounded to bfloat16: 6e-4
of a filter's value on average.

Tested in Pallas' interpreter for GPU kernels, which also checks the copies for races.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from seg_jax.kernels import gpu
from seg_jax.kernels.crf import exact, exact_products
from seg_jax.kernels.crf.block_sparsity import TILE, Tiles
from seg_jax.kernels.crf.params import CrfParams
from seg_jax.nn import lowering

_DEPTH = exact_products.DEPTH  # a wgmma takes 16
_CLASSES = 32  # channels are padded to a multiple of this: 64 bytes, the swizzle of both operands
_SLOTS = 2  # blocks in flight
# In JAX's documentation of Mosaic GPU, but imported there without `as ACC`.
_ACCUMULATOR = plgpu.ACC  # pyright: ignore[reportPrivateImportUsage]


def mean_field(unary: jax.Array, rgb: jax.Array, params: CrfParams) -> jax.Array:
    """Return the marginals of a batch of energies, float32 [n h w k], and images, uint8 [n h w 3].

    Raises:
        NotImplementedError: the default device is not a GPU, or one of another generation.
        ValueError: the images are not uint8, or larger than `exact_products.MAX_SIDE`.
    """
    generation = gpu.generation()  # None: a described GPU, compiled for on a machine without one
    other = generation not in (None, gpu.HOPPER)
    if lowering.platform() != "gpu" or other:
        here = f"a GPU of generation {generation}" if other else lowering.platform()
        raise NotImplementedError(
            f"implementation='exact_hopper' is a kernel for Hopper GPUs and this is {here}; "
            "use implementation='exact', the same sums in plain JAX"
        )
    return exact.run(unary, rgb, params, bilateral)


def bilateral(tiles: Tiles, rgb: jax.Array, params: CrfParams, *, interpret=None) -> exact.Filter:
    """Return the function q, float32 [h*w k], -> K q: the bilateral kernel of an image [h w 3]."""
    (a, b), (c, d) = exact_products.of_image(tiles, rgb, name="exact_hopper")
    # exp(-d^2 / (2 theta^2)) as a power of two, which the hardware computes.
    widths = jnp.stack([jnp.float32(params.bilateral_px), jnp.float32(params.bilateral_rgb)])
    rates = math.log2(math.e) / (2 * jnp.square(widths))

    @jax.custom_vjp
    def apply(q):
        classes = q.shape[1]
        q = jnp.pad(q, ((0, 0), (0, -classes % _CLASSES))).astype(jnp.bfloat16)
        result = _multiply(a, b, c, d, tiles.sort(q), tiles.keys, tiles.near, rates, interpret)
        return tiles.unsort(result)[:, :classes]

    # K is symmetric: it is its own transpose.
    apply.defvjp(lambda q: (apply(q), None), lambda _, gradient: (apply(gradient),))
    return apply


def _swizzled(shape: tuple[int, ...], columns: int, dtype=jnp.bfloat16) -> pl.MemoryRef:
    """Return shared memory in the tensor cores' layout: swizzled rows of `columns` elements."""
    swizzle = plgpu.SwizzleTransform(columns * jnp.dtype(dtype).itemsize)
    return plgpu.SMEM(shape, dtype, transforms=(plgpu.TilingTransform((8, columns)), swizzle))


def _multiply(a_px, b_px, a_rgb, b_rgb, q, keys, count, rates, interpret):
    blocks, _, classes = q.shape
    kernel = plgpu.kernel(
        _kernel,
        out_type=jax.ShapeDtypeStruct((blocks, TILE, classes), jnp.float32),
        scratch_types=dict(
            own_px=_swizzled((TILE, _DEPTH), _DEPTH),
            own_rgb=_swizzled((TILE, _DEPTH), _DEPTH),
            other_px=_swizzled((_SLOTS, _DEPTH, TILE), _DEPTH),
            other_rgb=_swizzled((_SLOTS, _DEPTH, TILE), _DEPTH),
            values=_swizzled((_SLOTS, TILE, classes), _CLASSES),
            weights=_swizzled((TILE, TILE), _CLASSES),
            result=_swizzled((TILE, classes), _CLASSES, jnp.float32),
            own_arrived=plgpu.Barrier(num_arrivals=2),
            arrived=plgpu.Barrier(num_arrivals=3, num_barriers=_SLOTS),
        ),
        grid=(blocks,),
        grid_names=("block",),
        compiler_params=plgpu.CompilerParams(approx_math=True),
        interpret=interpret,
    )
    return kernel(a_px, b_px, a_rgb, b_rgb, q, keys, count, rates)


def _kernel(
    a_px, b_px, a_rgb, b_rgb, q, keys, count, rates, out,
    *, own_px, own_rgb, other_px, other_rgb, values, weights, result, own_arrived, arrived,
):  # fmt: skip
    block = lax.axis_index("block")
    steps = count[block]
    rate_px, rate_rgb = rates[0], rates[1]

    def fetch(step):
        slot, key = lax.rem(step, _SLOTS), keys[block, step]
        for source, target in ((b_px, other_px), (b_rgb, other_rgb), (q, values)):
            plgpu.copy_gmem_to_smem(source.at[key], target.at[slot], arrived.at[slot])

    plgpu.copy_gmem_to_smem(a_px.at[block], own_px, own_arrived)
    plgpu.copy_gmem_to_smem(a_rgb.at[block], own_rgb, own_arrived)
    fetch(jnp.int32(0))  # the list is not empty: every block is near itself
    plgpu.barrier_wait(own_arrived)

    def square(own, other):
        def product(accumulator):
            plgpu.wgmma(accumulator, own, other)
            return accumulator[...]

        return pl.run_scoped(product, _ACCUMULATOR((TILE, TILE), jnp.float32))

    def accumulate(total):
        @pl.loop(0, steps)
        def _(step):
            slot = lax.rem(step, _SLOTS)

            # Into the other slot: the last step has finished reading it.
            @pl.when(step + 1 < steps)
            def _():
                fetch(step + 1)

            plgpu.barrier_wait(arrived.at[slot])
            px = square(own_px, other_px.at[slot])
            rgb = square(own_rgb, other_rgb.at[slot])
            weights[...] = jnp.exp2(-(px * rate_px + rgb * rate_rgb)).astype(jnp.bfloat16)
            plgpu.commit_smem()
            plgpu.wgmma(total, weights, values.at[slot])
            plgpu.wgmma_wait(0)

        return total[...]

    result[...] = pl.run_scoped(accumulate, _ACCUMULATOR(result.shape, jnp.float32))
    plgpu.commit_smem()
    plgpu.copy_smem_to_gmem(result, out.at[block])
    plgpu.wait_smem_to_gmem(0)
