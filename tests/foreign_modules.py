"""Networks as YOLOv5, YOLOv5-Lite, YOLOv3 and YOLOv7 pickle them: classes, submodules, attributes.

Written for tests: each class has the submodules that published files have, and computes what the
articles say of its layer in the plainest way, so it is both a file's content and the reference for
what we build from it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.03)


def conv2d(c1: int, c2: int, k: int = 1, s: int = 1, g: int = 1, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(c1, c2, k, s, k // 2, groups=g, bias=bias)


class Conv(nn.Module):
    def __init__(self, c1, c2, k=1, s=1, p=None, g=1, act=True):
        super().__init__()
        k = k[0] if isinstance(k, list) else k
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2 if p is None else p, groups=g, bias=False)
        self.bn = norm(c2)
        self.act = (nn.SiLU() if act else nn.Identity()) if type(act) is bool else act

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    def __init__(self, c1, c2, shortcut=True, g=1, e=0.5):
        super().__init__()
        self.cv1 = Conv(c1, int(c2 * e))
        self.cv2 = Conv(int(c2 * e), c2, 3, g=g)
        self.add = shortcut and c1 == c2

    def forward(self, x):
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


class C3(nn.Module):
    def __init__(self, c1, c2, n=1, shortcut=True):
        super().__init__()
        half = c2 // 2
        self.cv1, self.cv2, self.cv3 = Conv(c1, half), Conv(c1, half), Conv(2 * half, c2)
        self.m = nn.Sequential(*(Bottleneck(half, half, shortcut, e=1.0) for _ in range(n)))

    def forward(self, x):
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class BottleneckCSP(nn.Module):
    def __init__(self, c1, c2, n=1, shortcut=True):
        super().__init__()
        half = c2 // 2
        self.cv1, self.cv4 = Conv(c1, half), Conv(2 * half, c2)
        self.cv2, self.cv3 = conv2d(c1, half), conv2d(half, half)
        self.bn, self.act = norm(2 * half), nn.LeakyReLU(0.1, inplace=True)
        self.m = nn.Sequential(*(Bottleneck(half, half, shortcut, e=1.0) for _ in range(n)))

    def forward(self, x):
        both = torch.cat((self.cv3(self.m(self.cv1(x))), self.cv2(x)), 1)
        return self.cv4(self.act(self.bn(both)))


class SPP(nn.Module):
    def __init__(self, c1, c2, k=(5, 9, 13)):
        super().__init__()
        self.cv1, self.cv2 = Conv(c1, c1 // 2), Conv(c1 // 2 * 4, c2)
        self.m = nn.ModuleList([nn.MaxPool2d(size, 1, size // 2) for size in k])

    def forward(self, x):
        x = self.cv1(x)
        return self.cv2(torch.cat([x, *(pool(x) for pool in self.m)], 1))


class Focus(nn.Module):
    def __init__(self, c1, c2, k=1, s=1):
        super().__init__()
        self.conv = Conv(4 * c1, c2, k, s)

    def forward(self, x):
        quarters = [x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.conv(torch.cat(quarters, 1))


class Concat(nn.Module):
    def __init__(self, d=1):
        super().__init__()
        self.d = d

    def forward(self, maps):
        return torch.cat(maps, self.d)


class ADD(nn.Module):
    def __init__(self, alpha=0.5):
        super().__init__()
        self.a = alpha

    def forward(self, maps):
        return maps[0] + self.a * maps[1]


class conv_bn_relu_maxpool(nn.Module):  # noqa: N801 - as pickled
    def __init__(self, c1, c2):
        super().__init__()
        self.conv = nn.Sequential(conv2d(c1, c2, 3, 2), norm(c2), nn.ReLU(inplace=True))
        self.maxpool = nn.MaxPool2d(3, 2, 1)

    def forward(self, x):
        return self.maxpool(self.conv(x))


class Shuffle_Block(nn.Module):  # noqa: N801 - as pickled
    def __init__(self, c1, c2, stride):
        super().__init__()
        self.stride, half = stride, c2 // 2
        c1 = half if stride == 1 else c1
        if stride > 1:
            self.branch1 = nn.Sequential(
                conv2d(c1, c1, 3, stride, c1), norm(c1), conv2d(c1, half), norm(half), nn.ReLU()
            )
        self.branch2 = nn.Sequential(
            conv2d(c1, half), norm(half), nn.ReLU(), conv2d(half, half, 3, stride, half),
            norm(half), conv2d(half, half), norm(half), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x):
        half = x.shape[1] // 2
        first = x[:, :half] if self.stride == 1 else self.branch1(x)
        second = self.branch2(x[:, half:] if self.stride == 1 else x)
        return torch.stack((first, second), 2).flatten(1, 2)


class DWConvblock(nn.Module):
    def __init__(self, c1, c2, k, s):
        super().__init__()
        self.p = k // 2
        self.conv1, self.bn1 = conv2d(c1, c1, k, s, c1), norm(c1)
        self.conv2, self.bn2 = conv2d(c1, c2), norm(c2)

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class CBH(nn.Module):
    def __init__(self, c1, c2, k, s, g=1):
        super().__init__()
        self.conv, self.bn, self.hardswish = conv2d(c1, c2, k, s, g), norm(c2), nn.Hardswish()

    def forward(self, x):
        return self.hardswish(self.bn(self.conv(x)))


class LC_SEModule(nn.Module):  # noqa: N801 - as pickled
    def __init__(self, channels):
        super().__init__()
        self.avg_pool, self.relu = nn.AdaptiveAvgPool2d(1), nn.ReLU()
        self.conv1 = conv2d(channels, channels // 4, bias=True)
        self.conv2 = conv2d(channels // 4, channels, bias=True)
        self.SiLU = nn.SiLU()

    def forward(self, x):
        gates = self.conv2(self.relu(self.conv1(x.mean((2, 3), keepdim=True))))
        return x * (self.SiLU if hasattr(self, "SiLU") else self.hardsigmoid)(gates)


class LC_Block(nn.Module):  # noqa: N801 - as pickled
    def __init__(self, c1, c2, s, k, use_se=False):
        super().__init__()
        self.use_se = use_se
        self.dw_conv = CBH(c1, c1, k, s, c1)
        if use_se:
            self.se = LC_SEModule(c1)
        self.pw_conv = CBH(c1, c2, 1, 1)

    def forward(self, x):
        x = self.dw_conv(x)
        return self.pw_conv(self.se(x) if self.use_se else x)


class Dense(nn.Module):
    def __init__(self, c1, c2, k, p):
        super().__init__()
        self.dense_conv = nn.Conv2d(c1, c2, k, bias=False)
        self.hardswish, self.dropout = nn.Hardswish(), nn.Dropout(p)

    def forward(self, x):
        return self.dropout(self.hardswish(self.dense_conv(x)))


class SEBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.down = conv2d(channels, channels // 16, bias=True)
        self.up = conv2d(channels // 16, channels, bias=True)
        self.input_channels = channels

    def forward(self, x):
        return x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))


class RepVGGBlock(nn.Module):
    def __init__(self, c1, c2, k=3, s=1, p=1, d=1, g=1, mode="zeros", deploy=False, use_se=False):
        super().__init__()
        self.deploy, self.groups, self.in_channels = deploy, g, c1
        self.nonlinearity = nn.SiLU()
        self.se = SEBlock(c2) if use_se else nn.Identity()
        self.rbr_identity = norm(c1) if c1 == c2 and s == 1 else None
        pairs = {"conv": nn.Conv2d(c1, c2, k, s, p, d, g, bias=False), "bn": norm(c2)}
        self.rbr_dense = nn.Sequential()
        for name, module in pairs.items():
            self.rbr_dense.add_module(name, module)
        self.rbr_1x1 = nn.Sequential()
        self.rbr_1x1.add_module("conv", nn.Conv2d(c1, c2, 1, s, p - k // 2, groups=g, bias=False))
        self.rbr_1x1.add_module("bn", norm(c2))

    def forward(self, x):
        y = self.rbr_dense(x) + self.rbr_1x1(x)
        y = y if self.rbr_identity is None else y + self.rbr_identity(x)
        return self.nonlinearity(self.se(y))


class RepConv(nn.Module):
    def __init__(self, c1, c2, k=3, s=1, g=1):
        super().__init__()
        self.deploy, self.groups, self.in_channels, self.out_channels = False, g, c1, c2
        self.act = nn.SiLU()
        self.rbr_identity = norm(c1) if c1 == c2 and s == 1 else None
        self.rbr_dense = nn.Sequential(conv2d(c1, c2, k, s, g), norm(c2))
        self.rbr_1x1 = nn.Sequential(conv2d(c1, c2, 1, s, g), norm(c2))

    def forward(self, x):
        y = self.rbr_dense(x) + self.rbr_1x1(x)
        return self.act(y if self.rbr_identity is None else y + self.rbr_identity(x))


class MP(nn.Module):
    def __init__(self, k=2):
        super().__init__()
        self.m = nn.MaxPool2d(k, k)

    def forward(self, x):
        return self.m(x)


class SP(nn.Module):
    def __init__(self, k=3, s=1):
        super().__init__()
        self.m = nn.MaxPool2d(k, s, k // 2)

    def forward(self, x):
        return self.m(x)


class Implicit(nn.Module):
    def __init__(self, channels, start):
        super().__init__()
        self.channel = channels
        self.implicit = nn.Parameter(start + 0.1 * torch.randn(1, channels, 1, 1))


class ImplicitA(Implicit):
    pass


class ImplicitM(Implicit):
    pass


class Detect(nn.Module):
    stride: Any = None

    def __init__(self, nc, anchors, channels):
        super().__init__()
        self.nc, self.no, self.nl, self.na = nc, nc + 5, len(anchors), len(anchors[0]) // 2
        pixels = torch.tensor(anchors).float().view(self.nl, -1, 2)
        self.register_buffer("anchors", pixels)
        self.register_buffer("anchor_grid", pixels.clone().view(self.nl, 1, -1, 1, 1, 2))
        self.m = nn.ModuleList(nn.Conv2d(c, self.no * self.na, 1) for c in channels)

    def forward(self, maps):
        return tuple(conv(x) for conv, x in zip(self.m, maps, strict=True))


class IDetect(Detect):
    def __init__(self, nc, anchors, channels):
        super().__init__(nc, anchors, channels)
        self.ia = nn.ModuleList(ImplicitA(c, 0.0) for c in channels)
        self.im = nn.ModuleList(ImplicitM(self.no * self.na, 1.0) for _ in channels)

    def forward(self, maps):
        scaled = zip(self.m, self.ia, self.im, maps, strict=True)
        return tuple(m.implicit * conv(a.implicit + x) for conv, a, m, x in scaled)


class Model(nn.Module):
    def __init__(self, layers, yaml):
        super().__init__()
        self.model, self.yaml, self.names = layers, yaml, [f"c{i}" for i in range(yaml["nc"])]

    def forward(self, x):
        outputs: list[Tensor] = []
        for layer in self.model:
            sources = layer.f if isinstance(layer.f, list) else [layer.f]
            maps = [(outputs[f] if outputs else x) for f in sources]
            x = layer(maps if isinstance(layer.f, list) else maps[0])
            outputs.append(x)
        return x
