"""The contract tests over every registered experiment, and the golden text of each.

UPDATE_GOLDEN=1 python -m pytest tests/test_model_contract.py rewrites tests/golden.
"""

import difflib
import os
from pathlib import Path

import model_contract as contract
import pytest

from seg_jax import experiment

GOLDEN = Path(__file__).parent / "golden"
UPDATE = os.environ.get("UPDATE_GOLDEN") == "1"
NAMES = experiment.names()


@pytest.mark.parametrize("name", NAMES)
def test_configuration(name):
    contract.check_configuration(name)


@pytest.mark.parametrize("name", NAMES)
def test_layers(name):
    contract.check_layers(name)


@pytest.mark.parametrize("name", NAMES)
def test_outputs(name):
    contract.check_outputs(name)


@pytest.mark.parametrize("name", NAMES)
def test_initial_experiment(name):
    contract.check_initial_experiment(name)


def representatives():
    """One experiment of each family, a quick one where there is one: they compile fastest."""
    best = {}
    for name in NAMES:
        chosen = contract.get(name)
        rank = (chosen.data.dataset != "synthetic_voc", name)
        best[chosen.family] = min(best.get(chosen.family, rank), rank)
    return sorted(name for _, name in best.values())


def some_slow(names, ordinary):
    """Return them as parameters: all but the ordinary ones compile for ten seconds and more."""
    marks = {True: (), False: (pytest.mark.slow,)}
    return [pytest.param(name, marks=marks[name.startswith(ordinary)]) for name in names]


@pytest.mark.parametrize(
    "name", some_slow(representatives(), ("fcn", "unet", "segnet", "deeplab_v1"))
)
def test_one_update(name, rng):
    contract.check_one_update(name, rng)


@pytest.mark.parametrize("name", NAMES)
def test_golden(name):
    """Nothing moves unnoticed: a constant of a recipe, a layer's name, a multiplier."""
    path, actual = GOLDEN / f"{name}.txt", contract.golden_text(name)
    if UPDATE:
        path.write_text(actual)
    expected = path.read_text() if path.exists() else ""
    if actual != expected:
        difference = difflib.unified_diff(
            expected.splitlines(), actual.splitlines(), str(path), "now", lineterm="", n=0
        )
        pytest.fail(
            f"{name} is not what {path.name} says. If that is meant, write it anew with\n"
            "  UPDATE_GOLDEN=1 python -m pytest tests/test_model_contract.py\n"
            "and, if a number of the table can move, say so in CHANGELOG.md.\n"
            + "\n".join(list(difference)[:40]),
            pytrace=False,
        )


def test_no_golden_is_left_over():
    left_over = sorted({path.stem for path in GOLDEN.glob("*.txt")} - set(NAMES))
    assert not left_over, f"no experiment has these names any more, delete: {left_over}"
