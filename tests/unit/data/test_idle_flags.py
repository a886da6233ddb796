"""A flag for other sources than those given is named; one that has an effect is not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from data.idle_flags import log_idle_source_flags
from data.sources import SourceOptions, open_source
from tests.video_builders import save_video
from utils.detect_config import DetectConfig

FOR_LIVE = "changes nothing without a live source in --source"
FOR_FRAMES = "changes nothing without a video or a live source in --source"
FOR_FOLDERS = "changes nothing without a folder in --source"
FOR_STILLS = "changes nothing without an http(s) address or a screen in --source"
CASES = [
    # sources, flags, what is said
    (("a.jpg",), {}, []),
    (("a.jpg",), {"poll": 5.0}, [f"--poll: {FOR_STILLS}"]),
    (("0",), {"poll": 5.0}, [f"--poll: {FOR_STILLS}"]),
    (("rtsp://door",), {"poll": 5.0}, [f"--poll: {FOR_STILLS}"]),
    (("http://door/a.jpg",), {"poll": 5.0}, []),
    (("0", "http://door/a.jpg"), {"poll": 5.0}, []),
    (("screen:2",), {"poll": 5.0}, []),
    (("a.mp4",), {"every_frame": True, "reconnect": 3.0},
     [f"--every-frame: {FOR_LIVE}", f"--reconnect: {FOR_LIVE}"]),
    (("0",), {"every_frame": True, "reconnect": 0.0, "segment": 60.0, "vid_stride": 2}, []),
    (("a.jpg", "."), {"segment": 60.0, "vid_stride": 2}, []),  # a video is in the folder
    (("a.jpg",), {"segment": 60.0, "vid_stride": 2},
     [f"--vid-stride: {FOR_FRAMES}", f"--segment: {FOR_FRAMES}"]),
    (("a.jpg",), {"recursive": True}, [f"--recursive: {FOR_FOLDERS}"]),
    ((".",), {"recursive": True}, []),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    cv2.imwrite(str(folder / "a.jpg"), np.zeros((8, 8, 3), np.uint8))
    save_video(folder / "a.mp4", 2)
    return folder


@pytest.mark.parametrize(("sources", "flags", "said"), CASES, ids=str)
def test_flags_without_effect(sources, flags, said, folder, monkeypatch, caplog) -> None:
    monkeypatch.chdir(folder)
    config = DetectConfig(source=sources, **flags)
    log_idle_source_flags(config, open_source(config.sources, SourceOptions.of(config)))
    assert caplog.messages == said
