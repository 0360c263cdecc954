"""Estimates, refusals of the compiler and the search for a batch, against figures by hand."""

import dataclasses
import types
from pathlib import Path

import jax
import pytest
from jax.experimental import topologies

from seg_jax import checks
from seg_jax.targets import batch, compiling, cost, page, table, text, topology

V5E = table.get("v5e-8")


def make_cost(**changes):
    fields = {
        "arguments_bytes": 2**30, "temporaries_bytes": 2**31, "peak_bytes": 3 * 2**30,
        "flops": 197e9, "accessed_bytes": 819e6, "collectives": {},
    }  # fmt: skip
    return cost.Cost(**{**fields, **changes})


def test_the_roofline_takes_the_slower_and_adds_the_collectives():
    assert cost.roofline_seconds(make_cost(), V5E, "bfloat16") == pytest.approx(1e-3)
    slow = make_cost(accessed_bytes=8.19e9)
    assert cost.roofline_seconds(slow, V5E, "bfloat16") == pytest.approx(1e-2)
    reduced = make_cost(collectives={"all-reduce": {"count": 2, "bytes": 10**8}})
    # A ring of 8: 2 * 7/8 of 100 MB at 100 GB/s.
    assert cost.roofline_seconds(reduced, V5E, "bfloat16") == pytest.approx(1e-3 + 1.75e-3)
    h100 = table.get("h100x8")
    half = cost.roofline_seconds(make_cost(accessed_bytes=0.0), h100, "bfloat16")
    assert cost.roofline_seconds(make_cost(accessed_bytes=0.0), h100, "float32") == pytest.approx(
        half * 989 / 494
    )


def test_the_two_cores_of_a_v4_are_one_device(monkeypatch):
    """JAX refuses meshes of v4 otherwise; the compiler describes two devices unless it is told."""
    v4, asked = table.get("v4-8"), []

    def described(name, platform, **settings):
        asked.append((name, platform, settings))
        return types.SimpleNamespace(devices=range(4 if settings else 8))

    monkeypatch.setattr(topologies, "get_topology_desc", described)
    assert len(topology.describe(v4)) == v4.devices == v4.chips == 4
    assert asked == [("v4:2x2x1", "tpu", {"chip_config_name": "megacore"})]
    assert v4.memory_bytes == 32 * 2**30 and v4.peak("bfloat16") == 275e12


@pytest.mark.parametrize("target", table.TARGETS.values(), ids=lambda target: target.name)
def test_clocks_agree_with_the_published_peaks(target):
    """Units of 128 x 128, two operations a cell and cycle: 4 a core of v4, v5e and v5p. A GPU's is
    the one that its compiler is told.
    """
    clock = target.chip.clock
    if target.chip.platform == "gpu":
        name = target.name.split("x")[0]
        described = (Path(topology.__file__).parent / f"{name}.txtpb").read_text()
        assert f"clock_rate_ghz: {clock / 1e9:.4g}\n" in described
    elif clock is None:
        pytest.skip("its clock is not published")
    else:
        units = 4 * {"TPU v5e": 1}.get(target.chip.name, 2)
        assert units * 128 * 128 * 2 * clock == pytest.approx(target.chip.flops, rel=0.01)


def test_refusals_of_the_tpu_compiler():
    """The first is libtpu 0.0.42's own text for a sort of 128 images on v5e."""
    text = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (16.00G) exceeds available HBM (15.75G)."
    )
    assert cost.memory_needed(text) == (16 * 2**30, int(15.75 * 2**30))
    assert cost.memory_needed("Used 20.50G of 15.75G hbm. Exceeded") == (
        int(20.5 * 2**30), int(15.75 * 2**30)
    )  # fmt: skip
    assert cost.memory_needed("INVALID_ARGUMENT: something else") is None


def test_a_refusal_becomes_an_outcome_and_a_bug_an_error():
    def refuse():
        raise RuntimeError("HLO temporaries (24.00G) exceeds available HBM (15.75G)")

    entry = compiling.outcome(refuse, V5E, "float32")
    assert entry["status"] == "does not fit" and entry["peak_bytes"] == 24 * 2**30

    def fail():
        raise RuntimeError("no tile sizes\n  for f32[1386,513]")

    entry = compiling.outcome(fail, V5E, "float32")
    assert entry == {"status": "error", "error": "RuntimeError: no tile sizes for f32[1386,513]"}


def test_a_known_program_is_not_compiled_again():
    """By programs of this CPU: two experiments of the same to the letter, and a third."""
    number = jax.ShapeDtypeStruct((8,), "float32")

    def lowered(function):
        return lambda: jax.jit(function).lower(number)

    first = compiling.outcome(lowered(lambda x: x + 1.0), V5E, "float32")
    known = {"experiment": "net_voc", "target": "v5e-8", "device_hours": 7.0, **first}
    same = compiling.outcome(lowered(lambda x: x + 1.0), V5E, "float32", known=[known])
    assert same.pop("same_program_as") == "net_voc"
    assert same == {key: first[key] for key in first if key != "compile_seconds"}
    other = compiling.outcome(lowered(lambda x: x + 2.0), V5E, "float32", known=[known])
    assert "same_program_as" not in other and other["program"] != first["program"]
    # An entry without the estimates that are asked for is of no use.
    again = compiling.outcome(
        lowered(lambda x: x + 1.0), V5E, "float32", known=[known], cycles_top=3
    )
    assert "same_program_as" not in again
    entry = {**known, **same, "experiment": "net_voc_trainval", "same_program_as": "net_voc"}
    assert page.outcome(known) == "compiled" and page.outcome(entry) == "compiled as net_voc"


def test_a_quick_compilation_says_so_and_does_not_stand_in_for_a_full_one():
    number = jax.ShapeDtypeStruct((2**10,), "float32")

    def lowered():
        assert jax.config.jax_exec_time_optimization_effort == 0.0
        return jax.jit(lambda x: x + 1.0).lower(number)

    quick = compiling.outcome(lowered, V5E, "float32", cycles_top=3, effort="quick")
    assert quick["effort"] == "quick" and "estimated_cycles" not in quick
    assert page.outcome(quick) == "compiled, quick"
    known = {"experiment": "net_voc", "target": "v5e-8", **quick}
    full = compiling.outcome(lowered, V5E, "float32", known=[known])
    assert "effort" not in full and "same_program_as" not in full
    same = compiling.outcome(lowered, V5E, "float32", effort="quick", known=[known])
    assert same["same_program_as"] == "net_voc" and same["effort"] == "quick"
    assert page.outcome(same) == "compiled as net_voc, quick"
    # What does not fit might in full; XLA:GPU knows one effort.
    chip = dataclasses.replace(V5E.chip, memory_bytes=2**12)
    small = dataclasses.replace(V5E, chip=chip)
    refused = compiling.outcome(lowered, small, "float32", effort="quick")
    assert refused["status"] == "does not fit" and "effort" not in refused
    gpu = compiling.outcome(lowered, table.get("h100x1"), "float32", effort="quick")
    assert gpu["status"] == "compiled" and "effort" not in gpu


def test_the_a100_has_no_estimates():
    number = jax.ShapeDtypeStruct((8,), "float32")

    def lowered():
        return jax.jit(lambda x: x + 1.0).lower(number)

    first = compiling.outcome(lowered, table.get("a100x8"), "float32", cycles_top=3)
    assert first["status"] == "compiled" and "estimated_cycles" not in first
    known = {"experiment": "net_voc", "target": "a100x8", **first}
    again = compiling.outcome(lowered, table.get("a100x8"), "float32", cycles_top=3, known=[known])
    assert again["same_program_as"] == "net_voc"


@pytest.mark.parametrize("fixed, image, limit", [(100, 7, 1000), (0, 333, 1000), (10, 995, 1000)])
def test_largest_batch(fixed, image, limit):
    tried = []

    def needed(images):
        tried.append(images)
        return fixed + image * images

    found = batch.largest(needed, limit=limit, first=(2, fixed + 2 * image))
    assert found == (limit - fixed) // image
    assert len(tried) <= batch.MOST_COMPILATIONS


def test_largest_batch_of_a_program_whose_memory_has_steps():
    found = batch.largest(lambda n: 50 + -(-n // 4) * 37, limit=1000, first=(1, 87))
    assert found == 100 == (1000 - 50) // 37 * 4


def test_nothing_reads_as_if_it_had_run():
    entry = {
        "experiment": "net", "target": "v5e-8", "mode": "train", "batch": 32, "recipe_batch": 30,
        "devices": 8, "precision": "bfloat16", "accumulate": 1, "status": "compiled", "fits": True,
        "compile_seconds": 9.0, "memory_bytes": 16 * 2**30, "arguments_bytes": 2**30,
        "temporaries_bytes": 2**31, "peak_bytes": 3 * 2**30, "flops": 1e12, "accessed_bytes": 1e9,
        "collectives": {"all-reduce": {"count": 3, "bytes": 2 * 10**6}},
        "roofline_seconds": 0.01, "device_hours": 5.0,
    }  # fmt: skip
    lines = text.entry_text(entry).splitlines()
    assert "the recipe's 30 does not divide" in lines[0]
    assert "compiled in 9.0 s, not run; fits: 3.00 GiB of 16.00 GiB" in lines[1]
    assert "3 all-reduce of 2.0 MB" in lines[3]
    assert lines[4].startswith("  estimate at the published peaks: 10.00 ms at least, 5.0 device-h")
    # Of a GPU there are only the compiler's cycles; a known program has been compiled elsewhere.
    entry |= {
        "target": "h100x8", "roofline_seconds": None, "accessed_bytes": None, "batch": 32,
        "estimated_cycles": 19.8e6, "estimated_seconds": 0.01, "utilization": 0.125,
        "convolution_share": 0.5, "same_program_as": "net_voc",
    }  # fmt: skip
    del entry["compile_seconds"]
    lines = text.entry_text(entry).splitlines()
    assert "the program of net_voc, compiled before, not run; fits: 3.00 GiB" in lines[1]
    assert "1000.0 GFLOP of convolutions and matrix products, 3 all-reduce of 2.0 MB" in lines[3]
    assert lines[4:] == [
        "  19.8 M cycles by the compiler's estimate: 10.0 ms, 400 images a second a device, "
        "12.5 % of peak; convolutions and matrix products 50 %",
        "  5.0 device-hours for the recipe, by the cycles",
    ]


def test_without_the_compiler_the_line_that_installs_it(monkeypatch):
    monkeypatch.setattr(topology, "available", lambda platform: False)
    with pytest.raises(
        checks.UserError, match=r"needs libtpu: `bash scripts/targets.sh --install`"
    ):
        topology.prepare(V5E)
    with pytest.raises(checks.UserError, match="did you mean v5e-8"):
        table.get("v5e8")
