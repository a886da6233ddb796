"""Inference on a GPU: networks before and after folding, and convolutions of each kernel size.

Each function measures one section of `benchmarks.gpu`; see `benchmarks.gpu_training`.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu_setting import BLOCKS, GpuSetting
from benchmarks.time_budget import RoundLimit
from benchmarks.timed_training import used_mb
from experiments.block_costs import PLAIN, interleaved_ms
from models.conversion.deploy import to_deploy
from utils.device import forget_peak, peak_memory_mb

NOT_FOLDED, FOLDED = "as trained", "folded"
DTYPES = {"float32": torch.float32, "float16": torch.float16}
KERNELS = (1, 3, 5, 7)
# Name -> dtype, and whether float32 products may be rounded to TF32.
PRECISIONS = {
    "float32": (torch.float32, False),
    "TF32": (torch.float32, True),
    "float16": (torch.float16, False),
}


def network_names(cfg: str) -> tuple[str, str]:
    """The plain network and the one with RepVGG blocks."""
    stem = Path(cfg).stem
    return stem, f"rep{stem}"


def run_name(network: str, form: str, dtype: str, batch_size: int) -> str:
    """What the section calls a measurement."""
    return f"{network}, {form}, {dtype}, batch {batch_size}"


@torch.no_grad()
def inference(bench: GpuSetting, limit: RoundLimit) -> Iterator[dict[str, Any]]:
    """The network alone, channels last: milliseconds per image, and MB at the most."""
    device, size = bench.device, bench.steps.inference_size
    work: dict[str, Callable[[], object]] = {}
    images: dict[str, int] = {}
    peak_mb: dict[str, float] = {}
    for name, family in zip(network_names(bench.steps.cfg), (PLAIN, BLOCKS), strict=True):
        model = bench.steps.build(family).eval()
        forms = {NOT_FOLDED: model, FOLDED: to_deploy(model)}
        for (form, network), (word, dtype) in itertools.product(forms.items(), DTYPES.items()):
            placed = copy.deepcopy(network).to(device, dtype).to(memory_format=torch.channels_last)
            for batch_size in bench.inference_batches:
                key = run_name(name, form, word, batch_size)
                x = torch.rand(batch_size, 3, size, size).to(device, dtype)
                x = x.contiguous(memory_format=torch.channels_last)
                times = max(bench.repeats // batch_size, 2)
                work[key], images[key] = _repeated(placed, x, times), times * batch_size
                peak_mb[key] = _peak_mb(placed, x)
    ms = interleaved_ms(work, bench.steps.rounds, device, limit.reached)
    per_image = {key: [value / images[key] for value in values] for key, values in ms.items()}
    yield {"ms_per_image": per_image, "peak_mb": peak_mb}


def _repeated(network: nn.Module, x: Tensor, times: int) -> Callable[[], None]:
    def call() -> None:
        for _ in range(times):
            network(x)

    return call


def _peak_mb(network: nn.Module, x: Tensor) -> float:
    """MB that a forward pass takes at the most, weights and input not counted."""
    forget_peak(x.device)
    before = used_mb(x.device)
    network(x)
    return (peak_memory_mb(x.device) or 0.0) - before


@torch.no_grad()
def density(bench: GpuSetting, limit: RoundLimit) -> Iterator[dict[str, Any]]:
    """TFLOP per second of one convolution with kernels of each size, as in RepVGG's table."""
    batch_size, channels, size = bench.map_batch, bench.channels, bench.map_size
    flops: dict[str, float] = {}
    work: dict[str, Callable[[], object]] = {}
    maps = torch.randn(batch_size, channels, size, size, device=bench.device)
    for (word, (dtype, tf32)), kernel in itertools.product(PRECISIONS.items(), KERNELS):
        conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False)
        key = density_name(word, kernel)
        work[key] = _with_tf32(conv.to(bench.device, dtype), maps.to(dtype), tf32=tf32)
        flops[key] = 2.0 * batch_size * (channels * kernel * size) ** 2
    ms = interleaved_ms(work, bench.steps.rounds, bench.device, limit.reached)
    yield {
        "convolution": f"{batch_size} maps of {size} x {size}, {channels} to {channels} channels",
        "tflop_per_s": {key: [flops[key] / value / 1e9 for value in values]
                        for key, values in ms.items()},
    }  # fmt: skip


def density_name(precision: str, kernel: int) -> str:
    """What the section calls a convolution."""
    return f"{precision}, {kernel} x {kernel}"


def _with_tf32(conv: nn.Module, maps: Tensor, *, tf32: bool) -> Callable[[], None]:
    def call() -> None:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=tf32):
            conv(maps)

    return call
