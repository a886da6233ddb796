from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.label_rules import UnreadableLabelsError
from data.labels import label_path, list_yolo_images, read_label_file
from tests.error_messages import assert_message
from tests.unit.data.builders import NAMES, write_image
from utils.errors import DatasetError

HW = (100, 200)


def read(folder: Path, content: str | bytes):
    file = folder / "a.txt"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_label_file(file, HW, class_names=NAMES)


@pytest.mark.parametrize(
    "content",
    [
        "2 0.5 0.5 0.2 0.4\n",
        # no final newline, blanks, empty lines, tabs
        "\n  2  0.5\t0.5 0.2 0.4 \n\n",
        # Windows: byte order mark and CRLF
        b"\xef\xbb\xbf2 0.5 0.5 0.2 0.4\r\n",
        # a class written as a float, as NumPy's savetxt does
        "2.0 5e-1 .5 0.2 0.4",
        # the same rectangle as a polygon
        "2 0.4 0.3 0.6 0.3 0.6 0.7 0.4 0.7",
    ],
)
def test_good_rows(tmp_path, content):
    labels = read(tmp_path, content)

    np.testing.assert_allclose(labels.targets.boxes, [[80, 30, 120, 70]], rtol=1e-6)
    assert labels.targets.class_ids.tolist() == [2]
    np.testing.assert_allclose(labels.areas, [40 * 40], rtol=1e-6)
    assert labels.problems == () and labels.has_file and len(labels.crowd) == 0


@pytest.mark.parametrize("content", ["", "\n", "  \r\n\t\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_background(tmp_path, content):
    labels = read(tmp_path, content)

    assert labels.has_file
    assert labels.targets.boxes.shape == (0, 4)
    assert labels.problems == ()


def test_a_missing_file_is_background(tmp_path):
    labels = read_label_file(tmp_path / "none.txt", HW, class_names=NAMES)

    assert not labels.has_file and len(labels.targets) == 0


def test_a_file_may_mix_boxes_and_polygons(tmp_path):
    labels = read(tmp_path, "0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.3 0.1 0.1 0.5\n0 0.2 0.2 0.1 0.1\n")

    expected = [[80, 40, 120, 60], [20, 10, 60, 50], [30, 15, 50, 25]]
    np.testing.assert_allclose(labels.targets.boxes, expected, rtol=1e-5)
    # The polygon is a triangle: half its box.
    np.testing.assert_allclose(labels.areas, [800, 800, 200], rtol=1e-5)


@pytest.mark.parametrize(
    ("row", "kind", "message"),
    [
        # numbers that are none
        ("0 nan 0.5 0.2 0.2", "dropped", "'nan' ... finite ... row dropped"),
        ("0 inf 0.5 0.2 0.2", "dropped", "'inf' ... finite ... row dropped"),
        ("cat 0.5 0.5 0.2 0.2", "dropped", "'cat' ... not a number ... row dropped"),
        ("1_0 0.5 0.5 0.2 0.2", "dropped", "'1_0' ... not a number ... row dropped"),
        ("0 0.5 0.5 0.2 .\u0662", "dropped", "not a number ... row dropped"),
        # commas make one word
        ("0,0.5,0.5,0.2,0.2", "dropped", "'0,0.5,0.5,0.2,0.2' ... not a number ... row dropped"),
        # too few, a score at the end, a polygon with half a point, a line
        ("0 0.5 0.5 0.2", "dropped", "4 columns ... 5 (class cx cy w h) ... row dropped"),
        ("0 0.5 0.5 0.2 0.2 0.9", "dropped", "6 columns ... 5 (class cx cy w h) ... row dropped"),
        ("0 .1 .1 .2 .1 .2 .2 .1", "dropped", "8 columns ... polygon ... odd ... row dropped"),
        # classes that are none
        ("1.7 .5 .5 .2 .2", "dropped", "class is 1.7 ... integer from 0 ... row dropped"),
        ("-1 .5 .5 .2 .2", "dropped", "class is -1 ... integer from 0 ... row dropped"),
        ("1e30 .5 .5 .2 .2", "dropped", "class is 1e30 ... at most ... row dropped"),
        # no area
        ("0 0.5 0.5 0 0.2", "dropped", "width is 0 ... > 0 ... row dropped"),
        ("0 0.5 0.5 0.2 -0.1", "dropped", "height is -0.1 ... > 0 ... row dropped"),
        ("0 .1 .1 .2 .1 .3 .1", "dropped", "height is 0 ... > 0 ... row dropped"),
        # outside
        (
            "0 0.95 0.5 0.2 0.2",
            "dropped",
            "5.00% ... outside ... at most 1% ... row dropped",
        ),
        (
            "0 320 240 64 48",
            "dropped",
            "35100.00% ... outside ... at most 1% ... row dropped",
        ),
        ("0 0.9 0.5 0.21 0.2", "clipped", "0.50% ... outside ... clipped"),
        # the same again, also when written otherwise
        (
            "1 .50 .5 .20 .2",
            "duplicate",
            "line 1 ... duplicate removed",
        ),
    ],
)
def test_a_bad_row_is_named_and_costs_only_itself(tmp_path, row, kind, message):
    labels = read(tmp_path, f"1 0.5 0.5 0.2 0.2\n{row}\n2 0.2 0.2 0.1 0.1\n")

    (problem,) = labels.problems
    assert_message(problem.text, f"{tmp_path / 'a.txt'}:2: ", message)
    assert problem.kind == kind
    expected = [1, 0, 2] if kind == "clipped" else [1, 2]
    assert labels.targets.class_ids.tolist() == expected
    assert len(labels.areas) == len(expected)
    assert (labels.targets.boxes >= 0).all()
    assert (labels.targets.boxes <= (200, 100, 200, 100)).all()


def test_decimals_cut_by_the_writer_are_no_problem(tmp_path):
    labels = read(tmp_path, "0 0.500001 0.5 1.000000 1.0\n")

    assert labels.problems == ()
    assert labels.targets.boxes.max() <= 200


def test_a_class_beyond_the_names_is_a_problem_of_its_own(tmp_path):
    labels = read(tmp_path, "0 0.5 0.5 0.1 0.1\n3 0.5 0.5 0.1 0.1\n1 0.2 0.2 0.1 0.1\n")

    (problem,) = labels.problems
    assert (problem.kind, labels.targets.class_ids.tolist()) == ("unknown_class", [0, 1])
    assert_message(
        problem.text,
        f"{tmp_path / 'a.txt'}:2: ",
        "class is 3 ... names has 3 ... fix the label",
    )


def test_every_class_is_allowed_without_names(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("70 0.5 0.5 0.1 0.1\n")

    assert read_label_file(file, HW, class_names=None).targets.class_ids.tolist() == [70]


def test_text_in_another_encoding_leaves_the_image_out(tmp_path):
    with pytest.raises(UnreadableLabelsError, match=r"a\.txt: cannot be read as UTF-8 text"):
        read(tmp_path, "0 0.5 0.5 0.2 0.2".encode("utf-16"))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("set/images/train/a.jpg", "set/labels/train/a.txt"),
        # only the last one
        ("images/set/images/a.b.png", "images/set/labels/a.b.txt"),
        # none: beside the image; a file or a longer name does not count
        ("set/train/a.jpg", "set/train/a.txt"),
        ("my_images/images.jpg", "my_images/images.txt"),
    ],
)
def test_label_path(image, expected):
    assert label_path(Path(image)) == Path(expected)


@pytest.mark.parametrize("folders", [("images", "labels"), ("data", "data")])
def test_a_label_file_in_capitals_is_read_unless_there_is_another(tmp_path, folders):
    images, labels = (tmp_path / name for name in folders)
    for name in ("a.JPG", "b.jpg"):
        write_image(images / name)
    labels.mkdir(exist_ok=True)
    for name, class_id in {"a.TXT": 1, "b.txt": 0, "b.Txt": 1}.items():
        (labels / name).write_text(f"{class_id} 0.5 0.5 0.2 0.4\n")

    listing = list_yolo_images([images], NAMES)

    read_back = [listing.read_labels(index, (100, 100)).targets.class_ids for index in range(2)]
    assert [each.tolist() for each in read_back] == [[1], [0]]
    (orphans,) = listing.problems  # it would be read as the labels of b.jpg, too
    assert "1 label file without an image (the first: b.Txt)" in orphans.text


def test_folders_are_searched_deeply_and_sorted(tmp_path):
    for name in ("b/z.png", "a.JPG", "b/c/y.webp", ".hidden/x.png", "b/._z.png"):
        write_image(tmp_path / name)
    (tmp_path / "notes.md").write_text("no image")

    images = list_yolo_images([tmp_path], NAMES).images

    assert [str(p.path.relative_to(tmp_path)) for p in images] == [
        "a.JPG",
        "b/c/y.webp",
        "b/z.png",
    ]
    assert [image.image_id for image in images] == [0, 1, 2]


def test_lists_start_at_their_own_folder(tmp_path):
    image = write_image(tmp_path / "images" / "a.png")
    file = tmp_path / "train.txt"
    file.write_bytes(f"\ufeff./images/a.png\r\n{image}\r\n\r\nimages/gone.png\r\n".encode())

    images = list_yolo_images([file], NAMES).images

    assert [p.path for p in images] == [image, image, tmp_path / "images" / "gone.png"]


def test_lists_may_start_at_the_working_directory(tmp_path, monkeypatch):
    write_image(tmp_path / "images" / "a.png")
    (tmp_path / "lists").mkdir()
    file = tmp_path / "lists" / "train.txt"
    file.write_text("images/a.png\n")
    monkeypatch.chdir(tmp_path)

    (image,) = list_yolo_images([file], NAMES).images

    assert image.path == Path("images/a.png")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", "no such folder or file"),
        ("a.png", "folder of images ... .txt"),
    ],
)
def test_sources_without_images(tmp_path, name, message):
    write_image(tmp_path / "a.png")

    with pytest.raises(DatasetError) as caught:
        list_yolo_images([tmp_path / name], NAMES)

    assert_message(str(caught.value), f"{tmp_path / name}: ", message)


def test_an_empty_folder_lists_nothing(tmp_path):
    assert len(list_yolo_images([tmp_path], NAMES).images) == 0


def test_polygons_are_kept_as_outlines_in_pixels(tmp_path):
    labels = read(tmp_path, "0 0.1 0.2 0.5 0.2 0.5 0.8\n1 0.5 0.5 0.2 0.4\n")

    polygon, box = labels.outlines
    np.testing.assert_allclose(polygon, [[[20, 20], [100, 20], [100, 80]]], rtol=1e-6)
    assert box == ()
