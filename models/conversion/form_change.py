"""The forms that a network can be converted to, as a whole and layer by layer."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from models.conversion.deploy import to_deploy
from models.conversion.expand import expand, expanded_layer
from models.conversion.yolov5_form import as_yolov5, has_norms, yolov5_layer
from models.network.detector import Detector

SEED = 0  # of the branches of an expanded network


@dataclass(frozen=True, slots=True)
class FormChange:
    """How a network gets another form.

    Attributes:
        network: a new network of that form, which computes the same; the given one stays as it is.
        layer: a layer of `network`'s result as saved, and the same layer before in float64 -> the
            latter in the new form, in float64: what the check needs, without a second network.
        replaces_blocks: whether convolution blocks change at all.
    """

    network: Callable[[Detector], Detector]
    layer: Callable[[nn.Module, nn.Module], nn.Module]
    replaces_blocks: bool = True


UNCHANGED = FormChange(copy.deepcopy, lambda saved, layer: layer, replaces_blocks=False)
FOLDED = FormChange(to_deploy, lambda saved, layer: to_deploy(layer))


def in_yolov5_layers(model: Detector) -> FormChange:
    """To the layers of YOLOv5."""
    return FormChange(as_yolov5, functools.partial(yolov5_layer, keep_norms=has_norms(model)))


def expanded(model: Detector, rep_block: str, rep_policy: str | None) -> FormChange:
    """To a network of blocks, with the same branches every time: they start as random numbers."""

    def network(plain: Detector) -> Detector:
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(SEED)
            return expand(plain, rep_block, rep_policy)

    return FormChange(network, functools.partial(expanded_layer, norm_eps=model.spec.norm_eps))
