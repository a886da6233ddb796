"""The figures of the pages, and the reports in which they stand.

A figure is a number with a decimal point, an exponent or thousands, or one with a unit: what was
measured or computed, not a count or a version. Sides of images in multiples of 32 are settings. A
paragraph in italics quotes what others claim.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.documents.pages import ROOT, Section

NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?"
UNITS = (
    r"%|ms|[kMG]B|M\b|px|pixels?|GFLOPs|AP\b|dB|points?|million|times|seconds?|minutes?|hours?|s\b|"
    r"cycles|images/s|tests|parameters|亿|万|倍|毫秒|秒|分钟|小时|像素|个周期|个测试"
)
PACKAGES = (
    r"Python|torch|torchvision|OpenCV|Pillow|numpy|onnx|onnxruntime|onnxslim|SAHI|supervision|"
    r"ultralytics|yolov5|trackers|rknn-toolkit2|OpenVINO|TensorRT|DeepStream|Debian|JetPack|CUDA|"
    r"Apache|AGPL|GPL|BSD|model_api|version|versions|release|版本"
)
# Behind a package's name, other versions may follow: "OpenCV 4.6.0 and 5.0.0", "3.12 and 3.13".
VERSIONS = re.compile(
    rf"(?:{PACKAGES})[ -]v?\d+(?:\.\d+)*"
    r"(?:(?:,? (?:and|to|or)|,|;|、| ?和| ?到| ?至) ?\d+(?:\.\d+)+)*"
    r"|\d+\.\d+ ?(?:or later|or newer|或更新)"
    r"|\bv?\d+(?:\.\d+){2,}|\d{4}-\d\d-\d\d"
    r"|(?<![\dA-Za-z_.])(?!\d+e-?\d)\w*[A-Za-z]\w*[./-]?\d[\w.,-]*",  # a name with digits in it
)
FIGURE = re.compile(rf"(?<![\w.,])({NUMBER})(?![\w]*-bit)\s?({UNITS})?(?![\d])")
TIMES_OF = {"million": 1e6, "M": 1e6, "万": 1e4, "亿": 1e8}
SIZE_STEP = 32
LINKED_REPORT = re.compile(r"benchmarks/(?!README)[\w.-]+\.md|docs/models\.md|^models\.md")
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
    """

    page: str
    line: int
    text: str
    value: float
    step: float
    unit: float = 1.0

    def is_in(self, values: frozenset[float]) -> bool:
        """Whether one of the values equals it when rounded as it is, in its unit or without."""
        return any(
            abs(each / unit - self.value) <= 0.5000001 * self.step
            for each in values for unit in {1.0, self.unit}
        )  # fmt: skip

    def equals(self, other: Figure) -> bool:
        """Whether both say the same, in words of different languages."""
        return abs(self.value * self.unit - other.value * other.unit) < 0.5 * self.step * self.unit


def figures_in(page: str, prose: tuple[tuple[int, str], ...]) -> Iterator[Figure]:
    """All figures of a section's text."""
    for line, text in prose:
        text = VERSIONS.sub(lambda found: " " * len(found[0]), text)
        for found in FIGURE.finditer(text):
            if _is_figure(found[1], found[2] or ""):
                unit = found[2] or ""
                value, step = value_of(found[1])
                whole = f"{found[1]} {unit}".strip()
                yield Figure(page, line, whole, value, step, TIMES_OF.get(unit, 1.0))


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


def evidence_of(section: Section) -> frozenset[float]:
    """The numbers of the reports that a section links or has the command of, and of its tests."""
    reports = {
        ROOT / "docs" / "benchmarks" / Path(target).name if "benchmarks/" in target else
        ROOT / "docs" / "models.md"
        for target in section.links if LINKED_REPORT.search(target)
    }  # fmt: skip
    code = "\n".join(section.code)
    tests = {ROOT / name for name in TEST_FILE.findall(code)}
    made = {path for module in MODULE.findall(code) for path in reports_of(module)}
    files = (path for path in (*reports, *tests, *made) if path.is_file())
    return frozenset().union(*map(numbers_of, files))


@functools.cache
def reports_of(module: str) -> frozenset[Path]:
    """The reports that say they were made by `python -m MODULE`."""
    reports = (ROOT / "docs" / "benchmarks").glob("*_20??-??-??.md")
    said = re.compile(rf"python -m {re.escape(module)}\b")
    return frozenset(each for each in reports if said.search(each.read_text(encoding="utf-8")))


@functools.cache
def numbers_of(path: Path) -> frozenset[float]:
    """Every number in a file."""
    text = path.read_text(encoding="utf-8")
    return frozenset(value_of(found[0])[0] for found in re.finditer(NUMBER, text))
