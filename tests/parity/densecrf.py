"""pydensecrf (the C++ of Krahenbuhl & Koltun), called as DeepLab's re-implementations call it."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from seg_jax.kernels.crf.cases import SETTINGS, scene

GOLDEN = Path(__file__).parent.parent / "golden" / "crf_pydensecrf.npz"
VARIANTS = {
    f"{name}-{normalisation}": replace(SETTINGS[name], normalisation=normalisation)
    for name in ("v1", "v2")
    for normalisation in ("symmetric", "after")
}


def pydensecrf(unary, rgb, params):
    """Return the marginals, float32 [h w k], of one picture by the C++ library."""
    import pydensecrf.densecrf as library

    height, width, classes = unary.shape
    how = {
        "symmetric": library.NORMALIZE_SYMMETRIC,
        "after": library.NORMALIZE_AFTER,
        "before": library.NORMALIZE_BEFORE,
        "none": library.NO_NORMALIZATION,
    }[params.normalisation]
    crf = library.DenseCRF2D(width, height, classes)
    crf.setUnaryEnergy(np.ascontiguousarray(unary.reshape(-1, classes).T))
    crf.addPairwiseGaussian(sxy=params.spatial_px, compat=params.spatial_weight, normalization=how)
    crf.addPairwiseBilateral(
        sxy=params.bilateral_px,
        srgb=params.bilateral_rgb,
        rgbim=np.array(rgb),  # a writable copy: the binding asks for one
        compat=params.bilateral_weight,
        normalization=how,
    )
    return np.array(crf.inference(params.iterations)).T.reshape(unary.shape)


if __name__ == "__main__":
    # pip install pydensecrf2 (needs a C++ compiler), then: python tests/parity/densecrf.py
    sys.path.insert(0, str(GOLDEN.parent.parent.parent))
    unary, rgb = scene(32, 40, 5)
    marginals = {name: pydensecrf(unary, rgb, params) for name, params in VARIANTS.items()}
    np.savez_compressed(GOLDEN, unary=unary, rgb=rgb, **marginals)
    print(f"{GOLDEN}: {GOLDEN.stat().st_size} bytes")
