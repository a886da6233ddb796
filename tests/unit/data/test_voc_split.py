"""Which images and xml files a Pascal VOC split has."""

from __future__ import annotations

import pytest

from data.voc_split import list_voc_images
from tests.error_messages import assert_message
from tests.unit.data.builders import NAMES, write_image
from utils.errors import DatasetError


def write_xml(path, name="cat"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<annotation><object><name>{name}</name><bndbox><xmin>1</xmin><ymin>1</ymin>"
        "<xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
    )


def classes(listing):
    """File name -> class of its object, None for a background."""
    found = {}
    for image in listing.images:
        ids = image.read_labels((48, 64)).targets.class_ids.tolist()
        found[image.path.as_posix().split("/images/")[1]] = NAMES[ids[0]] if ids else None
    return found


def test_split_files(tmp_path):
    for name in ("b.jpg", "a.PNG", "photo 1.jpg"):
        write_image(tmp_path / "images" / name)
    (tmp_path / "xml").mkdir()
    split = tmp_path / "train.txt"
    # a per-class list, a name with a blank, an image that is not there
    split.write_bytes("\ufeffb  -1\r\na\r\nphoto 1\r\n\r\ngone\r\n".encode())

    images = list_voc_images(tmp_path / "images", tmp_path / "xml", split, NAMES).images

    assert [(p.image_id, p.path.name) for p in images] == [
        (0, "a.PNG"),
        (1, "b.jpg"),
        (2, "gone.jpg"),
        (3, "photo 1.jpg"),
    ]


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("images", "no such folder"),
        ("xml", "no such folder"),
        ("train.txt", "no such file"),
    ],
)
def test_missing_paths(tmp_path, missing, message):
    for folder in {"images", "xml"} - {missing}:
        (tmp_path / folder).mkdir()

    with pytest.raises(DatasetError) as caught:
        list_voc_images(tmp_path / "images", tmp_path / "xml", tmp_path / "train.txt", NAMES)

    assert_message(str(caught.value), f"{tmp_path / missing}: ", message)


def test_suffixes_in_capitals(tmp_path):
    write_image(tmp_path / "a.JPG")
    write_xml(tmp_path / "a.XML", "dog")

    listing = list_voc_images(tmp_path, tmp_path, None, NAMES)

    assert listing.label_files == [str(tmp_path / "a.XML")] and not listing.problems


@pytest.mark.parametrize("layout", ["mirrored", "beside", "flat"])
def test_images_in_sub_folders_have_their_own_xml(tmp_path, layout):
    images = tmp_path / "images"
    names = {"one/a": "cat", "two/a": "dog", "two/b": "owl"}
    xmls = images if layout == "beside" else tmp_path / "xml"
    for entry, name in names.items():
        write_image(images / f"{entry}.jpg")
        write_xml(xmls / f"{entry.split('/')[1] if layout == 'flat' else entry}.xml", name)
    split = tmp_path / "train.txt"
    split.write_text("\n".join(names))

    listing = list_voc_images(images, xmls, split, NAMES)

    found = {f"{entry}.jpg": name for entry, name in names.items()}
    if layout == "flat":  # one a.xml cannot be that of two images
        found["one/a.jpg"] = found["two/a.jpg"] = None
    assert classes(listing) == found
    assert [each.kind for each in listing.problems] == (["orphan"] if layout == "flat" else [])


def test_without_a_split_file_all_images_are_listed(tmp_path):
    images = tmp_path / "images"
    for name in ("b.jpg", "sub/a.png", ".hidden/c.png"):
        write_image(images / name)
    write_xml(images / "b.xml")
    write_xml(images / "gone.xml")

    listing = list_voc_images(images, images, None, NAMES)

    assert classes(listing) == {"b.jpg": "cat", "sub/a.png": None}
    (problem,) = listing.problems
    assert (problem.kind, problem.count) == ("orphan", 1)
    assert_message(problem.text, f"{images}: ", "gone.xml")


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("p0.jpg", "p0.jpg"),
        ("p0", "p0.jpg"),
        ("p1.jpg", "p1.jpg.jpg"),  # the name is `p1.jpg`, the suffix follows
        ("p1.jpg.jpg", "p1.jpg.jpg"),
        ("./p0.jpg", "p0.jpg"),
        ("images/p0.jpg", "p0.jpg"),
        ("images\\sub\\q", "sub/q.jpg"),
        ("sub/q 1", "sub/q.jpg"),  # of a class's list
        ("{}/images/sub/q.jpg", "sub/q.jpg"),
        ("gone.png", "gone.png"),
        ("gone.v1", "gone.v1.jpg"),
    ],
)
def test_entries_of_split_files(tmp_path, line, file):
    images = tmp_path / "images"
    for name in ("p0.jpg", "p1.jpg.jpg", "sub/q.jpg"):
        write_image(images / name)
    split = tmp_path / "train.txt"
    split.write_text(line.format(tmp_path))

    listing = list_voc_images(images, images, split, NAMES)

    assert listing.paths == [str(images / file)]
    assert listing.label_files == [str((images / file).with_suffix(".xml"))]


def test_a_line_that_names_two_images_stops(tmp_path):
    for name in ("a.jpg", "a.png"):
        write_image(tmp_path / "images" / name)
    split = tmp_path / "train.txt"
    split.write_text("a\n")

    with pytest.raises(DatasetError) as caught:
        list_voc_images(tmp_path / "images", tmp_path, split, NAMES)
    assert_message(str(caught.value), f"{split}: ", "'a' ... a.jpg ... a.png ... suffix")


def test_an_image_named_twice_is_listed_once(tmp_path):
    write_image(tmp_path / "images" / "a.jpg")
    split = tmp_path / "train.txt"
    split.write_text("a\na.jpg\na\n")

    listing = list_voc_images(tmp_path / "images", tmp_path, split, NAMES)

    assert [image.path.name for image in listing.images] == ["a.jpg"]
    (problem,) = listing.problems
    assert (problem.kind, problem.count) == ("duplicate", 2)
    assert_message(problem.text, f"{split}: ", "2 lines ... a.jpg")
