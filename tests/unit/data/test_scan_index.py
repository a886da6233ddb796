"""What is known of a data set from an earlier run is what reading it again would find."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from data import file_states, image_facts, labels, records, scan, scan_index
from data.dataset_spec import load_dataset_spec
from data.records import read_records
from tests.unit.data.builders import write_image, write_yolo_set
from tests.unit.data.scanned_sets import GOOD, POLYGON, scanned, write_merged, write_shared


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # What tests write has just been changed; only the test of that rule keeps it.
    monkeypatch.setattr(file_states, "SETTLED_NS", -(10**18))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def yaml(folder):
    return write_yolo_set(folder, {"a": GOOD, "b": f"{POLYGON}x\n", "c": None, "d": ""})


@pytest.fixture
def files_read(monkeypatch):
    """The names of the data set's files that are opened from now on."""
    names = []

    def noted(opened):
        def open_and_note(path, *args, **kwargs):
            if "data" in Path(path).parts and Path(path).suffix != ".py":
                names.append(Path(path).name)
            return opened(path, *args, **kwargs)

        return open_and_note

    monkeypatch.setattr("builtins.open", noted(open))
    monkeypatch.setattr(Path, "open", noted(Path.open))
    return names


@pytest.mark.parametrize("write", [write_merged, write_shared])
@pytest.mark.parametrize("options", [{}, {"outlines": True}, {"single_class": True}], ids=str)
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_second_start_lists_nothing_and_finds_the_same(
    write, options, split, folder, monkeypatch
):
    yaml = write(folder)
    first = scanned(yaml, split, **options)
    monkeypatch.setattr(records, "list_split", None)  # what would be called
    assert scanned(yaml, split, **options) == first
    monkeypatch.undo()
    assert scanned(yaml, split, indexed=False, **options) == first


def test_it_says_the_same(yaml, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    said = []
    for indexed in (True, True, False):
        read_records(load_dataset_spec(yaml), "train", indexed=indexed)
        said.append(list(caplog.messages))
        caplog.clear()
    assert said[0] == said[1] == said[2]
    assert any("'x' is not a number" in line for line in said[0])


def test_only_what_changed_is_read_again(yaml, folder, files_read, monkeypatch):
    # It looks through 500 label files at most, which are all of a small set.
    monkeypatch.setattr(labels, "landmark_columns", lambda files, evidence: None)
    scanned(yaml)
    (folder / "labels" / "a.txt").write_text(POLYGON)
    write_image(folder / "images" / "b.png", (30, 40))
    write_image(folder / "images" / "new.png")
    files_read.clear()
    found = scanned(yaml)
    read = [name for name in files_read if name != yaml.name]
    assert sorted(read) == ["a.txt", "b.png", "b.txt", "new.png", "new.txt"]
    assert found == scanned(yaml, indexed=False)


@pytest.mark.parametrize(
    "options", [{"single_class": True}, {"outlines": True}, {"split": "val"}], ids=str
)
def test_other_settings_and_splits_decode_no_image_again(yaml, files_read, options):
    scanned(yaml)
    files_read.clear()
    found = scanned(yaml, **options)
    assert not [name for name in files_read if name.endswith(".png")]
    assert found == scanned(yaml, indexed=False, **options)


def other_names(yaml, folder):
    yaml.write_text(yaml.read_text().replace("'dog'", "'wolf'"))


def one_name(yaml, folder):
    yaml.write_text(yaml.read_text().replace(", 'dog', 'owl'", ""))


@pytest.mark.parametrize("change", [other_names, one_name])
def test_other_classes(change, yaml, folder, files_read):
    scanned(yaml)
    change(yaml, folder)
    files_read.clear()
    found = scanned(yaml)
    assert not [name for name in files_read if name.endswith(".png")]
    assert found == scanned(yaml, indexed=False)


def other_content(path):
    cv2.imwrite(str(path), np.full((30, 60, 3), 9, np.uint8))


def same_size_and_time(path):
    """As `cp --preserve` and some synchronising programs leave a file."""
    before = path.stat()
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def written_in_place(path):
    before = path.stat()
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def another_moved_there(path):
    other = path.with_name("other.png")
    shutil.copy(path.with_name("b.png"), other)
    other.replace(path)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (other_content, "images/a.png"),
        (same_size_and_time, "images/a.png"),
        (same_size_and_time, "labels/a.txt"),
        (written_in_place, "images/a.png"),
        (written_in_place, "labels/a.txt"),
        (another_moved_there, "images/a.png"),
    ],
)
def test_a_file_that_changed_is_read_again(change, name, yaml, folder, files_read):
    scanned(yaml)
    time.sleep(0.02)  # ticks of the file system's clock
    change(folder / name)
    files_read.clear()
    found = scanned(yaml)
    assert Path(name).name in files_read and "d.png" not in files_read
    assert found == scanned(yaml, indexed=False)


def test_what_has_just_changed_is_read_again(yaml, folder, monkeypatch, files_read):
    os.utime(folder / "images" / "a.png", (1e9, 1e9))  # which changes its state, too
    monkeypatch.setattr(file_states, "SETTLED_NS", 10**18)
    scanned(yaml)
    files_read.clear()
    scanned(yaml)
    assert {"a.png", "a.txt", "d.png"} <= set(files_read)


def test_rules_make_what_is_kept_worthless(yaml, monkeypatch, files_read):
    scanned(yaml)
    monkeypatch.setattr(scan_index, "RULES", image_facts.RULES + 1)
    files_read.clear()
    scanned(yaml)
    assert "a.png" in files_read


def test_other_code_reads_labels_again(yaml, monkeypatch, files_read):
    scanned(yaml)
    monkeypatch.setattr(scan_index, "__file__", __file__)
    files_read.clear()
    scanned(yaml)
    assert "a.txt" in files_read and "a.png" not in files_read


def test_an_image_that_cannot_be_read_is_tried_again_each_time(yaml, folder, monkeypatch):
    image = folder / "images" / "a.png"
    image.write_bytes(image.read_bytes()[:60])
    first = scanned(yaml)
    tried = []
    examine = scan.examine_image
    monkeypatch.setattr(scan, "examine_image", lambda path: tried.append(path) or examine(path))
    assert scanned(yaml) == first
    assert tried == [image]
    # The cause was the machine's, and is gone.
    monkeypatch.setattr(scan, "examine_image", lambda path: None)
    found = image_facts.ImageFacts((48, 64), bytes(32))
    monkeypatch.setattr(records, "examine_image", lambda path: found)
    assert scanned(yaml) != first


def test_a_label_file_that_could_not_be_read_is_tried_again(yaml, monkeypatch):
    opened = open

    def refused(path, *args, **kwargs):
        if str(path).endswith("a.txt"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **kwargs)

    monkeypatch.setattr("builtins.open", refused)
    assert "Permission denied" in str(scanned(yaml))
    monkeypatch.setattr("builtins.open", opened)
    assert scanned(yaml) == scanned(yaml, indexed=False)


def test_a_file_that_changes_while_it_is_read(yaml, folder, monkeypatch):
    examine = image_facts.examine_image

    def late_change(path):
        facts = examine(path)
        time.sleep(0.02)  # ticks of the file system's clock
        if path.name == "a.png":
            other_content(path)
        (folder / "labels" / f"{path.stem}.txt").write_text(POLYGON)
        return facts

    monkeypatch.setattr(records, "examine_image", late_change)
    scanned(yaml)
    monkeypatch.setattr(records, "examine_image", examine)
    assert scanned(yaml) == scanned(yaml, indexed=False)


def test_data_sets_have_files_of_their_own_outside_of_them(yaml, folder, tmp_path):
    before = sorted(folder.rglob("*"))
    scanned(yaml)
    scanned(yaml, "val")
    shutil.copytree(folder, tmp_path / "other")
    scanned(tmp_path / "other" / yaml.name)
    assert len(list((tmp_path / "cache").rglob("*.sqlite"))) == 2
    assert sorted(folder.rglob("*")) == before


def test_only_the_latest_scans_are_kept(yaml, tmp_path, monkeypatch):
    monkeypatch.setattr(scan_index, "MAX_SCANS", 2)
    text = yaml.read_text()
    for number in range(4):
        yaml.write_text(text.replace("'dog'", f"'dog{number}'"))
        scanned(yaml)
    (file,) = (tmp_path / "cache").rglob("*.sqlite")
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT count(DISTINCT key) FROM parts").fetchone() == (2,)


def test_a_damaged_index_is_begun_anew(yaml, tmp_path, monkeypatch):
    first = scanned(yaml)
    (file,) = (tmp_path / "cache").rglob("*.sqlite")
    good, rng = file.read_bytes(), np.random.default_rng(0)
    for number in range(60):
        damaged = bytearray(good)
        start = int(rng.integers(len(good)))
        length = int(rng.integers(1, 200 if number % 2 else 2))
        damaged[start : start + length] = rng.bytes(len(damaged[start : start + length]))
        file.write_bytes(damaged if number % 5 else damaged[:start])
        assert scanned(yaml) == first
    assert scanned(yaml) == first
    monkeypatch.setattr(records, "list_split", None)
    assert scanned(yaml) == first


@pytest.mark.parametrize("folder_name", ["a file", "x" * 300])
def test_a_cache_folder_that_cannot_be_used_costs_only_time(
    folder_name, yaml, tmp_path, monkeypatch
):
    (tmp_path / "a file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / folder_name))
    assert scanned(yaml) == scanned(yaml) == scanned(yaml, indexed=False)


def test_a_locked_index_costs_only_time(yaml, tmp_path, monkeypatch):
    first = scanned(yaml)
    monkeypatch.setattr(scan_index, "WAIT_SECONDS", 0.05)
    (file,) = (tmp_path / "cache").rglob("*.sqlite")
    with sqlite3.connect(file, isolation_level=None) as database:
        database.execute("BEGIN EXCLUSIVE")
        assert scanned(yaml) == first
        database.execute("ROLLBACK")
    assert scanned(yaml) == first


def test_runs_that_start_together_keep_what_each_found(yaml, folder, monkeypatch):
    ways = [(split, {"outlines": outlines}) for split in ("train", "val") for outlines in (0, 1)]
    found = {}

    def run(number):
        split, options = ways[number % len(ways)]
        found[number] = scanned(yaml, split, **options)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.setattr(records, "list_split", None)
    for number, (split, options) in enumerate(ways):
        assert scanned(yaml, split, **options) == found[number] == found[number + len(ways)]


def test_names_that_are_not_utf8(yaml, folder, monkeypatch):
    odd = os.fsdecode(b"caf\xe9")
    shutil.copy(folder / "images" / "a.png", folder / "images" / f"{odd}.png")
    (folder / "labels" / f"{odd}.txt").write_text("x\n")
    first = scanned(yaml)
    monkeypatch.setattr(records, "list_split", None)
    assert scanned(yaml) == first
    assert any(odd in problem.text for problem in first[1])
