"""ImageNet weights of RepVGG classifiers, of its authors and of timm, as weights of a backbone.

Both files are state dicts. Their blocks in order are those of RepVGG-A and B (Ding et al., CVPR
2021, table 2); the classifier is skipped. Theirs, per block, in train form and in deploy form:

    authors  stageS[.B].rbr_dense.{conv,bn}, .rbr_1x1.{conv,bn}, .rbr_identity | .rbr_reparam
    timm     stem | stages.S.B  .conv_kxk.{conv,bn}, .conv_1x1.{conv,bn}, .identity | .reparam_conv
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.checkpoints.inert_pickle import read_inert
from models.network.detector import Detector
from models.reparam import algebra
from models.reparam.families import repvgg
from models.reparam.rep_block import EPS, ConvGeometry, RepBlock, batch_norm, outermost_blocks
from utils.errors import CheckpointError

SOURCE_EPS = 1e-5  # of their batch-norms
_WRAPPERS = ("state_dict", "model")
_NORM = ("weight", "bias", "running_mean", "running_var")
_CONV_NORM = ("conv.weight", *(f"bn.{each}" for each in _NORM))
# Branch -> its tensors. A block has the first two and maybe the third, or the last alone.
_TENSORS = {"kxk": _CONV_NORM, "1x1": _CONV_NORM, "identity": _NORM, "merged": ("weight", "bias")}
_COUNTER = "num_batches_tracked"  # of a norm; not needed
# Layout -> branch here -> its name there.
_BRANCHES = {
    "authors": {"kxk": "rbr_dense", "1x1": "rbr_1x1", "identity": "rbr_identity",
                "merged": "rbr_reparam"},
    "timm": {"kxk": "conv_kxk", "1x1": "conv_1x1", "identity": "identity",
             "merged": "reparam_conv"},
}  # fmt: skip
# Layout -> names of its blocks: stage, number.
_BLOCKS = {
    "authors": re.compile(r"(stage(\d)(?:\.(\d+))?)\.rbr_\w+\."),
    "timm": re.compile(r"(stem|stages\.(\d)\.(\d+))\.(?:conv_kxk|conv_1x1|reparam_conv)\."),
}


@dataclass(frozen=True, slots=True)
class SourceBlock:
    """One block of the file.

    Attributes:
        name: its name there.
        branches: branch here -> its tensors there, without the branch's name.
    """

    name: str
    branches: Mapping[str, Mapping[str, Tensor]]


def read_repvgg(path: Path) -> list[SourceBlock]:
    """The blocks of a RepVGG classifier's file in order, the stem first; none in other files.

    Raises:
        CheckpointError: unsafe, damaged, or parts of a block are missing.
    """
    content: Any = read_inert(path)
    inner = [content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
    named = inner[0] if inner else content
    state = {str(name).removeprefix("module."): value for name, value in named.items()}
    for layout, pattern in _BLOCKS.items():
        found = {match[1]: match for match in map(pattern.match, state) if match}
        if found:
            blocks = sorted(found.values(), key=_order)
            return [_source_block(state, match[1], _BRANCHES[layout], path) for match in blocks]
    return []


def _order(match: re.Match[str]) -> tuple[int, int]:
    """Stage and number in it; the stem has neither, and timm counts stages from 0 after it."""
    stage, number = match[2], match[3]
    return int(stage or -1), int(number or 0)


def _source_block(
    state: Mapping[str, Any], name: str, names: Mapping[str, str], path: Path
) -> SourceBlock:
    inside = {key.removeprefix(f"{name}."): value for key, value in state.items()
              if key.startswith(f"{name}.")}  # fmt: skip
    merged = any(key.startswith(f"{names['merged']}.") for key in inside)
    branches: dict[str, dict[str, Tensor]] = {}
    for branch in ["merged"] if merged else ["kxk", "1x1", "identity"]:
        prefix = f"{names[branch]}."
        if branch == "identity" and not any(key.startswith(prefix) for key in inside):
            continue
        where = f"{path}: {name}.{prefix}"
        branches[branch] = {key: _numbers(inside.pop(prefix + key, None), f"{where}{key}")
                            for key in _TENSORS[branch]}  # fmt: skip
    if others := [key for key in inside if not key.endswith(_COUNTER)]:
        raise CheckpointError(f"{path}: {name} has {', '.join(others)} too: a block of other "
                              "parts than RepVGG's, which no backbone here has")  # fmt: skip
    return SourceBlock(name, branches)


def _numbers(value: object, where: str) -> Tensor:
    """The tensor in float32.

    Raises:
        CheckpointError: it is none, or not of numbers that a network computes with.
    """
    if not isinstance(value, Tensor):
        path, _, name = where.rpartition(": ")
        raise CheckpointError(f"{path}: has no {name}")
    if not value.is_floating_point() or not value.isfinite().all():
        raise CheckpointError(f"{where} holds no finite real numbers")
    if where.endswith("running_var") and (value < 0).any():
        raise CheckpointError(f"{where} is negative, which no variance is")
    return value.float()


def load_backbone(model: Detector, sources: Sequence[SourceBlock], name: str) -> bool:
    """Give the first blocks of a network's backbone the weights of the file's blocks, in order.

    RepVGG blocks take the branches as they are; blocks of other families, and plain convolutions,
    what the branches sum to. Norms here add another eps to the variance than theirs: their weights
    are scaled so that the output in eval mode is the same.

    Args:
        model: in train form; changed in place.
        sources: as `read_repvgg` returns them.
        name: the file, for messages.

    Returns:
        Whether norms have no statistics of their own: they come from merged branches.

    Raises:
        CheckpointError: the backbone's blocks are not those of the file.
    """
    count = len(model.spec.backbone)
    blocks = [block for layer in model.layers[:count] for block in outermost_blocks(layer)]
    if len(blocks) != len(sources):
        raise CheckpointError(
            f"{name}: has {len(sources)} blocks, but the backbone of {model.spec.name} has "
            f"{len(blocks)}; take the yaml of its size, as yolov5-repvgg-a1.yaml"
        )
    eps = model.spec.norm_eps or EPS
    merged = [_load_block(block, source, eps, f"{name}: {source.name}")
              for block, source in zip(blocks, sources, strict=True)]  # fmt: skip
    return any(merged)


@torch.no_grad()
def _load_block(block: RepBlock, source: SourceBlock, eps: float, where: str) -> bool:
    """As `load_backbone`, for one block."""
    ours, branches = block.equivalent_conv(), source.branches
    merged = branches.get("merged")
    kernel = merged["weight"] if merged else branches["kxk"]["conv.weight"]
    if kernel.shape != ours.weight.shape:
        raise CheckpointError(
            f"{where}: its kernel has shape {tuple(kernel.shape)}, the backbone's "
            f"{tuple(ours.weight.shape)}; take the yaml of its size, as yolov5-repvgg-a1.yaml"
        )
    channels, per_group = kernel.shape[:2]
    geometry = ConvGeometry(per_group * ours.groups, channels, 3, ours.stride[0],
                            groups=ours.groups)  # fmt: skip
    conv, norm = geometry.conv(bias=False), batch_norm(channels)
    norm.eps = eps
    if merged:
        conv.weight.copy_(kernel)
        _check_shape(merged["bias"], (channels,), f"{where}: its bias")
        algebra.make_transparent(norm, merged["bias"])
        block.load_conv_bn(conv, norm)
        return True
    if geometry.keeps_shape != ("identity" in branches):
        has, expected = ("no", "one") if geometry.keeps_shape else ("an", "none")
        raise CheckpointError(f"{where}: has {has} identity branch, the backbone's block of stride "
                              f"{geometry.stride} {expected}")  # fmt: skip
    theirs = repvgg(geometry, nn.Identity(), identity=True)
    theirs.load_state_dict(_state_dict(source, eps, where), strict=False)  # counters are not theirs
    if block.state_dict().keys() == theirs.state_dict().keys():
        block.load_state_dict(theirs.state_dict())
        return False
    folded = theirs.equivalent_conv()
    conv.weight.copy_(folded.weight)
    algebra.make_transparent(norm, folded.bias)
    block.load_conv_bn(conv, norm)
    return True


def _check_shape(tensor: Tensor, expected: tuple[int, ...], what: str) -> None:
    if tensor.shape != expected:
        raise CheckpointError(f"{what} has shape {tuple(tensor.shape)}, expected {expected}")


def _state_dict(source: SourceBlock, eps: float, where: str) -> dict[str, Tensor]:
    """Of a RepVGG block whose norms have this eps and compute what those of the file do."""
    state: dict[str, Tensor] = {}
    channels, per_group = source.branches["kxk"]["conv.weight"].shape[:2]
    for branch, tensors in source.branches.items():
        norm = {each: tensors[each if branch == "identity" else f"bn.{each}"] for each in _NORM}
        for each, tensor in norm.items():
            _check_shape(tensor, (channels,), f"{where}: {each} of the norm of {branch}")
        variance = norm["running_var"].double()
        scale = ((variance + eps) / (variance + SOURCE_EPS)).sqrt()
        norm["weight"] = norm["weight"] * scale.float()
        state |= {f"branches.{branch}.bn.{each}": tensor for each, tensor in norm.items()}
        if branch == "1x1":
            _check_shape(tensors["conv.weight"], (channels, per_group, 1, 1), f"{where}: the 1x1")
        if "conv.weight" in tensors:
            state[f"branches.{branch}.conv.weight"] = tensors["conv.weight"]
    return state
