"""PyTorch's part of bench.py: the same networks, their forward pass and training step."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "parity"))
import conftest as _operators  # noqa: E402 F401 lets torchvision load beside a CPU build of PyTorch
import torch_caffe  # noqa: E402
import torch_deeplab_v3plus as v3plus  # noqa: E402
import torch_first  # noqa: E402
import torch_networks  # noqa: E402
import torchvision  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
R50 = (3, 4, 6, 3)
RATES = (6, 12, 18)  # ASPP at output stride 16


def _gcn() -> torch.nn.Module:
    backbone = torchvision.models.resnet50()
    del backbone.fc
    return torch_networks.GCN(backbone, (256, 512, 1024, 2048), 15)


def _xception() -> torch.nn.Module:
    backbone = v3plus.Xception65(16, 16, 1.0)
    return v3plus.DeepLabV3Plus(backbone, (2048, 256), RATES, separable=True)


def _mobilenet() -> torch.nn.Module:
    return v3plus.DeepLabV3Plus(v3plus.MobileNet(), (320,), (), separable=False, decoder=False)


NETWORKS: Mapping[str, Callable[[], torch.nn.Module]] = {
    "fcn8s_vgg16_voc": lambda: torch_first.FCN(21),
    "segnet_vgg16_camvid": lambda: torch_caffe.SegNet(11),
    "segnet_basic_camvid": lambda: torch_caffe.SegNetBasic(11),
    "unet_voc": lambda: torch_first.UNet(21),
    "deeplab_v1_largefov_vgg16_voc": lambda: torch_caffe.DeepLabV1(21),
    "deeplab_v2_vgg16_voc": lambda: torch_caffe.DeepLabV2VGG(21),
    "deeplab_v2_resnet101_voc": lambda: torch_caffe.DeepLabV2ResNet(21),
    "pspnet_resnet50_voc": lambda: torch_networks.PSPNet(R50, 1.0),
    "gcn_resnet50_voc": _gcn,
    "deeplab_v3_resnet50_voc": lambda: torch_networks.DeepLabV3(R50, 16, "7x7", (1, 2, 4), 1.0),
    "deeplab_v3plus_xception65_voc": _xception,
    "deeplab_v3plus_mobilenetv2_voc": _mobilenet,
    "fcn_resnet50_voc": lambda: torchvision.models.segmentation.fcn_resnet50(
        weights=None, weights_backbone=None, num_classes=21, aux_loss=True
    ),
}


def tensor(image: np.ndarray) -> torch.Tensor:
    """Return NHWC as a channels_last tensor on the device."""
    x = torch.from_numpy(image).movedim(-1, 1).float()
    return x.to(DEVICE, memory_format=torch.channels_last)


def wait() -> None:
    """Block until the device is done."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def forward(module: torch.nn.Module, image: np.ndarray, dtype: str) -> Callable[[], Any]:
    """Return PyTorch's forward pass of one image."""
    module = module.eval().to(getattr(torch, dtype))
    x = tensor(image).to(getattr(torch, dtype))
    call = torch.compile(module) if DEVICE == "cuda" else module

    def run():
        with torch.inference_mode():
            result = call(x)
        wait()
        return result

    return run


def training_step(
    module: torch.nn.Module, image: np.ndarray, label: np.ndarray, heads: tuple, dtype: str
) -> Callable[[], Any]:
    """Return PyTorch's loss, gradients and update by SGD with momentum and weight decay."""
    x = tensor(image) / 255
    truth = torch.from_numpy(label).long().to(DEVICE)
    module.train()
    call = torch.compile(module) if DEVICE == "cuda" else module
    optimizer = torch.optim.SGD(module.parameters(), 1e-9, momentum=0.9, weight_decay=5e-4)

    def run():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(DEVICE, torch.bfloat16, enabled=dtype == "bfloat16"):
            outputs = call(x)
        outputs = outputs if isinstance(outputs, dict) else {"out": outputs}
        loss = sum(
            weight * torch.nn.functional.cross_entropy(outputs[name].float(), truth)
            for name, weight in heads
        )
        loss.backward()
        optimizer.step()
        wait()

    return run
