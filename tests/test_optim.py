"""Optimisers against twins written out in NumPy float64; schedules against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seg_jax import optim
from seg_jax.optim import OptimConfig, Rule, Schedule

STEPS = 10
RULES = (
    Rule("body/stem/.*", lr=0.0),
    Rule("head/.*/kernel", lr=10.0),
    Rule("head/.*/bias", lr=20.0, decay=0.0),
    *optim.CAFFE_RULES,
)
PAIRS = {
    "body/conv/bias": (2.0, 0.0),
    "body/conv/kernel": (1.0, 1.0),
    "body/norm/scale": (1.0, 0.0),
    "body/stem/kernel": (0.0, 1.0),
    "head/score/bias": (20.0, 0.0),
    "head/score/kernel": (10.0, 1.0),
}


def nest(flat):
    tree = {}
    for name, value in flat.items():
        *parents, leaf = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


def draw(rng):
    return {name: rng.normal(size=(3, 2)).astype(np.float32) for name in PAIRS}


def rate_of(schedule, base, step):
    """The schedules in plain Python."""
    rate = base
    if schedule.kind == "poly":
        rate *= (1 - step / STEPS) ** schedule.power
    if schedule.kind == "step":
        rate *= schedule.factor ** (step // schedule.every)
    if schedule.warmup:
        rate *= min(step / schedule.warmup, 1)
    return rate


def twin(config, start, gradients):
    """Run the update rules as the papers and frameworks print them, one parameter at a time."""
    weights = {name: value.astype(np.float64) for name, value in start.items()}
    first = {name: np.zeros((3, 2)) for name in start}
    second = {name: np.zeros((3, 2)) for name in start}
    for step, gradient in enumerate(gradients):
        rate = rate_of(config.schedule, config.base_lr, step)
        live = [name for name in start if PAIRS[name][0] > 0]
        norm = np.sqrt(sum(np.sum(gradient[name].astype(np.float64) ** 2) for name in live))
        clip = min(1.0, config.clip_norm / norm) if config.clip_norm else 1.0
        for name in live:
            lr, decay = PAIRS[name]
            w, m = weights[name], config.momentum
            g = gradient[name] * clip
            pull = config.weight_decay * decay * w
            if config.optimizer == "sgd":
                first[name] = m * first[name] + rate * lr * (g + pull)
                weights[name] = w - first[name]
            elif config.optimizer == "sgd_torch":
                first[name] = m * first[name] + (g + pull)
                weights[name] = w - rate * lr * first[name]
            else:
                first[name] = m * first[name] + (1 - m) * g
                second[name] = 0.999 * second[name] + 0.001 * g**2
                mean = first[name] / (1 - m ** (step + 1))
                scale = np.sqrt(second[name] / (1 - 0.999 ** (step + 1))) + 1e-8
                weights[name] = w - rate * lr * (mean / scale + pull)
    return weights


def run(config, start, gradients):
    params = nest({name: jnp.asarray(value) for name, value in start.items()})
    optimizer = optim.make_optimizer(config, params, steps=STEPS)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, gradient):
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    # optax raises Adam's beta (float) to the step count (int), which strict promotion refuses.
    promotion = "standard" if config.optimizer == "adamw" else "strict"
    with jax.numpy_dtype_promotion(promotion):
        for gradient in gradients:
            params, state = step(params, state, nest(gradient))
    leaves = jax.tree.leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


@pytest.mark.parametrize("clip_norm", [0.0, 2.0])
@pytest.mark.parametrize("kind", ["fixed", "poly", "step"])
@pytest.mark.parametrize("optimizer", ["sgd", "sgd_torch", "adamw"])
def test_equals_the_twin(rng, optimizer, kind, clip_norm):
    # optax corrects Adam's bias by 1 - 0.999^t in float32, good to 3e-5 of an update.
    config = OptimConfig(
        base_lr=0.001 if optimizer == "adamw" else 0.01,
        optimizer=optimizer,
        weight_decay=0.1,
        schedule=Schedule(kind, every=3, warmup=2 if kind == "poly" else 0),
        rules=RULES,
        clip_norm=clip_norm,
    )
    start, gradients = draw(rng), [draw(rng) for _ in range(8)]
    ours, expected = run(config, start, gradients), twin(config, start, gradients)
    for name in PAIRS:
        np.testing.assert_allclose(ours[name], expected[name], rtol=2e-5, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(ours["body/stem/kernel"], start["body/stem/kernel"])


def test_caffe_and_torch_momentum_part_only_when_the_rate_changes(rng):
    start, gradients = draw(rng), [draw(rng) for _ in range(8)]

    def gap(kind):
        make = lambda name: OptimConfig(0.01, name, schedule=Schedule(kind), rules=RULES)  # noqa: E731
        caffe, torch = (run(make(name), start, gradients) for name in ("sgd", "sgd_torch"))
        return max(float(jnp.max(jnp.abs(caffe[name] - torch[name]))) for name in PAIRS)

    assert gap("fixed") < 1e-5
    assert gap("poly") > 1e-2


def test_multipliers_take_the_first_rule_that_matches_the_whole_name(rng):
    params = nest(draw(rng))
    assert optim.multipliers(OptimConfig(0.1, rules=RULES), params) == PAIRS
    # fullmatch: "head" alone matches nothing below it.
    loose = OptimConfig(0.1, rules=(Rule("head", lr=5.0), Rule(".*")))
    assert set(optim.multipliers(loose, params).values()) == {(1.0, 1.0)}
    shapes = jax.eval_shape(lambda: params)
    assert optim.multipliers(OptimConfig(0.1, rules=RULES), shapes) == PAIRS


def test_unmatched_parameters_are_all_listed(rng):
    config = OptimConfig(0.1, rules=(Rule("body/.*"),))
    with pytest.raises(ValueError, match="head/score/bias, head/score/kernel; add a rule"):
        optim.make_optimizer(config, nest(draw(rng)), steps=STEPS)


def test_frozen_parameters_hold_no_momentum(rng):
    params = nest(draw(rng))
    state = optim.make_optimizer(OptimConfig(0.1, rules=RULES), params, steps=STEPS).init(params)
    buffers = [leaf for leaf in jax.tree.leaves(state) if leaf.shape == (3, 2)]
    assert len(buffers) == sum(lr > 0 for lr, _ in PAIRS.values())


def test_schedules_equal_their_closed_forms_and_optax():
    def rates(schedule):
        config = OptimConfig(0.02, schedule=schedule)
        return [float(optim.learning_rate(config, STEPS, step)) for step in range(STEPS + 2)]

    np.testing.assert_allclose(rates(Schedule("fixed")), [0.02] * 12, rtol=1e-6)
    poly = optax.polynomial_schedule(0.02, 0.0, power=0.9, transition_steps=STEPS)
    np.testing.assert_allclose(rates(Schedule("poly")), [poly(s) for s in range(12)], rtol=1e-5)
    assert rates(Schedule("poly"))[STEPS:] == [0.0, 0.0]
    settled = rates(Schedule("poly", settle=4))
    short = optax.polynomial_schedule(0.02, 0.0, power=0.9, transition_steps=STEPS - 4)
    np.testing.assert_allclose(settled, [short(s) for s in range(12)], rtol=1e-5)
    assert rates(Schedule("fixed", settle=1))[STEPS - 2 : STEPS] == [np.float32(0.02), 0.0]
    with pytest.raises(ValueError, match="settle 10 must be less than 10 steps"):
        rates(Schedule("fixed", settle=STEPS))
    drops = [0.02] * 4 + [0.002] * 4 + [0.0002] * 4
    np.testing.assert_allclose(rates(Schedule("step", every=4)), drops, rtol=1e-6)
    warm = rates(Schedule("poly", power=1.0, warmup=4))
    np.testing.assert_allclose(
        warm[:6], [0, 0.02 * 0.9 / 4, 0.02 * 0.8 / 2, 0.02 * 0.7 * 0.75, 0.012, 0.01], rtol=1e-5
    )


def test_schedules_with_an_end_or_milestones_equal_optax():
    def rates(schedule):
        config = OptimConfig(0.02, schedule=schedule)
        return [float(optim.learning_rate(config, STEPS, step)) for step in range(STEPS + 2)]

    # TensorFlow's polynomial_decay(end_learning_rate, decay_steps), as in the DeepLab release.
    poly = optax.polynomial_schedule(0.02, 0.002, power=0.9, transition_steps=6)
    found = rates(Schedule("poly", end=0.1, decay_steps=6))
    np.testing.assert_allclose(found, [poly(s) for s in range(12)], rtol=1e-5)
    cosine = optax.cosine_decay_schedule(0.02, STEPS, alpha=0.1)
    found = rates(Schedule("cosine", end=0.1))
    np.testing.assert_allclose(found, [cosine(s) for s in range(12)], rtol=1e-5)
    drops = optax.piecewise_constant_schedule(0.02, {2: 0.1, 6: 0.1})
    found = rates(Schedule("multi_step", milestones=(3, 7)))  # optax drops after its boundary
    np.testing.assert_allclose(found, [drops(s - 1) for s in range(12)], rtol=1e-5)
    for fields in ({"end": 0.1}, {"decay_steps": 5}, {"milestones": (3,)}):
        with pytest.raises(ValueError, match=f"{next(iter(fields))} is of the schedules"):
            Schedule("step", **fields)
    with pytest.raises(ValueError, match="needs milestones"):
        Schedule("multi_step")


def test_step_schedule_drops_exactly_at_multiples_of_every():
    config = OptimConfig(1.0, schedule=Schedule("step", every=7, factor=0.5))
    rate = jax.jit(jax.vmap(lambda step: optim.learning_rate(config, 10**6, step)))
    steps = np.arange(0, 140, dtype=np.int32)
    np.testing.assert_array_equal(rate(steps), 0.5 ** (steps // 7))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: OptimConfig(0.0), "base_lr must be positive, got 0"),
        (lambda: OptimConfig(0.1, "sdg"), "did you mean sgd"),
        (lambda: OptimConfig(0.1, momentum=1.5), r"momentum must lie in \[0, 1\], got 1.5"),
        (lambda: Schedule("polly"), "did you mean poly"),
        (lambda: Schedule(every=0), "every must be positive, got 0"),
        (lambda: Rule("head/(.*"), r"pattern 'head/\(\.\*'"),
        (lambda: Rule(".*", lr=-1.0), "lr must not be negative, got -1.0"),
    ],
)
def test_mistakes_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
