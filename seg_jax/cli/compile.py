"""`compile`: what a program needs on an accelerator that is not here."""

import dataclasses
import math
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from seg_jax import checks, progress
from seg_jax.cli.parsing import on_own_data, parse, print_json


@dataclasses.dataclass(frozen=True)
class CompileOptions:
    """Compile experiments for accelerators that this machine does not have.

    Prints for each device: memory and whether it fits, FLOPs, bytes, collectives, and estimates of
    the step's time and the recipe's device-hours at the published peaks. Nothing is run.

    Attributes:
      names: experiments, or kernels: crf/lattice, crf/exact, crf/exact_hopper, crf/exact_tpu.
      targets: v5e-8, h100x8, ...; "--for list" prints all, "--for survey" are those of
        docs/targets.md whose compiler is installed.
      suite: all experiments of a suite.
      all: all experiments and kernels.
      modes: programs to compile: the training step, one batch of the evaluation.
      precision: of the training step, instead of the recipe's.
      accumulate: micro-batches, instead of the recipe's.
      batch_size: global batch, instead of the recipe's.
      dataset: reader of your own data, whose number of classes the network gets, as in `train`.
      root: the folder of that data set.
      effort: "quick" compiles TPU programs in a fifth of the time: up to a few times the memory of
        "full", no cycles; what does not fit is compiled in full.
      find_batch: look for the largest batch that fits, by at most five more compilations.
      cycles: add up the compiler's estimated cycles by module and kind of operation.
      bundles: kernels on TPUs: dump their instruction bundles; loops, units used, which one binds.
      top: rows of the table of cycles, and kernels whose loops are printed.
      record: file of outcomes, e.g. experiments/targets.json: what it has is not compiled again.
      reuse: file of outcomes: a program that is one of its to the letter is not compiled again.
      minutes: with --record, end after this time, what is being compiled unrecorded.
      json: print a list of objects.
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    targets: Annotated[tuple[str, ...], tyro.conf.arg(name="for")] = ()
    suite: str = ""
    all: bool = False
    modes: tuple[Literal["train", "evaluate"], ...] = ("train", "evaluate")
    precision: Literal["recipe", "float32", "bfloat16"] = "recipe"
    accumulate: int | None = None
    batch_size: int | None = None
    dataset: Annotated[str, tyro.conf.arg(name="data.dataset")] = ""
    root: Annotated[Path | None, tyro.conf.arg(name="data.root")] = None
    effort: Literal["full", "quick"] = "full"
    find_batch: bool = False
    cycles: bool = False
    bundles: bool = False
    top: int = 20
    record: Path | None = None
    reuse: Path | None = None
    minutes: float = math.inf
    json: bool = False


def compile_programs(args: Sequence[str]) -> int:
    """Compile; the exit code is 1 if a program does not fit or does not compile."""
    options = parse(CompileOptions, args, "compile")
    from seg_jax.targets import table

    if options.targets == ("list",):
        progress.show("\n".join(_row(target) for target in table.TARGETS.values()))
        return 0
    if options.targets == ("survey",):
        options = dataclasses.replace(options, targets=_surveyed())
    if options.top < 1:
        raise checks.UserError(
            f"--top {options.top}: at least one row; leave --cycles out for none"
        )
    wanted = _wanted(options)
    if options.record and options.dataset:
        raise checks.UserError("--record is for the registered recipes: leave out --data.dataset")
    if options.record and options.bundles:
        raise checks.UserError("--record keeps no bundles: leave out --bundles")
    if options.reuse and not options.reuse.exists():
        raise checks.UserError(f"--reuse {options.reuse}: there is no such file")
    if options.record:
        return _record(wanted, options)
    if options.root is not None and not options.dataset:
        raise checks.UserError(f"--data.root {options.root}: needs --data.dataset, e.g. folder")
    if len(wanted) > 1:
        from seg_jax.targets import survey

        for name in dict.fromkeys(name for name, _, mode in wanted if mode != "kernel"):
            _experiment(name, options)  # a mistake ends it here, and changes are said once

        entries = [
            survey.in_a_process(found, _passed_on(options)) or survey.cut_off(found)
            for found in wanted
        ]
    else:
        entries = [_compile(*wanted[0], options)]
    if options.json:
        print_json(entries)
    else:
        from seg_jax.targets import text

        progress.show("\n\n".join(text.entry_text(entry, top=options.top) for entry in entries))
    return int(any(entry["status"] != "compiled" for entry in entries))


def _surveyed() -> tuple[str, ...]:
    from seg_jax.targets import table, topology

    there = {platform: topology.available(platform) for platform in topology.INSTALL}
    targets = tuple(name for name in table.SURVEYED if there[table.get(name).chip.platform])
    if not targets:
        lines = ", ".join(f"`{line}`" for line in topology.INSTALL.values())
        raise checks.UserError(f"--for survey: no compiler for a target is installed: {lines}")
    return targets


def _wanted(options: CompileOptions) -> list[tuple[str, str, str]]:
    """Return experiment, target and mode of every program to compile."""
    from seg_jax import experiment
    from seg_jax.targets import programs, table

    names = list(options.names)
    if options.suite:
        names += experiment.suite(options.suite)
    if options.all:
        names += [*experiment.names(), *programs.KERNELS]
    if not names or not options.targets:
        missing = "--for is missing" if names else "no experiment is named"
        raise checks.UserError(
            f"compile: {missing}: python -m seg_jax compile NAME... --for TARGET...; targets: "
            f"{' '.join(table.TARGETS)}"
        )
    for target in options.targets:
        table.get(target)
    wanted = []
    for target in options.targets:
        for name in names:
            if name not in programs.KERNELS:
                experiment.get(name)  # an unknown one is named before anything is compiled
            modes = ("kernel",) if name in programs.KERNELS else options.modes
            if options.bundles and (
                modes != ("kernel",) or table.get(target).chip.platform != "tpu"
            ):
                raise checks.UserError(
                    f"--bundles: {name} for {target}: the dump is of kernels on TPUs: "
                    "crf/exact_tpu, crf/exact, crf/lattice"
                )
            wanted += [(name, target, mode) for mode in modes]
    return wanted


def _record(wanted: list[tuple[str, str, str]], options: CompileOptions) -> int:
    from seg_jax.targets import survey, table, topology

    assert options.record is not None
    for target in options.targets:  # an absent compiler is not an outcome
        topology.require(table.get(target))
    # Ends the process that compiles as well, which would go on by itself.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    with topology.shared_kernels() as trim:

        def compile_one(found: survey.Key, left: float | None) -> dict[str, Any] | None:
            trim()
            return survey.in_a_process(found, _passed_on(options), timeout=left)

        added = survey.run(
            wanted, options.record, compile_one=compile_one, seconds=60 * options.minutes
        )
    have = survey.load(options.record)
    done = sum(found in have for found in wanted)
    progress.show(f"{options.record}: {added} more, {done} of {len(wanted)} are there")
    return 0


def _passed_on(options: CompileOptions) -> list[str]:
    """Return the options of a child process, other than what it compiles."""
    words = ["--precision", options.precision, "--effort", options.effort]
    if options.accumulate is not None:
        words += ["--accumulate", str(options.accumulate)]
    if options.batch_size is not None:
        words += ["--batch-size", str(options.batch_size)]
    if options.dataset:
        words += ["--data.dataset", options.dataset]
    if options.root is not None:
        words += ["--data.root", str(options.root)]
    reuse = options.reuse or options.record
    words += ["--reuse", str(reuse)] if reuse and reuse.exists() else []
    words += ["--find-batch"] if options.find_batch else []
    words += ["--cycles"] if options.cycles else []
    words += ["--bundles"] if options.bundles else []
    return [*words, "--top", str(options.top)]


def _compile(name: str, target_name: str, mode: str, options: CompileOptions) -> dict[str, Any]:
    from seg_jax.targets import table, topology

    target = table.get(target_name)
    if options.bundles:
        return _with_bundles(name, target, options)
    topology.prepare(target)
    from seg_jax.targets import compiling, survey

    top = options.top if options.cycles else 0
    if mode == "kernel":
        return compiling.kernel_entry(name, target, cycles_top=top, effort=options.effort)
    return compiling.experiment_entry(
        _experiment(name, options),
        target,
        mode,
        find_batch=options.find_batch,
        cycles_top=top,
        effort=options.effort,
        known=survey.load(options.reuse).values() if options.reuse else (),
    )


def _with_bundles(name: str, target: Any, options: CompileOptions) -> dict[str, Any]:
    """Compile a kernel with its bundles dumped to a folder that is removed afterwards."""
    from seg_jax.targets import bundles

    with bundles.dumping(target) as folder:
        from seg_jax.targets import compiling

        top = options.top if options.cycles else 0
        entry = compiling.kernel_entry(name, target, cycles_top=top)
        if entry["status"] != compiling.COMPILED:
            return entry
        found = sorted(bundles.of(folder).values(), key=lambda kernel: -kernel.cycles)
        return entry | {"bundles": [bundles.to_dict(kernel) for kernel in found[: options.top]]}


def _experiment(name: str, options: CompileOptions) -> Any:
    """Return the experiment with the options' changes; what follows from own data is said."""
    from seg_jax import experiment

    chosen = experiment.get(name)
    changes: dict[str, Any] = {}
    if options.precision != "recipe":
        changes["precision"] = options.precision
    if options.batch_size is not None:
        changes["batch_size"] = options.batch_size
    if options.accumulate is not None:
        changes["accumulate"] = options.accumulate
    try:
        train = dataclasses.replace(chosen.train, **changes)
    except ValueError as error:
        raise checks.UserError(f"{name}: {error}") from error
    data = chosen.data
    if options.dataset:  # every reader has a split `train`, which is only asked for its classes
        data = dataclasses.replace(
            data, dataset=options.dataset, root=options.root, train_split="train"
        )
    return on_own_data(dataclasses.replace(chosen, train=train, data=data), (), error=True)


def _row(target: Any) -> str:
    chip = target.chip
    return (
        f"{target.name:8} {target.chips:3} x {chip.name}, {target.devices} devices on "
        f"{target.hosts} host(s); a chip: {chip.memory_bytes / 2**30:.0f} GiB, "
        f"{chip.flops / 1e12:.0f} TFLOP/s, {chip.bandwidth / 1e9:.0f} GB/s"
    )
