"""One version and one date, wherever a release is named."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.house.source_tree import ROOT

HEADING = re.compile(r"^## (.+)$", re.M)
RELEASE = re.compile(r"(\d+\.\d+\.\d+) \((\d{4}-\d\d-\d\d)\)")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def project_version() -> str:
    """That of pyproject.toml; tomllib is younger than Python 3.10."""
    (version,) = re.findall(r'^version = "(.+)"$', text_of("pyproject.toml"), re.M)
    return str(version)


def releases(changelog: str) -> list[tuple[str, str]]:
    """Version and date of each section, the newest first.

    Raises:
        ValueError: a heading is neither a release nor, as the first one, `Unreleased`.
    """
    headings = HEADING.findall(changelog)
    found = [RELEASE.fullmatch(each) for each in headings[headings[:1] == ["Unreleased"] :]]
    if not found or None in found:
        raise ValueError(f"headings: {headings}")
    return [(each[1], each[2]) for each in found if each is not None]


def test_the_changelog_has_the_version_of_the_project_first():
    assert releases(text_of("CHANGELOG.md"))[0][0] == project_version()


def test_releases_follow_one_another():
    found = releases(text_of("CHANGELOG.md"))
    numbers = [tuple(map(int, version.split("."))) for version, _ in found]
    assert numbers == sorted(set(numbers), reverse=True)
    assert [date for _, date in found] == sorted((date for _, date in found), reverse=True)


def test_the_citation_is_of_the_newest_release():
    citation = yaml.safe_load(text_of("CITATION.cff"))
    cited = (citation["version"], str(citation["date-released"]))
    assert cited == releases(text_of("CHANGELOG.md"))[0]


@pytest.mark.parametrize(
    ("changelog", "found"),
    [
        ("## Unreleased\n\n## 0.2.0 (2027-01-02)\n\n## 0.1.0 (2026-11-27)\n",
         [("0.2.0", "2027-01-02"), ("0.1.0", "2026-11-27")]),
        ("## 0.1.0 (2026-11-27)\n\n### Data\n", [("0.1.0", "2026-11-27")]),
    ],
)  # fmt: skip
def test_sections_are_read(changelog, found):
    assert releases(changelog) == found


@pytest.mark.parametrize(
    "changelog", ["", "## Unreleased\n", "## 0.1\n", "## 0.1.0 (2026-11-27)\n## Unreleased\n"]
)
def test_headings_that_are_no_release_are_noticed(changelog):
    with pytest.raises(ValueError, match="headings"):
        releases(changelog)
