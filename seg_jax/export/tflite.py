"""Export to LiteRT (TensorFlow Lite) by litert-converter from StableHLO; run by ai-edge-litert."""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import flatbuffers
import jax
import numpy as np
from jax import export

from seg_jax.export.libraries import needed

SUFFIX = ".tflite"
METADATA = "seg_jax"


def convert(run: Callable, variables: Any, size: tuple[int, int], batch: int | None) -> bytes:
    """Return the artefact of run(variables, uint8 [batch *size 3]); None: one image."""
    compiler = needed("litert_converter.converter_api_ext", "tflite")
    ir = needed("litert_converter.mlir.ir", "tflite")
    passes = needed("litert_converter.mlir.passmanager", "tflite")
    dialect = needed("litert_converter.mlir.dialects.stablehlo", "tflite")
    images = jax.ShapeDtypeStruct((batch or 1, *size, 3), np.uint8)
    exported = export.export(jax.jit(functools.partial(run, variables)), platforms=("cpu",))(images)
    context = ir.Context()
    compiler.prepare_mlir_context(context)
    with context:
        module = dialect.deserialize_portable_artifact(context, exported.mlir_module_serialized)
        compiler.set_signature(
            module.operation,
            signature_name="serving_default",
            input_names=["image"],
            output_names=["output"],
        )
        compiler.run_convert_to_tfl_passes(
            module, passes.PassManager(), compiler.ConvertToTFLConfig()
        )
        return compiler.export_flatbuffer_to_bytes(module.operation)


def describe(artefact: bytes, about: Mapping[str, Any]) -> bytes:
    """Return the artefact with a description, JSON, in its metadata under the name "seg_jax".

    The flatbuffer is rebuilt with one more buffer (tensorflow/lite/schema/schema.fbs, `Metadata`).
    """
    schema = needed("ai_edge_litert.schema_py_generated", "tflite")
    model = schema.ModelT.InitFromPackedBuf(artefact, 0)
    content, entry = schema.BufferT(), schema.MetadataT()
    content.data = np.frombuffer(json.dumps(about, ensure_ascii=False).encode(), np.uint8)
    entry.name, entry.buffer = METADATA, len(model.buffers)
    model.buffers.append(content)
    model.metadata = [*(model.metadata or ()), entry]
    builder = flatbuffers.Builder(len(artefact) + len(content.data) + 1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def load(artefact: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """Return the artefact's function, run by LiteRT on the CPU."""
    litert = needed("ai_edge_litert.interpreter", "tflite")
    run = litert.Interpreter(model_content=artefact).get_signature_runner("serving_default")
    return lambda images: run(image=images)["output"]
