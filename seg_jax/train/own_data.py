"""A recipe on other data than its own: what follows from the data, and what must fit them."""

import functools
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp

from seg_jax import data, overrides
from seg_jax.checks import UserError
from seg_jax.data.source import Source
from seg_jax.data.validate import meaning
from seg_jax.experiment import Experiment

# Fields that hold one number a class: all of them belong to the data, none to the recipe.
_PER_CLASS = ("loss.class_weights",)


def adapt(
    recipe: Experiment, wanted: Experiment, given: Collection[str]
) -> tuple[Experiment, list[str]]:
    """Return the experiment with what follows from another data set, and a line for each change.

    The number of classes becomes the data set's, and the recipe's class weights and repeated
    classes are dropped, unless they were given.

    Args:
      recipe: the registered experiment.
      wanted: with the user's changes.
      given: dotted names of the fields that the user has set.

    Raises:
      UserError: the data set is not there.
    """
    if wanted.data.dataset == recipe.data.dataset:
        return wanted, []
    source = data.open_configured(wanted.data, wanted.data.train_split)
    changes: dict[str, Any] = {}
    classes = len(source.classes)
    if getattr(wanted.model, "num_classes", classes) != classes:
        changes["model.num_classes"] = classes
    changes |= {name: () for name in (*_PER_CLASS, "data.repeat_classes") if _value(wanted, name)}
    changes = {name: value for name, value in changes.items() if name not in given}
    said = [
        f"{name} {_value(wanted, name)} -> {value}: {source.name} has {classes} classes"
        if name == "model.num_classes"
        else f"{name} of the recipe dropped: they belong to {recipe.data.dataset}"
        for name, value in changes.items()
    ]
    return overrides.apply(wanted, changes), said


def _value(experiment: Experiment, path: str) -> Any:
    return functools.reduce(getattr, path.split("."), experiment)


def check_classes(experiment: Experiment, source: Source) -> None:
    """Raise a UserError unless every field that is about classes fits the data set's."""
    classes = len(source.classes)
    for name in _PER_CLASS:
        if len(values := _value(experiment, name)) not in (0, classes):
            option = "--" + name.replace("_", "-")
            raise UserError(
                f"{name} has {len(values)} entries, {source.name} has {classes} classes: give one "
                f"a class, or clear it with {option} and no numbers after it"
            )
    if beyond := [n for n in experiment.data.repeat_classes if not 0 <= n < classes]:
        raise UserError(
            f"data.repeat_classes has {beyond[0]}, {source.name} has the class ids 0 to "
            f"{classes - 1}: clear it with --data.repeat-classes and no numbers after it"
        )


def check_scores(
    experiment: Experiment, shapes: Any, input_shape: tuple[int, ...], source: Source
) -> None:
    """Raise UserError unless the model scores the data set's classes."""
    image = jax.ShapeDtypeStruct(input_shape, jnp.float32)
    apply = functools.partial(experiment.model.apply, train=False)
    scored = jax.eval_shape(apply, shapes, image)["out"].shape[-1]
    if scored != len(source.classes):
        raise UserError(
            f"the model scores {scored} classes, {source.name} has {len(source.classes)}: set "
            f"--model.num-classes {len(source.classes)}"
        )


def check_start(experiment: Experiment, source: Source, say: Callable[[str], None]) -> None:
    """Say what the training masks make meaningless, and what of the recipe has no effect.

    Raises:
      UserError: masks that contradict each other or the data set.
    """
    if jax.process_index() == 0:
        for warning in meaning.look(source).warnings:
            say(f"  warning: {warning}")
    seen, changes = experiment.data.preprocessing, experiment.data.augmentation
    if seen.channels != 3 and any(changes.jitter):
        say(f"  augmentation.jitter is off: {seen.channels} channels have no colour to change")


def given_fields(args: Collection[str]) -> set[str]:
    """Return the dotted names of the fields that a command line sets."""
    options = (arg.split("=", 1)[0] for arg in args if arg.startswith("--"))
    return {
        option[2:].replace(".no-", ".").replace("-", "_") for option in options if "." in option
    }
