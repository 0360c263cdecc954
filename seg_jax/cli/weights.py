"""`weights`: published weights, and releases of our own."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from seg_jax import checks, files, progress
from seg_jax.cli.parsing import Verb, command, dispatch, parse, print_json

USAGE = """\
usage: python -m seg_jax weights VERB ...

  list                     published weights: origin, license, published and measured scores
  import FILE --as NAME    check, convert and store a file of published weights
  verify NAME              check imported weights; with --root, score them
  release RUN              a folder with weights, configuration, record and card, for others
  push FOLDER REPO         upload such a folder to the Hugging Face hub
  pull REPO                download one from there
"""


@dataclasses.dataclass(frozen=True)
class ListOptions:
    """List published weights that can be imported, and where they can be downloaded.

    Attributes:
      json: print a list of one object for each entry.
    """

    json: bool = False


def list_weights(args: Sequence[str]) -> None:
    """Print the catalogue."""
    options = parse(ListOptions, args, "weights list")
    from seg_jax.report import weights

    progress.show(weights.as_json() if options.json else weights.as_text())


@dataclasses.dataclass(frozen=True)
class ImportOptions:
    """Check a file of published weights, convert it, and keep it under its catalogue name.

    It is copied to NAME in the place for weights (see `env`); `--init NAME`, `predict NAME` and
    `weights verify NAME` find it there.

    Attributes:
      file: as downloaded from its publishers.
      name: its name in `weights list`; default: found by the file's checksum or name.
      any_file: take a file with another checksum than the published one's: your own.
    """

    file: tyro.conf.Positional[Path]
    name: Annotated[str, tyro.conf.arg(name="as", metavar="NAME")] = ""
    any_file: bool = False


def import_weights(args: Sequence[str]) -> None:
    """Import published weights."""
    options = parse(ImportOptions, args, "weights import")
    from seg_jax.evaluation import pretrained
    from seg_jax.pretrained import cache, catalogue

    if not options.file.is_file():
        raise checks.UserError(f"{options.file}: no such file")
    name = options.name or catalogue.of_file(options.file).name
    found = pretrained.check(name, options.file, any_file=options.any_file)
    progress.show(found.as_text())
    progress.show(f"  kept in   {cache.add(options.file, name, any_file=options.any_file)}")


@dataclasses.dataclass(frozen=True)
class VerifyOptions:
    """Check imported weights: checksum, conversion, forward pass; with --root, their score.

    Weights that were trained on the images of a split are not scored on it.

    Attributes:
      name: of imported weights, see `weights list`.
      any_file: they may be of another file than the published one.
      root: folder of the data set to score on.
      split: list of images to score on.
      record: file for the record of the score.
      json: print the record as JSON.
    """

    name: tyro.conf.Positional[str]
    any_file: bool = False
    root: Path | None = None
    split: str = "val"
    record: Path | None = None
    json: bool = False


def verify(args: Sequence[str]) -> None:
    """Verify published weights."""
    options = parse(VerifyOptions, args, "weights verify")
    from seg_jax import pretrained, results
    from seg_jax.evaluation import pretrained as published
    from seg_jax.report import table

    found = published.check(options.name, any_file=options.any_file)
    if not options.json:
        progress.show(found.as_text())
    if options.root is None:
        return
    record = published.score_published(
        pretrained.load(found.file, options.name),
        split=options.split,
        root=options.root,
        command=command("weights", "verify", *args),
    )
    if options.record:
        results.save(record, options.record)
    if options.json:
        print_json(record.to_dict())
    else:
        progress.show("\n" + table.record_text(record))


@dataclasses.dataclass(frozen=True)
class ReleaseOptions:
    """Write a release: model.safetensors, config.json, card.md and the record.

    Attributes:
      run: the run folder, or published weights: a file, or the name of imported ones.
      out: the release's folder; default: RUN/release.
      license: of the weights, an SPDX identifier such as apache-2.0; default: as published.
    """

    run: tyro.conf.Positional[str]
    out: Path | None = None
    license: str = ""


def release(args: Sequence[str]) -> None:
    """Write a release."""
    options = parse(ReleaseOptions, args, "weights release")
    from seg_jax.export import release

    progress.show(f"wrote {release.export(options.run, options.out, license=options.license)}")


def former_export(args: Sequence[str]) -> None:
    """Run `release` under its former name."""
    progress.say("`weights export` is now called `weights release`", error=True)
    # --licence was the option's spelling.
    release([arg.replace("--licence", "--license", 1) for arg in args])


@dataclasses.dataclass(frozen=True)
class PushOptions:
    """Upload a release to the Hugging Face hub, in one commit.

    Attributes:
      folder: written by `weights release`.
      repo: owner/name; created if it does not exist.
      private: make a created repository private.
    """

    folder: tyro.conf.Positional[Path]
    repo: tyro.conf.Positional[str]
    private: bool = False


def push(args: Sequence[str]) -> None:
    """Upload a release."""
    options = parse(PushOptions, args, "weights push")
    from seg_jax.export import hub

    progress.show(hub.push(options.folder, options.repo, private=options.private))


@dataclasses.dataclass(frozen=True)
class PullOptions:
    """Download a release from the Hugging Face hub and check it.

    Attributes:
      repo: owner/name on the hub.
      out: folder for the release; default: owner/name in the place for weights, see `env`.
      revision: branch, tag or commit; default: the newest.
    """

    repo: tyro.conf.Positional[str]
    out: Path | None = None
    revision: str = ""


def pull(args: Sequence[str]) -> None:
    """Download a release."""
    options = parse(PullOptions, args, "weights pull")
    from seg_jax.export import hub

    out = options.out or files.place("weights") / options.repo
    hub.pull(options.repo, out, revision=options.revision or None)
    progress.show(f"wrote {out}")


VERBS: dict[str, Verb] = {
    "list": list_weights,
    "import": import_weights,
    "verify": verify,
    "release": release,
    "export": former_export,
    "push": push,
    "pull": pull,
}


def main(args: Sequence[str]) -> int:
    """Run one of the verbs; return its exit code."""
    return dispatch(VERBS, USAGE, args, group="weights")
