"""What a benchmark has measured so far, in a file that a cut run goes on with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from utils.errors import ConfigError
from utils.growing_file import GrowingFile


class MeasuredFile(AbstractContextManager["MeasuredFile"]):
    """A line of JSON for the setting, then one for each entry.

    Attributes:
        path: where it is.
        entries: what was measured, in order.
    """

    def __init__(self, path: Path, setting: Mapping[str, Any], *, replace: bool = False) -> None:
        """Read what is there.

        Args:
            path: the file.
            setting: what is measured and how, as JSON.
            replace: a file of another setting is begun anew.

        Raises:
            ConfigError: it was measured with another setting, without `replace`.
            OutputError: it cannot be written.
        """
        self.path = path
        before, entries, kept = _read(path)
        if before is not None and before != setting:
            if not replace:
                different = ", ".join(key for key in setting if before.get(key) != setting[key])
                raise ConfigError(
                    f"{path}: was begun with another {different}; give the same, or another --runs"
                )
            before, entries, kept = None, [], 0
        self.entries = entries
        self._file = GrowingFile(path, kept)
        if before is None:
            self._write(setting)

    def has(self, **key: Any) -> bool:
        """Whether there is an entry with these values."""
        return any(entry.items() >= key.items() for entry in self.entries)

    def add(self, entry: dict[str, Any]) -> None:
        """Keep an entry."""
        self.entries.append(entry)
        self._write(entry)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._file.__exit__(kind, error, traceback)

    def _write(self, entry: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(entry).encode() + b"\n")


def read_measured(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Setting and entries of a file that a run wrote.

    Raises:
        ConfigError: there is none.
    """
    setting, entries, _ = _read(path)
    if setting is None:
        raise ConfigError(f"{path}: nothing is measured yet")
    return setting, entries


def _read(path: Path) -> tuple[dict[str, Any] | None, list[dict[str, Any]], int]:
    """Setting, entries and the bytes they take; a line that was cut off does not count."""
    content = path.read_bytes() if path.exists() else b""
    kept = content[: content.rfind(b"\n") + 1]
    lines = [json.loads(line) for line in kept.splitlines()]
    return (lines[0] if lines else None), lines[1:], len(kept)
