"""The figures of the pages, and the reports in which they stand.

A figure is a number with a decimal point, an exponent or thousands, or one with a unit: what was
measured or computed, not a count or a version. Sides of images in multiples of 32 are settings. A
paragraph in italics quotes what others claim.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.documents.pages import ROOT, Section

NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?"
UNITS = (
    r"%|percent\b|[mnuµμ]?s\b|[kKMG]i?B|M\b|k\b|px|pixels?|GFLOPs|T?OPS\b|AP\b|dB|[kMG]?Hz|m?W\b|points?|"
    r"million|billion|thousand|times|fold\b|[x×](?: as)? (?:fast|slow|small|large)|FPS\b|fps\b|"
    r"[a-z ]{0,20}(?:images|frames|samples)[\w ]{0,12}(?: a | per |/)s(?:econd)?|"
    r"days?\b|hours?|h\b|minutes?|min\b|seconds?|cycles|tests|parameters|亿|万|倍|微秒|毫秒|秒|分钟|小时|天|像素|个周期|个测试|[帧张]/秒"
)
# A number behind it needs no unit.
MEASURED = r"\bm?AP(?:50)?(?: of| is| ?为)?|factor of|每秒[^\d，。]{0,20}|百分之"
PACKAGES = (
    r"Python|torch|torchvision|OpenCV|Pillow|numpy|onnx|onnxruntime|onnxslim|SAHI|supervision|"
    r"ultralytics|yolov5|trackers|rknn-toolkit2|OpenVINO|TensorRT|DeepStream|Debian|JetPack|CUDA|"
    r"Apache|AGPL|GPL|BSD|model_api|version|versions|release|版本"
)
# Behind a package's name, other versions may follow: "OpenCV 4.6.0 and 5.0.0", "3.12 and 3.13".
VERSIONS = re.compile(
    rf"(?:{PACKAGES})[ -]v?\d+(?:\.\d+)*"
    r"(?:(?:,? (?:and|to|or)|,|;|、| ?和| ?到| ?至) ?\d+(?:\.\d+)+)*"
    rf"(?![\d.]*\s?(?:{UNITS}))"
    r"|\d+\.\d+ ?(?:or later|or newer|或更新)"
    r"|\bv?\d+(?:\.\d+){2,}|\d{4}-\d\d-\d\d"
    r"|(?a:(?<![\w.])(?!\d+e-?\d|m?AP50\b)\w*[A-Za-z]\w*[./-]?\d[\w.,-]*)",  # a name with digits
)
FIGURE = re.compile(
    rf"(?a:({MEASURED})\s?)?(?<![A-Za-z\d_.,])({NUMBER})(?![A-Za-z\d_]*-bit)[\s-]?({UNITS})?(?!\d)"
)
SIGNED = re.compile(r"(?:^|[\s(（，：])([-−+])$")  # before a number; not in a range
BRACKET = re.compile(r"[^\d(（|]{0,12}[(（]")  # between a figure and the one in brackets behind it
TIMES_OF = {"million": 1e6, "M": 1e6, "万": 1e4, "亿": 1e8}
SIZE_STEP = 32
REPORTS, MODEL_TABLE = ROOT / "docs" / "benchmarks", ROOT / "docs" / "models.md"
MODULE = re.compile(r"python -m ((?:experiments|benchmarks)\.\w+)")
TEST_FILE = re.compile(r"tests/[\w/]+\.py")


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that a page claims.

    Attributes:
        page: relative to the repository.
        line: of its paragraph or row, from 1.
        text: the number, as it is written, and its unit.
        value: of the number.
        step: of its last digit: what rounding may have changed.
        unit: what the number is multiplied with: a million, or 1.
        in_brackets: behind the figure before it, as its spread is: `0.426 (0.009)`.
        sign: `+`, `-` or nothing; one with a sign is looked for with it.
    """

    page: str
    line: int
    text: str
    value: float
    step: float
    unit: float = 1.0
    in_brackets: bool = False
    sign: str = ""

    def is_in(self, values: frozenset[float]) -> bool:
        """Whether one of the values equals it when rounded as it is, in its unit or without."""
        factor = {"": 0, "+": 1, "-": -1}[self.sign]
        return any(
            abs((each * factor or abs(each)) / unit - self.value) <= 0.5000001 * self.step
            for each in values for unit in {1.0, self.unit}
        )  # fmt: skip

    def equals(self, other: Figure) -> bool:
        """Whether both say the same, in words of different languages."""
        return abs(self.value * self.unit - other.value * other.unit) < 0.5 * self.step * self.unit


def figures_in(page: str, prose: tuple[tuple[int, str], ...]) -> Iterator[Figure]:
    """All figures of a section's text."""
    for line, text in prose:
        text = VERSIONS.sub(lambda found: " " * len(found[0]), text)
        end = len(text)  # of the figure before
        for found in FIGURE.finditer(text):
            measured, number, unit = found[1] or "", found[2], found[3] or ""
            if measured or _is_figure(number, unit):
                value, step = value_of(number)
                whole = f"{number} {unit}".strip()
                in_brackets = BRACKET.fullmatch(text, end, found.start(2)) is not None
                times = TIMES_OF.get(unit, 1.0)
                signed = SIGNED.search(text, 0, found.start(2))
                sign = signed[1].replace("−", "-") if signed else ""
                yield Figure(page, line, whole, value, step, times, in_brackets, sign)
                end = found.end()


def _is_figure(number: str, unit: str) -> bool:
    if unit in ("px", "pixels", "像素") and number.isdigit() and int(number) % SIZE_STEP == 0:
        return False
    return bool(unit) or not number.isdigit()


def value_of(number: str) -> tuple[float, float]:
    """The value of a number, and the step of its last digit."""
    mantissa, _, exponent = number.replace(",", "").partition("e")
    decimals = len(mantissa.partition(".")[2])
    scale = 10.0 ** int(exponent or 0)
    return float(mantissa) * scale, scale * 10.0**-decimals


def figures_of_one_line(section: Section) -> Iterator[list[Figure]]:
    """Figures that say one thing together: of a table row without links, of `0.426 (0.009)`."""
    figures = list(figures_in(section.page, section.prose))
    for line in section.rows:
        yield [each for each in figures if each.line == line]
    yield from ([one, other] for one, other in pairwise(figures) if other.in_brackets)


def lines_needed(figures: Sequence[Figure], lines: Collection[frozenset[float]]) -> float:
    """How many lines of reports hold all of the figures; infinity where some stand in none."""
    missing, needed = list(figures), 0.0
    while missing:
        most = max(lines, key=lambda line: sum(each.is_in(line) for each in missing), default=None)
        rest = [each for each in missing if most is None or not each.is_in(most)]
        if len(rest) == len(missing):
            return math.inf
        missing, needed = rest, needed + 1
    return needed


def evidence_of(section: Section) -> frozenset[frozenset[float]]:
    """The numbers of each line of its tests and of the reports it links or has the command of."""
    folder = (ROOT / section.page).parent
    linked = {(folder / target.partition("#")[0]).resolve() for target in section.links}
    reports = {path for path in linked if path == MODEL_TABLE or path.match(f"{REPORTS}/*.md")}
    code = "\n".join(section.code)
    tests = {ROOT / name for name in TEST_FILE.findall(code)}
    made = {path for module in MODULE.findall(code) for path in reports_of(module)}
    files = (path for path in {*reports, *tests, *made} - {REPORTS / "README.md"} if path.is_file())
    return frozenset().union(*map(numbers_of, files))


@functools.cache
def reports_of(module: str) -> frozenset[Path]:
    """The reports that say they were made by `python -m MODULE`."""
    reports = REPORTS.glob("*_20??-??-??.md")
    said = re.compile(rf"python -m {re.escape(module)}\b")
    return frozenset(each for each in reports if said.search(each.read_text(encoding="utf-8")))


@functools.cache
def numbers_of(path: Path) -> frozenset[frozenset[float]]:
    """Every number in a file, line by line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return frozenset(
        frozenset(
            value_of(found[2])[0] * (-1 if found[1] else 1)
            for found in re.finditer(rf"((?<![\w.)])-)?({NUMBER})", line)
        )
        for line in lines
    )
