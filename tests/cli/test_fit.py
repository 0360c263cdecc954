"""`fit`: its choices on folders of known content, its equal as a `train` command, and both runs."""

import dataclasses
import json
import shlex

import numpy as np
import pytest
from pages import draw_own_data
from PIL import Image

from seg_jax import __main__ as cli
from seg_jax import experiment
from seg_jax.checks import UserError
from seg_jax.cli import parsing, train
from seg_jax.data.validate import class_list
from seg_jax.runs import folder
from seg_jax.train import fit_plan, memory, own_data

SMALL = "two_layers_synthetic"


@pytest.fixture
def at_home(tmp_path, monkeypatch, someone_elses):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("SEG_JAX_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def binary(root, images=10, size=(72, 96)):
    """A folder with masks of 0 and 255, as segmentation tools write them."""
    draw_own_data(root, images=images, size=size)
    for path in (root / "masks").iterdir():
        with Image.open(path) as file:
            mask = np.array(file)
        Image.fromarray((mask > 0).astype(np.uint8) * 255).save(path)
    (root / "classes.txt").write_text("background\nthing\n")
    return root


def planned(root, base, **fields):
    """Plan with fields given by their dotted names, "__" for the dot."""
    given = {name.replace("__", "."): value for name, value in fields.items()}
    wanted = fit_plan.overrides.apply(base, given)
    return fit_plan.plan(base, wanted, given, root)


def test_from_a_folder_to_a_report_and_again(at_home, capsys):
    binary(at_home / "mine")
    words = ["fit", "mine", "--network", SMALL, "--train.steps", "2", "--train.batch-size", "4"]
    assert cli.main([*words, "--dry-run"]) == 0
    dry = capsys.readouterr().out
    assert not (at_home / "runs").exists()
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    run = at_home / f"runs/mine_{SMALL}"
    record = json.loads((run / "result.json").read_text())
    assert record["data"]["images"] == 2 and record["classes"] == ["background", "thing"]
    assert min(record["metrics"]["per_class_precision"]) is not None
    assert sum(record["counts"]["confusion"][1]) > 0  # 255 was read as a class
    assert f"{run.as_uri()}/report.html" in err and "predict runs/mine" in err
    assert (run / "report.html").read_text().count("<figure>") == 4 * 2
    assert dry in out  # the dry run said the same
    for option in ("--data.map", "--train.batch-size", "--optim.base-lr", "--train.steps"):
        assert f"[{option}" in out

    # The command that it names is the same experiment.
    (line,) = [line for line in dry.splitlines() if "seg_jax train" in line]
    told = shlex.split(line)[4:]
    found, _ = parsing.parse_experiment(told, "train", train.TrainOptions)
    found = parsing.on_own_data(found, told)
    stored, _ = folder.read_config(run)
    assert found == stored
    assert stored.data.map == ("255=1",) and stored.train.steps == 2

    assert cli.main(words) == 0  # resumes: nothing to do but to evaluate
    again = capsys.readouterr().out
    assert "goes on with the choices" in again and "is finished (step 2)" in again
    with pytest.raises(UserError, match="optim.base_lr was .*, is 7.0"):
        cli.main(["--debug", *words, "--optim.base-lr", "7"])
    workdir = ["--workdir", str(run)]
    with pytest.raises(UserError, match=f"holds a run of {SMALL}, and this is unet_synthetic"):
        cli.main(["--debug", "fit", "mine", "--network", "unet_synthetic", *workdir])


def test_choices_follow_the_data(at_home, monkeypatch):
    root = at_home / "mine"
    draw_own_data(root, images=10, size=(24, 200))
    for path in (root / "masks").iterdir():  # one pixel of class 2 in a hundred
        mask = np.zeros((24, 200), np.uint8)
        mask[:, 10:80] = 1
        mask[:, :2] = 2
        Image.fromarray(mask).save(path)
    base = experiment.get(SMALL)
    found = planned(root, base)
    changed = found.experiment
    assert (changed.data.train_split, changed.data.val_split) == ("train", "val")
    assert changed.model.num_classes == 3
    height, width = changed.data.augmentation.crop
    assert height == 24 and width == base.data.augmentation.crop[1]
    share = np.array([1 - 72 / 200, 70 / 200, 2 / 200])
    weights = np.array(changed.loss.class_weights)
    enet = 1 / np.log(1.02 + share)
    np.testing.assert_allclose(weights / weights[0], enet / enet[0], rtol=0.01)
    assert np.sum(weights * share) == pytest.approx(1, abs=0.01)
    # 10 images: batches of at most 8; the rate follows, and the steps are 500 or the recipe's.
    assert changed.train.batch_size == 4 == base.train.batch_size
    assert changed.train.steps == min(500, base.train.steps)

    (root / "train.txt").write_text("\n".join(f"{n:03}" for n in range(9)))
    found = planned(root, base, train__batch_size=2, loss__class_weights=(), train__steps=1000)
    changed = found.experiment
    assert changed.data.val_split == "train:held20"
    assert changed.optim.base_lr == pytest.approx(base.optim.base_lr / 2)
    assert (changed.loss.class_weights, changed.train.steps) == ((), 1000)
    assert [c.why for c in found.choices if c.what == "steps"] == ["as given"]


def test_the_batch_is_what_the_memory_allows(at_home, monkeypatch):
    base = experiment.get(SMALL)
    parameters, image = memory._bytes(base)
    classes = base.model.num_classes
    assert parameters == 4 * (3 * 9 * 16 + 16 + 16 * classes + classes)
    # At least the float32 image, and what the first convolution gives to the second.
    assert image >= 4 * 32 * 32 * (3 + 16)
    crop = dataclasses.replace(base.data.augmentation, crop=(64, 32))
    twice = dataclasses.replace(base, data=dataclasses.replace(base.data, augmentation=crop))
    assert memory._bytes(twice)[1] == pytest.approx(2 * image, rel=0.02)
    monkeypatch.setattr(memory, "device_memory", lambda: int(10 * image))
    assert memory.largest_batch(base, most=8)[0] == 4  # 0.6 x 10 images, less the parameters
    monkeypatch.setattr(memory, "device_memory", lambda: 100 * image)
    assert memory.largest_batch(base, most=8)[0] == 8
    monkeypatch.setattr(memory, "device_memory", lambda: 1)
    assert memory.largest_batch(base, most=8)[0] == 1


@pytest.mark.parametrize(
    ("value", "classes", "message"),
    [
        (0, "background\nthing\n", "every pixel that is not void is background"),
        (0, "thing\n", "there is one class, thing"),
        (255, "a\nb\nc\n", "every pixel is void"),
        (7, "a\nb\n", "label value 7"),
    ],
)
def test_what_cannot_be_learnt_is_one_line(at_home, value, classes, message):
    root = at_home / "mine"
    draw_own_data(root, images=5)
    (root / "classes.txt").write_text(classes)
    for path in (root / "masks").iterdir():
        Image.fromarray(np.full((72, 96), value, np.uint8)).save(path)
    with pytest.raises(UserError, match=message):
        planned(root, experiment.get(SMALL))


def test_few_images_no_images_and_a_broken_one(at_home):
    base = experiment.get(SMALL)
    draw_own_data(at_home / "one", images=1)
    with pytest.raises(UserError, match="one image cannot be both train and val"):
        planned(at_home / "one", base)
    draw_own_data(at_home / "three", images=3)
    assert planned(at_home / "three", base, train__batch_size=1).experiment.train.batch_size == 1
    (at_home / "three/images/001.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(UserError, match=r"images/001\.jpg"):
        planned(at_home / "three", base)
    draw_own_data(at_home / "none", images=0)
    with pytest.raises(UserError, match="no images|empty"):
        planned(at_home / "none", base)


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ([0, 255], ["0 background", "255 object"]),
        ([0, 3, 255], ["0 background", "3 class_3"]),
        ([1, 2], ["1 class_1", "2 class_2"]),
        ([5], "the 1 values 5, which are no classes"),
        ([*range(60)], "the 60 values 0, 1, 2, 3, 4, ..., which are no classes"),
    ],
)
def test_a_missing_class_list_is_written_by_the_masks(tmp_path, values, lines):
    draw_own_data(tmp_path, images=3)
    assert class_list.missing(tmp_path) == []
    (tmp_path / "classes.txt").unlink()
    for path in (tmp_path / "masks").iterdir():
        Image.fromarray(np.resize(np.array(values, np.uint8), (10, 10))).save(path)
    if isinstance(lines, str):
        with pytest.raises(UserError, match=lines):
            class_list.missing(tmp_path)
    else:
        assert class_list.missing(tmp_path) == lines


def test_recipes_by_network_and_backbone():
    assert fit_plan.recipe("deeplab_v3plus").name == "deeplab_v3plus_mobilenetv2_camvid"
    assert fit_plan.recipe("deeplab_v3plus", "xception65").name == "deeplab_v3plus_xception65_voc"
    assert fit_plan.recipe("pspnet", "resnet50").name == "pspnet_resnet50_voc"
    assert fit_plan.recipe("segnet").name == "segnet_vgg16_camvid"
    other = fit_plan.recipe("gcn", "xception41")
    assert type(other.model.backbone).__name__ == "Xception"
    with pytest.raises(UserError, match="--backbone mobilenet_v2: "):
        fit_plan.recipe("segnet", "mobilenet_v2")


def test_own_fields_are_found_in_a_command_line():
    words = ["--network", "unet", "--train.steps", "3", "--evaluation.no-flip"]
    assert own_data.given_fields(words) == {"train.steps", "evaluation.flip"}
