"""States of files and names in folders, of which any change is seen."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from data import file_states
from data.file_states import MISSING, UNSETTLED, FolderNames, find_states, settled_states


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{number}.txt" for number in range(7)]
    for number, path in enumerate(paths):
        path.write_text("x" * number)
        os.utime(path, ns=(0, -5 * number))  # before 1970
    return [str(path) for path in paths]


@pytest.mark.parametrize("chunk", [1, 3, 4096])
def test_states_are_what_the_system_says(chunk, files, monkeypatch):
    monkeypatch.setattr(file_states, "_CHUNK", chunk)
    expected = []
    for path in files:
        found = Path(path).stat()
        expected.append([found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino])
    assert find_states(files).tolist() == expected
    others = [files[0], "gone", files[1], "", "a\0b"]
    missing = list(MISSING)
    assert find_states(others).tolist() == [expected[0], missing, expected[1], missing, missing]
    assert find_states([]).shape == (0, 4)


def test_inodes_of_64_bits(files, monkeypatch):
    inodes = {path: 2**64 - 1 - number for number, path in enumerate(files)}
    fields = {"st_size": 1, "st_mtime_ns": 2, "st_ctime_ns": 3}
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", lambda path: SimpleNamespace(**fields, st_ino=inodes[path]))
        states = find_states(files)
    assert (states[:, :3] == (1, 2, 3)).all()
    assert len(set(states[:, 3].tolist())) == len(files)


def test_a_file_that_has_just_changed_has_no_state_yet(files, monkeypatch):
    assert (settled_states(files) == UNSETTLED).all()
    monkeypatch.setattr(file_states, "SETTLED_NS", -(10**18))
    assert (settled_states([*files, "gone"]) == find_states([*files, "gone"])).all()


def test_names_of_a_folder(tmp_path):
    def digest():
        return FolderNames.read(str(tmp_path)).digest()

    found = [digest()]
    (tmp_path / "a").touch()
    found.append(digest())
    (tmp_path / "a").unlink()
    (tmp_path / "a").mkdir()
    found.append(digest())
    (tmp_path / "a").rmdir()
    (tmp_path / "a").symlink_to(tmp_path)
    found.append(digest())
    (tmp_path / "b").symlink_to("nowhere")
    found.append(digest())
    (tmp_path / "b").rename(tmp_path / "c")
    found.append(digest())
    assert len(set(found)) == len(found)
    assert digest() == found[-1]
    assert FolderNames.read(str(tmp_path)).folders == [("a", True)]
    assert FolderNames.read(str(tmp_path / "gone")).identity is None
