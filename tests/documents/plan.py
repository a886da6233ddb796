"""Which commands of the pages are run: each program once with each set of flags."""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain

from tests.documents.commands import Command, commands_of
from tests.documents.pages import english_page
from tests.documents.rules import as_run, is_read_by, reason_not_run


def plan(pages: Sequence[str]) -> dict[str, list[tuple[Command, str]]]:
    """English page -> its commands and those that translations add, with what is run of each.

    A repeated command is left where a later one of the page reads what it writes. The first one
    writes the files that all of them promise.
    """
    in_order = sorted(pages, key=lambda name: (english_page(name), name != english_page(name)))
    of_page = {page: list(_steps(page)) for page in in_order}
    promised: dict[str, set[str]] = defaultdict(set)
    for command, text in chain.from_iterable(of_page.values()):
        promised[without_comments(text)].update(command.promised)

    planned: dict[str, list[tuple[Command, str]]] = {}
    on_any_page: set[str] = set()
    for page, given in of_page.items():
        steps = planned.setdefault(english_page(page), [])
        on_page = {without_comments(text) for _, text in steps}
        for number, (command, text) in enumerate(given, 1):
            code = without_comments(text)
            is_read = any(is_read_by(text, later) for _, later in given[number:])
            if code not in (on_page if is_read else on_any_page):
                names = tuple(sorted(promised.pop(code, ())))
                steps.append((dataclasses.replace(command, promised=names), text))
            on_page.add(code)
            on_any_page.add(code)
    return {page: steps for page, steps in planned.items() if steps}


def without_comments(program: str) -> str:
    """What tells programs apart: comments are translated."""
    return re.sub(r"(^|\s)#\s.*", "", program)


def _steps(page: str) -> Iterator[tuple[Command, str]]:
    for command in commands_of(page):
        if reason_not_run(command) is None:
            yield command, as_run(command)
