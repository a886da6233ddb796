"""The same image in every runtime: `python -m experiments.same_boxes --weights W --data D`.

Exports a network with the presets of VERIFIED, whose packages are needed, and draws the detections
of each in one image side by side. Fails where a box is missing (except at the score threshold), or
where its IoU with PyTorch's is at most 0.999, or its score differs by 0.001 or more; in 8-bit files
0.9 and 0.05.
Without arguments it takes the network and an image of `make demo`.
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from data.check_images import letterboxed
from data.image_file import read_image
from experiments.agreement import Agreement
from experiments.training_runs import ROOT, run_script
from models.formats.presets import PRESETS
from models.runtimes.open_runner import open_runner
from utils.draw import draw_detections
from utils.image_output import write_image
from utils.letterbox import to_pixels
from utils.logs import configure_logging
from utils.plots.image_grid import tile_images
from utils.postprocess import PostprocessConfig, postprocess
from utils.structures import Detections

logger = logging.getLogger(__name__)
ENLARGED = 3
RULES = PostprocessConfig()
DEMO = ROOT / "runs" / "demo"
IMAGE = ROOT / "docs" / "images" / "same_boxes.jpg"
VERIFIED = ("onnx", "e2e", "opencv4", "npu", "torchscript", "ncnn", "openvino", "qdq-u8",
            "openvino-int8", "rknn")  # fmt: skip


def is_close(agreement: Agreement, preset: str) -> bool:
    """Whether detections agree within the limits of a preset: looser for 8 bits than for float.

    Objects within the score limit of the threshold may be in only one of the lists.
    """
    min_iou, max_difference = (0.9, 0.05) if PRESETS[preset].quantization else (0.999, 0.001)
    return (
        agreement.max_unpaired_score < RULES.score_threshold + max_difference
        and agreement.min_iou > min_iou
        and agreement.score_difference < max_difference
    )


def found_by(
    weights: Path, data: Path, image: Path, image_size: int, folder: Path
) -> dict[str, Detections]:
    """Detections of PyTorch and every preset in an image, in pixels of the network input."""
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
    """Export, compare and draw; returns 1 if a preset exceeds its limits."""
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
        agreement = Agreement.of(found["PyTorch"], found[preset])
        close = is_close(agreement, preset)
        bad += not close
        logger.info(
            "%s: %d objects, max unpaired score %.2f, min IoU %.4f, max score difference %.4f%s",
            preset, len(found[preset]), agreement.max_unpaired_score, agreement.min_iou,
            agreement.score_difference, "" if close else "  <- exceeds the limits",
        )  # fmt: skip
    image = letterboxed([read_image(given.image)], (given.imgsz, given.imgsz))[0]
    pixels = np.ascontiguousarray(to_pixels(image.transpose(1, 2, 0)))
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
