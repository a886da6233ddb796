"""Cached images are the images, each read once, and never beside the user's files."""

from __future__ import annotations

import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from data import image_cache
from data.image_cache import CacheSettings, RecentImages, cache_bytes, fill_cache
from data.image_file import read_image
from tests.error_messages import assert_message
from tests.unit.data.builders import record, write_image
from utils.errors import ConfigError, DatasetError

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

    def __init__(self, records) -> None:
        self.records = records
        self.read: list[str] = []

    def __call__(self, index):
        path = self.records[index].path
        self.read.append(path.name)
        return read_image(path)


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_images_come_back_as_they_are(records, tmp_path, kind):
    reader = Reader(records)
    cache = fill_cache(CacheSettings(kind, tmp_path / "cache"), records, 64, reader)
    assert sorted(reader.read) == ["0.png", "1.png", "2.png"]
    for _ in range(2):
        for number, each in enumerate(records):
            assert np.array_equal(cache[number], read_image(each.path))
    assert len(reader.read) == 3


def test_a_disk_cache_is_used_again_and_a_changed_image_is_not(records, tmp_path):
    folder = tmp_path / "cache"
    fill_cache(CacheSettings("disk", folder), records, 64, Reader(records))
    reader = Reader(records)
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
    fill_cache(CacheSettings("disk", tmp_path / "cache"), records, 64, Reader(records))
    assert sorted((tmp_path / "images").iterdir()) == before


def test_bytes(records):
    """At 64 px: 48 x 64, 64 x 48 and 64 x 64."""
    assert cache_bytes(records, 64) == 3 * (48 * 64 + 64 * 48 + 64 * 64)
    assert cache_bytes([], 64) == 0


def test_what_does_not_fit_is_refused(records, tmp_path, monkeypatch):
    monkeypatch.setattr(image_cache, "free_memory", lambda: 20_000)
    with pytest.raises(ConfigError) as caught:
        fill_cache(CacheSettings("ram", tmp_path), records, 64, Reader(records))
    assert_message(str(caught.value), "--cache ram: ", "0.0 GB are free ... 80% ... --cache disk")


def test_recent_images_are_read_once_by_many_threads(records):
    reader, together = Reader(records), threading.Barrier(8)

    def slowly(index):
        time.sleep(0.02)
        return reader(index)

    images = RecentImages(slowly, 3)

    def ask(number):
        together.wait(10)
        return images[number % 3]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(ask, range(8)))
    assert sorted(reader.read) == ["0.png", "1.png", "2.png"]
    for number, image in enumerate(found):
        assert np.array_equal(image, read_image(records[number % 3].path))


def test_what_was_not_asked_for_lately_is_read_again(records):
    reader = Reader(records)
    images = RecentImages(reader, 2)
    for index in (0, 1, 0, 2, 0, 1):  # 2 takes the place of 1
        assert images[index].shape == (*HWS[index], 3)
    assert reader.read == ["0.png", "1.png", "2.png", "1.png"]


def test_an_image_that_fails_is_tried_again(records):
    images = RecentImages(Reader(records), 2)
    away = records[0].path.rename(records[0].path.with_suffix(".away"))
    with pytest.raises(DatasetError, match="no such file"):
        images[0]
    away.rename(records[0].path)
    assert images[0].shape == (*HWS[0], 3)


def test_a_copy_for_another_process_starts_empty(records):
    images = RecentImages(Reader(records), 2)
    assert images[0].shape == (*HWS[0], 3)
    copy = pickle.loads(pickle.dumps(images))
    assert copy.capacity == 2 and copy.read.read == ["0.png"]
    copy[0]
    assert copy.read.read == ["0.png", "0.png"]
