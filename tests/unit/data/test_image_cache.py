"""Cached images are the images, each read once, and never beside the user's files."""

from __future__ import annotations

import os

import numpy as np
import pytest

from data import image_cache
from data.image_cache import CacheSettings, cache_bytes, fill_cache
from data.image_file import read_image
from tests.error_messages import assert_message
from tests.unit.data.builders import record, write_image
from utils.errors import ConfigError

HWS = [(48, 64), (64, 48), (32, 32)]


@pytest.fixture
def records(tmp_path):
    folder = tmp_path / "images"
    return [
        record(write_image(folder / f"{number}.png", hw, number), hw)
        for number, hw in enumerate(HWS)
    ]


class Reader:
    """Reads images and remembers which."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, record):
        self.read.append(record.path.name)
        return read_image(record.path)


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_images_come_back_as_they_are(records, tmp_path, kind):
    reader = Reader()
    cache = fill_cache(CacheSettings(kind, tmp_path / "cache"), records, 64, reader)
    assert sorted(reader.read) == ["0.png", "1.png", "2.png"]
    for _ in range(2):
        for number, each in enumerate(records):
            assert np.array_equal(cache[number], read_image(each.path))
    assert len(reader.read) == 3


def test_no_cache(records, tmp_path):
    assert fill_cache(CacheSettings("none", tmp_path / "cache"), records, 64, Reader()) is None
    assert not (tmp_path / "cache").exists()


def test_a_disk_cache_is_used_again_and_a_changed_image_is_not(records, tmp_path):
    folder = tmp_path / "cache"
    fill_cache(CacheSettings("disk", folder), records, 64, Reader())
    reader = Reader()
    fill_cache(CacheSettings("disk", folder), records, 64, reader)
    assert reader.read == []
    write_image(records[1].path, HWS[1], seed=9)
    os.utime(records[1].path, (1, 1))
    cache = fill_cache(CacheSettings("disk", folder), records, 64, reader)
    assert reader.read == ["1.png"]
    assert np.array_equal(cache[1], read_image(records[1].path))
    fill_cache(CacheSettings("disk", folder), records, 32, reader)  # another size is another cache
    assert len(reader.read) == 4


def test_nothing_is_written_beside_the_images(records, tmp_path):
    before = sorted((tmp_path / "images").iterdir())
    fill_cache(CacheSettings("disk", tmp_path / "cache"), records, 64, Reader())
    assert sorted((tmp_path / "images").iterdir()) == before


def test_bytes(records):
    """At 64 px: 48 x 64, 64 x 48 and 64 x 64."""
    assert cache_bytes(records, 64) == 3 * (48 * 64 + 64 * 48 + 64 * 64)
    assert cache_bytes([], 64) == 0


def test_what_does_not_fit_is_refused(records, tmp_path, monkeypatch):
    monkeypatch.setattr(image_cache, "free_memory", lambda: 20_000)
    with pytest.raises(ConfigError) as caught:
        fill_cache(CacheSettings("ram", tmp_path), records, 64, Reader())
    assert_message(str(caught.value), "--cache ram: ", "0.0 GB are free ... 80% ... --cache disk")
