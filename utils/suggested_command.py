"""Commands that the console suggests, which can be pasted where the user stands."""

from __future__ import annotations

import dataclasses
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from utils.cli import flag_of

SCRIPTS_FOLDER = Path(__file__).resolve().parents[1]
SAMPLE_IMAGE = SCRIPTS_FOLDER / "docs" / "images" / "demo_detection.jpg"  # where no other is known


def command_text(script: str, *arguments: str | Path) -> str:
    """A command that runs a script of this project, for a shell in the working directory.

    Args:
        script: its file name.
        *arguments: not quoted yet.
    """
    file = from_working_directory(SCRIPTS_FOLDER / script)
    return shlex.join(str(each) for each in (_python(), file, *arguments))


def arguments_of(config: Any, omit: Sequence[str] = ()) -> list[str]:
    """The shortest arguments that `utils.cli.parse` reads as the config.

    Args:
        config: a dataclass instance whose fields were made by `option`.
        omit: fields that are left at their defaults.
    """
    arguments: list[str] = []
    for field in dataclasses.fields(config):
        value, flag = getattr(config, field.name), flag_of(field.name)
        if field.name in omit or value == field.default:
            continue
        if isinstance(value, bool):
            arguments.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, tuple | list):
            arguments += [flag, *map(str, value)]
        else:
            arguments += [flag, str(value)]
    return arguments


def from_working_directory(path: Path) -> Path:
    """Relative if it is below the working directory, else absolute."""
    folder, absolute = Path.cwd(), path.absolute()
    return absolute.relative_to(folder) if absolute.is_relative_to(folder) else absolute


def _python() -> Path:
    """What starts the running Python: a name that the shell finds, else its path."""
    executable = Path(sys.executable)
    for name in ("python", executable.name):
        if (found := shutil.which(name)) is not None and Path(found) == executable:
            return Path(name)
    return from_working_directory(executable)
