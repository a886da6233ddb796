"""Time and memory of block families: `python -m experiments.block_costs`.

Each round takes one training step, or one inference, with each family in turn, so that a machine
that slows down slows all of them. The report has medians over rounds, and ratios to the plain
network of the same round. Peak memory is measured in a separate process per family. Run nothing
else at the same time.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.block_cost_report import write_report
from experiments.training_runs import REPORTS, ROOT, machine_line
from models.conversion.deploy import to_deploy
from models.export.export_networks import DecodedNetwork
from models.export.onnx_file import OnnxOptions, write_onnx
from models.formats.onnx import operator_counts
from models.losses.loss import DetectionLoss, LossConfig
from models.network.box_coder import BoxCoder
from models.network.detector import Detector, build_model, count_parameters
from models.network.model_spec import ModelSpec
from utils.batches import Batch
from utils.child_process import run_child
from utils.device import choose_device, describe_device, peak_memory_mb
from utils.engine.ema import ModelEMA
from utils.engine.optim import build_optimizer, clip_gradients
from utils.engine.training_state import Precision
from utils.logs import configure_logging

logger = logging.getLogger(__name__)
PLAIN = "plain"
FAMILIES = (
    PLAIN, "RepVGG", "RepConvN", "ACB", "DBB", "MobileOne", "QARepVGG", "OREPA", "OREPAVGG",
    "OREPA(pointwise=true, stem=true)", "RepOpt", "LinearAdd",
)  # fmt: skip
BOXES_PER_IMAGE = 8
NOT_COMPUTING = {"Identity", "Constant"}  # ONNX operators without computation


@dataclass(frozen=True, slots=True)
class Setting:
    """Network, sizes, device and precision of a measurement."""

    cfg: str
    image_size: int
    batch_size: int
    rounds: int
    inference_size: int = 640
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    amp: str = "off"

    def build(self, family: str) -> Detector:
        """A randomly initialized network (seed 0) with blocks of one family."""
        torch.manual_seed(0)
        spec = ModelSpec.from_file(self.cfg)
        return build_model(spec.replaced(rep_block=None if family == PLAIN else family))


class TrainingStep:
    """One optimizer step on random images and boxes."""

    def __init__(self, family: str, setting: Setting) -> None:
        self.device = setting.device
        self.model = setting.build(family).to(self.device).train()
        self.model_call: torch.nn.Module = self.model  # or its DistributedDataParallel
        self.batch = _random_batch(setting)
        self.loss = DetectionLoss(
            BoxCoder.of(self.model), self.model.spec.num_classes, setting.image_size, LossConfig()
        )
        self.optimizer = build_optimizer(
            self.model, "SGD", lr=1e-4, momentum=0.937, weight_decay=5e-4
        )
        self.ema = ModelEMA(self.model)
        self.precision = Precision.choose(setting.amp, self.device)

    def __call__(self) -> None:
        """Forward, loss, backward, gradient clipping, optimizer step, EMA update."""
        with self.precision.autocast(self.device):
            total = self.loss(self.model_call(self.batch.images), self.batch).total
        torch.autograd.backward(self.precision.scaler.scale(total))
        self.precision.scaler.unscale_(self.optimizer)
        clip_gradients(self.model)
        self.precision.scaler.step(self.optimizer)
        self.precision.scaler.update()
        self.optimizer.zero_grad()
        self.ema.update(self.model)


def _random_batch(setting: Setting) -> Batch:
    generator = torch.Generator().manual_seed(0)
    size, count = setting.image_size, setting.batch_size
    num_boxes = count * BOXES_PER_IMAGE
    corner = torch.rand(num_boxes, 2, generator=generator) * size * 0.6
    sides = torch.rand(num_boxes, 2, generator=generator) * size * 0.35 + 8
    batch = Batch(
        images=torch.rand(count, 3, size, size, generator=generator),
        image_index=torch.arange(count).repeat_interleave(BOXES_PER_IMAGE),
        class_ids=torch.zeros(num_boxes, dtype=torch.int64),
        boxes=torch.cat((corner, corner + sides), 1),
        image_ids=(0,) * count,
        letterboxes=(None,) * count,
        paths=(Path(),) * count,
    )
    return batch.to(setting.device)


def interleaved_ms(
    work: Mapping[str, Callable[[], object]],
    rounds: int,
    device: torch.device,
    enough: Callable[[], bool] = lambda: False,
) -> dict[str, list[float]]:
    """Name -> milliseconds in each round, after one warm-up round.

    Args:
        work: name -> what is timed.
        rounds: as many, at least one.
        device: waited for before and after.
        enough: asked after each round, the warm-up too, whether it was the last; one that counts
            is made in any case.
    """
    found: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, call in work.items():
            _wait(device)
            start = time.perf_counter()
            call()
            _wait(device)
            if number > 0:
                found[name].append((time.perf_counter() - start) * 1e3)
        logger.info("round %d of %d", number, rounds)
        if enough() and number > 0:
            break
    return found


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def training_ms(setting: Setting) -> dict[str, list[float]]:
    """Family -> milliseconds of one optimizer step in each round."""
    steps = {family: TrainingStep(family, setting) for family in FAMILIES}
    return interleaved_ms(steps, setting.rounds, setting.device)


@torch.no_grad()
def inference_ms(setting: Setting) -> dict[str, list[float]]:
    """Milliseconds per image of each family in train form, and in deploy form (`X, converted`)."""
    size = setting.inference_size
    image = torch.rand(1, 3, size, size).to(setting.device)
    work: dict[str, Callable[[], object]] = {}
    for family in FAMILIES:
        model = setting.build(family).to(setting.device).eval()
        work[family] = _bound(model, image)
        work[f"{family}, converted"] = _bound(to_deploy(model), image)
    return interleaved_ms(work, 4 * setting.rounds, setting.device)


def _bound(model: Detector, image: Tensor) -> Callable[[], object]:
    return lambda: model(image)


def peak_memory(family: str, setting: Setting) -> float:
    """Peak memory in MB over three training steps, in a separate process."""
    command = [
        sys.executable, "-m", "experiments.block_costs", "--peak-of", family, "--cfg", setting.cfg,
        "--imgsz", str(setting.image_size), "--batch-size", str(setting.batch_size),
        "--device", str(setting.device), "--amp", setting.amp,
    ]  # fmt: skip
    done = run_child(command, cwd=ROOT, capture=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def print_peak(family: str, setting: Setting) -> None:
    """Take three steps and print the peak in MB; runs in the process of `peak_memory`."""
    step = TrainingStep(family, setting)
    for _ in range(3):
        step()
    sys.stdout.write(f"{json.dumps(peak_memory_mb(setting.device))}\n")


def onnx_nodes(model: Detector) -> int:
    """The number of computing nodes in the exported file, not simplified."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        options = OnnxOptions((320, 320), simplify=False)
        write_onnx(path, DecodedNetwork(model).eval(), options, {})
        counts = operator_counts(path)
    return sum(count for name, count in counts.items() if name not in NOT_COMPUTING)


def measure(setting: Setting) -> dict[str, dict[str, Any]]:
    """Family -> all measurements, as the JSON report holds them."""
    train, infer = training_ms(setting), inference_ms(setting)
    found = {}
    for family in FAMILIES:
        model = setting.build(family).eval()
        deployed = to_deploy(model)
        found[family] = {
            "parameters": {"train": count_parameters(model), "deploy": count_parameters(deployed)},
            "step_ms": train[family],
            "step_ratio": ratios(train[family], train[PLAIN]),
            "peak_memory_mb": peak_memory(family, setting),
            "inference_ms": {"train": infer[family], "deploy": infer[f"{family}, converted"]},
            "inference_ratio": {
                "train": ratios(infer[family], infer[PLAIN]),
                "deploy": ratios(infer[f"{family}, converted"], infer[f"{PLAIN}, converted"]),
            },
            "onnx_nodes": {"train": onnx_nodes(model), "deploy": onnx_nodes(deployed)},
        }
        logger.info("%s: %s", family, _summary(found[family]))
    return found


def ratios(values: list[float], plain: list[float]) -> list[float]:
    """Ratios to the plain network, round by round."""
    return [value / other for value, other in zip(values, plain, strict=True)]


def _summary(found: Mapping[str, Any]) -> str:
    step = statistics.median(found["step_ratio"])
    return f"step {step:.2f} x plain, peak {found['peak_memory_mb']:.0f} MB"


def _head(setting: Setting) -> list[str]:
    """The introduction of the report: network, sizes, machine."""
    machine = f"{machine_line()} --amp {setting.amp}. GPU: not measured."
    if setting.device.type == "cuda":
        machine = (
            f"Machine: {describe_device(setting.device)}, torch {torch.__version__}, "
            f"Python {platform.python_version()}, --amp {setting.amp}."
        )
    return [
        f"{Path(setting.cfg).stem}, 80 classes; a training step (forward, loss, backward, "
        f"clipping, SGD, EMA) at {setting.image_size} px, batch {setting.batch_size}; inference of "
        f"one image at {setting.inference_size} px in PyTorch. Medians of {setting.rounds} "
        f"rounds ({4 * setting.rounds} for inference), ratios to the plain network of the same "
        "round, in brackets the lowest and the highest. Peak memory is the whole process's "
        "over three steps, weights, gradients and average included.",
        "",
        f"{machine} Made by `python -m experiments.block_costs` while nothing else ran.",
    ]


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cfg", default="yolov5s.yaml")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--inference-imgsz", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--amp", default="off", choices=("off", "bf16", "fp16"))
    parser.add_argument("--out", type=Path, default=REPORTS)
    parser.add_argument("--peak-of", choices=FAMILIES, help="only print this family's peak memory")
    arguments = parser.parse_args()
    setting = Setting(
        cfg=arguments.cfg,
        image_size=arguments.imgsz,
        batch_size=arguments.batch_size,
        inference_size=arguments.inference_imgsz,
        rounds=arguments.rounds,
        device=choose_device(arguments.device),
        amp=arguments.amp,
    )
    if arguments.peak_of:
        print_peak(arguments.peak_of, setting)
        return
    configure_logging()
    write_report(arguments.out, _head(setting), setting.device.type, measure(setting))


if __name__ == "__main__":
    main()
