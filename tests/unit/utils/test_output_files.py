"""Runs get folders of their own; a cut-off write leaves no half file."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from utils.errors import ConfigError, OutputError, UserError
from utils.output_files import (
    GrowingFile,
    atomic_folder,
    atomic_path,
    check_writable,
    make_run_folder,
    run_folder,
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


@pytest.mark.parametrize("name", ["", ".", "..", "a/.."])
def test_a_run_has_a_name(tmp_path: Path, name: str) -> None:
    """Without one, files would lie among other runs, in a folder called `2`."""
    with pytest.raises(ConfigError, match=r"--name '.*': must be the name of a folder"):
        make_run_folder(tmp_path / "runs", name, exist_ok=True)
    assert list(tmp_path.iterdir()) == []


def fail_in(folder: Path, *, exist_ok: bool = False, written: str = "") -> Path:
    """The folder of a run that fails, perhaps after it has written a file."""
    with pytest.raises(KeyboardInterrupt), run_folder(folder, "exp", exist_ok=exist_ok) as made:
        if written:
            (made / written).touch()
        raise KeyboardInterrupt
    return made


def test_a_failed_run_leaves_no_empty_folders(tmp_path: Path) -> None:
    fail_in(tmp_path / "runs" / "train")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_run_leaves_what_was_there_and_what_it_wrote(tmp_path: Path) -> None:
    project = tmp_path / "runs"
    (project / "exp").mkdir(parents=True)
    assert fail_in(project).name == "exp2"
    assert fail_in(project, exist_ok=True).name == "exp"
    assert list(project.iterdir()) == [project / "exp"]
    assert fail_in(project, written="a.txt").exists()
    with run_folder(project, "exp", exist_ok=False) as folder:
        pass
    assert folder.is_dir() and folder.name == "exp3"  # a run that succeeds may write nothing


def test_runs_at_the_same_time_get_folders_of_their_own(tmp_path: Path) -> None:
    """Some fail, so that the project's folder comes and goes meanwhile."""

    def run(number: int) -> Path | None:
        try:
            with run_folder(tmp_path / "a" / "b", "exp", exist_ok=False) as folder:
                if number % 3:
                    raise InterruptedError
                (folder / f"{number}").touch()
                return folder
        except InterruptedError:
            return None

    with ThreadPoolExecutor(8) as pool:
        folders = [folder for folder in pool.map(run, range(120)) if folder is not None]
    assert len(set(folders)) == len(folders) == 40
    assert all(len(list(folder.iterdir())) == 1 for folder in folders)


@pytest.mark.parametrize("exist_ok", [True, False])
def test_a_project_that_is_no_folder(tmp_path: Path, exist_ok: bool) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "gone")  # leads nowhere
    for project in (tmp_path / "file", tmp_path / "file" / "runs", tmp_path / "link"):
        with pytest.raises(ConfigError, match=r"cannot be made a folder .*--project or --name"):
            make_run_folder(project, "exp", exist_ok=exist_ok)


@pytest.mark.parametrize("use", ["file", "folder", "file or folder"])
@pytest.mark.parametrize("path", ["a", "a/b/c", "folder/a", "folder/a/b", "in use"])
def test_what_can_be_written_is_left_alone(tmp_path: Path, use: str, path: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").touch()
    if use == "file":
        (tmp_path / "in use").touch()
    before = sorted(tmp_path.rglob("*"))
    check_writable(tmp_path / path, "--output", use)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("path", "use", "message"),
    [
        ("file/a", "file", "{}/file: cannot be written (Not a directory); choose another --x"),
        ("file/a/b", "folder", "{}/file: cannot be written (Not a directory); choose another --x"),
        ("file", "folder", "{}/file: cannot be written (Not a directory); choose another --x"),
        ("link/a", "file", "{}/link: cannot be written (No such file or directory); choose anoth"),
        ("folder", "file", "--x {}/folder: is a folder, expected a file name"),
    ],
)
def test_what_cannot_be_written_is_said_first(tmp_path: Path, path, use, message) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigError) as caught:
        check_writable(tmp_path / path, "--x", use)
    assert str(caught.value).startswith(message.format(tmp_path))


def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        check_writable(tmp_path / "a", "--x", "file")  # root may write everywhere
    else:
        with pytest.raises(ConfigError, match=r"cannot be written \(Permission denied\)"):
            check_writable(tmp_path / "a", "--x", "file")
    tmp_path.chmod(0o700)


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


def write_folder(folder: Path) -> None:
    """A folder with one file, `file`."""
    with atomic_folder(folder) as temporary:
        (temporary / "file").write_text("{}")


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda path: write_json(path, {}), id="file"),
        pytest.param(lambda path: write_folder(path.parent), id="folder"),
        pytest.param(GrowingFile, id="growing file"),
    ],
)
@pytest.mark.parametrize("in_the_way", ["folder/file/kept", "folder"])  # a folder; a file
def test_a_name_that_something_else_has(tmp_path: Path, write, in_the_way: str) -> None:
    """The error is one line, what is there stays, and no unfinished file is left beside it."""
    there = tmp_path / in_the_way
    there.parent.mkdir(parents=True, exist_ok=True)
    there.write_text("kept")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match=r"folder.*: cannot be written \(.+\)"):
        write(tmp_path / "folder" / "file")
    assert sorted(tmp_path.rglob("*")) == before
    assert there.read_text() == "kept"


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


def test_a_pipe_or_a_descriptor_stays_what_it_is(tmp_path: Path) -> None:
    """A file renamed to /dev/null would take the place of the device."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with (tmp_path / "file").open("w") as file:
        descriptor = tmp_path / "stdout"
        descriptor.symlink_to(f"/proc/self/fd/{file.fileno()}")
        for path in (pipe, descriptor):
            with pytest.raises(ConfigError, match=r"^--report .*: is a device or a pipe, "):
                check_writable(path, "--report", "file")
            with pytest.raises(OutputError, match="is a device or a pipe"), atomic_path(path):
                pass
    assert pipe.is_fifo()
    assert descriptor.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "pipe", "stdout"]
