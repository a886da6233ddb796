"""Small objects with tiles, and SAHI beside: `python -m experiments.tiles --weights yolov5n.pt`.

One network looks at each image whole, then also in tiles, merged in both ways; where SAHI is
installed (`make clients`) its get_sliced_prediction does the same with the same network, letterbox
and suppression. At a score threshold of 0.001, where AP is measured, and of 0.25, where objects are
detected. What a network finds in a view is kept in the folder of `--runs` and not computed again.
`--times` measures seconds per image, too: run nothing else then.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data.dataset_spec import DatasetSpec, load_dataset_spec
from data.image_file import read_image
from data.records import read_records
from experiments.training_runs import REPORTS, ROOT, machine_line
from models.runtimes.open_runner import open_networks
from models.runtimes.runner import Runner
from utils.detect.tiles import MIN_MERGED_SCORE, Seen, TileRules, cut_tiles, merge_detections
from utils.letterbox import InputSize, network_input
from utils.logs import Progress, configure_logging
from utils.metrics.coco import coco_metrics
from utils.metrics.matches import match_images
from utils.output_files import write_text
from utils.postprocess import VAL_POSTPROCESS, postprocess
from utils.strict_yaml import find_shipped, read_yaml, write_yaml
from utils.structures import Detections, ImageArray
from utils.timing import seconds_in_turn

logger = logging.getLogger(__name__)
IMAGE_SIZE, OVERLAP = 640, 0.2
THRESHOLDS = (VAL_POSTPROCESS.score_threshold, 0.25)
WHOLE = "whole image"
FIGURES = ("AP", "AP50", "AP_small", "AP_medium", "AP_large", "precision", "recall")
TITLES = {
    "tiny_coco": "tiny_coco, 50 images of COCO val2017",
    "coco128": "coco128, 128 images of COCO train2017",
}
Find = Callable[[ImageArray], Detections]


@dataclass(slots=True)
class View:
    """What a network finds in an image or a tile, by the rules of evaluation.

    Attributes:
        runner: the network.
        folder: of what was found before; None computes everything.
        threshold: of scores.
        looks: how often it was asked.
    """

    runner: Runner
    folder: Path | None
    threshold: float
    looks: int = 0

    def find(self, image: ImageArray) -> Detections:
        """(H, W, 3) -> detections in its pixels."""
        self.looks += 1
        found = self._find(image) if self.folder is None else self._find_once(image, self.folder)
        # As if found at this threshold: what scores less suppresses nothing that scores more.
        return found[found.scores > self.threshold]

    def _find_once(self, image: ImageArray, folder: Path) -> Detections:
        content = np.ascontiguousarray(image)
        digest = hashlib.sha256(content.tobytes() + repr(content.shape).encode()).hexdigest()
        file = folder / f"{digest[:32]}.npz"
        if not file.exists():
            found = self._find(image)
            np.savez(file, boxes=found.boxes, scores=found.scores, class_ids=found.class_ids)
        stored = np.load(file)
        return Detections(stored["boxes"], stored["scores"], stored["class_ids"])

    def _find(self, image: ImageArray) -> Detections:
        size = InputSize((IMAGE_SIZE, IMAGE_SIZE), self.runner.stride)
        letterbox = size.letterbox((image.shape[0], image.shape[1]))
        decoded = self.runner.run(network_input([letterbox.apply_image(image)]))
        return postprocess(decoded[0], VAL_POSTPROCESS).in_original(letterbox)


def kept_views(runs: Path, weights: Path) -> Path:
    """The folder below `runs` for what a network finds, named after the content of its file."""
    files = sorted(weights.rglob("*")) if weights.is_dir() else [weights]
    content = b"".join(file.read_bytes() for file in files if file.is_file())
    folder = runs / hashlib.sha256(content).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def find_in_tiles(view: View, tiles: TileRules, image: ImageArray) -> Detections:
    """What `--tile` finds."""
    found = view.find(image)
    parts = cut_tiles(image, tiles, InputSize((IMAGE_SIZE, IMAGE_SIZE), view.runner.stride))
    seen = [Seen.whole(found), *(tile.in_whole(view.find(tile.image)) for tile in parts)]
    return merge_detections(seen, VAL_POSTPROCESS, tiles.merge) if parts else found


@dataclass(slots=True)
class SahiModel:
    """A view behind the interface of sahi.models.base.DetectionModel."""

    view: View
    confidence_threshold: float
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
        self._found = [self.view.find(image)]

    def perform_batch_inference(self, images: Sequence[ImageArray]) -> None:
        """Several images."""
        self._found = [self.view.find(image) for image in images]

    def convert_original_predictions(self, shift_amount: Any, full_shape: Any) -> None:
        """Make SAHI's objects of what was found last."""
        made = importlib.import_module("sahi.prediction").ObjectPrediction
        names = self.view.runner.class_names
        shifts = shift_amount if isinstance(shift_amount[0], list) else [shift_amount]
        shapes = full_shape if isinstance(full_shape[0], list) else [full_shape]
        self.object_prediction_list_per_image = []
        for found, shift, shape in zip(self._found, shifts, shapes, strict=True):
            columns = (found.boxes.tolist(), found.scores.tolist(), found.class_ids.tolist())
            self.object_prediction_list_per_image.append([
                made(bbox=box, category_id=class_id, category_name=names[class_id], score=score,
                     shift_amount=shift, full_shape=shape)
                for box, score, class_id in zip(*columns, strict=True)
                if box[0] < box[2] and box[1] < box[3]  # SAHI refuses boxes without area
            ])  # fmt: skip


def find_with_sahi(view: View, side: int, image: ImageArray) -> Detections:
    """What SAHI finds with its defaults: GREEDYNMM of IoS 0.5, or NMS below a score of 0.1."""
    predict = importlib.import_module("sahi.predict").get_sliced_prediction
    result = predict(
        image, SahiModel(view, view.threshold), slice_height=side, slice_width=side,
        overlap_height_ratio=OVERLAP, overlap_width_ratio=OVERLAP, verbose=0,
    )  # fmt: skip
    rows = [[*each.bbox.to_xyxy(), each.score.value, each.category.id]
            for each in result.object_prediction_list]  # fmt: skip
    table = np.array(rows, np.float32).reshape(-1, 6)
    table = table[np.argsort(-table[:, 4], kind="stable")][: VAL_POSTPROCESS.max_detections]
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def ways_to_look(view: View, side: int) -> dict[str, Find]:
    """By their names in the report."""
    merges = ("nms", "nmm") if view.threshold >= MIN_MERGED_SCORE else ("nms",)
    ways: dict[str, Find] = {WHOLE: view.find}
    for merge in merges:
        rules = TileRules((side, side), OVERLAP, merge)
        ways[f"`--tile {side} --tile-merge {merge}`"] = partial(find_in_tiles, view, rules)
    if importlib.util.find_spec("sahi") is not None:
        ways["SAHI"] = partial(find_with_sahi, view, side)
    return ways


def accuracy_table(runner: Runner, data: DatasetSpec, folder: Path, side: int) -> list[str]:
    """COCO's figures of every way to look at the images of a data set."""
    records = read_records(data, "val", strict=False, single_class=False)
    names = data.class_names
    lines = [
        "| scores above | | AP | AP50 | AP small | medium | large | precision | recall | images "
        "the network sees |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for threshold in THRESHOLDS:
        view = View(runner, folder, threshold)
        for name, find in ways_to_look(view, side).items():
            view.looks = 0
            found = {record.image_id: find(read_image(record.path))
                     for record in Progress(records, len(records), "tiles")}  # fmt: skip
            metrics = coco_metrics(match_images(records, found, len(names)), names)
            figures = " | ".join(f"{getattr(metrics, figure):.3f}" for figure in FIGURES)
            looks = view.looks / len(records)
            lines.append(f"| {threshold:g} | {name} | {figures} | {looks:.1f} |")
            logger.info("%s", lines[-1])
    return lines


def times_table(runner: Runner, data: DatasetSpec, side: int) -> list[str]:
    """Milliseconds for the first image of a data set, network included, ways in turn."""
    record = read_records(data, "val", strict=False, single_class=False)[0]
    image = read_image(record.path)
    lines = ["| scores above | | ms | times the whole image |", "|---|---|---|---|"]
    for threshold in THRESHOLDS:
        ways = ways_to_look(View(runner, None, threshold), side)
        taken = seconds_in_turn({name: partial(find, image) for name, find in ways.items()})
        base = statistics.median(taken[WHOLE])
        for name, seconds in taken.items():
            median = statistics.median(seconds)
            lines.append(f"| {threshold:g} | {name} | {median * 1e3:.0f} | {median / base:.1f} |")
    return lines


def data_yamls(shared: Path, folder: Path) -> dict[str, Path]:
    """Write data yamls into `folder` that read the data sets of TITLES in place."""
    files = {name: folder / f"{name}.yaml" for name in TITLES}
    splits = {
        split: {"images": f"{split}2017", "annotations": f"annotations/instances_{split}2017.json"}
        for split in ("train", "val")
    }
    write_yaml(files["tiny_coco"], {"path": str(shared / "data" / "tiny_coco"), **splits})
    shipped = read_yaml(find_shipped("coco128.yaml", ROOT / "data" / "datasets"))
    write_yaml(files["coco128"], {**shipped, "path": str(shared / "data" / "coco128")})
    return files


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", required=True)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--tile", type=int, default=320)
    parser.add_argument("--data", nargs="+", choices=tuple(TITLES), default=tuple(TITLES))
    parser.add_argument("--times", action="store_true", help="measure them, too")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "tiles")
    parser.add_argument("--out", type=Path, default=REPORTS)
    given = parser.parse_args()
    configure_logging()
    runner = open_networks([given.weights], device="cpu")
    views = kept_views(given.runs, Path(given.weights))
    date = time.strftime("%Y-%m-%d")
    lines = [
        f"# Small objects with tiles, {date}",
        "",
        f"{Path(given.weights).name}, tiles of {given.tile} px that share at least {OVERLAP:g} of "
        f"a side; the whole image is seen, too, and each network input has {IMAGE_SIZE} px. "
        "SAHI (where it is in the table) runs with its defaults and the same network, letterbox "
        "and suppression; requirements-clients.txt names its version. Images are letterboxed as in "
        "detect.py, so that AP differs from val.py's. COCO's AP and AP50; precision and recall "
        "where F1 is best.",
        "",
        f"{machine_line()} Made by `python -m experiments.tiles`.",
    ]
    for name, file in data_yamls(given.shared, given.runs).items():
        if name in given.data:
            data = load_dataset_spec(str(file))
            lines += ["", f"## {TITLES[name]}", ""]
            lines += accuracy_table(runner, data, views, given.tile)
            lines += ["", *times_table(runner, data, given.tile)] if given.times else []
    path = given.out / f"tiles_cpu_{date}.md"
    write_text(path, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
