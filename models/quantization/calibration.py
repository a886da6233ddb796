"""What 8-bit files are made and evaluated with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.formats.format import QuantizedNetwork
from models.network.detector import Detector
from models.quantization.calibration_images import Images
from models.quantization.quantization_training import Batches
from models.runtimes.runner import Runner
from utils.metrics.matches import ImageMatches


@dataclass(frozen=True, slots=True)
class Evaluated:
    """How good a file is on the user's images.

    Attributes:
        AP: COCO's.
        images: what it found on each, for paired comparisons.
    """

    AP: float
    images: ImageMatches


@dataclass(frozen=True, slots=True)
class Calibration:
    """What an 8-bit file is made and evaluated with.

    Attributes:
        images: to calibrate on.
        num_images: how many those are.
        sha256: of their files.
        sample_images: a few, to compare layers on.
        evaluate: how good a file is.
        methods: calibration methods to try, where there is a choice.
        max_drop: AP points that may be lost at most.
        techniques: of models.quantization.techniques, to try on the best file in this order.
        batches: to train 8-bit networks on.
        epochs: of that training.
    """

    images: Images
    num_images: int
    sha256: str
    sample_images: Images
    evaluate: Callable[[Runner], Evaluated]
    methods: Sequence[str]
    max_drop: float
    techniques: Sequence[str]
    batches: Batches
    epochs: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """An 8-bit file, and how it came about.

    Attributes:
        name: the calibration method and the techniques.
        method: the calibration method.
        detector: the float32 network, in deploy form.
        source: the float32 ONNX file.
        file: the 8-bit file, or its folder.
        network: the file, opened.
        evaluated: how good it is.
    """

    name: str
    method: str
    detector: Detector
    source: Path
    file: Path
    network: QuantizedNetwork
    evaluated: Evaluated
