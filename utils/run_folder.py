"""The folder of a run: `exp`, `exp2`, ... in a project."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from utils.errors import ConfigError
from utils.path_kind import check_name, path_kind


def make_run_folder(project: str | Path, name: str, *, exist_ok: bool) -> Path:
    """Create and return `project/name`, or `name2`, `name3`, ... where that exists.

    Processes that do so at the same time get folders of their own. With `exist_ok`, an existing
    folder is used again.

    Raises:
        ConfigError: the folder cannot be created, or `name` is none.
    """
    if Path(name).name in ("", ".."):
        raise ConfigError(f"--name {name!r}: must be the name of a folder in --project")
    first = folder = Path(project) / name
    check_name(first, "--name")
    number = 1
    try:
        while True:
            first.parent.mkdir(parents=True, exist_ok=True)
            try:
                folder.mkdir(exist_ok=exist_ok)
            except FileExistsError:
                number += 1
                folder = first.with_name(f"{name}{number}")
            except FileNotFoundError:  # a run that failed has just removed the empty project
                continue
            else:
                return folder
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot be made a folder ({error.strerror}); "
            "choose another --project or --name"
        ) from None


@contextmanager
def run_folder(project: str | Path, name: str, *, exist_ok: bool) -> Iterator[Path]:
    """As `make_run_folder`; folders without any file are removed after an error if they are new.

    Raises:
        ConfigError: the folder cannot be created.
    """
    first = Path(project) / name
    existing = {path for path in (first, *first.parents) if path_kind(path)}
    folder = make_run_folder(project, name, exist_ok=exist_ok)
    try:
        yield folder
    except BaseException:
        if folder not in existing and all(path.is_dir() for path in folder.rglob("*")):
            import shutil

            shutil.rmtree(folder, ignore_errors=True)
            for path in itertools.takewhile(lambda each: each not in existing, folder.parents):
                with suppress(OSError):  # it holds other runs
                    path.rmdir()
        raise
