"""The yardstick of the recipe: yolov5n trained by the package yolov5 from PyPI, in its own Python.

It gets the same images, boxes, size, batch and epochs, and its weights are evaluated as ours are.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.dataset_spec import load_dataset_spec
from data.records import read_records
from experiments.block_runs import PRETRAINED, BlockRun, Row, Setting, write_hyp
from experiments.deadline import Deadline
from experiments.limited_training import train_within
from experiments.peer_package import peer_environment
from utils.boxes import xyxy_to_cxcywh
from utils.strict_yaml import write_yaml

PEER = Row("plain, by the package yolov5", "none")
PROGRAM = Path(__file__).parent / "peer_training_program.py"
SPLITS = ("train", "val")


@dataclass(frozen=True, slots=True)
class PeerRun(BlockRun):
    """A run of the package: a job of `run_queue`.

    Attributes:
        python: that has the package.
    """

    python: Path = Path()

    def train(self, deadline: Deadline) -> None:
        """Train or go on, until the deadline at the latest.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        setting = self.setting
        data = write_yolo_copy(self.data, setting.runs / f"{setting.data_name}_yolo")
        weights = str(setting.shared / "weights" / PRETRAINED)
        arguments = {
            "data": str(data), "hyp": str(self.hyp), "cfg": "yolov5n.yaml",
            "weights": weights if setting.start == PRETRAINED else "", "seed": self.seed,
            "epochs": setting.epochs, "imgsz": setting.image_size,
            "batch_size": setting.batch_size, "noautoanchor": True, "noplots": True,
            "cache": "ram", "workers": setting.threads, "device": setting.device,
            "project": str(self.folder.parent), "name": self.folder.name, "exist_ok": True,
        }  # fmt: skip
        # Isolated: neither this project's packages nor the user's are on its path.
        command = (str(self.python), "-I", str(PROGRAM), str(self.folder), json.dumps(arguments))
        program = self.program(*command, **peer_environment(self.folder))
        train_within(program, self.folder, setting.epochs, deadline)


def peer_run(setting: Setting, seed: int, python: Path) -> PeerRun:
    """The run of the package with one seed, by the Python that has it."""
    return PeerRun(setting, PEER, seed, setting.data(), write_hyp(setting), python=python)


def write_yolo_copy(data: Path, folder: Path) -> Path:
    """Copy a data set with YOLO labels into `folder`, once; regions to be ignored are dropped.

    Args:
        data: data yaml with the splits train and val.
        folder: for its images, labels and data yaml.

    Returns:
        The data yaml, which is written last.
    """
    copy = folder / "data.yaml"
    if copy.exists():
        return copy
    spec = load_dataset_spec(str(data))
    for split in SPLITS:
        for part in ("images", "labels"):
            (folder / part / split).mkdir(parents=True, exist_ok=True)
        for record in read_records(spec, split):
            shutil.copyfile(record.path, folder / "images" / split / record.path.name)
            height, width = record.image_hw
            size = np.array([width, height] * 2, np.float32)
            rows = xyxy_to_cxcywh(record.targets.boxes) / size
            text = "".join(
                f"{class_id} {' '.join(f'{value:.6f}' for value in row)}\n"
                for class_id, row in zip(record.targets.class_ids, rows, strict=True)
            )
            (folder / "labels" / split / f"{record.path.stem}.txt").write_text(text)
    splits = {split: f"images/{split}" for split in SPLITS}
    names = dict(enumerate(spec.class_names))
    write_yaml(copy, {"path": str(folder), **splits, "nc": len(names), "names": names})
    return copy
