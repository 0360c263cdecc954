"""The stages of `scripts/gpu.sh`: what each runs, and how long it may take."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Stage:
    """One check.

    Attributes:
      seconds: its time limit.
      says: what it does.
      command: its words; {data}, {work}, {scratch}, {pack} and {python} are replaced, and
        {limit} by its time limit, less what is needed to finish.
      tiny: words that shrink it to a rehearsal on a CPU.
      takes_spare: whether it also gets the time that the stages before it left over.
    """

    seconds: int
    says: str
    command: tuple[str, ...]
    tiny: tuple[str, ...] = ()
    takes_spare: bool = False


def _script(name: str, *words: str) -> tuple[str, ...]:
    return ("{python}", f"scripts/{name}", *words)


STAGES: dict[str, Stage] = {
    "environment": Stage(
        60,
        "unpacks; versions, devices, a product and a convolution on the device",
        _script("gpu/environment.py", "--pack", "{pack}", "--scratch", "{scratch}"),
        ("--images", "4"),
    ),
    "smoke": Stage(
        90,
        "a training step and a prediction of every family, compared with a CPU's",
        _script("gpu/smoke.py", "--work", "{work}"),
        ("--only", "segnet_basic_camvid"),
    ),
    "controlled": Stage(
        240,
        "suite `controlled`: all heads at the same time, seed 0, then further seeds",
        _script("gpu/controlled.py", "--work", "{work}", "--data", "{data}/camvid"),
        ("--heads", "fcn8s", "deeplab_v3", "--steps", "2", "--seeds", "2"),
        takes_spare=True,
    ),
    "bench": Stage(
        150,
        "four networks beside compiled PyTorch in bfloat16; the dense CRF's implementations",
        _script("gpu/together.py", "--work", "{work}", "--compile-seconds", "{limit}"),
        ("--tiny",),
        takes_spare=True,
    ),
    "segnet": Stage(
        120,
        "SegNet-Basic on CamVid from scratch in bfloat16, as far as the time goes, scored on test",
        _script(
            "gpu/segnet.py", "--work", "{work}", "--data", "{data}/camvid", "--seconds", "{limit}"
        ),
        ("--tiny",),
        takes_spare=True,
    ),
    "deterministic": Stage(
        40,
        "two runs of the quick U-Net under deterministic operations: the same bits",
        _script("gpu/deterministic.py", "--work", "{work}"),
        ("--steps", "3"),
    ),
    "conv": Stage(
        60,
        "dilated and depthwise convolutions: every lowering, in bfloat16",
        _script("gpu/conv.py", "--work", "{work}"),
        ("--batch", "1", "--rounds", "1", "--only", "7x7 256->21", "--compile-seconds", "900"),
    ),
    "costs": Stage(
        80,
        "XLA's memory plan, FLOPs and bytes of training steps beside measured time and memory",
        _script("gpu/costs.py", "--work", "{work}"),
        ("--tiny",),
    ),
    "crf": Stage(
        570,
        "the dense CRF: the lattice and the Hopper kernel at all sizes",
        _script("bench_crf.py", "--implementations", "lattice", "exact_hopper"),
        ("--implementations", "lattice", "--sizes", "small", "--settings", "v2", "--rounds", "1"),
    ),
    "bench_all": Stage(
        570,
        "every architecture beside compiled PyTorch in bfloat16, one after the other",
        _script("bench.py", "--dtype", "bfloat16", "--rounds", "20", "--output", "{work}"),
        ("--only", "segnet_basic", "--jobs", "forward", "--rounds", "2"),
    ),
    "tests": Stage(
        570,
        "the test suite on the GPU",
        ("{python}", "-m", "pytest", "-q", "-m", "not slow", "-n", "4", "--maxfail", "50"),
        ("tests/test_types.py", "-n", "0"),
    ),
}
RUNS = {
    "first": ("environment", "smoke", "controlled", "bench"),
    "second": ("environment", "segnet", "deterministic", "conv", "costs"),
}


def listing() -> str:
    """Return the runs and the stages in words."""
    lines = [f"{name:14} {', '.join(stages)}" for name, stages in RUNS.items()]
    lines += [f"{name:14} {stage.seconds:4} s  {stage.says}" for name, stage in STAGES.items()]
    return "\n".join(lines)
