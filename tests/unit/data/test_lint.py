"""What the check of a data set finds, counts and says."""

from __future__ import annotations

import json
import shutil

import pytest

from data.dataset_spec import load_dataset_spec
from data.lint import __main__ as lint
from data.records import scan_split
from data.training_images import box_sizes
from tests.unit.data.builders import write_image
from utils.strict_yaml import write_yaml

GOOD = "0 0.5 0.5 0.25 0.5\n1 0.25 0.25 0.1 0.1\n"


def label(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def data(tmp_path):
    """Two training images and one for validation, all good."""
    for number, split in enumerate(("train", "train", "val")):
        write_image(tmp_path / "images" / split / f"{number}.png", (64, 80), number)
        label(tmp_path / "labels" / split / f"{number}.txt", GOOD)
    yaml = tmp_path / "data.yaml"
    write_yaml(yaml, {"path": str(tmp_path), "train": "images/train", "val": "images/val",
                      "names": ["cat", "dog"]})  # fmt: skip
    return yaml


def check(data, *arguments) -> tuple[int, dict]:
    report = data.parent / "report.json"
    code = lint.main([str(data), "--imgsz", "160", "--report", str(report), *arguments])
    return code, json.loads(report.read_text())


def test_nothing_wrong(data, capsys):
    code, report = check(data, "--strict")
    assert (code, report["findings"]) == (0, [])
    assert report["classes"] == {"cat": {"train": 2, "val": 1}, "dog": {"train": 2, "val": 1}}
    assert report["splits"]["train"] == {
        "pictures": 2, "objects": 4, "crowd_regions": 0, "backgrounds": 0, "without_label_file": 0,
        "unreadable": 0, "unknown_class": 0, "dropped": 0, "clipped": 0, "duplicate": 0,
        "repaired": 0, "orphan": 0,
    }  # fmt: skip
    # at 160 px the boxes are 40 x 64 and 16 x 12.8
    assert report["box_sizes"]["longer_side"] == {
        "below 3 px": 0, "3-8 px": 0, "8-32 px": 2, "32-96 px": 2, "above 96 px": 0,
    }  # fmt: skip
    assert report["box_sizes"]["fit"]["best_possible_recall"] == 1
    assert "No problem found." in capsys.readouterr().out


# what is spoilt, and what the finding says after the file
SPOILT = [
    ("labels/train/0.txt", "0 0.5 0.5 0 0.5\n", ":1: "),
    ("labels/val/2.txt", "0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n", ":2: "),
    ("labels/train/1.txt", "x\n", ":1: "),
    ("labels/train/0.txt", "7 0.5 0.5 0.2 0.2\n", ":1: "),  # a class beyond the names
    ("images/train/1.png", "no image", ": "),
]


@pytest.mark.parametrize(("name", "content", "line"), SPOILT)
def test_findings_name_file_and_line(data, capsys, name, content, line):
    path = data.parent / name
    path.write_text(content)
    code, report = check(data)
    assert code == 0 and len(report["findings"]) == 1
    assert report["findings"][0].startswith(f"{path}{line}")
    assert check(data, "--strict")[0] == 2
    assert f"error: 1 finding (--strict); the first: {path}" in capsys.readouterr().err


def test_the_same_image_in_both_splits(data):
    first, copy = (data.parent / "images" / name for name in ("train/0.png", "val/copy.png"))
    shutil.copy(first, copy)
    _, report = check(data)
    assert report["findings"] == [f"{copy} (val): the same image as {first} (train)"]


def test_a_split_without_labels_is_an_error(data, capsys):
    (data.parent / "labels/val/2.txt").unlink()
    code, report = check(data)
    assert code == 2
    (error,) = report["errors"]
    assert str(data.parent / "labels/val/2.txt") in error
    assert f"error: {error}" in capsys.readouterr().err


def test_an_empty_folder_is_an_error(data, capsys):
    (data.parent / "images/train/0.png").unlink()
    (data.parent / "images/train/1.png").unlink()
    assert check(data)[0] == 2
    assert "error: data: no usable image in train" in capsys.readouterr().err


def test_notes_are_no_findings(data):
    faces = "0 .5 .5 .2 .2 .45 .45 .55 .45 .5 .5 .46 .55 .54 .55\n"
    (data.parent / "labels/train/0.txt").write_text(faces)
    code, report = check(data, "--strict")
    assert (code, report["findings"], len(report["notes"])) == (0, [], 1)
    assert "15 columns" in report["notes"][0]


def test_splits_that_share_their_images(data):
    content = data.read_text().replace("images/val", "images/train")
    data.write_text(content)
    _, report = check(data)
    assert report["findings"] == [
        "2 images listed by both train and val: AP on val says nothing about new images"
    ]


def test_nothing_in_the_folder_changes(data):
    def state():
        return {p: p.stat().st_mtime_ns for p in data.parent.rglob("*") if p.name != "report.json"}

    write_image(data.parent / "images" / "train" / "new.png", (64, 80), 9)
    before = state()
    before.pop(data.parent, None)
    check(data)
    after = state()
    after.pop(data.parent, None)
    assert after == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cfg", "gone.yaml"], "gone.yaml"),
        (["--imgsz", "x"], "--imgsz"),
    ],
)
def test_wrong_flags(data, capsys, arguments, message):
    try:
        code = lint.main([str(data), *arguments])
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_sizes_follow_the_longer_side_of_the_image(data):
    records = scan_split(load_dataset_spec(data), "train").records
    assert box_sizes(records, 160)[0].tolist() == pytest.approx([40, 64])
    assert box_sizes([], 160).shape == (0, 2)
