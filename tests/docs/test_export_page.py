"""The examples of docs/export.md, in a process that cannot import seg_jax."""

import importlib.util
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from pages import ROOT, write_titled
from PIL import Image
from small_task import CLASSES, small_experiment, small_variables

from seg_jax import pretrained
from seg_jax.data.label_map import LabelMap
from seg_jax.export import convert, single_pass
from seg_jax.inference import forward
from seg_jax.pretrained import release

COLOURS = ((0, 0, 0), (1, 2, 3), (255, 128, 7))
NEEDS = {
    "stablehlo": (),
    "onnx": ("jax2onnx", "onnxruntime"),
    "tflite": ("litert_converter", "ai_edge_litert"),
}
# Third parties' warnings, in 2026-11, as in tests/export/test_converters.py.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.mark.slow
@pytest.mark.parametrize("format", NEEDS)
def test_examples_run_without_seg_jax(tmp_path, rng, format):
    missing = [name for name in NEEDS[format] if not importlib.util.find_spec(name)]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: bash scripts/test_export.sh")
    write_titled(ROOT / "docs/export.md", tmp_path)
    found = small_experiment(canvas=(128, 160))
    variables = {"batch_stats": {}, **small_variables(found.model)}
    loaded = pretrained.Pretrained(found, variables, "", LabelMap(CLASSES, COLOURS))
    release.save(loaded, tmp_path / "release", license="mit", card="")
    any_size = format == "stablehlo"
    size = (117, 150) if any_size else (128, 160)
    with jax.numpy_rank_promotion("allow"):  # jax2onnx's form of a bias
        convert.export(
            tmp_path / "release", tmp_path / f"net.{format}", format=format, any_size=any_size
        )
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "photo.png")
    (tmp_path / "seg_jax.py").write_text("raise ImportError('seg_jax must not be needed')")
    done = subprocess.run(
        [sys.executable, f"run_{format}.py", f"net.{format}", "photo.png", "labels.png"],
        cwd=tmp_path, text=True, capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    padded = np.pad(image, ((0, 128 - size[0]), (0, 160 - size[1]), (0, 0)), mode="edge")
    planned, _ = single_pass.plan_exactly(found, (128, 160))
    expected = forward.predict_labels(planned, variables, padded)[: size[0], : size[1]]
    with Image.open(tmp_path / "labels.png") as file:
        np.testing.assert_array_equal(np.array(file), expected)
        assert file.getpalette()[:9] == [channel for colour in COLOURS for channel in colour]
    values, pixels = np.unique(expected, return_counts=True)
    assert done.stdout.splitlines() == [
        f"{CLASSES[value]} {count}" for value, count in zip(values, pixels, strict=True)
    ]
