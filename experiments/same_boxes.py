"""The same image in every runtime: `python -m experiments.same_boxes --weights W --data D`.

Exports a network with every preset that is verified here, draws what each finds in one image side
by side, and fails where a box is missing (but for scores at the threshold), or farther from PyTorch
than IoU 0.999 and score 0.001 in float files, 0.9 and 0.05 in 8-bit ones. Without arguments the
network and an image of `make demo` are taken.
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from data.check_images import letterboxed
from data.image_file import read_image
from experiments.training_runs import ROOT, run_script
from models.formats.table import PRESETS
from models.runtimes.open_runner import open_runner
from utils.boxes import pairwise_iou
from utils.draw import draw_detections, tile_images
from utils.image_output import write_image
from utils.logs import configure_logging
from utils.postprocess import PostprocessConfig, postprocess
from utils.structures import Detections

logger = logging.getLogger(__name__)
ENLARGED = 3
RULES = PostprocessConfig()
DEMO = ROOT / "runs" / "demo"
IMAGE = ROOT / "docs" / "images" / "same_boxes.jpg"
VERIFIED = ("onnx", "e2e", "opencv4", "npu", "torchscript", "ncnn", "openvino", "qdq-u8",
            "openvino-int8", "rknn")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Agreement:
    """How near two lists of detections are.

    Attributes:
        alone: the best score of an object that only one of them has; 0 without any.
        min_iou: of the pairs.
        score_difference: the largest of the pairs.
    """

    alone: float
    min_iou: float
    score_difference: float

    @classmethod
    def of(cls, reference: Detections, found: Detections) -> Agreement:
        """Each object with the other list's box of its class that covers it best."""
        overlap = pairwise_iou(reference.boxes, found.boxes)
        overlap = np.where(reference.class_ids[:, None] == found.class_ids[None], overlap, 0)
        partner = overlap.argmax(1) if len(found) else np.zeros(len(reference), np.int64)
        best = overlap.max(1, initial=0)
        has = best > 0.5
        others = np.setdiff1d(np.arange(len(found)), partner[has])
        alone = np.concatenate([reference.scores[~has], found.scores[others]]).max(initial=0)
        differences = np.abs(reference.scores[has] - found.scores[partner[has]])
        return cls(float(alone), float(best[has].min(initial=1)), float(differences.max(initial=0)))

    def within(self, preset: str) -> bool:
        """Whether it is near enough for files of a preset."""
        least, most = limits(preset)
        known = self.alone < RULES.score_threshold + most  # else the threshold explains it
        return known and self.min_iou > least and self.score_difference < most


def limits(preset: str) -> tuple[float, float]:
    """Least IoU and largest difference of scores."""
    return (0.9, 0.05) if PRESETS[preset].quantization else (0.999, 0.001)


def found_by(
    weights: Path, data: Path, image: Path, image_size: int, folder: Path
) -> dict[str, Detections]:
    """What PyTorch and every verified preset find in an image, in pixels of the input."""
    report = folder / "export.json"
    run_script(
        "export.py", "--weights", str(weights), "--preset", *VERIFIED, "--data", str(data),
        "--imgsz", str(image_size), "--output", str(folder), "--workers", "0", "--report",
        str(report), "--max-drop", "100",
    )  # fmt: skip
    files = {entry["preset"]: entry["path"] for entry in json.loads(report.read_text())["files"]}
    batch = letterboxed([read_image(image)], (image_size, image_size))
    return {
        name: postprocess(open_runner(str(path), device="cpu").run(batch)[0], RULES)
        for name, path in {"PyTorch": weights, **files}.items()
    }


def main() -> int:
    """Export, compare, draw; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    demo_image = DEMO / "data" / "images" / "val" / "00034.jpg"
    parser.add_argument("--weights", type=Path, default=DEMO / "train" / "weights" / "best.pt")
    parser.add_argument("--data", type=Path, default=DEMO / "data" / "data.yaml")
    parser.add_argument("--image", type=Path, default=demo_image)
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "same_boxes")
    parser.add_argument("--out", type=Path, default=IMAGE)
    given = parser.parse_args()
    configure_logging()
    weights, data, runs = (each.resolve() for each in (given.weights, given.data, given.runs))
    found = found_by(weights, data, given.image, given.imgsz, runs)
    bad = 0
    for preset in VERIFIED:
        near = Agreement.of(found["PyTorch"], found[preset])
        bad += not near.within(preset)
        logger.info(
            "%s: %d objects, best one alone %.2f, least IoU %.4f, largest score difference %.4f%s",
            preset, len(found[preset]), near.alone, near.min_iou, near.score_difference,
            "" if near.within(preset) else "  <- too far",
        )  # fmt: skip
    image = letterboxed([read_image(given.image)], (given.imgsz, given.imgsz))[0]
    pixels = np.ascontiguousarray((image.transpose(1, 2, 0) * 255).round().astype(np.uint8))
    names = open_runner(str(given.weights), device="cpu").class_names
    large = cv2.resize(pixels, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_CUBIC)
    tiles = [
        draw_detections(
            large.astype(np.uint8), replace(each, boxes=each.boxes * np.float32(ENLARGED)), names
        )
        for each in found.values()
    ]
    write_image(given.out, tile_images(tiles, list(found), max_side=1600))
    return int(bad > 0)


if __name__ == "__main__":
    raise SystemExit(main())
