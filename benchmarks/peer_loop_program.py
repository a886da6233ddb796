"""Steps of the training loop of the package yolov5, in its own Python: see `benchmarks.peer_loop`.

Runs where that package is installed, without this project, on one batch of made-up images. Requests
and answers are lines of JSON: first the setting, then {"steps"} for so many, or {} for the peak.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DTYPES = {"off": None, "fp16": torch.float16, "bf16": torch.bfloat16}
MAX_GRADIENT_NORM = 10.0
# Those of its hyp.scratch-low.yaml that its loss reads.
HYP = {
    "box": 0.05, "cls": 0.5, "cls_pw": 1.0, "obj": 1.0, "obj_pw": 1.0, "iou_t": 0.2,
    "anchor_t": 4.0, "fl_gamma": 0.0, "label_smoothing": 0.0,
}  # fmt: skip


class PeerLoop:
    """What the package's training builds, and its steps.

    Args:
        setting: keys cfg (`yolov5s.yaml`), image_size, batch_size, boxes_per_image, device, amp.
    """

    def __init__(self, setting: dict[str, Any]) -> None:
        import yolov5  # here: only this Python has it
        from yolov5.models.yolo import Model
        from yolov5.utils.loss import ComputeLoss
        from yolov5.utils.torch_utils import ModelEMA, smart_optimizer

        self.device, dtype = torch.device(setting["device"]), DTYPES[setting["amp"]]
        self.dtype: torch.dtype | None = dtype
        cfg = Path(yolov5.__file__).parent / "models" / setting["cfg"]
        self.model = Model(str(cfg)).to(self.device).train()
        self.model.hyp = HYP
        self.optimizer = smart_optimizer(self.model, "SGD", 1e-4, 0.937, 5e-4)
        self.ema = ModelEMA(self.model)
        self.loss = ComputeLoss(self.model)
        scaled = dtype is torch.float16 and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)
        self.images, self.targets = made_up_images(setting)
        if self.device.type == "cuda":
            self.images = self.images.pin_memory()

    def steps(self, count: int) -> float:
        """Seconds of so many steps."""
        self._wait()
        start = time.perf_counter()
        mean = torch.zeros(3, device=self.device)
        for number in range(count):
            images = self.images.to(self.device, non_blocking=True).float() / 255
            with self._autocast():
                loss, parts = self.loss(self.model(images), self.targets.to(self.device))
            self.scaler.scale(loss).backward()
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
            self.ema.update(self.model)
            mean = (mean * number + parts) / (number + 1)
            mean.tolist()  # shown in its line of progress, after every batch
        self._wait()
        return time.perf_counter() - start

    def _autocast(self) -> AbstractContextManager[None]:
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def peak_mb(self) -> float | None:
        """MB at the most: of tensors on a GPU, else of this process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e6
        for line in status_lines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
        return None

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def status_lines() -> list[str]:
    """What the system says of this process; nothing where it does not."""
    path = Path("/proc/self/status")
    return path.read_text(encoding="ascii").splitlines() if path.exists() else []


def made_up_images(setting: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Noise, and rows of image number, class, and box (cxcywh, 0-1), of all sizes, of class 0."""
    random = torch.Generator().manual_seed(0)
    size, batch_size = setting["image_size"], setting["batch_size"]
    count = batch_size * setting["boxes_per_image"]
    corners = torch.rand((count, 2, 2), generator=random).sort(dim=1).values
    boxes = torch.cat((corners.mean(1), corners[:, 1] - corners[:, 0]), 1)
    image_index = torch.arange(batch_size).repeat_interleave(setting["boxes_per_image"])
    targets = torch.cat((image_index[:, None], torch.zeros(count, 1), boxes), 1)
    shape = (batch_size, 3, size, size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=random), targets


def answer(loop: PeerLoop, request: dict[str, Any]) -> dict[str, Any]:
    """What a request gives."""
    if "steps" in request:
        return {"seconds": loop.steps(request["steps"])}
    return {"peak_mb": loop.peak_mb()}


def main() -> None:
    """Say which package this is, build its loop, and answer until there are no more requests."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # what the package prints is no answer

        def say(content: dict[str, Any]) -> None:
            answers.write(f"{json.dumps(content)}\n")
            answers.flush()

        say({"versions": {"yolov5": version("yolov5"), "torch": torch.__version__}})
        loop = PeerLoop(json.loads(sys.stdin.readline()))
        say({})
        for line in sys.stdin:
            say(answer(loop, json.loads(line)))


if __name__ == "__main__":
    main()
