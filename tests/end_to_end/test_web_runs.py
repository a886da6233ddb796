"""`--web` in whole runs: a camera until a signal comes, requests alone, and many of them."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

import detect as script
from detect import load_detector
from tests import web_server
from tests.end_to_end.test_detect import ROWS
from tests.loopback_camera import LoopbackCamera
from tests.onnx_builders import save_detector
from tests.web_server import Answer, ask, open_events, serving

REPOSITORY = Path(script.__file__).parent


@pytest.fixture(scope="module", autouse=True)
def _packages():
    web_server.skip_without_packages()


@pytest.fixture(scope="module")
def photo() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 90, 3), np.uint8)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def start(tmp_path, *flags):
    """detect.py in a process of its own, and the address of its page."""
    weights = save_detector(tmp_path / "tiny.onnx", ROWS)
    command = [sys.executable, "detect.py", "--weights", weights, "--imgsz", "64", "--web", "0",
               "--project", tmp_path / "runs", *flags]  # fmt: skip
    process = subprocess.Popen(
        [str(each) for each in command], cwd=REPOSITORY, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if "Web page: " in line:
            return process, line.split()[-1]
    raise AssertionError(said)


def test_a_camera_on_the_page_until_a_signal_comes(tmp_path, photo) -> None:
    with LoopbackCamera() as camera:
        process, url = start(
            tmp_path, "--source", camera.address, "--nosave", "--save-jsonl", "--save-json"
        )
        with open_events(url) as stream:
            lines = [next(stream)[1] for _ in range(10)]
            (source,) = ask(url, "/state").json["sources"]
            assert source["source"] == camera.address and source["lag"] < 60
            assert post_to(url, photo).status == 200
            process.send_signal(signal.SIGTERM)
            rest = list(stream)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and "stopped; everything so far is saved" in output
    assert "Traceback" not in output and "Exception" not in output
    assert rest[-1] == ("end", b"{}")
    lines += [line for _, line in rest[:-1]]
    written = (tmp_path / "runs/exp/predictions.jsonl").read_bytes().splitlines()
    assert written[-len(lines) :] == lines


def post_to(url: str, body: bytes) -> Answer:
    return ask(url, "/detect", body)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_without_a_source_only_requests_are_answered(tmp_path, photo, number) -> None:
    process, url = start(tmp_path)
    assert post_to(url, photo).json["detections"]
    assert ask(url, "/state").json == {
        "version": 0, "ended": False, "has_source": False, "sources": []
    }  # fmt: skip
    assert process.stdout is not None
    while "ready for POST" not in process.stdout.readline():
        pass
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and "Traceback" not in output
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_many_requests(tmp_path, photo) -> None:
    """200 requests by 8 clients, ten times: none is lost, and memory stays."""
    detector = load_detector(save_detector(tmp_path / "tiny.onnx", ROWS), imgsz=64)
    expected = {**json.loads(detector(photo).to_json()), "source": "upload"}
    if not Path("/proc/self/statm").exists():
        pytest.skip("memory is measured in /proc")

    def client(_: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        good = 0
        for _ in range(25):
            connection.request("POST", "/detect", photo)
            response = connection.getresponse()
            good += response.status == 200 and json.loads(response.read()) == expected
        connection.close()
        return good

    def memory_mb() -> float:
        return (
            int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        )

    with serving(lambda: detector.finder) as page, ThreadPoolExecutor(8) as clients:
        port = int(page.url.strip("/").rpartition(":")[2])
        memories = []
        for _ in range(10):
            assert list(clients.map(client, range(8))) == [25] * 8
            time.sleep(0.1)
            memories.append(memory_mb())
        print("MB after each 200 requests:", [round(each) for each in memories])  # noqa: T201
        assert memories[-1] - memories[1] < 10
