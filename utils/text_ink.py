"""Texts in any script as ink, and putting them into an image.

They are drawn by Pillow, whose layout engine (Raqm) joins and orders the letters of any script.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from utils.class_colors import Color
from utils.fonts import FontRun, can_be_drawn, font_runs, open_font
from utils.structures import ImageArray

ASCENT, DESCENT = 0.82, 0.22  # of ordinary letters above and below their baseline, per size
# Around a name, so that what follows it stays on its right even if the name reads leftwards.
ISOLATE, END_ISOLATE = "\u2068", "\u2069"


@dataclass(frozen=True, slots=True)
class TextInk:
    """A text as (H, W) uint8 ink, 255 in the middle of a stroke, and the row of its baseline."""

    ink: ImageArray
    baseline: int


@dataclass(frozen=True, slots=True)
class _RunInk:
    """The ink of a run, where it begins (seen from the pen), and where the next run does."""

    ink: ImageArray
    baseline: int
    left: int
    advance: int


def shown_name(class_id: int, name: str) -> str:
    """A class name as it can be drawn: after its class number where a letter has no font."""
    name = _encodable(name)
    if name.isascii():
        return name
    isolated = f"{ISOLATE}{name}{END_ISOLATE}"
    return isolated if can_be_drawn(name) else f"{class_id}: {isolated}"


def text_ink(text: str, size: int) -> TextInk:
    """One line of text in any script.

    Args:
        text: letters that no font has are drawn as question marks, a file name's bytes that are no
            UTF-8 as escapes.
        size: pixels per em.
    """
    placed, end = [], 0
    for run in _runs(text):
        drawn = _run_ink(run, size)
        placed.append((end + drawn.left, drawn))
        end += drawn.advance
    left = min([0, *(start for start, _ in placed)])
    right = max([1, end, *(start + drawn.ink.shape[1] for start, drawn in placed)])
    above = max([round(ASCENT * size), *(drawn.baseline for _, drawn in placed)])
    below = max([round(DESCENT * size), *(len(each.ink) - each.baseline for _, each in placed)])
    ink = np.zeros((above + below, right - left), np.uint8)
    for start, drawn in placed:
        top, (height, width) = above - drawn.baseline, drawn.ink.shape
        area = ink[top : top + height, start - left : start - left + width]
        np.maximum(area, drawn.ink, out=area)
    return TextInk(ink, above)


@functools.lru_cache(maxsize=4096)
def _run_ink(run: FontRun, size: int) -> _RunInk:
    """A run by itself, kept: names and scores come again and again."""
    font = open_font(run.font, size)
    left, top, right, bottom = font.getbbox(run.text, anchor="ls")
    left, above = math.floor(left), max(math.ceil(-top), 0)
    canvas = Image.new("L", (math.ceil(right) - left, above + max(math.ceil(bottom), 0)))
    ImageDraw.Draw(canvas).text((-left, above), run.text, 255, font, anchor="ls")
    return _RunInk(np.array(canvas), above, left, round(font.getlength(run.text)))


def write_text(image: ImageArray, text: TextInk, corner: tuple[int, int], color: Color) -> None:
    """Put a text at `corner` (x, y), its left top, into an image, which may cut it off."""
    left, top = corner
    height, width = text.ink.shape
    area = image[top : top + height, left : left + width]
    share = text.ink[: area.shape[0], : area.shape[1], None] / 255
    area[:] = np.rint(area + (np.array(color) - area) * share)


def _runs(text: str) -> list[FontRun]:
    """The text's parts, leftmost first: an isolated one, such as a name, is ordered by itself.

    Of ASCII each word is a part, so that a name with another score is not drawn anew.
    """
    runs: list[FontRun] = []
    for part in re.split(f"[{ISOLATE}{END_ISOLATE}]", _encodable(text)):
        if part.isascii():
            runs += [FontRun(word, None) for word in re.findall(" *[^ ]+| +$", part)]
        else:
            runs += font_runs(part)
    return runs


def _encodable(text: str) -> str:
    """A file name's bytes that are no UTF-8 as escapes: no font has letters for them."""
    return text.encode("utf-8", "backslashreplace").decode()
