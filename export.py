"""Write a network for a runtime and check the file: `python export.py --weights best.pt`."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data.check_images import check_inputs, letterboxed
from data.dataset import EvalDataset
from data.dataset_spec import load_dataset_spec
from data.image_file import read_image
from data.letterboxed_batches import LetterboxedBatches
from data.loader import eval_loader
from data.records import read_records
from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.conversion.deploy import to_deploy
from models.export.export_report import log_entry
from models.export.exported_file import FileRequest, Written, file_metadata, median_ms, write_file
from models.export.file_comparison import (
    checked_errors,
    checked_rounded_errors,
    errors_of,
    sizes_to_compare,
)
from models.export.form_summaries import form_summaries
from models.export.graph_summary import GraphSummary, log_layers, log_operators
from models.export.request import REFUSED, ExportConfig, input_hw, output_path, settings_of
from models.export.required_packages import check_installed
from models.export.sizes import Sizes
from models.formats.presets import PRESETS, Preset
from models.formats.vendor_files import CALIBRATED, STALE
from models.network.detector import Detector
from models.quantization.calibration import Calibration, Evaluated
from models.quantization.equalization import equalization_pairs
from models.quantization.quantized_file import write_quantized
from models.runtimes.runner import Runner
from models.runtimes.runner_predictor import RunnerPredictor
from utils.checkpoint import Checkpoint
from utils.cli import run_script
from utils.engine.evaluate import evaluate
from utils.errors import ConfigError
from utils.metrics.paired_bootstrap import match_images
from utils.output_files import atomic_folder, atomic_path, write_json
from utils.postprocess import VAL_POSTPROCESS
from utils.structures import FloatArray, ImageRecord

logger = logging.getLogger(__name__)
MAX_TRAINED_ON = 2000  # images of an epoch of the remedy train


def export(config: ExportConfig) -> dict[str, Any]:
    """Write the files, check them, and return the report.

    Raises:
        UserError: a file or a flag is wrong.
        CheckFailedError: a file differs from PyTorch; it is not left behind.
    """
    config.check()
    checkpoint = read_weights(config.weights)
    detector = to_deploy(build_from_checkpoint(checkpoint))
    names = config.presets()
    places = {name: output_path(config, PRESETS[name], len(names)) for name in names}
    stride = max(detector.strides)
    settings = {name: settings_of(name, PRESETS[name], config, stride) for name in names}
    _check_tools(names, detector, config)
    records = _read_records(config, checkpoint, names)
    files = []
    for name in names:
        export_one = _export_quantized if PRESETS[name].quantized else _export_one
        request = _request(settings[name], config, detector, checkpoint, records)
        files.append({**export_one(places[name], request, records, config), "preset": name})
    return {"files": files}


def _check_tools(names: Sequence[str], detector: Detector, config: ExportConfig) -> None:
    """Find out now what would end a long run later.

    Raises:
        UserError: a tool is missing, or a remedy is not for this network.
    """
    for name in names:
        check_installed(PRESETS[name])
    if "equalize" in config.remedy:
        equalization_pairs(detector)


def _request(
    settings: tuple[Sizes, int, Preset],
    config: ExportConfig,
    detector: Detector,
    checkpoint: Checkpoint,
    records: Records,
) -> FileRequest:
    (sizes, opset, preset), calibration = settings, records.calibration
    return FileRequest(
        preset=preset,
        detector=detector,
        sizes=sizes,
        opset=opset,
        suppression=config.suppression(),
        metadata=file_metadata(checkpoint, detector.strides, preset, sizes, opset),
        images=partial(_images, calibration, sizes) if calibration else None,
    )


@dataclass(frozen=True, slots=True)
class Records:
    """Images of the user's data: to evaluate files on, and to calibrate INT8 ones on."""

    val: tuple[ImageRecord, ...] = ()
    calibration: tuple[ImageRecord, ...] = ()
    train: tuple[ImageRecord, ...] = ()


def _images(records: Sequence[ImageRecord], sizes: Sizes) -> Iterator[FloatArray]:
    """Inputs of a network, one image each, without augmentation."""
    for record in records:
        one = letterboxed([read_image(record.path)], sizes.input_hw)
        yield np.repeat(one, sizes.batch_size, 0)


def _read_records(config: ExportConfig, checkpoint: Checkpoint, names: Sequence[str]) -> Records:
    to_calibrate = any(PRESETS[name].quantized for name in names)
    if not config.data:
        if to_calibrate:
            raise ConfigError("INT8 files are calibrated on your images: give --data my.yaml")
        if any(PRESETS[name].vendor in CALIBRATED for name in names):
            logger.warning("Without --data no images to calibrate on go beside the network")
        return Records()
    data_spec = load_dataset_spec(config.data)
    data_spec.check_knowledge(config.weights, len(checkpoint.class_names))
    val = read_records(data_spec, "val")
    if not to_calibrate and not any(PRESETS[name].vendor in CALIBRATED for name in names):
        return Records(val)
    train = read_records(data_spec, "train")
    order = np.random.default_rng(0).permutation(len(train))[: config.calibration_images]
    chosen = tuple(train[place] for place in sorted(order.tolist()))
    shared = {record.path for record in chosen} & {record.path for record in val}
    if shared:
        logger.warning(
            "%d of %d images to calibrate on are evaluated too: the loss looks smaller than it is",
            len(shared), len(chosen),
        )  # fmt: skip
    return Records(val, chosen, train)


def _export_one(
    output: Path, request: FileRequest, records: Records, config: ExportConfig
) -> dict[str, Any]:
    with _place_of(output, request.preset) as place:
        written = write_file(place, output.name.removesuffix(request.preset.suffix), request)
        inputs = check_inputs(sizes_to_compare(request), records.val)
        errors = checked_errors(written.runner, request, inputs, written.tested_in)
        others = {
            runtime: checked_errors(runner, request, inputs, runtime)
            for runtime, runner in written.others.items()
        }
        val, sizes = records.val, request.sizes
        AP = _evaluate(written.runner, val, sizes, config).AP if val else None
        latency = median_ms(written.runner, request.sizes)
    entry = _entry(output, request, written, errors, latency, AP)
    return {**entry, "max_rel_error_elsewhere": others}


def _export_quantized(
    output: Path, request: FileRequest, records: Records, config: ExportConfig
) -> dict[str, Any]:
    sizes = request.sizes
    calibration = Calibration(
        images=partial(_images, records.calibration, sizes),
        few=partial(_images, records.val[:2], sizes),
        evaluate=lambda runner: _evaluate(runner, records.val, sizes, config),
        methods=config.calibration,
        max_drop=config.max_drop,
        remedies=config.remedies(),
        batches=LetterboxedBatches(
            records.train, sizes.input_hw, config.qat_batch_size, max_images=MAX_TRAINED_ON
        ),
        epochs=config.qat_epochs,
    )
    with _place_of(output, request.preset) as place:
        name = output.name.removesuffix(request.preset.suffix)
        quantized = write_quantized(place, name, request, calibration)
        inputs = check_inputs(sizes_to_compare(request), records.val)
        errors = errors_of(quantized.written.runner, request, inputs)
        others = {
            runtime: checked_rounded_errors(runner, request, inputs, runtime, errors)
            for runtime, runner in quantized.written.others.items()
        }
    entry = _entry(output, request, quantized.written, errors, quantized.latency_ms, quantized.AP)
    images = {"pictures": len(records.calibration), "sha256": _digest(records.calibration)}
    calibrated = {**quantized.facts["calibration"], **images}
    facts = {**quantized.facts, "calibration": calibrated}
    return {**entry, "max_rel_error_elsewhere": others, **facts}


def _digest(records: Sequence[ImageRecord]) -> str:
    """Of the images' files, in order: which ones a file was calibrated on."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(record.path.read_bytes())
    return digest.hexdigest()


def _entry(
    output: Path,
    request: FileRequest,
    written: Written,
    errors: dict[str, float],
    latency: float | None,
    AP: float | None,
) -> dict[str, Any]:
    """What the report says of a file; the name of its preset comes later."""
    files = [file for file in output.rglob("*") if file.is_file()] or [output]
    opened_in = ", ".join((written.tested_in, *written.others))
    unseen = f"; {request.preset.unseen} was not run" if request.preset.unseen else ""
    return {
        "path": str(output),
        "preset": "",
        "bytes": sum(file.stat().st_size for file in files),
        "opset": written.opset,
        "operators": written.operators,
        "max_rel_error": errors,
        "latency_ms": latency,
        "AP": AP,
        "verified": f"{opened_in}, CPU{unseen}",
        "sizes": dataclasses.asdict(request.sizes),
    }


@contextmanager
def _place_of(output: Path, preset: Preset) -> Iterator[Path]:
    """Where to write until everything is proved."""
    if preset.writes_folder:
        with atomic_folder(output, stale=STALE) as folder:
            yield folder
    else:
        with atomic_path(output) as file:
            yield file


def _evaluate(
    runner: Runner, records: tuple[ImageRecord, ...], sizes: Sizes, config: ExportConfig
) -> Evaluated:
    """How good a file is on images."""
    hw, rect = sizes.input_hw, "hw" in sizes.dynamic
    stride = runner.stride
    dataset = EvalDataset(records, max(hw), 32, stride=stride, rect=rect, input_hw=hw)
    loader = eval_loader(dataset, workers=config.workers, device_is_cuda=False)
    predict, names = RunnerPredictor(runner, VAL_POSTPROCESS), runner.class_names
    evaluation = evaluate(predict, loader, len(loader), dataset.records, names)
    images = match_images(dataset.records, evaluation.detections, names)
    return Evaluated(evaluation.metrics.AP, images)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run_script(ExportConfig, _run, argv, REFUSED)


def _summarize(config: ExportConfig) -> int:
    """What is in a file, or in the train form and the deploy form of a checkpoint."""
    path = Path(config.summary)
    if path.suffix == ".onnx":
        summaries = {path.name: GraphSummary.of(path)}
    else:
        detector = build_from_checkpoint(read_weights(path))
        height, width = input_hw(config.imgsz, max(detector.strides))
        summaries = form_summaries(detector, (height, width))
    log_layers(list(summaries.values())[-1])
    log_operators(summaries)
    if config.report:
        reports = {name: summary.report() for name, summary in summaries.items()}
        write_json(Path(config.report), {"summary": reports})
    return 0


def _run(config: ExportConfig) -> int:
    if config.summary:
        return _summarize(config)
    report = export(config)
    if config.report:
        write_json(Path(config.report), report)
    for entry in report["files"]:
        log_entry(entry)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
