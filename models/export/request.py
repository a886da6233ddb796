"""The command line of export.py, and what it asks of each preset."""

from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from models.formats.format import FLOAT16_TOLERANCE, Preset
from models.formats.presets import FORMATS, PRESETS
from models.quantization.quantized_onnx import METHODS, TECHNIQUES
from models.runtimes.input_sizes import InputSizes
from utils.cli import option
from utils.errors import ConfigError, MissingPackageError
from utils.flag_rules import Choices, PathRule
from utils.flag_values import Flags
from utils.logs import flag_of
from utils.output_files import check_writable
from utils.postprocess import PostprocessConfig

logger = logging.getLogger(__name__)
DYNAMIC_SIZES = ("batch", "hw")

REFUSED = {
    "--keras": "TensorFlow files are made from ONNX files: see docs/deploy.md",
    "--inplace": "files never compute in place; leave it out",
    "--topk-per-class": "--topk-all limits the detections of an image",
    "--agnostic-nms": "classes are suppressed each by itself; leave it out",
    "--concat": "--preset npu ends in raw maps, one per level, --preset onnx in one decoded output",
    "--grid": "--preset onnx ends in decoded boxes, --preset npu in raw maps",
    "--end2end": "--nms (--preset e2e) puts suppression into the file",
    "--mnnd": "MNN's MNNConvert reads the ONNX file (not tried here)",
    "--mnne": "MNN's MNNConvert reads the ONNX file (not tried here)",
    **{flag: why for each in FORMATS for flag, why in each.refused_flags},
}
INSTEAD = {name: why for each in FORMATS for name, why in each.refused_presets}
ON_CPU = {"0": "files are written on the CPU; leave it out"}


@dataclass(frozen=True, slots=True)
class ExportConfig(Flags):
    """Write a network for a runtime, open the file there, and compare it with PyTorch.

    Examples:
        python export.py --weights runs/train/exp/weights/best.pt
        python export.py --weights best.pt --include onnx npu --batch 8
        python export.py --weights best.pt --preset trt10 --half --imgsz 640
        python export.py --weights best.pt --int8 --data my.yaml
    """

    weights: str = option(
        "yolov5s.pt", "checkpoint; a train-form one is converted first",
        rule=PathRule("weights", unless=("summary",)),
    )  # fmt: skip
    preset: tuple[str, ...] = option(
        ("onnx",), "kinds of file to write (docs/deploy.md)", "--include",
        rule=Choices(PRESETS, instead=INSTEAD),
    )  # fmt: skip
    int8: bool = option(False, "8 bits, calibrated on --data: the preset's 8-bit kind, else qdq-u8")
    nms: bool = option(False, "the preset e2e: suppression in the file")
    imgsz: tuple[int, ...] | None = option(
        None, "network input: one side, or height and width (default: as trained, else 640)",
        "--img", "--img-size", minimum=1, max_values=2,
    )  # fmt: skip
    batch_size: int = option(1, "images per run", "--batch", minimum=1)
    half: bool = option(
        False, "float16: computation and images (for GPUs), or the weights alone, by preset"
    )
    dynamic: tuple[str, ...] | None = option(
        None, "which sizes may change: batch, hw; bare means both", const=DYNAMIC_SIZES
    )
    simplify: bool = option(False, "YOLOv5's flag: files are simplified with and without it")
    opset: int | None = option(None, "ONNX operator set version (default: the preset's)", minimum=1)
    conf_thres: float = option(
        0.25, "e2e: lowest score of a detection", "--conf", minimum=0, maximum=1
    )
    iou_thres: float = option(
        0.45, "e2e: overlap at which a box suppresses another", "--iou", minimum=0, maximum=1
    )
    topk_all: int = option(100, "e2e: most detections of an image", minimum=1)
    per_tensor: bool = option(False, "INT8 ONNX files: one scale for all weights of a layer")
    reduce_range: bool = option(
        False, "INT8 ONNX files: weights use 7 bits, for programs on x86 processors without VNNI"
    )
    calibration_images: int = option(
        100, "INT8: images of --data's train split to calibrate on", minimum=1
    )
    calibration: tuple[str, ...] = option(
        ("minmax", "percentile"),
        "INT8: calibrations to try; the best one stays",
        rule=Choices(tuple(METHODS)),
    )
    technique: tuple[str, ...] = option(
        (), "INT8 ONNX files: quantization techniques to try on the best one", "--remedy",
        rule=Choices(TECHNIQUES),
    )  # fmt: skip
    qat_epochs: int = option(3, "INT8: epochs of the technique train", minimum=1)
    qat_batch_size: int = option(16, "INT8: images per step of the technique train", minimum=1)
    max_drop: float = option(
        2.0, "INT8: AP points that may be lost at most", minimum=-math.inf, maximum=math.inf
    )
    device: str = option(
        "cpu", "files are written on the CPU", rule=Choices(("cpu",), instead=ON_CPU)
    )
    license: str = option("", "licence to name in the files (default: the checkpoint's, if known)")
    data: str = option("", "data yaml: compare on its images and measure AP")
    single_cls: bool = option(
        False, "with --data: treat all classes as one; networks trained so are known without "
        "the flag"
    )  # fmt: skip
    workers: int = option(8, "with --data: threads that load images", minimum=0)
    summary: str = option(
        "",
        "only list the operators and layers of an ONNX file, or of a checkpoint's forms, whose "
        "graphs are kept in the folder --output, where it is given",
        rule=PathRule("weights"),
    )
    output: str = option(
        "", "file or folder to write to (default: beside the weights)",
        rule=PathRule("file or folder", beside="weights", unless=("summary",)),
    )  # fmt: skip
    report: str = option("", "write the result to this JSON file", rule=PathRule("file"))

    def check_related(self) -> None:
        """Refuse flags that change no file, and those that a preset does not allow.

        Raises:
            ConfigError: naming the flag.
        """
        if self.summary:
            self._check_summary()
            return
        presets = [PRESETS[name] for name in self.presets()]
        for flag, given in self._for_schemes():
            if given and not any(map(_has_scheme, presets)):
                raise ConfigError(f"{flag}: is for 8-bit ONNX files; add --int8, or leave it out")
        self._check_effects()
        for preset in presets:
            changed_preset(preset, self)
            input_sizes(preset, self, (1, 1))  # whatever it will be
            opset_of(preset, self)
            output_path(self, preset, len(presets))
        if not self.data and any(preset.quantization is not None for preset in presets):
            raise ConfigError("INT8 files are calibrated on your images: give --data my.yaml")

    def log_partial_effects(self) -> None:
        """Say which of several files a flag changes nothing in."""
        others = [name for name in self.presets() if not _has_scheme(PRESETS[name])]
        for flag, given in self._for_schemes():
            if given and others:
                logger.warning("%s has no effect on %s", flag, ", ".join(others))

    def _for_schemes(self) -> tuple[tuple[str, object], ...]:
        """The flags for 8-bit ONNX files, and what is given."""
        return (
            ("--technique", self.technique), ("--per-tensor", self.per_tensor),
            ("--reduce-range", self.reduce_range),
        )  # fmt: skip

    def _check_summary(self) -> None:
        """Refuse flags that say how to write files, where none is written.

        Raises:
            ConfigError: naming the flag.
        """
        used = ["weights", "summary", "imgsz", "report"]
        if not self.summary.endswith(".onnx"):  # a checkpoint's graphs can be kept
            used.append("output")
            if self.output:
                check_writable(Path(self.output), "--output", "folder")
        for field in fields(self):
            is_used = field.name in used
            if not is_used and getattr(self, field.name) != field.default:
                raise ConfigError(
                    f"{flag_of(field.name)}: changes nothing with --summary; leave it out"
                )

    def _check_effects(self) -> None:
        """Refuse flags that change nothing in any of the files; a limit (--max-drop) may be given.

        Raises:
            ConfigError: naming the flag, and what it is for.
        """
        presets = [PRESETS[name] for name in self.presets()]
        quantizes = any(preset.quantization is not None for preset in presets)
        calibrates = quantizes or any(preset.takes_images for preset in presets)
        suppresses = any(preset.head == "e2e" for preset in presets)
        effects = (
            (suppresses, "suppression in the file; add --nms",
             ("conf_thres", "iou_thres", "topk_all")),
            (calibrates, "8-bit files; add --int8 --data", ("calibration_images",)),
            (quantizes, "8-bit files; add --int8 --data", ("calibration",)),
            ("train" in self.technique, "training of 8-bit files; add --technique train",
             ("qat_epochs", "qat_batch_size")),
        )  # fmt: skip
        defaults = {field.name: field.default for field in fields(self)}
        for has_effect, use, names in effects:
            for name in names:
                if not has_effect and getattr(self, name) != defaults[name]:
                    raise ConfigError(f"{flag_of(name)}: is for {use}, or leave it out")

    def techniques(self) -> tuple[str, ...]:
        """Those to try, in the order in which none undoes another."""
        return tuple(name for name in TECHNIQUES if name in self.technique)

    def presets(self) -> tuple[str, ...]:
        """Each preset asked for, once."""
        names = list(self.preset)
        if self.int8:
            names = [PRESETS[name].int8_preset or name for name in names]
            if all(PRESETS[name].quantization is None for name in names):
                names.append("qdq-u8")
        if self.nms:
            names = ["e2e"] if names == ["onnx"] else [*names, "e2e"]
        return tuple(dict.fromkeys(names))

    def suppression(self) -> PostprocessConfig:
        """How an e2e file chooses its detections."""
        return PostprocessConfig(self.conf_thres, self.iou_thres, self.topk_all)


def check_installed(presets: Sequence[Preset]) -> None:
    """Find out whether what presets need is installed.

    Raises:
        MissingPackageError: naming the package, and what installs it.
    """
    for preset in presets:
        for package in preset.packages:
            if importlib.util.find_spec(package.module) is None:
                raise MissingPackageError(
                    f"preset {preset.name} needs {package.module}: "
                    f"pip install -r {package.requirements}"
                )
        if preset.find_toolkit is not None:
            preset.find_toolkit()


def _has_scheme(preset: Preset) -> bool:
    return preset.quantization is not None and preset.quantization.scheme is not None


def changed_preset(preset: Preset, config: ExportConfig) -> Preset:
    """A preset as the flags change it.

    Raises:
        ConfigError: it does not allow that.
    """
    if config.half and not preset.half:
        if not preset.may_be_half:
            raise ConfigError(
                f"--half: preset {preset.name} is not written in float16; leave it out"
            )
        preset = replace(preset, half=True, tolerance=FLOAT16_TOLERANCE)
    quantization = preset.quantization
    if quantization is not None and quantization.scheme is not None:
        scheme = replace(quantization.scheme, reduce_range=config.reduce_range,
                         per_channel=not config.per_tensor)  # fmt: skip
        preset = replace(preset, quantization=replace(quantization, scheme=scheme))
    return preset


def input_sizes(preset: Preset, config: ExportConfig, input_hw: tuple[int, int]) -> InputSizes:
    """Sizes of a file.

    Raises:
        ConfigError: the preset does not allow them.
    """
    dynamic = _dynamic_sizes(config.dynamic)
    if dynamic and not preset.dynamic:
        raise ConfigError(
            f"--dynamic: files of preset {preset.name} have fixed sizes; leave it out"
        )
    if preset.one_image and config.batch_size != 1:
        raise ConfigError(
            f"--batch-size {config.batch_size}: {preset.name} files take one image at a time"
        )
    return InputSizes(input_hw, config.batch_size, dynamic)


def _dynamic_sizes(given: Sequence[str] | None) -> tuple[str, ...]:
    """What `--dynamic` asks for: nothing, some of batch and hw, or (bare) both."""
    if given is None:
        return ()
    for name in given:
        if name not in DYNAMIC_SIZES:
            raise ConfigError(f"--dynamic {name}: expected batch, hw, or nothing for both")
    return tuple(given) or DYNAMIC_SIZES


def opset_of(preset: Preset, config: ExportConfig) -> int:
    """The operator set of a file.

    Raises:
        ConfigError: the preset is not written with it.
    """
    opset = preset.opset if config.opset is None else config.opset
    if opset not in preset.opsets:
        last = preset.opsets.stop - 1
        allowed = f"{preset.opsets.start}" + (f" to {last}" if last > preset.opsets.start else "")
        raise ConfigError(f"--opset {opset}: preset {preset.name} is written with {allowed}")
    return opset


def output_path(config: ExportConfig, preset: Preset, num_files: int) -> Path:
    """Where a preset's file goes.

    Raises:
        ConfigError: `--output` does not fit it.
    """
    weights = Path(config.weights)
    beside = weights.with_name(weights.stem + preset.suffix)
    output = Path(config.output) if config.output else beside
    if config.output and (output.is_dir() or not output.suffix):
        output = output / beside.name
    elif config.output and num_files > 1:
        raise ConfigError(f"--output {output}: give a folder for several presets")
    is_onnx = preset.suffix.endswith(".onnx")
    if is_onnx and output.suffix != ".onnx":
        raise ConfigError(f"--output {output}: an ONNX file ends in .onnx")
    if not is_onnx and not output.name.endswith(preset.suffix):
        raise ConfigError(
            f"--output {output}: what this preset writes must end in {preset.suffix}, by which "
            "detect.py knows it"
        )
    return output
