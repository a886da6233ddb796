"""Fonts for letters that Pillow's own font lacks: matplotlib's DejaVu Sans, then the system's.

Only texts beyond ASCII come here: matplotlib, which knows where each system keeps its fonts, takes
a while to load.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from PIL import ImageFont, features

logger = logging.getLogger(__name__)

NO_LETTER = "?"  # stands for a letter that no font has
RIGHT_TO_LEFT = {"R", "AL"}  # strong directions in Unicode's bidirectional algorithm
LAST_CHOICES = ("mono", "serif", "italic", "oblique", "bold", "black", "light", "thin", "condensed")
# One letter, or a box with a message, for everything; and bitmaps of one size.
NOT_FOR_READING = ("lastresort", "blank", "emoji")


@dataclass(frozen=True, slots=True)
class FontRun:
    """Letters that one font draws, in reading order; None is Pillow's own font."""

    text: str
    font: Path | None


def font_runs(text: str) -> list[FontRun]:
    """The text cut where its font changes, the leftmost part first.

    A text of one script stays in one part, so that its letters join as they should. Letters that
    no font has become question marks.
    """
    text = unicodedata.normalize("NFC", text)
    whole = _font_of(_letters(text))
    if whole is not None:
        return [FontRun(text, whole)]
    runs: list[FontRun] = []
    for cluster in _clusters(text):
        font = _font_of(_letters(cluster))
        # Spaces, digits and the like go on in the font before them if it has them.
        if runs and runs[-1].font is not None and _has(runs[-1].font, _letters(cluster)):
            font = runs[-1].font
        shown = cluster if font is not None or cluster.isascii() else NO_LETTER
        if runs and runs[-1].font == font:
            runs[-1] = FontRun(runs[-1].text + shown, font)
        else:
            runs.append(FontRun(shown, font))
    return runs[::-1] if _reads_leftwards(text) else runs


def can_be_drawn(text: str) -> bool:
    """Whether fonts have all its letters and, where these join or stack, Pillow can do that."""
    text = unicodedata.normalize("NFC", text)
    if _needs_layout(text) and not features.check("raqm"):
        _warn_once("this Pillow has no Raqm, which joins and stacks letters; see its "
                   "installation guide")  # fmt: skip
        return False
    if all(part.isascii() or _font_of(_letters(part)) for part in _clusters(text)):
        return True
    _warn_once("no installed font has their letters; install one, for instance Noto Sans of "
               "that script")  # fmt: skip
    return False


@functools.lru_cache(maxsize=64)
def open_font(path: Path | None, size: int) -> ImageFont.FreeTypeFont:
    """The font at `size` pixels per em; None is Pillow's own, which has ASCII letters."""
    if path is None:
        return cast("ImageFont.FreeTypeFont", ImageFont.load_default(size))  # it is, with a size
    font = ImageFont.truetype(str(path), size)  # Pillow 10 takes no Path
    # A variable font may begin at its thinnest; OSError: it is not one, ValueError: not so named.
    with contextlib.suppress(OSError, ValueError):
        font.set_variation_by_name("Regular")
    return font


@functools.cache
def _warn_once(reason: str) -> None:
    logger.warning("Some class names are drawn with their class number: %s", reason)


def _letters(text: str) -> str:
    """What needs a glyph: neither spaces nor marks that are never seen."""
    return "".join(letter for letter in text if not _is_invisible(letter))


def _is_invisible(letter: str) -> bool:
    is_variation_selector = "\ufe00" <= letter <= "\ufe0f"
    return is_variation_selector or unicodedata.category(letter) in ("Cf", "Zs")


def _clusters(text: str) -> Iterator[str]:
    """Letters, each with the marks and format characters that follow it."""
    start = 0
    for index in range(1, len(text)):
        if unicodedata.category(text[index]) not in ("Mn", "Mc", "Me", "Cf"):
            yield text[start:index]
            start = index
    if text:
        yield text[start:]


def _reads_leftwards(text: str) -> bool:
    directions = (unicodedata.bidirectional(letter) for letter in text)
    return next((each for each in directions if each in {"L", *RIGHT_TO_LEFT}), "") in RIGHT_TO_LEFT


def _needs_layout(text: str) -> bool:
    return any(
        unicodedata.bidirectional(letter) in RIGHT_TO_LEFT or unicodedata.category(letter)[0] == "M"
        for letter in text
    )


@functools.lru_cache(maxsize=4096)
def _font_of(letters: str) -> Path | None:
    """The first font that has them all; None if there is none."""
    return next((path for path in _font_files() if _has(path, letters)), None)


def _has(path: Path, letters: str) -> bool:
    letters_of_font = _letters_of_font(path)
    return all(letter in letters_of_font for letter in letters)


@functools.cache
def _font_files() -> tuple[Path, ...]:
    """DejaVu Sans, which comes with matplotlib, and the system's fonts, plain ones first."""
    try:
        import matplotlib as mpl  # here: see the module's text
        from matplotlib import font_manager
    except ImportError:
        _warn_once("matplotlib, which finds fonts, is not installed: pip install matplotlib")
        return ()
    own = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    found = {Path(path) for path in font_manager.findSystemFonts()}
    readable = [path for path in found if not _named_as(path, NOT_FOR_READING)]
    return (own, *sorted(readable, key=_rank))


def _rank(path: Path) -> tuple[bool, bool, str]:
    plain_sans = "sans" in path.stem.lower()
    return _named_as(path, LAST_CHOICES), not plain_sans, str(path)


def _named_as(path: Path, parts: tuple[str, ...]) -> bool:
    stem = path.stem.lower().replace("-", "").replace(" ", "")
    return any(part in stem for part in parts)


@functools.cache
def _letters_of_font(path: Path) -> str:
    """All its letters; none for a file that is no font."""
    from matplotlib.ft2font import FT2Font  # as in _font_files

    try:
        letters = FT2Font(str(path)).get_charmap()
    except (OSError, RuntimeError):
        return ""
    return "".join(map(chr, letters))
