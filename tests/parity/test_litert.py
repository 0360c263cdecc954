"""Google's TensorFlow Lite networks, imported, against LiteRT itself, on pictures of VOC.

Needs `ai-edge-litert` and SEG_JAX_TEST_DATA.
"""

import functools

import jax
import numpy as np
import pytest
from PIL import Image

from seg_jax import data, metrics, pretrained
from seg_jax.evaluation import pretrained as published_run
from seg_jax.inference import stitching

interpreter = pytest.importorskip("ai_edge_litert.interpreter")
FLOAT = "weights/deeplabv3_mnv2_dm05_voc/deeplabv3.tflite"
UINT8 = "weights/deeplabv3_mnv2_voc_uint8/deeplabv3_mnv2_pascal_quant.tflite"
REFERENCE = "LiteRT (ai-edge-litert), VOC 2012 val"


class Runtime:
    """LiteRT's network: [1 h w 3] of the file's type to its output."""

    def __init__(self, path):
        self._run = interpreter.Interpreter(str(path), num_threads=2)
        self._run.allocate_tensors()
        (self._input,), (self._output,) = (
            [entry["index"] for entry in entries]
            for entries in (self._run.get_input_details(), self._run.get_output_details())
        )

    def __call__(self, x):
        self._run.set_tensor(self._input, x)
        self._run.invoke()
        return self._run.get_tensor(self._output)


def pictures(test_data):
    return data.open_source("voc2012", test_data / "data", "val")


def squashed(picture):
    """What the float network takes, made without seg_jax."""
    resized = Image.fromarray(picture).resize((257, 257), Image.Resampling.BILINEAR)
    return (np.asarray(resized, np.float32) / 127.5 - 1)[None]


def test_logits_of_sixty_pictures(test_data, parity_record):
    """Logits reach 30: 1e-3 of them is what float32 leaves of sixty layers."""
    runtime, loaded = Runtime(test_data / FLOAT), pretrained.load(test_data / FLOAT)
    apply = jax.jit(functools.partial(loaded.model.apply, train=False))
    source = pictures(test_data)
    worst, same, total = 0.0, 0, 0
    for index in range(0, 300, 5):
        picture = source[index]["image"]
        x = loaded.preprocessing(picture)[None]
        # The same 8-bit values; x / 127.5 - 1 may round its last bit otherwise.
        np.testing.assert_allclose(x, squashed(picture), rtol=0, atol=1e-7)
        x = squashed(picture)
        expected = runtime(x)
        actual = np.asarray(apply(loaded.variables, x)["out"])
        worst = max(worst, float(abs(actual - expected).max()))
        same += (actual.argmax(-1) == expected.argmax(-1)).sum()
        total += expected[..., 0].size
    assert same / total > 0.999
    parity_record(loaded.name, REFERENCE, "logits of 60 pictures, absolute", worst, tolerance=1e-3)
    parity_record(
        loaded.name, REFERENCE, "labels of 60 pictures, share that differs", 1 - same / total,
        tolerance=1e-3,
    )  # fmt: skip


def mean_iou(source, predict):
    confusion = np.zeros((21, 21), np.int64)
    for index in range(len(source)):
        example = source[index]
        prediction = predict(example["image"]).astype(np.uint8)
        confusion += metrics.confusion_on_host(example["label"], prediction, 21)
    return metrics.mean_iou(confusion)


def score_of_float(runtime, picture):
    logits = runtime(squashed(picture))[0]
    return stitching.resize_scores(logits, picture.shape[:2]).argmax(-1)


def score_of_uint8(runtime, picture):
    """Padded to the input as the network was trained; 128 is 0 to it. The labels are its own."""
    canvas = np.full((1, 513, 513, 3), 128, np.uint8)
    height, width = picture.shape[:2]
    canvas[0, :height, :width] = picture
    return runtime(canvas)[0, :height, :width]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "score", "tolerance"),
    [(FLOAT, score_of_float, 0.001), (UINT8, score_of_uint8, 0.02)],
)
def test_scores_of_all_pictures(test_data, parity_record, file, score, tolerance):
    source, loaded = pictures(test_data), pretrained.load(test_data / file)
    theirs = mean_iou(source, functools.partial(score, Runtime(test_data / file)))
    ours = published_run.score_published(loaded, root=test_data / "data", progress=False)
    found = ours.metrics["mean_iou"]
    print(f"{loaded.name}: LiteRT {theirs:.4f}, here {found:.4f}")
    what = f"mIoU of {len(source)} pictures, {theirs:.4f} there, {found:.4f} here: difference"
    parity_record(loaded.name, REFERENCE, what, abs(theirs - found), tolerance=tolerance)
