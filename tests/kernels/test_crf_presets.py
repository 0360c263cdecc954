"""The dense CRF in evaluation, records and prediction, against a slow one in NumPy."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_task import CLASSES, MemorySource, small_experiment, small_variables

from seg_jax import data, experiment, metrics, pretrained
from seg_jax.checks import UserError
from seg_jax.cli.predict import predict_with
from seg_jax.data import label_map
from seg_jax.evaluation import evaluate, run
from seg_jax.inference import forward, predict, protocols
from seg_jax.kernels.crf import CrfParams, mean_field, presets
from seg_jax.papers import Protocol
from seg_jax.types import voc_palette

PARAMS = CrfParams(
    iterations=3, bilateral_weight=3.0, bilateral_px=7.0, bilateral_rgb=30.0, spatial_weight=2.0
)
PLAIN = small_experiment(canvas=(40, 40))
WITH_CRF = small_experiment(canvas=(40, 40), crf=PARAMS)
VARIABLES = small_variables(PLAIN.model, seed=1)
SOURCE = MemorySource(((20, 31), (16, 16), (33, 16)))


@pytest.fixture
def by_definition(monkeypatch):
    """All pairs of pixels, where the default for this machine may approximate."""

    def reference(*arguments, implementation):
        assert implementation is None  # the default's choice
        return mean_field(*arguments, implementation="reference")

    monkeypatch.setattr(presets, "mean_field", reference)


def slow_crf(picture, probabilities, params=PARAMS):
    """Eq. 1-4 of Krahenbuhl & Koltun with DeepLab's normalisation, all pairs at once."""
    height, width, classes = probabilities.shape
    place = np.indices((height, width)).reshape(2, -1).T.astype(np.float64)
    colour = picture.reshape(-1, 3).astype(np.float64)

    def kernel(*features):
        distance = sum(((f[:, None] - f[None]) ** 2).sum(-1) for f in features)
        k = np.exp(-distance / 2)
        return k / k.sum(1, keepdims=True)

    both = params.bilateral_weight * kernel(
        place / params.bilateral_px, colour / params.bilateral_rgb
    ) + params.spatial_weight * kernel(place / params.spatial_px)
    logits = np.log(np.maximum(probabilities.reshape(-1, classes), 1e-37)).astype(np.float64)
    q = probabilities.reshape(-1, classes).astype(np.float64)
    for _ in range(params.iterations):
        q = np.exp(logits + both @ q)
        q /= q.sum(1, keepdims=True)
    return q.reshape(probabilities.shape)


def test_refines_as_the_slow_one_also_where_a_probability_is_0(rng, by_definition):
    picture = SOURCE[0]["image"]
    shares = rng.dirichlet((1.0, 1.0, 1.0), picture.shape[:2]).astype(np.float32)
    shares[0, 0] = (1.0, 0.0, 0.0)
    found = presets.refine(PARAMS)(picture, shares)
    np.testing.assert_allclose(found, slow_crf(picture, shares), atol=2e-5)
    assert found.dtype == np.float32


def test_evaluation_scores_what_the_crf_made_of_the_probabilities(by_definition):
    expected = np.zeros((3, 3), np.int64)
    changed = 0
    for index in range(len(SOURCE)):
        example = SOURCE[index]
        shares = forward.predict_probabilities(PLAIN, VARIABLES, example["image"])
        label = slow_crf(example["image"], shares).argmax(-1).astype(np.uint8)
        changed += (label != shares.argmax(-1)).sum()
        expected += metrics.confusion_on_host(example["label"], label, 3)
    assert changed > 20
    for boundaries in (True, False):
        found = evaluate.evaluate(
            WITH_CRF, VARIABLES, SOURCE, boundaries=boundaries, progress=False
        )
        np.testing.assert_array_equal(found.confusion, expected)


def test_evaluation_during_training_goes_without(monkeypatch):
    monkeypatch.setattr(data, "open_source", lambda *_, **__: SOURCE)
    expected = evaluate.intermediate(PLAIN, VARIABLES, 1)
    assert evaluate.intermediate(WITH_CRF, VARIABLES, 1) == expected


def test_the_record_quotes_it(tmp_path, monkeypatch, by_definition):
    monkeypatch.setattr(data, "open_source", lambda *_, **__: SOURCE)
    monkeypatch.setattr(run.checkpoints, "restore_variables", lambda *_: (PLAIN, VARIABLES, 600))
    (tmp_path / "metrics.jsonl").touch()
    record = run.evaluate_run(tmp_path, experiment=WITH_CRF, progress=False)
    assert record.protocol == Protocol(crf=True)
    assert record.cutting.endswith(
        ", dense CRF (3 iterations, bilateral 3, 7 px, 30 grey levels, spatial 2, 1 px, "
        "normalised after)"
    )
    assert list(tmp_path.glob("result_*.json"))  # another protocol's than the run's own
    assert run.evaluate_run(tmp_path, progress=False).protocol == Protocol()


def test_the_papers_experiments_have_their_releases_constants():
    found = {
        name: experiment.get(name).evaluation.crf
        for name in experiment.names()
        if experiment.get(name).evaluation.crf
    }
    assert all(name.startswith(("deeplab_v1_", "deeplab_v2_")) for name in found)
    assert found["deeplab_v1_vgg16_voc"] == presets.get("deeplab_v1_vgg16")
    assert found["deeplab_v1_largefov_vgg16_voc"] == presets.get("deeplab_v1_largefov")
    assert found["deeplab_v1_msc_vgg16_voc"] == presets.get("deeplab_v1_msc")
    assert found["deeplab_v2_vgg16_voc"] == presets.get("deeplab_v2_vgg16")
    r101 = found["deeplab_v2_resnet101_voc"]
    assert dataclasses.astuple(r101)[:6] == (10, 4.0, 67.0, 3.0, 3.0, 1.0)
    assert r101.normalisation == "after"
    words = protocols.words(experiment.get("deeplab_v2_resnet101_voc").evaluation)
    assert words.startswith("pad513: whole image, padded to 513x513 px, dense CRF deeplab_v2_res")


def test_the_documentation_has_every_name_and_its_constants():
    text = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    for name, known in presets.SETTINGS.items():
        values = dataclasses.astuple(known.params)[1:6]
        assert f"| `{name}` | " + " | ".join(f"{value:g}" for value in values) + " |" in text


def test_names():
    assert presets.get("none") is None
    with pytest.raises(UserError, match="did you mean deeplab_v2_resnet101"):
        presets.get("deeplab_v2_resnet10")
    symmetric = dataclasses.replace(presets.get("deeplab_v2_vgg16"), normalisation="symmetric")
    assert "dense CRF (" in presets.words(symmetric)
    assert "normalised symmetric" in presets.words(symmetric)


def test_prediction_applies_it(tmp_path, by_definition):
    picture = SOURCE[0]["image"]
    Image.fromarray(picture).save(tmp_path / "photo.png")
    labels = {"classes": CLASSES, "palette": voc_palette(), "progress": False}
    found = {}
    for name, chosen in (("plain", PLAIN), ("crf", WITH_CRF)):
        predict.predict(chosen, VARIABLES, [tmp_path / "photo.png"], tmp_path / name, **labels)
        with Image.open(tmp_path / name / "photo.png") as image:
            found[name] = np.array(image)
    shares = forward.predict_probabilities(PLAIN, VARIABLES, picture)
    np.testing.assert_array_equal(found["plain"], shares.argmax(-1))
    np.testing.assert_array_equal(found["crf"], slow_crf(picture, shares).argmax(-1))


def test_prediction_takes_constants_by_name(tmp_path, monkeypatch):
    used = []
    monkeypatch.setattr(predict, "predict", lambda chosen, *_, **__: used.append(chosen))

    class Loaded:
        experiment, variables = WITH_CRF, VARIABLES
        labels = label_map.LabelMap(CLASSES, ((0, 0, 0),) * 3)

    monkeypatch.setattr(pretrained, "load", lambda *_, **__: Loaded)
    for name in ("", "none", "deeplab_v1_largefov"):
        predict_with("run", [], tmp_path, crf_name=name)
    expected = [PARAMS, None, presets.get("deeplab_v1_largefov")]
    assert [chosen.evaluation.crf for chosen in used] == expected
