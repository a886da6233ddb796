"""Write a network for a runtime and check the file: `python export.py --weights best.pt`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data.dataset import EvalDataset
from data.dataset_spec import load_dataset_spec
from data.loader import eval_loader
from data.proof_pictures import proof_inputs
from data.records import read_records
from models.decoded_network import DecodedNetwork
from models.deploy import to_deploy
from models.detector import Detector
from models.exported_file import Sizes, Written, file_metadata, median_ms, write_file
from models.loading import build_from_checkpoint, read_weights
from utils.checkpoint import Checkpoint
from utils.cli import option, run_script
from utils.deploy.onnx_file import dynamic_axes_of
from utils.deploy.parity import detection_errors, group_errors, merged
from utils.deploy.presets import PRESETS, Preset
from utils.deploy.runner import Runner
from utils.deploy.runner_predictor import RunnerPredictor
from utils.engine.evaluate import evaluate
from utils.errors import CheckFailedError, ConfigError
from utils.letterbox import round_up_to_stride
from utils.output_files import atomic_folder, atomic_path, write_json
from utils.postprocess import VAL_POSTPROCESS, PostprocessConfig
from utils.structures import ImageRecord

logger = logging.getLogger(__name__)

_LATER = "is not offered yet; --help lists the presets"
REFUSED = {
    "--int8": f"INT8 {_LATER}",
    "--half": f"float16 {_LATER}",
    "--calibration-images": f"INT8 {_LATER}",
    "--max-drop": f"INT8 {_LATER}",
    "--summary": "is not offered yet; --report lists the operators of each file",
    "--simplify": "files are always simplified; leave it out",
    "--keras": f"TensorFlow {_LATER}",
    "--optimize": f"TorchScript for phones {_LATER}",
    "--inplace": "files never compute in place; leave it out",
    "--per-tensor": f"INT8 {_LATER}",
    "--workspace": f"TensorRT {_LATER}",
    "--topk-per-class": "--topk-all limits the detections of a picture",
    "--agnostic-nms": "classes are suppressed each by itself; leave it out",
}


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """Write a network for a runtime, open the file there, and compare it with PyTorch."""

    weights: str = option("yolov5s.pt", "checkpoint; a train-form one is converted first")
    preset: tuple[str, ...] = option(
        ("onnx",), "kinds of file to write", "--include", choices=tuple(PRESETS)
    )
    nms: bool = option(False, "the preset e2e: suppression in the file")
    imgsz: tuple[int, ...] = option(
        (640,), "network input: one side, or height and width", "--img", "--img-size"
    )
    batch_size: int = option(1, "pictures per run", "--batch")
    dynamic: tuple[str, ...] | None = option(
        None, "which sizes may change: batch, hw; bare means both", const=("batch", "hw")
    )
    opset: int | None = option(None, "ONNX operator set version; default the preset's")
    conf_thres: float = option(0.25, "e2e: lowest score of a detection")
    iou_thres: float = option(0.45, "e2e: overlap at which a box suppresses another")
    topk_all: int = option(100, "e2e: most detections of a picture")
    device: str = option("cpu", "files are written on the CPU", choices=("cpu",))
    data: str = option("", "data yaml: compare on its pictures and measure AP")
    workers: int = option(8, "processes that load pictures")
    output: str = option("", "file or folder to write to (default: beside the weights)")
    report: str = option("", "write the result to this JSON file")

    def presets(self) -> tuple[str, ...]:
        """Each preset asked for, once."""
        if not self.nms:
            return tuple(dict.fromkeys(self.preset))
        others = () if self.preset == ("onnx",) else self.preset
        return tuple(dict.fromkeys((*others, "e2e")))

    def suppression(self) -> PostprocessConfig:
        """How an e2e file chooses its detections."""
        return PostprocessConfig(self.conf_thres, self.iou_thres, self.topk_all)


def export(config: ExportConfig) -> dict[str, Any]:
    """Write the files, check them, and return the report.

    Raises:
        UserError: a file or a flag is wrong.
        CheckFailedError: a file differs from PyTorch; it is not left behind.
    """
    checkpoint = read_weights(config.weights)
    detector = to_deploy(build_from_checkpoint(checkpoint))
    records: tuple[ImageRecord, ...] = ()
    if config.data:
        data_spec = load_dataset_spec(config.data)
        data_spec.check_knowledge(config.weights, len(checkpoint.class_names))
        records = read_records(data_spec, "val")
    names = config.presets()
    places = {name: _output_path(config, PRESETS[name], len(names)) for name in names}
    settings = {name: _settings(name, config, max(detector.strides)) for name in names}
    files = [
        _export_one(name, places[name], *settings[name], detector, checkpoint, records, config)
        for name in names
    ]
    return {"files": files}


def _export_one(
    name: str,
    output: Path,
    sizes: Sizes,
    opset: int,
    detector: Detector,
    checkpoint: Checkpoint,
    records: tuple[ImageRecord, ...],
    config: ExportConfig,
) -> dict[str, Any]:
    preset, suppression = PRESETS[name], config.suppression()
    metadata = file_metadata(checkpoint, detector.strides, preset, sizes, opset)
    with _place_of(output, preset) as place:
        written = write_file(
            place, output.name.removesuffix(preset.suffix), preset, detector, sizes, suppression,
            opset, metadata,
        )  # fmt: skip
        errors = _compare(detector, written.runner, preset, sizes, records, suppression)
        AP = _average_precision(written.runner, records, sizes, config) if records else None
        latency = median_ms(written.runner, sizes)
    return _entry(name, output, written, errors, latency, AP)


def _entry(
    name: str,
    output: Path,
    written: Written,
    errors: dict[str, float],
    latency: float,
    AP: float | None,
) -> dict[str, Any]:
    """What the report says of a file."""
    files = output.iterdir() if output.is_dir() else [output]
    return {
        "path": str(output),
        "preset": name,
        "bytes": sum(file.stat().st_size for file in files),
        "opset": written.opset,
        "operators": written.operators,
        "max_rel_error": errors,
        "latency_ms": latency,
        "AP": AP,
        "verified": f"{written.tested_in}, CPU",
    }


@contextmanager
def _place_of(output: Path, preset: Preset) -> Iterator[Path]:
    """Where to write until everything is proved."""
    if preset.kind == "openvino":
        with atomic_folder(output) as folder:
            yield folder
    else:
        with atomic_path(output) as file:
            yield file


def _settings(name: str, config: ExportConfig, stride: int) -> tuple[Sizes, int]:
    """Sizes and opset of a file, if the preset allows them."""
    preset = PRESETS[name]
    dynamic = dynamic_axes_of(config.dynamic)
    if dynamic and not preset.dynamic:
        raise ConfigError(f"--dynamic: files of preset {name} have fixed sizes; leave it out")
    opset = preset.opset if config.opset is None else config.opset
    if opset not in preset.opsets:
        last = preset.opsets.stop - 1
        allowed = f"{preset.opsets.start}" + (f" to {last}" if last > preset.opsets.start else "")
        raise ConfigError(f"--opset {opset}: preset {name} is written with {allowed}")
    return Sizes(_input_hw(config.imgsz, stride), config.batch_size, dynamic), opset


def _input_hw(imgsz: tuple[int, ...], stride: int) -> tuple[int, int]:
    given = "x".join(str(side) for side in imgsz)
    if len(imgsz) > 2:
        raise ConfigError(f"--imgsz {' '.join(map(str, imgsz))}: expected one or two numbers")
    if min(imgsz) < 1:
        raise ConfigError(f"--imgsz {given}: must be above 0")
    height, width = round_up_to_stride(imgsz[0], stride), round_up_to_stride(imgsz[-1], stride)
    if (height, width) != (imgsz[0], imgsz[-1]):
        logger.warning(
            "--imgsz %s rounded up to %dx%d, multiples of %d", given, height, width, stride
        )
    return height, width


def _output_path(config: ExportConfig, preset: Preset, num_files: int) -> Path:
    weights = Path(config.weights)
    beside = weights.with_name(weights.stem + preset.suffix)
    output = Path(config.output) if config.output else beside
    if config.output and (output.is_dir() or not output.suffix):
        output = output / beside.name
    elif config.output and num_files > 1:
        raise ConfigError(f"--output {output}: give a folder for several presets")
    if preset.kind == "onnx" and output.suffix != ".onnx":
        raise ConfigError(f"--output {output}: an ONNX file ends in .onnx")
    if output.absolute() == weights.absolute():
        raise ConfigError(f"{config.weights}: would be overwritten; give another --output")
    return output


def _compare(
    detector: Detector,
    runner: Runner,
    preset: Preset,
    sizes: Sizes,
    records: Sequence[ImageRecord],
    suppression: PostprocessConfig,
) -> dict[str, float]:
    """The worst error of each column group over pictures and noise, at every size allowed."""
    network, stride = DecodedNetwork(detector).eval(), max(detector.strides)
    inputs = [sizes.input_hw]
    if "hw" in sizes.dynamic:
        inputs += [(3 * stride, 5 * stride), (4 * stride, 2 * stride)]
    found = []
    for images in proof_inputs(inputs, records):
        with torch.inference_mode():
            expected = network(torch.from_numpy(images)).numpy()
        answer = runner.run(images)
        found.append(
            detection_errors(expected, answer, suppression)
            if preset.head == "e2e"
            else group_errors(expected, answer)
        )
    worst = merged(found)
    for name, error in worst.items():
        if not error <= preset.tolerance:
            raise CheckFailedError(
                f"{name} differs from PyTorch by {error:.1e}, more than {preset.tolerance:.0e}; "
                "no file is left behind"
            )
    return worst


def _average_precision(
    runner: Runner, records: tuple[ImageRecord, ...], sizes: Sizes, config: ExportConfig
) -> float:
    height, width = sizes.input_hw
    if height != width:
        raise ConfigError("--data measures AP on square inputs; give --imgsz one number")
    rect = "hw" in sizes.dynamic
    dataset = EvalDataset(records, height, 32, stride=runner.stride, rect=rect)
    loader = eval_loader(dataset, workers=config.workers, device_is_cuda=False)
    predict = RunnerPredictor(runner, VAL_POSTPROCESS)
    evaluation = evaluate(predict, loader, len(loader), dataset.records, runner.class_names)
    return evaluation.metrics.AP


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
        kind = (
            ""
            if entry["opset"] is None
            else (f", opset {entry['opset']}, {sum(entry['operators'].values())} operators")
        )
        logger.info(
            "%s: %.1f MB%s, %s: largest error against PyTorch %s; %.1f ms%s",
            entry["path"], entry["bytes"] / 1e6, kind, entry["verified"], errors,
            entry["latency_ms"], AP,
        )  # fmt: skip
        logger.info("Next: python detect.py --weights %s --source FOLDER", entry["path"])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
