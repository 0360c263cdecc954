"""The worked pages as a reader follows them: every command, in a folder with drawn images."""

import json

import numpy as np
import pytest
from label_exports import EXPECTED, coco_json, image
from pages import ROOT, blocks, draw_own_data, run_bash, write_titled
from PIL import Image

DOCS = ROOT / "docs"


@pytest.mark.slow
def test_your_data_runs(tmp_path, monkeypatch):
    draw_own_data(tmp_path / "my_data")
    out = run_bash(DOCS / "your-data.md", tmp_path)
    assert "disc" in out
    fitted = tmp_path / "runs/my_data_deeplab_v3plus_mobilenet_v2"
    record = json.loads((fitted / "result.json").read_text())
    assert record["training"]["steps"] == 100 and record["data"]["images"] == 8
    assert (fitted / "report.html").is_file() and "train pspnet_resnet50_voc --workdir" in out
    assert "worst 5 of 8 images" in out
    assert (tmp_path / "my_data.html").is_file()
    record = json.loads((tmp_path / "runs/mine/result.json").read_text())
    assert record["data"]["images"] == 8 and record["classes"] == ["background", "disc", "bar"]
    assert min(record["metrics"]["per_class_iou"].values()) > 0.3
    predictions = tmp_path / "predictions"
    assert len(list(predictions.glob("*.png"))) == 80
    with Image.open(predictions / "000.png") as file:
        assert file.size == (96, 72) and file.mode == "P"
    (code,) = blocks(DOCS / "your-data.md", "python")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code.text, names)
    assert names["score"]["metrics"] == record["metrics"]


@pytest.mark.slow
def test_other_data_runs(tmp_path):
    coco_json(tmp_path / "coco_export", form="runs")
    for name in ("a", "b"):
        image(tmp_path / f"colour_masks/images/{name}.png")
        (tmp_path / "colour_masks/masks").mkdir(exist_ok=True)
        colours = np.array([(0, 0, 0), (9, 8, 7), (200, 100, 50)], np.uint8)[EXPECTED]
        Image.fromarray(colours).save(tmp_path / f"colour_masks/masks/{name}.png")
    draw_own_data(tmp_path / "satellite", images=10)
    rng = np.random.default_rng(0)
    for path in sorted((tmp_path / "satellite/images").iterdir()):
        with Image.open(path) as file:
            colours = np.array(file).astype(np.uint16) * 16
        bands = np.dstack([colours, rng.integers(0, 4096, (*colours.shape[:2], 2))])
        np.save(path.with_suffix(".npy"), bands.astype(np.uint16))
        path.unlink()
    out = run_bash(DOCS / "other-data.md", tmp_path)
    assert "--data.preprocessing.channels 5 --data.preprocessing.range 0 4095" in out
    assert "they belong to synthetic_voc" in out and "num_classes 8 -> 3" in out
    for name, classes in (("from_coco", "background\nroad\ncar\n"), ("from_colours", None)):
        assert len(list((tmp_path / name / "masks").iterdir())) == 2
        found = (tmp_path / name / "classes.txt").read_text()
        assert found == classes or {"road,9,8,7", "car,200,100,50"} <= set(found.split())
    assert (tmp_path / "runs/bands/result.json").is_file()
    with Image.open(tmp_path / "predictions/000_overlay.png") as file:
        assert file.mode == "RGB"


@pytest.mark.slow
def test_training_page_runs(tmp_path, monkeypatch):
    """All but the block that installs W&B and MLflow."""
    monkeypatch.setenv("SEG_JAX_DATA", str(tmp_path / "data"))
    run_bash(DOCS / "training.md", tmp_path, without="pip install")
    best = json.loads((tmp_path / "runs/best/result.json").read_text())
    assert best["training"]["steps"] == 60
    runs = {path.parent.name for path in tmp_path.glob("runs/*/metrics.jsonl")}
    assert runs == {"best", "shown", "group", "remat"}


@pytest.mark.slow
def test_new_architecture_runs(tmp_path):
    draw_own_data(tmp_path / "my_data")
    write_titled(DOCS / "new-architecture.md", tmp_path)
    out = run_bash(DOCS / "new-architecture.md", tmp_path)
    assert "far" in out  # a layer, printed by `show`
    record = json.loads((tmp_path / "runs/two_branches_folder/result.json").read_text())
    assert record["metrics"]["mean_iou"] > 0.3
    assert (tmp_path / "predictions/000_overlay.png").is_file()
