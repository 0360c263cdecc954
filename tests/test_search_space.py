import dataclasses
import math
from pathlib import Path

import pytest

from seg_jax import config, experiment, overrides, search_space
from seg_jax.checks import UserError
from seg_jax.search_space import Choice, Integer, LogUniform, Space, Uniform


@pytest.fixture
def unet():
    return experiment.get("unet_synthetic")


def test_apply_follows_the_path_through_dataclasses_and_modules(unet):
    fcn = experiment.get("fcn8s_vgg16_voc")
    changed = overrides.apply(
        fcn,
        {"optim.base_lr": 0.25, "optim.schedule.kind": "poly", "model.backbone.width": 0.5,
         "data.augmentation.crop": (64, 32)},
    )  # fmt: skip
    assert config.difference(fcn, changed) == {
        "optim.base_lr": (1e-14, 0.25),
        "optim.schedule.kind": ("fixed", "poly"),
        "model.backbone.width": (1.0, 0.5),
        "data.augmentation.crop.0": (500, 64),
        "data.augmentation.crop.1": (500, 32),
    }
    assert type(changed.model) is type(fcn.model)
    assert fcn == experiment.get("fcn8s_vgg16_voc")  # the given one is as it was


@pytest.mark.parametrize(
    ("path", "distribution", "words"),
    [
        ("optim.base_rl", Uniform(0, 1), ["optim.base_rl", "base_lr"]),
        ("optm.base_lr", Uniform(0, 1), ["optm", "optim"]),
        ("model.widht", Uniform(0.1, 1), ["model.widht", "width"]),
        ("optim.base_lr.x", Uniform(0, 1), ["optim.base_lr", "no fields"]),
        ("optim.schedule", Choice(("poly",)), ["a group", "optim.schedule.power"]),
        ("name", Choice(("other",)), ["unknown name 'name'"]),
        ("train.batch_size", Uniform(1, 8), ["of type int", "1.0"]),
        ("train.batch_size", Choice((4, True)), ["True"]),
        ("optim.base_lr", Choice((0.1, "0.2")), ["of type float", "'0.2'"]),
        ("optim.optimizer", Choice(("sgd", "adam")), ["'adam'", "'adamw'"]),
        ("data.augmentation.crop", Choice(((64, 64), (64,))), ["(64,)"]),
        ("data.augmentation.crop", Choice(((64, 64), (64, 0.5))), ["(64, 0.5)"]),
        ("data.augmentation.scale", Choice(((2.0, 1.0),)), ["refused", "scale_range"]),
        ("data.augmentation.flip", Uniform(0.5, 1.5), ["refused", "flip must lie in [0, 1]"]),
        ("data.root", Choice(("elsewhere",)), ["of type", "Path", "'elsewhere'"]),
        ("train.accumulate", Choice((1, 5)), ["refused", "not a multiple of accumulate 5"]),
    ],
)
def test_space_that_does_not_fit_is_refused(unet, path, distribution, words):
    with pytest.raises(UserError) as caught:
        search_space.check(Space({path: distribution}), unet)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_space_that_fits_passes(unet):
    search_space.check(
        Space(
            {
                "optim.base_lr": LogUniform(1e-4, 1.0),
                "optim.momentum": Integer(0, 1),  # a whole number may stand for a real one
                "train.steps": Integer(10, 100, 30),
                "data.root": Choice((None, Path("elsewhere"))),
                "data.augmentation.scale": Choice(((1.0, 1.0), (0.5, 2))),
            }
        ),
        unet,
    )


@pytest.mark.parametrize(
    "build",
    [
        lambda: Uniform(1.0, 1.0),
        lambda: Uniform(0.0, math.inf),
        lambda: Uniform(0.0, 1.0, points=1),
        lambda: LogUniform(0.0, 1.0),
        lambda: Integer(1, 2.5),
        lambda: Integer(1, 5, 0),
        lambda: Choice(()),
        lambda: Choice("abc"),
        lambda: Choice((1, 2, 1)),
        lambda: Space({}),
        lambda: Space({"optim.base_lr": (1e-3, 1e-1)}),
    ],
)
def test_impossible_distributions_are_refused(build):
    with pytest.raises(UserError):
        build()


def test_grids():
    assert Uniform(0.5, 1.5).grid() == (0.5, 1.0, 1.5)
    assert LogUniform(1e-3, 1e-1, points=5).grid() == pytest.approx(
        [1e-3, 10**-2.5, 1e-2, 10**-1.5, 1e-1], rel=1e-11
    )
    assert LogUniform(1e-4, 1e-1, points=4).grid() == (1e-4, 1e-3, 1e-2, 1e-1)
    assert Integer(2, 9, 3).grid() == (2, 5, 8)
    grid = Space({"a": Choice((1, 2)), "b": Integer(0, 2)}).grid()
    assert grid == [{"a": a, "b": b} for a in (1, 2) for b in (0, 1, 2)]


def test_flags_name_what_differs(unet):
    changed = overrides.apply(
        unet,
        {"optim.base_lr": 0.1 + 0.2, "data.augmentation.crop": (32, 64), "data.root": Path("x y")},
    )
    assert list(overrides.flags(unet, changed)) == [
        "--data.augmentation.crop", "32", "64", "--data.root", "x y",
        "--optim.base-lr", "0.30000000000000004",
    ]  # fmt: skip
    assert list(overrides.flags(unet, unet)) == []


def test_flags_of_booleans():
    @dataclasses.dataclass(frozen=True)
    class Inner:
        on: bool = True

    @dataclasses.dataclass(frozen=True)
    class Outer:
        inner: Inner = Inner()

    off = Outer(Inner(False))
    assert list(overrides.flags(Outer(), off)) == ["--inner.no-on"]
    assert list(overrides.flags(off, Outer())) == ["--inner.on"]


def test_flags_cannot_swap_a_model(unet):
    other = dataclasses.replace(unet, model=experiment.get("fcn8s_vgg16_voc").model)
    with pytest.raises(ValueError, match="model: a UNet became another type"):
        list(overrides.flags(unet, other))


def test_ready_spaces_fit_a_registered_experiment(unet):
    from seg_jax.experiments import sweeps

    ready = {name: item for name, item in vars(sweeps).items() if isinstance(item, Space)}
    assert {"poly_lr", "sgd", "batch_size", "learning_rate"} <= ready.keys()
    for item in ready.values():
        search_space.check(item, unet)
