"""DeepLab v3+ in PyTorch, written from the release's tables; layers have our names.

Nobody else has it as published: other implementations take a block's result as low-level features,
and segmentation-models-pytorch has one convolution in the decoder and one more after ASPP. Shares
no code with seg_jax.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch_networks import ConvNorm, SlimResNet
from torchvision.models import mobilenet_v2


class Separable(nn.Module):
    """3x3 of every channel by itself, norm, 1x1, norm; with ReLU after both norms or none."""

    def __init__(self, c_in, c_out, stride=1, dilation=1, *, relu, eps=1e-5):
        super().__init__()
        self.depthwise = ConvNorm(c_in, c_in, 3, stride, dilation, relu)
        geometry = {"padding": dilation, "dilation": dilation, "groups": c_in, "bias": False}
        self.depthwise.conv = nn.Conv2d(c_in, c_in, 3, stride, **geometry)
        self.pointwise = ConvNorm(c_in, c_out, 1, relu=relu)
        self.depthwise.bn.eps = self.pointwise.bn.eps = eps

    def forward(self, x):
        return self.pointwise(self.depthwise(x))


class XceptionUnit(nn.Module):
    """Returns its result and that of the second convolution."""

    def __init__(self, c_in, depths, skip, stride, rate):
        super().__init__()
        self.skip = skip
        for number, depth in enumerate(depths, start=1):
            step = stride if number == 3 else 1
            conv = Separable(c_in, depth, step, rate, relu=skip == "none", eps=1e-3)
            self.add_module(f"separable_conv{number}", conv)
            c_in = depth
        if skip == "conv":
            first = self.separable_conv1.depthwise.conv.in_channels
            self.shortcut = ConvNorm(first, depths[2], 1, stride, relu=False)
            self.shortcut.bn.eps = 1e-3

    def forward(self, x):
        y, results = x, []
        for number in (1, 2, 3):
            y = y if self.skip == "none" else F.relu(y)
            results.append(getattr(self, f"separable_conv{number}")(y))
            y = results[-1]
        if self.skip != "none":
            y = y + (self.shortcut(x) if self.skip == "conv" else x)
        return y, results[1]


class Xception65(nn.Module):
    """The release's list of blocks, stacked by its loop: once the target stride is reached, strides
    multiply the rate of what follows.
    """

    def __init__(self, output_stride, middle, width):
        super().__init__()

        def depths(*channels):
            return [int(c * width) for c in channels]

        self.entry_flow_conv1_1 = ConvNorm(3, *depths(32), 3, 2)
        self.entry_flow_conv1_2 = ConvNorm(*depths(32, 64), 3)
        self.entry_flow_conv1_1.bn.eps = self.entry_flow_conv1_2.bn.eps = 1e-3
        blocks = [
            ("entry_flow_block1", depths(128, 128, 128), "conv", 1, 2),
            ("entry_flow_block2", depths(256, 256, 256), "conv", 1, 2),
            ("entry_flow_block3", depths(728, 728, 728), "conv", 1, 2),
            ("middle_flow_block1", depths(728, 728, 728), "sum", middle, 1),
            ("exit_flow_block1", depths(728, 1024, 1024), "conv", 1, 2),
            ("exit_flow_block2", depths(1536, 1536, 2048), "none", 1, 1),
        ]
        (x,) = depths(64)
        self.units = []
        current_stride, rate = 1, 1  # conv1_1's stride is not counted: half the output stride
        for block, channels, skip, count, stride in blocks:
            for index in range(count):
                if current_stride == output_stride // 2:
                    unit = XceptionUnit(x, channels, skip, 1, rate)
                    rate *= stride
                else:
                    unit = XceptionUnit(x, channels, skip, stride, 1)
                    current_stride *= stride
                x = channels[2]
                self.units.append(f"{block}_unit{index + 1}")
                self.add_module(self.units[-1], unit)

    def forward(self, x):
        """Return the last map, and block 2's second convolution."""
        x = self.entry_flow_conv1_2(self.entry_flow_conv1_1(x))
        for name in self.units:
            x, second = getattr(self, name)(x)
            if name == "entry_flow_block2_unit1":
                low_level = second
        return x, low_level


class SlimBackbone(SlimResNet):
    """Beside the last map that of block 1's second of three units before its shortcut is added; of
    the smaller ResNet-26 the first of two.
    """

    def forward(self, x):
        kept = []
        unit = self.block1_unit2 if "block1_unit3" in self.units else self.block1_unit1
        hook = unit.conv3.register_forward_hook(lambda *args: kept.append(args[2]))
        x = super().forward(x)
        hook.remove()
        return x, kept[0]


class MobileNet(nn.Module):
    """torchvision's at output stride 16: the unit that would stride to 32 keeps the size, the three
    after it have rate 2. No low-level features: the release has no decoder here.
    """

    def __init__(self):
        super().__init__()
        self.features = mobilenet_v2().features[:-1]
        self.features[14].conv[1][0].stride = (1, 1)
        for unit in self.features[15:]:
            unit.conv[1][0].dilation = unit.conv[1][0].padding = (2, 2)

    def forward(self, x):
        return self.features(x), None


class DeepLabV3Plus(nn.Module):
    """Around a backbone that returns its last map and the low-level features.

    Args:
      backbone: the network.
      channels: of its two results.
      rates: of ASPP's atrous branches.
      separable: those, and the decoder's convolutions.
      width: of the head.
      decoder: with one.
    """

    def __init__(self, backbone, channels, rates, *, separable, width=1.0, decoder=True):
        super().__init__()
        self.backbone, self.rates = backbone, rates
        c_in, c = channels[0], int(256 * width)

        def conv3x3(c_in, dilation=1):
            if separable:
                return Separable(c_in, c, dilation=dilation, relu=True)
            return ConvNorm(c_in, c, 3, dilation=dilation)

        self.aspp = nn.Module()
        self.aspp.image_pooling = ConvNorm(c_in, c, 1)
        self.aspp.aspp0 = ConvNorm(c_in, c, 1)
        for number, rate in enumerate(rates, start=1):
            self.aspp.add_module(f"aspp{number}", conv3x3(c_in, rate))
        self.aspp.concat_projection = ConvNorm((2 + len(rates)) * c, c, 1)
        self.decoder = nn.Module() if decoder else None
        if decoder:
            reduced = int(48 * width)
            self.decoder.feature_projection0 = ConvNorm(channels[1], reduced, 1)
            self.decoder.decoder_conv0 = conv3x3(c + reduced)
            self.decoder.decoder_conv1 = conv3x3(c)
        self.logits = nn.Conv2d(c, 21, 1)

    def forward(self, image):
        def resize(x, size):
            return F.interpolate(x, size, mode="bilinear", align_corners=True)

        x, low_level = self.backbone(image)
        pooled = self.aspp.image_pooling(x.mean((2, 3), keepdim=True))
        maps = [pooled.expand(-1, -1, *x.shape[2:]), self.aspp.aspp0(x)]
        maps += [getattr(self.aspp, f"aspp{n}")(x) for n in range(1, len(self.rates) + 1)]
        x = self.aspp.concat_projection(torch.cat(maps, 1))
        if self.decoder is not None:
            low_level = self.decoder.feature_projection0(low_level)
            x = torch.cat([resize(x, low_level.shape[2:]), low_level], 1)
            x = self.decoder.decoder_conv1(self.decoder.decoder_conv0(x))
        return resize(self.logits(x), image.shape[2:])
