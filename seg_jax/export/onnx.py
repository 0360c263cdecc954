"""Export to ONNX by jax2onnx, which converts JAX's own operations; run by onnxruntime."""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from seg_jax.export.libraries import needed

SUFFIX = ".onnx"
_OPSET = 21  # supported by onnxruntime 1.20 (2024-11) and later


def convert(run: Callable, variables: Any, size: tuple[int, int], batch: int | None) -> bytes:
    """Return the artefact of run(variables, uint8 [batch *size 3]); None: one image.

    The batch size is fixed: with a symbolic one, jax2onnx 0.17.1 fails at `lax.pad`, which pools
    need.
    """
    model = needed("jax2onnx", "onnx").to_onnx(
        functools.partial(run, variables),
        [jax.ShapeDtypeStruct((batch or 1, *size, 3), np.uint8)],
        model_name="seg_jax",
        opset=_OPSET,
        input_names=["image"],
        output_names=["output"],
    )
    return model.SerializeToString()


def describe(artefact: bytes, about: Mapping[str, Any]) -> bytes:
    """Return the artefact with a description in its metadata_props: an entry of JSON for each key.

    In onnxruntime, `session.get_modelmeta().custom_metadata_map["classes"]` is one of them.
    """
    onnx = needed("onnx", "onnx")
    model = onnx.load_model_from_string(artefact)
    for key, value in about.items():
        model.metadata_props.add(key=key, value=json.dumps(value, ensure_ascii=False))
    return model.SerializeToString()


def load(artefact: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """Return the artefact's function, run by onnxruntime on the CPU."""
    runtime = needed("onnxruntime", "onnx")
    session = runtime.InferenceSession(artefact, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["output"], {"image": images})[0]
