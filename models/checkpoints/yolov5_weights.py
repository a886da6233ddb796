"""Checkpoints of ultralytics/yolov5, read as our own without executing anything in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.checkpoints.inert_pickle import (
    InertObject,
    collect_tensors,
    plain_value,
    read_inert,
    shown,
)
from models.checkpoints.layer_comparison import compare, compare_head
from models.checkpoints.pickled_graph import network_keys, regroup, with_pickled_rows
from models.network.detector import Detector, build_model
from models.network.model_spec import ModelSpec
from utils.checkpoint import Checkpoint
from utils.errors import CheckpointError, ConfigError

# In YOLOv5's state dict; our spec holds the anchors.
_HEAD_BUFFERS = ("anchors", "anchor_grid", "stride")
# The keys of its yaml that describe layers. Its modules say the rest; `nc` is counted by the names.
_LAYER_KEYS = ("depth_multiple", "width_multiple", "channel_multiple", "backbone", "head", "ch")
_ANCHOR_TOLERANCE = 2e-3  # anchors and their grid are rounded to float16 separately


def read_yolov5(path: Path, names: tuple[str, ...] | None = None) -> Checkpoint:
    """Read a YOLOv5 v6/v7 checkpoint as one of ours: float32, the EMA weights where it has them.

    Args:
        path: the file.
        names: what it asks for, as in `read_inert`.

    Raises:
        CheckpointError: unsafe, damaged, or computing something that this project's layers do not.
    """
    content = read_inert(path, names)
    model = next((content[key] for key in ("ema", "model") if content.get(key) is not None), None)
    if not isinstance(model, InertObject) or not isinstance(model.attribute("yaml"), dict):
        raise CheckpointError(f"{path}: holds no YOLOv5 model with its yaml")
    regroup(model, str(path))
    tensors = collect_tensors(model, str(path))
    layers = _layers(model, path)
    class_names = _class_names(model, path)
    try:
        spec = _spec(model, layers, len(class_names), path)
        with torch.device("meta"):  # its sizes are claims until they are compared with the tensors
            built = build_model(spec)
    except ConfigError as error:
        raise CheckpointError(f"{error}; this checkpoint cannot be used yet") from None
    _compare(built, model, layers, path)
    return Checkpoint(
        form="train",
        spec=spec.to_yaml(),
        class_names=class_names,
        weights=_renamed(tensors, built.state_dict(), path),
        config={"source": path.name} | _license(content),
        name=str(path),
    )


def _spec(model: InertObject, layers: list[InertObject], num_classes: int, path: Path) -> ModelSpec:
    """The architecture by the yaml, corrected by what the pickled modules say."""
    where = str(path)
    yaml = {key: value for key, value in model.attribute("yaml").items() if key in _LAYER_KEYS}
    content = {
        **plain_value(yaml, f"{path}: its yaml"),
        "anchors": _anchors(layers[-1], path),
        "nc": num_classes,
    }
    spec = ModelSpec.from_yaml(content, where)
    if spec.head[-1][2] == "IDetect":  # of YOLOv7; `regroup` has made a Detect of it
        *rows, (source, number, _, args) = spec.head
        spec = spec.replaced(head=(*rows, (source, number, "Detect", args)))
    spec = with_pickled_rows(spec, layers)
    return spec.replaced(**network_keys(model, where))


def _compare(built: Detector, model: InertObject, layers: list[InertObject], path: Path) -> None:
    for index, (layer, found) in enumerate(zip(built.layers, layers, strict=True)):
        compare(layer, found, f"model.{index}", str(path))
    compare_head(built.head, layers[-1], f"model.{len(layers) - 1}", str(path))
    for owner, module in (("its network", model), ("its head", layers[-1])):
        strides = _numbers(module.attribute("stride"))
        if strides is None and module is model:
            continue
        if strides != list(built.strides):
            raise CheckpointError(
                f"{path}: {owner}: stride is {strides}, but its layers have {list(built.strides)}"
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
        if tensor.is_floating_point() != expected[name].is_floating_point():
            raise CheckpointError(
                f"{path}: {name} is {tensor.dtype}, expected {expected[name].dtype}"
            )
        weights[name] = tensor.to(expected[name].dtype)
    return weights


def _layers(model: InertObject, path: Path) -> list[InertObject]:
    """The layers in the order in which they run; the last is the head."""
    chain = model.child("model")
    layers = list(chain.children.values()) if chain else []
    if not layers or layers[-1].class_name != "Detect":
        name = layers[-1].class_name if layers else "none"
        raise CheckpointError(f"{path}: the last layer is {name}, expected Detect")
    return layers


def _anchors(head: InertObject, path: Path) -> list[list[float]]:
    """Anchors in pixels as the network uses them (autoanchor may have changed the yaml's).

    `anchors` are in cells of their level; `anchor_grid`, if there is one, is the same in pixels.
    """
    buffers = head.attribute("_buffers")
    anchors = buffers.get("anchors") if isinstance(buffers, dict) else None
    strides = _numbers(head.attribute("stride"))
    if not isinstance(anchors, Tensor) or strides is None:
        raise CheckpointError(f"{path}: its head has no anchors or strides")
    if anchors.ndim != 3 or anchors.shape[0] != len(strides) or anchors.shape[2] != 2:
        raise CheckpointError(
            f"{path}: its head: anchors have shape {tuple(anchors.shape)}, expected (levels, "
            f"anchors, 2) with {len(strides)} levels"
        )
    pixels = anchors.float() * torch.tensor(strides).view(-1, 1, 1)
    _compare_anchor_grid(pixels, head, path)
    return [[float(side) for side in level.flatten()] for level in pixels]


def _compare_anchor_grid(pixels: Tensor, head: InertObject, path: Path) -> None:
    """Refuse anchors that decoding and the loss read in different units.

    YOLOv5 up to v5 has (levels, 1, A, 1, 1, 2) numbers; later versions have one tensor a level,
    either empty or of an image's size, (1, A, H, W, 2).
    """
    buffers = head.attribute("_buffers")
    grids = buffers.get("anchor_grid") if isinstance(buffers, dict) else None
    grids = head.attribute("anchor_grid") if grids is None else grids
    if not isinstance(grids, Tensor | list):
        return
    for level, grid in zip(pixels, grids, strict=False):
        if not isinstance(grid, Tensor) or grid.ndim != 5 or not grid.is_floating_point():
            continue
        expected = level.view(1, -1, 1, 1, 2)
        same = grid.shape[1] == len(level) and grid.shape[4] == 2
        if not same or not torch.allclose(grid.float(), expected, rtol=_ANCHOR_TOLERANCE):
            raise CheckpointError(
                f"{path}: its head: anchor_grid is {shown(_numbers(grid[0, :, :1, :1]))} pixels, "
                f"but anchors times stride are {shown(_numbers(level))}"
            )


def _numbers(value: object) -> list[float] | None:
    """The elements of a tensor, flat; None where it is none or has many."""
    if not isinstance(value, Tensor) or value.numel() > 1000 or value.is_complex():
        return None
    return [float(each) for each in value.flatten().tolist()]


def _class_names(model: InertObject, path: Path) -> tuple[str, ...]:
    count = model.attribute("yaml").get("nc")
    names = plain_value(model.attribute("names"), f"{path}: its class names")
    if isinstance(names, dict) and all(type(key) is int for key in names):
        names = [names[key] for key in sorted(names)]
    if not isinstance(names, list) or type(count) is not int or len(names) != count:
        raise CheckpointError(f"{path}: has no list of {shown(count)} class names")
    return tuple(str(name) for name in names)
