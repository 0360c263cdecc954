"""What a sweep proposes and prunes, beside Optuna's own samplers and pruners fed by hand."""

import importlib.util
import math

import optuna
import pytest

from seg_jax import experiment
from seg_jax.checks import UserError
from seg_jax.search_space import Choice, LogUniform, Space, Uniform, When
from seg_jax.sweep import search, storage

NAME = "unet_synthetic"
STEPS = Choice((60, 600))  # schedules of different lengths
TRIALS, STARTUP = 10, 4
SHARES = (20, 40, 60, 80, 100)  # percents at which the toys below are scored


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture
def run(tmp_path):
    def call(space, run_trial, *, trials=TRIALS, folder="sweep", **settings):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / storage.JOURNAL).touch()  # a tenth of the time of a database
        return search.sweep(
            experiment.get(NAME), space, tmp_path / folder, trials=trials, run_trial=run_trial,
            say=lambda line: None, **settings,
        )  # fmt: skip

    return call


def miou(rate, share):
    """Of a rate after a share of the schedule: curves that cross."""
    return 0.1 + share / 100 * (1 - abs(math.log10(rate) + 2) / 4) * 0.5 + 0.001 / rate / share


def by_hand(pruner, rates, name):
    """Return the state and the last score of each trial, as Optuna's own pruner has it."""
    study = optuna.create_study(study_name=name, direction="maximize", pruner=pruner)
    ended = []
    for rate in rates:
        trial = study.ask()
        for share in SHARES:
            trial.report(miou(rate, share), share)
            if share < 100 and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                ended.append(("pruned", miou(rate, share)))
                break
        else:
            study.tell(trial, miou(rate, 100))
            ended.append(("complete", miou(rate, 100)))
    return ended


@pytest.mark.parametrize(
    ("kind", "pruner"),
    [
        ("median", lambda: optuna.pruners.MedianPruner(n_startup_trials=STARTUP)),
        ("asha", lambda: optuna.pruners.SuccessiveHalvingPruner(11, 3)),
        ("hyperband", lambda: optuna.pruners.HyperbandPruner(11, 100, 3)),
    ],
)
def test_trials_are_pruned_by_the_share_of_their_schedules(run, tmp_path, kind, pruner):
    """Steps 12 of 60 and 120 of 600 are one rung; a trial that is done is never pruned."""

    def trial(found, folder, report):
        steps = found.train.steps
        for step in range(steps // 5, steps + 1, steps // 5):
            report(step, miou(found.optim.base_lr, 100 * step / steps))
        return miou(found.optim.base_lr, 100)

    space = Space({"optim.base_lr": LogUniform(1e-4, 1.0), "train.steps": STEPS})
    outcome = run(space, trial, sampler="random", pruner=kind)
    assert len({t.values["train.steps"] for t in outcome.trials}) == 2
    rates = [t.values["optim.base_lr"] for t in outcome.trials]
    wanted = by_hand(pruner(), rates, "sweep")  # Hyperband's brackets depend on the study's name
    assert [t.state for t in outcome.trials] == [state for state, _ in wanted]
    assert [t.miou for t in outcome.trials] == pytest.approx([score for _, score in wanted])
    assert {state for state, _ in wanted} == {"complete", "pruned"}
    if kind == "hyperband":
        again = run(space, trial, sampler="random", pruner=kind, folder="other/sweep")
        assert [t.state for t in again.trials] == [t.state for t in outcome.trials]


NUMBERS = Space({"optim.base_lr": LogUniform(1e-4, 1.0), "optim.momentum": Uniform(0.0, 0.99)})
CONDITIONAL = Space(
    {
        "optim.optimizer": Choice(("sgd", "adamw")),
        "optim.base_lr": When(
            "optim.optimizer", {"sgd": LogUniform(1e-3, 1.0), "adamw": LogUniform(1e-5, 1e-2)}
        ),
        "optim.momentum": When("optim.optimizer", {"sgd": Uniform(0.0, 0.99)}),
    }
)


def numbers_by_hand(trial):
    return {
        "optim.base_lr": trial.suggest_float("optim.base_lr", 1e-4, 1.0, log=True),
        "optim.momentum": trial.suggest_float("optim.momentum", 0.0, 0.99),
    }


def conditional_by_hand(trial):
    if trial.suggest_categorical("optim.optimizer", ("'sgd'", "'adamw'")) == "'adamw'":
        given = "[optim.optimizer='adamw']"
        rate = trial.suggest_float(f"optim.base_lr {given}", 1e-5, 1e-2, log=True)
        return {"optim.optimizer": "adamw", "optim.base_lr": rate}
    given = "[optim.optimizer='sgd']"
    return {
        "optim.optimizer": "sgd",
        "optim.base_lr": trial.suggest_float(f"optim.base_lr {given}", 1e-3, 1.0, log=True),
        "optim.momentum": trial.suggest_float(f"optim.momentum {given}", 0.0, 0.99),
    }


def hill(rate, momentum):
    return 1 / (1 + (math.log10(rate) + 2) ** 2 + (momentum - 0.5) ** 2)


@pytest.mark.parametrize(
    ("kind", "of", "space", "suggest"),
    [
        ("random", optuna.samplers.RandomSampler, CONDITIONAL, conditional_by_hand),
        ("tpe", optuna.samplers.TPESampler, CONDITIONAL, conditional_by_hand),
        ("cmaes", optuna.samplers.CmaEsSampler, NUMBERS, numbers_by_hand),
    ],
)
def test_values_are_those_of_optunas_sampler_with_a_seed_a_trial(run, kind, of, space, suggest):
    if kind == "cmaes" and importlib.util.find_spec("cmaes") is None:
        pytest.skip("no cmaes here: pip install seg_jax[sweep-db]")

    def trial(found, folder, report):
        return hill(found.optim.base_lr, found.optim.momentum)

    outcome = run(space, trial, sampler=kind, pruner="none", seed=5)
    study = optuna.create_study(direction="maximize")
    startup = {} if kind == "random" else {"n_startup_trials": STARTUP}
    momentum = experiment.get(NAME).optim.momentum
    for number, ended in enumerate(outcome.trials):
        study.sampler = of(seed=5 + 1_000_003 * number, **startup)
        asked = study.ask()
        values = suggest(asked)
        study.tell(asked, hill(values["optim.base_lr"], values.get("optim.momentum", momentum)))
        assert ended.values == values
    if space is CONDITIONAL:
        assert {len(ended.values) for ended in outcome.trials} == {2, 3}


def test_seeds_are_repeats_that_wilcoxon_prunes_between(run):
    """A trial worse by the same for every seed: the exact one-sided p after n seeds is 1 / 2^n,
    which is below 0.1 from the fourth on.
    """
    seeds = []

    def trial(found, folder, report):
        seeds.append((found.optim.momentum, found.train.seed, folder.name))
        return 0.9 - found.optim.momentum / 10 + 0.01 * found.train.seed

    space = Space({"optim.momentum": Choice((0.5, 0.9, 0.1))})
    outcome = run(space, trial, sampler="grid", trials=3, repeats=6, pruner="wilcoxon")
    counts = {value: sum(seen == value for seen, _, _ in seeds) for value in (0.5, 0.9, 0.1)}
    assert counts == {0.5: 6, 0.9: 4, 0.1: 6}  # the third is better than the first
    assert [t.state for t in outcome.trials] == ["complete", "pruned", "complete"]
    first = experiment.get(NAME).train.seed
    assert seeds[:6] == [(0.5, first + n, f"seed-{first + n}") for n in range(6)]
    assert outcome.trials[0].miou == pytest.approx(0.85 + 0.01 * (first + 2.5))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"repeats": 2, "pruner": "median"}, "give --pruner wilcoxon"),
        ({"sampler": "cmaes", "space": CONDITIONAL}, "without choices and conditions"),
    ],
)
def test_what_does_not_fit_together_is_refused(run, settings, words):
    settings = {"space": NUMBERS, "run_trial": lambda *_: 0.5, **settings}
    with pytest.raises(UserError, match=words):
        run(settings.pop("space"), settings.pop("run_trial"), **settings)
