"""Names in every script: by a font that has their letters, else with their class number."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from fontTools.feaLib.builder import addOpenTypeFeaturesFromString
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from PIL import features

from utils import fonts
from utils import text_ink as ink_module
from utils.draw import draw_detections
from utils.fonts import FontRun, can_be_drawn, font_runs
from utils.structures import Detections, ImageArray
from utils.text_ink import shown_name, text_ink

SIZE = 24
KSSA = """
languagesystem dev2 dflt;
feature akhn { script dev2; sub uni0915 uni094D uni0937 by conjunct; } akhn;
"""
Install = Callable[..., None]


def build_font(path: Path, letters: str, feature_code: str = "") -> Path:
    """A font with a bar of its own height for every letter, as wide as the letter is numbered."""
    names = [".notdef", "space", *(f"uni{ord(letter):04X}" for letter in letters), "conjunct"]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    characters = {ord(letter): f"uni{ord(letter):04X}" for letter in letters}
    builder.setupCharacterMap({ord(" "): "space", **characters})
    builder.setupGlyf({name: bar(number) for number, name in enumerate(names)})
    builder.setupHorizontalMetrics(dict.fromkeys(names, (600, 50)))
    builder.setupHorizontalHeader(ascent=900, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    if feature_code:
        addOpenTypeFeaturesFromString(builder.font, feature_code)
    builder.save(path)
    return path


def bar(number: int):
    pen = TTGlyphPen(None)
    right, top = 50 + 60 * (number % 8 + 1), 200 + 70 * (number % 9)
    for move, point in zip(
        (pen.moveTo, pen.lineTo, pen.lineTo, pen.lineTo),
        ((50, 0), (50, top), (right, top), (right, 0)),
        strict=True,
    ):
        move(point)
    pen.closePath()
    return pen.glyph()


@pytest.fixture
def install(monkeypatch) -> Iterator[Install]:
    """Say which fonts the system has; until then none."""

    def forget() -> None:
        for cached in (fonts._font_files, fonts._font_of, fonts._warn_once, ink_module._run_ink):
            cached.cache_clear()

    def installed(*paths: Path) -> None:
        monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(path) for path in paths])
        forget()

    installed()
    yield installed
    forget()


SCRIPTS = {  # two names; what the font of a system has that does not come with matplotlib
    "CJK": ("行人", "汽车", "行人汽车"),
    "Cyrillic": ("собака", "кошка", ""),
    "Arabic": ("سيارة", "قطة كبيرة", ""),
    "Thai": ("รถยนต์", "ที่", "รถยนต์ที่"),
    "Devanagari": ("लड़का", "क्षत्रिय", "लड़का क्षत्रिय"),
}


def distinct(letters: str) -> str:
    return "".join(dict.fromkeys(letters.replace(" ", "")))


def ink(text: str) -> ImageArray:
    return text_ink(text, SIZE).ink


def same(first: ImageArray, second: ImageArray) -> bool:
    return first.shape == second.shape and bool((first == second).all())


@pytest.mark.parametrize("script", SCRIPTS)
def test_names_are_drawn_where_a_font_has_their_letters(script: str, install, tmp_path) -> None:
    first, second, letters = SCRIPTS[script]
    if letters:
        install(build_font(tmp_path / "Sans.ttf", distinct(letters)))
    for name in (first, second):
        assert can_be_drawn(name)
        assert str(7) not in shown_name(7, name)
        assert "?" not in "".join(run.text for run in font_runs(name))
        assert not same(ink(name), ink("?" * len(name)))
    assert not same(ink(first), ink(second))


@pytest.mark.parametrize(
    "script", [name for name, (*_, needs_font) in SCRIPTS.items() if needs_font]
)
def test_the_class_number_stands_beside_letters_that_no_font_has(
    script: str, install, caplog
) -> None:
    first, second, _ = SCRIPTS[script]
    for name in (first, second):
        assert not can_be_drawn(name)
        assert shown_name(7, name).startswith("7: ")
        assert {run.font for run in font_runs(name)} <= {None, *fonts._font_files()}
    assert ink(shown_name(7, first)).shape[1] > ink("7: ?").shape[1]
    assert len(caplog.records) == 1  # not one for every name
    assert "no installed font has their letters" in caplog.text
    found = Detections(np.array([[5, 30, 90, 60]], np.float32), np.ones(1, np.float32),
                       np.zeros(1, np.int64))  # fmt: skip
    image = np.zeros((64, 200, 3), np.uint8)
    drawn = draw_detections(image, found, [first], hide_scores=True)
    marks = "?" * sum(run.text.count("?") for run in font_runs(first))
    assert same(drawn, draw_detections(image, found, [f"0: {marks}"], hide_scores=True))


def test_arabic_letters_join_and_run_leftwards(install) -> None:
    name = "سيارة"
    isolated = "\N{ZERO WIDTH NON-JOINER}".join(name)
    assert not same(ink(name), ink(isolated))
    assert ink(name).shape[1] < ink(isolated).shape[1]
    columns = ink("اب").max(axis=0)  # alef, a tall stroke, then beh, a low bowl
    heights = (ink("اب") > 128).argmax(axis=0)
    assert columns.any() and heights[columns > 128].argmin() > (columns > 128).sum() / 2


def test_what_follows_a_name_stays_on_its_right(install) -> None:
    name = shown_name(0, "سيارة")
    with_score, alone, score = ink(f"{name} 0.87"), ink(name), ink("0.87")
    width = alone.shape[1] - 2  # the last columns may hold the beginning of the next letter
    assert same(with_score[:, :width], alone[:, :width])
    filled = with_score.max(axis=0)
    assert np.count_nonzero(filled[width:]) >= np.count_nonzero(score.max(axis=0)) - 2


def test_devanagari_letters_merge(install, tmp_path) -> None:
    install(build_font(tmp_path / "Plain.ttf", "क्ष"))
    apart = ink("क्ष")
    install(build_font(tmp_path / "Merging.ttf", "क्ष", KSSA))
    assert not same(ink("क्ष"), apart)


def test_where_pillow_joins_no_letters_the_class_number_helps(install, monkeypatch, caplog) -> None:
    monkeypatch.setattr(features, "check", lambda name: False)
    assert shown_name(2, "قطة").startswith("2: ")
    assert "Raqm" in caplog.text
    assert not shown_name(2, "собака").startswith("2: ")


def test_letters_of_several_fonts(install, tmp_path) -> None:
    cjk = build_font(tmp_path / "CJK.ttf", "猫")
    thai = build_font(tmp_path / "Thai.ttf", "แมว")
    install(cjk, thai)
    assert font_runs("猫 แมว") == [FontRun("猫 ", cjk), FontRun("แมว", thai)]
    leftwards = [run.text for run in font_runs("قط 猫")]
    assert leftwards == ["猫", "قط "]  # the first word is the rightmost


@pytest.mark.parametrize(
    ("names", "best"),
    [
        (("ThaiSans-Bold.ttf", "ThaiSans-Regular.ttf", "ThaiSerif.ttf"), 1),
        (("Loma.ttf", "ThaiSansMono.ttf"), 0),
        (("LastResort.ttf", "NotoEmoji.ttf", "Loma.ttf"), 2),  # the others are never asked
    ],
)
def test_plain_fonts_come_first(names: Sequence[str], best: int, install, tmp_path) -> None:
    paths = [build_font(tmp_path / name, "แ") for name in names]
    install(*paths)
    assert font_runs("แ") == [FontRun("แ", paths[best])]


def test_files_that_are_no_fonts_are_passed_over(install, tmp_path) -> None:
    broken = tmp_path / "Broken.ttf"
    broken.write_bytes(b"no font")
    thai = build_font(tmp_path / "Thai.ttf", "แ")
    install(broken, tmp_path / "missing.ttf", thai)
    assert font_runs("แ") == [FontRun("แ", thai)]


def test_without_matplotlib_letters_beyond_ascii_are_numbered(install, monkeypatch, caplog) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert shown_name(4, "café").startswith("4: ")
    assert font_runs("café au lait") == [FontRun("caf? au lait", None)]
    assert "pip install matplotlib" in caplog.text


def test_letters_written_in_parts_are_put_together(install) -> None:
    assert same(ink("cafe\N{COMBINING ACUTE ACCENT}"), ink("café"))


def test_ascii_names_load_no_matplotlib() -> None:
    code = (
        "import sys; from utils.text_ink import shown_name, text_ink;"
        "text_ink(shown_name(0, 'cat'), 20);"
        "raise SystemExit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
