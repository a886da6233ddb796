"""PASCAL VOC 2007 as the experiments need it: boxes marked difficult are ignored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from utils.strict_yaml import write_yaml

SPLITS = ("train", "val")


def voc_yaml_without_difficult(shared: Path, folder: Path) -> Path:
    """Write a data yaml into `folder` that reads the images in place.

    Difficult boxes are crowd regions: not learned, neither hit nor missed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, root = folder / "voc07_without_difficult.yaml", shared / "data" / "voc07"
    splits: dict[str, Any] = {}
    for split in SPLITS:
        annotations = folder / f"voc07_{split}.json"
        annotations.write_text(json.dumps(_coco_json(root, split, class_names(shared))))
        splits[split] = {"images": "images", "annotations": str(annotations)}
    write_yaml(path, {"path": str(root), **splits, "names": class_names(shared)})
    return path


def class_names(shared: Path) -> list[str]:
    """The 20 names in class-id order."""
    return (shared / "data" / "voc07" / "classes.txt").read_text(encoding="utf-8").split()


def _coco_json(root: Path, split: str, names: list[str]) -> dict[str, Any]:
    difficult = _difficult_lines(root / "difficult.txt")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, line in enumerate((root / f"{split}.txt").read_text().split(), 1):
        stem = Path(line).stem
        height, width = _image_hw(root / line)
        images.append({"id": number, "file_name": f"{stem}.jpg", "height": height, "width": width})
        rows = (root / "labels" / f"{stem}.txt").read_text().splitlines()
        for row, text in enumerate(rows):
            class_id, *box = text.split()
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": int(class_id),
                "bbox": _corner_box([float(value) for value in box], width, height),
                "iscrowd": int(row in difficult.get(stem, ())),
            })  # fmt: skip
    for annotation in annotations:
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    categories = [{"id": number, "name": name} for number, name in enumerate(names)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _difficult_lines(path: Path) -> dict[str, set[int]]:
    """Stem -> lines of its label file, from 0, whose boxes are marked difficult."""
    rows = (line.split() for line in path.read_text().splitlines())
    return {stem: {int(number) for number in numbers} for stem, *numbers in rows}


def _image_hw(path: Path) -> tuple[int, int]:
    from PIL import Image  # here: nothing else of this module needs it

    with Image.open(path) as image:
        return image.height, image.width


def _corner_box(box: list[float], width: int, height: int) -> list[float]:
    """Centre and size as shares of the image -> x, y, w, h in pixels."""
    x, y, w, h = box
    return [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
