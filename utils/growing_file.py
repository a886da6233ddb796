"""A file that grows while a program runs."""

from __future__ import annotations

import errno
import os
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from utils.output_files import STANDARD_OUTPUT, reported_writing

SYNC_SECONDS = 1.0


class GrowingFile(AbstractContextManager["GrowingFile"]):
    """A binary file without a buffer of its own, synchronized with the disk once a second.

    A killed process loses nothing that was written; a power cut loses the last second.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path, kept: int = 0) -> None:
        """Create the file and its folder, or go on with an older file of this name.

        Args:
            path: where; `-` is the process's standard output.
            kept: bytes of the older file that stay, none by default.

        Raises:
            OutputError: it cannot be written.
        """
        self.path = path
        with reported_writing(path):
            if path == STANDARD_OUTPUT:
                if sys.stdout is None:  # its number may be that of a file opened since
                    raise BrokenPipeError(errno.EPIPE, "it is closed")
                self._file = os.fdopen(os.dup(1), "wb", buffering=0)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = path.open("r+b" if kept else "wb", buffering=0)
                if kept:
                    self._file.truncate(kept)
                    self._file.seek(kept)
        self._synced = time.monotonic()

    def write(self, content: bytes) -> int:
        """Write all of it at the current position; returns the number of bytes.

        Raises:
            OutputError: the disk is full.
        """
        rest = memoryview(content)
        with reported_writing(self.path):
            while rest:
                rest = rest[self._file.write(rest) :]
            if time.monotonic() - self._synced >= SYNC_SECONDS:
                self.sync()
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As of any file."""
        return self._file.tell()

    def sync(self) -> None:
        """Wait until everything is on disk."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            if error.errno != errno.EINVAL:  # a pipe or a device has no disk behind it
                raise
        self._synced = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file; what it holds stays, also after an error.

        Raises:
            OutputError: the last bytes cannot be written.
        """
        with self._file, reported_writing(self.path):
            self.sync()
