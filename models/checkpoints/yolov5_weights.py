"""Checkpoints of ultralytics/yolov5, read as our own without executing anything in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from models.checkpoints.inert_pickle import (
    InertObject,
    collect_attribute,
    collect_tensors,
    read_inert,
)
from models.network.detector import build_model
from models.network.model_spec import ModelSpec
from models.reparam.rep_block import EPS
from utils.checkpoint import Checkpoint
from utils.errors import CheckpointError, ConfigError

# In YOLOv5's state dict; our spec holds the anchors.
_HEAD_BUFFERS = ("anchors", "anchor_grid", "stride")


def read_yolov5(path: Path) -> Checkpoint:
    """Read a YOLOv5 v6/v7 checkpoint as one of ours: float32, the EMA weights where it has them.

    Raises:
        CheckpointError: unsafe, damaged, or of layers this project does not have.
    """
    content = read_inert(path)
    model = next((content[key] for key in ("ema", "model") if content.get(key) is not None), None)
    if not isinstance(model, InertObject) or not isinstance(model.__dict__.get("yaml"), dict):
        raise CheckpointError(f"{path}: holds no YOLOv5 model with its yaml")
    tensors = {name: value.float() for name, value in collect_tensors(model).items()}
    yaml = {**model.__dict__["yaml"], "anchors": _anchors(model, path)}
    class_names = _class_names(model, yaml, path)
    try:
        spec = ModelSpec.from_yaml({**yaml, "nc": len(class_names)}, str(path))
        expected = build_model(spec).state_dict()
    except ConfigError as error:
        raise CheckpointError(f"{error}; this checkpoint cannot be used yet") from None
    eps_values = collect_attribute(model, "eps")
    if eps_values != {EPS}:
        raise CheckpointError(f"{path}: batch-norm eps is {sorted(eps_values)}, expected {EPS}")
    return Checkpoint(
        form="train",
        spec=spec.to_yaml(),
        class_names=class_names,
        weights=_renamed(tensors, expected, path),
        config={"source": path.name} | _license(content),
    )


def _license(content: dict[str, Any]) -> dict[str, str]:
    """What the file says of its licence; older ones say nothing."""
    text = content.get("license")
    return {"license": text} if isinstance(text, str) and text.strip() else {}


def _renamed(
    tensors: dict[str, Tensor], expected: dict[str, Tensor], path: Path
) -> dict[str, Tensor]:
    """`model.3.conv.weight` -> `layers.3.conv.weight`, all present, of the right shapes."""
    weights = {
        "layers." + name.removeprefix("model."): tensor
        for name, tensor in tensors.items()
        if name.rpartition(".")[2] not in _HEAD_BUFFERS
    }
    missing = sorted(expected.keys() - weights.keys())
    extra = sorted(weights.keys() - expected.keys())
    if missing or extra:
        raise CheckpointError(
            f"{path}: its weights do not fit its yaml: "
            f"{len(missing)} missing {missing[:3]}, {len(extra)} unknown {extra[:3]}"
        )
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, "
                f"its yaml says {tuple(expected[name].shape)}"
            )
        weights[name] = tensor.to(expected[name].dtype)
    return weights


def _head(model: InertObject, path: Path) -> InertObject:
    layers = model.child("model")
    children = layers.__dict__.get("_modules", {}) if isinstance(layers, InertObject) else {}
    head = children[next(reversed(children))] if children else None
    if not isinstance(head, InertObject) or head.class_name != "Detect":
        name = head.class_name if isinstance(head, InertObject) else "none"
        raise CheckpointError(f"{path}: the last layer is {name}, expected Detect")
    return head


def _anchors(model: InertObject, path: Path) -> list[list[float]]:
    """Anchors in pixels as the network uses them (autoanchor may have changed the yaml's)."""
    head = _head(model, path)
    anchors = head.__dict__["_buffers"].get("anchors")
    strides = head.__dict__.get("stride")
    if not isinstance(anchors, Tensor) or not isinstance(strides, Tensor):
        raise CheckpointError(f"{path}: its head has no anchors or strides")
    pixels = anchors.float() * strides.float().view(-1, 1, 1)
    return [[float(side) for side in level.flatten()] for level in pixels]


def _class_names(model: InertObject, yaml: dict[str, Any], path: Path) -> tuple[str, ...]:
    names = model.__dict__.get("names")
    if isinstance(names, dict):
        names = [names[key] for key in sorted(names)]
    if not isinstance(names, list) or len(names) != yaml.get("nc"):
        raise CheckpointError(f"{path}: has no list of {yaml.get('nc')} class names")
    return tuple(str(name) for name in names)
