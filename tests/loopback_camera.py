"""A camera on this machine: motion JPEG over HTTP, the number of each frame in its pixels."""

from __future__ import annotations

import http.server
import threading
import time
from contextlib import AbstractContextManager

import cv2
import numpy as np

BITS, CELL = 16, 16  # a row of black and white squares


def numbered_image(number: int) -> np.ndarray:
    """(64, 256, 3) with `number` as squares: the first is the lowest bit."""
    bits = np.array([number >> bit & 1 for bit in range(BITS)], np.uint8)
    row = np.repeat(bits * 255, CELL)
    return np.repeat(np.tile(row, (64, 1))[..., None], 3, axis=2)


def number_in(image: np.ndarray) -> int:
    """The number that `numbered_image` drew."""
    middles = image[32, CELL // 2 :: CELL, 0] > 127
    return int(sum(1 << bit for bit, is_set in enumerate(middles) if is_set))


class LoopbackCamera(AbstractContextManager["LoopbackCamera"]):
    """Serves `http://127.0.0.1:port/`; each client gets the frame of the moment, at `fps`."""

    def __init__(self, fps: float = 25.0, port: int = 0) -> None:
        self.fps = fps
        self.began = time.monotonic()
        self._open = threading.Event()
        self._open.set()
        camera = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                kind = "multipart/x-mixed-replace; boundary=frame"
                if self.path.startswith("/snapshot"):
                    kind = "image/jpeg"
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.end_headers()
                if self.path.startswith("/snapshot"):
                    self.wfile.write(camera.jpeg())
                    return
                while camera._open.is_set():
                    content = camera.jpeg()
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}"
                    try:
                        self.wfile.write(head.encode() + b"\r\n\r\n" + content + b"\r\n")
                    except OSError:
                        return
                    time.sleep(1 / camera.fps)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Of the stream; `snapshot` below it is a single image."""
        return f"http://127.0.0.1:{self.port}/"

    def current(self) -> int:
        """The number of the frame that is sent at this moment."""
        return int((time.monotonic() - self.began) * self.fps)

    def jpeg(self) -> bytes:
        """The frame of this moment."""
        return cv2.imencode(".jpg", numbered_image(self.current()))[1].tobytes()

    def __exit__(self, *_: object) -> None:
        """Close every connection."""
        self._open.clear()
        self._server.shutdown()
        self._server.server_close()
