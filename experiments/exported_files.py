"""What each preset of export.py keeps: `python -m experiments.exported_files --shared DIR`.

Exports the official yolov5n weights with every preset, judges each file on coco128 (INT8 is
calibrated on one half of the pictures, everything is judged on the other), and compares the boxes
that the same picture gives in every runtime. Let nothing else run meanwhile: times are measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data.image_file import read_image
from data.proof_pictures import letterboxed
from experiments.training_runs import REPORTS, ROOT, machine_line, run_script
from models.open_runner import open_runner
from utils.boxes import pairwise_iou
from utils.deploy.presets import PRESETS
from utils.deploy.runner import Runner
from utils.draw import draw_detections, tile_pictures
from utils.image_output import write_image
from utils.logs import configure_logging
from utils.postprocess import PostprocessConfig, postprocess
from utils.strict_yaml import read_yaml, write_yaml
from utils.structures import Detections, FloatArray
from utils.timing import seconds_in_turn

IMAGE_SIZE = 640
PICTURE = "000000000049.jpg"  # of coco128


def halves(shared: Path, folder: Path) -> Path:
    """A data yaml that learns from every other picture of coco128 and is judged on the rest."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = sorted((shared / "data" / "coco128" / "images" / "train2017").glob("*.jpg"))
    for name, part in (("train", pictures[::2]), ("val", pictures[1::2])):
        text = "\n".join(str(path) for path in part)
        (folder / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
    names = read_yaml(ROOT / "data" / "datasets" / "coco128.yaml")["names"]
    yaml = folder / "coco128_halves.yaml"
    write_yaml(yaml, {"path": str(folder), "train": "train.txt", "val": "val.txt", "names": names})
    return yaml


def export_all(shared: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """The report of every preset, by its name."""
    report, data = folder / "export.json", halves(shared, folder)
    run_script(
        "export.py", "--weights", str(shared / "weights" / "yolov5n.pt"), "--preset", *PRESETS,
        "--data", str(data), "--imgsz", str(IMAGE_SIZE), "--output", str(folder / "files"),
        "--conf-thres", "0.001", "--iou-thres", "0.6", "--topk-all", "300", "--workers", "2",
        "--report", str(report),
    )  # fmt: skip
    return {entry["preset"]: entry for entry in json.loads(report.read_text())["files"]}


def latency_ratios(runners: dict[str, Runner], picture: FloatArray) -> dict[str, float]:
    """Each runtime's median time beside that of the default preset."""
    ratios = {}
    for name, runner in runners.items():  # two at a time: idle runtimes have threads as well
        works = {"onnx": partial(runners["onnx"].run, picture), name: partial(runner.run, picture)}
        found = seconds_in_turn(works)
        pairs = zip(found[name], found["onnx"], strict=True)
        ratios[name] = statistics.median(mine / base for mine, base in pairs)
    return ratios


def agreement(reference: Detections, found: Detections) -> tuple[int, float, float]:
    """Objects of the reference that are found, their least IoU and largest score difference."""
    overlap = pairwise_iou(reference.boxes, found.boxes)
    overlap = np.where(reference.class_ids[:, None] == found.class_ids[None], overlap, 0)
    partner, best = overlap.argmax(1), overlap.max(1)
    has = best > 0.5
    difference = np.abs(reference.scores - found.scores[partner])[has]
    return int(has.sum()), float(best[has].min()), float(difference.max())


def draw_all(
    picture: FloatArray, found: dict[str, Detections], names: tuple[str, ...], out: Path
) -> None:
    """The same picture as every runtime sees it, side by side."""
    pixels = np.ascontiguousarray((picture.transpose(1, 2, 0) * 255).round().astype(np.uint8))
    tiles = [draw_detections(pixels, detections, names) for detections in found.values()]
    write_image(out, tile_pictures(tiles, list(found), max_side=1600))


def write_report(out: Path, entries: dict[str, dict[str, Any]], shared: Path, folder: Path) -> None:
    """The table; and in `folder`, not to be published, the picture as every runtime sees it."""
    checkpoint = shared / "weights" / "yolov5n.pt"
    picture = shared / "data" / "coco128" / "images" / "train2017" / PICTURE
    date = time.strftime("%Y-%m-%d")
    runners = {name: open_runner(entry["path"], device="cpu") for name, entry in entries.items()}
    image = letterboxed([read_image(picture)], (IMAGE_SIZE, IMAGE_SIZE))
    ratios = latency_ratios(runners, image)
    original = open_runner(str(checkpoint), device="cpu")
    rules = PostprocessConfig()
    reference = postprocess(original.run(image)[0], rules)
    found = {name: postprocess(runner.run(image)[0], rules) for name, runner in runners.items()}
    every = {"PyTorch": reference, **found}
    draw_all(image[0], every, original.class_names, folder / "same_picture.jpg")
    lines = [
        f"# Exported files, {date}",
        "",
        "yolov5n.pt of ultralytics/yolov5, 640 px, batch 1. AP on every other picture of coco128 "
        "(64 of them, square inputs); the other 64 calibrate INT8. `e2e` keeps each box's best "
        "class alone (score 0.001, IoU 0.6, 300), others are judged with several classes a box.",
        "",
        f"{machine_line()} Made by `python -m experiments.exported_files`.",
        "",
        "| preset | opened in | MB | operators | worst error (xy, wh, objectness, class) | AP | "
        "time / `onnx` | objects of the picture, least IoU, largest score difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in entries.items():
        errors = ", ".join(f"{value:.0e}" for value in entry["max_rel_error"].values())
        count, overlap, difference = agreement(reference, found[name])
        lines.append(
            f"| `{name}` | {entry['verified']} | {entry['bytes'] / 1e6:.1f} | "
            f"{sum(entry['operators'].values()) or '-'} | {errors} | {entry['AP']:.4f} | "
            f"{ratios[name]:.2f} | {count} of {len(reference)}, {overlap:.3f}, {difference:.3f} |"
        )
    int8 = entries["qdq-u8"]
    tried = ", ".join(f"{name} {AP:.4f}" for name, AP in int8["calibration"]["AP"].items())
    worst = ", ".join(
        f"`{row['name']}` {row['sqnr_db']:.1f} dB" for row in int8["worst_layers"][:3]
    )
    lines += [
        "",
        f"INT8: float32 AP {int8['AP_float']:.4f}; calibrations tried: {tried}; the layers that "
        f"lose most: {worst}; {int8['objectness_values']:,} different objectness values on two "
        "pictures.",
        "",
    ]
    (out / f"exported_files_cpu_{date}.md").write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    """Export, judge, compare, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ and weights/")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "exported_files")
    parser.add_argument("--out", type=Path, default=REPORTS)
    arguments = parser.parse_args()
    configure_logging()
    shared, folder = arguments.shared.resolve(), arguments.runs.resolve()
    entries = export_all(shared, folder)
    write_report(arguments.out, entries, shared, folder)


if __name__ == "__main__":
    main()
