"""A dumped kernel, written by hand after what libtpu 0.0.42 writes."""

import pytest

from seg_jax import checks
from seg_jax.targets import bundles

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
    for number, (kind, text) in enumerate(
        (
            ("original.txt", "  loop: start=0, step=1, limit=102\n"),
            ("final_hlo-static-per-bundle-utilization.txt", TABLE),
            ("final_bundles.txt", CODE),
        )
    ):
        (tmp_path / f"179-fusion.3-{number:02}-{kind}").write_text(text)
    kernel = bundles.of(tmp_path)["fusion.3"]
    assert (kernel.bundles, kernel.grid) == (7, (102,))
    outer, inner = kernel.loops
    # An empty bundle inside a loop is written as if it were outside.
    assert (outer.begin, outer.depth, outer.bundles) == (1, 1, 5)
    assert (inner.begin, inner.depth, inner.bundles) == (3, 2, 2)
    assert kernel.cycles == 7 + 101 * 5
    assert (outer.binds, outer.bounds["MXU"]) == ("MXU", 3)
    assert "loop at 3" in bundles.text(kernel, least=2)


def test_a_folder_without_a_dump_says_how_to_make_one(tmp_path):
    with pytest.raises(checks.UserError, match="no bundles.*xla_jf_dump_llo_text"):
        bundles.of(tmp_path)
