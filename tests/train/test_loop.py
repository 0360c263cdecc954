"""`fit` in one process: what it writes, when it stops, and how it goes on."""

import dataclasses
import json
import logging
import os
import re
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

from seg_jax import files
from seg_jax.checks import UserError
from seg_jax.runs import checkpoint, loggers
from seg_jax.runs import folder as run_folder
from seg_jax.runs import log as logs
from seg_jax.train import compile_times, loop, progress, termination

pytestmark = pytest.mark.usefixtures("compile_once")


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory):
    """A run that nothing interrupted: (experiment, folder)."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    experiment = tiny.experiment(model=tiny.voc_model(dropout=0.5), root=root, checkpoint_every=2)
    summary = loop.fit(experiment, folder)
    assert (summary.step, summary.trained) == (6, 6)
    return experiment, folder


def variables_of(run):
    return checkpoint.restore_variables(run)[1]


def assert_identical(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def lines_of(run, kind):
    return [line for line in logs.read(run) if line["kind"] == kind]


class Stop(Exception):
    """Raised in place of an evaluation, to end a run in the middle."""


def interrupt_at(step):
    def evaluate(experiment, variables, number):
        if number == step:
            raise Stop
        return {}

    return evaluate


def scored(experiment):
    """The same run, with evaluations in which a test can meddle."""
    settings = dataclasses.replace(experiment.train, evaluate_every=1)
    return dataclasses.replace(experiment, train=settings)


def test_the_folder_tells_the_whole_story(whole):
    experiment, run = whole
    found, digest = run_folder.read_config(run)
    assert found == experiment and json.loads((run / "config.json").read_text())["digest"] == digest
    lines = lines_of(run, "train")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[-1]["loss"] < lines[0]["loss"]
    for name in ("accuracy", "grad_norm", "learning_rate", "images_per_second", "data_wait"):
        assert np.isfinite(lines[-1][name]), name
    assert 0 <= lines[-1]["data_wait"] <= 1
    assert logs.training_seconds(run) == lines[-1]["seconds"] > 0
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["00000004", "00000006"]
    assert list((run / "tensorboard").glob("events*"))[0].stat().st_size > 0


def test_compiled_programs_are_kept_on_disk(whole):
    kept = [path.name for path in Path(jax.config.jax_compilation_cache_dir).iterdir()]
    assert any("train_step" in name for name in kept)


def test_a_finished_run_is_left_alone_and_needs_no_data(whole, tmp_path, capsys):
    experiment, run = whole
    before = (run / "metrics.jsonl").read_bytes()
    moved = dataclasses.replace(experiment.data, root=tmp_path / "gone")
    summary = loop.fit(dataclasses.replace(experiment, data=moved), run)
    assert summary.metrics == lines_of(run, "train")[-1]
    assert summary.trained == 0 and "is finished (step 6): nothing to do" in capsys.readouterr().out
    assert (run / "metrics.jsonl").read_bytes() == before


def test_what_is_printed_at_the_start(root, tmp_path, capsys):
    experiment = scored(tiny.experiment(root=root))
    with pytest.raises(Stop):
        loop.fit(experiment, tmp_path / "run", evaluate=interrupt_at(1))
    printed = capsys.readouterr().out
    assert "voc2012-part train: 8 of 1464 images" in printed
    assert "6 of 4 images (3.0 epochs) on 4 cpu device(s), float32" in printed


@pytest.mark.parametrize("step", [1, 3, 4])
def test_an_interrupted_run_ends_with_the_same_bits(whole, tmp_path, step):
    """Interrupted at the first evaluation, between two checkpoints, and at one."""
    experiment, run = whole
    with pytest.raises(Stop):
        loop.fit(scored(experiment), tmp_path / "run", evaluate=interrupt_at(step))
    summary = loop.fit(experiment, tmp_path / "run")
    # The first evaluation is preceded by a checkpoint, of step 1.
    assert summary.trained == 6 - max(1, step // 2 * 2)
    assert_identical(variables_of(tmp_path / "run"), variables_of(run))
    lines = lines_of(tmp_path / "run", "train")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    ours, theirs = (
        [line["loss"] for line in lines_of(r, "train")] for r in (tmp_path / "run", run)
    )
    assert ours == theirs
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)


def test_pmap_trains_the_same_run(whole, tmp_path):
    experiment, run = whole
    loop.fit(experiment, tmp_path / "run", parallel="pmap")
    assert tiny.largest_difference(variables_of(tmp_path / "run"), variables_of(run)) < 1e-6


def test_evaluations_come_when_they_are_due_and_are_logged(root, tmp_path):
    experiment = tiny.experiment(root=root, steps=5, evaluate_every=2)
    seen = []

    def evaluate(given, variables, step):
        assert given is experiment and set(variables) == {"params", "batch_stats"}
        seen.append(step)
        return {"miou": 0.1 * step}

    loop.fit(experiment, tmp_path, evaluate=evaluate)
    assert seen == [2, 4]
    assert [line["miou"] for line in lines_of(tmp_path, "evaluate")] == [0.2, 0.4]


@pytest.mark.parametrize(
    ("fields", "steps"),
    [({"evaluate_first": "yes"}, [0]), ({}, []), ({"init": "whole"}, [0]),
     ({"init": "whole", "evaluate_first": "no"}, [])],
)  # fmt: skip
def test_weights_that_score_the_classes_are_scored_before_step_1(
    whole, root, capsys, fields, steps
):
    _, run = whole
    name = "first_" + "_".join(map(str, fields.values()))
    seen = []

    def look(given, variables, step):
        seen.append(step)
        return {"mean_iou": 0.25}

    loop.fit(tiny.experiment(root=root, steps=1, **fields), run.parent / name, evaluate=look)
    assert seen == steps
    assert ("step 0 on val, in percent: mean_iou 25.00" in capsys.readouterr().out) == bool(steps)


@pytest.mark.parametrize("number", termination.SIGNALS)
@pytest.mark.parametrize("step", [2, 3])
def test_a_signal_in_an_evaluation_saves_and_the_same_command_goes_on(
    whole, tmp_path, number, step
):
    """At a step that was saved before it was scored, and at another one."""
    experiment, run = whole

    def evaluate(given, variables, at):
        if at == step:
            os.kill(os.getpid(), number)
            raise AssertionError("the signal did not end the evaluation")
        return {}

    handler = signal.getsignal(number)
    with pytest.raises(termination.Stopped) as stopped:
        loop.fit(scored(experiment), tmp_path, evaluate=evaluate, command="train x")
    assert stopped.value.code == 75 and signal.getsignal(number) is handler
    expected = f"{number.name}, saved at step {step}; `train x` goes on from there"
    assert expected in str(stopped.value) and "\n" not in str(stopped.value)
    assert checkpoint.newest(tmp_path) == step
    scores = []
    loop.fit(scored(experiment), tmp_path, evaluate=lambda *given: scores.append(given[2]) or {})
    assert scores == list(range(step, 7))  # the evaluation that was cut off is made up for
    assert_identical(variables_of(tmp_path), variables_of(run))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(root, tmp_path):
    model = tiny.voc_model(norm=None)  # a norm would hold the activations
    exploding = tiny.experiment(model=model, root=root, log_every=1, checkpoint_every=100)
    exploding = dataclasses.replace(
        exploding, optim=dataclasses.replace(exploding.optim, base_lr=1e10)
    )
    with pytest.raises(loop.NonFiniteLoss) as error:
        loop.fit(exploding, tmp_path)
    good = checkpoint.newest(tmp_path)
    assert f"at step {good + 1}; the state after step {good} " in str(error.value) and good >= 1
    for leaf in jax.tree.leaves(variables_of(tmp_path)):
        assert np.isfinite(leaf).all()
    assert [line["step"] for line in lines_of(tmp_path, "train")] == list(range(1, good + 1))
    assert "gradient norm" in lines_of(tmp_path, "event")[-1]["message"]
    # The same command meets the same step, and says so again.
    with pytest.raises(loop.NonFiniteLoss, match=f"at step {good + 1}"):
        loop.fit(exploding, tmp_path)


def test_a_truncated_checkpoint_gives_way_to_the_one_before(whole, tmp_path, caplog):
    experiment, run = whole
    with pytest.raises(Stop):
        loop.fit(scored(experiment), tmp_path / "run", evaluate=interrupt_at(5))
    files = (tmp_path / "run/checkpoints/00000004").rglob("*")
    largest = max((f for f in files if f.is_file()), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:10])
    with caplog.at_level(logging.WARNING):
        summary = loop.fit(experiment, tmp_path / "run")
    assert summary.trained == 4 and "00000004 is damaged" in caplog.text
    assert_identical(variables_of(tmp_path / "run"), variables_of(run))


def failing_save(monkeypatch, *steps):
    save = checkpoint.save

    def fail(run, state, **options):
        if int(state.step) in steps:
            raise checkpoint.SaveError("checkpoint x could not be written: no space left")
        save(run, state, **options)

    monkeypatch.setattr(checkpoint, "save", fail)


def test_a_full_disk_on_the_way_is_logged_and_the_run_goes_on(whole, tmp_path, monkeypatch, caplog):
    experiment, run = whole
    failing_save(monkeypatch, 4)
    loop.fit(experiment, tmp_path)
    assert "no space left; the run goes on" in caplog.text
    assert "no space left" in lines_of(tmp_path, "event")[-1]["message"]
    assert_identical(variables_of(tmp_path), variables_of(run))


def test_a_full_disk_at_the_end_is_an_error_that_says_what_to_do(whole, tmp_path, monkeypatch):
    experiment, _ = whole
    failing_save(monkeypatch, 6)
    with pytest.raises(UserError, match="no space left; make room, and the same command goes on"):
        loop.fit(experiment, tmp_path)
    assert checkpoint.newest(tmp_path) == 4


def test_another_configuration_is_refused_naming_every_field(whole, tmp_path):
    experiment, run = whole
    other = dataclasses.replace(
        experiment,
        optim=dataclasses.replace(experiment.optim, base_lr=0.5, momentum=0.8),
        model=tiny.voc_model(dropout=0.25),
        train=dataclasses.replace(experiment.train, log_every=7),
    )
    with pytest.raises(UserError) as refused:
        loop.fit(other, run)
    message = str(refused.value)
    for part in (
        "optim.base_lr was 0.01, is 0.5",
        "optim.momentum was 0.9, is 0.8",
        "model.dropout",
    ):
        assert part in message
    assert "log_every was" not in message and "--workdir" in message


def test_free_fields_may_change(whole, root, tmp_path):
    experiment, run = whole
    with pytest.raises(Stop):
        loop.fit(scored(experiment), tmp_path / "run", evaluate=interrupt_at(3))
    shutil.copytree(root, tmp_path / "moved")
    freed = dataclasses.replace(
        experiment,
        data=dataclasses.replace(experiment.data, root=tmp_path / "moved"),
        train=dataclasses.replace(experiment.train, log_every=5, checkpoint_every=5, keep=1),
        evaluation=dataclasses.replace(experiment.evaluation, bucket=32),
    )
    loop.fit(freed, tmp_path / "run")
    assert_identical(variables_of(tmp_path / "run"), variables_of(run))
    assert run_folder.read_config(tmp_path / "run")[0] == freed


def test_loggers_hear_of_a_run_and_do_not_end_it(whole, tmp_path, monkeypatch, caplog):
    experiment, run = whole
    monkeypatch.setattr(loggers._LOGGERS, "_entries", dict(loggers._LOGGERS._entries))
    heard = []

    @loggers.register("mine")
    class Mine:
        def __init__(self, run, step, fields):
            heard.append(("open", step, fields["train.loggers.0"]))

        def scalars(self, step, values):
            heard.append(("scalars", step, values))

        def images(self, step, images):
            heard.append(("images", step, list(images)))

        def close(self):
            heard.append(("close",))

    @loggers.register("raises")
    class Raises(Mine):
        def __init__(self, run, step, fields):
            pass

        def scalars(self, step, values):
            raise RuntimeError("no connection")

        def close(self):
            raise AssertionError("was dropped before")

    def named(*names):
        train = dataclasses.replace(scored(experiment).train, loggers=names)
        return dataclasses.replace(experiment, train=train)

    with pytest.raises(UserError, match="logger: unknown name 'mien'; did you mean mine"):
        loop.fit(named("mien"), tmp_path / "run")
    assert not (tmp_path / "run/config.json").exists()
    with pytest.raises(Stop):
        loop.fit(scored(experiment), tmp_path / "run", evaluate=interrupt_at(3))
    found = {"mean_iou": 0.5, "images": {"one": np.zeros((2, 2, 3), np.uint8)}}
    loop.fit(named("raises", "mine"), tmp_path / "run", evaluate=lambda *_: found)  # after step 2
    assert_identical(variables_of(tmp_path / "run"), variables_of(run))
    assert heard[0] == ("open", 2, "raises") and heard[-1] == ("close",)
    losses = {
        step: values["train/loss"] for _, step, values in heard[1:-1] if "train/loss" in values
    }
    assert losses == {line["step"]: line["loss"] for line in lines_of(run, "train")[2:]}
    for step in (3, 4, 5, 6):
        assert ("scalars", step, {"evaluate/mean_iou": 0.5}) in heard
        assert ("images", step, ["one"]) in heard
    assert caplog.text.count("logger raises failed and is dropped (RuntimeError: no conn") == 1


def test_every_free_field_exists():
    flat = run_folder.config.flatten(run_folder.config.to_dict(tiny.experiment()))
    for field in run_folder.FREE:
        assert any(name == field or name.startswith(field + ".") for name in flat), field


def test_another_list_of_images_is_refused(whole, root, tmp_path):
    experiment, _ = whole
    with pytest.raises(Stop):
        loop.fit(scored(experiment), tmp_path / "run", evaluate=interrupt_at(3))
    shutil.copytree(root, tmp_path / "voc")
    listing = tmp_path / "voc/ImageSets/Segmentation/train.txt"
    listing.write_text("\n".join(listing.read_text().split()[:-1]))
    data = dataclasses.replace(experiment.data, root=tmp_path / "voc")
    with pytest.raises(UserError, match=r"another list of training images \(8 then, 7 now\)"):
        loop.fit(dataclasses.replace(experiment, data=data), tmp_path / "run")


def test_two_processes_do_not_train_in_one_folder(whole):
    experiment, run = whole
    with run_folder.lock(run), pytest.raises(UserError, match="another process is training in"):
        loop.fit(experiment, run)


def test_a_batch_size_that_does_not_divide_is_refused_before_anything_is_written(root, tmp_path):
    with pytest.raises(UserError, match="use 4 or 8"):
        loop.fit(tiny.experiment(root=root, batch_size=6), tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_model_of_other_classes_is_refused_before_training(root, tmp_path):
    four = tiny.experiment(model=tiny.Tiny(num_classes=4), root=root)
    with pytest.raises(UserError, match="scores 4 classes, voc2012-part has 21: set --model.num"):
        loop.fit(four, tmp_path)


def test_init_takes_what_fits_from_a_run_beside_this_one(whole, root, capsys):
    _, run = whole
    larger = tiny.experiment(
        "larger", model=tiny.voc_model(score_size=3), root=root, init="whole", evaluate_every=1
    )
    frozen = dataclasses.replace(larger.optim, rules=(tiny.Rule(".*", lr=0.0),))
    larger = dataclasses.replace(larger, optim=frozen)
    found = {}

    def look(experiment, variables, step):
        found.update(tiny.copy(variables))
        raise Stop

    with pytest.raises(Stop):
        loop.fit(larger, run.parent / "larger", evaluate=look)
    params = variables_of(run)["params"]
    np.testing.assert_array_equal(found["params"]["conv"]["kernel"], params["conv"]["kernel"])
    assert found["params"]["score"]["kernel"].shape == (3, 3, 4, 21)
    printed = capsys.readouterr().out
    assert f"init from {run}, step 6 of 6: 2 of 3 layers copied" in printed
    assert "norm   copied" not in printed  # the exceptions only; the rest is in the log
    assert "score  kept: kernel is (1, 1, 4, 21) there, (3, 3, 4, 21) here" in printed


def test_init_that_is_not_there_or_does_not_fit_is_named(whole, root):
    _, run = whole
    with pytest.raises(UserError, match="train.init 'nowhere': no run in nowhere and .*nowhere"):
        loop.fit(tiny.experiment(root=root, init="nowhere"), run.parent / "a")

    class Other(tiny.nn.Module):
        @tiny.nn.compact
        def __call__(self, image, *, train):
            return {"out": tiny.nn.Conv(21, (1, 1), name="only")(image)}

    alien = tiny.experiment(model=Other(), root=root, init=str(run))
    with pytest.raises(UserError, match="no layer of .* fits; it has conv, norm, .* network only"):
        loop.fit(alien, run.parent / "b")


def test_an_evaluation_that_a_kill_cut_off_at_the_last_step_is_made_up_for(whole, tmp_path):
    experiment, _ = whole
    with pytest.raises(Stop):
        loop.fit(scored(experiment), tmp_path / "run", evaluate=interrupt_at(6))
    steps = []

    def evaluate(given, variables, step):
        assert_identical(variables, variables_of(tmp_path / "run"))
        steps.append(step)
        return {"miou": 0.25}

    for _ in range(2):  # the second time, it is there
        assert loop.fit(scored(experiment), tmp_path / "run", evaluate=evaluate).trained == 0
    assert steps == [6]
    assert lines_of(tmp_path / "run", "evaluate")[-1] == {
        "kind": "evaluate", "step": 6, "miou": 0.25,
    }  # fmt: skip


def test_means_after_a_resume_are_over_as_many_steps_as_without(root, tmp_path):
    experiment = tiny.experiment(root=root, log_every=3, checkpoint_every=2)
    loop.fit(experiment, tmp_path / "whole")
    with pytest.raises(Stop):
        loop.fit(scored(experiment), tmp_path / "run", evaluate=interrupt_at(5))
    loop.fit(experiment, tmp_path / "run")  # from step 4, one after a line of the log
    ours, theirs = (
        [(line["step"], line["loss"], line["accuracy"]) for line in lines_of(run, "train")]
        for run in (tmp_path / "run", tmp_path / "whole")
    )
    assert ours == theirs and [step for step, *_ in ours] == [3, 6]


def test_a_run_folder_that_vanishes_while_training_is_an_error(whole, tmp_path):
    experiment, _ = whole

    def evaluate(given, variables, step):
        if step == 3:
            shutil.rmtree(tmp_path / "run")
        return {}

    with pytest.raises(UserError, match="was deleted or replaced while the run was training"):
        loop.fit(scored(experiment), tmp_path / "run", evaluate=evaluate)
    assert not (tmp_path / "run").exists()


def test_a_start_that_failed_does_not_block_the_correction(root, tmp_path):
    wrong = tiny.experiment(model=tiny.Tiny(num_classes=4), root=root)
    with pytest.raises(UserError, match="scores 4 classes"):
        loop.fit(wrong, tmp_path)
    run_folder.write_config(tmp_path, wrong)  # as if it had come a little further
    assert loop.fit(tiny.experiment(root=root, steps=1), tmp_path).step == 1


def test_a_diverged_first_step_leaves_a_folder_that_takes_another_configuration(root, tmp_path):
    """And one that diverged later says what may change, and how to go on from its last state."""
    experiment = tiny.experiment(root=root, steps=2)
    bad = dataclasses.replace(experiment.loss, class_weights=(1e38,) * 21)
    with pytest.raises(loop.NonFiniteLoss, match="nothing was trained before it"):
        loop.fit(dataclasses.replace(experiment, loss=bad), tmp_path)
    assert not run_folder.has_checkpoints(tmp_path)
    assert loop.fit(experiment, tmp_path).step == 2


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        (
            {"canvas": (20, 64)},
            "voc2012-part val, image p0: evaluation.canvas 20x64 does not cover",
        ),
        ({"mode": "sliding"}, "without evaluation.canvas"),
    ],
)
def test_the_evaluation_s_geometry_is_checked_before_the_first_step(
    root, tmp_path, evaluation, message
):
    experiment = tiny.experiment(root=root, evaluate_every=2)
    with pytest.raises(UserError, match=message):
        loop.fit(experiment.with_evaluation(**evaluation), tmp_path)
    assert not (tmp_path / "config.json").exists()


def test_waiting_speaks(root, tmp_path, capsys):
    experiment = tiny.experiment(root=root, steps=3, seed=11)
    for note in ("(for the first time)", "s the last time)"):
        loop.fit(experiment, tmp_path / note[:3])
        err = capsys.readouterr().err
        assert re.search(rf"compiling the training step .*{re.escape(note)}", err)
        assert err.index("compiling") < err.index("tiny:   0%")  # the bar's clock begins after it
        # img/s and s/step are of one window: batch_size 4 is their product
        speed = re.search(r"([\d.e+-]+) img/s, ([\d.e+-]+) s/step", err)
        assert speed and float(speed[1]) * float(speed[2]) == pytest.approx(4, rel=0.02)


@pytest.mark.parametrize("seconds", [0.001, 59.0])
def test_compilation_times_are_kept_however_short_and_by_several_at_once(
    root, monkeypatch, seconds
):
    first, second = (tiny.experiment(root=root, steps=3, seed=seed) for seed in (12, 13))
    write = files.write_json

    def overtaken(path, content):
        monkeypatch.setattr(files, "write_json", write)
        compile_times.keep(second, 7.0)  # another process's, between our reading and writing
        write(path, content)

    monkeypatch.setattr(files, "write_json", overtaken)
    compile_times.keep(first, seconds)
    assert compile_times.last(first) == round(seconds, 2)
    assert compile_times.last(second) == 7


def test_a_checkpoint_is_written_before_the_first_evaluation(root, tmp_path):
    experiment = tiny.experiment(root=root, evaluate_every=2, checkpoint_every=100)
    with pytest.raises(Stop):
        loop.fit(experiment, tmp_path, evaluate=interrupt_at(2))
    assert checkpoint.newest(tmp_path) == 2


def test_progress_that_cannot_be_written_is_dropped_and_logged(whole, tmp_path, monkeypatch):
    experiment, run = whole
    with open("/dev/full", "w") as out, open("/dev/full", "w") as err:
        monkeypatch.setattr("sys.stdout", out)
        monkeypatch.setattr("sys.stderr", err)
        monkeypatch.setattr("seg_jax.progress.lost", lost := {})
        loop.fit(experiment, tmp_path)
    assert lost.keys() == {"standard output", "standard error"}
    messages = [line["message"] for line in lines_of(tmp_path, "event")]
    for name in lost:
        assert f"{name} cannot be written (No space left on device)" in "\n".join(messages)
    assert_identical(variables_of(tmp_path), variables_of(run))


def test_log_lines_of_a_killed_process_are_skipped_or_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        '{"kind": "train", "step": 1, "seconds": 5.0}\n{"kind": "train", "step": 4}\n{"kind": "tr'
    )
    assert [line["step"] for line in logs.read(tmp_path)] == [1, 4]
    log = logs.RunLog(tmp_path, 2, active=True)
    assert log.seconds_before == 5.0
    log.write("train", 3, {"loss": 0.5})
    log.close()
    assert [line["step"] for line in logs.read(tmp_path)] == [1, 3]
    assert logs.training_seconds(Path(tmp_path / "absent")) is None


def test_meter_counts_waiting_and_leaves_pauses_out():
    meter = progress.Meter(batch_size=10)
    # (asked, there, done): compiled in 100 s; fed in time; 2 s late; after a pause of 50 s.
    for loss, asked, there, done in [(4, 0, 1, 100), (3, 90, 91, 104), (2, 103, 106, 110)]:
        meter.add({"loss": loss}, fetched=(asked, there), done=done)
    # Timed: 100..104, and 104..110 of which 104..106 were spent waiting for data.
    assert meter.take() == {
        "loss": 3.0, "images_per_second": 2.0, "step_seconds": 5.0, "data_wait": 0.2,
    }  # fmt: skip
    meter.add({"loss": 1}, fetched=(160, 161), done=164)
    assert meter.take() == {
        "loss": 1.0, "images_per_second": 2.5, "step_seconds": 4.0, "data_wait": 0.25,
    }  # fmt: skip
