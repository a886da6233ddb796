"""ImageNet weights of RepVGG classifiers, of its authors and of timm, as weights of a backbone.

Both files are state dicts of the train form. Their blocks in order are those of RepVGG-A and B
(Ding et al., CVPR 2021, table 2); the classifier is skipped. Theirs, per block:

    authors  stageS[.B].rbr_dense.{conv,bn}, .rbr_1x1.{conv,bn}, .rbr_identity
    timm     stem | stages.S.B  .conv_kxk.{conv,bn}, .conv_1x1.{conv,bn}, .identity
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.checkpoints.inert_pickle import read_inert
from models.network.detector import Detector
from models.reparam import algebra
from models.reparam.families import repvgg
from models.reparam.rep_block import EPS, ConvGeometry, RepBlock, batch_norm
from utils.errors import CheckpointError

SOURCE_EPS = 1e-5  # of their batch-norms
_WRAPPERS = ("state_dict", "model")
_NORM = ("weight", "bias", "running_mean", "running_var")
# Layout -> (branch here, its name there), and the names of its blocks: 3x3 kernel, stage, number.
_BRANCHES = {
    "authors": (("kxk", "rbr_dense"), ("1x1", "rbr_1x1"), ("identity", "rbr_identity")),
    "timm": (("kxk", "conv_kxk"), ("1x1", "conv_1x1"), ("identity", "identity")),
}
_BLOCKS = {
    "authors": re.compile(r"(stage(\d)(?:\.(\d+))?)\.rbr_dense\.conv\.weight"),
    "timm": re.compile(r"(stem|stages\.(\d)\.(\d+))\.conv_kxk\.conv\.weight"),
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
        found = [match for match in map(pattern.fullmatch, state) if match]
        if found:
            found.sort(key=_order)
            return [_source_block(state, match[1], _BRANCHES[layout], path) for match in found]
    return []


def _order(match: re.Match[str]) -> tuple[int, int]:
    """Stage and number in it; the stem has neither, and timm counts stages from 0 after it."""
    stage, number = match[2], match[3]
    return int(stage or -1), int(number or 0)


def _source_block(
    state: Mapping[str, Any], name: str, names: tuple[tuple[str, str], ...], path: Path
) -> SourceBlock:
    branches: dict[str, dict[str, Tensor]] = {}
    for branch, theirs in names:
        prefix = f"{name}.{theirs}."
        inside = {key.removeprefix(prefix): value for key, value in state.items()
                  if key.startswith(prefix) and isinstance(value, Tensor)}  # fmt: skip
        if branch != "identity":
            required = {"conv.weight", *(f"bn.{each}" for each in _NORM)}
        else:
            required = set(_NORM) if inside else set()
        if required - inside.keys():
            missing = ", ".join(prefix + each for each in sorted(required - inside.keys()))
            raise CheckpointError(f"{path}: has no {missing}")
        if inside:
            branches[branch] = {key: inside[key].float() for key in required}
    return SourceBlock(name, branches)


def load_backbone(model: Detector, sources: Sequence[SourceBlock], name: str) -> None:
    """Give the first blocks of a network's backbone the weights of the file's blocks, in order.

    RepVGG blocks take the branches as they are; blocks of other families, and plain convolutions,
    what the branches sum to. Norms here add another eps to the variance than theirs: their weights
    are scaled so that the output in eval mode is the same.

    Args:
        model: in train form; changed in place.
        sources: as `read_repvgg` returns them.
        name: the file, for messages.

    Raises:
        CheckpointError: the backbone's blocks are not those of the file.
    """
    count = len(model.spec.backbone)
    blocks = [block for layer in model.layers[:count] for block in _outermost_blocks(layer)]
    if len(blocks) != len(sources):
        raise CheckpointError(
            f"{name}: has {len(sources)} blocks, but the backbone of {model.spec.name} has "
            f"{len(blocks)}; take the yaml of its size, as yolov5-repvgg-a1.yaml"
        )
    for block, source in zip(blocks, sources, strict=True):
        _load_block(block, source, model.spec.norm_eps or EPS, f"{name}: {source.name}")


def _outermost_blocks(module: nn.Module) -> Iterator[RepBlock]:
    if isinstance(module, RepBlock):
        yield module
        return
    for child in module.children():
        yield from _outermost_blocks(child)


@torch.no_grad()
def _load_block(block: RepBlock, source: SourceBlock, eps: float, where: str) -> None:
    ours, kernel = block.equivalent_conv(), source.branches["kxk"]["conv.weight"]
    if kernel.shape != ours.weight.shape:
        raise CheckpointError(
            f"{where}: its kernel has shape {tuple(kernel.shape)}, the backbone's "
            f"{tuple(ours.weight.shape)}; take the yaml of its size, as yolov5-repvgg-a1.yaml"
        )
    geometry = ConvGeometry(kernel.shape[1], kernel.shape[0], 3, ours.stride[0])
    if geometry.keeps_shape != ("identity" in source.branches):
        raise CheckpointError(f"{where}: the backbone's block has another stride")
    theirs = repvgg(geometry, nn.Identity(), identity=True)
    theirs.load_state_dict(_state_dict(source, eps, where), strict=False)  # counters are not theirs
    if block.state_dict().keys() == theirs.state_dict().keys():
        block.load_state_dict(theirs.state_dict())
        return
    folded = theirs.equivalent_conv()
    conv, norm = geometry.conv(bias=False), batch_norm(geometry.out_channels)
    norm.eps = eps
    conv.weight.copy_(folded.weight)
    algebra.make_transparent(norm, folded.bias)
    block.load_conv_bn(conv, norm)


def _state_dict(source: SourceBlock, eps: float, where: str) -> dict[str, Tensor]:
    """Of a RepVGG block whose norms have this eps and compute what those of the file do."""
    state: dict[str, Tensor] = {}
    channels = len(source.branches["kxk"]["conv.weight"])
    for branch, tensors in source.branches.items():
        norm = {each: tensors[each if branch == "identity" else f"bn.{each}"] for each in _NORM}
        if any(tensor.shape != (channels,) for tensor in norm.values()):
            raise CheckpointError(f"{where}: a norm of {branch} has not {channels} channels")
        variance = norm["running_var"].double()
        scale = ((variance + eps) / (variance + SOURCE_EPS)).sqrt()
        norm["weight"] = norm["weight"] * scale.float()
        state |= {f"branches.{branch}.bn.{each}": tensor for each, tensor in norm.items()}
        if "conv.weight" in tensors:
            state[f"branches.{branch}.conv.weight"] = tensors["conv.weight"]
    return state
