"""A kernel that is the scaled sum of several terms, computed in every forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.reparam.kernel_terms import FreeKernel, KernelTerm

SCALINGS = ("vector", "scalar", "none")


@dataclass(frozen=True, slots=True)
class ScaledTerm:
    """A term and the initial value of its scale."""

    term: KernelTerm
    scale: float


class ComposedKernel(nn.Module):
    """sum over terms of scale * kernel (OREPA, CVPR 2022, eq. 3 and fig. 4).

    The composition is checkpointed: it is recomputed in the backward pass, which costs as much as
    the convolution of a few cells and saves several kernels per layer in memory.

    Args:
        terms: by name; the first is a `FreeKernel`.
        out_channels: of the kernel.
        scaling: "vector" learns one scale per term and output channel, "scalar" one per term,
            "none" has no scales.
    """

    def __init__(self, terms: Mapping[str, ScaledTerm], out_channels: int, scaling: str) -> None:
        super().__init__()
        self.terms = nn.ModuleDict({name: scaled.term for name, scaled in terms.items()})
        shape = (out_channels,) if scaling == "vector" else (1,)
        self.scales = nn.ParameterDict(
            {}
            if scaling == "none"
            else {n: nn.Parameter(torch.full(shape, s.scale)) for n, s in terms.items()}
        )

    @property
    def weight(self) -> nn.Parameter:
        """The free kernel's parameter: (out, in / groups, k, k)."""
        first = next(iter(self.terms.values()))
        if not isinstance(first, FreeKernel):
            raise TypeError("the first term is a free kernel")
        return first.weight

    def forward(self) -> Tensor:
        """The (out, in / groups, k, k) kernel, in float32 or float64, without autocast."""
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        with _full_precision(self.weight.device.type):
            if not torch.is_grad_enabled():
                return self.compose(dtype)
            kernel: Tensor = checkpoint(
                self.compose, dtype, use_reentrant=False, preserve_rng_state=False
            )
            return kernel

    def compose(self, dtype: torch.dtype) -> Tensor:
        """The (out, in / groups, k, k) kernel, computed in `dtype`."""
        first, *others = self.parts(dtype).values()
        total: Tensor = first
        for part in others:
            total = total + part
        return total

    def parts(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """The scaled kernel of each term, by name; their sum is the kernel."""
        return {name: self._scaled(name, dtype) for name in self.terms}

    def _scaled(self, name: str, dtype: torch.dtype) -> Tensor:
        term = self.terms[name]
        if not isinstance(term, KernelTerm):
            raise TypeError(f"{name} is no kernel term")
        kernel = term.kernel(dtype)
        if name not in self.scales:
            return kernel
        scale: Tensor = self.scales[name].to(dtype)
        return kernel * scale.reshape(-1, 1, 1, 1)

    @torch.no_grad()
    def set_kernel(self, kernel: Tensor) -> None:
        """Change the free kernel so that all terms sum to `kernel`; the others are not changed.

        Raises:
            ValueError: the free kernel's scale is zero somewhere.
        """
        name = next(iter(self.terms))
        missing = kernel.double() - self.compose(torch.float64)
        if name in self.scales:
            scale = self.scales[name].double().reshape(-1, 1, 1, 1)
            if not scale.is_meta and not scale.all():  # meta tensors have no numbers
                raise ValueError("a free kernel whose scale is zero cannot represent any kernel")
            missing = missing / scale
        self.weight.copy_(self.weight.double() + missing)


def _full_precision(device_type: str) -> AbstractContextManager[None]:
    """Disable autocast within the block, on devices that have it."""
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()
