"""The pages say what the program does: flags, messages, links and commands."""

from __future__ import annotations

import ast
import functools
import re
import urllib.parse
from pathlib import Path

import pytest

from tests.documents.commands import CONFIGS, spellings
from tests.documents.pages import all_pages, anchors_of, parsed, targets_of, tokens_of

ROOT = Path(__file__).parents[2]
PAGES = [Path(name) for name in all_pages()]


def text_of(page: Path) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("script", ["train", "val", "detect", "export"])
def test_the_migration_page_lists_every_flag(script):
    _, refused = CONFIGS[script]
    page = text_of(Path("docs/migration.md"))
    section = page.partition(f"## {script}.py, flag by flag")[2].partition("\n## ")[0]
    offered, said_refused = set(), set()
    for row in section.splitlines():
        flags = set(re.findall(r"`(--[\w-]+)`", row))
        if "| refused" in row:
            said_refused |= flags
        else:
            offered |= flags
    known = spellings(script)
    assert not {flag for flag in offered if flag not in known}
    assert {known[flag] for flag in offered} == set(known.values())
    assert said_refused == set(refused)


def test_the_migration_page_says_what_becomes_of_the_flags_of_yolov5_lite():
    section = text_of(Path("docs/migration.md")).partition("## From YOLOv5-Lite")[2]
    script, seen = "", set()
    for row in re.findall(r"^\| (?:`(\w+)\.py`)? ?\| (`--.+?) \| (.+) \|$", section, re.M):
        script = {"": script, "test": "val"}.get(row[0], row[0])
        flags = {flag.replace("_", "-") for flag in re.findall(r"`(--[\w-]+)`", row[1])}
        known = set(CONFIGS[script][1]) if row[2].startswith("refused") else set(spellings(script))
        assert flags and flags <= known, row
        seen.add(script)
    assert seen == {"train", "val", "detect", "export"}


@functools.cache
def said_in_source() -> str:
    """Every text in the code, formatted values as `...`, one per line."""
    texts = []
    for path in (*ROOT.glob("*.py"), *(p for room in ("data", "models", "utils")
                                       for p in (ROOT / room).rglob("*.py"))):  # fmt: skip
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                texts.append("".join(str(part.value) if isinstance(part, ast.Constant) else "..."
                                     for part in node.values))  # fmt: skip
    return "\n".join(texts)


def test_messages_on_the_troubleshooting_page_are_those_of_the_program():
    first_cells = re.findall(r"^\| ([^|]+) \|", text_of(Path("docs/troubleshooting.md")), re.M)
    messages = [each for cell in first_cells for each in re.findall(r"`([^`]+)`", cell)]
    assert len(messages) > 25
    parts = [part.strip() for message in messages for part in message.split("...")]
    assert [part for part in parts if part and part not in said_in_source()] == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_and_images_lead_somewhere(page):
    for target in targets_of(tokens_of(page.as_posix())):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, fragment = urllib.parse.unquote(target).partition("#")
        linked = (page.parent / file) if file else page
        path = (ROOT / linked).resolve()
        assert path.exists(), f"{page}: {target}"
        if fragment:
            anchors = anchors_of(tokens_of(path.relative_to(ROOT).as_posix()))
            assert fragment in anchors, f"{page}: {target}"


def test_every_image_is_on_a_page():
    targets = {Path(target).name for page in PAGES
               for target in targets_of(tokens_of(page.as_posix()))}  # fmt: skip
    images = (path for path in (ROOT / "docs" / "images").rglob("*") if path.is_file())
    assert {path.name for path in images} <= targets


def linked_pages(page: Path) -> set[Path]:
    """The files that a page's list entries link to, from ROOT."""
    targets = re.findall(r"^- \[.+\]\((.+)\)$", text_of(page), re.M)
    return {(ROOT / page.parent / target).resolve().relative_to(ROOT) for target in targets}


def test_every_page_is_in_the_table_of_contents():
    """The site's navigation is made of it; reports have a table of contents of their own."""
    reports = Path("docs/benchmarks")
    folders = (Path(), Path("docs"), Path("models/weights"), Path("data/images"))
    pages = {page for page in PAGES if page.parent in folders and not is_chinese(page)}
    listed = linked_pages(Path("docs/README.md"))
    assert listed == pages - {Path("docs/README.md")} | {reports / "README.md"}
    linked = re.findall(r"\]\(([^)/]+\.md)\)", text_of(reports / "README.md"))
    written = {page.name for page in PAGES if page.parent == reports} - {"README.md"}
    assert set(linked) == written


def is_chinese(page: Path) -> bool:
    return page.name.endswith((".zh.md", ".zh-CN.md"))


def test_pages_in_chinese_lie_beside_the_english_ones():
    chinese = [page for page in PAGES if page.name.endswith(".zh.md")]
    assert {page.with_name(page.name.replace(".zh.md", ".md")) for page in chinese} <= set(PAGES)


@pytest.mark.parametrize(
    ("text", "anchors"),
    [
        ("# A `b` c!", {"a-b-c"}),
        ("# a\n\n# a\n", {"a", "a-1"}),
        ("## 8 位（bits）", {"8-位bits"}),
        ("a <a id='b'></a>", {"b"}),
    ],
)
def test_anchors_are_those_of_github(text, anchors):
    assert anchors_of(parsed(text)) == anchors


def test_targets_are_found():
    text = "[a](b.md#c) ![d](e.png 'f') [g][h] <img src=\"i.svg\">\n\n[h]: j.md\n\n`[k](l)`\n"
    assert targets_of(parsed(text)) == ["b.md#c", "e.png", "j.md", "i.svg"]
