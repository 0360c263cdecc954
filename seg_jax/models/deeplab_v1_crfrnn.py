"""DeepLab v1 with the dense CRF as its last layer, trained end to end (CRF-RNN).

Zheng et al., "Conditional Random Fields as Recurrent Neural Networks", ICCV 2015, arXiv:1502.03240:
mean-field updates are differentiable, so the loss reaches the parameters of the CRF and, through
the unaries, the network. As in the paper, kernel weights and compatibility are learned, kernel
widths are fixed. The paper puts the CRF on FCN-8s; here it is on DeepLab v1, whose post-processing
is the same CRF. One weight per kernel, as in the paper's equations; its release has one per class.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from seg_jax.kernels.crf import CrfParams, mean_field
from seg_jax.models.deeplab_v1 import DeepLabV1, upsample_scores
from seg_jax.nn import upsampled

_SMALLEST = 1e-30  # smallest probability: the logarithm and its derivative stay finite


class CrfRnn(nn.Module):
    """Mean-field updates over every `stride`-th pixel.

    Many pixels are filtered by the permutohedral lattice, as in the paper: its cost is linear in
    the number of pixels, but its scattered reads are slow on a CPU. For few pixels, all pairs as
    two matrix products are faster, and exact: at stride 4 a crop of 97 px has 625 pixels, and the
    layer costs about as much as a network with an eighth of VGG-16's channels.

    Attributes:
      stride: distance in the image between the pixels of the CRF; must divide the sides minus 1.
      all_pairs_px: up to this many CRF pixels, all pairs ("reference" of `kernels.crf`); above it,
        "lattice".
      train_iterations: mean-field updates in training: 5, against vanishing gradients (section 5).
      iterations: mean-field updates in evaluation.
      bilateral_px: width of the appearance kernel in pixels of the image; not learned.
      bilateral_rgb: its width in grey levels; not learned.
      spatial_px: width of the smoothness kernel in pixels of the image; not learned.
      bilateral_weight: initial weight of the appearance kernel.
      spatial_weight: initial weight of the smoothness kernel.
      grey_levels: (scale, offset) from the normalised image back to grey levels: undoes the
        experiment's preprocessing.
    """

    stride: int = 1
    all_pairs_px: int = 4096
    train_iterations: int = 5
    iterations: int = 10
    bilateral_px: float = 160.0
    bilateral_rgb: float = 3.0
    spatial_px: float = 3.0
    bilateral_weight: float = 5.0
    spatial_weight: float = 3.0
    grey_levels: tuple[float, float] = (127.5, 127.5)

    @nn.compact
    def __call__(self, logits: Any, image: Any, *, train: bool) -> Any:
        """Return log marginals, float32 [n h w k], interpolated bilinearly between CRF pixels.

        Args:
          logits: float32 [n h w k], of the network.
          image: float [n h w 3], the normalised input of the network.
          train: do `train_iterations` updates, not `iterations`.
        """
        step, size = self.stride, image.shape[1:3]
        if any((side - 1) % step for side in size):
            raise ValueError(f"stride {step} does not divide the sides {size} minus 1")
        scale, zero = self.grey_levels
        rgb = jnp.clip(image[:, ::step, ::step].astype(jnp.float32) * scale + zero, 0.0, 255.0)
        few = rgb.shape[1] * rgb.shape[2] <= self.all_pairs_px
        marginals = mean_field(
            -jax.nn.log_softmax(logits[:, ::step, ::step]),
            rgb,
            self._params(logits.shape[-1], self.train_iterations if train else self.iterations),
            implementation="reference" if few else "lattice",
        )
        # A loss on the CRF's pixels only (label_grids) gets exactly these logarithms.
        return upsample_scores(jnp.log(jnp.maximum(marginals, _SMALLEST)), step)

    def _params(self, classes: int, iterations: int) -> CrfParams:
        """Declare the learned parameters; widths are converted to pixels of the strided image."""

        def weight(name: str, start: float) -> Any:
            return self.param(name, nn.initializers.constant(start), (), jnp.float32)

        def potts(key: Any, shape: tuple[int, int], dtype: Any) -> Any:
            return 1 - jnp.eye(*shape, dtype=dtype)

        return CrfParams(
            iterations=iterations,
            bilateral_weight=weight("bilateral_weight", self.bilateral_weight),
            bilateral_px=self.bilateral_px / self.stride,
            bilateral_rgb=self.bilateral_rgb,
            spatial_weight=weight("spatial_weight", self.spatial_weight),
            spatial_px=self.spatial_px / self.stride,
            compatibility=self.param("compatibility", potts, (classes, classes), jnp.float32),
        )


class DeepLabV1CrfRnn(nn.Module):
    """DeepLab v1 and its CRF in one network; layer names, hence weights, are those of DeepLabV1.

    Attributes:
      network: computes the unaries.
      crf: the last layer.
    """

    network: DeepLabV1 = DeepLabV1()
    crf: CrfRnn = CrfRnn()

    @property
    def num_classes(self) -> int:
        """Channels of the logits."""
        return self.network.num_classes

    @property
    def output_stride(self) -> int:
        """Pixels between two of the network's predictions."""
        return self.network.output_stride

    def legal_sizes(self, side: int) -> tuple[int, ...]:
        """Return the sides nearest to `side` that the network accepts."""
        return self.network.legal_sizes(side)

    @nn.compact
    def __call__(self, image: Any, *, train: bool) -> dict[str, Any]:
        """Return {"out": log marginals, "unary": logits of the network}, float32 [n h w k] each.

        Args:
          image: float [n h w 3].
          train: dropout is on (rng "dropout"), and the CRF does fewer updates.
        """
        nn.share_scope(self, self.network)
        with upsampled.deferring(False):  # the CRF reads them
            logits = self.network(image, train=train)["out"]
        return {"out": self.crf(logits, image, train=train), "unary": logits}
