"""Small networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from models.network.detector import Detector, build_model
from models.network.model_spec import SPECS_FOLDER, ModelSpec
from tests.block_equivalence import randomise_constants, randomise_norms
from utils.strict_yaml import read_yaml, write_yaml


def tiny_yaml(**changes: Any) -> dict[str, Any]:
    """A yaml mapping of three levels that builds in milliseconds; `changes` replace keys."""
    content: dict[str, Any] = {
        "nc": 3,
        "depth_multiple": 0.33,
        "width_multiple": 0.25,
        "anchors": [[10, 13, 16, 30], [30, 61, 62, 45], [116, 90, 156, 198]],
        "activation": "LeakyReLU(0.1)",
        "rep_block": "RepVGG",
        "backbone": [
            [-1, 1, "Conv", [32, 6, 2, 2]],
            [-1, 1, "Conv", [32, 3, 2]],
            [-1, 1, "Conv", [32, 3, 2]],
            [-1, 3, "C3", [32]],
            [-1, 1, "Conv", [64, 3, 2]],
            [-1, 1, "Conv", [64, 3, 2]],
            [-1, 1, "SPPF", [64, 5]],
        ],
        "head": [
            [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
            [[-1, 4], 1, "Concat", [1]],
            [-1, 3, "C3", [64, False]],
            [[3, 9, 6], 1, "Detect", ["nc", "anchors"]],
        ],
    }
    return {**content, **changes}


def tiny_spec(**changes: Any) -> ModelSpec:
    """`tiny_yaml` as a spec."""
    return ModelSpec.from_yaml(tiny_yaml(**changes), "tiny.yaml")


def trained_model(spec: ModelSpec, seed: int = 0) -> Detector:
    """A network in eval mode with random weights and statistics."""
    torch.manual_seed(seed)
    model = build_model(spec)
    randomise_norms(model)
    randomise_constants(model)
    return model.eval()


def finding_model(spec: ModelSpec, spread: float = 0.4) -> Detector:
    """One that finds many objects, of several classes: its head has large weights."""
    model = trained_model(spec, seed=3)
    for conv in model.head.modules():
        if isinstance(conv, torch.nn.Conv2d):
            torch.nn.init.normal_(conv.weight, std=spread)
            conv.bias.data.view(-1, 5 + spec.num_classes)[:, 4] = 1.0
    return model


def meta_model(spec: ModelSpec | str, form: str = "train") -> Detector:
    """A network without memory, for its shapes."""
    if isinstance(spec, str):
        spec = ModelSpec.from_file(spec)
    with torch.device("meta"):
        return build_model(spec, form=form).eval()


def shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Name -> shape of everything in the state dict."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def write_small_yolov5(path: Path, **changes: Any) -> Path:
    """The yaml of RepYOLOv5 at half the width of n, for runs of seconds."""
    content = read_yaml(SPECS_FOLDER / "repyolov5n.yaml")
    write_yaml(path, {**content, "width_multiple": 0.125, **changes})
    return path


def write_tiny(path: Path, **changes: Any) -> Path:
    """`tiny_yaml` as a file, for runs whose law does not depend on the network."""
    write_yaml(path, tiny_yaml(**changes))
    return path
