"""docs/performance.md is what scripts/growth.py writes of its record; its exponents are right."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def growth():
    spec = importlib.util.spec_from_file_location("growth", ROOT / "scripts" / "growth.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_that_of_the_record(growth):
    rows = json.loads(growth.RECORD.read_text())
    assert growth.PAGE.read_text() == growth.page(rows), "run `python scripts/growth.py page`"


def test_exponents(growth):
    sizes = [1, 2, 4, 8]
    assert growth.exponent(sizes, [3 * n**1.5 for n in sizes]) == pytest.approx(1.5)
    assert growth.exponent(sizes, [7.0] * 4) == pytest.approx(0)
    assert growth.exponent(sizes, [0.0, 1, 2, 3]) is None  # nothing has no logarithm
    assert growth.exponent([1, 2], [1, 2]) is None  # a line through two points fits anything


def test_a_crop_s_exponent_is_of_its_pixels(growth):
    """Cost in proportion to the pixels grows with exponent 1, not 2."""
    same = {"where": "cpu", "axis": "crop", **growth.BASE, "jax": "0", "machine": "m", "date": "d"}
    rows = [same | {"crop": side, "seconds": side**2 / 1e4, "gflop": 1.0} for side in (10, 20, 40)]
    assert "| p | **1.00** | **0.00** |" in growth.page(rows)
