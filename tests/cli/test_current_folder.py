"""Nothing in the folder in which a command is typed is run, unless the user names it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hostile(tmp_path):
    """A folder with modules of the names that a command imports."""
    folder = tmp_path / "theirs"
    (folder / "experiments").mkdir(parents=True)
    for name in ("tyro", "numpy", "json", "experiments/__init__", "experiments/fcn"):
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    return folder


def seg_jax(folder, *words, command=("-m", "seg_jax"), **environment):
    return subprocess.run(
        [sys.executable, *command, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_of_the_current_folder_only_what_the_user_names_is_run(hostile):
    (hostile / "mine").mkdir()
    (hostile / "mine" / "extra.py").write_text(
        "from seg_jax import experiment\n"
        "from seg_jax.experiments import unet\n"
        'experiment.register("mine_voc")(unet.unet_voc)\n'
    )
    done = seg_jax(hostile, "show", "mine_voc", "--json", SEG_JAX_EXPERIMENTS="mine")
    assert done.returncode == 0, done.stderr
    assert '"seg_jax.models.unet.UNet"' in done.stdout
    assert done.stderr.startswith(f"note: experiments are those of {ROOT / 'experiments'}, not ")
    assert not (hostile.parent / "ran").exists()


def test_a_package_that_is_not_there_is_named_in_one_line(hostile):
    done = seg_jax(hostile, "show", "unet_voc", SEG_JAX_EXPERIMENTS="mien")
    assert done.returncode == 2
    note, error = done.stderr.splitlines()
    assert error.startswith("error: SEG_JAX_EXPERIMENTS") and "'mien'" in error


def test_an_installed_copy_has_its_experiments_inside(tmp_path):
    """As the wheel lays them out: seg_jax/_experiments, and a folder `experiments` of others."""
    shutil.copytree(ROOT / "seg_jax", tmp_path / "seg_jax", ignore=lambda *_: ["__pycache__"])
    shutil.copytree(ROOT / "experiments", tmp_path / "seg_jax" / "_experiments")
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "__init__.py").write_text("raise SystemExit('run')\n")
    code = "from seg_jax import experiment; print(experiment.folder()); print(experiment.names())"
    done = seg_jax(tmp_path, command=("-P", "-c", code), PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path / 'seg_jax' / '_experiments'}\n")
    assert "'unet_voc'" in done.stdout
