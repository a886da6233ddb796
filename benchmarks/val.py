"""val.py on real images, from its start to its end: `python -m benchmarks.val`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from benchmarks.measurement import script, seconds_of
from benchmarks.peer import Peer
from benchmarks.rounds import Contestant, Turn
from benchmarks.rows import Agreement, Goal, Row
from benchmarks.stage import Options, Stage, stage_main, write_data_yaml
from data.array_loader import same_size_batches
from data.dataset_spec import load_dataset_spec
from data.eval_dataset import EvalDataset
from data.records import read_records
from models.checkpoints.loading import build_from_checkpoint, read_weights
from models.network.detector import Detector
from models.runtimes.torch_predictor import network_parts
from models.runtimes.torch_runner import fastest_form

BATCH_SIZE = 32  # both sides' default


def run_ours(options: Options, data: Path) -> Turn:
    """A process of val.py with its defaults."""
    report = options.folder / "report.json"
    flags = ["--imgsz", options.image_size, "--batch-size", BATCH_SIZE, "--device", "cpu",
             "--project", options.folder / "val", "--report", report]  # fmt: skip
    cache = {"XDG_CACHE_HOME": str(options.folder / "cache")}
    command = script("val.py", "--weights", options.weights, "--data", data, *flags)
    seconds = seconds_of(command, cache)
    found = json.loads(report.read_text(encoding="utf-8"))
    names = ("AP", "AP50", "precision", "recall", "images")
    parts = {f"ours, {name}": found["ms_per_image"][name] / 1e3 * found["images"]
             for name in ("preprocess", "inference", "postprocess")}  # fmt: skip
    return Turn(seconds, {name: found[name] for name in names}, parts)


def bare_network(model: Detector, shapes: Sequence[tuple[int, int, int]]) -> Turn:
    """Seconds of the network alone for batches (B, H, W), in the parts that val.py runs."""
    batches = [
        part
        for count, height, width in shapes
        for part in network_parts(torch.rand(count, 3, height, width), torch.device("cpu"))
    ]
    with torch.inference_mode():
        model(batches[0])
        start = time.perf_counter()
        for batch in batches:
            model(batch)
        return Turn(time.perf_counter() - start)


@contextmanager
def prepare(options: Options, peer: Peer | None) -> Iterator[Sequence[Contestant]]:
    """A copy of the images: the peer writes beside the labels."""
    folder = options.copied_images()
    data = write_data_yaml(folder, load_dataset_spec("coco128.yaml").class_names)
    records = read_records(load_dataset_spec(data), "val", indexed=False)
    dataset = EvalDataset(records, options.image_size, BATCH_SIZE, rect=True)
    batches = same_size_batches(dataset.input_hws, BATCH_SIZE)
    shapes = [(len(batch), *dataset.input_hws[batch[0]]) for batch in batches]
    model = build_from_checkpoint(read_weights(options.weights))
    model = fastest_form(model, torch.device("cpu"), torch.float32)
    found = [
        Contestant("ours", partial(run_ours, options, data)),
        Contestant("network alone", partial(bare_network, model, shapes)),
    ]
    if peer is not None:
        found.append(
            peer.run(
                "peer",
                "evaluate",
                weights=str(options.weights),
                data=str(data),
                image_size=options.image_size,
                batch_size=BATCH_SIZE,
            )
        )
    yield found


STAGE = Stage(
    name="val",
    title="val.py with its defaults on {count} images of coco128, yolov5n.pt, {imgsz} px: whole "
    "processes",
    floor="the folded network alone, on batches of the same shapes",
    rows=(
        Row("val.py, {count} images, end to end", "ours", "peer", "network alone", "s", 1.0,
            Goal("at most 0.5 of the peer", 0.5)),
    ),
    prepare=prepare,
    # The peer's curve has other points than COCO's.
    agreements=(
        Agreement("AP", "ours", "peer", absolute=0.01),
        Agreement("AP50", "ours", "peer", absolute=0.01),
    ),
    rounds=3,
    count=128,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    return stage_main(STAGE, argv)


if __name__ == "__main__":
    raise SystemExit(main())
