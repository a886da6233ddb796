"""Train a detector: `python train.py --data coco.yaml --cfg repyolov5s.yaml --epochs 300`."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.augment import AugmentConfig
from data.dataset_spec import load_dataset_spec
from data.loader import EvalLoader
from data.training_pictures import PictureConfig, load_training_pictures
from models.box_coder import BoxCoder
from models.complexity import conv_gflops
from models.deploy import block_counts
from models.detector import Detector, count_parameters
from models.initial_weights import initial_model
from models.loading import build_from_checkpoint
from models.loss import DetectionLoss, LossConfig
from models.torch_predictor import TorchPredictor
from utils.checkpoint import Checkpoint, load_checkpoint
from utils.cli import option, run_script
from utils.device import choose_device, describe_device, peak_memory_mb
from utils.engine.best_epoch import BestEpoch, fitness
from utils.engine.ema import ModelEMA
from utils.engine.epoch import Precision, TrainingState, train_one_epoch
from utils.engine.evaluate import Evaluation, evaluate
from utils.engine.freeze import freeze_layers
from utils.engine.multi_scale import MultiScale
from utils.engine.optim import build_optimizer, scaled_weight_decay
from utils.engine.schedule import Schedule
from utils.evaluation_report import EvaluationPictures, log_table
from utils.hyperparameters import Hyperparameters
from utils.letterbox import round_up_to_stride
from utils.metrics.coco import CocoMetrics
from utils.output_files import make_run_folder, write_json
from utils.postprocess import PostprocessConfig
from utils.results_table import EpochRow
from utils.seed import seed_everything
from utils.training_run import TrainingRun, as_yaml_values

logger = logging.getLogger(__name__)
# Settings of the validation after each epoch, those of val.py.
VAL_POSTPROCESS = PostprocessConfig(0.001, 0.6, 300, multi_label=True)

REFUSED = {
    "--resume": "not offered yet; start again, or from runs/.../last.pt with --weights",
    "--evolve": "hyper-parameter search is not offered yet; give a yaml to --hyp",
    "--image-weights": "not offered yet; all pictures are drawn equally often",
    "--sync-bn": "training runs on one device; leave it out",
    "--quad": "not offered; use --batch-size",
    "--bucket": "nothing is uploaded; copy the run's folder yourself",
    "--upload-dataset": "nothing is uploaded; leave it out",
    "--entity": "no account is used; TensorBoard events are in the run's folder",
    "--bbox-interval": "pictures of the first batches are in the run's folder",
    "--artifact-alias": "nothing is uploaded; leave it out",
    "--local-rank": "training runs on one device; leave it out",
    "--teacher": "distillation is not offered yet; leave it out",
    "--compile": "not offered yet; leave it out",
}


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Train a detector."""

    weights: str = option("", "checkpoint to start from; empty starts from random weights")
    cfg: str = option("", "model yaml; empty takes the architecture of --weights")
    data: str = option("coco128.yaml", "data yaml")
    hyp: str = option("hyp.scratch-low.yaml", "hyper-parameter yaml")
    epochs: int = option(100, "epochs to train")
    batch_size: int = option(16, "pictures per batch", "--batch")
    imgsz: int = option(640, "side of the network input in pixels", "--img", "--img-size")
    rect: bool = option(False, "rectangular batches, no mosaic")
    nosave: bool = option(False, "keep only the last checkpoint")
    noval: bool = option(False, "validate only after the last epoch", "--notest")
    noautoanchor: bool = option(False, "keep the anchors of the yaml (always so here)")
    noplots: bool = option(False, "draw no pictures and curves")
    cache: str = option("", "keep resized pictures in memory", choices=("ram",), const="ram")
    device: str = option("", "cpu, mps, a GPU number; empty for the best there is")
    multi_scale: bool = option(False, "vary the input size between 0.5 and 1.5 times --imgsz")
    single_cls: bool = option(False, "treat all classes as one")
    optimizer: str = option("SGD", "which optimizer", choices=("SGD", "Adam", "AdamW"))
    workers: int = option(8, "processes that load pictures")
    project: str = option("runs/train", "folder of runs")
    name: str = option("exp", "name of this run's folder")
    exist_ok: bool = option(False, "use an existing folder again")
    cos_lr: bool = option(False, "cosine instead of linear learning rate")
    label_smoothing: float = option(0.0, "epsilon of smoothed class targets")
    patience: int = option(100, "stop after this many epochs without a better one; 0 never")
    freeze: tuple[int, ...] = option((0,), "freeze the first N layers, or the layers listed")
    save_period: int = option(-1, "also keep the checkpoint of every N-th epoch")
    seed: int = option(0, "of everything random")
    rep_block: str | None = option(None, "block family of the 3x3 convolutions, or none")
    rep_policy: str | None = option(None, "all, downsample or no-identity-in-residual")
    activation: str | None = option(None, "activation after convolutions, as LeakyReLU(0.1)")
    amp: str = option("auto", "mixed precision", choices=("auto", "off", "bf16", "fp16"))
    deterministic: bool = option(False, "refuse operations that vary from run to run")
    close_mosaic: int = option(0, "last N epochs without mosaic")
    eval_interval: int = option(1, "validate every N epochs")
    strict: bool = option(False, "any bad picture or label row is an error")
    report: str = option("", "write the result to this JSON file")


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a training run reached, and where its files are."""

    folder: Path
    metrics: CocoMetrics
    report: dict[str, Any]


def train(config: TrainConfig) -> TrainResult:
    """Train as YOLOv5 does and keep the best and the last checkpoint.

    Raises:
        UserError: a file or a flag is wrong.
    """
    start = time.monotonic()
    seed_everything(config.seed, deterministic=config.deterministic)
    device = choose_device(config.device)
    hyp = Hyperparameters.from_file(config.hyp)
    data_spec = load_dataset_spec(config.data)
    class_names = ("object",) if config.single_cls else data_spec.class_names
    model = initial_model(config.cfg, config.weights, len(class_names), _overrides(config))
    model = model.to(device)
    image_size = _image_size(config, max(model.strides))
    batches, val_batches = load_training_pictures(
        data_spec, hyp.part(AugmentConfig), _picture_config(config, model, image_size, device.type)
    )
    run = TrainingRun(
        make_run_folder(config.project, config.name, exist_ok=config.exist_ok),
        {"hyp": as_yaml_values(hyp), "opt": as_yaml_values(config)},
        pictures=not config.noplots,
    )
    run.draw_labels(batches.dataset.records, class_names)

    criterion = DetectionLoss(
        BoxCoder.of(model),
        len(class_names),
        image_size,
        hyp.part(LossConfig, label_smoothing=config.label_smoothing),
    )
    schedule = hyp.part(
        Schedule,
        epochs=config.epochs,
        batches_per_epoch=len(batches),
        batch_size=config.batch_size,
        cosine=config.cos_lr,
    )
    frozen = freeze_layers(model.layers, config.freeze)
    optimizer = build_optimizer(
        model,
        config.optimizer,
        lr=hyp.lr0,
        momentum=hyp.momentum,
        weight_decay=scaled_weight_decay(hyp.weight_decay, config.batch_size),
    )
    ema = ModelEMA(model)
    state = TrainingState(model, ema, optimizer, Precision.choose(config.amp, device), frozen)
    predict = TorchPredictor(ema.model, VAL_POSTPROCESS, criterion=criterion)
    resize = MultiScale(image_size, max(model.strides), config.seed) if config.multi_scale else None
    best = BestEpoch(config.patience)
    logger.info("%s\nTraining on %s, %s", _describe(model), describe_device(device), run.folder)

    for epoch in range(config.epochs):
        pictures = batches.epoch(epoch)
        if epoch == 0:
            pictures = run.drawing_first(pictures, class_names)
        train_loss = train_one_epoch(
            state, criterion, pictures, schedule, epoch, device=device, resize=resize
        )
        is_last = epoch + 1 == config.epochs
        evaluation = None
        if is_last or (not config.noval and (epoch + 1) % config.eval_interval == 0):
            evaluation = _evaluate(predict, val_batches, class_names)
        row = EpochRow.of(epoch, train_loss, evaluation, optimizer)
        run.add_epoch(row)
        _log_epoch(row, config.epochs)
        better = evaluation is not None and best.update(epoch, fitness(evaluation.metrics))
        checkpoint = Checkpoint(
            form="train",
            spec=model.spec.to_yaml(),
            class_names=class_names,
            weights=model.state_dict(),
            image_size=image_size,
            ema_weights=ema.model.state_dict(),
            config={"opt": as_yaml_values(config), "hyp": as_yaml_values(hyp)},
            metrics={"epoch": epoch, "AP": row.AP, "AP50": row.AP50},
        )
        if not config.nosave or is_last or better:
            run.save(checkpoint, better=better, keep_as=_name_to_keep(config, epoch))
        if best.should_stop(epoch):
            logger.info("No better epoch for %d epochs: stopped.", config.patience)
            break
    run.close()
    seconds = time.monotonic() - start
    trained = (epoch + 1) * len(batches.dataset)
    result = _judge_best(run, val_batches, class_names, config)
    report = {
        "epochs": epoch + 1,
        "best_epoch": best.epoch,
        "AP": result.metrics.AP,
        "AP50": result.metrics.AP50,
        "precision": result.metrics.precision,
        "recall": result.metrics.recall,
        "weights": {"best": str(run.best), "last": str(run.last)},
        "seconds": seconds,
        "images_per_second": trained / seconds,
        "peak_memory_mb": peak_memory_mb(device),
        "skipped_steps": state.skipped_steps,
    }
    if config.report:
        write_json(Path(config.report), report)
    return TrainResult(run.folder, result.metrics, report)


def _overrides(config: TrainConfig) -> dict[str, str | None]:
    """The fields of the architecture that flags change."""
    given = {
        "rep_block": config.rep_block,
        "rep_policy": config.rep_policy,
        "activation": config.activation,
    }
    return {
        key: None if value == "none" else value for key, value in given.items() if value is not None
    }


def _picture_config(
    config: TrainConfig, model: Detector, image_size: int, device_type: str
) -> PictureConfig:
    return PictureConfig(
        image_size=image_size,
        stride=max(model.strides),
        batch_size=config.batch_size,
        workers=config.workers,
        seed=config.seed,
        rect=config.rect,
        cache=config.cache == "ram",
        mosaic_until_epoch=config.epochs - config.close_mosaic if config.close_mosaic else None,
        strict=config.strict,
        single_class=config.single_cls,
        pin_memory=device_type == "cuda",
    )


def _image_size(config: TrainConfig, stride: int) -> int:
    size = round_up_to_stride(config.imgsz, stride)
    if size != config.imgsz:
        logger.warning("--imgsz %d rounded up to %d, a multiple of %d", config.imgsz, size, stride)
    return size


def _name_to_keep(config: TrainConfig, epoch: int) -> str | None:
    keep = config.save_period > 0 and (epoch + 1) % config.save_period == 0
    return f"epoch{epoch}.pt" if keep else None


def _evaluate(
    predict: TorchPredictor,
    batches: EvalLoader,
    class_names: tuple[str, ...],
    watch: EvaluationPictures | None = None,
) -> Evaluation:
    records = batches.dataset.records
    return evaluate(predict, batches, len(batches), records, class_names, watch=watch)


def _judge_best(
    run: TrainingRun, batches: EvalLoader, class_names: tuple[str, ...], config: TrainConfig
) -> Evaluation:
    """The AP of the best checkpoint as read back from its file, with its pictures."""
    model = build_from_checkpoint(load_checkpoint(run.best)).to(choose_device(config.device))
    watch = None if config.noplots else EvaluationPictures(run.folder, class_names)
    evaluation = _evaluate(TorchPredictor(model, VAL_POSTPROCESS), batches, class_names, watch)
    if watch is not None:
        watch.finish(evaluation.metrics)
    logger.info("Best checkpoint: %s", run.best)
    log_table(evaluation.metrics, every_class=True)
    return evaluation


def _describe(model: Detector) -> str:
    blocks = ", ".join(f"{count} {name}" for name, count in block_counts(model).items())
    return (
        f"{model.spec.name}: {count_parameters(model):,} parameters, "
        f"{conv_gflops(model):.2f} GFLOPs at 640, {blocks}, {model.spec.activation}"
    )


def _log_epoch(row: EpochRow, epochs: int) -> None:
    box, objectness, class_ = row.train_loss
    text = f"epoch {row.epoch + 1}/{epochs}: box {box:.4f}, obj {objectness:.4f}, cls {class_:.4f}"
    if row.AP is not None:
        text += f", AP50 {row.AP50:.3f}, AP {row.AP:.3f}"
    logger.info("%s", text)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run_script(TrainConfig, _run, argv, REFUSED)


def _run(config: TrainConfig) -> int:
    result = train(config)
    best = result.report["weights"]["best"]
    logger.info("Results saved to %s", result.folder)
    logger.info("Next: python convert.py --weights %s --data %s", best, config.data)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
