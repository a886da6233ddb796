"""Whether and how files and folders are written: atomically, and with one line for what fails."""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from utils.errors import ConfigError, OutputError
from utils.path_kind import check_name

STANDARD_OUTPUT = Path("-")
# File systems allow 255 bytes. What is added to a stem: `_2`, a frame's number, `.jpeg`.
MAX_STEM_BYTES, MAX_SUFFIX_BYTES = 225, 16
_DIGEST_CHARS = 8
_TEMPORARY = ".writing-"  # how names of unfinished files begin: hidden ones
# Who reads a pipe has ended; the disk is full or fails, is read-only, permission is denied, ...
CANNOT_WRITE = frozenset(
    (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES,
     # ... something else has the name of the file or of its folder, or the name cannot be used.
     errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG,
     errno.ELOOP)
)  # fmt: skip


def check_writable(path: Path, flag: str, use: str) -> None:
    """Find out before any work whether something can be written; writes nothing that stays.

    Args:
        path: of a "file", a "folder", or, where an existing folder shows which, "file or folder".
        flag: that names it.
        use: which of them it is.

    Raises:
        ConfigError: it cannot be written, or is the other.
    """
    check_name(path, flag)
    try:
        if use == "file" and path.is_dir():
            raise ConfigError(f"{flag} {path}: is a folder, expected a file name")
        if is_special(path):
            raise ConfigError(
                f"{flag} {path}: is a device or a pipe, which is not replaced; give a file name"
            )
        folder = path if use == "folder" or path.is_dir() else path.absolute().parent
        while not (folder.exists() or folder.is_symlink()):
            folder = folder.absolute().parent
        _try_to_write(folder)
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot be written ({error.strerror}); choose another {flag}"
        ) from None


def is_special(path: Path) -> bool:
    """Whether a path leads to a device, a pipe or an open descriptor, as `/dev/stdout` does.

    Writing atomically would put a file in its place.
    """
    try:
        mode = path.stat().st_mode
        is_descriptor = path.is_symlink() and path.readlink().parts[:2] == ("/", "proc")
    except OSError:  # not there, or not to be looked at
        return False
    return is_descriptor or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _try_to_write(folder: Path) -> None:
    """Without `tempfile`, which every run would load for this alone."""
    file = folder / f"{_TEMPORARY}{os.getpid()}-{time.monotonic_ns()}"
    file.open("xb").close()
    file.unlink()


@contextmanager
def atomic_folder(folder: Path, *, stale: Sequence[str] = ()) -> Iterator[Path]:
    """A temporary folder whose files move to `folder` only when the block ends without an error.

    Args:
        folder: may exist, with other files, which stay.
        stale: names of files and folders in it to remove, because they belong to what is replaced.

    Raises:
        OutputError: it cannot be written.
    """
    import shutil
    import tempfile

    with reported_writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_TEMPORARY))
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
    import tempfile  # here, like others above: runs that write nothing load less

    with reported_writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_special(path):
            raise OutputError(f"{path}: is a device or a pipe, which is not replaced by a file")
        # Not `path.name` and more, which may be too long; cv2.VideoWriter needs the suffix.
        suffix = path.suffix if path.suffix.isascii() else ""
        suffix = suffix if len(suffix) <= MAX_SUFFIX_BYTES else ""
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=_TEMPORARY, suffix=suffix)
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
    """Turn a full disk, a missing permission or a name in use within the block into an OutputError.

    Args:
        path: what the block writes, which the message names.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        name = "standard output" if path == STANDARD_OUTPUT else path
        raise OutputError(
            f"{name}: cannot be written ({error.strerror}); files written before are complete"
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically; its folder is made where it is missing."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON atomically; values that JSON lacks are written as text."""
    write_text(path, json.dumps(content, indent=2, default=str) + "\n")


def short_stem(stem: str) -> str:
    """The stem itself, or where it is long its beginning and a digest of it, 225 bytes at most."""
    content = os.fsencode(stem)
    if len(content) <= MAX_STEM_BYTES:
        return stem
    import hashlib  # names are seldom so long

    digest = hashlib.sha256(content).hexdigest()[:_DIGEST_CHARS]
    beginning = content[: MAX_STEM_BYTES - _DIGEST_CHARS - 1].decode("utf-8", "ignore")
    return f"{beginning}-{digest}"
