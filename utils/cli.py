"""Command lines: read into frozen dataclasses, which declare them, and written for the user to run.

`parse(TrainConfig, [])` equals `TrainConfig()`. Flags keep YOLOv5's spelling; `-` and `_` are the
same, and every alias of a flag works.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import logging
import shlex
import shutil
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from utils.errors import CheckFailedError, ConfigError, UserError
from utils.logs import configure_logging, exit_code_after_report, reports_errors

ConfigT = TypeVar("ConfigT")
logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Which numbers a flag takes; NaN is never one where there is a minimum or a maximum.

    Attributes:
        minimum: the lowest one; None for any.
        maximum: the highest one; None for any.
        besides: others, with a meaning of their own (-1 for "measure").
        max_values: how many may be given at most; None for any number of them.
    """

    minimum: float | None = None
    maximum: float | None = None
    besides: tuple[float, ...] = ()
    max_values: int | None = None

    def allow(self, value: float) -> bool:
        """Whether one number is among them."""
        not_below = self.minimum is None or value >= self.minimum
        not_above = self.maximum is None or value <= self.maximum
        return value in self.besides or (not_below and not_above)

    def as_text(self) -> str:
        """`at least 1, or -1`."""
        if self.maximum is None:
            text = f"at least {self.minimum:g}"
        elif self.minimum is None:
            text = f"at most {self.maximum:g}"
        else:
            text = f"from {self.minimum:g} to {self.maximum:g}"
        return ", or ".join([text, *(f"{value:g}" for value in self.besides)])


def option(
    default: Any,
    help_text: str,
    *aliases: str,
    choices: Sequence[str] | None = None,
    const: Any = None,
    minimum: float | None = None,
    maximum: float | None = None,
    besides: tuple[float, ...] = (),
    max_values: int | None = None,
) -> Any:
    """A dataclass field that is also a flag.

    Args:
        default: what the flag is when it is not given.
        help_text: one line for `--help`.
        *aliases: other spellings, with their dashes (`"--img"`).
        choices: the values allowed, if only some are.
        const: what the bare flag means, for flags whose value may be omitted (`--resume`).
        minimum: the lowest number allowed; every flag with numbers has one.
        maximum: the highest number allowed.
        besides: numbers outside of these that are allowed too.
        max_values: how many numbers may be given.
    """
    metadata = {
        "help": help_text,
        "aliases": aliases,
        "choices": choices,
        "const": const,
        "limits": Limits(minimum, maximum, besides, max_values),
    }
    return dataclasses.field(default=default, metadata=metadata)


def check_ranges(config: Any) -> None:
    """Refuse numbers outside the limits that `option` declares; for configs made in Python too.

    Raises:
        ConfigError: naming the flag and what it takes.
    """
    for field in dataclasses.fields(config):
        limits: Limits = field.metadata["limits"]
        value = getattr(config, field.name)
        values = value if isinstance(value, tuple | list) else () if value is None else (value,)
        given = f"{flag_of(field.name)} {' '.join(map(str, values))}"
        if limits.max_values is not None and len(values) > limits.max_values:
            raise ConfigError(f"{given}: expected {limits.max_values} numbers at most")
        for each in values:
            if isinstance(each, int | float) and not limits.allow(each):
                raise ConfigError(f"{given}: must be {limits.as_text()}")


def flag_of(name: str) -> str:
    """The flag of a field, with dashes."""
    return "--" + name.replace("_", "-")


def parse(
    config_class: type[ConfigT],
    argv: Sequence[str],
    refused: Mapping[str, str],
    defaults: ConfigT | None = None,
) -> ConfigT:
    """The command line as a config.

    Args:
        config_class: dataclass whose fields were made by `option`.
        argv: the arguments after the script's name.
        refused: flag (with dashes) -> the sentence that says what to use instead.
        defaults: what flags that are not given mean; None takes the fields' own defaults.

    Raises:
        SystemExit: with code 2 for a wrong flag, 0 for `--help`.
    """
    parser = _OneLineParser(
        description=(config_class.__doc__ or "").split("\n")[0],
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):  # type: ignore[arg-type]
        flags = [flag_of(field.name), *field.metadata["aliases"]]
        parser.add_argument(
            *flags,
            dest=field.name,
            default=field.default if defaults is None else getattr(defaults, field.name),
            help=field.metadata["help"].replace("%", "%%"),
            **_argument_kind(hints[field.name], field.metadata),
        )
    for flag, sentence in refused.items():
        parser.add_argument(
            flag,
            action=_refusal(sentence),
            nargs="*",
            help=argparse.SUPPRESS,
            default=argparse.SUPPRESS,
        )
    values = vars(parser.parse_args([_with_dashes(argument) for argument in argv]))
    config = config_class(
        **{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    )
    try:
        check_ranges(config)
    except ConfigError as error:
        parser.exit(2, f"error: {error}\n")
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
    argv = sys.argv[1:] if argv is None else argv
    configure_logging()
    config = parse(config_class, argv, refused)
    try:
        if (base := defaults(config)) is not None:
            config = parse(config_class, argv, refused, base)
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


class _OneLineParser(argparse.ArgumentParser):
    """Reports an error in one line instead of printing the usage."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2 after one line; an unknown flag brings the closest known one."""
        unknown = message.removeprefix("unrecognized arguments: ").split()[0]
        if message.startswith("unrecognized") and unknown.startswith("--"):
            close = difflib.get_close_matches(unknown, self._option_string_actions, n=1)
            message = f"{unknown}: no such flag" + (f"; did you mean {close[0]}?" if close else "")
        self.exit(2, f"error: {message} (--help lists the flags)\n")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End; of several processes under torchrun, one says why."""
        code = exit_code_after_report(status)
        super().exit(code, message if reports_errors() else None)


def _argument_kind(hint: Any, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of `add_argument` for a field's type."""
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if bool in members and metadata["const"] is None:  # bool | None: else the script decides
        return {"action": argparse.BooleanOptionalAction}
    kind = next(member for member in members if member is not types.NoneType)
    several = typing.get_origin(kind) is tuple
    kwargs: dict[str, Any] = {"type": typing.get_args(kind)[0] if several else kind}
    if several:
        kwargs["nargs"] = "*" if metadata["const"] is not None else "+"
        if metadata["choices"] is not None:  # repeatable: `--preset onnx --preset npu`
            kwargs["action"] = _Several
    elif metadata["const"] is not None:
        kwargs.update(nargs="?", const=metadata["const"])
    if metadata["choices"] is not None:
        kwargs["choices"] = metadata["choices"]
    return kwargs


class _Several(argparse.Action):
    """Collects the values of a repeatable flag; the first ones replace the default."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        flag: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest)
        given = [] if before is self.default else list(before)
        setattr(namespace, self.dest, [*given, *values])


def _with_dashes(argument: str) -> str:
    """`--save_period=3` -> `--save-period=3`."""
    if not argument.startswith("--"):
        return argument
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value


def _refusal(sentence: str) -> type[argparse.Action]:
    class Refuse(argparse.Action):
        def __call__(
            self,
            parser: argparse.ArgumentParser,
            namespace: Any,
            values: Any,
            flag: str | None = None,
        ) -> NoReturn:
            parser.exit(2, f"error: {flag}: {sentence}\n")

    return Refuse


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
