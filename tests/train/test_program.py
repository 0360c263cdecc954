"""One compiled step for all runs that differ in numbers only."""

import dataclasses
import logging

import jax
import numpy as np
import pytest
import tiny

from seg_jax import overrides
from seg_jax.losses import LossConfig
from seg_jax.optim import Schedule
from seg_jax.train import loop, program

# What a sweep varies, and runs with several seeds.
NUMBERS = {
    "optim.base_lr": 0.003,
    "optim.momentum": 0.5,
    "optim.weight_decay": 0.01,
    "optim.clip_norm": 0.7,
    "optim.schedule.power": 1.4,
    "optim.schedule.warmup": 3,
    "loss.heads": (("out", 0.5),),
    "loss.class_weights": tuple(np.linspace(0.5, 2, 21)),
    "train.steps": 5,
    "train.seed": 4,
}


def recipe(root=None):
    found = tiny.experiment(root=root)
    return dataclasses.replace(
        found,
        optim=dataclasses.replace(found.optim, clip_norm=5.0, schedule=Schedule("poly", warmup=1)),
        loss=LossConfig(class_weights=(1.0,) * 21),
    )


def test_runs_that_differ_in_numbers_compile_once(tmp_path, caplog):
    """Every compilation of the process is counted, not only that of the step."""
    found = recipe(tiny.write_pictures(tmp_path / "data"))

    def compiled(index, values):
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            chosen = overrides.apply(found, values)
            summary = loop.fit(chosen, tmp_path / f"run{index}", progress=False)
        names = [
            r.getMessage().split("XLA compilation of ")[1].split(" ")[0]
            for r in caplog.records
            if "Finished XLA compilation" in r.getMessage()
        ]
        return names, summary.metrics["loss"]

    first, loss = compiled(0, {})
    assert "jit(train_step)" in first
    names, other = compiled(1, NUMBERS)
    assert names == [] and other != loss
    names, _ = compiled(2, {"optim.schedule.kind": "fixed"})
    assert "jit(train_step)" in names


@pytest.mark.parametrize("path", sorted(NUMBERS.keys() - {"train.seed"}))
def test_every_number_is_an_input_of_the_step(path):
    """Same structure, another input: a number that was lost would leave both unchanged."""
    found, changed = recipe(), overrides.apply(recipe(), {path: NUMBERS[path]})
    assert program.structure(found) == program.structure(changed)
    pair = [jax.tree.leaves(program.hyperparameters(each)) for each in (found, changed)]
    assert pair[0] != pair[1]


def test_a_zero_is_structure():
    found = recipe()
    for path in ("optim.weight_decay", "optim.clip_norm", "optim.schedule.warmup"):
        changed = overrides.apply(found, {path: 0})
        assert program.structure(changed) != program.structure(found)
