import dataclasses

import pytest

from seg_jax import config, experiment, losses, optim
from seg_jax.checks import UserError
from seg_jax.data.config import Augmentation, DataConfig
from seg_jax.data.preprocessing import TORCH
from seg_jax.models.unet import UNet


def build():
    return experiment.Experiment(
        family="Toy",
        paper="Nobody, Nowhere 2026",
        model=UNet(),
        data=DataConfig("synthetic_voc", Augmentation(crop=(8, 8)), TORCH),
        optim=optim.OptimConfig(base_lr=0.1),
        train=experiment.TrainConfig(steps=1, batch_size=4),
    )


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(experiment, "_BUILDERS", {})
    monkeypatch.setattr(experiment, "_SUITES", {})
    monkeypatch.setattr(experiment, "discover", lambda: None)


def test_get_builds_afresh_and_names(registry):
    experiment.register("toy_synthetic")(build)
    first, second = experiment.get("toy_synthetic"), experiment.get("toy_synthetic")
    assert first.name == "toy_synthetic"
    assert first == second and first is not second


def test_unknown_name_names_the_closest(registry):
    experiment.register("toy_synthetic")(build)
    with pytest.raises(UserError, match="'toy_syntetic'; did you mean toy_synthetic"):
        experiment.get("toy_syntetic")


def test_a_name_registers_once(registry):
    experiment.register("toy")(build)
    with pytest.raises(ValueError, match="'toy' is registered twice"):
        experiment.register("toy")(build)


def test_suites_follow_the_line_and_the_order_of_registration(registry):
    for name in ("other", "deeplab_v3_toy", "fcn8s_toy", "fcn16s_toy", "left_out"):
        experiment.register(name, suites=("quick",) if name != "left_out" else ())(build)
    assert experiment.suite("quick") == ("fcn8s_toy", "fcn16s_toy", "deeplab_v3_toy", "other")
    assert experiment.names() == ("deeplab_v3_toy", "fcn16s_toy", "fcn8s_toy", "left_out", "other")
    with pytest.raises(UserError, match="did you mean quick"):
        experiment.suite("quik")


def test_an_experiment_survives_json():
    value = dataclasses.replace(build(), loss=losses.LossConfig(class_weights=(1.0, 2.0)))
    assert config.from_dict(config.to_dict(value)) == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be positive, got 0"),
        ({"batch_size": 10, "accumulate": 3}, "batch_size 10 is not a multiple of accumulate 3"),
        ({"evaluate_every": -1}, "evaluate_every must not be negative, got -1"),
    ],
)
def test_impossible_training_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        experiment.TrainConfig(**{"steps": 1, "batch_size": 4, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": (0, 8)}, "crop_height must be positive"),
        ({"scale": (2.0, 0.5)}, "scale_range must not be negative, got -1.5"),
        ({"flip": 2.0}, "flip must lie in"),
    ],
)
def test_impossible_augmentation_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**{"crop": (8, 8), **change})
