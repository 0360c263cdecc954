"""The cases of tests and benchmarks: settings, and synthetic images."""

import numpy as np

from seg_jax.kernels.crf.params import CrfParams

SETTINGS = {
    # DeepLab v1 LargeFOV and v2 ResNet-101 with the constants that comparisons of CRF code use.
    "v1": CrfParams(
        bilateral_weight=4.0,
        bilateral_px=49.0,
        bilateral_rgb=5.0,
        spatial_weight=3.0,
        spatial_px=3.0,
    ),
    "v2": CrfParams(
        bilateral_weight=4.0,
        bilateral_px=67.0,
        bilateral_rgb=3.0,
        spatial_weight=3.0,
        spatial_px=1.0,
    ),
}
SIZES = {
    "tiny": (13, 17),
    "small": (40, 52),
    "321": (321, 321),
    "voc": (375, 500),
    "513": (513, 513),
}


def scene(height: int, width: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return unary, float32 [h w k], and rgb, uint8 [h w 3], of discs on a shaded ground.

    The energies are those of a blurred, noisy and partly wrong prediction, like that of a network
    of output stride 8: the CRF changes pixels along the outlines of the discs.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    label = np.zeros((height, width), np.int32)
    rgb = 90 + 60 * (x / width + y / height)[..., None] * np.array([0.6, 0.8, 1.0])
    for _ in range(6):
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        inside = (y - cy) ** 2 + (x - cx) ** 2 < (rng.uniform(0.12, 0.3) * height) ** 2
        label[inside] = rng.integers(1, classes)
        rgb[inside] = rng.uniform(20, 235, 3) + 12 * np.sin(x[inside] / 5)[:, None]
    rgb = rgb + rng.normal(0, 1, rgb.shape)
    # Coarse: one vote for every 8 x 8 block, taken off-centre, plus errors of that size.
    step = 8 if height > 16 else 2
    blocks = label[::step, ::step]
    logits = 4.0 * np.eye(classes, dtype=np.float32)[blocks]
    logits += rng.normal(0, 1, logits.shape).astype(np.float32)
    logits = logits.repeat(step, 0).repeat(step, 1)[:height, :width]
    energies = np.log(np.exp(logits).sum(-1, keepdims=True)) - logits
    return energies.astype(np.float32), np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
