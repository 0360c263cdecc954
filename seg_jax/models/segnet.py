"""SegNet: an encoder-decoder that upsamples with the pooling indices of the encoder.

Badrinarayanan, Kendall & Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder Architecture for
Image Segmentation", PAMI 2017, arXiv:1511.00561. Kendall, Badrinarayanan & Cipolla, "Bayesian
SegNet", BMVC 2017, arXiv:1511.02680. Layer names and constants are those of the authors' released
networks.

Batch norm: the release keeps no running averages. After training, its compute_bn_statistics.py
averages the batch statistics over one pass of the training set with the final weights; without that
pass its networks cannot be tested. Running averages alone would not do: the learning rate stays
high to the end, and with raw pixels small changes of a weight are large changes of a mean. So the
experiments end with steps at learning rate 0, in which the averages converge (`Schedule.settle`).
"""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from seg_jax import checks
from seg_jax.backbones.vgg import CHANNELS
from seg_jax.nn import norm as norms
from seg_jax.nn.conv import Conv, DepthwiseConv, TransposedConv
from seg_jax.nn.norm import BatchNorm, GroupNorm, Norm
from seg_jax.nn.pool import max_pool_with_indices, max_unpool
from seg_jax.nn.resize import bilinear_init, upsample_bilinear_fixed
from seg_jax.nn.width_multiplier import scaled

# The release's epsilon. The averages span about 50 batches, on CamVid 200 images or more.
NORM = Norm(momentum=0.98, epsilon=1e-9)
_SHIFT = 0.001  # that the norms of the released networks start with

DropoutAt = Literal["none", "central", "all"]
Decoder = Literal[
    "segnet", "encoder_addition", "single_channel", "bilinear",
    "fcn", "fcn_no_addition", "fcn_no_reduction", "fcn_no_addition_no_reduction",
]  # fmt: skip


class SegNet(nn.Module):
    """SegNet on VGG-16: 13 convolutions and five pools, mirrored in the decoder.

    Any image size: each unpooling restores the input size of the encoder's pool, even an odd one
    (360x480: 23x30 becomes 12x15 and 23x30 again).

    Attributes:
      num_classes: channels of the logits.
      depths: convolutions in each of the five stages; the default is VGG-16.
      dropout_at: "none", as released for CamVid; "central": after pools 3 to 5 and after stages 5
        to 3 of the decoder (Bayesian SegNet, and SUN RGB-D); "all": before every pool and every
        unpooling (the release for VOC).
      dropout: its rate.
      norm: between each convolution and its ReLU; none after the last convolution.
      width: factor of every channel count.
    """

    num_classes: int = 21
    depths: tuple[int, ...] = (2, 2, 3, 3, 3)
    dropout_at: DropoutAt = "none"
    dropout: float = 0.5
    norm: Norm = NORM
    width: float = 1.0

    @nn.nowrap
    def with_backbone(self, name: str) -> "SegNet":
        """Return this network for "vgg16", see `backbones.choose`; no other has its pools."""
        if name != "vgg16":
            raise ValueError(
                f"SegNet's decoder needs the indices of five 2x2 maximum pools, and {name} does "
                "not have them: only vgg16 is a backbone for it"
            )
        return self

    @property
    def output_stride(self) -> int:
        """Pixels between two predictions."""
        return 1

    @nn.compact
    def __call__(self, image: Any, *, train: bool, sampling: bool = False) -> dict[str, Any]:
        """Return {"out": float32 [n h w k]}.

        Args:
          image: float [n h w c], h and w of any size.
          train: batch norm uses the batch; dropout, if any, is on and needs the rng "dropout".
          sampling: dropout is on although `train` is False: one Monte Carlo sample.
        """
        if len(self.depths) != len(CHANNELS):
            raise ValueError(f"depths {self.depths} must be five, one for each stage")
        off = not (train or sampling)
        x, pools = image, []
        for stage, depth in enumerate(self.depths, start=1):
            for layer in range(1, depth + 1):
                x = self._layer(x, CHANNELS[stage - 1], f"conv{stage}_{layer}", train=train)
            x = _drop(self, x, "before_pool", stage, off=off)
            size = x.shape[1:3]
            x, indices = max_pool_with_indices(x, window=2, stride=2, rounding="ceil")
            pools.append((indices, size))
            x = _drop(self, x, "after_pool", stage, off=off)
        for stage in reversed(range(1, len(self.depths) + 1)):
            x = _drop(self, x, "before_unpool", stage, off=off)
            x = max_unpool(x, *pools[stage - 1], window=2)
            # The last convolution of a stage reduces to the channels of the stage below;
            for layer in reversed(range(2, self.depths[stage - 1] + 1)):
                x = self._layer(x, CHANNELS[stage - 1], f"conv{stage}_{layer}_D", train=train)
            if stage > 1:
                x = self._layer(x, CHANNELS[stage - 2], f"conv{stage}_1_D", train=train)
                x = _drop(self, x, "after_decoder", stage, off=off)
        # that of the first stage is the classifier: 3x3, without norm.
        return {"out": Conv(self.num_classes, 3, name="conv1_1_D")(x).astype(jnp.float32)}

    def _layer(self, x: Any, channels: int, name: str, *, train: bool) -> Any:
        x = Conv(scaled(channels, self.width), 3, name=name)(x)
        # Bayesian SegNet's release starts with a shift of 0.
        shift = _SHIFT if self.dropout_at == "none" else 0.0
        return nn.relu(_norm(self.norm, name, shift)(x, train=train))


class SegNetBasic(nn.Module):
    """SegNet-Basic: four stages of one 7x7 convolution, and the decoders of the paper's Table 1.

    The released network has biases in all convolutions, the paper (section 3.2) has none:
    1,416,587 parameters at 11 classes; the paper says 1.425 M. The decoders of Table 1:

        decoder                        upsampling                 parameters  the paper's
        "segnet"                       pooling indices, 7x7       1,416,587   1.425 M
        "encoder_addition"             and + pooled encoder map   1,416,587   1.425 M
        "single_channel"               7x7, each channel alone      626,315   0.625 M
        "bilinear"                     fixed, of the scores         613,003   0.625 M
        "fcn"                          8x8 learned, + scores of     646,124   0.65 M
                                       the pooled encoder map
        "fcn_no_addition"              8x8 learned                  643,979   0.65 M
        "fcn_no_reduction"             of 64 channels, + pooled   1,661,579   1.625 M
                                       encoder map
        "fcn_no_addition_no_reduction" of 64 channels             1,661,579   1.625 M

    Only "segnet" was released. The others follow the paper's text, and our reading where it is
    silent: the added encoder maps are the pooled ones (which fits the memory it quotes); reductions
    have a bias; learned upsampling has no bias and no batch norm, and is initialised as bilinear,
    so that constants are kept.

    Attributes:
      num_classes: channels of the logits.
      decoder: one of the above.
      dropout_at: "none", as released; "central": after pools 3 and 4 and after stages 4 and 3 of
        the decoder (Bayesian SegNet-Basic); "all": before every pool and every unpooling.
      dropout: its rate.
      norm: after each 7x7 convolution.
      width: factor of the 64 channels of every layer.
    """

    num_classes: int = 11
    decoder: Decoder = "segnet"
    dropout_at: DropoutAt = "none"
    dropout: float = 0.5
    norm: Norm = NORM
    width: float = 1.0

    @property
    def output_stride(self) -> int:
        """Pixels between two predictions."""
        return 1

    @nn.compact
    def __call__(self, image: Any, *, train: bool, sampling: bool = False) -> dict[str, Any]:
        """Return {"out": float32 [n h w k]}; arguments as in `SegNet`."""
        checks.one_of(get_args(Decoder), decoder=self.decoder)
        off = not (train or sampling)
        x = local_response_norm(image)  # the paper: "local contrast normalization"
        pools = []
        for stage in range(1, 5):
            x = Conv(scaled(64, self.width), 7, name=f"conv{stage}")(x)
            x = nn.relu(_norm(self.norm, f"conv{stage}")(x, train=train))
            x = _drop(self, x, "before_pool", stage, off=off)
            size = x.shape[1:3]
            x, indices = max_pool_with_indices(x, window=2, stride=2, rounding="ceil")
            pools.append((x, indices, size))
            x = _drop(self, x, "after_pool", stage, off=off)
        if self.decoder in ("segnet", "encoder_addition", "single_channel"):
            x = self._decode_by_indices(x, pools, train=train, off=off)
        else:
            x = self._decode_by_filters(x, pools)
        return {"out": x.astype(jnp.float32)}

    def _decode_by_indices(self, x: Any, pools: list, *, train: bool, off: bool) -> Any:
        """Unpool, then densify by a convolution and a norm, without ReLU."""
        for stage in (4, 3, 2, 1):
            _, indices, size = pools[stage - 1]
            x = _drop(self, x, "before_unpool", stage, off=off)
            x, name = max_unpool(x, indices, size, window=2), f"conv_decode{stage}"
            if self.decoder == "single_channel":
                x = DepthwiseConv(7, use_bias=True, name=name)(x)
            else:
                x = Conv(scaled(64, self.width), 7, name=name)(x)
            x = _norm(self.norm, name)(x, train=train)
            if self.decoder == "encoder_addition" and stage > 1:
                x = x + pools[stage - 2][0]
            x = _drop(self, x, "after_decoder", stage, off=off)
        return Conv(self.num_classes, 1, name="conv_classifier")(x)

    def _decode_by_filters(self, x: Any, pools: list) -> Any:
        """Upsample by transposed convolutions, as FCN does: scores, or all 64 channels."""
        adds = self.decoder in ("fcn", "fcn_no_reduction")
        reduces = not self.decoder.endswith("no_reduction")
        channels = self.num_classes if reduces else scaled(64, self.width)
        if reduces:
            x = Conv(channels, 1, name="reduce4")(x)
        for stage in (4, 3, 2, 1):
            height, width = pools[stage - 1][2]
            if self.decoder == "bilinear":
                x = upsample_bilinear_fixed(x, kernel_size=4, stride=2)[:, 1:, 1:]
            else:
                upsample = TransposedConv(
                    channels,
                    kernel_size=8,
                    stride=2,
                    padding=3,
                    use_bias=False,
                    kernel_init=_bilinear_keeping_constants,
                    name=f"upsample{stage}",
                )
                x = upsample(x)
            x = x[:, :height, :width]
            if adds and stage > 1:
                fine = pools[stage - 2][0]
                x = x + (Conv(channels, 1, name=f"reduce{stage - 1}")(fine) if reduces else fine)
        return x if reduces else Conv(self.num_classes, 1, name="conv_classifier")(x)


def local_response_norm(x: Any, *, size: int = 5, alpha: float = 1e-4, beta: float = 0.75) -> Any:
    """Return x / (1 + alpha/size * sum of squares over `size` neighbouring channels)^beta.

    Caffe's LRN layer across the channels of x [n h w c]; computed in float32 at least.
    """
    checks.network_input(x, None)  # here, SegNet-Basic's first layer
    wide = x.astype(np.promote_types(x.dtype, np.float32))
    before = (size - 1) // 2
    squares = jnp.pad(wide**2, ((0, 0), (0, 0), (0, 0), (before, size - 1 - before)))
    total = sum(squares[..., i : i + x.shape[-1]] for i in range(size))
    return (wide * (1 + alpha / size * total) ** -beta).astype(x.dtype)


def mc_dropout(
    model: SegNet | SegNetBasic, variables: Any, image: Any, key: jax.Array, samples: int
) -> tuple[Any, Any]:
    """Return Bayesian SegNet's prediction and its uncertainty, by Monte Carlo dropout.

    Args:
      model: with dropout_at other than "none".
      variables: its parameters and running averages; batch norm uses the averages.
      image: float [n h w c].
      key: random key of the samples.
      samples: forward passes; the paper's results need about 40, but six are better than none.

    Returns:
      Mean and (biased) variance of the class probabilities over the samples, float32 [n h w k]
      each. The paper's uncertainty map is the mean of the variance over the classes.
    """
    checks.positive(samples=samples)
    if model.dropout_at == "none":
        raise ValueError('dropout_at is "none": all samples would be equal; set it to "central"')

    def sample(running, key):
        count, mean, deviation = running  # Welford: sums of squares would lose small variances
        rngs = {"dropout": key}
        out: Any = model.apply(variables, image, train=False, sampling=True, rngs=rngs)
        change = nn.softmax(out["out"]) - mean
        mean = mean + change / (count + 1)
        deviation = deviation + change**2 * (count / (count + 1))
        return (count + 1, mean, deviation), None

    zero = jnp.zeros((*image.shape[:3], model.num_classes), jnp.float32)
    keys = jax.random.split(key, samples)
    (count, mean, deviation), _ = lax.scan(sample, (jnp.float32(0), zero, zero), keys)
    return mean, deviation / count


def _norm(norm: Norm, convolution: str, shift: float = _SHIFT) -> BatchNorm | GroupNorm:
    init = nn.initializers.constant(shift)
    return norms.layer(norm, bias_init=init, name=f"{convolution}_bn")


def _drop(model: SegNet | SegNetBasic, x: Any, place: str, stage: int, *, off: bool) -> Any:
    """Apply dropout if `model.dropout_at` has it at this place of this stage."""
    places = {
        "none": (),
        "central": ("after_pool", "after_decoder") if stage >= 3 else (),
        "all": ("before_pool", "before_unpool"),
    }
    checks.one_of(places, dropout_at=model.dropout_at)
    if place not in places[model.dropout_at]:
        return x
    return nn.Dropout(model.dropout, name=f"{place}{stage}")(x, deterministic=off)


def _bilinear_keeping_constants(key: jax.Array, shape: tuple[int, ...], dtype=jnp.float32) -> Any:
    """Initialise 8x8 kernels of stride 2 as bilinear; 4x4 taps overlap in each pixel."""
    return bilinear_init(key, shape, dtype) / 4
