"""One experiment, one target, one program: compile it and say what came of it, as JSON data."""

import contextlib
import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import jax

from seg_jax import checks, parallel
from seg_jax.experiment import Experiment
from seg_jax.targets import batch, cost, cycles, gpu_estimates, programs, topology
from seg_jax.targets.table import Target

COMPILED, DOES_NOT_FIT, ERROR = "compiled", "does not fit", "error"
MODES = ("train", "evaluate")
Effort = Literal["full", "quick"]
# What an entry says beside its program: not for another experiment that has the same.
_OF_EXPERIMENT = {
    *("experiment", "target", "mode", "batch", "recipe_batch", "devices", "precision"),
    *("accumulate", "device_hours", "remedy", "largest_batch", "compile_seconds"),
}


def experiment_entry(
    experiment: Experiment,
    target: Target,
    mode: str,
    *,
    find_batch: bool = False,
    cycles_top: int = 0,
    effort: Effort = "full",
    known: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Compile one program of an experiment for all devices of a target.

    A global batch that does not divide among the devices is compiled at the next larger one that
    does, and the entry has both.

    Args:
      experiment: with overrides applied.
      target: whose compiler `topology.prepare` has found.
      mode: "train", the step at the recipe's batch; "evaluate", one batch of windows.
      find_batch: also look for the largest batch that fits.
      cycles_top: also add up the compiler's estimates, in so many rows; 0: no.
      effort: of the compiler, as `outcome` takes it.
      known: entries; a program that is one of theirs to the letter is not compiled again.

    Returns:
      experiment, target, mode, batch, recipe_batch, devices, precision, accumulate, and of
      `outcome`; with `find_batch` largest_batch.
    """
    checks.one_of(MODES, mode=mode)
    mesh = parallel.make_mesh(topology.describe(target))
    settings = experiment.train
    accumulate = settings.accumulate if mode == "train" else 1
    asked = settings.batch_size if mode == "train" else experiment.evaluation.batch_size
    size = programs.divisible(asked, mesh, accumulate)
    precision = settings.precision if mode == "train" else "float32"
    entry = {
        "experiment": experiment.name,
        "target": target.name,
        "mode": mode,
        "batch": size,
        "recipe_batch": asked,
        "devices": target.devices,
        "precision": precision,
        "accumulate": accumulate,
    }
    lower = programs.PROGRAMS[mode]
    entry |= outcome(
        lambda: lower(experiment, mesh, size),
        target,
        precision,
        cycles_top=cycles_top,
        effort=effort,
        known=[entry for entry in known if entry["target"] == target.name],
    )
    seconds = entry.get("roofline_seconds") or entry.get("estimated_seconds")
    if mode == "train" and seconds:
        entry["device_hours"] = seconds * settings.steps * target.devices / 3600
    if entry["status"] == DOES_NOT_FIT:
        entry["remedy"] = _remedy(entry, mode, accumulate, size // mesh.size)
    if find_batch and entry["status"] != ERROR:

        def needed(images: int) -> int:
            program = lower(experiment, mesh, images * mesh.size * accumulate)
            tried = outcome(lambda: program, target, precision, effort=effort)
            if "peak_bytes" not in tried:
                raise checks.UserError(f"{images} images a device: {tried['error']}")
            return tried["peak_bytes"]

        first = (size // mesh.size // accumulate, entry["peak_bytes"])
        found = batch.largest(needed, limit=entry["memory_bytes"], first=first)
        entry["largest_batch"] = found * mesh.size * accumulate
    return entry


def kernel_entry(
    name: str, target: Target, *, cycles_top: int = 0, effort: Effort = "full"
) -> dict[str, Any]:
    """Compile one of `programs.KERNELS` for one device of a target; keys as `experiment_entry`."""
    checks.one_of(programs.KERNELS, kernel=name)
    entry = {
        "experiment": name, "target": target.name, "mode": "kernel", "batch": 1, "recipe_batch": 1,
        "devices": 1, "precision": "float32", "accumulate": 1,
    }  # fmt: skip
    if not {target.chip.platform, target.chip.name.split()[0]} & {*programs.KERNELS[name]}:
        wanted = " and ".join(programs.KERNELS[name])
        return entry | {"status": ERROR, "error": f"a kernel for {wanted} only"}
    device = topology.describe(target)[0]
    one = dataclasses.replace(target, chips=1)
    return entry | outcome(
        lambda: programs.kernel(name, device),
        one,
        "float32",
        cycles_top=cycles_top,
        effort=effort,
    )


def outcome(
    lower: Callable[[], Any],
    target: Target,
    precision: str,
    *,
    cycles_top: int = 0,
    effort: Effort = "full",
    known: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Lower and compile a program, unless it is one of the known entries, all of this target.

    Args:
      lower: returns the lowered program.
      target: to compile for.
      precision: whose peak bounds the time.
      cycles_top: also add up the compiler's estimates, in so many rows; 0: no.
      effort: "quick": TPU programs are compiled without a search for the fastest windows and
        schedules, in a fifth of the time. In three programs compiled both ways the peak was 1.0,
        2.0 and (a tiny one) 3.4 times that in full, FLOPs within 5 %, the collectives' bytes the
        same, those accessed 0.7 to 1.4 times; cycles would be several times more, so that there
        are none. What does not fit is compiled in full.
      known: entries of this target.

    Returns:
      status ("compiled", "does not fit", "error"); for the first compile_seconds, arguments_bytes,
      temporaries_bytes, peak_bytes, memory_bytes, fits, flops, accessed_bytes, collectives,
      collective_bytes, roofline_seconds; for the second peak_bytes, memory_bytes, fits and error;
      for the last error. Also program, the digest of its text, if it could be lowered; of a known
      one, instead of compile_seconds, same_program_as, the experiment that it was compiled for.
      effort, where it was "quick".
    """
    lower = functools.cache(lower)
    quick = effort == "quick" and target.chip.platform == "tpu"  # XLA:GPU has one effort
    if quick:
        entry = _outcome(lower, target, precision, quick=True, known=known)
        if entry["status"] != DOES_NOT_FIT or "same_program_as" in entry:
            return entry
    return _outcome(lower, target, precision, cycles_top=cycles_top, known=known)


def _outcome(
    lower: Callable[[], Any],
    target: Target,
    precision: str,
    *,
    cycles_top: int = 0,
    quick: bool = False,
    known: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return `outcome` with one effort."""
    begin, program = time.monotonic(), {}
    estimates = cycles_top and target.chip.estimated
    try:
        lowered = lower()
        digest = hashlib.sha256(lowered.as_text().encode()).hexdigest()[:16]
        program = {"program": digest}
        for entry in known:
            full = "effort" not in entry and (not estimates or "estimated_cycles" in entry)
            if entry.get("program") == digest and (quick or full):
                found = {key: entry[key] for key in entry if key not in _OF_EXPERIMENT}
                return {"same_program_as": entry["experiment"], **found}
        with _quickly() if quick else contextlib.nullcontext():
            compiled = lowered.compile()
    except checks.UserError:
        raise
    except Exception as error:  # whatever a compiler refuses with is what the page shows
        line = " ".join(str(error).split())[:600]
        if needed := cost.memory_needed(str(error)):
            need, have = needed
            return program | {
                "status": DOES_NOT_FIT,
                "fits": False,
                "peak_bytes": need,
                "memory_bytes": have,
                "error": line,
            }
        return program | {"status": ERROR, "error": f"{type(error).__name__}: {line}"}
    seconds = time.monotonic() - begin
    text = compiled.as_text()
    found = cost.of(compiled, text)
    fits = found.peak_bytes <= target.memory_bytes
    if quick:
        program["effort"] = "quick"
    entry = program | {
        "status": COMPILED if fits else DOES_NOT_FIT,
        "fits": fits,
        "compile_seconds": round(seconds, 1),
        "memory_bytes": target.memory_bytes,
        **dataclasses.asdict(found),
        "collective_bytes": found.collective_bytes,
        "roofline_seconds": cost.roofline_seconds(found, target, precision),
    }
    if not cycles_top:
        return entry
    if target.chip.platform == "gpu":
        counted, flops = gpu_estimates.of(text, target)
    else:
        counted, flops = cycles.of(text), found.flops
    if flops is None:
        return entry
    entry["flops"] = flops
    if not estimates:
        return entry
    return entry | cycles.to_dict(counted, target, flops, precision, top=cycles_top)


@contextlib.contextmanager
def _quickly() -> Iterator[None]:
    before = jax.config.jax_exec_time_optimization_effort  # type: ignore[attr-defined]
    jax.config.update("jax_exec_time_optimization_effort", -1.0)
    try:
        yield
    finally:
        jax.config.update("jax_exec_time_optimization_effort", before)


def _remedy(entry: dict[str, Any], mode: str, accumulate: int, images: int) -> str:
    """Return what to set so that it fits: more micro-batches, or more or larger chips."""
    over = entry["peak_bytes"] / entry["memory_bytes"]
    if mode == "evaluate":
        return f"--evaluation.batch-size {max(1, int(images / over))} times the number of devices"
    parts = next((n for n in range(2, images + 1) if images % n == 0 and n >= over), None)
    if parts:
        return f"--train.accumulate {accumulate * parts}"
    smaller = "" if entry["precision"] == "bfloat16" else "--train.precision bfloat16, or "
    return f"{smaller}a target with more memory or more chips: one image is on a device already"
