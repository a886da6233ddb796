"""Runs get folders of their own; a cut-off write leaves no half file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from utils.errors import UserError
from utils.output_files import (
    atomic_folder,
    atomic_path,
    make_run_folder,
    short_stem,
    writable_suffix,
    write_image,
    write_json,
)


def test_run_folders_are_numbered_like_yolov5s(tmp_path: Path) -> None:
    made = [make_run_folder(tmp_path / "train", "exp", exist_ok=False).name for _ in range(3)]
    assert made == ["exp", "exp2", "exp3"]


def test_a_gap_in_the_numbers_is_filled(tmp_path: Path) -> None:
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp3").mkdir()
    assert make_run_folder(tmp_path, "exp", exist_ok=False).name == "exp2"


def test_exist_ok_uses_the_folder_again(tmp_path: Path) -> None:
    for _ in range(2):
        assert make_run_folder(tmp_path, "exp", exist_ok=True) == tmp_path / "exp"


def test_a_file_of_that_name_is_stepped_over(tmp_path: Path) -> None:
    (tmp_path / "exp").write_text("in the way")
    assert make_run_folder(tmp_path, "exp", exist_ok=False).name == "exp2"


def test_atomic_path_replaces_at_the_end_and_keeps_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "a.pt"
    with atomic_path(path) as temporary:
        assert temporary.suffix == ".pt"
        assert temporary.parent == path.parent
        assert not path.exists()
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="cut off"), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("cut off")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_read_back_and_paths_become_text(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"AP": 0.5, "weights": Path("best.pt"), "empty": []})
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == {"AP": 0.5, "weights": "best.pt", "empty": []}
    assert text.endswith("}\n")


@pytest.mark.parametrize(
    "name", [b"caf\xe9.txt", b"n" * 255, b"n" * 240 + b".txt", b"a." + b"s" * 250]
)
def test_every_name_that_a_folder_takes_is_written(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    with atomic_path(path) as temporary:
        temporary.write_text("new")
    with atomic_folder(path.with_name("folder" + path.name[6:])) as temporary:
        (temporary / "a").touch()
    assert path.read_text() == "new" and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("stem", ["a", "n" * 225, "n" * 226, "图" * 85, os.fsdecode(b"\xe9" * 250)])
def test_stems_leave_room_and_stay_apart(stem: str) -> None:
    short = short_stem(stem)
    assert len(os.fsencode(short)) <= 225
    assert (short == stem) == (len(os.fsencode(stem)) <= 225)
    assert short_stem(f"{stem}x") != short
    assert os.fsdecode(os.fsencode(short)) == short


IMAGE = np.zeros((6, 8, 3), np.uint8)
IMAGE[..., 0] = 200  # RGB: red


@pytest.mark.parametrize("name", ["a.png", "b.PNG", "ä文.bmp"])
def test_an_image_is_read_back(tmp_path, name):
    path = tmp_path / name
    write_image(path, IMAGE)
    read = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(read, IMAGE)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("suffix", "written"),
    [
        (".jpg", ".jpg"),
        (".PNG", ".PNG"),
        (".mpo", ".jpg"),
        ("", ".jpg"),
        (".xyz", ".jpg"),
        (".pbm", ".jpg"),
        (".avif", ".jpg"),
        (".jp\udce9", ".jpg"),
    ],
)
def test_writable_suffix(suffix, written):
    assert writable_suffix(suffix) == written


def test_an_image_of_unknown_format(tmp_path):
    with pytest.raises(UserError) as error:
        write_image(tmp_path / "a.xyz", IMAGE)
    assert str(error.value) == (
        f"{tmp_path}/a.xyz: images cannot be written as '.xyz'; use .jpg or .png"
    )
