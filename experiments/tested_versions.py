"""Report of a test run and the versions it ran with: `python -m experiments.tested_versions`.

Run it with the Python of the environment that the tests ran in, after `make test-oldest`:

    .venv-oldest/bin/python -m experiments.tested_versions .venv-oldest/tests.xml

or after the tests with the newest versions and another Python:

    PYTEST_ADDOPTS="--junitxml tests.xml" make test VENV=.venv-3.13 PYTHON=python3.13
    .venv-3.13/bin/python -m experiments.tested_versions tests.xml --requirements requirements.txt

Several files are parts of one run; where they hold the same test, the last counts.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import platform
import re
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.requirements import Requirement

from experiments.training_runs import REPORTS, ROOT, machine_line
from utils.output_files import write_text

OLDEST = ROOT / "requirements-oldest.txt"
OUTCOMES = ("passed", "failed", "skipped")


def last_of_each(cases: Iterable[ET.Element]) -> tuple[list[ET.Element], int]:
    """The last run of each test, and how many tests failed before their last run.

    Args:
        cases: `testcase` elements of JUnit files, as pytest writes them.
    """
    found, failed = dict[tuple[str | None, str | None], ET.Element](), set[str]()
    for case in cases:
        key = case.get("classname"), case.get("name")
        if key in found and outcome(found[key]) == "failed":
            failed.add(str(key))
        found[key] = case
    return list(found.values()), len(failed)


def outcome(case: ET.Element) -> str:
    """How a test ended, one of OUTCOMES; a broken fixture counts as failed."""
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "passed" if case.find("skipped") is None else "skipped"


def counts_by_folder(cases: Sequence[ET.Element]) -> dict[str, Counter[str]]:
    """Outcomes and number of files for each folder of tests, in order of its name.

    Args:
        cases: `testcase` elements of a JUnit file.
    """
    counts = defaultdict[str, Counter[str]](Counter)
    files = defaultdict[str, set[str]](set)
    for case in cases:
        parts = case.get("classname", "").split(".")
        # tests/unit mirrors the rooms of the code: tests/unit/models, but tests/house.
        folder = "/".join(parts[: 3 if parts[1:2] == ["unit"] else 2])
        counts[folder][outcome(case)] += 1
        files[folder].add(".".join(part for part in parts if not part.startswith("Test")))
    return {folder: counts[folder] + Counter(files=len(files[folder])) for folder in sorted(counts)}


def failed_and_skipped(cases: Sequence[ET.Element]) -> list[str]:
    """Lines of Markdown: the failed tests, and the reasons of the skipped ones."""
    reasons = Counter[str]()
    lines = []
    for case in cases:
        if outcome(case) == "failed":
            lines.append(f"- failed: `{case.get('classname')}::{case.get('name')}`")
        elif (skip := case.find("skipped")) is not None:
            reasons[re.sub(r" \(.*\)", "", skip.get("message", ""))] += 1
    return [*lines, *(f"- {count} skipped: {reason}" for reason, count in reasons.most_common())]


def installed_versions(requirements: str) -> list[tuple[str, str]]:
    """Package and version, as installed here, of each package that is asked for.

    Args:
        requirements: text of a requirements file.

    Raises:
        ValueError: a version is not one of those asked for.
    """
    found = []
    for line in requirements.splitlines():
        if not (text := line.partition("#")[0].strip()):
            continue
        wanted = Requirement(text)
        version = importlib.metadata.version(wanted.name)
        if version not in wanted.specifier:
            raise ValueError(f"{wanted.name} {version} is installed, not {wanted}")
        found.append((wanted.name, version))
    return found


def report(runs: Iterable[ET.Element], title: str, versions: Sequence[tuple[str, str]]) -> str:
    """The whole report in Markdown."""
    cases, repeated = last_of_each(runs)
    folders = counts_by_folder(cases)
    total = sum(folders.values(), Counter[str]())
    lines = [
        f"# {title}", "",
        f"{machine_line()} {platform.system()} on {platform.machine()}. Made by "
        "`python -m experiments.tested_versions`, which says how.", "",
        f"{total['passed']} tests passed, {total['failed']} failed, "
        f"{total['skipped']} were skipped."
        + (f" {repeated} of them failed in a first run." if repeated else ""), "",
        *failed_and_skipped(cases), "",
        "| tests of | files | passed | failed | skipped |", "|---|---|---|---|---|",
        *(
            f"| {folder} | {' | '.join(str(count[key]) for key in ('files', *OUTCOMES))} |"
            for folder, count in folders.items()
        ), "",
        "| package | version |", "|---|---|",
        *(f"| {package} | {version} |" for package, version in versions),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the report into docs/benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("junit", type=Path, nargs="+", help="what pytest --junitxml wrote")
    parser.add_argument("--requirements", type=Path, default=OLDEST, help="what was installed")
    args = parser.parse_args()
    python = ".".join(platform.python_version_tuple()[:2])
    oldest = args.requirements.resolve() == OLDEST
    what = "the lowest versions" if oldest else f"Python {python}"
    date = datetime.date.today().isoformat()
    versions = installed_versions(args.requirements.read_text(encoding="utf-8"))
    cases = [case for path in args.junit for case in ET.parse(path).iter("testcase")]
    text = report(cases, f"Tests with {what}, {date}", versions)
    name = "oldest_versions" if oldest else f"python{python}_versions"
    write_text(REPORTS / f"{name}_cpu_{date}.md", text)


if __name__ == "__main__":
    main()
