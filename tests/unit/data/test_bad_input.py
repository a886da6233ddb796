"""Bad labels and images, row after row of the table in yolov5-facts.md, section 7.

Rows 1 to 11 as far as no script is needed; `tests/end_to_end/test_bad_input.py` has the others.
Each row: the message names file and line, the value and the rule; what is good is kept; and no file
of the user changes, which `scan` checks every time. "Also:" names tests that say more about a row.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data.dataset_spec import load_dataset_spec
from data.image_file import read_image
from data.records import read_records, scan_split
from data.scan_result import ScanResult
from tests.error_messages import assert_message
from tests.unit.data.builders import noise, write_yolo_set
from utils.errors import DatasetError
from utils.structures import ImageArray

GOOD = "0 0.5 0.5 0.25 0.25\n"
LABEL, IMAGE = Path("labels/a.txt"), Path("images/a.png")  # of a data set of two images


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with two images and their labels."""
    monkeypatch.chdir(tmp_path)
    write_yolo_set(tmp_path, {"a": GOOD, "b": GOOD})


def contents() -> dict[Path, tuple[int, bytes]]:
    """When each file of the working directory was written, and what is in it."""
    files = [path for path in Path().rglob("*") if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def scan(split: str = "val") -> ScanResult:
    """A split as it is read; no file is touched, and what is kept can be loaded later."""
    before = contents()
    result = scan_split(load_dataset_spec("animals.yaml"), split)
    for record in result.records:
        assert read_image(record.path).shape[:2] == record.image_hw
    assert contents() == before
    return result


def scan_label(label: str | bytes) -> ScanResult:
    """The same with this label file for the first image."""
    LABEL.write_bytes(label.encode() if isinstance(label, str) else label)
    return scan()


def texts(result: ScanResult) -> list[str]:
    """What the problems say."""
    return [problem.text for problem in result.problems]


# Rows 1, 2, 4, 6: one row of a label file. Also: test_labels.py, test_label_rules.py; for the other
# formats test_coco_json.py and test_voc_xml.py.
FINITE = "is not a finite number; row dropped"
COLUMNS = (
    "columns, must be 5 (class cx cy w h) or a polygon "
    "(class x1 y1 x2 y2 x3 y3 ..., an odd number from 7); row dropped"
)
TOO_FAR = "of a side outside the image, must be at most 1%; row dropped"
INTEGER = "must be an integer from 0; row dropped"
BAD_ROWS = [
    # row 1: NaN, infinite, negative, above 1, class -1
    ("0 nan .5 .2 .2", f"'nan' {FINITE}"),
    ("0 .5 .5 inf .2", f"'inf' {FINITE}"),
    ("0 -.5 .5 .2 .2", f"box reaches 60.00% {TOO_FAR}"),
    ("0 1.0001 .5 .2 .2", f"box reaches 10.01% {TOO_FAR}"),
    ("0 320 240 64 48", f"box reaches 35100.00% {TOO_FAR}"),
    ("-1 .5 .5 .2 .2", f"class is -1, {INTEGER}"),
    # row 2: columns, commas, words, half a point
    ("0 .5 .5 .2", f"4 {COLUMNS}"),
    ("0 .5 .5 .2 .2 .9", f"6 {COLUMNS}"),
    ("0,.5,.5,.2,.2", "'0,.5,.5,.2,.2' is not a number; row dropped"),
    ("0 0,5 0,5 0,2 0,2", "'0,5' is not a number; row dropped"),
    ("cat .5 .5 .2 .2", "'cat' is not a number; row dropped"),
    ("0 .1 .1 .2 .1 .2 .2 .1", f"8 {COLUMNS}"),
    # row 4: partly outside, no area, a class that is no integer
    ("0 .95 .5 .2 .2", f"box reaches 5.00% {TOO_FAR}"),
    ("0 .5 .5 0 .2", "width is 0, must be > 0; row dropped"),
    ("0 .5 .5 .2 0", "height is 0, must be > 0; row dropped"),
    ("1.7 .5 .5 .2 .2", f"class is 1.7, {INTEGER}"),
    # row 6: the same object twice
    ("1 .50 .5 .2 .2", "same object as in line 1; duplicate removed"),
]


@pytest.mark.parametrize(("row", "message"), BAD_ROWS)
def test_rows_1_2_4_6_a_bad_row_costs_only_itself(row: str, message: str) -> None:
    result = scan_label(f"1 .5 .5 .2 .2\n{row}\n2 .2 .2 .1 .1\n")
    assert texts(result) == [f"{LABEL}:2: {message}"]
    assert result.records[0].targets.class_ids.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("row", "edges"),
    [
        ("0 .5 .5 1.0001 .5", [0, 12, 64, 36]),  # row 1: hardly above 1
        ("0 .005 .5 .02 .5", [0, 12, 0.96, 36]),  # row 4: half a per cent outside
    ],
)
def test_rows_1_4_a_slight_overshoot_is_clipped(row: str, edges: list[float]) -> None:
    result = scan_label(row)
    (text,) = texts(result)
    found = re.fullmatch(
        r"labels/a\.txt:1: box reaches (.+)% of a side outside the image, "
        r"must be inside; clipped",
        text,
    )
    assert found is not None and float(found[1]) > 0, text
    np.testing.assert_allclose(result.records[0].targets.boxes, [edges], rtol=1e-5)


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_row_2_marks_of_windows_are_no_problem(start: bytes, end: bytes) -> None:
    """Also: test_labels.py::test_good_rows."""
    result = scan_label(start + end.join([b"2 .5 .5 .2 .2", b"x", b"1 .5 .5 .2 .2", b""]))
    assert result.records[0].targets.class_ids.tolist() == [2, 1]
    assert texts(result) == [f"{LABEL}:2: 'x' is not a number; row dropped"]


def test_row_2_utf_16() -> None:
    """A file that is no text costs its image, which is no background."""
    result = scan_label(GOOD.encode("utf-16"))
    (text,) = texts(result)
    assert text.startswith(f"{LABEL}: cannot be read as UTF-8 text (")
    assert text.endswith("; image skipped")
    assert [record.path.name for record in result.records] == ["b.png"]
    unmarked = scan_label(GOOD.encode("utf-16-le"))
    assert texts(unmarked)[0] == rf"{LABEL}:1: '0\x00' is not a number; row dropped"


def test_row_3_boxes_and_polygons_in_one_file() -> None:
    """Also: test_labels.py::test_a_file_may_mix_boxes_and_polygons."""
    result = scan_label("0 .5 .5 .2 .2\n1 .1 .1 .3 .1 .1 .5\n")
    assert texts(result) == []
    expected = [[25.6, 19.2, 38.4, 28.8], [6.4, 4.8, 19.2, 24]]  # of 64 x 48 pixels
    np.testing.assert_allclose(result.records[0].targets.boxes, expected, rtol=1e-5)


@pytest.mark.parametrize("split", ["train", "val"])
def test_row_5_a_class_beyond_the_names(split: str) -> None:
    """Also: test_records.py::test_a_class_beyond_the_names_stops_in_every_split."""
    LABEL.write_text(f"{GOOD}3 .5 .5 .2 .2\n")
    with pytest.raises(DatasetError) as caught:
        read_records(load_dataset_spec("animals.yaml"), split)
    assert_message(
        str(caught.value), f"{LABEL}:2: ", "class is 3 ... names has 3 ... fix the label"
    )


@pytest.mark.parametrize(
    ("label", "backgrounds"),
    [
        ("", "1 background"),
        (" \r\n\t\n", "1 background"),
        (None, "1 background (1 without a label file)"),
    ],
    ids=["empty", "blank", "missing"],
)
def test_row_7_backgrounds_are_counted(label: str | None, backgrounds: str) -> None:
    """Also: test_labels.py::test_an_empty_file_is_background; test_records.py for both splits."""
    if label is None:
        LABEL.unlink()
    else:
        LABEL.write_text(label)
    result = scan()
    assert result.summary() == f"2 images, 1 object, {backgrounds}"
    assert texts(result) == []


@pytest.mark.parametrize(("num_missing", "is_news"), [(1, False), (16, True)])
@pytest.mark.parametrize("split", ["train", "val"])
def test_row_7_many_missing_label_files_are_said_aloud(
    split: str, num_missing: int, is_news: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Also: test_records.py::test_no_label_file_at_all_is_said_aloud."""
    labels = {f"{n:02}": None if n < num_missing else GOOD for n in range(18)}
    write_yolo_set(Path(), labels)
    with caplog.at_level(logging.WARNING):
        assert len(read_records(load_dataset_spec("animals.yaml"), split)) == 20
    said = [message for message in caplog.messages if "with the content of another" not in message]
    news = [re.search(rf"\b{num_missing} of (the )?20\b.*label", message) for message in said]
    assert [each is not None for each in news] == ([True] if is_news else [])


def test_row_8_a_image_that_is_not_there() -> None:
    Path("list.txt").write_text("images/a.png\nimages/gone.png\nimages/b.png\n")
    Path("animals.yaml").write_text("train: list.txt\nval: list.txt\nnames: [cat, dog, owl]\n")
    result = scan()
    assert texts(result) == ["images/gone.png: no such file; image skipped"]
    assert [record.path.name for record in result.records] == ["a.png", "b.png"]


def png(hw: tuple[int, int] = (48, 64)) -> bytes:
    return bytes(cv2.imencode(".png", noise(hw))[1])


def jpeg() -> bytes:
    """An image so rich that the file is long."""
    pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    return with_pillow(pixels, "JPEG", quality=90)


def gif() -> bytes:
    frames = [Image.fromarray(noise((48, 64), seed)) for seed in range(2)]
    content = BytesIO()
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:])
    return content.getvalue()


def targa() -> bytes:
    return with_pillow(noise((48, 64)), "TGA")


def float_tiff() -> bytes:
    return bytes(cv2.imencode(".tif", np.full((48, 64), 9, np.float32))[1])


def with_pillow(pixels: ImageArray, kind: str, **options: int) -> bytes:
    content = BytesIO()
    Image.fromarray(pixels).save(content, kind, **options)
    return content.getvalue()


# Row 9. Also: test_image_file.py::test_cut_off_files (every format), test_records.py.
UNDECODABLE = "cannot be decoded: "
SPOILT: list[tuple[str, Callable[[], bytes], str]] = [
    ("half.jpg", lambda: jpeg()[: len(jpeg()) // 2], UNDECODABLE),
    ("half.png", lambda: png()[: len(png()) // 2], UNDECODABLE),
    ("without its end.jpg", lambda: jpeg()[:-2], ""),
    ("without its end.png", lambda: png()[:-12], ""),
    ("one bit.png", lambda: png()[:999] + bytes([png()[999] ^ 1]) + png()[1000:], UNDECODABLE),
    ("empty.jpg", lambda: b"", "the file is empty; image skipped"),
    ("text.jpg", lambda: b"<html>404</html>", "not an image that can be decoded; image skipped"),
    ("low.png", lambda: png((9, 64)), "64x9 pixels, must be at least 10 on each side; image"),
    ("floats.tif", float_tiff, "its pixels are 1 x float32 from 9 to 9, whose brightness is not"),
    ("targa.jpg", targa, ""),
    ("moving.gif", gif, "a GIF of several images; save the one meant as PNG"),
    ("photo.JXL", lambda: b"\xff\x0a", ".jxl files cannot be read; save it as JPEG"),
    ("raw.dng", lambda: float_tiff(), ".dng files cannot be read; save it as JPEG or PNG"),
]


@pytest.mark.parametrize(("name", "content", "message"), SPOILT, ids=[row[0] for row in SPOILT])
def test_row_9_a_broken_image_is_left_out(
    name: str, content: Callable[[], bytes], message: str
) -> None:
    """What is let through here ends a run when the loader comes to it."""
    IMAGE.with_name(name).write_bytes(content())
    (text,) = texts(scan())
    assert text.startswith(f"images/{name}: {message}") and text.endswith("; image skipped")
    assert [record.path.name for record in scan().records] == ["a.png", "b.png"]


def test_row_10_bytes_after_the_end_of_a_jpeg() -> None:
    """Also: test_image_file.py::test_bytes_after_the_end_are_left_alone."""
    IMAGE.with_name("c.jpg").write_bytes(jpeg() + b"\0what a camera adds" * 99)
    result = scan()  # which sees that the file stays as it is
    assert texts(result) == []
    assert result.records[2].image_hw == (480, 640)


@pytest.mark.parametrize(
    "filling",
    [b"\xff" * 4000, bytes(4000), b"", b"\xff\xd9"],
    ids=["ones", "zeros", "hole", "second end"],
)
def test_row_11_a_jpeg_that_is_corrupt_inside(filling: bytes) -> None:
    """Its end is where it should be, but a part of the image is gone."""
    content, half = jpeg(), len(jpeg()) // 2
    IMAGE.with_name("c.jpg").write_bytes(content[:half] + filling + content[half + 4000 :])
    (text,) = texts(scan())
    assert text.startswith("images/c.jpg: ")


@pytest.mark.parametrize("content", [png])
def test_row_11_the_content_counts_not_the_name(content: Callable[[], bytes]) -> None:
    """Also: test_image_file.py::test_the_content_counts_not_the_suffix."""
    IMAGE.with_name("c.jpg").write_bytes(content())
    result = scan()
    assert texts(result) == []
    assert result.records[2].image_hw == (48, 64)
