"""The live page's server in this process, asked over loopback by the standard library's client."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import pytest

from data.image_file import decode_image
from data.image_formats import read_header
from utils.structures import StreamState
from utils.web.live_page import LivePage
from utils.web.uploads import ImageReader

PACKAGES = ("starlette", "uvicorn", "python_multipart")
PATIENCE_SECONDS = 120.0


def skip_without_packages() -> None:
    """Skip where requirements-web.txt is not installed."""
    if any(importlib.util.find_spec(name) is None for name in PACKAGES):
        pytest.skip("the packages of requirements-web.txt are not installed")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The sentence of a refusal; there is nothing else in it."""
        (text,) = self.json.values()
        assert self.status >= 400 and list(self.json) == ["error"]
        assert "\n" not in text and "Traceback" not in text
        return str(text)


def connect(url: str) -> HTTPConnection:
    parts = urlsplit(url)
    return HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE_SECONDS)


def ask(url: str, path: str = "/", body: Any = None, **headers: str) -> Answer:
    """One request: GET, or POST where there is a body; `_` in names of headers is `-`."""
    connection = connect(url)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET" if body is None else "POST", path, body, named)
        response = connection.getresponse()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, fields, response.read())
    finally:
        connection.close()


@contextmanager
def open_events(url: str) -> Iterator[Iterator[tuple[str, bytes]]]:
    """(kind, data) of each event, "" for lines of frames; the server knows of us from the start."""
    connection = connect(url)
    connection.request("GET", "/events")
    response = connection.getresponse()
    try:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.readline().startswith(b":")
        yield _events(response)
    finally:
        response.close()
        connection.close()


def _events(response: HTTPResponse) -> Iterator[tuple[str, bytes]]:
    kind = ""
    for line in response:
        if line.startswith(b"event: "):
            kind = line[7:].decode().strip()
        elif line.startswith(b"data: "):
            yield kind, line[6:].rstrip(b"\n")
            kind = ""


@contextmanager
def serving(
    open_detector: Any, address: str = "0", streams: Sequence[StreamState] | None = ()
) -> Iterator[LivePage]:
    """A page, and no thread left after it."""
    with LivePage(address, open_detector, ImageReader(read_header, decode_image), streams) as page:
        yield page
    assert page.thread is not None and not page.thread.is_alive()
