"""The command line of export.py."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from models.export.onnx_file import dynamic_axes_of
from models.export.sizes import Sizes
from models.formats.presets import PRESETS, Preset
from models.quantization.quantized_onnx import METHODS
from utils.cli import option
from utils.errors import ConfigError
from utils.letterbox import round_up_to_stride
from utils.postprocess import PostprocessConfig

logger = logging.getLogger(__name__)
HALF_TOLERANCE = 2e-2
STATIC_BATCH = ("hailo", "horizon", "axera")  # vendors
HALF_PRESETS = ("onnx", "trt10", "openvino")
IN_8_BITS = {"onnx": "qdq-u8", "openvino": "openvino-int8"}  # what --int8 makes of a preset
REMEDIES = ("equalize", "mixed", "bias", "train")  # models.quantization.remedies has what each does

_LATER = "is not offered yet; --help lists the presets"
REFUSED = {
    "--simplify": "files are always simplified; leave it out",
    "--keras": f"TensorFlow {_LATER}",
    "--optimize": f"TorchScript for phones {_LATER}",
    "--inplace": "files never compute in place; leave it out",
    "--workspace": f"TensorRT {_LATER}",
    "--topk-per-class": "--topk-all limits the detections of an image",
    "--agnostic-nms": "classes are suppressed each by itself; leave it out",
}


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """Write a network for a runtime, open the file there, and compare it with PyTorch."""

    weights: str = option("yolov5s.pt", "checkpoint; a train-form one is converted first")
    preset: tuple[str, ...] = option(
        ("onnx",), "kinds of file to write", "--include", choices=tuple(PRESETS)
    )
    int8: bool = option(
        False, "qdq-u8 for onnx, openvino-int8 for openvino: 8 bits, calibrated on --data"
    )
    nms: bool = option(False, "the preset e2e: suppression in the file")
    imgsz: tuple[int, ...] = option(
        (640,), "network input: one side, or height and width", "--img", "--img-size"
    )
    batch_size: int = option(1, "images per run", "--batch")
    half: bool = option(
        False,
        "ONNX: compute in float16, on float16 images (for GPUs); OpenVINO: weights in float16",
    )
    dynamic: tuple[str, ...] | None = option(
        None, "which sizes may change: batch, hw; bare means both", const=("batch", "hw")
    )
    opset: int | None = option(None, "ONNX operator set version; default the preset's")
    conf_thres: float = option(0.25, "e2e: lowest score of a detection")
    iou_thres: float = option(0.45, "e2e: overlap at which a box suppresses another")
    topk_all: int = option(100, "e2e: most detections of an image")
    per_tensor: bool = option(False, "INT8 ONNX files: one scale for all weights of a layer")
    calibration_images: int = option(100, "INT8: images of --data's train split to calibrate on")
    calibration: tuple[str, ...] = option(
        ("minmax", "percentile"), "INT8: calibrations to try; the best one stays", choices=METHODS
    )
    remedy: tuple[str, ...] = option(
        (), "INT8 ONNX files: also try these on the best one", choices=REMEDIES
    )
    qat_epochs: int = option(3, "INT8: epochs of the remedy train")
    qat_batch_size: int = option(16, "INT8: images per step of the remedy train")
    max_drop: float = option(2.0, "INT8: AP points that may be lost at most")
    device: str = option("cpu", "files are written on the CPU", choices=("cpu",))
    data: str = option("", "data yaml: compare on its images and measure AP")
    workers: int = option(8, "processes that load images")
    summary: str = option(
        "",
        "write nothing: list the operators and layers of an ONNX file, or of a checkpoint's forms",
    )
    output: str = option("", "file or folder to write to (default: beside the weights)")
    report: str = option("", "write the result to this JSON file")

    def check(self) -> None:
        """Refuse numbers that make no sense, and remedies without a file they are for.

        Raises:
            ConfigError: naming the flag.
        """
        for flag, value in (("--conf-thres", self.conf_thres), ("--iou-thres", self.iou_thres)):
            if not 0 <= value <= 1:
                raise ConfigError(f"{flag} {value}: must be from 0 to 1")
        counts = {
            "--batch-size": self.batch_size,
            "--topk-all": self.topk_all,
            "--calibration-images": self.calibration_images,
            "--qat-epochs": self.qat_epochs,
            "--qat-batch-size": self.qat_batch_size,
        }
        for flag, count in counts.items():
            if count < 1:
                raise ConfigError(f"{flag} {count}: must be at least 1")
        others = [name for name in self.presets() if PRESETS[name].form is None]
        for flag, given in (("--remedy", self.remedy), ("--per-tensor", self.per_tensor)):
            if given and len(others) == len(self.presets()):
                raise ConfigError(f"{flag}: is for 8-bit ONNX files; add --int8, or leave it out")
            if given and others:
                logger.warning("%s has no effect on %s", flag, ", ".join(others))

    def remedies(self) -> tuple[str, ...]:
        """Those to try, in the order in which none undoes another."""
        return tuple(remedy for remedy in REMEDIES if remedy in self.remedy)

    def presets(self) -> tuple[str, ...]:
        """Each preset asked for, once."""
        names = list(self.preset)
        if self.int8:
            names = [IN_8_BITS.get(name, name) for name in names]
            if not any(PRESETS[name].quantized for name in names):
                names.append("qdq-u8")
        if self.nms:
            names = ["e2e"] if names == ["onnx"] else [*names, "e2e"]
        return tuple(dict.fromkeys(names))

    def suppression(self) -> PostprocessConfig:
        """How an e2e file chooses its detections."""
        return PostprocessConfig(self.conf_thres, self.iou_thres, self.topk_all)


def settings_of(
    name: str, preset: Preset, config: ExportConfig, stride: int
) -> tuple[Sizes, int, Preset]:
    """Sizes and opset of a file, and its preset as the flags change it, if it allows them.

    Raises:
        ConfigError: it does not.
    """
    if config.half and not preset.half:
        if name not in HALF_PRESETS:
            raise ConfigError(f"--half: preset {name} is not written in float16; leave it out")
        preset = replace(preset, half=True, tolerance=HALF_TOLERANCE)
    dynamic = dynamic_axes_of(config.dynamic)
    if dynamic and not preset.dynamic:
        raise ConfigError(f"--dynamic: files of preset {name} have fixed sizes; leave it out")
    opset = preset.opset if config.opset is None else config.opset
    if opset not in preset.opsets:
        last = preset.opsets.stop - 1
        allowed = f"{preset.opsets.start}" + (f" to {last}" if last > preset.opsets.start else "")
        raise ConfigError(f"--opset {opset}: preset {name} is written with {allowed}")
    if preset.kind in ("ncnn", "rknn") and config.batch_size != 1:
        raise ConfigError(
            f"--batch-size {config.batch_size}: {preset.kind} files take one image at a time"
        )
    if preset.vendor in STATIC_BATCH and config.batch_size != 1:
        raise ConfigError(
            f"--batch-size {config.batch_size}: preset {name} is for one image at a time"
        )
    if config.per_tensor and preset.form is not None:
        preset = replace(preset, form=replace(preset.form, per_channel=False))
    return Sizes(input_hw(config.imgsz, stride), config.batch_size, dynamic), opset, preset


def input_hw(imgsz: tuple[int, ...], stride: int) -> tuple[int, int]:
    """Height and width that `--imgsz` means, multiples of the stride.

    Raises:
        ConfigError: not one or two numbers above 0.
    """
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


def output_path(config: ExportConfig, preset: Preset, num_files: int) -> Path:
    """Where a preset's file goes.

    Raises:
        ConfigError: `--output` does not fit it, or is the input.
    """
    weights = Path(config.weights)
    beside = weights.with_name(weights.stem + preset.suffix)
    output = Path(config.output) if config.output else beside
    if config.output and (output.is_dir() or not output.suffix):
        output = output / beside.name
    elif config.output and num_files > 1:
        raise ConfigError(f"--output {output}: give a folder for several presets")
    one_onnx = preset.kind == "onnx" and not preset.writes_folder
    if one_onnx and output.suffix != ".onnx":
        raise ConfigError(f"--output {output}: an ONNX file ends in .onnx")
    if not one_onnx and not output.name.endswith(preset.suffix):
        raise ConfigError(
            f"--output {output}: what this preset writes must end in {preset.suffix}, by which "
            "detect.py knows it"
        )
    if output.absolute() == weights.absolute():
        raise ConfigError(f"{config.weights}: would be overwritten; give another --output")
    return output
