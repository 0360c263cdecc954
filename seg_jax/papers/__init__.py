"""Published figures of the FCN-to-DeepLab models on VOC, CamVid and ISBI, by their authors.

One file for each family, each a table of `Figure`s; published numbers are written nowhere else in
the project. If sources contradict each other, both figures are here, and the `note` says so.
"""

from functools import partial

from seg_jax.papers import (
    deeplab_v1,
    deeplab_v2,
    deeplab_v3,
    deeplab_v3plus,
    fcn,
    gcn,
    pspnet,
    segnet,
    unet,
)
from seg_jax.papers.figure import Figure, Protocol

__all__ = [
    "FAMILIES", "FIGURES", "TALK", "Figure", "Protocol", "experiments", "family_of", "figures",
    "headline", "order", "test_figure", "title",
]  # fmt: skip

# Family -> architectures as experiment names begin with them, in the order of the table's rows.
FAMILIES: dict[str, tuple[str, ...]] = {
    "FCN": ("fcn", "fcn32s", "fcn16s", "fcn8s"),
    "SegNet": ("segnet",),
    "U-Net": ("unet",),
    "DeepLab v1": ("deeplab_v1",),
    "DeepLab v2": ("deeplab_v2",),
    "PSPNet": ("pspnet",),
    "GCN": ("gcn",),
    "DeepLab v3": ("deeplab_v3",),
    "DeepLab v3+": ("deeplab_v3plus",),
}

_TITLES = {"fcn32s": "FCN-32s", "fcn16s": "FCN-16s", "fcn8s": "FCN-8s"}  # others: the family

FIGURES: tuple[Figure, ...] = (
    *fcn.FIGURES,
    *segnet.FIGURES,
    *unet.FIGURES,
    *deeplab_v1.FIGURES,
    *deeplab_v2.FIGURES,
    *pspnet.FIGURES,
    *gcn.FIGURES,
    *deeplab_v3.FIGURES,
    *deeplab_v3plus.FIGURES,
)

TALK: tuple[Figure, ...] = tuple(figure for figure in FIGURES if figure.talk)


def figures(experiment: str) -> tuple[Figure, ...]:
    """Return the figures published for an experiment's network, in the order of `FIGURES`."""
    return tuple(
        figure
        for figure in FIGURES
        if experiment and experiment in (figure.experiment, figure.variant_experiment)
    )


def headline(experiment: str) -> Figure | None:
    """Return the figure to compare a reproduction with, or None if none was published.

    In order of priority: the authors before others; a split that can be scored offline before the
    test server's; the experiment's own recipe before others (`Figure.same_recipe`; reports must
    mark others); the simplest protocol: no CRF, one scale, no flip, the coarsest output stride
    (that of training); the order of `FIGURES`.
    """
    return min(figures(experiment), key=partial(_distance, experiment), default=None)


def _distance(experiment: str, figure: Figure) -> tuple:
    protocol = figure.protocol
    return (
        figure.origin == "reimplementation",
        figure.split == "test",
        not figure.same_recipe(experiment),
        protocol.crf,
        len(protocol.scales) != 1,
        len(protocol.scales),
        protocol.flip,
        -(protocol.output_stride or 0),
    )


def test_figure(experiment: str) -> Figure | None:
    """Return the figure of VOC 2012 test to quote for an experiment, or None.

    The one in the talk, if any; else that of the experiment's own recipe; else the network's
    highest, preferably as its authors publish it (not a later paper's citation of the leaderboard)
    and without private data (JFT-300M). It cannot be measured offline.
    """
    test = [
        figure
        for figure in figures(experiment)
        if (figure.dataset, figure.split) == ("VOC 2012", "test") and figure.miou is not None
    ]

    def rank(figure: Figure) -> tuple[bool, bool, bool, bool, float]:
        own, public = figure.origin in ("paper", "release"), "JFT" not in figure.pretraining
        return figure.talk, figure.same_recipe(experiment), own, public, figure.miou or 0.0

    return max(test, key=rank, default=None)


setattr(test_figure, "__test__", False)  # noqa: B010 (for pytest: not a test)


def experiments() -> tuple[str, ...]:
    """Return the experiments with published figures, in the order of the table's rows."""
    names = [name for f in FIGURES for name in (f.experiment, f.variant_experiment) if name]
    return tuple(dict.fromkeys(names))


def title(experiment: str, family: str) -> str:
    """Return the architecture's name as its paper writes it: "FCN-32s", "DeepLab v3+".

    Args:
      experiment: its name, of which the beginning tells the architecture.
      family: the title of all architectures but FCN's.
    """
    return _TITLES.get(experiment.partition("_")[0], family)


def family_of(experiment: str) -> str:
    """Return an experiment's family from the beginning of its name; "" if it is not in FAMILIES."""
    prefixes = {prefix: name for name, known in FAMILIES.items() for prefix in known}
    matching = [prefix for prefix in prefixes if f"{experiment}_".startswith(f"{prefix}_")]
    return prefixes[max(matching, key=len)] if matching else ""


def order(experiment: str) -> tuple[int, int, str]:
    """Return the sorting key of the table's rows: by family as in FAMILIES (other families last),
    then as in `experiments` (those without a published figure last).
    """
    families, known = list(FAMILIES), experiments()
    family = family_of(experiment)
    return (
        families.index(family) if family else len(families),
        known.index(experiment) if experiment in known else len(known),
        experiment,
    )
