"""Time of training on COCO: `python -m experiments.coco_cost --shared DIR`.

Measures the rates of data loading, training steps, gradient exchange and evaluation, then computes
300 epochs of 118,287 images on one GPU, eight, and several machines, and the bottleneck. Run
nothing else at the same time. `--device 0 --amp fp16` measures a GPU; without one, its rate is the
one that ultralytics' published training days imply, and the report says so.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from data.augment import AugmentConfig
from data.dataset_spec import load_dataset_spec
from data.image_cache import CacheSettings
from data.loader import train_loader
from data.records import read_records
from data.train_dataset import TrainDataset
from experiments.block_costs import PLAIN, Setting, TrainingStep
from experiments.coco_cost_report import Measured, write_report
from experiments.training_runs import REPORTS, ROOT
from models.network.detector import count_parameters
from models.runtimes.torch_predictor import TorchPredictor
from utils.child_process import run_child
from utils.device import choose_device
from utils.engine.distributed import Ranks, process_group
from utils.logs import configure_logging
from utils.metrics.coco import coco_metrics
from utils.metrics.matches import match_images
from utils.postprocess import VAL_POSTPROCESS
from utils.strict_yaml import write_yaml
from utils.structures import Detections, ImageRecord

logger = logging.getLogger(__name__)
IMAGE_SIZE, ROUNDS = 640, 5
NETWORKS = {"yolov5n": PLAIN, "yolov5s": PLAIN, "repyolov5s": "RepVGG"}  # name -> block family


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of the measurement; `shared` holds data/coco128."""

    shared: Path
    device: torch.device
    amp: str
    batch_size: int

    def step(self, name: str) -> TrainingStep:
        """A training step of a network of NETWORKS at IMAGE_SIZE."""
        cfg = f"yolov5{name[-1]}.yaml"
        setting = Setting(
            cfg, IMAGE_SIZE, self.batch_size, ROUNDS, device=self.device, amp=self.amp
        )
        return TrainingStep(NETWORKS[name], setting)


def median_seconds(work: Callable[[], object], device: torch.device) -> float:
    """The median of ROUNDS calls, after one warm-up call."""
    found = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - start)
    return statistics.median(found[1:])


def coco128_records(shared: Path, folder: Path) -> Sequence[ImageRecord]:
    """The 128 images of coco128 with their labels."""
    names = load_dataset_spec("coco128.yaml").class_names
    yaml = folder / "coco128.yaml"
    images = "images/train2017"
    content = {"path": str(shared / "data" / "coco128"), "train": images, "val": images}
    write_yaml(yaml, {**content, "names": list(names)})
    return read_records(load_dataset_spec(yaml), "train")


def images_per_second(records: Sequence[ImageRecord], cache: CacheSettings | None) -> float:
    """How many training samples one process with one thread makes, in the first epoch of a run."""
    first = TrainDataset(records, IMAGE_SIZE, AugmentConfig(), 0, cache=cache)

    def work() -> None:
        dataset = first if cache else TrainDataset(records, IMAGE_SIZE, AugmentConfig(), 0)
        loader = train_loader(dataset, batch_size=16, workers=0, seed=0, device_is_cuda=False)
        for _ in loader.epoch(0):
            pass

    return len(records) / median_seconds(work, torch.device("cpu"))


def evaluation(
    records: Sequence[ImageRecord], num_classes: int, found_per_image: int = 100
) -> Callable[[], None]:
    """A call that computes COCO's figures of these images with made-up detections."""
    rng = np.random.default_rng(0)
    detections = {}
    for record in records:
        height, width = record.image_hw
        corner = rng.uniform(0, 0.7, (found_per_image, 2)) * (width, height)
        boxes = np.concatenate([corner, corner + rng.uniform(8, 90, (found_per_image, 2))], 1)
        scores = np.sort(rng.random(found_per_image))[::-1].astype(np.float32)
        classes = rng.integers(0, num_classes, found_per_image)
        detections[record.image_id] = Detections(boxes.astype(np.float32), scores, classes)
    names = [str(number) for number in range(num_classes)]

    def work() -> None:
        coco_metrics(match_images(records, detections, num_classes), names)

    return work


def ranks_per_second(count: int, batch_size: int) -> float:
    """Training images per second of yolov5n over processes of one thread each, on this CPU."""
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = run_child(
        [*program, "--nproc-per-node", str(count), "-m", "experiments.coco_cost", "--rank-step",
         "--batch-size", str(batch_size)],
        cwd=ROOT, capture=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return float(json.loads(done.stdout.splitlines()[-1]))


def scaling(batch_size: int) -> tuple[float, float]:
    """`ranks_per_second` of one process and of two: medians of three alternating runs."""
    rates = [(ranks_per_second(1, batch_size), ranks_per_second(2, batch_size)) for _ in range(3)]
    one, two = zip(*rates, strict=True)
    return statistics.median(one), statistics.median(two)


def print_rank_step(batch_size: int) -> None:
    """Measure in a process of `ranks_per_second`; the first rank prints the rate of all."""
    ranks, device = Ranks.of_environment(), torch.device("cpu")
    step = Options(Path(), device, "off", batch_size).step("yolov5n")
    with process_group(ranks, device):
        step.model_call = ranks.parallel(step.model, device)
        seconds = median_seconds(step, device)
        if ranks.count > 1:
            dist.barrier()
    if ranks.is_first:
        sys.stdout.write(f"{json.dumps(ranks.count * batch_size / seconds)}\n")


def measure(options: Options, folder: Path) -> Measured:
    """Measure all stages; `folder` is for a data yaml."""
    records = coco128_records(options.shared, folder)
    torch.set_num_threads(1)  # as a loader's process
    fresh = images_per_second(records, None)
    cached = images_per_second(records, CacheSettings("ram"))
    evaluating = median_seconds(evaluation(records, 80), torch.device("cpu"))
    torch.set_num_threads(os.cpu_count() or 1)
    steps, values, sizes = {}, {}, {}
    for name in NETWORKS:
        step = options.step(name)
        steps[name] = options.batch_size / median_seconds(step, options.device)
        predict, batch = TorchPredictor(step.ema.model, VAL_POSTPROCESS), step.batch
        values[name] = options.batch_size / median_seconds(
            lambda predict=predict, batch=batch: predict(batch),  # type: ignore[misc]
            options.device,
        )
        sizes[name] = count_parameters(step.model)
        logger.info("%s: %.1f images/s learnt, %.1f evaluated", name, steps[name], values[name])
    return Measured(
        made_per_second=fresh,
        made_per_second_cached=cached,
        learnt_per_second=steps,
        validated_per_second=values,
        parameters=sizes,
        evaluation_seconds_per_image=evaluating / len(records),
        ranks_per_second=scaling(8),
        device=options.device.type,
        batch_size=options.batch_size,
        amp=options.amp,
    )


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shared", type=Path, default=Path(), help="folder with data/coco128")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--amp", default="off", choices=("off", "bf16", "fp16"))
    parser.add_argument("--batch-size", type=int, default=8, help="of one GPU")
    parser.add_argument("--out", type=Path, default=REPORTS)
    parser.add_argument("--rank-step", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    configure_logging()
    if arguments.rank_step:
        print_rank_step(arguments.batch_size)
        return
    device = choose_device(arguments.device)
    options = Options(arguments.shared.resolve(), device, arguments.amp, arguments.batch_size)
    folder = ROOT / "runs" / "coco_cost"
    folder.mkdir(parents=True, exist_ok=True)
    write_report(arguments.out, measure(options, folder))


if __name__ == "__main__":
    main()
