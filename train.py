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
from data.image_cache import cache_bytes
from data.label_summary import log_label_summary
from data.loader import EvalLoader, TrainLoader, worker_deaths_named
from data.training_images import ImageConfig, load_training_images, read_training_records
from models.checkpoints.loading import build_from_checkpoint
from models.checkpoints.training_checkpoint import training_checkpoint
from models.learner import Learner
from models.memory_probe import out_of_memory_explained
from models.network.anchor_search import check_anchors
from models.network.detector import Detector
from models.network_summary import log_start
from models.runtimes.torch_predictor import TorchPredictor
from utils.checkpoint import load_checkpoint
from utils.cli import run_script
from utils.device import choose_device, peak_memory_mb
from utils.engine.best_epoch import BestEpoch, fitness
from utils.engine.distributed import Ranks, process_group
from utils.engine.epoch import Criterion, train_one_epoch
from utils.engine.evaluate import Evaluation, evaluate
from utils.engine.hyper_search import search
from utils.engine.progress import continue_from, progress_of
from utils.engine.results_table import EpochRow, log_epoch
from utils.engine.resume import (
    ResumedRun,
    read_resumed_run,
    settings_to_continue,
)
from utils.engine.run_folder import TrainingRun, open_run
from utils.engine.run_summary import log_run_summary
from utils.engine.schedule import Schedule
from utils.engine.training_state import StateConfig, TrainingState
from utils.errors import ConfigError
from utils.evaluation_report import EvaluationImages, log_table
from utils.hyperparameters import Hyperparameters
from utils.metrics.coco import CocoMetrics
from utils.output_files import write_json
from utils.postprocess import VAL_POSTPROCESS
from utils.seed import seed_everything
from utils.train_config import REFUSED, TrainConfig, with_batch_size, with_whole_paths

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a training run reached, and where its files are."""

    folder: Path
    metrics: CocoMetrics
    report: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recipe:
    """The parts of a run, as the settings ask for them; `config` has the batch size measured."""

    config: TrainConfig
    learner: Learner
    batches: TrainLoader
    val_batches: EvalLoader
    criterion: Criterion
    schedule: Schedule
    state: TrainingState[Detector]

    def fitting_batch_size(self) -> int:
        """Images per batch that fit into the memory of each rank, as this one measures it."""
        ranks = self.state.ranks.count
        fewer = (self.config.batch_size - 1) // ranks
        return ranks * self.learner.fitting_batch_size(self.config, Ranks(), fewer)


def train(config: TrainConfig) -> TrainResult:
    """Train as YOLOv5 does and keep the best and the last checkpoint.

    To continue a run from Python, start from `settings_to_continue(TrainConfig(resume=...))`.

    Raises:
        UserError: a file or a flag is wrong.
    """
    ranks = Ranks.of_environment()
    device = choose_device(config.device, ranks)
    with process_group(ranks, device):
        return _train(config, ranks, device)


def _train(config: TrainConfig, ranks: Ranks, device: torch.device) -> TrainResult:
    start = time.monotonic()
    resumed = read_resumed_run(config)
    hyp = Hyperparameters.from_file(config.hyp) if resumed is None else resumed.hyp
    recipe = gather(config, hyp, resumed, ranks, device)
    learner, state, batches = recipe.learner, recipe.state, recipe.batches
    best, first_epoch = BestEpoch(config.patience), 0
    if resumed is not None:
        first_epoch = continue_from(resumed.progress, state, best, len(batches))
    run = open_run(recipe.config, hyp, resumed, first_epoch, ranks)
    memory_explained = out_of_memory_explained(
        recipe.fitting_batch_size,
        batch_size=recipe.config.batch_size,
        image_size=learner.image_size,
    )
    with run, memory_explained, worker_deaths_named(batches, recipe.val_batches):
        run.draw_labels(batches.dataset.records, learner.class_names)
        log_start(state.model, device, run.folder, first_epoch)
        epochs = train_epochs(recipe, run, best, first_epoch, device)
    metrics = ranks.broadcast(lambda: _evaluate_best(run, recipe, device))
    seconds = time.monotonic() - start
    report = {
        "epochs": epochs,
        "best_epoch": best.epoch,
        **run.report(metrics),
        "seconds": seconds,
        "images_per_second": (epochs - first_epoch) * len(batches.dataset) / seconds,
        "peak_memory_mb": peak_memory_mb(device),
        "skipped_steps": state.skipped_steps,
    }
    if config.report and ranks.is_first:
        write_json(Path(config.report), report)
    return TrainResult(run.folder, metrics, report)


def train_epochs(
    recipe: Recipe, run: TrainingRun, best: BestEpoch, first_epoch: int, device: torch.device
) -> int:
    """Train, evaluate and save epoch by epoch, to the last or until none is better any more.

    Returns:
        How many epochs the run has had in all.
    """
    config, learner, state, batches = recipe.config, recipe.learner, recipe.state, recipe.batches
    names, start = learner.class_names, time.monotonic()
    predict = TorchPredictor(state.ema.model, VAL_POSTPROCESS, criterion=learner.label_loss())
    for epoch in range(first_epoch, config.epochs):
        train_loss = train_one_epoch(
            state,
            recipe.criterion,
            run.drawing_first(batches.epoch(epoch, state.AP_of_class), epoch, names),
            recipe.schedule,
            epoch,
            device=device,
            resize=learner.resize,
            on_skip=run.note_skipped,
        )
        is_last, evaluation = epoch + 1 == config.epochs, None
        if is_last or (not config.noval and (epoch + 1) % config.eval_interval == 0):
            state.ranks.broadcast_buffers(state.ema.model)
            evaluation = _evaluate(predict, recipe.val_batches, names, ranks=state.ranks)
            state.AP_of_class = tuple(row.AP for row in evaluation.metrics.per_class)
        row = EpochRow.of(epoch, train_loss, evaluation, state.optimizer)
        run.add_epoch(row)
        per_epoch = (time.monotonic() - start) / (epoch + 1 - first_epoch)
        log_epoch(row, config.epochs, per_epoch * (config.epochs - 1 - epoch))
        better = evaluation is not None and best.update(epoch, fitness(evaluation.metrics))
        if better or is_last or not config.nosave:
            checkpoint = training_checkpoint(
                state,
                row,
                {
                    **progress_of(state, best, epoch, len(batches)),
                    "teacher": learner.teacher_digest,
                },
                class_names=names,
                image_size=learner.image_size,
                settings=run.settings,
            )
            run.save(checkpoint, better=better, keep_as=config.name_to_keep(epoch))
        if best.should_stop(epoch):
            logger.info("No better epoch for %d epochs: stopped.", config.patience)
            break
    return epoch + 1


def gather(
    config: TrainConfig,
    hyp: Hyperparameters,
    resumed: ResumedRun | None,
    ranks: Ranks,
    device: torch.device,
) -> Recipe:
    """Network, images, loss, optimizer and schedule.

    Raises:
        UserError: a file or a flag is wrong.
    """
    seed_everything(config.seed, deterministic=config.deterministic)
    config = with_whole_paths(config)
    data_spec, augment = load_dataset_spec(config.data), hyp.part(AugmentConfig)
    class_names = data_spec.classes(single=config.single_cls)
    learner = Learner.of(config, hyp, resumed, class_names, device)
    stride = max(learner.model.strides)
    if config.image_weights and config.noval:
        logger.warning("--image-weights: with --noval only how rare a class is counts")
    records, val_records = read_training_records(
        data_spec,
        strict=config.strict,
        single_class=config.single_cls,
        outlines=augment.copy_paste > 0,
    )
    sizes, anchors = box_sizes(records, learner.image_size), learner.model.spec.anchors
    log_label_summary(records, sizes, class_names, learner.image_size)
    if resumed is None and learner.teacher is None and not config.noautoanchor:
        keep, seed = learner.head_is_trained, config.seed
        learner.use_anchors(check_anchors(anchors, sizes, hyp.anchor_t, seed=seed, keep=keep))
    cached = cache_bytes(records, learner.image_size) if config.cache == "ram" else 0
    given = config
    config = with_batch_size(
        config, len(records), lambda most: learner.fitting_batch_size(given, ranks, most, cached)
    )
    images = config.part(
        ImageConfig,
        image_size=learner.image_size,
        stride=stride,
        num_classes=len(class_names),
        mosaic_until_epoch=config.mosaic_until_epoch(),
        pin_memory=device.type == "cuda",
    )
    batches, val_batches = load_training_images(records, val_records, augment, images, ranks)
    return Recipe(
        config=config,
        learner=learner,
        batches=batches,
        val_batches=val_batches,
        criterion=learner.training_loss(ranks),
        schedule=hyp.part(
            Schedule,
            epochs=config.epochs,
            batches_per_epoch=len(batches),
            batch_size=config.batch_size,
            cosine=config.cos_lr,
        ),
        state=learner.start(config.part(StateConfig), ranks),
    )


def _evaluate(
    predict: TorchPredictor, batches: EvalLoader, names: tuple[str, ...], **others: Any
) -> Evaluation:
    return evaluate(predict, batches, len(batches), batches.dataset.records, names, **others)


def _evaluate_best(run: TrainingRun, recipe: Recipe, device: torch.device) -> CocoMetrics:
    """The AP of the best checkpoint as read back from its file, with its images."""
    model = build_from_checkpoint(load_checkpoint(run.best)).to(device)
    names = recipe.learner.class_names
    watch = EvaluationImages(run.folder, names) if run.images else None
    predict, batches = TorchPredictor(model, VAL_POSTPROCESS), recipe.val_batches.unsharded()
    metrics = _evaluate(predict, batches, names, watch=watch).metrics
    if watch is not None:
        watch.finish(metrics)
    logger.info("Best checkpoint: %s", run.best)
    log_table(metrics, every_class=True)
    return metrics


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run_script(TrainConfig, _run, argv, REFUSED, settings_to_continue)


def _run(config: TrainConfig) -> int:
    if not Ranks.of_environment().is_first:
        logging.getLogger().setLevel(logging.ERROR)  # one process speaks for all
    if config.evolve is not None:
        return _evolve(config)
    result = train(config)
    # A network of one class can only be evaluated on data of one class.
    log_run_summary(result.folder, result.report, "" if config.single_cls else config.data)
    return 0


def _evolve(config: TrainConfig) -> int:
    if config.resume is not None or Ranks.of_environment().count > 1:
        raise ConfigError("--evolve: runs one after the other, without --resume and torchrun")
    best = search(config, lambda one_run: train(one_run).metrics)["hyp"]
    logger.info("Best hyper-parameters: %s", best)
    logger.info("Next: python train.py --hyp %s --data %s", best, config.data)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
