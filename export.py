"""Write a network for a runtime and check the file: `python export.py --weights best.pt`."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.dataset import EvalDataset
from data.dataset_spec import load_dataset_spec
from data.loader import eval_loader
from data.proof_pictures import proof_inputs
from data.records import read_records
from models.decoded_network import DecodedNetwork
from models.deploy import to_deploy
from models.loading import build_from_checkpoint, read_weights
from utils.checkpoint import Checkpoint
from utils.cli import option, run_script
from utils.deploy.onnx_file import (
    DEFAULT_OPSET,
    OnnxOptions,
    dynamic_axes_of,
    group_errors,
    operator_counts,
    write_onnx,
)
from utils.deploy.runner import OnnxRunner
from utils.deploy.runner_predictor import RunnerPredictor
from utils.engine.evaluate import evaluate
from utils.errors import CheckFailedError, ConfigError
from utils.letterbox import round_up_to_stride
from utils.output_files import atomic_path, write_json
from utils.postprocess import VAL_POSTPROCESS
from utils.structures import FloatArray, ImageRecord

logger = logging.getLogger(__name__)
TOLERANCE = 1e-4  # of each column group, against PyTorch
TIMED_RUNS = 20

_LATER = "is not offered yet; there is the ONNX preset `onnx`"
REFUSED = {
    "--nms": f"suppression in the graph {_LATER}",
    "--int8": f"INT8 {_LATER}",
    "--half": f"float16 {_LATER}",
    "--calibration-images": f"INT8 {_LATER}",
    "--max-drop": f"INT8 {_LATER}",
    "--summary": "is not offered yet; --report lists the operators of each file",
    "--simplify": "files are always simplified; leave it out",
    "--keras": f"TensorFlow {_LATER}",
    "--optimize": f"TorchScript {_LATER}",
    "--inplace": "files never compute in place; leave it out",
    "--per-tensor": f"INT8 {_LATER}",
    "--workspace": f"TensorRT {_LATER}",
    "--topk-per-class": f"suppression in the graph {_LATER}",
    "--topk-all": f"suppression in the graph {_LATER}",
    "--agnostic-nms": f"suppression in the graph {_LATER}",
}


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """Write a network for a runtime, open the file there, and compare it with PyTorch."""

    weights: str = option("yolov5s.pt", "checkpoint; a train-form one is converted first")
    preset: tuple[str, ...] = option(
        ("onnx",), "kinds of file to write", "--include", choices=("onnx",)
    )
    imgsz: tuple[int, ...] = option(
        (640,), "network input: one side, or height and width", "--img", "--img-size"
    )
    batch_size: int = option(1, "pictures per run", "--batch")
    dynamic: tuple[str, ...] | None = option(
        None, "which sizes may change: batch, hw; bare means both", const=("batch", "hw")
    )
    opset: int = option(DEFAULT_OPSET, "ONNX operator set version")
    device: str = option("cpu", "files are written on the CPU", choices=("cpu",))
    data: str = option("", "data yaml: compare on its pictures and measure AP")
    workers: int = option(8, "processes that load pictures")
    output: str = option("", "file or folder to write to (default: beside the weights)")
    report: str = option("", "write the result to this JSON file")


def export(config: ExportConfig) -> dict[str, Any]:
    """Write the file, check it, and return the report.

    Raises:
        UserError: a file or a flag is wrong.
        CheckFailedError: the file differs from PyTorch; none is left behind.
    """
    checkpoint = read_weights(config.weights)
    detector = to_deploy(build_from_checkpoint(checkpoint))
    stride = max(detector.strides)
    options = OnnxOptions(
        input_hw=_input_hw(config.imgsz, stride),
        batch_size=config.batch_size,
        dynamic=dynamic_axes_of(config.dynamic),
        opset=config.opset,
    )
    records: tuple[ImageRecord, ...] = ()
    if config.data:
        data_spec = load_dataset_spec(config.data)
        data_spec.check_knowledge(config.weights, len(checkpoint.class_names))
        records = read_records(data_spec, "val")
    network = DecodedNetwork(detector).eval()
    output = _output_path(config)
    if output.absolute() == Path(config.weights).absolute():
        raise ConfigError(f"{config.weights}: would be overwritten; give another --output")
    with atomic_path(output) as temporary:
        metadata = _metadata(checkpoint, detector.strides, options)
        write_onnx(temporary, network, options, metadata)
        runner = OnnxRunner(temporary, device="cpu")
        errors = _compare(network, runner, options, stride, records)
        AP = _average_precision(runner, records, options, config) if records else None
        latency = _latency_ms(runner, options)
    entry = {
        "path": str(output),
        "preset": "onnx",
        "bytes": output.stat().st_size,
        "opset": options.opset,
        "operators": operator_counts(output),
        "max_rel_error": errors,
        "latency_ms": latency,
        "AP": AP,
        "verified": "onnxruntime, CPU",
    }
    return {"files": [entry]}


def _input_hw(imgsz: tuple[int, ...], stride: int) -> tuple[int, int]:
    if len(imgsz) > 2:
        raise ConfigError(f"--imgsz {' '.join(map(str, imgsz))}: expected one or two numbers")
    if min(imgsz) < 1:
        raise ConfigError(f"--imgsz {' '.join(map(str, imgsz))}: must be above 0")
    height, width = round_up_to_stride(imgsz[0], stride), round_up_to_stride(imgsz[-1], stride)
    if (height, width) != (imgsz[0], imgsz[-1]):
        given = "x".join(str(side) for side in imgsz)
        logger.warning(
            "--imgsz %s rounded up to %dx%d, multiples of %d", given, height, width, stride
        )
    return height, width


def _output_path(config: ExportConfig) -> Path:
    name = Path(config.weights).with_suffix(".onnx").name
    if not config.output:
        return Path(config.weights).with_suffix(".onnx")
    output = Path(config.output)
    if output.is_dir() or not output.suffix:
        return output / name
    if output.suffix != ".onnx":
        raise ConfigError(f"--output {output}: an ONNX file ends in .onnx")
    return output


def _metadata(
    checkpoint: Checkpoint, strides: tuple[int, ...], options: OnnxOptions
) -> dict[str, Any]:
    """What a program needs to run the file, as JSON values."""
    return {
        "names": list(checkpoint.class_names),
        "nc": len(checkpoint.class_names),
        "stride": list(strides),
        "anchors": checkpoint.spec["anchors"],
        "imgsz": list(options.input_hw),
        "batch": options.batch_size,
        "dynamic": list(options.dynamic),
        "head": "decoded",
        "input": {
            "layout": "NCHW",
            "color": "RGB",
            "range": [0, 1],
            "pad": 114,
            "letterbox": "centred",
        },
        "activation": checkpoint.spec["activation"],
        "opset": options.opset,
        "torch": torch.__version__,
        "license": "Apache-2.0",
    }


def _compare(
    network: DecodedNetwork,
    runner: OnnxRunner,
    options: OnnxOptions,
    stride: int,
    records: Sequence[ImageRecord],
) -> dict[str, float]:
    """The worst error of each column group over pictures and noise, at every size allowed."""
    sizes = [options.input_hw]
    if "hw" in options.dynamic:
        sizes += [(3 * stride, 5 * stride), (4 * stride, 2 * stride)]
    worst: dict[str, float] = {}
    for images in proof_inputs(sizes, records):
        with torch.inference_mode():
            expected = network(torch.from_numpy(images)).numpy()
        for name, error in group_errors(expected, runner.run(images)).items():
            worst[name] = max(worst.get(name, 0.0), error)
    for name, error in worst.items():
        if not error <= TOLERANCE:
            raise CheckFailedError(
                f"{name} differs from PyTorch by {error:.1e}, more than {TOLERANCE:.0e}; "
                "no file is left behind"
            )
    return worst


def _average_precision(
    runner: OnnxRunner,
    records: tuple[ImageRecord, ...],
    options: OnnxOptions,
    config: ExportConfig,
) -> float:
    height, width = options.input_hw
    if height != width:
        raise ConfigError("--data measures AP on square inputs; give --imgsz one number")
    rect = "hw" in options.dynamic
    dataset = EvalDataset(records, height, 32, stride=runner.stride, rect=rect)
    loader = eval_loader(dataset, workers=config.workers, device_is_cuda=False)
    predict = RunnerPredictor(runner, VAL_POSTPROCESS)
    evaluation = evaluate(predict, loader, len(loader), dataset.records, runner.class_names)
    return evaluation.metrics.AP


def _latency_ms(runner: OnnxRunner, options: OnnxOptions) -> float:
    """Median milliseconds of a run, after a warm-up."""
    images: FloatArray = np.zeros((options.batch_size, 3, *options.input_hw), np.float32)
    runner.run(images)
    seconds = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        runner.run(images)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1000


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run_script(ExportConfig, _run, argv, REFUSED)


def _run(config: ExportConfig) -> int:
    report = export(config)
    if config.report:
        write_json(Path(config.report), report)
    for entry in report["files"]:
        errors = ", ".join(f"{name} {value:.1e}" for name, value in entry["max_rel_error"].items())
        AP = "" if entry["AP"] is None else f", AP {entry['AP']:.4f}"
        logger.info(
            "%s: %.1f MB, opset %d, %d operators, %s: largest error against PyTorch %s; %.1f ms%s",
            entry["path"], entry["bytes"] / 1e6, entry["opset"], sum(entry["operators"].values()),
            entry["verified"], errors, entry["latency_ms"], AP,
        )  # fmt: skip
        logger.info("Next: python detect.py --weights %s --source FOLDER", entry["path"])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
