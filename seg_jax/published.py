"""Every figure the papers and their authors report, in one place: source, date, split, protocol."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Figure:
    """One published number."""

    experiment: str
    miou: float


FIGURES: tuple[Figure, ...] = ()


def figures(experiment: str) -> tuple[Figure, ...]:
    """Return the figures published for an experiment, in the order of `FIGURES`."""
    return tuple(figure for figure in FIGURES if figure.experiment == experiment)
