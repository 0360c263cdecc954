"""The text of a compiled program: loops, fusions, collectives; by hand and of a real program."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from seg_jax import parallel
from seg_jax.targets import cycles, hlo, table

# Written after what libtpu 0.0.42 prints, shortened.
PROGRAM = """\
HloModule jit_step, is_scheduled=true

%fused (p: bf16[2,8,8,4]) -> bf16[2,8,8,4] {
  %p = bf16[2,8,8,4]{3,2,1,0:T(8,128)(2,1)} parameter(0)
  ROOT %m = bf16[2,8,8,4]{3,2,1,0} maximum(%p, %p), backend_config={"estimated_cycles":"999"}
}

%inner (c: (s32[], f32[4])) -> (s32[], f32[4]) {
  %c = (s32[]{:T(128)}, f32[4]{0:T(256)}) parameter(0)
  %conv = f32[2,8,8,4]{3,2,1,0} fusion(%c), kind=kOutput, calls=%fused, metadata={op_name="jit(step)/jvp(Net)/block/conv_1/conv_general_dilated" stack_frame_id=3}, backend_config={"window_config":{"estimated_cycles":"10"}}
  %sum = f32[4]{0} all-reduce(%conv), to_apply=%fused
  ROOT %t = (s32[], f32[4]) tuple(%c, %sum)
}

%outer (c: (s32[], f32[4])) -> (s32[], f32[4]) {
  %c = (s32[], f32[4]) parameter(0)
  ROOT %while.2 = (s32[], f32[4]) while(%c), condition=%fused, body=%inner, backend_config={"known_trip_count":{"n":"5"}}
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  %while.1 = (s32[], f32[4]) while(%x), condition=%fused, body=%outer, backend_config={"known_trip_count":{"n":"3"}}
  %gather = (f32[4]{0}, f32[32]{0}) all-gather-start(%x), dimensions={0}
  %pool = f32[4]{0} reduce-window(%x), metadata={op_name="jit(step)/transpose(jvp(Net))/max_pool/select_and_scatter_add"}
  ROOT %copy = f32[4]{0} copy(%pool), metadata={op_name="jit(step)/transpose(jvp(Net))/max_pool/add;x"}, backend_config={"estimated_cycles":"7"}
}
"""  # noqa: E501


def test_loops_are_multiplied_out_and_fusions_count_once():
    found = {i.name: i for i in hlo.executed(PROGRAM)}
    assert found["conv"].times == 15 and found["conv"].estimated_cycles == 10
    assert found["copy"].times == 1 and found["while.2"].times == 3
    assert "m" not in found  # inside a fusion
    counted = cycles.of(PROGRAM)
    assert counted.total == 15 * 10 + 7
    assert counted.convolution_share == 150 / 157
    conv, copy = counted.groups
    assert (conv.module, conv.kind, conv.backward) == ("Net/block/conv_1", "convolution", False)
    assert (copy.module, copy.kind, copy.backward) == ("Net/max_pool", "max pooling", True)
    assert counted.unknown == {"reduce-window": 1}
    assert counted.seconds(table.get("v5e-8")) == 157 / 1.5e9
    assert counted.seconds(table.get("v6e-8")) is None  # its clock is not published


def test_a_loop_without_a_trip_count_takes_its_condition_s_limit():
    condition = """\
%less (c: (s32[], f32[4])) -> pred[] {
  %limit = s32[]{:T(128)} constant(7)
  %c = (s32[]{:T(128)}, f32[4]{0:T(256)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%c), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %limit), direction=LT
}

"""
    known = 'condition=%fused, body=%inner, backend_config={"known_trip_count":{"n":"5"}}'
    assert known in PROGRAM
    program = PROGRAM.replace(known, "condition=%less, body=%inner")
    program = program.replace("%inner (c:", condition + "%inner (c:")
    assert {i.name: i for i in hlo.executed(program)}["conv"].times == 3 * 7
    other = program.replace("direction=LT", "direction=NE")
    assert {i.name: i for i in hlo.executed(other)}["conv"].times == 3


def test_collectives():
    assert hlo.collectives(PROGRAM) == {
        "all-reduce": {"count": 15, "bytes": 15 * 16},
        "all-gather": {"count": 1, "bytes": 128},
    }


def test_sizes():
    assert hlo.size_bytes("(bf16[2,3]{1,0:T(8,128)(2,1)}, pred[5], s32[], f8e4m3fn[7])") == 28


def test_a_program_compiled_here():
    """XLA:CPU's text has the same grammar: a loop of 6 with an all-reduce over the devices."""

    @functools.partial(
        jax.shard_map, mesh=parallel.make_mesh(), in_specs=PartitionSpec("data"),
        out_specs=PartitionSpec("data"),
    )  # fmt: skip
    def step(x):
        def body(carry, _):
            return jnp.sin(carry) + lax.psum(carry, "data"), None

        return lax.scan(body, x, None, length=6)[0]

    devices = jax.device_count()
    text = jax.jit(step).lower(jnp.ones((devices, 3, 5))).compile().as_text()
    found = hlo.collectives(text)
    assert set(found) == {"all-reduce"}
    assert found["all-reduce"] == {"count": 6, "bytes": 6 * 3 * 5 * 4}
