"""The server beside a run: from before the network is loaded until the run has ended."""

from __future__ import annotations

import functools
import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from utils.detect.output_options import OutputOptions
from utils.detect.pipeline import FrameDetector
from utils.detect.tables import frame_line
from utils.detect.zone_counts import FrameCounts
from utils.errors import MissingPackageError
from utils.stop_signals import StopSignals
from utils.structures import Detections, Frame, ImageArray, StreamState
from utils.web.address import Access, bind, shown_url
from utils.web.board import LiveBoard
from utils.web.uploads import ImageReader, UploadWorker

logger = logging.getLogger(__name__)
MAX_CONNECTIONS = 128
KEEP_ALIVE_SECONDS = 15
END_SECONDS = 1.5  # how long the end of a run waits for answers under way
FAREWELL_SECONDS = 2.0  # and before that for a page between two questions, which asks for the end
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class FrameWatcher:
    """An output of a run that shows each frame on the page."""

    board: LiveBoard
    class_names: Sequence[str]
    options: OutputOptions

    def write(
        self, frame: Frame, stem: str, detections: Detections, counts: FrameCounts | None
    ) -> None:
        """Show one frame; boxes in pixels of its image, `stem` names its files."""
        names = [self.class_names[class_id] for class_id in detections.class_ids]
        line = functools.partial(frame_line, frame, detections, self.class_names, stem, counts)
        draw = functools.partial(self._draw, counts=counts)
        self.board.publish(frame, detections, names, draw, line)

    def _draw(self, frame: Frame, detections: Detections, counts: FrameCounts | None) -> ImageArray:
        return np.asarray(self.options.draw(frame, detections, self.class_names, counts))


class LivePage(AbstractContextManager["LivePage"]):
    """Serves in the block; entered, the address is bound, and the server runs in a thread.

    Attributes:
        board: what is shown.
        url: of the page; with the token, where one is needed.
        thread: of the server; None before it is entered.
    """

    def __init__(
        self,
        address: str,
        open_detector: Callable[[], FrameDetector],
        reader: ImageReader,
        streams: Sequence[StreamState] | None = (),
    ) -> None:
        """Choose what is served.

        Args:
            address: PORT or HOST:PORT.
            open_detector: loads a network for the images that are sent.
            reader: of these images.
            streams: of the source, if it is live; None where there is no source.
        """
        self._address, self._worker = address, UploadWorker(open_detector, reader)
        self.board = LiveBoard(streams or (), has_source=streams is not None)
        self.url = ""
        self.thread: threading.Thread | None = None
        self._server: Any = None
        self._listening: socket.socket | None = None

    def watcher(self, class_names: Sequence[str], options: OutputOptions) -> FrameWatcher:
        """The output that shows frames; what is drawn follows the options of the run's files."""
        return FrameWatcher(self.board, class_names, options)

    def serve(self) -> int:
        """Load the network, answer requests until a signal comes; returns the exit code.

        Raises:
            UserError: the network cannot be loaded.
        """
        self._worker.load()
        logger.info("ready for POST /detect; Ctrl-C ends")
        with StopSignals(lambda: None) as signals:
            while signals.received is None:
                time.sleep(POLL_SECONDS)
        return 0

    def __enter__(self) -> LivePage:
        """Listen and serve.

        Raises:
            ConfigError: it is not possible at this address.
            MissingPackageError: the server's packages are not installed.
        """
        try:
            import python_multipart  # noqa: F401, Starlette looks for it late
            import uvicorn

            from utils.web.app import make_app
        except ImportError:
            raise MissingPackageError(
                "--web needs starlette, uvicorn and python-multipart: "
                "pip install starlette uvicorn python-multipart"
            ) from None
        listening = bind(self._address)
        try:
            access = Access.of(listening)
        except BaseException:
            listening.close()
            raise
        server = uvicorn.Server(
            uvicorn.Config(
                make_app(self.board, self._worker, access),
                lifespan="off", ws="none", http="h11", loop="asyncio", interface="asgi3",
                log_config=None, log_level="error", access_log=False, server_header=False,
                proxy_headers=False, limit_concurrency=MAX_CONNECTIONS,
                timeout_keep_alive=KEEP_ALIVE_SECONDS, timeout_graceful_shutdown=1,
            )
        )  # fmt: skip
        # A daemon: what hangs in a library must not keep the program from ending.
        self.thread = threading.Thread(
            target=server.run, args=([listening],), daemon=True, name="web server"
        )
        self._server, self._listening = server, listening
        self.url = shown_url(listening, access.token)
        self.thread.start()
        self._worker.start()
        logger.info("Web page: %s", self.url)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Tell those who look on that the run has ended, and end the server."""
        self.board.end()
        self.board.wait_told(FAREWELL_SECONDS)
        self._worker.stop()
        if self.thread is not None and self._listening is not None:
            self._server.should_exit = True
            self.thread.join(END_SECONDS)
            self._listening.close()
