from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.video_builders import read_video
from utils.detect.output import DetectionOutput, OutputNames
from utils.detect.output_options import OutputOptions
from utils.detect.zone_counts import FrameCounts, LineCount, ZoneCount
from utils.detect.zones import Shape
from utils.structures import NO_TRACK, Detections, Frame

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
        seconds=(index - 1) / 10 if is_video else None,
    )


def live_frame(index, position=1, path="door", *, seconds):
    """A frame of a stream that began at a billion seconds."""
    return dataclasses.replace(
        frame(path, position, index=index), source=f"rtsp://{path}", seconds=seconds,
        captured=1e9 + seconds, frame_count=None,
    )  # fmt: skip


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
        output.write(live_frame(7, 3, seconds=1.25), FOUND[:1])
        # A killed run has all of it.
        with (tmp_path / "predictions.csv").open(newline="") as file:
            head, *rows = csv.reader(file)
    names = "Image Name,Prediction,Confidence,x1,y1,x2,y2,Class ID,Frame,Source,Seconds,Time,Output"
    assert head == names.split(",")
    box = ["10.0", "20.0", "30.0", "60.0", "1"]
    assert rows == [
        ["a.jpg", NAMES[1], "0.875", *box, "1", "in/a.jpg", "", "", "a"],
        ["a.jpg", "cat", "0.5", "0.0", "0.0", "100.0", "80.0", "0", "1", "in/a.jpg", "", "", "a"],
        ["door", NAMES[1], "0.875", *box, "7", "rtsp://door", "1.25",
         "2001-09-09T01:46:41.250+00:00", "door_7"],
    ]  # fmt: skip


def json_entries(folder):
    return json.loads((folder / "predictions.json").read_text())


def test_json_is_whole_after_each_frame(tmp_path):
    box = {"box": [10, 20, 30, 60], "score": 0.875, "class_id": 1, "name": NAMES[1]}
    no_time = {"seconds": None, "time": None}
    expected = [
        {"source": "in/a.jpg", "frame": 1, **no_time, "output": "a", "image_hw": [80, 100],
         "detections": [box]},
        {"source": "in/c.mp4", "frame": 2, "seconds": 0.1, "time": None, "output": "c_2",
         "image_hw": [80, 100], "detections": []},
    ]  # fmt: skip
    options = OutputOptions(images=False, json=True, json_lines="lines.jsonl")
    with DetectionOutput(tmp_path, NAMES, options) as output:
        assert json_entries(tmp_path) == []
        output.write(frame("in/a.jpg"), FOUND[:1])
        assert json_entries(tmp_path) == expected[:1]
        output.write(frame("in/c.mp4", 2, index=2), Detections.empty())
        assert json_entries(tmp_path) == expected
        lines = (tmp_path / "lines.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == expected


def test_json_lines_on_standard_output(tmp_path, capfd):
    options = OutputOptions(images=False, json_lines="-")
    with DetectionOutput(tmp_path, NAMES, options) as output:
        output.write(frame("in/a.jpg"), FOUND)
        assert json.loads(capfd.readouterr().out)["source"] == "in/a.jpg"  # at once
    assert files(tmp_path) == []


def test_json_of_no_frames(tmp_path):
    with DetectionOutput(tmp_path, NAMES, OutputOptions(json=True)):
        pass
    assert json.loads((tmp_path / "predictions.json").read_text()) == []


def test_an_error_loses_nothing_that_was_written(tmp_path):
    options = OutputOptions(csv=True, json=True)
    with pytest.raises(RuntimeError), DetectionOutput(tmp_path, NAMES, options) as output:
        output.write(frame("c.mp4", index=1), FOUND)
        raise RuntimeError
    assert files(tmp_path) == ["c.mp4", "predictions.csv", "predictions.json"]
    assert len(json_entries(tmp_path)) == 1
    assert len(read_video(tmp_path / "c.mp4")[0]) == 1


def test_streams_are_written_side_by_side(tmp_path):
    with DetectionOutput(tmp_path, NAMES, OutputOptions()) as output:
        for step in range(6):
            for position, path in enumerate(["door", "yard"], 1):
                output.write(live_frame(step + 1, position, path, seconds=step / 10), FOUND)
    assert files(tmp_path) == ["door.mp4", "yard.mp4"]
    assert [len(read_video(tmp_path / name)[0]) for name in files(tmp_path)] == [6, 6]


def test_a_long_stream_in_several_files(tmp_path):
    with DetectionOutput(tmp_path, NAMES, OutputOptions(segment_seconds=0.5)) as output:
        for step in range(12):
            output.write(live_frame(step + 1, seconds=3 + step / 10), FOUND)
    assert files(tmp_path) == [f"door_part{number}.mp4" for number in (1, 2, 3)]
    assert [len(read_video(tmp_path / name)[0]) for name in files(tmp_path)] == [5, 5, 2]


def test_crops(tmp_path):
    with DetectionOutput(tmp_path, NAMES, OutputOptions(images=False, crops=True)) as output:
        output.write(frame("a.jpg"), FOUND[np.array([0, 1, 0])])
    cat, light = "crops/cat", "crops/traffic light_"  # no name leads out of the folder
    assert files(tmp_path) == [f"{cat}/a.jpg", f"{light}/a-2.jpg", f"{light}/a.jpg"]
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
    ([("a.avi", 1), ("a.jpg", 0), ("A.png", 0)], ["a", "a_image", "A_image_2"]),  # no frame's name
    ([("a.avi", 1), ("a_2.avi", 1), ("a_2.jpg", 0)], ["a", "a_2", "a_2_image"]),
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


TRACKED = dataclasses.replace(FOUND, track_ids=np.array([7, NO_TRACK]))


def counts(went_in, now):
    """At a line and in a zone."""
    door, room = (Shape(name, "zones.yaml", (), False) for name in ("door", "room"))
    ends = np.array([[10, 40], [90, 40]], np.float32)
    corners = np.array([[10, 10], [90, 10], [90, 30]], np.float32)
    return FrameCounts((LineCount(door, ends, went_in, 0),), (ZoneCount(room, corners, now, now),))


def test_tables_with_ids(tmp_path):
    """A column or key of its own, last; an image's rows have none."""
    options = OutputOptions(
        images=False, labels=True, label_scores=True, csv=True, json=True, tracks=True
    )
    with DetectionOutput(tmp_path, NAMES, options) as output:
        output.write(frame("v.mp4", index=1), TRACKED)
        output.write(frame("a.jpg", 2), FOUND)
    rows = (tmp_path / "labels/v_1.txt").read_text().splitlines()
    assert rows == ["1 0.2 0.5 0.2 0.5 0.875 7", "0 0.5 0.5 1 1 0.5 -1"]
    rows = (tmp_path / "labels/a.txt").read_text().splitlines()
    assert rows == ["1 0.2 0.5 0.2 0.5 0.875", "0 0.5 0.5 1 1 0.5"]
    with (tmp_path / "predictions.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["Track ID"] for row in table] == ["7", "", "", ""]
    assert list(table[0])[-2:] == ["Output", "Track ID"]
    video, image = json.loads((tmp_path / "predictions.json").read_text())
    assert [each["track_id"] for each in video["detections"]] == [7, None]
    assert all("track_id" not in each for each in image["detections"])


def test_large_ids_are_written_in_full(tmp_path):
    found = dataclasses.replace(FOUND, track_ids=np.array([12345678, 3]))
    with DetectionOutput(tmp_path, NAMES, OutputOptions(images=False, labels=True)) as output:
        output.write(frame("v.mp4", index=1), found)
    assert (tmp_path / "labels/v_1.txt").read_text().split()[5] == "12345678"


def test_counts(tmp_path):
    """In every JSON entry; in counts.csv where they change, and at the start of each video."""
    options = OutputOptions(images=False, json=True, json_lines="p.jsonl", tracks=True, counts=True)
    with DetectionOutput(tmp_path, NAMES, options) as output:
        for position in (1, 2):
            for index, (went_in, now) in enumerate([(0, 0), (0, 2), (0, 2), (1, 1)], 1):
                path = f"{position}.mp4"
                output.write(frame(path, position, index=index), TRACKED, counts(went_in, now))
        output.write(frame("a.jpg", 3), FOUND)
    entries = json.loads((tmp_path / "predictions.json").read_text())
    lines = (tmp_path / "p.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == entries
    assert entries[3]["counts"] == {
        "lines": {"door": {"in": 1, "out": 0}}, "zones": {"room": {"now": 1, "total": 1}},
    }  # fmt: skip
    assert "counts" not in entries[-1]
    with (tmp_path / "counts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["Output"], row["Kind"], row["In"], row["Now"]) for row in rows[:5]] == [
        *(("1_1", "line", "0", ""), ("1_1", "zone", "", "0"), ("1_2", "zone", "", "2")),
        *(("1_4", "line", "1", ""), ("1_4", "zone", "", "1")),
    ]
    assert [row["Output"] for row in rows[5:]] == ["2_1", "2_1", "2_2", "2_4", "2_4"]


def test_counts_of_streams_side_by_side(tmp_path):
    with DetectionOutput(tmp_path, NAMES, OutputOptions(images=False, counts=True)) as output:
        for index in (1, 2, 3):
            for position in (1, 2):
                found = live_frame(index, position, f"door{position}", seconds=index)
                output.write(found, TRACKED, counts(0, 0))
    assert len((tmp_path / "counts.csv").read_text().splitlines()) == 1 + 2 * 2


def test_counts_are_drawn_into_the_image(tmp_path):
    with DetectionOutput(tmp_path, NAMES, OutputOptions(images=False)) as output:
        plain = output.draw(frame("v.mp4", index=1), Detections.empty())
        drawn = output.draw(frame("v.mp4", index=1), Detections.empty(), counts(1, 2))
    assert (plain == 90).all() and (drawn != 90).any()
