"""Where the tests of this folder run, and what a run of train.py leaves."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.model_builders import tiny_yaml
from train import train
from utils.strict_yaml import write_yaml
from utils.train_config import TrainConfig


@dataclass(frozen=True, slots=True)
class Machine:
    """A GPU, or the CPU that stands in for it in a rehearsal.

    Attributes:
        device: as `--device` spells it.
        is_gpu: whether it is one.
        image_size: side of the network input in pixels.
        images: of the drawn data set, one in five for validation.
    """

    device: str
    is_gpu: bool
    image_size: int
    images: int

    @property
    def torch_device(self) -> torch.device:
        """What tensors are given."""
        return torch.device("cuda", 0) if self.is_gpu else torch.device("cpu")


GPU = Machine("0", is_gpu=True, image_size=320, images=160)
REHEARSAL = Machine("cpu", is_gpu=False, image_size=64, images=20)


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run of train.py.

    Attributes:
        folder: its files.
        report: what `--report` wrote.
        losses: per epoch, box, objectness and class loss.
    """

    folder: Path
    report: dict[str, Any]
    losses: list[tuple[float, float, float]]

    @property
    def last(self) -> Path:
        """The checkpoint of the last epoch."""
        return self.folder / "weights" / "last.pt"


def train_config(machine: Machine, data: Path, project: Path, **flags: Any) -> TrainConfig:
    """A run of seconds: a tiny network, float32, no images drawn."""
    cfg = project / "tiny.yaml"
    project.mkdir(parents=True, exist_ok=True)
    write_yaml(cfg, tiny_yaml(**flags.pop("yaml", {})))
    settings = {
        "data": str(data),
        "cfg": str(cfg),
        "imgsz": machine.image_size,
        "device": machine.device,
        "epochs": 2,
        "batch_size": 8,
        "workers": 0,
        "amp": "off",
        "noplots": True,
        "noautoanchor": True,
        "project": str(project),
        "report": str(project / "report.json"),
    }
    return TrainConfig(**{**settings, **flags})


def trained(machine: Machine, data: Path, project: Path, **flags: Any) -> Run:
    """Train, and read what the run left."""
    train(train_config(machine, data, project, **flags))
    folder = project / "exp"
    with (folder / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, skipinitialspace=True))
    names = ("train/box_loss", "train/obj_loss", "train/cls_loss")
    losses = [tuple(float(row[name]) for name in names) for row in rows]
    return Run(folder, json.loads((project / "report.json").read_text()), losses)
