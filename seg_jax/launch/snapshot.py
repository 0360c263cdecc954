"""A copy of the source in the run folder, so that a queued job does not see later edits."""

import dataclasses
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from seg_jax import checks, files
from seg_jax.results import provenance

CHECKOUT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Source:
    """The code that a job runs.

    Attributes:
      folder: the copy.
      revision: commit it was taken from.
      changed: tracked files differed from it; the copy has the changes, RUN/launch/source.diff too.
    """

    folder: Path
    revision: str
    changed: bool


@dataclasses.dataclass(frozen=True)
class State:
    """A checkout, before it is copied.

    Attributes:
      revision: commit.
      changed: tracked files that differ from it.
      untracked: Python files of the package or the experiments that git does not know.
    """

    revision: str
    changed: tuple[str, ...]
    untracked: tuple[str, ...]


def describe(checkout: Path) -> State:
    """Return what `take` would copy, and what it would not.

    Raises:
      UserError: it is no git checkout.
    """
    revision, _ = provenance.git_state(checkout)
    if revision is None:
        raise _no_checkout(checkout)
    changed = _git(checkout, "diff", "--name-only", "-z", revision)
    others = _git(
        checkout, "ls-files", "-z", "--others", "--exclude-standard", "--",
        ":(glob)seg_jax/**/*.py", ":(glob)experiments/**/*.py",
    )  # fmt: skip
    names = [tuple(os.fsdecode(found).split("\0")[:-1]) for found in (changed, others)]
    return State(revision, *names)


def take(checkout: Path, target: Path) -> Source:
    """Copy the tracked files of a checkout as they are now: `git archive`, and the diff applied.

    Args:
      checkout: top folder of the working tree.
      target: RUN/launch; receives source/ and, if files differ from the commit, source.diff.

    Raises:
      UserError: it is no git checkout, or the diff does not apply.
    """
    revision, changed = provenance.git_state(checkout)
    if revision is None:
        raise _no_checkout(checkout)
    folder = target / "source"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(_git(checkout, "archive", revision))) as archive:
        archive.extractall(folder, filter="data")
    (target / "source.diff").unlink(missing_ok=True)
    if changed:
        diff = _git(checkout, "diff", "--binary", revision)
        files.write_bytes(target / "source.diff", diff)
        # Below another checkout git would take the paths for that one's and skip them silently.
        environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.resolve().parent)}
        done = subprocess.run(
            ["git", "apply", "-"], cwd=folder, input=diff, capture_output=True, env=environment
        )
        if done.returncode:
            raise checks.UserError(
                f"the changes of {checkout} do not apply to {revision[:12]}: commit them; "
                f"{done.stderr.decode(errors='replace').strip()}"
            )
    return Source(folder, revision, bool(changed))


def _no_checkout(checkout: Path) -> checks.UserError:
    return checks.UserError(
        f"{checkout} is no git checkout, so that its source cannot be copied for the job: "
        "launch from a clone"
    )


def _git(checkout: Path, *args: str) -> bytes:
    done = subprocess.run(["git", "-C", str(checkout), *args], capture_output=True)
    if done.returncode:
        message = done.stderr.decode(errors="replace").strip()
        raise checks.UserError(f"git {args[0]} in {checkout}: {message}")
    return done.stdout
