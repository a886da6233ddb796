"""`--web`: the server is asked over loopback, by well-behaved programs and by others."""

from __future__ import annotations

import itertools
import json
import socket
import struct
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import detect as script
from detect import load_detector
from tests import web_server
from tests.end_to_end.test_detect import ROWS
from tests.onnx_builders import save_detector
from tests.web_server import Answer, ask, connect, open_events, serving
from utils.detect.output import DetectionOutput
from utils.detect.output_options import OutputOptions
from utils.structures import Frame
from utils.web import app, uploads
from utils.web.address import TOKEN_VARIABLE

REPOSITORY = Path(script.__file__).parent
TOKEN = "the-token-of-this-test"
FORM = {"Content_Type": "multipart/form-data; boundary=XX"}


@pytest.fixture(scope="module", autouse=True)
def _packages():
    web_server.skip_without_packages()


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    weights = save_detector(tmp_path_factory.mktemp("weights") / "tiny.onnx", ROWS)
    return load_detector(weights, imgsz=64)


@pytest.fixture(scope="module")
def photo() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 90, 3), np.uint8)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


@pytest.fixture(scope="module")
def page(detector):
    with serving(lambda: detector.finder) as page:
        yield page


def post(page, body, **headers) -> Answer:
    return ask(page.url, "/detect", body, **headers)


def form(*parts: bytes) -> bytes:
    return b"".join(b"--XX\r\n" + part + b"\r\n" for part in parts) + b"--XX--\r\n"


def file_part(content: bytes, name: str = "../../bus.jpg") -> bytes:
    head = f'Content-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'
    return head.encode() + content


def png(width: int, height: int) -> bytes:
    """A black image in a small file; the largest ones only claim their size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (struct.pack(">I", len(content)) + kind + content
                + struct.pack(">I", zlib.crc32(kind + content)))  # fmt: skip

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = bytes(min(height * (1 + -(-width // 8)), 1 << 25))
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def video_frames(count: int, size=(48, 64)):
    random = np.random.default_rng(0)
    for number in range(1, count + 1):
        image = np.full((*size, 3), random.integers(0, 256, 3, np.uint8))
        yield Frame(image, "a<b>.mp4", Path("a.mp4"), 1, 1, number, count, 25.0, True, number / 25)


def test_a_request_gets_what_python_gets(page, detector, photo) -> None:
    expected = {**json.loads(detector(photo).to_json()), "source": "upload"}
    assert len(expected["detections"]) >= 1
    for answer in (
        post(page, photo),
        post(page, photo, Content_Type="application/x-www-form-urlencoded"),  # curl's choice
        post(page, photo, Content_Type="image/jpeg", Origin=page.url.rstrip("/")),
        post(page, iter([photo[:100], photo[100:]])),  # in chunks
        post(page, form(file_part(photo)), **FORM),
        post(page, form(b'Content-Disposition: form-data; name="a"\r\n\r\nb', file_part(photo)),
             **FORM),
    ):  # fmt: skip
        assert answer.status == 200 and answer.json == expected
        assert answer.headers["content-type"] == "application/json"
        assert "access-control-allow-origin" not in answer.headers


GIF = b"GIF89a\x01\x00\x01\x00\x00\x00\x00" + b",\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0" * 2 + b";"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 422, "has no content"),
        (b"\0", 422, "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422, "not an image"),
        (b"\xff\xd8\xff\xe0" + bytes(1000), 422, "not an image|cannot be decoded"),
        (b"\xff\xd8\xff", 422, "not an image|cannot be decoded"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 422, "not an image"),
        (GIF, 422, "several images|cannot be decoded"),
        (png(8000, 8000), 413, "8000x8000: more than 50 million pixels"),
        (png(30000, 30000), 422, "more than 179 million pixels"),
        (png(2**31 - 1, 2**31 - 1), 422, "pixels|decoded"),
        (png(0, 9), 422, "upload"),
        (png(7000, 7000)[:60], 422, "upload"),
    ],
)
def test_what_is_no_image_is_the_clients_mistake(page, photo, body, status, message) -> None:
    answer = post(page, body)
    assert answer.status == status
    assert any(part in answer.error for part in message.split("|")), answer.error
    in_form = post(page, form(file_part(body)), **FORM)
    assert (in_form.status, in_form.error) == (status, answer.error)
    assert post(page, photo).status == 200  # and the server goes on


@pytest.mark.parametrize("seed", range(3))
def test_damaged_images(page, photo, seed) -> None:
    random = np.random.default_rng(seed)
    image = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
    for suffix in (".jpg", ".png", ".webp", ".tiff", ".bmp", ".jp2", ".ppm"):
        content = bytearray(cv2.imencode(suffix, image)[1].tobytes())
        for index in random.integers(0, min(len(content), 300), 5):
            content[index] = random.integers(256)
        answer = post(page, bytes(content[: random.integers(1, len(content))]))
        assert answer.status == 200 or (answer.status in (413, 422) and answer.error)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "multipart/form-data"),
        (b"x", "multipart/form-data; boundary="),
        (b"x", "multipart/form-data; boundary=XX"),
        (form(), "multipart/form-data; boundary=XX"),
        (form(b'Content-Disposition: form-data; name="a"\r\n\r\nb'), FORM["Content_Type"]),
        (form(b"\r\nno header"), FORM["Content_Type"]),
        (form(file_part(b"a"), file_part(b"b")), FORM["Content_Type"]),
        (form(*[b'Content-Disposition: form-data; name="a"\r\n\r\nb'] * 20), FORM["Content_Type"]),
    ],
)
def test_forms_without_a_file(page, body, kind) -> None:
    answer = post(page, body, Content_Type=kind)
    assert answer.status == 422
    assert "form" in answer.error


def test_too_many_bytes_are_not_read(page) -> None:
    connection = connect(page.url)
    connection.putrequest("POST", "/detect")
    connection.putheader("Content-Length", str(1 << 40))
    connection.endheaders()  # and no byte of it
    response = connection.getresponse()
    assert response.status == 413 and b"more than 32 MB" in response.read()
    connection.close()

    sent = 0

    def endless():
        nonlocal sent
        while sent < 40 * uploads.MAX_BYTES:
            sent += 1 << 20
            yield bytes(1 << 20)

    connection = connect(page.url)
    try:
        connection.request("POST", "/detect", endless())
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):  # it hung up before we had finished
        pass
    connection.close()
    assert sent < 10 * uploads.MAX_BYTES


@pytest.mark.parametrize(
    "path",
    ["/frame/../../etc/passwd", "/../page.py", "/frame/1/../../app.py", "/%2e%2e/%2e%2e/etc/passwd",
     "/frame/..%2f..%2fetc%2fpasswd", "/page.css", "/frame/x", "/frame/-1", "/frame/1e9",
     "/static/app.py", "//evil.example/", "/frame/99999999999999999999999", "/detect/x"],
)  # fmt: skip
def test_there_is_nothing_else(page, path) -> None:
    answer = ask(page.url, path)
    assert answer.status == 404 and answer.error


def test_other_methods(page) -> None:
    assert ask(page.url, "/detect").status == 405
    assert ask(page.url, "/state", b"x").status == 405
    for method in ("OPTIONS", "PUT", "DELETE", "TRACE"):
        connection = connect(page.url)
        connection.request(method, "/detect", headers={"Origin": page.url.rstrip("/")})
        answer = connection.getresponse()
        assert answer.status == 405
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
        connection.close()


def test_foreign_hosts_and_sites(page, photo) -> None:
    for path in ("/", "/state", "/events", "/frame/1"):
        assert "Host" in ask(page.url, path, Host="evil.example").error
        assert ask(page.url, path, Sec_Fetch_Site="cross-site").status == 403
    assert post(page, photo, Host="evil.example:80").status == 403
    assert post(page, photo, Origin="http://evil.example").status == 403
    assert post(page, photo, Origin="http://localhost:1").status == 403
    assert ask(page.url, "/state", Host="localhost:9999").status == 200  # a tunnel


def test_the_page_loads_nothing_from_elsewhere(page) -> None:
    answer = ask(page.url)
    text = answer.body.decode()
    assert answer.status == 200 and "{{" not in text
    assert "http://" not in text and "https://" not in text and "//cdn" not in text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


def test_a_token_is_needed(detector, photo, monkeypatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    with serving(lambda: detector.finder, "0.0.0.0:0") as page:
        port = int(page.url.partition("?")[0].strip("/").rpartition(":")[2])
        assert page.url.endswith(f"/?token={TOKEN}")
        url = f"http://127.0.0.1:{port}/"
        for path in ("/", "/state", "/events", "/frame/1", "/nothing", "/?token=wrong", "/?token="):
            answer = ask(url, path)
            assert answer.status == 401 and "token" in answer.error
            assert ask(url, path, Authorization="Bearer wrong").status == 401
            assert ask(url, path, Cookie=f"detect_token_{port}=wrong").status == 401
        assert ask(url, "/detect", photo).status == 401
        assert ask(url, "/detect", photo, Authorization=f"Bearer {TOKEN}").status == 200
        assert ask(url, f"/detect?token={TOKEN}", photo).status == 200
        assert ask(url, f"/detect?token={TOKEN}", photo, Origin="http://evil.example").status == 403
        opened = ask(url, f"/?token={TOKEN}", Sec_Fetch_Site="cross-site",
                     Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document")  # fmt: skip
        assert opened.status == 303 and opened.headers["location"] == "/"
        cookie = opened.headers["set-cookie"]
        assert "httponly" in cookie.lower() and "samesite=lax" in cookie.lower()
        assert ask(url, "/", Cookie=cookie.partition(";")[0]).status == 200
        assert ask(url, "/state", Cookie=cookie.partition(";")[0], Host="any.example").status == 200


class Blocked:
    """A network that works once it may, and notes the threads that call it."""

    def __init__(self, network) -> None:
        self._network, self.may, self.threads = network, threading.Event(), set()
        self.batch_size, self.stride = network.batch_size, network.stride

    def run(self, images):
        assert self.may.wait(120)
        self.threads.add(threading.current_thread().name)
        return self._network.run(images)


def test_more_than_can_wait_are_asked_to_come_again(detector, photo) -> None:
    network = Blocked(detector.finder.network)
    with (
        serving(lambda: replace(detector.finder, network=network)) as page,
        ThreadPoolExecutor(app.MAX_WAITING + 4) as clients,
    ):
        sent = [clients.submit(post, page, photo) for _ in range(app.MAX_WAITING + 4)]
        refused = [each.result() for each in itertools.islice(as_completed(sent), 4)]
        assert ask(page.url, "/state").status == 200  # looking on goes on
        network.may.set()
        assert sorted(each.result().status for each in sent) == [200] * app.MAX_WAITING + [503] * 4
        for answer in refused:
            assert int(answer.headers["retry-after"]) >= 1 and "wait already" in answer.error
        assert post(page, photo).status == 200
        assert network.threads == {"uploads"}


def test_events_are_the_lines_of_the_file(page, detector, tmp_path) -> None:
    found = detector(np.full((9, 9, 3), 255, np.uint8), bgr=True).detections
    options = OutputOptions(images=False, json_lines="a.jsonl")
    watcher = page.watcher(("<b>", "dög"), options)
    with open_events(page.url) as one, open_events(page.url) as other:
        with DetectionOutput(tmp_path, ("<b>", "dög"), options, watchers=(watcher,)) as output:
            for frame in video_frames(20):
                output.write(frame, found)
        written = (tmp_path / "a.jsonl").read_bytes().splitlines()
        assert len(written) == 20
        for stream in (one, other):
            assert [next(stream) for _ in range(20)] == [("", line) for line in written]
    (source,) = ask(page.url, "/state").json["sources"]
    assert source["frames"] == 20 and source["counts"] == {"<b>": 1, "dög": 1}
    image = ask(page.url, "/frame/1")
    assert image.headers["content-type"] == "image/jpeg" and image.headers["x-frame"] == "20"
    pixels = cv2.imdecode(np.frombuffer(image.body, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    drawn = output.draw(frame, found)
    assert np.abs(pixels.astype(float) - drawn).mean() < 15  # JPEG's edges
    assert ask(page.url, "/frame/2").status == 404


def test_a_slow_reader_holds_nobody_up_and_is_told(detector) -> None:
    long_name = "x" * 20_000
    with serving(lambda: detector.finder) as page, open_events(page.url) as slow:
        watcher = page.watcher((long_name,) * 2, OutputOptions())
        found = detector(np.full((9, 9, 3), 255, np.uint8), bgr=True).detections
        for frame in video_frames(3000, (4, 4)):
            watcher.write(frame, "", found, None)
            if frame.frame_index % 500 == 0:
                assert ask(page.url, "/state").json["sources"][0]["frames"] >= frame.frame_index
        lines = lost = 0
        for kind, data in slow:  # it reads at last
            lines += kind == ""
            lost += json.loads(data)["frames"] if kind == "dropped" else 0
            if lines + lost == 3000:
                break
        assert lost > 1000


def test_a_run_that_ends_says_so(detector) -> None:
    with serving(lambda: detector.finder) as page, open_events(page.url) as stream:
        url = page.url
        version = ask(url, "/state").json["version"]
        with ThreadPoolExecutor(1) as clients:
            waiting = clients.submit(ask, url, f"/state?after={version}")
            page.board.end()
            assert waiting.result().json["ended"]
        assert list(stream) == [("end", b"{}")]
    with pytest.raises(OSError):
        ask(url)


def test_what_is_wrong_with_the_address_is_said_before_the_network_is_loaded(
    tmp_path, capsys
) -> None:
    (tmp_path / "w.onnx").write_bytes(b"no network")
    flags = ["--weights", str(tmp_path / "w.onnx"), "--project", str(tmp_path / "runs")]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for web, message in ((port, "is in use"), ("eighty", "expected PORT or HOST:PORT")):
            for source in ([], ["--source", str(REPOSITORY / "data/images")]):
                assert script.main([*flags, "--web", web, *source]) == 2
                said = capsys.readouterr().err
                assert said.startswith(f"error: --web {web}: ") and message in said
                assert said.count("\n") == 1
                assert not (tmp_path / "runs").exists()


def test_missing_packages(detector, monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert script.main(["--web", "0", "--project", str(tmp_path)]) == 2
    assert "pip install starlette uvicorn python-multipart" in capsys.readouterr().err
