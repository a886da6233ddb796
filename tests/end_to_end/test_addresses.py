"""Files and streams behind addresses, by real servers on this machine."""

from __future__ import annotations

import base64
import contextlib
import functools
import http.server
import json
import shutil
import signal
import socket
import subprocess
import threading

import av
import cv2
import numpy as np
import pytest

import detect as script
from tests.end_to_end.test_live import ROWS, start
from tests.onnx_builders import save_detector

NUM_FRAMES = 20
# What a server of each protocol needs from ffmpeg, and the address it listens at.
SERVERS = {
    "tcp": ("mpegts", "tcp://127.0.0.1:{port}?listen=1", "tcp://127.0.0.1:{port}"),
    "udp": ("mpegts", "udp://127.0.0.1:{port}?pkt_size=1316", "udp://127.0.0.1:{port}"),
    "rtmp": ("flv", "rtmp://127.0.0.1:{port}/live/a", "rtmp://127.0.0.1:{port}/live/a"),
}


@pytest.fixture
def server(tmp_path):
    """The address of a folder that is served over HTTP."""
    with serving(functools.partial(QuietHandler, directory=tmp_path)) as address:
        yield address


@contextlib.contextmanager
def serving(handler):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("scheme", ["Basic", "Digest"])
def test_cameras_that_ask_for_a_password(scheme, tmp_path):
    jpeg = cv2.imencode(".jpg", np.full((64, 64, 3), 255, np.uint8))[1].tobytes()
    asked = []

    class Handler(QuietHandler):
        def do_GET(self):
            given = self.headers.get("Authorization", "")
            asked.append(given)
            basic = base64.b64encode(b"me:p@ss").decode()
            good = given == f"Basic {basic}" or given.startswith('Digest username="me"')
            self.send_response(200 if good else 401)
            self.send_header("WWW-Authenticate", f'{scheme} realm="camera", nonce="1", qop="auth"')
            self.send_header("Content-Type", "image/jpeg")
            self.end_headers()
            self.wfile.write(jpeg if good else b"")

    weights = save_detector(tmp_path / "tiny.onnx", ROWS)
    with serving(Handler) as address:
        where = address.replace("//", "//me:p%40ss@")
        arguments = ["--weights", weights, "--source", f"{where}/a.jpg", f"{where}/snapshot"]
        flags = ["--save-json", "--imgsz", 64, "--project", tmp_path / "runs"]
        assert script.main([str(each) for each in [*arguments, *flags]]) == 0
    entries = json.loads((tmp_path / "runs/exp/predictions.json").read_text())
    assert [entry["source"] for entry in entries] == [f"{address}/a.jpg", f"{address}/snapshot"]
    assert any(given.startswith(scheme) for given in asked)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def write_video(path, container_format, **options):
    with av.open(str(path), "w", format=container_format, options=options) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(NUM_FRAMES):
            image = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 255, np.uint8))
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("name", "container_format", "options"),
    [
        ("clip.mp4", "mp4", {"movflags": "+faststart"}),
        ("clip.m3u8", "hls", {"hls_time": "1", "hls_list_size": "0"}),
        ("clip.ts", "mpegts", {}),
    ],
)
def test_a_video_behind_an_address_is_read_whole_and_once(
    server, name, container_format, options, tmp_path
):
    write_video(tmp_path / name, container_format, **options)
    weights = save_detector(tmp_path / "tiny.onnx", ROWS)
    arguments = ["--weights", weights, "--source", f"{server}/{name}", "--imgsz", 64]
    flags = ["--save-json", "--nosave", "--project", tmp_path / "runs", "--reconnect", 20]
    assert script.main([str(each) for each in [*arguments, *flags]]) == 0
    entries = json.loads((tmp_path / "runs/exp/predictions.json").read_text())
    assert [entry["frame"] for entry in entries] == [*range(1, NUM_FRAMES + 1)]
    assert {len(entry["detections"]) for entry in entries} == {1}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="there is no ffmpeg")
@pytest.mark.parametrize("protocol", SERVERS)
def test_streams_of_other_protocols(protocol, tmp_path):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    container_format, listens, address = SERVERS[protocol]
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-re",
        "-f",
        "lavfi",
        "-i",
        "color=white:size=64x64:rate=25",
    ]
    command += ["-pix_fmt", "yuv420p", "-c:v", "libx264", "-tune", "zerolatency", "-g", "25"]
    command += ["-f", container_format, *(["-listen", "1"] if protocol == "rtmp" else [])]
    server = subprocess.Popen([*command, listens.format(port=port)], stderr=subprocess.DEVNULL)
    try:
        process, table = start(
            tmp_path, address.format(port=port), "--report", f"{tmp_path}/r.json"
        )
        process.send_signal(signal.SIGTERM)
        shown = process.communicate(timeout=20)[0]
        assert process.returncode == 0, shown
    finally:
        server.kill()
        server.wait()
    (stream,) = json.loads((tmp_path / "r.json").read_text())["streams"]
    assert stream["outages"] == 0 and stream["frames"] >= 20
    assert len(json.loads(table.read_text())) >= 20
