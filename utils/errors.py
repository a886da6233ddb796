"""The errors that the scripts turn into one line and an exit code."""

from __future__ import annotations


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
