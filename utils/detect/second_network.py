"""A second network that looks at the frames of a run, for comparison."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from utils.detect.comparison import ClassMap, Comparison
from utils.detect.comparison_output import ComparedFiles, ComparisonSummary
from utils.detect.output import DetectionOutput
from utils.detect.pipeline import STAGES, Found, FrameDetector, StageClock, ahead, prepared
from utils.letterbox import InputSize
from utils.output_files import write_json
from utils.structures import Detections, FittedFrame, Frame, Skipped

logger = logging.getLogger(__name__)
COMPARE_JSON = "compare.json"


def padded_alike(
    first: FrameDetector, second: FrameDetector
) -> tuple[FrameDetector, FrameDetector]:
    """Both networks, with the same input where their size is the same.

    Padding changes what a network finds. Where one of them takes a single size only, and the other
    would pad less, that one is given whole inputs, too: differences are then the networks' own.
    """
    whole = [each.size.stride is None for each in (first, second)]
    if first.size.limit_hw != second.size.limit_hw or len(set(whole)) == 1:
        return first, second
    size = InputSize(first.size.limit_hw, None)
    height, width = size.limit_hw
    logger.info("Both networks get images padded to %dx%d px, the only size of one", height, width)
    return replace(first, size=size), replace(second, size=size)


def compared_networks(
    first: FrameDetector, second: FrameDetector, files: tuple[str, str]
) -> tuple[FrameDetector, SecondNetwork]:
    """Two networks as they are compared.

    Args:
        first: whose `--classes` apply to both.
        second: looks at the first one's frames.
        files: their weights, as they were given.

    Raises:
        CheckpointError: their class names differ.
    """
    first, second = padded_alike(first, second)
    return first, SecondNetwork.of(second, first, files)


@dataclass(frozen=True, slots=True)
class SecondNetwork:
    """Finds objects in frames that are decoded already, each in a letterbox of its own.

    Attributes:
        detector: the network, its input size and its rules.
        files: the weights of the first network and of this one.
        classes: its class ids in terms of the first network's.
        clock: counts the seconds of its stages.
    """

    detector: FrameDetector
    files: ComparedFiles
    classes: ClassMap
    clock: StageClock

    @classmethod
    def of(
        cls, detector: FrameDetector, first: FrameDetector, files: tuple[str, str]
    ) -> SecondNetwork:
        """Let `detector` look for what `first` looks for.

        Args:
            detector: the second network.
            first: the first one, whose `--classes` apply.
            files: the weights of the first and the second, as they were given.

        Raises:
            CheckpointError: their class names differ.
        """
        classes = ClassMap.by_name(first.class_names, detector.class_names, files)
        wanted = first.rules.classes
        chosen = None if wanted is None else classes.in_second(wanted)
        detector = replace(detector, rules=replace(first.rules, classes=chosen))
        return cls(
            detector,
            ComparedFiles(*files, first.rules.score_threshold),
            classes,
            StageClock(STAGES),
        )

    def compared(self, results: Iterable[Found | Skipped]) -> Iterator[Found | Skipped]:
        """The first network's results, each compared with what this one finds in the frame.

        It looks at a frame at a time, in a thread of its own.
        """
        return ahead(self._compared(results), 1)

    def _compared(self, results: Iterable[Found | Skipped]) -> Iterator[Found | Skipped]:
        for result in results:
            if isinstance(result, Found):
                found = self._detections(result.frame)
                result = replace(result, comparison=Comparison.of(result.detections, found))
            yield result

    def milliseconds_per(self, count: int) -> dict[str, float]:
        """Stage -> milliseconds divided by `count` frames; it decodes none itself."""
        stages = self.clock.milliseconds_per(count)
        return {name: stages[name] for name in STAGES[1:]}

    def write_summary(
        self, output: DetectionOutput, frames: int, folder: Path
    ) -> ComparisonSummary | None:
        """What was compared in so many frames, written to `compare.json`.

        None where the output is not about two networks.
        """
        if output.comparison is None:
            return None
        summary = output.comparison.summary(self.milliseconds_per(frames))
        write_json(folder / COMPARE_JSON, summary.as_report())
        return summary

    def _detections(self, frame: Frame) -> Detections:
        batch = [FittedFrame(0, frame, self.detector.size.letterbox(frame.image_hw))]
        found = self.detector.find(prepared([batch], self.clock), self.clock)
        (detections,) = (each.detections for each in found if isinstance(each, Found))
        return self.classes.in_first(detections)
