"""A page in Chinese says what its English page says: commands, tables, figures and links.

What stands in a section of one page, in any order, stands in the same section of the other one:
code, figures, links and images. So an edit of one page that forgets the other one is noticed.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest
from markdown_it.token import Token

from tests.documents.pages import heading_anchors, parsed, tokens_of
from tests.house.test_documents import PAGES, text_of

# Tables that a script writes, and pages for those who work on the project itself.
ONLY_IN_ENGLISH = {"models.md", "claims.md", "architecture.md"}
ENGLISH = [
    page
    for page in PAGES
    if page.parent == Path("docs")
    and page.name not in ONLY_IN_ENGLISH
    and not page.name.endswith(".zh.md")
]
README = {Path("README.md"): Path("README.zh-CN.md")}
MULTIPLES = {"million": 6, "M": 6, "万": 4, "亿": 8}  # powers of ten
CODE, FORMULA = r"`[^`]+`", r"\$[^$]+\$"
COMMENT = re.compile(r"(^|\s)#(\s.*|$)")
TEXT = re.compile(r"(?<=\\text\{)[^}]*")  # words in a formula


def chinese(page: Path) -> Path:
    """`docs/web.md` -> `docs/web.zh.md`."""
    return README.get(page) or page.with_name(page.name.removesuffix(".md") + ".zh.md")


@dataclass(frozen=True)
class Section:
    """From one heading to the next.

    Attributes:
        level: of the heading.
        text: the heading and what stands below it, without blocks of code.
        blocks: of code: their language and lines.
    """

    level: int
    text: str
    blocks: list[tuple[str, list[str]]]

    @property
    def rows(self) -> list[list[str]]:
        """The cells of each row of its tables."""
        lines = [line for line in self.text.splitlines() if line.startswith("|")]
        return [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]


def sections(text: str) -> list[Section]:
    """The sections of a page, what precedes the first heading included."""
    found = [Section(0, "", [])]
    fence = None
    for line in text.splitlines():
        opened = re.match(r"(`{3,})(\w*)$", line.strip())
        heading = re.match(r"(#+) ", line)
        if fence is not None and line.strip() == fence:
            fence = None
        elif fence is not None:
            found[-1].blocks[-1][1].append(line)
        elif opened is not None:
            fence = opened[1]
            found[-1].blocks.append((opened[2], []))
        elif heading is not None:
            found.append(Section(len(heading[1]), line.removeprefix(heading[0]), []))
        else:
            last = found.pop()
            found.append(Section(last.level, f"{last.text}\n{line}", last.blocks))
    return found


def code_spans(text: str) -> Counter[str]:
    """The code and the formulas in a text."""
    formulas = re.findall(FORMULA, re.sub(CODE, " ", text))
    return Counter(re.findall(CODE, text)) + Counter(TEXT.sub("", each) for each in formulas)


def figures(text: str) -> Counter[Decimal]:
    """Every number that is not part of a name; `1.79 亿` is `179 million`."""
    prose = re.sub(rf"{CODE}|{FORMULA}|\]\([^)]+\)", " ", text)
    number = r"(?<![A-Za-z\d.,])(\d[\d,]*(?:\.\d+)*(?:e-?\d+)?)(?: ?(million\b|M\b|万|亿))?"
    values = []
    for digits, multiple in re.findall(number, prose):
        parts = digits.rstrip(",").replace(",", "").split(".")
        if len(parts) <= 2:
            values.append(Decimal(".".join(parts)).scaleb(MULTIPLES.get(multiple, 0)).normalize())
        else:  # a version
            values += [Decimal(part) for part in parts]
    return Counter(values)


def links(page: Path, text: str, *, translated: bool = False) -> Counter[str]:
    """Where a text leads; from an English page, if asked for, where its translation must lead.

    The link of a page to its translation is omitted.
    """
    text = re.sub(r"^\[(中文|English)\].*$", "", text, flags=re.M)
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(CODE, "", text))
    return Counter(translated_target(page, each) if translated else each for each in targets)


def translated_target(page: Path, target: str) -> str:
    """What a link of an English page is in its translation: the other page in Chinese, if any."""
    file, _, fragment = target.partition("#")
    if re.match(r"[a-z]+:", target):
        return target
    linked = Path(os.path.normpath(page.parent / file)) if file else page
    other = chinese(linked)
    if other not in PAGES:
        return target
    name = f"{file[: -len(linked.name)]}{other.name}" if file else ""
    return name + (f"#{translated_fragment(linked, other, fragment)}" if fragment else "")


def translated_fragment(page: Path, other: Path, fragment: str) -> str:
    """The anchor of the heading that stands at the same position."""
    ours, theirs = (heading_anchors(tokens_of(each.as_posix())) for each in (page, other))
    return theirs[ours.index(fragment)]


def differences(one: Counter[object], other: Counter[object]) -> tuple[list[str], list[str]]:
    """What only one of them has, and what only the other one has."""
    return ([str(each) for each in (one - other).elements()],
            [str(each) for each in (other - one).elements()])  # fmt: skip


@pytest.mark.parametrize("page", ENGLISH, ids=str)
def test_every_page_of_the_documentation_is_there_in_chinese(page):
    assert chinese(page) in PAGES, f"{page} has no {chinese(page).name}"


def test_every_page_in_chinese_has_its_english_one():
    translated = {page for page in PAGES if page.name.endswith((".zh.md", ".zh-CN.md"))}
    assert translated == {chinese(page) for page in (*ENGLISH, *README)} & set(PAGES)


PAIRS = [page for page in (*ENGLISH, *README) if chinese(page) in PAGES]


@pytest.mark.parametrize("page", PAIRS, ids=str)
def test_both_pages_link_each_other_in_their_first_lines(page):
    assert text_of(page).splitlines()[2] == f"[中文]({chinese(page).name})"
    assert text_of(chinese(page)).splitlines()[2] == f"[English]({page.name})"


@pytest.mark.parametrize("page", PAIRS, ids=str)
def test_headings_have_the_same_levels(page):
    theirs, ours = (sections(text_of(each)) for each in (page, chinese(page)))
    assert [each.level for each in ours] == [each.level for each in theirs]


@pytest.mark.parametrize("page", PAIRS, ids=str)
def test_blocks_of_code_are_the_same_except_for_comments(page):
    for theirs, ours in section_pairs(page):
        assert without_comments(ours.blocks) == without_comments(theirs.blocks)


def without_comments(blocks: list[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
    """The blocks with `#` for each comment, and formulas without their words."""
    return [
        (language, [COMMENT.sub(r"\1#", TEXT.sub("", line)) for line in lines])
        for language, lines in blocks
    ]


@pytest.mark.parametrize("page", PAIRS, ids=str)
def test_tables_have_the_same_code_and_figures_in_every_cell(page):
    for theirs, ours in section_pairs(page):
        assert [len(row) for row in ours.rows] == [len(row) for row in theirs.rows]
        for row, their_row in zip(ours.rows, theirs.rows, strict=True):
            for cell, their_cell in zip(row, their_row, strict=True):
                found = (code_spans(cell), figures(cell))
                assert found == (code_spans(their_cell), figures(their_cell)), their_row


@pytest.mark.parametrize("page", PAIRS, ids=str)
def test_sections_have_the_same_code_figures_and_links(page):
    for theirs, ours in section_pairs(page):
        where = theirs.text.splitlines()[0] if theirs.text else "top"
        pairs = (
            (code_spans(theirs.text), code_spans(ours.text)),
            (figures(theirs.text), figures(ours.text)),
            (links(page, theirs.text, translated=True), links(page, ours.text)),
        )
        found = [differences(*pair) for pair in pairs]
        assert found == [([], [])] * 3, f"{page}: {where}: only in English, only in Chinese"


def section_pairs(page: Path) -> list[tuple[Section, Section]]:
    theirs, ours = (sections(text_of(each)) for each in (page, chinese(page)))
    return list(zip(theirs, ours, strict=True))


@pytest.mark.parametrize("page", [chinese(page) for page in PAIRS], ids=str)
def test_emphasis_is_rendered(page):
    assert asterisks_shown(tokens_of(page.as_posix())) == []


def asterisks_shown(tokens: tuple[Token, ...]) -> list[str]:
    """Texts with asterisks that a reader sees.

    Between a letter and a punctuation mark they do not begin or end emphasis on the side of the
    mark, as in `**字。**字`, and languages without spaces have no space that would help.
    """
    children = [child for token in tokens for child in token.children or ()]
    return [each.content for each in children if each.type == "text" and "*" in each.content]


def test_asterisks_that_are_shown_are_noticed():
    assert asterisks_shown(parsed("**字。** 字，**字**：`*.cache`")) == []
    assert asterisks_shown(parsed("**字。**字"))
    assert asterisks_shown(parsed("字**（字）**"))


@pytest.mark.parametrize("page", [chinese(page) for page in PAIRS], ids=str)
def test_lines_do_not_end_between_two_characters_of_chinese(page):
    """A browser shows a line's end in a paragraph as a space, which Chinese does not have."""
    text = re.sub(r"^```.*?^```", "", text_of(page), flags=re.M | re.S)
    character = r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]"
    assert re.findall(rf".*{character}\n *{character}.*", text) == []


@pytest.mark.parametrize(
    ("english", "translation", "equal"),
    [
        ("179 million pixels", "1.79 亿像素", True),
        ("7,226 boxes", "7226 个框", True),
        ("a loss of 0.5", "下降 0.50", True),  # the same value
        ("version 2.14.1", "版本 2.14.1", True),
        ("3x3 of YOLOv5", "YOLOv5 的 3x3", True),
        ("80 % of 64", "64 的 8%", False),
        ("three seeds", "3 个种子", False),  # a figure where there is none
    ],
)
def test_figures_are_compared_by_value(english, translation, equal):
    assert (figures(english) == figures(translation)) is equal


def test_words_in_a_formula_are_translated():
    assert code_spans(r"$x \text{ where } y$") == code_spans(r"$x \text{（} y$")
    assert code_spans(r"$x$") != code_spans(r"$y$")


def test_a_hash_in_a_value_is_no_comment():
    assert without_comments([("", ["a  # b", "'#7 person'", "# c"])]) == [
        ("", ["a  #", "'#7 person'", "#"])
    ]
