"""Charts are drawn to scale and are well-formed XML."""

import math
import random
from xml.etree import ElementTree

import pytest

from seg_jax.report.svg import Series, chart, legend, nice_ticks


def points(drawing):
    root = ElementTree.fromstring(drawing)
    return [
        [(float(c.get("cx")), float(c.get("cy"))) for c in group.iter("circle")]
        for group in root.iter("g")
    ]


def test_points_are_placed_to_scale():
    drawn = chart([Series("a", [(0, 0), (1, 50), (4, 100)])], x_title="x", y_title="y", width=640)
    (left, low), (quarter, half), (right, high) = points(drawn)[0]
    assert quarter - left == pytest.approx((right - left) / 4, abs=0.11)
    assert low - half == pytest.approx((low - high) / 2, abs=0.11)
    assert low > half > high  # up is more


def test_a_gap_breaks_the_line():
    series = Series("a", [(0, 1.0), (1, None), (2, math.nan), (3, 2.0), (4, 3.0)])
    root = ElementTree.fromstring(chart([series], x_title="x", y_title="y"))
    assert [c for c in root.find(".//path").get("d") if c in "ML"] == ["M", "M", "L"]
    assert len(points(chart([series], x_title="x", y_title="y"))[0]) == 3


def test_names_are_escaped_and_ticks_shown():
    drawn = chart(
        [Series("<b>&", [(0, 1), (1, 2)])],
        x_title="<x>",
        y_title="y",
        x_ticks=[(0, "1"), (1, "40")],
    )
    texts = [element.text for element in ElementTree.fromstring(drawn).iter()]
    assert {"<b>&", "<x>", "1", "40"} <= set(texts)
    assert "&lt;b&gt;&amp;" in legend(["<b>&"])


def test_nothing_to_draw_is_no_drawing():
    assert chart([], x_title="x", y_title="y") == ""
    assert chart([Series("a", [(0, None), (1, math.nan)])], x_title="x", y_title="y") == ""


def test_one_point_and_a_constant_are_drawn():
    for values in ([(5, 3.0)], [(0, 2.0), (1, 2.0)], [(0, 0.0)]):
        assert points(chart([Series("a", values)], x_title="x", y_title="y"))


def test_ticks_are_round_and_enclose_the_values():
    rng = random.Random(0)
    for _ in range(500):
        low = rng.uniform(-1, 1) * 10 ** rng.uniform(-6, 6)
        high = low + 10 ** rng.uniform(-3, 6)
        ticks = nice_ticks([low, high])
        assert 3 <= len(ticks) <= 7
        assert ticks[0] <= low + 1e-9 * abs(low)
        assert ticks[-1] >= high - 1e-9 * abs(high)
        step = ticks[1] - ticks[0]
        mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
        assert min(abs(mantissa - nice) for nice in (1, 2, 5, 10)) < 1e-3
