"""SegNet, DeepLab v1 and v2 in PyTorch, written from the authors' prototxt files layer by layer.

No third party has them as published. They share no code with seg_jax. `width` divides every channel
count of the files but the classes'. A layer that seg_jax calls "a/b" is `layers["a-b"]` here.
"""

import torch
from torch import nn
from torch.nn import functional as F

VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels and layers of the stages


def layer_name(module):
    """Ours -> torch's."""
    return f"layers.{module.replace('/', '-')}"


class Caffe(nn.Module):
    """Layers by name, and shorthands to build and to run them."""

    def __init__(self, width, eps=1e-5):
        super().__init__()
        self.layers, self.width, self.eps = nn.ModuleDict(), width, eps

    def add(self, name, c_in, c_out, size, **geometry):
        self.layers[name] = nn.Conv2d(c_in, c_out, size, **geometry)
        return c_out

    def add_norm(self, name, channels):
        self.layers[name] = nn.BatchNorm2d(channels, eps=self.eps)

    def run(self, x, *names):
        for name in names:
            x = F.relu(self.layers[name](x))
        return x

    def channels(self, count):
        return count // self.width


class SegNet(Caffe):
    """segnet_train.prototxt: upsample layers have explicit sizes, the first maximum is stored."""

    def __init__(self, num_classes, width=1):
        super().__init__(width, eps=1e-9)
        c = 3
        for stage, (count, depth) in enumerate(VGG16, start=1):
            for layer in range(1, depth + 1):
                c = self._conv_norm(f"conv{stage}_{layer}", c, self.channels(count))
        for stage in (5, 4, 3, 2, 1):
            count, depth = VGG16[stage - 1]
            for layer in range(depth, 0, -1):
                below = count if layer > 1 else VGG16[stage - 2][0]
                if (stage, layer) == (1, 1):
                    self.add("conv1_1_D", c, num_classes, 3, padding=1)
                else:
                    c = self._conv_norm(f"conv{stage}_{layer}_D", c, self.channels(below))

    def _conv_norm(self, name, c_in, c_out):
        self.add_norm(f"{name}_bn", c_out)
        return self.add(name, c_in, c_out, 3, padding=1)

    def forward(self, x):
        masks = []
        for stage, (_, depth) in enumerate(VGG16, start=1):
            for layer in range(1, depth + 1):
                x = F.relu(
                    self.layers[f"conv{stage}_{layer}_bn"](self.layers[f"conv{stage}_{layer}"](x))
                )
            size = x.shape[-2:]
            x, mask = F.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
            masks.append((mask, size))
        for stage in (5, 4, 3, 2, 1):
            mask, size = masks[stage - 1]
            x = F.max_unpool2d(x, mask, 2, 2, output_size=size)
            for layer in range(VGG16[stage - 1][1], 0, -1):
                name = f"conv{stage}_{layer}_D"
                x = self.layers[name](x)
                if name != "conv1_1_D":
                    x = F.relu(self.layers[f"{name}_bn"](x))
        return x


class SegNetBasic(Caffe):
    """segnet_basic_train.prototxt: 7x7 convolutions, LRN first, no ReLU in the decoder.

    `decoder` is one of the study's (PAMI 2017, section 3.3), of which nothing but "segnet" was
    released: "encoder_addition", "single_channel", "bilinear"; FCN-Basic is "fcn", without
    addition and without dimension reduction "fcn_no_addition" and so on.
    """

    def __init__(self, num_classes, width=1, decoder="segnet"):
        super().__init__(width, eps=1e-9)
        self.decoder, c, m = decoder, 3, self.channels(64)
        for stage in (1, 2, 3, 4):
            self.add_norm(f"conv{stage}_bn", m)
            c = self.add(f"conv{stage}", c, m, 7, padding=3)
        self.unpools = decoder in ("segnet", "encoder_addition", "single_channel")
        reduces = not (self.unpools or decoder.endswith("no_reduction"))
        c = num_classes if reduces else m
        for stage in (4, 3, 2, 1):
            if self.unpools:
                groups = m if decoder == "single_channel" else 1
                self.add(f"conv_decode{stage}", m, m, 7, padding=3, groups=groups)
                self.add_norm(f"conv_decode{stage}_bn", m)
            elif decoder != "bilinear":
                up = nn.ConvTranspose2d(c, c, 8, 2, padding=3, bias=False)
                self.layers[f"upsample{stage}"] = up
            if reduces and (stage == 4 or decoder == "fcn"):
                self.add(f"reduce{stage}", m, c, 1)
        if not reduces:
            self.add("conv_classifier", c, num_classes, 1)

    def forward(self, x):
        x, pools = F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1.0), []
        for stage in (1, 2, 3, 4):
            x = F.relu(self.layers[f"conv{stage}_bn"](self.layers[f"conv{stage}"](x)))
            size = x.shape[-2:]
            x, mask = F.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
            pools.append((x, mask, size))
        x = self.reduced(x, 4)
        for stage in (4, 3, 2, 1):
            _, mask, size = pools[stage - 1]
            if self.unpools:
                x = F.max_unpool2d(x, mask, 2, 2, output_size=size)
                x = self.layers[f"conv_decode{stage}_bn"](self.layers[f"conv_decode{stage}"](x))
            else:
                x = self.upsampled(x, stage)[:, :, : size[0], : size[1]]
            if stage > 1 and self.decoder in ("encoder_addition", "fcn", "fcn_no_reduction"):
                x = x + self.reduced(pools[stage - 2][0], stage - 1)
        return self.layers["conv_classifier"](x) if "conv_classifier" in self.layers else x

    def reduced(self, x, stage):
        name = f"reduce{stage}"
        return self.layers[name](x) if name in self.layers else x

    def upsampled(self, x, stage):
        if self.decoder != "bilinear":
            return self.layers[f"upsample{stage}"](x)
        ramp = torch.tensor([0.25, 0.75, 0.75, 0.25], dtype=x.dtype)
        weight = (ramp[:, None] * ramp).expand(x.shape[1], 1, 4, 4)
        return F.conv_transpose2d(x, weight, stride=2, padding=1, groups=x.shape[1])


def interp(x, size):
    """Caffe's Interp layer."""
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


class AtrousVGG(Caffe):
    """What DeepLab v1 and v2 share: conv1_1 to pool5, stride 8. LargeFOV's pools are 3x3."""

    def add_trunk(self):
        c = 3
        for stage, (count, depth) in enumerate(VGG16, start=1):
            rate = 2 if stage == 5 else 1
            for layer in range(1, depth + 1):
                name = f"backbone-conv{stage}_{layer}"
                c = self.add(name, c, self.channels(count), 3, padding=rate, dilation=rate)
        return c

    def trunk(self, x, pool):
        maps = {"data": x}
        for stage, (_, depth) in enumerate(VGG16, start=1):
            x = self.run(x, *(f"backbone-conv{stage}_{i}" for i in range(1, depth + 1)))
            window, pad = pool, 1
            if stage == 4 and pool == 2:
                pad = 0
            if stage == 5:
                window = 3
            x = F.max_pool2d(x, window, 2 if stage <= 3 else 1, pad, ceil_mode=True)
            maps[f"pool{stage}"] = x
        return maps


class DeepLabV1(AtrousVGG):
    """vgg128_noup, LargeFOV and MSc-LargeFOV: train.prototxt; scores at the label's pixels."""

    def __init__(self, num_classes, *, width=1, kernel=3, rate=12, fc=1024, multi_scale=False):
        super().__init__(width)
        self.large_fov, self.multi_scale = kernel == 3, multi_scale
        c = self.add_trunk()
        self.add("fc6", c, fc // width, kernel, padding=rate * (kernel - 1) // 2, dilation=rate)
        self.add("fc7", fc // width, fc // width, 1)
        self.add("fc8", fc // width, num_classes, 1)
        if multi_scale:
            m = self.channels(128)
            for name, count, stride in (
                ("data", 3 * width, 8), ("pool1", 64, 4), ("pool2", 128, 2), ("pool3", 256, 1),
                ("pool4", 512, 1),
            ):  # fmt: skip
                self.add(f"{name}_conv", self.channels(count), m, 3, stride=stride, padding=1)
                self.add(f"{name}_fc", m, m, 1)
                self.add(f"{name}_ms", m, num_classes, 1)

    def forward(self, image):
        maps = self.trunk(image, 3 if self.large_fov else 2)
        x = maps["pool5"]
        if self.large_fov:
            x = F.avg_pool2d(x, 3, 1, 1)  # pool5a
        scores = self.layers["fc8"](self.run(x, "fc6", "fc7"))
        for name in ("data", "pool1", "pool2", "pool3", "pool4") if self.multi_scale else ():
            fine = self.run(maps[name], f"{name}_conv", f"{name}_fc")
            scores = scores + self.layers[f"{name}_ms"](fine)
        size = [8 * (side - 1) + 1 for side in scores.shape[-2:]]
        out = interp(scores, size)
        return out if self.large_fov else F.pad(out, (1, 0, 1, 0), mode="replicate")


class DeepLabV2VGG(AtrousVGG):
    """vgg16/train.prototxt: ASPP-L without pool5a; ASPP-S and LargeFOV by their rates."""

    def __init__(self, num_classes, width=1, rates=(6, 12, 18, 24)):
        super().__init__(width)
        c, m = self.add_trunk(), self.channels(1024)
        self.suffixes = [f"_{i + 1}" for i in range(len(rates))] if len(rates) > 1 else [""]
        for suffix, rate in zip(self.suffixes, rates, strict=True):
            self.add(f"fc6{suffix}", c, m, 3, padding=rate, dilation=rate)
            self.add(f"fc7{suffix}", m, m, 1)
            self.add(f"fc8{suffix}", m, num_classes, 1)

    def forward(self, image):
        x = self.trunk(image, 3)["pool5"]
        scores = sum(
            self.layers[f"fc8{suffix}"](self.run(x, f"fc6{suffix}", f"fc7{suffix}"))
            for suffix in self.suffixes
        )
        return interp(scores, image.shape[-2:])


class DeepLabV2ResNet(Caffe):
    """DEEPLABV2-RESNET101/train.prototxt: three scales, a maximum; norms use_global_stats."""

    def __init__(self, num_classes, units=(3, 4, 23, 3), width=1):
        super().__init__(width)
        self.units = units
        c = self._conv_norm("conv1", 3, self.channels(64), 7, stride=2, padding=3)
        for block, (count, m) in enumerate(zip(units, (64, 128, 256, 512), strict=True), start=1):
            stride, rate = 2 if block == 2 else 1, {3: 2, 4: 4}.get(block, 1)
            m = self.channels(m)
            for unit in range(1, count + 1):
                name, step = f"block{block}_unit{unit}", stride if unit == 1 else 1
                if unit == 1:
                    self._conv_norm(f"{name}-shortcut", c, 4 * m, 1, stride=step)
                self._conv_norm(f"{name}-conv1", c, m, 1, stride=step)
                self._conv_norm(f"{name}-conv2", m, m, 3, padding=rate, dilation=rate)
                c = self._conv_norm(f"{name}-conv3", m, 4 * m, 1)
        for i, rate in enumerate((6, 12, 18, 24)):
            self.add(f"fc1_c{i}", c, num_classes, 3, padding=rate, dilation=rate)

    def _conv_norm(self, name, c_in, c_out, size, **geometry):
        self.add_norm(f"backbone-{name}-bn", c_out)
        return self.add(f"backbone-{name}-conv", c_in, c_out, size, bias=False, **geometry)

    def frozen(self, x, name):
        conv, norm = self.layers[f"backbone-{name}-conv"], self.layers[f"backbone-{name}-bn"]
        weight, bias = norm.weight.detach(), norm.bias.detach()
        return F.batch_norm(conv(x), norm.running_mean, norm.running_var, weight, bias, eps=1e-5)

    def score(self, x):
        x = F.relu(self.frozen(x, "conv1"))
        x = F.max_pool2d(x, 3, 2, 1, ceil_mode=True)
        for block, count in enumerate(self.units, start=1):
            for unit in range(1, count + 1):
                name = f"block{block}_unit{unit}"
                y = F.relu(self.frozen(x, f"{name}-conv1"))
                y = F.relu(self.frozen(y, f"{name}-conv2"))
                y = self.frozen(y, f"{name}-conv3")
                x = F.relu(y + (self.frozen(x, f"{name}-shortcut") if unit == 1 else x))
        return sum(self.layers[f"fc1_c{i}"](x) for i in range(4))

    def forward(self, image):
        height, width = image.shape[-2:]
        scores = self.score(image)
        # Interp: shrink_factor 4 and zoom_factor 3; shrink_factor 2.
        shrunk = [
            interp(image, [(side - 1) * k // 4 + 1 for side in (height, width)]) for k in (3, 2)
        ]
        three_quarters, half = map(self.score, shrunk)
        size = scores.shape[-2:]
        fused = torch.maximum(
            torch.maximum(scores, interp(three_quarters, size)), interp(half, size)
        )
        outputs = {"out": fused, "scale1": scores, "scale0.75": three_quarters, "scale0.5": half}
        return {name: interp(value, (height, width)) for name, value in outputs.items()}
