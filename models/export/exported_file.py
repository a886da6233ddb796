"""Writing a network as a file of some preset, and opening it again."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from models.export.export_networks import (
    TupleNetwork,
    network_of,
    output_names,
    takes_half_images,
)
from models.export.onnx_file import Expected, OnnxOptions, write_checked
from models.export.request import (
    ExportConfig,
    changed_preset,
    check_installed,
    input_sizes,
    opset_of,
    output_path,
)
from models.export.traced_file import write_traced
from models.formats.format import NetworkFile, Preset
from models.formats.onnx import operator_counts
from models.formats.presets import PRESETS
from models.network.detector import Detector
from models.quantization.calibration_images import Images
from models.runtimes.file_metadata import FileMetadata
from models.runtimes.input_sizes import InputSizes
from models.runtimes.onnx_runner import ONNXRUNTIME
from models.runtimes.runner import Runner
from utils.checkpoint import Checkpoint, license_of
from utils.errors import ConfigError
from utils.letterbox import choose_input_hw
from utils.postprocess import PostprocessConfig


@dataclass(frozen=True, slots=True)
class FileRequest:
    """What file to write of which network.

    Attributes:
        preset: the kind of file, as the flags have changed it.
        detector: in deploy form and eval mode.
        sizes: of input and batch.
        opset: ONNX operator set.
        suppression: rules of files that suppress by themselves.
        metadata: of the file.
        stem: name of files in a folder.
        images: to calibrate on; None without any.
    """

    preset: Preset
    detector: Detector
    sizes: InputSizes
    opset: int
    suppression: PostprocessConfig
    metadata: FileMetadata
    stem: str = "model"
    images: Images | None = None


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file to write, and where it goes."""

    output: Path
    request: FileRequest


def planned_files(
    config: ExportConfig, checkpoint: Checkpoint, detector: Detector
) -> list[PlannedFile]:
    """One file per preset; what would end a long run later is found out here.

    Raises:
        ConfigError: a preset does not allow a flag, or the checkpoint would be overwritten.
        MissingPackageError: what a preset needs is not installed.
    """
    presets = [changed_preset(PRESETS[name], config) for name in config.presets()]
    outputs = [output_path(config, preset, len(presets)) for preset in presets]
    if Path(config.weights).absolute() in [output.absolute() for output in outputs]:
        raise ConfigError(f"{config.weights}: would be overwritten; give another --output")
    stride, planned = detector.stride, []
    input_hw = choose_input_hw(config.imgsz, config.weights, stride, known_hw=checkpoint.image_hw)
    for preset, output in zip(presets, outputs, strict=True):
        sizes = input_sizes(preset, config, input_hw)
        opset = opset_of(preset, config)
        request = FileRequest(
            preset=preset,
            detector=detector,
            sizes=sizes,
            opset=opset,
            suppression=config.suppression(),
            metadata=file_metadata(checkpoint, detector, preset, sizes, opset, config.license),
            stem=output.name.removesuffix(preset.suffix),
        )
        planned.append(PlannedFile(output, request))
    check_installed(presets)
    return planned


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that was just written.

    Attributes:
        runner: runs it.
        onnx: the ONNX file that it is, or that is part of it; None where it holds none.
        operators: how many nodes of each the ONNX file has; empty where there is none.
    """

    runner: Runner
    onnx: NetworkFile | None = None
    operators: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of_onnx(cls, runner: Runner, onnx: NetworkFile) -> WrittenFile:
        """One that is an ONNX file, or holds one."""
        return cls(runner, onnx, operator_counts(onnx.path))


def write_file(path: Path, request: FileRequest) -> WrittenFile:
    """Write a network in deploy form and open the file again.

    Args:
        path: the file, or the folder for presets that write several.
        request: what to write; its preset is one of float files.

    Raises:
        CheckFailedError: the file is not what was asked for.
        MissingPackageError: the tool for this kind of file is not installed.
    """
    preset = request.preset
    with tempfile.TemporaryDirectory() as temporary:
        if preset.convert is None:
            source = path
        elif preset.keeps_onnx:
            source = path / f"{request.stem}.onnx"
        else:
            source = Path(temporary) / ("model.pt" if preset.traced else f"{request.stem}.onnx")
        _write_interchange_file(source, request)
        file = network_file(source, request)
        if preset.convert is not None:
            preset.convert(file, path)
    runner = preset.runtime.open(path, device="cpu")
    has_onnx = not preset.traced and (preset.convert is None or preset.keeps_onnx)
    return WrittenFile.of_onnx(runner, file) if has_onnx else WrittenFile(runner)


def float_request(request: FileRequest) -> FileRequest:
    """The float32 ONNX file that an 8-bit file is made from."""
    preset = replace(request.preset, quantization=None, runtime=ONNXRUNTIME, is_folder=False)
    return replace(request, preset=preset)


def network_file(path: Path, request: FileRequest) -> NetworkFile:
    """A file that was written on request, for the format's own tools."""
    return NetworkFile(
        path=path,
        preset=request.preset,
        sizes=request.sizes,
        opset=request.opset,
        metadata=request.metadata,
        stem=request.stem,
        images=request.images,
    )


def _write_interchange_file(path: Path, request: FileRequest) -> None:
    preset, sizes = request.preset, request.sizes
    network = network_of(preset, request.detector, request.suppression, sizes)
    if preset.traced:
        shape = (sizes.batch_size, 3, *sizes.input_hw)
        if preset.convert is None:
            values = {"shape": list(shape), **request.metadata.as_values()}
            write_traced(path, TupleNetwork(network).eval(), shape, values)
        else:
            write_traced(path, network, shape, None)
        return
    options = OnnxOptions(
        input_hw=sizes.input_hw,
        batch_size=sizes.batch_size,
        dynamic=sizes.dynamic,
        opset=request.opset,
        outputs=output_names(preset.head, request.detector),
        fixed_outputs=preset.head == "e2e",
        boxes_axis=2 if preset.head == "scores" else 1,
        half=takes_half_images(preset),
    )
    write_checked(path, network, options, preset, expected_of(request))


def expected_of(request: FileRequest) -> Expected:
    """What an ONNX file must be that was written on request."""
    return Expected(
        opset=request.opset,
        outputs=output_names(request.preset.head, request.detector),
        convolutions=sum(isinstance(each, nn.Conv2d) for each in request.detector.modules()),
        texts=request.metadata.as_texts(),
    )


def file_metadata(
    checkpoint: Checkpoint,
    detector: Detector,
    preset: Preset,
    sizes: InputSizes,
    opset: int,
    license: str,
) -> FileMetadata:
    """What a program needs to run the file; `license` instead of the checkpoint's."""
    return FileMetadata(
        class_names=checkpoint.class_names,
        strides=detector.strides,
        stride=detector.stride,
        anchors=tuple(tuple(level) for level in checkpoint.spec["anchors"]),
        sizes=sizes,
        head=preset.head,
        rows_last=preset.rows_last,
        activation=checkpoint.spec["activation"],
        precision=_precision(preset),
        opset=opset,
        torch_version=str(torch.__version__),  # a class of its own, which yaml does not take
        license=license or license_of(checkpoint),
    )


def _precision(preset: Preset) -> str:
    if preset.quantization is None:
        return "float16" if preset.half else "float32"
    scheme = preset.quantization.scheme
    if scheme is None:
        return "int8"
    return f"{scheme.activations}s8{'' if scheme.per_channel else ' per tensor'}"
