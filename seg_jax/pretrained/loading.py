"""`load`: choose the reader of a file or folder."""

import importlib
from pathlib import Path
from typing import Any

from seg_jax import checks, overrides, progress
from seg_jax.pretrained import cache, catalogue
from seg_jax.pretrained.formats import state_names
from seg_jax.pretrained.network import Pretrained
from seg_jax.runs import checkpoint as checkpoints
from seg_jax.runs import folder as run_folder

RELEASE_WEIGHTS = "model.safetensors"  # its file makes a folder a release, see `release`
# Suffix of a published file -> the module whose `read` returns its tensors.
READERS = {
    ".caffemodel": "caffe",
    ".index": "tensorflow",  # of a checkpoint
    ".pb": "tensorflow",
    ".tflite": "tflite",
    ".pth": "torch",
    ".pt": "torch",
    ".pth.tar": "torch",
    ".pt.tar": "torch",
    ".ckpt": "torch",
    ".safetensors": "torch",
}


def load(
    path: str | Path,
    name: str | None = None,
    *,
    checkpoint: str = "",
    num_classes: int | None = None,
) -> Pretrained:
    """Return the network that a file or folder holds, with its weights and its preprocessing.

    Args:
      path: a file of published weights, or the catalogue name under which one was imported; a
        folder of our release format; or a run folder.
      name: which published weights a file holds, of the catalogue; None: by its checksum or name.
      checkpoint: of a run: "newest", "best" or a step; empty: the best if it chooses one by
        `train.best_metric`, else the newest.
      num_classes: that the file may have instead of the published number: trained by others.

    Raises:
      UserError: there is no such file, it is of another kind, or not what `name` says.
    """
    path = resolve(path)
    if path.is_dir() and _is_run(path):
        experiment, variables, _ = checkpoints.restore_variables(path, checkpoint)
        return Pretrained(experiment, variables)
    if checkpoint:
        raise checks.UserError(f"--checkpoint {checkpoint}: {path} is no run folder, and has none")
    if path.is_dir():
        return _load_folder(path)
    entry = catalogue.get(name) if name else entry_of(path)
    if entry.experiment is None:
        raise checks.UserError(
            f"{path}: {entry.name} is a classifier, which segments nothing; it initialises a "
            f"training: train NAME --train.init {entry.name}"
        )
    experiment = entry.experiment()
    try:
        return Pretrained(experiment, convert(path, entry, experiment.model), entry.name)
    except checks.UserError:
        if num_classes in (None, getattr(experiment.model, "num_classes", num_classes)):
            raise
        other = overrides.apply(experiment, {"model.num_classes": num_classes})
        try:
            return Pretrained(other, convert(path, entry, other.model, quiet=True), entry.name)
        except checks.UserError:
            pass  # the first error compares with what is published
        raise


def resolve(path: str | Path) -> Path:
    """Return an existing path for a path, or for the catalogue name of imported weights.

    Raises:
      UserError: it is neither.
    """
    found = Path(path).expanduser()
    if found.is_dir():
        checkpoints = sorted(found.glob("*.index"))  # of an archive of TensorFlow's, unpacked
        return checkpoints[0] if len(checkpoints) == 1 else found
    if found.exists():
        return found
    if str(path) in catalogue.names():
        return cache.find(str(path))
    raise checks.UserError(
        f"{path}: no such file or folder, and no published weights of this name "
        "(`python -m seg_jax weights list` prints them)"
    )


def convert(
    path: Path, entry: catalogue.Entry, model: Any, *, quiet: bool = False
) -> dict[str, Any]:
    """Return the variables of a published file; every leaf covered and every tensor used.

    Prefixes that training scripts put before the names are stripped, and said.

    Args:
      path: the file.
      entry: whose conversion it takes.
      model: of its experiment; None: of a classifier.
      quiet: say nothing.

    Raises:
      UserError: the file cannot be read, or holds other weights; it names the file.
    """
    reader = READERS.get("".join(path.suffixes[-2:]), READERS.get(path.suffix))
    if reader is None:
        raise checks.UserError(
            f"{path}: files of published weights end in {', '.join(sorted(READERS))}"
        )
    file_format = importlib.import_module(f"seg_jax.pretrained.formats.{reader}")
    if reader == "torch":
        tensors, told = file_format.read_and_tell(path)
        tensors, done = state_names.unwrap(tensors)
        for sentence in () if quiet else (*told, *done):
            progress.say(f"{path}: {sentence}", error=True)
    else:
        tensors = file_format.read(path)
    try:
        return entry.convert(model, tensors)
    except checks.UserError as error:
        raise checks.UserError(f"{path} as {entry.name}: {error}") from error


def entry_of(path: Path) -> catalogue.Entry:
    """Return the catalogue's entry of a file: an imported one's, else by its checksum or name."""
    name = cache.name_of(path)
    return catalogue.get(name) if name else catalogue.of_file(path)


def _is_run(path: Path) -> bool:
    return (path / run_folder.CONFIG).is_file() and not (path / RELEASE_WEIGHTS).is_file()


def _load_folder(path: Path) -> Pretrained:
    if (path / RELEASE_WEIGHTS).is_file():
        from seg_jax.pretrained import release

        return release.load(path)
    raise checks.UserError(
        f"{path} holds no weights that can be read: give a run folder ({run_folder.CONFIG}, "
        f"checkpoints/) or a release ({RELEASE_WEIGHTS}, {run_folder.CONFIG})"
    )
