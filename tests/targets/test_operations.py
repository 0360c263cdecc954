"""The TPU's forms of single operations keep their estimated cycles; the page shows them."""

import json
import warnings
from pathlib import Path

import jax
import pytest

from seg_jax.targets import accelerators_page, cross_checks, operations, steps, table, topology

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def committed():
    return json.loads((ROOT / operations.RECORD).read_text())


def test_the_page_shows_the_record(committed):
    checked = json.loads((ROOT / cross_checks.RECORD).read_text())
    whole = json.loads((ROOT / steps.RECORD).read_text())
    page = (ROOT / accelerators_page.PAGE).read_text()
    assert page == accelerators_page.page(whole, committed, checked)
    assert list(committed) == list(operations.OPERATIONS)
    assert list(checked) == list(cross_checks.CHECKS)
    for name, forms in committed.items():
        # Strips of upsampled logits are for memory, and not the default.
        for_memory = operations.OPERATIONS[name].before is not None
        key = "temporaries_bytes" if for_memory else "estimated_cycles"
        assert forms["now"][key] < forms["before"][key]


def test_the_checks_of_estimates_are_of_the_kinds_asked_for(committed):
    assert sum(check.matrix for check in cross_checks.CHECKS.values()) == 3
    assert len(cross_checks.CHECKS) == 8
    one = {"estimated_cycles": 300, "bundle_cycles": 200, "bound_cycles": 100, "not_dumped": []}
    text = cross_checks.section(dict.fromkeys(cross_checks.CHECKS, one))
    assert "three matrix operations the estimate is 1.50 to 1.50 times the bundles and 3.00" in text


def test_three_percent_worse_is_said():
    before = {"estimated_cycles": 100, "temporaries_bytes": 0, "without_estimate": {"slice": 1}}
    assert not operations.worse(before, before | {"estimated_cycles": 103})
    (line,) = operations.worse(before, before | {"estimated_cycles": 104})
    assert "104 exceeds the committed 100" in line
    # Work must not hide in operations that the compiler gives no figure for.
    assert operations.worse(before, before | {"without_estimate": {"slice": 2}})


@pytest.mark.slow
@pytest.mark.skipif(not topology.available("tpu"), reason="libtpu is not installed")
@pytest.mark.parametrize("name", operations.OPERATIONS)
def test_no_operation_costs_more_than_committed(committed, name):
    topology.prepare(table.get(operations.TARGET))
    compare(committed[name]["now"], operations.compile_one(name, "now"), "operations")


@pytest.mark.slow
@pytest.mark.skipif(not topology.available("tpu"), reason="libtpu is not installed")
@pytest.mark.parametrize("name", steps.WATCHED)
def test_no_training_step_costs_more_than_committed(name):
    topology.prepare(table.get(steps.TARGET))
    whole = json.loads((ROOT / steps.RECORD).read_text())
    with jax.numpy_dtype_promotion("standard"):  # optax's AdamW needs it
        found = steps.measure(name)
    compare(whole[name], found, "steps")


def compare(committed, found, what):
    command = f"python -m seg_jax.targets.accelerators_page {what}"
    assert not operations.worse(committed, found), f"if it must cost more: {command}"
    if operations.worse(found, committed):
        warnings.warn(f"it costs less now; commit the new figures: {command}", stacklevel=2)
