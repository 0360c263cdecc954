"""Our release format: one folder that is complete in itself.

    model.safetensors    the variables by path: params/backbone/conv1/kernel, ...
    config.json          the resolved experiment as in a run folder, the label map, the license, and
                         the SHA-256 of the weights
    result.json          the evaluation's record, as in a run folder; absent: never evaluated
    card.md              the same, to be read

A release may come from a stranger: nothing in it is run. Weights are arrays only, and the
configuration names only types that a configuration may have, see `seg_jax.config`.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import numpy as safetensors_numpy

from seg_jax import checks, config, files
from seg_jax.data import label_map
from seg_jax.experiment import Experiment
from seg_jax.nn.import_tensors import import_tensors
from seg_jax.pretrained.formats import reading, safetensors
from seg_jax.pretrained.network import Pretrained
from seg_jax.runs import folder as run_folder

WEIGHTS, CONFIG, RECORD, CARD = "model.safetensors", run_folder.CONFIG, "result.json", "card.md"
FILES = (WEIGHTS, CONFIG, RECORD, CARD)
_FORMAT = 1
_MOST_CLASSES, _LONGEST_NAME = 256, 200  # a label map's value is one byte; letters of a class name


def save(
    loaded: Pretrained, folder: Path, *, license: str, card: str, record: bytes | None = None
) -> None:
    """Write a release; an earlier one in the folder is replaced.

    Args:
      loaded: the network.
      folder: of the release; made if it is not there.
      license: of the weights, an SPDX identifier or "unknown".
      card: text of card.md.
      record: content of result.json.

    Raises:
      UserError: the folder holds something else.
    """
    prepare(folder)
    other = {leaf.dtype for leaf in jax.tree.leaves(loaded.variables)} - {np.dtype(np.float32)}
    if other:
        raise ValueError(
            f"variables are float32 in every model here, found {sorted(other, key=str)}"
        )
    # "C": safetensors stores an array's memory as it lies, also where that is transposed.
    tensors = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf, order="C")
        for path, leaf in jax.tree.leaves_with_path(loaded.variables)
    }
    weights = safetensors_numpy.save(tensors, metadata={"format": "np"})
    labels = loaded.labels
    content = {
        "format": _FORMAT,
        "digest": config.digest(loaded.experiment),
        "experiment": config.to_dict(loaded.experiment),
        "name": loaded.name,
        "classes": labels.names,
        "colours": labels.colours,
        "licence": license,  # as spelt since format 1
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    (folder / RECORD).unlink(missing_ok=True)  # of an earlier release
    files.write_bytes(folder / WEIGHTS, weights)
    files.write_json(folder / CONFIG, content)
    files.write_bytes(folder / CARD, card.encode())
    if record is not None:
        files.write_bytes(folder / RECORD, record)


def prepare(folder: Path) -> None:
    """Prepare the folder of a release; it may hold an earlier release and nothing else.

    Raises:
      UserError: it holds something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    strange = [name for name in names if name not in FILES]
    if strange:
        raise checks.UserError(
            f"{folder} holds {strange[0]}, which is not part of a release: give an empty or a new "
            "folder"
        )


def load(folder: Path) -> Pretrained:
    """Return the network of a release, its variables bit by bit as they were saved.

    Raises:
      UserError: a file is missing or damaged, the configuration names a foreign type, or the
        weights are not the network's.
    """
    content = _read_config(folder / CONFIG)
    weights = reading.read_bytes(folder / WEIGHTS)
    digest = hashlib.sha256(weights).hexdigest()
    if digest != content["sha256"]:
        raise checks.UserError(
            f"{folder / WEIGHTS}: SHA-256 is {digest}, {CONFIG} says {content['sha256']}: the file "
            "is damaged or of another release; copy or download the folder again"
        )
    tensors = safetensors.from_bytes(weights, folder / WEIGHTS)
    found = content["experiment"]
    variables = import_tensors(
        found.model,
        tensors,
        lambda collection, module, leaf: "/".join(filter(None, (collection, module, leaf))),
        lambda _, tensor: tensor,
        image_shape=(1, *found.data.augmentation.crop, found.data.preprocessing.inputs),
    )
    labels = _labels(content, getattr(found.model, "num_classes", None), folder / CONFIG)
    return Pretrained(found, {"batch_stats": {}, **variables}, content["name"], labels)


def _labels(content: Mapping[str, Any], num_classes: int | None, path: Path) -> label_map.LabelMap:
    """Return names and colours of the classes; UserError unless each class has one of each."""
    names, colours = content["classes"], content["colours"]
    if not (
        isinstance(names, list)
        and 0 < len(names) <= _MOST_CLASSES
        and all(isinstance(name, str) and len(name) <= _LONGEST_NAME for name in names)
    ):
        raise checks.UserError(
            f"{path}: classes must be 1 to {_MOST_CLASSES} names of at most {_LONGEST_NAME} letters"
        )
    if num_classes is not None and len(names) != num_classes:
        raise checks.UserError(
            f"{path}: {len(names)} class names for a network of {num_classes} classes"
        )
    if not (
        isinstance(colours, list)
        and len(colours) == len(names)
        and all(isinstance(c, list) and len(c) == 3 and all(map(_is_byte, c)) for c in colours)
    ):
        raise checks.UserError(
            f"{path}: colours must be {len(names)} lists, one a class, of red, green and blue, "
            "0 to 255"
        )
    return label_map.LabelMap(tuple(names), tuple(map(tuple, colours)))


def _is_byte(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 255


def license_of(folder: Path) -> str:
    """Return the license of a release."""
    return _read_config(folder / CONFIG)["licence"]


def _read_config(path: Path) -> dict[str, Any]:
    """Return the content of config.json, the experiment rebuilt."""
    try:
        content = json.loads(reading.read_bytes(path))
        if not isinstance(content, dict):
            raise ValueError("it is no object")
        if content["format"] != _FORMAT:
            raise checks.UserError(
                f"{path}: format is {reading.printable(content['format'])}, this version reads "
                f"{_FORMAT}"
            )
        found = config.from_dict(content["experiment"], Experiment)
        missing = {"name", "classes", "colours", "licence", "sha256"} - content.keys()
        if missing:
            raise KeyError(*sorted(missing))
        for name in ("name", "licence", "sha256"):
            if not isinstance(content[name], str):
                raise TypeError(f"{name} is no text")
        return content | {"experiment": found}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise checks.UserError(
            f"{path} is no configuration of a release ({type(error).__name__}: "
            f"{reading.printable(error)}); copy or download the folder again"
        ) from error
