"""Releases: made of a network with weights, sent to the Hugging Face hub, and fetched from it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seg_jax import checks, pretrained
from seg_jax.pretrained import catalogue, release
from seg_jax.report.card import card
from seg_jax.results import files

_CARD_OF_HUB = "README.md"  # the hub shows this one


def export(
    source: str | Path, out: Path | None = None, *, name: str | None = None, licence: str = ""
) -> Path:
    """Write the release of a run, or of published weights; see `pretrained.release`.

    Args:
      source: what `pretrained.load` takes: a run folder, mostly.
      out: the release's folder; None: `release` in the run folder.
      name: of published weights, where a file does not tell.
      licence: of the weights, an SPDX identifier; empty: as published, "unknown" of a run.

    Returns:
      The release's folder.

    Raises:
      UserError: there is nothing to load, or `out` is missing or holds something else.
    """
    loaded = pretrained.load(source, name)
    folder = Path(source).expanduser()
    if out is None:
        if not folder.is_dir():
            raise checks.UserError(f"{source} is no run folder: say where to with --out FOLDER")
        out = folder / "release"
    entry = catalogue.get(loaded.name) if loaded.name else None
    if entry and not licence:
        licence = entry.licence
    record = folder / files.FILE
    text = card(
        loaded.experiment,
        loaded.labels,
        files.load(record) if record.is_file() else None,
        licence=licence or "unknown",
        name=loaded.name,
        origin=_origin(entry) if entry else "",
    )
    release.save(
        loaded,
        out,
        licence=licence or "unknown",
        card=text,
        record=record.read_bytes() if record.is_file() else None,
    )
    return out


def _origin(entry: catalogue.Entry) -> str:
    """Say where published weights come from, for a card."""
    leak = {
        "no": "VOC 2012's val images were not trained on.",
        "yes": "VOC 2012's val images were trained on: a score on them says nothing.",
        "unknown": "Whether VOC 2012's val images were trained on is not known.",
    }[entry.leak]
    score = f" Published: {entry.score}." if entry.score else ""
    return (
        f"Converted from {entry.file} ({entry.host}), trained on {entry.trained_on}. {leak}{score}"
    )


def push(folder: Path, repo: str, *, private: bool = False, endpoint: str | None = None) -> str:
    """Upload a release to a model repository of the hub, in one commit; return its address.

    The repository is made if it is not there. The token is that of `hf auth login` or $HF_TOKEN.

    Args:
      folder: of the release.
      repo: "owner/name".
      private: whether a repository that is made is seen by its owner only.
      endpoint: of the hub; None: $HF_ENDPOINT, or huggingface.co.

    Raises:
      UserError: the folder holds no sound release, or the hub refuses.
    """
    import huggingface_hub as hub

    release.load(folder)  # nothing damaged is published
    operations = [
        hub.CommitOperationAdd(path_in_repo=file, path_or_fileobj=folder / file)
        for file in release.FILES
        if (folder / file).is_file()
    ]
    operations.append(hub.CommitOperationAdd(_CARD_OF_HUB, folder / release.CARD))
    api = hub.HfApi(endpoint=endpoint)
    with _hub_errors(repo):
        if not api.repo_exists(repo):
            api.create_repo(repo, private=private)
        if not (folder / release.RECORD).is_file() and api.file_exists(repo, release.RECORD):
            operations.append(hub.CommitOperationDelete(release.RECORD))  # of earlier weights
        made = api.create_commit(repo, operations, commit_message=f"Release {folder.name}")
    return made.commit_url


def pull(repo: str, out: Path, *, revision: str | None = None, endpoint: str | None = None) -> None:
    """Download a release from the hub and check it; a download that was cut off goes on.

    Args:
      repo: "owner/name".
      out: folder that receives the release's files, and no others.
      revision: branch, tag or commit; None: the newest.
      endpoint: of the hub; None: $HF_ENDPOINT, or huggingface.co.

    Raises:
      UserError: `out` holds something else, the hub refuses, or what it has is no sound release.
    """
    import huggingface_hub as hub

    release.prepare(out)
    api = hub.HfApi(endpoint=endpoint)
    with _hub_errors(repo):
        # Asked for first: without a connection, the download alone would take what is there.
        found = api.model_info(repo, revision=revision)
        names = [file.rfilename for file in found.siblings if file.rfilename in release.FILES]
        if not {release.WEIGHTS, release.CONFIG} <= set(names):
            raise checks.UserError(
                f"{repo} is no release of seg_jax: it lacks {release.WEIGHTS} or {release.CONFIG}"
            )
        api.snapshot_download(repo, revision=found.sha, local_dir=out, allow_patterns=names)
    for name in set(release.FILES) - set(names):
        (out / name).unlink(missing_ok=True)  # of an earlier release
    release.load(out)


@contextmanager
def _hub_errors(repo: str) -> Iterator[None]:
    """Turn what the hub's client raises into one line."""
    try:
        yield
    except checks.UserError:
        raise
    except Exception as error:  # the client's types, and those of the HTTP library of its version
        told = [str(part) or type(part).__name__ for part in (error, error.__cause__) if part]
        reason = " ".join(": ".join(dict.fromkeys(told)).split())
        raise checks.UserError(f"Hugging Face hub, {repo}: {reason}") from error
