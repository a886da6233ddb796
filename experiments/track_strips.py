"""What each id of a tracked video looks like over time, to count id switches by eye.

    python -m experiments.track_strips --predictions runs/detect/exp/predictions.json \
        --video street.mp4 --out strips

`predictions.json` is of `detect.py --track --save-json`. Each row of `strips/01.png`, `02.png`, ...
is one id: its crops at equal intervals, each under its frame number, and its class names. A row
that shows two objects is an id switch; two rows of the same object are another.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data.video import read_video_file
from utils.detect.crops import cut_out
from utils.image_output import write_image
from utils.logs import configure_logging
from utils.plots.image_grid import tile_images
from utils.structures import ImageArray

logger = logging.getLogger(__name__)
CROP_HW = (140, 90)  # every crop is fitted into this
ROWS, COLUMNS = 12, 16  # of a page


@dataclass(slots=True)
class Strip:
    """One id.

    Attributes:
        classes: name -> in how many frames.
        frames: the numbers of frames in which it was found.
        crops: frame number -> what its box shows.
    """

    classes: Counter[str] = field(default_factory=Counter)
    frames: list[int] = field(default_factory=list)
    crops: dict[int, ImageArray] = field(default_factory=dict)

    def title(self, track_id: int) -> str:
        """`#7 person 120, bicycle 3: frames 1 to 130`."""
        names = ", ".join(f"{name} {count}" for name, count in self.classes.most_common())
        return f"#{track_id} {names}: frames {self.frames[0]} to {self.frames[-1]}"


def read_strips(predictions: Sequence[Mapping[str, Any]], video: Path) -> dict[int, Strip]:
    """The strips of all ids, in the order of ids.

    Args:
        predictions: the content of predictions.json, of this video alone.
        video: the file.
    """
    strips: dict[int, Strip] = {}
    for entry in predictions:
        for each in tracked(entry):
            strip = strips.setdefault(each["track_id"], Strip())
            strip.classes[each["name"]] += 1
            strip.frames.append(entry["frame"])
    wanted = {track_id: set(_spread(strip.frames)) for track_id, strip in strips.items()}
    images = {index: image for _, index, image in read_video_file(video, 1)
              if any(index in frames for frames in wanted.values())}  # fmt: skip
    for entry in predictions:
        found = [each for each in tracked(entry) if entry["frame"] in wanted[each["track_id"]]]
        boxes = np.array([each["box"] for each in found], np.float32).reshape(-1, 4)
        crops = cut_out(images[entry["frame"]], boxes) if found else []
        for each, crop in zip(found, crops, strict=True):
            strips[each["track_id"]].crops[entry["frame"]] = _fitted(crop)
    return dict(sorted(strips.items()))


def tracked(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The detections of a frame that have an id."""
    return [each for each in entry["detections"] if each["track_id"] is not None]


def pages(strips: Mapping[int, Strip]) -> Iterator[ImageArray]:
    """Images of up to ROWS strips."""
    items = list(strips.items())
    for start in range(0, len(items), ROWS):
        rows = [
            _row(strip, strip.title(track_id)) for track_id, strip in items[start : start + ROWS]
        ]
        yield np.concatenate(rows)


def _spread(frames: Sequence[int]) -> list[int]:
    """Up to COLUMNS of them, the first and the last among these."""
    indices = np.unique(np.linspace(0, len(frames) - 1, COLUMNS).round().astype(int))
    return [frames[index] for index in indices]


def _fitted(crop: ImageArray) -> ImageArray:
    """The crop on white, shrunk or enlarged to CROP_HW."""
    height, width = CROP_HW
    scale = min(height / max(crop.shape[0], 1), width / max(crop.shape[1], 1))
    cell = np.full((height, width, 3), 255, np.uint8)
    if crop.size:
        size = (max(int(crop.shape[1] * scale), 1), max(int(crop.shape[0] * scale), 1))
        cell[: size[1], : size[0]] = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
    return cell


def _row(strip: Strip, title: str) -> ImageArray:
    cells = [np.full((*CROP_HW, 3), 255, np.uint8)] * (COLUMNS - len(strip.crops))
    crops = [strip.crops[frame] for frame in sorted(strip.crops)]
    band = np.concatenate([*crops, *cells], axis=1)
    numbers = " ".join(str(frame) for frame in sorted(strip.crops))
    return tile_images([band], [f"{title} ({numbers})"])


def main(argv: Sequence[str] | None = None) -> int:
    """Write the pages; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--predictions", type=Path, required=True)
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    configure_logging()
    strips = read_strips(json.loads(args.predictions.read_text(encoding="utf-8")), args.video)
    for number, page in enumerate(pages(strips), 1):
        write_image(args.out / f"{number:02d}.png", page)
    logger.info("%d ids; pages are in %s", len(strips), args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
