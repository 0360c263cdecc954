"""The command line's verb `submit`: parsing only, as in `__main__`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from seg_jax import checks


def main(args: Sequence[str]) -> int:
    """Write or check an archive for the VOC test server; return the exit code."""

    def parse(
        run: tyro.conf.Positional[str] = "",
        *,
        split: str = "test",
        competition: Literal["comp5", "comp6"] = "comp6",
        protocol: str = "",
        root: Path | None = None,
        out: Path | None = None,
        check: Path | None = None,
    ) -> tuple:
        """Predict VOC 2012's test images into a .tgz that its server takes, and check it.

        Args:
          run: a run folder, a release, or a name of `weights list`.
          split: the list of images.
          competition: comp5: trained on VOC's images only; comp6: on any others, SBD's included.
          protocol: one of `evaluate --help`; default: the experiment's own.
          root: VOC's folder, with the list and the images of the split.
          out: the archive; default voc2012_<competition>_<split>.tgz in the run folder.
          check: check this archive instead; ids and sizes too if --root is given.
        """
        return run, split, competition, protocol, root, out, check

    run, split, competition, protocol, root, out, path = tyro.cli(
        parse, args=args, prog="python -m seg_jax submit"
    )
    if bool(run) == (path is not None):
        raise checks.UserError("submit takes a run folder, or --check and an archive")
    from seg_jax import parallel, submission, submission_check

    if run:
        parallel.enable_compilation_cache()
        path, root = submission.submit(
            run, split=split, competition=competition, protocol=protocol, root=root, out=out
        )
        print(f"wrote {path}")
    report = submission_check.check(path, root=root)
    print(report.as_text())
    return 2 if report.problems else 0
