"""The worked pages as a reader follows them: every command, in a folder with drawn images."""

import json

import pytest
from pages import ROOT, blocks, draw_own_data, run_bash, write_titled
from PIL import Image

DOCS = ROOT / "docs"


@pytest.mark.slow
def test_your_data_runs(tmp_path, monkeypatch):
    draw_own_data(tmp_path / "my_data")
    out = run_bash(DOCS / "your-data.md", tmp_path)
    assert "disc" in out
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
def test_new_architecture_runs(tmp_path):
    draw_own_data(tmp_path / "my_data")
    write_titled(DOCS / "new-architecture.md", tmp_path)
    out = run_bash(DOCS / "new-architecture.md", tmp_path)
    assert "far" in out  # a layer, printed by `show`
    record = json.loads((tmp_path / "runs/two_branches_folder/result.json").read_text())
    assert record["metrics"]["mean_iou"] > 0.3
    assert (tmp_path / "predictions/000_overlay.png").is_file()
