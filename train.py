"""Train a detector: `python train.py --data coco.yaml --cfg repyolov5s.yaml --epochs 300`."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data.augment import AugmentConfig
from data.box_sizes import box_sizes
from data.dataset_spec import load_dataset_spec
from data.loader import EvalLoader, TrainLoader, worker_deaths_named
from data.training_pictures import PictureConfig, load_training_pictures
from models.box_coder import BoxCoder
from models.detector import Detector
from models.initial_weights import initial_model
from models.loading import build_from_checkpoint, resumed_model
from models.loss import DetectionLoss, LossConfig
from models.summary import log_start
from models.torch_predictor import TorchPredictor
from models.training_checkpoint import training_checkpoint
from utils.anchor_search import check_anchors
from utils.checkpoint import load_checkpoint
from utils.cli import run_script
from utils.device import choose_device, peak_memory_mb
from utils.engine.best_epoch import BestEpoch, fitness
from utils.engine.distributed import Ranks, joined
from utils.engine.ema import ModelEMA
from utils.engine.epoch import train_one_epoch
from utils.engine.evaluate import Evaluation, evaluate
from utils.engine.multi_scale import MultiScale
from utils.engine.progress import continue_from, progress_of
from utils.engine.schedule import Schedule
from utils.engine.training_state import StateConfig, TrainingState, start_training
from utils.evaluation_report import EvaluationPictures, log_table
from utils.hyperparameters import Hyperparameters
from utils.letterbox import input_size
from utils.metrics.coco import CocoMetrics
from utils.output_files import write_json
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
from utils.training_run import TrainingRun, open_run

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
    val_criterion: DetectionLoss
    schedule: Schedule
    state: TrainingState[Detector]
    resize: MultiScale | None


def train(config: TrainConfig) -> TrainResult:
    """Train as YOLOv5 does and keep the best and the last checkpoint.

    To continue a run from Python, start from `settings_to_continue(TrainConfig(resume=...))`.

    Raises:
        UserError: a file or a flag is wrong.
    """
    ranks = Ranks.of_environment()
    device = choose_device(config.device, ranks)
    with joined(ranks, device):
        return _train(config, ranks, device)


def _train(config: TrainConfig, ranks: Ranks, device: torch.device) -> TrainResult:
    start = time.monotonic()
    resumed = read_resumed_run(config)
    hyp = Hyperparameters.from_file(config.hyp) if resumed is None else resumed.hyp
    recipe = gather(config, hyp, resumed, ranks, device)
    state, batches, names = recipe.state, recipe.batches, recipe.class_names
    best, first_epoch = BestEpoch(config.patience), 0
    if resumed is not None:
        first_epoch = continue_from(resumed.progress, state, best, len(batches))
    run = open_run(config, hyp, resumed, first_epoch, ranks)
    with run, worker_deaths_named(batches, recipe.val_batches):
        run.draw_labels(batches.dataset.records, names)
        predict = TorchPredictor(state.ema.model, VAL_POSTPROCESS, criterion=recipe.val_criterion)
        log_start(state.model, recipe.device, run.folder, first_epoch)
        for epoch in range(first_epoch, config.epochs):
            train_loss = train_one_epoch(
                state,
                recipe.criterion,
                run.drawing_first(batches.epoch(epoch, state.AP_of_class), epoch, names),
                recipe.schedule,
                epoch,
                device=recipe.device,
                resize=recipe.resize,
                on_skip=run.note_skipped,
            )
            is_last = epoch + 1 == config.epochs
            evaluation = None
            if is_last or (not config.noval and (epoch + 1) % config.eval_interval == 0):
                ranks.share_buffers(state.ema.model)
                evaluation = _evaluate(predict, recipe.val_batches, names, ranks=ranks)
                state.AP_of_class = tuple(row.AP for row in evaluation.metrics.per_class)
            row = EpochRow.of(epoch, train_loss, evaluation, state.optimizer)
            run.add_epoch(row)
            log_epoch(row, config.epochs)
            better = evaluation is not None and best.update(epoch, fitness(evaluation.metrics))
            if better or is_last or not config.nosave:
                progress = progress_of(state, best, epoch, len(batches))
                checkpoint = training_checkpoint(
                    state,
                    row,
                    progress,
                    class_names=names,
                    image_size=recipe.image_size,
                    settings=run.settings,
                )
                run.save(checkpoint, better=better, keep_as=config.name_to_keep(epoch))
            if best.should_stop(epoch):
                logger.info("No better epoch for %d epochs: stopped.", config.patience)
                break
    metrics = ranks.from_first(lambda: _judge_best(run, recipe))
    epochs = range(first_epoch, epoch + 1)
    report = _report(metrics, run, recipe, best, epochs, time.monotonic() - start)
    if config.report and ranks.is_first:
        write_json(Path(config.report), report)
    return TrainResult(run.folder, metrics, report)


def gather(
    config: TrainConfig,
    hyp: Hyperparameters,
    resumed: ResumedRun | None,
    ranks: Ranks,
    device: torch.device,
) -> Recipe:
    """Network, pictures, loss, optimizer and schedule.

    Raises:
        UserError: a file or a flag is wrong.
    """
    seed_everything(config.seed, deterministic=config.deterministic)
    data_spec = load_dataset_spec(config.data)
    class_names = ("object",) if config.single_cls else data_spec.class_names
    if resumed is None:
        model, ema = _fresh_model(config, len(class_names), device)
    else:
        check_changes(config, resumed)
        check_classes(class_names, resumed)
        model, ema = resumed_model(resumed.checkpoint, device)
    stride = max(model.strides)
    image_size = input_size(config.imgsz, stride)
    pictures = _picture_config(config, stride, image_size, device)
    augment = hyp.part(AugmentConfig)
    batches, val_batches = load_training_pictures(data_spec, augment, pictures, ranks)
    if resumed is None and not config.noautoanchor:
        sizes = box_sizes(batches.dataset.records, image_size)
        anchors = check_anchors(model.spec.anchors, sizes, hyp.anchor_t, seed=config.seed)
        model.use_anchors(anchors)
        ema.model.use_anchors(anchors)
    losses = hyp.part(LossConfig, label_smoothing=config.label_smoothing)
    settings, coder = config.part(StateConfig), BoxCoder.of(model)
    state = start_training(model, model.layers, ema, hyp, settings, device=device, ranks=ranks)
    return Recipe(
        class_names=class_names,
        image_size=image_size,
        device=device,
        batches=batches,
        val_batches=val_batches,
        criterion=DetectionLoss(coder, len(class_names), image_size, losses, ranks),
        val_criterion=DetectionLoss(coder, len(class_names), image_size, losses),
        schedule=hyp.part(
            Schedule,
            epochs=config.epochs,
            batches_per_epoch=len(batches),
            batch_size=config.batch_size,
            cosine=config.cos_lr,
        ),
        state=state,
        resize=MultiScale(image_size, stride, config.seed) if config.multi_scale else None,
    )


def _fresh_model(
    config: TrainConfig, num_classes: int, device: torch.device
) -> tuple[Detector, ModelEMA[Detector]]:
    overrides = config.model_overrides()
    model = initial_model(config.cfg, config.weights, num_classes, overrides).to(device)
    return model, ModelEMA(model)


def _picture_config(
    config: TrainConfig, stride: int, image_size: int, device: torch.device
) -> PictureConfig:
    return config.part(
        PictureConfig,
        image_size=image_size,
        stride=stride,
        mosaic_until_epoch=config.mosaic_until_epoch(),
        single_class=config.single_cls,
        pin_memory=device.type == "cuda",
    )


def _evaluate(
    predict: TorchPredictor, batches: EvalLoader, names: tuple[str, ...], **others: Any
) -> Evaluation:
    return evaluate(predict, batches, len(batches), batches.dataset.records, names, **others)


def _judge_best(run: TrainingRun, recipe: Recipe) -> CocoMetrics:
    """The AP of the best checkpoint as read back from its file, with its pictures."""
    model = build_from_checkpoint(load_checkpoint(run.best)).to(recipe.device)
    watch = EvaluationPictures(run.folder, recipe.class_names) if run.pictures else None
    predict, batches = TorchPredictor(model, VAL_POSTPROCESS), recipe.val_batches.whole()
    metrics = _evaluate(predict, batches, recipe.class_names, watch=watch).metrics
    if watch is not None:
        watch.finish(metrics)
    logger.info("Best checkpoint: %s", run.best)
    log_table(metrics, every_class=True)
    return metrics


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
    if not Ranks.of_environment().is_first:
        logging.getLogger().setLevel(logging.ERROR)  # one process speaks for all
    result = train(config)
    logger.info("Results saved to %s", result.folder)
    best = result.report["weights"]["best"]
    logger.info("Next: python convert.py --weights %s --data %s", best, config.data)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
