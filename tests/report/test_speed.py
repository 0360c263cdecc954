"""The README's ratios are those of the committed benchmarks."""

import json
from pathlib import Path

import pytest

from seg_jax.report import speed, table

ROOT = Path(__file__).parents[2]


def committed(job):
    return json.loads((ROOT / f"experiments/benchmarks/{job}/cpu_float32.json").read_text())


def record(*ratios):
    return {
        "device": "EPYC, 2 cores", "dtype": "float32", "versions": {"jax": "1", "torch": "2"},
        "rows": [{"ratio": ratio} for ratio in ratios],
    }  # fmt: skip


def test_mean_and_range_of_the_rows():
    said = speed.sentence(record(0.5, 2.0, 1.0), record(0.25, 1.0, 4.0))
    assert "a forward pass takes 1.00 (0.50 to 2.00) and a training step takes 1.00" in said
    assert "(0.25 to 4.00) of PyTorch's time" in said and "of 3 networks" in said


def test_the_readme_s_sentence_is_that_of_the_records():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    said = speed.sentence(committed("forward"), committed("step"))
    written = table.write_section(text, speed.MARKERS, said)
    assert text == written, "run `python scripts/render_readme.py`"


@pytest.mark.parametrize("job", ["forward", "step"])
def test_ratios_are_those_of_the_times(job):
    rows = committed(job)["rows"]
    assert len(rows) == 13
    for row in rows:
        assert row["ratio"] == pytest.approx(row["ms"]["ours"] / row["ms"]["torch"], abs=6e-4)
