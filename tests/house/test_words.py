"""The field's words: terms that readers of PyTorch's documentation know."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.source_tree import ROOT, all_files, file_name, findings

# What we do not write -> what we write. A pattern matches whole words; `_` ends a word.
AVOIDED = {
    r"pictures?": "image",
    r"judg\w*": "evaluate",
    r"proofs?|prove[ns]?|proved|proving": "equivalence check, verified",
    r"mend(s|ed|ing)?": "repaired",
    r"(?-i:MOST|LEAST)_\w+": "MAX_, MIN_",
    r"left out|leaves out|leaving out": "skipped, omitted",
    r"in_words": "message, description",
    r"in[ _]hand": "in_flight",
    r"(has|have|had) (its|their) way": "takes precedence",
    r"(seen|verified) here": "verified with",
    r"keeps? and takes?": "accuracy and latency",
    r"joints?": "equalization pair",
    r"absorb\w*": "load_conv_bn",
    r"whole numbers?": "integer",
}
# Only where 8 bits are meant: the remedy of an error message is a good word.
AVOIDED_IN_QUANTIZATION = {r"remed(y|ies)": "quantization technique"}
QUANTIZATION = ("export.py", "models/export/", "models/formats/", "models/quantization/",
                "experiments/", "docs/", "README.md", "tests/end_to_end/test_quantized_presets.py",
                "tests/unit/models/export/", "tests/unit/models/quantization/")  # fmt: skip
AVOIDED_NAMES = {
    "place": "path, index, location, position",
    "places": "paths, indices, locations, positions",
    "words": "message, description, arguments",
    "here": "local",
    "everywhere": "global",
    "silence": "zero_init",
}
ANY_AVOIDED_NAME = re.compile(rf"\b({'|'.join(AVOIDED_NAMES)})\b")
ALLOWED = re.compile(
    r"""--remedy                      # the alias of --technique
    |int8_remedies_cpu               # a dated report
    |["'](pictures|judged)["']       # keys of reports and checkpoints that users have
    """,
    re.VERBOSE,
)
WITH_A_TABLE_OF_WORDS = ("CONTRIBUTING.md", "tests/house/test_words.py")


def text_files() -> list[Path]:
    """Code, documents and settings; not docs/benchmarks, whose reports keep their date's words."""
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    settings = [ROOT / "Makefile", ROOT / "pyproject.toml", *ROOT.glob("requirements*.txt")]
    yamls = [path for room in ("data", "models") for path in (ROOT / room).rglob("*.yaml")]
    files = [*all_files(), *documents, *settings, *yamls]
    return [path for path in files if file_name(path) not in WITH_A_TABLE_OF_WORDS]


def test_words_of_the_field() -> None:
    assert (
        findings(
            lambda path: avoided_words(path.read_text(encoding="utf-8"), file_name(path)),
            text_files(),
        )
        == ""
    )


def test_names_of_the_field() -> None:
    code = [path for path in text_files() if path.suffix == ".py"]
    assert findings(lambda path: avoided_names(path.read_text(encoding="utf-8")), code) == ""


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [
        ("", "train.py", 0),
        ("MOST_BOXES = 1", "train.py", 1),  # a name
        ("the image is left out", "train.py", 1),  # a phrase
        ("of the proved network", "docs/blocks.md", 1),  # an inflection
        ("an improved approval", "docs/blocks.md", 0),  # part of another word
        ("say the remedy", "utils/errors.py", 0),  # of an error
        ("the remedy train", "export.py", 1),  # of quantization
        ("`--remedy` is an alias", "export.py", 0),  # the flag
    ],
)
def test_avoided_words_are_noticed(text: str, name: str, count: int) -> None:
    assert len(list(avoided_words(text, name))) == count


def test_avoided_names_are_noticed() -> None:
    code = "def f(place):\n    'in place'\n    return place.words  # replace words\n"
    assert [line.split(":")[0] for line in avoided_names(code)] == ["1", "3", "3"]


def avoided_words(text: str, name: str) -> Iterator[str]:
    """`line: word (what we write)` for each word to avoid in the file `name`."""
    avoided = dict(AVOIDED)
    if name.startswith(QUANTIZATION):
        avoided |= AVOIDED_IN_QUANTIZATION
    patterns = {
        re.compile(rf"(?<![a-z])({pattern})(?![a-z])", re.IGNORECASE): term
        for pattern, term in avoided.items()
    }
    text = ALLOWED.sub("", text)
    for pattern, term in patterns.items():
        for match in pattern.finditer(text):
            yield f"{line_of(match)}: {match[0]} ({term})"


def line_of(match: re.Match[str]) -> int:
    """The line, from 1, in which a match begins."""
    return match.string.count("\n", 0, match.start()) + 1


def avoided_names(code: str) -> Iterator[str]:
    """`line: name (what we write)` for each identifier to avoid."""
    if not ANY_AVOIDED_NAME.search(code):  # tokenizing is slow
        return
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.NAME and token.string in AVOIDED_NAMES:
            yield f"{token.start[0]}: {token.string} ({AVOIDED_NAMES[token.string]})"
