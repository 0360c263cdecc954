"""`evaluate`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seg_jax import checks, progress
from seg_jax.cli.parsing import PROGRAM, command, named, override, print_json


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Score a run at the images' original size.

    Attributes:
      protocol: name of an evaluation protocol (`evaluate --help` lists them); --evaluation.FIELD
        changes its fields.
      crf: constants of a dense CRF (`evaluate --help` lists them), or none.
      split: list of images, instead of data.val_split.
      root: folder of the data set, instead of data.root.
      checkpoint: newest, best (by --train.best-metric), or a step. Default: the best if the run
        chooses one, else the newest.
      json: print the record as JSON.
    """

    protocol: str = ""
    crf: str = ""
    split: str = ""
    root: Path | None = None
    checkpoint: str = ""
    json: bool = False


def evaluate(args: Sequence[str]) -> None:
    """Evaluate one run."""
    if not args or args[0].startswith("-"):
        _usage()
        raise SystemExit(0 if {"-h", "--help"} & set(args) else 2)
    from seg_jax.inference import protocols
    from seg_jax.kernels.crf import presets
    from seg_jax.runs import folder

    run = Path(args[0])
    is_run = (run / folder.CONFIG).is_file() and not (run / "model.safetensors").is_file()
    loaded = None if is_run or run.is_dir() else _published(args[0])
    start = start_of_run = loaded.experiment if loaded else folder.read_config(run)[0]
    if name := named(args, "--protocol"):
        start = dataclasses.replace(start, evaluation=protocols.apply(name, start.evaluation))
    if name := named(args, "--crf"):
        start = start.with_evaluation(crf=presets.get(name))
    fields = ("model", "evaluation")
    found, options = override(start, args[1:], f"evaluate {run}", EvaluateOptions, fields=fields)
    from seg_jax import parallel
    from seg_jax.evaluation.run import NotWritten, evaluate_run, meaningless
    from seg_jax.report import table

    parallel.enable_compilation_cache()
    words, not_written = command("evaluate", *args), None
    if loaded is not None:
        if options.checkpoint:
            raise checks.UserError(f"--checkpoint {options.checkpoint}: {args[0]} is no run folder")
        from seg_jax.evaluation.pretrained import score_published

        loaded = dataclasses.replace(loaded, experiment=found)
        split = options.split or found.data.val_split
        record = score_published(loaded, split=split, root=options.root, command=words)
    else:
        try:
            record = evaluate_run(
                run,
                split=options.split or None,
                root=options.root,
                experiment=found,
                checkpoint=options.checkpoint,
                command=words,
            )
        except NotWritten as error:
            record, not_written = error.record, error
    print_json(record.to_dict()) if options.json else progress.show(table.record_text(record))
    for warning in meaningless(record):
        progress.say(f"warning: {warning}", error=options.json)
    if not_written is not None:
        if not not_written.read_only:
            raise not_written
        progress.say(not_written, error=True)
    elif loaded is None and found == start_of_run and options.split in ("", found.data.val_split):
        _write_page(run)


def _write_page(run: Path) -> None:
    """Write the page of a run whose own record is new, and say where it is and what comes next."""
    from seg_jax import report

    out = run / report.PAGE
    report.write_page([run], out)
    progress.say(
        f"\npage: {out.resolve().as_uri()}\n"
        f"next: {command('predict', str(run), 'IMAGE', '--out', 'predictions')}",
        error=True,
    )


def _published(name: str) -> Any:
    """Return published weights: a file, or the name of imported ones; None: it is neither."""
    from seg_jax.pretrained import catalogue, loading

    if not Path(name).is_file() and name not in catalogue.names():
        return None
    return loading.load(name)


def _usage() -> None:
    from seg_jax.inference import protocols
    from seg_jax.kernels.crf import presets

    progress.show(
        f"usage: {PROGRAM} evaluate RUN|NAME [--help] [--protocol NAME] [--crf NAME] "
        "[--evaluation.FIELD VALUE] [--model.backbone.output-stride 8] [--split SPLIT] "
        "[--root ROOT] [--checkpoint newest|best|STEP] [--json]\n"
        "Scores a run at the images' original size and writes RUN/result.json; or published "
        "weights, a NAME of\n`weights list`, under the protocol that they were verified with. "
        "Protocols:"
    )
    for name, protocol in protocols.PROTOCOLS.items():
        progress.show(f"  {name:18} {protocol.source}")
    progress.show(f"Constants of a dense CRF, {presets.NONE} or:")
    for name, known in presets.SETTINGS.items():
        progress.show(f"  {name:21} {known.source}")
