"""A package of somebody else's brings a reader, a loss and a transform, by name."""

import json
import subprocess
import sys
import textwrap

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from seg_jax import __main__ as command_line
from seg_jax import checks, data, losses, plugins
from seg_jax.data import transforms

READER = """
    from seg_jax import data
    from seg_jax.data.source import Source
    from seg_jax.types import IGNORE, voc_palette

    GET = "draw the stripes"
    data.register("stripes", __name__)


    def splits(root):
        from seg_jax.checks import UserError

        if not (root / "stripes").is_dir():
            raise UserError(f"{root} has no stripes/")
        return ("train", "val")


    def open_split(root, split):
        names = tuple(sorted(path.stem for path in (root / "stripes").glob("*.png")))
        names = names[:3] if split == "train" else names[3:]
        return Source(
            name="stripes",
            split=split,
            root=root,
            ids=names,
            image_paths=tuple(f"stripes/{name}.png" for name in names),
            label_paths=tuple(f"labels/{name}.png" for name in names),
            classes=tuple(f"class{n}" for n in range(21)),
            label_ids={**{value: value for value in range(21)}, IGNORE: IGNORE},
            palette=voc_palette(),
        )
"""
PARTS = """
    import jax.numpy as jnp

    from seg_jax import losses
    from seg_jax.data import transforms


    @losses.register("ten_times")
    def ten_times(logits, label, *, class_weights=(), pixel_weights=None):
        total, count = losses.cross_entropy_sums(
            logits, label, class_weights=class_weights, pixel_weights=pixel_weights
        )
        return 10 * total, count


    @transforms.register("white")
    def white(image, label, rng):
        return image * 0 + 255, label
"""


@pytest.fixture
def stripes(someone_elses, tmp_path, monkeypatch):
    """Their package, and a data set for its reader; the registries are restored."""
    for registry in (data._READERS, losses._LOSSES, transforms._TRANSFORMS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    package = tmp_path / "someone_elses"
    (package / "stripes.py").write_text(textwrap.dedent(READER))
    (package / "parts.py").write_text(textwrap.dedent(PARTS))
    root = tmp_path / "theirs"
    for part in ("stripes", "labels"):
        (root / part).mkdir(parents=True)
    for number in range(4):
        mask = np.tile(np.arange(32, dtype=np.uint8) // 16, (32, 1))
        Image.fromarray(np.stack([mask * 200] * 3, -1)).save(root / f"stripes/{number}.png")
        Image.fromarray(mask).save(root / f"labels/{number}.png")
    return root


def test_train_evaluate_and_check_with_their_parts(stripes, tmp_path, capsys):
    run = tmp_path / "run"
    options = ["--data.dataset", "stripes", "--data.root", str(stripes), "--train.steps", "2"]
    options += ["--loss.name", "ten_times", "--data.augmentation.extra", "white"]
    options += ["--workdir", str(run), "--train.log-every", "1"]
    assert command_line.main(["train", "two_layers_synthetic", *options]) == 0
    assert command_line.main(["evaluate", str(run)]) == 0
    assert "stripes val: 1 images" in capsys.readouterr().out
    assert command_line.main(["data", "check", str(stripes)]) == 0
    assert "stripes train: 3 images" in capsys.readouterr().out
    # Ten times the cross-entropy, which is about ln 21 = 3 or more with first weights.
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert next(line["loss"] for line in log if "loss" in line) > 25


def test_the_loss_is_the_one_that_is_named(stripes, rng):
    logits = jnp.asarray(rng.normal(size=(2, 3, 4, 5)), jnp.float32)
    label = jnp.asarray(rng.integers(0, 5, (2, 3, 4)), jnp.uint8)
    plugins.load()
    for reduction in ("mean", "image_mean", "sum"):
        configs = [losses.LossConfig(reduction, name=n) for n in ("cross_entropy", "ten_times")]
        (one, count), (ten, same) = (losses.loss_sums({"out": logits}, label, c) for c in configs)
        assert float(ten) == pytest.approx(10 * float(one), rel=1e-6) and count == same


def test_unknown_names_are_one_line(stripes):
    with pytest.raises(checks.UserError, match="data set: unknown name 'stripe'; did you mean str"):
        data.open_source("stripe", stripes, "train")
    with pytest.raises(checks.UserError, match="loss: unknown name 'nine_times'; did you mean ten"):
        losses.LossConfig(name="nine_times")
    with pytest.raises(checks.UserError, match="transform: unknown name 'whit'; did you mean whit"):
        transforms.find("whit")
    assert "stripes" in data.names()


def test_a_name_that_is_taken(stripes):
    plugins.load()
    with pytest.raises(ValueError, match="data set 'stripes' is registered twice"):
        data.register("stripes", "another.module")
    with pytest.raises(ValueError, match="data set 'camvid' is registered twice"):
        data.register("camvid", "another.module")


def test_a_reader_without_its_functions_is_named(stripes):
    (stripes.parent / "someone_elses/half.py").write_text(
        "from seg_jax import data\ndata.register('half', __name__)\nsplits = None\n"
    )
    with pytest.raises(checks.UserError, match=r"someone_elses\.half has no GET and no open_split"):
        data.open_source("half", stripes, "train")


@pytest.mark.parametrize("name", ["someone_elsse", "someone_elses.nothing", "../x", ".x", "a b"])
def test_a_typo_in_the_variable_is_one_line(stripes, monkeypatch, capsys, name):
    monkeypatch.setenv(plugins.VARIABLE, f"someone_elses,{name}")
    assert command_line.main(["show", "two_layers_synthetic"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: SEG_JAX_EXPERIMENTS names ") and repr(name) in error
    assert error.count("\n") == 1


def test_entry_points_are_packages_too(stripes, monkeypatch):
    monkeypatch.delenv(plugins.VARIABLE)
    monkeypatch.setattr(plugins, "_entry_points", lambda: (("someone_elses", "an entry point"),))
    assert "stripes" in data.names()


def test_readers_are_found_without_importing_them():
    code = (
        "import sys, os; os.environ.pop('SEG_JAX_EXPERIMENTS', None); from seg_jax import data\n"
        "assert {'camvid', 'folder', 'tfds', 'voc2012', 'synthetic_voc'} <= set(data.names())\n"
        "assert not {'numpy', 'PIL', 'scipy', 'seg_jax.data.source'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
