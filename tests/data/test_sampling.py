"""The compiled loops and NumPy's functions give the same pixels, those of earlier versions."""

import hashlib
from typing import Any

import numpy as np
import pytest

from seg_jax.data import sampling, transforms
from seg_jax.data.config import Augmentation

needs_numba = pytest.mark.skipif(sampling._compiled() is None, reason="Numba is not installed")
PAD = (3.0, 200.0, 77.0, 5.0)


@pytest.fixture
def without_numba(monkeypatch):
    """Call a function as it runs where Numba is not installed."""

    def call(function, *arguments, **keywords):
        with monkeypatch.context() as patch:
            patch.setattr(sampling, "_compiled", lambda: None)
            return function(*arguments, **keywords)

    return call


def drawn(seed, dtype, channels):
    """An image, its label and an augmentation, of sizes and settings that the seed decides."""
    rng = np.random.default_rng(seed)
    height, width, *crop = rng.integers(1, 90, 4).tolist()
    image = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    if dtype == np.float32:
        image = (image * rng.random(image.shape)).astype(np.float32)
    label = rng.integers(0, 256, (height, width), dtype=np.uint8)
    # Every third may warp; scale_step makes a scale of 1, where pixels are copied, likely.
    changes: Any = {"elastic_px": 4.0, "rotate": 0.5, "blur": 0.5} if seed % 3 == 0 else {}
    return image, label, Augmentation(tuple(crop), (0.25, 2.5), (0.0, 0.25)[seed % 2], **changes)


@needs_numba
@pytest.mark.parametrize(
    ("dtype", "channels"),
    [
        (np.uint8, 3),
        pytest.param(np.uint8, 1, marks=pytest.mark.slow),  # compiled anew: seconds
        pytest.param(np.float32, 4, marks=pytest.mark.slow),
    ],
)
def test_every_bit_is_the_one_that_numpy_computes(without_numba, monkeypatch, dtype, channels):
    loops, ran = sampling._compiled(), set()
    for name in ("sample_crop", "sample_points"):
        kernel = getattr(loops, name)

        def seen(*arguments, name=name, kernel=kernel):
            ran.add(name)
            return kernel(*arguments)

        monkeypatch.setattr(loops, name, seen)
    copies = mirrored = padded = 0
    for seed in range(120):
        image, label, config = drawn(seed, dtype, channels)
        change = transforms.draw(np.random.default_rng(seed), label.shape, config)
        pad = ("end", "end_after_flip")[seed % 2]
        settings = {"crop": config.crop, "pad_value": PAD[:channels], "pad": pad}
        found = transforms.apply(image, label, change, **settings)
        expected = without_numba(transforms.apply, image, label, change, **settings)
        if seed % 3:  # not warped: into given arrays, where they fit
            out = tuple(np.ones_like(part) for part in expected)
            wrong = out[0][:, 1:], out[1][:, 1:]
            assert transforms.apply(image, label, change, **settings, out=out)[0] is out[0]
            np.testing.assert_array_equal(out[0], found[0])
            np.testing.assert_array_equal(out[1], found[1])
            assert transforms.apply(image, label, change, **settings, out=wrong)[0] is not wrong[0]
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype and one.flags.c_contiguous
            np.testing.assert_array_equal(one, other, err_msg=f"seed {seed}: {change}")
        copies += change.size == label.shape
        mirrored += change.mirror
        padded += change.size[0] < config.crop[0] and change.size[1] < config.crop[1]
    assert ran == {"sample_crop", "sample_points"}
    assert copies > 4 and mirrored > 40 and padded > 8


def test_pixels_are_those_of_version_0_1(without_numba):
    """The digest was made at revision 4492abc, before there were compiled loops."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (37, 50, 3), dtype=np.uint8)
    label = rng.integers(0, 21, (37, 50), dtype=np.uint8)
    config = Augmentation((33, 41), (0.5, 2.0))

    def digest():
        total = hashlib.sha256()
        for draw in range(100):
            for part in transforms.augment(
                image, label, np.random.default_rng(draw), config, pad_value=PAD[:3]
            ):
                total.update(part.tobytes())
        return total.hexdigest()[:16]

    assert digest() == without_numba(digest) == "d31c8c15c5d9157a"


def test_what_the_loops_do_not_take_runs_in_numpy(rng):
    many = rng.integers(0, 256, (9, 8, 7), dtype=np.uint8)
    label = np.zeros((9, 8), np.uint8)
    assert sampling.kernels(many, label) is None
    assert sampling.kernels(many[..., :3], label.astype(np.int32)) is None
    assert sampling.kernels(many[..., :3].astype(np.float64), label) is None
    config = Augmentation((12, 12), (0.5, 2.0))
    image, _ = transforms.augment(many, label, rng, config, pad_value=(1.0,) * 7)
    assert image.shape == (12, 12, 7)


@needs_numba
def test_parts_of_an_image_are_sampled_as_well_as_whole_ones(rng):
    """A reader of somebody's own may return a view that is not contiguous, or read-only."""
    image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    label = rng.integers(0, 21, (40, 60), dtype=np.uint8)
    config = Augmentation((24, 24), (0.5, 2.0))
    view, view_label = image[::2, 5:45], label[::2, 5:45]
    assert sampling.kernels(view, view_label)
    found = [
        transforms.augment(*pair, np.random.default_rng(4), config, pad_value=PAD[:3])
        for pair in ((view, view_label), (view.copy(), view_label.copy()))
    ]
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
