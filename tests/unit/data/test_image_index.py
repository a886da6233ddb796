"""The index of images knows what was examined, and never what has changed since."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time

import cv2
import numpy as np
import pytest

from data import image_facts
from data.image_facts import ImageIndex
from utils.errors import DatasetError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # What tests write has just been changed; only the test of that rule keeps it.
    monkeypatch.setattr(image_facts, "SETTLED_NS", -(10**18))


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "data" / "a.png"
    path.parent.mkdir()
    cv2.imwrite(str(path), np.full((40, 60, 3), 7, np.uint8))
    return path


def examined(monkeypatch):
    """The paths that are decoded from now on."""
    paths = []
    examine = image_facts.examine_image

    def noted(path):
        paths.append(path)
        return examine(path)

    monkeypatch.setattr(image_facts, "examine_image", noted)
    return paths


def indexed(image):
    index = ImageIndex(image.parent)
    facts = index.examine(image)
    index.save()
    return facts


def test_a_second_run_decodes_nothing_and_knows_the_same(image, monkeypatch):
    first = indexed(image)
    decoded = examined(monkeypatch)
    assert indexed(image) == first == ImageIndex(None).examine(image)
    assert decoded == [image]  # by the index that knows nothing


def other_content(path):
    cv2.imwrite(str(path), np.full((30, 60, 3), 9, np.uint8))


def same_size_and_time(path):
    """As `cp --preserve` and some synchronising programs leave a file."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 0  # the same bytes in a new file
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def written_in_place(path):
    before = path.stat()
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def another_moved_there(path):
    other = path.with_name("b.png")
    cv2.imwrite(str(other), np.full((40, 60, 3), 8, np.uint8))
    other.replace(path)


@pytest.mark.parametrize(
    "change", [other_content, same_size_and_time, written_in_place, another_moved_there]
)
def test_a_file_that_changed_is_decoded_again(change, image, monkeypatch):
    indexed(image)
    time.sleep(0.02)  # ticks of the file system's clock
    change(image)
    decoded = examined(monkeypatch)
    found = indexed(image)
    assert decoded == [image]
    assert found == ImageIndex(None).examine(image)


def test_a_file_that_has_just_changed_is_not_entered(image, monkeypatch):
    monkeypatch.setattr(image_facts, "SETTLED_NS", 10**18)
    indexed(image)
    decoded = examined(monkeypatch)
    indexed(image)
    assert decoded == [image]


def test_versions_and_rules_make_entries_worthless(image, monkeypatch):
    indexed(image)
    monkeypatch.setattr(image_facts, "RULES", image_facts.RULES + 1)
    decoded = examined(monkeypatch)
    indexed(image)
    assert decoded == [image]


def test_damaged_images_are_examined_every_time(image):
    image.write_bytes(image.read_bytes()[:60])
    index = ImageIndex(image.parent)
    for _ in range(2):
        with pytest.raises(DatasetError, match=r"a\.png"):
            index.examine(image)
        index.save()


def test_data_sets_have_files_of_their_own_outside_of_them(image, tmp_path):
    indexed(image)
    other = tmp_path / "other"
    shutil.copytree(image.parent, other)
    indexed(other / "a.png")
    files = list((tmp_path / "cache").rglob("*.sqlite"))
    assert len(files) == 2
    assert [path.name for path in image.parent.iterdir()] == ["a.png"]


def test_a_damaged_index_is_begun_anew(image, tmp_path, monkeypatch):
    indexed(image)
    (file,) = (tmp_path / "cache").rglob("*.sqlite")
    for content in (b"", b"not a database" * 100, file.read_bytes()[:200]):
        file.write_bytes(content)
        indexed(image)
    decoded = examined(monkeypatch)
    indexed(image)
    assert decoded == []


def test_a_folder_that_cannot_be_written_costs_only_time(image, tmp_path, monkeypatch):
    (tmp_path / "blocked").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "blocked"))
    first = indexed(image)
    assert indexed(image) == first


def test_a_folder_that_cannot_even_be_looked_at_costs_only_time(image, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/" + "x" * 300)  # as another user's home: stat() fails
    first = indexed(image)
    assert indexed(image) == first


def test_a_file_that_goes_while_it_is_read(image, monkeypatch):
    examine = image_facts.examine_image

    def last_look(path):
        facts = examine(path)
        path.unlink()
        return facts

    monkeypatch.setattr(image_facts, "examine_image", last_look)
    index = ImageIndex(image.parent)
    assert index.examine(image).image_hw == (40, 60)
    index.save()


def test_a_locked_index_costs_only_time(image, tmp_path, monkeypatch):
    first = indexed(image)
    monkeypatch.setattr(image_facts, "WAIT_SECONDS", 0.05)
    (file,) = (tmp_path / "cache").rglob("*.sqlite")
    with sqlite3.connect(file, isolation_level=None) as database:
        database.execute("BEGIN EXCLUSIVE")
        assert indexed(image) == first
        database.execute("ROLLBACK")
    assert indexed(image) == first


def test_runs_that_start_together_keep_what_each_found(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    folder.mkdir()
    paths = [folder / f"{number}.png" for number in range(40)]
    for path in paths:
        cv2.imwrite(str(path), np.zeros((20, 20, 3), np.uint8))

    def run(part):
        index = ImageIndex(folder)
        for path in part:
            index.examine(path)
        index.save()

    threads = [threading.Thread(target=run, args=(paths[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    decoded = examined(monkeypatch)
    run(paths)
    assert decoded == []


def test_names_that_are_not_utf8(image, monkeypatch):
    odd = image.parent / os.fsdecode(b"caf\xe9.png")
    shutil.copy(image, odd)
    indexed(odd)
    decoded = examined(monkeypatch)
    indexed(odd)
    assert decoded == []
