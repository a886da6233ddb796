"""Deploy form to train form: a plain network as one with branches that computes the same."""

from __future__ import annotations

import torch
from torch import nn

from models.conversion.deploy import is_deployed
from models.network.concat_norm import ConcatNorm
from models.network.detector import Detector, build_model
from models.network.layers import ConvBNAct
from models.network.module_copy import copy_with, in_float64
from models.reparam import algebra
from models.reparam.rep_block import ConvAct, RepBlock, batch_norm


def expand(model: Detector, rep_block: str | None, rep_policy: str | None = None) -> Detector:
    """A train-form network whose 3x3 convolutions are blocks and that computes what `model` does.

    Args:
        model: plain or in deploy form; it does not change.
        rep_block: family of the blocks, with options as in a model yaml; None for plain ones.
        rep_policy: which 3x3 convolutions become blocks; all where it is None.

    Returns:
        A new network in eval mode, in the dtype of `model`.

    Raises:
        ConfigError: unknown family or policy.
        ValueError: `model` has branches already.
    """
    if model.spec.rep_block is not None and not is_deployed(model):
        raise ValueError(f"the network has {model.spec.rep_block} blocks already")
    spec = model.spec.replaced(rep_block=rep_block, rep_policy=rep_policy)
    expanded = build_model(type(spec).from_yaml(spec.to_yaml(), spec.name))
    expanded.to(next(model.parameters()).dtype)
    _fill(expanded, model, spec.norm_eps)
    return expanded.eval()


def expanded_layer(saved: nn.Module, layer: nn.Module, norm_eps: float | None) -> nn.Module:
    """One layer of a network, expanded like its namesake in a network that `expand` made.

    Args:
        saved: the namesake, in any dtype; its branches beside the main one are taken as they are.
        layer: plain or in deploy form, in float64; it does not change.
        norm_eps: that of the network's spec.
    """
    expanded = nn.ModuleList([copy_with(saved, in_float64)])
    _fill(expanded, nn.ModuleList([layer]), norm_eps)
    return expanded[0].eval()


def _fill(target: nn.Module, source: nn.Module, norm_eps: float | None) -> None:
    """Give every module of `target` the numbers of its namesake in `source`."""
    filled: set[str] = set()
    if isinstance(target, ConcatNorm) and isinstance(source, ConcatNorm):
        target.load_convs_norm(source)
        filled = {"bn", *(name.partition(".")[0] for name in target.normalized())}
    for name, child in target.named_children():
        if name in filled:
            continue
        other = source.get_submodule(name)
        if isinstance(child, RepBlock) and isinstance(other, ConvBNAct | ConvAct):
            child.load_conv_bn(*_conv_and_norm(other, norm_eps))
        elif isinstance(child, RepBlock) or is_deployed(child):
            child.load_state_dict(other.state_dict())  # a block that a row names, or none at all
        else:
            _fill(child, other, norm_eps)


@torch.no_grad()
def _conv_and_norm(
    block: ConvBNAct | ConvAct, norm_eps: float | None
) -> tuple[nn.Conv2d, algebra.BatchNorm]:
    """A plain block's convolution and norm; the bias of a deploy form as a norm of its own."""
    if isinstance(block, ConvBNAct):
        return block.conv, block.bn
    norm = batch_norm(block.conv.out_channels).to(block.conv.weight)
    norm.eps = norm_eps or norm.eps
    algebra.make_transparent(norm, block.conv.bias)
    return block.conv, norm
