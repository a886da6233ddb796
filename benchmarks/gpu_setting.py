"""What `benchmarks.gpu` measures with: networks, sizes, data and the machine."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from benchmarks.timed_training import host_batch
from experiments.block_costs import FAMILIES, PLAIN, Setting
from utils.batches import Batch
from utils.device import choose_device, describe_device
from utils.engine.training_state import StateConfig

BLOCKS = "RepVGG"  # of repyolov5
# Compiling takes a minute each: in order of what is asked first.
COMPILED = (PLAIN, BLOCKS, "OREPA", "DBB", *(f for f in FAMILIES if f not in
            (PLAIN, BLOCKS, "OREPA", "DBB")))  # fmt: skip


@dataclass(frozen=True, slots=True)
class GpuSetting:
    """Sizes of all measurements.

    Attributes:
        steps: network, training size, batch size, device and precision; most rounds.
        batches: that one measurement of training takes.
        families: of blocks, the plain network first.
        compiled: families that are compiled, as far as time allows.
        inference_batches: images at a time.
        repeats: about how many images one measurement of inference takes, beyond the batch.
        channels: of the convolutions whose density is measured.
        map_size: side of their maps.
        map_batch: maps at a time.
        loader_images: of one epoch of the loader.
        shared: folder that may hold data/coco128, else images are drawn.
        folder: for files that are needed while it runs.
        peer_python: Python with the package yolov5; empty looks for one.
    """

    steps: Setting
    batches: int = 5
    families: tuple[str, ...] = FAMILIES
    compiled: tuple[str, ...] = COMPILED
    inference_batches: tuple[int, ...] = (1, 32)
    repeats: int = 20
    channels: int = 2048
    map_size: int = 56
    map_batch: int = 32
    loader_images: int = 2048
    shared: Path = field(default_factory=Path)
    folder: Path = field(default_factory=Path)
    peer_python: str = ""

    @property
    def device(self) -> torch.device:
        """Where everything runs."""
        return self.steps.device

    @property
    def images(self) -> int:
        """How many one measurement of training takes."""
        return self.batches * self.steps.batch_size

    def how(self) -> StateConfig:
        """How networks are trained where nothing else is said."""
        return StateConfig(amp=self.steps.amp, channels_last=True)

    def training_batches(self) -> tuple[Batch, ...]:
        """The made-up batch, as often as one measurement needs it."""
        return (host_batch(self.steps),) * self.batches


def full_setting(device: str, shared: Path, folder: Path, peer_python: str) -> GpuSetting:
    """What is measured on a GPU.

    Raises:
        ConfigError: there is no such device.
    """
    chosen = choose_device(device)
    amp = "fp16" if chosen.type == "cuda" else "off"
    steps = Setting("yolov5s.yaml", 640, 64, rounds=12, device=chosen, amp=amp)
    return GpuSetting(steps, shared=shared, folder=folder, peer_python=peer_python)


def rehearsal(full: GpuSetting) -> GpuSetting:
    """The same with sizes that a CPU does in seconds: the figures mean nothing."""
    steps = replace(full.steps, cfg="yolov5n.yaml", image_size=64, batch_size=2, rounds=1,
                    inference_size=64)  # fmt: skip
    return replace(
        full, steps=steps, batches=1, compiled=(PLAIN,), inference_batches=(1, 2), repeats=2,
        channels=8, map_size=8, map_batch=1, loader_images=8,
    )  # fmt: skip


def describe_machine(device: torch.device) -> str:
    """Card, driver and libraries, or the processor."""
    if device.type != "cuda":
        return describe_device(device)
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        driver = done.stdout.strip().splitlines()[0] if done.stdout.strip() else "unknown"
    except OSError:
        driver = "unknown"
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return f"{describe_device(device)}, driver {driver}, CUDA {torch.version.cuda}, cuDNN {cudnn}"
