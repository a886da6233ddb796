"""How each cost grows with images, boxes, image size and ranks: `python -m benchmarks.scale`.

Writes a dated report with a plot each; under 10 minutes on two cores. Run nothing else at the same
time.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks.growth import Growth, plot_growths
from benchmarks.measurement import measured_with, table, warnings_only
from benchmarks.scale_costs import (
    LOADED,
    SMALLEST,
    Sizes,
    with_boxes,
    with_image_size,
    with_images,
    with_ranks,
)
from data.dataset_spec import load_dataset_spec
from data.records import read_records
from data.synthetic.dataset import SyntheticConfig, write_dataset
from experiments.coco_cost import coco128_records
from experiments.training_runs import REPORTS, ROOT
from utils.logs import configure_logging
from utils.output_files import write_text
from utils.structures import ImageRecord

logger = logging.getLogger(__name__)
# What costs grow with -> title of the plot, and the axis.
TITLES = {
    "images": ("Cost and number of images", "images"),
    "boxes": ("Cost and number of boxes", "boxes"),
    "image_size": ("Cost and image size", "side of the network input, pixels"),
    "ranks": ("Cost and number of processes", "processes"),
}


def report(found: dict[str, tuple[Growth, ...]], images: dict[str, str], rounds: int) -> str:
    """The whole report in Markdown.

    Args:
        found: what costs grow with -> the costs.
        images: the same -> file name of its plot.
        rounds: of each measurement.
    """
    lines = [
        f"# How costs grow, {time.strftime('%Y-%m-%d')}", "",
        measured_with("benchmarks.scale", rounds), "",
        "The power p of size ** p fits all medians, and in brackets those of the two largest "
        "sizes, where what is paid once counts least: 1 is proportional, 2 is proportional to the "
        "area of an image.",
    ]  # fmt: skip
    for kind, growths in found.items():
        title, size = TITLES[kind]
        lines += ["", f"## {title}", "", f"![{title}]({images[kind]})", ""]
        rows = []
        for growth in growths:
            values = "; ".join(
                f"{at:g}: {value.as_text(2)}"
                for at, value in zip(growth.sizes, growth.values, strict=True)
            )
            power = f"{growth.power:.2f} ({growth.last_power:.2f})"
            rows.append((growth.name, f"{values} {growth.unit}", power))
        lines += table(("cost", size, "power"), rows)
    return "\n".join(lines) + "\n"


def _loaded_records(shared: Path, folder: Path, size: int) -> tuple[ImageRecord, ...]:
    """Photos of coco128 where they are, else drawn images, for the loader."""
    if (shared / "data" / "coco128").is_dir():
        records: Iterable[ImageRecord] = coco128_records(shared, folder)
    else:
        yaml = write_dataset(folder / "drawn", SyntheticConfig(2 * LOADED, size))
        records = read_records(load_dataset_spec(yaml), "train")
    return tuple(itertools.islice(records, LOADED))


def measure(sizes: Sizes, shared: Path, folder: Path) -> dict[str, tuple[Growth, ...]]:
    """All costs; `folder` is for files that are needed meanwhile."""
    largest = max(sizes.image_sizes)
    parts: dict[str, Callable[[], tuple[Growth, ...]]] = {
        "images": lambda: with_images(sizes),
        "boxes": lambda: with_boxes(sizes),
        "image_size": lambda: with_image_size(sizes, _loaded_records(shared, folder, largest)),
        "ranks": lambda: with_ranks(sizes),
    }
    found = {}
    for name, part in parts.items():
        start = time.monotonic()
        found[name] = part()
        logger.info("%s: %.0f s", name, time.monotonic() - start)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the report; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared",
                        help="folder with data/coco128; without it images are drawn")  # fmt: skip
    parser.add_argument("--out", type=Path, default=REPORTS)
    parser.add_argument("--rehearse", action="store_true", help="smallest sizes: it works or not")
    arguments = parser.parse_args(argv)
    configure_logging()
    sizes = SMALLEST if arguments.rehearse else Sizes()
    with tempfile.TemporaryDirectory() as folder, warnings_only("data"):
        found = measure(sizes, arguments.shared.resolve(), Path(folder))
    date = time.strftime("%Y-%m-%d")
    images = {}
    for kind, growths in found.items():
        images[kind] = f"scale_{kind}_cpu_{date}.png"
        title, size = TITLES[kind]
        plot_growths(arguments.out / images[kind], title, size, growths)
    path = arguments.out / f"scale_cpu_{date}.md"
    write_text(path, report(found, images, sizes.rounds))
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
