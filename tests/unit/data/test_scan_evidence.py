"""A change of anything that a listing depends on is seen by the next run."""

from __future__ import annotations

import json

import pytest

from data import file_states, records
from tests.unit.data.builders import write_coco, write_image, write_yaml, write_yolo_set
from tests.unit.data.scanned_sets import GOOD, XML, scanned

FACE = "0 .5 .5 .2 .3 .45 .4 .55 .4 .5 .5 .46 .6 .54 .6\n" * 12  # with five landmarks
NAMES = "names: [cat, dog, owl]\n"


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # What tests write has just been changed.
    monkeypatch.setattr(file_states, "SETTLED_NS", -(10**18))
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def folder(own_folder):
    return own_folder


def yolo(folder, **texts):
    return write_yolo_set(folder, {"a": GOOD, "b": GOOD, **texts})


def listed(folder, *lines):
    """Images named by lists/train.txt."""
    yolo(folder)
    (folder / "lists").mkdir()
    (folder / "lists" / "train.txt").write_text("".join(f"{line}\n" for line in lines))
    return write_yaml(folder, f"train: lists/train.txt\nval: images\n{NAMES}")


def coco(folder, name="a.png"):
    write_image(folder / "deep" / "a.png")
    write_image(folder / "b.png")
    images = [{"id": 1, "file_name": name}, {"id": 2, "file_name": "b.png"}]
    rows = [{"id": 1, "image_id": 2, "category_id": 7, "bbox": [1, 2, 10, 20]}]
    split = "{images: ., annotations: i.json}"
    write_coco(folder / "i.json", images, rows)
    return write_yaml(folder, f"train: {split}\nval: {split}\n")


def voc(folder, split=""):
    write_image(folder / "images" / "a.png")
    write_image(folder / "images" / "deep" / "b.png")
    (folder / "xml").mkdir()
    (folder / "xml" / "a.xml").write_text(XML.format("dog", 9))
    (folder / "all.txt").write_text("a\ndeep/b\n")
    source = f"{{images: images, annotations: xml{split}}}"
    return write_yaml(folder, f"train: {source}\nval: {source}\n{NAMES}")


def with_classes_file(folder):
    yaml = yolo(folder)
    (folder / "labels" / "classes.txt").write_text("cat\n")
    return yaml


def with_broken_link(folder):
    yaml = voc(folder)
    (folder / "images" / "c.png").symlink_to(folder / "target.png")
    return yaml


def with_linked_folder(folder):
    yaml = yolo(folder)
    write_image(folder / "one" / "images" / "c.png")
    write_image(folder / "other" / "images" / "c.png", (30, 40))
    (folder / "images" / "link").symlink_to(folder / "one" / "images")
    return yaml


def relink(folder):
    (folder / "images" / "link").unlink()
    (folder / "images" / "link").symlink_to(folder / "other" / "images")


def other_json(folder):
    content = json.loads((folder / "i.json").read_text())
    content["annotations"][0]["bbox"] = [5, 5, 9, 9]
    (folder / "i.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("write", "change"),
    [
        # an image, a label file, and one that belongs to no image
        (yolo, lambda at: write_image(at / "images" / "deep" / "c.png")),
        (yolo, lambda at: (at / "labels" / "b.txt").unlink()),
        (yolo, lambda at: (at / "labels" / "c.txt").write_text(GOOD)),
        (with_classes_file, lambda at: (at / "labels" / "classes.txt").write_text(GOOD)),
        (with_linked_folder, relink),
        # one file decides how all are read
        (
            lambda at: yolo(at, c=FACE, d=FACE),
            lambda at: (at / "labels" / "c.txt").write_text("0 .1 .1 .5 .1 .5 .5\n" * 30),
        ),
        (
            lambda at: listed(at, "../images/a.png"),
            lambda at: (at / "lists" / "train.txt").write_text("../images/b.png\n"),
        ),
        # where a list's relative paths start
        (lambda at: listed(at, "images/b.png"), lambda at: write_image(at / "lists/images/b.png")),
        (
            lambda at: listed(at, "new/a.png", at / "images" / "a.png"),
            lambda at: write_image(at / "new" / "a.png"),
        ),
        (coco, other_json),
        (lambda at: coco(at, "deep\\a.png"), lambda at: write_image(at / "deep\\a.png", (30, 40))),
        (voc, lambda at: (at / "xml" / "b.xml").write_text(XML.format("cat", 8))),
        (voc, lambda at: write_image(at / "images" / "deep" / "c.png")),
        (
            lambda at: voc(at, ", split: all.txt"),
            lambda at: (at / "all.txt").write_text("a\n"),
        ),
        (with_broken_link, lambda at: write_image(at / "target.png")),
    ],
)
def test_a_change_is_seen(write, change, folder):
    yaml = write(folder)
    before = scanned(yaml)
    assert scanned(yaml) == before
    change(folder)
    after = scanned(yaml)
    assert after == scanned(yaml, indexed=False)
    assert after != before


def test_a_change_while_files_are_listed_is_seen(folder, monkeypatch):
    yaml = yolo(folder, c=FACE)
    list_split = records.list_split

    def late_change(*args, **kwargs):
        listing = list_split(*args, **kwargs)
        (folder / "labels" / "c.txt").write_text(GOOD)
        return listing

    monkeypatch.setattr(records, "list_split", late_change)
    scanned(yaml)
    monkeypatch.setattr(records, "list_split", list_split)
    assert scanned(yaml) == scanned(yaml, indexed=False)
