"""The parser of all command lines: errors in one line, a help page with defaults and examples."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from utils.errors import close_to
from utils.logs import exit_code_after_report, reports_errors


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Says what a flag is when it is not given, unless its help says so, or it is just empty."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text, default = action.help or "", action.default
        if "default" in text or default in (None, "", False, (), argparse.SUPPRESS):
            return text
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
        return f"{text} (default: {str(shown).replace('%', '%%')})"


class CommandParser(argparse.ArgumentParser):
    """Reports an error in one line instead of printing the usage; among ranks, the first one does.

    Of its description, a docstring, the first line is shown, and at the end what follows
    `Examples:`.

    Attributes:
        refused: flags that are not offered -> the sentence that says what to use instead.
    """

    refused: Mapping[str, str] = MappingProxyType({})

    def format_help(self) -> str:
        """What `--help` shows."""
        text, _, examples = (self.description or "").partition("Examples:\n")
        self.description = text.split("\n")[0]
        if examples:
            self.epilog = "examples:\n" + textwrap.indent(textwrap.dedent(examples).strip(), "  ")
        return super().format_help()

    def _get_option_tuples(
        self, option_string: str
    ) -> list[tuple[argparse.Action, str, str | None]]:
        """What a flag that is cut off may be; spellings of one flag are not several."""
        found = super()._get_option_tuples(option_string)
        return found[:1] if len({id(match[0]) for match in found}) == 1 else found

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End the process; of several under torchrun, one says why."""
        code = exit_code_after_report(status)
        super().exit(code, message if reports_errors() else None)

    def error(self, message: str) -> NoReturn:
        """Exit with code 2 after one line; an unknown flag brings the closest known one."""
        unknown = [each for each in message.split() if each.startswith("--")]
        if message.startswith("unrecognized") and unknown:
            flag = unknown[0].partition("=")[0]
            if flag in self.refused:
                self.exit(2, f"error: {flag}: {self.refused[flag]}\n")
            close = close_to(flag[2:], [known[2:] for known in self._option_string_actions])
            message = f"{flag}: no such flag" + (f"; did you mean --{close}?" if close else "")
        elif message.startswith("unrecognized"):
            unread = message.partition(": ")[2]
            message = f"{unread}: no flag takes this; one value too many, or a space without quotes"
        if wrong := _WRONG_NUMBER.fullmatch(message):
            flag, kind, value = wrong.groups()
            message = f"{flag} {value}: must be {_NUMBERS[kind]}"
        self.exit(2, f"error: {message} (--help lists the flags)\n")


# What argparse says of text where it expects a number.
_WRONG_NUMBER = re.compile(r"argument (--[\w-]+)(?:/--[\w-]+)*: invalid (int|float) value: '(.*)'")
_NUMBERS = MappingProxyType({"int": "an integer", "float": "a number"})


class Several(argparse.Action):
    """Collects the values of a repeatable flag; the first ones replace the default."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        flag: str | None = None,
    ) -> None:
        """Add the values of one flag."""
        before = getattr(namespace, self.dest)
        given = [] if before is self.default else list(before)
        setattr(namespace, self.dest, [*given, *values])


def with_dashes(argument: str) -> str:
    """`--save_period=3` -> `--save-period=3`."""
    if not argument.startswith("--"):
        return argument
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value
