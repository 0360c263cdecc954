import dataclasses

import pytest

from seg_jax import config, experiment, losses, optim
from seg_jax.backbones.vgg import VGG, Pool
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


def test_what_others_of_a_suite_start_from_comes_before_them(registry):
    def starting(init):
        train = dataclasses.replace(build().train, init=init)
        return lambda: dataclasses.replace(build(), train=train)

    experiment.register("unet_toy", suites=("quick",))(starting("trunk"))
    experiment.register("fcn8s_toy", suites=("quick",))(starting("unet_toy"))
    experiment.register("gcn_toy", suites=("quick",))(starting("elsewhere"))
    experiment.register("trunk", suites=("quick",))(build)
    assert experiment.suite("quick") == ("trunk", "unet_toy", "fcn8s_toy", "gcn_toy")


def test_an_experiment_survives_json():
    value = dataclasses.replace(build(), loss=losses.LossConfig(class_weights=(1.0, 2.0)))
    assert config.from_dict(config.to_dict(value)) == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be positive, got 0"),
        ({"batch_size": 10, "accumulate": 3}, "batch_size 10 is not a multiple of accumulate 3"),
        ({"evaluate_every": -1}, "evaluate_every must not be negative, got -1"),
        ({"batch_size": 10**6}, "batch_size must be at most 65536, got 1000000"),
    ],
)
def test_impossible_training_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        experiment.TrainConfig(**{"steps": 1, "batch_size": 4, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"canvas": (20_000, 10)}, "canvas_height must be at most 16384, got 20000"),
        ({"canvas": (8192, 8193)}, "pixels_of_the_canvas_at_the_largest_scale must be at most"),
        ({"canvas": (4096, 4096), "scales": (0.5, 2.5)}, "at_the_largest_scale must be at most"),
        ({"scales": (1.0, 17.0)}, "largest_of_scales must be at most 16, got 17"),
        ({"scales": (1.0,) * 65}, "number_of_scales must be at most 64"),
        ({"stride": 1e-9}, "stride must be at least 0.015625, got 1e-09"),
        ({"batch_size": 10**6}, "batch_size must be at most 4096"),
        ({"trimap_px": (10**6,)}, "trimap_px must be at most 16384"),
    ],
)
def test_evaluations_beyond_any_machine_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        experiment.EvalConfig(**change)


def test_the_largest_published_evaluations_pass():
    experiment.EvalConfig(canvas=(1024, 2048), scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0))
    experiment.EvalConfig(canvas=(4096, 8192))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (UNet(num_classes=256), "model.num_classes must be at most 255, got 256"),
        (UNet(depth=10**9), "model.depth must be at most 256"),
        (UNet(width=1e9), "model.width must be at most 16"),
        (VGG(depths=(2, 2, 3, 10**9, 3)), "model.depths must be at most 256"),
        (VGG(pools=(Pool(),) * 1000), "length of model.pools must be at most 256"),
        (VGG(pools=(Pool(window=10**6),)), "model.pools.window must be at most 65536"),
    ],
)
def test_networks_beyond_any_that_is_trained_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(build(), model=model)


@pytest.mark.parametrize("name", ["/tmp/elsewhere", "../up", "..", "a\nb", "x" * 300])
def test_a_name_is_one_component_of_a_path(name):
    with pytest.raises(UserError, match="cannot be the name of a file"):
        dataclasses.replace(build(), name=name)


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
