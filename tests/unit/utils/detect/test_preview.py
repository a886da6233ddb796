"""The window of an image waits for a key, and ends with the run."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from utils.detect.preview import PreviewWindow
from utils.stop_signals import StopSignals

IMAGE = np.zeros((8, 8, 3), np.uint8)


@pytest.fixture
def keys(monkeypatch):
    """What `waitKey` gives; a wait without end fails."""
    waiting: list[int] = []

    def wait(milliseconds: int) -> int:
        assert milliseconds > 0
        return waiting.pop(0)

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "imshow", lambda *_: None)
    monkeypatch.setattr(cv2, "waitKey", wait)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    return waiting


@pytest.mark.parametrize(("pressed", "goes_on"), [("x", True), ("q", False), ("\x1b", False)])
def test_an_image_waits_for_a_key(keys, pressed, goes_on):
    keys += [-1, -1, ord(pressed)]
    assert PreviewWindow().show(IMAGE, is_video=False) is goes_on and not keys


def test_a_video_plays_on(keys):
    keys += [-1]
    assert PreviewWindow().show(IMAGE, is_video=True)


def test_a_signal_ends_the_wait(keys):
    keys += [-1, -1]
    signals = StopSignals(lambda: None)
    signals.received = 15
    assert not PreviewWindow().show(IMAGE, is_video=False, signals=signals)


@pytest.mark.parametrize("closed", ["hidden", "gone"])
def test_a_closed_window_ends_the_wait(keys, closed, monkeypatch):
    def gone(*_: object) -> float:
        raise cv2.error("NULL guiReceiver")

    monkeypatch.setattr(cv2, "getWindowProperty", gone if closed == "gone" else lambda *_: 0.0)
    keys += [-1]
    assert PreviewWindow().show(IMAGE, is_video=False)
