"""Train a detector: `python train.py --data coco.yaml --cfg repyolov5s.yaml --epochs 300`."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from utils.logs import require_packages

if __name__ == "__main__":
    require_packages()

from data.dataset_spec import check_data_yaml, load_dataset_spec
from data.hyps import HYPS_FOLDER, used_keys
from models.network.model_spec import ModelSpec
from utils.cli import check_command_line, check_options, run_script
from utils.openmp import let_threads_sleep
from utils.train_config import REFUSED
from utils.train_config import TrainConfig as TrainConfig  # for callers: `from train import ...`

if __name__ == "__main__":  # what is wrong with the command line is said before torch is imported
    check_command_line(
        TrainConfig, REFUSED, data=check_data_yaml, cfg=ModelSpec.from_file, hyp=HYPS_FOLDER
    )
    let_threads_sleep()  # before torch is loaded
    require_packages("torch", "torchvision")

import torch

from data.augment import AugmentConfig
from data.loader import EvalLoader, TrainLoader, worker_deaths_named
from data.training_images import ImageConfig, TrainingImages
from models.checkpoints.initial_weights import Start, initial_model, spec_overrides
from models.checkpoints.loading import build_from_checkpoint
from models.conversion.norm_statistics import measure_norms
from models.losses.distillation import DistillationLoss, load_teacher
from models.losses.loss import DetectionLoss, LossConfig
from models.memory_probe import MemoryProbe, out_of_memory_explained
from models.network.anchors import check_anchors
from models.network.box_coder import BoxCoder
from models.network.detector import Detector, describe_network
from models.runtimes.torch_predictor import TorchPredictor
from models.runtimes.torch_runner import fastest_form
from utils.checkpoint import Checkpoint, license_of, load_checkpoint
from utils.device import choose_device, peak_memory_mb, seed_everything
from utils.engine import resume
from utils.engine.criterion import Criterion
from utils.engine.distributed import Ranks, process_group
from utils.engine.ema import ModelEMA
from utils.engine.epoch import train_one_epoch
from utils.engine.evaluate import Evaluation, evaluate
from utils.engine.hyper_search import search
from utils.engine.multi_scale import MultiScale
from utils.engine.optim import OptimizerConfig, describe_optimizer
from utils.engine.resume import ResumedRun
from utils.engine.schedule import Schedule
from utils.engine.training_report import TrainResult, log_banner, log_result, training_header
from utils.engine.training_run import EpochEnd, OnEpoch, TrainingRun, check_callback
from utils.engine.training_state import (
    StateConfig,
    TrainingState,
    describe_precision,
    start_training,
)
from utils.evaluation_images import EvaluationImages
from utils.evaluation_report import log_table
from utils.letterbox import choose_input_hw, scale_pixel_tensor
from utils.metrics.coco import CocoMetrics
from utils.output_files import write_json
from utils.postprocess import VAL_POSTPROCESS
from utils.process_end import end_process
from utils.run_folder import run_folder
from utils.strict_mapping import check_limits, from_flat, to_flat
from utils.strict_yaml import find_shipped, read_yaml

logger = logging.getLogger(__name__)
NORM_BATCHES = 8  # on which the norms of a deploy form are measured


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """A hyper-parameter yaml: flat in the file, here by the part of training that each belongs to.

    Attributes:
        optimizer: learning rate, momentum, weight decay and warm-up.
        loss: gains and weights of its terms.
        augment: random changes of training images.
        distill: gain of what `--teacher` adds to the loss.
    """

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    distill: float = 1.0

    def __post_init__(self) -> None:
        """Raise a ValueError where the gain is negative."""
        check_limits(self, distill=(0.0, math.inf))

    @classmethod
    def read(cls, name: str, resumed: ResumedRun | None = None) -> Hyperparameters:
        """A resumed run's, or those in a yaml, looked up here, then among the shipped ones."""
        content = read_yaml(find_shipped(name, HYPS_FOLDER)) if resumed is None else resumed.hyp
        where = name if resumed is None else f"{resumed.last}: hyp"
        return from_flat(where, used_keys(where, content), cls)


def train(config: TrainConfig, on_epoch: OnEpoch | None = None) -> TrainResult:
    """Train as YOLOv5 does; save the best and the last checkpoint.

    With `resume`, fields that are left at their defaults have the values of the run that goes on.

    Args:
        config: the flags.
        on_epoch: called with the figures of each epoch once its checkpoint is saved, in the first
            of all processes. True ends training as after the last epoch, other answers mean
            nothing. An error in it ends the run, which can be resumed.

    Raises:
        UserError: a file or a flag is wrong, or `on_epoch` is no function.
    """
    check_callback(on_epoch)
    return train_as_given(resume.continued(config), on_epoch)


def train_as_given(config: TrainConfig, on_epoch: OnEpoch | None = None) -> TrainResult:
    """`train`, but a default is meant as it is, with `resume` too."""
    check_options(config, TrainConfig)
    started, ranks = time.monotonic(), Ranks.of_environment()
    device = choose_device(config.device, ranks)
    with process_group(ranks, device):
        resumed = resume.read_resumed_run(config)
        hyp = Hyperparameters.read(config.hyp, resumed)
        seed_everything(config.seed, deterministic=config.deterministic)
        log_banner(config, to_flat(hyp), to_flat(Hyperparameters()), device, ranks)
        images, start, teacher = data_and_model(config, hyp, resumed, device)
        run, state, metrics = fit(config, hyp, resumed, images, start, teacher, ranks,
                                  on_epoch)  # fmt: skip
    seconds = time.monotonic() - started
    trained = state.next_epoch - (0 if resumed is None else resumed.next_epoch)
    result = TrainResult(
        epochs=state.next_epoch, best_epoch=state.best.epoch, metrics=metrics, weights=run.weights,
        seconds=seconds, images_per_second=trained * len(images.train) / seconds,
        peak_memory_mb=peak_memory_mb(device), skipped_steps=state.skipped_steps,
        folder=run.folder, example=images.val[0].path,
    )  # fmt: skip
    if config.report and ranks.is_first:
        write_json(Path(config.report), result.as_report())
    return result


def data_and_model(
    config: TrainConfig, hyp: Hyperparameters, resumed: ResumedRun | None, device: torch.device
) -> tuple[TrainingImages, Start, Detector | None]:
    """Images, the network to start with on its device, and the teacher if there is one.

    The network's anchors are settled here and never change: what is made of it later has them.
    """
    data = load_dataset_spec(config.data)
    class_names = data.classes(single=config.single_cls)
    if resumed is None:
        overrides = spec_overrides(rep_block=config.rep_block, rep_policy=config.rep_policy,
                                   activation=config.activation)  # fmt: skip
        start = initial_model(config.cfg, config.weights, len(class_names), overrides,
                              partial=config.partial_weights,
                              scales=config.scales)  # fmt: skip
        start.warn_of_other_classes(class_names)
    else:
        resume.check_resumable(resumed, config, class_names)
        start = Start(build_from_checkpoint(resumed.checkpoint, averaged=False), True,
                      resumed.checkpoint.image_hw, license_of(resumed.checkpoint))  # fmt: skip
    teacher = None
    if config.teacher:
        teacher = load_teacher(config.teacher, start.model, class_names, device)
        logger.info("Learning from %s beside the labels, with its anchors", config.teacher)
    image_size = max(choose_input_hw(config.imgsz, config.weights, start.model.stride,
                                     known_hw=start.image_hw))  # fmt: skip
    images = TrainingImages.read(data, image_size, strict=config.strict,
                                 single_class=config.single_cls,
                                 outlines=hyp.augment.copy_paste > 0,
                                 indexed=not config.no_cache_index)  # fmt: skip
    anchors = start.model.spec.anchors
    if teacher is not None:
        anchors = teacher.spec.anchors
    elif resumed is None and (start.model.spec.anchors_from_data or not config.noautoanchor):
        anchors = check_anchors(anchors, images.box_sizes(), hyp.loss.anchor_t, seed=config.seed,
                                keep=start.head_is_trained,
                                from_data=start.model.spec.anchors_from_data)  # fmt: skip
    return images, start._replace(model=start.model.with_anchors(anchors).to(device)), teacher


def fit(
    config: TrainConfig, hyp: Hyperparameters, resumed: ResumedRun | None, images: TrainingImages,
    start: Start, teacher: Detector | None, ranks: Ranks, on_epoch: OnEpoch | None,
) -> tuple[TrainingRun, TrainingState, CocoMetrics]:  # fmt: skip
    """Train a network on images and evaluate the best checkpoint."""
    # Loss, of this process's images alone or over all ranks.
    model = start.model
    labels = partial(DetectionLoss, BoxCoder.of(model), model.spec.num_classes, images.size,
                     hyp.loss, label_smoothing=config.label_smoothing)  # fmt: skip

    def criterion(ranks: Ranks) -> Criterion:
        loss = labels(ranks=ranks)
        return loss if teacher is None else DistillationLoss(loss, teacher, hyp.distill)

    # Batches, of a size with which a training step fits into memory.
    device, stride = next(model.parameters()).device, model.stride
    resize = MultiScale(images.size, stride, config.seed) if config.multi_scale else None
    largest, how = images.size if resize is None else resize.largest, StateConfig.of(config)
    probe = MemoryProbe(model, criterion(Ranks()), hyp.optimizer, how, largest, ranks)
    batch_size = probe.resolved_batch_size(config.batch_size, len(images.train),
                                           images.cache_bytes(config.cache))  # fmt: skip
    loading = ImageConfig.of(config, stride, batch_size, pin_memory=device.type == "cuda")
    batches, val_batches = images.loaders(hyp.augment, loading, ranks)

    # Optimizer and schedule, where a resumed run left them.
    ema = ModelEMA(with_norms_measured(start, batches, ranks))
    state = start_training(model, model.layers, ema, hyp.optimizer, how, batch_size=batch_size,
                           patience=config.patience, ranks=ranks)  # fmt: skip
    schedule = Schedule(hyp.optimizer, config.epochs, len(batches), batch_size, config.cos_lr)
    resume.continue_from(resumed, state, len(batches))

    def evaluate_now() -> Evaluation:
        folded = fastest_form(ema.model, device, torch.float32)  # a copy, as val.py runs it
        predict = TorchPredictor(folded, VAL_POSTPROCESS, criterion=labels())
        return evaluate(predict, val_batches, len(val_batches), val_batches.dataset.records,
                        images.class_names, ranks=ranks)  # fmt: skip

    # Epochs, then the evaluation of the best checkpoint.
    fitting, unsharded = partial(probe.smaller_batch, batch_size), val_batches.unsharded()
    with (
        open_run(config, hyp, resumed, state, start, images, batch_size) as run,
        out_of_memory_explained(fitting, batch_size=batch_size, image_size=images.size),
        worker_deaths_named(batches, val_batches, unsharded),
    ):
        train_epoch = partial(train_one_epoch, state, criterion(ranks), schedule=schedule,
                              device=device, resize=resize, on_skip=run.note_skipped)  # fmt: skip
        with run:
            train_epochs(config, state, batches, train_epoch, evaluate_now, run, on_epoch)
        return run, state, ranks.broadcast(lambda: evaluate_best(run, unsharded, device))


def with_norms_measured(start: Start, batches: TrainLoader, ranks: Ranks) -> Detector:
    """The network; where its weights are of merged convolutions, its norms fit the images.

    All processes go on with what the first one measured on its images.
    """
    if not start.assumed_norms:
        return start.model
    device = next(start.model.parameters()).device
    images = (scale_pixel_tensor(batch.images.to(device), torch.float32)
              for batch in islice(batches.epoch(0), NORM_BATCHES))  # fmt: skip
    count = measure_norms(start.model, images, start.assumed_norms)
    ranks.broadcast_weights(start.model)
    logger.info("Weights of merged convolutions: statistics of %d norms measured on images", count)
    return start.model


@contextmanager
def open_run(
    config: TrainConfig, hyp: Hyperparameters, resumed: ResumedRun | None, state: TrainingState,
    start: Start, images: TrainingImages, batch_size: int,
) -> Iterator[TrainingRun]:  # fmt: skip
    """A new folder, or the one of the run that goes on; the first of all processes writes there."""
    # A path that a resumed run finds from any folder, and what was chosen where it was left open.
    teacher = str(Path(config.teacher).absolute()) if config.teacher else ""
    opt = {**to_flat(config), "teacher": teacher, "batch_size": batch_size, "imgsz": images.size,
           "channels_last": state.channels_last}  # fmt: skip
    known = {"license": start.license} if start.license else {}
    described = Checkpoint("train", start.model.spec.to_yaml(), images.class_names, {}, images.size,
                           training={"teacher": resume.teacher_digest(teacher)},
                           config={"hyp": to_flat(hyp), "opt": opt, **known})  # fmt: skip
    new = run_folder(config.project, config.name, exist_ok=config.exist_ok)
    with ExitStack() as opened:
        folder = state.ranks.broadcast(
            lambda: opened.enter_context(new) if resumed is None else resumed.folder
        )
        run = TrainingRun(folder, described, images=not config.noplots,
                          is_new=resumed is None and not config.exist_ok,
                          first_epoch=state.next_epoch, writes=state.ranks.is_first)  # fmt: skip
        logger.info("%s", describe_network(start.model, (images.size, images.size)))
        logger.info("%s", describe_precision(state, StateConfig.of(config)))
        logger.info("%s", describe_optimizer(state.optimizer, hyp.optimizer, batch_size))
        logger.info("Saving to %s", run.folder)
        yield run


def train_epochs(
    config: TrainConfig,
    state: TrainingState,
    batches: TrainLoader,
    train_epoch: Callable[..., tuple[float, float, float]],
    evaluate_now: Callable[[], Evaluation],
    run: TrainingRun,
    on_epoch: OnEpoch | None,
) -> None:
    """Train, evaluate and save epoch by epoch, to the last one or until it is enough."""
    run.draw_labels(batches.dataset.records)
    device, first, start = next(state.model.parameters()).device, state.next_epoch, time.monotonic()
    end_epoch = EpochEnd(config, state, run, evaluate_now, len(batches), on_epoch)
    for epoch in range(first, config.epochs):
        per_epoch = (time.monotonic() - start) / max(epoch - first, 1)
        left = per_epoch * (config.epochs - epoch) if epoch > first else None
        logger.info("%s", training_header(device, left))
        train_loss = train_epoch(
            run.drawing_first(batches.epoch(epoch, state.AP_of_class), epoch), epoch=epoch
        )
        if end_epoch(epoch, train_loss):
            break


def evaluate_best(run: TrainingRun, batches: EvalLoader, device: torch.device) -> CocoMetrics:
    """The AP of the best checkpoint as read back from its file, with its images."""
    model = build_from_checkpoint(load_checkpoint(run.weights.best))
    watch = EvaluationImages(run.folder, run.class_names) if run.images else None
    predict = TorchPredictor(fastest_form(model, device, torch.float32), VAL_POSTPROCESS)
    metrics = evaluate(predict, batches, len(batches), batches.dataset.records, run.class_names,
                       watch=watch).metrics  # fmt: skip
    if watch is not None:
        watch.finish(metrics)
    logger.info("Best checkpoint: %s", run.weights.best)
    log_table(metrics, every_class=True)
    return metrics


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run_script(TrainConfig, _run, argv, REFUSED, resume.settings_to_continue)


def _run(config: TrainConfig) -> int:
    if config.evolve is None:
        log_result(train_as_given(config), config)
        return 0
    search(config, to_flat(Hyperparameters.read(config.hyp)), lambda one: train(one).metrics)
    return 0


if __name__ == "__main__":
    end_process(main())
