"""Moving averages, frozen parts, clipping by value, group norm, rematerialisation and losses with
state, over an interruption.
"""

import dataclasses

import jax
import numpy as np
import pytest
import tiny

from seg_jax import losses, optim, train_state
from seg_jax.nn.norm import Norm
from seg_jax.runs import checkpoint
from seg_jax.train import loop

pytestmark = pytest.mark.usefixtures("compile_once")


def test_moving_averages_frozen_parts_and_clipping_by_value_step_by_step(rng):
    config = dataclasses.replace(
        tiny.OPTIM, weight_decay=0.0, momentum=0.0, clip_value=1e-3, freeze="conv/.*",
        schedule=optim.Schedule(), rules=optim.CAFFE_RULES,
    )  # fmt: skip
    state, step = tiny.setup(tiny.Tiny(), config=config, ema_decay=0.5)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    optimizer = optim.make_optimizer(config, state.params, steps=20)
    state = train_state.init_state(variables, optimizer, ema=True)
    expected = tiny.copy(variables)
    first = tiny.copy(state.params)
    for number in range(8):
        before = tiny.copy(state.params)
        state, _ = tiny.run(state, step, [tiny.make_batch(rng)], devices=2)
        decay = min(0.5, (1 + number) / (10 + number))
        now = {"params": state.params, "batch_stats": state.batch_stats}
        expected = jax.tree.map(lambda e, x, d=decay: d * e + (1 - d) * x, expected, now)
        largest = np.abs(state.params["score"]["kernel"] - before["score"]["kernel"]).max()
        np.testing.assert_allclose(largest, 0.1 * 1e-3, rtol=1e-2)  # rate times limit
    assert tiny.largest_difference(state.ema, expected) < 1e-6
    assert tiny.largest_difference(state.params["conv"], first["conv"]) == 0
    assert tiny.largest_difference(state.ema["params"], state.params) > 1e-6
    with pytest.raises(ValueError, match="optim.freeze 'trunk/.\\*' matches no parameter"):
        optim.multipliers(dataclasses.replace(config, freeze="trunk/.*"), first)


def test_an_interrupted_run_with_all_of_them_ends_with_the_same_bits(root, tmp_path):
    class Killed(Exception):
        pass

    seen = {}

    def evaluate(experiment, variables, step):
        seen[step] = tiny.copy(variables)
        return {"mean_iou": 0.1 * step}

    def killed(experiment, variables, step):
        if step == 4:
            raise Killed
        return evaluate(experiment, variables, step)

    experiment = tiny.experiment(
        model=tiny.voc_model(dropout=0.5, norm=Norm(statistics="group", groups=2)), root=root,
        ema_decay=0.9, evaluate_every=2, best_metric="mean_iou", remat="blocks",
    )  # fmt: skip
    experiment = dataclasses.replace(
        experiment,
        optim=dataclasses.replace(experiment.optim, clip_value=0.01, freeze="norm/.*"),
        loss=losses.LossConfig(
            terms=(("cross_entropy", 1.0), ("dice", 0.5)), top_k=0.5, top_k_ramp=4
        ),
    )
    loop.fit(experiment, tmp_path / "whole", evaluate=evaluate)
    with pytest.raises(Killed):
        loop.fit(experiment, tmp_path / "run", evaluate=killed)
    loop.fit(experiment, tmp_path / "run", evaluate=evaluate)
    ours, theirs = (checkpoint.restore_variables(tmp_path / r)[1] for r in ("run", "whole"))
    assert tiny.largest_difference(ours, theirs) == 0
    assert tiny.largest_difference(ours, {n: seen[6][n] for n in ours}) == 0  # the averages
