"""A cut-off write leaves no half file, and what cannot be written is said first."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from utils.errors import ConfigError, OutputError
from utils.growing_file import GrowingFile
from utils.output_files import atomic_folder, atomic_path, check_writable, short_stem, write_json


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
