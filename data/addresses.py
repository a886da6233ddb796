"""Addresses of cameras, screens, streams and images: what they name, and what they are called."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit

ADDRESS = re.compile(r"(rtsps?|rtmps?|srt|https?|udp|tcp)://", re.IGNORECASE)
HTTP = re.compile("https?://", re.IGNORECASE)
DEVICE = re.compile(r"/dev/video\d+")
SCREEN = re.compile(r"screen(?::(\d+))?", re.IGNORECASE)


def is_address(text: str) -> bool:
    """Whether it names a camera, a screen or something in a network, not a file."""
    whole = text.isdecimal() or SCREEN.fullmatch(text) or DEVICE.fullmatch(text)
    return bool(whole or ADDRESS.match(text))


def address_suffix(address: str) -> str:
    """`.jpg` of `http://host/a.JPG?size=1`; empty where there is none."""
    try:
        return PurePosixPath(urlsplit(address).path).suffix.lower()
    except ValueError:  # it is no address, such as http://[1
        return ""


def without_password(address: str) -> str:
    """`rtsp://user:secret@host/1` -> `rtsp://host/1`, for messages and results."""
    return re.sub(r"//[^/@]*@", "//", address)


def file_name(address: str) -> str:
    """A name for the files of a stream: `camera0`, `rtsp_host_1`."""
    public = without_password(address)
    return f"camera{public}" if public.isdecimal() else re.sub(r"[^A-Za-z0-9_-]+", "_", public)
