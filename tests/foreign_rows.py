"""Layers that people write into YOLOv5's yamls, as YOLOv5 pickles them: see `foreign_modules`."""

from __future__ import annotations

import math

import torch
from torch import nn

from tests.foreign_modules import C3, SPP, Bottleneck, Conv


class DWConv(Conv):
    def __init__(self, c1, c2, k=1, s=1):
        super().__init__(c1, c2, k, s, g=math.gcd(c1, c2))


class DWConvTranspose2d(nn.ConvTranspose2d):
    def __init__(self, c1, c2, k=1, s=1, p1=0, p2=0):
        super().__init__(c1, c2, k, s, p1, p2, groups=math.gcd(c1, c2))


class GhostConv(nn.Module):
    def __init__(self, c1, c2, k=1, s=1, act=True):
        super().__init__()
        self.cv1 = Conv(c1, c2 // 2, k, s, act=act)
        self.cv2 = Conv(c2 // 2, c2 // 2, 5, g=c2 // 2, act=act)

    def forward(self, x):
        half = self.cv1(x)
        return torch.cat((half, self.cv2(half)), 1)


class GhostBottleneck(nn.Module):
    def __init__(self, c1, c2, k=3, s=1):
        super().__init__()
        half, between, self.shortcut = c2 // 2, nn.Identity(), nn.Identity()
        if s == 2:
            between, around = (DWConv(c, c, k, s) for c in (half, c1))
            between.act, around.act = nn.Identity(), nn.Identity()
            self.shortcut = nn.Sequential(around, Conv(c1, c2, act=False))
        self.conv = nn.Sequential(GhostConv(c1, half), between, GhostConv(half, c2, act=False))

    def forward(self, x):
        return self.conv(x) + self.shortcut(x)


class C3Ghost(C3):
    def __init__(self, c1, c2, n=1):
        super().__init__(c1, c2)
        self.m = nn.Sequential(*(GhostBottleneck(c2 // 2, c2 // 2) for _ in range(n)))


class CrossConv(nn.Module):
    def __init__(self, c1, c2, k=3, s=1, g=1, e=1.0, shortcut=False):
        super().__init__()
        hidden, self.add = int(c2 * e), shortcut and c1 == c2
        self.cv1, self.cv2 = Conv(c1, hidden), Conv(hidden, c2)
        self.cv1.conv = nn.Conv2d(c1, hidden, (1, k), (1, s), (0, k // 2), bias=False)
        self.cv2.conv = nn.Conv2d(hidden, c2, (k, 1), (s, 1), (k // 2, 0), groups=g, bias=False)

    def forward(self, x):
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y


class C3x(C3):
    def __init__(self, c1, c2, n=1, shortcut=True):
        super().__init__(c1, c2)
        half = c2 // 2
        self.m = nn.Sequential(*(CrossConv(half, half, shortcut=shortcut) for _ in range(n)))


class TransformerLayer(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.ma = nn.MultiheadAttention(channels, 4)
        for name in ("q", "k", "v", "fc1", "fc2"):
            setattr(self, name, nn.Linear(channels, channels, bias=False))

    def forward(self, x):
        x = self.ma(self.q(x), self.k(x), self.v(x))[0] + x
        return self.fc2(self.fc1(x)) + x


class TransformerBlock(nn.Module):
    def __init__(self, channels, n):
        super().__init__()
        self.conv, self.linear = None, nn.Linear(channels, channels)
        self.tr = nn.Sequential(*(TransformerLayer(channels) for _ in range(n)))

    def forward(self, x):
        tokens = x.flatten(2).permute(2, 0, 1)
        return self.tr(tokens + self.linear(tokens)).permute(1, 2, 0).reshape(x.shape)


class C3TR(C3):
    def __init__(self, c1, c2, n=1):
        super().__init__(c1, c2)
        self.m = TransformerBlock(c2 // 2, n)


class C3SPP(C3):
    def __init__(self, c1, c2, k=(5, 9, 13)):
        super().__init__(c1, c2)
        self.m = SPP(c2 // 2, c2 // 2, k)


class C2f(nn.Module):
    def __init__(self, c1, c2, n=1, shortcut=False):
        super().__init__()
        half = c2 // 2
        self.cv1, self.cv2 = Conv(c1, c2), Conv((2 + n) * half, c2)
        self.m = nn.ModuleList(Bottleneck(half, half, shortcut, e=1.0) for _ in range(n))
        for block in self.m:
            block.cv1 = Conv(half, half, 3)

    def forward(self, x):
        maps = list(self.cv1(x).chunk(2, 1))
        for block in self.m:
            maps.append(block(maps[-1]))
        return self.cv2(torch.cat(maps, 1))


class Contract(nn.Module):
    def __init__(self, gain=2):
        super().__init__()
        self.gain = gain

    def forward(self, x):
        g = self.gain
        return torch.cat([x[..., i::g, j::g] for i in range(g) for j in range(g)], 1)


class Expand(Contract):
    def forward(self, x):
        b, c, h, w = x.shape
        cells = x.view(b, self.gain, self.gain, c // self.gain**2, h, w)
        return cells.permute(0, 3, 4, 1, 5, 2).reshape(b, -1, h * self.gain, w * self.gain)


class MixConv2d(nn.Module):
    """Before v6 YOLOv5's adds its input, later it does not: nothing in a file says which."""

    def __init__(self, c1, c2, k=(1, 3), s=1):
        super().__init__()
        self.m = nn.ModuleList(
            nn.Conv2d(c1, c2 // 2, side, s, side // 2, groups=c2 // 2, bias=False) for side in k
        )
        self.bn, self.act = nn.BatchNorm2d(c2, eps=1e-3, momentum=0.03), nn.SiLU()
