"""`data stats`: class frequencies, image sizes and class weights as a text."""

from collections.abc import Sequence

import numpy as np

from seg_jax.checks import printable
from seg_jax.data import class_weights
from seg_jax.data.validate.check_report import Report, SplitReport

_SIZES = 6  # number of the most frequent sizes that are shown
_CLOSE = 0.07  # relative difference up to which weights agree with published ones


def as_text(report: Report, published: Sequence[float] | None = None) -> str:
    """Return the statistics of every split for a terminal.

    Args:
      report: of `check.check`.
      published: class weights of a release, by class; compared with those of the split train.
    """
    lines = []
    for split in report.splits:
        lines += [split.description, *_sizes(split), *_classes(split, published), ""]
    if report.problems:
        lines.append(f"{len(report.problems)} problems: python -m seg_jax data check {report.root}")
    return "\n".join(map(printable, lines)).rstrip()


def _sizes(split: SplitReport) -> list[str]:
    if not split.sizes:
        return ["  nothing could be read"]
    (low_h, low_w), (high_h, high_w) = split.sizes
    shown = ", ".join(f"{w}x{h} ({n})" for (h, w), n in split.size_counts[:_SIZES])
    more = f", and {len(split.size_counts) - _SIZES} more" * (len(split.size_counts) > _SIZES)
    return [
        f"  widths {low_w} to {high_w}, heights {low_h} to {high_h} px",
        f"  width x height: {shown}{more}",
        f"  void: {100 * split.void.share:.2f} % of the pixels, in {split.void.images} images",
    ]


def _classes(split: SplitReport, published: Sequence[float] | None) -> list[str]:
    if not split.sizes:
        return []
    published = published if split.split == "train" else None
    head = f"  {'class':<22}{'pixels %':>9}{'images':>8}{'median-freq':>13}{'ENet':>8}"
    lines = [head + f"{'with void':>11}{'published':>11}" * (published is not None)]
    recomputed = class_weights.with_void(split.classes, split.void)
    for class_id, entry in enumerate(split.classes):
        weight = "-" if entry.weight is None else f"{entry.weight:.4f}"
        line = (
            f"  {entry.name:<22}{100 * entry.share:>9.3f}{entry.images:>8}{weight:>13}"
            f"{entry.enet_weight:>8.3f}"
        )
        if published is not None:
            line += f"{recomputed[class_id]:>11.4f}{published[class_id]:>11.4f}"
        lines.append(line)
    return lines + ([] if published is None else _comparison(split, recomputed, published))


def _comparison(
    split: SplitReport, recomputed: Sequence[float] | np.ndarray, published: Sequence[float]
) -> list[str]:
    far = [
        f"{entry.name} ({there:.4f}, here {here:.4f})"
        for entry, here, there in zip(split.classes, recomputed, published, strict=True)
        if not abs(there / here - 1) < _CLOSE
    ]
    return [
        f"  {len(published) - len(far)} of the {len(published)} published weights agree within "
        f"{100 * _CLOSE:.0f} % with void as one more class in the median"
        + (f"; not {', '.join(far)}" if far else "")
    ]
