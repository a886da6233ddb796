"""What is behind http(s) addresses."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

from data.addresses import HTTP, address_suffix, without_password
from data.file_suffixes import IMAGE_SUFFIXES
from utils.errors import DatasetError

ANSWER_SECONDS = 5  # without an answer, a connection is lost
FETCH_SECONDS = 60  # that an image may take
PART_BYTES = 1 << 20  # read at a time
MAX_IMAGE_BYTES = 1 << 28  # of an image
PLAYLISTS = (".m3u8", ".m3u", ".mpd")
PLAYLIST_KINDS = ("application/vnd.apple.mpegurl", "application/x-mpegurl", "application/dash+xml")
# What urllib raises: no answer, an answer that is no HTTP, an address that is none.
_FETCH_ERRORS = (urllib.error.URLError, http.client.HTTPException, OSError, ValueError)
_ENDLESS = ("video/", "audio/", "multipart/")  # types of what may never end


def fetch(address: str) -> bytes:
    """What is behind an http(s) address.

    Raises:
        DatasetError: it cannot be fetched.
    """
    try:
        with _answer(address) as answer:
            kind: str = answer.headers.get_content_type()
            if kind.startswith(_ENDLESS):
                raise DatasetError(f"is {kind}, not one image")
            content = _read(answer)
    except _FETCH_ERRORS as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the answer, too
        raise DatasetError(f"cannot be fetched: {error}") from None
    return content


def _read(answer: Any) -> bytes:
    """What a server sends, unless it sends so slowly that this takes too long.

    Raises:
        DatasetError: it does.
    """
    content, deadline = bytearray(), time.monotonic() + FETCH_SECONDS
    while len(content) < MAX_IMAGE_BYTES and (part := answer.read1(PART_BYTES)):
        content += part
        if time.monotonic() > deadline:
            raise DatasetError(f"cannot be fetched: not all there after {FETCH_SECONDS} s")
    return bytes(content)


class _BasicLogin(urllib.request.HTTPBasicAuthHandler):
    """Closes the answer that asked for a login, which urllib leaves open."""

    def http_error_401(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """Ask again with name and password."""
        fp.close()
        return super().http_error_401(req, fp, code, msg, headers)


class _DigestLogin(urllib.request.HTTPDigestAuthHandler):
    """As `_BasicLogin`."""

    def http_error_401(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """Ask again with a digest of name and password."""
        fp.close()
        return super().http_error_401(req, fp, code, msg, headers)


@contextmanager
def _answer(address: str) -> Iterator[Any]:
    """Of an http(s) server, with the name and password of the address if it asks for them."""
    parts, public = urlsplit(address), without_password(address)
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    name, password = unquote(parts.username or ""), unquote(parts.password or "")
    passwords.add_password(None, public, name, password)
    opener = urllib.request.build_opener(_BasicLogin(passwords), _DigestLogin(passwords))
    try:
        with opener.open(public, timeout=ANSWER_SECONDS) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        raise


def is_image_address(address: str) -> bool:
    """Whether an http(s) address is that of one image: by its suffix, else by asking the server."""
    if not HTTP.match(address):
        return False
    if suffix := address_suffix(address):
        return suffix in IMAGE_SUFFIXES
    try:
        with _answer(address) as answer:
            kind: str = answer.headers.get_content_type()
    except _FETCH_ERRORS:
        return False
    return kind.startswith("image/")


def has_length(address: str) -> bool:
    """Whether an http(s) server says how many bytes there are, of anything but a playlist."""
    if not HTTP.match(address):
        return False
    try:
        with _answer(address) as answer:
            kind, length = answer.headers.get_content_type(), answer.headers["Content-Length"]
    except _FETCH_ERRORS:
        return False
    return (
        length is not None
        and address_suffix(address) not in PLAYLISTS
        and (kind not in PLAYLIST_KINDS)
    )
