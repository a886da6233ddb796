"""Hours of training on COCO from the measured rates of its stages, as a dated report."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.training_runs import machine_line
from utils.output_files import write_text

TRAIN_IMAGES, VAL_IMAGES, EPOCHS = 118_287, 5_000, 300
BYTES_PER_GRADIENT = 4
# Days on one V100 that ultralytics/yolov5's README states for 300 epochs; not measured here.
PUBLISHED_DAYS = {"yolov5n": 1.0, "yolov5s": 2.0}
CORES_PER_GPU = 8  # workers of one GPU, YOLOv5's default
GPU_BATCH = 16  # images of one GPU per step, where the rate is the published one


@dataclass(frozen=True, slots=True)
class Measured:
    """The measured rates of one machine.

    Attributes:
        made_per_second: training samples of 640 px that one core makes (decoding, mosaic, warp).
        made_per_second_cached: the same with images cached in memory.
        learnt_per_second: network -> images per second of training steps.
        validated_per_second: network -> images per second of inference and NMS.
        parameters: network -> how many.
        evaluation_seconds_per_image: COCO's figures, in every process.
        ranks_per_second: training images per second of one and of two processes on one CPU.
        device: where steps ran.
        batch_size: images per step there.
        amp: precision there.
    """

    made_per_second: float
    made_per_second_cached: float
    learnt_per_second: Mapping[str, float]
    validated_per_second: Mapping[str, float]
    parameters: Mapping[str, int]
    evaluation_seconds_per_image: float
    ranks_per_second: tuple[float, float]
    device: str
    batch_size: int
    amp: str


@dataclass(frozen=True, slots=True)
class Machines:
    """A number of GPUs and the slowest link between them.

    Attributes:
        description: for the report.
        gpus: total number.
        link_gb_per_second: of the slowest link an all-reduce crosses; None for one GPU.
    """

    description: str
    gpus: int
    link_gb_per_second: float | None


MACHINES = (
    Machines("1 GPU", 1, None),
    Machines("8 GPUs, PCIe 4 (16 GB/s)", 8, 16.0),
    Machines("4 x 8 GPUs, 100 Gbit Ethernet", 32, 12.5),
    Machines("4 x 8 GPUs, 10 Gbit Ethernet", 32, 1.25),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of 300 epochs.

    Attributes:
        hours: total.
        evaluation_share: of them that go to COCO's evaluator.
        exchange_share: of a step that gradients take if nothing hides them behind backward.
        cores_per_gpu: cores that must make images for the GPU not to wait.
        limit: the stage that limits.
    """

    hours: float
    evaluation_share: float
    exchange_share: float
    cores_per_gpu: float
    limit: str


def cost(
    machines: Machines,
    learnt_per_second: float,
    validated_per_second: float,
    parameters: int,
    measured: Measured,
    batch_size: int,
) -> Cost:
    """Hours of 300 epochs with validation after each.

    A ring all-reduce sends 2 (n - 1) / n of the gradients over the slowest link. DDP hides much of
    it behind the backward pass; here nothing is hidden. Collecting detections is not counted.
    """
    step = batch_size / learnt_per_second
    evaluating = VAL_IMAGES * measured.evaluation_seconds_per_image
    exchange = 0.0
    if machines.link_gb_per_second is not None:
        sent = 2 * (machines.gpus - 1) / machines.gpus * parameters * BYTES_PER_GRADIENT
        exchange = sent / (machines.link_gb_per_second * 1e9)
    learning = batch_size / (step + exchange)  # images per second of one GPU
    making = CORES_PER_GPU * measured.made_per_second
    training = TRAIN_IMAGES / (machines.gpus * min(learning, making))
    validating = VAL_IMAGES / (machines.gpus * validated_per_second)
    steps = TRAIN_IMAGES / (machines.gpus * batch_size)
    stages = {  # seconds of each epoch
        f"making images with {CORES_PER_GPU} cores": TRAIN_IMAGES / (machines.gpus * making),
        "the GPU": steps * step + validating,
        "the link": steps * exchange,
        "the evaluator": evaluating,
    }
    return Cost(
        hours=EPOCHS * (training + validating + evaluating) / 3600,
        evaluation_share=evaluating / (training + validating + evaluating),
        exchange_share=exchange / (step + exchange),
        cores_per_gpu=learning / measured.made_per_second,
        limit=max(stages, key=lambda name: stages[name]),
    )


def published_rate(name: str) -> float:
    """Images per second on one V100 that ultralytics' days imply."""
    return TRAIN_IMAGES * EPOCHS / (PUBLISHED_DAYS[name] * 86_400)


def write_report(out: Path, measured: Measured) -> None:
    """Write the report as markdown and the measured rates as JSON beside it."""
    date = time.strftime("%Y-%m-%d")
    stem = f"coco_cost_{measured.device}_{date}"
    lines = [
        f"# Time of training on COCO, {date}",
        "",
        f"{TRAIN_IMAGES:,} images, {EPOCHS} epochs, 640 px, validation on {VAL_IMAGES:,} "
        "after every epoch.",
        "",
        f"{machine_line()} Made by `python -m experiments.coco_cost`.",
        "",
        *_measured_lines(measured),
        "",
        *_cost_lines(measured),
        "",
        *_limit_lines(measured),
    ]
    write_text(out / f"{stem}.md", "\n".join(lines) + "\n")
    write_text(out / f"{stem}.json", json.dumps(asdict(measured), indent=1))


def _measured_lines(measured: Measured) -> list[str]:
    one, two = measured.ranks_per_second
    rows = [
        "## Measured",
        "",
        "| stage | images/s |",
        "|---|---|",
        f"| making a training sample (JPEG, mosaic, warp, color), one core | "
        f"{measured.made_per_second:.0f} |",
        f"| the same with `--cache ram`, one core | {measured.made_per_second_cached:.0f} |",
    ]
    where = f"{measured.device}, batch {measured.batch_size}, amp {measured.amp}"
    for name, rate in measured.learnt_per_second.items():
        rows.append(f"| training step of {name} ({where}) | {rate:.1f} |")
    for name, rate in measured.validated_per_second.items():
        rows.append(f"| inference and NMS of {name} ({where}) | {rate:.1f} |")
    rows += [
        f"| COCO's figures, every process | {1 / measured.evaluation_seconds_per_image:.0f} |",
        f"| yolov5n over one process of one thread, and over two | {one:.2f}, {two:.2f} |",
        "",
        f"Two processes with a batch of 8 each learn {two / one:.2f} times as many images as one "
        "(on one CPU, whose memory they share; gradients by gloo).",
    ]
    return rows


def _cost_lines(measured: Measured) -> list[str]:
    rows = [
        "## Hours",
        "",
        "| network | on | images/s of one GPU | hours | of these the evaluator | gradients' "
        "share of a step | cores per GPU that make images | limited first by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    on_gpu = measured.device == "cuda"
    for name, rate in measured.learnt_per_second.items():
        if not on_gpu:
            hours = EPOCHS * TRAIN_IMAGES / rate / 3600
            rows.append(
                f"| {name} | this machine | {rate:.1f} | {hours:,.0f} | | | | the processor |"
            )
        known = on_gpu or name in PUBLISHED_DAYS
        for machines in MACHINES if known else ():
            gpu_rate = rate if on_gpu else published_rate(name)
            # Forward alone is about a third of a step.
            validated = measured.validated_per_second[name] if on_gpu else 3 * gpu_rate
            batch = measured.batch_size if on_gpu else GPU_BATCH
            found = cost(machines, gpu_rate, validated, measured.parameters[name], measured, batch)
            rows.append(
                f"| {name} | {machines.description} | {gpu_rate:.0f} | {found.hours:.1f} | "
                f"{found.evaluation_share:.0%} | {found.exchange_share:.1%} | "
                f"{found.cores_per_gpu:.1f} | {found.limit} |"
            )
    if not on_gpu:
        rows += [
            "",
            "No GPU was available: its rate is what the training days in ultralytics/yolov5's "
            f"README imply (V100, {GPU_BATCH} images a step assumed), not a measurement of this "
            "project. `python -m experiments.coco_cost --device 0 --amp fp16` measures one.",
        ]
    return rows


def _limit_lines(measured: Measured) -> list[str]:
    supported = CORES_PER_GPU * measured.made_per_second
    cached = CORES_PER_GPU * measured.made_per_second_cached
    return [
        "## What limits first",
        "",
        f"- **Making images.** {CORES_PER_GPU} cores feed {supported:.0f} images/s "
        f"({cached:.0f} with `--cache ram`). A GPU that learns faster waits: give it more cores "
        "(`--workers`) or the cache.",
        "- **Gradients.** What is sent does not depend on the batch: more images per GPU make "
        "their share smaller. The table hides nothing of it behind the backward pass.",
        "- **The evaluator.** COCO's figures take "
        f"{VAL_IMAGES * measured.evaluation_seconds_per_image:.0f} s of one core after each epoch "
        "for 5,000 images with 100 detections each.",
    ]
