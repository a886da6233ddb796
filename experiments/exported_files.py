"""Accuracy and latency of each preset of export.py: `python -m experiments.exported_files --help`.

Exports three networks with every preset (all packages of requirements-deploy.txt and the RKNN
toolkit are needed), evaluates each file, measures its latency relative to the default preset, and
compares the boxes of one image in every runtime:
the official yolov5n weights on one half of coco128 (8-bit files are calibrated on the other half),
a repyolov5n trained on blood cells (by experiments.bccd_training) on their val split, and a
repyolov5n-npu trained on the same. Exports that have a report already are not repeated. Latency is
measured: run nothing else at the same time.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from data.check_images import letterboxed
from data.image_file import read_image
from experiments.agreement import Agreement
from experiments.training_runs import REPORTS, ROOT, bccd_yaml, machine_line, run_script
from models.formats.presets import PRESETS
from models.runtimes.open_runner import open_runner
from models.runtimes.runner import Runner
from utils.logs import configure_logging
from utils.output_files import write_text
from utils.postprocess import PostprocessConfig, postprocess
from utils.strict_yaml import read_yaml, write_yaml
from utils.structures import FloatArray
from utils.timing import seconds_in_turn

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Network:
    """A trained network and what it is evaluated on.

    Attributes:
        description: for the report.
        folder: for its files.
        weights: the checkpoint.
        data: data yaml.
        image: to compare boxes on.
        image_size: side of the input in pixels.
        presets: to export with.
    """

    description: str
    folder: Path
    weights: Path
    data: Path
    image: Path
    image_size: int
    presets: tuple[str, ...] = tuple(PRESETS)


def halves(shared: Path, folder: Path) -> Path:
    """A data yaml that learns from every other image of coco128 and is evaluated on the rest."""
    folder.mkdir(parents=True, exist_ok=True)
    images = sorted((shared / "data" / "coco128" / "images" / "train2017").glob("*.jpg"))
    for name, part in (("train", images[::2]), ("val", images[1::2])):
        text = "\n".join(str(path) for path in part)
        (folder / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
    names = read_yaml(ROOT / "data" / "datasets" / "coco128.yaml")["names"]
    yaml = folder / "coco128_halves.yaml"
    write_yaml(yaml, {"path": str(folder), "train": "train.txt", "val": "val.txt", "names": names})
    return yaml


def networks(shared: Path, bccd: Path, npu: Path, folder: Path) -> tuple[Network, ...]:
    """The three networks; `bccd` and `npu` are trained checkpoints, `folder` is for files."""
    coco, cells = shared / "data" / "coco128", shared / "data" / "bccd"
    return (
        Network(
            "yolov5n.pt of ultralytics/yolov5 (SiLU), 640 px, every other image of coco128 (64; "
            "the other 64 calibrate)",
            folder / "yolov5n", shared / "weights" / "yolov5n.pt",
            halves(shared, folder / "coco"),
            coco / "images" / "train2017" / "000000000049.jpg", 640,
        ),
        Network(
            "repyolov5n (RepVGG blocks, LeakyReLU) trained on blood cells (bccd), 320 px, its val "
            "split (87; 100 of train calibrate)",
            folder / "repyolov5n", bccd, bccd_yaml(shared, folder / "bccd"),
            cells / "JPEGImages" / "BloodImage_00010.jpg", 320,
        ),
        Network(
            "repyolov5n-npu (3x3 stem, QARepVGG blocks, ReLU) trained on blood cells with the "
            "fine-tuned yolov5n as teacher (60 epochs, seed 0), 320 px, the same val split",
            folder / "npu", npu, bccd_yaml(shared, folder / "bccd"),
            cells / "JPEGImages" / "BloodImage_00010.jpg", 320,
            ("onnx", "npu", "qdq-u8", "openvino-int8", "rknn"),
        ),
    )  # fmt: skip


def exported(network: Network, preset: str) -> dict[str, Any]:
    """The report entry of one preset, exported unless its report exists."""
    report = network.folder / f"{preset}.json"
    if not report.exists():
        logger.info("exporting %s", preset)
        network.folder.mkdir(parents=True, exist_ok=True)
        as_val = ["--conf-thres", "0.001", "--iou-thres", "0.6", "--topk-all", "300"]
        run_script(
            "export.py", "--weights", str(network.weights), "--preset", preset,
            "--data", str(network.data), "--imgsz", str(network.image_size), "--output",
            str(network.folder / "files"), "--workers", "2", "--report", str(report),
            *(as_val if preset == "e2e" else ()),
        )  # fmt: skip
    (entry,) = json.loads(report.read_text())["files"]
    found: dict[str, Any] = entry
    return found


def latency_ratio(runner: Runner, default: Runner, image: FloatArray) -> float:
    """Median latency divided by the default preset's, measured in alternation."""
    # Two at a time: idle runtimes have threads as well.
    functions = {"default": partial(default.run, image), "this": partial(runner.run, image)}
    found = seconds_in_turn(functions)
    pairs = zip(found["this"], found["default"], strict=True)
    return statistics.median(mine / base for mine, base in pairs)


def table(network: Network) -> list[str]:
    """The markdown rows of one network, and a line on its 8-bit files."""
    rules, entries = (
        PostprocessConfig(),
        {name: exported(network, name) for name in network.presets},
    )
    image = letterboxed([read_image(network.image)], (network.image_size, network.image_size))
    reference = postprocess(open_runner(str(network.weights), device="cpu").run(image)[0], rules)
    default = open_runner(entries["onnx"]["path"], device="cpu")
    rows = []
    for name, entry in entries.items():
        runner = open_runner(entry["path"], device="cpu")
        agreement = Agreement.of(reference, postprocess(runner.run(image)[0], rules))
        # The latency of a simulator is not that of the chip.
        is_simulated = PRESETS[name].runtime.simulated
        ratio = "-" if is_simulated else f"{latency_ratio(runner, default, image):.2f}"
        errors = ", ".join(f"{value:.0e}" for value in entry["max_rel_error"].values())
        rows.append(
            f"| `{name}` | {entry['verified']} | {entry['bytes'] / 1e6:.1f} | "
            f"{sum(entry['operators'].values()) or '-'} | {errors} | {entry['AP']:.4f} | "
            f"{lost(entry)} | {ratio} | {agreement.pairs} of {len(reference)}, "
            f"{agreement.min_iou:.3f}, {agreement.score_difference:.3f} |"
        )
    worst = ", ".join(
        f"`{row['name']}` {row['sqnr_db']:.1f} dB" for row in entries["qdq-u8"]["worst_layers"][:3]
    )
    cycles = entries["rknn"]["npu"]["cycles"]
    return [
        *rows,
        "",
        f"`qdq-u8`: the layers that lose most: {worst}; "
        f"{entries['qdq-u8']['objectness_values']:,} different objectness values on two images. "
        f"`rknn`: {entries['rknn']['npu']['layers']} layers, {cycles:,} cycles by the compiler's "
        "count.",
        "",
    ]


def lost(entry: dict[str, Any]) -> str:
    """AP points relative to the float32 file with their interval; `-` for float files."""
    if "AP_difference" not in entry:
        return "-"
    between = {key: 100 * value for key, value in entry["AP_difference"].items()}
    return (
        f"{between['difference']:+.1f} ({between['low']:+.1f} to {between['high']:+.1f}), "
        f"{entry['calibration']['method']}"
    )


def main() -> None:
    """Export what is missing, evaluate, compare, and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ and weights/")
    parser.add_argument("--bccd", type=Path, required=True, help="repyolov5n trained on bccd")
    parser.add_argument("--npu", type=Path, required=True, help="repyolov5n-npu trained on bccd")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "exported_files")
    parser.add_argument("--out", type=Path, default=REPORTS)
    given = parser.parse_args()
    configure_logging()
    date = time.strftime("%Y-%m-%d")
    lines = [
        f"# Exported files, {date}",
        "",
        "Every preset of export.py, batch 1, square inputs. Error: the largest against PyTorch on "
        "four images and noise, by group of columns. Points: AP in 8 bits less that of the "
        "float32 file, with a 95 % interval (1000 paired draws of images), and the calibration "
        "that was best on the evaluated images. `e2e` keeps each box's best class alone (score "
        "0.001, IoU 0.6, 300), others with several classes a box. The last column: one "
        "image, score 0.25. Times include decoding raw maps in numpy.",
        "",
        f"{machine_line()} Made by `python -m experiments.exported_files`.",
        "",
    ]
    paths = (given.shared, given.bccd, given.npu, given.runs)
    for network in networks(*(path.resolve() for path in paths)):
        lines += [
            f"## {network.description}",
            "",
            "| preset | verified with | MB | operators | error in xy, wh, objectness, class | AP | "
            "points | time / `onnx` | objects of an image, min IoU, max score difference |",
            "|---|---|---|---|---|---|---|---|---|",
            *table(network),
        ]
    path = given.out / f"exported_files_cpu_{date}.md"
    write_text(path, "\n".join(lines))


if __name__ == "__main__":
    main()
