"""The live page in a headless Chromium: a camera that shows a real street, and hostile names."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

import detect as script
from detect import load_detector
from tests import web_server
from tests.browser import Browser
from tests.end_to_end.test_detect import ROWS
from tests.end_to_end.test_web import video_frames
from tests.loopback_camera import LoopbackCamera
from tests.onnx_builders import save_detector
from tests.web_server import serving
from utils.detect.output_options import OutputOptions
from utils.structures import Detections

pytestmark = pytest.mark.slow
REPOSITORY = Path(script.__file__).parent
WINDOWS = {"wide": (1440, 900), "narrow": (360, 740)}
HOSTILE = ("<img src=x onerror='window.ran = true'>", "</script><script>window.ran = true</script>")
ROW = (
    "[...document.querySelectorAll('tbody tr')].map(row => [...row.cells].map(c => c.textContent))"
)


class Street(LoopbackCamera):
    """A camera that sends the beginning of a video again and again."""

    def __init__(self, path: Path) -> None:
        with av.open(str(path)) as container:
            frames = list(itertools.islice(container.decode(video=0), 100))
        self._images = [
            cv2.imencode(".jpg", frame.to_ndarray(format="bgr24"))[1].tobytes() for frame in frames
        ]
        super().__init__(fps=15)

    def jpeg(self) -> bytes:
        return self._images[self.current() % len(self._images)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    web_server.skip_without_packages()
    with Browser() as opened:
        yield opened


@contextlib.contextmanager
def running(command: list[object]) -> Iterator[subprocess.Popen[str]]:
    """A script in a process of its own, which ends with the block."""
    process = subprocess.Popen(
        [str(each) for each in command], cwd=REPOSITORY, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def open_page(browser: Browser, url: str, window: str = "wide", *, dark: bool = False) -> None:
    width, height = WINDOWS[window]
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.send("Emulation.setEmulatedMedia", features=[scheme])
    browser.send("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=1, mobile=False)  # fmt: skip
    browser.send("Page.navigate", url="about:blank")
    browser.requests.clear()
    browser.send("Page.navigate", url=url)
    browser.wait_until("document.querySelector('#status')?.textContent.startsWith('live')")


def fact(browser: Browser, name: str) -> str:
    return browser.evaluate(f"document.querySelector('.{name}').textContent")


def screenshot(browser: Browser, name: str) -> None:
    """To look at, where WEB_SCREENSHOTS names a folder."""
    if folder := os.environ.get("WEB_SCREENSHOTS"):
        browser.screenshot(Path(folder) / f"{name}.png")


def no_errors(browser: Browser) -> None:
    """Nothing but that a server that has ended cannot be reached, and that it refused an image."""
    expected = ("Failed to load resource", "net::ERR_")
    assert [each for each in browser.errors if not any(text in each for text in expected)] == []
    browser.errors.clear()


def choose_file(browser: Browser, path: Path) -> None:
    root = browser.send("DOM.getDocument")["root"]["nodeId"]
    node = browser.send("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    browser.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])


def test_a_street(browser, shared, tmp_path) -> None:
    """The image moves; the counts are those of the tables; the end is told."""
    with Street(shared / "data/video/street.mp4") as camera, contextlib.ExitStack() as stack:
        command = [
            sys.executable, "detect.py", "--weights", shared / "weights/yolov5n.pt", "--imgsz",
            "320", "--source", camera.address, "--nosave", "--save-json", "--save-jsonl",
            "--project", tmp_path, "--web", "0",
        ]  # fmt: skip
        process = stack.enter_context(running(command))
        assert process.stdout is not None
        url = next(line for line in process.stdout if "Web page: " in line).split()[-1]
        for window in WINDOWS:
            for dark in (False, True):
                open_page(browser, url, window, dark=dark)
                browser.wait_until("document.querySelector('.view img').dataset.frame")
                numbers, images = set(), set()
                while len(numbers) < 3 or len(images) < 3:
                    browser.settle()
                    browser.wait_until("document.querySelector('.view img').naturalWidth > 300")
                    number, image = browser.evaluate(
                        "(() => { const image = document.querySelector('.view img');"
                        "return [Number(image.dataset.frame), image.src] })()"
                    )
                    numbers.add(number)
                    images.add(image)
                # Nothing is wider than the window, and the image is in it.
                assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
                assert browser.evaluate(
                    "document.querySelector('.view img').getBoundingClientRect().bottom"
                    " <= innerHeight"
                )
                screenshot(browser, f"{window}{'-dark' if dark else ''}")
        assert float(fact(browser, "rate")) > 0 and fact(browser, "lag").endswith("s")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
        assert process.returncode == 0
    browser.wait_until("document.querySelector('#status').textContent.startsWith('the run')")
    entries = json.loads((tmp_path / "exp/predictions.json").read_text())
    totals: dict[str, int] = {}
    for entry in entries:
        for found in entry["detections"]:
            totals[found["name"]] = totals.get(found["name"], 0) + 1
    assert int(fact(browser, "frames")) == len(entries)
    assert int(fact(browser, "detections")) == sum(totals.values()) > 0
    rows = browser.evaluate(ROW)
    assert {name: int(total) for name, _, total in rows} == totals
    last = [found["name"] for found in entries[-1]["detections"]]
    assert {name: int(now) for name, now, _ in rows} == {name: last.count(name) for name in totals}
    assert all(request.startswith((url, "blob:")) for request in browser.requests)
    no_errors(browser)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    weights = save_detector(tmp_path_factory.mktemp("weights") / "tiny.onnx", ROWS,
                            metadata={"names": json.dumps(HOSTILE), "stride": "[8, 16, 32]",
                                      "head": '"decoded"'})  # fmt: skip
    return load_detector(weights, imgsz=64)


@pytest.mark.parametrize("window", WINDOWS)
def test_hostile_names_and_an_uploaded_image(browser, detector, tmp_path, window) -> None:
    with serving(lambda: detector.finder) as page:
        watcher = page.watcher(HOSTILE, OutputOptions())
        boxes = np.array([[1, 2, 30, 40], [5, 5, 60, 40]], np.float32)
        found = Detections(boxes, np.ones(2, np.float32), np.arange(2))
        for frame in video_frames(2):
            watcher.write(frame, "", found, None)
        open_page(browser, page.url, window)
        browser.wait_until("document.querySelector('.view img').dataset.frame === '2'")
        assert sorted(row[0] for row in browser.evaluate(ROW)) == sorted(HOSTILE)
        assert fact(browser, "name") == "a<b>.mp4"

        pixels = np.full((48, 64, 3), 255, np.uint8)
        path = tmp_path / "<b>photo.png"
        cv2.imwrite(str(path), pixels)
        choose_file(browser, path)
        browser.wait_until("!document.querySelector('#result').hidden")
        shown = browser.evaluate(
            "[...document.querySelectorAll('#found li')].map(each => each.textContent)"
        )
        expected = json.loads(detector(pixels, bgr=True).to_json())["detections"]
        assert shown == [f"{each['name']} {each['score']:.2f}" for each in expected]
        assert browser.evaluate("document.querySelectorAll('#marks i').length") == len(expected)
        screenshot(browser, f"upload-{window}")
        other = tmp_path / "other.png"
        other.write_text("no image")
        choose_file(browser, other)
        browser.wait_until("document.querySelector('#answer.bad') !== null")
        assert "not an image" in browser.evaluate("document.querySelector('#answer').textContent")

        assert browser.evaluate("window.ran") is None
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
        browser.click("#pause")
        assert browser.evaluate("document.querySelector('#pause').ariaPressed") == "true"
    no_errors(browser)


def test_the_token_leaves_the_address_bar(browser, detector, monkeypatch) -> None:
    monkeypatch.setenv("DETECT_WEB_TOKEN", "the-token-of-this-test")
    with serving(lambda: detector.finder) as page:
        watcher = page.watcher(HOSTILE, OutputOptions())
        for frame in video_frames(1):
            watcher.write(frame, "", Detections.empty(), None)
        open_page(browser, page.url)
        assert browser.evaluate("location.search") == ""
        assert browser.evaluate("document.cookie") == ""  # scripts cannot read it
        browser.wait_until("document.querySelector('.view img').dataset.frame === '1'")
    browser.errors.clear()
