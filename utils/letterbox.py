"""Preprocessing: from an image to the network's input, and boxes back to the image.

An image is resized with kept proportions, padded to the input size, and its pixels are divided by
255. The pixels are those YOLOv5 feeds its networks: the same resize, the same rounding of the
padding. The way back uses the integers that were really padded and the scale that was really
applied, so `undo_boxes(apply_boxes(b)) == b`. (YOLOv5 undoes with unrounded padding: up to 0.75 px
off.)

Nothing else in the project divides pixels. Training does it on the device, in torch; everything
else in numpy, so that this module works where torch is not installed. Both give the same float32.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from utils.errors import ConfigError

if TYPE_CHECKING:
    import torch


logger = logging.getLogger(__name__)
PAD_VALUE = 114  # the grey YOLOv5's networks were trained with
MAX_PIXEL = 255
DEFAULT_HW = (640, 640)  # YOLOv5's
MAX_INPUT_PIXELS = 1 << 28  # a network needs some ten gigabytes for these
MAX_SIZE_RATIO = 1.5  # to the size a network was trained with, above which it finds much less


def scale_pixels(
    pixels: npt.NDArray[np.uint8], out: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """Pixels 0-255 -> float32 0-1, of any shape; written into `out` if given."""
    return np.divide(pixels, MAX_PIXEL, out=out, dtype=np.float32)


def scale_pixel_tensor(pixels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Pixels 0-255 -> 0-1 in `dtype`, of any shape, on their device.

    In float16 the 256 results are the float32 ones rounded once more.
    """
    return pixels.to(dtype) / MAX_PIXEL


def to_pixels(values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Values 0-1 -> the nearest pixels 0-255, of any shape; values outside 0-1 are clipped.

    `to_pixels(scale_pixels(pixels))` equals `pixels`.
    """
    return np.asarray(np.clip(np.rint(values * MAX_PIXEL), 0, MAX_PIXEL), np.uint8)


def network_input(images: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
    """Letterboxed images of one size, (H, W, 3) uint8 RGB each -> (B, 3, H, W) float32 in 0-1."""
    height, width, _ = images[0].shape
    batch = np.empty((len(images), 3, height, width), np.float32)
    for planes, image in zip(batch, images, strict=True):
        # Split first: dividing a transposed view takes several times as long.
        for plane, channel in zip(planes, cv2.split(image), strict=True):
            scale_pixels(np.asarray(channel, np.uint8), out=plane)
    return batch


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How one image was made into a network input.

    Attributes:
        original_hw: height and width of the image.
        resized_hw: height and width after resizing, before padding.
        input_hw: height and width of the network input.
        pad_top: rows of padding above; the rest is below.
        pad_left: columns of padding on the left; the rest is on the right.
    """

    original_hw: tuple[int, int]
    resized_hw: tuple[int, int]
    input_hw: tuple[int, int]
    pad_top: int
    pad_left: int

    @classmethod
    def fit(
        cls,
        original_hw: tuple[int, int],
        input_hw: tuple[int, int],
        *,
        stride: int | None = None,
        scale_up: bool = True,
    ) -> Letterbox:
        """The largest image of the same proportions inside `input_hw`, centred.

        With `stride`, the padding is cut to what the next multiple of `stride` needs (YOLOv5's
        `auto`), so the input may be smaller than `input_hw`. Without `scale_up`, small images
        keep their size.
        """
        scale = min(input_hw[0] / original_hw[0], input_hw[1] / original_hw[1])
        if not scale_up:
            scale = min(scale, 1.0)
        # A sliver (1 pixel against hundreds) must not vanish.
        resized_hw = (max(round(original_hw[0] * scale), 1), max(round(original_hw[1] * scale), 1))
        return cls.pad_only(original_hw, resized_hw, input_hw, stride=stride)

    @classmethod
    def pad_only(
        cls,
        original_hw: tuple[int, int],
        resized_hw: tuple[int, int],
        input_hw: tuple[int, int],
        *,
        stride: int | None = None,
    ) -> Letterbox:
        """Padding around an image whose resized size is already decided."""
        spare_h, spare_w = input_hw[0] - resized_hw[0], input_hw[1] - resized_hw[1]
        if stride is not None:
            spare_h, spare_w = spare_h % stride, spare_w % stride
        # YOLOv5 rounds half the padding after subtracting 0.1: an odd row goes below, not above.
        return cls(
            original_hw=original_hw,
            resized_hw=resized_hw,
            input_hw=(resized_hw[0] + spare_h, resized_hw[1] + spare_w),
            pad_top=round(spare_h / 2 - 0.1),
            pad_left=round(spare_w / 2 - 0.1),
        )

    @property
    def scale_xy(self) -> tuple[float, float]:
        """The scale really applied, along x and along y (they differ by rounding)."""
        return (
            self.resized_hw[1] / self.original_hw[1],
            self.resized_hw[0] / self.original_hw[0],
        )

    def apply_image(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """(H, W, 3) image -> (input height, input width, 3) network input."""
        height, width = self.resized_hw
        if image.shape[:2] != (height, width):
            resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
            image = np.asarray(resized, np.uint8)
        if self.resized_hw == self.input_hw:
            return image
        padded = np.full((*self.input_hw, 3), PAD_VALUE, np.uint8)
        padded[self.pad_top : self.pad_top + height, self.pad_left : self.pad_left + width] = image
        return padded

    def apply_boxes(self, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, 4) xyxy in pixels of the original -> pixels of the network input."""
        return boxes * self._scale_xyxy() + self._pad_xyxy()

    def undo_boxes(
        self, boxes: npt.NDArray[np.float32], *, clip: bool = True
    ) -> npt.NDArray[np.float32]:
        """(N, 4) xyxy in pixels of the network input -> pixels of the original, clipped to it."""
        original = (boxes - self._pad_xyxy()) / self._scale_xyxy()
        if clip:
            height, width = self.original_hw
            original = np.clip(original, 0, np.array([width, height, width, height], np.float32))
        return original

    def _scale_xyxy(self) -> npt.NDArray[np.float32]:
        return np.array(self.scale_xy * 2, np.float32)

    def _pad_xyxy(self) -> npt.NDArray[np.float32]:
        return np.array((self.pad_left, self.pad_top) * 2, np.float32)


@dataclass(frozen=True, slots=True)
class InputSize:
    """The size that images of any shape are letterboxed to.

    Attributes:
        limit_hw: height and width an image must fit into.
        stride: the padding is cut to a multiple of this; None pads up to `limit_hw`.
    """

    limit_hw: tuple[int, int]
    stride: int | None

    def letterbox(self, image_hw: tuple[int, int]) -> Letterbox:
        """The letterbox for an image of this height and width."""
        return Letterbox.fit(image_hw, self.limit_hw, stride=self.stride)


def long_side_hw(image_hw: tuple[int, int], long_side: int) -> tuple[int, int]:
    """Height and width with the longer side scaled to `long_side` px, rounded up as in YOLOv5."""
    scale = long_side / max(image_hw)
    if scale == 1:
        return image_hw
    return math.ceil(image_hw[0] * scale), math.ceil(image_hw[1] * scale)


def round_up_to_stride(size: int, stride: int) -> int:
    """The smallest multiple of `stride` that is at least `size`."""
    return max(math.ceil(size / stride), 1) * stride


def choose_input_hw(
    imgsz: int | Sequence[int] | None,
    weights: str,
    stride: int,
    *,
    known_hw: tuple[int, int] | None,
    fixed_hw: tuple[int | None, int | None] = (None, None),
) -> tuple[int, int]:
    """Height and width of the network input; logs them, and what the user may not expect.

    Args:
        imgsz: `--imgsz`, one side or height and width; None where it is not given.
        weights: the checkpoint or exported file, for messages; empty without one.
        stride: of the network; both sides are multiples of it.
        known_hw: what the network was trained or exported with; None where that is not known.
        fixed_hw: what an exported file requires; None where it accepts any multiple of the stride.

    Raises:
        ConfigError: more than two numbers, one below 1, or more pixels than any network takes.
    """
    if imgsz is None:
        wanted, reason = known_hw or DEFAULT_HW, f"as {weights} was made" if known_hw else "default"
    else:
        wanted, reason = _sides(imgsz), "--imgsz"
    rounded = tuple(round_up_to_stride(side, stride) for side in wanted)
    height, width = fixed_hw[0] or rounded[0], fixed_hw[1] or rounded[1]
    check_area((height, width), f"--imgsz {height}x{width}")
    if fixed_hw != (None, None):
        reason = f"{weights} takes no other"
    if imgsz is not None:
        _note_difference(wanted, (height, width), weights, stride, known_hw, fixed_hw)
    logger.info("Image size %dx%d px (%s)", height, width, reason)
    return height, width


def check_area(input_hw: tuple[int, int], given: str) -> None:
    """Refuse a network input that is larger than any image, before memory is asked for it.

    Raises:
        ConfigError: beginning with what was given.
    """
    if input_hw[0] * input_hw[1] > MAX_INPUT_PIXELS:
        raise ConfigError(
            f"{given}: a network input has at most {MAX_INPUT_PIXELS / 1e6:.0f} million pixels; "
            "large images are seen in tiles: --tile"
        )


def _note_difference(
    wanted: tuple[int, int],
    used: tuple[int, int],
    weights: str,
    stride: int,
    known_hw: tuple[int, int] | None,
    fixed_hw: tuple[int | None, int | None],
) -> None:
    """Warn where another size than `--imgsz` is used, or one far from the network's own."""
    given = "x".join(str(side) for side in wanted)
    if fixed_hw != (None, None):
        if used != wanted:
            logger.warning("--imgsz %s: %s takes %dx%d only, which is used", given, weights, *used)
        return
    if used != wanted:
        logger.warning("--imgsz %s rounded up to %dx%d, multiples of %d", given, *used, stride)
    if known_hw is None:
        return
    ratio = max(used) / max(known_hw)
    if max(ratio, 1 / ratio) > MAX_SIZE_RATIO:
        logger.warning("--imgsz %s: %s was made for %dx%d; at other sizes it finds less; leave "
                       "--imgsz out to use that", given, weights, *known_hw)  # fmt: skip


def _sides(imgsz: int | Sequence[int]) -> tuple[int, int]:
    sides = tuple(imgsz) if isinstance(imgsz, Iterable) else (imgsz,)
    if len(sides) not in (1, 2) or min(sides) < 1:
        given = " ".join(map(str, sides))
        raise ConfigError(f"--imgsz {given}: expected one or two numbers of at least 1")
    return sides[0], sides[-1]
