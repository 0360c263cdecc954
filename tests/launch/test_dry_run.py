"""Exactly what would be submitted, for the three engines, against committed files.

`UPDATE_GOLDEN=1` writes them anew.
"""

import importlib.util
import os
from pathlib import Path

import pytest

from seg_jax import checks
from seg_jax.cli import launch as verb
from seg_jax.launch import clusters, gke, job, sky, slurm, snapshot, start

HERE = Path(__file__).parent
RUN = Path("/work/runs/deeplab")
SOURCE = RUN / "launch" / "source"


def make(engine, words=("train", "deeplab_v3_resnet101_voc"), **resources):
    cluster = clusters.load(engine, file=clusters.EXAMPLE)
    return job.Job(words, RUN, job.Resources(**resources)), cluster


def assert_golden(text, name):
    path = HERE / "golden" / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_slurm_is_asked_for():
    wanted, cluster = make("slurm", nodes=2, gpus=8, cpus=16)
    assert slurm.parameters(wanted, cluster, SOURCE) == {
        "job_name": "deeplab",
        "nodes": 2,
        "ntasks_per_node": 1,
        "cpus_per_task": 16,
        "gpus_per_node": 8,
        "time": 1440,
        "partition": "gpu",
        "account": "vision",
        "signal_delay_s": 120,
        "stderr_to_stdout": True,
        "setup": [
            "module load cuda/12",
            "source ~/venvs/seg_jax/bin/activate",
            "export PYTHONPATH=/work/runs/deeplab/launch/source${PYTHONPATH:+:$PYTHONPATH}",
            "export PYTHONSAFEPATH=1",
            "export SUBMITIT_PREEMPT_SIGNAL=USR1",
            "export SEG_JAX_DATA=/datasets",
        ],
        "srun_args": ["--kill-on-bad-exit=0"],
        "additional_parameters": {"requeue": True, "mem": "64G", "constraint": "h100"},
    }
    assert wanted.command() == (
        "python -P -m seg_jax train deeplab_v3_resnet101_voc --workdir /work/runs/deeplab "
        "--distributed"
    )


@pytest.mark.skipif(
    importlib.util.find_spec("submitit") is None,
    reason="submitit is an extra: scripts/test_launch.sh",
)
def test_slurm_script():
    wanted, cluster = make("slurm", nodes=2, gpus=8, cpus=16)
    assert_golden(start.dry_run(wanted, cluster), "job.sbatch")


def test_sky_task():
    wanted, cluster = make("sky", accelerators="tpu-v6e-8", spot=True)
    assert_golden(start.dry_run(wanted, cluster), "task.yaml")


def test_sky_task_of_two_hosts():
    wanted, cluster = make("sky", accelerators="H100:8", nodes=2)
    assert_golden(start.dry_run(wanted, cluster), "two_hosts.yaml")


def test_gke_jobset():
    wanted, cluster = make("gke", accelerators="tpu-v6e-slice", topology="4x4", spot=True)
    assert_golden(start.dry_run(wanted, cluster), "jobset.yaml")


def test_yaml_is_read_back_as_the_same_data():
    yaml = pytest.importorskip("yaml")
    for engine, module, function in (("sky", sky, "task"), ("gke", gke, "jobset")):
        wanted, cluster = make(engine, accelerators="tpu-v6e-16", topology="4x4")
        data = getattr(module, function)(wanted, cluster, SOURCE)
        assert yaml.safe_load(module.render(wanted, cluster, SOURCE)) == data
    odd = {"a": "yes", "b": "1e3", "c": "x: y", "d": "", "e": [[1, {"f": None}], []], "on": True}
    assert yaml.safe_load(sky.yaml_text(odd)) == odd


def test_a_pod_is_several_hosts():
    for accelerators, several in (
        ("tpu-v6e-8", False),
        ("tpu-v5litepod-16", True),
        ("A100:8", False),
    ):
        wanted, cluster = make("sky", accelerators=accelerators)
        assert ("--distributed" in sky.render(wanted, cluster, SOURCE)) == several


def test_what_gke_lacks_is_named():
    wanted, cluster = make("gke", accelerators="tpu-v6e-slice")
    with pytest.raises(checks.UserError, match="--topology"):
        start.dry_run(wanted, cluster)
    wanted, _ = make("gke", accelerators="tpu-v6e-slice", topology="4x4")
    with pytest.raises(checks.UserError, match="`image` in clusters.toml"):
        start.dry_run(wanted, clusters.Cluster("gke"))


def test_the_verb_prints_the_task_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEG_JAX_CLUSTERS", str(clusters.EXAMPLE))
    clean = snapshot.State("0123456789abcdef", (), ())  # whatever this checkout is
    monkeypatch.setattr(snapshot, "describe", lambda checkout: clean)
    words = ["deeplab_v3_resnet101_voc", "--on", "sky", "--accelerators=tpu-v6e-8", "--dry-run"]
    assert verb.launch(words) == 0
    out = capsys.readouterr().out
    assert "# ok      batch 16 divides among 8 device(s)" in out and "num_nodes: 1" in out
    # A batch that does not divide is said, and is the exit code.
    assert verb.launch([*words, "--train.batch-size", "20"]) == 1
    assert "--train.batch-size 16 or 24" in capsys.readouterr().out
    assert not any(tmp_path.iterdir())


def test_without_submitit_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    wanted, cluster = make("slurm")
    with pytest.raises(checks.UserError, match="needs submitit: pip install submitit"):
        start.dry_run(wanted, cluster)
