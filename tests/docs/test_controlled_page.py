"""The numbers of docs/controlled.md are those of the committed records."""

import re
from pathlib import Path

import pytest

from seg_jax import experiment, papers, results

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "controlled.md").read_text(encoding="utf-8")


def table(heading):
    """The first table whose header row begins with "| heading", as {first cell: other cells}."""
    _, _, rest = PAGE.partition(f"\n{heading}")
    assert rest, f"docs/controlled.md has no table {heading}"
    lines = rest.split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in rows}


def records(folder):
    """The committed records of the suite there, by the name that the page calls them."""
    found = {}
    for name in experiment.suite("controlled"):
        path = ROOT / "experiments" / "results" / folder / f"{name}.json"
        if path.exists():
            record = results.load(path)
            title = papers.title(name, record.family)
            found["LargeFOV" if "largefov" in name else title] = record
    return found


def percents(record, *metrics):
    return [f"{100 * record.metrics[name]:.1f}" for name in metrics]


def test_what_has_run():
    shown, committed = table("| head | rate | val, 500 steps |"), records(".")
    assert set(shown) == set(committed)
    for name, record in committed.items():
        found = [shown[name][index] for index in (4, 5, 6)]
        assert found == percents(record, "mean_iou", "boundary_f1", "pixel_accuracy"), name
        rate = record.config["optim"]["base_lr"]
        assert float(re.match(r"[\d.]+", shown[name][0])[0]) == rate, name


def test_with_a_crf():
    shown, plain, refined = table("| network "), records("."), records("crf")
    assert set(shown) == set(refined) and len(refined) >= 5
    for name, record in refined.items():
        assert "dense CRF" in record.cutting
        scores = [one.metrics["mean_iou"] for one in (plain[name], record)]
        edges = [one.metrics["boundary_f1"] for one in (plain[name], record)]
        cells = shown[name]
        assert cells[:2] == [f"{100 * score:.1f}" for score in scores], name
        assert float(cells[2]) == pytest.approx(100 * (scores[1] - scores[0]), abs=0.051)
        assert cells[6:8] == [f"{100 * edge:.1f}" for edge in edges], name


def test_with_scales_and_a_crf():
    folder = ROOT / "experiments" / "results"
    name = "deeplab_v3plus_mobilenetv2_camvid"
    # At the rate that it had before its search, which the page says.
    parts = ("rate_0.03", "scales", "scales_crf")
    found = [results.load(folder / "crf" / f"{name}_{part}.json") for part in parts]
    assert {one.config["optim"]["base_lr"] for one in found} == {0.03}
    assert len({one.training.seconds for one in found}) == 1  # one run
    plain, scales, refined = (f"{100 * one.metrics['mean_iou']:.1f}" for one in found)
    assert found[1].protocol.scales == (0.75, 1.0, 1.25) and found[1].protocol.flip
    assert "dense CRF" in found[2].cutting and "dense CRF" not in found[1].cutting
    sentence = f"{plain} becomes {scales} with three scales and their mirror images"
    assert sentence in PAGE and f"and {refined} with the CRF" in PAGE
