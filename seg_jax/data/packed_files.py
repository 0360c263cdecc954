"""The JSON files of a packed data set, checked before TFDS reads them.

They must be what `data pack` writes. Only the names of the data set, its splits and classes, and
the counts may vary: a file that names another feature class, another place of the shards or a field
that we never write is refused.
"""

import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from seg_jax import files
from seg_jax.checks import UserError
from seg_jax.data.source import MOST_CLASSES, class_problem

_CORE = "tensorflow_datasets.core.features"


def _image(channels: int, **fields: str) -> dict[str, Any]:
    shape = {"dimensions": ["-1", "-1", str(channels)]}
    return {
        "image": {"dtype": "uint8", "shape": shape, **fields},
        "pythonClassName": f"{_CORE}.image_feature.Image",
    }


# features.json, to the last value: TFDS imports whatever class stands there.
FEATURES = {
    "featuresDict": {
        "features": {
            "id": {"pythonClassName": f"{_CORE}.text_feature.Text", "text": {}},
            "image": _image(3),
            "label": _image(1, encodingFormat="png"),
        }
    },
    "pythonClassName": f"{_CORE}.features_dict.FeaturesDict",
}
_INFO_NAMES = {"name", "configName", "version"}  # dotted names and numbers
_INFO_TEXTS = {"description", "configDescription"}
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_SMALL, _LARGE = 2**20, 64 * 2**20  # bytes; metadata.json holds every id


class Split(NamedTuple):
    """One packed list: its name in records, the size of the official list or 0, and its ids."""

    name: str
    official: int
    ids: tuple[str, ...]


class Metadata(NamedTuple):
    """What metadata.json says: class names, 256 colours, and lists by name."""

    classes: tuple[str, ...]
    palette: list[list[int]]
    splits: dict[str, Split]


def read_metadata(root: Path) -> Metadata:
    """Return what a packed data set's metadata.json says, after all its JSON files are checked.

    Raises:
      UserError: `root` is no packed data set, or a file is not as `data pack` writes it.
    """
    if not os.path.isfile(root / "dataset_info.json"):
        raise UserError(
            f"{root} holds no dataset_info.json; write the data set with `data pack`, and name the "
            "folder of its version, e.g. tfds/camvid/1.0.0"
        )
    if not os.path.isfile(root / "metadata.json"):
        raise UserError(f"{root} was not written by `data pack`: it has no metadata.json")
    if _load(root / "features.json", _SMALL) != FEATURES:
        raise _other(root / "features.json", "other features than id, image and label")
    _check_info(root / "dataset_info.json")
    for path in root.iterdir():
        if ".array_record" in path.name and not path.is_file():
            raise _other(path, "no regular file")
    return _metadata(root / "metadata.json")


def _check_info(path: Path) -> None:
    info = _load(path, _SMALL)
    if not isinstance(info, dict):
        raise _other(path, "no object")
    for key, value in info.items():
        if key in _INFO_TEXTS:
            good = isinstance(value, str)
        elif key in _INFO_NAMES:
            good = isinstance(value, str) and re.fullmatch(r"\w[\w.]*", value)
        elif key == "moduleName":
            good = isinstance(value, str) and re.fullmatch(r"seg_jax\.data\.[\w.]+", value)
        elif key == "splits":
            good = isinstance(value, list) and all(map(_is_split, value))
        else:
            good = (key, value) in {"fileFormat": "array_record", "disableShuffling": True}.items()
        if not good:
            raise _other(path, f"{key[:80]!r} is {value!r:.80}")
    if not {"name", "version", "fileFormat", "splits"} <= info.keys():
        raise _other(path, "no name, version, fileFormat or splits")


def _is_split(split: Any) -> bool:
    return (
        isinstance(split, dict)
        and split.keys() <= {"filepathTemplate", "name", "numBytes", "shardLengths"}
        and split.get("filepathTemplate") == _TEMPLATE
        and isinstance(split.get("name"), str)
        and re.fullmatch(r"\w[\w.-]*", split["name"]) is not None
        and re.fullmatch(r"\d{1,18}", str(split.get("numBytes", 0)), re.ASCII) is not None
        and isinstance(split.get("shardLengths", []), list)
        and all(
            re.fullmatch(r"\d{1,12}", str(length), re.ASCII)
            for length in split.get("shardLengths", [])
        )
    )


def _metadata(path: Path) -> Metadata:
    content = _load(path, _LARGE)
    if not isinstance(content, dict) or not {"classes", "palette", "splits"} <= content.keys():
        raise _other(path, "no classes, palette and splits")
    classes, palette, splits = (content[key] for key in ("classes", "palette", "splits"))
    if not isinstance(classes, list) or not 0 < len(classes) <= MOST_CLASSES:
        raise _other(path, f"classes: not a list of 1 to {MOST_CLASSES} names")
    for name in classes:
        if not isinstance(name, str) or class_problem(name):
            raise _other(path, f"class {name!r:.80}")
    if not (
        isinstance(palette, list)
        and len(palette) == 256
        and all(
            isinstance(color, list)
            and len(color) == 3
            and all(isinstance(value, int) and 0 <= value <= 255 for value in color)
            for color in palette
        )
    ):
        raise _other(path, "palette: not 256 colours")
    if not isinstance(splits, dict) or not splits:
        raise _other(path, "splits: no lists")
    return Metadata(
        tuple(classes), palette, {name: _split(path, entry) for name, entry in splits.items()}
    )


def _split(path: Path, entry: Any) -> Split:
    if not isinstance(entry, dict) or entry.keys() != {"name", "official", "ids"}:
        raise _other(path, "a split without name, official and ids")
    name, official, ids = entry["name"], entry["official"], entry["ids"]
    good = isinstance(name, str) and len(name) <= 200 and isinstance(official, int)
    if not good or not isinstance(ids, list) or not all(isinstance(i, str) for i in ids):
        raise _other(path, "a split without name, official and ids")
    return Split(name, official, tuple(ids))


def _load(path: Path, limit: int) -> Any:
    try:
        return json.loads(files.read_bytes(path, most=limit), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: no JSON ({error}); pack the data set again") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key that occurs twice")
    return found


def _other(path: Path, what: str) -> UserError:
    return UserError(
        f"{path}: {what}; it was not written by `data pack`, and TFDS is not given it: a packed "
        "data set may name code to import"
    )
