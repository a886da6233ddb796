from __future__ import annotations

import json

import numpy as np
import pytest

from data.coco_json import list_coco_images, read_categories
from data.label_rules import UnreadableLabelsError
from tests.error_messages import assert_message
from tests.unit.data.builders import write_coco
from utils.errors import DatasetError

CATEGORIES = {3: "owl", 7: "cat"}
HW = (100, 200)
IMAGES = [
    {"id": 9, "file_name": "b.jpg", "height": 100, "width": 200},
    {"id": 4, "file_name": "deep/a.jpg", "height": 100, "width": 200},
]


def annotation(**changes):
    fields = {"id": 1, "image_id": 9, "category_id": 7, "bbox": [10, 20, 30, 40], "area": 600.5}
    return {**fields, "iscrowd": 0, **changes}


def read(folder, *annotations):
    """The images, and the labels of image 9."""
    file = write_coco(folder / "i.json", IMAGES, annotations)
    listing = list_coco_images(folder, file, CATEGORIES)
    return listing.images, listing.problems, listing.images[1].read_labels(HW)


def test_categories_come_in_order_of_their_id(tmp_path):
    assert list(read_categories(write_coco(tmp_path / "i.json", [], [])).items()) == [
        (3, "owl"),
        (7, "cat"),
    ]


def test_objects_and_crowd_regions(tmp_path):
    crowd = annotation(id=2, iscrowd=1, bbox=[0, 0, 50, 60], category_id=3)
    images, strays, labels = read(tmp_path, annotation(), crowd)

    assert [(p.image_id, p.path) for p in images] == [
        (4, tmp_path / "deep" / "a.jpg"),
        (9, tmp_path / "b.jpg"),
    ]
    assert labels.targets.boxes.tolist() == [[10, 20, 40, 60]]
    assert labels.targets.class_ids.tolist() == [1]
    assert labels.areas.tolist() == [600.5]
    assert labels.crowd.boxes.tolist() == [[0, 0, 50, 60]]
    assert labels.crowd.class_ids.tolist() == [0]
    assert strays == labels.problems == ()


def test_a_image_without_annotations_is_background(tmp_path):
    images, _, _ = read(tmp_path)

    labels = images[0].read_labels(HW)

    assert len(labels.targets) == 0 and labels.has_file


def test_area_may_be_left_out(tmp_path):
    row = annotation()
    del row["area"]

    assert read(tmp_path, row)[2].areas.tolist() == [1200]


def test_the_same_box_twice_stays_as_the_evaluator_counts_both(tmp_path):
    assert len(read(tmp_path, annotation(), annotation(id=2))[2].targets) == 2


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"bbox": [10, 20, 0, 40]}, "dropped", "width is 0 ... > 0 ... row dropped"),
        (
            {"bbox": [10, 20, 30]},
            "dropped",
            "bbox is [10, 20, 30] ... [x, y, width, height] ... row dropped",
        ),
        ({"bbox": None}, "dropped", "bbox is None ... [x, y, width, height] ... row dropped"),
        (
            {"bbox": ["a", 2, 3, 4]},
            "dropped",
            "bbox is ['a', 2, 3, 4] ... [x, y, width, height] ... row dropped",
        ),
        (
            {"bbox": [float("nan"), 20, 30, 40]},
            "dropped",
            "nan 20 nan 60 ... finite ... row dropped",
        ),
        (
            {"bbox": [190, 20, 20, 40]},
            "dropped",
            "5.00% ... outside ... at most 1% ... row dropped",
        ),
        ({"bbox": "1234"}, "dropped", "bbox is '1234' ... row dropped"),
        ({"bbox": [10**400, 2, 3, 4]}, "dropped", "[x, y, width, height] ... row dropped"),
        ({"iscrowd": "yes"}, "dropped", "iscrowd is 'yes' ... 0 or 1 ... row dropped"),
        (
            {"bbox": [190, 20, 11, 40]},
            "clipped",
            "0.50% ... outside ... clipped",
        ),
    ],
)
def test_bad_annotations(tmp_path, changes, kind, message):
    labels = read(tmp_path, annotation(id=55, **changes), annotation(id=56))[2]

    (problem,) = labels.problems
    assert_message(problem.text, f"{tmp_path / 'i.json'}: annotation 55 (b.jpg): ", message)
    assert problem.kind == kind
    assert len(labels.targets) == (2 if kind == "clipped" else 1)
    np.testing.assert_array_equal(labels.targets.boxes[-1], [10, 20, 40, 60])


def test_two_decimals_may_overshoot(tmp_path):
    labels = read(tmp_path, annotation(bbox=[190.01, 60, 10.0, 40.01]))[2]

    assert labels.problems == ()
    assert labels.targets.boxes[0, 2:].tolist() == [200, 100]


def test_annotations_of_unknown_images_are_reported(tmp_path):
    strays = read(tmp_path, annotation(id=5, image_id=77))[1]

    assert [stray.text for stray in strays] == [
        f"{tmp_path / 'i.json'}: annotation 5: image_id is 77, must be one of 'images'; row dropped"
    ]


def test_a_image_of_another_size_is_left_out(tmp_path):
    images, _, _ = read(tmp_path)

    with pytest.raises(UnreadableLabelsError) as caught:
        images[1].read_labels((200, 100))

    assert_message(
        str(caught.value),
        f"{tmp_path / 'i.json'}: image 9 (b.jpg): ",
        "200x100 ... 100x200 ... image skipped",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("{", "cannot be read as json: "),
        ("[]", "must have a list of objects under 'images' (COCO instances)"),
        (
            {"images": [], "annotations": [], "categories": [3]},
            "must have a list of objects under 'categories' (COCO instances)",
        ),
        (
            {"images": [], "annotations": [], "categories": []},
            "'categories' is empty, must name the classes",
        ),
        (
            {"images": [], "annotations": [], "categories": [{"id": "one", "name": "a"}]},
            "category {'id': 'one', 'name': 'a'} must have an integer 'id' and a text 'name'",
        ),
        (
            {
                "images": [],
                "annotations": [],
                "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}],
            },
            "category id 1 is given twice, as 'a' and as 'b'",
        ),
    ],
)
def test_files_that_are_no_coco_json(tmp_path, content, message):
    file = tmp_path / "i.json"
    if content is not None:
        file.write_text(content if isinstance(content, str) else json.dumps(content))

    with pytest.raises(DatasetError) as caught:
        read_categories(file)

    assert str(caught.value).startswith(f"{file}: {message}")


def test_an_unknown_category_is_one_problem(tmp_path):
    _, problems, labels = read(
        tmp_path, annotation(category_id=8), annotation(id=2, category_id=8), annotation(id=3)
    )

    (problem,) = problems
    assert (problem.kind, problem.count, len(labels.targets)) == ("unknown_class", 2, 1)
    assert_message(
        problem.text,
        f"{tmp_path / 'i.json'}: annotation 1 and 1 more: ",
        "category_id is 8 ... 3, 7 ... owl, cat ... fix the label",
    )


def test_an_id_that_means_another_class_here_stops(tmp_path):
    file = write_coco(tmp_path / "i.json", [], [])

    with pytest.raises(DatasetError) as caught:
        list_coco_images(tmp_path, file, {3: "cat", 7: "owl"})

    assert_message(str(caught.value), f"{file}: ", "category 3 is 'owl' ... 'cat' ... agree")


def test_a_category_that_is_renamed_between_files_stops(tmp_path):
    file = write_coco(tmp_path / "i.json", [], [])

    with pytest.raises(DatasetError) as caught:
        list_coco_images(tmp_path, file, {3: "owl", 7: "dog"})
    assert_message(str(caught.value), f"{file}: ", "category 7 is 'cat' ... 'dog' ... agree")
    # blanks and capitals are no other name; a class that only one file has is fine
    assert list_coco_images(tmp_path, file, {3: " Owl", 7: "CAT", 9: "dog"}).images == ()


def test_an_image_without_a_name_stops(tmp_path):
    file = write_coco(tmp_path / "i.json", [{"id": 4}], [])

    with pytest.raises(DatasetError) as caught:
        list_coco_images(tmp_path, file, CATEGORIES)

    assert_message(str(caught.value), f"{file}: ", "{'id': 4} ... 'file_name'")


def test_long_lists_of_categories_are_shortened(tmp_path):
    file = write_coco(tmp_path / "i.json", IMAGES, [annotation(category_id=999)])
    many = {number: f"class {number}" for number in range(20, 50)}

    (problem,) = list_coco_images(tmp_path, file, many).problems
    assert_message(problem.text, f"{file}: ", "20, 21, ... 28, ..., 49 ... fix")


def test_categories_are_recognised_by_their_names(tmp_path):
    file = write_coco(tmp_path / "i.json", IMAGES, [annotation()])

    images = list_coco_images(tmp_path, file, ("dog", "cat", "owl")).images

    assert images[1].read_labels(HW).targets.class_ids.tolist() == [1]
    (problem,) = list_coco_images(tmp_path, file, ("dog", "owl")).problems
    assert_message(problem.text, f"{file}: ", "category_id is 7 ('cat') ... owl ... names")


@pytest.mark.parametrize(
    ("segmentation", "parts"),
    [
        ([[10, 20, 40, 20, 40, 60], [1, 2, 3, 4, 5, 6]], 2),  # an object in two parts
        ([[10, 20, 40, 20]], 0),  # two corners are no polygon
        ([[10, 20, 40, 20, 40, 60, 7]], 0),  # an x without its y
        ({"counts": [1, 2], "size": [100, 200]}, 0),  # a run-length mask
        (None, 0),
        ([["a", "b"]], 0),
        ([[10, 20, 40, 20, 40, 10**400]], 0),
        ([[10, 20, 40, 20, 40, float("nan")]], 0),
    ],
)
def test_outlines_of_objects(tmp_path, segmentation, parts):
    _, _, labels = read(tmp_path, annotation(segmentation=segmentation))

    (outline,) = labels.outlines
    assert len(outline) == parts
    if parts:
        assert outline[0].tolist() == [[10, 20], [40, 20], [40, 60]]
