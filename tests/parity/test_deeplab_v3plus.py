"""DeepLab v3+ against the network written in torch from the release (`torch_deeplab_v3plus`)."""

import pytest
import torch_parity as parity

from seg_jax.backbones import mobilenet_v2
from seg_jax.backbones.mobilenet_v2 import MobileNetV2
from seg_jax.backbones.resnet import UNITS, ResNet
from seg_jax.backbones.xception import Xception
from seg_jax.models.deeplab_v3plus import ASPP, Decoder, DeepLabV3Plus
from seg_jax.nn import torch_state
from seg_jax.nn.norm import Norm

written = pytest.importorskip("torch_deeplab_v3plus")
REFERENCE = "PyTorch written from the release (tests/parity/torch_deeplab_v3plus.py)"
RATES = {16: (6, 12, 18), 8: (12, 24, 36)}
NORM = Norm()  # torch's momentum
SMALL = (65, 81)


def head(separable, width=1.0):
    kind = "separable" if separable else "standard"
    fields = {"convolution": kind, "norm": NORM, "width": width}
    return {"aspp": ASPP(dropout=0.0, **fields), "decoder": Decoder(**fields)}


def xception(output_stride=16, *, middle=16, width=1.0):
    backbone = written.Xception65(output_stride, middle, width)
    channels = int(2048 * width), int(256 * width)
    rates = RATES[output_stride]
    module = written.DeepLabV3Plus(backbone, channels, rates, separable=True, width=width)
    trunk = Xception(65, output_stride, middle, norm=Norm(epsilon=1e-3), width=width)
    return module, DeepLabV3Plus(**head(True, width), backbone=trunk)


def resnet(depth=101, output_stride=16, *, stem="7x7", grid=(1, 2, 4), width=1.0):
    backbone = written.SlimBackbone(UNITS[depth], output_stride, stem, grid, width)
    channels = int(2048 * width), int(256 * width)
    rates = RATES[output_stride]
    module = written.DeepLabV3Plus(backbone, channels, rates, separable=False, width=width)
    trunk = ResNet(depth, "slim", stem, output_stride, grid, norm=NORM, width=width)
    return module, DeepLabV3Plus(**head(False, width), backbone=trunk)


def mobilenet():
    backbone = written.MobileNet()
    module = written.DeepLabV3Plus(backbone, (320, 144), (), separable=False, decoder=False)
    aspp = ASPP(rates=(), dropout=0.0, norm=NORM)
    trunk = MobileNetV2(16, norm=NORM)
    return module, DeepLabV3Plus(aspp=aspp, decoder=None, backbone=trunk)


def layer(module):
    part, _, rest = module.partition("/")
    if part == "backbone" and (known := mobilenet_v2.torchvision_layer(rest)):
        return f"backbone.{known}"
    return module.replace("/", ".")


def load(model):
    return lambda state: torch_state.import_state(model, state, layer)


@pytest.mark.parametrize(
    ("name", "build", "fields", "sizes"),
    [
        ("xception65", xception, {}, [(97, 129), (513, 513)]),
        ("xception65", xception, {"output_stride": 8}, [(97, 129)]),
        ("resnet101", resnet, {}, [(97, 129)]),
        ("resnet101", resnet, {"output_stride": 8, "stem": "3x3"}, [(97, 129)]),
        ("mobilenetv2", mobilenet, {}, [(97, 129), (513, 513)]),
    ],
)
def test_evaluation(name, build, fields, sizes, parity_record):
    module, model = build(**fields)
    parity.randomise(module)
    variables = load(model)(parity.state_of(module))
    prefix = "".join(f"{key} {value}, " for key, value in fields.items())
    for size in sizes:
        error = parity.evaluation_error(module, model, variables, size)
        what = f"{prefix}evaluation logits {size[0]}x{size[1]}"
        parity_record(f"deeplab_v3plus_{name}", REFERENCE, what, error)


NARROW = {"width": 1 / 8}
# Without a ReLU between them the pointwise part's norm takes the depthwise part's shift away.
XCEPTION_CANCELLED = r"backbone/.*(?<!exit_flow_block2_unit1)/separable_conv\d/depthwise/bn/bias"
# A bottleneck's shift goes through 1x1 convolutions alone to norms that take it away.
MOBILENET_CANCELLED = r"backbone/expanded_conv(_\d+)?/project/bn/bias"


@pytest.mark.parametrize(
    ("name", "build", "fields", "cancelled", "suffix"),
    [
        (
            "xception65", xception, {"middle": 1, **NARROW}, XCEPTION_CANCELLED,
            "one middle unit, width 1/8",
        ),
        (
            "xception65", xception, {"middle": 1, "output_stride": 8, **NARROW}, XCEPTION_CANCELLED,
            "one middle unit, stride 8, width 1/8",
        ),
        ("resnet101", resnet, {"depth": 26, "grid": (1, 2), **NARROW}, "", "ResNet-26, width 1/8"),
        ("mobilenetv2", mobilenet, {}, MOBILENET_CANCELLED, ""),
    ],
)  # fmt: skip
def test_training(name, build, fields, cancelled, suffix, parity_record):
    module, model = build(**fields)
    parity.randomise(module)
    heads = (("out", 1.0),)
    errors = parity.training_errors(
        module, model, load(model), SMALL, heads=heads, n=3, cancelled=cancelled
    )
    for what, error in errors.items():
        what = f"{what} {SMALL[0]}x{SMALL[1]}{suffix and f', {suffix}'}"
        parity_record(f"deeplab_v3plus_{name}", REFERENCE, what, error)
