"""The report of a test run counts what pytest wrote and names the versions that were there."""

from __future__ import annotations

import importlib.metadata
import xml.etree.ElementTree as ET

import pytest

from experiments.tested_versions import installed_versions, report

JUNIT = """<testsuites><testsuite>
<testcase classname="tests.unit.data.test_a" name="good"/>
<testcase classname="tests.unit.data.deep.test_b" name="fine"/>
<testcase classname="tests.unit.data.deep.test_b.TestClass" name="wrong">
<failure message="assert"/></testcase>
<testcase classname="tests.house.test_c" name="broken"><error message="fixture"/></testcase>
<testcase classname="tests.house.test_c" name="absent">
<skipped message="not here (/some/folder)"/></testcase>
</testsuite></testsuites>"""


def test_a_report():
    cases = [*ET.fromstring(JUNIT).iter("testcase")]
    text = report(cases, "Tests, 2026-01-02", [("numpy", "2.0")])
    assert text.startswith("# Tests, 2026-01-02\n")
    assert "2 tests passed, 2 failed, 1 were skipped." in text
    assert (
        "- failed: `tests.unit.data.deep.test_b.TestClass::wrong`\n"
        "- failed: `tests.house.test_c::broken`\n- 1 skipped: not here\n" in text
    )
    assert "| tests/house | 1 | 0 | 1 | 1 |\n| tests/unit/data | 2 | 2 | 1 | 0 |\n" in text
    assert text.endswith("| numpy | 2.0 |\n")


def test_the_last_run_of_a_test_counts():
    first = [*ET.fromstring(JUNIT).iter("testcase")]
    again = [ET.fromstring('<testcase classname="tests.house.test_c" name="broken"/>'),
             ET.fromstring('<testcase classname="tests.house.test_c" name="other"/>')]  # fmt: skip
    text = report([*first, *again], "Tests", [])
    assert "4 tests passed, 1 failed, 1 were skipped. 1 of them failed in a first run." in text
    assert "| tests/house | 1 | 2 | 0 | 1 |" in text


def test_versions_are_those_installed():
    numpy = importlib.metadata.version("numpy")
    assert installed_versions(f"# why\nnumpy=={numpy}  # boxes\n") == [("numpy", numpy)]
    assert installed_versions("numpy>=0.2\nnumpy\n") == [("numpy", numpy)] * 2


@pytest.mark.parametrize("wanted", ["numpy==0.1", "numpy>=99"])
def test_an_environment_of_other_versions_is_refused(wanted: str):
    with pytest.raises(ValueError, match=f"numpy .* is installed, not {wanted}"):
        installed_versions(wanted)
