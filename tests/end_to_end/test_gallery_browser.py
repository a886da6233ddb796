"""gallery.html in a headless Chromium, opened from disk, used by mouse and by keyboard."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.browser import Browser
from tests.gallery_pages import Page
from tests.unit.utils.gallery.test_cases import mixed_case
from tests.unit.utils.gallery.test_page import HOSTILE, write

pytestmark = pytest.mark.slow
NAMES = (*HOSTILE[:3], "猫 кот قط")
BACKGROUND = len(NAMES)
TEXTS = "[...document.querySelectorAll('{}')].map(each => each.textContent)"
WINDOWS = {"wide": (1440, 900), "narrow": (360, 740)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


def joined_cases(count: int):
    """Many random cases as one data set, with hostile file names."""
    records, found = [], {}
    for seed in range(count):
        some, detections = mixed_case(seed)
        for one in some:
            number = len(records) + 1
            name = HOSTILE[number % len(HOSTILE)].replace("\0", "").replace("/", "")
            path = Path(os.fsdecode(b"caf\xe9"), f"{number} {name}.jpg")
            records.append(replace(one, image_id=number, path=path))
            if one.image_id in detections:
                found[number] = detections[one.image_id]
    return records, found


def photo(_: Path) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (400, 300), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("gallery") / "gallery.html"
    write(path, *joined_cases(8), names=NAMES, read_image=photo, per_group=40, weights=HOSTILE[1])
    return path


@pytest.fixture(params=WINDOWS)
def page(request, browser, path: Path) -> Iterator[Page]:
    """The page in an open window, wide and narrow; whatever is done, nothing goes wrong."""
    browser.open(path, *WINDOWS[request.param])
    yield Page(path)
    assert browser.errors == []
    assert browser.requests == []


def tiles(browser: Browser) -> list[str]:
    return browser.evaluate(TEXTS.format(".tile"))


def heading(browser: Browser) -> str:
    return browser.evaluate("document.querySelector('#gallery-title').textContent")


def test_the_matrix_is_that_of_the_evaluation(browser, page) -> None:
    cells = browser.evaluate(
        "[...document.querySelectorAll('#matrix button')].map(each =>"
        " [each.dataset.cell, Number(each.textContent)])"
    )
    matrix = page.matrix()
    assert {tuple(map(int, cell.split(","))): count for cell, count in cells} == {
        (row, column): matrix[row, column] for row, column in np.argwhere(matrix).tolist()
    }
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_every_cell_shows_its_cases(browser, page) -> None:
    browser.evaluate(
        "(async () => { const found = {};"
        "for (const button of document.querySelectorAll('#matrix button')) {"
        "  button.click(); await new Promise(done => setTimeout(done, 30));"
        "  const groups = [...document.querySelectorAll('#groups section')];"
        "  const sum = name => groups.reduce((all, each) => all + Number(each.dataset[name]), 0);"
        "  found[button.dataset.cell] = [sum('total'), sum('crops')]; }"
        "window.found = found })()"
    )
    browser.wait_until("window.found")
    shown = browser.evaluate("window.found")
    matrix = page.matrix()
    for row, column in np.argwhere(matrix).tolist():
        crops = [c for c in page.crops if (c["row"], c["column"]) == (row, column)]
        assert shown[f"{row},{column}"] == [matrix[row, column], len(crops)]


def test_a_click_on_a_cell_and_back(browser, page) -> None:
    assert heading(browser) == "All classes"
    browser.click(f"#matrix button[data-cell='{BACKGROUND},0']")
    assert heading(browser).startswith(f"Predicted background, true {NAMES[0]} ")
    assert all(f"{NAMES[0]} missed" in text for text in tiles(browser))
    assert browser.evaluate(
        "document.querySelector('#matrix [aria-current]').dataset.cell"
    ) == f"{BACKGROUND},0"  # fmt: skip
    assert browser.evaluate(
        "document.querySelector('#gallery').getBoundingClientRect().top < innerHeight"
    )
    browser.click("#show-all")
    assert heading(browser) == "All classes"
    assert browser.evaluate("document.querySelectorAll('#matrix [aria-current]').length") == 0
    browser.evaluate("history.back()")
    browser.wait_until("location.hash.startsWith('#cell')")
    assert heading(browser).startswith("Predicted background")


def test_the_matrix_by_keyboard(browser, page) -> None:
    browser.evaluate("document.querySelector('#matrix button').focus()")
    start = browser.evaluate("document.activeElement.dataset.cell")
    browser.press("ArrowDown")
    browser.press("ArrowRight")
    moved = browser.evaluate("document.activeElement.dataset.cell")
    assert [int(each) for each in moved.split(",")] > [int(each) for each in start.split(",")]
    assert browser.evaluate("document.querySelectorAll('#matrix [tabindex=\"0\"]').length") == 1
    browser.press("Enter")
    assert browser.evaluate("location.hash") == f"#cell={moved}"


@pytest.mark.parametrize("key", ["score", "iou", "size", "image"])
def test_sorting(browser, page, key: str) -> None:
    browser.evaluate(
        f"(() => {{ const sort = document.querySelector('#sort-choice'); sort.value = '{key}';"
        "sort.dispatchEvent(new Event('change')) })()"
    )
    kind = browser.evaluate("document.querySelector('#groups section').dataset.group")
    mine = [crop for crop in page.crops if page.data["kinds"][crop["kind"]]["name"] == kind]
    values = {
        "image": lambda crop: crop["path"].encode("utf-16-be"),
        "size": lambda crop: np.prod(crop["size"]),
    }
    ordered = sorted(map(values.get(key, lambda crop: crop[key]), mine), reverse=key != "image")
    for _ in range(2):
        alts = browser.evaluate("document.querySelector('#groups .tile').title")
        crop = next(crop for crop in mine if f"\u2068{crop['path']}\u2069" == alts)
        best = [c for c in mine if c["path"] == crop["path"]]
        assert ordered[0] in [values.get(key, lambda c: c[key])(each) for each in best]
        browser.click("#sort-direction")
        ordered.reverse()


def test_a_class_and_its_curves(browser, page) -> None:
    browser.click("#classes button[data-class='1']")
    assert heading(browser) == f"Class {NAMES[1]}"
    assert browser.evaluate("document.querySelectorAll('#curves svg .chosen').length") == 4
    assert browser.evaluate("document.querySelector('#class-choice').value") == "1"
    classes = browser.evaluate(TEXTS.format("#classes tbody td:first-child"))
    assert classes == list(page.data["names"])
    browser.click("#classes thead th:nth-child(2) button")
    counts = browser.evaluate(TEXTS.format("#classes tbody td:nth-child(2)"))
    assert sorted(map(int, counts), reverse=True) == list(map(int, counts))


def test_kinds_can_be_chosen(browser, page) -> None:
    groups = "[...document.querySelectorAll('#groups section')].map(each => each.dataset.group)"
    assert "correct" not in browser.evaluate(groups)
    browser.click("input[data-section='correct']")
    assert browser.evaluate(groups)[-1] == "correct"
    for section in ("false", "missed", "confused", "correct"):
        browser.click(f"input[data-section='{section}']")
    assert browser.evaluate("document.querySelector('#groups').textContent") == "There are none."


def test_more_crops(browser, page) -> None:
    group = "#groups section[data-group='duplicate']"
    total = int(browser.evaluate(f'document.querySelector("{group}").dataset.crops'))
    assert total > 24
    count = f'document.querySelectorAll("{group} .tile").length'
    assert browser.evaluate(count) == 24
    browser.click(f"{group} > button")
    assert browser.evaluate(count) == min(total, 48)


def test_a_crop_in_large(browser, page) -> None:
    assert tiles(browser)
    browser.click(".tile")
    assert browser.evaluate("document.querySelector('#detail').open")
    first = browser.evaluate("document.querySelector('#detail').textContent")
    browser.press("ArrowRight")
    assert browser.evaluate("document.querySelector('#detail').textContent") != first
    browser.press("ArrowLeft")
    assert browser.evaluate("document.querySelector('#detail').textContent") == first
    assert r"caf\udce9" in first
    browser.press("Escape")
    assert not browser.evaluate("document.querySelector('#detail').open")
    assert "tile" in browser.evaluate("document.activeElement.className")


def test_names_are_texts_and_images_have_alternatives(browser, page) -> None:
    assert browser.evaluate("document.querySelectorAll('body img:not(.crop img)').length") == 0
    assert browser.evaluate("document.querySelectorAll('body script').length") == 3
    assert browser.evaluate(
        "[...document.images].every(each => each.alt && each.complete && each.naturalWidth)"
    )
    assert NAMES[0] in browser.evaluate("document.querySelector('#matrix').textContent")
    assert HOSTILE[1].split("/")[-1] in browser.evaluate("document.title")
    names = browser.evaluate(
        "[...document.querySelectorAll('button, select, input')].filter(each => !(each.textContent"
        " || each.getAttribute('aria-label') || each.closest('label'))).length"
    )
    assert names == 0


def test_boxes_lie_where_they_should(browser, page) -> None:
    crop = next(c for c in page.crops if page.data["kinds"][c["kind"]]["name"] == "background")
    browser.evaluate(f"location.hash = '#cell={crop['row']},{BACKGROUND}'")
    browser.settle()
    measured = browser.evaluate(
        "[...document.querySelectorAll('.tile')].map(tile => {"
        "const whole = tile.querySelector('.crop').getBoundingClientRect();"
        "const box = tile.querySelector('i.found').getBoundingClientRect();"
        "const x = edge => (edge - whole.left) / whole.width;"
        "const y = edge => (edge - whole.top) / whole.height;"
        "return [tile.title, [x(box.left), y(box.top), x(box.right), y(box.bottom)]] })"
    )
    assert measured
    for title, box in measured:
        mine = [c["found"] for c in page.crops if c["found"] and c["path"] == title[1:-1]]
        assert min(np.abs(np.subtract(found, box)).max() for found in mine) < 0.02
    browser.click("#boxes-choice")
    assert browser.evaluate("getComputedStyle(document.querySelector('.tile i')).display") == "none"


def test_dark_and_light(browser, path: Path, tmp_path: Path) -> None:
    brightness = []
    for dark in (False, True):
        browser.open(path, dark=dark)
        browser.screenshot(tmp_path / "shot.png")
        brightness.append(cv2.imread(str(tmp_path / "shot.png")).mean())
    assert brightness[0] > 180 and brightness[1] < 90


@pytest.mark.parametrize("empty", [True, False])
def test_pages_with_nothing_and_with_80_classes(browser, tmp_path: Path, empty: bool) -> None:
    names = [f"class {number}" for number in range(1 if empty else 80)]
    records, found = ([], {}) if empty else joined_cases(2)
    if empty:
        records = [
            replace(
                mixed_case(0)[0][1],
                targets=mixed_case(0)[0][1].targets[:0],
                areas=np.zeros(0, np.float32),
            )
        ]
    write(tmp_path / "g.html", records, found, names=names, read_image=photo)
    for size in WINDOWS.values():
        browser.open(tmp_path / "g.html", *size)
        assert browser.errors == []
        assert (
            browser.evaluate("document.querySelectorAll('#matrix tbody td').length")
            == (len(names) + 1) ** 2
        )
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert bool(tiles(browser)) != empty


def test_the_policy_stops_what_got_into_the_page(browser, path: Path, tmp_path: Path) -> None:
    """Were a name not escaped, its script would still not run, and nothing would be asked for."""
    script = base64.b64encode(b"window.ran = true").decode()
    hostile = ("<img src='http://127.0.0.1:9/a.png' onerror='window.ran = true'>"
               "<script>window.ran = true</script>"
               f"<script src='data:text/javascript;base64,{script}'></script>")  # fmt: skip
    text = path.read_text(encoding="utf-8").replace("<main>", f"{hostile}<main>")
    (tmp_path / "g.html").write_text(text, encoding="utf-8")
    browser.open(tmp_path / "g.html")
    assert browser.evaluate("window.ran") is None
    assert len(browser.errors) >= 3
    browser.errors.clear()
    browser.requests.clear()
