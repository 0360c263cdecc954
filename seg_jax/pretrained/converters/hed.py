"""Convert the trunk of HED, VGG-16 with Keras' layouts: kernels [kh kw cin cout]."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from seg_jax.backbones.vgg import VGG
from seg_jax.nn.import_tensors import import_tensors


def vgg16(_: Any, tensors: Mapping[str, np.ndarray], *, width: float = 1.0) -> dict[str, Any]:
    """Return VGG-16's backbone from "conv1_1.kernel", "conv1_1.bias", ...; float16 as float32.

    Raises:
      UserError: the weights do not fit; all mismatches are listed.
    """
    variables = import_tensors(
        VGG(width=width),
        tensors,
        lambda _, module, leaf: f"{module}.{leaf}",
        lambda _, tensor: tensor,
    )
    return {"params": {"backbone": variables["params"]}}
