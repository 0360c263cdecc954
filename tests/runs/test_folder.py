"""A run is what its config.json says, or is refused; nothing outside its folder is touched."""

import dataclasses
import errno
import json
import os
import shutil

import pytest
import tiny

from seg_jax import config, optim
from seg_jax.checks import UserError
from seg_jax.runs import folder

EXPERIMENT = tiny.experiment()
OTHER = tiny.experiment(seed=1)


def with_checkpoint(run):
    (run / "checkpoints" / "00000003").mkdir(parents=True)
    return run


def edit(run, change):
    path = run / "config.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, caplog):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(folder.fcntl, "flock", flock)
    with folder.lock(tmp_path), folder.lock(tmp_path):
        assert f"{tmp_path} is on a file system without locks (No locks" in caplog.text


def test_a_configuration_that_was_edited_is_refused(tmp_path):
    folder.write_config(tmp_path, EXPERIMENT)
    assert folder.read_config(tmp_path) == (EXPERIMENT, config.digest(EXPERIMENT))
    edit(tmp_path, lambda content: content["experiment"]["optim"].update(base_lr=0.5))
    with pytest.raises(UserError, match=r"config.json does not fit its digest .*: it was edited"):
        folder.read_config(tmp_path)


def test_the_digest_is_that_of_the_stored_data_whatever_fields_are_called_today(tmp_path):
    folder.write_config(tmp_path, EXPERIMENT)

    def as_an_earlier_version(content):
        evaluation = content["experiment"]["evaluation"]
        evaluation["protocol"] = evaluation.pop("mode")
        content["digest"] = config.digest(content["experiment"])

    edit(tmp_path, as_an_earlier_version)
    found, digest = folder.read_config(tmp_path)
    assert found == EXPERIMENT and digest != config.digest(EXPERIMENT)


def test_identity_is_of_what_is_trained():
    train = dataclasses.replace(EXPERIMENT.train, keep=9, log_every=7, evaluate_every=3)
    free = dataclasses.replace(
        EXPERIMENT.with_evaluation(bucket=32),
        train=train,
        data=dataclasses.replace(EXPERIMENT.data, root=folder.Path("elsewhere"), workers=2),
    )
    assert folder.identity(free) == folder.identity(EXPERIMENT) != folder.identity(OTHER)
    assert folder.identity(config.to_dict(EXPERIMENT)) == folder.identity(EXPERIMENT)


def test_identities_of_earlier_versions_stay_with_the_run(tmp_path):
    folder.write_config(tmp_path, EXPERIMENT, former=["0123456789abcdef"])
    expected = {folder.identity(EXPERIMENT), "0123456789abcdef"}
    assert folder.identities(tmp_path) == expected
    folder.write_config(tmp_path, EXPERIMENT, former=folder.identities(tmp_path))
    assert folder.identities(tmp_path) == expected


def test_checkpoints_without_configuration_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"holds checkpoints but no config\.json"):
        folder.check_resumable(with_checkpoint(tmp_path), EXPERIMENT)


def test_a_start_that_failed_does_not_block_the_correction(tmp_path):
    folder.write_config(tmp_path, EXPERIMENT)
    assert folder.check_resumable(tmp_path, OTHER) is False
    with_checkpoint(tmp_path)
    assert folder.check_resumable(tmp_path, EXPERIMENT) is True
    with pytest.raises(UserError, match=rf"train.seed was 0, is 1.*--init {tmp_path} starts"):
        folder.check_resumable(tmp_path, OTHER)


@pytest.mark.parametrize(
    ("schedule", "allowed"),
    [
        (optim.Schedule("fixed"), True),
        (optim.Schedule("step", every=2), True),
        (optim.Schedule("step", every=2, settle=3), True),  # step 3 of 6: not reached yet
        (optim.Schedule("fixed", settle=4), False),
        (optim.Schedule("poly"), False),
    ],
)
def test_steps_may_grow_where_the_schedule_allows_it(tmp_path, schedule, allowed):
    def of(steps, **optim_fields):
        return dataclasses.replace(
            EXPERIMENT,
            optim=dataclasses.replace(EXPERIMENT.optim, schedule=schedule, **optim_fields),
            train=dataclasses.replace(EXPERIMENT.train, steps=steps),
        )

    folder.write_config(with_checkpoint(tmp_path), of(6))
    longer = of(12)
    if allowed:
        assert folder.check_resumable(tmp_path, longer)
    else:
        rates = "|".join(
            f"{float(optim.learning_rate(longer.optim, steps, 2)):.3g}" for steps in (6, 12)
        )
        with pytest.raises(UserError, match=f"step 3 had .*({rates}).*({rates}).*--extend"):
            folder.check_resumable(tmp_path, longer)
    assert folder.check_resumable(tmp_path, longer, extend=True)
    for other in (of(5), of(12, momentum=0.5)):  # shorter; something else as well
        with pytest.raises(UserError, match="another configuration"):
            folder.check_resumable(tmp_path, other, extend=True)


def test_damage_that_was_set_aside_is_something_to_lose(tmp_path):
    (tmp_path / "checkpoints" / "00000003.damaged").mkdir(parents=True)
    assert folder.has_checkpoints(tmp_path)


@pytest.mark.parametrize(
    "name", ["config.json", "checkpoints", "metrics.jsonl", ".lock", "predictions", "result.json"]
)
def test_entries_that_are_links_are_refused_and_their_targets_left_alone(tmp_path, name):
    run, outside = tmp_path / "run", tmp_path / "outside"
    run.mkdir(), outside.mkdir()
    target = outside / "kept.txt"
    target.write_text("precious")
    (run / name).symlink_to(outside if "." not in name else target)
    with pytest.raises(UserError, match=f"{name} is a link to .*outside"), folder.lock(run):
        pass
    assert target.read_text() == "precious"


def test_links_below_and_of_the_run_folder_itself(tmp_path):
    run = with_checkpoint(tmp_path / "run")
    (run / "notes").symlink_to("/etc/hostname")  # not one of ours
    (tmp_path / "link").symlink_to(run)
    folder.refuse_links(tmp_path / "link")  # the user's own choice
    (run / "checkpoints" / "00000004").symlink_to(run / "checkpoints" / "00000003")
    with pytest.raises(UserError, match="00000004 is a link"):
        folder.refuse_links(tmp_path / "link")


def test_the_lock_file_is_neither_emptied_nor_waited_for(tmp_path):
    (tmp_path / ".lock").write_text("x")
    with folder.lock(tmp_path):
        assert (tmp_path / ".lock").read_text() == "x"
    (tmp_path / ".lock").unlink()
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(UserError, match="lock is no regular file"), folder.lock(tmp_path):
        pass


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_configuration_that_is_no_file_is_not_read(tmp_path, make):
    make(tmp_path / "config.json")
    with pytest.raises(UserError, match="not a regular file"):
        folder.read_config(tmp_path)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    for run in (tmp_path / "file", tmp_path / "file" / "below", folder.Path("/proc/none")):
        with pytest.raises(UserError, match="cannot be used as a run folder .*--workdir"):
            with folder.lock(run):
                pass


def test_a_folder_that_vanishes_or_is_replaced_is_noticed(tmp_path):
    run = tmp_path / "run"
    with folder.lock(run) as held:
        folder.write_config(run, EXPERIMENT)
        held.check()
        (run / "config.json").unlink()
        with pytest.raises(UserError, match="was deleted or replaced while"):
            held.check()
        shutil.rmtree(run)
        with pytest.raises(UserError, match="was deleted or replaced while"):
            held.check()
        with folder.lock(run):  # another trainer began there
            folder.write_config(run, EXPERIMENT)
        with pytest.raises(UserError, match="was deleted or replaced while"):
            held.check()
