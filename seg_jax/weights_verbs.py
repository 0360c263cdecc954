"""The command line's verb `weights`: parsing only, as in `__main__`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tyro

from seg_jax import checks

USAGE = """\
usage: python -m seg_jax weights VERB ...

  export RUN         a folder with weights, configuration, record and card, for others to use
  push FOLDER REPO   upload such a folder to the Hugging Face hub
  pull REPO          download one from there
"""


def main(args: Sequence[str]) -> int:
    """Run one of the verbs; return its exit code."""
    if not args or args[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if args else 2
    if args[0] not in VERBS:
        raise checks.UserError(f"weights: {checks.unknown(args[0], VERBS)}")
    return VERBS[args[0]](args[1:]) or 0


def _parse(function: Callable, args: Sequence[str], verb: str) -> Any:
    return tyro.cli(function, args=args, prog=f"python -m seg_jax weights {verb}")


def export(args: Sequence[str]) -> None:
    """Write a release."""

    def parse(
        run: tyro.conf.Positional[str], *, out: Path | None = None, licence: str = ""
    ) -> tuple:
        """Write a release: model.safetensors, config.json, card.md and the record.

        Args:
          run: the run folder, or published weights: a file, or the name of imported ones.
          out: the release's folder; default: RUN/release.
          licence: of the weights, an SPDX identifier such as apache-2.0; default: as published.
        """
        return run, out, licence

    run, out, licence = _parse(parse, args, "export")
    from seg_jax import publish

    print(f"wrote {publish.export(run, out, licence=licence)}")


def push(args: Sequence[str]) -> None:
    """Upload a release."""

    def parse(
        folder: tyro.conf.Positional[Path],
        repo: tyro.conf.Positional[str],
        *,
        private: bool = False,
    ) -> tuple:
        """Upload a release to the Hugging Face hub, in one commit.

        Args:
          folder: that `weights export` wrote.
          repo: owner/name; made if it is not there.
          private: let only its owner see it, if it is made.
        """
        return folder, repo, private

    folder, repo, private = _parse(parse, args, "push")
    from seg_jax import publish

    print(publish.push(folder, repo, private=private))


def pull(args: Sequence[str]) -> None:
    """Download a release."""

    def parse(
        repo: tyro.conf.Positional[str], *, out: Path | None = None, revision: str = ""
    ) -> tuple:
        """Download a release from the Hugging Face hub and check it.

        Args:
          repo: owner/name.
          out: folder that receives it; default: data/weights/owner/name.
          revision: branch, tag or commit; default: the newest.
        """
        return repo, out, revision

    repo, out, revision = _parse(parse, args, "pull")
    from seg_jax import publish

    out = out or Path("data") / "weights" / repo
    publish.pull(repo, out, revision=revision or None)
    print(f"wrote {out}")


VERBS: dict[str, Callable[[Sequence[str]], int | None]] = {
    "export": export,
    "push": push,
    "pull": pull,
}
