"""The command line's verb `weights`: parsing only, as in `__main__`."""

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from seg_jax import checks

USAGE = """\
usage: python -m seg_jax weights VERB ...

  list                     published weights: what, where, under which terms, how they score
  import FILE --as NAME    take a file of published weights, checked and converted
  verify NAME              check imported weights; with --root, score them
  export RUN               a folder with weights, configuration, record and card, for others
  push FOLDER REPO         upload such a folder to the Hugging Face hub
  pull REPO                download one from there
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


def list_verb(args: Sequence[str]) -> None:
    """Print the catalogue."""

    def parse(*, json: bool = False) -> bool:
        """Published weights that can be imported: what they are and where they are offered.

        Args:
          json: print one object an entry.
        """
        return json

    as_json = _parse(parse, args, "list")
    from seg_jax.report import weights

    print(weights.as_json() if as_json else weights.as_text())


def import_verb(args: Sequence[str]) -> None:
    """Import published weights."""

    def parse(
        file: tyro.conf.Positional[Path],
        *,
        name: Annotated[str, tyro.conf.arg(name="as")] = "",
    ) -> tuple:
        """Check a file of published weights, convert it, and keep it under its catalogue name.

        It is copied to $SEG_JAX_WEIGHTS/NAME, else data/weights/NAME; `--init NAME`, `predict NAME`
        and `weights verify NAME` find it there.

        Args:
          file: as its publishers offer it.
          name: in the catalogue; default: by the file's checksum or name.
        """
        return file, name

    file, name = _parse(parse, args, "import")
    from seg_jax.pretrained import catalogue, store
    from seg_jax.results import published_run

    if not file.is_file():
        raise checks.UserError(f"{file}: no such file")
    name = name or catalogue.of_file(file).name
    found = published_run.check(name, file)
    print(found.as_text())
    print(f"  kept in   {store.add(file, name)}")


def verify(args: Sequence[str]) -> None:
    """Verify published weights."""

    def parse(
        name: tyro.conf.Positional[str],
        *,
        root: Path | None = None,
        split: str = "val",
        record: Path | None = None,
        json: bool = False,
    ) -> tuple:
        """Check imported weights: checksum, conversion, forward pass; with --root, their score.

        Weights that were trained on the images of a split are not scored on it.

        Args:
          name: in the catalogue.
          root: folder of the data set to score on.
          split: list of images to score on.
          record: file that receives the score's record.
          json: print the record.
        """
        return name, root, split, record, json

    name, root, split, file, as_json = _parse(parse, args, "verify")
    from seg_jax import pretrained, results
    from seg_jax.report import table
    from seg_jax.results import published_run

    found = published_run.check(name)
    if not as_json:
        print(found.as_text())
    if root is None:
        return
    loaded = pretrained.load(found.file, name)
    command = shlex.join(["python", "-m", "seg_jax", "weights", "verify", *args])
    scored = published_run.score(loaded, split=split, root=root, command=command)
    if file:
        results.save(scored, file)
    print(json.dumps(scored.to_dict()) if as_json else "\n" + table.record_text(scored))


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
    "list": list_verb,
    "import": import_verb,
    "verify": verify,
    "export": export,
    "push": push,
    "pull": pull,
}
