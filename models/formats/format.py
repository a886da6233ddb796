"""What a module of this package says about its format; models/formats/table.py lists the modules.

All formats are made from one of two files that models/export writes of a network: ONNX, or a traced
program. So writing, opening and verifying need no network here, and importing a format no torch.
ONNX is the interchange file between exporters, runtimes and compilers, not just one more format.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from models.formats.npu_layers import NpuLayers
    from models.quantization.calibration_images import Images
    from models.quantization.qdq_scheme import QdqScheme
    from models.runtimes.file_metadata import FileMetadata
    from models.runtimes.input_sizes import InputSizes
    from models.runtimes.runner import Runner, Runtime

Head = Literal["decoded", "raw", "sigmoid", "scores", "best", "e2e"]

# What accelerators' compilers take: no shapes that are computed, nothing beyond four dimensions.
NPU_OPERATORS = frozenset(
    ("Conv", "Relu", "LeakyRelu", "Clip", "HardSwish", "Sigmoid", "Mul", "Add", "Concat", "MaxPool",
     "Resize")
)  # fmt: skip
FLOAT16_TOLERANCE = 2e-2


@dataclass(frozen=True, slots=True)
class Package:
    """A Python package that is not in requirements.txt.

    Attributes:
        module: the name it is imported by.
        requirements: the file that installs it.
    """

    module: str
    requirements: str = "requirements-deploy.txt"


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """An interchange file, ONNX or traced, and what a writer or runtime needs to know of it.

    Attributes:
        path: the file.
        preset: the kind of file wanted, as the flags have changed it.
        sizes: of its input.
        opset: its ONNX operator set.
        metadata: of the file wanted.
        stem: name of files in the folder to write.
        images: to calibrate on; None where there are none.
    """

    path: Path
    preset: Preset
    sizes: InputSizes
    opset: int
    metadata: FileMetadata
    stem: str = "model"
    images: Images | None = None


@dataclass(frozen=True, slots=True)
class QuantizedNetwork:
    """An 8-bit file that was just written, opened.

    Attributes:
        runner: runs it.
        npu_layers: what the compiler says of its layers, where it says so.
    """

    runner: Runner
    npu_layers: NpuLayers | None = None


@dataclass(frozen=True, slots=True)
class Quantization:
    """How a preset's files get their 8 bits.

    Attributes:
        write: (float32 ONNX file with raw maps and images, file or empty folder to write,
            calibration method) -> the 8-bit file.
        methods: calibration methods to try; empty takes those of `--calibration`.
        scheme: of ONNX files; None where the vendor's tool has its own.
    """

    write: Callable[[NetworkFile, Path, str], QuantizedNetwork]
    methods: tuple[str, ...] = ()
    scheme: QdqScheme | None = None


@dataclass(frozen=True, slots=True)
class Preset:
    """A kind of file that export.py writes.

    Attributes:
        name: what `--preset` calls it.
        description: for whom it is.
        outputs: what the file ends in, for people.
        head: `decoded` boxes, `raw` maps of logits, `sigmoid`, the same as probabilities, `scores`,
            boxes with class scores, `best`, with the best one alone, or `e2e`, after suppression.
        suffix: added to the checkpoint's name.
        runtime: runs the file.
        opset: the ONNX operator set it is written with by default.
        opsets: those it may be written with.
        operators: all that may be in the graph; None for any.
        forbidden: operators that must not be in it.
        dynamic: sizes may change from run to run.
        one_image: the file takes one image at a time.
        tolerance: largest relative error of any column group against PyTorch.
        half: float16, boxes decoded in float32.
        half_weights: of a float16 file the weights alone are float16.
        may_be_half: `--half` makes it float16.
        rows_last: raw maps are (B, H, W, channels).
        traced: it is made from a traced program instead of ONNX.
        is_folder: it takes several files.
        convert: (interchange file, file or folder to write); None where the interchange file is the
            file.
        keeps_onnx: the ONNX file it is made from is part of it.
        quantization: how it gets its 8 bits; None for float files.
        int8_preset: what `--int8` writes instead.
        packages: what writing and running it needs.
        find_toolkit: finds what no package brings, or raises MissingPackageError.
        takes_images: the vendor's compiler calibrates on images beside the network.
        stale: files and folders of an export before, which go when the folder is written again.
        not_run: what else has to happen to the file, which is not done here.
        command: (path of the file, its sizes) -> the vendor's command for it.
    """

    name: str
    description: str
    outputs: str
    head: Head
    suffix: str
    runtime: Runtime
    opset: int = 17
    opsets: range = range(11, 21)
    operators: frozenset[str] | None = None
    forbidden: frozenset[str] = frozenset(("BatchNormalization",))
    dynamic: bool = True
    one_image: bool = False
    tolerance: float = 1e-4
    half: bool = False
    half_weights: bool = False
    may_be_half: bool = False
    rows_last: bool = False
    traced: bool = False
    is_folder: bool = False
    convert: Callable[[NetworkFile, Path], None] | None = None
    keeps_onnx: bool = False
    quantization: Quantization | None = None
    int8_preset: str = ""
    packages: tuple[Package, ...] = ()
    find_toolkit: Callable[[], Path] | None = None
    takes_images: bool = False
    stale: tuple[str, ...] = ()
    not_run: str = ""
    command: Callable[[Path, InputSizes], str] | None = None


@dataclass(frozen=True, slots=True)
class SecondRuntime:
    """Another runtime than onnxruntime that ONNX files are opened in, to compare the answers.

    Attributes:
        name: of the program.
        open: a region in which the file is open; leaves the process as it was.
        package: what it needs; None where requirements.txt has it.
        takes_8_bits: it takes 8-bit files with zero points, and those alone; else float32 files.
        newest_opset: that it reads.
        dynamic: it takes files whose sizes may change.
        rows_last: it takes files with maps (B, H, W, channels).
        batches: it takes files of several images per run.
    """

    name: str
    open: Callable[[NetworkFile], AbstractContextManager[Runner]]
    package: Package | None = None
    takes_8_bits: bool = False
    newest_opset: int = 99
    dynamic: bool = True
    rows_last: bool = True
    batches: bool = True


@dataclass(frozen=True, slots=True)
class Format:
    """What the module of a format says of it.

    Attributes:
        name: of the format, for people.
        runtime: opens them; None where other formats' files are opened.
        presets: the kinds of file that export.py writes of it.
        second_runtime: compares ONNX files.
        refused_flags: YOLOv5's flags of export.py that are not offered, each with the reason.
        refused_presets: YOLOv5's words of `--include` likewise, each with what to do instead.
    """

    name: str
    runtime: Runtime | None = None
    presets: tuple[Preset, ...] = ()
    second_runtime: SecondRuntime | None = None
    refused_flags: tuple[tuple[str, str], ...] = ()
    refused_presets: tuple[tuple[str, str], ...] = ()
