"""Our release format: one folder, which needs nothing of where it was made.

    model.safetensors    the variables by path: params/backbone/conv1/kernel, ...
    config.json          the resolved experiment as in a run folder, the label map, the license, and
                         the SHA-256 of the weights
    result.json          the evaluation's record, as in a run folder; absent: never evaluated
    card.md              the same for people

A release may come from a stranger: reading one runs nothing of it. Weights are arrays only, and the
configuration names only dataclasses of seg_jax and of the modules that the experiments have loaded.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from seg_jax import checks, config, experiment, files
from seg_jax.data import label_map
from seg_jax.nn.import_tensors import import_tensors
from seg_jax.pretrained.network import Pretrained
from seg_jax.runs import folder as run_folder

WEIGHTS, CONFIG, RECORD, CARD = "model.safetensors", run_folder.CONFIG, "result.json", "card.md"
FILES = (WEIGHTS, CONFIG, RECORD, CARD)
_FORMAT = 1


def save(
    loaded: Pretrained, folder: Path, *, license: str, card: str, record: bytes | None = None
) -> None:
    """Write a release; what is there of an earlier one is replaced.

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
    """Make a folder ready for a release: nothing but an earlier one may be in it.

    Raises:
      UserError: it holds something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    strange = [name for name in names if name not in FILES]
    if strange:
        raise checks.UserError(
            f"{folder} holds {strange[0]}, which is of no release: give an empty or a new folder"
        )


def load(folder: Path) -> Pretrained:
    """Return the network of a release, its variables bit by bit as they were saved.

    Raises:
      UserError: a file is missing or damaged, the configuration names a foreign type, or the
        weights are not the network's.
    """
    content = _read_config(folder / CONFIG)
    weights = (folder / WEIGHTS).read_bytes()
    digest = hashlib.sha256(weights).hexdigest()
    if digest != content["sha256"]:
        raise checks.UserError(
            f"{folder / WEIGHTS}: SHA-256 is {digest}, {CONFIG} says {content['sha256']}: the file "
            "is damaged or of another release; copy or download the folder again"
        )
    try:
        tensors = safetensors_numpy.load(weights)
    except SafetensorError as error:
        raise checks.UserError(f"{folder / WEIGHTS} cannot be read: {error}") from error
    found = content["experiment"]
    variables = import_tensors(
        found.model,
        tensors,
        lambda collection, module, leaf: "/".join(filter(None, (collection, module, leaf))),
        lambda _, tensor: tensor,
        image_shape=(1, *found.data.augmentation.crop, found.data.preprocessing.channels),
    )
    labels = label_map.LabelMap(tuple(content["classes"]), tuple(map(tuple, content["colours"])))
    return Pretrained(found, {"batch_stats": {}, **variables}, content["name"], labels)


def license_of(folder: Path) -> str:
    """Return the license of a release."""
    return _read_config(folder / CONFIG)["licence"]


def _read_config(path: Path) -> dict[str, Any]:
    """Return the content of config.json, the experiment rebuilt."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise checks.UserError(
                f"{path}: format is {content['format']!r}, this version reads {_FORMAT}"
            )
        _refuse_foreign(content["experiment"], path)
        found = config.from_dict(content["experiment"])
        missing = {"name", "classes", "colours", "licence", "sha256"} - content.keys()
        if missing:
            raise KeyError(*sorted(missing))
        return content | {"experiment": found}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise checks.UserError(
            f"{path} is no configuration of a release ({type(error).__name__}: {error}); copy or "
            "download the folder again"
        ) from error


def _refuse_foreign(data: Any, path: Path) -> None:
    """Raise UserError if a type is of a module that would have to be imported for it."""
    experiment.discover()
    for kind in _types(data):
        module = kind.rpartition(".")[0]
        if module.partition(".")[0] != "seg_jax" and module not in sys.modules:
            raise checks.UserError(
                f"{path} names {kind}, which none of the experiments here uses: its module would "
                "be run. If you trust it, name its package in $SEG_JAX_EXPERIMENTS"
            )


def _types(data: Any) -> Iterator[str]:
    if isinstance(data, dict):
        if "type" in data:
            yield str(data["type"])
        data = list(data.values())
    if isinstance(data, list):
        for item in data:
            yield from _types(item)
