"""The revision is that of the checkout itself, not of whatever repository is around it."""

import subprocess

import pytest

from seg_jax.results import provenance


@pytest.fixture
def checkout(tmp_path):
    def git(*args):
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *args], check=True)

    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-qm", "first")
    return tmp_path


def test_revision_and_whether_files_differ_from_it(checkout):
    revision, dirty = provenance.git_state(checkout)
    assert len(revision) == 40
    assert dirty is False
    (checkout / "untracked").write_text("no part of the code")
    assert provenance.git_state(checkout) == (revision, False)
    (checkout / "file").write_text("two")
    assert provenance.git_state(checkout) == (revision, True)


def test_a_folder_inside_somebody_s_checkout_has_no_revision(checkout):
    (checkout / "site-packages").mkdir()
    assert provenance.git_state(checkout / "site-packages") == (None, None)


def test_no_checkout_and_no_git_have_no_revision(tmp_path, monkeypatch):
    assert provenance.git_state(tmp_path) == (None, None)
    monkeypatch.setenv("PATH", "")
    assert provenance.git_state(tmp_path) == (None, None)


def test_versions_and_device_name_what_runs():
    assert provenance.versions().keys() >= {"python", "jax", "flax", "optax", "numpy", "seg_jax"}
    found = provenance.device()
    assert (found["platform"], found["devices"], found["processes"]) == ("cpu", 4, 1)
