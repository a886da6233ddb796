from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from utils.detect.output import DetectionOutput, OutputNames, OutputOptions
from utils.structures import Detections, Frame

NAMES = ("cat", "traffic light/..")
FOUND = Detections(
    boxes=np.array([[10, 20, 30, 60], [0, 0, 100, 80]], np.float32),
    scores=np.array([0.875, 0.5], np.float32),
    class_ids=np.array([1, 0]),
)


def frame(path, position=1, *, index=None, image_hw=(80, 100)):
    """An image, or with `index` a frame of a video."""
    is_video = index is not None
    return Frame(
        image=np.full((*image_hw, 3), 90, np.uint8),
        source=str(path),
        path=Path(path),
        position=position,
        num_positions=9,
        frame_index=index or 1,
        frame_count=3 if is_video else 1,
        fps=10.0 if is_video else None,
        is_video=is_video,
    )


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        # centre and size
        ({}, ["1 0.2 0.5 0.2 0.5", "0 0.5 0.5 1 1"]),
        # the score last
        ({"label_scores": True}, ["1 0.2 0.5 0.2 0.5 0.875", "0 0.5 0.5 1 1 0.5"]),
        # corners
        ({"label_corners": True}, ["1 0.1 0.25 0.3 0.75", "0 0 0 1 1"]),
    ],
)
def test_labels(tmp_path, options, rows):
    with DetectionOutput(
        tmp_path, NAMES, OutputOptions(images=False, labels=True, **options)
    ) as output:
        output.write(frame("in/a.jpg"), FOUND)
        output.write(frame("in/b.jpg", 2), Detections.empty())
        output.write(frame("in/c.mp4", 3, index=7), FOUND)
    assert (tmp_path / "labels/a.txt").read_text().splitlines() == rows
    assert files(tmp_path) == ["labels/a.txt", "labels/c_7.txt"]  # b has nothing in it


def test_a_second_run_leaves_no_label_of_the_first(tmp_path):
    options = OutputOptions(images=False, labels=True)
    for found in (FOUND, Detections.empty()):
        with DetectionOutput(tmp_path, NAMES, options) as output:
            output.write(frame("a.jpg"), found)
    assert files(tmp_path) == []


def test_csv(tmp_path):
    with DetectionOutput(tmp_path, NAMES, OutputOptions(images=False, csv=True)) as output:
        output.write(frame("in/a.jpg"), FOUND)
        output.write(frame("in/b.jpg", 2), Detections.empty())
        assert not (tmp_path / "predictions.csv").exists()  # appears when complete
    with (tmp_path / "predictions.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    names = "Image Name,Prediction,Confidence,x1,y1,x2,y2,Class ID,Frame,Source"
    assert head == names.split(",")
    assert rows == [
        ["a.jpg", NAMES[1], "0.875", "10.0", "20.0", "30.0", "60.0", "1", "1", "in/a.jpg"],
        ["a.jpg", "cat", "0.5", "0.0", "0.0", "100.0", "80.0", "0", "1", "in/a.jpg"],
    ]


def test_json(tmp_path):
    with DetectionOutput(tmp_path, NAMES, OutputOptions(images=False, json=True)) as output:
        output.write(frame("in/a.jpg"), FOUND[:1])
        output.write(frame("in/c.mp4", 2, index=2), Detections.empty())
    content = json.loads((tmp_path / "predictions.json").read_text())
    box = {"box": [10, 20, 30, 60], "score": 0.875, "class_id": 1, "name": NAMES[1]}
    assert content == [
        {"source": "in/a.jpg", "frame": 1, "image_hw": [80, 100], "detections": [box]},
        {"source": "in/c.mp4", "frame": 2, "image_hw": [80, 100], "detections": []},
    ]


def test_json_of_no_frames(tmp_path):
    with DetectionOutput(tmp_path, NAMES, OutputOptions(json=True)):
        pass
    assert json.loads((tmp_path / "predictions.json").read_text()) == []


def test_an_error_leaves_no_half_table_or_video(tmp_path):
    options = OutputOptions(csv=True, json=True)
    with pytest.raises(RuntimeError), DetectionOutput(tmp_path, NAMES, options) as output:
        output.write(frame("c.mp4", index=1), FOUND)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_crops(tmp_path):
    with DetectionOutput(tmp_path, NAMES, OutputOptions(images=False, crops=True)) as output:
        output.write(frame("a.jpg"), FOUND)
        output.write(frame("a.jpg"), FOUND[:1])
    cat, light = "crops/cat", "crops/traffic light_"  # no name leads out of the folder
    assert files(tmp_path) == [f"{cat}/a.jpg", f"{light}/a.jpg", f"{light}/a_2.jpg"]
    # 20 x 40 box, 2 % larger plus 10 px, from (4.8, 14.6) to (35.2, 65.4)
    assert cv2.imread(str(tmp_path / light / "a.jpg")).shape == (51, 31, 3)
    assert cv2.imread(str(tmp_path / cat / "a.jpg")).shape == (80, 100, 3)  # cut at the edges


def test_crops_of_nothing(tmp_path):
    with DetectionOutput(tmp_path, NAMES, OutputOptions(images=False, crops=True)) as output:
        output.write(frame("a.jpg"), Detections.empty())
    assert files(tmp_path) == []


def test_images_keep_their_names(tmp_path):
    with DetectionOutput(tmp_path, NAMES, OutputOptions()) as output:
        for position, name in enumerate(["x/a.png", "y/a.png", "b.JPG", "c.mpo"], 1):
            output.write(frame(name, position), FOUND)
    assert files(tmp_path) == ["a.png", "a_2.png", "b.JPG", "c.jpg"]
    drawn = cv2.imread(str(tmp_path / "a.png"))
    assert drawn.shape == (80, 100, 3) and (drawn != 90).any()


NAME_CASES = [
    # (path, is a video) of each source file -> names
    ([("a.jpg", 0), ("b.jpg", 0)], ["a", "b"]),  # nothing to do
    ([("x/a.jpg", 0), ("y/a.jpg", 0), ("z/a.jpg", 0)], ["a", "a_2", "a_3"]),  # other folders
    ([("a.jpg", 0), ("a.png", 0)], ["a", "a_2"]),  # labels have no suffix of their own
    ([("a.jpg", 0), ("A.jpg", 0)], ["a", "A_2"]),  # some file systems take them for the same
    ([("a.jpg", 0), ("a.mp4", 1)], ["a", "a_2"]),  # an image and a video
    ([("a.mp4", 1), ("a_7.jpg", 0)], ["a", "a_7_2"]),  # a_7 is the video's seventh frame
    ([("a_7.jpg", 0), ("a.mp4", 1)], ["a_7", "a_2"]),  # the same the other way round
    ([("x/a.jpg", 0), ("a_2.jpg", 0), ("y/a.jpg", 0)], ["a", "a_2", "a_3"]),  # a real a_2
]


@pytest.mark.parametrize(("sources", "expected"), NAME_CASES)
def test_names(sources, expected):
    names = OutputNames()
    found = [
        names.of(frame(path, position, index=1 if is_video else None))
        for position, (path, is_video) in enumerate(sources, 1)
    ]
    assert found == expected
    assert names.of(frame(sources[0][0])) == expected[0]  # asked again: the same
