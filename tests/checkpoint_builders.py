"""Weights files of every kind: ours, YOLOv5's, hostile and broken ones."""

from __future__ import annotations

import copy
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.checkpoints.loading import read_weights
from models.network.detector import Detector
from models.network.layers import Concat, ConvBNAct, DetectHead
from utils.checkpoint import Checkpoint, save_checkpoint
from utils.errors import CheckpointError

_COMMON = ("Conv", "Bottleneck", "C3", "SPP", "SPPF", "Focus", "Concat", "Other")
# YOLOv5 wrote these itself, before torch had them or to save memory.
_OWN_ACTIVATIONS = ("SiLU", "Hardswish", "MemoryEfficientMish", "FReLU", "AconC")
CLASS_NAMES = ("cat", "dog", "owl")


def checkpoint_of(model: Detector, form: Any = "train", **fields: Any) -> Checkpoint:
    """What training would keep of a network."""
    count = model.spec.num_classes
    names = (*CLASS_NAMES, *(f"other {number}" for number in range(count)))[:count]
    return Checkpoint(form, model.spec.to_yaml(), names, model.state_dict(), **fields)


def save_model(path: Path, model: Detector, form: Any = "train", **fields: Any) -> Path:
    """A checkpoint file of ours."""
    save_checkpoint(path, checkpoint_of(model, form, **fields))
    return path


def refusal(path: Path) -> str:
    """Why a file is refused, without its name; one line."""
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text
    return text.removeprefix(f"{path}: ")


class TouchesAFile:
    """Unpickling it the usual way runs a shell command."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def save_yolov5(
    path: Path,
    model: Detector,
    *,
    key: str = "ema",
    dtype: torch.dtype = torch.float16,
    edit: Callable[[nn.Module, Any], None] | None = None,
    beside: Mapping[str, Any] | None = None,
    **attributes: Any,
) -> Path:
    """A file as YOLOv5 writes it: the pickled network itself, of classes of its own package.

    Args:
        path: the .pt to write.
        model: what it holds.
        key: `ema` or `model`.
        dtype: of its weights.
        edit: changes the pickled network before it is written; its second argument is the classes
            that a pickle of YOLOv5 may name, by module and name.
        beside: further entries of the file.
        **attributes: put on the pickled network (`names`, `yaml`).
    """
    model = copy.deepcopy(model)
    with _yolov5_classes() as classes:
        root = classes["models.yolo", "DetectionModel"]()
        root.model = nn.Sequential(*(_as_yolov5(layer, model, classes) for layer in model.layers))
        spec = model.spec.to_yaml()
        # YOLOv5's own yamls know none of our keys.
        ours = ("activation", "rep_block", "rep_policy", "channel_multiple")
        root.yaml = {name: value for name, value in spec.items() if name not in ours}
        root.names = dict(enumerate(CLASS_NAMES[: model.spec.num_classes]))
        for name, value in attributes.items():
            setattr(root, name, value)
        for index, (layer, row) in enumerate(zip(root.model, model.spec.layers, strict=True)):
            sources = [-1 if source == index - 1 else source for source in row.sources]
            layer.i, layer.f = index, sources if len(sources) > 1 else sources[0]
            layer.type, layer.np = "models.common." + type(layer).__name__, 0
        root.stride = torch.tensor(model.strides, dtype=torch.float32)
        if edit is not None:
            edit(root, classes)
        content = {"epoch": -1, "model": None, "ema": None, "date": "2022-01-01", "git": None}
        torch.save({**content, **(beside or {}), key: root.to(dtype)}, path)
    return path


def _as_yolov5(module: nn.Module, model: Detector, classes: Any) -> nn.Module:
    """The same tensors and attributes under classes named as in YOLOv5."""
    if isinstance(module, DetectHead):
        return _head_as_yolov5(module, model, classes)
    if type(module).__module__.startswith("torch.nn"):
        for name, child in module.named_children():
            setattr(module, name, _as_yolov5(child, model, classes))
        return module
    name = "Conv" if isinstance(module, ConvBNAct) else type(module).__name__
    twin: nn.Module = classes["models.common", name if name in _COMMON else "Other"]()
    for attribute, value in vars(module).items():
        if not attribute.startswith("_") and attribute != "training":
            setattr(twin, attribute, value)
    if isinstance(module, Concat):
        twin.d = 1  # type: ignore[assignment]
    for name, child in module.named_children():
        if name != "space_to_depth":  # a slice in YOLOv5's Focus
            twin.add_module(name, _as_yolov5(child, model, classes))
    return twin


def _head_as_yolov5(module: DetectHead, model: Detector, classes: Any) -> nn.Module:
    head: nn.Module = classes["models.yolo", "Detect"]()
    head.m = module.m
    counts = {"nc": module.num_classes, "no": module.num_classes + 5, "na": module.num_anchors}
    strides = torch.tensor(model.strides, dtype=torch.float32)
    pixels = torch.tensor(model.spec.anchors).view(len(strides), -1, 2)
    grids = [level.view(1, -1, 1, 1, 2).expand(-1, -1, 2, 3, -1).clone() for level in pixels]
    attributes = {**counts, "nl": len(strides), "inplace": True, "anchor_grid": grids}
    for name, value in {**attributes, "stride": strides}.items():
        setattr(head, name, value)
    head.register_buffer("anchors", pixels / strides.view(-1, 1, 1))
    return head


@contextmanager
def _yolov5_classes() -> Iterator[dict[tuple[str, str], type[nn.Module]]]:
    """Stand-ins that pickle finds under YOLOv5's names, for the length of the block."""
    names = [
        ("models.yolo", "DetectionModel"),
        ("models.yolo", "Detect"),
        *(("models.common", name) for name in _COMMON),
        *(("utils.activations", name) for name in _OWN_ACTIVATIONS),
    ]
    classes: dict[tuple[str, str], type[nn.Module]] = {}
    modules: dict[str, types.ModuleType] = {}
    for module_name, name in names:
        module = modules.setdefault(module_name, types.ModuleType(module_name))
        classes[module_name, name] = type(name, (nn.Module,), {"__module__": module_name})
        setattr(module, name, classes[module_name, name])
    sys.modules.update(modules)
    try:
        yield classes
    finally:
        for module_name in modules:
            del sys.modules[module_name]


def tensors_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Same names in the same order, same bits."""
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)
