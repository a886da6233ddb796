"""How many ids a video gets with other rules of association.

    python detect.py --weights yolov5n.onnx --source street.mp4 --conf 0.1 --save-json --nosave
    python -m experiments.track_settings --predictions runs/detect/exp/predictions.json

Prints a row per setting: the ids, how many of them are in fewer than SHORT frames, and how many
detections have none. Fewer ids are better where the same objects are followed: they are in fewer
pieces. Which objects they are is seen in the strips of experiments/track_strips.py.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.detect.tracking import LOW_SCORE, VideoTracker
from utils.logs import configure_logging
from utils.structures import NO_TRACK, Detections

logger = logging.getLogger(__name__)
SCORE_THRESHOLD = 0.25  # detect.py's default
SHORT = 10  # frames


@dataclass(frozen=True, slots=True)
class Setting:
    """How boxes become tracks.

    Attributes:
        low_score: the lowest score of boxes that continue a track.
        class_agnostic: a track may change its class.
    """

    low_score: float
    class_agnostic: bool

    def as_text(self) -> str:
        """`scores from 0.1, each class by itself`."""
        classes = "all classes together" if self.class_agnostic else "each class by itself"
        return f"scores from {self.low_score:g}, {classes}"


SETTINGS = [
    Setting(low, agnostic) for agnostic in (False, True) for low in (LOW_SCORE, SCORE_THRESHOLD)
]


def track_lengths(
    entries: Sequence[Mapping[str, Any]], fps: float, setting: Setting
) -> Counter[int]:
    """Id -> in how many frames it is shown; NO_TRACK counts detections without an id.

    Args:
        entries: of predictions.json, with scores from LOW_SCORE on.
        fps: of the video.
        setting: how boxes become tracks.
    """
    tracker = VideoTracker(SCORE_THRESHOLD, fps, class_agnostic=setting.class_agnostic)
    lengths: Counter[int] = Counter()
    for entry in entries:
        found = [each for each in entry["detections"] if each["score"] > setting.low_score]
        detections = Detections(
            np.array([each["box"] for each in found], np.float32).reshape(-1, 4),
            np.array([each["score"] for each in found], np.float32),
            np.array([each["class_id"] for each in found], np.int64),
        )
        followed = tracker.follow(detections, entry["seconds"])
        if followed.track_ids is not None:
            lengths.update(followed.track_ids.tolist())
    return lengths


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--predictions", type=Path, required=True)
    args = parser.parse_args(argv)
    configure_logging()
    entries = json.loads(args.predictions.read_text(encoding="utf-8"))
    fps = (len(entries) - 1) / max(entries[-1]["seconds"] - entries[0]["seconds"], 1e-9)
    for setting in SETTINGS:
        lengths = track_lengths(entries, fps, setting)
        without = lengths.pop(NO_TRACK, 0)
        short = sum(length < SHORT for length in lengths.values())
        logger.info("%s: %d ids, %d of them short, %d of %d detections without",
                    setting.as_text(), len(lengths), short, without,
                    without + lengths.total())  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
