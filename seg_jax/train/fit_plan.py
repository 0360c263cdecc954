"""Plan a training on a folder of images and masks: each choice, why, and its option.

A choice is a field of the experiment; whoever gives the field has chosen already. The rules are
stated where they are applied, and once more in docs/your-data.md.
"""

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from seg_jax import checks, data, experiment, overrides
from seg_jax.checks import UserError
from seg_jax.data import class_weights
from seg_jax.data.source import Source
from seg_jax.data.validate import check, meaning
from seg_jax.experiment import EvalConfig, Experiment
from seg_jax.optim import Schedule
from seg_jax.pretrained import averages, cache, catalogue, warm_start
from seg_jax.train import memory, own_data

_PASSES, _LEAST_STEPS = 50, 500  # over the training images; for a handful of images
_EVALUATIONS = 5
_CPU_CROP = 257  # px, without an accelerator
_RARE = 1 / 20  # a class with a smaller share of the most frequent one's pixels: weights
_SIZES = 6  # sizes of inputs that are compiled for, above which one canvas covers all
_WHOLE = 2049  # px: images with longer sides are evaluated window by window
_WINDOW = 1025
_READ = 2000  # images that are read whole before the training
_BACKBONES = r"vgg16|resnet\d+|mobilenetv2|xception\d+"
_NAME = re.compile(rf"(?P<network>.+?)(_(?P<backbone>{_BACKBONES}))?_(?P<data>camvid|voc)")


@dataclasses.dataclass(frozen=True)
class Choice:
    """One line of a plan.

    Attributes:
      what: is chosen, in a word or two.
      value: in words.
      why: the rule, and the numbers that it was applied to.
      option: of the command line, which chooses otherwise.
    """

    what: str
    value: str
    why: str
    option: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """An experiment on the user's data, its choices, and what is to be known before a training."""

    experiment: Experiment
    choices: tuple[Choice, ...]
    warnings: tuple[str, ...]


def networks() -> dict[str, list[str]]:
    """Return the registered recipes by network: `deeplab_v3plus` has one for each backbone."""
    found: dict[str, list[str]] = {}
    for name in experiment.names():
        if match := _NAME.fullmatch(name):
            found.setdefault(match["network"], []).append(name)
    return found


def recipe(network: str, backbone: str = "") -> Experiment:
    """Return the recipe to begin with.

    For a network's name: the recipe of this network on this backbone, CamVid's before VOC's
    (short, for crops of 257 px); else the network's own with its backbone replaced. The name of a
    registered experiment is that experiment. Without a backbone: MobileNetV2 where the network has
    a recipe on it.

    Raises:
      UserError: there is no such network, or it cannot have the backbone.
    """
    known = networks()
    if network in experiment.names():
        found = experiment.get(network)
    elif network in known:
        flat = (backbone or "mobilenet_v2").replace("_", "")
        ready = [name for name in known[network] if f"_{flat}_" in name]
        found = experiment.get((ready or known[network])[0])
        if ready:
            return found
    else:
        raise UserError(f"--network: {checks.unknown(network, (*known, *experiment.names()))}")
    try:
        return found.with_backbone(backbone) if backbone else found
    except ValueError as error:
        raise UserError(f"--backbone {backbone}: {error}") from error


def plan(base: Experiment, wanted: Experiment, given: Collection[str], root: Path) -> Plan:
    """Choose what the user has not, from the data and this machine.

    Args:
      base: the recipe.
      wanted: with the user's fields.
      given: dotted names of the fields that the user has set.
      root: folder of the data set.

    Raises:
      UserError: the data are not there, are broken, or nothing can be learnt from them.
    """
    return _Planner(base, wanted, frozenset(given)).run(root)


class _Planner:
    """Collects the choices; `now` is the experiment as chosen so far."""

    def __init__(self, base: Experiment, wanted: Experiment, given: frozenset[str]):
        self.base, self.now, self.given = base, wanted, given
        self.choices: list[Choice] = []
        self.warnings: list[str] = []

    def run(self, root: Path) -> Plan:
        name = self.now.name
        self.say("recipe", name, f"{self.base.family}; `show {name}` has it", "--network")
        self.read(root)
        train = self.mask_values()
        self.look(train)
        self.classes()
        self.start()
        val = self.open(self.now.data.val_split)
        self.crop(np.median([train.size(i) for i in _some(len(train))], axis=0))
        self.batch(len(train))
        self.length(len(train))
        self.evaluation([val.size(i) for i in range(len(val))])
        return Plan(self.now, tuple(self.choices), tuple(self.warnings))

    def say(self, what: str, value: str, why: str, option: str) -> None:
        self.choices.append(Choice(what, value, why, option))

    def choose(self, what: str, changes: Mapping[str, Any], value: str, why: str) -> bool:
        """Set fields and say so; a choice of which any field was given is left to the user."""
        option = " ".join(f"--{name.replace('_', '-')}" for name in changes)
        if taken := self.given & changes.keys():
            shown = ", ".join(str(_value(self.now, name)) for name in changes if name in taken)
            self.say(what, shown, "as given", option)
            return False
        self.now = overrides.apply(self.now, changes)
        self.say(what, value, why, option)
        return True

    def open(self, split: str) -> Source:
        return data.open_configured(self.now.data, split)

    def read(self, root: Path) -> None:
        """Choose the reader by the folder's layout, and the lists."""
        if "data.dataset" not in self.given:
            dataset = check.recognise(root)
            self.now = overrides.apply(self.now, {"data.dataset": dataset})
        dataset = self.now.data.dataset
        self.now = overrides.apply(self.now, {"data.root": root.absolute()})
        self.say("reader", dataset, "by the folder's layout", "--data.dataset")
        there = data.reader(dataset).splits(root)
        wished = [name for name in (self.base.data.train_split, "train") if name in there]
        if not wished and "data.train_split" not in self.given:
            raise UserError(
                f"{root} has the lists {', '.join(there)}: which is to be trained with? "
                "--data.train-split NAME"
            )
        train = (wished or [self.now.data.train_split])[0]
        if "val" in there:
            lists, why = (train, "val"), f"the lists {', '.join(there)}"
            if dataset == "folder" and not (root / "val.txt").is_file():
                why = "without train.txt and val.txt, every fifth image is val"
        else:
            lists, why = (f"{train}:but20", f"{train}:held20"), "no list val: a fifth, by image ids"
        names = ("data.train_split", "data.val_split")
        self.choose("lists", dict(zip(names, lists, strict=True)), " and ".join(lists), why)

    def mask_values(self) -> Source:
        """Read masks of 0 and 255 as two classes."""
        source = self.open(self.now.data.train_split)
        if "data.map" not in self.given and len(source.classes) == 2:
            if meaning.is_0_and_255(source, meaning.look(source).totals):
                why = f"the masks hold 0 and 255: 255 is {source.classes[1]}, not void"
                self.choose("mask values", {"data.map": ("255=1",)}, "255=1", why)
                source = self.open(self.now.data.train_split)
        return source

    def look(self, train: Source) -> None:
        """Refuse data of which nothing can be learnt, and broken files."""
        found = meaning.look(train)
        self.shares = meaning.class_pixels(train, found.totals)
        if np.count_nonzero(self.shares) < 2:
            raise UserError(f"{train.root}: {found.warnings[0]}")
        self.warnings += found.warnings
        val = self.open(self.now.data.val_split)
        count = len(train) + len(val)
        if count > _READ:
            self.warnings.append(f"{count} images are not all read first: `data check` does")
            return
        for source in (train, val):
            if problems := check.check_source(source).problems:
                more = len(problems) - 1
                rest = f" (and {more} more: `data check {train.root}`)" if more else ""
                raise UserError(f"{problems[0]}{rest}")
        self.say("images", f"{len(train)} + {len(val)}", "train + val, all read", "--data.root")

    def classes(self) -> None:
        """Take the number of classes from the data, and weights where one is rare."""
        self.now, _ = own_data.adapt(self.base, self.now, self.given)
        names = self.open(self.now.data.train_split).classes
        shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
        self.say("classes", str(len(names)), shown, "--model.num-classes")
        share = self.shares / self.shares.sum()
        occurring = share[share > 0]
        rarest = f"the rarest has {100 * occurring.min():.2g} % of the pixels"
        weights: tuple[float, ...] = ()
        value = "none"
        why = f"{rarest}; weights are for less than {100 * _RARE:.0f} % of the most frequent one's"
        if occurring.min() < _RARE * occurring.max():
            raw = class_weights.enet_weights(share)
            scaled = raw / (raw * share).sum()  # a mean of 1 over the pixels: the rate's size stays
            weights = tuple(float(f"{w:.3g}") for w in np.where(share > 0, scaled, 1.0))
            value = " ".join(f"{w:g}" for w in weights[:6]) + (" ..." if len(weights) > 6 else "")
            why = f"{rarest}: ENet's 1 / ln(1.02 + share), mean 1 over the pixels"
        self.choose("class weights", {"loss.class_weights": weights}, value, why)

    def start(self) -> None:
        """Start from the recipe's weights if they are imported, else from random ones."""
        init = self.now.train.init
        if "train.init" in self.given or init in warm_start.SCRATCH:
            why = "as given" if "train.init" in self.given else "as the recipe"
            self.say("start", init or "random weights", why, "--train.init")
        elif init in catalogue.names() and cache.is_imported(init):
            self.say("start", init, "the recipe's pre-trained weights, imported", "--train.init")
        elif init in catalogue.names():
            entry = catalogue.get(init)
            get = f"python -m seg_jax weights import FILE --as {init}"
            why = f"{init} is not imported: `{get}`, FILE being {entry.file} ({entry.host})"
            self.choose("start", {"train.init": "none"}, "random weights", why)
            self.warnings.append(
                "from random weights a network needs many more images and steps than from "
                f"pre-trained ones; import them first if you can: {get}"
            )
        else:
            why = f"the recipe starts from its own run {init}"
            self.choose("start", {"train.init": "none"}, "random weights", why)

    def crop(self, median: np.ndarray) -> None:
        """Crop as the recipe does, no larger than the images, and 257 px on a CPU."""
        legal = getattr(self.now.model, "legal_sizes", lambda side: (side,))
        sides, why = list(self.base.data.augmentation.crop), "the recipe's"
        if jax.default_backend() == "cpu" and max(sides) > _CPU_CROP:
            sides = [min(side, _CPU_CROP) for side in sides]
            why = f"{_CPU_CROP} px at most without an accelerator"
        smaller = [min(side, int(image)) for side, image in zip(sides, median, strict=True)]
        if smaller != sides:
            sides, why = smaller, f"the median image has {median[0]:.0f}x{median[1]:.0f} px"
        height, width = (max(legal(side)) for side in sides)
        value = f"{height} x {width} px"
        self.choose("crop", {"data.augmentation.crop": (height, width)}, value, why)

    def batch(self, images: int) -> None:
        """Take the recipe's batch if the memory and the images allow it, else a smaller power of 2.

        The rate shrinks with the batch (Goyal et al. 2017, arXiv:1706.02677), where the loss is a
        mean over it.
        """
        before, devices = self.base.train.batch_size, jax.device_count()
        if "train.batch_size" in self.given:
            self.choose("batch", {"train.batch_size": before}, "", "")
        else:
            fits, words = memory.largest_batch(self.now, most=max(1, before // devices))
            batch = min(fits * devices, max(devices, 2 ** int(np.log2(images))))
            why = words if batch < before else f"the recipe's; {words}"
            self.choose("batch", {"train.batch_size": batch}, f"{batch} images", why)
        batch, rate = self.now.train.batch_size, self.base.optim.base_lr
        why = "the recipe's"
        if batch != before and self.base.loss.reduction == "mean":
            rate, why = float(f"{rate * batch / before:.3g}"), f"{rate:g} x {batch} / {before}"
        self.choose("learning rate", {"optim.base_lr": rate}, f"{rate:g}", why)

    def length(self, images: int) -> None:
        """Choose the steps, and shorten with them the schedule and the norms' memory."""
        before, batch = self.base.train.steps, self.now.train.batch_size
        wished = max(_LEAST_STEPS, -(-_PASSES * images // batch))
        steps = min(before, wished)
        self.choose(
            "steps",
            {"train.steps": steps},
            f"{steps} ({steps * batch / images:.0f} passes)",
            f"{_PASSES} passes over {images} images, at least {_LEAST_STEPS}, at most the recipe's "
            f"{before}",
        )
        steps = self.now.train.steps
        schedule = _shortened(self.base.optim.schedule, steps / before)
        names = [f"optim.schedule.{field.name}" for field in dataclasses.fields(Schedule)]
        if schedule != self.base.optim.schedule and not self.given & set(names):
            self.now = overrides.apply(self.now, {"optim.schedule": schedule})
            self.say(
                "schedule", schedule.kind, "shortened with the steps", "--optim.schedule.FIELD"
            )
        slow = {
            f"{path}.momentum": better for path, _, better in averages.too_slow(self.now)
            if f"{path}.momentum" not in self.given
        }  # fmt: skip
        if slow:
            self.now = overrides.apply(self.now, slow)
            better = f"{next(iter(slow.values())):g}"
            option = f"--{next(iter(slow)).replace('_', '-')}" + " ..." * (len(slow) > 1)
            why = f"the recipe's would hold the norms' start after {steps} steps"
            self.say("norm momentum", better, why, option)
        every = max(1, steps // _EVALUATIONS)
        changes = {"train.evaluate_every": every, "train.checkpoint_every": every}
        self.choose("evaluation", changes, f"every {every} steps", "on val; a checkpoint with each")

    def evaluation(self, sizes: Sequence[tuple[int, int]]) -> None:
        """Choose how whole images are shown to the network."""
        now, largest = self.now.evaluation, np.max(sizes, axis=0).tolist()
        shown = f"the largest image of val has {largest[0]}x{largest[1]} px"
        if now.mode != "whole":
            self.say("protocol", now.mode, "the recipe's", "--evaluation.mode")
            return
        legal = getattr(self.now.model, "legal_sizes", lambda side: (side,))
        if max(largest) > _WHOLE:
            side = max(legal(_WINDOW))
            changes = {"evaluation.mode": "sliding", "evaluation.canvas": (side, side)}
            done = self.choose("protocol", changes, f"windows of {side} px", shown)
            seen = (side, side)
        else:
            bucket, rest = _bucket(now, legal)
            inputs = {tuple(-(-(n - rest) // bucket) * bucket + rest for n in s) for s in sizes}
            canvas = tuple(max(legal(side)) for side in np.max([*inputs], axis=0).tolist())
            one = len(inputs) > _SIZES
            changes = {
                "evaluation.canvas": canvas if one else None,
                "evaluation.bucket": bucket, "evaluation.bucket_rest": rest,
            }  # fmt: skip
            value = f"whole, {canvas[0]}x{canvas[1]} px" if one else "whole images"
            padded = "all padded to one size" if one else f"padded to {bucket} k + {rest} px"
            done = self.choose("protocol", changes, value, f"{shown}; {padded}")
            seen = canvas
        crop, batch = self.now.data.augmentation.crop, self.now.train.batch_size
        most = max(1, 2 * batch * crop[0] * crop[1] // (seen[0] * seen[1]))
        if done and most < now.batch_size and "evaluation.batch_size" not in self.given:
            self.now = overrides.apply(self.now, {"evaluation.batch_size": most})
            self.say("", f"{most} at a time", "as many pixels as two training batches",
                     "--evaluation.batch-size")  # fmt: skip


def _value(found: Experiment, path: str) -> Any:
    return getattr(*overrides.owner(found, path))


def _some(count: int) -> list[int]:
    """Return up to a thousand indices, spread evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, 1000)).astype(int)).tolist()


def _bucket(now: EvalConfig, legal: Any) -> tuple[int, int]:
    """Return (bucket, rest): the first at whose multiples the network takes images."""
    usual = ((now.bucket, now.bucket_rest), (64, 0), (64, 1), (32, 0), (32, 1), (16, 1), (8, 1))
    for bucket, rest in usual:
        if all(legal(n * bucket + rest) == (n * bucket + rest,) for n in range(3, 12)):
            return bucket, rest
    return now.bucket, now.bucket_rest


def _shortened(schedule: Schedule, factor: float) -> Schedule:
    """Return a schedule with its numbers of steps multiplied by a factor below 1."""
    if factor >= 1:
        return schedule

    def short(steps: int) -> int:
        return max(1, round(steps * factor)) if steps else 0

    milestones = tuple(sorted({short(step) for step in schedule.milestones}))
    only = {"decay_steps": short(schedule.decay_steps)} if schedule.decay_steps else {}
    return dataclasses.replace(
        schedule,
        every=short(schedule.every) if schedule.kind == "step" else schedule.every,
        milestones=milestones,
        warmup=short(schedule.warmup),
        settle=short(schedule.settle),
        **only,
    )
