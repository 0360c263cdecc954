"""Initialise a network from published weights or a release; every layer is accounted for.

A classifier trained on ImageNet is turned into a segmentation network: fully connected layers
become convolutions (FCN, section 3.1), decimated where the network's are smaller (DeepLab v1,
section 3.2), and the first convolution is rescaled to the inputs of this experiment.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from seg_jax import checks
from seg_jax.data.preprocessing import Preprocessing
from seg_jax.experiment import Experiment
from seg_jax.pretrained import catalogue, loading, norm_epsilon
from seg_jax.pretrained.init_report import InitReport
from seg_jax.pretrained.layers import NORM, is_another_norm, layers_of, split_path

Layers = dict[str, dict[str, Any]]  # arrays by layer, and within it by name
_LISTED = 20  # layers in an error


@dataclasses.dataclass(frozen=True)
class Source:
    """Weights to start from.

    Attributes:
      label: name of the weights, for the report.
      variables: {"params": ..., "batch_stats": ...}; of a classifier, its backbone and fc6, fc7.
      preprocessing: of the images they were trained on.
      classifier: names of the classifier's last layers, which are not used; empty: these are
        weights of a segmentation network, all of whose layers must be used.
      experiment: that the weights were made for; None: of a classifier.
      epsilon: of a classifier's batch norms; None: it has none, or those of the experiment count.
    """

    label: str
    variables: Mapping[str, Any]
    preprocessing: Preprocessing
    classifier: str = ""
    experiment: Experiment | None = None
    epsilon: float | None = None

    def epsilons(self) -> dict[str, float]:
        """Return the epsilon of every batch norm by its layer."""
        if self.experiment is not None:
            return norm_epsilon.of(self.experiment)
        norms = (name for name, found in layers_of(self.variables).items() if NORM in found)
        return dict.fromkeys(norms, self.epsilon) if self.epsilon else {}


def find(path: str | Path, name: str = "", *, num_classes: int | None = None) -> Source:
    """Return the weights of a file, of a release, or of a name in the catalogue.

    Args:
      path: where they are.
      name: in the catalogue, of weights with the same layers; empty: by the file itself.
      num_classes: that they may have instead of the published number.

    Raises:
      UserError: there are no such weights, or they cannot be read.
    """
    place = loading.resolve(path)
    named = catalogue.get(name) if name else None
    entry = named if named or place.is_dir() else loading.entry_of(place)
    if entry is None or entry.experiment is not None:
        loaded = loading.load(place, name or None, num_classes=num_classes)
        label = loaded.name or str(path)
        trained = loaded.experiment
        return Source(label, loaded.variables, trained.data.preprocessing, experiment=trained)
    assert entry.preprocessing is not None, "every classifier has it"
    variables = loading.convert(place, entry, None)
    return Source(entry.name, variables, entry.preprocessing, entry.ignored, epsilon=entry.epsilon)


def initialise(
    variables: Any,
    source: Source,
    *,
    preprocessing: Preprocessing,
    allow: str = "",
    epsilons: Mapping[str, float] | None = None,
    channels: str = "mean",
) -> tuple[Any, InitReport]:
    """Replace freshly initialised variables by a source's.

    Args:
      variables: {"params": ..., "batch_stats": ...} of the network that starts.
      source: weights.
      preprocessing: of the images that the network will see.
      allow: regular expression; layers whose names it matches in full may keep their own
        initialisation, and those of the source may be left over.
      epsilons: of the network's batch norms by layer; None: as in the weights.
      channels: rule by which weights for RGB take images of other channels, as
        `TrainConfig.init_channels`.

    Returns:
      The variables, and what was done with every layer.

    Raises:
      UserError: a layer of the network has no counterpart and is not allowed to have none, or a
        layer of the source is not used; all such layers are named, with the reason.
    """
    ours, theirs = layers_of(variables), layers_of(source.variables)
    changed = _rescale_inputs(theirs, source.preprocessing, preprocessing, channels)
    taken: Layers = {}
    lines, problems, others, origins = [], [], [], {}
    for name, arrays in ours.items():
        origin = _counterpart(name, theirs)
        if origin and is_another_norm(arrays, theirs[origin]):
            kind = "batch" if NORM in theirs[origin] else "group"
            lines.append((name, f"new ({kind} norm there)"))
            others.append(origin)
            continue
        found, how = _fit(arrays, theirs[origin], name) if origin else (None, "not there")
        if found is not None:
            taken[name] = found
            origins[name] = origin
            lines.append((name, how + f", {changed[origin]}" if origin in changed else how))
        elif re.fullmatch(allow, name) or (source.classifier and origin is None and _is_head(name)):
            lines.append((name, f"new ({how})"))
        else:
            problems.append(f"{name} ({how})")
    skipped = [] if not source.classifier else [f"{source.classifier} (classifier)"]
    for name in theirs.keys() - {*origins.values(), *others}:
        if re.fullmatch(allow, name) or (source.classifier and _is_head(name)):
            skipped.append(name)
        else:
            problems.append(f"{name} of the weights (not used)")
    _complain(source, problems)

    def choose(path, leaf):
        layer, name = split_path(path)
        return np.asarray(taken[layer][name], leaf.dtype) if layer in taken else leaf

    variables = jax.tree.map_with_path(choose, variables)
    notes = _not_rescaled(source.preprocessing, preprocessing, changed)
    if epsilons is not None:
        there = source.epsilons()
        pairs = {n: (there[o], epsilons[n]) for n, o in origins.items() if o in there}
        variables, more = norm_epsilon.adapt(variables, pairs)
        notes += more
    if others:
        notes.append(
            f"scale and bias of {len(others)} norms are not loaded: here they are norms of another "
            f"kind than {source.label} has, whose numbers mean nothing to them"
        )
    return variables, _report(source, lines, sorted(skipped), notes)


def _complain(source: Source, problems: list[str]) -> None:
    if problems:
        raise checks.UserError(
            f"{source.label} does not fit this network; {len(problems)} layers: "
            f"{'; '.join(problems[:_LISTED])}{'; ...' * (len(problems) > _LISTED)}. Layers that "
            "may differ are allowed with --train.init-allow, a regular expression for their names"
        )


def _report(
    source: Source, lines: list[tuple[str, str]], skipped: list[str], notes: list[str]
) -> InitReport:
    def count(kind: str) -> int:
        return sum(how.startswith(kind) for _, how in lines)

    headline = (
        f"init from {source.label}: {count('loaded')} layers loaded, {count('adapted')} adapted, "
        f"{count('new')} new; skipped of the weights: {', '.join(skipped) or 'nothing'}"
    )
    return InitReport(headline, tuple(lines), tuple(notes))


def _not_rescaled(
    trained: Preprocessing, seen: Preprocessing, changed: Mapping[str, str]
) -> list[str]:
    if trained == seen or changed:
        return []
    return [
        f"the weights were trained on {trained}, this network sees {seen}, and its first "
        "convolution cannot be adapted: set --data.preprocessing as theirs"
    ]


def _is_head(layer: str) -> bool:
    return not layer.startswith("backbone/")


def _counterpart(layer: str, theirs: Layers) -> str | None:
    """Return the source's layer for one of ours: the layer of the same name; for ASPP's branch
    fc6_2, fc6; for SegNet's encoder, which has no module "backbone", VGG's layers.
    """
    names = (layer, re.sub(r"^(fc[67])_\d$", r"\1", layer), f"backbone/{layer}")
    return next((name for name in names if name in theirs), None)


def _fit(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], layer: str
) -> tuple[dict[str, Any] | None, str]:
    """Return the source's arrays in our shapes, and what was done; or None, and why not."""
    fitted, steps = {}, []
    for name, array in ours.items():
        wanted = np.shape(array)
        if name not in theirs:
            return None, f"{name} is not there"
        found = np.asarray(theirs[name])
        if found.shape != wanted:
            thinner = decimate(found, wanted) if re.fullmatch(r"fc[67](_\d)?", layer) else None
            if thinner is None:
                return None, f"{name} is {found.shape} there, {wanted} here"
            steps.append(f"{name} {_times(found.shape)} -> {_times(wanted)}")
            found = thinner
        fitted[name] = found
    if steps:
        return fitted, f"adapted: {', '.join(steps)}"
    return fitted, "loaded"


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def decimate(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return a smaller array by taking elements at equal steps; None where no step gives `shape`.

    The taps of a kernel [h w cin cout] are taken from the first to the last: of 7 every third
    leaves 3. Channels are taken from the first on: of 4096 every fourth leaves 1024.
    """
    if array.ndim != len(shape):
        return None
    steps = []
    for axis, (old, new) in enumerate(zip(array.shape, shape, strict=True)):
        taps = array.ndim == 4 and axis < 2
        whole, parts = (old - 1, new - 1) if taps else (old, new)
        step = 1 if whole == parts else whole // max(parts, 1)
        if step < 1 or step * parts != whole:
            return None
        steps.append(slice(None, None, step))
    return array[tuple(steps)]


def _rescale_inputs(
    theirs: Layers, trained: Preprocessing, seen: Preprocessing, rule: str
) -> dict[str, str]:
    """Adapt the first convolution to another preprocessing; return {layer: what was done}.

    It was trained on x = (p - m) / s of a pixel p, and will see y = (p - m') / s', perhaps with red
    and blue swapped: x = y s'/s + (m' - m) / s. The factor goes into its kernel, the offset into
    its bias or its norm's mean. This is exact except at the border, where x and y are both padded
    with zeros.
    """
    if trained == seen or "grey" in (trained.order, seen.order):
        return {}
    first = [
        name
        for name, arrays in theirs.items()
        if "kernel" in arrays and np.ndim(arrays["kernel"]) == 4 and arrays["kernel"].shape[2] == 3
    ]
    if len(first) != 1:
        return {}
    (name,) = first
    if seen.channels != 3:
        kernel = np.asarray(theirs[name]["kernel"], np.float64)
        kernel = kernel[:, :, ::-1] if trained.order == "bgr" else kernel
        theirs[name] = {**theirs[name], "kernel": _expanded(kernel, trained, seen, rule)}
        return {name: f"3 -> {seen.channels} channels by the rule {rule}"}
    mean, std, new_mean, new_std = (
        np.array(values, np.float64) for values in (trained.mean, trained.std, seen.mean, seen.std)
    )
    kernel = np.asarray(theirs[name]["kernel"], np.float64)
    kernel = kernel[:, :, ::-1] if trained.order == "bgr" else kernel  # in RGB
    shift = np.einsum("hwio,i->o", kernel, (new_mean - mean) / std)
    kernel = kernel * (new_std / std)[:, None]
    kernel = kernel[:, :, ::-1] if seen.order == "bgr" else kernel
    theirs[name] = {**theirs[name], "kernel": kernel}
    if "bias" in theirs[name]:
        theirs[name]["bias"] = np.asarray(theirs[name]["bias"]) + shift
        return {name: "for these inputs"}
    norm = f"{name.rpartition('/')[0]}/bn"
    mean = np.asarray(theirs[norm]["batch_stats/mean"]) - shift
    theirs[norm] = {**theirs[norm], "batch_stats/mean": mean}
    return {name: "for these inputs", norm: "for these inputs"}


def _expanded(
    kernel: np.ndarray, trained: Preprocessing, seen: Preprocessing, rule: str
) -> np.ndarray:
    """Return a first kernel [h w 3 o] for RGB as one for n channels, see
    `TrainConfig.init_channels`.

    The mean of each new channel takes the place of the means that were subtracted in training, so
    that there is no offset; the standard deviations give the unit of a pixel's value, 0..255.
    """
    count = seen.channels
    per_unit = kernel / np.array(trained.std)[:, None]
    if rule == "mean":
        wide = np.repeat(per_unit.mean(2, keepdims=True), count, axis=2) * (3 / count)
    elif rule == "repeat":
        wide = per_unit[:, :, np.arange(count) % 3] * (3 / count)
    else:
        wide = np.zeros((*kernel.shape[:2], count, kernel.shape[3]))
        wide[:, :, :3] = per_unit[:, :, :count]
    return wide * np.array(seen.std)[:, None]
