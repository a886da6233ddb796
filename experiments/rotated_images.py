"""A validation split rotated by 180 degrees, images and boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data.dataset_spec import load_dataset_spec
from data.image_file import read_image
from data.records import read_records
from utils.image_output import write_image
from utils.output_files import write_text
from utils.strict_yaml import write_yaml
from utils.structures import ImageRecord


def write_rotated_val(data: Path, folder: Path) -> Path:
    """Write the rotated images with YOLO labels into `folder`, once; returns its data yaml."""
    yaml = folder / "rotated.yaml"
    if yaml.exists():
        return yaml
    spec = load_dataset_spec(str(data))
    for record in read_records(spec, "val"):
        image = read_image(record.path)
        turned = np.ascontiguousarray(image[::-1, ::-1])
        write_image(folder / "images" / f"{record.path.stem}.png", turned)
        write_text(folder / "labels" / f"{record.path.stem}.txt", _turned_labels(record))
    names = list(spec.class_names)
    write_yaml(yaml, {"path": str(folder), "train": "images", "val": "images", "names": names})
    return yaml


def _turned_labels(record: ImageRecord) -> str:
    height, width = record.image_hw
    lines = []
    for box, class_id in zip(record.targets.boxes, record.targets.class_ids, strict=True):
        x1, y1, x2, y2 = (float(value) for value in box)
        centre = 1 - (x1 + x2) / 2 / width, 1 - (y1 + y2) / 2 / height
        size = (x2 - x1) / width, (y2 - y1) / height
        lines.append(f"{class_id} " + " ".join(f"{value:.8f}" for value in (*centre, *size)))
    return "\n".join(lines) + "\n"
