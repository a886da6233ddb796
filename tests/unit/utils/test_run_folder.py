"""Runs get folders of their own, and a failed one leaves none that is empty."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from utils.errors import ConfigError
from utils.run_folder import make_run_folder, run_folder


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
