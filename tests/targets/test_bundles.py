"""A dumped kernel, written by hand after what libtpu 0.0.42 writes."""

import json

import pytest

from seg_jax import checks
from seg_jax.cli.compile import compile_programs
from seg_jax.targets import bundles, text

CODE = """\
LH: loop header
LB: loop body

     0   :  { %s0 = smov 0 }
   0x1 LB: > { %s1 = sadd.s32 1, %s0 }
   0x2   :  {} /* End region 3 */
   0x3 LB: >> { %v0 = vld [vmem:[%s1] sm:$0xff] }
   0x4   : >> { %v1 = vadd.f32 %v0, %v0 }
   0x5   : > { %6 = sbr.rel (%p1) target = $region2 }
   0x6   :  { %7 = vsyncpa }
"""
TABLE = """\
== CAPACTIY:
MXU, VALU, VLOAD, VSTORE, VSTORE:SPILL, SALU
    4     4     3     1     1     2
== UTILIZATION:
0 0 0 0 0 1
0 0 0 0 0 1
0 0 0 0 0 0
9 1 1 0 0 0
0 1 0 0 0 0
0 0 0 2 0 0
0 0 0 0 0 0
"""


def test_loops_slots_and_what_binds(tmp_path):
    for number, (kind, content) in enumerate(
        (
            ("original.txt", "  loop: start=0, step=1, limit=102\n"),
            ("final_hlo-static-per-bundle-utilization.txt", TABLE),
            ("final_bundles.txt", CODE),
        )
    ):
        (tmp_path / f"179-fusion.3-{number:02}-{kind}").write_text(content)
    kernel = bundles.of(tmp_path)["fusion.3"]
    assert (kernel.bundles, kernel.grid) == (7, (102,))
    outer, inner = kernel.loops
    # An empty bundle inside a loop is written as if it were outside.
    assert (outer.begin, outer.depth, outer.bundles) == (1, 1, 5)
    assert (inner.begin, inner.depth, inner.bundles) == (3, 2, 2)
    assert kernel.cycles == 7 + 101 * 5
    assert (outer.binds, outer.bounds["MXU"]) == ("MXU", 3)
    data = json.loads(json.dumps(bundles.to_dict(kernel)))  # as another process hands it over
    assert "loop at 3: 2 bundles a trip, bound by MXU (3 cycles)" in bundles.text(data, least=2)
    entry = {"status": "compiled", "compile_seconds": 1, "peak_bytes": 0, "memory_bytes": 1}
    entry |= {"experiment": "crf/x", "mode": "kernel", "target": "v5e-8", "precision": "float32"}
    entry |= {"batch": 1, "recipe_batch": 1, "accumulate": 1, "devices": 1, "bundles": [data]}
    assert "  fusion.3: 7 bundles, grid 102" in text.entry_text(entry)


@pytest.mark.parametrize("words", [("unet_synthetic", "v5e-8"), ("crf/exact_hopper", "h100x1")])
def test_only_kernels_on_tpus_are_dumped(words):
    with pytest.raises(checks.UserError, match="--bundles.*the dump is of kernels on TPUs"):
        compile_programs([words[0], "--for", words[1], "--bundles"])


def test_a_folder_without_a_dump_says_how_to_make_one(tmp_path):
    with pytest.raises(checks.UserError, match="no bundles.*xla_jf_dump_llo_text"):
        bundles.of(tmp_path)
