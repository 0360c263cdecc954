"""A GPU program's estimates, against figures worked out by hand."""

import pytest

from seg_jax.targets import gpu_estimates, table

H100 = table.get("h100x8")
# As XLA:GPU writes them: what matters here, of a fusion, the three convolutions of one 3x3 layer
# with stride 2 (8 images, 65 px to 33 px, 64 to 128 channels), a product and a copy, twice each.
TEXT = """\
HloModule jit_step

%body (p: (s32[], f32[8,65,65,64])) -> (s32[], f32[8,65,65,64]) {
  %x = f32[8,65,65,64]{3,2,1,0} parameter(0)
  %w = f32[128,3,3,64]{3,2,1,0} parameter(1)
  %y = bf16[8,33,33,128]{3,2,1,0} parameter(2)
  %cudnn-conv.1 = (f32[8,33,33,128]{3,2,1,0}, u8[33554432]{0}) custom-call(%x, %w), \
window={size=3x3 stride=2x2 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, \
custom_call_target="__cudnn$convForward", metadata={op_name="jit(step)/jvp(Net)/conv/\
conv_general_dilated"}, backend_config={"reification_cost":[]}
  %cudnn-conv.2 = (bf16[8,65,65,64]{3,2,1,0}, u8[0]{0}) custom-call(%y, %w), window={size=3x3}, \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardInput", metadata={op_name=\
"jit(step)/transpose(jvp(Net))/conv/conv_general_dilated"}, backend_config={"reification_cost":[]}
  %cudnn-conv.3 = (f32[128,3,3,64]{3,2,1,0}, u8[0]{0}) custom-call(%x, %y), window={size=3x3}, \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardFilter", metadata={op_name=\
"jit(step)/transpose(jvp(Net))/conv/conv_general_dilated"}, backend_config={"reification_cost":[]}
  %product = (f32[4096,2048]{1,0}, s8[33554432]{0}) custom-call(%a, %b), \
custom_call_target="__cublas$lt$matmul", metadata={op_name="jit(step)/head/dot_general"}, \
backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":\
["1"]}},"reification_cost":[{"end_to_end_cycles":0,"exec_time_us":0.0005,"name":"sol"}]}
  %a = f32[4096,8192]{1,0} parameter(3)
  %b = f32[8192,2048]{1,0} parameter(4)
  %copy.1 = f32[8,65,65,64]{3,2,1,0} copy(%x)
  %loop_fusion = f32[8,65,65,64]{3,2,1,0} fusion(%x), kind=kLoop, calls=%fused, \
metadata={op_name="jit(step)/jvp(Net)/bn/mul"}, backend_config={"reification_cost":\
[{"end_to_end_cycles":1.1385e+04,"exec_time_us":5.75,"name":""},{"end_to_end_cycles":0,"name":\
"sol"}]}
  %bare = f32[8]{0} fusion(%x), kind=kLoop, calls=%fused, backend_config={"reification_cost":[]}
  ROOT %t = (s32[], f32[8,65,65,64]) tuple(%i, %loop_fusion)
}

%fused (p: f32[8,65,65,64]) -> f32[8,65,65,64] {
  ROOT %p.2 = f32[8,65,65,64]{3,2,1,0} parameter(0)
}

ENTRY %main (p: f32[8,65,65,64]) -> f32[8,65,65,64] {
  %p.1 = f32[8,65,65,64]{3,2,1,0} parameter(0)
  %loop = (s32[], f32[8,65,65,64]) while(%p.1), condition=%c, body=%body, \
backend_config={"known_trip_count":{"n":"2"}}
  ROOT %out = f32[8,65,65,64]{3,2,1,0} get-tuple-element(%loop), index=1
}
"""


def test_fusions_by_xla_and_the_rest_by_the_roofline():
    found, flops = gpu_estimates.of(TEXT, H100)
    layer = 2 * 8 * 33 * 33 * 128 * 3 * 3 * 64
    product = 2 * 4096 * 8192 * 2048
    assert flops == 2 * (3 * layer + product)
    groups = {(g.module, g.kind, g.backward): g.cycles for g in found.groups}
    clock, image, kernel = 1.98e9, 4 * 8 * 65 * 65 * 64, 4 * 128 * 3 * 3 * 64
    output = 4 * 8 * 33 * 33 * 128
    # In float32 by arithmetic (494 TFLOP/s), or by memory (3.35 TB/s), the slower.
    forward = max(layer / 494e12, (image + kernel + output) / 3.35e12)
    assert groups["Net/conv", "convolution", False] == pytest.approx(2 * clock * forward, abs=2)
    by_input = max(layer / 989e12, (output / 2 + kernel + image / 2) / 3.35e12)
    by_kernel = max(layer / 494e12, (image + output / 2 + kernel) / 3.35e12)
    backward = 2 * clock * (by_input + by_kernel)
    assert groups["Net/conv", "convolution", True] == pytest.approx(backward, abs=4)
    assert product / 494e12 > 4 * (4096 * 8192 + 8192 * 2048 + 4096 * 2048) / 3.35e12
    arithmetic = 2 * clock * product / 494e12
    assert groups["head", "matrix product", False] == pytest.approx(arithmetic, abs=2)
    assert groups["", "copy", False] == pytest.approx(2 * clock * 2 * image / 3.35e12, abs=2)
    assert groups["Net/bn", "batch norm", False] == 2 * 11385
    assert found.unknown == {"fusion": 2} and found.total == sum(groups.values())
    assert found.seconds(H100) == pytest.approx(found.total / clock)
