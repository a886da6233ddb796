"""What is in a gallery.html, read without a browser."""

from __future__ import annotations

import base64
import hashlib
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

LOADING = ("src", "href", "srcset", "action", "data", "poster", "style")  # attributes


class Page(HTMLParser):
    """A parsed page.

    Attributes:
        loads: values of attributes that make a browser load something, or style inline.
        handlers: names of attributes such as `onclick`.
        tags: names of all elements, in order.
        text: outside of scripts and styles.
        scripts: content of script elements, by their `id`; the code's is "".
        style: the style sheet.
        policy: the content security policy.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.tags: list[str] = []
        self.scripts: dict[str, str] = {}
        self.text = self.style = self.policy = self._script = self._inside = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        self.data: dict[str, Any] = json.loads(self.scripts["data"])
        self.crops: list[dict[str, Any]] = json.loads(self.scripts["crops"])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside = tag if tag in ("script", "style") else ""
        self._script = dict(attrs).get("id") or ""
        for name, value in attrs:
            if name in LOADING:
                self.loads.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)
            if name == "content" and "default-src" in (value or ""):
                self.policy = value or ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
        elif self._inside == "style":
            self.style += data
        else:
            self.text += data

    def matrix(self) -> np.ndarray:
        """(C + 1, C + 1) the confusion matrix that the page shows."""
        return self._matrix((row, column, count) for row, column, count, _ in self.data["cells"])

    def counted(self) -> np.ndarray:
        """(C + 1, C + 1) how many cases the page says there are in each cell."""
        return self._matrix((row, column, count) for _, row, column, count in self.data["groups"])

    def kinds(self) -> dict[str, int]:
        """How many cases of each kind there are."""
        kinds: dict[str, int] = {}
        for kind, _, _, count in self.data["groups"]:
            name = self.data["kinds"][kind]["name"]
            kinds[name] = kinds.get(name, 0) + count
        return kinds

    def _matrix(self, counts) -> np.ndarray:
        matrix = np.zeros([len(self.data["names"]) + 1] * 2, np.int64)
        for row, column, count in counts:
            matrix[row, column] += count
        return matrix


def assert_self_contained(page: Page) -> None:
    """Nothing is loaded, and the policy allows only the page's own script and style."""
    assert page.loads == ["data:,"]  # an empty icon, so that none is asked for
    assert page.handlers == []
    assert not {"iframe", "object", "embed", "form", "base", "img"} & set(page.tags)
    assert "url(" not in page.style and "@import" not in page.style
    addresses = page.scripts[""].replace("http://www.w3.org/2000/svg", "") + page.style
    assert "http:" not in addresses and "https:" not in addresses and "//" not in page.loads
    for kind, content in (("script", page.scripts[""]), ("style", page.style)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in page.policy
    assert page.policy.startswith("default-src 'none'; img-src data:;")
