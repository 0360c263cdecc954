"""`predict --video`: frame by frame as the images are predicted. Needs PyAV, an extra."""

import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from seg_jax.checks import UserError
from seg_jax.data import colours
from seg_jax.inference import video

try:
    import av
except ImportError:
    av = None
needs_av = pytest.mark.skipif(av is None, reason='no PyAV: pip install "seg_jax[video]"')
CLASSES = ("background", "bright")


def frames(count=6, size=(37, 49)):
    """Grey frames with a bright square that moves to the right, uint8 [n h w 3]."""
    made = np.full((count, *size, 3), 40, np.uint8)
    for number, frame in enumerate(made):
        frame[8:24, 4 * number : 4 * number + 16] = 230
    return made


def write(path, images, *, rate=5, codec="ffv1", pix_fmt="bgr0"):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = pix_fmt
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def bright(image):
    return (image[..., 0] > 128).astype(np.uint8)


def predict(path, out, **options):
    palette = colours.of(CLASSES)
    return video.predict(
        path, out, label=bright, classes=CLASSES, palette=palette, progress=False, **options
    )


@needs_av
def test_every_frame_in_its_place_at_the_rate_of_the_video(tmp_path):
    made = frames()
    write(tmp_path / "clip.mkv", made)
    written = predict(tmp_path / "clip.mkv", tmp_path / "out", labels=True)
    assert written == (tmp_path / "out/clip_overlay.mp4", 6, tmp_path / "out/clip")
    for number, image in enumerate(made):
        with Image.open(tmp_path / f"out/clip/{number:06}.png") as file:
            assert file.mode == "P"
            np.testing.assert_array_equal(np.array(file), bright(image))
    with av.open(str(written.video)) as container:
        (stream,) = container.streams
        assert stream.average_rate == Fraction(5)
        drawn = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(stream)]
    assert len(drawn) == 6
    assert drawn[0].shape[0] > 37 + 10 and drawn[0].shape[0] % 2 == drawn[0].shape[1] % 2 == 0
    for number, image in enumerate(drawn):  # lossy: in the middle of the areas only
        inside = image[12:20, 4 * number + 4 : 4 * number + 12].mean((0, 1))
        outside = image[28:35, 2:46].mean((0, 1))
        assert np.ptp(outside) < 12 and abs(outside.mean() - 40) < 12  # the background stays
        assert np.ptp(inside) > 60  # the class's colour over it


@needs_av
def test_what_is_no_video_is_one_line_and_leaves_nothing(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path}/clip.mkv\n")
    write(tmp_path / "clip.mkv", frames())
    for name in ("text.mp4", "list.m3u8"):
        with pytest.raises(UserError, match=f"{name}: is no video that can be read"):
            predict(tmp_path / name, tmp_path / "out")
    with pytest.raises(UserError, match="nowhere.mp4: no such file"):
        predict(tmp_path / "nowhere.mp4", tmp_path / "out")
    write(tmp_path / "x.mp4", frames(), codec="mpeg4", pix_fmt="yuv420p")
    assert predict(tmp_path / "x.mp4", tmp_path / "out").frames == 6
    before = (tmp_path / "out/x_overlay.mp4").read_bytes()

    def fails(image):
        raise UserError("no")

    with pytest.raises(UserError):
        video.predict(tmp_path / "x.mp4", tmp_path / "out", label=fails, classes=CLASSES,
                      palette=colours.of(CLASSES), progress=False)  # fmt: skip
    assert (tmp_path / "out/x_overlay.mp4").read_bytes() == before
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["x_overlay.mp4"]


def test_without_the_extra_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r'pip install "seg_jax\[video\]"'):
        predict(tmp_path / "clip.mkv", tmp_path)
