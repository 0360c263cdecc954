"""`load`: which reader a file or folder is for."""

from pathlib import Path

from seg_jax import checkpoint, checks, run_folder
from seg_jax.pretrained.bundle import Pretrained

RELEASE_WEIGHTS = "model.safetensors"  # what a folder of our release format holds, see `release`


def load(path: str | Path, name: str | None = None) -> Pretrained:
    """Return the network that a file or folder holds, with its weights and its preprocessing.

    Args:
      path: a folder of our release format, or a run folder (its newest checkpoint).
      name: of published weights, in the catalogue.

    Raises:
      UserError: nothing is there, or it is of none of these kinds.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise checks.UserError(f"{path}: no such file or folder")
    if (path / RELEASE_WEIGHTS).is_file():
        from seg_jax.pretrained import release

        return release.load(path)
    if (path / run_folder.CONFIG).is_file():
        experiment, variables, _ = checkpoint.restore_variables(path)
        return Pretrained(experiment, variables)
    raise checks.UserError(
        f"{path} holds no weights that can be read: give a run folder ({run_folder.CONFIG}, "
        f"checkpoints/) or a release ({RELEASE_WEIGHTS}, {run_folder.CONFIG})"
    )
