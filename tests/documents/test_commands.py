"""Every command of README and docs is run by `make docs-check`, or listed with a reason.

What can be said without running them is here: flags exist and take their values, targets and files
exist, the lists hold nothing that no page has. The parser of the pages is held to examples.
"""

from __future__ import annotations

import ast
import functools
import re
import shlex
from itertools import chain

import pytest

from tests.documents import rules
from tests.documents.commands import (
    CONFIGS,
    PROGRAMS,
    Command,
    commands_in,
    commands_of,
    spellings,
)
from tests.documents.pages import (
    ROOT,
    all_pages,
    code_of,
    english_page,
    parsed,
    tokens_of,
    user_pages,
)
from tests.documents.plan import plan, without_comments
from tests.house.source_tree import imported_modules
from utils.cli import parse

PAGES = user_pages()
MEASURES = re.compile(r"(?:experiments|benchmarks)\.\w+")
SCRIPT_CALL = re.compile(rf"(?:^|[ /])({'|'.join(CONFIGS)})\.py((?: .*)?)$")


def all_commands() -> list[Command]:
    return list(chain.from_iterable(commands_of(page) for page in PAGES))


def arguments_of(command: Command, text: str) -> tuple[str, list[str]] | None:
    """Script and arguments of a command that runs one of the five."""
    found = None if command.kind in ("python", "call") else SCRIPT_CALL.search(text)
    return None if found is None else (found[1], shlex.split(found[2]))


@pytest.mark.parametrize("page", PAGES)
def test_scripts_take_the_flags_and_values(page):
    for command in commands_of(page):
        found = arguments_of(command, rules.as_run(command))
        if found is not None and rules.reason_not_run(command) is None:
            config, refused = CONFIGS[found[0]]
            try:
                parse(config, found[1], refused)
            except SystemExit as ended:
                assert ended.code == 0 and "--help" in found[1], command.position


@pytest.mark.parametrize("page", all_pages())
def test_scripts_have_the_flags(page):
    for command in commands_of(page):
        script, arguments = arguments_of(command, command.text) or ("train", [])
        known = {spelling.lstrip("-") for spelling in spellings(script)} | {"help"}
        for argument in arguments:
            if argument.startswith("--"):
                flag = argument.partition("=")[0].replace("_", "-").lstrip("-")
                assert any(each.startswith(flag) for each in known), f"{command.position}: {flag}"


def test_the_lists_hold_what_the_pages_have():
    texts = {command.text for command in all_commands()}
    assert [text for text in rules.NOT_RUN if text not in texts] == []
    assert [text for text in rules.SPELLED_OUT if text not in texts] == []
    lines = {line for text in texts for line in text.splitlines()}
    assert [line for line in rules.PROGRAMS_NOT_RUN if line not in lines] == []


def test_nothing_runs_that_installs_or_ends_in_dots():
    for command in all_commands():
        if rules.reason_not_run(command) is None:
            text = rules.as_run(command)
            assert "..." not in text and "--rdzv" not in text, command.position
            installs = re.match(r"(\S*pip3?|apt|docker|ssh|git|systemctl|srun)\b", command.text)
            assert installs is None, f"{command.position}: {command.text}: list it in rules.NOT_RUN"


def test_tests_that_are_named_in_reasons_exist():
    spelled = (*rules.NOT_RUN.values(), *rules.PROGRAMS_NOT_RUN.values(),
               *(rule.reason for rule in (*rules.COMPLETED, *rules.SMALLER)))  # fmt: skip
    named = set(chain.from_iterable(re.findall(r"tests/[\w/]+\.py", text) for text in spelled))
    assert len(named) >= 4
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_every_program_is_run_once_with_each_set_of_flags_and_again_where_its_files_are_read():
    planned = plan(PAGES)
    run = [without_comments(text) for steps in planned.values() for _, text in steps]
    given = {without_comments(rules.as_run(command)) for command in all_commands()
             if rules.reason_not_run(command) is None}  # fmt: skip
    assert set(run) == given
    again = {code for code in run if run.count(code) > 1}
    assert all(any(re.search(writes, code) for writes, _ in rules.READ_LATER) for code in again)


@pytest.mark.parametrize(("writes", "reads"), rules.READ_LATER)
def test_what_is_read_later_is_written_before_on_the_same_page(writes, reads):
    readers = 0
    for steps in plan(PAGES).values():
        texts = [text for _, text in steps]
        for number, text in enumerate(texts):
            if re.search(reads, text) and not re.search(writes, text):
                assert any(re.search(writes, before) for before in texts[:number]), text
                readers += 1
    assert readers


def test_a_command_promises_the_files_that_every_page_promises():
    promised = {(without_comments(text), name) for steps in plan(PAGES).values()
                for command, text in steps for name in command.promised}  # fmt: skip
    for command in all_commands():
        if rules.reason_not_run(command) is None:
            code = without_comments(rules.as_run(command))
            assert {(code, name) for name in command.promised} <= promised, command.position


@pytest.mark.parametrize("page", PAGES)
def test_targets_modules_and_requirements_exist(page):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for command in commands_of(page):
        if command.text.startswith("make "):
            assert command.text.split()[1] in targets, command.position
        for module in re.findall(r"python3? -m ((?:data|models|experiments|benchmarks)[\w.]*)",
                                 command.text):  # fmt: skip
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module
        for name in re.findall(r"requirements[\w-]*\.txt", command.text):
            assert (ROOT / name).is_file(), command.position


@functools.cache
def flags_in(module: str) -> frozenset[str]:
    """The flags that a module of experiments or benchmarks declares, or one that it imports."""
    tree = ast.parse((ROOT / module.replace(".", "/")).with_suffix(".py").read_text("utf-8"))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)
             and isinstance(node.value, str) and node.value.startswith("--")}  # fmt: skip
    imported = {found[0] for _, name in imported_modules(tree) if (found := MEASURES.match(name))}
    return frozenset(texts).union(*map(flags_in, imported))


@pytest.mark.parametrize("page", PAGES)
def test_modules_that_measure_have_the_flags(page):
    """`make docs-check` asks them for their help only."""
    for command in commands_of(page):
        called = re.search(rf"python -m ({MEASURES.pattern})\b(.*)", command.text)
        if called is not None:
            flags = set(re.findall(r"(?<!\S)--[\w-]+", called[2]))
            assert flags <= flags_in(called[1]) | {"--help"}, command.position


@pytest.mark.parametrize("page", PAGES)
def test_blocks_without_a_language_are_commands(page):
    for code in code_of(page, tokens_of(page)):
        if code.language == "":
            first = next(commands_in(code)).text
            known = re.match(rf"(?:{PROGRAMS}|\S*/bin/\S+)\b", first)
            assert known, f"{page}:{code.line}: give the block a language, `text` for example"


@pytest.mark.parametrize("page", [page for page in PAGES if page != english_page(page)])
def test_translations_have_the_commands_of_the_english_page(page):
    english = {command.text for command in commands_of(english_page(page))}
    assert [each.text for each in commands_of(page)
            if each.kind == "shell" and each.text not in english] == []  # fmt: skip


# The parser: what a page's lines become.


def read(text: str) -> list[Command]:
    return list(chain.from_iterable(map(commands_in, code_of("a.md", parsed(text)))))


@pytest.mark.parametrize(
    ("text", "kind", "command", "promised"),
    [
        ("```\npython val.py   --rect  # best.pt and b-2.onnx\n```", "shell",
         "python val.py --rect", ("best.pt", "b-2.onnx")),
        ("```\npython val.py --rect   # 得到 best.pt，之后\n```", "shell", "python val.py --rect",
         ("best.pt",)),
        ("```\npython val.py \\\n   --rect\n```", "shell", "python val.py --rect", ()),
        ("```\n# only a comment, user's\n$ make demo\n```", "shell", "make demo", ()),
        ("```\ngrep '# x' \"a#b\" #7\n```", "shell", "grep '# x' \"a#b\" #7", ()),
        ("```bash\ncat a\n```", "shell", "cat a", ()),
        ("```python\nprint(1)\n```", "python", "print(1)\n", ()),
        ("see `python -m data.lint\nmy.yaml`", "sentence", "python -m data.lint my.yaml", ()),
        ("see `val.py --gallery`", "sentence", "val.py --gallery", ()),
        ("| `.venv/bin/pip install x` |\n|---|\n", "sentence", ".venv/bin/pip install x", ()),
        ("see `detector(image, bgr=True)`", "call", "detector(image, bgr=True)", ()),
    ],
)  # fmt: skip
def test_commands_are_found(text, kind, command, promised):
    (found,) = read(text)
    assert (found.kind, found.text, found.promised) == (kind, command, promised)


@pytest.mark.parametrize(
    "text", ["`make`", "`val.py`", "`--rect`", "`.venv`", "`python3-opencv`", "`cat`", "`.bin/x`",
             "```yaml\nmake: demo\n```", "```text\nmake demo\n```", "make demo"]
)  # fmt: skip
def test_other_code_is_no_command(text):
    assert read(text) == []


def test_lines_are_counted():
    found = read("# a\n\n```\nmake b\nmake c  # d\n```\n\ne\n`make f`\n")
    assert [each.line for each in found] == [4, 5, 8]  # of a paragraph: its first line


@pytest.mark.parametrize(
    ("text", "run"),
    [
        ("python train.py --data a.yaml --cfg b.yaml --epochs 300 --imgsz 640",
         "python train.py --data a.yaml --cfg b.yaml --epochs 1 --imgsz 64 --workers 0 --noplots"),
        ("python train.py --cfg b.yaml",
         "python train.py --cfg b.yaml --epochs 1 --imgsz 64 --workers 0 --noplots"),
        ("python train.py --resume", "python train.py --resume --workers 0"),
        ("python detect.py --weights best.pt --source rtsp://door/1",
         "python detect.py --weights best.pt --source street.mp4"),
        ("python val.py --data coco128.yaml --weights a.pt --noplots",
         "python val.py --data coco128.yaml --weights a.pt --noplots --workers 0"),
        ("python detect.py --help", "python detect.py --help"),
    ],
)  # fmt: skip
def test_commands_become_small(text, run):
    assert rules.as_run(Command("a.md", 1, "shell", text)) == run


def test_sentences_are_completed():
    assert rules.as_run(Command("a.md", 1, "sentence", "val.py --task test")) == (
        "python val.py --task test --weights best.pt --data my.yaml --workers 0 --noplots"
    )
