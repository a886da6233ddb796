"""Costs at several sizes, for `benchmarks.scale`: of images, boxes, image size and ranks."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.growth import Growth
from benchmarks.measurement import Spread, output_of
from benchmarks.timed_training import TimedTraining, host_batch, loss_call
from data.augment import AugmentConfig
from data.file_states import SETTLED_NS
from data.loader import TrainLoader, train_loader
from data.train_dataset import TrainDataset
from experiments.block_costs import PLAIN, Setting, interleaved_ms
from experiments.coco_cost import evaluation, ranks_per_second
from models.conversion.deploy import to_deploy
from utils.batches import Batch
from utils.engine.training_state import StateConfig
from utils.postprocess import VAL_POSTPROCESS, postprocess
from utils.strict_yaml import write_yaml
from utils.structures import ImageRecord, Targets

NUM_CLASSES = 80
FILE_HW = (48, 64)  # of the images that an index reads: small, so that their number counts
NMS_CELLS = 25_200  # boxes of a 640 px input
LOADED = 16  # images of an epoch


@dataclass(frozen=True, slots=True)
class Sizes:
    """At what sizes costs are measured.

    Attributes:
        rounds: of each.
        files: images of a data set that is read.
        evaluated: images that are evaluated, 100 detections each.
        labelled: boxes of a training image.
        candidates: boxes of an image that pass the score threshold.
        found: detections of each of 50 evaluated images.
        image_sizes: pixels.
        ranks: processes of one training step.
        network: yaml of the network.
    """

    rounds: int = 5
    files: tuple[int, ...] = (500, 2000, 8000)
    evaluated: tuple[int, ...] = (50, 200, 800)
    labelled: tuple[int, ...] = (1, 10, 100, 1000)
    candidates: tuple[int, ...] = (100, 1000, 10_000)
    found: tuple[int, ...] = (10, 100, 300)
    image_sizes: tuple[int, ...] = (160, 320, 640, 1280)
    ranks: tuple[int, ...] = (1, 2, 4)
    network: str = "yolov5n.yaml"


SMALLEST = Sizes(1, (4, 8), (2, 4), (1, 2), (10, 20), (1, 2), (64, 96), (1, 2))


def growths(
    work: Mapping[str, Mapping[int, Callable[[], object]]], rounds: int
) -> tuple[Growth, ...]:
    """Milliseconds of each cost (name -> size -> call), all in turn."""
    calls = {(name, size): call for name, of_size in work.items() for size, call in of_size.items()}
    ms = interleaved_ms({f"{name} {size}": call for (name, size), call in calls.items()},
                        rounds, torch.device("cpu"))  # fmt: skip
    return tuple(
        Growth(name, "ms", tuple(of_size),
               tuple(Spread(tuple(ms[f"{name} {size}"])) for size in of_size))
        for name, of_size in work.items()
    )  # fmt: skip


def with_images(sizes: Sizes) -> tuple[Growth, ...]:
    """Reading a data set for the first time and again, each in a new process; evaluating."""
    first: list[Spread] = []
    again: list[Spread] = []
    for count in sizes.files:
        with tempfile.TemporaryDirectory() as folder:
            yaml = write_files(Path(folder), count)
            time.sleep(SETTLED_NS / 1e9)  # files that changed just now are not entered
            rounds = [_starts(yaml, Path(folder) / f"cache{n}") for n in range(sizes.rounds)]
        first.append(Spread(tuple(each[0] for each in rounds)))
        again.append(Spread(tuple(each[1] for each in rounds)))
    work = {"COCO's figures, 100 detections each":
            {count: evaluation(made_up_records(count, 7), NUM_CLASSES)
             for count in sizes.evaluated}}  # fmt: skip
    return (
        Growth("reading a data set, first start", "ms", sizes.files, tuple(first)),
        Growth("reading it again", "ms", sizes.files, tuple(again)),
        *growths(work, sizes.rounds),
    )


def write_files(folder: Path, count: int) -> Path:
    """Small images with a box each; returns the data yaml."""
    for name in ("images", "labels"):
        (folder / name).mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (*FILE_HW, 3), np.uint8)
    _, content = cv2.imencode(".jpg", noise)
    first = folder / "images" / "0.jpg"
    first.write_bytes(content.tobytes())
    for number in range(count):
        if number:
            shutil.copyfile(first, folder / "images" / f"{number}.jpg")
        label = folder / "labels" / f"{number}.txt"
        label.write_text("0 0.5 0.5 0.5 0.5\n", encoding="ascii")
    yaml = folder / "data.yaml"
    write_yaml(yaml, {"path": str(folder), "train": "images", "val": "images", "names": ["thing"]})
    return yaml


def _starts(yaml: Path, cache: Path) -> tuple[float, float]:
    """Milliseconds to read a data set without an index, and with the one made then."""
    command = [sys.executable, "-m", "benchmarks.data_set_reader", str(yaml)]
    variables = {"XDG_CACHE_HOME": str(cache)}
    first, again = (json.loads(output_of(command, variables)) for _ in range(2))
    return 1e3 * first["seconds"], 1e3 * again["seconds"]


def made_up_records(count: int, boxes: int) -> tuple[ImageRecord, ...]:
    """Images of 640 x 480 px without files, with boxes of all classes."""
    rng = np.random.default_rng(0)
    records = []
    for number in range(count):
        corners = rng.uniform(0, (540, 380), (boxes, 2))
        sides = rng.uniform(8, 100, (boxes, 2))
        targets = Targets(np.concatenate([corners, corners + sides], 1).astype(np.float32),
                          rng.integers(0, NUM_CLASSES, boxes))  # fmt: skip
        areas = sides.prod(1).astype(np.float32)
        path = Path(f"{number}.jpg")
        records.append(ImageRecord(path, (480, 640), targets, number, areas, Targets.empty()))
    return tuple(records)


def with_boxes(sizes: Sizes) -> tuple[Growth, ...]:
    """The loss of a batch of four images, NMS of one image, and COCO's figures of 50 images."""
    setting = Setting(sizes.network, min(sizes.image_sizes[1], 320), 4, sizes.rounds)
    batch = host_batch(setting)
    training = TimedTraining(PLAIN, setting, StateConfig(), [batch])
    records = made_up_records(50, 7)
    return growths({
        "loss and its gradient, boxes of an image": {
            count: loss_call(training, [with_labels(batch, count)]) for count in sizes.labelled},
        "NMS, boxes above the threshold": {
            count: partial(postprocess, candidates(count), VAL_POSTPROCESS)
            for count in sizes.candidates},
        "COCO's figures of 50 images, boxes found in each": {
            count: evaluation(records, NUM_CLASSES, count) for count in sizes.found},
    }, sizes.rounds)  # fmt: skip


def with_labels(batch: Batch, per_image: int) -> Batch:
    """The same images with another number of boxes each, of all sizes."""
    random = torch.Generator().manual_seed(0)
    count, size = len(batch.images) * per_image, batch.images.shape[3]
    corners = torch.rand((count, 2, 2), generator=random).sort(dim=1).values * size
    return replace(
        batch,
        image_index=torch.arange(len(batch.images)).repeat_interleave(per_image),
        class_ids=torch.randint(0, NUM_CLASSES, (count,), generator=random),
        boxes=corners.reshape(-1, 4),
    )


def candidates(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Decoded rows of a 640 px input, so many of them above the threshold in about one class."""
    rng = np.random.default_rng(0)
    rows = np.zeros((max(NMS_CELLS, count), 5 + NUM_CLASSES), np.float32)
    rows[:, :2] = rng.uniform(0, 640, (len(rows), 2))
    rows[:, 2:4] = rng.uniform(8, 100, (len(rows), 2))
    rows[:count, 4] = rng.uniform(0.01, 1, count)
    rows[np.arange(count), 5 + rng.integers(0, NUM_CLASSES, count)] = 0.9
    return rows


def with_image_size(sizes: Sizes, records: Sequence[ImageRecord]) -> tuple[Growth, ...]:
    """Per image: a training step of four, the folded network, and the loader in one process."""
    work: dict[str, dict[int, Callable[[], object]]] = {"training": {}, "network": {}, "loader": {}}
    for size in sizes.image_sizes:
        setting = Setting(sizes.network, size, 4, sizes.rounds)
        batches = [host_batch(setting)]
        work["training"][size] = TimedTraining(PLAIN, setting, StateConfig(), batches)
        folded = to_deploy(setting.build(PLAIN).eval())
        work["network"][size] = partial(_run, folded, torch.rand(1, 3, size, size))
        dataset = TrainDataset(records, size, AugmentConfig(), 0)
        loader = train_loader(dataset, batch_size=8, workers=0, seed=0, device_is_cuda=False)
        work["loader"][size] = partial(_epoch, loader)
    images = {"training": 4, "network": 1, "loader": len(records)}
    return tuple(
        replace(each, name=f"{each.name}, per image",
                values=tuple(Spread(tuple(value / images[each.name] for value in spread.values))
                             for spread in each.values))
        for each in growths(work, sizes.rounds)
    )  # fmt: skip


@torch.no_grad()
def _run(network: torch.nn.Module, images: torch.Tensor) -> None:
    network(images)


def _epoch(loader: TrainLoader) -> None:
    for _ in loader.epoch(0):
        pass


def with_ranks(sizes: Sizes) -> tuple[Growth, ...]:
    """Training with so many processes of one thread on this machine: milliseconds per image."""
    rounds = min(sizes.rounds, 3)
    values = [[1e3 / ranks_per_second(count, batch_size=4) for count in sizes.ranks]
              for _ in range(rounds)]  # fmt: skip
    spreads = tuple(Spread(tuple(of_count)) for of_count in zip(*values, strict=True))
    return (Growth("training step, per image", "ms", sizes.ranks, spreads),)
