from __future__ import annotations

from dataclasses import fields

import cv2
import numpy as np
import pytest

from data.augment import AugmentConfig, augment_hsv, random_affine, random_flip
from tests.error_messages import assert_message
from tests.unit.data.builders import noise
from utils.errors import ConfigError
from utils.strict_mapping import to_dataclass
from utils.structures import Targets

HW = (120, 160)
BOX = (40, 30, 110, 80)
STRONG = AugmentConfig.only(
    hsv_h=0.1, hsv_s=0.7, hsv_v=0.4, degrees=20, translate=0.2, scale=0.5, shear=5, fliplr=0.5
)


def targets(*boxes):
    return Targets(np.array(boxes, np.float32).reshape(-1, 4), np.arange(len(boxes)))


def bright_box(hw=HW, box=BOX):
    """A white rectangle on the gray of the padding, and its target."""
    image = np.full((*hw, 3), 114, np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = 255
    return image, targets(box)


def bright_part(image):
    """The box around the pixels nearer to white than to gray."""
    rows, columns = np.nonzero(image[..., 0] > 184)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_no_strength_changes_nothing():
    image, labels = noise(HW), targets(BOX, (0, 0, 160, 120))
    config, rng = AugmentConfig.only(), np.random.default_rng(0)

    hsv = augment_hsv(image, config, rng)
    flipped, flipped_labels = random_flip(image, labels, config, rng)
    moved, moved_labels = random_affine(image, labels, config, rng, output_hw=HW)

    for changed in (hsv, flipped, moved):
        np.testing.assert_array_equal(changed, image)
    for changed in (flipped_labels, moved_labels):
        np.testing.assert_array_equal(changed.boxes, labels.boxes)
        np.testing.assert_array_equal(changed.class_ids, labels.class_ids)


@pytest.mark.parametrize(
    "config",
    [
        AugmentConfig.only(translate=0.2),
        AugmentConfig.only(scale=0.5),
        AugmentConfig.only(degrees=30),
        AugmentConfig.only(shear=10),
        AugmentConfig.only(perspective=0.001),
        AugmentConfig.only(degrees=10, translate=0.1, scale=0.3, shear=5, perspective=0.0005),
        AugmentConfig.only(flipud=1, fliplr=1),
    ],
)
def test_boxes_follow_the_pixels(config):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        image, labels = bright_box()
        image, labels = random_affine(image, labels, config, rng, output_hw=HW)
        image, labels = random_flip(image, labels, config, rng)

        # Half a pixel for rounding to whole ones; as much again where a turned corner is blurred.
        np.testing.assert_allclose(labels.boxes[0], bright_part(image), atol=1.01)


def test_whole_shifts_are_exact():
    image, labels = bright_box()
    larger, moved = random_affine(
        image, labels, AugmentConfig.only(), np.random.default_rng(0), output_hw=(160, 220)
    )

    # The middle goes to the middle: 20 px down, 30 px to the right.
    assert moved.boxes.tolist() == [[70, 50, 140, 100]]
    assert bright_part(larger) == [70, 50, 140, 100]
    np.testing.assert_array_equal(larger[20:140, 30:190], image)


def test_uncovered_canvas_is_gray():
    black = np.zeros((20, 20, 3), np.uint8)

    image, _ = random_affine(
        black, targets(), AugmentConfig.only(), np.random.default_rng(0), output_hw=(60, 60)
    )

    assert (image[:20] == 114).all() and (image[:, -20:] == 114).all()
    assert (image[20:40, 20:40] == 0).all()


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        # 40 x 40 in the middle; the canvas shows columns 60 to 140 of 200
        ((80, 80, 120, 120), True),
        # 4 of 100 columns inside; 30 of 100
        ((-36, 80, 64, 120), False),
        ((-10, 80, 90, 120), True),
        # 2 px high, and a bit more
        ((80, 80, 120, 82), False),
        ((80, 80, 120, 82.5), True),
        # outside
        ((0, 0, 20, 20), False),
    ],
)
def test_which_boxes_are_worth_keeping(box, kept):
    image = np.zeros((200, 200, 3), np.uint8)

    _, labels = random_affine(
        image, targets(box), AugmentConfig.only(), np.random.default_rng(0), output_hw=(80, 80)
    )

    assert len(labels) == kept


def test_slivers_are_dropped():
    image = np.zeros((500, 500, 3), np.uint8)
    # 120 times, and 96 times, as wide as high
    labels = targets((10, 10, 490, 14), (10, 10, 490, 15))

    _, kept = random_affine(
        image, labels, AugmentConfig.only(), np.random.default_rng(0), output_hw=(500, 500)
    )

    assert kept.class_ids.tolist() == [1]


@pytest.mark.parametrize("hw", [(33, 47), (1, 1)])
def test_images_without_objects(hw):
    image = noise(hw)
    rng = np.random.default_rng(0)

    image, labels = random_affine(image, targets(), STRONG, rng, output_hw=(40, 40))
    image, labels = random_flip(image, labels, STRONG, rng)

    assert image.shape == (40, 40, 3)
    assert labels.boxes.shape == (0, 4) and labels.boxes.dtype == np.float32


def test_inputs_are_not_changed():
    image, labels = bright_box()
    before, boxes = image.copy(), labels.boxes.copy()
    config = AugmentConfig.only(hsv_h=0.1, hsv_s=0.7, hsv_v=0.4, degrees=9, fliplr=1, flipud=1)
    rng = np.random.default_rng(1)

    augment_hsv(image, config, rng)
    random_flip(image, labels, config, rng)
    random_affine(image, labels, config, rng, output_hw=HW)

    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(labels.boxes, boxes)


def test_flips_happen_as_often_as_asked():
    image, labels = bright_box()
    rng = np.random.default_rng(0)
    config = AugmentConfig.only(fliplr=0.25)

    flips = [random_flip(image, labels, config, rng)[1].boxes[0, 0] != BOX[0] for _ in range(400)]

    assert 0.18 < np.mean(flips) < 0.32


def test_flipping_twice_changes_nothing():
    image, labels = noise(HW), targets(BOX, (0, 0, 1, 1))
    config, rng = AugmentConfig.only(flipud=1, fliplr=1), np.random.default_rng(0)

    twice, twice_labels = random_flip(*random_flip(image, labels, config, rng), config, rng)

    np.testing.assert_array_equal(twice, image)
    np.testing.assert_array_equal(twice_labels.boxes, labels.boxes)


def test_brightness_is_multiplied():
    gray = np.full((4, 4, 3), 100, np.uint8)
    rng = np.random.default_rng(0)
    gain = 1 + np.random.default_rng(0).uniform(-1, 1, 3)[2] * 0.4

    image = augment_hsv(gray, AugmentConfig.only(hsv_v=0.4), rng)

    assert (image == int(100 * gain)).all()


def test_hue_turns_the_color_circle():
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    image = noise((32, 32))
    rng = np.random.default_rng(5)

    changed = augment_hsv(image, AugmentConfig.only(hsv_h=0.5), rng)

    before, after = (cv2.cvtColor(i, cv2.COLOR_RGB2HSV)[..., 2] for i in (image, changed))
    np.testing.assert_allclose(after.astype(int), before, atol=1)
    assert np.abs(changed.astype(int) - image).mean() > 5
    # hue 0 stays 0 under any factor
    np.testing.assert_array_equal(augment_hsv(red, AugmentConfig.only(hsv_h=0.5), rng), red)


@pytest.mark.parametrize("hsv_h", [0.015, 0.4, 1.0])
def test_levels_are_multiplied_and_rounded_down(hsv_h):
    """As by tables of float64, but for hues beyond the circle, which OpenCV itself turns back."""
    image = noise((64, 64))
    config = AugmentConfig.only(hsv_h=hsv_h, hsv_s=0.7, hsv_v=0.4)
    for seed in range(20):
        factors = 1 + np.random.default_rng(seed).uniform(-1, 1, 3) * (hsv_h, 0.7, 0.4)
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV) * factors
        hsv[..., 0] %= 180
        expected = cv2.cvtColor(np.clip(hsv, 0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB)

        changed = augment_hsv(image, config, np.random.default_rng(seed))

        difference = np.abs(changed.astype(int) - expected)
        assert (difference > 0).mean() < 0.05
        assert np.percentile(difference, 99.9) <= 9, "a step of the hue, at most"
        assert abs(changed.mean() - expected.mean()) < 0.05


@pytest.mark.parametrize("name", ["hsv_s", "scale", "mosaic", "translate", "fliplr"])
@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_values_out_of_range(name, value):
    with pytest.raises(ConfigError) as caught:
        to_dataclass("hyp.yaml", {name: value}, AugmentConfig)

    assert_message(str(caught.value), "hyp.yaml: ", f"{name} is {value!r} ... from 0 to 1")


def test_angles_have_no_upper_limit():
    assert AugmentConfig.only(degrees=180, shear=45, perspective=0.01).degrees == 180
    with pytest.raises(ValueError, match=r"^degrees is -1, must be at least 0$"):
        AugmentConfig.only(degrees=-1)


def test_what_is_not_named_is_zero():
    nothing = AugmentConfig.only()
    assert {getattr(nothing, field.name) for field in fields(nothing)} == {0.0}
