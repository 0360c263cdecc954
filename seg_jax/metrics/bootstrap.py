"""How much of a score is chance: the image bootstrap (Efron, Annals of Statistics 1979).

Images are drawn anew with replacement, as many as there are, and the score is computed from their
summed counts; its quantiles over many draws are the interval. Two networks are compared on the same
draws (paired), because an image that is hard for one is mostly hard for the other as well.

What varies here is the choice of the images. The variation over seeds of the training is another,
and is not in these intervals: with several runs of a network, their mean is resampled.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

SAMPLES = 10_000
_CHUNK = 500  # draws at once: 500 x 1449 weights are 6 MB

# Of one run: int64 [n 3 k], pixels by image and class: true, predicted, and both.
Counts = np.ndarray


@dataclasses.dataclass(frozen=True)
class Interval:
    """A score or a difference of scores, with its interval over draws of the images.

    Attributes:
      value: on the images themselves.
      low, high: bounds of the interval.
      p_value: two-sided, of a difference of 0; NaN for a score.
    """

    value: float
    low: float
    high: float
    p_value: float = float("nan")

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


def image_counts(confusion: np.ndarray) -> np.ndarray:
    """Return int64 [3 k] of a confusion matrix [k k]: true, predicted, and both."""
    return np.stack([confusion.sum(1), confusion.sum(0), np.diag(confusion)]).astype(np.int64)


def mean_iou(sums: np.ndarray) -> np.ndarray:
    """Return the mean IoU over the classes that occur, float64 [...], of sums [... 3 k]; NaN: none.

    The same as `metrics.mean_iou` of the confusion matrix that the sums are those of.
    """
    true, predicted, both = np.moveaxis(np.asarray(sums, np.float64), -2, 0)
    union = true + predicted - both
    iou = np.divide(both, union, out=np.zeros_like(union), where=union > 0)
    occurring = (union > 0).sum(-1)
    out = np.full(occurring.shape, np.nan)
    return np.divide(iou.sum(-1), occurring, out=out, where=occurring > 0)


def interval(
    runs: Sequence[Counts], *, samples: int = SAMPLES, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return the mean IoU of a network with its interval, as shares of 1.

    Args:
      runs: counts on the same images of one run or of several, whose scores are averaged.
      samples: draws.
      confidence: share of the draws within the interval.
      seed: of the draws.
    """
    drawn = np.concatenate([_score(runs, w) for w in _weights(_images(runs), samples, seed)])
    return Interval(_value(runs), *_bounds(drawn, confidence))


def difference(
    runs: Sequence[Counts],
    others: Sequence[Counts],
    *,
    samples: int = SAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return how much higher the mean IoU of `runs` is than that of `others`, paired by image.

    The p-value is twice the smaller share of draws on one side of 0, at least 2 / (samples + 1).

    Raises:
      ValueError: the two were not measured on equally many images.
    """
    if _images(runs) != _images(others):
        raise ValueError(
            f"{_images(runs)} and {_images(others)} images: a paired test needs the same ones"
        )
    drawn = np.concatenate(
        [
            _score(runs, weights) - _score(others, weights)
            for weights in _weights(_images(runs), samples, seed)
        ]
    )
    tail = 1 + min((drawn <= 0).sum(), (drawn >= 0).sum())
    p_value = min(1.0, 2 * float(tail) / (samples + 1))
    return Interval(_value(runs) - _value(others), *_bounds(drawn, confidence), p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm, Scand. J. Statistics 1979), in order."""
    order = np.argsort(p_values, kind="stable")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _images(runs: Sequence[Counts]) -> int:
    numbers = {len(run) for run in runs}
    if len(numbers) != 1 or not min(numbers):
        raise ValueError(f"runs on {sorted(numbers)} images: they must be on the same ones")
    return numbers.pop()


def _value(runs: Sequence[Counts]) -> float:
    return float(np.mean([mean_iou(run.sum(0)) for run in runs]))


def _weights(images: int, samples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each image is drawn, float64 [b n]; the same for the same arguments."""
    rng = np.random.default_rng(seed)
    for start in range(0, samples, _CHUNK):
        count = min(_CHUNK, samples - start)
        yield rng.multinomial(images, np.full(images, 1 / images), size=count).astype(np.float64)


def _score(runs: Sequence[Counts], weights: np.ndarray) -> np.ndarray:
    """Return the mean over runs of the mean IoU of every draw, float64 [b]."""
    scores = []
    for run in runs:
        sums = weights @ run.reshape(len(run), -1).astype(np.float64)
        scores.append(mean_iou(sums.reshape(len(weights), *run.shape[1:])))
    return np.mean(scores, axis=0)


def _bounds(drawn: np.ndarray, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
