"""The pages say what the program does: flags, messages, links and commands."""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from models.export import request
from utils import convert_config, detect_config, train_config, val_config
from utils.cli import flag_of

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    Path(name)
    for name in subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
)
CONFIGS = {
    "train": (train_config.TrainConfig, train_config.REFUSED),
    "val": (val_config.ValConfig, val_config.REFUSED),
    "detect": (detect_config.DetectConfig, detect_config.REFUSED),
    "export": (request.ExportConfig, request.REFUSED),
    "convert": (convert_config.ConvertConfig, {}),
}


def text_of(page: Path) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def spellings(script: str) -> dict[str, str]:
    """Every spelling of every flag of a script, with the flag it means."""
    config, _ = CONFIGS[script]
    return {
        spelling: flag_of(field.name)
        for field in dataclasses.fields(config)
        for flag in (flag_of(field.name), *field.metadata["aliases"])
        for spelling in (flag, flag.replace("--", "--no-", 1))
    }


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


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.M)
    return {
        re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")
        for heading in headings
    }


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, fragment = target.partition("#")
        linked = (page.parent / file) if file else page
        path = (ROOT / linked).resolve()
        assert path.exists(), f"{page}: {target}"
        if fragment:
            assert fragment in anchors(path.relative_to(ROOT)), f"{page}: {target}"


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


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """Script and arguments of every command line in a page's blocks."""
    found = []
    for block in re.findall(r"^```\w*\n(.*?)^```", text_of(page), re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            command = re.match(r"\s*(?:\$ )?python3? (\w+)\.py\b(.*)", line)
            if command is not None and command[1] in CONFIGS:
                arguments = shlex.split(command[2].partition(" #")[0])
                found.append((command[1], arguments))
    return found


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_have_flags_that_exist(page):
    for script, arguments in commands(page):
        known = spellings(script)
        for argument in arguments:
            flag = argument.partition("=")[0].replace("_", "-")
            is_known = not flag.startswith("--") or flag in known or flag == "--help"
            assert is_known, f"{page}: {script}.py {argument}"


def blocks(page: Path) -> list[str]:
    """What is in a page's blocks, without comments."""
    found = re.findall(r"^```\w*\n(.*?)^```", text_of(page), re.M | re.S)
    return ["\n".join(re.sub(r"\s*#.*", "", line) for line in block.splitlines())
            for block in found]  # fmt: skip


@pytest.mark.parametrize("page", [p for p in PAGES if p.name.endswith(".zh-CN.md")], ids=str)
def test_pages_in_chinese_are_in_step_with_the_english_ones(page):
    english = page.with_name(page.name.replace(".zh-CN", ""))
    for pattern in (r"^#+ ", r"^\|", r"^!\["):  # headings, rows of tables, images
        theirs, ours = (re.findall(pattern, text_of(each), re.M) for each in (english, page))
        assert len(ours) <= len(theirs)
    known = blocks(english)
    assert [block for block in blocks(page) if block not in known] == []
    figures = r"0\.\d{2,}"
    assert set(re.findall(figures, text_of(page))) <= set(re.findall(figures, text_of(english)))
