"""What is repaired in a COCO json, what is refused, and what is said about it."""

from __future__ import annotations

import json

import pytest

from data.coco_file import to_flag, to_integer, to_positive
from data.coco_json import list_coco_images, read_categories
from tests.error_messages import assert_message
from tests.unit.data.builders import write_image
from utils.errors import DatasetError

HW = (48, 64)
CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
CLASSES = {1: "cat", 2: "dog"}
A, B = {"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}


def row(**changes):
    return {"id": 5, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 20], **changes}


def listing(folder, images, rows, categories=CATEGORIES, classes=CLASSES):
    content = {"images": images, "annotations": rows, "categories": categories}
    (folder / "i.json").write_text(json.dumps(content))
    return list_coco_images(folder, folder / "i.json", classes)


def counts(found):
    return [(problem.kind, problem.count) for problem in found.problems]


@pytest.mark.parametrize(
    ("images", "rows", "categories"),
    [
        # ids as text or as floats, wherever they are
        ([{**A, "id": "1"}], [row()], CATEGORIES),
        ([{**A, "id": 1.0}], [row()], CATEGORIES),
        ([A], [row(image_id="1")], CATEGORIES),
        ([A], [row()], [{"id": "1", "name": "cat"}, CATEGORIES[1]]),
        # the same twice
        ([A, A], [row()], CATEGORIES),
        ([A], [row()], [*CATEGORIES, CATEGORIES[0]]),
        # one file under two ids, of which one has the annotations, or both have the same
        ([A, {**A, "id": 7}], [row()], CATEGORIES),
        ([{**A, "id": 0}, A], [row()], CATEGORIES),
        ([A, {**A, "id": 7, "file_name": "./a.png"}], [row(), row(image_id=7)], CATEGORIES),
        # sizes and areas that are no numbers
        ([{**A, "width": None, "height": None}], [row()], CATEGORIES),
        ([{**A, "width": 0, "height": 0}], [row()], CATEGORIES),
        ([{**A, "width": "64", "height": "48"}], [row()], CATEGORIES),
        ([{**A, "width": "?"}], [row()], CATEGORIES),
        ([A], [row(area=None)], CATEGORIES),
        ([A], [row(area=0)], CATEGORIES),
        ([A], [row(area="200")], CATEGORIES),
        ([A], [row(area="large")], CATEGORIES),
        ([A], [row(iscrowd="0")], CATEGORIES),
    ],
)
def test_what_has_one_meaning_is_repaired_and_counted(tmp_path, images, rows, categories):
    found = listing(tmp_path, images, rows, categories)

    assert counts(found) == [("repaired", 1)]
    assert_message(found.problems[0].text, f"{tmp_path / 'i.json'}: 1 ", "the first: ")
    (image,) = found.images
    assert (image.image_id, image.path) == (1, tmp_path / "a.png")
    labels = image.read_labels(HW)
    assert labels.targets.boxes.tolist() == [[1, 2, 11, 22]]
    assert labels.targets.class_ids.tolist() == [0]
    assert labels.areas.tolist() == [200]
    assert labels.problems == ()


def test_repairs_of_one_kind_are_one_line(tmp_path):
    rows = [row(id=number, area=None, bbox=[number, 2, 10, 20]) for number in range(7)]
    found = listing(tmp_path, [A, B], rows)

    assert counts(found) == [("repaired", 7)]
    assert len(found.images[0].read_labels(HW).targets) == 7


@pytest.mark.parametrize(
    ("images", "rows", "message"),
    [
        ([A, {**B, "id": 1}], [], "image id 1 ... a.png ... b.png"),
        ([A, {**B, "id": "1"}], [], "image id 1 ... a.png ... b.png"),
        ([A, {**A, "id": 2}], [row(), row(image_id=2, category_id=2)], "a.png ... ids 1, 2"),
        ([{**A, "id": 9.5}], [], "9.5 ... integer 'id'"),
        ([{**A, "id": True}], [], "True ... integer 'id'"),
        ([{**A, "id": 1e17}], [], "integer 'id'"),  # which of 16 integers?
        ([{**A, "file_name": "a\0b.png"}], [], "'file_name'"),
        ([{**A, "file_name": "\ud800.png"}], [], "'file_name'"),
        ([{**A, "file_name": ""}], [], "'file_name'"),
    ],
)
def test_what_has_two_meanings_is_refused(tmp_path, images, rows, message):
    with pytest.raises(DatasetError) as caught:
        listing(tmp_path, images, rows)

    assert_message(str(caught.value), f"{tmp_path / 'i.json'}: ", message)


def test_backslashes_are_folders_unless_a_file_is_called_so(tmp_path):
    write_image(tmp_path / "odd\\name.png")
    names = ["train\\sub\\a.png", "odd\\name.png"]
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]

    found = listing(tmp_path, images, [])

    assert [image.path for image in found.images] == [
        tmp_path / "train" / "sub" / "a.png",
        tmp_path / "odd\\name.png",
    ]
    assert counts(found) == [("repaired", 1)]


@pytest.mark.parametrize("image_id", [2**53, 2**53 + 1, 2**64 + 1, 10**30])
def test_ids_of_any_size_stay_exact(tmp_path, image_id):
    images = [{**A, "id": image_id}, {**B, "id": image_id + 1}]
    rows = [row(image_id=image_id), row(image_id=str(image_id + 1), category_id=2)]

    found = listing(tmp_path, images, rows)

    assert [image.image_id for image in found.images] == [image_id, image_id + 1]
    ids = [image.read_labels(HW).targets.class_ids.tolist() for image in found.images]
    assert ids == [[0], [1]]


@pytest.mark.parametrize(("share", "noted"), [(1, False), (2, True), (3, True)])
def test_masks_written_as_crowd_regions_are_noted(tmp_path, share, noted):
    rows = [row(id=number, iscrowd=int(number < share)) for number in range(3)]

    found = listing(tmp_path, [A], rows)

    assert counts(found) == ([("noted", share)] if noted else [])
    assert all("CVAT" in problem.text for problem in found.problems)
    assert len(found.images[0].read_labels(HW).crowd) == share


ROOT = {"id": 0, "name": "pets", "supercategory": "none"}
GROUPED = [{**category, "supercategory": "pets"} for category in CATEGORIES]


@pytest.mark.parametrize(
    ("categories", "rows", "names", "expected"),
    [
        ([ROOT, *GROUPED], [row()], (), CLASSES),
        # of the same name as a class, as Roboflow writes it for sets of one class
        ([{**ROOT, "name": "cat"}, {**CATEGORIES[0], "supercategory": "cat"}], [], (), {1: "cat"}),
        # used, wanted, or not the group of all
        ([ROOT, *GROUPED], [row(category_id=0)], (), {0: "pets", **CLASSES}),
        ([ROOT, *GROUPED], [], ("pets", "cat", "dog"), {0: "pets", **CLASSES}),
        ([ROOT, GROUPED[0], CATEGORIES[1]], [], (), {0: "pets", **CLASSES}),
        ([ROOT], [], (), {0: "pets"}),
    ],
)
def test_the_category_that_only_groups_others_is_no_class(
    tmp_path, categories, rows, names, expected
):
    found = listing(tmp_path, [A], rows, categories, expected)

    assert read_categories(tmp_path / "i.json", names) == expected
    assert counts(found) == ([] if 0 in expected else [("noted", 1)])


def test_two_categories_of_one_name_are_refused_unless_named(tmp_path):
    twice = [CATEGORIES[0], {"id": 2, "name": "cat"}]
    listing(tmp_path, [], [], twice, {1: "cat", 2: "cat"})
    file = tmp_path / "i.json"

    with pytest.raises(DatasetError) as caught:
        read_categories(file)
    assert_message(str(caught.value), f"{file}: ", "1 and 2 ... 'cat' ... names")
    assert list(read_categories(file, ("tom cat", "cat"))) == [1, 2]


@pytest.mark.parametrize(
    ("value", "integer", "positive", "flag"),
    [
        (1, 1, 1, True),
        (0, 0, None, False),
        ("0", 0, None, False),
        ("1", 1, 1, True),
        ("007", 7, 7, None),
        (True, None, None, True),
        (1.0, 1, 1, True),
        (2.5, None, 2.5, None),
        (float("nan"), None, None, None),
        (float("inf"), None, None, None),
        (2.0**53, None, 2.0**53, None),
        (10**400, 10**400, None, None),
        ("1e3", None, 1000, None),
        ("x", None, None, None),
        ([], None, None, None),
        (None, None, None, False),
    ],
)
def test_values_of_a_json(value, integer, positive, flag):
    assert to_integer(value) == integer
    assert to_positive(value) == positive
    assert to_flag(value) is flag
