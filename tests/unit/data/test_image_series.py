"""Animations, pages and bursts: each image, in its order, with its time."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data.image_facts import examine_image
from data.image_file import read_image
from data.image_series import SeriesPart, has_several, may_have_several, read_series
from data.sources import SourceOptions, open_source
from data.stream_options import StreamOptions
from data.video import Shard
from tests.unit.data.builders import noise, write_image
from tests.unit.data.series import ANIMATED, HW, KINDS, frames, write_series
from utils.errors import DatasetError
from utils.structures import Frame, Skipped

MEAN_LOSS = 8  # of 255: GIF has 256 colors; other images differ by 70 and more


@pytest.fixture(params=KINDS)
def several(request, tmp_path):
    """A file of four images, of each format that can hold several."""
    name = request.param
    if name == "a.avif" and ".avif" not in Image.registered_extensions():
        pytest.skip("this Pillow reads no AVIF")
    return write_series(tmp_path / name, KINDS[name], frames())


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    return found.shape == expected.shape and np.abs(found.astype(int) - expected).mean() < MEAN_LOSS


def numbers(path: Path, part: SeriesPart) -> list[int]:
    return [item.number for item in read_series(path, part)]


def test_each_image_in_its_order(several):
    assert may_have_several(several) and has_several(several)
    found = list(read_series(several, SeriesPart()))
    assert [(item.number, item.count) for item in found] == [(n, 4) for n in range(1, 5)]
    for item, expected in zip(found, frames(), strict=True):
        assert same(item.decoded.pixels, expected)


def test_one_image_is_no_series(several):
    kind = KINDS[several.name]
    Image.fromarray(noise(HW)).save(several, kind)
    assert not (may_have_several(several) and has_several(several))


def test_the_part_that_is_read(several):
    assert numbers(several, SeriesPart(stride=2)) == [1, 3]
    assert numbers(several, SeriesPart(first=3)) == [3, 4]
    assert numbers(several, SeriesPart(stride=3, first=2)) == [4]
    parts = [numbers(several, SeriesPart(shard=Shard(part, 3))) for part in (1, 2, 3)]
    assert [number for part in parts for number in part] == [1, 2, 3, 4]
    third = next(read_series(several, SeriesPart(first=3)))
    assert same(third.decoded.pixels, frames()[2])  # what is omitted was decoded all the same


@pytest.mark.parametrize("name", ANIMATED)
def test_times_are_those_of_the_file(tmp_path, name):
    """As browsers show them: what asks for less than 10 ms gets 100 ms."""
    if name == "a.avif" and ".avif" not in Image.registered_extensions():
        pytest.skip("this Pillow reads no AVIF")
    durations = [50, 0, 200, 70] if name != "a.avif" else [50, 10, 200, 70]
    path = write_series(tmp_path / name, KINDS[name], frames(), duration=durations)
    found = list(read_series(path, SeriesPart()))
    assert [item.seconds for item in found] == pytest.approx([0, 0.05, 0.15, 0.35])
    assert [item.fps for item in found] == pytest.approx([20] * 4)
    (second,) = read_series(path, SeriesPart(stride=2, first=2))
    assert (second.number, second.seconds, second.fps) == pytest.approx((3, 0.15, 10))


def test_pages_have_no_time(tmp_path):
    path = write_series(tmp_path / "a.tif", "TIFF", frames())
    assert {(item.seconds, item.fps) for item in read_series(path, SeriesPart())} == {(None, None)}


def test_very_slow_animations_have_a_rate_that_can_be_written(tmp_path):
    path = write_series(tmp_path / "a.webp", "WEBP", frames(), duration=16_000_000)
    assert {item.fps for item in read_series(path, SeriesPart())} == {0.01}


def test_the_default_image_of_an_apng_is_not_shown(tmp_path):
    path = write_series(tmp_path / "a.png", "PNG", frames(), default_image=True)
    found = list(read_series(path, SeriesPart()))
    assert [item.count for item in found] == [3, 3, 3]
    for item, expected in zip(found, frames()[1:], strict=True):
        assert same(item.decoded.pixels, expected)
    alone = write_series(tmp_path / "b.png", "PNG", frames(2), default_image=True)
    assert may_have_several(alone) and not has_several(alone)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "CMYK", "LA", "I;16"])
def test_pages_of_every_mode_become_rgb(tmp_path, mode):
    """The same pixels as in files of one page each."""
    images = [Image.fromarray(each) for each in frames(3)]
    if mode == "I;16":
        images = [
            Image.fromarray(np.asarray(each.convert("L"), np.uint16) * 257) for each in images
        ]
    else:
        images = [each.convert(mode) for each in images]
    path = tmp_path / "a.tif"
    images[0].save(path, save_all=True, append_images=images[1:])
    for item, image in zip(read_series(path, SeriesPart()), images, strict=True):
        image.save(tmp_path / "one.tif")
        np.testing.assert_array_equal(item.decoded.pixels, read_image(tmp_path / "one.tif"))


@pytest.mark.parametrize("largest", [4095, 65535])
def test_pages_of_16_bits_are_scaled_by_what_they_use(tmp_path, largest):
    pages = [(each.astype(int) * largest // 255).astype(np.uint16) for each in frames(2)]
    path = tmp_path / "a.tif"
    assert cv2.imwritemulti(str(path), pages)
    for item, page in zip(read_series(path, SeriesPart()), pages, strict=True):
        bits = 12 if largest == 4095 else 16
        np.testing.assert_array_equal(item.decoded.pixels, (page >> (bits - 8))[..., ::-1])
        assert (item.decoded.bits, item.decoded.is_deep) == (bits, True)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_animations_with_palettes_and_transparency(tmp_path, name):
    """Transparent parts of a later image show the one before it."""
    still, moving = Image.new("RGBA", (64, 48), (250, 0, 0, 255)), Image.new("RGBA", (64, 48))
    moving.paste((0, 0, 250, 255), (10, 10, 20, 20))
    path = tmp_path / name
    still.save(path, KINDS[name], save_all=True, append_images=[moving], disposal=0, blend=1)
    first, second = (item.decoded.pixels for item in read_series(path, SeriesPart()))
    assert same(first, np.full((*HW, 3), (250, 0, 0)))
    assert np.abs(second[15, 15].astype(int) - (0, 0, 250)).max() < 20
    if name != "a.webp":  # WebP's writer of Pillow keeps nothing of the one before
        assert np.abs(second[30, 30].astype(int) - (250, 0, 0)).max() < 20


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("name", ["a.webp", "a.png", "a.tif"])
def test_orientation_counts_once_for_every_image(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = write_series(tmp_path / name, KINDS[name], frames(3), exif=exif)
    for item, pixels in zip(read_series(path, SeriesPart()), frames(3), strict=True):
        turned = np.rot90(pixels, {3: 2, 6: -1, 8: 1}[orientation])
        if name == "a.tif" and item.number > 1:
            turned = pixels if turned.shape != item.decoded.pixels.shape else turned
        assert same(item.decoded.pixels, turned)


@pytest.mark.parametrize("share", [0.35, 0.6, 0.85, 0.97])
def test_what_is_cut_off_ends_where_it_is_cut(several, share):
    """What comes before the cut is read where the format allows it; nothing is passed over."""
    content = several.read_bytes()
    several.write_bytes(content[: int(len(content) * share)])
    if not has_several(several):
        with pytest.raises(DatasetError):
            examine_image(several)
        return
    read, problems = [], []
    try:
        for item in read_series(several, SeriesPart()):
            (problems if isinstance(item, Skipped) else read).append(item)
    except DatasetError as error:
        problems.append(error)
    assert len(read) < 4 and problems
    for item, expected in zip(read, frames(), strict=False):
        assert same(item.decoded.pixels, expected)


def tags(content: bytes, page: int) -> tuple[dict[int, int], int]:
    """Where the tags of a page are, and where the pointer to the next page is."""
    (offset,) = struct.unpack_from("<I", content, 4)
    for _ in range(page):
        (offset,) = struct.unpack_from("<I", content, tags_at(content, offset)[1])
    return tags_at(content, offset)


def tags_at(content: bytes, offset: int) -> tuple[dict[int, int], int]:
    (count,) = struct.unpack_from("<H", content, offset)
    entries = range(offset + 2, offset + 2 + 12 * count, 12)
    return {struct.unpack_from("<H", content, at)[0]: at for at in entries}, entries.stop


def set_tag(path: Path, page: int, tag: int, value: int) -> None:
    """Change a tag that a page has."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<HHII", content, tags(content, page)[0][tag], tag, 4, 1, value)
    path.write_bytes(content)


def test_one_broken_page_does_not_end_the_others(tmp_path):
    path = write_series(tmp_path / "a.tif", "TIFF", frames(3))
    set_tag(path, 1, 259, 60_000)  # a compression that nobody knows
    first, broken, third = read_series(path, SeriesPart())
    assert (first.number, third.number) == (1, 3)
    assert isinstance(broken, Skipped) and broken.reason.startswith("page 2: ")
    assert same(third.decoded.pixels, frames()[2])


def tiff_of_claims(path: Path, sides: list[tuple[int, int]]) -> Path:
    """A TIFF whose pages claim these widths and heights and have one byte each."""
    content = bytearray(b"II*\0" + struct.pack("<I", 8))
    for number, (width, height) in enumerate(sides):
        tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 4), (279, 1)]
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        after = len(content) + 2 + len(entries) + 4
        following = after if number + 1 < len(sides) else 0
        content += struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)
    path.write_bytes(content)
    return path


def test_pages_that_claim_gigabytes_are_refused_by_their_headers(tmp_path):
    path = tiff_of_claims(tmp_path / "a.tif", [(60_000, 60_000), (2**31, 2**31), (20_000, 8_000)])
    reasons = [item.reason for item in read_series(path, SeriesPart())]
    assert [reason.partition(": ")[2][:30] for reason in reasons] == [
        "more than 179 million pixels; ", "more than 179 million pixels; ",
        "20000x8000 pixels cannot be in",
    ]  # fmt: skip


def test_pages_that_lead_back_to_the_first_are_read_once(tmp_path):
    path = write_series(tmp_path / "a.tif", "TIFF", frames(2))
    content = bytearray(path.read_bytes())
    end = tags(content, 1)[1]
    content[end : end + 4] = content[4:8]
    path.write_bytes(content)
    assert numbers(path, SeriesPart()) == [1, 2]


@pytest.mark.parametrize("kind", [1, 4, 5])
def test_previews_and_masks_are_no_pages(tmp_path, kind):
    """Reduced copies (overviews, thumbnails) and transparency masks, wherever they stand."""
    large, small = noise((48, 64)), noise((12, 16))
    for page, images in ((1, [large, small]), (0, [small, large])):
        path = write_series(tmp_path / f"{page}.tif", "TIFF", images, tiffinfo={254: 0})
        set_tag(path, page, 254, kind)
        assert may_have_several(path) and not has_several(path)
        np.testing.assert_array_equal(read_image(path), large)
        assert examine_image(path).image_hw == (48, 64)


def test_pages_of_a_bigtiff(tmp_path):
    images = [Image.fromarray(each) for each in frames(3)]
    path = tmp_path / "a.tif"
    images[0].save(path, save_all=True, append_images=images[1:], big_tiff=True)
    if path.read_bytes()[:4] != b"II+\0":
        pytest.skip("this Pillow writes no BigTIFF")
    found = list(read_series(path, SeriesPart()))
    assert [same(each.decoded.pixels, pixels)
            for each, pixels in zip(found, frames(3), strict=True)] == [True] * 3  # fmt: skip


def test_training_takes_no_file_of_several_images(several):
    for action in (examine_image, read_image):
        with pytest.raises(DatasetError, match=r" of several images; save the one meant as PNG$"):
            action(several)


def test_the_second_image_of_an_mpo_is_a_preview(tmp_path):
    path = write_series(tmp_path / "a.mpo", "MPO", frames(2))
    assert not may_have_several(path)
    assert same(read_image(path), frames()[0])


def source(path: Path, **options: object):
    stride = options.pop("stride", 1)
    streams = StreamOptions(stride)
    return open_source((str(path),), SourceOptions(streams=streams, **options))


def test_frames_of_a_source_are_those_of_a_video_or_pages(several):
    found = list(source(several))
    assert all(isinstance(item, Frame) and item.is_video for item in found)
    assert [(item.frame_index, item.frame_count) for item in found] == [(n, 4) for n in range(1, 5)]
    assert ([item.fps for item in found] == [None] * 4) == several.name.endswith(".tif")
    assert {item.path for item in found} == {several}


def test_a_folder_goes_on_behind_what_is_broken(several):
    content = several.read_bytes()
    several.write_bytes(content[: int(len(content) * 0.6)])
    write_image(several.with_name("b.png"))
    *_, skipped, last = source(several.parent)
    assert isinstance(skipped, Skipped) and skipped.path == several
    assert isinstance(last, Frame) and last.path.name == "b.png"


def test_the_content_counts_not_the_suffix(several):
    renamed = several.rename(several.with_suffix(".jpg"))
    assert [item.frame_index for item in source(renamed)] == [1, 2, 3, 4]


def test_a_cut_run_goes_on_behind_its_last_image(several):
    opened = source(several)
    opened.done = (1, 2)
    assert [item.frame_index for item in opened] == [3, 4]


def test_parts_of_a_source_are_the_whole(several):
    whole = [item.frame_index for item in source(several)]
    parts = [source(several, shard=Shard(part, 2)) for part in (1, 2)]
    assert [item.frame_index for part in parts for item in part] == whole
