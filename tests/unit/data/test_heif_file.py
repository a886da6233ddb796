"""HEIC photos: pixels, orientation, several images, damage, and a missing pillow-heif."""

from __future__ import annotations

import builtins
import logging
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from data.dataset_spec import load_dataset_spec
from data.image_facts import examine_image
from data.image_file import read_image
from data.image_series import SeriesPart, has_several, read_series
from data.records import scan_split
from data.sources import SourceOptions, open_source
from tests.unit.data.builders import noise, write_image, write_yolo_set
from utils.errors import DatasetError
from utils.structures import Frame, Skipped

ORIENTATION = 0x0112
BRANDS = [b"heic", b"heix", b"mif1", b"msf1"]
MISSING = "HEIC images need pillow-heif: pip install pillow-heif"


def write_heic(path: Path, *pixels: np.ndarray, exif: Image.Exif | None = None) -> Path:
    pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    file = pillow_heif.HeifFile()
    for each in pixels:
        file.add_from_pillow(Image.fromarray(each))
    if exif is not None:
        file[0].info["exif"] = exif.tobytes()
    file.save(path, quality=95, chroma=444)
    return path


def near(found: np.ndarray, expected: np.ndarray) -> bool:
    return found.shape == expected.shape and np.abs(found.astype(int) - expected).mean() < 4


@pytest.fixture
def without_pillow_heif(monkeypatch):
    def refuse(name, *arguments, **keywords):
        if name.partition(".")[0] == "pillow_heif":
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", refuse)


def heic_start(path: Path, brand: bytes = b"heic", compatible: bytes = b"heic") -> Path:
    path.write_bytes(struct.pack(">I", 20) + b"ftyp" + brand + bytes(4) + compatible + bytes(99))
    return path


@pytest.mark.parametrize("suffix", [".heic", ".HEIF", ".hif", ".jpg"])
def test_pixels(tmp_path, suffix):
    path = write_heic(tmp_path / "a.heic", noise((48, 64)))
    path = path.rename(path.with_suffix(suffix))
    assert near(read_image(path), noise((48, 64)))
    assert examine_image(path).image_hw == (48, 64)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(tmp_path, orientation):
    """What the file's own property and its EXIF both say, as phones write it."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = write_heic(tmp_path / "a.heic", noise((48, 64)), exif=exif)
    Image.fromarray(noise((48, 64))).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as stored:
        upright = np.array(ImageOps.exif_transpose(stored))
    assert near(read_image(path), upright)
    assert examine_image(path).image_hw == upright.shape[:2]


def test_ten_bits_become_eight(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    pixels = noise((48, 64))
    deep = pillow_heif.from_bytes("RGB;16", (64, 48), (pixels.astype(np.uint16) * 257).tobytes())
    deep.save(tmp_path / "a.heic", quality=95, chroma=444)
    assert near(read_image(tmp_path / "a.heic"), pixels)


def test_transparency_is_dropped(tmp_path):
    pixels = np.dstack([noise((48, 64)), np.zeros((48, 64), np.uint8)])
    assert near(read_image(write_heic(tmp_path / "a.heic", pixels)), noise((48, 64)))


def test_several_images(tmp_path):
    pixels = [noise((48, 64), 0), noise((32, 96), 1), noise((48, 64), 2)]
    path = write_heic(tmp_path / "a.heic", *pixels)
    assert has_several(path)
    found = list(read_series(path, SeriesPart()))
    assert [(item.number, item.count, item.fps, item.seconds) for item in found] == [
        (number, 3, None, None) for number in (1, 2, 3)
    ]
    assert all(near(item.decoded.pixels, each) for item, each in zip(found, pixels, strict=True))
    assert [item.number for item in read_series(path, SeriesPart(stride=2))] == [1, 3]
    with pytest.raises(DatasetError, match="a HEIF of several images; save the one meant as PNG"):
        examine_image(path)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.9, 0.99])
def test_cut_off(tmp_path, share):
    path = write_heic(tmp_path / "a.heic", noise((96, 128)))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    for action in (read_image, examine_image):
        with pytest.raises(DatasetError) as caught:
            action(path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_claims_of_gigabytes_are_not_believed(tmp_path):
    path = write_heic(tmp_path / "a.heic", noise((48, 64)))
    content = bytearray(path.read_bytes())
    for at in range(len(content) - 12):
        if content[at : at + 4] == b"ispe":
            struct.pack_into(">II", content, at + 8, 30_000, 30_000)
    path.write_bytes(content)
    try:
        assert read_image(path).shape == (48, 64, 3)  # older versions go by what is coded
    except DatasetError as error:
        assert re.search("pixels|cannot be decoded", str(error))


def test_damaged(tmp_path):
    """Whatever is overwritten: pixels, or an error of ours."""
    path = write_heic(tmp_path / "a.heic", noise((48, 64)), noise((48, 64), 1))
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(150):
        changed = bytearray(content)
        for _ in range(rng.choice((1, 4, 16))):
            changed[rng.integers(len(changed))] = rng.integers(256)
        path.write_bytes(changed)
        try:
            if has_several(path):
                assert list(read_series(path, SeriesPart()))
            else:
                assert read_image(path).ndim == 3
        except DatasetError as error:
            assert str(error).startswith(f"{path}: ")


@pytest.mark.parametrize("brand", BRANDS)
@pytest.mark.parametrize("name", ["a.heic", "a.jpg"])
def test_a_missing_package_is_one_sentence(tmp_path, without_pillow_heif, brand, name):
    path = heic_start(tmp_path / name, brand)
    for action in (read_image, examine_image):
        with pytest.raises(DatasetError) as caught:
            action(path)
        assert str(caught.value) == f"{path}: {MISSING}"


def test_an_avif_in_the_container_of_both_needs_no_pillow_heif(tmp_path, without_pillow_heif):
    path = heic_start(tmp_path / "a.avif", b"mif1", b"avif")
    with pytest.raises(DatasetError) as caught:
        read_image(path)
    assert "pillow-heif" not in str(caught.value)


def test_a_folder_is_read_without_it(tmp_path, without_pillow_heif, caplog):
    for name in ("a.heic", "b.HEIC"):
        heic_start(tmp_path / name)
    write_image(tmp_path / "c.jpg")
    (tmp_path / "d.heic").write_bytes((tmp_path / "c.jpg").read_bytes())  # as some phones do
    with caplog.at_level(logging.INFO):
        *skipped, image, renamed = open_source((str(tmp_path),), SourceOptions())
    assert caplog.messages == [f"{tmp_path}: 2 files not read: 2 .heic; {MISSING}"]
    assert skipped == [Skipped(tmp_path / name, MISSING, True) for name in ("a.heic", "b.HEIC")]
    assert isinstance(image, Frame) and isinstance(renamed, Frame)


def test_training_counts_them(tmp_path, without_pillow_heif):
    file = write_yolo_set(tmp_path, {"a": "0 0.5 0.5 0.5 0.5\n"})
    heic_start(tmp_path / "images" / "b.heic")
    result = scan_split(load_dataset_spec(file), "train")
    (problem,) = result.problems
    assert problem.text == f"{tmp_path / 'images' / 'b.heic'}: {MISSING}; image skipped"
    assert len(result.records) == 1


def test_training_reads_them(tmp_path):
    file = write_yolo_set(tmp_path, {"a": "0 0.5 0.5 0.5 0.5\n"})
    write_heic(tmp_path / "images" / "b.heic", noise((48, 64)))
    (tmp_path / "labels" / "b.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    result = scan_split(load_dataset_spec(file), "train")
    assert [record.path.name for record in result.records] == ["a.png", "b.heic"]
