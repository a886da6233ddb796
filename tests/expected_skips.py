"""In CI a skipped test fails, unless its reason is one of those below.

A pytest plugin, registered by conftest.py. Continuous integration (the variable CI) installs
everything that requirements-dev.txt lists, so a test that skips there has found a fault of the
machine or of the test, and would hide for good.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator

import pytest

EXPECTED = (
    r"real images and weights are not here \(.*\)",  # a public clone has no folder shared beside it
    r"onnxruntime-qnn is not installed",  # requirements-qnn.txt is optional: 270 MB
    r"(yolov5|supervision|pandas) is not installed",  # `make clients` installs them
    r"(ray|mlflow) is not installed",  # of examples: requirements-examples.txt is optional
    r"OPENCV_PYTHONS names no interpreters",  # old versions of OpenCV
    r"Debian's GStreamer RTSP packages are not installed",  # a slow test
    r"file systems cannot be mounted here",  # a slow test
    r"Chromium is not installed",  # slow tests in a browser
    r"the site is not built: make docs",  # slow tests in a browser
    r"this Pillow reads no AVIF",  # before 11.3
    r"(TFLITE|COREML)_PYTHON names no interpreter",  # slow tests
    r"needs (a GPU|two GPUs|CUDA in onnxruntime)",  # tests/gpu, where somebody selects it
    r"this onnxruntime has CUDA",
    r"reads /proc|memory is measured in /proc",  # Linux alone has it
)


def is_expected(reason: str) -> bool:
    """Whether a test may skip for this reason in CI."""
    return any(re.fullmatch(pattern, reason) for pattern in EXPECTED)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test, or one of its fixtures."""
    report = yield
    if not hasattr(report, "wasxfail"):  # pytest counts an expected failure as skipped
        _refuse(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A whole module."""
    report = yield
    _refuse(report)
    return report


def _refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or os.environ.get("CI", "").lower() in ("", "0", "false"):
        return
    reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if not is_expected(reason):
        report.outcome = "failed"
        report.longrepr = (
            f"skipped in CI: {reason}\nInstall what is missing; where the skip is right on every "
            "machine like this one, add its reason to tests/expected_skips.py"
        )
