import dataclasses
import json

import numpy as np
import pytest

from seg_jax import analysis, experiment, metrics, results
from seg_jax.papers import Protocol
from seg_jax.results.record import PublishedWeights, counts_of


def record(name):
    scores = dataclasses.replace(
        metrics.Scores.zero(2, ()),
        confusion=np.array([[6, 2], [1, 3]]),  # IoU 6/9 and 3/6
        images=1,
    )
    return results.Record(
        schema=2, experiment=name, family="FCN", run="run", config={}, digest="0" * 16,
        data=results.Split("drawn", "val", 1, "drawn val: 1 image", "0" * 64),
        classes=("background", "thing"), protocol=Protocol(), cutting="",
        training=results.Training(None, "none", 1, 1, (8, 8), 0, None, 1),
        counts=counts_of(scores), evaluation_seconds=1.0, revision=None, dirty=None, versions={},
        device={"platform": "cpu", "kind": "cpu", "devices": 1}, command="",
        date="2025-01-01T00:00:00+00:00",
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "results").mkdir()
    return tmp_path


def test_nothing_has_run(folder):
    assert analysis.evidence("fcn32s_vgg16_voc", folder) == "not run"
    assert analysis.evidence("fcn32s_vgg16_voc", folder / "absent") == "not run"


def test_evidence_from_records_and_parity(folder):
    results.save(record("fcn32s_vgg16_voc"), folder / "results" / "a.json")
    results.save(record("fcn16s_vgg16_voc"), folder / "results" / "b.json")
    parity = {
        "fcn32s_vgg16": {"reference": "NumPy", "errors": {"logits": 2e-6, "gradient": 3e-5}},
        "unet": {"reference": "torch", "errors": {"logits": 1e-5}},
    }
    (folder / "parity.json").write_text(json.dumps(parity))
    assert analysis.evidence("fcn32s_vgg16_voc", folder) == (
        "mIoU 58.3 on drawn val; parity 3e-05 with NumPy"
    )
    assert analysis.evidence("fcn16s_vgg16_voc", folder) == "mIoU 58.3 on drawn val"
    assert analysis.evidence("unet_voc", folder) == "parity 1e-05 with torch"
    assert analysis.evidence("unetlike_voc", folder) == "not run"


def test_evidence_says_whose_weights_it_rests_on(folder):
    theirs = PublishedWeights("their_net", "COCO", "no")
    found = dataclasses.replace(record("fcn32s_vgg16_voc"), weights=theirs)
    results.save(found, folder / "results" / "a.json")
    expected = "mIoU 58.3 on drawn val with their_net"
    assert analysis.evidence("fcn32s_vgg16_voc", folder) == expected


def test_summary_of_a_published_experiment():
    found = analysis.summary(experiment.get("fcn8s_vgg16_voc"))
    assert found["parameters"] == 134_362_751
    assert (found["headline"]["miou"], found["headline"]["split"]) == (65.5, "seg11valid")
    assert (found["test"]["miou"], found["test"]["date"]) == (62.2, "2014-11-12")
    assert {"name", "family", "paper", "published", "evidence"} <= found.keys()
    assert found["published"][0] == found["headline"]
    assert json.loads(json.dumps(found)) == found


def test_summary_where_nothing_was_published():
    found = analysis.summary(experiment.get("unet_voc"))
    assert found["headline"] is found["test"] is None
    assert found["published"] == []
    assert found["parameters"] == 31_033_045


def test_show_prints_the_configuration_as_it_can_be_set():
    found = experiment.get("fcn8s_vgg16_voc")
    text = analysis.as_text(analysis.analyse_experiment(found), found)
    assert "\noptim.base_lr = 1e-14\n" in text
    assert "\nmodel.backbone = VGG\n" in text
    assert "\nname = 'fcn8s_vgg16_voc' (fixed)\n" in text
    assert "\nevaluation.crf = None (fixed)\n" in text
    assert "\noptim.rules.1 = Rule(pattern='.*/bias', lr=2.0, decay=0.0)\n" in text
    assert "\nimage 500x500x3\n" in text
