"""The commands of the pages: lines of shell blocks, programs in Python, commands in sentences."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from models.export import request
from tests.documents.pages import Code, code_of, tokens_of
from utils import convert_config, detect_config, train_config, val_config
from utils.cli import flag_of

CONFIGS: dict[str, tuple[Any, Mapping[str, str]]] = {
    "train": (train_config.TrainConfig, train_config.REFUSED),
    "val": (val_config.ValConfig, val_config.REFUSED),
    "detect": (detect_config.DetectConfig, detect_config.REFUSED),
    "export": (request.ExportConfig, request.REFUSED),
    "convert": (convert_config.ConvertConfig, {}),
}  # of each script: its flags, and those of YOLOv5 that it refuses
SHELLS = ("", "bash", "sh", "console", "powershell", "bat")
PROGRAMS = r"python3?|pip3?|make|torchrun|curl|docker|apt|awk|ssh|grep|source|git|systemctl|srun"
# In a sentence: a program and what it is given, or a script and a flag of it.
IN_SENTENCES = re.compile(
    rf"(?:{PROGRAMS}|\S*/bin/\S+) \S.*|(?:{'|'.join(CONFIGS)})\.py .*--.*", re.DOTALL
)
# A call that the page on the Python API shows in a sentence.
CALLS = re.compile(r"(?:load_detector|detector|torch\.hub\.load)\((?!.*\*\*).+\)", re.DOTALL)
FILE_NAMES = re.compile(r"(?<![\w./*-])[\w-]+\.(?:pt|onnx|yaml|json|html|csv|torchscript)(?![\w.])")


@dataclass(frozen=True, slots=True)
class Command:
    """Something that a reader types or pastes.

    Attributes:
        page: relative to the repository.
        line: where it stands, from 1.
        kind: `shell`, `python`, or `sentence`: one that the text mentions, maybe shortened.
        text: without its comment; single spaces in what the shell reads.
        promised: names of files in its comment, which are there once it ran.
    """

    page: str
    line: int
    kind: str
    text: str
    promised: tuple[str, ...] = ()

    @property
    def position(self) -> str:
        """`docs/training.md:12`."""
        return f"{self.page}:{self.line}"


def spellings(script: str) -> dict[str, str]:
    """Every spelling of every flag of a script, with the flag it means."""
    config, _ = CONFIGS[script]
    return {
        spelling: flag_of(field.name)
        for field in dataclasses.fields(config)
        for flag in (flag_of(field.name), *field.metadata["aliases"])
        for spelling in (flag, flag.replace("--", "--no-", 1))
    }


def commands_of(page: str) -> list[Command]:
    """All commands of a page, in its order."""
    return [each for code in code_of(page, tokens_of(page)) for each in commands_in(code)]


def commands_in(code: Code) -> Iterator[Command]:
    """Those of one block, or of code in a sentence."""
    if code.language is None:
        text = " ".join(code.text.split())
        if IN_SENTENCES.fullmatch(text):
            yield Command(code.page, code.line, "sentence", text)
        elif CALLS.fullmatch(text):
            yield Command(code.page, code.line, "call", text)
    elif code.language == "python":
        yield Command(code.page, code.line, "python", code.text)
    elif code.language in SHELLS:
        yield from _lines(code)


def _lines(code: Code) -> Iterator[Command]:
    waiting, first = "", code.line
    for number, line in enumerate(code.text.splitlines(), code.line):
        text, _, comment = _cut_comment(line)
        if not waiting:
            first = number
        waiting += text.removesuffix("\\")
        if text.endswith("\\"):
            continue
        command = re.sub(r"\s+", " ", waiting.removeprefix("$ ")).strip()
        if command:
            promised = tuple(FILE_NAMES.findall(comment))
            yield Command(code.page, first, "shell", command, promised)
        waiting = ""


def _cut_comment(line: str) -> tuple[str, str, str]:
    found = re.match(r"""((?:"[^"]*"|'[^']*'|[^'"])*?)(?:(?:^|\s+)(#)\s(.*))?$""", line)
    assert found is not None, line
    return found[1].rstrip(), found[2] or "", found[3] or ""
