"""Runs on a bucket: fsspec's own store in memory stands in for one.

`scripts/test_buckets.sh` does the same with emulators of the services.
"""

import json
import os
import shutil
import threading
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from seg_jax import checks, files
from seg_jax.cli import parsing, predict
from seg_jax.cli import train as train_verb
from seg_jax.runs import bucket

URL = "gs://bucket/runs/net"
EMULATED = os.environ.get("SEG_JAX_TEST_BUCKETS", "").split()  # URLs of folders, empty or not there


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A bucket, and a cache of this machine's own."""
    import fsspec

    monkeypatch.setenv("SEG_JAX_CACHE", str(tmp_path / "cache"))
    made = MemoryFileSystem()
    made.store.clear()
    made.pseudo_dirs[:] = [""]
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda url: (made, url.split(":/")[1]))
    monkeypatch.setattr(bucket, "_PATIENCE_SECONDS", 0.2)
    return made


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Another machine: nothing of the copy is there."""
    return lambda name="other": monkeypatch.setenv("SEG_JAX_CACHE", str(tmp_path / name))


def save(run, step, content="weights"):
    folder = run / "checkpoints" / f"{step:08d}"
    (folder / "variables").mkdir(parents=True)
    (folder / "variables" / "d").write_text(f"{content} {step}")
    (folder / "checksums.json").write_text("{}")
    (run / "config.json").write_text("{}")
    (run / "metrics.jsonl").write_text(f"up to {step}")


def names(store):
    return sorted(path.removeprefix("/bucket/runs/net/") for path in store.store)


def contents(folder):
    found = {path for path in folder.rglob("*") if path.is_file() and path.name[0] != "."}
    return {str(path.relative_to(folder)): path.read_text() for path in found}


@pytest.mark.parametrize(
    "path, url",
    [
        ("gs://b/run", "gs://b/run"), ("gs:/b/run/", "gs://b/run"), ("s3://b/a/c", "s3://b/a/c"),
        ("runs/x", ""), ("/gs://b", ""), ("sqlite:///sweep.db", ""), ("C:/x", ""),
    ],
)  # fmt: skip
def test_what_is_a_bucket(path, url):
    assert files.bucket_url(path) == url


def test_a_run_goes_on_on_another_machine(store, elsewhere):
    with bucket.trained(URL) as run:
        save(run, 1)
        bucket.send(run)
        there = names(store)
        save(run, 2)
        (run / "checkpoints" / ".saving.00000003").mkdir()
        (run / "checkpoints" / ".saving.00000003" / "half").write_text("")
    assert set(there) <= set(names(store)) | {".training"}
    assert ".training" in there and ".training" not in names(store)
    assert not any("saving" in name or name.startswith(".lock") for name in names(store))
    elsewhere()
    with bucket.trained(URL) as other:
        assert other != run and contents(other) == contents_without_hidden(run)
        (other / "checkpoints" / "00000001" / "variables" / "d").unlink()  # pruned here
        (other / "checkpoints" / "00000001" / "checksums.json").unlink()
    assert not any("00000001" in name for name in names(store))
    assert bucket.fetched("runs/local") == Path("runs/local")


def contents_without_hidden(run):
    return {name: text for name, text in contents(run).items() if "/." not in name}


def test_what_a_bucket_has_half_does_not_count(store, elsewhere):
    """A machine was taken while it sent: checksums are sent last, and removed first."""
    with bucket.trained(URL) as run:
        save(run, 1)
    store.pipe_file("/bucket/runs/net/checkpoints/00000002/variables/d", b"half")
    elsewhere()
    assert sorted(path.name for path in (bucket.fetched(URL) / "checkpoints").iterdir()) == [
        "00000001"
    ]


def test_order_of_sending(store, monkeypatch):
    sent = []
    put = store.put_file
    monkeypatch.setattr(
        store, "put_file", lambda path, name, **_: sent.append(name[17:]) or put(path, name)
    )
    with bucket.trained(URL) as run:
        save(run, 1)
    step = "checkpoints/00000001"
    assert sent == [
        "config.json", f"{step}/variables/d", f"{step}/checksums.json", "metrics.jsonl"
    ]  # fmt: skip


def test_the_copy_stays_where_it_is_further(store):
    with pytest.raises(KeyboardInterrupt):
        with bucket.trained(URL) as run:
            save(run, 1)
            raise KeyboardInterrupt
    save(run, 5)  # the network was away
    assert contents(bucket.fetched(URL))["metrics.jsonl"] == "up to 5"


def test_names_that_lead_elsewhere_are_left_out(store, elsewhere, tmp_path):
    with bucket.trained(URL) as run:
        save(run, 1)
    for name in ("../../../escaped", "a/../../b", ".hidden", "checkpoints/.x/y", "a\\b"):
        store.store[f"/bucket/runs/net/{name}"] = store.store["/bucket/runs/net/config.json"]
    elsewhere()
    found = bucket.fetched(URL)
    assert contents(found) == contents(run)
    assert not list(tmp_path.rglob("escaped")) and not list(tmp_path.rglob("b"))


def test_two_trainings_are_told_apart(store, monkeypatch):
    path = "/bucket/runs/net/.training"
    store.pipe_file(path, json.dumps({"host": "h", "pid": 7}).encode())
    with bucket.trained(URL) as run:  # one that was killed shows no sign of life
        save(run, 1)
    monkeypatch.setattr(bucket, "_PATIENCE_SECONDS", 5.0)
    store.pipe_file(path, json.dumps({"host": "h", "pid": 7, "time": 0}).encode())
    alive = json.dumps({"host": "h", "pid": 7, "time": 1}).encode()
    timer = threading.Timer(0.3, store.pipe_file, (path, alive))
    timer.start()
    with pytest.raises(checks.UserError, match="another process is training in .*process 7 on h"):
        with bucket.trained(URL):
            pass
    timer.join()
    assert path in store.store  # the other's


def test_a_bucket_that_cannot_be_reached(store, monkeypatch, caplog):
    with bucket.trained(URL) as run:
        save(run, 1)

    def broken(*_args, **_options):
        raise ConnectionError("no route\nto host")

    with pytest.raises(checks.UserError, match="written .*no route.*; what was trained is in"):
        with bucket.trained(URL) as run:
            save(run, 2)
            monkeypatch.setattr(store, "put_file", broken)
            bucket.send(run)  # the run goes on
            assert "the run goes on in" in caplog.text
    with pytest.raises(SystemExit) as ended, bucket.trained(URL):  # what a scheduler goes by
        raise SystemExit(75)
    assert ended.value.code == 75
    monkeypatch.setattr(store, "find", broken)
    with pytest.raises(checks.UserError, match="gs://bucket/runs/net could not be read"):
        bucket.fetched(URL)


@pytest.mark.skipif(not EMULATED, reason="emulators of S3 and GCS: scripts/test_buckets.sh")
@pytest.mark.parametrize("url", EMULATED)
def test_on_an_emulator(url, tmp_path, monkeypatch, elsewhere):
    elsewhere("one")
    monkeypatch.setattr(bucket, "_PATIENCE_SECONDS", 2.0)
    with bucket.trained(url) as run:
        save(run, 1)
        bucket.send(run)
        with pytest.raises(checks.UserError, match="another process is training in"):
            monkeypatch.setattr(bucket, "_REFRESH_SECONDS", 0.1)
            with bucket.Mirror(url).lease(), bucket.trained(url):
                pass
        save(run, 2)
    elsewhere("two")
    with bucket.trained(url) as other:
        assert other != run and contents(other) == contents(run) and len(contents(other)) == 6
        save(other, 3)
        shutil.rmtree(other / "checkpoints" / "00000001")
        (other / "result.json").write_text("{}")
    bucket.send_results(url)
    elsewhere("three")
    found = contents(bucket.fetched(url))
    assert found == contents(other) and not any("00000001" in name for name in found)


def test_where_only_a_folder_will_do(monkeypatch):
    for args, message in (
        (
            ["--workdir", "gs://b/x", "--data.root", "s3://b/data"],
            "--data.root s3://b/data: a buck",
        ),
        (["--train.init", "gs://b/run"], "--train.init gs://b/run"),
    ):
        with pytest.raises(checks.UserError, match=message):
            parsing.parse_experiment(["unet_synthetic", *args], "train", train_verb.TrainOptions)
    found = parsing.parse(predict.PredictOptions, ["s3://b/run", "x.png", "--out", "o"], "predict")
    assert found.run == "s3://b/run"
    with pytest.raises(checks.UserError, match="--out s3://b/o"):
        parsing.parse(predict.PredictOptions, ["r", "x.png", "--out", "s3://b/o"], "predict")
    with (
        pytest.raises(checks.UserError, match="mount the bucket"),
        bucket.trained(URL, distributed=True),
    ):
        pass
    with pytest.raises(checks.UserError, match="name a folder of a bucket"):
        bucket.fetched("gs://b/../x")
