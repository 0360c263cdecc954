"""TensorBoard's event files, written by the thread that trains.

The usual writers hand their events to a thread through a queue of bounded length. When that thread
dies, of a full disk or of a clock that runs backwards, the queue fills up and training waits for it
for ever. Here a write is done or fails, and nothing waits.
"""

import importlib
import io
import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Appender:
    """A file to which whole pieces are appended: a piece is in it as a whole or not at all.

    Attributes:
      path: of the file.
    """

    def __init__(self, path: Path):
        """Open a file at its end; links are not followed."""
        self.path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(path, flags, 0o666)

    def append(self, piece: bytes) -> None:
        """Append a piece; after an OSError the file is as it was before."""
        size = os.fstat(self._descriptor).st_size
        rest = memoryview(piece)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            os.ftruncate(self._descriptor, size)
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class Board:
    """Writes scalars and images into one event file of a folder."""

    def __init__(self, folder: Path, *, purge_step: int):
        """Begin an event file; TensorBoard drops what earlier ones have from `purge_step` on.

        Raises:
          OSError: it cannot be written.
        """
        # Late: a heavy import.
        from tensorboardX import crc32c

        # Classes that protobuf makes when it is imported.
        event: Any = importlib.import_module("tensorboardX.proto.event_pb2")
        summary: Any = importlib.import_module("tensorboardX.proto.summary_pb2")
        self._crc32c, self._event, self._summary = crc32c.crc32c, event.Event, summary.Summary
        folder.mkdir(parents=True, exist_ok=True)
        name = (
            f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.urandom(4).hex()}"
        )
        self._file = Appender(folder / name)
        self._append(self._event(wall_time=time.time(), file_version="brain.Event:2"))
        start = event.SessionLog(status=event.SessionLog.START)
        self._append(self._event(wall_time=time.time(), step=purge_step, session_log=start))

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Append the scalars of a step by their tags."""
        values = [self._summary.Value(tag=tag, simple_value=x) for tag, x in scalars.items()]
        if values:
            summary = self._summary(value=values)
            self._append(self._event(wall_time=time.time(), step=step, summary=summary))

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """Append the images of a step by their tags, uint8 [h w 3] each."""
        from PIL import Image

        values = []
        for tag, pixels in images.items():
            data = io.BytesIO()
            Image.fromarray(pixels).save(data, "PNG")
            height, width, channels = pixels.shape
            image = self._summary.Image(
                height=height,
                width=width,
                colorspace=channels,
                encoded_image_string=data.getvalue(),
            )
            values.append(self._summary.Value(tag=tag, image=image))
        if values:
            summary = self._summary(value=values)
            self._append(self._event(wall_time=time.time(), step=step, summary=summary))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, event: Any) -> None:
        # A TFRecord: length, its checksum, data, their checksum.
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        self._file.append(length + self._masked_crc(length) + data + self._masked_crc(data))

    def _masked_crc(self, data: bytes) -> bytes:
        crc = self._crc32c(data)
        return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)
