"""How much a network computes for one image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from models.network.changed_copy import changed_copy
from models.reparam.algebra import BatchNorm


def network_gflops(model: nn.Module, input_hw: tuple[int, int] = (640, 640)) -> float:
    """2 x multiply-adds of all convolutions and matrix products for one image, in units of 1e9.

    No memory of the size of the input or of the network is allocated; `model` is not changed.

    Args:
        model: of any form.
        input_hw: multiples of the network's stride.
    """
    found = _of_convolutions(model, input_hw)
    return (_of_everything(model, input_hw) if found is None else found) / 1e9


def _of_convolutions(model: nn.Module, input_hw: tuple[int, int]) -> int | None:
    """The same in FLOPs, of a network that computes by convolutions alone; None for others.

    Each convolution's work is a constant (of kernels, or of pooled maps) or proportional to the
    area of the input, so that two small inputs tell the work for every size.
    """
    first = next(model.parameters())
    stride = getattr(model, "stride", None)
    if first.is_meta or not isinstance(stride, int) or any(side % stride for side in input_hw):
        return None
    shadow = _evaluated(changed_copy(model, lambda tensor: tensor))
    counts: list[int] = []
    for columns in (1, 2):
        image = torch.zeros(1, 3, 2 * stride, 2 * columns * stride, dtype=first.dtype,
                            device=first.device)  # fmt: skip
        try:
            with _Convolutions() as counter, torch.no_grad():
                shadow(image)
        except _OtherProductError:
            return None
        counts.append(counter.flops)
    # Of 2 x 2 cells of the coarsest map, and so a multiple of four for whole cells.
    constant, of_cells = 2 * counts[0] - counts[1], counts[1] - counts[0]
    height, width = input_hw
    cells = (height // stride) * (width // stride)
    return constant + of_cells * cells // 4


def _evaluated(network: nn.Module) -> nn.Module:
    """Its norms in eval mode: one image may leave one value per channel, too few to train with."""
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.eval()
    return network


class _OtherProductError(Exception):
    """A product that is no convolution."""


class _Convolutions(TorchFunctionMode):
    """A region in which the work of convolutions is counted.

    Attributes:
        flops: so far.

    Other products end the region with an _OtherProductError.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _OTHER_PRODUCTS:
            raise _OtherProductError
        output = func(*args, **(kwargs or {}))
        if func in _CONVOLUTIONS:
            weight: Tensor = args[1] if len(args) > 1 else (kwargs or {})["weight"]
            self.flops += 2 * output.numel() * weight[0].numel()
        return output


_CONVOLUTIONS = frozenset((torch.conv1d, torch.conv2d, torch.conv3d))
_OTHER_PRODUCTS = frozenset((
    torch.matmul, torch.mm, torch.bmm, torch.mv, torch.dot, torch.addmm, torch.baddbmm,
    torch.einsum, torch.tensordot, torch.convolution, torch.conv_transpose1d,
    torch.conv_transpose2d, torch.conv_transpose3d, Tensor.matmul, Tensor.__matmul__,
    Tensor.__rmatmul__, Tensor.mm, Tensor.bmm, Tensor.mv, Tensor.dot, F.linear, F.bilinear,
    F.scaled_dot_product_attention, F.multi_head_attention_forward,
))  # fmt: skip


def _of_everything(model: nn.Module, input_hw: tuple[int, int]) -> int:
    """By torch's own counter, on its meta device; that takes seconds to import."""
    from torch.utils.flop_counter import FlopCounterMode

    shadow = _evaluated(changed_copy(model, lambda tensor: tensor.to("meta")).to("meta"))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shadow(torch.empty(1, 3, *input_hw, device="meta"))
    return int(counter.get_total_flops())
