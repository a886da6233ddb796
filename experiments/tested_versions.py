"""Report of a test run and the versions it ran with: `python -m experiments.tested_versions`.

Run it with the Python of the environment that the tests ran in, after `make test-oldest`:

    .venv-oldest/bin/python -m experiments.tested_versions .venv-oldest/tests.xml
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from experiments.training_runs import REPORTS, ROOT, machine_line

PINS = ROOT / "requirements-oldest.txt"
_PIN = re.compile(r"(?P<package>[\w.-]+)==(?P<version>\S+)")


def outcomes(cases: Iterable[ET.Element]) -> tuple[Counter[str], list[str], Counter[str]]:
    """Counts of passed, failed and skipped tests, names of the failed, reasons of the skipped.

    Args:
        cases: `testcase` elements of a JUnit file, as pytest writes it.
    """
    counts, failed, reasons = Counter[str](), list[str](), Counter[str]()
    for case in cases:
        if case.find("failure") is not None or case.find("error") is not None:
            counts["failed"] += 1
            failed.append(f"{case.get('classname')}::{case.get('name')}")
        elif (skip := case.find("skipped")) is not None:
            counts["skipped"] += 1
            reasons[re.sub(r" \(.*\)", "", skip.get("message", ""))] += 1
        else:
            counts["passed"] += 1
    return counts, failed, reasons


def installed_versions(pins: str) -> list[tuple[str, str]]:
    """Package and version of each pin as installed here.

    Args:
        pins: text of a requirements file.

    Raises:
        ValueError: a package has another version than its pin.
    """
    found = []
    for pin in _PIN.finditer(pins):
        version = importlib.metadata.version(pin["package"])
        if version.partition("+")[0] != pin["version"]:
            raise ValueError(f"{pin['package']} {version} is installed, {pin['version']} is pinned")
        found.append((pin["package"], version))
    return found


def report(cases: Iterable[ET.Element], date: str) -> str:
    """The whole report in Markdown."""
    counts, failed, reasons = outcomes(cases)
    versions = installed_versions(PINS.read_text(encoding="utf-8"))
    lines = [
        f"# Tests with the lowest versions, {date}", "",
        f"{machine_line()} Made by `make test-oldest` and `python -m experiments.tested_versions`.",
        "",
        f"{counts['passed']} tests passed, {counts['failed']} failed, "
        f"{counts['skipped']} were skipped.", "",
        *(f"- failed: `{name}`" for name in failed),
        *(f"- {count} skipped: {reason}" for reason, count in reasons.most_common()), "",
        "| package | version |", "|---|---|",
        *(f"| {package} | {version} |" for package, version in versions),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the report into docs/benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("junit", type=Path, help="what pytest --junitxml wrote")
    date = datetime.date.today().isoformat()
    cases = ET.parse(parser.parse_args().junit).iter("testcase")
    path = REPORTS / f"oldest_versions_cpu_{date}.md"
    path.write_text(report(cases, date), encoding="utf-8")


if __name__ == "__main__":
    main()
