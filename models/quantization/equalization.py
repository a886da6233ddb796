"""Cross-layer equalization: channels get equal weight ranges before quantization to INT8.

One scale for all weights of a layer is too coarse for channels with small weights. Where a ReLU or
LeakyReLU lies between two convolutions, a channel may be divided by any s > 0 in the first and
multiplied by it in the second: act(s x) = s act(x), so the function stays the same (Nagel et al.,
"Data-Free Quantization Through Weight Equalization and Bias Correction", arXiv 1906.04721, sec.
4.1).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from models.conversion.deploy import is_deployed
from models.network.detector import Detector
from models.network.layers import C3, SPPF, Bottleneck
from models.reparam.rep_block import ConvAct
from utils.errors import ConfigError

MAX_ROUNDS = 100
CONVERGED = 1e-3  # largest |log s| of a round after which no other is made
# A channel with less of the layer's range is nearly constant: equalizing it would inflate its
# bias, and with it the range of the activation map.
MIN_RANGE = 1e-3


@dataclass(frozen=True, slots=True)
class EqualizationPair:
    """A convolution and all readers of its output: one convolution, or the two that start a C3."""

    first: ConvAct
    readers: tuple[ConvAct, ...]


def equalized(detector: Detector) -> tuple[Detector, list[str]]:
    """A copy whose convolutions have equal channel ranges, and the names of those changed.

    With r1_i the largest weight of channel i in the first convolution and r2_i that in what reads
    it, s_i = sqrt(r1_i / r2_i) makes both sqrt(r1_i r2_i) (eq. 11). Pairs share convolutions, so
    they are repeated until convergence. Channels of almost zero weights are skipped, and so are
    pairs with a grouped convolution and the head, which stays in float32.

    Args:
        detector: in deploy form; it is not changed.

    Raises:
        ConfigError: an activation does not scale with its input.
        ValueError: `detector` is not in deploy form.
    """
    if not is_deployed(detector):
        raise ValueError("only a network in deploy form can be equalized; call to_deploy")
    changed = copy.deepcopy(detector)
    pairs = equalization_pairs(changed)
    for pair in pairs:
        _check_activation(pair.first.act, changed.spec.name)
    for _ in range(MAX_ROUNDS):
        if max((_equalize(pair) for pair in pairs), default=0.0) < CONVERGED:
            break
    touched = {conv for pair in pairs for conv in (pair.first, *pair.readers)}
    return changed, [name for name, module in changed.named_modules() if module in touched]


def equalization_pairs(detector: Detector) -> list[EqualizationPair]:
    """Convolutions whose output is read by other convolutions only, in order of execution."""
    readers: dict[int, list[int]] = {}
    for row in detector.spec.layers:
        for source in row.sources:
            readers.setdefault(source, []).append(row.index)
    found: list[EqualizationPair] = []
    for index, layer in enumerate(detector.layers):
        found += _inside(layer)
        if len(readers.get(index, [])) == 1:
            found += _between(layer, detector.layers[readers[index][0]])
    return [pair for pair in found if _is_plain(pair)]


def _is_plain(pair: EqualizationPair) -> bool:
    return all(block.conv.groups == 1 for block in (pair.first, *pair.readers))


def _inside(layer: nn.Module) -> Iterator[EqualizationPair]:
    """The pairs within one layer of the spec."""
    if isinstance(layer, Bottleneck):
        yield from _between(layer.cv1, layer.cv2)
    elif isinstance(layer, C3):
        yield from _inside(layer.m)
        yield from _between(layer.cv1, layer.m)
    elif isinstance(layer, nn.Sequential):
        for child in layer:
            yield from _inside(child)
        for before, after in pairwise(layer):
            yield from _between(before, after)


def _between(before: nn.Module, after: nn.Module) -> Iterator[EqualizationPair]:
    """The pair of two consecutive modules, if there is one."""
    first, readers = _last_conv(before), _first_convs(after)
    if first is not None and readers:
        yield EqualizationPair(first, readers)


def _last_conv(module: nn.Module) -> ConvAct | None:
    """The convolution that alone computes the module's output, or None."""
    if isinstance(module, ConvAct):
        return module
    if isinstance(module, nn.Sequential):
        return _last_conv(module[-1])
    last = module.cv3 if isinstance(module, C3) else None
    if isinstance(module, SPPF) or (isinstance(module, Bottleneck) and not module.add):
        last = module.cv2
    return last if isinstance(last, ConvAct) else None


def _first_convs(module: nn.Module) -> tuple[ConvAct, ...]:
    """All readers of the module's input; empty unless all of them are convolutions."""
    if isinstance(module, ConvAct):
        return (module,)
    if isinstance(module, nn.Sequential):
        return _first_convs(module[0])
    blocks: Sequence[nn.Module] = ()
    if isinstance(module, C3):
        blocks = (module.cv1, module.cv2)
    elif isinstance(module, SPPF) or (isinstance(module, Bottleneck) and not module.add):
        blocks = (module.cv1,)
    return tuple(block for block in blocks if isinstance(block, ConvAct))


def _check_activation(activation: nn.Module, spec_name: str) -> None:
    if not isinstance(activation, nn.ReLU | nn.LeakyReLU | nn.Identity):
        raise ConfigError(
            f"{spec_name}: channels cannot be equalized across {type(activation).__name__}: "
            "that needs act(s x) = s act(x) for every s > 0; train with ReLU or LeakyReLU"
        )


@torch.no_grad()
def _equalize(pair: EqualizationPair) -> float:
    """Equalize the channels of one pair in place; returns the largest |log s|."""
    weight, readers = pair.first.conv.weight, [reader.conv.weight for reader in pair.readers]
    made = weight.abs().amax((1, 2, 3))
    read = torch.stack([each.abs().amax((0, 2, 3)) for each in readers]).amax(0)
    scale = _scale(made, read)
    weight /= scale[:, None, None, None]
    if pair.first.conv.bias is not None:
        pair.first.conv.bias /= scale
    for each in readers:
        each *= scale[:, None, None]
    return float(scale.log().abs().max())


def _scale(made: Tensor, read: Tensor) -> Tensor:
    """sqrt(r1 / r2) of each channel, (channels,); 1 where either range is almost zero."""
    alive = (made > MIN_RANGE * made.max()) & (read > MIN_RANGE * read.max())
    return torch.where(alive, (made / read).sqrt(), 1.0)
