"""COCO's figures of made-up detections, against pycocotools: `python -m benchmarks.coco_eval`."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.peer import Peer
from benchmarks.rounds import Contestant, Turn, timed
from benchmarks.rows import Agreement, Goal, Row
from benchmarks.stage import Options, Stage, stage_main
from utils.boxes import xyxy_to_xywh
from utils.metrics.coco import coco_metrics
from utils.metrics.matches import match_images
from utils.structures import Detections, FloatArray, ImageRecord, Targets

NUM_CLASSES = 80
OBJECTS, DETECTIONS = 7, 100  # of an image; COCO's val2017 has 7.3 objects
SIDE = 640
# In the order of pycocotools' list.
FIGURES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100")


def made_up(count: int) -> tuple[list[ImageRecord], dict[int, Detections]]:
    """Images with objects, and detections of which the first ones lie near the objects."""
    rng = np.random.default_rng(0)
    records, found = [], {}
    for number in range(count):
        boxes, classes = _boxes(rng, OBJECTS), rng.integers(0, NUM_CLASSES, OBJECTS)
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        targets = Targets(boxes, classes)
        records.append(
            ImageRecord(Path(), (SIDE, SIDE), targets, number, areas, crowd=Targets.empty())
        )
        near = boxes + rng.integers(-8, 9, boxes.shape).astype(np.float32) / 2
        others = _boxes(rng, DETECTIONS - OBJECTS)
        guessed = rng.integers(0, NUM_CLASSES, len(others))
        scores = np.sort(rng.random(DETECTIONS))[::-1].astype(np.float32)
        order = rng.permutation(DETECTIONS)
        found[number] = Detections(
            np.concatenate((near, others))[order].astype(np.float32, copy=False),
            scores,
            np.concatenate((classes, guessed))[order],
        )
    return records, found


def _boxes(rng: np.random.Generator, count: int) -> FloatArray:
    """(N, 4) xyxy in whole and half pixels, which float32 and JSON hold exactly."""
    corner = rng.integers(0, 2 * SIDE - 400, (count, 2))
    return (np.concatenate([corner, corner + rng.integers(24, 400, (count, 2))], 1) / 2).astype(
        np.float32
    )


def ours(records: Sequence[ImageRecord], found: Mapping[int, Detections]) -> Turn:
    """match_images and coco_metrics, the confusion matrix and all curves included."""
    names = [str(number) for number in range(NUM_CLASSES)]
    start = time.perf_counter()
    metrics = coco_metrics(match_images(records, found, NUM_CLASSES), names)
    seconds = time.perf_counter() - start
    return Turn(seconds, {name: getattr(metrics, name) for name in FIGURES})


def by_pycocotools(records: Sequence[ImageRecord], found: Mapping[int, Detections]) -> Turn:
    """COCOeval; making its objects from lists in memory is counted, as ours reads arrays."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    content, results = _coco_json(records), _coco_results(found)
    with contextlib.redirect_stdout(io.StringIO()):
        start = time.perf_counter()
        truth = COCO()
        truth.dataset = content
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        seconds = time.perf_counter() - start
    # -1 where there is no such object, which ours states as 0.
    stats = zip(FIGURES, evaluation.stats[: len(FIGURES)], strict=True)
    return Turn(seconds, {name: max(float(value), 0.0) for name, value in stats})


def _coco_json(records: Sequence[ImageRecord]) -> dict[str, list[dict[str, object]]]:
    annotations: list[dict[str, object]] = []
    for record in records:
        boxes = xyxy_to_xywh(record.targets.boxes).tolist()
        rows = zip(boxes, record.targets.class_ids.tolist(), record.areas.tolist(), strict=True)
        for box, class_id, area in rows:
            annotations.append(
                {"id": len(annotations) + 1, "image_id": record.image_id, "category_id": class_id,
                 "bbox": box, "area": area, "iscrowd": 0}
            )  # fmt: skip
    images: list[dict[str, object]] = [
        {"id": record.image_id, "height": SIDE, "width": SIDE} for record in records
    ]
    categories: list[dict[str, object]] = [
        {"id": number, "name": str(number)} for number in range(NUM_CLASSES)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def _coco_results(found: Mapping[int, Detections]) -> list[dict[str, object]]:
    return [
        {"image_id": image_id, "category_id": class_id, "bbox": box, "score": score}
        for image_id, each in found.items()
        for box, class_id, score in zip(
            xyxy_to_xywh(each.boxes).tolist(), each.class_ids.tolist(), each.scores.tolist(),
            strict=True,
        )
    ]  # fmt: skip


def sort_floor(found: Mapping[int, Detections]) -> Turn:
    """One sort of all detections by class and score."""
    classes = np.concatenate([each.class_ids for each in found.values()])
    scores = np.concatenate([each.scores for each in found.values()])
    return Turn(timed(lambda: np.lexsort((-scores, classes)), 3))


@contextmanager
def prepare(options: Options, peer: Peer | None) -> Iterator[Sequence[Contestant]]:
    """The peer here is pycocotools, which YOLOv5 uses as well, in this process."""
    del peer
    records, found = made_up(options.count)
    yield [
        Contestant("ours", partial(ours, records, found)),
        Contestant("pycocotools", partial(by_pycocotools, records, found), at_most=2),
        Contestant("sort", partial(sort_floor, found)),
    ]


STAGE = Stage(
    name="coco_eval",
    title="COCO's figures, {count:,} images with 100 detections each of 80 classes; the peer is "
    "pycocotools",
    floor="one sort of all detections by class and score",
    rows=(
        Row("COCO evaluation (peer: pycocotools)", "ours", "pycocotools", "sort", "s", 1.0,
            Goal("at most 0.2 of pycocotools, equal to 1e-12", 0.2)),
    ),
    prepare=prepare,
    agreements=tuple(Agreement(name, "ours", "pycocotools", absolute=1e-12) for name in FIGURES),
    rounds=3,
    count=1000,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    return stage_main(STAGE, argv)


if __name__ == "__main__":
    raise SystemExit(main())
