"""In CI a test that skips without an expected reason fails."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

SKIPPED_IN_THE_TEST = "def test_it():\n    pytest.skip({reason!r})"
SKIPPED_BY_A_FIXTURE = (
    "@pytest.fixture\ndef thing():\n    pytest.skip({reason!r})\ndef test_it(thing):\n    pass"
)
SKIPPED_BY_A_MARK = "@pytest.mark.skipif(True, reason={reason!r})\ndef test_it():\n    pass"
WHOLE_MODULE = "pytest.skip({reason!r}, allow_module_level=True)"
WAYS = [SKIPPED_IN_THE_TEST, SKIPPED_BY_A_FIXTURE, SKIPPED_BY_A_MARK, WHOLE_MODULE]
WAY_NAMES = ["test", "fixture", "mark", "module"]


@pytest.fixture
def run(pytester, monkeypatch):
    # Other plugins would be imported anew in every run.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run_pytest(source: str, ci: str, *arguments: str):
        monkeypatch.setenv("CI", ci)
        pytester.makepyfile(f"import pytest\n{source}\n")
        return pytester.runpytest("-p", "tests.expected_skips", *arguments)

    return run_pytest


@pytest.mark.parametrize("way", WAYS, ids=WAY_NAMES)
def test_an_unexpected_skip_fails(run, way):
    result = run(way.format(reason="no time today"), ci="true")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*skipped in CI: no time today*"])


@pytest.mark.parametrize("way", WAYS, ids=WAY_NAMES)
@pytest.mark.parametrize("ci", ["", "false"])
def test_outside_ci_every_reason_will_do(run, way, ci):
    result = run(way.format(reason="no time today"), ci=ci)
    result.assert_outcomes(skipped=1)


@pytest.mark.parametrize(
    "reason",
    [
        "real images and weights are not here (/home/somebody/shared)",
        "onnxruntime-qnn is not installed",
        "needs a GPU",
    ],
)
@pytest.mark.parametrize("way", WAYS, ids=WAY_NAMES)
def test_an_expected_skip_is_one(run, way, reason):
    run(way.format(reason=reason), ci="true").assert_outcomes(skipped=1)


@pytest.mark.parametrize(
    "reason", ["needs a GPU and patience", "it needs a GPU", "openvino is not installed"]
)
def test_the_reason_is_compared_whole(run, reason):
    result = run(SKIPPED_IN_THE_TEST.format(reason=reason), ci="true")
    result.assert_outcomes(failed=1)


def test_a_missing_package_is_named(run):
    result = run("def test_it():\n    pytest.importorskip('no_such_package')", ci="true")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*skipped in CI: *no_such_package*"])


def test_an_expected_failure_is_no_skip(run):
    result = run("@pytest.mark.xfail(reason='known')\ndef test_it():\n    assert False", ci="1")
    result.assert_outcomes(xfailed=1)


def test_with_several_processes(run):
    source = f"{SKIPPED_IN_THE_TEST.format(reason='no time today')}\n"
    result = run(source, "true", "-p", "xdist", "-n", "1")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*skipped in CI: no time today*"])
