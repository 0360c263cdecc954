"""Large images window by window: the same labels, in bounded memory, at their place on earth."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from small_task import SmallNet, small_experiment

from seg_jax.data import images
from seg_jax.data.preprocessing import Preprocessing
from seg_jax.inference import forward, large, predict
from seg_jax.types import voc_palette


def network(**evaluation):
    task = small_experiment(SmallNet(), **evaluation)
    shape = (1, 16, 16, 3)
    return task, task.model.init(jax.random.key(0), np.zeros(shape, np.float32), train=False)


@pytest.mark.parametrize("size", [(70, 45), (40, 130), (9, 7)])
@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_the_labels_are_those_of_the_whole_image(tmp_path, rng, size, suffix):
    """Of a network whose receptive field, 3 px, is smaller than the context: exactly."""
    task, variables = network(mode="whole", canvas=None, bucket=8)
    pixels = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    path = tmp_path / f"a{suffix}"
    np.save(path, pixels) if suffix == ".npy" else Image.fromarray(pixels).save(path)
    labels, overview, step = large.predict(task, variables, path, core=32, context=4)
    expected = forward.predict_labels(task, variables, pixels)
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(overview, pixels) if step == 1 else None


def test_the_overview_is_every_nth_pixel(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(large, "_OVERVIEW", 20)
    task, variables = network(mode="whole", canvas=None, bucket=8)
    pixels = rng.integers(0, 256, (70, 45, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    _, overview, step = large.predict(task, variables, tmp_path / "a.png", core=32, context=4)
    assert step == 4
    np.testing.assert_array_equal(overview, pixels[::4, ::4])


def test_predict_takes_this_way_for_large_images_only(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(large, "PIXELS", 1000)
    task, variables = network(mode="whole", canvas=None, bucket=8)
    for name, size in (("small", (20, 20)), ("large", (40, 50))):
        pixels = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    taken = []
    monkeypatch.setattr(large, "predict", lambda e, v, path: taken.append(path.stem) or (
        np.zeros((40, 50), np.uint8), np.zeros((20, 25, 3), np.uint8), 2))  # fmt: skip
    outcome = predict.predict(
        task, variables, [tmp_path], tmp_path / "out", classes=("a", "b", "c"),
        palette=voc_palette(), progress=False,
    )  # fmt: skip
    assert taken == ["large"] and not outcome.failures
    with Image.open(tmp_path / "out/large_overlay.png") as overlay:
        assert overlay.width < 50  # of the overview and its legend


def test_a_geotiff_s_labels_keep_its_place(tmp_path, rng):
    rasterio = pytest.importorskip("rasterio")
    task, variables = network(mode="whole", canvas=None, bucket=8)
    transform = rasterio.Affine(0.5, 0, 4e5, 0, -0.5, 5e6)
    pixels = rng.integers(0, 256, (24, 31, 3)).astype(np.uint8)
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=24, width=31, count=3, dtype="uint8",
        crs="EPSG:32633", transform=transform, photometric="RGB",
    ) as target:  # fmt: skip
        target.write(pixels.transpose(2, 0, 1))
    outcome = predict.predict(
        task, variables, [tmp_path / "a.tif"], tmp_path / "out", classes=("a", "b", "c"),
        palette=voc_palette(), progress=False,
    )  # fmt: skip
    assert not outcome.failures
    with rasterio.open(tmp_path / "out/a.tif") as found:
        assert (found.transform, found.crs.to_epsg()) == (transform, 32633)
        expected = forward.predict_labels(task, variables, pixels)
        np.testing.assert_array_equal(found.read(1), expected)


MEASURE = """
import re, sys
from pathlib import Path
import numpy as np
sys.path[:0] = {paths}
import test_large
from seg_jax.inference import predict
from seg_jax.types import voc_palette
task, variables = test_large.network(mode="whole", canvas=None, bucket=64)
outcome = predict.predict(task, variables, [Path("big.npy")], Path("out"), classes=("a", "b", "c"),
                          palette=voc_palette(), progress=False)
assert not outcome.failures, outcome
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux' /proc")
def test_ten_thousand_squared_pixels_fit_into_2_gib(tmp_path):
    """Another process, whose largest resident memory is measured.

    From /proc, as `getrusage` of a new process begins with what the process that started it took.
    """
    pixels = np.lib.format.open_memmap(tmp_path / "big.npy", "w+", np.uint8, (10_000, 10_000, 3))
    pixels[5000:5010] = 200
    pixels.flush()
    del pixels
    paths = [path for path in sys.path if path.endswith(("tests", "inference"))]
    script = MEASURE.format(paths=[str(p) for p in (*paths, __file__.rpartition("/")[0])])
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    kib = int(done.stdout.split()[-1])
    assert 100_000 < kib < 2 * 2**20, f"{kib / 2**20:.2f} GiB"
    assert images.image_size(tmp_path / "out/big.png") == (10_000, 10_000)


def test_channels_and_depth(tmp_path, rng):
    seen = Preprocessing((100.0,) * 5, (50.0,) * 5, channels=5, range=(0.0, 4095.0))
    task = small_experiment(SmallNet(), mode="whole", canvas=None, bucket=8)
    task = dataclasses.replace(task, data=dataclasses.replace(task.data, preprocessing=seen))
    blank = np.zeros((1, 16, 16, 5), np.float32)
    variables = task.model.init(jax.random.key(0), blank, train=False)
    pixels = rng.integers(0, 4096, (50, 37, 5)).astype(np.uint16)
    np.save(tmp_path / "a.npy", pixels)
    labels, _, _ = large.predict(task, variables, tmp_path / "a.npy", core=32, context=4)
    whole = predict.read(tmp_path / "a.npy", seen)
    np.testing.assert_array_equal(labels, forward.predict_labels(task, variables, whole))
