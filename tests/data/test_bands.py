"""Images of any number of channels and of more than 8 bits: values as stored, and the stated rule.

Files are written by tifffile, NumPy or by hand; what is read is compared with the arrays.
"""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from seg_jax import data
from seg_jax.checks import UserError
from seg_jax.cli import data as cli_data
from seg_jax.data import bands, transforms
from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.preprocessing import TORCH, Preprocessing
from seg_jax.data.validate import channels

SHAPE = (70, 45)
WINDOW = (slice(13, 57), slice(5, 40))


def expected(values, low, high):
    """The rule of `preprocessing.range`, in double precision."""
    return np.clip((values.astype(np.float64) - low) * 255 / (high - low), 0, 255)


def check(path, values, value_range):
    channels = values.shape[2]
    found = bands.read(path, channels, value_range)
    if value_range is None:
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, values)
    else:
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected(values, *value_range), atol=1e-4)
    np.testing.assert_array_equal(bands.read(path, channels, value_range, WINDOW), found[WINDOW])
    assert bands.describe(path).size == SHAPE


def png(values: np.ndarray, kind: int) -> bytes:
    """A PNG of 16 bits a channel (W3C PNG, section 5): kind 0 grey, 2 RGB, 6 RGBA."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


class TestStoredValues:
    @pytest.mark.parametrize("planar", ["contig", "separate"])
    @pytest.mark.parametrize("tile", [None, (16, 16)])
    @pytest.mark.parametrize("compression", [None, "zlib"])
    def test_tiff(self, tmp_path, rng, planar, tile, compression):
        tifffile = pytest.importorskip("tifffile")
        kinds = {"u1": None, "<u2": (0, 4095), ">u2": (7, 65535), "<i2": (-99, 500), "<f4": (-1, 1)}
        for kind, value_range in kinds.items():
            values = (
                rng.normal(0, 2, (*SHAPE, 5))
                if kind[1] == "f"
                else rng.integers(0, 255, (*SHAPE, 5))
            )
            values = values.astype(kind)
            stored = values if planar == "contig" else values.transpose(2, 0, 1)
            rows = None if tile else 9
            options = {"planarconfig": planar, "tile": tile, "compression": compression}
            options |= {"byteorder": ">" if kind[0] == ">" else "<", "photometric": "minisblack"}
            tifffile.imwrite(tmp_path / "a.tif", stored, rowsperstrip=rows, **options)
            check(tmp_path / "a.tif", values, value_range)

    def test_pages_are_channels(self, tmp_path, rng):
        tifffile = pytest.importorskip("tifffile")
        values = rng.integers(0, 65536, (*SHAPE, 6)).astype(np.uint16)
        tifffile.imwrite(tmp_path / "a.tif", values.transpose(2, 0, 1), photometric="minisblack")
        check(tmp_path / "a.tif", values, (0, 65535))

    @pytest.mark.parametrize("kind", ["u1", "<u2", ">u2", "<i4", "<f4", "<f8"])
    def test_npy(self, tmp_path, rng, kind):
        values = rng.integers(0, 200, (*SHAPE, 4)).astype(kind)
        np.save(tmp_path / "a.npy", values)
        check(tmp_path / "a.npy", values, None if kind == "u1" else (0, 150))
        np.save(tmp_path / "a.npy", values[..., 0])
        check(tmp_path / "a.npy", values[..., :1], None if kind == "u1" else (0, 150))

    def test_16_bit_png_keeps_all_bits(self, tmp_path, rng):
        for kind, count in ((0, 1), (2, 3), (6, 4)):
            values = rng.integers(0, 65536, (*SHAPE, count)).astype(np.uint16)
            (tmp_path / "a.png").write_bytes(png(values, kind))
            check(tmp_path / "a.png", values, (0, 65535))
            rgb = values[..., :3] if count > 1 else np.repeat(values, 3, axis=2)
            found = bands.read(tmp_path / "a.png", 3, (0, 65535))
            np.testing.assert_allclose(found, expected(rgb, 0, 65535), atol=1e-4)

    def test_pictures_of_8_bits(self, tmp_path, rng):
        values = rng.integers(0, 256, (*SHAPE, 4)).astype(np.uint8)
        Image.fromarray(values).save(tmp_path / "a.png")
        check(tmp_path / "a.png", values, None)
        Image.fromarray(values[..., 0]).save(tmp_path / "b.png")
        check(tmp_path / "b.png", values[..., :1], None)


@pytest.mark.parametrize(
    ("shape", "kind", "channels", "value_range", "message"),
    [
        ((8, 9, 5), "u1", 3, None, "an image of 5 channels, where 3 are expected: set --data"),
        ((8, 9, 4), "u1", 3, None, "an image of 4 channels"),  # not an alpha: never dropped
        ((8, 9, 2), "u2", 2, None, r"say which of them .*range 0 65535 \(`data stats ROOT`"),
        ((8, 9, 2), "u1", 2, (0, 4095), "8 bits a channel, where preprocessing.range is"),
        ((8, 9, 2), "u2", 2, (0, 0.5), "all values lie beyond preprocessing.range"),
        ((8, 9, 0), "u1", 3, None, "an image has at least one pixel"),
        ((8, 9, 2, 2), "u1", 2, None, "an array of shape"),
        ((8, 9), "c8", 1, None, "values of type complex64"),
        ((8, 9), "O", 1, None, "values of type object"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(tmp_path, shape, kind, channels, value_range, message):
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape) + 1
    np.save(tmp_path / "a.npy", values.astype(kind), allow_pickle=True)
    with pytest.raises(UserError, match=f"a.npy: .*{message}") as error:
        bands.read(tmp_path / "a.npy", channels, value_range)
    assert "\n" not in str(error.value)


def test_values_that_are_no_numbers_are_refused(tmp_path):
    values = np.ones((4, 5), np.float32)
    values[1, 2] = np.nan
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(UserError, match="a.npy: 1 values are not finite"):
        bands.read(tmp_path / "a.npy", 1, (0, 1))


def test_a_block_that_unpacks_to_more_than_its_size_is_refused(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "a.tif"
    values = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    tifffile.imwrite(path, values, compression="zlib", metadata=None)
    with tifffile.TiffFile(path) as tiff:
        offset, count = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    bomb = zlib.compress(bytes(2**22)).ljust(count, b"\0")[:count]
    content = bytearray(path.read_bytes())
    content[offset : offset + count] = bomb
    path.write_bytes(content)
    with pytest.raises(UserError, match="unpacks to more than its size"):
        bands.read(path, 1)


class TestPreprocessing:
    def test_each_channel_has_its_mean_and_std(self, rng):
        image = rng.uniform(0, 255, (3, 4, 5)).astype(np.float32)
        mean, std = rng.uniform(50, 200, 5), rng.uniform(1, 9, 5)
        seen = Preprocessing(tuple(mean), tuple(std), channels=5, range=(0.0, 1.0))
        np.testing.assert_allclose(seen(image), (image - mean) / std, rtol=1e-4, atol=1e-4)
        assert (seen.inputs, seen.dtype, seen.is_plain) == (5, np.float32, False)
        assert seen.pad_value == tuple(mean)

    def test_a_number_for_each_channel_is_demanded(self):
        with pytest.raises(ValueError, match=r"mean has 3 entries, the images have 5 channels"):
            Preprocessing(TORCH.mean, TORCH.std, channels=5)
        with pytest.raises(ValueError, match=r'order is "?.bgr.*only "rgb"'):
            Preprocessing((1.0,), (1.0,), order="bgr", channels=1)
        with pytest.raises(ValueError, match="lowest value first"):
            Preprocessing(TORCH.mean, TORCH.std, range=(5.0, 5.0))


class TestAugmentation:
    CONFIG = Augmentation(
        crop=(24, 20), scale=(0.5, 2.0), elastic_px=3.0, rotate=1.0, blur=1.0, mirror_px=2
    )

    def test_channels_are_changed_alike(self, rng):
        """Five channels come out as the same five, each augmented as part of an RGB image."""
        image = rng.integers(0, 256, (*SHAPE, 5)).astype(np.uint8)
        label = rng.integers(0, 3, SHAPE).astype(np.uint8)
        for seed in range(4):

            def changed(part, seed=seed):
                pad, rng = (7.0,) * part.shape[2], np.random.default_rng(seed)
                return transforms.augment(part, label, rng, self.CONFIG, pad_value=pad)

            whole, rgb, rest = changed(image), changed(image[..., :3]), changed(image[..., 2:])
            np.testing.assert_array_equal(whole[0], np.dstack([rgb[0], rest[0][..., 1:]]))
            np.testing.assert_array_equal(whole[1], rgb[1])
            deep = changed(image.astype(np.float32))
            assert deep[0].dtype == np.float32
            assert np.abs(deep[0] - whole[0]).max() <= 1.0  # two roundings to 8 bits

    def test_colour_jitter_is_off_without_colours(self, rng):
        image, label = (
            rng.integers(0, 256, (24, 20, 4)).astype(np.uint8),
            np.zeros((24, 20), np.uint8),
        )
        config = Augmentation(crop=(24, 20), flip=0.0, jitter=(0.5, 0.5, 0.5))
        found, _ = transforms.augment(image, label, rng, config, pad_value=(0.0,) * 4)
        np.testing.assert_array_equal(found, image)


def test_a_data_set_of_five_channels(tmp_path, rng):
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    values = rng.integers(0, 4096, (3, 8, 9, 5)).astype(np.uint16)
    for number, image in enumerate(values):
        np.save(tmp_path / f"images/{number}.npy", image)
        Image.fromarray(np.full((8, 9), number % 2, np.uint8)).save(
            tmp_path / f"masks/{number}.png"
        )
    (tmp_path / "classes.txt").write_text("a\nb\n")
    seen = Preprocessing((9.0,) * 5, (1.0,) * 5, channels=5, range=(0, 4095))
    config = DataConfig("folder", Augmentation((8, 8)), seen, root=tmp_path)
    source = data.open_configured(config, "train")
    record = source[1]
    assert source.size(1) == (8, 9)
    np.testing.assert_allclose(record["image"], expected(values[1], 0, 4095), atol=1e-4)
    with pytest.raises(UserError, match=r"0\.npy: an image of 5 channels, where 3 are expected"):
        data.open_source("folder", tmp_path, "train")[0]


class TestStatistics:
    def write(self, root, values):
        for part in ("images", "masks"):
            (root / part).mkdir()
        for number, image in enumerate(values):
            np.save(root / f"images/{number}.npy", image)
            mask = np.arange(image.shape[0] * image.shape[1]).reshape(image.shape[:2]) % 2
            Image.fromarray(mask.astype(np.uint8)).save(root / f"masks/{number}.png")
        (root / "classes.txt").write_text("a\nb\n")

    def test_mean_and_std_of_all_pixels(self, tmp_path, rng):
        """Images of different sizes and brightness: pooled, not a mean of means."""
        shapes = (4, 5), (9, 3), (6, 6), (2, 8)
        values = [rng.normal(1e4 * n, 3, (*size, 5)) for n, size in enumerate(shapes)]
        self.write(tmp_path, values)
        source = data.open_source("folder", tmp_path, "train")
        found = channels.measure(source, 5, (-10.0, 5e4))
        pixels = np.concatenate([values[int(name)].reshape(-1, 5) for name in source.ids])
        np.testing.assert_allclose(found.mean, pixels.mean(0))
        np.testing.assert_allclose(found.std, pixels.std(0))
        assert found.lowest == tuple(pixels.min(0)) and found.highest == tuple(pixels.max(0))

    def test_the_options_that_it_prints_normalise(self, tmp_path, rng, capsys):
        values = [rng.integers(0, 4096, (6, 7, 4)).astype(np.uint16) for _ in range(5)]
        self.write(tmp_path, values)
        assert cli_data.main(["stats", str(tmp_path), "--channels", "4", "--split", "train"]) == 0
        words = capsys.readouterr().out.split("--data.preprocessing.")[1:]
        given = {word.split()[0]: tuple(map(float, word.split()[1:])) for word in words}
        seen = Preprocessing(given["mean"], given["std"], channels=4, range=given["range"])
        where = DataConfig("folder", Augmentation((8, 8)), seen, root=tmp_path)
        source = data.open_configured(where, "train")
        normal = np.stack([seen(source[index]["image"]) for index in range(4)])
        np.testing.assert_allclose(normal.mean((0, 1, 2)), 0, atol=1e-3)
        np.testing.assert_allclose(normal.std((0, 1, 2)), 1, atol=1e-3)
