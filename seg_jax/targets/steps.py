"""Whole training steps compiled for TPU: estimated cycles, and the kinds of operation they go to.

All figures are the compiler's estimates: nothing has run. `accelerators_page` writes them down.
"""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

from seg_jax import checks, experiment, overrides
from seg_jax.targets import compiling, table

RECORD = "experiments/steps.json"
TARGET = "v5e-8"
_GROUPS = 1_000_000  # all of them


@dataclasses.dataclass(frozen=True)
class Step:
    """A training step in bfloat16 at its recipe's batch and crop, over the chips of TARGET.

    Attributes:
      network: what the page calls it.
      goal: it is to cost at most so many times its convolutions and matrix products.
      before: its cycles, in millions, when every platform had the same forms and the compiler its
        default options; compiled by the same compiler at the beginning of this work.
      share: of convolutions and matrix products in `before`.
    """

    network: str
    goal: float
    before: float
    share: float


STEPS = {
    "fcn8s_vgg16_voc": Step("FCN-8s, VGG-16", 1.6, 89.7, 0.23),
    "segnet_basic_camvid": Step("SegNet-Basic", 2.5, 103.6, 0.35),
    "unet_isbi2012": Step("U-Net", 1.6, 66.4, 0.29),
    "deeplab_v1_largefov_vgg16_voc": Step("DeepLab v1 LargeFOV, VGG-16", 1.6, 139.3, 0.15),
    "deeplab_v2_resnet101_voc": Step("DeepLab v2, ResNet-101", 1.6, 48.4, 0.37),
    "pspnet_resnet50_voc": Step("PSPNet, ResNet-50", 1.6, 94.0, 0.25),
    "gcn_resnet50_voc": Step("GCN, ResNet-50", 1.6, 53.3, 0.22),
    "deeplab_v3_resnet50_voc": Step("DeepLab v3, ResNet-50", 1.6, 76.4, 0.19),
    "deeplab_v3plus_mobilenetv2_voc": Step("DeepLab v3+, MobileNetV2", 2.5, 56.4, 0.15),
}
# Small ones of the same layers, two images a chip, which a test compiles anew; not on the page.
WATCHED = (
    "unet_synthetic", "segnet_basic_synthetic", "fcn8s_resnet14_synthetic",
    "gcn_resnet14_synthetic", "pspnet_resnet14_synthetic", "deeplab_v3plus_resnet14_synthetic",
)  # fmt: skip
# Networks with one image a chip, at a batch that gives the matrix unit more of them.
LARGER = {
    f"{name}, {batch} images": (name, batch)
    for name, batch in (("fcn8s_vgg16_voc", 32), ("unet_isbi2012", 32), ("gcn_resnet50_voc", 16))
}
EVERY = (*STEPS, *LARGER, *WATCHED)


def measure(name: str) -> dict[str, Any]:
    """Compile one of EVERY for TARGET; `topology.prepare` comes first.

    Returns:
      As `summary`.

    Raises:
      UserError: it does not compile.
    """
    checks.one_of(EVERY, name=name)
    target = table.get(TARGET)
    changes: dict[str, Any] = {"train.precision": "bfloat16"}
    if name in LARGER:
        name, changes["train.batch_size"] = LARGER[name]
    if name in WATCHED:
        changes["train.batch_size"] = 2 * target.devices
    wanted = overrides.apply(experiment.get(name), changes)
    entry = compiling.experiment_entry(wanted, target, "train", cycles_top=_GROUPS)
    if entry["status"] == compiling.ERROR:
        raise checks.UserError(f"{name} for {TARGET}: {entry['error']}")
    return summary(entry)


def summary(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of an entry of `compiling.experiment_entry` with all its groups.

    Returns:
      batch, devices, compile_seconds, estimated_cycles, estimated_seconds, utilization,
      convolution_share, temporaries_bytes, without_estimate, and kinds: by kind of operation its
      cycles [forward, backward], the dearest first.
    """
    kinds: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
    for group in entry["cycles_by"]:
        kinds[group["kind"]][group["backward"]] += group["cycles"]
    keep = (
        "batch", "devices", "compile_seconds", "estimated_cycles", "estimated_seconds",
        "utilization", "convolution_share", "temporaries_bytes", "without_estimate",
    )  # fmt: skip
    return {key: entry[key] for key in keep} | {
        "kinds": dict(sorted(kinds.items(), key=lambda kind: -sum(kind[1])))
    }


_HEAD = f"""
## Training steps

In bfloat16, at the recipe's batch and crop over {TARGET}; cycles of one chip, loops multiplied out,
waiting for other chips left out. "before": one form of every operation for all platforms, and the
compiler's default options, compiled when this work began. "of products": all cycles over those
of convolutions and matrix products alone, and what was aimed at. DeepLab v2's recipe has 10 images,
compiled as 16 now and as 8 before. Rows without a "before" are of a larger batch than the recipe's.

| network | batch | cycles before | now | of products | goal | step | images/s a chip | of peak |
|---|---|---|---|---|---|---|---|---|
"""
_KINDS = """
Where they go now, forward and backward, in percent of the network's cycles:

| network | |
|---|---|
"""
_TAIL = """
- **Strips.** The compiler cuts a few images into strips and takes these for a batch ("space to
  batch"), for the sake of the convolutions; everything between them is then done on strips with
  copied borders. From 4 images a chip on, and from 2 where the first convolution is strided
  (ResNet, MobileNetV2, Xception), networks are compiled without it (`seg_jax.parallel.compiler`).
  Below that it stays: a 3x3 convolution of 64 channels costs a single image of 349 px four times
  as much without it, and SegNet-Basic's 7x7 takes minutes to compile.
- **Norms** keep scale and bias in float32 when a step computes in bfloat16. The sum of a bias's
  gradient in bfloat16 was one more pass over every activation: a fifth of DeepLab v3's step.
- **Max pooling's gradient**, a select-and-scatter, carries no estimate and is in no sum. By its
  bundles it is 0.5 M cycles for 4 images of 320 px with 64 channels, 0.4 M at 160 px with 128, and
  2.8 M for one image of 698 px with 64 (FCN-8s' first).
- **The update** is one pass over parameters and momentum: 3.0 M cycles instead of 4.9 M for
  ResNet-50's, alone. Its vectors (scales, biases and averages of norms) are looked at as one, too,
  as every operation costs some 1,800 cycles by itself: with the averages of the norms 2.8 M instead
  of 3.2 M, and 0.7 M instead of 1.1 M for MobileNetV2's.
- **One image a chip** (a recipe's batch of 8 over 8 chips): these networks stay in strips, and cost
  up to four times their products, of which ReLU, a pass of its own there, is a fifth to a third.
  More images a chip, not more chips, is what they need: with four (GCN: two) all three cost at most
  1.6 times their products, and FCN-8s' images a second are 2.4 times as many a chip.
"""


def section(record: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the section of docs/accelerators.md for the recorded figures; "" without any."""
    if not record:
        return ""
    rows, shares = "", ""
    for name, found in record.items():
        if name in WATCHED:
            continue
        recipe, _ = LARGER.get(name, (name, 0))
        step, seconds = STEPS[recipe], found["estimated_seconds"]
        total, images = found["estimated_cycles"], found["batch"] / found["devices"]
        before, products = f"{step.before:.1f} M", f"{1 / step.share:.1f} -> "
        if name in LARGER:
            before = products = ""
        rows += (
            f"| {step.network} | {found['batch']} | {before} | {total / 1e6:.1f} M | "
            f"{products}{1 / found['convolution_share']:.1f} | {step.goal} | "
            f"{seconds * 1000:.1f} ms | {images / seconds:.0f} | {found['utilization']:.1%} |\n"
        )
        if name in LARGER:
            continue
        listed = ", ".join(
            f"{kind} {_percent(forward, total)} + {_percent(backward, total)}"
            for kind, (forward, backward) in found["kinds"].items()
            if forward + backward >= 0.03 * total
        )
        shares += f"| {step.network} | {listed} |\n"
    return _HEAD + rows + _KINDS + shares + _TAIL


def _percent(cycles: int, total: int) -> str:
    return f"{100 * cycles / total:.0f}"
