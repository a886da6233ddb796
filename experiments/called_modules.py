"""Run a script and list the project's files that had a function called.

`python experiments/called_modules.py ROOT OUT.json SCRIPT.py [FLAGS]`: a program for a process of
its own, which imports nothing but the standard library, so that only the script's modules are seen.
"""

from __future__ import annotations

import inspect
import json
import runpy
import sys
import threading
from pathlib import Path
from types import CodeType, FrameType

SCRIPTS = frozenset({"train.py", "val.py", "detect.py", "convert.py", "export.py"})
PACKAGES = frozenset({"models", "data", "utils"})


def is_function(code: CodeType) -> bool:
    """Whether a frame of this code is a function or lambda.

    Modules and class bodies are not optimized code; comprehensions run in the function (or module)
    that holds them, which counts by itself; `__annotate__` is made by the compiler.
    """
    optimized = bool(code.co_flags & inspect.CO_OPTIMIZED)
    named = not code.co_name.startswith("<") or code.co_name == "<lambda>"
    return optimized and named and code.co_name != "__annotate__"


def project_file(filename: str, root: Path) -> str | None:
    """The path below the root of one of the five scripts or a module of the three packages."""
    path = Path(filename)
    if path.suffix != ".py" or not path.is_relative_to(root):
        return None
    inner = path.relative_to(root)
    known = inner.parts[0] in (SCRIPTS if len(inner.parts) == 1 else PACKAGES)
    return inner.as_posix() if known else None


class CalledFiles:
    """A profile function that keeps the names of files below a folder with a called function."""

    def __init__(self, root: Path) -> None:
        self._start = f"{root}/"
        self.filenames: set[str] = set()

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        """Called by the interpreter at every call and return of this thread."""
        if event != "call":
            return
        code = frame.f_code
        if code.co_filename.startswith(self._start) and is_function(code):
            self.filenames.add(code.co_filename)


def main(arguments: list[str]) -> None:
    """Run the script as a user would and write the list, whatever the script's exit code."""
    root, out, script, *flags = arguments
    folder = Path(root).resolve()
    sys.path[0] = str(folder)  # where this file is would hide nothing, but is not the checkout
    sys.argv = [script, *flags]
    called = CalledFiles(folder)
    threading.setprofile(called)
    sys.setprofile(called)
    try:
        runpy.run_path(str(folder / script), run_name="__main__")
    finally:
        sys.setprofile(None)
        files = {project_file(name, folder) for name in called.filenames} - {None}
        Path(out).write_text(json.dumps(sorted(map(str, files))), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
