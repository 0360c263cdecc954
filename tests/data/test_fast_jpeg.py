"""simplejpeg gives Pillow's pixels and Pillow's errors, whatever the file."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from seg_jax.checks import UserError
from seg_jax.data import images

pytest.importorskip("simplejpeg")
KINDS = {
    "444": {"subsampling": "4:4:4"},
    "422": {"subsampling": "4:2:2"},
    "420": {"subsampling": "4:2:0"},
    "coarse": {"quality": 12},
    "progressive": {"progressive": True},
    "restart": {"restart_marker_rows": 1},
    "rgb": {"keep_rgb": True},
    "exif": {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"},
}


def encoded(rng, size, **options):
    """A smooth picture as the bytes of a JPEG."""
    noise = ndimage.gaussian_filter(rng.random((*size, 3)), (3, 3, 0)) * 1500 - 620
    content = io.BytesIO()
    Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).save(content, "JPEG", **options)
    return content.getvalue()


def read(content) -> tuple[Any, bool]:
    """Return pixels or the error's text, and whether simplejpeg's pixels were taken."""
    decode: Any = images._decode_jpeg()
    taken = []

    def seen(*arguments, **options):
        taken.append(decode(*arguments, **options))
        return taken[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "_decode_jpeg", lambda: seen if decode else None)
        try:
            found = images.read_image(images.Encoded("a.jpg", content))
        except UserError as error:
            return str(error), False
    return found, any(found is one for one in taken)


def read_by_pillow(content):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "_decode_jpeg", lambda: None)
        return read(content)[0]


@pytest.mark.skipif(images._decode_jpeg() is None, reason="Pillow was built with another library")
@pytest.mark.parametrize("kind", KINDS)
def test_every_pixel_is_pillow_s(rng, kind):
    for size in ((1, 1), (8, 8), (17, 31), (64, 47), (150, 203)):
        content = encoded(rng, size, **KINDS[kind])
        found, fast = read(content)
        assert fast and found.flags.writeable and found.dtype == np.uint8
        np.testing.assert_array_equal(found, read_by_pillow(content))


def test_grey_and_cmyk_are_pillow_s(rng):
    for mode in ("L", "CMYK"):
        content = io.BytesIO()
        pixels = Image.open(io.BytesIO(encoded(rng, (20, 30)))).convert(mode)
        pixels.save(content, "JPEG")
        found, fast = read(content.getvalue())
        assert not fast
        np.testing.assert_array_equal(found, read_by_pillow(content.getvalue()))


def test_damage_gives_the_same_pixels_or_the_same_error(rng):
    """Bytes that are changed, cut off, or put behind the end."""
    sound = [encoded(rng, (40, 56), quality=90, progressive=scans) for scans in (False, True)]
    errors = slow = 0
    for trial in range(150):
        content = bytearray(sound[trial % 2])
        for place in rng.integers(2, len(content), 1 + trial % 3):
            content[place] = rng.integers(256)
        if trial % 5 == 0:
            del content[rng.integers(2, len(content)) :]
        if trial % 7 == 0:
            content += bytes(rng.integers(0, 256, 99, dtype=np.uint8))
        found, fast = read(bytes(content))
        expected = read_by_pillow(bytes(content))
        if isinstance(expected, str):
            assert found == expected
            errors += 1
        else:
            np.testing.assert_array_equal(found, expected)
            slow += not fast
    assert errors > 20 and slow > 20


def test_a_file_that_is_far_too_long_for_its_picture_is_not_read_whole(rng):
    content = encoded(rng, (8, 8)) + bytes(2**20 + 6 * 64)
    found, fast = read(content)
    assert not fast
    np.testing.assert_array_equal(found, read_by_pillow(content))
