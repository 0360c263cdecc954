"""The best checkpoint by a metric, early stopping, and both over interruptions."""

import dataclasses
import math

import pytest
import tiny

from seg_jax import pretrained
from seg_jax.checks import UserError
from seg_jax.evaluation import run as evaluation_run
from seg_jax.experiment import TrainConfig
from seg_jax.runs import checkpoint, selection
from seg_jax.runs import log as logs
from seg_jax.train import loop

pytestmark = pytest.mark.usefixtures("compile_once")
CURVE = {1: 0.2, 2: 0.5, 3: math.nan, 4: 0.5, 5: 0.3, 6: 0.1, 7: 0.9, 8: 0.0}


def evaluate(experiment, variables, step):
    """The curve, whose second step is the best of the first six: the first of two equal ones."""
    return {"mean_iou": CURVE[step], "per_class_iou": {"cat": 1 - CURVE[step], "dog": None}}


class Killed(Exception):
    pass


def killed_at(step, *, before):
    """Killed in the evaluation of a step, or as soon as it is in the log."""

    def broken(experiment, variables, number):
        if number == step and before:
            raise Killed
        if number == step + 1:
            raise Killed
        return evaluate(experiment, variables, number)

    return broken


def chosen(root, **fields):
    fields = {"evaluate_every": 1, "best_metric": "mean_iou", "keep": 1, **fields}
    return tiny.experiment(root=root, steps=8, checkpoint_every=100, **fields)


def step_of(run, which=""):
    return checkpoint.restore_variables(run, which)[2]


def test_the_best_is_the_first_of_the_highest_and_never_nan():
    assert selection.best({}) is None and selection.best({3: math.nan}) is None
    assert selection.best(CURVE) == 7 and selection.best(CURVE, among=[1, 3, 5, 8]) == 5
    until6 = {step: value for step, value in CURVE.items() if step <= 6}
    assert selection.best(until6) == 2 and selection.evaluations_since_best(until6) == 4
    assert selection.evaluations_since_best({1: math.nan, 2: math.nan}) == 2
    with pytest.raises(ValueError, match="set train.evaluate_every"):
        TrainConfig(steps=1, batch_size=1, best_metric="mean_iou")
    with pytest.raises(ValueError, match="set train.best_metric"):
        TrainConfig(steps=1, batch_size=1, evaluate_every=1, patience=3)


def test_a_run_stops_early_keeps_its_best_and_ends_alike_wherever_it_is_interrupted(
    root, tmp_path, capsys
):
    experiment = chosen(root, patience=4)
    whole = tmp_path / "whole"
    summary = loop.fit(experiment, whole, evaluate=evaluate)
    assert (summary.step, checkpoint.steps(whole)) == (6, [2, 6])
    assert "mean_iou was best (50.00 at step 2) 4 evaluations ago" in capsys.readouterr().out
    assert (step_of(whole), step_of(whole, "newest"), step_of(whole, "6")) == (2, 6, 6)
    again = loop.fit(experiment, whole, evaluate=evaluate)
    assert again.trained == 0 and "step 6 of 8, stopped early" in capsys.readouterr().out
    for step, before in [(2, False), (6, True)]:
        run = tmp_path / f"killed_{step}_{before}"
        with pytest.raises(Killed):
            loop.fit(experiment, run, evaluate=killed_at(step, before=before))
        assert loop.fit(experiment, run, evaluate=evaluate).step == 6
        assert checkpoint.steps(run) == [2, 6]
        for which in ("best", "newest"):
            ours, theirs = (checkpoint.restore_variables(r, which)[1] for r in (run, whole))
            assert tiny.largest_difference(ours, theirs) == 0
    # More patience goes on, to a better one.
    patient = dataclasses.replace(experiment.train, patience=0)
    loop.fit(dataclasses.replace(experiment, train=patient), whole, evaluate=evaluate)
    assert checkpoint.steps(whole) == [7, 8] and step_of(whole) == 7


def test_what_cannot_be_chosen_is_said_before_training_or_when_it_is_asked_for(root, tmp_path):
    with pytest.raises(UserError, match="did you mean mean_iou"):
        loop.fit(chosen(root, best_metric="mean_iuo"), tmp_path / "typing", evaluate=evaluate)
    assert not (tmp_path / "typing/config.json").exists()
    run, plain = tmp_path / "cat", tmp_path / "plain"
    loop.fit(
        chosen(root, best_metric="per_class_iou/cat", evaluate_every=3), run, evaluate=evaluate
    )
    # Step 3's is not a number; the last step is scored whatever `evaluate_every` says.
    assert checkpoint.steps(run) == [8] and step_of(run) == 8
    assert [line["step"] for line in logs.read(run) if line["kind"] == "evaluate"] == [3, 6, 8]
    loop.fit(tiny.experiment(root=root, steps=1), plain)
    for which, problem in [
        ("best", "trained without --train.best-metric"), ("7", "keeps the steps 1"),
        ("last", "give newest, best, or a step"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=problem):
            pretrained.load(plain, checkpoint=which)
    (next((run / "checkpoints/00000008/variables").rglob("manifest.ocdbt"))).unlink()
    with pytest.raises(UserError, match=r"00000008 \(best\) is damaged .*--checkpoint newest"):
        step_of(run)


def test_the_record_says_how_its_checkpoint_was_chosen(root, tmp_path):
    experiment = chosen(root, keep=2)
    loop.fit(experiment, tmp_path, evaluate=evaluate)
    best = evaluation_run.evaluate_run(tmp_path, progress=False)
    assert best.training.steps == 7
    assert best.training.selection == "best of 8 by mean_iou on val"
    newest = evaluation_run.evaluate_run(tmp_path, checkpoint="newest", progress=False)
    assert (newest.training.steps, newest.training.selection) == (8, "")
    assert (tmp_path / "result.json").exists() and (tmp_path / "result_step8.json").exists()
