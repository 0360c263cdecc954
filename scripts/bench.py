"""Time each FCN-to-DeepLab architecture beside PyTorch doing the same work on the same device.

    python scripts/bench.py [--only NAME] [--dtype bfloat16] [--rounds 5] [--jobs forward step]
                            [--step-images 2] [--step-side 129] [--layers] [--output FOLDER]

Two jobs are timed for each network: the forward pass of one image at the paper's crop, and the
training step (loss, gradients, SGD with momentum) of a few images at a small crop. Ours is the step
that `seg_jax train` compiles; PyTorch's networks are torchvision's where it has them, and otherwise
those of tests/parity, which have the same parameters and are tested to give the same logits.
Weights are random. Ours and PyTorch's take turns in one process, each after a large matrix product
of its own, so that other load slows all of them. PyTorch's tensors are channels_last; on a GPU its
networks are compiled, and in bfloat16 its step runs under autocast. On the CPU both keep freed
memory in the process, as training does (`seg_jax.parallel.allocator`): they share the allocator.

Printed, and written as <device>_<dtype>.json and .md: median milliseconds, the spread (quartiles),
the ratio to PyTorch (below 1 is faster), the FLOP/s reached as a share of the matrix product's, and
the peak memory of a call besides weights and input. A step is counted as three forward passes.
With --layers, rows with a ratio above 1 list the convolutions that lose the most time to PyTorch's,
and the time of all convolutions.

Needs PyTorch and torchvision besides the project: .venv-parity, made by scripts/test_parity.sh.
"""

import argparse
import ctypes
import dataclasses
import datetime
import functools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from seg_jax import train_state

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave memory for PyTorch

sys.path.insert(0, str(Path(__file__).resolve().parent / "gpu"))

import bench_torch
import jax
import numpy as np
import torch
import tqdm
import turns
from bench_layers import costly_layers
from bench_torch import DEVICE, wait
from jax import numpy as jnp

from seg_jax import analysis, experiment, losses, optim, parallel
from seg_jax.parallel import allocator, compiler
from seg_jax.train import step

allocator.keep_freed_memory()
ROOT = Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Job:
    """The same work for JAX and for PyTorch.

    Attributes:
      size: (height, width) of the images.
      images: in one call.
      flops: 2 x the multiply-adds of the convolutions; three times that for a step.
      ours: JAX's call; blocks until it is done.
      torch: PyTorch's call; blocks until it is done.
      our_peak: MiB that JAX needs besides weights and input, from XLA's buffer plan.
    """

    size: tuple[int, int]
    images: int
    flops: float
    ours: Callable[[], Any]
    torch: Callable[[], Any]
    our_peak: int


def image_size(chosen: experiment.Experiment, kind: str, side: int) -> tuple[int, int]:
    """Return the paper's crop; for a "step" the legal square size next to `side`."""
    if kind == "forward":
        return chosen.data.augmentation.crop
    nearest = getattr(chosen.model, "legal_sizes", lambda side: (side,))
    return (nearest(side)[0],) * 2


def job(name: str, kind: str, dtype: str, step_images: int, step_side: int) -> Job:
    """Build and compile JAX's and PyTorch's "forward" or "step" of one row.

    Args:
      name: of the network.
      kind: "forward" or "step".
      dtype: "float32" or "bfloat16".
      step_images: in a step.
      step_side: of their sides, in pixels, about.

    Raises:
      ValueError: the two networks differ in their number of parameters.
    """
    chosen = experiment.get(name)
    size = image_size(chosen, kind, step_side)
    module = bench_torch.NETWORKS[name]().to(DEVICE, memory_format=torch.channels_last)
    shapes = train_state.variable_shapes(chosen.model, input_shape=(1, *size, 3))
    counts = [sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))]
    counts.append(sum(parameter.numel() for parameter in module.parameters()))
    if counts[0] != counts[1]:
        raise ValueError(f"{name}: {counts[0]} parameters, and PyTorch's network {counts[1]}")
    flops = 2.0 * analysis.analyse(chosen.model, (*size, 3)).multiply_adds
    rng = np.random.default_rng(0)
    if kind == "forward":
        image = rng.normal(size=(1, *size, 3)).astype(np.float32)
        ours, peak = our_forward(chosen.model, image, dtype)
        return Job(size, 1, flops, ours, bench_torch.forward(module, image, dtype), peak)
    image = rng.integers(0, 256, (step_images, *size, 3), np.uint8)
    margin = getattr(chosen.model, "margin", 0)
    inner = [side - 2 * margin for side in size]
    classes = chosen.model.num_classes
    label = rng.integers(0, classes, (step_images, *inner), np.uint8)
    padded = np.pad(label, ((0, 0), (margin, margin), (margin, margin)), constant_values=255)
    ours, peak = our_step(chosen, {"image": image, "label": padded}, dtype)
    theirs = bench_torch.training_step(module, image, label, chosen.loss.heads, dtype)
    return Job(size, step_images, 3 * step_images * flops, ours, theirs, peak)


def our_forward(model: Any, image: np.ndarray, dtype: str) -> tuple[Callable[[], Any], int]:
    """Return the compiled forward pass of one image, and its MiB."""
    variables = train_state.init_variables(model, input_shape=image.shape, seed=0)
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), variables["params"])
    variables = jax.device_put({**variables, "params": params})
    x = jax.device_put(jnp.asarray(image, dtype))
    compiled = jax.jit(lambda v, x: model.apply(v, x, train=False)["out"])
    compiled = compiled.lower(variables, x).compile()
    return lambda: jax.block_until_ready(compiled(variables, x)), _planned(compiled)


def _planned(compiled: Any) -> int:
    plan = compiled.memory_analysis()
    # Donated buffers are overwritten: they need no memory of their own.
    size = plan.temp_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    return round(size / 2**20)


def our_step(
    chosen: experiment.Experiment, batch: dict, dtype: str
) -> tuple[Callable[[], Any], int]:
    """Return the trainer's compiled step on one device, with a state of its own, and its MiB."""
    mesh = parallel.make_mesh(jax.devices()[:1])
    shape = (1, *batch["image"].shape[1:])
    variables = train_state.init_variables(chosen.model, input_shape=shape, seed=0)
    settings = dataclasses.replace(chosen.optim, base_lr=1e-9)
    optimizer = optim.make_optimizer(settings, variables["params"], steps=10**6)
    per_device = functools.partial(
        step.train_step,
        model=chosen.model,
        optimizer=optimizer,
        loss=losses.LossConfig(heads=chosen.loss.heads),
        preprocessing=chosen.data.preprocessing,
        learning_rate=functools.partial(optim.learning_rate, settings, 10**6),
        precision=dtype,
    )
    now = [parallel.replicate(train_state.init_state(variables, optimizer), mesh)]
    batch, key = parallel.shard_batch(batch, mesh), jax.random.key(0)
    options = compiler.options(mesh.devices.flat, chosen.model, len(batch["image"]))
    program = parallel.compile_step(per_device, mesh, options=options)
    compiled = program.lower(now[0], batch, key).compile()

    def run():
        now[0], metrics = compiled(now[0], batch, key)
        return jax.block_until_ready(metrics)

    return run, _planned(compiled)


def matrix_products(dtype: str) -> tuple[float, dict[str, Callable[[], Any]]]:
    """Return FLOPs of a large matrix product, and calls that do it in JAX and in PyTorch."""
    side = 8192 if DEVICE == "cuda" else 1536
    a = jnp.ones((side, side), dtype)
    ours = jax.jit(jnp.matmul)
    b = torch.ones((side, side), dtype=getattr(torch, dtype), device=DEVICE)

    def theirs():
        result = b @ b
        wait()
        return result

    return 2.0 * side**3, {"matmul": lambda: jax.block_until_ready(ours(a, a)), "t_matmul": theirs}


def take_turns(
    calls: Mapping[str, Callable], products: Mapping[str, Callable], rounds: int
) -> dict[str, list[float]]:
    """Return the milliseconds of each call.

    Args:
      calls: by contender.
      products: a large matrix product of each contender. It is done twice before a contender's
        turn, once untimed: the other's idle threads wait actively for a few milliseconds, and would
        keep the contender from a core (PyTorch's OpenMP doubled the time of JAX's short calls).
      rounds: timed calls of each.
    """
    times = {name: [] for name in (*calls, *products)}
    for _ in range(rounds):
        for (name, call), (product, multiply) in zip(calls.items(), products.items(), strict=True):
            multiply()
            for key, timed in ((product, multiply), (name, call)):
                start = time.perf_counter()
                timed()
                times[key].append(1e3 * (time.perf_counter() - start))
    return times


def torch_peak(call: Callable[[], Any]) -> int | None:
    """Return by how many MiB PyTorch's call raises the memory in use; None: not measurable.

    On a GPU from PyTorch's counters, on a CPU from the process's resident memory (Linux, glibc).
    """
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return round((torch.cuda.max_memory_allocated() - before) / 2**20)
    try:
        ctypes.CDLL(None).malloc_trim(0)  # return what earlier calls freed
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak
        before = _resident("VmRSS")
        call()
        return round((_resident("VmHWM") - before) / 1024)
    except (OSError, AttributeError):
        return None


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def measure(name: str, kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one job of one network; return a row of the record."""
    dtype = options.dtype
    work = job(name, kind, dtype, options.step_images, options.step_side)
    product, products = matrix_products(dtype)
    calls = {"ours": work.ours, "torch": work.torch}
    for call in (*calls.values(), *products.values()):
        call()  # PyTorch compiles in it
    with turns.alone(options.turns):
        times = take_turns(calls, products, options.rounds)
        peak = torch_peak(work.torch)
    middle = {key: statistics.median(values) for key, values in times.items()}
    rate = product / min(middle["matmul"], middle["t_matmul"])
    return {
        "network": name,
        "job": kind,
        "images": work.images,
        "size": list(work.size),
        "gflop": round(work.flops / 1e9, 1),
        "ms": {key: round(middle[key], 2) for key in ("ours", "torch")},
        "quartiles": {key: _quartiles(times[key]) for key in ("ours", "torch")},
        "ratio": round(middle["ours"] / middle["torch"], 3),
        "share_of_matmul": {
            key: round(work.flops / middle[key] / rate, 3) for key in ("ours", "torch")
        },
        "matmul_tflops": round(rate / 1e9, 3),
        "peak_mib": {"ours": work.our_peak, "torch": peak},
    }


def _quartiles(values: list[float]) -> list[float]:
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return [round(low, 2), round(high, 2)]


HEADER = (
    "| network | job | images | GFLOP | ours ms | PyTorch ms | ratio | ours / matmul "
    "| PyTorch / matmul | ours MiB | PyTorch MiB |"
)


def table(record: Mapping[str, Any]) -> str:
    """Return the record as Markdown."""
    lines = [f"{record['device']}, {record['dtype']}: `{record['command']}`, {record['date']}", ""]
    lines += [HEADER, "|---|---|" + "---:|" * 9]
    for row in record["rows"]:
        low_high = {key: "-".join(f"{v:.0f}" for v in row["quartiles"][key]) for key in row["ms"]}
        cells = [
            row["network"],
            row["job"],
            f"{row['images']} of {row['size'][0]}x{row['size'][1]}",
            f"{row['gflop']:.0f}",
            *(f"{row['ms'][key]:.1f} ({low_high[key]})" for key in ("ours", "torch")),
            f"{row['ratio']:.2f}",
            *(f"{row['share_of_matmul'][key]:.0%}" for key in ("ours", "torch")),
            *("-" if row["peak_mib"][k] is None else str(row["peak_mib"][k]) for k in row["ms"]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    slow = [row for row in record["rows"] if row.get("costly_layers")]
    if slow:
        lines += [
            "",
            "Rows above 1: the layers that lose the most time, timed singly (ours / PyTorch):",
            "",
        ]
    lines += [f"* {r['network']}, {r['job']}: {'; '.join(r['costly_layers'])}" for r in slow]
    return "\n".join(lines) + "\n"


def device_name() -> str:
    """Return the device's name."""
    if DEVICE == "cuda":
        return torch.cuda.get_device_name()
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return f"{models[0] if models else platform.machine()}, {len(os.sched_getaffinity(0))} cores"


def main() -> None:
    """Measure the requested rows, and write the record after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="only networks whose name contains this")
    parser.add_argument(
        "--jobs", nargs="+", choices=("forward", "step"), default=["forward", "step"]
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of each contender")
    parser.add_argument("--step-images", type=int, default=2, help="images in a training step")
    parser.add_argument("--step-side", type=int, default=129, help="their sides, in pixels")
    parser.add_argument("--turns", type=Path, help="folder shared with processes that also measure")
    parser.add_argument("--layers", action="store_true", help="name the costly layers of slow rows")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "bench", help="folder")
    options = parser.parse_args()
    if (DEVICE == "cuda") != (jax.default_backend() == "gpu"):
        sys.exit(f"PyTorch runs on {DEVICE}, JAX on {jax.default_backend()}: nothing to compare")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    names = [name for name in bench_torch.NETWORKS if options.only in name]
    if not names:
        sys.exit(
            f"--only {options.only}: no such network; choose from {', '.join(bench_torch.NETWORKS)}"
        )
    record = {
        "device": device_name(),
        "dtype": options.dtype,
        "command": "python " + " ".join(["scripts/bench.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "versions": {"jax": jax.__version__, "torch": torch.__version__},
        "rows": [],
    }
    options.output.mkdir(parents=True, exist_ok=True)
    target = options.output / f"{DEVICE}_{options.dtype}"
    bar = tqdm.tqdm([(n, k) for n in names for k in options.jobs], unit="row")
    for name, kind in bar:
        bar.set_description(f"{name} {kind}")
        row = measure(name, kind, options)
        if options.layers and row["ratio"] > 1 and options.dtype == "float32":
            module, size = bench_torch.NETWORKS[name](), tuple(row["size"])
            row["costly_layers"] = costly_layers(
                module, kind, row["images"], size, rounds=options.rounds
            )
        record["rows"].append(row)
        target.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
        target.with_suffix(".md").write_text(table(record))
        jax.clear_caches()
    print(table(record))


if __name__ == "__main__":
    main()
