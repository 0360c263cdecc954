"""Verbs on other data than a recipe's, and on lists that name files outside their folder."""

import json

import numpy as np
import pytest
from PIL import Image

from seg_jax import __main__ as cli
from seg_jax import experiment
from seg_jax.checks import UserError
from seg_jax.cli import compile as compile_verb
from seg_jax.cli import launch, parsing, show

NAME = "unet_synthetic"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes, two images."""
    root = tmp_path_factory.mktemp("own")
    for part in ("images", "masks"):
        (root / part).mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.full((8, 9, 3), 9, np.uint8)).save(root / f"images/{name}.png")
        Image.fromarray(np.eye(8, 9, dtype=np.uint8)).save(root / f"masks/{name}.png")
    (root / "classes.txt").write_text("sky\nroad\ntree\n")
    (root / "train.txt").write_text("a\n")
    (root / "val.txt").write_text("b\n")
    return root


def own(root):
    return ["--data.dataset", "folder", "--data.root", str(root)]


def test_show_has_the_classes_of_the_data(capsys, folder, someone_elses):
    assert cli.main(["show", "two_layers_synthetic", *own(folder), "--json"]) == 0
    found = capsys.readouterr()
    assert json.loads(found.out)["config"]["model"]["num_classes"] == 3
    assert "model.num_classes 8 -> 3" in found.err


def test_data_that_are_not_here_are_said(capsys, tmp_path):
    args = own(tmp_path / "nowhere")
    found, _ = parsing.parse_experiment([NAME, *args], "show", show.ShowOptions)
    assert parsing.on_own_data(found, args, needed=False).model == experiment.get(NAME).model
    said = capsys.readouterr().out
    assert "the number of classes is the recipe's" in said and "nowhere" in said
    with pytest.raises(UserError, match="nowhere"):
        parsing.on_own_data(found, args)


def test_launch_checks_the_experiment_that_train_would_train(folder):
    words = ["train", NAME, *own(folder), "--parallel", "pmap", "--extend", "--init", "none"]
    (found,), _ = launch._experiments(words)
    assert (found.model.num_classes, found.data.root) == (3, folder)
    words = ["train", "fcn32s_vgg16_voc", "--model.backbone", "resnet50"]
    (swapped,), _ = launch._experiments(words)
    assert type(swapped.model.backbone).__name__ == "ResNet"


def test_compile_has_the_classes_of_the_data(folder, tmp_path, capsys):
    options = compile_verb.CompileOptions(dataset="folder", root=folder, batch_size=4)
    found = compile_verb._experiment("unet_voc", options)  # trains on trainaug, which is not there
    assert (found.model.num_classes, found.train.batch_size) == (3, 4)
    words = compile_verb._passed_on(options)
    assert words[words.index("--data.dataset") :][:4] == own(folder)
    with pytest.raises(UserError, match="no folder"):
        compile_verb._experiment(
            NAME, compile_verb.CompileOptions(dataset="folder", root=tmp_path / "x")
        )
    target = ["compile", NAME, "--for", "v5e-8"]
    assert cli.main([*target, "--data.root", str(folder)]) == 2
    assert "needs --data.dataset" in capsys.readouterr().err
    assert cli.main([*target, *own(folder), "--record", str(tmp_path / "x.json")]) == 2
    assert "registered recipes" in capsys.readouterr().err


def test_lists_may_name_files_outside_where_that_is_asked_for(capsys, folder, tmp_path):
    """CamVid's lists name paths."""
    root = tmp_path / "camvid"
    root.mkdir()
    for part in ("train", "trainannot"):
        (root / part).mkdir()
    outside = f"{folder}/images/a.png {folder}/masks/a.png\n"
    for split in ("train", "val", "test"):
        (root / f"{split}.txt").write_text(outside)
    check = ["data", "check", str(root), "--dataset", "camvid", "--split", "train"]
    assert cli.main(check) == 2
    assert "outside" in capsys.readouterr().out
    assert cli.main([*check, "--allow-outside"]) == 0
    assert "0 problems" in capsys.readouterr().out
