"""Training images per second: `python -m benchmarks.loader`.

Every turn is an epoch of a new data set and loader, so that nothing decoded is left from before.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.peer import Peer
from benchmarks.rounds import Contestant, Turn
from benchmarks.rows import Agreement, Goal, Row
from benchmarks.stage import Options, Stage, stage_main, write_data_yaml
from benchmarks.training_batches import default_hyp
from data.augment import AugmentConfig
from data.dataset_spec import load_dataset_spec
from data.image_file import read_image
from data.loader import train_loader
from data.records import read_records
from data.train_dataset import TrainDataset
from utils.structures import ImageRecord

COPIES = 4  # of each image: with fewer images a pool of decoded ones would hold all of them
BATCH_SIZE = 16
WORKERS = (0, 2)


def load_epoch(records: Sequence[ImageRecord], image_size: int, workers: int) -> Turn:
    """Seconds per image of an epoch, from making the loader's first batch on."""
    dataset = TrainDataset(records, image_size, AugmentConfig(), 0)
    loader = train_loader(
        dataset, batch_size=BATCH_SIZE, workers=workers, seed=0, device_is_cuda=False
    )
    start, first, count = time.perf_counter(), 0.0, 0
    for batch in loader.epoch(0):
        first = first or time.perf_counter() - start
        count += len(batch.images)
    seconds = time.perf_counter() - start
    del loader, dataset
    gc.collect()  # ends its workers
    return Turn(seconds / count, {"images": count, "first batch, s": first})


def decode_all(paths: Sequence[Path], threads: int) -> Turn:
    """Seconds per image of reading and decoding each file once."""
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        count = sum(1 for _ in pool.map(read_image, paths))
    return Turn((time.perf_counter() - start) / count)


@contextmanager
def prepare(options: Options, peer: Peer | None) -> Iterator[Sequence[Contestant]]:
    """Copies of the images, so that both may write beside the labels."""
    folder = options.copied_images(COPIES)
    names = load_dataset_spec("coco128.yaml").class_names
    spec = load_dataset_spec(write_data_yaml(folder, names))
    records = read_records(spec, "train", indexed=False)
    paths = [record.path for record in records]
    size = options.image_size
    found: list[Contestant] = []
    for workers in WORKERS:
        found += [
            Contestant(f"ours, {workers} workers", partial(load_epoch, records, size, workers)),
            Contestant(f"decode, {workers} workers", partial(decode_all, paths, max(workers, 1))),
        ]
        if peer is not None:
            found.append(
                peer.contestant(
                    f"peer, {workers} workers",
                    "load_batches",
                    images=str(folder / "images"),
                    image_size=size,
                    batch_size=BATCH_SIZE,
                    workers=workers,
                    hyp=default_hyp(),
                )
            )
    yield found


STAGE = Stage(
    name="loader",
    title="Training samples: mosaic, affine map, HSV and flip, no cache, {imgsz} px, batches of 16",
    floor="reading and decoding each file once, on as many threads as there are workers",
    rows=tuple(
        Row(
            f"training loader, {'this process' if workers == 0 else f'{workers} workers'}",
            f"ours, {workers} workers",
            f"peer, {workers} workers",
            f"decode, {workers} workers",
            goal=Goal("at most 1/3 of the peer", 1 / 3) if workers == 0 else None,
        )
        for workers in WORKERS
    ),
    prepare=prepare,
    agreements=tuple(
        Agreement("images", f"ours, {workers} workers", f"peer, {workers} workers")
        for workers in WORKERS
    ),
    rounds=3,
    count=128,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    return stage_main(STAGE, argv)


if __name__ == "__main__":
    raise SystemExit(main())
