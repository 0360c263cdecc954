"""The papers' evaluation protocols by name, and a description in words of any protocol.

A named protocol sets fields of the experiment's `EvalConfig`. Canvas and bucket stay as they are
unless the protocol prescribes them, so that small networks can be scored like large ones. No
protocol changes the dense CRF; `kernels.crf.presets` names its constants.
"""

import dataclasses
from typing import Any, NamedTuple

from seg_jax import checks
from seg_jax.experiment import EvalConfig
from seg_jax.kernels.crf import presets

SIX_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
_ONE_PASS = {"scales": (1.0,), "flip": False, "turns": 1, "fusion": "probabilities"}
_SLIDING = {
    "mode": "sliding", "canvas": (473, 473), "stride": 2 / 3, "long_side": 513,
    "scaling": "half_pixel", "flip": True, "fusion": "mirror_logits",
}  # fmt: skip


class Named(NamedTuple):
    """A protocol: its source, and the fields of EvalConfig that it sets."""

    source: str
    fields: dict[str, Any]


# A configuration is named after the first protocol that fits it.
PROTOCOLS: dict[str, Named] = {
    "sliding473": Named(
        "PSPNet's windows of 473 px every 316, mirror images' logits added (release, eval_sub.m)",
        {**_SLIDING, "scales": (1.0,)},
    ),
    "sliding473_scales": Named(
        "the same over six scales (PSPNet's scores on the test server)",
        {**_SLIDING, "scales": SIX_SCALES},
    ),
    "tile572": Named(
        "U-Net's overlap-tile (MICCAI 2015, figures 1 and 2)",
        {"mode": "tile", "canvas": (572, 572), **_ONE_PASS},
    ),
    "tile572_turns": Named(
        "the same, mean of the eight quarter turns and mirror images (the paper: 7 rotations)",
        {
            "mode": "tile",
            "canvas": (572, 572),
            "scales": (1.0,),
            "flip": True,
            "turns": 4,
            "fusion": "probabilities",
        },
    ),
    "pad513": Named(
        "one pass, padded to 513 px (DeepLab v1 to v3+)",
        {"mode": "whole", "canvas": (513, 513), **_ONE_PASS},
    ),
    "native": Named(
        "one pass over the image at its own size, padded only to the bucket (FCN)",
        {"mode": "whole", "canvas": None, **_ONE_PASS},
    ),
    "scales": Named(
        "six scales, mean of the probabilities (DeepLab v3, section 4.1)",
        {"mode": "whole", "scales": SIX_SCALES, "flip": False, "fusion": "probabilities"},
    ),
    "scales_flip": Named(
        "six scales and mirror images, mean of the probabilities (DeepLab v3 and v3+)",
        {"mode": "whole", "scales": SIX_SCALES, "flip": True, "fusion": "probabilities"},
    ),
    "scales_max": Named(
        "three scales, each class's highest logit (DeepLab v2, section 4.1)",
        {"mode": "whole", "scales": (0.5, 0.75, 1.0), "flip": False, "fusion": "max_logits"},
    ),
    "flip": Named(
        "one scale and its mirror image, mean of the probabilities",
        {"scales": (1.0,), "flip": True, "fusion": "probabilities"},
    ),
    "single": Named("one pass, windows as the experiment says", _ONE_PASS),
}


def apply(name: str, evaluation: EvalConfig) -> EvalConfig:
    """Return `evaluation` with the fields of a named protocol set.

    Raises:
      UserError: there is no protocol of this name.
    """
    if name not in PROTOCOLS:
        raise checks.UserError(f"protocol: {checks.unknown(name, PROTOCOLS)}")
    return dataclasses.replace(evaluation, **PROTOCOLS[name].fields)


def name_of(evaluation: EvalConfig) -> str:
    """Return the name of a protocol; empty if it has none."""
    fitting = (name for name in PROTOCOLS if apply(name, evaluation) == evaluation)
    return next(fitting, "")


def words(evaluation: EvalConfig) -> str:
    """Describe in words how an evaluation presents an image to the network."""
    name = name_of(evaluation)
    parts = [_windows(evaluation), *_views(evaluation)]
    if evaluation.crf:
        parts.append(presets.words(evaluation.crf))
    return f"{name}: " * bool(name) + ", ".join(parts)


def _windows(evaluation: EvalConfig) -> str:
    canvas = "{}x{}".format(*evaluation.canvas or (0, 0))
    if evaluation.mode == "tile":
        return f"overlap-tile, {canvas} px tiles"
    if evaluation.mode == "sliding":
        resized = f", long side {evaluation.long_side} px" if evaluation.long_side else ""
        return f"{canvas} px windows every {evaluation.stride:.3g} of their side{resized}"
    if evaluation.mode == "resize":
        return f"whole image, resized to {canvas} px"
    if evaluation.canvas:
        return f"whole image, padded to {canvas} px"
    if evaluation.bucket == 1:
        return "whole image"
    rest = f" + {evaluation.bucket_rest}" if evaluation.bucket_rest else ""
    return f"whole image, sides padded to multiples of {evaluation.bucket}{rest} px"


def _views(evaluation: EvalConfig) -> list[str]:
    views = []
    if evaluation.scales != (1.0,):
        views.append("scales " + " ".join(f"{scale:g}" for scale in evaluation.scales))
    if evaluation.flip:
        views.append("mirror images")
    if evaluation.turns > 1:
        views.append("quarter turns")
    fused = {
        "probabilities": "mean of the probabilities",
        "mirror_logits": "mirror images' logits added, mean of the probabilities",
        "max_logits": "highest logits",
    }[evaluation.fusion]
    return [*views, fused] if views else []
