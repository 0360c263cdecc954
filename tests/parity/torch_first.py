"""FCN and U-Net in PyTorch, written from the authors' releases: no third party has them so.

They share no code with seg_jax, and name their layers as `torch_caffe` does.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch_caffe import VGG16, Caffe


def bilinear(x, factor):
    """voc-fcn8s' Deconvolution layers: kernel 2 f, stride f, bilinear weights, a group a class."""
    size = 2 * factor
    ramp = 1 - (torch.arange(size, dtype=x.dtype, device=x.device) - factor + 0.5).abs() / factor
    weight = (ramp[:, None] * ramp).expand(x.shape[1], 1, size, size)
    return F.conv_transpose2d(x, weight, stride=factor, groups=x.shape[1])


class FCN(Caffe):
    """voc-fcn32s, voc-fcn16s and voc-fcn8s: deploy.prototxt. The offsets are its Crop layers'."""

    def __init__(self, num_classes, skips=2, width=1):
        super().__init__(width)
        self.skips, c = skips, 3
        for stage, (count, depth) in enumerate(VGG16, start=1):
            for layer in range(1, depth + 1):
                name, pad = f"backbone-conv{stage}_{layer}", 100 if c == 3 else 1
                c = self.add(name, c, self.channels(count), 3, padding=pad)
        c = self.add("fc6", c, self.channels(4096), 7)
        c = self.add("fc7", c, self.channels(4096), 1)
        self.add("score_fr", c, num_classes, 1)
        for name, count in (("score_pool4", 512), ("score_pool3", 256))[:skips]:
            self.add(name, self.channels(count), num_classes, 1)

    def forward(self, image):
        x, pools = image, {}
        for stage, (_, depth) in enumerate(VGG16, start=1):
            x = self.run(x, *(f"backbone-conv{stage}_{i}" for i in range(1, depth + 1)))
            pools[f"pool{stage}"] = x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        score = self.layers["score_fr"](self.run(x, "fc6", "fc7"))
        for name, offset in (("pool4", 5), ("pool3", 9))[: self.skips]:
            score = bilinear(score, 2)
            fine = self.layers[f"score_{name}"](pools[name])
            rows, columns = (slice(offset, offset + side) for side in score.shape[-2:])
            score = score + fine[:, :, rows, columns]
        offset = (19, 27, 31)[self.skips]
        rows, columns = (slice(offset, offset + side) for side in image.shape[-2:])
        return bilinear(score, 32 >> self.skips)[:, :, rows, columns]


class UNet(Caffe):
    """phseg_v5.prototxt: valid convolutions; or padded ones, of a norm before each ReLU."""

    def __init__(self, num_classes, width=1, depth=4, same=False):
        super().__init__(width)
        self.depth, self.same = depth, same
        c, counts = 3, [self.channels(64 * 2**level) for level in range(depth + 1)]
        for level, m in enumerate(counts):
            for name in (f"d{level}a-b", f"d{level}b-c"):
                c = self._conv(name, c, m)
        below = f"d{depth}c"
        for level in reversed(range(depth)):
            name, m = f"upconv_{below}_u{level}a", counts[level]
            self.layers[name] = nn.ConvTranspose2d(c, m, 2, 2, bias=not same)
            if same:
                self.add_norm(name.replace("upconv", "norm"), m)
            self._conv(f"u{level}b-c", 2 * m, m)
            c, below = self._conv(f"u{level}c-d", m, m), f"u{level}d"
        self.add("conv_u0d-score", c, num_classes, 1)

    def _conv(self, name, c_in, c_out):
        if self.same:
            self.add_norm(f"norm_{name}", c_out)
        pad = int(self.same)
        return self.add(f"conv_{name}", c_in, c_out, 3, padding=pad, bias=not self.same)

    def step(self, x, kind, name):
        x = self.layers[f"{kind}_{name}"](x)
        return F.relu(self.layers[f"norm_{name}"](x) if self.same else x)

    def forward(self, x):
        skips = []
        for level in range(self.depth + 1):
            x = F.max_pool2d(x, 2, 2, ceil_mode=True) if level else x
            x = self.step(self.step(x, "conv", f"d{level}a-b"), "conv", f"d{level}b-c")
            skips.append(x)
        below = f"d{self.depth}c"
        for level in reversed(range(self.depth)):
            x, skip = self.step(x, "upconv", f"{below}_u{level}a"), skips[level]
            # An odd side was rounded up by its pool; valid convolutions have eaten the skip's rim.
            height, width = (min(a, b) for a, b in zip(x.shape[-2:], skip.shape[-2:], strict=True))
            top, left = (skip.shape[-2] - height) // 2, (skip.shape[-1] - width) // 2
            skip = skip[:, :, top : top + height, left : left + width]
            x = torch.cat([x[:, :, :height, :width], skip], 1)
            x = self.step(self.step(x, "conv", f"u{level}b-c"), "conv", f"u{level}c-d")
            below = f"u{level}d"
        return self.layers["conv_u0d-score"](x)
