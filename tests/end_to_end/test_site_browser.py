"""Every page of the built site in a headless Chromium, opened from disk, wide and narrow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.browser import Browser
from tests.house.source_tree import ROOT

pytestmark = pytest.mark.slow
SITE = ROOT / "site"
OWN = ("search.html", "genindex.html", "index.html")  # of the generator
PAGES = sorted(path for path in SITE.rglob("*.html") if path.name not in OWN)
WINDOWS = {"wide": (1440, 900), "narrow": (360, 740)}
CHINESE = re.compile(r"[\u4e00-\u9fff]")
LABELS = (  # of the theme, outside of the page's text
    "[...document.querySelectorAll('.skip-to-content, .back-to-top, .toc-title, .context')]"
    ".map(each => each.textContent.trim())"
)
LANGUAGE = "document.querySelector('.language a').textContent"
LINKS = "[...document.links].map(each => each.href)"
BROKEN_IMAGES = (
    "[...document.images].filter(each => each.loading !== 'lazy' && !each.naturalWidth)"
    ".map(each => each.src)"
)
WIDTH = "document.documentElement.scrollWidth"
FORMULAS = "[...document.querySelectorAll('math')].map(each => each.getBoundingClientRect().width)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not PAGES:
        pytest.skip("the site is not built: make docs")
    with Browser() as opened:
        yield opened


def page_name(page: Path) -> str:
    return page.relative_to(SITE).as_posix()


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("page", PAGES or [SITE], ids=page_name)
def test_a_page_fits_and_loads_nothing_from_a_network(browser, page, window):
    browser.requests.clear()
    browser.errors.clear()
    browser.open(page, *WINDOWS[window])
    assert browser.evaluate(WIDTH) <= WINDOWS[window][0]
    assert browser.evaluate(BROKEN_IMAGES) == []
    assert all(width > 0 for width in browser.evaluate(FORMULAS))
    assert [each for each in browser.requests if not each.startswith("file:")] == []
    assert browser.errors == []


@pytest.mark.parametrize("page", PAGES or [SITE], ids=page_name)
def test_links_lead_to_files_and_to_their_parts(browser, page):
    browser.open(page)
    for link in browser.evaluate(LINKS):
        parts = urlsplit(link)
        if parts.scheme != "file":
            continue
        path = Path(unquote(parts.path))
        assert path.is_file(), link
        fragment = unquote(parts.fragment)
        if fragment and path.suffix == ".html":
            assert f'id="{fragment}"' in path.read_text(encoding="utf-8"), link


@pytest.mark.parametrize("page", PAGES or [SITE], ids=page_name)
def test_labels_are_in_the_language_of_the_page(browser, page):
    browser.open(page)
    chinese = page.is_relative_to(SITE / "zh")
    assert browser.evaluate("document.documentElement.lang") == ("zh-CN" if chinese else "en")
    labels = browser.evaluate(LABELS)
    assert labels
    assert [each for each in labels if bool(CHINESE.search(each)) is not chinese] == []
    assert bool(CHINESE.search(browser.evaluate(LANGUAGE))) is not chinese
