"""The end of a script's process."""

from __future__ import annotations

import gc
import sys
from typing import NoReturn


def end_process(code: int) -> NoReturn:
    """End it with this exit code, without looking for garbage.

    Python would look through all objects for cycles once more, and torch makes so many that one
    sees the process wait. The system takes the memory back anyway; what has to be done at the end
    (`atexit`, finalizers of what is still referred to) is done.

    Raises:
        SystemExit: always.
    """
    gc.freeze()
    sys.exit(code)
