"""The command line: parsing only; every verb is one call into the package."""

import dataclasses
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from seg_jax import __version__, checks

USAGE = """\
usage: python -m seg_jax VERB ...

  list                        every experiment: parameters, published figure, state of evidence
  show NAME                   the resolved configuration, and the network layer by layer
  train NAME [--field VALUE]  train into a run folder; the same command resumes a run;
                              --init WEIGHTS starts from published weights, a release or a run
  evaluate RUN                score a run on its validation split, by any --protocol and --crf
  predict RUN PICTURE...      label maps and overlays of files, folders, 'patterns', - (a list)
  submit RUN                  an archive for the VOC test server; --check FILE validates anyone's
  table [RUN...]              the table, from records
  reproduce SUITE             train, evaluate and tabulate every experiment of a suite
  sweep NAME --space M:S      search hyperparameters
  crf search RUN              search the dense CRF's constants, as DeepLab's authors did
  export RUN --format F       one file for other programs: stablehlo, onnx, tflite
  weights list | import | verify   published weights: what there is, taking a file, checking it
  weights export RUN          a release for others: weights, configuration, record, card
  weights push | pull         to and from the Hugging Face hub
  data check ROOT             read a data set whole and report every problem in it
  data prepare voc2012        PASCAL VOC 2012 and SBD from the authors' archives, with all lists
  data VERB ...               also stats, view, pack and synthesize: see `data --help`

`python -m seg_jax VERB --help` tells each verb's options. --debug, with any verb, shows the
traceback of a user's mistake. Exit codes: 0 done, 2 the user's mistake, 1 anything else.
"""
_IDENTITY = ("family", "paper", "name")  # what an experiment is; all its other fields can be set


def _parse(function: Callable, args: Sequence[str], verb: str) -> Any:
    return tyro.cli(function, args=args, prog=f"python -m seg_jax {verb}")


def _parse_experiment(
    args: Sequence[str], verb: str, options: Sequence[tuple[str, Any, Any]] = ()
) -> tuple[Any, Any]:
    """Parse `NAME --dotted.field value ...` and the verb's own options (name, type, default).

    Returns the experiment with the overrides applied, and the parsed options as attributes.
    """
    from seg_jax import experiment

    name = next((arg for arg in args if not arg.startswith("-")), None)
    if name is None or args[0] != name:
        print(f"usage: python -m seg_jax {verb} NAME [--help] [--field VALUE ...]")
        print("names: " + " ".join(experiment.names()))
        raise SystemExit(0 if {"-h", "--help"} & set(args) else 2)
    return _override(experiment.get(name), args[1:], f"{verb} {name}", options)


def _override(
    default: Any,
    args: Sequence[str],
    command: str,
    options: Sequence[tuple[str, Any, Any]],
    *,
    fields: Sequence[str] | None = None,
) -> tuple[Any, Any]:
    """Parse overrides of an experiment's fields (of all but its identity, or of the named ones)."""
    names = fields or [f.name for f in dataclasses.fields(default) if f.name not in _IDENTITY]
    body = [field for field in dataclasses.fields(default) if field.name in names]
    kind = dataclasses.make_dataclass(
        "Options",
        [(field.name, field.type, dataclasses.field(default=None)) for field in body]
        + [(option, kind, dataclasses.field(default=value)) for option, kind, value in options],
        frozen=True,
    )
    kind.__doc__ = f"{default.family}: {default.paper}"
    parsed = tyro.cli(
        kind,
        args=args,
        default=kind(**{field.name: getattr(default, field.name) for field in body}),
        prog=f"python -m seg_jax {command}",
        config=(tyro.conf.AvoidSubcommands,),
    )
    changes = {field.name: getattr(parsed, field.name) for field in body}
    return dataclasses.replace(default, **changes), parsed


def _named(args: Sequence[str], option: str) -> str:
    """Return an option's value, empty if it is not given: its fields are overridden afterwards."""
    words = [word for arg in args for word in arg.split("=", 1)]
    found = [after for word, after in zip(words, words[1:], strict=False) if word == option]
    return found[-1] if found else ""


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def list_verb(args: Sequence[str]) -> None:
    """Print every experiment."""

    def parse(*, json: bool = False) -> bool:
        """Every experiment: parameters at 21 classes, published figure, state of evidence.

        Args:
          json: print one object an experiment.
        """
        return json

    as_json = _parse(parse, args, "list")
    from seg_jax import analysis, experiment

    summaries = [analysis.summary(experiment.get(name)) for name in experiment.names()]
    _print_json(summaries) if as_json else print(analysis.listing(summaries))


def show_verb(args: Sequence[str]) -> None:
    """Print one experiment."""
    found, options = _parse_experiment(args, "show", [("json", bool, False)])
    from seg_jax import analysis, config

    details = analysis.analyse_experiment(found)
    if options.json:
        _print_json(
            analysis.summary(found) | {"config": config.to_dict(found), **details.to_dict()}
        )
    else:
        print(analysis.as_text(details, found))


def train_verb(args: Sequence[str]) -> None:
    """Train one experiment."""
    # --init and --init-allow are short for --train.init and --train.init-allow.
    args = ["--train." + arg[2:] if arg.startswith("--init") else arg for arg in args]
    found, options = _parse_experiment(
        args,
        "train",
        [
            ("workdir", Path | None, None),
            ("parallel", Literal["shard_map", "pmap"], "shard_map"),
            ("distributed", bool, False),
        ],
    )
    from seg_jax import evaluate, parallel, train

    if options.distributed:
        parallel.initialize_distributed()
    parallel.enable_compilation_cache()
    train.fit(
        found,
        options.workdir or Path("runs") / found.name,
        parallel=options.parallel,
        evaluate=evaluate.intermediate,
        command=_command("train", args),
    )


def evaluate_verb(args: Sequence[str]) -> None:
    """Evaluate one run."""
    from seg_jax import crf, protocols, run_folder

    if not args or args[0].startswith("-"):
        print(
            "usage: python -m seg_jax evaluate RUN [--help] [--protocol NAME] [--crf NAME] "
            "[--evaluation.FIELD VALUE] [--model.backbone.output-stride 8] [--split SPLIT] "
            "[--root ROOT] [--json]\n"
            "Scores a run at the images' original size and writes RUN/result.json. Protocols:"
        )
        for name, protocol in protocols.PROTOCOLS.items():
            print(f"  {name:18} {protocol.source}")
        print(f"Constants of a dense CRF, {crf.NONE} or:")
        for name, known in crf.SETTINGS.items():
            print(f"  {name:21} {known.source}")
        raise SystemExit(0 if {"-h", "--help"} & set(args) else 2)
    run = Path(args[0])
    trained, _ = run_folder.read_config(run)
    evaluation = trained.evaluation
    if name := _named(args, "--protocol"):
        evaluation = protocols.apply(name, evaluation)
    if name := _named(args, "--crf"):
        evaluation = dataclasses.replace(evaluation, crf=crf.get(name))
    found, options = _override(
        dataclasses.replace(trained, evaluation=evaluation),
        args[1:],
        f"evaluate {run}",
        [
            ("protocol", Annotated[str, tyro.conf.arg(help="one of `evaluate --help`")], ""),
            ("crf", Annotated[str, tyro.conf.arg(help="one of `evaluate --help`")], ""),
            ("split", Annotated[str, tyro.conf.arg(help="instead of data.val_split")], ""),
            ("root", Annotated[Path | None, tyro.conf.arg(help="the data set's folder")], None),
            ("json", Annotated[bool, tyro.conf.arg(help="print the record")], False),
        ],
        fields=("model", "evaluation"),
    )
    from seg_jax.report import table
    from seg_jax.results.run import evaluate_run

    record = evaluate_run(
        run,
        split=options.split or None,
        root=options.root,
        experiment=found,
        command=_command("evaluate", args),
    )
    _print_json(record.to_dict()) if options.json else print(table.record_text(record))


def predict_verb(args: Sequence[str]) -> int:
    """Predict label maps of pictures."""

    def parse(
        run: tyro.conf.Positional[str],
        images: tyro.conf.Positional[tuple[Path, ...]],
        *,
        out: Path,
        probabilities: bool = False,
        crf: str = "",
    ) -> tuple:
        """Write a label map (palette PNG) and an overlay of every picture.

        A picture that cannot be read does not stop the others; the exit code is then 2.

        Args:
          run: a run folder, a release, or published weights: a file, or the name of imported ones.
          images: files, folders (of frames, say), quoted patterns such as 'clips/**/*.png', or -
            for a list on standard input, one a line.
          out: folder that receives NAME.png and NAME_overlay.png.
          probabilities: also write NAME.npy, float32 [height width classes].
          crf: constants of a dense CRF that follows the outlines, e.g. deeplab_v2_resnet101
            (`evaluate --help` lists all); none: without. Default: as the run is evaluated.
        """
        return run, images, out, probabilities, crf

    run, images, out, probabilities, crf = _parse(parse, args, "predict")
    from seg_jax import parallel, predict

    parallel.enable_compilation_cache()
    outcome = predict.predict_with(run, images, out, crf_name=crf, probabilities=probabilities)
    for failure in outcome.failures:
        print(f"{failure.path}: {failure.reason}", file=sys.stderr)
    failed = f", {len(outcome.failures)} failed" if outcome.failures else ""
    print(
        f"{len(outcome.written)} of {len(outcome.written) + len(outcome.failures)} pictures "
        f"predicted into {out}{failed}"
    )
    return 2 if outcome.failures else 0


def table_verb(args: Sequence[str]) -> None:
    """Print the table."""

    def parse(runs: tyro.conf.Positional[tuple[Path, ...]] = (), *, json: bool = False) -> tuple:
        """The table, from records: of the whole line, or of the given runs.

        Args:
          runs: run folders or records; none: the committed records, beside the published figures.
          json: print JSON.
        """
        return runs, json

    runs, as_json = _parse(parse, args, "table")
    from seg_jax.report import table

    _print_json(table.as_json(runs)) if as_json else print(table.as_markdown(runs))


def reproduce_verb(args: Sequence[str]) -> None:
    """Run a suite."""

    def parse(suite: tyro.conf.Positional[str], *, workdir: Path | None = None) -> tuple:
        """Train, evaluate and tabulate every experiment of a suite; what is done is reused.

        Args:
          suite: the suite's name.
          workdir: folder of the runs, table.md and report.html; default runs/SUITE.
        """
        return suite, workdir

    suite, workdir = _parse(parse, args, "reproduce")
    from seg_jax import reproduce

    reproduce.reproduce(suite, workdir or Path("runs") / suite)


def sweep_verb(args: Sequence[str]) -> None:
    """Search hyperparameters."""
    found, options = _parse_experiment(
        args,
        "sweep",
        [
            ("space", str, ""),
            ("trials", int, 12),
            ("sampler", Literal["tpe", "random", "grid"], "tpe"),
            ("workdir", Path | None, None),
            ("sweep_seed", int, 0),
        ],
    )
    from seg_jax import parallel, reproduce, sweep

    if not options.space:
        raise checks.UserError(
            "--space is missing: module:name of a space, e.g. experiments.sweeps:poly_lr"
        )
    space = sweep.load_space(options.space)
    parallel.enable_compilation_cache()
    outcome = sweep.sweep(
        found,
        space,
        options.workdir or Path("runs") / "sweeps" / found.name,
        trials=options.trials,
        run_trial=reproduce.run_trial(_command("sweep", args)),
        sampler=options.sampler,
        seed=options.sweep_seed,
    )
    print(sweep.as_text(outcome))


def _of(module: str) -> Callable[[Sequence[str]], int]:
    """Return the verb of a module of its own, which is imported when it is asked for."""
    return lambda args: importlib.import_module(f"seg_jax.{module}").main(args)


VERBS: dict[str, Callable[[Sequence[str]], int | None]] = {
    "list": list_verb,
    "show": show_verb,
    "train": train_verb,
    "evaluate": evaluate_verb,
    "predict": predict_verb,
    "submit": _of("submit_verb"),
    "table": table_verb,
    "reproduce": reproduce_verb,
    "sweep": sweep_verb,
    "crf": _of("crf_verbs"),
    "weights": _of("weights_verbs"),
    "export": _of("export_verb"),
    "data": _of("data_verbs"),
}


def _command(verb: str, args: Sequence[str]) -> str:
    """Return the command as a user would type it again: records carry it."""
    import shlex

    return shlex.join(["python", "-m", "seg_jax", verb, *args])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [arg for arg in args if arg != "--debug"]
    if not args or args[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if args else 2
    if args[0] == "--version":
        print(__version__)
        return 0
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's chatter; set it to 0 to see it
    try:
        if args[0] not in VERBS:
            raise checks.UserError(f"verb: {checks.unknown(args[0], VERBS)}")
        code = VERBS[args[0]](args[1:]) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `... | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (checks.UserError, KeyboardInterrupt) as error:
        if debug:
            raise
        if isinstance(error, KeyboardInterrupt):
            print("\ninterrupted", file=sys.stderr)
            return 1
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
