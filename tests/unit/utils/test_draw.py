from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

from utils.draw import class_color, contrast, draw_detections, draw_targets, text_color
from utils.plots.image_grid import tile_images
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


def test_colors_repeat_after_80_classes():
    """How far apart they are: tests/unit/experiments/test_class_palette.py."""
    assert len({class_color(i) for i in range(80)}) == 80
    assert [class_color(i + 80) for i in range(80)] == [class_color(i) for i in range(80)]


def test_contrast_is_that_of_wcag():
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)
    assert contrast((9, 9, 9), (9, 9, 9)) == 1


def test_text_can_be_read_on_every_color():
    for class_id in range(80):
        assert contrast(class_color(class_id), text_color(class_color(class_id))) >= 4.5


def label_pixels(image, found, names=("cat",), **options):
    """Which pixels labels change."""
    drawn = draw_detections(image, found, names, **options)
    return (drawn != draw_detections(image, found, names, hide_labels=True, **options)).any(axis=2)


def hidden_share(pixels, box):
    left, top, right, bottom = (int(edge) for edge in box)
    return pixels[top:bottom, left:right].mean()


@pytest.mark.parametrize(
    "neighbour",
    [
        [60, 82, 90, 99],  # above
        [60, 82, 90, 121],  # above, and down to the top of the box
        [100, 96, 130, 120],  # on the right
        [60, 132, 90, 150],  # below
    ],
)
def test_a_label_hides_no_small_object_while_there_is_another_place(neighbour):
    image, found = blank_image(240, 320), detections([60, 100, 90, 130], neighbour)
    pixels = label_pixels(image, found)
    assert pixels.sum() > 2 * 500  # both are there
    assert max(hidden_share(pixels, box) for box in found.boxes) <= 0.1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [5, 40, 150])
def test_labels_of_a_crowd_leave_the_objects_visible(seed, count):
    """Whatever lies where: at most three tenths of each box are hidden, and no label."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, (600, 440), (count, 2))
    sizes = rng.uniform(6, 160, (count, 2)) * rng.uniform(0.1, 1, (count, 1))
    boxes = np.concatenate([corners, np.minimum(corners + sizes, (640, 480))], axis=1).round()
    found = detections(*boxes)
    pixels = label_pixels(blank_image(480, 640), found, line_thickness=1)
    assert pixels.any()
    for box in found.boxes:
        assert hidden_share(pixels, box) <= 0.3 + 1e-6
    best = label_pixels(blank_image(480, 640), found[:1], line_thickness=1)
    assert best.sum() > 500  # the best one has a label in any crowd


def test_large_boxes_are_no_obstacle():
    """A label inside a box that it hides little of: one on the whole image stays at the top."""
    pixels = label_pixels(blank_image(480, 640), detections([0, 0, 640, 480]))
    rows, columns = np.nonzero(pixels)
    assert rows.min() <= 2 and columns.min() <= 2 and rows.max() < 40


def test_no_label_where_it_would_hide_what_it_names():
    """The image is full of small boxes: there is no place, so there is no name."""
    edges = np.arange(0, 100, 10)
    boxes = [[x, y, x + 10, y + 10] for x in edges for y in edges]
    found = detections(*boxes)
    pixels = label_pixels(blank_image(100, 100), found, line_thickness=1)
    assert not pixels.any()


def test_a_label_without_a_place_gets_smaller_letters():
    """All around are small boxes but for a strip above, too low for the usual letters."""
    image, box = blank_image(480, 640), [300, 200, 330, 230]
    alone = label_pixels(image, detections(box))
    usual = int(alone.any(axis=1).sum())
    top = 200 - usual + 2
    free = ([290, top, 420, 200], [290, 200, 336, 236])
    tiles = [[x, y, x + 8, y + 8] for x in range(194, 450, 8) for y in range(top - 64, 296, 8)]
    apart = [
        each for each in tiles
        if all(each[2] <= left or each[0] >= right or each[3] <= upper or each[1] >= lower
               for left, upper, right, lower in free)
    ]  # fmt: skip
    found = detections(box, *apart)
    found.class_ids[1:] = 1  # without a name
    pixels = label_pixels(image, found, ("cat 0.90", ""), hide_scores=True)
    assert 0 < pixels.any(axis=1).sum() < usual and pixels.sum() < alone.sum()


def test_only_the_best_of_very_many_have_labels():
    """However many there are, drawing ends soon."""
    rows = [[x, y, x + 9, y + 9] for y in range(0, 900, 30) for x in range(0, 900, 90)]
    pixels = label_pixels(blank_image(900, 900), detections(*rows))
    assert len(rows) == 300 and pixels[:600].any() and not pixels[660:].any()


@pytest.mark.parametrize("thickness", [1, 100])
@pytest.mark.parametrize("size", [(100, 160), (480, 640), (12, 12)])
def test_lines_and_letters_are_bounded_by_the_image(size, thickness):
    image, (height, width) = blank_image(*size), size
    found = detections([width // 4, height // 4, width // 2, height // 2])
    drawn = draw_detections(image, found, ["cat"], line_thickness=thickness, hide_labels=True)
    share = (drawn != GRAY).any(axis=2).mean()
    assert 0 < share < 0.4
    if size == (480, 640):
        assert 0.001 < label_pixels(image, found, line_thickness=thickness).mean() < 0.2


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
