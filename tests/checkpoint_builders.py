"""Weights files of every kind: ours, YOLOv5's, hostile and broken ones."""

from __future__ import annotations

import copy
import os
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.network.detector import Detector
from models.network.layers import DetectHead
from utils.checkpoint import Checkpoint, save_checkpoint

CLASS_NAMES = ("cat", "dog", "owl")


def checkpoint_of(model: Detector, form: Any = "train", **fields: Any) -> Checkpoint:
    """What training would keep of a network."""
    names = CLASS_NAMES[: model.spec.num_classes]
    return Checkpoint(form, model.spec.to_yaml(), names, model.state_dict(), **fields)


def save_model(path: Path, model: Detector, form: Any = "train", **fields: Any) -> Path:
    """A checkpoint file of ours."""
    save_checkpoint(path, checkpoint_of(model, form, **fields))
    return path


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
    beside: Mapping[str, Any] | None = None,
    **attributes: Any,
) -> Path:
    """A file as YOLOv5 writes it: the pickled network itself, of classes of its own package.

    Args:
        path: the .pt to write.
        model: what it holds.
        key: `ema` or `model`.
        dtype: of its weights.
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
        content = {"epoch": -1, "model": None, "ema": None, "date": "2022-01-01", "git": None}
        torch.save({**content, **(beside or {}), key: root.to(dtype)}, path)
    return path


def _as_yolov5(module: nn.Module, model: Detector, classes: Any) -> nn.Module:
    """The same tensors under classes named as in YOLOv5."""
    if isinstance(module, DetectHead):
        head: nn.Module = classes["models.yolo", "Detect"]()
        head.m = module.m
        strides = torch.tensor(model.strides, dtype=torch.float32)
        pixels = torch.tensor(model.spec.anchors).view(len(strides), -1, 2)
        head.stride = strides
        head.register_buffer("anchors", pixels / strides.view(-1, 1, 1))
        return head
    if type(module).__module__.startswith("torch.nn"):
        for name, child in module.named_children():
            setattr(module, name, _as_yolov5(child, model, classes))
        return module
    twin: nn.Module = classes["models.common", "Conv"]()
    for name, child in module.named_children():
        twin.add_module(name, _as_yolov5(child, model, classes))
    return twin


@contextmanager
def _yolov5_classes() -> Iterator[dict[tuple[str, str], type[nn.Module]]]:
    """Stand-ins that pickle finds under YOLOv5's names, for the length of the block."""
    names = [
        ("models.yolo", "DetectionModel"),
        ("models.yolo", "Detect"),
        ("models.common", "Conv"),
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
