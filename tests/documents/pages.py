"""Markdown pages in the parts that checks look at: sections, blocks of code, code in sentences."""

from __future__ import annotations

import functools
import itertools
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
PARAGRAPH, CELL = 1, 4  # levels of what stands in a paragraph, and in a cell of a table
CHINESE = re.compile(r"\.zh(-CN)?\.md$")


@dataclass(frozen=True, slots=True)
class Code:
    """A block of code, or code in a sentence.

    Attributes:
        page: relative to the repository.
        line: of its first line, from 1.
        language: what stands behind the three backticks; None for code in a sentence.
        text: without the backticks.
    """

    page: str
    line: int
    language: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Section:
    """What stands under one heading, down to the next one.

    Attributes:
        page: relative to the repository.
        heading: its text; empty before the first.
        prose: lines of text with the number of the first line of their paragraph or row, code and
            addresses removed, and comments of code; not what is quoted, in italics.
        rows: lines of table rows without a link.
        links: targets of links and images.
        code: blocks of code, and code in sentences.
    """

    page: str
    heading: str
    prose: tuple[tuple[int, str], ...]
    rows: tuple[int, ...]
    links: tuple[str, ...]
    code: tuple[str, ...]


def user_pages() -> tuple[str, ...]:
    """README and docs, in every language: what users read and type from."""
    docs = ROOT / "docs"
    found = [*ROOT.glob("README*.md"), *docs.glob("*.md"), docs / "benchmarks" / "README.md"]
    return tuple(sorted(path.relative_to(ROOT).as_posix() for path in found))


def all_pages() -> tuple[str, ...]:
    """Every tracked page."""
    command = ["git", "ls-files", "-z", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return tuple(sorted(filter(None, listed.stdout.decode().split("\0"))))


def english_page(page: str) -> str:
    """The English page that a page translates; an English page itself."""
    return CHINESE.sub(".md", page)


@functools.cache
def tokens_of(page: str) -> tuple[Token, ...]:
    """The page, parsed as GitHub does: CommonMark with tables."""
    return parsed((ROOT / page).read_text(encoding="utf-8"))


def parsed(text: str) -> tuple[Token, ...]:
    """A text as tokens of markdown-it."""
    return tuple(MarkdownIt("commonmark").enable("table").parse(text))


def code_of(page: str, tokens: tuple[Token, ...]) -> Iterator[Code]:
    """All code of a page, in its order."""
    for token in tokens:
        line = token.map[0] + 1 if token.map else 0
        if token.type in ("fence", "code_block"):
            language = token.info.split()[0] if token.info.split() else ""
            yield Code(page, line + (token.type == "fence"), language, token.content)
        for child in token.children or ():
            if child.type == "code_inline":
                yield Code(page, line, None, child.content)


def sections_of(page: str, tokens: tuple[Token, ...]) -> list[Section]:
    """The sections of a page, in its order."""
    sections: list[Section] = []
    heading, inline = "", list[Token]()
    for position, token in enumerate(tokens):
        if token.type == "heading_open":
            sections.append(_section(page, heading, inline))
            heading, inline = tokens[position + 1].content, []
        elif token.type in ("inline", "fence"):
            inline.append(token)
    return [*sections, _section(page, heading, inline)]


def _section(page: str, heading: str, inline: list[Token]) -> Section:
    prose, links, code = list[tuple[int, str]](), list[str](), list[str]()
    rows: dict[int, bool] = {}
    for token in inline:
        line = token.map[0] + 1 if token.map else 0
        children = token.children or []
        if token.type == "fence":
            code.append(token.content)
            prose += said_in_block(token)
        if not children or (token.level == PARAGRAPH and is_quotation(children)):
            continue
        parts = [
            "`" if child.type == "code_inline" else "\n" if child.type.endswith("break") else
            child.content if child.type == "text" else ""
            for child in children
        ]  # fmt: skip
        prose.append((line, "".join(parts)))
        targets = [target for child in children if (target := _target(child))]
        links += targets
        if token.level == CELL:
            rows[line] = rows.get(line, False) or bool(targets)
        code += [child.content for child in children if child.type == "code_inline"]
    unlinked = tuple(line for line, is_linked in rows.items() if not is_linked)
    return Section(page, heading, tuple(prose), unlinked, tuple(links), tuple(code))


def said_in_block(token: Token) -> Iterator[tuple[int, str]]:
    """Comments of a block of code, all lines of one in the language `text`, with their numbers."""
    first = token.map[0] + 2 if token.map else 0
    for number, line in enumerate(token.content.splitlines(), first):
        _, _, comment = (f" {line}").partition(" # ")
        if text := line if token.info == "text" else comment:
            yield number, text


def targets_of(tokens: tuple[Token, ...]) -> list[str]:
    """Where links and images of a page lead, those in HTML too."""
    inline = [child for token in tokens for child in token.children or ()]
    written = [target for token in inline if (target := _target(token))]
    html = [token.content for token in (*tokens, *inline) if token.type.startswith("html")]
    return written + re.findall(r"""(?:href|src)=["']([^"']+)""", "\n".join(html))


def anchors_of(tokens: tuple[Token, ...]) -> set[str]:
    """The fragments that GitHub gives a page's headings, and those of its HTML."""
    html = [child.content for token in tokens for child in (token, *(token.children or ()))
            if child.type.startswith("html")]  # fmt: skip
    written = re.findall(r"""(?:id|name)=["']([^"']+)""", "\n".join(html))
    return {*heading_anchors(tokens), *written}


def heading_anchors(tokens: tuple[Token, ...]) -> list[str]:
    """The fragments that GitHub gives a page's headings, in their order."""
    names: list[str] = []
    for before, token in itertools.pairwise(tokens):
        if before.type == "heading_open":
            kinds = ("text", "code_inline")
            text = "".join(each.content for each in token.children or () if each.type in kinds)
            names.append(re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-"))
    earlier = (names[:position].count(name) for position, name in enumerate(names))
    return [f"{name}-{count}" if count else name
            for name, count in zip(names, earlier, strict=True)]  # fmt: skip


def is_quotation(children: list[Token]) -> bool:
    """Whether a paragraph is in italics from its first word to its last."""
    return (children[0].type, children[-1].type) == ("em_open", "em_close")


def _target(token: Token) -> str | None:
    found = token.attrGet("href") if token.type == "link_open" else token.attrGet("src")
    return None if found is None else str(found)
