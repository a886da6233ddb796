"""Preprocessing feeds YOLOv5's pixels, and its way back is exact."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from tests.goldens.stored_figures import figures
from utils.errors import ConfigError
from utils.letterbox import (
    PAD_VALUE,
    InputSize,
    Letterbox,
    choose_input_hw,
    long_side_hw,
    network_input,
    round_up_to_stride,
    scale_pixel_tensor,
    scale_pixels,
    to_pixels,
)

ODD_SIZES = [(480, 641), (427, 640), (641, 480), (333, 500), (1, 700), (97, 31), (64, 64)]


@pytest.mark.parametrize("stride", [None, 32])
def test_padding_agrees_with_yolov5(stride: int | None) -> None:
    table = figures("recipe")
    rows = np.flatnonzero(table["letterbox_auto"] == (stride is not None))
    assert len(rows)
    for row in rows:
        height, width = table["letterbox_image_hw"][row].tolist()
        size = int(table["letterbox_size"][row])
        box = Letterbox.fit((height, width), (size, size), stride=stride)
        assert list(box.input_hw) == table["letterbox_out_hw"][row].tolist()
        spare = [box.input_hw[1] - box.resized_hw[1], box.input_hw[0] - box.resized_hw[0]]
        assert [side / 2 for side in spare] == table["letterbox_pad_returned"][row].tolist()


@pytest.mark.parametrize(
    ("original_hw", "size", "stride", "input_hw", "pad_top", "pad_left"),
    [
        ((480, 640), 320, None, (320, 320), 40, 0),  # even padding
        ((480, 640), 320, 32, (256, 320), 8, 0),  # cut to the stride
        ((427, 640), 640, None, (640, 640), 106, 0),  # 213 spare: the odd row goes below
        ((640, 427), 640, 32, (640, 448), 0, 10),  # 21 spare: the odd column goes right
        ((10, 10), 64, None, (64, 64), 0, 0),  # small images are enlarged
        ((1, 1000), 100, None, (100, 100), 49, 0),  # a sliver keeps one row
    ],
)
def test_hand_examples(original_hw, size, stride, input_hw, pad_top, pad_left) -> None:
    box = Letterbox.fit(original_hw, (size, size), stride=stride)
    assert (box.input_hw, box.pad_top, box.pad_left) == (input_hw, pad_top, pad_left)


def test_without_scale_up_small_images_keep_their_size() -> None:
    box = Letterbox.fit((10, 20), (64, 64), scale_up=False)
    assert (box.resized_hw, box.scale_xy) == ((10, 20), (1.0, 1.0))


@pytest.mark.parametrize("original_hw", ODD_SIZES)
@pytest.mark.parametrize("input_hw", [(640, 640), (320, 416)])
@pytest.mark.parametrize("stride", [None, 32])
def test_undo_is_the_inverse_of_apply(original_hw, input_hw, stride) -> None:
    box = Letterbox.fit(original_hw, input_hw, stride=stride)
    height, width = original_hw
    corners = np.random.default_rng(0).uniform(0, 1, (50, 2, 2)) * (width, height)
    boxes = np.sort(corners, axis=1).reshape(-1, 4).astype(np.float32)
    back = box.undo_boxes(box.apply_boxes(boxes))
    assert back.dtype == np.float32
    # In pixels of the original; the input resolves no finer than its scale.
    assert np.abs(back - boxes).max() <= 1e-3 * max(1, 1 / min(box.scale_xy))


@pytest.mark.parametrize("original_hw", ODD_SIZES)
def test_boxes_land_where_the_pixels_land(original_hw) -> None:
    box = Letterbox.fit(original_hw, (320, 320))
    white = np.full((*original_hw, 3), 255, np.uint8)
    rows, columns = np.nonzero(box.apply_image(white)[..., 0] == 255)
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    whole = np.array([[0, 0, original_hw[1], original_hw[0]]], np.float32)
    assert np.allclose(box.apply_boxes(whole)[0], seen)


def test_image_is_padded_with_grey_and_not_changed() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 64, 3), np.uint8)
    before = image.copy()
    box = Letterbox.fit((30, 64), (64, 64))
    fed = box.apply_image(image)
    assert fed.shape == (64, 64, 3)
    assert np.array_equal(fed[17:47], image)
    assert (np.delete(fed, slice(17, 47), axis=0) == PAD_VALUE).all()
    assert np.array_equal(image, before)


def test_undo_clips_to_the_original_unless_told_not_to() -> None:
    box = Letterbox.fit((50, 100), (100, 100))
    outside = np.array([[-10, 0, 120, 100]], np.float32)
    assert box.undo_boxes(outside).tolist() == [[0, 0, 100, 50]]
    assert box.undo_boxes(outside, clip=False).tolist() == [[-10, -25, 120, 75]]


def test_no_boxes() -> None:
    box = Letterbox.fit((50, 100), (100, 100))
    empty = np.zeros((0, 4), np.float32)
    assert box.apply_boxes(empty).shape == box.undo_boxes(empty).shape == (0, 4)


@pytest.mark.parametrize(
    ("image_hw", "long_side", "expected"),
    [
        ((480, 640), 320, (240, 320)),  # halved
        ((427, 640), 320, (214, 320)),  # 213.5 is rounded up
        ((100, 50), 200, (200, 100)),  # enlarged
        ((640, 480), 640, (640, 480)),  # nothing to do
    ],
)
def test_long_side(image_hw, long_side, expected) -> None:
    assert long_side_hw(image_hw, long_side) == expected


@pytest.mark.parametrize(("size", "expected"), [(1, 32), (32, 32), (33, 64), (640, 640)])
def test_round_up_to_stride(size, expected) -> None:
    assert round_up_to_stride(size, 32) == expected


FREE = (None, None)
SIZE_CASES = [
    # --imgsz, known, required by the file -> used, how it is explained, warning
    (None, (320, 320), FREE, (320, 320), "as w.pt was made", ""),
    (None, (384, 640), FREE, (384, 640), "as w.pt was made", ""),
    (None, None, FREE, (640, 640), "default", ""),
    (None, (100, 100), FREE, (128, 128), "as w.pt was made", ""),  # made with another stride
    (None, (320, 320), (320, 320), (320, 320), "w.pt takes no other", ""),
    (None, None, (320, 416), (320, 416), "w.pt takes no other", ""),
    (None, None, (320, None), (320, 640), "w.pt takes no other", ""),
    (320, (320, 320), FREE, (320, 320), "--imgsz", ""),
    ((320,), None, FREE, (320, 320), "--imgsz", ""),
    ((320, 640), None, FREE, (320, 640), "--imgsz", ""),
    (480, (320, 320), FREE, (480, 480), "--imgsz", ""),  # 1.5 times as large is near enough
    (640, (320, 320), FREE, (640, 640), "--imgsz", "was made for 320x320"),
    (320, (640, 640), FREE, (320, 320), "--imgsz", "was made for 640x640"),
    ((600, 641), None, FREE, (608, 672), "--imgsz", "600x641 rounded up to 608x672"),
    (640, (320, 416), (320, 416), (320, 416), "w.pt takes no other", "takes 320x416 only"),
]


@pytest.mark.parametrize(("imgsz", "known", "fixed", "used", "reason", "warning"), SIZE_CASES)
def test_the_size_of_the_input(caplog, imgsz, known, fixed, used, reason, warning):
    with caplog.at_level(logging.INFO):
        found = choose_input_hw(imgsz, "w.pt", 32, known_hw=known, fixed_hw=fixed)
    *warnings, said = caplog.messages
    assert found == used
    assert said == f"Image size {used[0]}x{used[1]} px ({reason})"
    assert len(warnings) == bool(warning)
    assert all(warning in text for text in warnings)


@pytest.mark.parametrize("imgsz", [0, -32, (0, 64), (1, 2, 3), (), 10**6, (32, 10**8)])
def test_sizes_that_are_none(imgsz):
    with pytest.raises(ConfigError, match="--imgsz"):
        choose_input_hw(imgsz, "w.pt", 32, known_hw=None)


def test_images_are_padded_to_the_stride_or_in_full():
    assert InputSize((64, 64), 32).letterbox((20, 64)).input_hw == (32, 64)
    assert InputSize((64, 64), None).letterbox((20, 64)).input_hw == (64, 64)


EVERY_PIXEL = np.arange(256, dtype=np.uint8)


def test_every_pixel_scaled_is_the_float32_quotient():
    expected = [np.float32(pixel) / np.float32(255) for pixel in range(256)]
    assert scale_pixels(EVERY_PIXEL).dtype == np.float32
    assert scale_pixels(EVERY_PIXEL).tolist() == expected


def test_numpy_and_torch_scale_alike_to_the_bit():
    in_torch = scale_pixel_tensor(torch.from_numpy(EVERY_PIXEL), torch.float32)
    assert in_torch.dtype == torch.float32
    assert in_torch.numpy().tobytes() == scale_pixels(EVERY_PIXEL).tobytes()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scaling_in_half_precision_rounds_once(dtype):
    pixels = torch.from_numpy(EVERY_PIXEL)
    rounded = scale_pixel_tensor(pixels, torch.float32).to(dtype)
    assert torch.equal(scale_pixel_tensor(pixels, dtype), rounded)


def test_to_pixels_is_the_inverse_of_scale_pixels():
    assert to_pixels(scale_pixels(EVERY_PIXEL)).tolist() == EVERY_PIXEL.tolist()
    assert to_pixels(scale_pixels(EVERY_PIXEL).astype(np.float64)).dtype == np.uint8
    assert to_pixels(np.array([-0.1, 1.1, 0.5 / 255, 1.6 / 255])).tolist() == [0, 255, 0, 2]


def test_network_input_is_scaled_planes_in_order():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 5, 7, 3), np.uint8)
    batch = network_input(list(images))
    assert batch.flags.c_contiguous
    assert np.array_equal(batch, scale_pixels(images.transpose(0, 3, 1, 2)))
