"""Optimisers with learning-rate and decay multipliers by regular expressions on names."""

import dataclasses
import re
from collections.abc import Hashable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from seg_jax import checks
from seg_jax.optim import transformations

_LARGEST_INT = 2**31 - 1  # steps are counted in int32


@dataclasses.dataclass(frozen=True)
class Rule:
    """Multipliers for the parameters whose full "/"-joined name matches the pattern.

    Attributes:
      pattern: regular expression, e.g. "head/.*/bias".
      lr: learning-rate multiplier; 0 freezes.
      decay: weight-decay multiplier.
    """

    pattern: str
    lr: float = 1.0
    decay: float = 1.0

    def __post_init__(self):
        checks.non_negative(lr=self.lr, decay=self.decay)
        checks.pattern(self.pattern)

    @property
    def is_of_norms(self) -> bool:
        """Whether it is for norms alone: matches their scales, and no convolution's kernel."""
        scale, kernel = "backbone/conv1/bn/scale", "backbone/conv1/conv/kernel"
        return bool(re.fullmatch(self.pattern, scale)) and not re.fullmatch(self.pattern, kernel)


# As in the Caffe releases: biases learn twice as fast; biases and norm scales do not decay.
CAFFE_RULES = (
    Rule(".*/kernel"),
    Rule(".*/bias", lr=2.0, decay=0.0),
    Rule(".*/scale", decay=0.0),
)


# Where a field would have no effect it is refused: nobody should believe that it had one.
_ONLY_OF = {
    "milestones": ("multi_step",), "end": ("poly", "cosine"), "decay_steps": ("poly", "cosine"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Learning rate over the steps, as a multiple of the base rate.

    Attributes:
      kind: "fixed"; "poly": end + (1 - end) (1 - step/steps)^power; "cosine": end + (1 - end) (1 +
        cos(pi step/steps))/2; "step": factor^floor(step/every); "multi_step": factor^(number of
        milestones that are reached).
      power: of "poly".
      every: steps between two drops of "step".
      factor: of a drop.
      milestones: steps at which "multi_step" drops, ascending.
      end: of "poly" and "cosine": their last value, as a multiple of the base rate.
      decay_steps: over which "poly" and "cosine" fall; they stay at `end` then. 0: all steps.
      warmup: initial steps over which the rate rises linearly from 0 to the schedule's.
      settle: last steps, at a rate of 0, in which the running averages of batch norms converge.
        Needed if the rate stays high to the end.
    """

    kind: Literal["fixed", "poly", "cosine", "step", "multi_step"] = "fixed"
    power: float = 0.9
    every: int = 2000
    factor: float = 0.1
    milestones: tuple[int, ...] = ()
    end: float = 0.0
    decay_steps: int = 0
    warmup: int = 0
    settle: int = 0

    def __post_init__(self):
        checks.one_of(("fixed", "poly", "cosine", "step", "multi_step"), kind=self.kind)
        checks.positive(power=self.power, every=self.every, factor=self.factor)
        checks.non_negative(warmup=self.warmup, settle=self.settle, decay_steps=self.decay_steps)
        checks.fraction(end=self.end)
        if list(self.milestones) != sorted({*self.milestones, 0})[1:]:
            raise ValueError(f"milestones must be positive and ascend, got {self.milestones}")
        for name, kinds in _ONLY_OF.items():
            if getattr(self, name) and self.kind not in kinds:
                raise ValueError(f"{name} is of the schedules {', '.join(kinds)}, not {self.kind}")
        if self.kind == "multi_step" and not self.milestones:
            raise ValueError('kind "multi_step" needs milestones: the steps at which it drops')


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """Optimiser and schedule.

    Attributes:
      base_lr: learning rate before schedule and multipliers.
      optimizer: "sgd" is Caffe's: the learning rate multiplies the gradient before it enters the
        momentum buffer; "sgd_torch" multiplies after; "adamw".
      momentum: of SGD; beta1 of AdamW.
      weight_decay: L2 penalty added to the gradient (SGD), decoupled decay (AdamW).
      schedule: of the learning rate.
      rules: the first that matches a parameter's name applies; a parameter without a rule is an
        error.
      clip_norm: largest global norm of the gradient, without frozen parameters and before weight
        decay; 0: not clipped.
      clip_value: largest magnitude of each element of the gradient, before `clip_norm`; 0: not
        clipped.
      freeze: regular expression; parameters whose full name matches it do not learn, whatever the
        rules say, e.g. "backbone/.*". The running averages of norms go on. Empty: none.
    """

    base_lr: float
    optimizer: Literal["sgd", "sgd_torch", "adamw"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Schedule = Schedule()
    rules: tuple[Rule, ...] = CAFFE_RULES
    clip_norm: float = 0.0
    clip_value: float = 0.0
    freeze: str = ""

    def __post_init__(self):
        checks.one_of(("sgd", "sgd_torch", "adamw"), optimizer=self.optimizer)
        checks.positive(base_lr=self.base_lr)
        checks.fraction(momentum=self.momentum)
        checks.non_negative(weight_decay=self.weight_decay, clip_norm=self.clip_norm)
        checks.non_negative(clip_value=self.clip_value)
        try:
            re.compile(self.freeze)
        except re.error as error:
            raise ValueError(f"freeze {self.freeze!r}: {error}") from error


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Numbers:
    """The numbers of an OptimConfig that a compiled step takes as inputs: scalars.

    What only depends on them and is rounded to float32 is computed here, in double precision, so
    that a step with these inputs gives the bits of one with constants.

    Attributes:
      base_lr: float32.
      momentum: float32.
      one_minus_momentum: float32; 1 - momentum in float32 would be another number.
      weight_decay: float32, times the decay multiplier of each rule, in the order of the rules.
      clip_norm: float32.
      clip_value: float32.
      power: float32, of the schedule.
      every: int32.
      factor: float32.
      warmup: float32.
      steps: int32, after which the schedule settles.
      length: over which the rate falls, float32: the same steps, or `decay_steps`.
    """

    base_lr: Any
    momentum: Any
    one_minus_momentum: Any
    weight_decay: tuple[Any, ...]
    clip_norm: Any
    clip_value: Any
    power: Any
    every: Any
    factor: Any
    warmup: Any
    steps: Any
    length: Any


def numbers(config: OptimConfig, steps: int) -> Numbers:
    """Return the numbers of a recipe of `steps` steps, as NumPy scalars.

    Raises:
      ValueError: there are not more steps than the schedule settles for.
    """
    schedule = config.schedule
    if schedule.settle >= steps:
        raise ValueError(f"optim.schedule.settle {schedule.settle} must be less than {steps} steps")
    steps -= schedule.settle
    return Numbers(
        base_lr=np.float32(config.base_lr),
        momentum=np.float32(config.momentum),
        one_minus_momentum=np.float32(1 - config.momentum),
        weight_decay=tuple(np.float32(config.weight_decay * rule.decay) for rule in config.rules),
        clip_norm=np.float32(config.clip_norm),
        clip_value=np.float32(config.clip_value),
        power=np.float32(schedule.power),
        every=np.int32(min(schedule.every, _LARGEST_INT)),
        factor=np.float32(schedule.factor),
        warmup=np.float32(schedule.warmup),
        steps=np.int32(min(steps, _LARGEST_INT)),
        length=np.float32(schedule.decay_steps or steps),
    )


def structure(config: OptimConfig) -> OptimConfig:
    """Return the configuration with 1 in place of what `numbers` takes from it, except for zeros.

    Configurations of one structure share one compiled step. A decay, a clipping, a warm-up or a
    settling of 0 is structure: nothing is computed for it.
    """
    schedule = dataclasses.replace(
        config.schedule,
        power=1.0,
        every=1,
        factor=1.0,
        warmup=min(config.schedule.warmup, 1),
        settle=min(config.schedule.settle, 1),
        decay_steps=0,
    )
    return dataclasses.replace(
        config,
        base_lr=1.0,
        momentum=1.0,
        weight_decay=float(config.weight_decay > 0),
        clip_norm=float(config.clip_norm > 0),
        clip_value=float(config.clip_value > 0),
        schedule=schedule,
    )


def learning_rate(config: OptimConfig, steps: int, step: Any) -> jax.Array:
    """Return the learning rate of update number `step` (from 0) of `steps`, float32 [].

    Raises:
      ValueError: there are not more steps than the schedule settles for.
    """
    return scheduled_rate(config.schedule, numbers(config, steps), step)


def scheduled_rate(schedule: Schedule, numbers: Numbers, step: Any) -> jax.Array:
    """Return the learning rate of update number `step` (from 0), float32 [].

    "poly" is DeepLab v2's and PSPNet's: base_lr * (1 - step / steps)^power, 0 at the end. With an
    end and a length of its own it is TensorFlow's polynomial_decay.

    Args:
      schedule: its kind, end and milestones, and whether it warms up and settles; its other numbers
        are not read.
      numbers: perhaps traced.
      step: perhaps traced.
    """
    step = jnp.asarray(step, jnp.int32)
    now = step.astype(jnp.float32)
    rate = jnp.float32(numbers.base_lr)
    if schedule.kind == "poly":
        left = jnp.maximum(1.0 - now / numbers.length, 0.0) ** numbers.power
        rate = rate * _from_one_to(schedule.end, left)
    elif schedule.kind == "cosine":
        turn = np.float32(np.pi) * jnp.minimum(now / numbers.length, 1.0)
        rate = rate * _from_one_to(schedule.end, (1.0 + jnp.cos(turn)) / 2)
    elif schedule.kind == "multi_step":
        reached = jnp.sum(step >= np.array(schedule.milestones, np.int32))
        rate = rate * numbers.factor ** reached.astype(jnp.float32)
    elif schedule.kind == "step":
        rate = rate * numbers.factor ** (step // numbers.every).astype(jnp.float32)
    if schedule.warmup:
        rate = rate * jnp.minimum(now / numbers.warmup, 1.0)
    return jnp.where(step < numbers.steps, rate, 0.0) if schedule.settle else rate


def _from_one_to(end: float, left: Any) -> Any:
    """Return `left`, which falls from 1 to 0, squeezed so that it falls from 1 to `end`."""
    return np.float32(end) + np.float32(1 - end) * left if end else left


def multipliers(config: OptimConfig, params: Any) -> dict[str, tuple[float, float]]:
    """Return (learning-rate, decay) multipliers of every parameter by its "/"-joined name.

    Args:
      config: its rules are tried in order; the first that matches the full name applies.
      params: nested dictionary of arrays or shapes.

    Raises:
      ValueError: some parameters match no rule (lists all of them), or `freeze` matches none.
    """
    found = {}
    for path, _ in jax.tree.leaves_with_path(params):
        name = _name(path)
        rule = next((r for r in config.rules if re.fullmatch(r.pattern, name)), None)
        found[name] = rule and (rule.lr, rule.decay)
    unmatched = [name for name, pair in found.items() if pair is None]
    if unmatched:
        raise ValueError(
            f"optim.rules {[rule.pattern for rule in config.rules]} match none of these "
            f"parameters: {', '.join(unmatched)}; add a rule, Rule('.*') at the end matches all"
        )
    if config.freeze:
        frozen = [name for name in found if re.fullmatch(config.freeze, name)]
        if not frozen:
            raise ValueError(
                f"optim.freeze {config.freeze!r} matches no parameter; there are "
                f"{', '.join(list(found)[:3])}, ..."
            )
        found |= {name: (0.0, found[name][1]) for name in frozen}
    return found


def make_optimizer(config: OptimConfig, params: Any, *, steps: int) -> optax.GradientTransformation:
    """Build the optimiser; `update` needs the parameters and returns their increments.

    With g the gradient after clipping, d and r the parameter's multipliers:

        sgd        v = momentum v + lr r (g + weight_decay d w);  w = w - v         (Caffe)
        sgd_torch  v = momentum v + (g + weight_decay d w);       w = w - lr r v    (PyTorch)
        adamw      w = w - lr r (adam(g) + weight_decay d w)      (arXiv 1711.05101, Algorithm 2)

    The two SGDs are equal as long as lr is constant, and differ under every other schedule.

    Args:
      config: optimiser, schedule and rules.
      params: nested dictionary of arrays or shapes; rules are matched with its names.
      steps: length of the schedule.

    Raises:
      ValueError: a parameter that no rule matches.
    """
    return with_numbers(config, params, numbers(config, steps))


def with_numbers(
    config: OptimConfig, params: Any, numbers: Numbers
) -> optax.GradientTransformation:
    """Build the optimiser of `make_optimizer` with numbers that may be traced.

    Args:
      config: as of `structure`; what `numbers` has is read from there alone.
      params: nested dictionary of arrays or shapes; rules are matched with its names.
      numbers: of the configuration.
    """
    pairs = multipliers(config, params)
    labels = jax.tree.map_with_path(lambda path, _: _group(pairs[_name(path)]), params)
    frozen = jax.tree.map_with_path(lambda path, _: pairs[_name(path)][0] == 0, params)
    groups: dict[Hashable, optax.GradientTransformation] = {
        _group(pair): _update(config, numbers, *pair) for pair in sorted(set(pairs.values()))
    }
    clip = optax.identity()
    if config.clip_norm:
        clip = transformations.clip_by_global_norm(numbers.clip_norm)
    if config.clip_value:
        clip = optax.chain(transformations.clip_by_value(numbers.clip_value), clip)
    # Frozen gradients are zeroed first: they must not count in the norm for clipping.
    return optax.chain(
        optax.masked(optax.set_to_zero(), frozen), clip, optax.partition(groups, labels)
    )


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _group(pair: tuple[float, float]) -> str:
    return "frozen" if pair[0] == 0 else f"lr_{pair[0]}_decay_{pair[1]}"


def _update(
    config: OptimConfig, numbers: Numbers, lr: float, decay: float
) -> optax.GradientTransformation:
    """Return the transformation for the parameters with these multipliers."""
    if lr == 0:
        return optax.set_to_zero()
    rule = next(index for index, rule in enumerate(config.rules) if rule.decay == decay)
    decays = config.weight_decay and decay
    weight_decay = optax.add_decayed_weights(numbers.weight_decay[rule] if decays else 0.0)
    rate = optax.scale_by_schedule(lambda step: _scaled_rate(config.schedule, numbers, step, -lr))
    momentum = optax.trace(numbers.momentum)
    if config.optimizer == "sgd":
        return optax.chain(weight_decay, rate, momentum)
    if config.optimizer == "sgd_torch":
        return optax.chain(weight_decay, momentum, rate)
    adam = transformations.scale_by_adam(numbers.momentum, numbers.one_minus_momentum)
    return optax.chain(adam, weight_decay, rate)


def _scaled_rate(schedule: Schedule, numbers: Numbers, step: Any, factor: float) -> jax.Array:
    """Return a factor times the learning rate, rounded as XLA rounds it where both are constants:
    it multiplies two factors that follow each other first.
    """
    if schedule.warmup or schedule.settle:
        return factor * scheduled_rate(schedule, numbers, step)
    base_lr = jnp.float32(factor) * numbers.base_lr
    return scheduled_rate(schedule, dataclasses.replace(numbers, base_lr=base_lr), step)
