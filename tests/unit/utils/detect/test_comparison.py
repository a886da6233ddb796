"""Boxes of two networks: pairs, statuses, classes by name, totals."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from tests.error_messages import assert_message
from utils.detect.comparison import DIFFERENCES, STATUSES, ClassMap, Comparison
from utils.detect.comparison_image import ComparisonStyle
from utils.detect.comparison_output import ComparedFiles, ComparisonOutput
from utils.errors import CheckpointError
from utils.growing_file import GrowingFile
from utils.structures import Detections

SQUARE = (100, 100, 200, 200)


def detections(*rows):
    """Of (box, score, class id)."""
    return Detections(
        np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], np.float32),
        np.array([row[2] for row in rows], np.int64),
    )


def random_detections(seed, count=40):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 500, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 150, (count, 2))], 1)
    scores = np.sort(rng.uniform(0.25, 1, count))[::-1]
    return Detections(
        boxes.astype(np.float32), scores.astype(np.float32), rng.integers(0, 3, count)
    )


def moved(found, seed):
    """The same boxes moved, little or far, some with another score or class, some of them gone."""
    rng = np.random.default_rng(seed)
    pixels = rng.choice([0.5, 12], (len(found), 1))
    boxes = found.boxes + rng.normal(0, 1, found.boxes.shape) * pixels
    scores = np.clip(found.scores + rng.normal(0, 0.04, len(found)), 0, 1)
    other_class = np.where(rng.random(len(found)) < 0.1, 1, found.class_ids)
    kept = rng.random(len(found)) < 0.8
    return Detections(boxes.astype(np.float32), scores.astype(np.float32), other_class)[kept]


def statuses(first, second):
    return [box.status for box in Comparison.of(first, second).boxes]


@pytest.mark.parametrize("seed", range(5))
def test_a_network_agrees_with_itself(seed):
    found = random_detections(seed)
    comparison = Comparison.of(found, found)
    assert [(box.first, box.second) for box in comparison.boxes] == [(n, n) for n in range(40)]
    assert {(box.status, box.differs, box.iou) for box in comparison.boxes} == {
        ("agreeing", (), 1.0)
    }


@pytest.mark.parametrize("seed", range(20))
def test_every_box_is_counted_once_and_the_other_way_round_too(seed):
    first = random_detections(seed)
    second = moved(first, seed)
    there, back = Comparison.of(first, second), Comparison.of(second, first)
    for comparison in (there, back):
        for indices, side in (
            ([box.first for box in comparison.boxes], comparison.first),
            ([box.second for box in comparison.boxes], comparison.second),
        ):
            assert sorted(each for each in indices if each is not None) == list(range(len(side)))
    as_set = {(box.first, box.second, box.differs, box.iou) for box in there.boxes}
    assert as_set == {(box.second, box.first, box.differs, box.iou) for box in back.boxes}
    assert {box.status for box in there.boxes} == set(STATUSES)  # the test has all kinds


@pytest.mark.parametrize(
    ("box", "score", "class_id", "expected"),
    [
        (SQUARE, 0.5, 0, ("agreeing", ())),
        (SQUARE, 0.55, 0, ("agreeing", ())),  # exactly the tolerance
        (SQUARE, 0.45, 0, ("agreeing", ())),
        (SQUARE, 0.5501, 0, ("differing", ("score",))),
        ((100, 100, 200, 190), 0.5, 0, ("agreeing", ())),  # IoU 0.9
        ((100, 100, 200, 189), 0.5, 0, ("differing", ("box",))),  # 0.89
        (SQUARE, 0.5, 1, ("differing", ("class",))),
        ((100, 100, 200, 151), 0.9, 1, ("differing", ("class", "box", "score"))),  # 0.51
        ((100, 100, 200, 149), 0.5, 0, ("missing", ())),  # 0.49: another object
    ],
)
def test_tolerances(box, score, class_id, expected):
    comparison = Comparison.of(detections((SQUARE, 0.5, 0)), detections((box, score, class_id)))
    found = [(box.status, box.differs) for box in comparison.boxes]
    assert found == ([expected] if expected[0] != "missing" else [expected, ("extra", ())])


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([], [], []),
        ([(SQUARE, 0.5, 0)], [], ["missing"]),
        ([], [(SQUARE, 0.5, 0)], ["extra"]),
        # of two boxes over one the closer one is its partner, whatever its score
        ([((100, 100, 200, 180), 0.9, 0), (SQUARE, 0.5, 0)], [(SQUARE, 0.5, 0)],
         ["missing", "agreeing"]),
        # two classes at one position, in either order: each has its own partner
        ([(SQUARE, 0.9, 0), (SQUARE, 0.8, 1)], [(SQUARE, 0.82, 1), (SQUARE, 0.88, 0)],
         ["agreeing", "agreeing"]),
        # the same class before a larger overlap of another one
        ([(SQUARE, 0.5, 0)], [(SQUARE, 0.5, 1), ((100, 100, 200, 195), 0.5, 0)],
         ["agreeing", "extra"]),
        # boxes clipped to a line at the image's edge
        ([((0, 10, 0, 50), 0.5, 0)], [((0, 10, 0, 50), 0.5, 0)], ["agreeing"]),
        ([((0, 10, 0, 50), 0.5, 0)], [((0, 200, 0, 240), 0.5, 0)], ["missing", "extra"]),
    ],
)  # fmt: skip
def test_partners(first, second, expected):
    assert statuses(detections(*first), detections(*second)) == expected


def test_classes_are_matched_by_name():
    classes = ClassMap.by_name(("cat", "dog", "ox"), ("ox", "cat", "dog"), ("a.pt", "b.pt"))
    found = classes.in_first(detections(*((SQUARE, 0.5, each) for each in (0, 1, 2))))
    assert found.class_ids.tolist() == [2, 0, 1]
    assert classes.in_second((0, 2)) == (1, 0)
    # names that are there twice are no obstacle where both have the same list
    same = ClassMap.by_name(("a", "a"), ("a", "a"), ("a.pt", "b.pt"))
    assert same.in_second((1,)) == (1,)


@pytest.mark.parametrize(
    ("first", "second", "parts"),
    [
        (("cat", "dog"), ("cat", "hog"), ("b.pt has no class 'dog'", "class 1 of a.pt")),
        (("cat",), ("cat", "dog"), ("a.pt has no class 'dog'", "class 1 of b.pt")),
        (("cat", "dog"), (), ("b.pt has no class 'cat'",)),
        (("Cat",), ("cat",), ("b.pt has no class 'Cat'",)),
        (("a", "b", "a"), ("a", "a", "b"), ("a.pt has two classes 'a'",)),
        (("a", "b"), ("b", "a", "a"), ("b.pt has two classes 'a'",)),
    ],
)
def test_other_class_names_are_refused(first, second, parts):
    with pytest.raises(CheckpointError) as error:
        ClassMap.by_name(first, second, ("a.pt", "b.pt"))
    assert_message(str(error.value), "--compare: ", *parts, "same class names")


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        ("runs/a.pt", "b.onnx", ("a.pt", "b.onnx")),
        ("exp/weights/best.pt", "exp2/weights/best.pt",
         ("exp/weights/best.pt", "exp2/weights/best.pt")),
        ("best.pt", "/x/best.pt", ("best.pt", "x/best.pt")),
        ("x/best.pt", "x/best.pt", ("best.pt", "best.pt")),
        ("a_openvino_model/", "b_openvino_model", ("a_openvino_model", "b_openvino_model")),
        ("runs\\1\\best.pt", "runs\\2\\best.pt", ("1/best.pt", "2/best.pt")),
    ],
)  # fmt: skip
def test_names_tell_the_files_apart(first, second, names):
    assert ComparedFiles(first, second, 0.25).names() == names


def test_totals_are_those_of_the_rows_and_go_on_after_a_cut(tmp_path, image_frame):
    path, files = tmp_path / "compare.csv", ComparedFiles("a.pt", "b.pt", 0.25)
    style = ComparisonStyle(files.names(), ("cat", 'ox, "x"\nü', "dog"))
    comparisons = [
        Comparison.of(random_detections(seed), moved(random_detections(seed), seed))
        for seed in range(4)
    ]
    with GrowingFile(path) as file:
        output = ComparisonOutput(file, files, style)
        for comparison in comparisons:
            output.write(image_frame, "name", comparison)
        whole, half = output.summary({}).as_report(), None
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
    boxes = [box for comparison in comparisons for box in comparison.boxes]
    assert [row["Status"] for row in rows] == [box.status for box in boxes]
    for status in STATUSES:
        assert whole["total"][status] == sum(box.status == status for box in boxes) > 0
        assert whole["total"][status] == sum(each[status] for each in whole["classes"])
    for name in DIFFERENCES:
        assert whole["differing_in"][name] == sum(name in box.differs for box in boxes) > 0
    assert whole["min_iou"] == min(box.iou for box in boxes if box.iou is not None)
    near = [row for row in rows if row["Differs"] == "near-threshold"]
    assert len(near) == whole["near_threshold"] > 0
    for row in rows:
        single = row["Status"] in ("missing", "extra")
        score = float(row["Confidence A"] or row["Confidence B"])
        assert (row["Differs"] == "near-threshold") == (single and score <= 0.3)
    # cut behind the second frame, and gone on with
    with GrowingFile(path) as file:
        output = ComparisonOutput(file, files, style)
        for comparison in comparisons[:2]:
            output.write(image_frame, "name", comparison)
        half = file.tell()
        output.write(image_frame, "name", comparisons[3])
    with GrowingFile(path, half) as file:
        output = ComparisonOutput(file, files, style)
        for comparison in comparisons[2:]:
            output.write(image_frame, "name", comparison)
        assert output.summary({}).as_report() == whole
