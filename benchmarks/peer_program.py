"""The peer's side of the benchmark: run by a Python that has the package yolov5 of PyPI.

It imports that package's public functions and nothing of this project. A request is a line of JSON
on standard input: {"key", "task", "arguments"}. The first one of a key prepares the task; each one
is answered by a line with the seconds of one turn and the facts that ours are compared with. An
error ends the process; its last line says what happened.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

Answer = dict[str, Any]
Task = Callable[[], Answer]
PACKAGE = "yolov5"
OTHERS = ("torch", "torchvision", "numpy", "opencv-python-headless", "opencv-python")


def timed(work: Callable[[], object], repeats: int) -> float:
    """Median seconds of `repeats` calls after one that is not counted."""
    work()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def load_batches(
    images: str, image_size: int, batch_size: int, workers: int, hyp: dict[str, float]
) -> Task:
    """Seconds per image of an epoch by a new data set and loader; `images` is a folder."""
    from yolov5.utils.dataloaders import create_dataloader

    def turn() -> Answer:
        loader, dataset = create_dataloader(
            images, image_size, batch_size, 32, hyp=hyp, augment=True, workers=workers,
            shuffle=True,
        )  # fmt: skip
        start, first, count = time.perf_counter(), 0.0, 0
        for pixels, *_ in loader:
            first = first or time.perf_counter() - start
            count += len(pixels)
        seconds = time.perf_counter() - start
        del loader, dataset
        gc.collect()  # its workers go on with the next epoch until they are collected
        return {"seconds": seconds / count, "facts": {"images": count, "first batch, s": first}}

    return turn


def use_one_name() -> None:
    """Give the package's modules the names by which checkpoints ask for them, too.

    Else it imports them a second time under these names, and then finds no layers to fuse: they
    are not of the class that it looks for. In YOLOv5's repository both names are one.
    """
    for name in ("models", "models.common", "models.yolo"):
        sys.modules[name] = importlib.import_module(f"{PACKAGE}.{name}")


def _new_network(cfg: str, hyp: dict[str, float]) -> Any:
    """A network with random weights, of a yaml of the package."""
    import yolov5
    from yolov5.models.yolo import Model

    network = Model(str(Path(yolov5.__file__).parent / "models" / cfg), ch=3, nc=80)
    network.hyp = hyp
    return network


def train_steps(cfg: str, batch: str, hyp: dict[str, float]) -> Task:
    """Seconds of a training step: forward, loss, backward, clipping, optimizer, average.

    `batch` is an .npz with `images` (B, 3, H, W) uint8 and `targets` (M, 6): image, class and
    cxcywh in 0-1.
    """
    import numpy as np
    import torch
    from yolov5.utils.loss import ComputeLoss
    from yolov5.utils.torch_utils import ModelEMA, smart_optimizer

    content = np.load(batch)
    images, targets = torch.from_numpy(content["images"]), torch.from_numpy(content["targets"])
    torch.manual_seed(0)
    network = _new_network(cfg, hyp).train()
    criterion, average = ComputeLoss(network), ModelEMA(network)
    optimizer = smart_optimizer(network, "SGD", 1e-4, 0.937, 5e-4)

    def step() -> None:
        loss, _ = criterion(network(images.float() / 255), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update(network)

    return lambda: {"seconds": timed(step, 1)}


def compute_loss(cfg: str, maps: str, hyp: dict[str, float], *, reorder: bool) -> Task:
    """Seconds of the loss and its gradient.

    `maps` is an .npz with `targets` as in `train_steps` and the levels' raw maps `0`, `1`, ... of
    shape (B, A * (5 + C), H, W). With `reorder` the order that the loss reads them in, which is the
    head's work, is made each time.
    """
    import numpy as np
    import torch
    from yolov5.utils.loss import ComputeLoss

    content = np.load(maps)
    targets = torch.from_numpy(content["targets"])
    levels = [torch.from_numpy(content[name]) for name in sorted(set(content) - {"targets"})]
    criterion = ComputeLoss(_new_network(cfg, hyp))

    def ordered(level: Any) -> Any:
        return level.unflatten(1, (criterion.na, -1)).movedim(2, -1).contiguous()

    leaves = [level if reorder else ordered(level) for level in levels]
    for leaf in leaves:
        leaf.requires_grad_()

    def both() -> float:
        for leaf in leaves:
            leaf.grad = None
        loss, _ = criterion([ordered(each) for each in leaves] if reorder else leaves, targets)
        loss.backward()
        return float(loss.detach())

    def turn() -> Answer:
        seconds = timed(both, 5)
        gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
        squares = [float(each.double().square().sum()) for each in gradients]
        facts = {"loss": both(), "gradient norm": sum(squares) ** 0.5}
        return {"seconds": seconds, "facts": facts}

    return turn


def run_network(weights: str, images: str, output: str) -> Task:
    """Seconds per image of a checkpoint as it loads; `images` is an .npy, float32 in 0-1.

    The decoded rows of the first image are written to the .npy `output`.
    """
    import numpy as np
    import torch
    from yolov5.models.common import DetectMultiBackend

    use_one_name()
    batch = torch.from_numpy(np.load(images))
    network = DetectMultiBackend(weights, device=torch.device("cpu"))

    @torch.inference_mode()
    def work() -> Any:
        found = network(batch)
        return found[0] if isinstance(found, list | tuple) else found

    def turn() -> Answer:
        seconds = timed(work, 3) / len(batch)
        np.save(output, work()[0].numpy())
        return {"seconds": seconds}

    return turn


def suppress(decoded: str, score: float, iou: float, max_detections: int) -> Task:
    """Seconds per image of non-maximum suppression; `decoded` is an .npy (B, N, 5 + C)."""
    import numpy as np
    import torch
    from yolov5.utils.general import non_max_suppression

    rows = torch.from_numpy(np.load(decoded))

    def work() -> list[Any]:
        # One at a time: it drops the rest of a batch that takes it too long.
        return [
            non_max_suppression(row[None], score, iou, multi_label=True, max_det=max_detections)[0]
            for row in rows
        ]

    def turn() -> Answer:
        seconds = timed(work, 5) / len(rows)
        found = torch.cat(work())
        facts = {"boxes": len(found), "sum of scores": float(found[:, 4].double().sum())}
        return {"seconds": seconds, "facts": facts}

    return turn


def read_data_set(images: str, image_size: int, *, first: bool) -> Task:
    """Seconds to read a data set, the `first` time without what is remembered of it."""
    from yolov5.utils.dataloaders import LoadImagesAndLabels

    def turn() -> Answer:
        if first:
            for cache in Path(images).parent.glob("*.cache"):
                cache.unlink()
        start = time.perf_counter()
        found = LoadImagesAndLabels(images, image_size, 16)
        return {"seconds": time.perf_counter() - start, "facts": {"images": len(found)}}

    return turn


def evaluate(weights: str, data: str, image_size: int, batch_size: int) -> Task:
    """One run of the package's val with its defaults; the process is timed from outside."""
    import yolov5.val

    use_one_name()

    def turn() -> Answer:
        result = yolov5.val.run(
            data=data, weights=weights, imgsz=image_size, batch_size=batch_size, device="cpu",
            project="val",
        )  # fmt: skip
        precision, recall, AP50, AP = result[0][:4]
        facts = {"AP": AP, "AP50": AP50, "precision": precision, "recall": recall}
        return {"seconds": 0.0, "facts": {name: float(value) for name, value in facts.items()}}

    return turn


def detect(weights: str, source: str, image_size: int, *, save: bool) -> Task:
    """One run of the package's detect; the process is timed from outside."""
    import yolov5.detect

    use_one_name()

    def turn() -> Answer:
        project = Path("detect")
        before = set(project.glob("*"))
        yolov5.detect.run(
            weights=weights, source=source, imgsz=(image_size, image_size), device="cpu",
            save_txt=True, nosave=not save, project=project,
        )  # fmt: skip
        (folder,) = set(project.glob("*")) - before
        files = folder.glob("labels/*.txt")
        boxes = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
        return {"seconds": 0.0, "facts": {"boxes": boxes}}

    return turn


TASKS: dict[str, Callable[..., Task]] = {
    "load_batches": load_batches,
    "train_steps": train_steps,
    "compute_loss": compute_loss,
    "run_network": run_network,
    "suppress": suppress,
    "read_data_set": read_data_set,
    "evaluate": evaluate,
    "detect": detect,
}


def versions() -> dict[str, str]:
    """Of the packages that matter.

    Raises:
        SystemExit: there is no such package.
    """
    try:
        found = {PACKAGE: metadata.version(PACKAGE)}
    except metadata.PackageNotFoundError:
        raise SystemExit(f"the package {PACKAGE} is not installed in this Python") from None
    for name in OTHERS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def main() -> int:
    """Answer requests until there are no more."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # what the package prints is no answer
        prepared: dict[str, Task] = {}
        answers.write(json.dumps({"versions": versions()}) + "\n")
        answers.flush()
        for line in sys.stdin:
            request = json.loads(line)
            key = request["key"]
            if key not in prepared:
                prepared[key] = TASKS[request["task"]](**request["arguments"])
            answers.write(json.dumps(prepared[key]()) + "\n")
            answers.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
