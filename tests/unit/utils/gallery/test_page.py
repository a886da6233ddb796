"""The page holds what it says, loads nothing, and shows names as they are."""

from __future__ import annotations

import base64
import json
import logging
import weakref
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.gallery_pages import Page, assert_self_contained
from tests.unit.utils.metrics.coco_cases import NAMES, detections, random_case, record
from utils.engine.evaluate import Evaluation
from utils.engine.predictor import StageTimes
from utils.errors import DatasetError, OutputError
from utils.gallery.cases import Case, find_cases
from utils.gallery.crops import MAX_SIDE, Window, jpeg_base64
from utils.gallery.page import GallerySubject, embedded_json, plain_text, write_gallery
from utils.metrics.coco import coco_metrics
from utils.metrics.matches import match_images

HOSTILE = (
    "<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", "\"' onload=alert(3)",
    "<!--", "]]>", "{{crops}}", "{{data_json}}", "&amp;lt;", "\u2028\u202e\u0000", "猫 кот قط",
    "\udce9\ud800",
)  # fmt: skip


def gray(_: Path) -> np.ndarray:
    return np.full((300, 400, 3), 99, np.uint8)


def write(path: Path, records, found, names=NAMES, read_image=gray, per_group=20, **subject):
    matches = match_images(records, found, len(names))
    evaluation = Evaluation(coco_metrics(matches, names), matches, found, StageTimes(0, 0, 0), None)
    texts = {"weights": "best.pt", "data": "my.yaml", "split": "val", **subject}
    about = GallerySubject(**texts, class_names=tuple(names))
    write_gallery(path, about, records, evaluation, read_image, per_group=per_group)
    return Page(path), evaluation


@pytest.mark.parametrize("seed", range(5))
def test_counts_are_those_of_the_matrix(tmp_path: Path, seed: int) -> None:
    page, evaluation = write(tmp_path / "gallery.html", *random_case(seed))
    np.testing.assert_array_equal(page.matrix(), evaluation.metrics.confusion)
    np.testing.assert_array_equal(page.counted(), evaluation.metrics.confusion)
    assert len(page.crops) == page.matrix().sum()
    assert_self_contained(page)
    assert [path.name for path in tmp_path.iterdir()] == ["gallery.html"]  # nothing unfinished


@pytest.mark.parametrize("per_group", [1, 3])
def test_crops_are_limited_and_counts_are_not(tmp_path: Path, per_group: int) -> None:
    page, evaluation = write(tmp_path / "g.html", *random_case(1), per_group=per_group)
    np.testing.assert_array_equal(page.counted(), evaluation.metrics.confusion)
    expected = sum(min(count, per_group) for *_, count in page.data["groups"])
    total = evaluation.metrics.confusion.sum()
    assert len(page.crops) == expected < total
    assert f"at most {per_group} crops" in page.text
    assert f"{expected} of {total} cases" in page.text


def test_a_page_of_noise_stays_small(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    page, _ = write(tmp_path / "g.html", *random_case(2), read_image=lambda _: noise)
    largest = max(len(crop["jpeg"]) for crop in page.crops)
    assert largest < 20_000  # at worst 4,000 of them: 80 MB
    assert (tmp_path / "g.html").stat().st_size < 100_000 + (largest + 500) * len(page.crops)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    records, found = random_case(3)
    records = [replace(one, path=Path(f"a/{HOSTILE[k % len(HOSTILE)]}".replace("\0", "")))
               for k, one in enumerate(records)]  # fmt: skip
    page, _ = write(
        tmp_path / "g.html", records, found, names=HOSTILE, weights=HOSTILE[0],
        data=HOSTILE[2], split=HOSTILE[5],
    )  # fmt: skip
    assert_self_contained(page)
    assert page.tags.count("script") == 3
    assert page.data["names"] == [plain_text(name) for name in HOSTILE]
    assert HOSTILE[0] in page.text and HOSTILE[5] in page.text
    paths = {plain_text(str(one.path)) for one in records}
    assert {crop["path"] for crop in page.crops} <= paths
    (tmp_path / "g.html").read_bytes().decode("utf-8")  # has no lone surrogates


def test_names_that_are_no_utf_8_are_escaped() -> None:
    assert plain_text("caf\udce9 猫") == r"caf\udce9 猫"


@pytest.mark.parametrize("text", HOSTILE)
def test_embedded_json_is_inert_and_the_same(text: str) -> None:
    written = embedded_json({text: text})
    assert written.isascii() and not set("<>&") & set(written)
    assert json.loads(written) == {text: text}


@pytest.mark.parametrize(
    ("boxes", "ids", "rows"),
    [
        ([], [], []),  # neither objects nor detections
        ([[0, 0, 9, 9]], [0], []),  # nothing found
        ([], [], [([0, 0, 9, 9], 0.9, 0)]),  # nothing labelled
        ([[0, 0, 400, 300]], [0], [([0, 0, 400, 300], 1.0, 0)]),  # as large as the image
        ([[5, 5, 5, 5]], [0], [([400, 300, 400, 300], 0.9, 0)]),  # of no size, in the corners
    ],
)
@pytest.mark.parametrize("names", [("cat",), NAMES])
def test_edge_cases(tmp_path: Path, boxes, ids, rows, names) -> None:
    found = {1: detections(*([row[k] for row in rows] for k in range(3)))}
    page, evaluation = write(tmp_path / "g.html", [record(1, boxes, ids)], found, names=names)
    np.testing.assert_array_equal(page.counted(), evaluation.metrics.confusion)
    assert len(page.crops) == evaluation.metrics.confusion.sum()


def test_an_image_that_is_gone_costs_its_crops_alone(tmp_path: Path, caplog) -> None:
    records, found = random_case(4)

    def read(path: Path) -> np.ndarray:
        number = int(path.stem)
        if number % 3 == 0:
            raise DatasetError(f"{path}: no such file")
        return gray(path)[: 300 - number % 3]  # some have another size now

    with caplog.at_level(logging.WARNING):
        page, evaluation = write(tmp_path / "g.html", records, found, read_image=read)
    np.testing.assert_array_equal(page.counted(), evaluation.metrics.confusion)
    assert {int(Path(crop["path"]).stem) % 3 for crop in page.crops if crop["jpeg"]} == set()
    assert "no such file; the gallery lacks its crops" in caplog.messages[0]
    assert len(caplog.messages) == 2  # the first one and how many more


def test_one_image_is_in_memory_at_a_time(tmp_path: Path) -> None:
    alive: list[weakref.ref] = []

    def read(path: Path) -> np.ndarray:
        assert [each for each in alive if each() is not None] == []
        image = gray(path)
        alive.append(weakref.ref(image))
        return image

    records, found = random_case(0)
    write(tmp_path / "g.html", records, found, read_image=read)
    assert len(alive) > 5


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "g.html"
    path.write_text("old")

    def full(_: Path) -> np.ndarray:
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        write(path, *random_case(0), read_image=full)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("seed", range(10))
def test_windows_hold_the_boxes_and_lie_in_the_image(seed: int) -> None:
    records, found = random_case(seed)
    for case in find_cases(records, found, len(NAMES)):
        window = Window.around(case, (300, 400))
        assert 0 <= window.left < window.right <= 400
        assert 0 <= window.top < window.bottom <= 300
        start = np.array([window.left, window.top] * 2)
        size = np.array([window.right - window.left, window.bottom - window.top] * 2)
        for box in (case.found, case.labelled):
            if box is not None:
                inside = np.clip(box, 0, [400, 300, 400, 300])
                back = np.array(window.fractions(box)) * size + start
                np.testing.assert_allclose(back, inside, atol=0.03)


@pytest.mark.parametrize(
    ("hw", "box"),
    [
        ((10, 10), [2, 2, 5, 5]),  # smaller than a window
        ((10, 3000), [0, 0, 3000, 10]),  # a strip
        ((3000, 10), [0, 0, 10, 3000]),  # upright
        ((2000, 2000), [0, 0, 2000, 2000]),  # shrunk
        ((100, 100), [np.nan, 0, np.inf, 9]),  # what a broken network may say
    ],
)
def test_crops_are_small_jpegs(hw, box) -> None:
    case = Case("background", 0, 1, 0, np.array(box, np.float32), 0.9)
    window = Window.around(case, hw)
    content = base64.b64decode(jpeg_base64(np.full((*hw, 3), (200, 30, 60), np.uint8), window))
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert min(image.shape[:2]) >= 1 and max(image.shape[:2]) <= MAX_SIDE
    np.testing.assert_allclose(image.mean((0, 1)), (60, 30, 200), atol=4)  # BGR
    assert all(0 <= edge <= 1 for edge in window.fractions(case.found))
