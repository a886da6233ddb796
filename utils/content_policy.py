"""Content security policies: which scripts and styles a page may hold."""

from __future__ import annotations

import base64
import hashlib


def source_hash(content: str) -> str:
    """A script or style inside of a page as its policy names it: `sha256-...`, without quotes."""
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
