"""The command line's verb `data`: parsing only, as in `__main__`."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tyro

from seg_jax import checks

USAGE = """\
usage: python -m seg_jax data VERB ...

  check ROOT        read a data set whole and report every problem in it
  prepare voc2012   PASCAL VOC 2012 and SBD from the authors' archives, with all lists
  pack DATASET      write a data set as ArrayRecord files with TFDS, without TensorFlow
  stats ROOT        class frequencies, sizes, void, median-frequency and ENet weights
  synthesize ROOT   write the embedded data set
  view ROOT         a contact sheet of pictures and masks, as PNG or HTML
"""


def main(args: Sequence[str]) -> int:
    """Run one of the verbs; return its exit code."""
    if not args or args[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if args else 2
    if args[0] not in VERBS:
        raise checks.UserError(f"data: {checks.unknown(args[0], VERBS)}")
    return VERBS[args[0]](args[1:])


def _parse(function: Callable, args: Sequence[str], verb: str, about: str | None = None) -> Any:
    prog = f"python -m seg_jax data {verb}"
    return tyro.cli(function, args=args, prog=prog, description=about)


def check(args: Sequence[str]) -> int:
    """Lint a data set."""
    about = "Read every image and label and report every problem, class frequencies and weights."
    _, report, as_json = _report(args, "check", about)
    print(_json(report.to_dict()) if as_json else report.as_text())
    return 2 if report.problems else 0


def _report(args: Sequence[str], verb: str, about: str) -> tuple:
    """Return the reader's name, the linter's report and whether it is wanted as JSON."""

    def parse(
        root: tyro.conf.Positional[Path],
        *,
        dataset: str = "",
        split: tuple[str, ...] = (),
        json: bool = False,
    ) -> tuple:
        """What to report on.

        Args:
          root: the data set's folder.
          dataset: reader; default: recognised by the folder's layout.
          split: lists to read; default: all that are there.
          json: print the report as JSON.
        """
        return root, dataset, split, json

    root, dataset, splits, as_json = _parse(parse, args, verb, about)
    from seg_jax.data import lint

    dataset = dataset or lint.recognise(root)
    return dataset, lint.check(dataset, root, splits=splits or None), as_json


def prepare(args: Sequence[str]) -> int:
    """Make a data set from its authors' archives."""

    def parse(
        dataset: tyro.conf.Positional[str],
        *,
        voc: Path | None = None,
        sbd: Path | None = None,
        root: Path | None = None,
    ) -> tuple:
        """Check, extract and convert the authors' archives, and write every list of the papers.

        The same command goes on where it was interrupted.

        Args:
          dataset: voc2012.
          voc: VOCtrainval_11-May-2012.tar; may be left out once its files are in ROOT.
          sbd: benchmark.tgz, for trainaug, trainval_aug, sbd_train and seg11valid.
          root: folder that receives VOCdevkit/; default $SEG_JAX_DATA/voc2012, else data/voc2012.
        """
        return dataset, voc, sbd, root

    dataset, voc, sbd, root = _parse(parse, args, "prepare")
    from seg_jax import data
    from seg_jax.data import prepare_voc

    if dataset != "voc2012":
        raise checks.UserError(
            f"data prepare {dataset!r}: only voc2012 is made from archives; the others are read as "
            "they are published, see the README"
        )
    print(prepare_voc.prepare(root or data.default_root(dataset), voc, sbd))
    return 0


def pack(args: Sequence[str]) -> int:
    """Write a data set as ArrayRecord files."""

    def parse(
        dataset: tyro.conf.Positional[str],
        *,
        out: Path,
        config: str = "",
        root: Path | None = None,
        shards: int = 0,
    ) -> tuple:
        """Write a data set as sharded ArrayRecord files, for TFDS and for `--data.dataset tfds`.

        Args:
          dataset: voc2012, camvid, isbi2012 or folder.
          out: TFDS's data_dir.
          config: of voc2012: voc, aug (trainaug and val) or fcn (sbd_train and seg11valid).
          root: the data set's folder; default $SEG_JAX_DATA/DATASET, else data/DATASET.
          shards: files a split; 0: TFDS chooses.
        """
        return dataset, out, config, root, shards

    dataset, out, config, root, shards = _parse(parse, args, "pack")
    from seg_jax.data import tfds_builders

    folder = tfds_builders.pack(dataset, root, out, config=config, shards=shards)
    print(f"train with --data.dataset tfds --data.root {folder}")
    return 0


def synthesize(args: Sequence[str]) -> int:
    """Write the embedded data set."""

    def parse(root: tyro.conf.Positional[Path], *, seed: int = 0) -> tuple:
        """Write synthetic_voc in VOCdevkit layout.

        Args:
          root: folder that receives VOC2012/; must not hold one already.
          seed: of the pictures; the embedded data set is seed 0.
        """
        return root, seed

    root, seed = _parse(parse, args, "synthesize")
    from seg_jax.data import synthetic

    synthetic.write(root, seed=seed)
    print(f"wrote {root / 'VOC2012'}")
    return 0


def stats(args: Sequence[str]) -> int:
    """Measure a data set."""
    about = "Class frequencies, sizes, share of void, median-frequency and ENet weights."
    dataset, report, as_json = _report(args, "stats", about)
    from seg_jax import data
    from seg_jax.data import stats as measured

    published = data.reader(dataset).published_weights
    print(_json(report.to_dict()) if as_json else measured.as_text(report, published))
    return 2 if report.problems else 0


def view(args: Sequence[str]) -> int:
    """Show a data set."""

    def parse(
        root: tyro.conf.Positional[Path],
        *,
        out: Path,
        dataset: str = "",
        split: str = "train",
        images: int = 24,
        seed: int = 0,
        class_name: str = "",
    ) -> tuple:
        """A contact sheet: pictures beside their masks in the classes' colours.

        Args:
          root: the data set's folder.
          out: file to write, .png or .html.
          dataset: reader; default: recognised by the folder's layout.
          split: list to draw from.
          images: pictures to draw.
          seed: of the draw.
          class_name: only pictures with a pixel of this class.
        """
        return root, out, dataset, split, images, seed, class_name

    root, out, dataset, split, images, seed, class_name = _parse(parse, args, "view")
    from seg_jax import data
    from seg_jax.data import lint
    from seg_jax.report import contact_sheet

    source = data.open_source(dataset or lint.recognise(root), root, split)
    chosen = contact_sheet.choose(source, images, seed=seed, class_name=class_name)
    contact_sheet.write(source, chosen, out)
    print(f"wrote {out}: {len(chosen)} pictures of {source.description}")
    return 0


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "check": check,
    "pack": pack,
    "prepare": prepare,
    "stats": stats,
    "synthesize": synthesize,
    "view": view,
}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
