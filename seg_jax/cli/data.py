"""`data`: check, convert and view data sets."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from seg_jax import checks, progress
from seg_jax.cli.parsing import Verb, dispatch, parse, print_json

USAGE = """\
usage: python -m seg_jax data VERB ...

  check ROOT        read a whole data set and report every problem in it
  import SOURCE     colour masks, COCO, LabelMe, CVAT, Supervisely, ... to a folder of masks
  prepare voc2012   PASCAL VOC 2012 and SBD from the authors' archives, with all lists
  pack DATASET      write a data set as ArrayRecord files with TFDS, without TensorFlow
  stats ROOT        class frequencies, sizes, void, median-frequency and ENet weights
  synthesize ROOT   write the embedded data set
  view ROOT         a contact sheet of images and masks, as PNG or HTML
"""


@dataclasses.dataclass(frozen=True)
class _ReadOptions:
    root: tyro.conf.Positional[Path]
    dataset: str = ""
    split: tuple[str, ...] = ()
    map: tuple[str, ...] = ()
    channels: int = 3
    range: tuple[float, float] | None = None
    allow_outside: bool = False
    json: bool = False

    def adapt(self, source: Any) -> Any:
        """Return a split with the meaning of mask values and the channels that were given."""
        from seg_jax.data.config import mask_values

        try:
            source = source.with_values(mask_values(self.map))
        except ValueError as error:
            raise checks.UserError(f"--{error}") from error
        return dataclasses.replace(
            source, channels=self.channels, range=self.range, allow_outside=self.allow_outside
        )


class CheckOptions(_ReadOptions):
    """Read every image and label and report every problem, class frequencies and weights.

    Attributes:
      root: the data set's folder.
      dataset: reader; default: recognised by the folder's layout.
      split: lists to read; default: all that are there.
      map: what mask values mean, as --data.map of `train`: 255=1, 9=void.
      channels: of the images, as --data.preprocessing.channels.
      range: stored values that become 0 and 255, as --data.preprocessing.range.
      allow_outside: the lists may name files outside the folder.
      json: print the report as JSON.
    """


@dataclasses.dataclass(frozen=True)
class StatsOptions(_ReadOptions):
    """Class frequencies, sizes, share of void, median-frequency and ENet weights.

    Attributes:
      root: the data set's folder.
      dataset: reader; default: recognised by the folder's layout.
      split: lists to read; default: all that are there.
      map: what mask values mean, as --data.map of `train`: 255=1, 9=void.
      channels: of the images, as --data.preprocessing.channels.
      range: stored values that become 0 and 255, as --data.preprocessing.range.
      allow_outside: the lists may name files outside the folder.
      json: print the report as JSON.
      measure: also measure mean and std of every channel, as other channels and ranges do.
    """

    measure: bool = False


def check(args: Sequence[str]) -> int:
    """Validate a data set."""
    options = parse(CheckOptions, args, "data check")
    from seg_jax.data.validate import check

    dataset = options.dataset or check.recognise(options.root)
    report = check.check(dataset, options.root, splits=options.split or None, adapt=options.adapt)
    print_json(report.to_dict()) if options.json else progress.show(report.as_text())
    return 2 if report.problems else 0


def stats(args: Sequence[str]) -> int:
    """Measure a data set."""
    options = parse(StatsOptions, args, "data stats")
    from seg_jax import data
    from seg_jax.data.validate import check, stats

    dataset = options.dataset or check.recognise(options.root)
    measured = None
    if options.channels != 3 or options.range is not None or options.measure:
        from seg_jax.data.validate import channels

        split = options.split[0] if options.split else "train"
        source = data.open_source(dataset, options.root, split, allow_outside=options.allow_outside)
        measured = channels.measure(source, options.channels, options.range)
        if measured.dtype != "uint8" and options.range is None:
            spread = min(measured.lowest), max(measured.highest)
            options = dataclasses.replace(options, range=spread)
    report = check.check(dataset, options.root, splits=options.split or None, adapt=options.adapt)
    if options.json:
        more = {"channels": dataclasses.asdict(measured)} if measured else {}
        print_json({**report.to_dict(), **more})
    else:
        progress.show(stats.as_text(report, data.reader(dataset).published_weights))
        if measured:
            progress.show(f"channels of {split}:\n{measured.as_text()}")
    return 2 if report.problems else 0


@dataclasses.dataclass(frozen=True)
class PrepareOptions:
    """Check, extract and convert the authors' archives, and write every list of the papers.

    Run the same command again to continue after an interruption.

    Attributes:
      dataset: voc2012.
      voc: VOCtrainval_11-May-2012.tar; not needed if its files are already in ROOT.
      sbd: benchmark.tgz, for trainaug, trainval_aug, sbd_train and seg11valid.
      root: folder for VOCdevkit/; default: voc2012 in the place for data sets, see
        `env`.
    """

    dataset: tyro.conf.Positional[str]
    voc: Path | None = None
    sbd: Path | None = None
    root: Path | None = None


def prepare(args: Sequence[str]) -> None:
    """Make a data set from its authors' archives."""
    options = parse(PrepareOptions, args, "data prepare")
    from seg_jax import data
    from seg_jax.data.prepare import voc

    if options.dataset != "voc2012":
        raise checks.UserError(
            f"data prepare {options.dataset!r}: only voc2012 is made from archives; the others are "
            "read as they are published, see docs/data.md"
        )
    root = options.root or data.default_root(options.dataset)
    progress.show(voc.prepare(root, options.voc, options.sbd))


@dataclasses.dataclass(frozen=True)
class PackOptions:
    """Write a data set as sharded ArrayRecord files, for TFDS and for `--data.dataset tfds`.

    Attributes:
      dataset: voc2012, camvid, isbi2012 or folder.
      out: TFDS's data_dir.
      config: splits of voc2012: voc, aug (trainaug and val) or fcn (sbd_train and seg11valid).
      root: the data set's folder; default: DATASET in the place for data sets, see
        `env`.
      shards: files per split; 0: TFDS chooses.
    """

    dataset: tyro.conf.Positional[str]
    out: Path
    config: str = ""
    root: Path | None = None
    shards: int = 0


def pack(args: Sequence[str]) -> None:
    """Write a data set as ArrayRecord files."""
    options = parse(PackOptions, args, "data pack")
    from seg_jax.data.prepare import tfds

    folder = tfds.pack(
        options.dataset, options.root, options.out, config=options.config, shards=options.shards
    )
    progress.show(f"train with --data.dataset tfds --data.root {folder}")


@dataclasses.dataclass(frozen=True)
class SynthesizeOptions:
    """Write synthetic_voc in VOCdevkit layout.

    Attributes:
      root: folder for VOC2012/, which must not exist yet.
      seed: of the images; the embedded data set is seed 0.
    """

    root: tyro.conf.Positional[Path]
    seed: int = 0


def synthesize(args: Sequence[str]) -> None:
    """Write the embedded data set."""
    options = parse(SynthesizeOptions, args, "data synthesize")
    from seg_jax.data.synthetic import dataset

    dataset.write(options.root, seed=options.seed)
    progress.show(f"wrote {options.root / 'VOC2012'}")


@dataclasses.dataclass(frozen=True)
class ViewOptions:
    """Write a contact sheet: images beside their masks in the colours of the classes.

    Attributes:
      root: the data set's folder.
      out: file to write, .png or .html.
      dataset: reader; default: recognised by the folder's layout.
      split: list to sample images from.
      images: number of images.
      seed: of the random sample.
      class_name: only images with a pixel of this class.
      allow_outside: the list may name files outside the folder.
    """

    root: tyro.conf.Positional[Path]
    out: Path
    dataset: str = ""
    split: str = "train"
    images: int = 24
    seed: int = 0
    class_name: str = ""
    allow_outside: bool = False


def view(args: Sequence[str]) -> None:
    """Show a data set."""
    options = parse(ViewOptions, args, "data view")
    from seg_jax import data
    from seg_jax.data.validate import check
    from seg_jax.report import contact_sheet

    dataset = options.dataset or check.recognise(options.root)
    source = data.open_source(
        dataset, options.root, options.split, allow_outside=options.allow_outside
    )
    chosen = contact_sheet.choose(
        source, options.images, seed=options.seed, class_name=options.class_name
    )
    contact_sheet.write(source, chosen, options.out)
    progress.show(f"wrote {options.out}: {len(chosen)} images of {source.description}")


@dataclasses.dataclass(frozen=True)
class ImportOptions:
    """Convert labels of other tools to images/, masks/ and classes.txt.

    SOURCE is a folder or file of: masks in colours (VOC's SegmentationClass, CamVid, Cityscapes,
    CVAT's "Segmentation mask"), COCO's JSON (also Roboflow's export), LabelMe, CVAT's XML for
    images, or a Supervisely project.

    Attributes:
      source: folder or file.
      out: folder to write; must not exist or be empty.
      images: folder of the images, where it is not found by itself.
      masks: folder of colour masks, where it is not found by itself.
      colors: camvid, cityscapes, voc, a CSV "name,r,g,b", or find: list the colours that occur.
      distance: largest distance, in RGB of 0..255, of a colour that counts as the nearest one of
        the table; for masks that were resized or saved as JPEG.
      unknown_void: colours that are in no table become void.
    """

    source: tyro.conf.Positional[Path]
    out: Path | None = None
    images: Path | None = None
    masks: Path | None = None
    colors: str = ""
    distance: float = 0.0
    unknown_void: bool = False


def import_labels(args: Sequence[str]) -> None:
    """Import labels."""
    options = parse(ImportOptions, args, "data import")
    from seg_jax.data.imports import colors, layout, recognise

    given = recognise.Options(
        options.images,
        options.masks,
        "" if options.colors == "find" else options.colors,
        options.distance,
        options.unknown_void,
    )
    if options.colors == "find":
        pairs = colors.pairs(*recognise.mask_folders(options.source, given))
        progress.show(colors.listing(colors.count([mask for *_, mask in pairs]), len(pairs)))
        return
    if options.out is None:
        raise checks.UserError("--out is missing: the folder that the data set is written to")
    found = recognise.read(options.source, given)
    written = layout.write(found, options.out)
    progress.show(f"{found.kind}: {written.images} images -> {options.out}")
    total = max(sum(written.pixels), 1)
    for name, pixels in zip((*found.classes, "void"), written.pixels, strict=True):
        progress.show(f"  {name:<24}{100 * pixels / total:>8.3f} % of the pixels")
    for note in found.notes:
        progress.show(f"  {note}")
    progress.show(f"train with --data.dataset folder --data.root {options.out}")


VERBS: dict[str, Verb] = {
    "check": check,
    "import": import_labels,
    "pack": pack,
    "prepare": prepare,
    "stats": stats,
    "synthesize": synthesize,
    "view": view,
}


def main(args: Sequence[str]) -> int:
    """Run one of the verbs; return its exit code."""
    return dispatch(VERBS, USAGE, args, group="data")
