"""What an exported file computes: a network that ends in maps, in boxes, or in detections.

Shapes: B images, N boxes of one image, K detections of one image, C classes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.formats.format import Preset
from models.network.box_coder import BoxCoder, centre_offset, size_ratio, split_anchors
from models.network.detector import Detector
from models.runtimes.input_sizes import InputSizes
from models.runtimes.torch_predictor import suppressed
from utils.postprocess import PostprocessConfig

OUTPUTS = {  # of heads that are no maps
    "decoded": ("output0",),
    "scores": ("output0",),
    "best": ("output0",),
    "e2e": ("detections", "counts"),
}


def network_of(
    preset: Preset, detector: Detector, suppression: PostprocessConfig, sizes: InputSizes
) -> nn.Module:
    """The network that ends as a preset says, in eval mode."""
    if preset.head == "e2e":
        return SuppressedNetwork(detector, suppression).eval()
    if preset.head == "decoded" and not preset.dynamic:
        # A program for libtorch takes any number of images.
        num_images = 1 if preset.traced else sizes.batch_size
        return FixedDecodedNetwork(detector, sizes.input_hw, num_images).eval()
    if preset.head in ("decoded", "scores", "best"):
        decoded = DecodedNetwork(detector, half=takes_half_images(preset))
        ending = ENDINGS.get(preset.head)
        return (decoded if ending is None else nn.Sequential(decoded, ending())).eval()
    if preset.head == "sigmoid" or preset.rows_last:
        done = preset.head == "sigmoid"
        return MapsNetwork(detector, sigmoid=done, rows_last=preset.rows_last).eval()
    return detector


def output_names(head: str, detector: Detector) -> tuple[str, ...]:
    """Names of the outputs, in order; maps are named by their stride, as p3 for 8 pixels.

    Where strides are equal, or no powers of 2, maps are counted from p3.
    """
    if head in OUTPUTS:
        return OUTPUTS[head]
    strides = detector.strides
    levels = [stride.bit_length() - 1 for stride in strides]
    if len(set(strides)) < len(strides) or [2**level for level in levels] != list(strides):
        levels = list(range(3, 3 + len(strides)))
    return tuple(f"p{level}" for level in levels)


def takes_half_images(preset: Preset) -> bool:
    """Whether the whole network is float16, its input too."""
    return preset.half and not preset.half_weights


class DecodedNetwork(nn.Module):
    """(B, 3, H, W) in 0-1 -> (B, N, 5 + C): cx cy w h in pixels, objectness, class scores.

    Args:
        detector: what ends in raw maps.
        half: a copy of it computes in float16, on float16 images; boxes are decoded in float32.
    """

    def __init__(self, detector: Detector, *, half: bool = False) -> None:
        super().__init__()
        self.detector = copy.deepcopy(detector).half() if half else detector
        self.coder = BoxCoder.of(detector)

    def forward(self, images: Tensor) -> Tensor:
        """The decoded predictions of a batch, YOLOv5's `output0`."""
        return self.coder.decode(self.detector(images))


class ClassScores(nn.Module):
    """Decoded predictions (B, N, 5 + C) -> (B, 4 + C, N): cx cy w h in pixels, class scores.

    A score is objectness times class probability, for programs that know no objectness.
    """

    def forward(self, decoded: Tensor) -> Tensor:
        """One column per box."""
        scores = decoded[..., 5:] * decoded[..., 4:5]
        return torch.cat((decoded[..., :4], scores), 2).transpose(1, 2)


class BestClass(nn.Module):
    """Decoded predictions (B, N, 5 + C) -> (B, N, 6): x1 y1 x2 y2 in pixels, score, class id.

    Every box with its best class; nothing is suppressed.
    """

    def forward(self, decoded: Tensor) -> Tensor:
        """One row per box."""
        scores = decoded[..., 5:] * decoded[..., 4:5]
        centre, half = decoded[..., :2], decoded[..., 2:4] / 2
        best, class_id = scores.amax(2, keepdim=True), scores.argmax(2, keepdim=True)
        return torch.cat((centre - half, centre + half, best, class_id.to(best.dtype)), 2)


ENDINGS: Mapping[str, type[nn.Module]] = {"scores": ClassScores, "best": BestClass}


class FixedDecodedNetwork(nn.Module):
    """What `DecodedNetwork` computes, for inputs of one size.

    Anchors and cell positions are buffers, which `.to(device)` of a traced network moves; and as
    large as the maps, since OpenCV up to 4.6 multiplies tensors of five dimensions with nothing
    smaller. It computes one image at a time, and stops at several: with smaller buffers it would
    find other boxes instead.

    Args:
        detector: in deploy form, on the CPU.
        input_hw: height and width of the input.
        num_images: for which buffers are stored; 1 fits any number by broadcasting.
    """

    def __init__(self, detector: Detector, input_hw: tuple[int, int], num_images: int = 1) -> None:
        super().__init__()
        self.detector, self.strides = detector, detector.strides
        coder = BoxCoder.of(detector)
        for level, (anchors, stride) in enumerate(zip(coder.anchors, coder.strides, strict=True)):
            height, width = (side // stride for side in input_hw)
            cells = torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy")
            shape = (num_images, len(anchors) // 2, height, width, 2)
            corners = torch.stack(cells, -1).float().expand(shape)
            pixels = torch.tensor(anchors).view(1, -1, 1, 1, 2).expand(shape)
            self.register_buffer(f"corners{level}", corners.contiguous(), persistent=False)
            self.register_buffer(f"pixels{level}", pixels.contiguous(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """The decoded predictions of a batch, YOLOv5's `output0`."""
        levels = [self._decode(level, raw) for level, raw in enumerate(self.detector(images))]
        return torch.cat(levels, 1)

    def _decode(self, level: int, raw: Tensor) -> Tensor:
        corners, pixels = self.get_buffer(f"corners{level}"), self.get_buffer(f"pixels{level}")
        _, num_anchors, height, width, _ = pixels.shape
        probability = split_anchors(raw, num_anchors).sigmoid()
        xy, wh, rest = probability[..., :2], probability[..., 2:4], probability[..., 4:]
        centres = (centre_offset(xy) + corners) * self.strides[level]
        decoded = torch.cat((centres, size_ratio(wh) * pixels, rest), -1)
        return decoded.reshape(len(raw), num_anchors * height * width, probability.shape[-1])


class TupleNetwork(nn.Module):
    """Answers with a tuple of one tensor, as YOLOv5's traced programs do."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """The network's answer."""
        return (self.network(images),)


class MapsNetwork(nn.Module):
    """(B, 3, H, W) in 0-1 -> the raw maps of all levels, in the layout a compiler wants.

    Args:
        detector: in deploy form.
        sigmoid: probabilities instead of logits.
        rows_last: (B, H, W, channels) instead of (B, channels, H, W).
    """

    def __init__(self, detector: Detector, *, sigmoid: bool, rows_last: bool) -> None:
        super().__init__()
        self.detector, self.sigmoid, self.rows_last = detector, sigmoid, rows_last

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The maps, finest level first."""
        maps = self.detector(images)
        if self.sigmoid:
            maps = [each.sigmoid() for each in maps]
        return tuple(each.permute(0, 2, 3, 1) if self.rows_last else each for each in maps)


class SuppressedNetwork(nn.Module):
    """(B, 3, H, W) in 0-1 -> (B, K, 6) detections and (B,) their counts.

    A detection is x1, y1, x2, y2 in input pixels, score, class id; best score first, rows beyond
    the count are zeros. The rules are those of utils.postprocess: best class of each box,
    suppression within a class.

    Args:
        detector: in deploy form.
        config: thresholds and K (`max_detections`).
    """

    def __init__(self, detector: Detector, config: PostprocessConfig) -> None:
        super().__init__()
        self.detector = detector
        self.coder = BoxCoder.of(detector)
        self.config = config

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The detections of a batch."""
        count = self.config.max_detections
        decoded = self.coder.decode(self.detector(images))
        boxes, scores = decoded[..., :4], decoded[..., 5:] * decoded[..., 4:5]
        best = scores.amax(2, keepdim=True)
        scores = torch.where(scores == best, scores, 0.0)
        chosen: Tensor = _Suppression.apply(
            boxes, scores.transpose(1, 2), count, self.config.iou_threshold,
            self.config.score_threshold,
        )  # fmt: skip
        image_index, class_id, box = chosen.unbind(1)
        centre, size = torch.split(boxes[image_index, box], 2, 1)
        score = scores[image_index, box, class_id]
        corners = (centre - size / 2, centre + size / 2)
        rows = torch.cat((*corners, score[:, None], class_id[:, None].to(score.dtype)), 1)
        # Rows of zeros fill up; they rank below every detection and above other images' rows.
        rows = torch.cat((rows, rows.new_zeros(count, 6)))
        owner = torch.cat((image_index, image_index.new_full((count,), -1)))
        every_image = torch.arange(images.shape[0], device=images.device)[:, None]
        rank = torch.where(
            owner[None] == every_image, rows[:, 4][None], (owner[None] == -1) * 1.0 - 1
        )
        values, index = rank.topk(count, dim=1)
        return rows[index], (values > 0).sum(1)


class _Suppression(torch.autograd.Function):
    """ONNX's NonMaxSuppression: image, class and box of what is kept."""

    @staticmethod
    def forward(
        _: Any, boxes: Tensor, scores: Tensor, max_count: int, iou: float, score: float
    ) -> Tensor:
        """(B, N, 4) cxcywh and (B, C, N) scores -> (P, 3) int64."""
        found = [boxes.new_zeros((0, 3), dtype=torch.int64)]
        for image, (its_boxes, its_scores) in enumerate(zip(boxes, scores, strict=True)):
            for class_id, of_class in enumerate(its_scores):
                above = (of_class > score).nonzero()[:, 0]
                kept = above[suppressed(its_boxes[above], of_class[above], iou)[:max_count]]
                head = kept.new_tensor([image, class_id]).expand(len(kept), 2)
                found.append(torch.cat((head, kept[:, None]), 1))
        return torch.cat(found)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, max_count: int, iou: float, score: float) -> Any:
        """The NonMaxSuppression node of the graph."""
        limits = [torch.tensor([max_count]), torch.tensor([iou]), torch.tensor([score])]
        constants = [g.op("Constant", value_t=limit) for limit in limits]
        return g.op("NonMaxSuppression", boxes, scores, *constants, center_point_box_i=1)
