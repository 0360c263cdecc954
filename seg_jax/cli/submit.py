"""`submit`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from seg_jax import checks, progress
from seg_jax.cli.parsing import parse


@dataclasses.dataclass(frozen=True)
class SubmitOptions:
    """Predict VOC 2012's test images, and write and check the .tgz that its server accepts.

    Attributes:
      run: a run folder, a release, or a name of `weights list`.
      split: list of images to predict.
      competition: comp5: trained on VOC's images only; comp6: on other data, including SBD.
      protocol: one of `evaluate --help`; default: the experiment's own.
      root: VOC's folder, with the list and the images of the split.
      out: the archive; default voc2012_<competition>_<split>.tgz in the run folder.
      checkpoint: of a run: newest, best (by --train.best-metric), or a step. Default: the best if
        the run chooses one, else the newest.
      check: check this archive instead; with --root, also image ids and sizes.
    """

    run: tyro.conf.Positional[str] = ""
    split: str = "test"
    competition: Literal["comp5", "comp6"] = "comp6"
    protocol: str = ""
    root: Path | None = None
    out: Path | None = None
    checkpoint: str = ""
    check: Path | None = None


def submit(args: Sequence[str]) -> int:
    """Write or check an archive for the VOC test server."""
    options = parse(SubmitOptions, args, "submit")
    if bool(options.run) == (options.check is not None):
        raise checks.UserError("submit needs either a run folder, or --check and an archive")
    from seg_jax import parallel
    from seg_jax.evaluation import submission, submission_check

    if options.check:
        archive, root = options.check, options.root
    else:
        parallel.prepare_process()
        archive, root = submission.submit(
            options.run,
            split=options.split,
            competition=options.competition,
            protocol=options.protocol,
            root=options.root,
            out=options.out,
            checkpoint=options.checkpoint,
        )
        progress.show(f"wrote {archive}")
    report = submission_check.check(archive, root=root)
    progress.show(report.as_text())
    return 2 if report.problems else 0
