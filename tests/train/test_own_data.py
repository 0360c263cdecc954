"""A recipe on other data than its own: what follows, what is refused, and what is said."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seg_jax import data, experiment
from seg_jax.checks import UserError
from seg_jax.train import own_data, setup

RECIPE = "segnet_basic_camvid"  # 11 classes, with class weights


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("own")
    for part in ("images", "masks"):
        (root / part).mkdir()
    for number in range(5):
        Image.fromarray(np.zeros((24, 24, 3), np.uint8)).save(root / f"images/{number}.png")
        mask = np.arange(24 * 24, dtype=np.uint8).reshape(24, 24) % 3
        Image.fromarray(mask).save(root / f"masks/{number}.png")
    (root / "classes.txt").write_text("background\nroad\ncar\n")
    return root


def on(root: Path, name: str = RECIPE, **fields):
    recipe = experiment.get(name)
    where = dataclasses.replace(recipe.data, dataset="folder", root=root, **fields)
    return recipe, dataclasses.replace(recipe, data=where)


def test_classes_and_weights_follow_the_data(root):
    recipe, wanted = on(root)
    assert len(recipe.loss.class_weights) == 11
    adapted, said = own_data.adapt(recipe, wanted, ())
    assert adapted.model.num_classes == 3 and adapted.loss.class_weights == ()
    assert len(said) == 2 and "11 -> 3" in said[0] and "they belong to camvid" in said[1]
    own_data.check_classes(adapted, data.open_configured(adapted.data, "train"))


def test_what_was_given_is_kept_and_checked(root):
    recipe, wanted = on(root)
    given = own_data.given_fields(["--loss.class-weights", "1", "--data.no-allow-outside", "--x"])
    assert given == {"loss.class_weights", "data.allow_outside"}
    adapted, _ = own_data.adapt(recipe, wanted, given)
    assert adapted.loss.class_weights == recipe.loss.class_weights
    with pytest.raises(UserError, match=r"class_weights has 11 entries, folder:.* has 3 classes:"):
        own_data.check_classes(adapted, data.open_configured(adapted.data, "train"))


def test_the_recipe_s_own_data_change_nothing(root):
    recipe = experiment.get(RECIPE)
    assert own_data.adapt(recipe, recipe, ()) == (recipe, [])


def test_repeated_classes_must_exist(root):
    _, wanted = on(root, repeat_classes=(1, 7))
    wanted = dataclasses.replace(wanted, loss=dataclasses.replace(wanted.loss, class_weights=()))
    with pytest.raises(UserError, match=r"repeat_classes has 7, .* ids 0 to 2: clear it with"):
        own_data.check_classes(wanted, data.open_configured(wanted.data, "train"))


@pytest.mark.parametrize("every", [0, 10])
def test_a_canvas_that_is_too_small_is_found_at_the_start(root, every):
    """With evaluations in the training it is an error, without it is said."""
    wanted, _ = own_data.adapt(*on(root, "fcn32s_resnet14_synthetic"), ())
    wanted = wanted.with_evaluation(mode="whole", canvas=(16, 16))
    training = dataclasses.replace(wanted.train, evaluate_every=every)
    wanted = dataclasses.replace(wanted, train=training)
    said = []
    if every:
        with pytest.raises(UserError, match="canvas 16x16 does not cover an image of 24x24"):
            setup._open_data(wanted, said.append, given=False)
    else:
        setup._open_data(wanted, said.append, given=False)
        assert "canvas 16x16 does not cover" in said[0]
