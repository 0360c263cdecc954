"""Clusters, jobs, preflight, the copy of the source, and what `jobs`, `logs`, `cancel` ask for."""

import dataclasses
import json
import os
import signal
import subprocess
import threading
import types
from pathlib import Path

import pytest

from seg_jax import checks, experiment, search_space
from seg_jax.cli import launch as verb
from seg_jax.launch import clusters, job, memory, preflight, slurm, snapshot, start


def git(folder, *args):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", folder, *identity, *args], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "checkout"
    (folder / "seg_jax").mkdir(parents=True)
    (folder / "seg_jax" / "a.py").write_text("first\n")
    (folder / "b.bin").write_bytes(bytes(range(256)))
    (folder / ".gitignore").write_text("runs\n")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")
    return folder


def files(folder):
    found = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_the_copy_is_the_tracked_files_as_they_are_now(checkout):
    """Also where the run folder is inside the checkout, as runs/NAME is."""
    target = checkout / "runs" / "net" / "launch"
    before = files(checkout)
    clean = snapshot.take(checkout, target)
    assert not clean.changed and files(clean.folder) == before
    (checkout / "seg_jax" / "a.py").write_text("second\n")
    (checkout / "b.bin").write_bytes(bytes(range(255, -1, -1)))
    (checkout / "untracked").write_text("not copied")
    source = snapshot.take(checkout, target)
    assert source.changed and source.revision == clean.revision
    copied = files(source.folder)
    assert copied["seg_jax/a.py"] == b"second\n" and copied["b.bin"][0] == 255
    assert "untracked" not in copied
    (checkout / "seg_jax" / "a.py").write_text("third\n")  # a later edit
    assert files(source.folder) == copied


def test_no_checkout_is_named(tmp_path):
    with pytest.raises(checks.UserError, match="launch from a clone"):
        snapshot.take(tmp_path, tmp_path / "launch")


@pytest.mark.parametrize(
    "text, minutes",
    [("90m", 90), ("24h", 1440), ("2d", 2880), ("1-12:00:00", 2160), ("0:30:01", 31)],
)
def test_times(text, minutes):
    assert job.minutes(text) == minutes


def test_time_that_is_none():
    with pytest.raises(checks.UserError, match="write 90m, 24h"):
        job.minutes("24")


def test_words_of_a_job():
    found = job.of(["net", "--a.b", "1"], None, job.Resources())
    assert found.words == ("train", "net", "--a.b", "1") and found.run == Path("runs/net")
    assert job.of(["reproduce", "quick"], None, job.Resources()).run == Path("runs/quick")
    sweep = job.of(["sweep", "net", "--space", "m:s"], None, job.Resources(nodes=2))
    assert sweep.run == Path("runs/sweeps/net") and "--distributed" not in sweep.command()
    assert job.Job((), Path("runs/Deep_Lab v3+"), job.Resources()).name == "deep-lab-v3"
    with pytest.raises(checks.UserError, match="names nothing to train"):
        job.of(["train", "--steps"], None, job.Resources())


def test_clusters(tmp_path):
    file = tmp_path / "clusters.toml"
    assert clusters.load("slurm", file=file) == clusters.Cluster("slurm")
    file.write_text('[a]\nengine = "slurm"\n[b]\nengine = "slurm"\npartition = "p"\n')
    assert clusters.load("slurm", "b", file).partition == "p"
    with pytest.raises(checks.UserError, match=r"several clusters of slurm: --cluster a\|b"):
        clusters.load("slurm", file=file)
    with pytest.raises(checks.UserError, match="did you mean"):
        clusters.load("slurm", "bb", file)
    file.write_text('[a]\nengine = "slurm"\npartitions = "p"\n')
    with pytest.raises(checks.UserError, match="did you mean partition"):
        clusters.load("slurm", file=file)
    file.write_text("[a\n")
    with pytest.raises(checks.UserError, match="clusters.toml"):
        clusters.load("slurm", file=file)


@pytest.mark.parametrize(
    "resources, engine, devices",
    [
        ({"nodes": 2, "gpus": 8}, "slurm", 16),
        ({"tasks_per_node": 2}, "slurm", 2),
        ({"accelerators": "H100:8", "nodes": 2}, "sky", 16),
        ({"accelerators": "tpu-v6e-8"}, "sky", 8),
        ({"accelerators": "tpu-v5p-8"}, "sky", 4),  # Google counts its cores
        ({"accelerators": "tpu-v6e-slice", "topology": "4x4"}, "gke", 16),
    ],
)
def test_devices(resources, engine, devices):
    wanted = job.Job(("train", "x"), Path("runs/x"), job.Resources(**resources))
    assert preflight.device_count(wanted, clusters.Cluster(engine)) == devices


@pytest.mark.parametrize(
    "resources, words, devices",
    [
        ({"gpus": 8}, (), 8),
        ({"gpus": 8}, ("--workers", "8"), 1),
        ({"gpus": 8, "tasks_per_node": 2}, (), 4),
        ({"gpus": 2, "tasks_per_node": 4}, (), 1),
    ],
)
def test_devices_of_a_sweep_s_trial(resources, words, devices):
    wanted = job.Job(("sweep", "x", *words), Path("runs/x"), job.Resources(**resources))
    assert preflight.device_count(wanted, clusters.Cluster("slurm")) == devices


def found(tmp_path, entry, without=(), **resources):
    """Return the preflight of deeplab_v3_resnet50_voc on v6e-8 by level and first word."""
    survey = tmp_path / "targets.json"
    name = "deeplab_v3_resnet50_voc"
    base = {
        "experiment": name, "target": "v6e-8", "mode": "train", "status": "compiled", "batch": 16,
        "precision": "float32", "accumulate": 1, "fits": True, "peak_bytes": 2**30,
        "memory_bytes": 2**35, "roofline_seconds": 0.03,
    }  # fmt: skip
    whole = {**base, **entry}
    survey.write_text(json.dumps([{key: whole[key] for key in whole if key not in without}]))
    chosen = experiment.get(name)
    resources = job.Resources(accelerators="tpu-v6e-8", **resources)
    wanted = job.Job(("train", name), Path("runs/x"), resources)
    cluster = clusters.Cluster("sky", mounts={"/runs": "gs://b"}, data="/data")
    findings = preflight.check(wanted, cluster, [chosen], survey=survey, checkout=None)
    return {finding.text.split(":")[0].split()[0]: finding for finding in findings}


def test_preflight_reads_what_was_compiled(tmp_path):
    ok = found(tmp_path, {})
    assert ok["memory"].level == "ok" and "1.0 of 32.0 GiB" in ok["memory"].text
    assert ok["time"].level == "ok" and "0.5 min at the very least" in ok["time"].text
    assert ok["data"].level == "unknown"
    other = found(tmp_path, {"precision": "bfloat16"})
    assert other["memory"].level == "unknown"
    entry = {"fits": False, "status": "does not fit", "remedy": "--train.accumulate 2"}
    full = found(tmp_path, entry)["does"]
    assert full.level == "wrong" and full.text.endswith("--train.accumulate 2")
    refused = found(tmp_path, {"status": "error", "error": "no tiles"})
    assert refused["memory"].level == "unknown" and "no tiles" in refused["memory"].text
    crashed = found(tmp_path, {"status": "error", "error": "code -11"}, without=("batch",))
    assert crashed["memory"].level == "unknown" and "code -11" in crashed["memory"].text
    slow = found(tmp_path, {"roofline_seconds": 5.0}, minutes=60)["time"]
    assert slow.level == "wrong" and "--train.checkpoint-every less" in slow.text


def compiled(wanted, target, **entry):
    """Stand in for a compiler: what it is asked for, and an outcome."""
    train = wanted.train
    return {
        "experiment": wanted.name, "target": target, "status": "does not fit", "fits": False,
        "batch": train.batch_size, "peak_bytes": 2**35, "memory_bytes": 2**34,
        "remedy": "--train.remat blocks",
    }  # fmt: skip


def texts(words, engine="slurm", *, experiments=(), cluster=None, checkout=None, **options):
    resources = {name: options.pop(name) for name in list(options) if name in FIELDS}
    wanted = job.Job(tuple(words), Path("runs/x"), job.Resources(**resources))
    cluster = cluster or clusters.Cluster(engine)
    found = preflight.check(wanted, cluster, experiments, checkout=checkout, **options)
    return [f"{finding.level} {finding.text}" for finding in found]


FIELDS = {field.name for field in dataclasses.fields(job.Resources)}
TINY = ("train", "unet_synthetic")


def test_another_recipe_than_the_one_that_was_compiled_is_compiled():
    cluster = clusters.Cluster("slurm", accelerator="A100", env={"SEG_JAX_DATA": "/there"})
    chosen = experiment.get("unet_synthetic")
    wider = dataclasses.replace(chosen, model=dataclasses.replace(chosen.model, width=2.0))
    slower = dataclasses.replace(chosen, optim=dataclasses.replace(chosen.optim, base_lr=1e-4))
    assert memory.changes(chosen) == memory.changes(slower) == []
    assert memory.changes(wider) == ["model.width"]
    found = texts(TINY, cluster=cluster, experiments=[wider], compile_one=compiled, gpus=8)
    assert any(
        "wrong does not fit: 32.0 of 16.0 GiB" in text and "for a100x8: --train.remat" in text
        for text in found
    )
    found = texts(TINY, cluster=cluster, experiments=[wider], gpus=8)
    assert any(
        text.startswith("unknown memory: unet_synthetic with other model.width has not been")
        for text in found
    )
    assert any("`accelerator` in clusters" in text for text in texts(TINY, experiments=[chosen]))


@pytest.mark.parametrize(
    "accelerators, devices, name",
    [
        ("tpu-v6e-slice", 16, "v6e-16"), ("tpu-v5p-slice", 4, "v5p-8"), ("H100:8", 16, "h100x16"),
        ("tpu-v5litepod-8", 8, "v5e-8"), ("tpu-v4-podslice", 8, "v4-16"), ("L4:1", 1, ""),
    ],
)  # fmt: skip
def test_the_target_of_a_job_s_machines(accelerators, devices, name):
    wanted = job.Job(TINY, Path("x"), job.Resources(accelerators=accelerators))
    assert memory.target_name(wanted, clusters.Cluster("gke"), devices) == name


def test_what_the_job_would_not_get_is_named(checkout):
    assert texts(TINY, checkout=checkout)[0].startswith("ok source: ")
    (checkout / "seg_jax" / "a.py").write_text("second\n")
    assert texts(TINY, checkout=checkout)[0].endswith("and the changes of 1 file(s)")
    (checkout / "notes.py").write_text("")  # is no part of the program
    assert texts(TINY, checkout=checkout)[0].startswith("ok")
    (checkout / "seg_jax" / "new.py").write_text("")
    assert "wrong source: " in texts(TINY, checkout=checkout)[0]
    assert "seg_jax/new.py would be missing: `git add`" in texts(TINY, checkout=checkout)[0]
    git(checkout, "add", "-A")
    copy = snapshot.take(checkout, checkout / "runs" / "net" / "launch")
    assert (copy.folder / "seg_jax" / "new.py").exists()
    assert "launch from a clone" in texts(TINY, checkout=checkout.parent)[0]


def test_where_and_how_long():
    assert "wrong time: SLURM warns 120 s before" in " ".join(texts(TINY, minutes=4))
    lost = texts(TINY, "sky", spot=True)
    assert "wrong run folder: /runs is on no mount" in lost[0] and "`mounts`" in lost[0]
    bucket = clusters.Cluster("sky", runs="gs://b/runs")
    assert not any("run folder" in text for text in texts(TINY, cluster=bucket, spot=True))
    for options in ({"nodes": 2}, {"accelerators": "tpu-v6e-16"}):
        assert "wrong run folder: only one" in texts(TINY, cluster=bucket, **options)[0]
    mounted = clusters.Cluster("sky", mounts={"/runs": "gs://b/runs"})
    voc = [experiment.get("deeplab_v3_resnet50_voc")]
    nowhere = texts(TINY, cluster=mounted, experiments=voc, nodes=4, accelerators="H100:4")
    assert any(
        "wrong data: nothing says where" in text and "--data.root" in text for text in nowhere
    )


def test_one_process_or_several():
    assert "wrong evaluate runs in one process" in texts(["evaluate", "runs/x"], nodes=2)[0]
    assert "--storage" in texts(["sweep", "x"], nodes=2)[0]
    assert not any("wrong" in text for text in texts(["sweep", "x", "--storage=pg://a"], nodes=2))


def test_a_sweep_is_checked_as_a_training_is():
    chosen = experiment.get("unet_synthetic")
    space = search_space.Space({"train.batch_size": search_space.Choice((8, 12))})
    words = ["sweep", "unet_synthetic", "--workers", "4"]
    options = {"experiments": [chosen], "space": space, "gpus": 8, "cluster": elsewhere()}
    assert "ok batches [8, 12] of the space divide among 1 device(s)" in texts(words, **options)
    alone = " ".join(texts(words[:2], **options))
    assert "wrong batch 12 does not divide among 8 device(s)" in alone and "in the space's" in alone
    # The same words as the verb's own: a mistake is seen before anything is submitted.
    found, parsed = verb._experiments((*words, "--space", "experiments.sweeps:poly_lr"))
    assert found[0].name == "unet_synthetic" and parsed.fields
    for wrong, message in (
        (["--space", "experiments.sweeps:poly"], "did you mean poly_lr"),
        (["--space", "experiments.sweeps:poly_lr", "--repeats", "2"], "--pruner wilcoxon"),
        ([], "--space is missing"),
    ):
        with pytest.raises(checks.UserError, match=message):
            verb._experiments((*words, *wrong))


def elsewhere():
    return clusters.Cluster("slurm", env={"SEG_JAX_DATA": "/on/the/cluster"})


def test_every_experiment_of_a_suite_is_checked():
    found, _ = verb._experiments(("reproduce", "quick", "--data", "/d"))
    assert len(found) > 3 and all(str(each.data.root) == "/d" for each in found)
    said = texts(["reproduce", "quick"], experiments=found, gpus=7, cluster=elsewhere())
    assert sum("does not divide among 7" in text for text in said) == len(found)
    assert all(any(text.startswith(f"wrong {each.name}: ") for text in said) for each in found)


def test_a_mistake_stops_the_launch(tmp_path):
    wanted = job.Job(("train", "x"), tmp_path / "run", job.Resources())
    finding = preflight.Finding("wrong", "batch 3: use 4")
    with pytest.raises(checks.UserError, match="batch 3: use 4"):
        start.start(wanted, clusters.Cluster("slurm"), [finding])
    assert not (tmp_path / "run").exists()


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Stand-ins for the engines' commands; returns the list of what was asked of them."""
    log = tmp_path / "asked"
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sky", "kubectl", "scancel", "squeue"):
        answer = 'echo "7 RUNNING"' if name == "squeue" else ""
        script = f'#!/bin/sh\necho {name} "$@" >> {log}\n{answer}\n'
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return lambda: log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize("engine", ["sky", "gke"])
def test_from_launch_to_cancel(engine, checkout, tmp_path, commands):
    run = tmp_path / "runs" / "net"
    resources = job.Resources(accelerators="tpu-v6e-slice", topology="2x2")
    wanted = job.Job(("train", "net"), run, resources)
    cluster = clusters.Cluster(engine, image="image")
    start.start(wanted, cluster, [], checkout=checkout, say=str)
    file = run / "launch" / {"sky": "task.yaml", "gke": "jobset.yaml"}[engine]
    submitted = {
        "sky": f"sky jobs launch --yes --detach-run --name net {file}",
        "gke": f"kubectl apply --filename {file}",
    }
    assert commands() == [submitted[engine]]
    assert (run / "launch" / "source" / "seg_jax" / "a.py").exists()
    ((listed, record),) = start.launched(tmp_path / "runs")
    assert listed == run and record["engine"] == engine and record["ids"] == ["net"]
    assert record["source"]["revision"] and not record["source"]["changed"]
    follow = " ".join(start.log_command(run, follow=True))
    assert (
        follow
        == {
            "sky": "sky jobs logs --name net",
            "gke": "kubectl logs --namespace default --selector "
            "jobset.sigs.k8s.io/jobset-name=net --tail=-1 --follow",
        }[engine]
    )
    start.cancel(run)
    assert commands()[-1].split()[:3] == {
        "sky": ["sky", "jobs", "cancel"], "gke": ["kubectl", "delete", "jobset"]
    }[engine]  # fmt: skip


def test_slurm_states_and_logs(tmp_path, commands):
    run = tmp_path / "net"
    (run / "launch").mkdir(parents=True)
    record = {"engine": "slurm", "ids": ["7", "8"], "namespace": ""}
    (run / "launch" / "job.json").write_text(json.dumps(record))
    assert start.state(record) == {"7": "RUNNING", "8": "ended"}
    with pytest.raises(checks.UserError, match="no log yet: 7 is RUNNING"):
        start.log_command(run, follow=True)
    start.cancel(run)
    assert commands()[-1] == "scancel 7 8"
    wanted = job.Job(("train", "net"), run, job.Resources())
    with pytest.raises(checks.UserError, match="launched already"):
        start.start(wanted, clusters.Cluster("slurm"), [])


def test_a_task_ends_with_the_code_of_the_verb():
    with pytest.raises(SystemExit) as ended:
        slurm.Task("python -c 'raise SystemExit(75)'")()
    assert ended.value.code == 75
    assert slurm.Task("true")() == 0
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.mark.parametrize(
    "code, also, outcome",
    [(75, 0, "requeued"), (0, 0, 0), (2, 0, 2), (75, signal.SIGTERM, 75)],
)
def test_a_warning_while_the_task_waits(code, also, outcome, monkeypatch, capsys):
    """submitit asks for what is requeued in the handler of the signal, inside the task's wait.

    After SIGTERM SLURM requeues the job itself, or somebody cancelled it.
    """
    made = types.SimpleNamespace(DelayedSubmission=lambda task: (task.command, task._pid))
    monkeypatch.setattr(slurm, "_submitit", lambda: types.SimpleNamespace(helpers=made))
    task = slurm.Task(f"sh -c 'sleep 0.3; exit {code}'")
    asked = []

    def handler(number, _frame):
        asked.append(task.checkpoint())
        raise KeyboardInterrupt  # submitit ends the process here

    before = [signal.signal(number, handler) for number in (signal.SIGUSR1, signal.SIGTERM)]
    timers = [threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGUSR1])]
    timers += [threading.Timer(0.2, os.kill, [os.getpid(), also])]  # 0 is none
    for timer in timers:
        timer.start()
    try:
        with pytest.raises(KeyboardInterrupt if outcome == "requeued" else SystemExit) as ended:
            task()
    finally:
        for timer in timers:
            timer.join()
        for number, handled in zip((signal.SIGUSR1, signal.SIGTERM), before, strict=True):
            signal.signal(number, handled)
    if outcome == "requeued":
        assert asked == [(task.command, None)]
    else:
        assert ended.value.code == outcome and not asked
    assert f"the verb ended with code {code}" in capsys.readouterr().out


def test_not_launched(tmp_path):
    with pytest.raises(checks.UserError, match="was not launched"):
        start.cancel(tmp_path)
