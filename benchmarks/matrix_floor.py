"""The floor of a network's time: its multiply-adds as one large matrix product does them."""

from __future__ import annotations

import torch

from benchmarks.rounds import timed

SIDE = 1536  # of the matrices
REPEATS = 3


def matrix_seconds(gflops: float, dtype: torch.dtype) -> float:
    """Seconds that so many 1e9 additions and multiplications take in a large matrix product."""
    left = torch.rand(SIDE, SIDE, dtype=dtype)
    seconds = timed(lambda: torch.mm(left, left), REPEATS)
    return seconds * gflops * 1e9 / (2 * SIDE**3)
