"""No figure without a report: every number that README and docs claim stands in one.

A figure is looked for in the dated reports that its section links, or whose command it shows, in
docs/models.md where that is linked, and in the tests that the section names (bounds that they
assert). What a table row says, or a mean with its spread, stands on one line there: a number of
something else does not pass. What is left is listed in known_figures.py, with a reason.
"""

from __future__ import annotations

import re

import pytest

from tests.documents.figures import (
    REPORTS,
    Figure,
    evidence_of,
    figures_in,
    figures_of_one_line,
    lines_needed,
)
from tests.documents.known_figures import KNOWN
from tests.documents.pages import ROOT, english_page, parsed, sections_of, tokens_of, user_pages

GENERATED = ("docs/models.md", "docs/models.zh.md")  # `python -m experiments.model_table` writes it
OTHER_PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "models/weights/README.md")
CHECKED = [*(page for page in user_pages() if page not in GENERATED), *OTHER_PAGES]
# The AP of scores above 0.25 stands in a table of its own.
LINES_OF_A_ROW = {"docs/detection.md": 2}
REPORT_FILES = sorted(REPORTS.glob("*_20??-??-??.md"))
WITHOUT_COMMIT = "2026-11-28"  # the last day on which a report might not say its commit
RENAMED = {
    "experiments.int8_remedies": "experiments.int8_techniques",
    "experiments.scratch_training": "experiments.block_training",
}


def without_report(page: str) -> list[Figure]:
    """Figures of a page that stand in no report that their section links."""
    return [
        figure
        for section in sections_of(page, tokens_of(page))
        for figure in figures_in(page, section.prose)
        if not figure.is_in(frozenset().union(*evidence_of(section)))
    ]


def known_figures(page: str) -> list[Figure]:
    """Those of the list, of an English page."""
    texts = tuple((0, text) for text in KNOWN.get(page, {}))
    return list(figures_in(page, texts))


@pytest.mark.parametrize("page", CHECKED)
def test_every_figure_is_in_a_report_that_its_section_links(page):
    known = known_figures(english_page(page))
    assert [
        f"{page}:{each.line}: {each.text}"
        for each in without_report(page)
        if not any(each.equals(other) for other in known)
    ] == []


@pytest.mark.parametrize("page", CHECKED)
def test_figures_of_a_table_row_stand_on_one_line_of_a_report(page):
    """And so does the spread behind a mean: a figure of another row does not pass for it."""
    known = known_figures(english_page(page))
    allowed = LINES_OF_A_ROW.get(english_page(page), 1)
    assert [
        f"{page}:{group[0].line}: {', '.join(each.text for each in group)}"
        for section in sections_of(page, tokens_of(page))
        for figures in figures_of_one_line(section)
        if (group := [each for each in figures if not any(map(each.equals, known))])
        and lines_needed(group, evidence_of(section)) > allowed
    ] == []


@pytest.mark.parametrize("page", KNOWN)
def test_the_list_holds_what_is_on_the_pages_and_in_no_report(page):
    texts = {figure.text for figure in without_report(page)}
    assert [text for text in KNOWN[page] if text not in texts] == []


@pytest.mark.parametrize("path", REPORT_FILES, ids=lambda path: path.stem)
def test_reports_say_how_and_when_they_were_made(path):
    text = path.read_text(encoding="utf-8")
    made_by = re.findall(r"python -m ((?:experiments|benchmarks)\.\w+)", text)
    assert made_by
    assert path.stem[-10:] in text
    assert re.search(r"\bcommits?\b", text, re.I) or path.stem[-10:] <= WITHOUT_COMMIT
    for module in made_by:
        name = RENAMED.get(module, module)
        assert (ROOT / name.replace(".", "/")).with_suffix(".py").is_file(), module


def read(text: str) -> list[str]:
    (section,) = sections_of("a.md", parsed(text))
    return [figure.text for figure in figures_in("a.md", section.prose)]


@pytest.mark.parametrize(
    ("text", "figures"),
    [
        ("AP 0.426 (0.009), 1.7 times, 12 ms", ["0.426", "0.009", "1.7 times", "12 ms"]),
        ("986,895 cycles; 41 % of 1e-12", ["986,895 cycles", "41 %", "1e-12"]),
        ("1.76 million parameters, 176 万参数", ["1.76 million", "176 万"]),
        ("| a | 0.25 |\n|---|---|\n| b | 7.1 |", ["0.25", "7.1"]),
        ("less than 0.004 px, at 320 px and 640x480 px", ["0.004 px"]),
        ("torch 2.15, Python 3.12 and 3.13, v7.0, 8.4.190, 2026-11-27", []),
        ("three seeds, 40 epochs, 16 boxes, YOLOv5, 3x3, conv1.0, AGPL-3.0, 8-bit", []),
        ("`--max-drop 2.5`, [report](a_0.5.md)", []),
        ("*a third of 0.5 points more*", []),
        ("```\nmake demo  # in 7.1 minutes\nmake test --x 7.2\n```", ["7.1 minutes"]),
        ("```text\n7.1 s\n```", ["7.1 s"]),
        ("| *7.1* |\n|---|\n", ["7.1"]),
        ("- *7.1*", ["7.1"]),
        ("37 µs, 30 FPS, 30 images per second", ["37 µs", "30 FPS", "30 images per second"]),
        ("3x faster, 12 GiB, 40 percent", ["3 x fast", "12 GiB", "40 percent"]),
        ("torch 12.5 ms, yolov5 42.5 AP", ["12.5 ms", "42.5 AP"]),
        ("AP 42, AP50 of 43", ["42", "43"]),
        ("YOLOv5快3.5倍，AP为42，每秒 30 帧", ["3.5 倍", "42", "30"]),
        ("为0.365，12,345，37 微秒", ["0.365", "12,345", "37 微秒"]),
    ],
)
def test_figures_are_found(text, figures):
    assert read(text) == figures


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("| a | 0.426 (0.009) | 1.5 |\n|---|---|---|\n", 1),
        ("0.348 (0.028)", 1),
        ("0.348（0.028）", 1),
        ("| a | 0.426 (0.028) | 1.5 |\n|---|---|---|\n", 2),
        ("| b | 0.348 (0.028) | 1.5 |\n|---|---|---|\n", 2),
        ("0.426 (0.028)", 2),
        ("0.426 (0.5)", float("inf")),
        ("0.348 and 1.5", 0),
        ("| b | [0.348](c.md) | 1.5 |\n|---|---|---|\n", 0),  # it may lead to another report
    ],
)
def test_what_is_said_together_stands_on_one_line(text, lines):
    (section,) = sections_of("a.md", parsed(text))
    report = [frozenset({0.426, 0.009, 1.5}), frozenset({0.348, 0.028})]
    groups = figures_of_one_line(section)
    assert max((lines_needed(group, report) for group in groups), default=0) == lines


@pytest.mark.parametrize(
    ("text", "values", "is_there"),
    [
        ("0.43", {0.4263}, True),
        ("0.43", {0.4351}, False),
        ("41 %", {41.19}, True),
        ("1e-12", {1e-12}, True),
        ("2e-12", {1e-12}, False),
        ("1.76 million", {1_763_224.0}, True),
        ("7.226 M", {7.226}, True),
        ("0.5", set(), False),
        ("-0.4 standard errors", {-0.41}, True),
        ("+0.4 standard errors", {-0.41}, False),
        ("(-0.4)", {0.41}, False),
        ("a loss of 0.4", {-0.41}, True),
    ],
)
def test_figures_are_rounded(text, values, is_there):
    (figure,) = figures_in("a.md", ((1, text),))
    assert figure.is_in(frozenset(values)) is is_there


def test_translations_say_the_same_with_other_units():
    (english, chinese, other) = figures_in("a.md", ((1, "1.76 million, 176 万, 177 万"),))
    assert chinese.equals(english) and not other.equals(english)
