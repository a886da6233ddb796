"""Small objects with tiles, and SAHI beside: `python -m experiments.tiles --weights yolov5n.pt`.

One network looks at each image whole, then also in tiles, merged in both ways; where SAHI is
installed (`make clients`) its get_sliced_prediction does the same with the same network, letterbox
and suppression. At a score threshold of 0.001, where AP is measured, and of 0.25, where objects are
detected. Time is CPU time of the process, each image once; `--busy` marks it where other programs
run on the machine. Rows that are in the folder of `--runs` already are not measured again.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data.dataset_spec import load_dataset_spec
from data.image_file import read_image
from data.records import read_records
from experiments.training_runs import REPORTS, ROOT, machine_line
from models.runtimes.open_runner import open_networks
from utils.detect.pipeline import Found, FrameDetector, StageClock, prepared
from utils.detect.tiled_detector import TiledDetector
from utils.detect.tiles import TileRules
from utils.letterbox import FittedFrame, InputSize
from utils.logs import Progress, configure_logging
from utils.metrics.coco import coco_metrics
from utils.metrics.matches import match_images
from utils.output_files import write_json
from utils.postprocess import VAL_POSTPROCESS
from utils.strict_yaml import find_shipped, read_yaml, write_yaml
from utils.structures import Detections, Frame, ImageArray, ImageRecord

logger = logging.getLogger(__name__)
IMAGE_SIZE, OVERLAP = 640, 0.2
DATA = ("tiny_coco", "coco128")
TITLES = ("tiny_coco, 50 images of COCO val2017", "coco128, 128 images of COCO train2017")
WHOLE = "whole image"
FIGURES = ("AP", "AP50", "AP_small", "AP_medium", "AP_large", "precision", "recall")
_NO_SIGNS = str.maketrans({" ": "-", "`": None, ",": None})
STAGES = ("decode", "preprocess", "inference", "postprocess")
Find = Callable[[ImageArray], Detections]


@dataclass(slots=True)
class CountingNetwork:
    """A network that counts the images it has seen."""

    runner: Any
    images: int = 0

    @property
    def batch_size(self) -> int | None:
        """Images the file computes at a time; None where any number will do."""
        size: int | None = self.runner.batch_size
        return size

    def run(self, images: Any) -> Any:
        """(B, 3, H, W) -> (B, N, 5 + C)."""
        self.images += len(images)
        return self.runner.run(images)


def finder(detector: FrameDetector) -> Find:
    """What the detector finds in an image."""

    def find(image: ImageArray) -> Detections:
        frame = Frame(image, "", Path("image"), 1, 1, 1, 1, None, False)
        letterbox = detector.size.letterbox(frame.image_hw)
        clock = StageClock(STAGES)
        batch = [FittedFrame(0, frame, letterbox)]
        (found,) = detector.find(prepared([batch], clock), clock)
        return found.detections if isinstance(found, Found) else Detections.empty()

    return find


@dataclass(slots=True)
class SahiModel:
    """A detector behind the interface of sahi.models.base.DetectionModel."""

    find: Find
    confidence_threshold: float
    class_names: Sequence[str]
    device: str = "cpu"
    object_prediction_list_per_image: list[Any] = field(default_factory=list)
    _found: list[Detections] = field(default_factory=list)

    @property
    def object_prediction_list(self) -> list[Any]:
        """Of the first image."""
        found: list[Any] = self.object_prediction_list_per_image[0]
        return found

    def perform_inference(self, image: ImageArray) -> None:
        """One image."""
        self._found = [self.find(image)]

    def perform_batch_inference(self, images: Sequence[ImageArray]) -> None:
        """Several images."""
        self._found = [self.find(image) for image in images]

    def convert_original_predictions(self, shift_amount: Any, full_shape: Any) -> None:
        """Make SAHI's objects of what was found last."""
        made = importlib.import_module("sahi.prediction").ObjectPrediction
        shifts = shift_amount if isinstance(shift_amount[0], list) else [shift_amount]
        shapes = full_shape if isinstance(full_shape[0], list) else [full_shape]
        self.object_prediction_list_per_image = [
            [
                made(bbox=box, category_id=class_id, category_name=self.class_names[class_id],
                     score=score, shift_amount=shift, full_shape=shape)
                for box, score, class_id in zip(
                    found.boxes.tolist(), found.scores.tolist(), found.class_ids.tolist(),
                    strict=True,
                )
                # SAHI makes an error of boxes without area.
                if box[0] < box[2] and box[1] < box[3]
            ]
            for found, shift, shape in zip(self._found, shifts, shapes, strict=True)
        ]  # fmt: skip


def sahi_finder(find: Find, threshold: float, class_names: Sequence[str], side: int) -> Find:
    """What SAHI finds with its own defaults: GREEDYNMM of IoS 0.5, or NMS below a score of 0.1."""
    predict = importlib.import_module("sahi.predict").get_sliced_prediction
    model = SahiModel(find, threshold, class_names)

    def find_sliced(image: ImageArray) -> Detections:
        result = predict(
            image, model, slice_height=side, slice_width=side, overlap_height_ratio=OVERLAP,
            overlap_width_ratio=OVERLAP, verbose=0,
        )  # fmt: skip
        rows = [[*each.bbox.to_xyxy(), each.score.value, each.category.id]
                for each in result.object_prediction_list]  # fmt: skip
        table = np.array(rows, np.float32).reshape(-1, 6)
        table = table[np.argsort(-table[:, 4], kind="stable")][: VAL_POSTPROCESS.max_detections]
        return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))

    return find_sliced


def finders(weights: str, side: int, threshold: float) -> tuple[CountingNetwork, dict[str, Find]]:
    """Ways to look at an image, by their names in the report."""
    runner = open_networks([weights], device="cpu")
    network = CountingNetwork(runner)
    rules = replace(VAL_POSTPROCESS, score_threshold=threshold)
    size = InputSize((IMAGE_SIZE, IMAGE_SIZE), runner.stride)
    plain = FrameDetector(network, runner.class_names, size, rules)
    ways = {WHOLE: finder(plain)}
    for merge in ("nms", "nmm"):
        if merge == "nmm" and threshold < 0.1:
            continue
        tiles = TileRules((side, side), OVERLAP, merge)
        ways[f"`--tile {side}`, {merge}"] = finder(TiledDetector.of(plain, tiles))
    if importlib.util.find_spec("sahi") is not None:
        ways["SAHI"] = sahi_finder(finder(plain), threshold, runner.class_names, side)
    return network, ways


def measured(
    find: Find,
    network: CountingNetwork,
    records: Sequence[ImageRecord],
    class_names: Sequence[str],
) -> dict[str, float]:
    """COCO's figures, and per image CPU seconds and images that the network sees."""
    found: dict[int, Detections] = {}
    seconds, before = 0.0, network.images
    for record in Progress(records, len(records), "tiles"):
        image = read_image(record.path)
        start = time.process_time()
        found[record.image_id] = find(image)
        seconds += time.process_time() - start
    metrics = coco_metrics(match_images(records, found, len(class_names)), class_names)
    return {
        **{name: getattr(metrics, name) for name in FIGURES},
        "images": (network.images - before) / len(records),
        "seconds": seconds / len(records),
    }


def measured_once(file: Path, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """The figures in `file`; where it is not there, they are measured and written."""
    if not file.exists():
        write_json(file, measure())
    content: dict[str, float] = json.loads(file.read_text(encoding="utf-8"))
    return content


def table(weights: str, data: Path, side: int) -> list[str]:
    """Rows of the report for one data set."""
    spec = load_dataset_spec(str(data))
    records = read_records(spec, "val", strict=False, single_class=False)
    lines = [
        "| scores above | | AP | AP50 | AP small | medium | large | precision | recall | images "
        "the network sees | CPU time |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for threshold in (0.001, 0.25):
        network, ways = finders(weights, side, threshold)
        rows: dict[str, dict[str, float]] = {}
        for name, find in ways.items():
            measure = partial(measured, find, network, records, spec.class_names)
            file = f"{data.stem}-{threshold:g}-{name.translate(_NO_SIGNS)}.json"
            row = rows[name] = measured_once(data.with_name(file), measure)
            times = row["seconds"] / rows[WHOLE]["seconds"]
            cells = [f"{threshold:g}", name, *(f"{row[figure]:.3f}" for figure in FIGURES),
                     f"{row['images']:.1f}", f"{times:.1f}"]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
            logger.info("%s", lines[-1])
    return lines


def data_yamls(shared: Path, folder: Path) -> tuple[Path, Path]:
    """Write data yamls into `folder` that read DATA in place."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny, coco128 = folder / "tiny_coco.yaml", folder / "coco128.yaml"
    splits = {
        split: {"images": f"{split}2017", "annotations": f"annotations/instances_{split}2017.json"}
        for split in ("train", "val")
    }
    write_yaml(tiny, {"path": str(shared / "data" / "tiny_coco"), **splits})
    shipped = read_yaml(find_shipped("coco128.yaml", ROOT / "data" / "datasets"))
    write_yaml(coco128, {**shipped, "path": str(shared / "data" / "coco128")})
    return tiny, coco128


def main() -> None:
    """Measure both data sets and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", required=True)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--tile", type=int, default=320)
    parser.add_argument("--data", nargs="+", choices=DATA, default=DATA)
    parser.add_argument("--busy", action="store_true", help="other programs run on the machine")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "tiles")
    parser.add_argument("--out", type=Path, default=REPORTS)
    given = parser.parse_args()
    configure_logging()
    date = time.strftime("%Y-%m-%d")
    busy = ", while other programs ran on the machine: a rough guide" if given.busy else ""
    lines = [
        f"# Small objects with tiles, {date}",
        "",
        f"{Path(given.weights).name}, {IMAGE_SIZE} px, tiles of {given.tile} px that share "
        f"{OVERLAP:g} of a side, the whole image seen, too; every network input has "
        f"{IMAGE_SIZE} px. SAHI (where it is in the table) runs with its defaults and the same "
        "network, letterbox and suppression. CPU time is that of the whole image alone times the "
        f"figure{busy}.",
        "",
        f"{machine_line()} Made by `python -m experiments.tiles`.",
    ]
    yamls = data_yamls(given.shared, given.runs)
    for title, data in zip(TITLES, yamls, strict=True):
        if data.stem not in given.data:
            continue
        lines += ["", f"## {title}", "", *table(given.weights, data, given.tile)]
    path = given.out / f"tiles_cpu_{date}.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
