from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

from utils.draw import class_color, draw_detections, draw_targets, text_color, tile_images
from utils.structures import NO_TRACK, Detections, Targets

GRAY = 128


def blank_image(height=100, width=160):
    return np.full((height, width, 3), GRAY, np.uint8)


def detections(*boxes, class_id=0):
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.5, count, dtype=np.float32),
        np.full(count, class_id, np.int64),
    )


def test_the_original_is_left_alone():
    image = blank_image()
    drawn = draw_detections(image, detections([20, 40, 80, 80]), ["cat"])
    assert (image == GRAY).all() and (drawn != GRAY).any() and drawn.shape == image.shape


def test_nothing_found_nothing_drawn():
    image = blank_image()
    assert (draw_detections(image, Detections.empty(), ["cat"]) == image).all()
    assert (draw_targets(image, Targets.empty(), ["cat"]) == image).all()


def test_edges_have_the_color_of_the_class():
    drawn = draw_detections(blank_image(), detections([20, 40, 80, 80], class_id=3), list("abcd"))
    assert tuple(drawn[60, 20]) == class_color(3)
    assert tuple(drawn[80, 50]) == class_color(3)
    assert tuple(drawn[60, 50]) == (GRAY,) * 3  # the inside stays


def test_line_thickness():
    for thickness in (1, 5):
        drawn = draw_detections(
            blank_image(), detections([20, 40, 80, 80]), ["cat"], line_thickness=thickness
        )
        column = (drawn[60, :50] != GRAY).any(axis=1)
        assert thickness <= column.sum() <= thickness + 2  # OpenCV rounds a line's width up


def test_labels_and_scores_can_be_hidden():
    boxes = detections([20, 40, 80, 80])
    changed = [
        (draw_detections(blank_image(), boxes, ["cat"], **hidden) != GRAY).any(axis=2).sum()
        for hidden in ({}, {"hide_scores": True}, {"hide_labels": True})
    ]
    assert changed[0] > changed[1] > changed[2]


def test_targets_show_names_without_scores():
    found = detections([20, 40, 80, 80])
    drawn = draw_targets(blank_image(), Targets(found.boxes, found.class_ids), ["cat"])
    assert (drawn == draw_detections(blank_image(), found, ["cat"], hide_scores=True)).all()


@pytest.mark.parametrize(
    "box",
    [
        [0, 0, 30, 30],  # label would lie above the image
        [140, 60, 160, 90],  # ... beyond the right edge
        [150, 0, 160, 10],  # ... both
        [0, 95, 20, 100],  # at the bottom
        [0, 0, 160, 100],  # the whole image
    ],
)
def test_labels_stay_inside(box):
    """The label box, a filled block in the color of the class, is there in full."""
    label_only = draw_detections(blank_image(), detections(box), ["cat"], line_thickness=1)
    box_only = draw_detections(
        blank_image(), detections(box), ["cat"], line_thickness=1, hide_labels=True
    )
    # Letters count too: they are the other color inside the block.
    rows, columns = np.nonzero((label_only != box_only).any(axis=2))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert 12 <= height <= 20 and 40 <= width <= 70


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (12, 12)])
def test_tiny_images(size):
    height, width = size
    drawn = draw_detections(blank_image(*size), detections([0, 0, width, height]), ["a long name"])
    assert drawn.shape == (height, width, 3)


def test_colors_are_stable_and_distinct():
    assert class_color(0) == class_color(0)
    colors = np.array([class_color(i) for i in range(20)], float)
    assert colors.min() >= 0 and colors.max() <= 255
    distance = np.linalg.norm(colors[:, None] - colors[None], axis=2) + 1000 * np.eye(20)
    assert distance.min() > 25
    assert len({class_color(i) for i in range(80)}) == 80


def test_text_can_be_read_on_every_color():
    def luminance(color):
        return np.dot(color, [0.299, 0.587, 0.114])

    for class_id in range(80):
        color = class_color(class_id)
        assert abs(luminance(color) - luminance(text_color(color))) > 100


@pytest.mark.parametrize(
    ("count", "grid"),
    [(1, (1, 1)), (2, (1, 2)), (4, (2, 2)), (5, (2, 3)), (16, (4, 4)), (20, (4, 4))],
)
def test_grid_shape(count, grid):
    rows, columns = grid
    tiled = tile_images([blank_image(50, 40)] * count, gap=2)
    assert tiled.shape == (rows * 52 + 2, columns * 42 + 2, 3)


def test_tiles_are_in_reading_order_and_centred():
    images = [np.full((10, 10, 3), value, np.uint8) for value in (10, 20, 30)]
    images.append(np.full((4, 6, 3), 40, np.uint8))
    tiled = tile_images(images, gap=2)
    assert [int(tiled[y, x, 0]) for y, x in ((7, 7), (7, 19), (19, 7), (19, 19))] == [
        10,
        20,
        30,
        40,
    ]
    assert int(tiled[15, 19, 0]) == 255  # above the small one


def test_large_grids_are_shrunk_and_titled():
    tiled = tile_images([blank_image(900, 1200)] * 9, ["name.jpg"] * 9, max_side=1000)
    assert max(tiled.shape) <= 1000 and max(tiled.shape) > 900
    plain = tile_images([blank_image(50, 90)])
    titled = tile_images([blank_image(50, 90)], ["a.jpg"])
    assert titled.shape[0] > plain.shape[0] and (titled[:20] < 100).any()


def test_grid_of_nothing():
    assert tile_images([]).ndim == 3


def test_names_that_are_no_utf_8_are_drawn_escaped():
    image = np.zeros((64, 200, 3), np.uint8)
    name = os.fsdecode(b"caf\xe9")
    found = Detections(np.array([[10, 30, 90, 60]], np.float32), np.ones(1, np.float32),
                       np.zeros(1, np.int64))  # fmt: skip

    drawn = draw_detections(image, found, (name,))

    np.testing.assert_array_equal(drawn, draw_detections(image, found, ("caf\\udce9",)))
    np.testing.assert_array_equal(
        tile_images([image], [name]), tile_images([image], ["caf\\udce9"])
    )


def test_tracked_objects_have_their_number_and_a_color_of_their_own():
    """Of two objects of a class; one that has no id yet has its name alone."""
    found = detections([20, 40, 60, 80], [90, 40, 130, 80])
    one_class = dataclasses.replace(found, class_ids=np.array([0, 0]))
    tracked = dataclasses.replace(one_class, track_ids=np.array([4, 7]))
    drawn = draw_detections(blank_image(), tracked, ["cat"], hide_labels=True)
    for (left, top), track_id in (((20, 60), 4), ((90, 60), 7)):
        assert tuple(drawn[top, left]) == class_color(track_id)
    # The label of an id is that of a class of this name.
    labelled = draw_detections(blank_image(), tracked[:1], ["cat"], hide_scores=True)
    named = dataclasses.replace(one_class[:1], class_ids=np.array([4]))
    names = ["", "", "", "", "#4 cat"]
    assert (labelled == draw_detections(blank_image(), named, names, hide_scores=True)).all()
    unknown = dataclasses.replace(one_class, track_ids=np.array([NO_TRACK, NO_TRACK]))
    without = draw_detections(blank_image(), unknown, ["cat"])
    same = draw_detections(blank_image(), one_class, ["cat"])
    assert ((without != GRAY).any(axis=2) == (same != GRAY).any(axis=2)).all()
