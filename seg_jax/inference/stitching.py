"""Merges window predictions into one full-size prediction."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from seg_jax.experiment import EvalConfig
from seg_jax.inference import windows
from seg_jax.inference.windows import Window


class Mosaic:
    """Merges windows that do not overlap, by copying each into its region."""

    def __init__(self, size: tuple[int, int]):
        self._size = size
        self._out: np.ndarray | None = None

    def add(self, window: Window, prediction: np.ndarray) -> None:
        """Write a window's prediction [h' w' ...] into its region."""
        if self._out is None:
            self._out = np.empty((*self._size, *prediction.shape[2:]), prediction.dtype)
        rows, columns = window.region
        height, width = rows.stop - rows.start, columns.stop - columns.start
        self._out[window.region] = prediction[:height, :width]

    def result(self) -> np.ndarray:
        """Return the merged prediction, [h w ...], once all windows are added."""
        return _complete(self._out)


class Overlap:
    """Merges PSPNet's sliding windows (release, eval_sub.m).

    Probabilities are averaged where windows overlap, resized to the image's own size, normalised to
    sum to 1 again, and averaged over the scales.
    """

    def __init__(self, size: tuple[int, int], cut: Sequence[Window], evaluation: EvalConfig):
        self._size = size
        self._scaled = windows.scaled_sizes(size, evaluation)
        self._missing = Counter(window.scale for window in cut)
        self._padded = {  # regions ascend: the last one of a scale ends where the padded image ends
            window.scale: tuple(part.stop for part in window.region) for window in cut
        }
        self._sums: dict[int, np.ndarray] = {}
        self._counts: dict[int, np.ndarray] = {}
        self._total: np.ndarray | None = None

    def add(self, window: Window, prediction: np.ndarray) -> None:
        """Add a window's probabilities, float32 [h' w' k]."""
        scale = window.scale
        if scale not in self._sums:
            self._sums[scale] = np.zeros((*self._padded[scale], prediction.shape[-1]), np.float32)
            self._counts[scale] = np.zeros((*self._padded[scale], 1), np.float32)
        self._sums[scale][window.region] += prediction
        self._counts[scale][window.region] += 1
        self._missing[scale] -= 1
        if not self._missing[scale]:
            self._close(scale)

    def _close(self, scale: int) -> None:
        height, width = self._scaled[scale]
        mean = self._sums.pop(scale) / self._counts.pop(scale)
        found = resize_scores(mean[:height, :width], self._size)
        found /= found.sum(-1, keepdims=True)
        self._total = found if self._total is None else self._total + found

    def result(self) -> np.ndarray:
        """Return the probabilities, float32 [h w k], once all windows are added."""
        return _complete(self._total) / np.float32(len(self._scaled))


class Resized:
    """Resizes the logits of a resized image back to the image's own size."""

    def __init__(self, size: tuple[int, int]):
        self._size = size
        self._out: np.ndarray | None = None

    def add(self, window: Window, prediction: np.ndarray) -> None:
        """Take the one window's probabilities, float32 [h' w' k]."""
        # The log of a softmax equals the logits up to one constant a pixel, which cancels below.
        logits = resize_scores(np.log(np.maximum(prediction, np.float32(1e-37))), self._size)
        logits -= logits.max(-1, keepdims=True)
        np.exp(logits, out=logits)
        self._out = logits / logits.sum(-1, keepdims=True)

    def result(self) -> np.ndarray:
        """Return the probabilities, float32 [h w k], once the window is added."""
        return _complete(self._out)


Stitched = Mosaic | Overlap | Resized


def stitch(size: tuple[int, int], cut: Sequence[Window], evaluation: EvalConfig) -> Stitched:
    """Return the object that merges the window predictions of an image under a protocol."""
    if evaluation.mode == "sliding":
        return Overlap(size, cut, evaluation)
    return Resized(size) if evaluation.mode == "resize" else Mosaic(size)


def _complete(merged: np.ndarray | None) -> np.ndarray:
    if merged is None:
        raise ValueError("the prediction of a window is missing")
    return merged


def resize_scores(scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize float32 [h w k] bilinearly to [*size k], half-pixel centres, without antialiasing."""
    for axis, new in enumerate(size):
        old = scores.shape[axis]
        position = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
        before = position.astype(np.intp)
        share = (position - before).astype(np.float32)
        lower = np.take(scores, before, axis)
        upper = np.take(scores, np.minimum(before + 1, old - 1), axis)
        upper -= lower
        upper *= share.reshape([-1 if axis == other else 1 for other in range(3)])
        lower += upper
        scores = lower
    return scores
