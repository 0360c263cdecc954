import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from seg_jax.checks import UserError
from seg_jax.data import images
from seg_jax.types import voc_palette


@pytest.fixture
def picture(rng):
    return rng.integers(0, 256, (11, 17, 3), dtype=np.uint8)


def test_rgb_is_read_as_stored(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.png")
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.png"), picture)


def test_grey_palette_alpha_and_bilevel_become_rgb(tmp_path, picture):
    grey = picture[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(
        images.read_image(tmp_path / "grey.png"), np.stack([grey] * 3, axis=-1)
    )

    indices = grey % 21
    palette = Image.fromarray(indices)
    palette.putpalette(voc_palette().tobytes())
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(
        images.read_image(tmp_path / "palette.png"), voc_palette()[indices]
    )

    alpha = np.dstack([picture, grey])
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(images.read_image(tmp_path / "alpha.png"), picture)

    Image.fromarray(grey > 99).save(tmp_path / "bilevel.png")
    np.testing.assert_array_equal(
        images.read_image(tmp_path / "bilevel.png")[..., 1], np.where(grey > 99, 255, 0)
    )


def test_palette_and_grey_masks_hold_the_same_ids(tmp_path, rng):
    ids = rng.integers(0, 21, (9, 14), dtype=np.uint8)
    ids[0, 0] = 255
    mask = Image.fromarray(ids)
    mask.save(tmp_path / "grey.png")
    mask.putpalette(voc_palette().tobytes())
    mask.save(tmp_path / "palette.png")
    with Image.open(tmp_path / "palette.png") as file:
        assert file.mode == "P"
    for name in ("grey.png", "palette.png"):
        label = images.read_label(tmp_path / name)
        assert label.dtype == np.uint8
        np.testing.assert_array_equal(label, ids)


@pytest.mark.parametrize(
    ("pixels", "what"),
    [
        (np.full((4, 4), 300, np.uint16), "16 bits"),
        (np.zeros((4, 4, 3), np.uint8), "colour"),
        (np.zeros((4, 4, 4), np.uint8), "colour and alpha"),
    ],
)
def test_masks_that_are_no_ids_are_refused_with_a_remedy(tmp_path, pixels, what):
    Image.fromarray(pixels).save(tmp_path / "m.png")
    with pytest.raises(UserError, match=rf"m\.png.*{what}.*8-bit grey or palette PNG"):
        images.read_label(tmp_path / "m.png")


# Where row 0 and column 0 of the stored pixels are seen: Exif 2.32, tag 0x0112.
ORIENTATIONS = {
    1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
    5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation_is_honoured_where_upright_is_asked_for(
    tmp_path, picture, orientation, kind
):
    stored = picture
    row, column = ORIENTATIONS[orientation]
    if "bottom" in (row, column):
        stored = stored[::-1]
    if "right" in (row, column):
        stored = stored[:, ::-1]
    if row in ("left", "right"):
        stored = stored.swapaxes(0, 1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{kind}"
    lossless = {"lossless": True} if kind == "webp" else {}
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, **lossless)
    np.testing.assert_array_equal(images.read_upright(path), picture)


def test_transparency_of_a_palette_is_dropped_without_a_warning(tmp_path, picture):
    indices = picture[..., 0] % 4
    palette = Image.fromarray(indices)
    palette.putpalette(voc_palette().tobytes())
    palette.save(tmp_path / "p.png", transparency=bytes([0, 128, 255]))
    np.testing.assert_array_equal(images.read_image(tmp_path / "p.png"), voc_palette()[indices])


def test_16_bit_colour_is_refused_not_darkened(tmp_path, rng):
    pixels = rng.integers(0, 65536, (5, 7, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 7, 5, 16, 2, 0, 0, 0))]
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n"
    for name, body in parts:
        content += struct.pack(">I", len(body)) + name + body
        content += struct.pack(">I", zlib.crc32(name + body))
    (tmp_path / "deep.png").write_bytes(content)
    for read in (images.read_image, images.read_upright):
        with pytest.raises(
            UserError, match=r"deep\.png.*mode RGB \(16 bits a channel\); save.*8-bit"
        ):
            read(tmp_path / "deep.png")


def test_16_bit_grey_pictures_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 3000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(UserError, match=r"deep\.png.*16 bits.*8-bit"):
        images.read_image(tmp_path / "deep.png")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_damaged_files_never_escape_as_decoder_errors(tmp_path, rng, suffix):
    whole = tmp_path / f"whole.{suffix}"
    smooth = np.tile(np.arange(64, dtype=np.uint8)[:, None, None], (1, 48, 3))
    Image.fromarray(smooth).save(whole)
    content = whole.read_bytes()
    path = tmp_path / f"damaged.{suffix}"
    refused = 0
    for trial in range(150):
        damaged = bytearray(content)
        if trial % 2:
            del damaged[int(rng.integers(0, len(damaged))) :]
        for place in rng.integers(0, max(1, len(damaged)), 3 if trial % 3 else 0):
            damaged[place : place + 1] = bytes([rng.integers(0, 256)])
        path.write_bytes(damaged)
        for read in (images.read_image, images.read_label, images.image_size):
            try:
                read(path)
            except UserError as error:
                refused += 1
                assert path.name in str(error)
    assert refused > 100


def test_truncated_missing_and_empty_files_are_named(tmp_path, picture):
    path = tmp_path / "cut.jpg"
    Image.fromarray(picture.repeat(20, 0).repeat(20, 1)).save(path)
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(UserError, match=r"cut\.jpg: cannot be decoded \(.*truncated.*again"):
        images.read_image(path)
    assert images.image_size(path) == (220, 340)  # the header is whole

    with pytest.raises(UserError, match=r"none\.jpg: no such file"):
        images.read_image(tmp_path / "none.jpg")
    (tmp_path / "empty.png").touch()
    with pytest.raises(UserError, match=r"empty\.png: the file is empty"):
        images.read_label(tmp_path / "empty.png")


def test_a_decompression_bomb_is_an_error_of_the_file(tmp_path):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )
    for read in (images.read_image, images.read_label, images.image_size):
        with pytest.raises(
            UserError, match=r"bomb\.png: too large to decode .*3600000000 .*; shrink.*SEG_JAX_MAX"
        ):
            read(path)
