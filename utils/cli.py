"""Command lines, read into frozen dataclasses that declare them.

`parse(TrainConfig, [])` equals `TrainConfig()`. Flags keep YOLOv5's spelling: every alias works,
`-` and `_` are the same, and a flag may be cut off where that leaves one. The first line of the
dataclass's docstring is shown by `--help`, and so is what follows `Examples:`.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from utils.command_parser import CommandParser, HelpFormatter, Several
from utils.errors import CheckFailedError, ConfigError, UserError, missing_weights
from utils.logs import configure_logging, exit_code_after_report, flag_of
from utils.options import Choices, PathRule, check_values, options_of
from utils.output_files import check_writable

ConfigT = TypeVar("ConfigT")
logger = logging.getLogger(__name__)


def check_options(config: Any) -> None:
    """Refuse what is wrong in a config, one made in Python too, before any work is done.

    Raises:
        ConfigError: naming the flag: a number out of range, an unknown name, nothing where
            something is needed, or a path that cannot be written.
    """
    check_values(config)
    for field, values in options_of(config):
        rule = field.metadata["rule"]
        if not isinstance(rule, PathRule) or values == (field.metadata["const"],):
            continue
        if any(getattr(config, name) for name in rule.unless):
            continue
        if rule.required and not any(values):
            raise ConfigError(rule.required)
        flag = flag_of(field.name)
        if rule.beside and not any(values):
            folder = Path(getattr(config, rule.beside)).absolute().parent
            check_writable(folder, flag, "folder")
        for path in filter(None, values):
            if rule.use != "weights":
                check_writable(Path(path), flag, rule.use)


def parse(
    config_class: type[ConfigT],
    argv: Sequence[str],
    refused: Mapping[str, str],
    defaults: ConfigT | None = None,
) -> ConfigT:
    """The command line as a config.

    Args:
        config_class: dataclass whose fields were made by `option` and its kin.
        argv: the arguments after the script's name.
        refused: flag (with dashes) -> the sentence that says what to use instead.
        defaults: what flags that are not given mean; None takes the fields' own defaults.

    Raises:
        SystemExit: with code 2 for a wrong flag, 0 for `--help`.
    """
    parser = CommandParser(
        usage="%(prog)s [flags]", description=config_class.__doc__, formatter_class=HelpFormatter
    )
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):  # type: ignore[arg-type]
        default = field.default if defaults is None else getattr(defaults, field.name)
        _add_flag(parser, field, hints[field.name], default)
    parser.refused = refused
    values = vars(parser.parse_args([_with_dashes(argument) for argument in argv]))
    config = config_class(
        **{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    )
    try:
        check_values(config)
    except ConfigError as error:
        parser.exit(2, f"error: {error}\n")
    return config


def check_command_line(
    config_class: type[ConfigT], refused: Mapping[str, str], **yamls: Path
) -> ConfigT:
    """Answer `--help` and what is wrong with the process's arguments; before slow imports.

    Args:
        config_class: as in `parse`.
        refused: as in `parse`.
        **yamls: field that names a yaml -> the folder of those that are shipped.

    Returns:
        The config, which `run_checked` takes.

    Raises:
        SystemExit: with code 2 for a wrong flag or file, 0 for `--help`.
    """
    configure_logging()
    config = parse(config_class, sys.argv[1:], refused)
    try:
        check_options(config)
        for field, values in options_of(config):
            rule = field.metadata["rule"]
            is_weights = isinstance(rule, PathRule) and rule.use == "weights"
            for value in filter(None, values):
                if is_weights and value != field.metadata["const"] and not Path(value).exists():
                    raise missing_weights(Path(value))
                if field.name in yamls:
                    from utils.strict_yaml import find_shipped, read_yaml  # most name no yaml

                    read_yaml(find_shipped(value, yamls[field.name]))
    except UserError as error:
        CommandParser().exit(2, f"error: {error}\n")
    return config


def run_script(
    config_class: type[ConfigT],
    action: Callable[[ConfigT], int],
    argv: Sequence[str] | None,
    refused: Mapping[str, str],
    defaults: Callable[[ConfigT], ConfigT | None] = lambda _: None,
) -> int:
    """Parse, run `action`, and turn the project's errors into one line and an exit code.

    Args:
        config_class: dataclass whose fields were made by `option`.
        action: what the script does; returns the exit code.
        argv: the arguments after the script's name; None takes the process's.
        refused: as in `parse`.
        defaults: for a parsed config, another one whose values stand for the flags that were not
            given; None keeps the parsed one.

    Returns:
        What `action` returns; 1 after a failed check; 2 after the user's mistake.
    """
    arguments = sys.argv[1:] if argv is None else argv
    configure_logging()

    def run(config: ConfigT) -> int:
        base = defaults(config)
        return action(config if base is None else parse(config_class, arguments, refused, base))

    return run_checked(parse(config_class, arguments, refused), run)


def run_checked(config: ConfigT, action: Callable[[ConfigT], int]) -> int:
    """As `run_script`, with a command line that has been parsed."""
    try:
        return action(config)
    except UserError as error:
        logger.error("error: %s", error)
        return exit_code_after_report(2)
    except CheckFailedError as error:
        logger.error("failed: %s", error)
        return exit_code_after_report(1)
    except KeyboardInterrupt:
        logger.error("interrupted")
        return 130


def _add_flag(
    parser: argparse.ArgumentParser, field: dataclasses.Field[Any], hint: Any, default: Any
) -> None:
    """Add the flag of a field, whose type is `hint`."""
    flags = [flag_of(field.name), *field.metadata["aliases"]]
    shared = {
        "dest": field.name,
        "default": default,
        "help": field.metadata["help"].replace("%", "%%"),
    }
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    const, has_choices = field.metadata["const"], isinstance(field.metadata["rule"], Choices)
    if bool in members and const is None:
        if field.default is not False:  # `--no-rect` means something, as the script decides else
            parser.add_argument(*flags, action=argparse.BooleanOptionalAction, **shared)
            return
        parser.add_argument(*flags, action="store_true", **shared)
        no = [flag.replace("--", "--no-", 1) for flag in flags]  # back to the default
        hidden = {**shared, "help": argparse.SUPPRESS}
        parser.add_argument(*no, action="store_false", **hidden)
        return
    kind = next(member for member in members if member is not types.NoneType)
    several = typing.get_origin(kind) is tuple
    kwargs: dict[str, Any] = {"type": typing.get_args(kind)[0] if several else kind}
    kwargs["metavar"] = {int: "N", float: "X"}.get(
        kwargs["type"], "NAME" if has_choices else "TEXT"
    )
    if several:
        kwargs["nargs"] = "*" if const is not None else "+"
        if has_choices:  # repeatable: `--preset onnx --preset npu`
            kwargs["action"] = Several
    elif const is not None:
        kwargs.update(nargs="?", const=const)
    parser.add_argument(*flags, **shared, **kwargs)


def _with_dashes(argument: str) -> str:
    """`--save_period=3` -> `--save-period=3`."""
    if not argument.startswith("--"):
        return argument
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value
