"""Measure a network's AP: `python val.py --weights best.pt --data coco.yaml`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.logs import require_packages

if __name__ == "__main__":
    require_packages()

from data.dataset_spec import check_data_yaml, load_dataset_spec
from utils.cli import check_command_line, check_options, run_checked, run_script
from utils.openmp import let_threads_sleep
from utils.val_config import REFUSED, ValConfig

if __name__ == "__main__":  # what is wrong with the command line is said before torch is imported
    checked = check_command_line(ValConfig, REFUSED, data=check_data_yaml)
    let_threads_sleep()  # before torch is loaded

from data.array_loader import ArrayLoader
from data.eval_dataset import EvalDataset
from data.records import read_records
from models.runtimes.open_runner import CHECKPOINT_SUFFIXES, open_networks
from models.runtimes.runner_predictor import RunnerPredictor
from utils.engine.evaluate import Evaluation, evaluate
from utils.engine.predictor import Predictor, as_one_class
from utils.errors import CheckFailedError, ConfigError, missing_torch
from utils.evaluation_report import log_table, save_label_files
from utils.image_names import names_in_results
from utils.letterbox import InputSize, choose_input_hw
from utils.metrics.coco_format import coco_results
from utils.output_files import write_json
from utils.postprocess import VAL_POSTPROCESS
from utils.process_end import end_process
from utils.run_folder import run_folder
from utils.structures import ImageRecord

if TYPE_CHECKING:
    from data.loader import EvalLoader  # needs torch, which exported files do without

logger = logging.getLogger(__name__)

FIGURES = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100"),
    *("precision", "recall", "images", "instances"),
)  # of the report


@dataclass(frozen=True, slots=True)
class EvalResult:
    """An evaluation, and the folder of its files."""

    evaluation: Evaluation
    folder: Path

    def as_report(self) -> dict[str, Any]:
        """The content of `--report`."""
        metrics = self.evaluation.metrics
        classes = [
            {name: getattr(row, name) for name in ("name", "AP", "AP50", "instances")}
            for row in metrics.per_class
        ]
        return {
            **{name: getattr(metrics, name) for name in FIGURES},
            "per_class": classes,
            "ms_per_image": asdict(self.evaluation.ms_per_image),
        }


@dataclass(frozen=True, slots=True)
class LoadedPredictor:
    """A weights file ready to run.

    Attributes:
        predict: finds objects in a batch.
        loader: makes a data set's batches as `predict` takes them.
        class_names: empty where the file does not say.
        stride: height and width of the input are multiples of it.
        input_hw: what the file takes; None where that is free.
        known_hw: what it was trained or exported with; None where it does not say.
    """

    predict: Predictor[Any]
    loader: Callable[[EvalDataset], ArrayLoader | EvalLoader]
    class_names: tuple[str, ...]
    stride: int
    input_hw: tuple[int | None, int | None]
    known_hw: tuple[int, int] | None


def validate(config: ValConfig) -> EvalResult:
    """Run a weights file over one split of a data set and evaluate it as COCO does.

    Raises:
        UserError: a file or a flag is wrong.
    """
    check_options(config, ValConfig)
    spec = load_dataset_spec(config.data)
    loaded = load_predictor(config)
    single = spec.as_one_class(config.weights_text, loaded.class_names, asked=config.single_cls)
    class_names = spec.classes(single=single)
    records = read_records(spec, config.task, strict=config.strict, single_class=single,
                           indexed=not config.no_cache_index)  # fmt: skip
    input_hw = choose_input_hw(
        config.imgsz, config.weights_text, loaded.stride, known_hw=loaded.known_hw,
        fixed_hw=loaded.input_hw,
    )  # fmt: skip
    dataset = _dataset(records, loaded, input_hw, config)
    if config.tile is not None:
        loaded = _with_tiles(loaded, input_hw, config)
    with run_folder(config.project, config.name, exist_ok=config.exist_ok) as folder:
        evaluation = _evaluate(loaded, dataset, class_names, folder, config, single=single)
        if config.gallery:
            _write_gallery(
                folder / "gallery.html", dataset.records, evaluation, class_names, config
            )
        if config.save_json:
            category_ids = spec.category_ids_of(config.task)
            names = None if spec.is_coco(config.task) else names_in_results(records)
            found = coco_results(dataset.records, evaluation.detections, category_ids, names)
            stem = Path(config.weights_files[0]).stem
            write_json(folder / f"{stem}_predictions.json", found)
    result = EvalResult(evaluation, folder)
    if config.report:
        write_json(Path(config.report), result.as_report())
    return result


def _evaluate(
    loaded: LoadedPredictor,
    dataset: EvalDataset,
    class_names: tuple[str, ...],
    folder: Path,
    config: ValConfig,
    *,
    single: bool,
) -> Evaluation:
    """Evaluate, print the table, and write images, curves and labels to the folder."""
    images = None
    if not config.noplots:
        from utils.evaluation_images import EvaluationImages

        images = EvaluationImages(folder, class_names, score_threshold=config.conf_thres)
    loader = loaded.loader(dataset)
    predict = as_one_class(loaded.predict) if single else loaded.predict
    evaluation = evaluate(predict, loader, len(loader), dataset.records, class_names, watch=images)
    log_table(evaluation.metrics, every_class=config.verbose or len(class_names) < 50)
    if images is not None:
        images.finish(evaluation.metrics)
    if config.save_txt:
        save_label_files(folder / "labels", dataset.records, evaluation, scores=config.save_conf)
    return evaluation


def _write_gallery(
    path: Path,
    records: Sequence[ImageRecord],
    evaluation: Evaluation,
    class_names: tuple[str, ...],
    config: ValConfig,
) -> None:
    """The page of errors; its modules are imported only here."""
    from data.image_file import read_image
    from utils.gallery.page import GallerySubject, write_gallery

    subject = GallerySubject(
        config.weights_text, config.data, config.task, class_names, config.conf_thres
    )
    write_gallery(path, subject, records, evaluation, read_image, per_group=config.gallery_crops)


def load_predictor(config: ValConfig) -> LoadedPredictor:
    """Open one checkpoint in torch, whose NMS runs on the device, or anything else as a runner.

    Raises:
        UserError: the file, the device or float16 cannot be used, or a package is missing.
    """
    thresholds = config.rules
    weights = config.weights_files
    if len(weights) > 1 or config.augment or Path(weights[0]).suffix not in CHECKPOINT_SUFFIXES:
        runner = open_networks(
            weights, device=config.device, half=config.half, augment=config.augment
        )
        return LoadedPredictor(
            RunnerPredictor(runner, thresholds),
            partial(ArrayLoader, workers=config.workers),
            runner.class_names,
            runner.stride,
            runner.input_hw,
            runner.known_hw,
        )
    try:
        import torch

        from data.loader import eval_loader  # exported files need no torch
        from models.checkpoints.loading import build_from_checkpoint, read_weights
        from models.runtimes.torch_predictor import TorchPredictor
        from models.runtimes.torch_runner import fastest_form
        from utils.device import choose_device
    except ModuleNotFoundError as error:
        raise missing_torch(weights[0], error) from None
    device = choose_device(config.device)
    if config.half and device.type != "cuda":
        raise ConfigError(f"--half needs a GPU; the device is {device.type}")
    checkpoint = read_weights(weights[0])
    dtype = torch.float16 if config.half else torch.float32
    model = fastest_form(build_from_checkpoint(checkpoint), device, dtype)
    return LoadedPredictor(
        TorchPredictor(model, thresholds, half=config.half),
        partial(eval_loader, workers=config.workers, device_is_cuda=False),
        checkpoint.class_names,
        model.stride,
        (None, None),
        checkpoint.image_hw,
    )


def _with_tiles(
    loaded: LoadedPredictor, input_hw: tuple[int, int], config: ValConfig
) -> LoadedPredictor:
    """The same network, which sees the tiles of each image, too."""
    from data.image_file import read_image
    from utils.detect.tiles import TileRules
    from utils.engine.tiled_predictor import TiledPredictor

    free = loaded.input_hw == (None, None)
    size = InputSize(input_hw, loaded.stride if free else None)
    tiles = TileRules.of(
        config.tile or 0, size, overlap=config.tile_overlap, merge=config.tile_merge,
        batch_size=config.batch_size,
    )  # fmt: skip
    tiles.warn_of_low_scores(config.conf_thres)
    predict = TiledPredictor(loaded.predict, read_image, size, tiles, config.rules)
    return replace(loaded, predict=predict)


def _dataset(
    records: Sequence[ImageRecord],
    loaded: LoadedPredictor,
    input_hw: tuple[int, int],
    config: ValConfig,
) -> EvalDataset:
    """The images, letterboxed to what the file takes."""
    fixed = loaded.input_hw != (None, None)
    if fixed and config.rect:
        height, width = input_hw
        raise ConfigError(f"{config.weights_text} takes {height}x{width} px only; leave out --rect")
    return EvalDataset(
        records, max(input_hw), config.batch_size, stride=loaded.stride,
        rect=not fixed and config.rect is not False, input_hw=input_hw,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run_script(ValConfig, _run, argv, REFUSED)


def _run(config: ValConfig) -> int:
    if config.conf_thres > VAL_POSTPROCESS.score_threshold:
        logger.warning("--conf-thres %g: AP is measured at 0.001", config.conf_thres)
    result = validate(config)
    logger.info("Results saved to %s", result.folder)
    reached = result.evaluation.metrics.AP
    if config.fail_under is not None and reached < config.fail_under:
        raise CheckFailedError(f"mAP50-95 {reached:.4f} is below --fail-under {config.fail_under}")
    return 0


if __name__ == "__main__":
    end_process(run_checked(checked, _run))
