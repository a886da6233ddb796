"""Batches to detections with a network in torch, NMS on its device: on a CPU, in numpy."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.network.box_coder import BoxCoder
from models.network.detector import Detector
from utils.batches import Batch
from utils.engine.criterion import Criterion
from utils.engine.predictor import BatchPrediction, StageTimes
from utils.letterbox import scale_pixel_tensor
from utils.nms import CLASS_OFFSET
from utils.postprocess import MAX_CANDIDATES, PostprocessConfig, postprocess
from utils.structures import Detections

# On CPUs the network gets so many pixels at once, four images of 640x640: of more, what a layer
# writes has left the caches before the next one reads it.
CPU_PIXELS = 4 * 640 * 640


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
        seconds = np.zeros(3)
        detections: list[Detections] = []
        raw_parts: list[Sequence[Tensor]] = []
        for pixels in network_parts(batch.images, self.device):
            start = self._now()
            images = scale_pixel_tensor(
                pixels.to(self.device, non_blocking=True),
                torch.float16 if self.half else torch.float32,
            )
            prepared = self._now()
            raw = self.model(images)
            inferred = self._now()
            detections += self._detections(raw)
            seconds += (prepared - start, inferred - prepared, self._now() - inferred)
            if self.criterion is not None:
                raw_parts.append(raw)
        loss = None
        if self.criterion is not None:
            whole = [torch.cat(level) for level in zip(*raw_parts, strict=True)]
            box, objectness, class_ = self.criterion(whole, batch).parts().tolist()
            loss = (box, objectness, class_)
        return BatchPrediction(detections, StageTimes(*seconds.tolist()), loss)

    def _detections(self, raw: Sequence[Tensor]) -> list[Detections]:
        """Of each image; on CPUs only what can become one is decoded."""
        if self.device.type != "cpu":
            return postprocess_batch(self.coder.decode(raw), self.config)
        found = self.coder.decode_above(raw, self.config.score_threshold)
        return [postprocess(rows.float().numpy(), self.config) for rows in found]

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def network_parts(images: Tensor, device: torch.device) -> Sequence[Tensor]:
    """(B, 3, H, W) images in the parts that a network on this device gets at once."""
    if device.type != "cpu":
        return (images,)
    height, width = images.shape[-2:]
    return torch.split(images, max(CPU_PIXELS // (height * width), 1))


def postprocess_batch(decoded: Tensor, config: PostprocessConfig) -> list[Detections]:
    """The detections of each image.

    Args:
        decoded: (B, N, 5 + C): cx, cy, w, h in input pixels, objectness, class probabilities.
        config: thresholds and rules, as in utils.postprocess.

    Returns:
        Per image, boxes in pixels of the network input, best score first.
    """
    if decoded.device.type == "cpu":
        return [postprocess(image, config) for image in decoded.float().numpy()]
    return [postprocess_on_device(image.float(), config) for image in decoded]


def postprocess_on_device(decoded: Tensor, config: PostprocessConfig) -> Detections:
    """As utils.postprocess.postprocess, without moving the (N, 5 + C) rows from their device."""
    candidates = decoded[decoded[:, 4] > config.score_threshold]
    scores = candidates[:, 5:] * candidates[:, 4:5]
    rows, class_ids = _choose_classes(scores, config)
    chosen = scores[rows, class_ids]
    order = chosen.argsort(descending=True, stable=True)[:MAX_CANDIDATES]
    rows, class_ids, chosen = rows[order], class_ids[order], chosen[order]
    half = candidates[rows, 2:4] / 2
    centres = candidates[rows, :2]
    boxes = torch.cat((centres - half, centres + half), 1)
    # Boxes of different classes are moved apart instead of calling torchvision's batched_nms: the
    # rounding of the moved boxes then decides borderline overlaps as it does in YOLOv5.
    apart = 0.0 if config.class_agnostic else CLASS_OFFSET
    iou_threshold = float(np.float32(config.iou_threshold))  # nms would compare in float64
    keep = compiled_nms(boxes + (class_ids * apart)[:, None], chosen, iou_threshold)
    keep = keep[: config.max_detections]
    return Detections(
        boxes=boxes[keep].cpu().numpy(),
        scores=chosen[keep].cpu().numpy(),
        class_ids=class_ids[keep].cpu().numpy(),
    )


def suppressed(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """(K,) indices of the (N, 4) cxcywh boxes that NMS keeps, best score first."""
    half = boxes[:, 2:] / 2
    return compiled_nms(
        torch.cat((boxes[:, :2] - half, boxes[:, :2] + half), 1), scores, iou_threshold
    )


def compiled_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """(K,) indices of the (N, 4) xyxy boxes that torchvision's NMS keeps, best score first."""
    from torchvision.ops import nms  # takes two seconds, and only GPUs and `suppressed` need it

    kept: Tensor = nms(boxes, scores, iou_threshold)
    return kept


def _choose_classes(scores: Tensor, config: PostprocessConfig) -> tuple[Tensor, Tensor]:
    """(P,) rows and (P,) class ids of every pair that counts."""
    if config.multi_label:
        rows, class_ids = (scores > config.score_threshold).nonzero(as_tuple=True)
    else:
        best, class_ids = scores.max(1)
        rows = (best > config.score_threshold).nonzero(as_tuple=True)[0]
        class_ids = class_ids[rows]
    if config.classes is not None:
        wanted = torch.isin(class_ids, class_ids.new_tensor(config.classes))
        rows, class_ids = rows[wanted], class_ids[wanted]
    return rows, class_ids
