"""Small data sets written to a temporary folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from utils.structures import ImageArray, ImageRecord, Targets

NAMES = ("cat", "dog", "owl")


def noise(hw: tuple[int, int], seed: int = 0) -> ImageArray:
    """A smooth random image, so that JPEG keeps it nearly as it is."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, hw[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def write_image(path: Path, hw: tuple[int, int] = (48, 64), seed: int = 0) -> Path:
    """An image file in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done, content = cv2.imencode(path.suffix, noise(hw, seed)[..., ::-1])
    assert done
    path.write_bytes(content.tobytes())
    return path


def write_yolo_set(folder: Path, labels: Mapping[str, str | None], hw=(48, 64)) -> Path:
    """Images `images/<stem>.png` with `labels/<stem>.txt` (None: no label file), and a yaml."""
    for seed, (stem, text) in enumerate(labels.items()):
        write_image(folder / "images" / f"{stem}.png", hw, seed)
        (folder / "labels").mkdir(exist_ok=True)
        if text is not None:
            (folder / "labels" / f"{stem}.txt").write_text(text, encoding="utf-8")
    return write_yaml(folder, f"train: images\nval: images\nnames: {list(NAMES)}\n")


def write_yaml(folder: Path, text: str) -> Path:
    """A data yaml whose `path` is its own folder."""
    file = folder / "animals.yaml"
    file.write_text(f"path: .\n{text}", encoding="utf-8")
    return file


def write_coco(file: Path, images: Sequence[dict], annotations: Sequence[dict]) -> Path:
    """A COCO json with categories 3 owl, 7 cat (written in the wrong order)."""
    categories = [{"id": 7, "name": "cat"}, {"id": 3, "name": "owl"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def record(path: Path, hw: tuple[int, int], boxes: Sequence = (), class_ids: Sequence = ()):
    """A record without crowd regions."""
    targets = Targets(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(class_ids, np.int64).reshape(-1)
    )
    areas = np.zeros(len(targets), np.float32)
    return ImageRecord(path, hw, targets, 0, areas, Targets.empty())


def write_records(folder: Path, hws: Sequence[tuple[int, int]]) -> tuple[ImageRecord, ...]:
    """One image per size, each with a box over its middle."""
    records = []
    for number, (height, width) in enumerate(hws):
        path = write_image(folder / f"{number}.png", (height, width), number)
        box = (width / 4, height / 4, width * 3 / 4, height * 3 / 4)
        records.append(record(path, (height, width), [box], [number % len(NAMES)]))
    return tuple(records)
