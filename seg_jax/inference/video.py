"""Predict a video frame by frame, and write it with the classes drawn over it.

Videos are read and written by PyAV, an extra (`pip install "seg_jax[video]"`), whose wheels bring
FFmpeg. One frame is in memory at a time. Container formats that name other files or addresses
(playlists) are not opened.
"""

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seg_jax import checks, files
from seg_jax import progress as progress_bar
from seg_jax.checks import UserError
from seg_jax.data import visualize

# Demuxers of FFmpeg that read one file and nothing else.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,h264,hevc,"
    "ivf,mxf,dv,yuv4mpegpipe"
)
_CODECS = ("libx264", "mpeg4")  # the first that FFmpeg was built with
_MOST_PIXELS = 2**26  # of one frame
_MOST_RATE = 1000  # frames a second
_MOST_NAMES = 40  # classes; more are not listed below the frames

Predict = Callable[[np.ndarray], np.ndarray]


class Written(NamedTuple):
    """What was written.

    Attributes:
      video: the overlay.
      frames: in it.
      labels: folder of the label maps; None: none were asked for.
    """

    video: Path
    frames: int
    labels: Path | None


def predict(
    path: Path,
    out: Path,
    *,
    label: Predict,
    classes: Sequence[str],
    palette: np.ndarray,
    labels: bool = False,
    progress: bool = True,
) -> Written:
    """Write OUT/NAME_overlay.mp4, upright, without sound, at the video's mean frame rate.

    Args:
      path: the video.
      out: folder for the results; created if needed.
      label: returns the class ids, uint8 [h w], of a frame, uint8 [h w 3] RGB.
      classes: names by class id, for the legend below the frames.
      palette: colours by class id, uint8 [256 3].
      labels: also write every frame's label map, OUT/NAME/000000.png.
      progress: draw a progress bar.

    Raises:
      UserError: PyAV is not installed, the file is no video or cannot be decoded to its end (no
        video is written then), or a result would overwrite it.
    """
    av = _library()
    out = Path(out)
    video, folder = out / f"{path.stem}_overlay.mp4", out / path.stem
    if video.resolve() == path.resolve():
        raise UserError(f"--out {out}: {video} would overwrite the video; choose another folder")
    folder = folder if labels else None
    (folder or out).mkdir(parents=True, exist_ok=True)
    count = 0
    with _opened(av, path) as (container, stream):
        rate = min(stream.average_rate or Fraction(25), Fraction(_MOST_RATE))
        total = stream.frames or None
        frames = progress_bar.bar(
            _frames(av, path, container, stream),
            total=total, desc=f"predicting {path.name}", unit="frame", shown=progress,
        )  # fmt: skip
        with files.write_atomically(video) as file, _Writer(av, file, rate) as writer:
            for image in frames:
                found = label(image)
                if folder:
                    with files.write_atomically(folder / f"{count:06}.png") as png:
                        visualize.label_image(found, palette).save(png, format="PNG")
                writer.add(_drawn(image, found, palette, classes))
                count += 1
            if not count:
                raise UserError(f"{path}: has no frames")
    return Written(video, count, folder)


def _library() -> Any:
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise UserError('--video reads with PyAV: pip install "seg_jax[video]"') from error


@contextlib.contextmanager
def _opened(av: Any, path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a video, and nothing that it refers to; give its container and first video stream."""
    if not os.path.lexists(path):
        raise UserError(f"{path}: no such file")
    only = {"format_whitelist": _FORMATS, "protocol_whitelist": ""}
    with files.open_regular(path) as file:
        try:
            container = av.open(file, options=only)
        except (av.FFmpegError, ValueError) as error:
            raise UserError(f"{path}: is no video that can be read ({_reason(error)})") from error
        with container:
            if not container.streams.video:
                raise UserError(f"{path}: has no video stream")
            yield container, container.streams.video[0]


def _frames(av: Any, path: Path, container: Any, stream: Any) -> Iterator[np.ndarray]:
    """Yield the frames upright, uint8 [h w 3] RGB, all of one size."""
    first, number = None, 0
    try:
        for frame in container.decode(stream):
            checks.at_most(_MOST_PIXELS, pixels_of_a_frame=frame.width * frame.height)
            turns = round(getattr(frame, "rotation", 0) / 90)
            image = np.rot90(frame.to_ndarray(format="rgb24"), turns)
            first = first or image.shape
            if image.shape != first:
                was, now = (f"{w}x{h}" for h, w, _ in (first, image.shape))
                raise UserError(f"{path}: frame {number} has {now} px, those before it {was}")
            yield np.ascontiguousarray(image)
            number += 1
    except (av.FFmpegError, ValueError) as error:
        raise UserError(
            f"{path}: frame {number} cannot be decoded ({_reason(error)}); no video was written"
        ) from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _drawn(
    image: np.ndarray, label: np.ndarray, palette: np.ndarray, classes: Sequence[str]
) -> np.ndarray:
    """Return the overlay with a legend of all classes, with an even number of rows and columns."""
    drawn = visualize.overlay(image, label, palette)
    if len(classes) <= _MOST_NAMES:
        every = np.arange(len(classes), dtype=np.uint8)
        drawn = np.asarray(visualize.with_legend(drawn, every, palette, classes))
    height, width = drawn.shape[:2]
    return np.pad(drawn, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


class _Writer:
    """An MP4 file whose size is that of the first image."""

    def __init__(self, av: Any, file: Any, rate: Fraction):
        self._av, self._rate, self._stream = av, rate, None
        self._container = av.open(file, "w", format="mp4")

    def __enter__(self) -> "_Writer":
        return self

    def add(self, image: np.ndarray) -> None:
        """Encode an image, uint8 [h w 3] RGB."""
        if self._stream is None:
            codec = next(name for name in _CODECS if name in self._av.codecs_available)
            self._stream = self._container.add_stream(codec, rate=self._rate)
            self._stream.height, self._stream.width = image.shape[:2]
            self._stream.pix_fmt = "yuv420p"  # which every player takes
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def __exit__(self, *failed: Any) -> None:
        if failed[0] is None and self._stream is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()
