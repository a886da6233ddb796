"""A lower bound is the version that `make test-oldest` tests, or it is not claimed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.house.source_tree import ROOT

BOUNDED = ("requirements.txt", "requirements-dev.txt", "requirements-evolve.txt",
           "requirements-deploy.txt", "requirements-web.txt")  # fmt: skip
# They read the code and run none of it: lint takes the newest.
LINT = {"ruff", "mypy", "types-pyyaml", "types-tqdm", "vermin"}
NOTEBOOK = {"nbclient", "ipykernel"}  # they run the tutorial where they are installed
OLDEST_PYTHON = "3.10"


def requirements(path: Path) -> list[Requirement]:
    """The packages that a file names, without the files that it includes."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


def lower_bounds() -> dict[str, Version]:
    found = [each for name in BOUNDED for each in requirements(ROOT / name)]
    return {each.name.lower(): only_version(each, ">=") for each in found}


def only_version(requirement: Requirement, operator: str) -> Version:
    """The version of a requirement that has one specifier, of this operator."""
    (specifier,) = requirement.specifier
    assert specifier.operator == operator, requirement
    return Version(specifier.version)


def test_every_lower_bound_is_tested() -> None:
    oldest = requirements(ROOT / "requirements-oldest.txt")
    pinned = {each.name.lower(): only_version(each, "==") for each in oldest}
    claimed = {name: bound for name, bound in lower_bounds().items() if name not in LINT | NOTEBOOK}
    assert pinned == claimed


def test_a_device_needs_no_other_versions() -> None:
    """Its OpenCV is tested in an environment of its own: tests/end_to_end/test_without_torch.py."""
    found = requirements(ROOT / "requirements-runtime.txt")
    bounds = {each.name.lower(): only_version(each, ">=") for each in found}
    del bounds["opencv-python-headless"]
    assert bounds.items() <= lower_bounds().items()


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("pyproject.toml", r'requires-python = ">=(3\.\d+)"'),
        ("pyproject.toml", r'target-version = "py(3\d+)"'),
        ("Makefile", r"-t=(3\.\d+)-"),
        ("Makefile", r"sys\.version_info < \((3, \d+)\)"),
        ("README.md", r"Both need Python (3\.\d+) or newer"),
    ],
)
def test_one_oldest_python(file: str, pattern: str) -> None:
    (found,) = re.findall(pattern, (ROOT / file).read_text(encoding="utf-8"))
    assert re.sub(r"\D", "", found) == OLDEST_PYTHON.replace(".", "")
