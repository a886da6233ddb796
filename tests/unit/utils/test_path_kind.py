"""A path that no file can have is no file, and costs one line where it is to be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from detect import load_detector
from utils.checkpoint import load_checkpoint
from utils.errors import CheckpointError, ConfigError
from utils.output_files import check_writable
from utils.path_kind import path_kind
from utils.run_folder import make_run_folder, run_folder
from utils.strict_yaml import find_shipped

IMPOSSIBLE = ["x" * 300, "a\0b"]
impossible = pytest.mark.parametrize("name", IMPOSSIBLE, ids=["too long", "null"])


@impossible
def test_nothing_is_there(name):
    assert path_kind(Path(name)) is None


@impossible
@pytest.mark.parametrize("use", ["file", "folder", "file or folder"])
def test_it_cannot_be_written(name, use, tmp_path):
    with pytest.raises(ConfigError, match=r"^--report .*: cannot be written \(.+\); choose"):
        check_writable(tmp_path / name, "--report", use)


@impossible
def test_it_is_no_folder_of_a_run(name, tmp_path):
    with pytest.raises(ConfigError, match=r"^--name .*: cannot be written"):
        make_run_folder(tmp_path, name, exist_ok=False)
    with (
        pytest.raises(ConfigError, match=r"^--name .*: cannot be written"),
        run_folder(tmp_path, name, exist_ok=False),
    ):
        pass


@impossible
def test_it_is_no_weights_file(name):
    for read in (load_checkpoint, load_detector):
        with pytest.raises(CheckpointError, match="no such weights file"):
            read(Path(name) / "a.pt")


@impossible
def test_it_is_no_yaml(name, tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        find_shipped(name, tmp_path)
