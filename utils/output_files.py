"""Run folders, and atomic writing of files and folders."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from utils.errors import ConfigError, OutputError

# The disk or the quota is full, the file system is read-only, or permission is denied.
CANNOT_WRITE = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
)


def make_run_folder(project: str | Path, name: str, *, exist_ok: bool) -> Path:
    """Create and return `project/name`, or `name2`, `name3`, ... where that exists.

    With `exist_ok`, an existing folder is used again.

    Raises:
        ConfigError: the folder cannot be created.
    """
    first = Path(project) / name
    for number in itertools.count(1):
        folder = first if number == 1 else first.with_name(f"{name}{number}")
        try:
            folder.mkdir(parents=True, exist_ok=exist_ok)
        except FileExistsError:
            continue
        except OSError as error:
            raise ConfigError(
                f"{folder}: cannot be made a folder ({error.strerror}); "
                "choose another --project or --name"
            ) from None
        else:
            break
    return folder


@contextmanager
def atomic_folder(folder: Path, *, stale: Sequence[str] = ()) -> Iterator[Path]:
    """A temporary folder whose files move to `folder` only when the block ends without an error.

    Args:
        folder: may exist, with other files, which stay.
        stale: names of files and folders in it to remove, because they belong to what is replaced.

    Raises:
        OutputError: it cannot be written.
    """
    with reported_writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield temporary
        with reported_writing(folder):
            folder.mkdir(exist_ok=True)
            for name in stale:
                shutil.rmtree(folder / name, ignore_errors=True)
                if (folder / name).is_file():
                    (folder / name).unlink()
            for file in sorted(temporary.iterdir()):
                if file.is_dir():  # `replace` of a folder needs an empty target
                    shutil.rmtree(folder / file.name, ignore_errors=True)
                file.replace(folder / file.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary file that replaces `path` only when the block ends without an error.

    Raises:
        OutputError: it cannot be written; what was at `path` before is still there.
    """
    with reported_writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix
        )
        os.close(descriptor)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def reported_writing(path: Path) -> Iterator[None]:
    """Turn a full disk or a missing permission within the block into an OutputError about `path`.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}); files written before are complete"
        ) from None


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON atomically; values that JSON lacks are written as text."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
