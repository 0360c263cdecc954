"""Published weights: what is refused, and how their scores are recorded and tabulated."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest
from small_record import small_record
from small_task import MemorySource, SmallNet, small_experiment, small_variables

from seg_jax import __main__, data, pretrained, results
from seg_jax.checks import UserError
from seg_jax.evaluation import pretrained as published_run
from seg_jax.pretrained import Pretrained, catalogue
from seg_jax.report import rows, table
from seg_jax.results.record import PublishedWeights

NAME = "google_deeplabv3_mobilenetv2_dm05_voc"
FILE = "weights/deeplabv3_mnv2_dm05_voc/deeplabv3.tflite"
SEEN = PublishedWeights("some_net", "COCO, VOC 2012 trainval", "yes")


@pytest.fixture
def small_net(monkeypatch):
    """A small network in place of a catalogue entry, and a split in memory."""
    experiment = small_experiment()
    source = MemorySource(((20, 31), (16, 16)))
    monkeypatch.setattr(data, "open_source", lambda *_: source)
    return Pretrained(experiment, small_variables(SmallNet()), NAME)


def test_a_score_says_whose_weights_they_are(small_net, tmp_path):
    found = published_run.score_published(small_net, progress=False, command="a command")
    entry = catalogue.get(NAME)
    assert found.weights == PublishedWeights(NAME, entry.trained_on, "unknown")
    assert found.training.steps == 0 and found.training.parameters == 4 * 28 + 5 * 3
    results.save(found, tmp_path / "record.json")
    assert results.load(tmp_path / "record.json") == found


def test_weights_that_saw_val_are_not_scored_on_it(small_net):
    leaky = "wkentaro_fcn8s_voc"
    task = dataclasses.replace(
        small_net.experiment, data=dataclasses.replace(small_net.experiment.data, dataset="voc2012")
    )
    with pytest.raises(UserError, match=f"{leaky} was trained on .* a score on val means nothing"):
        published_run.score_published(Pretrained(task, small_net.variables, leaky), progress=False)
    scored = Pretrained(task, small_net.variables, leaky)
    assert (
        published_run.score_published(scored, split="seg11valid", progress=False).weights.saw_val
        == "yes"
    )


def test_published_weights_have_a_table_of_their_own():
    """Weights that others trained never fill a cell of ours, even on the official split."""
    found = small_record("fcn8s_vgg16_voc", data="voc2012", weights=SEEN)
    assert rows.images_of(found) is None
    (row,) = [row for row in rows.networks([found]) if row.experiment == "fcn8s_vgg16_voc"]
    assert not row.records
    text = table.networks_markdown([found])
    part = text.partition("Published weights, our forward pass:")[2]
    assert "| some_net " in part and "voc2012 val: " in part
    assert "COCO, VOC 2012 trainval; saw VOC 2012 val: yes" in part
    assert "Measured on other images" not in text


def test_records_without_the_field_are_still_read(tmp_path):
    found = small_record()
    content = found.to_dict()
    del content["weights"]
    (tmp_path / "old.json").write_text(json.dumps(content))
    assert results.load(tmp_path / "old.json") == found


def test_the_catalogue_is_printed(capsys):
    assert __main__.main(["weights", "list"]) == 0
    printed = capsys.readouterr().out
    assert all(f"| {name} " in printed for name in catalogue.names())
    assert __main__.main(["weights", "list", "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert entries.keys() == set(catalogue.names())
    assert entries["wkentaro_fcn8s_voc"]["saw_val"] == "yes"
    assert entries["torchvision_vgg16_imagenet"]["preprocessing"]["order"] == "rgb"


def test_import_and_verify(test_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SEG_JAX_WEIGHTS", str(tmp_path))
    assert __main__.main(["weights", "verify", NAME]) == 2
    assert f"{NAME} is not imported: get deeplabv3.tflite" in capsys.readouterr().err
    assert __main__.main(["weights", "import", str(test_data / FILE), "--as", NAME]) == 0
    assert "(as catalogued)" in capsys.readouterr().out
    assert __main__.main(["weights", "verify", NAME]) == 0
    assert "logits    1x257x257x21, all finite" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "runtime"),  # the runtime's own score on these images, measured with LiteRT
    [(FILE, 0.5651)],
)
def test_the_runtime_s_score_is_met(test_data, file, runtime):
    loaded = pretrained.load(test_data / file)
    found = published_run.score_published(loaded, root=test_data / "data", progress=False)
    assert found.data.images == 351
    assert abs(found.metrics["mean_iou"] - runtime) < 0.001


@functools.cache
def _voc(root):
    return data.open_source("voc2012", root, "val")


def test_a_slice_of_voc(test_data):
    """Twenty images: data, labels, importer and preprocessing fit together."""
    loaded = pretrained.load(test_data / FILE)
    source = _voc(test_data / "data")
    apply = jax.jit(functools.partial(loaded.model.apply, train=False))
    right = total = 0
    for index in range(0, 200, 10):
        example = source[index]
        x = loaded.preprocessing(example["image"])[None]
        prediction = np.asarray(apply(loaded.variables, x)["out"])[0].argmax(-1)
        rows_, columns = (np.minimum(np.arange(n) * 257 // n, 256) for n in example["label"].shape)
        counted = example["label"] != 255
        right += (prediction[np.ix_(rows_, columns)] == example["label"])[counted].sum()
        total += counted.sum()
    assert right / total > 0.85
