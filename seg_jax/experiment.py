"""What an experiment is, and the registry that maps a name to one."""

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from seg_jax import checks, config, experiments, losses, optim, papers, plugins
from seg_jax.config import network_limits
from seg_jax.data.config import DataConfig
from seg_jax.kernels.crf import CrfParams

# Upper limits of what a configuration asks for. They are far beyond the papers' recipes; but a
# configuration may come from a stranger, and building its network must not take the machine.
_LARGEST_SIDE = 2**14  # pixels of an image's side
_MOST_PIXELS = 2**26  # of what the network sees at once: 8192 x 8192
_SMALLEST_STRIDE = 1 / 64  # of sliding windows, as a share of the canvas

_IMAGENET = {  # weights of the catalogue for `backbones.choose.NAMES`
    "vgg16": "oxford_vgg16_imagenet",
    "mobilenet_v2": "google_mobilenetv2_imagenet_uint8",
    **{f"resnet{depth}": f"torchvision_resnet{depth}_imagenet" for depth in (50, 101, 152)},
    **{f"xception{depth}": f"google_xception{depth}_imagenet" for depth in (41, 65, 71)},
}


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Length, batch size and numerical precision of a training.

    Attributes:
      steps: optimiser updates.
      batch_size: images in one update over all devices and hosts; the recipes assume this number.
      accumulate: micro-batches that one update is summed from; divides batch_size.
      precision: of the forward and backward pass; parameters, loss and statistics stay float32.
      remat: memory for time: values inside these parts of the backbone are not kept for the
        gradient but computed again: "blocks": residual units, in VGG, SegNet and U-Net stages;
        "stages": all between two changes of the resolution. Gradients differ by rounding.
      logits: memory for nothing but the order of sums: "strips": the loss upsamples the scores by
        itself, some rows at a time, and logits of the image's size are never held. For FCN, DeepLab
        (all) and PSPNet, which end with a bilinear upsampling, and cross_entropy and focal without
        top_k. Loss and gradient differ by rounding.
      seed: of initialisation, dropout, shuffling and augmentation.
      ema_decay: of an exponential moving average of parameters and running averages, which the run
        is evaluated and used by, e.g. 0.999; in the first updates min(ema_decay, (1 + n) /
        (10 + n)), as in TensorFlow. 0: none.
      init: weights to start from: name or folder of a run, whose layers are taken where they fit;
        or published weights, a file or a name of `weights list`, or a release, which must fit.
        Published recipes name their papers' pre-training. Empty or "none": from scratch.
      init_allow: regular expression; published layers whose names it matches need not fit.
      init_as: name of the published weights (`weights list`) whose layers the file of `init` has,
        where it is another than the published file: your own training of that network.
      init_channels: how the first convolution of weights for RGB takes images of n other channels,
        its responses to equal channels unchanged: "mean": each gets 3/n of the mean of red, green
        and blue; "repeat": 3/n of red, green and blue in turn; "zero": the first three get them,
        the others 0.
      log_every: steps between two lines of metrics.jsonl.
      loggers: where numbers and images go beside metrics.jsonl: any of tensorboard, wandb, mlflow
        and those that your package registers (docs/training.md).
      evaluate_first: whether the validation split is scored before step 1: "auto": if every layer
        came from the weights of `init`.
      evaluate_every: steps between two evaluations on the validation split; 0: only after the end.
      evaluate_split: list of images of these evaluations; empty: `data.val_split`.
      best_metric: keep, beside the newest checkpoints, the one whose evaluation has the highest
        value of this metric: mean_iou, pixel_accuracy, mean_accuracy, frequency_weighted_iou,
        mean_dice, or per_class_iou/NAME of a class. Every evaluation then has a checkpoint, and
        the last step has both. The best one is what the run is evaluated and used by. Empty: none.
      patience: stop after this many evaluations in a row that are no better than the best before
        them, by `best_metric`; 0: never.
      checkpoint_every: steps between two checkpoints.
      keep: checkpoints that are kept.
    """

    steps: int
    batch_size: int
    accumulate: int = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    remat: Literal["none", "stages", "blocks"] = "none"
    logits: Literal["whole", "strips"] = "whole"
    seed: int = 0
    ema_decay: float = 0.0
    init: str = ""
    init_allow: str = ""
    init_as: str = ""
    init_channels: Literal["mean", "repeat", "zero"] = "mean"
    log_every: int = 20
    loggers: tuple[str, ...] = ("tensorboard",)
    evaluate_first: Literal["auto", "yes", "no"] = "auto"
    evaluate_every: int = 0
    evaluate_split: str = ""
    best_metric: str = ""
    patience: int = 0
    checkpoint_every: int = 1000
    keep: int = 2

    def __post_init__(self):
        checks.positive(
            steps=self.steps, batch_size=self.batch_size, accumulate=self.accumulate,
            log_every=self.log_every, checkpoint_every=self.checkpoint_every, keep=self.keep,
        )  # fmt: skip
        checks.at_most(2**16, batch_size=self.batch_size)
        checks.at_most(2**40, steps=self.steps)
        checks.pattern(self.init_allow)
        checks.non_negative(evaluate_every=self.evaluate_every, patience=self.patience)
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")
        if self.best_metric and not self.evaluate_every:
            raise ValueError(
                f"best_metric {self.best_metric} needs evaluations: set train.evaluate_every"
            )
        if self.patience and not self.best_metric:
            raise ValueError(
                f"patience {self.patience} needs a metric: set train.best_metric, e.g. to mean_iou"
            )
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}"
            )


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """How images are presented to the network and scored; `inference.protocols` has the papers'.

    Attributes:
      mode: "whole": the whole image, padded; "sliding": PSPNet's overlapping windows, whose
        probabilities are averaged; "tile": U-Net's overlap-tile; "resize": resized to the canvas
        whatever its shape, as runtimes with an input of one size do, and the logits resized back.
      canvas: (height, width) of what the network sees: every image is padded to it (bottom and
        right, mean colour), resized to it, or cut into windows or tiles of it. None ("whole" only):
        buckets.
      bucket: without a canvas, height and width are padded to the next multiple of this plus
        `bucket_rest`, so that images of hundreds of sizes need only a few compilations.
      bucket_rest: 1 for networks that align the corners of scores and image, whose inputs have
        heights and widths of k * output stride + 1.
      scales: of the image; the predictions are fused at the size of scale 1.
      flip: the mirror image is fused as well.
      turns: 4: the image turned by 0, 90, 180 and 270 degrees is fused as well, with `flip` all
        eight quarter turns and mirror images; 1: as it is. For images without an up and down.
      fusion: "probabilities": the mean over scales and mirror images (DeepLab v3); "mirror_logits":
        the mirror image's logits are added before the softmax, scales averaged (PSPNet);
        "max_logits": the highest logit of each class over scales and mirror images (DeepLab v2).
      scaling: how "whole" scales its canvas and the logits back: "half_pixel", to size * scale, or
        "align_corners", to (size - 1) * scale + 1.
      long_side: "sliding": pixels of every image's longer side at scale 1, (long_side - 1) * scale
        + 1 at others; None: its own.
      stride: "sliding": step from window to window as a share of the canvas, rounded up to pixels.
      batch_size: images in one forward pass.
      logits: "strips": where a pixel's class is all that is wanted of a network that ends with a
        bilinear upsampling (see `train.logits`) and sees a window once, it is found while
        upsampling: logits and probabilities of the image's size are not held. Other protocols
        are as with "whole". Classes are the same but where two logits differ by rounding.
      trimap_px: half-widths, in pixels, of the bands in which trimap mIoU is measured.
      crf: the dense CRF that `evaluate` and `predict` apply to the fused probabilities at the
        image's own size; None: none. `seg_jax.kernels.crf.presets` names the papers' constants.
    """

    mode: Literal["whole", "sliding", "tile", "resize"] = "whole"
    canvas: tuple[int, int] | None = None
    bucket: int = 64
    bucket_rest: int = 0
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    turns: Literal[1, 4] = 1
    fusion: Literal["probabilities", "mirror_logits", "max_logits"] = "probabilities"
    scaling: Literal["half_pixel", "align_corners"] = "half_pixel"
    long_side: int | None = None
    stride: float = 2 / 3
    batch_size: int = 4
    logits: Literal["whole", "strips"] = "whole"
    trimap_px: tuple[int, ...] = (1, 2, 3, 5, 7, 10, 20, 40)
    crf: CrfParams | None = None

    def __post_init__(self):
        checks.positive(bucket=self.bucket, batch_size=self.batch_size, stride=self.stride)
        checks.fraction(stride=self.stride)
        if self.stride < _SMALLEST_STRIDE:
            raise ValueError(f"stride must be at least {_SMALLEST_STRIDE}, got {self.stride}")
        checks.non_negative(bucket_rest=self.bucket_rest)
        checks.at_most(_LARGEST_SIDE, bucket=self.bucket, bucket_rest=self.bucket_rest)
        checks.at_most(4096, batch_size=self.batch_size)
        if not self.scales:
            raise ValueError("scales is empty: one plain forward pass is scales (1.0,)")
        checks.positive(smallest_of_scales=min(self.scales))
        checks.at_most(16, largest_of_scales=max(self.scales))
        checks.at_most(64, number_of_scales=len(self.scales), bands=len(self.trimap_px))
        if self.long_side is not None:
            checks.positive(long_side=self.long_side)
            checks.at_most(_LARGEST_SIDE, long_side=self.long_side)
        if self.canvas:
            height, width = self.canvas
            checks.positive(canvas_height=height, canvas_width=width)
            checks.at_most(_LARGEST_SIDE, canvas_height=height, canvas_width=width)
            pixels = int(height * width * max(self.scales) ** 2)
            checks.at_most(_MOST_PIXELS, pixels_of_the_canvas_at_the_largest_scale=pixels)
        ascending = sorted({*self.trimap_px, 0})[1:]
        if list(self.trimap_px) != ascending:
            raise ValueError(f"trimap_px must be positive and ascend, got {self.trimap_px}")
        checks.at_most(_LARGEST_SIDE, trimap_px=max(self.trimap_px, default=0))


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One row of the table: a model, its data, its recipe and its evaluation protocol.

    Attributes:
      family: the architecture's name as its paper writes it.
      paper: authors, venue and year, arXiv number.
      model: the Linen module; building it allocates nothing.
    """

    family: str
    paper: str
    model: Any = dataclasses.field(metadata=config.MODULE)
    data: DataConfig
    optim: optim.OptimConfig
    train: TrainConfig
    loss: losses.LossConfig = losses.LossConfig()
    evaluation: EvalConfig = EvalConfig()
    name: str = ""

    def __post_init__(self):
        if self.name:
            checks.path_component(self.name, "name of an experiment")
        network_limits.check(self.model)

    def with_evaluation(self, **fields: Any) -> "Experiment":
        """Return the experiment with fields of its EvalConfig replaced."""
        return dataclasses.replace(self, evaluation=dataclasses.replace(self.evaluation, **fields))

    @property
    def monitored_split(self) -> str:
        """The list of images that is scored during training."""
        return self.train.evaluate_split or self.data.val_split

    def with_backbone(self, name: str) -> "Experiment":
        """Return the experiment with its head on another backbone, see `backbones.choose`.

        A recipe that starts from pre-trained weights starts from the new backbone's of ImageNet.
        Parameters that no rule of the recipe names (VGG's biases, where a ResNet has norms) learn
        as all others do.

        Raises:
          ValueError: there is no such backbone, or the network cannot have it.
        """
        from seg_jax.backbones import choose

        model = choose.replace(self.model, name)
        if model == self.model:
            return self
        rules = (*self.optim.rules, optim.Rule("backbone/.*"))
        train = self.train
        if train.init not in ("", "none"):
            beta = getattr(model.backbone, "stem", "7x7") == "3x3"  # of the DeepLab release
            init = f"google_{name}_beta_imagenet" if beta else _IMAGENET[name]
            train = dataclasses.replace(train, init=init)
        optimiser = dataclasses.replace(self.optim, rules=rules)
        return dataclasses.replace(self, model=model, optim=optimiser, train=train)

    def with_norm(self, kind: str) -> "Experiment":
        """Return the experiment with every norm of its network, backbone and heads, of one kind.

        A network that can have norms and has none gets them. Norms whose parameters the recipe
        holds, as those of frozen batch norms, learn with a group norm.

        Arguments and errors as of `nn.replace_norm.replace`.
        """
        from seg_jax.nn import replace_norm

        model, is_first = replace_norm.replace(self.model, kind)
        rules = self.optim.rules
        if kind.startswith("group"):
            rules = tuple(
                dataclasses.replace(rule, lr=1.0) if rule.lr == 0 and rule.is_of_norms else rule
                for rule in rules
            )
        if is_first:
            rules = (*rules, optim.Rule(".*/(scale|bias)", decay=0.0))
        optimiser = dataclasses.replace(self.optim, rules=rules)
        return dataclasses.replace(self, model=model, optim=optimiser)

    @property
    def published(self) -> tuple[papers.Figure, ...]:
        """The figures the paper and its authors report for this experiment."""
        return papers.figures(self.name)


Builder = Callable[[], Experiment]
_BUILDERS: dict[str, Builder] = {}
_SUITES: dict[str, list[str]] = {}


def register(name: str, *, suites: tuple[str, ...] = ()) -> Callable[[Builder], Builder]:
    """Register a zero-argument builder of a fresh Experiment under `name`, as a decorator.

    Builders, not values: an unbound Linen module can be changed in place, a value would be shared.

    Args:
      name: `<architecture>_<backbone>_<data set>[_<variant>]`.
      suites: names under which `reproduce` runs it.
    """

    def add(builder: Builder) -> Builder:
        if name in _BUILDERS:
            raise ValueError(f"experiment {name!r} is registered twice")
        _BUILDERS[name] = builder
        for suite in suites:
            _SUITES.setdefault(suite, []).append(name)
        return builder

    return add


def discover() -> None:
    """Import every module of `seg_jax.experiments` and of the users' packages, so that they
    register what they have.

    Raises:
      UserError: a package cannot be imported.
    """
    plugins.import_all(experiments.__name__, "seg_jax")
    plugins.load()


def folder() -> Path:
    """Return the folder of the registered experiments, with their records and measurements."""
    return experiments.FOLDER


def names() -> tuple[str, ...]:
    """Return every registered name, sorted."""
    discover()
    return tuple(sorted(_BUILDERS))


def get(name: str) -> Experiment:
    """Return a fresh Experiment; an unknown name is a UserError that names the closest ones."""
    discover()
    if name not in _BUILDERS:
        raise checks.UserError(f"experiment: {checks.unknown(name, _BUILDERS)}")
    return dataclasses.replace(_BUILDERS[name](), name=name)


def notes(name: str) -> str:
    """Return the lab note of an experiment: its builder's docstring, "" if there is none."""
    discover()
    builder = _BUILDERS.get(name)
    if builder is None:
        return ""
    return inspect.getdoc(getattr(builder, "func", builder)) or ""  # func: of a partial


def network(name: str, **fields: Any) -> Any:
    """Return the Linen module of an experiment, with fields of it replaced.

    Args:
      name: of the experiment.
      **fields: of the module, e.g. num_classes=5.

    Raises:
      UserError: there is no such experiment, or the module has no such field.
    """
    model = get(name).model
    known = {field.name for field in dataclasses.fields(model)} - {"name", "parent"}
    for field in fields:
        if field not in known:
            raise checks.UserError(f"network {name}: {checks.unknown(field, known)}")
    return dataclasses.replace(model, **fields)


def suites() -> dict[str, int]:
    """Return the number of experiments in every suite by its name."""
    discover()
    return {name: len(members) for name, members in sorted(_SUITES.items())}


def suite(name: str) -> tuple[str, ...]:
    """Return the names of a suite's experiments in the order in which they are run: by architecture
    family from FCN to DeepLab v3+, and within a family in the order of registration; but one whose
    weights another starts from comes before that one.
    """
    discover()
    if name not in _SUITES:
        raise checks.UserError(f"suite: {checks.unknown(name, _SUITES)}")
    members = sorted(_SUITES[name], key=lambda member: papers.order(member)[0])
    found: dict[str, None] = {}
    for member in members:
        chain = [member]
        while (init := _BUILDERS[chain[-1]]().train.init) in members and init not in chain:
            chain.append(init)
        found.update(dict.fromkeys(reversed(chain)))
    return tuple(found)


def shrink(model: Any, *, width: float = 1 / 16) -> Any:
    """Return the model with every `width` field set: the same network with fewer channels."""
    return config.replace_everywhere(
        model, lambda node: {"width": width} if "width" in config.fields(node) else {}
    )
