"""Files of YOLOv5, YOLOv5-Lite, YOLOv3 and YOLOv7.

They are made of the classes in `foreign_modules` and `foreign_rows`.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests import foreign_modules, foreign_rows
from tests.foreign_modules import (
    ADD,
    C3,
    MP,
    SP,
    BottleneckCSP,
    Concat,
    Conv,
    Detect,
    IDetect,
    Model,
)
from tests.foreign_rows import C3TR, C2f, C3Ghost, C3x, Contract, Expand

_CLASSES: dict[str, type[nn.Module]] = {
    kind.__name__: kind
    for module in (foreign_modules, foreign_rows)
    for kind in vars(module).values()
    if isinstance(kind, type) and kind.__module__ == module.__name__
}
_YOLO = (Detect, IDetect, Model)
_REPEATS_INSIDE = (C3, BottleneckCSP, C2f, C3Ghost, C3TR, C3x)
_KEEP_CHANNELS = (nn.Upsample, nn.MaxPool2d, nn.AvgPool2d, nn.Identity, nn.ZeroPad2d, MP, SP)


def foreign_network(
    yaml: Mapping[str, Any],
    strides: tuple[int, ...],
    seed: int = 0,
    activation: Callable[[], nn.Module] = nn.SiLU,
) -> Model:
    """A yaml's network of these classes, in eval mode, with random weights and statistics."""
    torch.manual_seed(seed)
    channels, layers = [3], []
    for index, (source, number, name, args) in enumerate([*yaml["backbone"], *yaml["head"]]):
        kind = _CLASSES.get(name) or getattr(nn, name.removeprefix("nn."))
        read = [channels[0 if index == 0 else f + (0 if f < 0 else 1)] for f in
                (source if isinstance(source, list) else [source])]  # fmt: skip
        number = max(round(number * yaml["depth_multiple"]), 1) if number > 1 else number
        module, out = _made(kind, number, [_value(a) for a in args], read, yaml)
        module.i, module.f, module.type, module.np = index, source, f"models.common.{name}", 0
        layers.append(module)
        channels.append(out)
    model = Model(nn.Sequential(*layers), dict(yaml))
    for module in model.modules():
        if isinstance(module, Conv) and isinstance(module.act, nn.SiLU):
            module.act = activation()
    head = layers[-1]
    head.stride = torch.tensor(strides).float()
    head.anchors /= head.stride.view(-1, 1, 1)
    model.stride = head.stride
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return model.eval()


def _value(arg: Any) -> Any:
    if isinstance(arg, str) and arg.startswith("nn.LeakyReLU"):
        return nn.LeakyReLU(float(arg.split("(")[1].rstrip(")")))
    return None if arg == "None" else arg


def _made(kind: Any, number: int, args: list[Any], read: list[int], yaml: Any) -> Any:
    if kind in (Detect, IDetect):
        return kind(yaml["nc"], yaml["anchors"], read), 0
    if kind in (Concat, ADD):
        return kind(*args), sum(read) if kind is Concat else read[0]
    if kind in _KEEP_CHANNELS:
        return kind(*args), read[0]
    if kind in (Contract, Expand):
        return kind(*args), read[0] * 4 if kind is Contract else read[0] // 4
    out = -(-args[0] * yaml["width_multiple"] // 8) * 8
    out = int(out)
    if kind in _REPEATS_INSIDE:
        return kind(read[0], out, number, *args[1:]), out
    chain = [kind(c, out, *args[1:]) for c in (read[0], *[out] * (number - 1))]
    return (nn.Sequential(*chain) if number > 1 else chain[0]), out


def save_foreign(path: Path, model: Model, dtype: torch.dtype = torch.float32) -> Path:
    """A file that names these classes as their projects' files do."""
    before = {name: sys.modules.get(name) for name in ("models.common", "models.yolo")}
    kinds = {type(each) for each in model.modules()} & set(_CLASSES.values())
    homes = {kind: kind.__module__ for kind in kinds}
    for kind in kinds:
        home = "models.yolo" if kind in _YOLO else "models.common"
        module = sys.modules.setdefault(home, types.ModuleType(home))
        setattr(module, kind.__name__, kind)
        kind.__module__ = home
    try:
        torch.save({"epoch": -1, "model": model.to(dtype), "ema": None}, path)
    finally:
        for kind in kinds:
            kind.__module__ = homes[kind]
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
    return path
