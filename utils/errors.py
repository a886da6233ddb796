"""The errors that the scripts turn into one line and an exit code, and the hints that end them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from pathlib import Path

MAX_COMPARED = 10_000  # names, in a moment


class UserError(Exception):
    """The user's input is wrong; the message names file, value, rule and remedy (exit code 2)."""


class ConfigError(UserError):
    """A flag, a model yaml or a hyper-parameter yaml is wrong."""


class DatasetError(UserError):
    """A data yaml, a label file or an image source is wrong."""


class CheckpointError(UserError):
    """A weights file is missing, unreadable, unsafe or of the wrong form."""


class MissingPackageError(UserError):
    """An optional package is needed for what was asked and is not installed."""


class CheckFailedError(Exception):
    """The run finished, but its result failed a check (exit code 1)."""


class DivergedError(CheckFailedError):
    """Losses or gradients of many batches in a row are not finite."""


class OutputError(CheckFailedError):
    """A file cannot be written: the disk is full, or the folder is not writable."""


class ConversionError(CheckFailedError):
    """The converted model does not compute what the original computes."""


def first_line(error: Exception) -> str:
    """The first line of a library's error message, at most 200 characters of it."""
    return str(error).strip().split("\n")[0][:200]


def missing_weights(path: Path) -> CheckpointError:
    """That a weights file does not exist; names a file beside it that is called nearly so."""
    try:
        beside = sorted(path.parent.iterdir())
    except (OSError, ValueError):  # its folder is missing too, or cannot be read
        beside = []
    names = {file.stem: file.name for file in sorted(beside, key=lambda each: each.suffix == ".pt")}
    close = close_to(path.stem, names)
    hint = f"; did you mean {path.with_name(names[close])}?" if close else ""
    return CheckpointError(f"{path}: no such weights file (nothing is ever downloaded){hint}")


def hint_at(path: Path) -> str:
    """To end an error about a path that does not exist: what is there and is called nearly so."""
    if os.sep == "/" and "\\" in str(path):
        return "; on this system folders are separated by /"
    for missing in (path, *path.parents):  # itself, or the first of its folders that is
        try:
            some = itertools.islice(missing.parent.iterdir(), MAX_COMPARED)
            close = close_to(missing.name, (each.name for each in some))
        except (OSError, ValueError):  # its folder is missing too, or cannot be read
            continue
        if close is None:
            break
        return f"; did you mean {missing.with_name(close) / path.relative_to(missing)}?"
    return ""


def missing_torch(weights: str | Path, error: ImportError) -> MissingPackageError:
    """That a file runs in PyTorch alone, which is not installed."""
    return MissingPackageError(
        f"running {weights} needs the package {error.name}: pip install torch torchvision"
    )


def suggest(name: str, known: Iterable[str], adjective: str = "known") -> str:
    """`; did you mean 'x'? (known: ...)`, to end an error about an unknown name."""
    known = list(known)
    close = close_to(name, known)
    hint = f"; did you mean {close!r}?" if close else ""
    return f"{hint} ({adjective}: {', '.join(known)})"


def close_to(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` is likely a slip in, case aside; None where it is like none."""
    import difflib  # errors are rare, and every script imports this module

    by_folded = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1)
    return by_folded[close[0]] if close else None
