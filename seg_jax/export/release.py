"""Make a release of a network with weights; `pretrained.release` defines the format."""

from pathlib import Path

from seg_jax import checks, pretrained
from seg_jax.export.card import card
from seg_jax.pretrained import catalogue
from seg_jax.pretrained import release as release_format
from seg_jax.results import files as records


def export(
    source: str | Path, out: Path | None = None, *, name: str | None = None, license: str = ""
) -> Path:
    """Write the release of a run, or of published weights; see `pretrained.release`.

    Args:
      source: as for `pretrained.load`, usually a run folder.
      out: the release's folder; None: `release` in the run folder.
      name: of published weights, if the file does not identify them.
      license: of the weights, an SPDX identifier; empty: as published, "unknown" for a run.

    Returns:
      The release's folder.

    Raises:
      UserError: `source` cannot be loaded, `out` is needed, or it holds something else.
    """
    loaded = pretrained.load(source, name)
    folder = Path(source).expanduser()
    if out is None:
        if not folder.is_dir():
            raise checks.UserError(
                f"{source} is not a run folder: give the output folder with --out FOLDER"
            )
        out = folder / "release"
    entry = catalogue.get(loaded.name) if loaded.name else None
    if entry and not license:
        license = entry.license
    record = folder / records.FILE
    text = card(
        loaded.experiment,
        loaded.labels,
        records.load(record) if record.is_file() else None,
        license=license or "unknown",
        name=loaded.name,
        origin=_origin(entry) if entry else "",
    )
    release_format.save(
        loaded,
        out,
        license=license or "unknown",
        card=text,
        record=record.read_bytes() if record.is_file() else None,
    )
    return out


def _origin(entry: catalogue.Entry) -> str:
    """Return the origin of published weights in words, for a card."""
    leak = {
        "no": "VOC 2012's val images were not trained on.",
        "yes": "VOC 2012's val images were trained on: a score on them is not meaningful.",
        "unknown": "Whether VOC 2012's val images were trained on is not known.",
    }[entry.leak]
    score = f" Published: {entry.score}." if entry.score else ""
    return (
        f"Converted from {entry.file} ({entry.host}), trained on {entry.trained_on}. {leak}{score}"
    )
