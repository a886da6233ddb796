from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data.decoded_image import rgb_by_opencv
from data.file_suffixes import IMAGE_SUFFIXES
from data.image_facts import examine_image
from data.image_file import SHRINK_FACTORS, read_image, read_shrunk, shrink_factor
from tests.error_messages import assert_message
from tests.unit.data.builders import noise, write_image
from utils.errors import DatasetError

ORIENTATION = 0x0112


def test_pixels_are_rgb(tmp_path):
    path = write_image(tmp_path / "ä 图.png", (48, 64))

    image = read_image(path)

    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, noise((48, 64)))
    assert examine_image(path).image_hw == (48, 64)


@pytest.mark.parametrize("flags", SHRINK_FACTORS.values())
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_rgb_by_opencv_has_the_pixels_of_its_bgr(tmp_path, flags, mode):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(noise((48, 64))).convert(mode).save(path, exif=exif)
    content = path.read_bytes()

    rgb = rgb_by_opencv(path, content, flags)

    bgr = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    assert rgb.shape[0] > rgb.shape[1]
    np.testing.assert_array_equal(rgb, bgr[..., ::-1])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_exif_orientation(tmp_path, orientation, suffix):
    upright = np.zeros((120, 200, 3), np.uint8)
    upright[:30, :40] = 255
    # What a camera held that way stores: the inverse of what the viewer must do.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, quality=95)

    image = read_image(path)

    assert examine_image(path).image_hw == image.shape[:2] == (120, 200)
    assert np.abs(image.astype(int) - upright).mean() < 2


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        # gray, gray with 16 bits, color with 16 bits, color with transparency
        (np.full((20, 30), 77, np.uint8), (77, 77, 77)),
        (np.full((20, 30), 77 * 256, np.uint16), (77, 77, 77)),
        (np.full((20, 30, 3), (10, 20 * 256, 30 * 256), np.uint16), (30, 20, 0)),
        (np.full((20, 30, 4), (10, 20, 30, 0), np.uint8), (30, 20, 10)),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_every_kind_becomes_rgb_with_8_bits(tmp_path, pixels, expected, suffix):
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), pixels)

    image = read_image(path)

    assert image.shape == (20, 30, 3) and image.dtype == np.uint8
    assert tuple(image[5, 5]) == expected
    assert examine_image(path).image_hw == (20, 30)


def test_the_content_counts_not_the_suffix(tmp_path):
    path = write_image(tmp_path / "a.png").rename(tmp_path / "a.jpg")

    assert examine_image(path).image_hw == read_image(path).shape[:2] == (48, 64)


def test_bytes_after_the_end_are_left_alone(tmp_path):
    path = write_image(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes() + b"more")
    before = path.read_bytes()

    assert examine_image(path).image_hw == (48, 64)
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", [".bmp", ".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("share", [0.3, 0.95])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's, before it gives up on a TIFF
def test_cut_off_files(tmp_path, suffix, share):
    path = write_image(tmp_path / f"a{suffix}", (480, 640))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])

    with pytest.raises(DatasetError) as caught:
        examine_image(path)

    assert str(caught.value).startswith(f"{path}: ")


def test_images_too_small(tmp_path):
    path = write_image(tmp_path / "a.png", (9, 64))

    with pytest.raises(DatasetError) as caught:
        examine_image(path)

    assert_message(str(caught.value), f"{path}: ", "64x9 ... at least 10")


@pytest.mark.parametrize(
    ("content", "verified", "read"),
    [
        (None, "no such file", "no such file"),
        (b"", "the file is empty", "the file is empty"),
        (b"words, not pixels", "not an image", "not an image"),
    ],
)
def test_files_that_are_no_images(tmp_path, content, verified, read):
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)

    for action, message in ((examine_image, verified), (read_image, read)):
        with pytest.raises(DatasetError) as caught:
            action(path)
        assert_message(str(caught.value), f"{path}: ", message)


EVERY_FORMAT = {
    "avif": "AVIF", "bmp": "BMP", "gif": "GIF", "j2k": "JPEG2000", "jfif": "JPEG",
    "jp2": "JPEG2000", "jpe": "JPEG", "mpo": "MPO", "png": "PNG", "ppm": "PPM", "tif": "TIFF",
    "webp": "WEBP",
}  # fmt: skip


@pytest.mark.parametrize("suffix", EVERY_FORMAT)
def test_every_format_listed_is_read(tmp_path, suffix):
    path, pixels = tmp_path / f"a.{suffix}", noise((48, 64))
    if suffix == "avif" and ".avif" not in Image.registered_extensions():
        pytest.skip("this Pillow reads no AVIF")
    Image.fromarray(pixels).save(path, EVERY_FORMAT[suffix])

    image = read_image(path)

    assert f".{suffix}" in IMAGE_SUFFIXES
    assert examine_image(path).image_hw == image.shape[:2] == (48, 64)
    assert np.abs(image.astype(int) - pixels).mean() < 6


def test_the_orientation_of_an_avif(tmp_path):
    if ".avif" not in Image.registered_extensions():
        pytest.skip("this Pillow reads no AVIF")
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = tmp_path / "a.avif"
    Image.fromarray(noise((48, 64))).save(path, exif=exif)

    assert examine_image(path).image_hw == read_image(path).shape[:2] == (64, 48)


@pytest.mark.parametrize("name", ["a.avif", "a.jpg"])
def test_an_avif_where_pillow_is_older(tmp_path, monkeypatch, name):
    monkeypatch.setattr(Image, "registered_extensions", lambda: {".gif": "GIF"})
    path = tmp_path / name
    path.write_bytes(b"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00")

    for action in (examine_image, read_image):
        with pytest.raises(DatasetError) as caught:
            action(path)
        assert str(caught.value).startswith(f"{path}: AVIF needs Pillow 11.3 or newer")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm"])
@pytest.mark.parametrize(("largest", "bits"), [(200, 8), (4095, 12), (4096, 16), (65535, 16)])
def test_few_bits_in_a_file_of_16_are_scaled_by_what_they_use(tmp_path, suffix, largest, bits):
    pixels = np.random.default_rng(0).integers(0, largest + 1, (20, 30, 3), np.uint16)
    pixels[0, 0, 0] = largest
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), pixels)

    image = read_image(path)

    expected = (pixels >> (bits - 8))[..., ::-1]
    assert np.abs(image.astype(int) - expected).max() == 0
    assert examine_image(path).bits == (None if bits == 16 else bits)


def test_a_black_image_of_16_bits_is_no_news(tmp_path):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.zeros((20, 30), np.uint16))

    assert read_image(path).max() == 0 and examine_image(path).bits is None


def write_claim(path: Path, width: int, height: int) -> Path:
    """A small file whose header claims that size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    crc = struct.pack(">I", zlib.crc32(chunk))
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header)) + chunk + crc
    path.write_bytes(start + struct.pack(">I", 9) + b"IDAT" + bytes(13))
    return path


def write_jpeg_claim(path: Path, width: int, height: int) -> Path:
    content = bytearray(write_image(path, (48, 64)).read_bytes())
    start = content.index(b"\xff\xc0") + 5
    content[start : start + 4] = struct.pack(">HH", height, width)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("action", [examine_image, read_image])
@pytest.mark.parametrize(
    ("name", "write"), [("a.png", write_claim), ("a.jpg", write_jpeg_claim)], ids=["png", "jpeg"]
)
def test_one_limit_for_training_and_detection(tmp_path, action, name, write):
    path = write(tmp_path / name, 20_000, 9_000)

    with pytest.raises(DatasetError) as caught:
        action(path)

    assert str(caught.value) == (
        f"{path}: more than 179 million pixels; shrink it or cut it into tiles"
    )


def test_a_large_image_within_the_limit_is_read(tmp_path):
    path = tmp_path / "a.png"
    Image.new("L", (9_500, 9_500)).save(path)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        assert examine_image(path).image_hw == (9_500, 9_500)


def test_a_path_with_a_null_character():
    with pytest.raises(DatasetError, match="cannot be read"):
        read_image(Path("a\0.jpg"))


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
@pytest.mark.parametrize("hw", [(64, 96), (67, 93), (8, 500), (7, 5)])
def test_a_shrunk_jpeg_has_the_means_of_squares(tmp_path, factor, hw):
    path = write_image(tmp_path / "a.jpg", hw)
    height, width = (-(-side // factor) for side in hw)

    shrunk = read_shrunk(path, factor)

    assert shrunk.shape == (height, width, 3)
    if min(hw) < 40:  # sharp for its size, and colors are stored at half of it
        return
    whole = read_image(path)
    rows, columns = hw[0] // factor, hw[1] // factor  # squares that are whole
    squares = whole[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor, 3)
    np.testing.assert_allclose(shrunk[:rows, :columns], squares.mean((1, 3)), atol=6)


def test_a_shrunk_jpeg_is_rotated_as_well(tmp_path):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise((64, 96))).save(path, exif=exif)
    assert read_shrunk(path, 2).shape == (48, 32, 3)


def test_other_formats_keep_their_size(tmp_path):
    path = write_image(tmp_path / "a.png", (64, 96))
    assert np.array_equal(read_shrunk(path, 4), read_image(path))


@pytest.mark.parametrize(
    ("long_side", "needed", "factor"),
    [(640, 640, 1), (640, 320, 2), (639, 320, 1), (1279, 320, 2), (1280, 320, 4), (9999, 32, 8),
     (10, 320, 1)],
)  # fmt: skip
def test_how_far_an_image_may_be_shrunk(long_side, needed, factor):
    assert shrink_factor(long_side, needed) == factor


def segment(marker, content):
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def exif(orientation):
    found = Image.Exif()
    found[ORIENTATION] = orientation
    return segment(0xE1, found.tobytes())


XMP = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><rdf:RDF tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("seed", range(30))
def test_a_jpeg_is_turned_as_its_exif_data_say(tmp_path, seed):
    """Wherever they are; orientations in XMP are not decoded by."""
    rng = np.random.default_rng(seed)
    parts = [
        segment(0xFE, b"a comment"),
        segment(0xE2, b"ICC\xff\xe1"),
        segment(0xE1, XMP),
        b"\xff",
    ]
    parts += [exif(int(rng.integers(1, 9)))] if rng.random() < 0.7 else []
    chosen = [parts[index] for index in rng.permutation(len(parts))[: rng.integers(len(parts) + 1)]]
    path = write_image(tmp_path / "a.jpg")
    content = path.read_bytes()
    path.write_bytes(content[:2] + b"".join(chosen) + content[2:])

    assert examine_image(path).image_hw == read_image(path).shape[:2]
