"""Images of folders and lists: links, suffixes, and names that are no UTF-8."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from data.dataset_spec import load_dataset_spec
from data.file_suffixes import IMAGE_SUFFIXES, UNREADABLE_SUFFIXES
from data.listing import list_images, read_lines
from data.records import read_records, scan_split
from tests.error_messages import assert_message
from tests.unit.data.builders import write_image, write_yolo_set
from utils.errors import DatasetError

GOOD = "0 0.5 0.5 0.5 0.5\n"


def test_every_suffix_of_an_image_is_listed_and_no_other(tmp_path):
    suffixes = sorted(IMAGE_SUFFIXES | UNREADABLE_SUFFIXES)
    for suffix in (*suffixes, ".JPE", ".txt", ".xml", ".cache"):
        (tmp_path / f"a{suffix}").touch()
    (tmp_path / ".a.jpg").touch()

    found = list_images(tmp_path)

    assert sorted(Path(path).suffix for path in found) == sorted([*suffixes, ".JPE"])


def test_a_link_to_its_own_folder_is_listed_once(tmp_path):
    images = tmp_path / "images"
    write_image(images / "deep" / "a.png")
    write_image(images / "b.png")
    (images / "again").symlink_to(images)
    (images / "deep" / "up").symlink_to(tmp_path)

    assert sorted(list_images(images)) == [str(images / "b.png"), str(images / "deep" / "a.png")]


def test_links_that_lead_to_each_other_are_listed_once(tmp_path):
    for name in ("one", "two"):
        write_image(tmp_path / name / f"{name}.png")
    (tmp_path / "one" / "x").symlink_to(tmp_path / "two")
    (tmp_path / "two" / "x").symlink_to(tmp_path / "one")

    found = sorted(list_images(tmp_path))

    assert found == [str(tmp_path / "one" / "one.png"), str(tmp_path / "two" / "two.png")]


def test_a_link_out_of_the_folder_is_followed(tmp_path):
    write_image(tmp_path / "far" / "a.png")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "link").symlink_to(tmp_path / "far")

    assert list_images(tmp_path / "images") == [str(tmp_path / "images" / "link" / "a.png")]


def test_lists_keep_names_that_are_no_utf_8(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfcaf\xe9.jpg\r\n\n  \xe5\x9b\xbe.jpg \n")

    lines = read_lines(tmp_path / "list.txt")

    assert [os.fsencode(line) for line in lines] == [b"caf\xe9.jpg", b"\xe5\x9b\xbe.jpg"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_lists_of_powershell(tmp_path, encoding):
    file = tmp_path / "list.txt"
    file.write_bytes("图.jpg\r\nb.jpg\r\n".encode(encoding))

    if encoding == "utf-16":  # with a byte order mark
        assert read_lines(file) == ["图.jpg", "b.jpg"]
    else:
        with pytest.raises(DatasetError) as caught:
            read_lines(file)
        assert_message(str(caught.value), f"{file}: ", "null characters")


@pytest.mark.parametrize("start", ["", ".\\", "{folder}\\"])
def test_lists_written_on_windows(tmp_path, start):
    write_image(tmp_path / "images" / "a.png")
    line = start.format(folder=tmp_path) + "images\\a.png"
    (tmp_path / "LIST.TXT").write_text(f"{line}\r\n", encoding="utf-8")

    (found,) = list_images(tmp_path / "LIST.TXT")

    assert Path(found) == tmp_path / "images" / "a.png"


def test_backslashes_may_be_part_of_a_name(tmp_path):
    write_image(tmp_path / "a\\b.png")
    (tmp_path / "list.txt").write_text("a\\b.png\nc\\d.png\n", encoding="utf-8")

    found = list_images(tmp_path / "list.txt")

    assert found == [str(tmp_path / "a\\b.png"), str(tmp_path / "c\\d.png")]


def test_images_listed_twice_and_copies_are_said(tmp_path, caplog):
    file = write_yolo_set(tmp_path, {"a": GOOD, "b": GOOD, "c": GOOD})
    images = tmp_path / "images"
    (images / "c.png").write_bytes((images / "b.png").read_bytes())
    names = "".join(f"images/{name}.png\n" for name in "abac")
    (tmp_path / "list.txt").write_text(names)
    file.write_text(file.read_text().replace("train: images", "train: list.txt"))

    twice = scan_split(load_dataset_spec(file), "train")
    copied = scan_split(load_dataset_spec(file), "val")
    with caplog.at_level(logging.WARNING):
        read_records(load_dataset_spec(file), "val", strict=True)  # no mistake for sure

    assert len(twice.records) == 4
    assert [problem.text for problem in twice.problems] == [
        f"1 image listed more than once and counted as often: {images / 'a.png'}",
        f"1 image with the content of another one: {images / 'c.png'} = {images / 'b.png'}",
    ]
    assert copied.problems == twice.problems[1:]
    assert {problem.kind for problem in twice.problems} == {"noted"}
    assert caplog.messages == [f"  {copied.problems[0].text}"]


def test_a_folder_of_photos_that_cannot_be_read_says_so(tmp_path):
    file = write_yolo_set(tmp_path, {"a": GOOD})
    for number in range(3):
        path = Path(tmp_path / "images" / f"{number}.jxl")
        path.write_bytes(b"\xff\x0a")

    result = scan_split(load_dataset_spec(file), "train")

    assert result.count("unreadable") == 3 and len(result.records) == 1
    assert_message(
        result.problems[0].text, f"{tmp_path / 'images' / '0.jxl'}: ", ".jxl files cannot be read"
    )
