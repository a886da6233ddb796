"""Whatever is done to a data set's files between two runs, the second finds what is there."""

from __future__ import annotations

import json
import os
import shutil
import time

import cv2
import numpy as np
import pytest

from data import file_states
from tests.unit.data.scanned_sets import scanned, write_merged, write_shared

EDITS = 8
SUFFIXES = (".png", ".jpg", ".txt", ".xml", ".json", ".TXT")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # What tests write has just been changed.
    monkeypatch.setattr(file_states, "SETTLED_NS", -(10**18))


def other_text(path, folder, rng):
    """One character for another, a row more, or none."""
    text = bytearray(path.read_bytes()) or bytearray(b"0 0.5 0.5 0.2 0.2\n")
    if path.suffix == ".json":
        content = json.loads(text)
        content["annotations"].append({**content["annotations"][0], "bbox": [1, 2, 3, 4]})
        text = bytearray(json.dumps(content).encode())
    elif rng.random() < 0.3:
        text += b"2 0.5 0.5 0.25 0.25\n"
    else:
        text[rng.integers(len(text))] = ord(rng.choice(list("0123456789 x")))
    path.write_bytes(text)


def other_pixels(path, folder, rng):
    sides = rng.integers(20, 60, 2)
    cv2.imwrite(str(path), rng.integers(0, 256, (*sides, 3), np.uint8))


def cut_off(path, folder, rng):
    path.write_bytes(path.read_bytes()[: int(rng.integers(1, 200))])


def gone(path, folder, rng):
    path.unlink()


def renamed(path, folder, rng):
    path.rename(some_name(path, folder, rng))


def copied(path, folder, rng):
    shutil.copy2(path, some_name(path, folder, rng))


def linked(path, folder, rng):
    other = path.with_name(f"linked{path.name}")
    path.rename(other)
    path.symlink_to(other)


def replaced(path, folder, rng):
    """By another file of its kind, with the times of the first."""
    others = [each for each in files(folder) if each.suffix == path.suffix and each != path]
    if not others:
        return
    before = path.stat()
    shutil.copyfile(others[int(rng.integers(len(others)))], path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def folder_linked(path, folder, rng):
    link = path.parent / f"link{rng.integers(3)}"
    if not link.exists():
        link.symlink_to(path.parent.parent if rng.random() < 0.5 else path.parent)


def folder_renamed(path, folder, rng):
    if path.parent != folder:
        path.parent.rename(path.parent.with_name(str(rng.choice(["images", "labels", "deep"]))))


def nothing(path, folder, rng):
    pass


OF_TEXT = (other_text,)
OF_IMAGES = (other_pixels, cut_off)
OF_ALL = (gone, renamed, copied, linked, replaced, folder_linked, folder_renamed, nothing)


def files(folder):
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix in SUFFIXES)
    return sorted(found)


def some_name(path, folder, rng):
    folders = sorted({each.parent for each in files(folder)})
    suffix = path.suffix if rng.random() < 0.8 else str(rng.choice(SUFFIXES))
    return folders[int(rng.integers(len(folders)))] / f"{rng.choice(list('abcdefgh'))}{suffix}"


@pytest.mark.parametrize("write", [write_merged, write_shared])
@pytest.mark.parametrize("seed", range(8))
def test_a_scan_is_never_outdated(write, seed, tmp_path):
    rng = np.random.default_rng(seed)
    folder = tmp_path / "data"
    folder.mkdir()
    yaml = write(folder)
    found = []
    for _ in range(EDITS):
        for _ in range(int(rng.integers(1, 3))):
            some = files(folder)
            path = some[int(rng.integers(len(some)))]
            kinds = OF_TEXT if path.suffix in (".txt", ".TXT", ".xml", ".json") else OF_IMAGES
            edit = (*kinds, *kinds, *OF_ALL)[int(rng.integers(2 * len(kinds) + len(OF_ALL)))]
            time.sleep(0.02)  # ticks of the file system's clock
            try:
                edit(path, folder, rng)
            except (OSError, ValueError):  # there is such a name already, or no json
                continue
        for split in ("train", "val"):
            options = {"outlines": bool(rng.random() < 0.5), "single_class": seed % 3 == 0}
            known = scanned(yaml, split, **options)
            assert known == scanned(yaml, split, indexed=False, **options)
            found.append(known)
    assert any(isinstance(each, tuple) for each in found)
