"""A release holds all of a network: what comes back is bit by bit what went in."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from safetensors import safe_open
from small_task import CLASSES, small_experiment, small_variables

from seg_jax import checks, config, pretrained
from seg_jax import experiment as experiments
from seg_jax.data.label_map import LabelMap
from seg_jax.pretrained import release
from seg_jax.runs import folder as run_folder

LABELS = LabelMap(CLASSES, ((0, 0, 0), (1, 2, 3), (255, 128, 7)))


def network():
    experiment = small_experiment()
    variables = small_variables(experiment.model)
    variables["params"]["mix"]["bias"][:3] = [np.nan, -0.0, np.float32(1e-42)]  # bits, not numbers
    # A transposed array: its memory does not lie in the order of its indices.
    kernel = variables["params"]["score"]["kernel"]
    variables["params"]["score"]["kernel"] = kernel.T.copy().T
    return pretrained.Pretrained(experiment, {"batch_stats": {}, **variables}, "", LABELS)


@pytest.fixture
def folder(tmp_path):
    release.save(network(), tmp_path / "release", license="mit", card="# Card\n")
    return tmp_path / "release"


def bits(tree):
    return [(path, leaf.dtype, leaf.shape, leaf.tobytes()) for path, leaf in
            jax.tree.leaves_with_path(jax.tree.map(np.asarray, tree))]  # fmt: skip


def test_a_round_trip_is_bit_exact(folder):
    before, after = network(), pretrained.load(folder)
    assert after.experiment == before.experiment
    assert after.labels == before.labels
    assert jax.tree.structure(after.variables) == jax.tree.structure(before.variables)
    assert bits(after.variables) == bits(before.variables)
    assert release.license_of(folder) == "mit"


def test_any_reader_of_safetensors_finds_the_arrays_by_their_paths(folder):
    with safe_open(folder / "model.safetensors", framework="numpy") as file:
        assert set(file.keys()) == {
            "params/mix/kernel", "params/mix/bias", "params/score/kernel", "params/score/bias",
        }  # fmt: skip
        kernel = file.get_tensor("params/score/kernel")
    np.testing.assert_array_equal(kernel, network().variables["params"]["score"]["kernel"])


def test_the_configuration_is_a_run_s(folder):
    found, digest = run_folder.read_config(folder)
    assert found == network().experiment
    assert digest == config.digest(network().experiment)


def test_a_second_release_replaces_the_first(folder):
    (folder / "result.json").write_text("{}")
    changed = dataclasses.replace(network(), own_labels=LabelMap(("a", "b", "c"), LABELS.colours))
    release.save(changed, folder, license="unknown", card="# Card\n")
    assert pretrained.load(folder).labels.names == ("a", "b", "c")
    assert not (folder / "result.json").exists()


def test_another_folder_is_not_written_into(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(
        checks.UserError, match=r"holds checkpoints, which is not part of a release"
    ):
        release.save(network(), tmp_path, license="mit", card="")


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_damaged_weights_are_refused(folder):
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(checks.UserError, match=r"model\.safetensors: SHA-256 is .* damaged"):
        pretrained.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("classes"), r"config\.json is no configuration of a release .*classes"),
        (lambda c: c.update(format=2), r"format is 2, this version reads 1"),
        (lambda c: c["experiment"].pop("model"), r"config\.json is no configuration"),
        (lambda c: c["experiment"]["model"].update(num_classes=5), "2 of another shape"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(folder, change, message):
    edit(folder / "config.json", change)
    with pytest.raises(checks.UserError, match=message):
        pretrained.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["classes"].pop(), "2 class names for a network of 3"),
        (lambda c: c.update(classes=[]), "classes must be 1 to 256 names"),
        (lambda c: c.update(classes=["a", "b", 3]), "classes must be 1 to 256 names"),
        (lambda c: c.update(classes="abc"), "classes must be 1 to 256 names"),
        (lambda c: c.update(classes=["a", "b", "c" * 10**6]), "classes must be 1 to 256 names"),
        (lambda c: c["colours"].pop(), "colours must be 3 lists, one a class"),
        (lambda c: c.update(colours=7), "colours must be 3 lists"),
        (lambda c: c["colours"].__setitem__(0, [0, 0, 256]), "colours must be 3 lists"),
        (lambda c: c["colours"].__setitem__(0, [0, 0]), "colours must be 3 lists"),
        (lambda c: c["colours"].__setitem__(0, [0, 0, 1.5]), "colours must be 3 lists"),
        (lambda c: c["colours"].__setitem__(0, [True, 0, 0]), "colours must be 3 lists"),
        (lambda c: c.update(sha256=3), "sha256 is no text"),
        (lambda c: c.update(name=[]), "name is no text"),
        (lambda c: c.update(experiment=3), "is no configuration of a release"),
        (lambda c: c.update(experiment={}), "is no configuration of a release"),
        (lambda c: c.update(format="\x1b[31m\n"), "format is ?[31m?, this version reads"),
    ],
)
def test_names_and_colours_that_do_not_fit_are_refused(folder, change, message):
    edit(folder / "config.json", change)
    with pytest.raises(checks.UserError) as caught:
        pretrained.load(folder)
    assert message in str(caught.value) and str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["[]", "3", "null", "[" * 200_000, '{"format": 1}', "\xa5"])
def test_other_json_is_refused(folder, text):
    (folder / "config.json").write_bytes(text.encode("latin1"))
    with pytest.raises(checks.UserError, match=r"config\.json is no configuration of a release"):
        pretrained.load(folder)


def test_no_foreign_module_is_run(folder, tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('was run')")
    monkeypatch.syspath_prepend(tmp_path)
    edit(folder / "config.json", lambda c: c["experiment"]["model"].update(type="evil.Net"))
    with pytest.raises(checks.UserError, match=r"evil\.Net"):
        pretrained.load(folder)


def test_text_that_is_no_json_is_refused(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(checks.UserError, match=r"config\.json is no configuration of a release"):
        pretrained.load(folder)


@pytest.mark.parametrize("name", ["deeplab_v3plus_mobilenetv2_voc", "unet_synthetic"])
def test_a_real_network_with_statistics_comes_back(tmp_path, rng, name):
    found = experiments.get(name)
    found = dataclasses.replace(found, model=experiments.shrink(found.model, width=1 / 16))
    shape = (1, *found.data.augmentation.crop, found.data.preprocessing.inputs)
    shapes = jax.eval_shape(
        lambda key: found.model.init(key, np.zeros(shape, np.float32), train=False),
        jax.random.key(0),
    )
    draw = lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype)  # noqa: E731
    variables = {"batch_stats": {}, **jax.tree.map(draw, shapes)}
    names = tuple(f"class {index}" for index in range(found.model.num_classes))
    labels = LabelMap(names, ((1, 2, 3),) * len(names))
    loaded = pretrained.Pretrained(found, variables, "", labels)
    release.save(loaded, tmp_path / "release", license="unknown", card="")
    back = pretrained.load(tmp_path / "release")
    assert back.experiment == found
    assert bits(back.variables) == bits(variables)


def test_variables_that_would_come_back_otherwise_are_refused(tmp_path):
    half = jax.tree.map(lambda x: x.astype(np.float16), network().variables)
    halved = dataclasses.replace(network(), variables=half)
    with pytest.raises(ValueError, match="float16"):
        release.save(halved, tmp_path / "release", license="mit", card="")
