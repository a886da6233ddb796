"""What a trained network is worth: `python -m experiments.run_evaluation FOLDER --data D ...`.

Evaluates the best checkpoint of a run once and writes two files into its folder. `evaluation.json`
has the figures of val.py, those in which crowd regions (VOC's difficult boxes) count as objects,
and how large the weights of 3x3 kernels are by position. `bootstrap.npy` has AP on the images
themselves and on 1000 mixtures of them, the same for all runs: differences of two runs are paired.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.dataset_spec import load_dataset_spec
from data.eval_dataset import EvalDataset
from data.loader import eval_loader
from data.records import read_records
from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.kernel_statistics import layer_kernels, skeleton
from models.network.detector import Detector
from models.runtimes.torch_predictor import TorchPredictor
from models.runtimes.torch_runner import fastest_form
from utils.device import choose_device
from utils.engine.evaluate import Evaluation, evaluate
from utils.logs import configure_logging
from utils.metrics.coco import CocoMetrics, coco_metrics
from utils.metrics.matches import match_images
from utils.metrics.paired_bootstrap import average_precisions, image_draws
from utils.output_files import write_json
from utils.postprocess import VAL_POSTPROCESS
from utils.structures import FloatArray, ImageRecord, Targets

FIGURES_FILE, DRAWS_FILE = "evaluation.json", "bootstrap.npy"
FIGURES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
RESAMPLES, BATCH_SIZE = 1000, 32


def evaluate_run(folder: Path, data: Path, image_size: int, *, device: str, workers: int) -> None:
    """Write both files of a run.

    Args:
        folder: of the run, with weights/best.pt.
        data: data yaml, whose split `val` is evaluated.
        image_size: side of the network's input in pixels.
        device: as val.py takes it.
        workers: threads that load images.
    """
    spec = load_dataset_spec(data)
    records, names = read_records(spec, "val"), spec.class_names
    model = build_from_checkpoint(read_weights(folder / "weights" / "best.pt"))
    kernels = skeleton([layer.merged for layer in layer_kernels(model)])
    found = _evaluate(model, records, names, image_size, choose_device(device), workers)
    all_objects = [with_crowds_as_objects(record) for record in records]
    counted = coco_metrics(match_images(all_objects, found.detections, len(names)), names)
    np.save(folder / DRAWS_FILE, average_precisions(
        found.matches, image_draws(len(found.matches.image_ids), RESAMPLES)
    ))  # fmt: skip
    write_json(folder / FIGURES_FILE, {
        **_figures(found.metrics), "crowds_counted": _figures(counted),
        "per_class": {row.name: row.AP for row in found.metrics.per_class},
        "skeleton": kernels.tolist(),
    })  # fmt: skip


def _evaluate(
    model: Detector, records: Sequence[ImageRecord], class_names: Sequence[str], image_size: int,
    device: torch.device, workers: int,
) -> Evaluation:  # fmt: skip
    """As val.py does it."""
    dataset = EvalDataset(records, image_size, BATCH_SIZE, stride=model.stride, rect=True)
    loader = eval_loader(dataset, workers=workers, device_is_cuda=False)
    predict = TorchPredictor(fastest_form(model, device, torch.float32), VAL_POSTPROCESS)
    return evaluate(predict, loader, len(loader), dataset.records, class_names)


def _figures(metrics: CocoMetrics) -> dict[str, Any]:
    return {name: getattr(metrics, name) for name in FIGURES}


def with_crowds_as_objects(record: ImageRecord) -> ImageRecord:
    """The image with every crowd region as one object more."""
    sizes = record.crowd.boxes[:, 2:] - record.crowd.boxes[:, :2]
    areas: FloatArray = np.concatenate((record.areas, sizes.prod(1)))
    targets = Targets.concatenate([record.targets, record.crowd])
    return replace(record, targets=targets, areas=areas, crowd=Targets.empty())


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="of a run, with weights/best.pt")
    parser.add_argument("--data", type=Path, required=True, help="data yaml")
    parser.add_argument("--imgsz", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args(argv)
    configure_logging()
    evaluate_run(arguments.folder, arguments.data, arguments.imgsz, device=arguments.device,
                 workers=arguments.workers)  # fmt: skip


if __name__ == "__main__":
    main()
