"""Verbs that take the name of published weights as they take a run's."""

import json

import pytest
from small_task import MemorySource, SmallNet, small_experiment, small_variables

from seg_jax import __main__, data, experiment
from seg_jax.pretrained import Pretrained, catalogue, differences, loading

NAME = "google_deeplabv3_mobilenetv2_dm05_voc"


def test_evaluate_scores_weights_by_name(monkeypatch, capsys):
    """Under the entry's own protocol, unless a flag says otherwise."""
    loaded = Pretrained(small_experiment(), small_variables(SmallNet()), NAME)
    monkeypatch.setattr(loading, "load", lambda name: loaded)
    monkeypatch.setattr(data, "open_source", lambda *_, **__: MemorySource(((20, 31), (16, 16))))
    assert not __main__.main(["evaluate", NAME, "--json"])
    record = json.loads(capsys.readouterr().out)
    assert record["weights"]["name"] == NAME and record["data"]["images"] == 2
    assert record["config"]["evaluation"]["bucket"] == 16
    assert record["command"].endswith(f"evaluate {NAME} --json")


def test_show_describes_an_entry(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("SEG_JAX_WEIGHTS", str(tmp_path))
    assert not __main__.main(["show", "google_mobilenetv2_imagenet_uint8"])
    printed = capsys.readouterr().out
    assert "norms      folded: a training estimates their statistics first" in printed
    assert "weights import FILE --as google_mobilenetv2_imagenet_uint8" in printed
    assert not __main__.main(["show", "google_mobilenetv2_imagenet_uint8", "--json"])
    assert json.loads(capsys.readouterr().out)["folded"] is True


@pytest.fixture(scope="module")
def entry():
    return catalogue.get(NAME).experiment()


def test_a_training_is_told_where_it_differs_from_the_weights(entry):
    here = experiment.get("deeplab_v3plus_mobilenetv2_voc_dm05")
    network, protocol = differences.notes(entry, here, inputs=True)
    assert network == (
        "the network of the weights differs: backbone.output_stride 8 there, 16 here "
        "(--model.backbone.output-stride 8)"
    )
    assert protocol.startswith("the weights were verified under another evaluation protocol: --ev")
    assert "--evaluation.mode resize --evaluation.canvas 257 257" in protocol
    assert differences.notes(entry, entry, inputs=True) == []


def test_other_inputs_are_named_with_their_flags(entry):
    other = catalogue.get("google_deeplabv3_mobilenetv2_voc_uint8").experiment()
    (*_, line) = differences.notes(other, entry, inputs=True)[:2]
    assert "--data.preprocessing.mean 128.0 128.0 128.0" in line
