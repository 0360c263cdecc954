"""`evaluate`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seg_jax import checks, progress
from seg_jax.cli.parsing import PROGRAM, command, named, override, print_json

_CLASSES = 4  # of one of the worst images, on its line


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Score a run at the images' original size.

    Attributes:
      protocol: name of an evaluation protocol (`evaluate --help` lists them); --evaluation.FIELD
        changes its fields.
      crf: constants of a dense CRF (`evaluate --help` lists them), or none.
      split: list of images, instead of data.val_split.
      root: folder of the data set, instead of data.root.
      allow_outside: the list of images may name files outside that folder; a run's own
        data.allow_outside counts for its training only.
      checkpoint: newest, best (by --train.best-metric), or a step. Default: the best if the run
        chooses one, else the newest.
      worst: of a run, list this many images with the lowest mean IoU, the worst first; they are
        also in the report, which has 4 otherwise.
      json: print the record as JSON.
    """

    protocol: str = ""
    crf: str = ""
    split: str = ""
    root: Path | None = None
    allow_outside: bool = False
    checkpoint: str = ""
    worst: int = 0
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
    own = loaded is None and found == start_of_run and options.split in ("", found.data.val_split)
    reading = dataclasses.replace(found.data, allow_outside=options.allow_outside)
    found = dataclasses.replace(found, data=reading)
    from seg_jax import parallel
    from seg_jax.evaluation.run import NotWritten, evaluate_run, meaningless
    from seg_jax.report import table

    if options.worst < 0:
        raise checks.UserError(f"--worst {options.worst}: 0 or more images")
    parallel.prepare_process()
    words, not_written, counts = command("evaluate", *args), None, []
    if loaded is not None:
        if options.checkpoint:
            raise checks.UserError(f"--checkpoint {options.checkpoint}: {args[0]} is no run folder")
        if options.worst:
            raise checks.UserError(f"--worst {options.worst}: {args[0]} is no run folder")
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
                worst=options.worst,
                on_counts=counts.append,
            )
        except NotWritten as error:
            record, not_written = error.record, error
    worst = _worst(counts[0], record.classes, options.worst) if options.worst else []
    if options.json:
        print_json(record.to_dict() | ({"worst": worst} if options.worst else {}))
    else:
        progress.show(table.record_text(record))
        _show_worst(worst, record.counts.images)
    for warning in meaningless(record):
        progress.say(f"warning: {warning}", error=options.json)
    if not_written is not None:
        if not not_written.read_only:
            raise not_written
        progress.say(str(not_written), error=True)
    elif own:
        _write_page(run)


def _worst(counts: Any, classes: Sequence[str], number: int) -> list[dict[str, Any]]:
    """Return name, mean IoU and the IoU of each class of the worst images."""
    from seg_jax.results import image_counts

    return [
        {
            "image": counts.ids[index],
            "mean_iou": score,
            "per_class_iou": {
                classes[value]: iou for value, iou in image_counts.class_iou(counts, index).items()
            },
        }
        for index, score in image_counts.worst(counts, number)
    ]


def _show_worst(worst: Sequence[dict[str, Any]], images: int) -> None:
    """Print the worst images, each with its classes, the worst first."""
    if not worst:
        return
    width = max(len(entry["image"]) for entry in worst)
    progress.show(f"\nworst {len(worst)} of {images} images by mean IoU of the classes in them:")
    for entry in worst:
        classes = sorted(entry["per_class_iou"].items(), key=lambda item: item[1])
        shown = ", ".join(f"{name} {100 * iou:.1f}" for name, iou in classes[:_CLASSES])
        more = f", {len(classes) - _CLASSES} more" if len(classes) > _CLASSES else ""
        progress.show(f"  {entry['image']:<{width}} {100 * entry['mean_iou']:6.1f}   {shown}{more}")


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
        "[--root ROOT] [--checkpoint newest|best|STEP] [--worst N] [--json]\n"
        "Scores a run at the images' original size and writes RUN/result.json; or published "
        "weights, a NAME of\n`weights list`, under the protocol that they were verified with. "
        "Protocols:"
    )
    for name, protocol in protocols.PROTOCOLS.items():
        progress.show(f"  {name:18} {protocol.source}")
    progress.show(f"Constants of a dense CRF, {presets.NONE} or:")
    for name, known in presets.SETTINGS.items():
        progress.show(f"  {name:21} {known.source}")
