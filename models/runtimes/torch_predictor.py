"""Batches to detections with a network in torch."""

from __future__ import annotations

import time

import torch

from models.network.box_coder import BoxCoder
from models.network.detector import Detector
from models.runtimes.torch_postprocess import postprocess_batch
from utils.engine.criterion import Criterion
from utils.engine.predictor import BatchPrediction, StageTimes
from utils.letterbox import scale_pixel_tensor
from utils.postprocess import PostprocessConfig
from utils.structures import Batch


class TorchPredictor:
    """Runs a network in eval mode on batches.

    Args:
        model: the network, on its device; put in eval mode at each call.
        config: which boxes become detections.
        half: the model computes in float16 (GPU), and gets float16 images. Boxes are decoded in
            float32.
        criterion: also report the loss on the batch's labels.
    """

    def __init__(
        self,
        model: Detector,
        config: PostprocessConfig,
        *,
        half: bool = False,
        criterion: Criterion | None = None,
    ) -> None:
        self.model = model
        self.config = config
        self.half = half
        self.criterion = criterion
        self.coder = BoxCoder.of(model)
        self.device = next(model.parameters()).device

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> BatchPrediction:
        """The detections of a batch of uint8 images."""
        self.model.eval()
        start = self._now()
        batch = batch.to(self.device)
        images = scale_pixel_tensor(batch.images, torch.float16 if self.half else torch.float32)
        prepared = self._now()
        raw = self.model(images)
        decoded = self.coder.decode(raw)
        inferred = self._now()
        detections = postprocess_batch(decoded, self.config)
        done = self._now()
        loss = None
        if self.criterion is not None:
            box, objectness, class_ = self.criterion(raw, batch).parts().tolist()
            loss = (box, objectness, class_)
        seconds = StageTimes(prepared - start, inferred - prepared, done - inferred)
        return BatchPrediction(detections, seconds, loss)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
