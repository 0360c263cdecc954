"""Upload releases to the Hugging Face hub, and download them from it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seg_jax import checks
from seg_jax.pretrained import release

_CARD_OF_HUB = "README.md"  # shown by the hub


def push(folder: Path, repo: str, *, private: bool = False, endpoint: str | None = None) -> str:
    """Upload a release to a model repository of the hub, in one commit; return its address.

    The repository is created if it does not exist. The token is
    that of `hf auth login` or $HF_TOKEN.

    Args:
      folder: of the release.
      repo: "owner/name".
      private: whether a new repository is visible to its owner only.
      endpoint: of the hub; None: $HF_ENDPOINT, or huggingface.co.

    Raises:
      UserError: the folder holds no valid release, or the hub refuses.
    """
    import huggingface_hub as hub

    release.load(folder)  # nothing damaged is uploaded
    operations: list[hub.CommitOperationAdd | hub.CommitOperationDelete] = [
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
    """Download a release from the hub and check it; an interrupted download is resumed.

    Args:
      repo: "owner/name".
      out: folder that receives the release's files, and no others.
      revision: branch, tag or commit; None: the newest.
      endpoint: of the hub; None: $HF_ENDPOINT, or huggingface.co.

    Raises:
      UserError: `out` holds something else, the hub refuses, or there is no valid release.
    """
    import huggingface_hub as hub

    release.prepare(out)
    api = hub.HfApi(endpoint=endpoint)
    with _hub_errors(repo):
        # Queried first: without a connection, the download alone would accept what is in `out`.
        found = api.model_info(repo, revision=revision)
        files = found.siblings or ()
        names = [file.rfilename for file in files if file.rfilename in release.FILES]
        if not {release.WEIGHTS, release.CONFIG} <= set(names):
            raise checks.UserError(
                f"{repo} is not a release of seg_jax: it lacks {release.WEIGHTS} or "
                f"{release.CONFIG}"
            )
        api.snapshot_download(repo, revision=found.sha, local_dir=out, allow_patterns=names)
    for name in set(release.FILES) - set(names):
        (out / name).unlink(missing_ok=True)  # of an earlier release
    release.load(out)


@contextmanager
def _hub_errors(repo: str) -> Iterator[None]:
    """Turn the exceptions of the hub's client into a UserError of one line."""
    try:
        yield
    except checks.UserError:
        raise
    except Exception as error:  # the client's types, and those of the HTTP library of its version
        told = [str(part) or type(part).__name__ for part in (error, error.__cause__) if part]
        reason = " ".join(": ".join(dict.fromkeys(told)).split())
        raise checks.UserError(f"Hugging Face hub, {repo}: {reason}") from error
