"""The errors the five scripts turn into one clear line and an exit code."""

from __future__ import annotations


class UserError(Exception):
    """The user's input is wrong; the message says what, where and the remedy (exit code 2)."""


class ConfigError(UserError):
    """A flag, a model yaml or a hyper-parameter yaml is wrong."""


class DatasetError(UserError):
    """A data yaml, a label file or an image source is wrong."""


class CheckpointError(UserError):
    """A weights file is missing, unreadable, unsafe or of the wrong form."""


class MissingPackageError(UserError):
    """An optional library is needed for what was asked and is not installed."""


class CheckFailedError(Exception):
    """The run went through, but what it made failed its own check (exit code 1)."""


class DivergedError(CheckFailedError):
    """Training produces nothing but losses that are not numbers."""


class OutputError(CheckFailedError):
    """A file cannot be written: the disk is full, or the folder is not ours."""


class ConversionError(CheckFailedError):
    """The converted model does not compute what the original computes."""
