import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sweep_worker
import tyro
from sweep_worker import toy

from seg_jax import experiment, overrides
from seg_jax.checks import UserError
from seg_jax.cli import parsing
from seg_jax.cli.train import TrainOptions
from seg_jax.search_space import Choice, Integer, LogUniform, Space
from seg_jax.sweep import search, storage, workers
from seg_jax.train.loop import NonFiniteLoss

NAME = "unet_synthetic"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path):
    """Sweep into one folder; settings can be given anew."""

    def call(run_trial=toy, *, space=sweep_worker.SPACE, trials=7, **settings):
        found = settings.pop("experiment", experiment.get(NAME))
        settings = {"say": lambda line: None, **settings}
        return search.sweep(
            found, space, tmp_path / "sweep", trials=trials, run_trial=run_trial, **settings
        )

    return call


def values(outcome):
    return [trial.values for trial in outcome.trials]


def test_tpe_climbs(run):
    """Its later trials are better than random ones are on average; downhill they would be worse."""
    outcome = run(trials=24)
    rng = np.random.default_rng(0)
    rates, momenta = 10 ** rng.uniform(-4, 0, 10_000), rng.uniform(0, 0.99, 10_000)
    distance = (np.log10(rates) + 2) ** 2 + (momenta - 0.5) ** 2
    random = 1 / (1 + distance + 0.1 * (rng.integers(0, 3, 10_000) > 0))
    assert np.mean([trial.miou for trial in outcome.trials[8:]]) > random.mean() + 0.05


def test_every_trial_has_its_folder_values_and_record(run, tmp_path):
    folders, seen = [], []

    def note(found, folder, report):
        folders.append(folder)
        seen.append((found.optim.base_lr, found.optim.momentum, found.train.batch_size))
        assert found.name == NAME
        return toy(found, folder, report)

    outcome = run(note, trials=3)
    assert folders == [tmp_path / "sweep" / f"trial-000{i}" for i in (1, 2, 3)]
    assert [tuple(trial.values.values()) for trial in outcome.trials] == seen
    assert [trial.state for trial in outcome.trials] == ["complete"] * 3
    history = json.loads((tmp_path / "sweep" / search.HISTORY).read_text())
    assert [trial["miou"] for trial in history["trials"]] == [t.miou for t in outcome.trials]
    assert history["best"]["run"] == outcome.best.run
    assert history["command"] == outcome.command


def test_grid_covers_every_point_once(run):
    grid = Space({"optim.base_lr": LogUniform(1e-3, 1e-1), "train.batch_size": Choice((4, 8))})
    outcome = run(space=grid, sampler="grid", trials=12)
    assert values(outcome) == grid.grid()
    assert len(outcome.trials) == 6
    assert outcome.best.values == {"optim.base_lr": 1e-2, "train.batch_size": 8}


def test_grid_with_too_few_trials_is_refused(run):
    with pytest.raises(UserError, match="the grid has 5 points: give --trials 5"):
        run(space=Space({"train.seed": Integer(0, 4)}), sampler="grid", trials=4)


def test_options_may_be_tuples(run):
    crops = Choice(((32, 32), (64, 48)))
    outcome = run(space=Space({"data.augmentation.crop": crops}), sampler="grid")
    assert values(outcome) == [{"data.augmentation.crop": crop} for crop in crops.options]


def test_going_on_and_asking_for_more(run):
    straight = run(trials=6)
    again = run(lambda *_: pytest.fail("a finished sweep runs nothing"), trials=6)
    assert again == straight
    assert len(run(trials=8).trials) == 8


@pytest.mark.parametrize("number", ["0001", "0006"])
def test_killed_sweep_ends_as_if_it_never_was(run, tmp_path, number):
    """SIGKILL within a trial: its values and folder are taken up again, nothing is lost or double.

    Trial 6 is after the random start: what TPE draws must not depend on the interruption either.
    """
    folder = tmp_path / "sweep"
    killed = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "sweep" / "sweep_worker.py"), str(folder), number],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = []

    def note(found, folder, report):
        if (folder / "half").exists():
            resumed.append(folder.name)
        return toy(found, folder, report)

    outcome = run(note, seed=3)
    assert resumed == [f"trial-{number}"]
    assert [trial.run for trial in outcome.trials] == [f"trial-000{i}" for i in range(1, 8)]
    found = experiment.get(NAME)
    straight = search.sweep(
        found, sweep_worker.SPACE, tmp_path / "straight", trials=7, run_trial=toy, seed=3,
        say=lambda line: None,
    )  # fmt: skip
    assert values(outcome) == values(straight)
    assert [trial.miou for trial in outcome.trials] == [trial.miou for trial in straight.trials]


def test_interrupted_grid_misses_no_point(run):
    grid = Space({"train.seed": Integer(0, 3)})

    def interrupted(found, folder, report):
        if found.train.seed == 2:
            raise KeyboardInterrupt
        return 0.5

    with pytest.raises(KeyboardInterrupt):
        run(interrupted, space=grid, sampler="grid")
    outcome = run(space=grid, sampler="grid")
    assert sorted(trial.values["train.seed"] for trial in outcome.trials) == [0, 1, 2, 3]


def test_killed_between_the_two_halves_of_tell(run, tmp_path):
    """The trial's attribute says how it ended, Optuna's state does not yet."""
    import optuna

    run(lambda *_: 0.25, trials=1)
    with storage.quiet():
        kept = storage.connect(storage.default(tmp_path / "sweep"), None)
        (trial,) = kept.get_all_trials(kept.get_study_id_from_name("sweep"))
        number = kept.create_new_trial(kept.get_study_id_from_name("sweep"))
        for name, value in {**trial.user_attrs, "run": "trial-0002"}.items():
            gone = {**storage.worker(), "started": "0"}
            kept.set_trial_user_attr(number, name, gone if name == "worker" else value)
        for name, kind in trial.distributions.items():
            inner = kind.to_internal_repr(trial.params[name])
            kept.set_trial_param(number, name, inner, kind)
    assert kept.get_trial(number).state == optuna.trial.TrialState.RUNNING
    outcome = run(lambda *_: pytest.fail("the trial had ended"), trials=2)
    assert [(trial.run, trial.miou) for trial in outcome.trials] == [
        ("trial-0001", 0.25), ("trial-0002", 0.25),
    ]  # fmt: skip


def test_torn_line_of_the_journal_is_dropped(run, tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / storage.JOURNAL).touch()  # of a sweep of a former version
    before = run(trials=2)
    with (tmp_path / "sweep" / storage.JOURNAL).open("a") as journal:
        journal.write('{"op_code": 4, "worker')
    after = run(trials=3)
    assert after.trials[:2] == before.trials
    assert run(trials=3) == after  # what was appended can be read again


def test_hopeless_trials_are_pruned(run):
    """Trials 5 and 6 report less than the median of the first four at the same step."""
    number, steps = iter(range(100)), []

    def trial(found, folder, report):
        level = 0.5 if next(number) < 4 else 0.1
        steps.append(0)
        for step in range(1, 6):
            report(step, level * step / 5)
            steps[-1] = step
        return level

    outcome = run(trial, trials=6, sampler="random")
    assert [trial.state for trial in outcome.trials] == ["complete"] * 4 + ["pruned"] * 2
    assert steps == [5, 5, 5, 5, 0, 0]
    assert outcome.trials[4].miou == pytest.approx(0.02)  # what it reported last
    assert outcome.best.miou == 0.5


def test_failing_trials_are_recorded_and_passed_over(run, tmp_path):
    number = iter(range(100))

    def trial(found, folder, report):
        match next(number):
            case 0:
                raise NonFiniteLoss("loss is nan at step 7")  # the rate was too large: a result
            case 1:
                raise UserError("disk full")
            case 2:
                raise ZeroDivisionError("bug")
            case 3:
                return float("nan")
        return toy(found, folder, report)

    lines = []
    outcome = run(trial, trials=6, say=lines.append)
    assert [trial.state for trial in outcome.trials] == ["failed"] * 4 + ["complete"] * 2
    assert [trial.error for trial in outcome.trials[:4]] == [
        "NonFiniteLoss: loss is nan at step 7", "UserError: disk full",
        "ZeroDivisionError: bug", "FloatingPointError: mIoU is nan",
    ]  # fmt: skip
    assert "ZeroDivisionError: bug" in (tmp_path / "sweep/trial-0003/error.txt").read_text()
    assert "bug" in lines[2] and lines[2].startswith("[3/6] trial-0003")
    assert outcome.best.state == "complete"


def test_users_mistake_in_the_first_trial_ends_the_sweep(run):
    def wrong(found, folder, report):
        raise UserError("no data at data/voc2012")

    with pytest.raises(UserError, match="no data at"):
        run(wrong)
    outcome = run(trials=2)  # mended: the same trial is done again
    assert [trial.run for trial in outcome.trials] == ["trial-0001", "trial-0002"]
    assert [trial.state for trial in outcome.trials] == ["complete"] * 2


def test_no_trial_completed(run):
    def trial(found, folder, report):
        raise ZeroDivisionError("bug")

    with pytest.raises(UserError, match="no trial completed; the first: trial-0001.*bug"):
        run(trial, trials=2)


def test_another_sweep_in_the_folder_is_refused_by_field(run):
    found = experiment.get(NAME)
    run(trials=1)
    with pytest.raises(UserError, match="seed was 0, is 1"):
        run(trials=2, seed=1)
    with pytest.raises(UserError, match="experiment.train.steps was"):
        run(trials=2, experiment=overrides.apply(found, {"train.steps": 7}))
    with pytest.raises(UserError, match="space.optim.base_lr.high was 1.0, is 0.1"):
        fields = {**sweep_worker.SPACE.fields, "optim.base_lr": LogUniform(1e-4, 0.1)}
        run(trials=2, space=Space(fields))
    run(trials=2, experiment=overrides.apply(found, {"data.root": Path("elsewhere")}))  # may move


def test_space_is_checked_before_anything_runs(run, tmp_path):
    with pytest.raises(UserError, match="base_lr"):
        run(space=Space({"optim.base_rl": LogUniform(1e-4, 1.0)}))
    assert not (tmp_path / "sweep").exists()


def test_best_command_round_trips_through_the_command_line(run):
    """Parsed by tyro over the registered default, the command gives the best trial's experiment."""
    found = overrides.apply(
        experiment.get(NAME), {"train.steps": 11}
    )  # an override of the sweep's own
    wide = Space({**sweep_worker.SPACE.fields, "data.augmentation.crop": Choice(((32, 64),))})
    outcome = run(experiment=found, space=wide, trials=3)
    python, dash_m, package, verb, name, *options = shlex.split(outcome.command)
    assert (python, dash_m, package, verb, name) == ("python", "-m", "seg_jax", "train", NAME)
    parsed = tyro.cli(
        experiment.Experiment, default=experiment.get(NAME), args=options,
        config=(tyro.conf.AvoidSubcommands,),
    )  # fmt: skip
    assert parsed == overrides.apply(found, outcome.best.values)
    assert parsed != experiment.get(NAME)


@pytest.mark.parametrize(
    ("name", "backbone"), [(NAME, "resnet50"), ("fcn8s_resnet14_synthetic", "mobilenet_v2")]
)
def test_the_command_names_a_backbone_that_is_not_the_recipes(name, backbone):
    """`flags` raised where the backbone was of another kind; of a network without one it gave an
    option that no command line takes.
    """
    chosen = overrides.apply(experiment.get(name).with_backbone(backbone), {"optim.base_lr": 0.5})
    words = shlex.split(search.train_command(chosen))
    assert words[4:] == [name, "--model.backbone", backbone, "--optim.base-lr", "0.5"]
    assert parsing.parse_experiment(words[4:], "train", TrainOptions)[0] == chosen


def test_history_as_text(run):
    outcome = run(trials=3)
    lines = search.as_text(outcome).splitlines()
    assert len(lines) == 3 + 3
    (marked,) = [line for line in lines[:3] if line.startswith("*")]
    assert outcome.best.run in marked and f"{100 * outcome.best.miou:.2f}" in marked
    assert lines[-1] == outcome.command


def test_ready_space_by_name():
    from seg_jax.experiments import sweeps

    assert search.load_space("experiments.sweeps:poly_lr") is sweeps.poly_lr


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("poly_lr", "write module:name"),
        ("experiments.swepes:poly_lr", "No module named 'seg_jax.experiments.swepes'"),
        (".sweeps:poly_lr", "write module:name"),
        ("experiments.sweeps:poly", "did you mean poly_lr"),
        ("experiments.sweeps:Space", "unknown name 'Space'"),
    ],
)
def test_unknown_space_is_the_users_mistake(name, words):
    with pytest.raises(UserError, match=words):
        search.load_space(name)


def test_trials_are_frozen(run):
    with pytest.raises(dataclasses.FrozenInstanceError):
        run(trials=1).best.miou = 1.0


@pytest.mark.parametrize(
    "gpus, host, number, share",
    [
        ("0,1,2,3,4,5,6,7", 0, 1, "1,3,5,7"),
        ("0,1,2,3", 2, 2, "2"),
        ("0,1", 2, 2, "0"),  # more tasks than GPUs
        ("0,1,2,3", 3, 0, "0,1,2,3"),  # alone there
        ("5", 0, 1, "5"),
    ],
)
def test_tasks_of_one_host_share_its_gpus(monkeypatch, gpus, host, number, share):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "2(x2),3,1")
    monkeypatch.setenv("SLURM_NODEID", str(host))
    monkeypatch.setenv("SLURM_LOCALID", str(number))
    workers.share_the_host()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == share
