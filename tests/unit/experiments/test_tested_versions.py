"""The report of a test run counts what pytest wrote and names the versions that were there."""

from __future__ import annotations

import importlib.metadata
import xml.etree.ElementTree as ET

import pytest

from experiments import tested_versions
from experiments.tested_versions import installed_versions, report

JUNIT = """<testsuites><testsuite>
<testcase classname="tests.a" name="good"/>
<testcase classname="tests.a" name="fine"/>
<testcase classname="tests.a" name="wrong"><failure message="assert"/></testcase>
<testcase classname="tests.b" name="broken"><error message="fixture"/></testcase>
<testcase classname="tests.b" name="absent"><skipped message="not here (/some/folder)"/></testcase>
</testsuite></testsuites>"""


def test_a_report(tmp_path, monkeypatch):
    numpy = importlib.metadata.version("numpy")
    pins = tmp_path / "pins.txt"
    pins.write_text(f"# why\nnumpy=={numpy}\n")
    monkeypatch.setattr(tested_versions, "PINS", pins)
    text = report(ET.fromstring(JUNIT).iter("testcase"), "2026-01-02")
    assert "2 tests passed, 2 failed, 1 were skipped." in text
    assert (
        "- failed: `tests.a::wrong`\n- failed: `tests.b::broken`\n- 1 skipped: not here\n" in text
    )
    assert text.endswith(f"| numpy | {numpy} |\n")


def test_an_environment_of_other_versions_is_refused():
    with pytest.raises(ValueError, match=r"numpy .* is installed, 0\.1 is pinned"):
        installed_versions("numpy==0.1")
