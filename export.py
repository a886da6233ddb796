"""Write a network for a runtime and check the file: `python export.py --weights best.pt`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from utils.logs import require_packages

if __name__ == "__main__":
    require_packages()

from data.dataset_spec import check_data_yaml, load_dataset_spec
from models.export.request import REFUSED, ExportConfig
from utils.cli import check_command_line, check_options, run_script
from utils.openmp import let_threads_sleep

if __name__ == "__main__":  # what is wrong with the command line is said before torch is imported
    check_command_line(ExportConfig, REFUSED, data=check_data_yaml)
    let_threads_sleep()  # before torch is loaded
    require_packages("torch", "torchvision")

from data.array_loader import ArrayLoader
from data.check_images import check_inputs
from data.eval_dataset import EvalDataset
from data.export_images import ExportImages, network_inputs
from data.letterboxed_batches import LetterboxedBatches
from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.conversion.deploy import to_deploy
from models.export.column_errors import ColumnErrors
from models.export.export_result import ExportedFile, ExportResult, QuantizationResult
from models.export.exported_file import PlannedFile, WrittenFile, planned_files, write_file
from models.export.form_summaries import form_summaries
from models.export.graph_summary import GraphSummary, log_layers, log_operators
from models.export.parity import (
    check_float_errors,
    check_rounded_errors,
    errors_of,
    median_ms,
    second_errors,
    sizes_to_compare,
)
from models.formats.format import Preset
from models.formats.presets import FORMATS, PRESETS
from models.quantization.calibration import Calibration, Evaluated
from models.quantization.equalization import equalization_pairs
from models.quantization.quantized_file import write_quantized
from models.runtimes.input_sizes import InputSizes
from models.runtimes.runner import Runner
from models.runtimes.runner_predictor import RunnerPredictor
from utils.batches import ArrayBatch
from utils.checkpoint import Checkpoint
from utils.engine.evaluate import evaluate
from utils.engine.predictor import Predictor, as_one_class
from utils.errors import CheckFailedError
from utils.letterbox import choose_input_hw
from utils.logs import SAMPLE_IMAGES, command_text, counted, from_working_directory
from utils.output_files import atomic_folder, atomic_path, write_json
from utils.postprocess import VAL_POSTPROCESS
from utils.process_end import end_process
from utils.structures import FloatArray

logger = logging.getLogger(__name__)
MAX_TRAINED_ON = 2000  # images of an epoch of the technique train


def export(config: ExportConfig) -> ExportResult:
    """Write the files and check them.

    Raises:
        UserError: a file or a flag is wrong.
        CheckFailedError: a file differs from PyTorch; it is not left behind.
    """
    check_options(config, ExportConfig)
    config.log_partial_effects()
    checkpoint = read_weights(config.weights)
    detector = to_deploy(build_from_checkpoint(checkpoint))
    planned = planned_files(config, checkpoint, detector)
    if "equalize" in config.technique:
        equalization_pairs(detector)  # refuses a network that it is not for
    images = _read_images(config, checkpoint, [file.request.preset for file in planned])
    files = tuple(_export_file(file, images, config) for file in planned)
    return ExportResult(files, images.val[0].path if images.val else None)


def _read_images(
    config: ExportConfig, checkpoint: Checkpoint, presets: Sequence[Preset]
) -> ExportImages:
    """The user's images, as far as the presets need them.

    Raises:
        DatasetError: the data yaml or a label file is wrong.
    """
    calibrates = any(preset.quantization is not None or preset.takes_images for preset in presets)
    if not config.data:
        if calibrates:
            logger.warning("Without --data no images to calibrate on go beside the network")
        return ExportImages()
    spec = load_dataset_spec(config.data)
    single = spec.as_one_class(config.weights, checkpoint.class_names, asked=config.single_cls)
    num_calibration = config.calibration_images if calibrates else 0
    return ExportImages.read(spec, num_calibration, single_class=single)


def _export_file(planned: PlannedFile, images: ExportImages, config: ExportConfig) -> ExportedFile:
    """Write one file where nothing is left behind when a check fails."""
    preset = planned.request.preset
    inputs = check_inputs(sizes_to_compare(planned.request), images.val)
    export_one = _export_float if preset.quantization is None else _export_quantized
    with _atomic_output(planned.output, preset) as path:
        return export_one(path, planned, images, inputs, config)


def _export_float(
    path: Path,
    planned: PlannedFile,
    images: ExportImages,
    inputs: Sequence[FloatArray],
    config: ExportConfig,
) -> ExportedFile:
    request = planned.request
    preset, sizes = request.preset, request.sizes
    if images.calibration:
        calibration = partial(network_inputs, images.calibration, sizes.input_hw, sizes.batch_size)
        request = replace(request, images=calibration)
    written = write_file(path, request)

    def errors_in(runner: Runner, runtime: str) -> ColumnErrors:
        errors = errors_of(runner, request, inputs)
        check_float_errors(errors, preset.tolerance, runtime)
        return errors

    errors = errors_in(written.runner, preset.runtime.name)
    if preset.head == "e2e" and not any(errors.by_name().values()):
        logger.warning("%s: finds nothing in the images that it was compared on, so suppression "
                       "is not verified; give --data, or a lower --conf-thres",
                       planned.output.name)  # fmt: skip
    others = second_errors(written.onnx, FORMATS, errors_in) if written.onnx else {}
    AP = _evaluate(written.runner, images, sizes, config).AP if images.val else None
    latency_ms = median_ms(written.runner, sizes)
    return _exported(path, planned, written, errors, others, latency_ms, AP)


def _export_quantized(
    path: Path,
    planned: PlannedFile,
    images: ExportImages,
    inputs: Sequence[FloatArray],
    config: ExportConfig,
) -> ExportedFile:
    request = planned.request
    quantized = write_quantized(path, request, _calibration(request.sizes, images, config))
    written = quantized.written
    first = errors_of(written.runner, request, inputs)

    def errors_in(runner: Runner, runtime: str) -> ColumnErrors:
        errors = errors_of(runner, request, inputs)
        check_rounded_errors(errors, first, runtime)
        return errors

    others = second_errors(written.onnx, FORMATS, errors_in) if written.onnx else {}
    return _exported(
        path, planned, written, first, others, quantized.latency_ms, quantized.AP, quantized.result
    )


def _exported(
    path: Path,
    planned: PlannedFile,
    written: WrittenFile,
    errors: ColumnErrors,
    others: dict[str, ColumnErrors],
    latency_ms: float | None,
    AP: float | None,
    quantization: QuantizationResult | None = None,
) -> ExportedFile:
    preset = planned.request.preset
    files = [file for file in path.rglob("*") if file.is_file()] or [path]
    not_run = f"; {preset.not_run} was not run" if preset.not_run else ""
    return ExportedFile(
        path=planned.output,
        preset=preset.name,
        num_bytes=sum(file.stat().st_size for file in files),
        opset=None if written.onnx is None else written.onnx.opset,
        operators=written.operators,
        errors=errors,
        latency_ms=latency_ms,
        AP=AP,
        verified=f"{', '.join((preset.runtime.name, *others))}, CPU{not_run}",
        sizes=planned.request.sizes,
        second_errors=others,
        quantization=quantization,
    )


def _calibration(sizes: InputSizes, images: ExportImages, config: ExportConfig) -> Calibration:
    """What 8-bit files are made and evaluated with."""
    hw, batch_size = sizes.input_hw, sizes.batch_size
    return Calibration(
        images=partial(network_inputs, images.calibration, hw, batch_size),
        num_images=len(images.calibration),
        sha256=images.calibration_sha256(),
        sample_images=partial(network_inputs, images.val[:2], hw, batch_size),
        evaluate=lambda runner: _evaluate(runner, images, sizes, config),
        methods=config.calibration,
        max_drop=config.max_drop,
        techniques=config.techniques(),
        batches=LetterboxedBatches(
            images.train, hw, config.qat_batch_size, max_images=MAX_TRAINED_ON
        ),
        epochs=config.qat_epochs,
    )


def _evaluate(
    runner: Runner, images: ExportImages, sizes: InputSizes, config: ExportConfig
) -> Evaluated:
    """How good a file is on the val split."""
    hw, rect = sizes.input_hw, "hw" in sizes.dynamic
    stride = runner.stride
    dataset = EvalDataset(images.val, max(hw), 32, stride=stride, rect=rect, input_hw=hw)
    loader = ArrayLoader(dataset, workers=config.workers)
    rules = replace(VAL_POSTPROCESS, class_agnostic=images.single_class)
    predict: Predictor[ArrayBatch] = RunnerPredictor(runner, rules)
    predict = as_one_class(predict) if images.single_class else predict
    evaluation = evaluate(predict, loader, len(loader), dataset.records, images.class_names)
    return Evaluated(evaluation.metrics.AP, evaluation.matches)


@contextmanager
def _atomic_output(output: Path, preset: Preset) -> Iterator[Path]:
    """A path to write to, which becomes the output when everything is verified.

    Raises:
        CheckFailedError: that of the block, about the output.
    """
    is_folder = preset.is_folder
    with atomic_folder(output, stale=preset.stale) if is_folder else atomic_path(output) as path:
        try:
            yield path
        except CheckFailedError as error:  # the path has a name that nobody knows
            raise type(error)(str(error).replace(path.name, output.name)) from None


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run_script(ExportConfig, _run, argv, REFUSED)


def _run(config: ExportConfig) -> int:
    if config.summary:
        return _summarize(config)
    result = export(config)
    if config.report:
        write_json(Path(config.report), result.as_report())
    for file in result.files:
        _log(file, result.example or SAMPLE_IMAGES)
    return 0


def _log(file: ExportedFile, example: Path) -> None:
    """What was found of a file, and what to do with it."""
    errors = ", ".join(f"{name} {value:.1e}" for name, value in file.errors.by_name().items())
    parts = [f"{file.num_bytes / 1e6:.1f} MB"]
    if file.opset is not None:
        parts.append(f"opset {file.opset}, {counted(sum(file.operators.values()), 'operator')}")
    parts.append(f"{file.verified}: largest error against PyTorch {errors}")
    if file.latency_ms is not None:
        parts.append(f"{file.latency_ms:.1f} ms")
    if file.AP is not None:
        parts.append(f"AP {file.AP:.4f}")
    if file.quantization is not None:
        parts.append(file.quantization.as_text())
    logger.info("%s: %s", file.path, ", ".join(parts))
    if command := PRESETS[file.preset].command:
        logger.info("Then: %s", command(file.path, file.sizes))
    arguments = ("--weights", file.path, "--source", from_working_directory(example))
    logger.info("Next: %s", command_text("detect.py", *arguments))


def _summarize(config: ExportConfig) -> int:
    """What is in a file, or in the train form and the deploy form of a checkpoint."""
    check_options(config, ExportConfig)
    path = Path(config.summary)
    if path.suffix == ".onnx":
        summaries = {path.name: GraphSummary.of(path)}
    else:
        checkpoint = read_weights(path)
        detector = build_from_checkpoint(checkpoint)
        input_hw = choose_input_hw(
            config.imgsz, str(path), detector.stride, known_hw=checkpoint.image_hw
        )
        output = Path(config.output) if config.output else None
        summaries = form_summaries(detector, checkpoint.form, input_hw, output)
        if output is not None:
            logger.info("Graphs to look at: %s", output)
    log_layers(list(summaries.values())[-1])
    log_operators(summaries)
    if config.report:
        reports = {name: summary.report() for name, summary in summaries.items()}
        write_json(Path(config.report), {"summary": reports})
    return 0


if __name__ == "__main__":
    end_process(main())
