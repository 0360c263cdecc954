"""Runs under other protocols than their own."""

from types import SimpleNamespace

import numpy as np
import pytest

from seg_jax.metrics import bootstrap
from seg_jax.reproduce import other_protocols
from seg_jax.reproduce.plan import Step

STEPS = [Step(f"title {name}", name) for name in "abcde"]


@pytest.fixture
def right(monkeypatch):
    """Of 100 pixels of each of two classes, the share that is right is 0.5, 0.6, ... by step."""
    shares = {step.experiment: 0.5 + 0.1 * index for index, step in enumerate(STEPS)}

    def scored(run, step, command):
        hit = round(100 * shares[step.experiment])
        confusion = np.array([[hit, 100 - hit], [100 - hit, hit]])
        counts = np.stack([bootstrap.image_counts(confusion)] * 3)
        return other_protocols.Scored(None, counts)

    monkeypatch.setattr(other_protocols, "scored", scored)
    return {name: share / (2 - share) for name, share in shares.items()}  # IoU


def runs(names, first=True):
    return [
        SimpleNamespace(
            experiment=SimpleNamespace(name=name, family=f"network {name}"), first=first
        )
        for name in names
    ]


def test_a_waterfall_goes_from_step_to_step(right):
    start, rises = other_protocols.waterfall(STEPS, runs("edcba"), "")
    assert (start.name, start.interval.value) == ("title a", pytest.approx(right["a"]))
    assert [rise.name for rise in rises] == [f"title {name}" for name in "bcde"]
    for rise, before, after in zip(rises, "abcd", "bcde", strict=True):
        assert (rise.before, rise.after) == pytest.approx((right[before], right[after]))
        assert rise.change.value == pytest.approx(right[after] - right[before])


@pytest.mark.parametrize(
    ("there", "shown"),
    [("abde", "de"), ("acde", "cde"), ("bcde", "bcde"), ("abcd", ""), ("ace", "")],
)
def test_no_step_is_credited_with_what_a_missing_one_changed(right, there, shown):
    found = other_protocols.waterfall(STEPS, runs(there), "")
    if not shown:
        assert found is None
        return
    start, rises = found
    assert start.name == f"network {shown[0]}"  # its title says what it changed
    assert [rise.name for rise in rises] == [f"title {name}" for name in shown[1:]]


def test_further_seeds_are_not_in_a_waterfall(right):
    assert other_protocols.waterfall(STEPS, runs("abcde", first=False), "") is None
