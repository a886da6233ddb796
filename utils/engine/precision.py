"""How numbers are computed while training: float32, or mixed with a smaller type."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Precision:
    """How numbers are computed while training.

    Attributes:
        dtype: of the autocast region; None computes in float32.
        scaler: scales float16 losses so that small gradients survive; disabled elsewhere.
    """

    dtype: torch.dtype | None
    scaler: torch.amp.GradScaler

    @classmethod
    def choose(cls, amp: str, device: torch.device) -> Precision:
        """What `--amp` means on a device: auto is fp16 on CUDA, bf16 on CPUs that have it."""
        dtypes = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}
        dtype = dtypes[amp] if amp in dtypes else _automatic_dtype(device)
        scaled = dtype is torch.float16 and device.type == "cuda"
        return cls(dtype, torch.amp.GradScaler(device.type, enabled=scaled))

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """The region in which forward passes run."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(device.type, dtype=self.dtype)


def _automatic_dtype(device: torch.device) -> torch.dtype | None:
    if device.type == "cuda":
        return torch.float16
    if device.type == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16", False):
        return torch.bfloat16
    return None
