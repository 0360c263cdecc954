"""The search of the CRF's constants, against a plain loop; its file, its heat map, its advice."""

import dataclasses
import json
import re
import shlex
from xml.etree import ElementTree

import numpy as np
import pytest
from small_task import MemorySource, small_experiment, small_variables

from seg_jax import data, metrics, pretrained
from seg_jax.checks import UserError
from seg_jax.cli import crf as crf_verbs
from seg_jax.cli import parsing
from seg_jax.cli.evaluate import EvaluateOptions
from seg_jax.evaluation import crf_search
from seg_jax.inference import forward, protocols
from seg_jax.kernels.crf import CrfParams, mean_field, presets, reference
from seg_jax.report import heat_map

EXPERIMENT = small_experiment(canvas=(24, 24), crf=CrfParams())
VARIABLES = small_variables(EXPERIMENT.model, seed=1)
SOURCE = MemorySource(((14, 20),) * 6)
FIXED = CrfParams(iterations=2, spatial_weight=1.0, normalisation="symmetric")
GRID = crf_search.Grid((0.5, 4.0), (3.0, 9.0), (10.0, 30.0, 90.0), FIXED)


@pytest.fixture(autouse=True)
def by_definition(monkeypatch):
    def exact(*arguments, implementation):
        return mean_field(*arguments, implementation="reference")

    monkeypatch.setattr(presets, "mean_field", exact)


def search(folder, grid=GRID, source=SOURCE, **options):
    return crf_search.search(
        EXPERIMENT, VARIABLES, source, grid, cache=folder, progress=False, **options
    )


def test_equals_a_loop_over_points_and_images_and_compiles_once(tmp_path):
    reference._mean_field.clear_cache()
    found = search(tmp_path, images=3)
    assert reference._mean_field._cache_size() == 1  # 12 points, 3 images of one size
    assert found.images == ("image0", "image2", "image5")
    plain = np.zeros((3, 3), np.int64)
    expected = np.zeros((12, 3, 3), np.int64)
    for index in (0, 2, 5):
        example = SOURCE[index]
        shares = forward.predict_probabilities(EXPERIMENT, VARIABLES, example["image"])
        plain += metrics.confusion_on_host(example["label"], shares.argmax(-1), 3)
        position = 0
        for weight in (0.5, 4.0):
            for px in (3.0, 9.0):
                for rgb in (10.0, 30.0, 90.0):
                    params = CrfParams(2, weight, px, rgb, 1.0, 1.0, "symmetric")
                    q = mean_field(
                        -np.log(shares), example["image"], params, implementation="reference"
                    )
                    prediction = np.asarray(q).argmax(-1)
                    expected[position] += metrics.confusion_on_host(example["label"], prediction, 3)
                    position += 1
    scores = np.array([metrics.mean_iou(confusion) for confusion in expected])
    assert found.plain == metrics.mean_iou(plain)
    np.testing.assert_array_equal(found.scores, scores.reshape(2, 2, 3))
    assert len(np.unique(scores)) > 6  # the points differ: a real comparison
    assert found.best == GRID.points()[scores.argmax()]


def test_the_network_sees_an_image_once(tmp_path, monkeypatch):
    first = search(tmp_path, images=2)
    monkeypatch.setattr(forward, "predict_probabilities", None)
    np.testing.assert_array_equal(search(tmp_path, images=2).scores, first.scores)


def test_the_cache_is_of_these_weights_this_protocol_and_this_split():
    def name(experiment=EXPERIMENT, variables=VARIABLES, source=SOURCE):
        return crf_search.cache_name(experiment, variables, source)

    flipped = dataclasses.replace(EXPERIMENT.evaluation, flip=True)
    without_crf = dataclasses.replace(EXPERIMENT.evaluation, crf=None)
    others = [
        name(dataclasses.replace(EXPERIMENT, evaluation=flipped)),
        name(variables=small_variables(EXPERIMENT.model, seed=2)),
        name(source=MemorySource(SOURCE.sizes, split="train")),
    ]
    assert len({name(), *others}) == 4
    assert name(dataclasses.replace(EXPERIMENT, evaluation=without_crf)) == name()


def test_the_papers_grids():
    v1, v2 = crf_search.GRIDS["deeplab_v1"], crf_search.GRIDS["deeplab_v2"]
    assert (len(v1.points()), len(v2.points())) == (2 * 6 * 8, 4 * 8 * 4)
    for point in (*v1.points(), *v2.points()):
        assert (point.spatial_weight, point.spatial_px, point.iterations) == (3.0, 3.0, 10)
        assert point.normalisation == "after"
    assert presets.get("deeplab_v1_largefov") in v1.points()


def test_the_text_says_where_to_widen_the_grid():
    scores = np.zeros((2, 2, 3))
    scores[1, 0, 1] = 0.5
    text = crf_search.as_text(crf_search.Outcome(GRID, ("a",), 0.25, scores))
    assert "mIoU 50.00, without a CRF 25.00" in text
    assert "bilateral weights 4 is at the edge" in text
    assert "bilateral px 3 is at the edge" in text
    assert "rgb" not in text.split("edge")[-1]
    with pytest.raises(UserError, match="no values of bilateral px"):
        crf_search.Grid((1.0,), (), (1.0,))


def test_command_line(tmp_path, monkeypatch, capsys):
    opened = []

    class Loaded:
        experiment, variables = EXPERIMENT, VARIABLES

    monkeypatch.setattr(pretrained, "load", lambda run: Loaded)
    monkeypatch.setattr(data, "open_source", lambda *where, **_: opened.append(where) or SOURCE)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "compiled"))
    words = "--weights 0.5 4 --px 3 9 --rgb 10 30 90 --normalisation symmetric --images 2"
    assert crf_verbs.main(["search", str(tmp_path), *words.split(), "--split", "train"]) == 0
    assert opened == [("memory", None, "train")]
    record = json.loads((tmp_path / "crf_search" / "search.json").read_text())
    scores = [point["mean_iou"] for point in record["points"]]
    best = record["points"][int(np.argmax(scores))]
    assert record["pictures"] == ["image0", "image5"]
    assert {**record["best"], "mean_iou": max(scores)} == best

    # The advice, given to `evaluate`, chooses these constants.
    advice = re.search(r"evaluate RUN (.*)", capsys.readouterr().out)[1]
    options = shlex.split(advice)
    start = EXPERIMENT.with_evaluation(crf=presets.get(parsing.named(options, "--crf")))
    found, _ = parsing.override(start, options, "evaluate", EvaluateOptions, fields=("evaluation",))
    assert dataclasses.asdict(found.evaluation.crf) == record["best"]

    cells = ElementTree.fromstring((tmp_path / "crf_search" / "heat_map.svg").read_text())
    assert len(cells.findall("{*}rect")) == 1 + len(scores)
    protocol = protocols.words(EXPERIMENT.with_evaluation(crf=None).evaluation)
    note = f"{tmp_path}, {SOURCE.name} {SOURCE.split}, {protocol}"  # run, data and protocol
    assert note in [text.text for text in cells.findall("{*}text")]


def test_published_weights_need_a_folder_to_write_into(tmp_path):
    (tmp_path / "weights.tflite").touch()
    with pytest.raises(UserError, match="name one with --out"):
        crf_verbs.main(["search", str(tmp_path / "weights.tflite")])
    with pytest.raises(UserError, match="did you mean search"):
        crf_verbs.main(["saerch"])


def test_heat_map_shows_every_number_and_frames_the_highest():
    rows = [[1.0, 2.5, float("nan")], [9.25, 4.0, 3.0]]
    drawn = ElementTree.fromstring(
        heat_map.heat_map(
            [("<one>", rows), ("two", [[0.0] * 3] * 2)],
            x_title="px", y_title="rgb", x_labels="abc", y_labels="de", title="mIoU",
        )
    )  # fmt: skip
    texts = [text.text for text in drawn.findall("{*}text")]
    assert {"<one>", "two", "2.50", "9.25", "–"} <= set(texts)
    cells = drawn.findall("{*}rect")[1:]
    assert len(cells) == 5 + 6
    framed = [cell for cell in cells if cell.get("stroke")]
    assert len(framed) == 1
    number = next(text for text in drawn.findall("{*}text") if text.text == "9.25")
    inside = (
        float(number.get("x")) - float(framed[0].get("x")),
        float(number.get("y")) - float(framed[0].get("y")),
    )
    assert 0 < inside[0] < 52
    assert 0 < inside[1] < 26
