"""FCN and DeepLab v3 against torchvision's networks; PSPNet, GCN and the paper's DeepLab v3 against
networks written in torch from the papers and releases (`torch_networks`).

Each at full size in evaluation: once at an odd size, once at the crop; training at a depth of 26 or
a smaller width where torch has such a network, else at ResNet-50.
"""

import pytest
import torch_parity as parity

from seg_jax.backbones.resnet import UNITS, ResNet
from seg_jax.models import deeplab_v3, fcn_resnet, gcn, pspnet
from seg_jax.nn import torch_state

torch = parity.torch
torch_networks = pytest.importorskip("torch_networks")
AUX = (("out", 1.0), ("aux", 0.5))
SMALL, GRID = (65, 81), (96, 128)


def check_evaluation(record, name, reference, pair, sizes, prefix=""):
    module, model, import_state = pair
    variables = import_state(parity.state_of(module))
    for size in sizes:
        error = parity.evaluation_error(module, model, variables, size)
        record(name, reference, f"{prefix}evaluation logits {size[0]}x{size[1]}", error)


def check_training(
    record, name, reference, pair, size, heads=(("out", 1.0),), suffix="", forward_dtype="float32"
):
    module, model, import_state = pair
    for layer in module.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    errors = parity.training_errors(
        module, model, import_state, size, heads=heads, n=3, forward_dtype=forward_dtype
    )
    for what, error in errors.items():
        record(name, reference, f"{what} {size[0]}x{size[1]}{suffix}", error)


def with_our_names(model):
    """The import of a torch network whose layers have our names."""
    return lambda state: torch_state.import_state(model, state, lambda name: name.replace("/", "."))


def torchvision_fcn(depth):
    from torchvision.models import segmentation

    build = {50: segmentation.fcn_resnet50, 101: segmentation.fcn_resnet101}[depth]
    module = build(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    model = fcn_resnet.FCNResNet(dropout=0.0, backbone=ResNet(depth, output_stride=8))
    return parity.randomise(module), model, lambda s: fcn_resnet.from_torchvision(model, s)


def torchvision_deeplab(depth):
    from torchvision.models import segmentation

    build = {50: segmentation.deeplabv3_resnet50, 101: segmentation.deeplabv3_resnet101}[depth]
    module = build(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    model = deeplab_v3.torchvision_network(depth)
    model = model.clone(aspp=model.aspp.clone(dropout=0.0), aux_dropout=0.0)
    return parity.randomise(module), model, lambda s: deeplab_v3.from_torchvision(model, s)


TORCHVISION = {"fcn": torchvision_fcn, "deeplabv3": torchvision_deeplab}
PARTS = {"fcn": "fcn_resnet{}", "deeplabv3": "deeplab_v3_resnet{} as torchvision has it"}


@pytest.mark.parametrize("family", TORCHVISION)
@pytest.mark.parametrize("depth", [50, 101])
def test_torchvision_evaluation(family, depth, parity_record):
    pair = TORCHVISION[family](depth)
    sizes = [(97, 129), (480, 480)] if depth == 50 else [(97, 129)]
    name = PARTS[family].format(depth)
    check_evaluation(parity_record, name, f"torchvision {family}_resnet{depth}", pair, sizes)


@pytest.mark.parametrize("family", TORCHVISION)
@pytest.mark.parametrize("depth", [50, 101])
def test_torchvision_training(family, depth, parity_record):
    reference = f"torchvision {family}_resnet{depth}"
    pair = TORCHVISION[family](depth)
    # In float32 a hundred norms of the batch amplify the rounding of either side to 2e-4 to 5e-4 of
    # the logits; after fifty it is 5e-5 to 8e-5.
    forward_dtype = "float64" if depth == 101 else "float32"
    name = PARTS[family].format(depth)
    check_training(parity_record, name, reference, pair, SMALL, AUX, forward_dtype=forward_dtype)


def paper_deeplab(depth, output_stride=16, stem="7x7", grid=(1, 2, 4), width=1.0, cascade=0):
    args = (UNITS[depth], output_stride, stem, grid, width)
    module = torch_networks.DeepLabV3(*args, cascade=cascade)
    norm = deeplab_v3.Norm()  # torch's momentum
    model = deeplab_v3.DeepLabV3(
        aspp=None if cascade else deeplab_v3.ASPP(dropout=0.0, norm=norm, width=width),
        norm=norm,
        backbone=ResNet(
            depth, "slim", stem, output_stride, grid, cascade=cascade, norm=norm, width=width
        ),
    )
    return parity.randomise(module), model, with_our_names(model)


WRITTEN = "PyTorch written from paper and release (tests/parity/torch_networks.py)"


@pytest.mark.parametrize(
    ("depth", "fields", "sizes"),
    [
        (50, {}, [(97, 129), (513, 513)]),
        (50, {"output_stride": 8}, [(97, 129)]),
        (50, {"stem": "3x3", "grid": (1, 2, 1), "cascade": 3}, [(97, 129)]),
        (101, {}, [(97, 129)]),
        (101, {"stem": "3x3"}, [(97, 129)]),
    ],
)
def test_deeplab_v3_evaluation(depth, fields, sizes, parity_record):
    prefix = "".join(f"{key} {value}, " for key, value in fields.items())
    pair = paper_deeplab(depth, **fields)
    check_evaluation(parity_record, f"deeplab_v3_resnet{depth}", WRITTEN, pair, sizes, prefix)


def test_deeplab_v3_training(parity_record):
    pair = paper_deeplab(26, grid=(1, 2), width=1 / 4)
    suffix = ", ResNet-26 of width 1/4"
    check_training(parity_record, "deeplab_v3_resnet50", WRITTEN, pair, SMALL, suffix=suffix)


def semseg_pspnet(depth, width=1.0):
    backbone = ResNet(depth, "semseg", "3x3", 8, width=width)
    model = pspnet.PSPNet(dropout=0.0, width=width, backbone=backbone)
    module = parity.randomise(torch_networks.PSPNet(UNITS[depth], width))
    return module, model, lambda state: pspnet.from_semseg(model, state)


@pytest.mark.parametrize("depth", [50, 101])
def test_pspnet_evaluation(depth, parity_record):
    sizes = [(97, 129), (473, 473)] if depth == 50 else [(97, 129)]
    pair = semseg_pspnet(depth)
    check_evaluation(parity_record, f"pspnet_resnet{depth}", WRITTEN, pair, sizes)


def test_pspnet_training(parity_record):
    pair = semseg_pspnet(26, 1 / 4)
    suffix = ", ResNet-26 of width 1/4"
    check_training(parity_record, "pspnet_resnet50", WRITTEN, pair, SMALL, AUX, suffix)


def paper_gcn(depth, k=15, **fields):
    """Fields of the torch network: context, refine, learned."""
    from torchvision.models import resnet as torchvision_resnet

    backbone = torchvision_resnet.ResNet(torchvision_resnet.Bottleneck, UNITS[depth])
    del backbone.fc
    module = parity.randomise(torch_networks.GCN(backbone, (256, 512, 1024, 2048), k, **fields))
    model = gcn.GCN(
        context=fields.get("context", "gcn"),
        kernel_size=k,
        refinement=fields.get("refine", True),
        upsampling="learned" if fields.get("learned") else "bilinear",
        backbone=ResNet(depth),
    )
    return module, model, lambda state: import_gcn(model, state)


def import_gcn(model, state):
    # Torch keeps a transposed convolution's input channels first.
    state = {k: v.swapaxes(0, 1) if ".up_" in k else v for k, v in state.items()}
    backbone = fcn_resnet.torchvision_layer

    def layer(module):
        if module.startswith("backbone/"):
            return backbone(module)
        head, _, number = module.rpartition("_")
        if head.startswith("stacked"):
            return f"heads.{head}.{int(number) - 1}"
        return f"heads.{module.replace('/', '.')}"

    return torch_state.import_state(model, state, layer, image_shape=(1, *GRID, 3))


@pytest.mark.parametrize("depth", [50, 101, 152])
def test_gcn_evaluation(depth, parity_record):
    sizes = [GRID, (512, 512)] if depth == 50 else [GRID]
    check_evaluation(parity_record, f"gcn_resnet{depth}", WRITTEN, paper_gcn(depth), sizes)


@pytest.mark.parametrize(
    ("k", "fields"),
    [
        (7, {"context": "plain", "refine": False}),
        (7, {"context": "stacked", "refine": False}),
        (15, {"refine": False}),
        (5, {"learned": True}),
    ],
)
def test_gcn_ablations(k, fields, parity_record):
    prefix = "".join(f"{key} {value}, " for key, value in {"k": k, **fields}.items())
    pair = paper_gcn(14, k, **fields)
    name = "gcn, its ablations on ResNet-14"
    check_evaluation(parity_record, name, WRITTEN, pair, [GRID], prefix)


def test_gcn_training(parity_record):
    pair = paper_gcn(14, 7, learned=True)
    suffix = ", ResNet-14, k = 7, learned upsampling"
    check_training(parity_record, "gcn_resnet50", WRITTEN, pair, GRID, suffix=suffix)
