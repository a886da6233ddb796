"""Fixtures every test may use, and the rule about skips."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests import expected_skips

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(expected_skips)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Captured names that are no UTF-8 as escapes: processes of pytest-xdist cannot send others."""
    report = yield
    report.sections = [
        (title, text.encode("utf-8", "backslashreplace").decode())
        for title, text in report.sections
    ]
    return report


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's cache folder, for these tests alone; scripts that they start have it, too."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def terminal_signal() -> Iterator[None]:
    """The end of a terminal ends programs, even where the tests themselves run under nohup."""
    number = getattr(signal, "SIGHUP", None)  # not on Windows
    if number is None:
        yield
        return
    before = signal.signal(number, signal.SIG_DFL)
    yield
    signal.signal(number, before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images, weights and golden figures that may lie beside the checkout."""
    if not (SHARED / "reference").is_dir():
        pytest.skip(f"real images and weights are not here ({SHARED})")
    return SHARED
