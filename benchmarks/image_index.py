"""Reading a data set the first and the second time: `python -m benchmarks.image_index`.

The images are small and made up, each of other bytes, with a label of one box. Every start is a
process of its own with a cache folder of its own; what is counted is reading the data set.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from benchmarks.measurement import output_of
from benchmarks.peer import Peer
from benchmarks.rounds import Contestant, Turn
from benchmarks.rows import Agreement, Goal, Row
from benchmarks.stage import Options, Stage, stage_main, write_data_yaml
from data.file_states import SETTLED_NS
from data.image_file import read_image

HEIGHT, WIDTH = 48, 64
COCO_IMAGES = 118_287
_COMMENT = b"\xff\xfe"  # the marker of a JPEG's comment


def write_images(folder: Path, count: int) -> None:
    """So many JPEGs and labels, of which no two have the same bytes."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
    pixels = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    content = cv2.imencode(".jpg", pixels)[1].tobytes()
    images, labels = folder / "images", folder / "labels"
    images.mkdir(parents=True)
    labels.mkdir()
    for number in range(count):
        text = str(number).encode()
        comment = _COMMENT + struct.pack(">H", len(text) + 2) + text
        (images / f"{number:06}.jpg").write_bytes(content[:2] + comment + content[2:])
        box = f"{number % 80} 0.5 0.5 0.{number % 8 + 1} 0.25\n"
        (labels / f"{number:06}.txt").write_text(box, encoding="utf-8")


def start_ours(data: Path, cache: Path, *, first: bool) -> Turn:
    """A process that reads the data set, the first time without an index."""
    if first:
        shutil.rmtree(cache, ignore_errors=True)
    if sys.platform != "win32":
        os.sync()  # what was written before is not to be waited for
    command = [sys.executable, "-m", "benchmarks.data_set_reader", str(data)]
    printed = output_of(command, {"XDG_CACHE_HOME": str(cache)})
    found = json.loads(printed.splitlines()[-1])
    return Turn(found.pop("seconds"), found)


def visit(paths: Sequence[Path], work: Callable[[Path], object], threads: int) -> Turn:
    """Seconds of some work on every image, on so many threads."""

    def visit_part(first: int) -> int:
        return sum(1 for path in paths[first::threads] if work(path) is not None)

    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        count = sum(pool.map(visit_part, range(threads)))
    return Turn(time.perf_counter() - start, {"images": count})


def per_image(contestant: Contestant, count: int) -> Contestant:
    """The same, with seconds of one image."""

    def turn() -> Turn:
        found = contestant.turn()
        return Turn(found.seconds / count, found.facts)

    return Contestant(contestant.name, turn)


@contextmanager
def prepare(options: Options, peer: Peer | None) -> Iterator[Sequence[Contestant]]:
    """Writes the images; both then read them."""
    folder = options.folder / "images"
    write_images(folder, options.count)
    data = write_data_yaml(folder, [str(number) for number in range(80)])
    paths = sorted((folder / "images").glob("*.jpg"))
    time.sleep(SETTLED_NS / 1e9)  # files that changed just now are not entered
    cache = options.folder / "cache"
    found = [
        Contestant("decode each", partial(visit, paths, read_image, os.cpu_count() or 1)),
        Contestant("ours, first", partial(start_ours, data, cache, first=True)),
        Contestant("stat each", partial(visit, paths, Path.stat, 1)),
        Contestant("ours, second", partial(start_ours, data, cache, first=False)),
    ]
    if peer is not None:
        for name, first in (("peer, first", True), ("peer, second", False)):
            found.append(
                peer.contestant(
                    name,
                    "read_data_set",
                    images=str(folder / "images"),
                    image_size=options.image_size,
                    first=first,
                )
            )
    yield [per_image(each, options.count) for each in found]


STAGE = Stage(
    name="image_index",
    title="Reading a data set of {count:,} small made-up images with a label each",
    floor="first start: reading and decoding each file once, on all cores; second: one stat of "
    "each file",
    rows=(
        Row("reading a data set, first start", "ours, first", "peer, first", "decode each",
            "µs/image", 1e6, Goal("at most 100 µs beyond decoding", 100, "beyond")),
        Row("reading a data set, second start", "ours, second", "peer, second", "stat each",
            "µs/image", 1e6,
            Goal("1 s for COCO's 118,287 images: 8.45 µs", 1e6 / COCO_IMAGES, "time")),
    ),
    prepare=prepare,
    agreements=(
        Agreement("images", "ours, first", "peer, first"),
        Agreement("images", "ours, second", "ours, first"),
    ),
    rounds=1,
    count=100_000,
    rotate=False,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    return stage_main(STAGE, argv)


if __name__ == "__main__":
    raise SystemExit(main())
