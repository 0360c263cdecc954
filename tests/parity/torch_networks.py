"""PSPNet, GCN and DeepLab v3 in PyTorch, written from the papers and the authors' releases, where
no third party has the network as published. They share no code with seg_jax.

Widths are those of the papers times `width`. Unless a class says otherwise its layers have our
names, so that importing their weights needs no map.
"""

import torch
from torch import nn
from torch.nn import functional as F


class ConvNorm(nn.Module):
    """Convolution without bias, norm, ReLU."""

    def __init__(self, c_in, c_out, size, stride=1, dilation=1, relu=True):
        super().__init__()
        pad = dilation * (size - 1) // 2
        self.conv = nn.Conv2d(c_in, c_out, size, stride, pad, dilation, bias=False)
        self.bn = nn.BatchNorm2d(c_out)
        self.relu = relu

    def forward(self, x):
        x = self.bn(self.conv(x))
        return F.relu(x) if self.relu else x


class SlimUnit(nn.Module):
    """slim's bottleneck: a shortcut of the same depth is subsampled, another one projected."""

    def __init__(self, c_in, depth, depth_bottleneck, stride, rate):
        super().__init__()
        self.stride = stride
        self.conv1 = ConvNorm(c_in, depth_bottleneck, 1)
        self.conv2 = ConvNorm(depth_bottleneck, depth_bottleneck, 3, stride, rate)
        self.conv3 = ConvNorm(depth_bottleneck, depth, 1, relu=False)
        self.shortcut = None if c_in == depth else ConvNorm(c_in, depth, 1, stride, relu=False)

    def forward(self, x):
        shortcut = self.shortcut(x) if self.shortcut else F.max_pool2d(x, 1, self.stride)
        return F.relu(shortcut + self.conv3(self.conv2(self.conv1(x))))


class SlimResNet(nn.Module):
    """resnet_v1 and resnet_v1_beta: blocks of (depth, units, stride of the last unit, unit rates).

    The loop is slim's `stack_blocks_dense`: once the target stride is reached, strides multiply the
    rate of what follows.
    """

    def __init__(self, units, output_stride, stem, multi_grid, width, cascade=0):
        super().__init__()

        def channels(c):
            return int(c * width)

        if stem == "7x7":
            self.conv1 = ConvNorm(3, channels(64), 7, 2)
            self.stem, x = ["conv1"], channels(64)
        else:
            self.conv1_1 = ConvNorm(3, channels(64), 3, 2)
            self.conv1_2 = ConvNorm(channels(64), channels(64), 3)
            self.conv1_3 = ConvNorm(channels(64), channels(128), 3)
            self.stem, x = ["conv1_1", "conv1_2", "conv1_3"], channels(128)
        blocks = [(64, units[0], 2), (128, units[1], 2), (256, units[2], 2)]
        blocks += [(512, units[3], 2)] * cascade + [(512, units[3], 1)]
        self.units = []
        current_stride, rate = 4, 1
        for number, (base, count, block_stride) in enumerate(blocks, start=1):
            grid = multi_grid if number >= 4 else (1,) * count
            for index in range(count):
                stride = block_stride if index == count - 1 else 1
                name = f"block{number}_unit{index + 1}"
                if current_stride == output_stride:
                    unit = SlimUnit(x, channels(4 * base), channels(base), 1, rate * grid[index])
                    rate *= stride
                else:
                    unit = SlimUnit(x, channels(4 * base), channels(base), stride, grid[index])
                    current_stride *= stride
                x = channels(4 * base)
                self.add_module(name, unit)
                self.units.append(name)

    def forward(self, x):
        for name in self.stem:
            x = getattr(self, name)(x)
        x = F.max_pool2d(x, 3, 2, 1)
        for name in self.units:
            x = getattr(self, name)(x)
        return x


class DeepLabV3(nn.Module):
    """The paper's: image pooling, 1x1 and rates in TensorFlow's order; corners on corners."""

    def __init__(self, units, output_stride, stem, multi_grid, width, *, cascade=0):
        super().__init__()
        self.backbone = SlimResNet(units, output_stride, stem, multi_grid, width, cascade)
        c_in, c = int(2048 * width), int(256 * width)
        self.rates = {8: (12, 24, 36), 16: (6, 12, 18)}[output_stride] if not cascade else ()
        if not cascade:
            self.aspp = nn.Module()
            self.aspp.image_pooling = ConvNorm(c_in, c, 1)
            self.aspp.aspp0 = ConvNorm(c_in, c, 1)
            for number, rate in enumerate(self.rates, start=1):
                self.aspp.add_module(f"aspp{number}", ConvNorm(c_in, c, 3, dilation=rate))
            self.aspp.concat_projection = ConvNorm((2 + len(self.rates)) * c, c, 1)
        self.logits = nn.Conv2d(c_in if cascade else c, 21, 1)

    def forward(self, image):
        x = self.backbone(image)
        if self.rates:
            pooled = self.aspp.image_pooling(x.mean((2, 3), keepdim=True))
            maps = [pooled.expand(-1, -1, *x.shape[2:]), self.aspp.aspp0(x)]
            maps += [getattr(self.aspp, f"aspp{n}")(x) for n in range(1, len(self.rates) + 1)]
            x = self.aspp.concat_projection(torch.cat(maps, 1))
        return F.interpolate(self.logits(x), image.shape[2:], mode="bilinear", align_corners=True)


class SemsegBottleneck(nn.Module):
    """Named as in semseg: conv1, bn1, ..., downsample."""

    def __init__(self, c_in, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.downsample = None
        if c_in != 4 * planes:
            projection = nn.Conv2d(c_in, 4 * planes, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(4 * planes))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (self.downsample(x) if self.downsample else x))


def dilate(layer, rate):
    """Take a stage's stride away, and give all its 3x3 convolutions this dilation."""
    for name, module in layer.named_modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if name.endswith("conv2"):
                module.dilation = module.padding = (rate, rate)


class PSPNet(nn.Module):
    """Layers named as in semseg, so that weights are imported as semseg's are."""

    def __init__(self, units, width):
        super().__init__()

        def channels(c):
            return int(c * width)

        layers, c_in = [], 3
        for c_out, stride in ((64, 2), (64, 1), (128, 1)):
            conv = nn.Conv2d(c_in, channels(c_out), 3, stride, 1, bias=False)
            c_in = channels(c_out)
            layers += [conv, nn.BatchNorm2d(c_in), nn.ReLU()]
        self.layer0 = nn.Sequential(*layers, nn.MaxPool2d(3, 2, 1))
        for stage, count in enumerate(units, start=1):
            planes = channels(32 * 2**stage)
            blocks = []
            for index in range(count):
                stride = 2 if stage > 1 and index == 0 else 1
                blocks.append(SemsegBottleneck(c_in, planes, stride))
                c_in = 4 * planes
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        dilate(self.layer3, 2)
        dilate(self.layer4, 4)
        self.ppm = nn.Module()
        self.ppm.features = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(bins),
                nn.Conv2d(c_in, c_in // 4, 1, bias=False),
                nn.BatchNorm2d(c_in // 4),
                nn.ReLU(),
            )
            for bins in (1, 2, 3, 6)
        )
        self.cls = self.head(2 * c_in, channels(512))
        self.aux = self.head(c_in // 2, channels(256))

    @staticmethod
    def head(c_in, c):
        conv = nn.Conv2d(c_in, c, 3, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(c), nn.ReLU(), nn.Identity(), nn.Conv2d(c, 21, 1))

    def forward(self, image):
        def upsample(x, size):
            return F.interpolate(x, size, mode="bilinear", align_corners=True)

        x = self.layer3(self.layer2(self.layer1(self.layer0(image))))
        outputs = {"aux": upsample(self.aux(x), image.shape[2:])}
        x = self.layer4(x)
        maps = [x, *(upsample(branch(x), x.shape[2:]) for branch in self.ppm.features)]
        return outputs | {"out": upsample(self.cls(torch.cat(maps, 1)), image.shape[2:])}


class GCN(nn.Module):
    """Figure 2 of the paper around torchvision's ResNet.

    Args:
      backbone: torchvision's network; its layers keep their names.
      channels: of its four stages.
      k: of the global convolutions.
      context: "gcn", "plain" or "stacked" (of 3x3 with 210 channels between them).
      refine: with boundary refinement.
      learned: upsample by transposed convolutions instead of bilinearly.
    """

    def __init__(self, backbone, channels, k, *, context="gcn", refine=True, learned=False):
        super().__init__()
        self.backbone, self.context, self.learned = backbone, context, learned
        self.heads = nn.ModuleDict()
        for stage, c in zip(("c2", "c3", "c4", "c5"), channels, strict=True):
            self.heads[f"{context}_{stage}"] = self.scorer(c, k)
        names = ["c5", "c4", "c3", "c2", "c4_sum", "c3_sum", "c2_sum", "stride2", "stride1"]
        for name in names if refine else ():
            self.heads[f"refine_{name}"] = nn.ModuleDict(
                {"conv1": nn.Conv2d(21, 21, 3, padding=1), "conv2": nn.Conv2d(21, 21, 3, padding=1)}
            )
        for name in ("c4", "c3", "c2", "stride2", "stride1") if learned else ():
            self.heads[f"up_{name}"] = nn.ConvTranspose2d(21, 21, 4, 2, 1, bias=False)

    def scorer(self, c, k):
        if self.context == "plain":
            return nn.Conv2d(c, 21, k, padding=k // 2)
        if self.context == "stacked":
            widths = [c, *([210] * (k // 2 - 1)), 21]
            pairs = zip(widths[:-1], widths[1:], strict=True)
            return nn.Sequential(*(nn.Conv2d(a, b, 3, padding=1) for a, b in pairs))
        column = {"kernel_size": (k, 1), "padding": (k // 2, 0)}
        row = {"kernel_size": (1, k), "padding": (0, k // 2)}
        return nn.ModuleDict(
            {
                "left_column": nn.Conv2d(c, 21, **column),
                "left_row": nn.Conv2d(21, 21, **row),
                "right_row": nn.Conv2d(c, 21, **row),
                "right_column": nn.Conv2d(21, 21, **column),
            }
        )

    def score(self, x, stage):
        head = self.heads[f"{self.context}_{stage}"]
        if self.context != "gcn":
            return head(x)
        left = head["left_row"](head["left_column"](x))
        return left + head["right_column"](head["right_row"](x))

    def refine(self, x, name):
        if f"refine_{name}" not in self.heads:
            return x
        head = self.heads[f"refine_{name}"]
        return x + head["conv2"](F.relu(head["conv1"](x)))

    def twice(self, x, name):
        if self.learned:
            return self.heads[f"up_{name}"](x)
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    def forward(self, image):
        net = self.backbone
        x = net.maxpool(net.relu(net.bn1(net.conv1(image))))
        maps = {}
        for number in (1, 2, 3, 4):
            maps[f"c{number + 1}"] = x = getattr(net, f"layer{number}")(x)
        score = self.refine(self.score(maps["c5"], "c5"), "c5")
        for stage in ("c4", "c3", "c2"):
            own = self.refine(self.score(maps[stage], stage), stage)
            score = self.refine(self.twice(score, stage) + own, f"{stage}_sum")
        for name in ("stride2", "stride1"):
            score = self.refine(self.twice(score, name), name)
        return score
