"""Every reader of files that may come from a stranger, each with a small valid file to damage.

`test_mutations.py` damages the files; a module that reads files and is missing here fails a test.
"""

import dataclasses
import hashlib
import importlib.util
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TESTS = Path(__file__).parents[1]
FORMER = TESTS / "golden" / "revision_3e7ce58"
WEIGHTS = TESTS / "pretrained" / "files"


@dataclasses.dataclass(frozen=True)
class Reader:
    """One kind of file.

    Attributes:
      modules: of seg_jax that read it, without "seg_jax.".
      make: writes valid files into an empty folder.
      files: patterns of the files in it that are damaged, one at a time.
      read: reads what is in the folder.
      text: whether the files are JSON, which is also damaged by its structure.
      cost: fewer cases are tried by this factor.
    """

    modules: tuple[str, ...]
    make: Callable[[Path], Any]
    files: tuple[str, ...]
    read: Callable[[Path], Any]
    text: bool = False
    cost: int = 1


def _copy(*names: str, source: Path = FORMER) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for name in names:
            if (source / name).is_dir():
                shutil.copytree(source / name, folder / name)
            else:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source / name, folder / name)

    return make


def _config(folder: Path) -> Any:
    from seg_jax.runs import folder as run_folder

    return run_folder.read_config(folder / "run")


def _checkpoint(folder: Path) -> Any:
    from seg_jax.runs import checkpoint

    return checkpoint.restore_variables(folder / "run")


def _log(folder: Path) -> Any:
    from seg_jax.runs import log

    return (
        log.read(folder / "run"),
        log.last(folder / "run", "train"),
        log.training_seconds(folder / "run"),
    )


def _record(folder: Path) -> Any:
    from seg_jax import results

    found = results.load(folder / "run")
    return found.metrics, f"{found.device['devices']} x {found.device['kind']}"


def _make_tracked(folder: Path) -> None:
    (folder / "loggers.json").write_text('{"mlflow": "0f3c", "wandb": "8a41"}')


def _tracked(folder: Path) -> Any:
    from seg_jax.runs import trackers

    return trackers.stored_ids(folder)


def _release_config(folder: Path) -> Any:
    from seg_jax.pretrained import release

    return release.license_of(folder / "run/release")


def _release_weights(folder: Path) -> Any:
    from seg_jax.pretrained import release

    place = folder / "run/release"
    content = json.loads((place / "config.json").read_text())
    content["sha256"] = hashlib.sha256((place / "model.safetensors").read_bytes()).hexdigest()
    (place / "config.json").write_text(json.dumps(content))
    return release.load(place)


def _sweep(folder: Path) -> Any:
    from seg_jax import config
    from seg_jax.search_space import Choice, LogUniform, Space
    from seg_jax.sweep import search

    data = json.loads((FORMER / "sweep" / "sweep.json").read_text())
    rates = LogUniform(1e-3, 0.1, points=2)
    outcome = search.sweep(
        config.from_dict(data["settings"]["experiment"]),
        Space({"optim.base_lr": rates, "optim.optimizer": Choice(("adamw", "sgd"))}),
        folder / "sweep",
        trials=2,
        run_trial=lambda *_: 0.5,
        sampler="random",
        say=lambda line: None,
    )
    return search.as_text(outcome)


def _make_submission(folder: Path) -> None:
    with tarfile.open(folder / "r.tgz", "w:gz") as archive:
        for name in ("a", "b" * 120):  # the second has a header of its own for its name
            file = io.BytesIO()
            Image.fromarray(np.zeros((4, 5), np.uint8)).convert("P").save(file, "PNG")
            place = "results/VOC2012/Segmentation/comp6_test_cls"
            entry = tarfile.TarInfo(f"{place}/{name}.png")
            entry.size = file.tell()
            file.seek(0)
            archive.addfile(entry, file)
    # Damage inside the compressed data would be noticed by its checksum alone.
    (folder / "r.tar").write_bytes(_unpacked(folder / "r.tgz"))


def _unpacked(path: Path) -> bytes:
    import gzip

    return gzip.decompress(path.read_bytes())


def _submission(folder: Path) -> Any:
    import gzip

    from seg_jax.evaluation import submission_check

    packed = folder / "again.tgz"
    packed.write_bytes(gzip.compress((folder / "r.tar").read_bytes()))
    texts = [submission_check.check(path).as_text() for path in (folder / "r.tgz", packed)]
    assert all(line.isprintable() for text in texts for line in text.split("\n"))
    return texts


def _make_searched(folder: Path) -> None:
    from seg_jax.results import searched

    space = {"optim.base_lr": {"low": 0.1, "high": 1.0}}
    searched.save(searched.Searched("train:held20", 24, "tpe", space, "trial-0007"), folder)


def _searched(folder: Path) -> Any:
    from seg_jax.results import searched

    return str(searched.load(folder))


def _make_image_counts(folder: Path) -> None:
    """Write counts of images that fit the record of the former run."""
    from seg_jax import results
    from seg_jax.results import image_counts

    _copy("run/result.json")(folder)
    record = results.load(folder / "run")
    confusion = np.array(record.counts.confusion, np.int64)
    counts = np.zeros((record.counts.images, 3, len(record.classes)), np.int64)
    counts[0] = confusion.sum(1), confusion.sum(0), np.diag(confusion)
    ids = tuple(f"image{index}" for index in range(len(counts)))
    found = image_counts.ImageCounts(ids, counts)
    image_counts.save(found, record.classes, folder / "run" / "result_images.csv")


def _image_counts(folder: Path) -> Any:
    from seg_jax import results
    from seg_jax.results import image_counts

    found = image_counts.load(folder / "run/result_images.csv", results.load(folder / "run"))
    return found.ids, found.counts.tolist()


def _make_crf_cache(folder: Path) -> None:
    np.save(folder / "image.npy", np.zeros((5, 6, 3), np.float32))


def _crf_cache(folder: Path) -> Any:
    from seg_jax.evaluation import crf_search

    return crf_search._load(folder / "image.npy", (5, 6))


def _crf_table(folder: Path) -> Any:
    from seg_jax.report import crf_table

    return crf_table.load(folder / "crf_worth.json")


def _weights(format: str, name: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        import importlib

        return importlib.import_module(f"seg_jax.pretrained.formats.{format}").read(folder / name)

    return read


def _make_safetensors(folder: Path) -> None:
    from safetensors.numpy import save_file

    save_file(
        {"a": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float16)},
        folder / "net.safetensors",
    )


def _make_caffe(folder: Path) -> None:
    from caffe_writer import caffemodel

    layers = {"conv": [np.ones((2, 3, 3, 3), np.float32), np.ones(2, np.float32)], "relu": []}
    (folder / "net.caffemodel").write_bytes(caffemodel(layers))


def _make_tflite(folder: Path) -> None:
    from tflite_writer import write_convolution

    kernel = np.arange(3 * 3 * 3 * 2, dtype=np.uint8).reshape(3, 3, 3, 2)
    scale, zero = np.ones(3, np.float32), np.zeros(3, np.int64)
    (folder / "net.tflite").write_bytes(
        write_convolution(kernel, np.arange(3, dtype=np.int32), scale, zero)
    )


def _image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


_RGB = np.arange(5 * 6 * 3, dtype=np.uint8).reshape(5, 6, 3)
_MASK = np.zeros((5, 6), np.uint8)


def _make_folder(folder: Path) -> None:
    for name in ("a", "b"):
        _image(folder / f"images/{name}.png", _RGB)
        _image(folder / f"masks/{name}.png", _MASK)
    (folder / "classes.txt").write_text("0 sky\n1 road\n")
    (folder / "train.txt").write_text("a\nb\n")


def _make_bands(folder: Path) -> None:
    values = np.arange(24 * 24 * 5, dtype=np.uint16).reshape(24, 24, 5)
    np.save(folder / "a.npy", values)
    Image.fromarray(values[..., 0]).save(folder / "a.png")
    if importlib.util.find_spec("tifffile"):
        import tifffile

        options = {"photometric": "minisblack", "compression": "zlib", "tile": (16, 16)}
        options["planarconfig"] = "contig"
        tifffile.imwrite(folder / "a.tif", values, **options)


def _bands(folder: Path) -> Any:
    from seg_jax.data import bands

    window = slice(3, 20), slice(5, 23)
    files = sorted(folder.glob("a.*"))
    return [
        bands.read(file, 1 if file.suffix == ".png" else 5, (0, 65535), window) for file in files
    ]


def _make_video(folder: Path) -> None:
    import av

    with av.open(str(folder / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.height = stream.width = 16
        stream.pix_fmt = "yuv420p"
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _video(folder: Path) -> Any:
    import tempfile

    from seg_jax.inference import video

    with tempfile.TemporaryDirectory() as out:
        return video.predict(
            folder / "a.mp4", Path(out), label=lambda image: image[..., 0] // 255,
            classes=("a", "b"), palette=np.zeros((256, 3), np.uint8), progress=False,
        ).frames  # fmt: skip


def _imports(kind: str) -> tuple[Callable[[Path], Any], Callable[[Path], Any]]:
    """Return what writes and what reads a small export of a labelling tool."""

    def make(folder: Path) -> None:
        import label_exports

        made = {"coco": lambda root: label_exports.coco_json(root, form="runs")}
        (label_exports.SOURCES | made)[kind](folder / "source")

    def read(folder: Path) -> Any:
        import tempfile

        from seg_jax.data.imports import layout, recognise

        with tempfile.TemporaryDirectory() as out:
            found = recognise.read(folder / "source", recognise.Options())
            return layout.write(found, Path(out) / "out"), found.classes

    return make, read


def _import_reader(kind: str, module: str, *names: str, text: bool = True) -> Reader:
    make, read = _imports(kind)
    modules = (f"data.imports.{module}", "data.imports.recognise", "data.imports.layout")
    files = tuple(f"source/{name}" for name in names)
    return Reader(modules, make, files, read, text=text, cost=4)


def _make_voc(folder: Path) -> None:
    home = folder / "VOC2012"
    _image(home / "JPEGImages/a.jpg", _RGB)
    _image(home / "SegmentationClass/a.png", _MASK)
    (home / "ImageSets/Segmentation").mkdir(parents=True)
    (home / "ImageSets/Segmentation/train.txt").write_text("a\n")


def _make_camvid(folder: Path) -> None:
    _image(folder / "train/a.png", _RGB)
    _image(folder / "trainannot/a.png", _MASK)
    (folder / "train.txt").write_text(
        "/SegNet/CamVid/train/a.png /SegNet/CamVid/trainannot/a.png\n"
    )


def _make_isbi(folder: Path) -> None:
    pages = [Image.fromarray(np.full((16, 16), value, np.uint8)) for value in range(30)]
    for name in ("train-volume.tif", "train-labels.tif"):
        pages[0].save(folder / name, save_all=True, append_images=pages[1:])


def _make_cityscapes(folder: Path) -> None:
    name = "aachen/aachen_000000_000019"
    _image(folder / f"leftImg8bit/train/{name}_leftImg8bit.png", _RGB)
    _image(folder / f"gtFine/train/{name}_gtFine_labelIds.png", _MASK + 7)


def _make_ade20k(folder: Path) -> None:
    home = folder / "ADEChallengeData2016"
    _image(home / "images/training/ADE_train_00000001.jpg", _RGB)
    _image(home / "annotations/training/ADE_train_00000001.png", _MASK + 1)


def _make_packed(folder: Path) -> None:
    import tempfile

    from seg_jax.data.prepare import tfds

    with tempfile.TemporaryDirectory() as source:
        _make_folder(Path(source))
        tfds.pack("folder", Path(source), folder / "out").rename(folder / "packed")


def _dataset(name: str, split: str = "train", under: str = "") -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        from seg_jax import data

        source = data.open_source(name, folder / under if under else folder, split)
        return source.description, source.classes, source[0], source.size(0)

    return read


READERS = {
    "configuration of a run": Reader(
        ("config", "runs.folder", "experiment"), _copy("run/config.json"), ("run/config.json",),
        _config, text=True,
    ),
    "checkpoint": Reader(
        ("runs.checkpoint", "runs.integrity"), _copy("run"), ("run/checkpoints/**/*",),
        _checkpoint, cost=6,
    ),
    "log of a run": Reader(
        ("runs.log",), _copy("run/metrics.jsonl"), ("run/metrics.jsonl",), _log
    ),
    "ids in trackers": Reader(
        ("runs.trackers",), _make_tracked, ("loggers.json",), _tracked, text=True
    ),
    "record": Reader(
        ("results.files", "results.schema", "results.record"), _copy("run/result.json"),
        ("run/result.json",), _record, text=True,
    ),
    "how settings were searched": Reader(
        ("results.searched",), _make_searched, ("searched.json",), _searched, text=True
    ),
    "counts of images": Reader(
        ("results.image_counts",), _make_image_counts, ("run/result_images.csv",), _image_counts,
        cost=4,
    ),
    "configuration of a release": Reader(
        ("pretrained.release",), _copy("run/release"), ("run/release/config.json",),
        _release_config, text=True,
    ),
    "weights of a release": Reader(
        ("pretrained.release",), _copy("run/release"), ("run/release/model.safetensors",),
        _release_weights, cost=6,
    ),
    "history of a sweep": Reader(
        ("sweep.search", "sweep.promote"), _copy("sweep/sweep.json", "sweep/journal.log"),
        ("sweep/sweep.json",), _sweep, text=True, cost=4,
    ),
    "journal of a sweep": Reader(
        ("sweep.study",), _copy("sweep/sweep.json", "sweep/journal.log"), ("sweep/journal.log",),
        _sweep, cost=4,
    ),
    "submission": Reader(
        ("evaluation.submission_check",), _make_submission, ("r.tgz", "r.tar"), _submission
    ),
    "cache of a CRF search": Reader(
        ("evaluation.crf_search",), _make_crf_cache, ("image.npy",), _crf_cache
    ),
    "measurements of the CRF": Reader(
        ("report.crf_table",), _copy("crf_worth.json", source=TESTS.parent / "experiments"),
        ("crf_worth.json",), _crf_table, text=True,
    ),
    "PyTorch": Reader(
        ("pretrained.formats.torch",), _copy("checkpoint_zip.pth", source=WEIGHTS),
        ("checkpoint_zip.pth",), _weights("torch", "checkpoint_zip.pth"),
    ),
    "PyTorch before 1.6": Reader(
        ("pretrained.formats.torch",), _copy("checkpoint_old.pth", source=WEIGHTS),
        ("checkpoint_old.pth",), _weights("torch", "checkpoint_old.pth"),
    ),
    "safetensors": Reader(
        ("pretrained.formats.torch", "pretrained.formats.safetensors"), _make_safetensors,
        ("net.safetensors",), _weights("torch", "net.safetensors"),
    ),
    "Caffe": Reader(
        ("pretrained.formats.caffe",), _make_caffe, ("net.caffemodel",),
        _weights("caffe", "net.caffemodel"),
    ),
    "TensorFlow Lite": Reader(
        ("pretrained.formats.tflite",), _make_tflite, ("net.tflite",),
        _weights("tflite", "net.tflite"),
    ),
    "TensorFlow checkpoint": Reader(
        ("pretrained.formats.tensorflow",),
        _copy("model.ckpt.index", "model.ckpt.data-00000-of-00001", source=WEIGHTS),
        ("model.ckpt.*",), _weights("tensorflow", "model.ckpt.index"),
    ),
    "TensorFlow graph": Reader(
        ("pretrained.formats.tensorflow",), _copy("frozen.pb", source=WEIGHTS), ("frozen.pb",),
        _weights("tensorflow", "frozen.pb"),
    ),
    "folder of images": Reader(
        ("data.datasets.folder", "data.datasets.coco_voc", "data.images", "data.source"),
        _make_folder,
        ("images/*", "masks/*", "*.txt"), _dataset("folder"),
    ),
    "images of other channels or depth": Reader(
        ("data.bands", "data.tiff"), _make_bands, ("a.*",), _bands, cost=2,
    ),
    "export of COCO": _import_reader("coco", "coco", "_annotations.coco.json"),
    "export of LabelMe": _import_reader("labelme", "shapes", "*.json"),
    "export of CVAT": _import_reader("cvat", "shapes", "annotations.xml", text=False),
    "export of Supervisely": _import_reader("supervisely", "shapes", "meta.json", "ds/ann/*"),
    "VOC": Reader(
        ("data.datasets.voc2012", "data.datasets.voc2012_frequent"), _make_voc, ("VOC2012/**/*",),
        _dataset("voc2012"),
    ),
    "CamVid": Reader(("data.datasets.camvid",), _make_camvid, ("**/*",), _dataset("camvid")),
    "ISBI 2012": Reader(("data.datasets.isbi2012",), _make_isbi, ("*.tif",), _dataset("isbi2012")),
    "Cityscapes": Reader(
        ("data.datasets.cityscapes",), _make_cityscapes, ("**/*.png",), _dataset("cityscapes")
    ),
    "ADE20K": Reader(
        ("data.datasets.ade20k",), _make_ade20k, ("**/*.jpg", "**/*.png"), _dataset("ade20k")
    ),
    "packed data set": Reader(
        ("data.datasets.tfds", "data.packed_files"), _make_packed, ("packed/**/*",),
        _dataset("tfds", under="packed"),
    ),
}  # fmt: skip

if importlib.util.find_spec("av"):  # an extra
    READERS["video"] = Reader(("inference.video",), _make_video, ("a.mp4",), _video, cost=2)

# Modules among the readers that read no file of a stranger's themselves, and why.
HELPERS = {
    "pretrained.formats.protobuf": "the wire format, for Caffe and TensorFlow",
    "pretrained.formats.state_names": "names of tensors that PyTorch's reader has read",
    "pretrained.formats.reading": "bounds that the formats share",
    "pretrained.formats.strict_pickle": "for PyTorch",
    "data.datasets.synthetic_voc": "draws its images",
    "files": "reads for the others",
    "analysis.overview": "reads experiments/parity.json, which is part of the project",
    "analysis.index": "reads experiments/index.json, which is part of the project",
    "launch.memory": "reads a survey that the user's own command wrote",
    "launch.start": "reads what the user's own command wrote",
    "runs.bucket": "names who trains, from at most 4 KiB (tests/runs/test_bucket.py)",
    "train.compile_times": "reads what an earlier training wrote into the user's private cache",
    "train.peers": "reads what processes of one training tell each other",
    "targets.accelerators_page": "reads the project's own committed figures",
    "targets.survey": "reads what the user's own command wrote",
}
