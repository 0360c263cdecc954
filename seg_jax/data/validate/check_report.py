"""The report of `data check`: plain values, their JSON form and their text form."""

import dataclasses
from typing import Any

from seg_jax.checks import printable


@dataclasses.dataclass(frozen=True)
class ClassStatistics:
    """One class of one split.

    Attributes:
      name: of the class.
      pixels: number of pixels of the class.
      share: of all pixels that are not void, 0..1.
      images: number of images that contain it.
      image_pixels: number of pixels of those images, void included.
      weight: median-frequency weight; None for a class that does not occur.
      enet_weight: ENet's weight.
    """

    name: str
    pixels: int
    share: float
    images: int
    image_pixels: int
    weight: float | None
    enet_weight: float


@dataclasses.dataclass(frozen=True)
class SplitReport:
    """One split.

    Attributes:
      split: name of the list.
      description: data set, list and number of images.
      checksum: SHA-256 of the list of ids.
      images: number of images in the list.
      readable: number of images that were read together with their masks.
      sizes: (smallest, largest) height and width, each taken by itself, in pixels; None: nothing
        could be read.
      size_counts: (height, width) and how many images have it, the most frequent first.
      void: statistics of void; its share is of all mask pixels.
      classes: statistics by class id.
      problems: what is wrong.
      notes: what is worth knowing.
    """

    split: str
    description: str
    checksum: str
    images: int
    readable: int
    sizes: tuple[tuple[int, int], tuple[int, int]] | None
    size_counts: tuple[tuple[tuple[int, int], int], ...]
    void: ClassStatistics
    classes: tuple[ClassStatistics, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Report:
    """The report on a data set; `general` has the problems that concern no single split."""

    dataset: str
    root: str
    splits: tuple[SplitReport, ...]
    general: tuple[str, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """Every problem, including those of all splits; empty for a sound data set."""
        return self.general + tuple(
            f"{split.split}: {problem}" for split in self.splits for problem in split.problems
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON data."""
        return {**dataclasses.asdict(self), "problems": self.problems}

    def as_text(self, *, limit: int = 20) -> str:
        """Return the report for a terminal, with at most `limit` problems a split."""
        lines = [f"{self.dataset} in {self.root}"]
        lines += [f"  PROBLEM {problem}" for problem in self.general]
        for split in self.splits:
            lines += ["", *_split_text(split, limit)]
        count = len(self.problems)
        lines += ["", f"{count} problem{'' if count == 1 else 's'} found"]
        return "\n".join(map(printable, lines))


def _split_text(split: SplitReport, limit: int) -> list[str]:
    lines = [split.description, f"  list sha256 {split.checksum[:16]}"]
    if split.sizes:
        (low_h, low_w), (high_h, high_w) = split.sizes
        lines.append(
            f"  heights {low_h} to {high_h}, widths {low_w} to {high_w} px "
            f"({len(split.size_counts)} different sizes); void {100 * split.void.share:.2f} %"
        )
        lines.append(f"  {'class':<16}{'pixels %':>10}{'images':>8}{'median-freq weight':>20}")
        for entry in split.classes:
            weight = "-" if entry.weight is None else f"{entry.weight:.4f}"
            lines.append(
                f"  {entry.name:<16}{100 * entry.share:>10.3f}{entry.images:>8}{weight:>20}"
            )
    lines += [f"  note: {note}" for note in split.notes]
    lines += [f"  PROBLEM {problem}" for problem in split.problems[:limit]]
    if len(split.problems) > limit:
        lines.append(f"  ... and {len(split.problems) - limit} more problems (--json has all)")
    return lines
