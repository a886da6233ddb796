"""Train a detector: `python train.py --data coco.yaml --cfg repyolov5s.yaml --epochs 300`."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data.augment import AugmentConfig
from data.dataset_spec import load_dataset_spec
from data.loader import EvalLoader, TrainLoader
from data.training_pictures import PictureConfig, load_training_pictures
from models.box_coder import BoxCoder
from models.detector import Detector
from models.initial_weights import initial_model
from models.loading import build_from_checkpoint
from models.loss import DetectionLoss, LossConfig
from models.summary import log_start
from models.torch_predictor import TorchPredictor
from utils.checkpoint import Checkpoint, load_checkpoint
from utils.cli import run_script
from utils.device import choose_device, peak_memory_mb
from utils.engine.best_epoch import BestEpoch, fitness
from utils.engine.ema import ModelEMA
from utils.engine.epoch import Precision, TrainingState, train_one_epoch
from utils.engine.evaluate import Evaluation, evaluate
from utils.engine.freeze import freeze_layers
from utils.engine.multi_scale import MultiScale
from utils.engine.optim import build_optimizer, scaled_weight_decay
from utils.engine.progress import continue_from, progress_of
from utils.engine.schedule import Schedule
from utils.evaluation_report import EvaluationPictures, log_table
from utils.hyperparameters import Hyperparameters
from utils.letterbox import input_size
from utils.metrics.coco import CocoMetrics
from utils.output_files import make_run_folder, write_json
from utils.postprocess import VAL_POSTPROCESS
from utils.results_table import EpochRow, log_epoch
from utils.resumed_run import (
    ResumedRun,
    check_changes,
    check_classes,
    read_resumed_run,
    settings_to_continue,
)
from utils.seed import seed_everything
from utils.train_config import REFUSED, TrainConfig
from utils.training_run import TrainingRun, as_plain_values

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a training run reached, and where its files are."""

    folder: Path
    metrics: CocoMetrics
    report: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recipe:
    """The parts of a run, as the settings ask for them."""

    class_names: tuple[str, ...]
    image_size: int
    device: torch.device
    batches: TrainLoader
    val_batches: EvalLoader
    criterion: DetectionLoss
    schedule: Schedule
    state: TrainingState[Detector]
    resize: MultiScale | None


def train(config: TrainConfig) -> TrainResult:
    """Train as YOLOv5 does and keep the best and the last checkpoint.

    Raises:
        UserError: a file or a flag is wrong.
    """
    start = time.monotonic()
    resumed = read_resumed_run(config)
    hyp = Hyperparameters.from_file(config.hyp) if resumed is None else resumed.hyp
    recipe = gather(config, hyp, resumed)
    state, batches, schedule = recipe.state, recipe.batches, recipe.schedule
    best, first_epoch = BestEpoch(config.patience), 0
    if resumed is not None:
        first_epoch = continue_from(resumed.progress, state, best, len(batches))
    with _open_run(config, hyp, resumed, first_epoch) as run:
        run.draw_labels(batches.dataset.records, recipe.class_names)
        predict = TorchPredictor(state.ema.model, VAL_POSTPROCESS, criterion=recipe.criterion)
        log_start(state.model, recipe.device, run.folder, first_epoch)
        for epoch in range(first_epoch, config.epochs):
            train_loss = train_one_epoch(
                state,
                recipe.criterion,
                run.drawing_first(batches.epoch(epoch), epoch, recipe.class_names),
                schedule,
                epoch,
                device=recipe.device,
                resize=recipe.resize,
                on_skip=run.note_skipped,
            )
            is_last = epoch + 1 == config.epochs
            evaluation = None
            if is_last or (not config.noval and (epoch + 1) % config.eval_interval == 0):
                evaluation = _evaluate(predict, recipe)
            row = EpochRow.of(epoch, train_loss, evaluation, state.optimizer)
            run.add_epoch(row)
            log_epoch(row, config.epochs)
            better = evaluation is not None and best.update(epoch, fitness(evaluation.metrics))
            if better or is_last or not config.nosave:
                progress = progress_of(state, best, epoch, len(batches))
                checkpoint = _checkpoint(recipe, row, run.settings, progress)
                run.save(checkpoint, better=better, keep_as=config.name_to_keep(epoch))
            if best.should_stop(epoch):
                logger.info("No better epoch for %d epochs: stopped.", config.patience)
                break
    metrics = _judge_best(run, recipe).metrics
    epochs = range(first_epoch, epoch + 1)
    report = _report(metrics, run, recipe, best, epochs, time.monotonic() - start)
    if config.report:
        write_json(Path(config.report), report)
    return TrainResult(run.folder, metrics, report)


def gather(config: TrainConfig, hyp: Hyperparameters, resumed: ResumedRun | None) -> Recipe:
    """Network, pictures, loss, optimizer and schedule.

    Raises:
        UserError: a file or a flag is wrong.
    """
    if resumed is not None:
        check_changes(config, resumed)
    seed_everything(config.seed, deterministic=config.deterministic)
    device = choose_device(config.device)
    data_spec = load_dataset_spec(config.data)
    class_names = ("object",) if config.single_cls else data_spec.class_names
    if resumed is None:
        cfg, overrides = config.cfg, config.model_overrides()
        model = initial_model(cfg, config.weights, len(class_names), overrides).to(device)
        ema = ModelEMA(model)
    else:
        check_classes(class_names, resumed)
        model = build_from_checkpoint(resumed.checkpoint, averaged=False).to(device)
        ema = ModelEMA(build_from_checkpoint(resumed.checkpoint).to(device))
    stride = max(model.strides)
    image_size = input_size(config.imgsz, stride)
    pictures = _picture_config(config, stride, image_size, device)
    batches, val_batches = load_training_pictures(data_spec, hyp.part(AugmentConfig), pictures)
    losses = hyp.part(LossConfig, label_smoothing=config.label_smoothing)
    frozen = freeze_layers(model.layers, config.freeze)
    optimizer = build_optimizer(
        model,
        config.optimizer,
        lr=hyp.lr0,
        momentum=hyp.momentum,
        weight_decay=scaled_weight_decay(hyp.weight_decay, config.batch_size),
    )
    precision = Precision.choose(config.amp, device)
    return Recipe(
        class_names=class_names,
        image_size=image_size,
        device=device,
        batches=batches,
        val_batches=val_batches,
        criterion=DetectionLoss(BoxCoder.of(model), len(class_names), image_size, losses),
        schedule=hyp.part(
            Schedule,
            epochs=config.epochs,
            batches_per_epoch=len(batches),
            batch_size=config.batch_size,
            cosine=config.cos_lr,
        ),
        state=TrainingState(model, ema, optimizer, precision, frozen),
        resize=MultiScale(image_size, stride, config.seed) if config.multi_scale else None,
    )


def _picture_config(
    config: TrainConfig, stride: int, image_size: int, device: torch.device
) -> PictureConfig:
    return PictureConfig(
        image_size=image_size,
        stride=stride,
        batch_size=config.batch_size,
        workers=config.workers,
        seed=config.seed,
        rect=config.rect,
        cache=config.cache == "ram",
        mosaic_until_epoch=config.mosaic_until_epoch(),
        strict=config.strict,
        single_class=config.single_cls,
        pin_memory=device.type == "cuda",
    )


def _evaluate(
    predict: TorchPredictor, recipe: Recipe, watch: EvaluationPictures | None = None
) -> Evaluation:
    batches = recipe.val_batches
    records = batches.dataset.records
    return evaluate(predict, batches, len(batches), records, recipe.class_names, watch=watch)


def _open_run(
    config: TrainConfig, hyp: Hyperparameters, resumed: ResumedRun | None, first_epoch: int
) -> TrainingRun:
    """A new folder, or the one of the run that is continued."""
    if resumed is None:
        folder = make_run_folder(config.project, config.name, exist_ok=config.exist_ok)
    else:
        folder = resumed.folder
    settings = {"hyp": as_plain_values(hyp), "opt": as_plain_values(config)}
    return TrainingRun(folder, settings, pictures=not config.noplots, first_epoch=first_epoch)


def _checkpoint(
    recipe: Recipe,
    row: EpochRow,
    settings: Mapping[str, Mapping[str, Any]],
    progress: dict[str, Any],
) -> Checkpoint:
    model = recipe.state.model
    return Checkpoint(
        form="train",
        spec=model.spec.to_yaml(),
        class_names=recipe.class_names,
        weights=model.state_dict(),
        image_size=recipe.image_size,
        ema_weights=recipe.state.ema.model.state_dict(),
        training=progress,
        config=dict(settings),
        metrics={"epoch": row.epoch, "AP": row.AP, "AP50": row.AP50},
    )


def _judge_best(run: TrainingRun, recipe: Recipe) -> Evaluation:
    """The AP of the best checkpoint as read back from its file, with its pictures."""
    model = build_from_checkpoint(load_checkpoint(run.best)).to(recipe.device)
    watch = EvaluationPictures(run.folder, recipe.class_names) if run.pictures else None
    evaluation = _evaluate(TorchPredictor(model, VAL_POSTPROCESS), recipe, watch)
    if watch is not None:
        watch.finish(evaluation.metrics)
    logger.info("Best checkpoint: %s", run.best)
    log_table(evaluation.metrics, every_class=True)
    return evaluation


def _report(
    metrics: CocoMetrics,
    run: TrainingRun,
    recipe: Recipe,
    best: BestEpoch,
    epochs: range,
    seconds: float,
) -> dict[str, Any]:
    return {
        "epochs": epochs.stop,
        "best_epoch": best.epoch,
        "AP": metrics.AP,
        "AP50": metrics.AP50,
        "precision": metrics.precision,
        "recall": metrics.recall,
        "weights": {"best": str(run.best), "last": str(run.last)},
        "seconds": seconds,
        "images_per_second": len(epochs) * len(recipe.batches.dataset) / seconds,
        "peak_memory_mb": peak_memory_mb(recipe.device),
        "skipped_steps": recipe.state.skipped_steps,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run_script(TrainConfig, _run, argv, REFUSED, settings_to_continue)


def _run(config: TrainConfig) -> int:
    result = train(config)
    best = result.report["weights"]["best"]
    logger.info("Results saved to %s", result.folder)
    logger.info("Next: python convert.py --weights %s --data %s", best, config.data)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
