"""TIFF files of measuring cameras: what has one meaning as brightness is read, else it is said."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from data.image_facts import examine_image
from data.image_file import decode_image, read_image
from data.image_series import SeriesPart, read_series
from tests.error_messages import assert_message
from tests.tiff_builder import tiff_of
from utils.errors import DatasetError

HW = (20, 30)
PATH = Path("a.tif")
UNIT = np.linspace(0, 1, HW[0] * HW[1]).reshape(HW)  # from black to white
RED_TO_BLUE = np.dstack([UNIT, UNIT / 2, 1 - UNIT])
READ = [
    # factor, kind of number, bits by which the numbers are scaled; 0 for floats of 0-1
    (1, "float32", 0), (0.3, "float32", 0), (0, "float32", 0),
    (255, "float32", 8), (4095, "float32", 12), (65535, "float32", 16), (20, "float32", 8),
    (255, "int16", 8), (4095, "int16", 12), (32767, "int16", 16), (127, "int8", 8),
    (255, "uint8", 8), (4095, "uint16", 12), (65535, "uint16", 16),
]  # fmt: skip


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("image", [UNIT, RED_TO_BLUE], ids=["gray", "color"])
@pytest.mark.parametrize(("factor", "kind", "bits"), READ)
def test_ranges_of_one_meaning(factor, kind, bits, image, order) -> None:
    numbers = (image * factor).astype(kind)
    expected = np.rint(numbers * 255.0) if bits == 0 else numbers.astype(int) >> (bits - 8)
    found = decode_image(PATH, tiff_of(numbers, order=order))
    gray_or_color = expected[..., None] if image.ndim == 2 else expected
    assert found.pixels.shape == (*HW, 3) and found.pixels.dtype == np.uint8
    assert np.abs(found.pixels - gray_or_color).max() == 0
    assert found.is_rescaled == (kind not in ("int8", "uint8") and bits in (8, 12))


NEWER = [
    # numbers, as 8 bits
    (UNIT.astype("f8"), np.rint(UNIT * 255)),
    (RED_TO_BLUE.astype("f8"), np.rint(RED_TO_BLUE * 255)),
    ((UNIT * 65535).astype("i4"), (UNIT * 65535).astype(int) >> 8),
    ((RED_TO_BLUE * 4000).astype("i4"), (RED_TO_BLUE * 4000).astype(int) >> 4),
    ((UNIT * 4000).astype("u4"), (UNIT * 4000).astype(int) >> 4),
    ((RED_TO_BLUE * 255).astype("u4"), (RED_TO_BLUE * 255).astype(int)),
]


@pytest.mark.parametrize(("numbers", "expected"), NEWER, ids=range(len(NEWER)))
def test_what_not_every_opencv_reads_is_read_or_named(numbers, expected) -> None:
    try:
        found = decode_image(PATH, tiff_of(numbers))
    except DatasetError as error:
        assert not cv2.__version__.startswith("5.")
        assert_message(str(error), "a.tif: cannot be decoded (its pixels are", str(numbers.dtype))
    else:
        gray_or_color = expected[..., None] if expected.ndim == 2 else expected
        assert np.abs(found.pixels - gray_or_color).max() == 0


def test_pages(tmp_path) -> None:
    """Of which Pillow knows none."""
    path = tmp_path / "a.tif"
    cv2.imwritemulti(str(path), [UNIT, UNIT / 2, UNIT * 7])
    *pages, skipped = read_series(path, SeriesPart())
    assert [page.decoded.pixels.max() for page in pages] == [255, 128]
    assert skipped.reason.startswith("page 3: its pixels are 1 x float64 from 0 to 7, ")


def test_what_resizing_leaves_beyond_0_and_1_is_clipped() -> None:
    found = decode_image(PATH, tiff_of(np.linspace(-0.005, 1.005, 600, dtype="f4").reshape(HW)))
    assert (found.pixels.min(), found.pixels.max()) == (0, 255)


WITH_NAN = np.where(UNIT > 0.5, np.nan, UNIT).astype("f4")
NO_DATA = np.where(UNIT > 0.5, -3.4e38, UNIT).astype("f4")
REFUSED = {
    # numbers -> what is said of them
    "negative": ((UNIT * 4000 - 1024).astype("i2"), "1 x int16 from -1024 to 2976"),
    "negative floats": ((UNIT * 2 - 1).astype("f4"), "1 x float32 from -1 to 1"),
    "brighter than white": ((UNIT * 8).astype("f4"), "1 x float32 from 0 to 8"),
    "many bits": ((UNIT * 1e6).astype("i4"), "1 x int32 from 0 to 1e+06"),
    "not a number": (WITH_NAN, "1 x float32 from nan to nan"),
    "no data": (NO_DATA, "1 x float32 from -3.4e+38 to 0.4"),
    "infinite": (np.where(UNIT > 0.5, np.inf, UNIT).astype("f8"), "1 x float64 from 0 to inf"),
    "half": (UNIT.astype("f2"), "1 x float16, which is not read"),
    "complex": (UNIT.astype("c8"), "1 x complex64, which is not read"),
    "64 bits": ((UNIT * 255).astype("u8"), "1 x uint64, which is not read"),
    "two channels": (np.dstack([UNIT] * 2).astype("f4"), "2 x float32, which is not read"),
    "four channels": (np.dstack([UNIT] * 4).astype("f4"), "4 x float32, which is not read"),
    "five channels": (np.dstack([UNIT] * 5).astype("f8"), "5 x float64, which is not read"),
}


@pytest.mark.parametrize(("numbers", "said"), REFUSED.values(), ids=REFUSED)
def test_the_numbers_that_are_not_read_are_named(numbers, said, tmp_path, capfd) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_of(numbers))
    for read in (read_image, examine_image):
        with pytest.raises(DatasetError) as error:
            read(path)
        assert_message(str(error.value), f"{path}: its pixels are ", said, "save it with 8 or 16")
    assert capfd.readouterr() == ("", "")  # OpenCV has nothing to add


def test_planes() -> None:
    with pytest.raises(DatasetError) as error:
        decode_image(PATH, tiff_of(RED_TO_BLUE.astype("f4"), planes=True))
    assert_message(str(error.value), "a.tif: its pixels are 3 x float32")


@pytest.mark.parametrize(
    ("image", "kind"),
    [(UNIT, "float32"), (RED_TO_BLUE, "float32"), (UNIT, "float64"), (RED_TO_BLUE, "int16")],
    ids=["gray", "color", "gray64", "color16"],
)
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_they_are_turned_upright(image, kind, orientation, tmp_path) -> None:
    numbers = (image * (1000 if kind == "int16" else 1)).astype(kind)
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_of(numbers, orientation=orientation))
    upright = np.rot90(numbers, {1: 0, 3: 2, 6: -1}[orientation])
    path.with_name("b.tif").write_bytes(tiff_of(upright))
    assert np.array_equal(read_image(path), read_image(path.with_name("b.tif")))
    assert examine_image(path).image_hw == upright.shape[:2]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's, before it gives up
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_what_is_cut_off(kind, share, tmp_path) -> None:
    content = tiff_of(RED_TO_BLUE.astype(kind))
    path = tmp_path / "a.tif"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DatasetError, match=r"a\.tif: "):
        examine_image(path)
