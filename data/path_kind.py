"""What is at a path, for paths that come from a user's file."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Literal


def path_kind(path: Path) -> Literal["folder", "file"] | None:
    """What is there; None also where a name is too long or impossible, or access is denied.

    `Path.exists` and its kin raise OSError or ValueError for such paths.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    return "folder" if stat.S_ISDIR(mode) else "file"
