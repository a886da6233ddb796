"""What is at a path, whatever text it is."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Literal

from utils.errors import ConfigError


def path_kind(path: Path) -> Literal["folder", "file"] | None:
    """What is there; None also where a name is too long or impossible, or access is denied.

    `Path.exists` and its kin raise OSError or ValueError for such paths.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    return "folder" if stat.S_ISDIR(mode) else "file"


def check_name(path: Path, flag: str) -> None:
    """Refuse what no file can be called: too long a name, or one with a null character.

    Raises:
        ConfigError: naming the flag.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"{flag} {path}: cannot be written ({why}); choose another") from None


def is_same_file(path: Path, other: Path, names_file: bool) -> bool:
    """Whether two paths lead to one file; one that is not there yet only where `names_file`."""
    try:
        if other.is_file():
            return path.is_file() and path.samefile(other)
        return names_file and not other.exists() and path.resolve() == other.resolve()
    except (OSError, ValueError):  # no path at all, such as an address
        return False
