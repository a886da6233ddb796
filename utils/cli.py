"""Command lines, read into frozen dataclasses that declare them.

`parse(TrainConfig, [])` equals `TrainConfig()`. Flags keep YOLOv5's spelling: every alias works,
`-` and `_` are the same, and a flag may be cut off where that leaves one. The first line of the
dataclass's docstring is shown by `--help`, and so is what follows `Examples:`.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from utils.command_parser import CommandParser, HelpFormatter, Several, with_dashes
from utils.errors import CheckFailedError, ConfigError, UserError, missing_weights
from utils.flag_rules import Choices, DeviceRule, FreeName, Limits, PathRule
from utils.flag_values import check_kind, check_values, options_of
from utils.logs import configure_logging, exit_code_after_report, flag_of
from utils.output_files import check_writable
from utils.path_kind import is_same_file, path_kind
from utils.stop_signals import Stopped, raised_as_interrupts

ConfigT = TypeVar("ConfigT")
logger = logging.getLogger(__name__)


@typing.runtime_checkable
class RelatedFlags(typing.Protocol):
    """A config with flags that exclude or need each other."""

    def check_related(self) -> None:
        """Refuse flags that do not go together.

        Raises:
            ConfigError: naming one of them.
        """


def option(
    default: Any,
    help_text: str,
    *aliases: str,
    const: Any = None,
    minimum: float | None = None,
    maximum: float | None = None,
    besides: tuple[float, ...] = (),
    max_values: int | None = None,
    rule: Choices | DeviceRule | FreeName | PathRule | None = None,
) -> Any:
    """A dataclass field that is also a flag.

    Args:
        default: what the flag is when it is not given.
        help_text: one line for `--help`; `with --half: ...` where it changes nothing without that,
            `without --half: ...` where it changes nothing with it.
        *aliases: other spellings, with their dashes (`"--img"`).
        const: what the bare flag means, for flags whose value may be omitted (`--resume`).
        minimum: the lowest number allowed; every flag with numbers has one.
        maximum: the highest number allowed.
        besides: numbers outside of these that are allowed too.
        max_values: how many numbers may be given.
        rule: of text: the names allowed, that it is a device, or what a path is for.
    """
    if isinstance(rule, Choices):
        help_text = f"{help_text}: {', '.join(rule.names)}"
    limits = Limits(minimum, maximum, besides, max_values)
    metadata = {"help": help_text, "aliases": aliases, "const": const, "limits": limits}
    return dataclasses.field(default=default, metadata={**metadata, "rule": rule})


def check_options(config: Any, kind: type) -> None:
    """Refuse what is wrong in a config, one made in Python too, before any work is done.

    Args:
        config: the flags.
        kind: its class.

    Raises:
        ConfigError: naming the flag: a number out of range, an unknown name, nothing where
            something is needed, a path that cannot be written, or flags that exclude each other;
            or it is no config of its kind.
    """
    check_kind(config, kind)
    check_values(config)
    _check_paths(config)
    if isinstance(config, RelatedFlags):
        config.check_related()


def _check_paths(config: Any) -> None:
    for field, values in options_of(config):
        rule = field.metadata["rule"]
        if not isinstance(rule, PathRule) or values == (field.metadata["const"],):
            continue
        if _is_replaced(config, rule):
            continue
        if rule.required and not any(values):
            raise ConfigError(rule.required)
        flag = flag_of(field.name)
        is_given = field.default != "" or isinstance(getattr(config, field.name), tuple)
        if rule.use == "weights" and is_given and "" in values:
            raise ConfigError(f"{flag}: is empty; name a file")
        if rule.beside and not any(values):
            folder = Path(getattr(config, rule.beside)).absolute().parent
            check_writable(folder, flag, "folder")
        for path in filter(None, values):
            if rule.use != "weights":
                check_writable(Path(path), flag, rule.use)
                if rule.suffixes and not path.lower().endswith(rule.suffixes):
                    allowed = " or ".join(rule.suffixes)
                    raise ConfigError(f"{flag} {path}: must end in {allowed}")
                _check_not_given(config, field.name, Path(path))


def _is_replaced(config: Any, rule: PathRule) -> bool:
    """Whether a flag is given with which that of the rule is not needed."""
    return any(getattr(config, name) for name in rule.unless)


def _check_not_given(config: Any, written: str, path: Path) -> None:
    """Refuse to write over a file that another flag names."""
    for field, values in options_of(config):
        names_file = isinstance(field.metadata["rule"], PathRule)
        for value in values if field.name != written else ():
            if isinstance(value, str) and value and is_same_file(path, Path(value), names_file):
                raise ConfigError(
                    f"{flag_of(written)} {path}: is the file of {flag_of(field.name)}, which is "
                    "never overwritten; choose another"
                )


def log_idle_flags(config: Any) -> None:
    """Name the flags that change nothing, because of another one that is given or is not."""
    for field, values in options_of(config):
        related = re.match(r"(with|without) --([\w-]+):", field.metadata["help"])
        if related is None or values in ((), (field.default,)):
            continue
        is_given = getattr(config, related[2].replace("-", "_")) not in (None, False, "", ())
        if is_given != (related[1] == "with"):
            other = "with" if is_given else "without"
            logger.warning("%s: changes nothing %s --%s", flag_of(field.name), other, related[2])


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
        usage=f"{_program()} [flags]",
        description=config_class.__doc__,
        formatter_class=HelpFormatter,
    )
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):  # type: ignore[arg-type]
        default = field.default if defaults is None else getattr(defaults, field.name)
        _add_flag(parser, field, hints[field.name], default)
    parser.refused = refused
    values = vars(parser.parse_args([with_dashes(argument) for argument in argv]))
    config = config_class(
        **{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    )
    try:
        check_values(config)
    except ConfigError as error:
        parser.exit(2, f"error: {error}\n")
    return config


def _program() -> str:
    """What the user typed to start the running program: a script's name, or `python -m data.lint`.

    argparse says so itself from Python 3.14 on.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None:
        return Path(sys.argv[0]).name
    return f"python -m {spec.name.removesuffix('.__main__')}"


def check_command_line(
    config_class: type[ConfigT],
    refused: Mapping[str, str],
    **yamls: Path | Callable[[str], object],
) -> ConfigT:
    """The process's arguments; `--help` and what is wrong in them is answered, before slow imports.

    Args:
        config_class: as in `parse`.
        refused: as in `parse`.
        **yamls: field that names a yaml -> what raises a UserError where that is wrong, or the
            folder of those that are shipped, where only its syntax is looked at.

    Raises:
        SystemExit: with code 2 for a wrong flag or file, 0 for `--help`.
    """
    configure_logging()
    config = parse(config_class, sys.argv[1:], refused)
    try:
        check_options(config, config_class)
        for field, values in options_of(config):
            rule = field.metadata["rule"]
            is_weights = isinstance(rule, PathRule) and rule.use == "weights"
            if is_weights and values == (field.default,) and _is_replaced(config, rule):
                continue
            for value in filter(None, values):
                is_read = is_weights and value != field.metadata["const"]
                if is_read and path_kind(Path(value)) is None:
                    raise missing_weights(Path(value))
                if field.name in yamls:
                    _check_yaml(value, yamls[field.name])
    except UserError as error:
        CommandParser().exit(2, f"error: {error}\n")
    log_idle_flags(config)
    return config


def _check_yaml(name: str, rule: Path | Callable[[str], object]) -> None:
    if not isinstance(rule, Path):
        rule(name)
        return
    from utils.strict_yaml import find_shipped, read_yaml  # most name no yaml

    read_yaml(find_shipped(name, rule))


def run_script(
    config_class: type[ConfigT],
    action: Callable[[ConfigT], int],
    argv: Sequence[str] | None,
    refused: Mapping[str, str],
    defaults: Callable[[ConfigT], ConfigT | None] = lambda _: None,
    first: str = "",
) -> int:
    """Parse, run `action`, and turn the project's errors into one line and an exit code.

    Args:
        config_class: dataclass whose fields were made by `option`.
        action: what the script does; returns the exit code.
        argv: the arguments after the script's name; None takes the process's.
        refused: as in `parse`.
        defaults: for a parsed config, another one whose values stand for the flags that were not
            given; None keeps the parsed one.
        first: the flag that the first argument is a value of, where it is no flag.

    Returns:
        What `action` returns; 1 after a failed check; 2 after the user's mistake.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if first and arguments and not arguments[0].startswith("-"):
        arguments.insert(0, first)
    configure_logging()

    def run(config: ConfigT) -> int:
        base = defaults(config)
        return action(config if base is None else parse(config_class, arguments, refused, base))

    return run_checked(parse(config_class, arguments, refused), run)


def run_checked(config: ConfigT, action: Callable[[ConfigT], int]) -> int:
    """As `run_script`, with a command line that has been parsed."""
    try:
        with raised_as_interrupts():
            return action(config)
    except UserError as error:
        logger.error("error: %s", error)
        return exit_code_after_report(2)
    except CheckFailedError as error:
        logger.error("failed: %s", error)
        return exit_code_after_report(1)
    except KeyboardInterrupt as error:
        logger.error("interrupted")
        return error.code if isinstance(error, Stopped) else 130


def _add_flag(
    parser: argparse.ArgumentParser, field: dataclasses.Field[Any], hint: Any, default: Any
) -> None:
    """Add the flag of a field, whose type is `hint`."""
    flags = [flag_of(field.name), *field.metadata["aliases"]]
    help_text = field.metadata["help"].replace("%", "%%")
    shared = {"dest": field.name, "default": default, "help": help_text}
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
