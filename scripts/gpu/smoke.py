"""One training step and one prediction of every family, compared with what a CPU computed.

    python scripts/gpu/smoke.py --work FOLDER [--only NAME...]      here; writes FOLDER/summary.md
    python scripts/gpu/smoke.py --write                             on a CPU: smoke.json beside this

Weights and images are drawn from fixed seeds. The step runs in bfloat16, as trainings on a GPU do,
the prediction in float32 (on a GPU with TensorFloat-32's products); the CPU's numbers, in float32,
are in smoke.json. A lowering that is wrong on the device shows as a loss, a gradient or
probabilities elsewhere. Every network has a process of its own, all at the same time.
"""

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import processes

REFERENCE = Path(__file__).with_name("smoke.json")
# One network a family, and every kind of backbone; what says most first.
NETWORKS = (
    "deeplab_v3plus_xception65_voc", "deeplab_v3plus_mobilenetv2_voc", "deeplab_v3_resnet50_voc",
    "fcn8s_vgg16_voc", "segnet_vgg16_camvid", "segnet_basic_camvid", "unet_voc",
    "pspnet_resnet50_voc", "gcn_resnet50_voc", "deeplab_v2_vgg16_voc",
    "deeplab_v1_largefov_vgg16_voc", "fcn_resnet50_voc",
)  # fmt: skip
SIDE, IMAGES = 97, 2
# Relative differences; bfloat16 has 8 bits, and a hundred layers add up.
LIMITS = {"loss": 0.03, "grad_norm": 0.2, "probabilities": 0.1}
# Without autotuning: what is compiled here runs three times. XLA's Triton products need it: without
# it jax 0.10.2 finds no tile sizes for the aligned-corner upsampling's, and does not compile.
FLAGS = {"XLA_FLAGS": "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"}


def measure(name: str, precision: str) -> dict[str, Any]:
    """Return loss and gradient norm of the first step, probabilities, and seconds."""
    import jax
    import numpy as np

    from seg_jax import experiment, parallel, train_state
    from seg_jax.inference import forward
    from seg_jax.train import program

    parallel.prepare_process()
    chosen = experiment.get(name)
    side = getattr(chosen.model, "legal_sizes", lambda side: (side,))(SIDE)[0]
    train = dataclasses.replace(chosen.train, batch_size=IMAGES, steps=1000, precision=precision)
    chosen = dataclasses.replace(chosen, train=train).with_evaluation(
        scales=(1.0,), flip=False, turns=1, crf=None
    )
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (IMAGES, side, side, 3)).astype(np.uint8)
    label = rng.integers(0, chosen.model.num_classes, image.shape[:3]).astype(np.uint8)
    margin = getattr(chosen.model, "margin", 0)
    inside = np.zeros((side, side), bool)
    inside[margin : side - margin, margin : side - margin] = True
    label[:, ~inside] = 255
    variables = train_state.init_variables(chosen.model, input_shape=(1, side, side, 3), seed=0)
    mesh = parallel.make_mesh(jax.devices()[:1])
    found: dict[str, Any] = {"device": jax.devices()[0].device_kind, "side": side}

    started = time.monotonic()
    shares = np.asarray(forward.probabilities(chosen, jax.device_put(variables), image))
    found["forward_seconds"] = round(time.monotonic() - started, 1)
    found["probabilities"] = np.round(shares[:, ::24, ::24].ravel().astype(float), 5).tolist()

    optimizer = program.optimizer(chosen, variables["params"])
    state = parallel.replicate(train_state.init_state(variables, optimizer), mesh)
    step = program.bound_step(chosen, mesh)
    batch = parallel.shard_batch({"image": image, "label": label}, mesh)
    key = jax.random.key(0)
    for number in range(3):
        started = time.monotonic()
        state, metrics = step(state, batch, key)
        metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
        found[f"step_{number}_seconds"] = round(time.monotonic() - started, 4)
        if number == 0:
            found |= {name: metrics[name] for name in ("loss", "grad_norm", "finite")}
    return found


def differences(found: dict[str, Any], reference: dict[str, Any]) -> dict[str, float]:
    """Return the relative differences of loss, gradient norm and probabilities."""
    result = {
        name: abs(found[name] - reference[name]) / abs(reference[name])
        for name in ("loss", "grad_norm")
    }
    pairs = list(zip(found["probabilities"], reference["probabilities"], strict=True))
    size = sum(b * b for _, b in pairs) ** 0.5
    result["probabilities"] = sum((a - b) ** 2 for a, b in pairs) ** 0.5 / size
    return result


def report(names: list[str], work: Path, codes: dict[str, int | None]) -> bool:
    """Write summary.md; return whether all is well."""
    known = json.loads(REFERENCE.read_text())
    lines = [
        "| network | verdict | loss | its difference | gradient norm's | probabilities' "
        "| compiled forward, step (s) | third step (ms) |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    good = True
    for name in names:
        path = work / f"{name}.json"
        if not path.exists():
            good = False
            lines.append(f"| {name} | no result (code {codes.get(name)}) | | | | | | |")
            continue
        found = json.loads(path.read_text())
        apart = differences(found, known[name]) if name in known else dict.fromkeys(LIMITS, 0.0)
        wrong = [key for key, limit in LIMITS.items() if not apart[key] <= limit]
        verdict = f"differs: {', '.join(wrong)}" if wrong else "ok"
        verdict = verdict if found["finite"] else "not finite"
        good = good and verdict == "ok"
        verdict = verdict if name in known else f"{verdict}, compared with nothing"
        lines.append(
            f"| {name} | {verdict} | {found['loss']:.4f} | {apart['loss']:.1e} "
            f"| {apart['grad_norm']:.1e} | {apart['probabilities']:.1e} "
            f"| {found['forward_seconds']}, {found['step_0_seconds']:.1f} "
            f"| {1e3 * found['step_2_seconds']:.1f} |"
        )
    (work / "summary.md").write_text("\n".join(lines) + "\n")
    return good


def main() -> None:
    """Measure all networks side by side, or one, or write the reference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path)
    parser.add_argument("--only", nargs="+", default=list(NETWORKS))
    parser.add_argument("--one", help="measure this network, in this process")
    parser.add_argument("--precision", default="bfloat16", help="of --one")
    parser.add_argument("--write", action="store_true", help="write smoke.json, on a CPU")
    options = parser.parse_args()
    if options.one:
        found = measure(options.one, options.precision)
        (options.work / f"{options.one}.json").write_text(json.dumps(found))
        return
    if options.write:
        known = json.loads(REFERENCE.read_text()) if REFERENCE.exists() else {}
        for name in options.only:
            found = measure(name, "float32")
            kept = ("side", "loss", "grad_norm", "probabilities")
            known[name] = {key: found[key] for key in kept}
            REFERENCE.write_text(json.dumps(known, separators=(",", ":")) + "\n")
            print(name, found["loss"], found["grad_norm"], flush=True)
        return
    options.work.mkdir(parents=True, exist_ok=True)
    for old in options.work.glob("*.json"):
        old.unlink()
    running = {
        name: processes.start(
            [__file__, "--work", str(options.work), "--one", name],
            options.work / f"{name}.log",
            nice=min(15, index),
            env=FLAGS,
        )
        for index, name in enumerate(options.only)
    }
    codes: dict[str, int | None] = {}
    codes = processes.wait(running, lambda: report(options.only, options.work, codes) and None)
    sys.exit(0 if report(options.only, options.work, codes) else 1)


if __name__ == "__main__":
    main()
