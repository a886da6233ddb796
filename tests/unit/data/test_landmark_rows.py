"""Rows of boxes with landmarks are told from polygons by the rows of the whole data set."""

from __future__ import annotations

import numpy as np
import pytest

from data.labels import landmark_columns, list_yolo_images
from tests.unit.data.builders import NAMES, write_image

FACE = "0 .5 .5 .2 .3 .45 .4 .55 .4 .5 .5 .46 .6 .54 .6"
LARGE_FACE = "0 .5 .5 .5 .6 .4 .4 .6 .4 .5 .5 .42 .65 .58 .65"  # as a polygon it looks fine


def join(*numbers):
    return " ".join(f"{number:.5f}" for number in numbers)


def faces(rng, count, points=5, visibility=False, hidden=0.0):
    """Rows with points inside a box that is inside the image."""
    rows = []
    for _ in range(count):
        size = rng.uniform(0.03, 0.4, 2)
        centre = rng.uniform(size / 2, 1 - size / 2)
        marks = centre + size * rng.uniform(-0.45, 0.45, (points, 2))
        marks[rng.random(points) < hidden] = 0 if visibility else -1
        flags = rng.integers(0, 3, (points, 1)) if visibility else np.zeros((points, 0))
        rows.append("0 " + join(*centre, *size, *np.hstack([marks, flags]).ravel()))
    return rows


def polygons(rng, count, corners):
    """Rows of polygons around a centre, each with one of these numbers of corners."""
    rows = []
    for _ in range(count):
        radius = rng.uniform(0.02, 0.3)
        centre = rng.uniform(radius, 1 - radius, 2)
        number = int(rng.choice(corners))
        angles = np.linspace(0, 2 * np.pi, number, endpoint=False) + rng.uniform(0, 6)
        around = centre + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
        rows.append("0 " + join(*around.ravel()))
    return rows


def write(folder, rows, per_file=3):
    folder.mkdir(exist_ok=True)
    files = []
    for start in range(0, len(rows), per_file):
        files.append(folder / f"{start:05}.txt")
        files[-1].write_text("\n".join(rows[start : start + per_file]))
    return files


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("make", "columns"),
    [
        (lambda rng: faces(rng, 40), 15),
        (lambda rng: faces(rng, 2, hidden=0.5), 15),
        (lambda rng: [*faces(rng, 40, hidden=0.3), "0 .5 .5 .2 .2", "1 .1 .1 .1 .1"], 15),
        (lambda rng: faces(rng, 40, points=17), 39),
        (lambda rng: faces(rng, 40, points=17, visibility=True, hidden=0.3), 56),
        (lambda rng: faces(rng, 40, points=4, visibility=True), 17),
        (lambda rng: polygons(rng, 40, [7]), None),
        (lambda rng: polygons(rng, 200, [16]), None),
        (lambda rng: polygons(rng, 40, [4]), None),
        (lambda rng: polygons(rng, 40, range(3, 30)), None),
        (lambda rng: ["0 .5 .5 .2 .2"] * 3, None),
        (lambda rng: [], None),
    ],
    ids=["faces", "two faces", "with boxes", "pose", "pose of three", "four of three",
         "heptagons", "circles", "quadrangles", "polygons", "boxes", "nothing"],
)  # fmt: skip
def test_landmarks_and_polygons(tmp_path, seed, make, columns):
    rows = make(np.random.default_rng(seed))

    assert landmark_columns(write(tmp_path / "labels", rows)) == columns


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        ([FACE], 15),
        ([FACE.replace(".46 .6 .54 .6", "-1 -1 -1 -1")], 15),
        ([LARGE_FACE] * 3, None),  # too few to tell; read as polygons
        ([LARGE_FACE] * 10, 15),
        ([LARGE_FACE] * 3 + [FACE], 15),
    ],
)
def test_few_rows(tmp_path, rows, columns):
    assert landmark_columns(write(tmp_path / "labels", rows)) == columns


def test_the_box_of_a_landmark_row_is_read(tmp_path):
    write_image(tmp_path / "images" / "a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text(f"{FACE}\n1 .5 .5 .5 .5\n")

    listing = list_yolo_images([tmp_path / "images"], NAMES)

    labels = listing.images[0].read_labels((100, 200))
    np.testing.assert_allclose(labels.targets.boxes, [[80, 35, 120, 65], [50, 25, 150, 75]])
    assert labels.outlines == ((), ())
    assert labels.problems == ()
    (note,) = listing.problems
    assert note.kind == "noted" and "15 columns" in note.text
