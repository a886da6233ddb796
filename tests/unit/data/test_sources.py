from __future__ import annotations

import io
import itertools
import logging
import os
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data.listing import list_images
from data.source_items import source_items
from data.sources import FileSource, SourceOptions, open_source
from data.stream_options import StreamOptions
from data.streams import LiveFrames
from tests.error_messages import BETWEEN, assert_message
from utils.detect.pipeline import grouped
from utils.errors import ConfigError, DatasetError
from utils.letterbox import InputSize
from utils.structures import Frame, Skipped

RED_BGR = (0, 0, 255)


def save_image(path, image_hw=(20, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*image_hw, 3), RED_BGR, np.uint8))
    return path


def opened(text, stride=1, **options):
    """The source that `--source text` names."""
    streams = StreamOptions(stride)
    return open_source((text,), SourceOptions(streams=streams, **options))


def names(source):
    return [item.path.name for item in source]


def test_a_image_is_rgb(tmp_path):
    path = save_image(tmp_path / "a.png")
    (frame,) = opened(str(path))
    assert isinstance(frame, Frame)
    assert frame.image.shape == (20, 30, 3) and frame.image[0, 0].tolist() == [255, 0, 0]
    assert (frame.path, frame.source) == (path, str(path))
    assert (frame.position, frame.num_positions, frame.frame_index) == (1, 1, 1)
    assert (frame.frame_count, frame.fps, frame.is_video) == (1, None, False)


def test_folder_is_sorted_and_not_searched_further_down(tmp_path):
    for name in ("b.jpg", "a.PNG", "c.bmp", "deeper/d.jpg"):
        save_image(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image that can be decoded")
    source = opened(str(tmp_path))
    assert names(source) == ["a.PNG", "b.jpg", "c.bmp"]
    assert [(item.position, item.num_positions) for item in source] == [(1, 3), (2, 3), (3, 3)]


def test_pattern(tmp_path):
    for name in ("x/b.jpg", "y/a.jpg", "y/a.png"):
        save_image(tmp_path / name)
    found = [item.path.relative_to(tmp_path).as_posix() for item in opened(f"{tmp_path}/*/*.jpg")]
    assert found == ["x/b.jpg", "y/a.jpg"]


def test_relative_pattern(tmp_path, monkeypatch):
    save_image(tmp_path / "x" / "b.jpg")
    monkeypatch.chdir(tmp_path)
    assert names(opened("x/*.jpg")) == ["b.jpg"]


def test_list_of_paths(tmp_path):
    absolute = save_image(tmp_path / "far" / "a.jpg")
    save_image(tmp_path / "b.jpg")
    (tmp_path / "list.txt").write_text(f"{absolute}\n\n  b.jpg \n gone.jpg\n")
    *found, gone = opened(str(tmp_path / "list.txt"))
    assert [item.path.name for item in found] == ["a.jpg", "b.jpg"]
    assert isinstance(gone, Skipped) and gone.path.name == "gone.jpg"


def test_a_list_written_on_windows(tmp_path):
    save_image(tmp_path / "far" / "a.jpg")
    (tmp_path / "list.txt").write_text("far\\a.jpg\r\nfar\\gone.jpg\r\n")
    found, gone = opened(str(tmp_path / "list.txt"))
    assert (found.path, gone.path.name) == (tmp_path / "far" / "a.jpg", "gone.jpg")


def test_addresses_in_a_list_keep_their_backslashes(tmp_path):
    camera = "rtsp://me:pass\\word@host/1"
    image = save_image(tmp_path / "far" / "a.jpg")
    (tmp_path / "list.txt").write_text(f"{camera}\nfar\\a.jpg\n")
    assert source_items(str(tmp_path / "list.txt"), recursive=False) == [camera, image]


def test_unreadable_images_are_skipped(tmp_path):
    save_image(tmp_path / "b.jpg")
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "c.jpg").write_text("this is no image")
    empty, good, text = opened(str(tmp_path))
    assert empty == Skipped(tmp_path / "a.jpg", "the file is empty")
    assert isinstance(good, Frame)
    assert text == Skipped(tmp_path / "c.jpg", "not an image that can be decoded")


ERRORS = [
    # nothing there
    ("gone", "--source {folder}/gone: ... no such file"),
    ("n" * 5000, "--source {folder}/nnn ... no such file"),  # longer than a name can be
    # a folder without media
    ("", "--source {folder}/: ... folder"),
    # a pattern nobody matches
    ("*.jpg", "--source {folder}/*.jpg: ... matches"),
    # an empty list
    ("empty.txt", "--source {folder}/empty.txt: ... empty"),
]


@pytest.mark.parametrize(("name", "message"), ERRORS)
def test_errors(tmp_path, name, message):
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DatasetError) as error:
        opened(f"{tmp_path}/{name}")
    assert_message(str(error.value), *message.format(folder=tmp_path).split(BETWEEN))


def test_empty_text_is_no_folder():
    """As of a variable that is not set."""
    with pytest.raises(DatasetError, match="--source: is empty"):
        opened("")


def test_other_suffixes_are_refused(tmp_path):
    (tmp_path / "notes.md").write_text("words")
    with pytest.raises(DatasetError, match=r"'\.md'"):
        opened(str(tmp_path / "notes.md"))


def test_several_sources_and_folders_below(tmp_path):
    for name in ("x/b.jpg", "x/deeper/c.jpg", "a.jpg"):
        save_image(tmp_path / name)
    texts = (str(tmp_path / "x"), str(tmp_path / "a.jpg"))
    flat, deep = (open_source(texts, SourceOptions(recursive=deeper)) for deeper in (False, True))
    assert names(flat) == ["b.jpg", "a.jpg"]
    assert names(deep) == ["b.jpg", "c.jpg", "a.jpg"]


@pytest.mark.parametrize("source", ["{}", "{}/*", "{}/*.jpg"])
def test_hidden_files_are_not_read(tmp_path, source):
    """Those of macOS's archives (`._a.jpg`), for example; nor are folders like .git searched."""
    for name in ("a.jpg", "._a.jpg", ".git/b.jpg"):
        save_image(tmp_path / name)
    options = SourceOptions(recursive=source == "{}")
    assert names(open_source((source.format(tmp_path),), options)) == ["a.jpg"]
    assert names(opened(f"{tmp_path}/.*.jpg")) == ["._a.jpg"]  # asked for


def test_a_link_that_leads_nowhere_is_skipped(tmp_path):
    save_image(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "gone.jpg")
    image, skipped = opened(str(tmp_path))
    assert isinstance(image, Frame)
    assert skipped == Skipped(tmp_path / "b.jpg", "a link to no file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in folders")
def test_a_pipe_in_a_folder_is_no_image(tmp_path):
    """To read it would take forever."""
    save_image(tmp_path / "a.jpg")
    os.mkfifo(tmp_path / "b.jpg")
    assert names(opened(str(tmp_path))) == ["a.jpg"]
    assert list_images(tmp_path) == [str(tmp_path / "a.jpg")]


def test_live_sources_are_told_from_files(tmp_path):
    (tmp_path / "cameras.streams").write_text("# doors\nrtsp://door/1\n\n#1\n0\n")
    for text, expected in (
        ("0", ["0"]),
        (str(tmp_path / "cameras.streams"), ["rtsp://door/1", "0"]),
    ):
        source = opened(text)
        assert isinstance(source, LiveFrames) and source.is_live
        assert [state.source for state in source.live.states] == expected
    assert not FileSource(()).is_live
    assert list(FileSource(())) == []


def test_live_and_other_sources_do_not_mix(tmp_path):
    path = save_image(tmp_path / "a.png")
    with pytest.raises(DatasetError) as error:
        open_source(("rtsp://me:secret@door/1", str(path)), SourceOptions())
    assert_message(str(error.value), "--source rtsp://door/1 is live and ", "a.png is not")


def blank(height, width):
    image = np.zeros((height, width, 3), np.uint8)
    return Frame(image, "x", Path("x"), 1, 1, 1, 1, None, False)


def numbers(batch):
    return batch if isinstance(batch, Skipped) else [fitted.number for fitted in batch]


def test_batches_hold_frames_of_one_input_size():
    """Frames of one size wait for each other, up to four batches' worth of frames."""
    skipped = Skipped(Path("y"), "broken")
    tall, wide = blank(64, 32), blank(32, 64)
    items = [tall, wide, skipped, tall, wide, tall]
    found = list(grouped(items, InputSize((64, 64), 32), 2))
    assert [numbers(batch) for batch in found] == [skipped, [0, 2], [1, 3], [4]]
    for batch in found:
        if not isinstance(batch, Skipped):
            assert len({fitted.letterbox.input_hw for fitted in batch}) == 1


def test_no_frame_waits_longer_than_the_window():
    """Four batches of frames after it, a lone frame is a batch; none is lost."""
    items = [blank(64, 32), *[blank(32, 64)] * 40]
    found = [numbers(batch) for batch in grouped(items, InputSize((64, 64), 32), 3)]
    assert found.index([0]) == 3  # three full batches of the others come first
    assert sorted(itertools.chain(*found)) == list(range(41))


def test_no_frames_no_batches():
    assert list(grouped([], InputSize((64, 64), 32), 2)) == []


def test_a_gif_of_several_images_is_a_video_and_one_of_one_an_image(tmp_path):
    frames = [Image.new("RGB", (32, 32), (80 * number, 0, 0)) for number in range(3)]
    frames[0].save(tmp_path / "one.gif")
    frames[0].save(tmp_path / "several.gif", save_all=True, append_images=frames[1:])

    found = [(item.path.name, item.is_video) for item in opened(str(tmp_path))]

    assert found == [("one.gif", False), *[("several.gif", True)] * 3]


def test_what_a_folder_has_beside_images_is_counted_in_one_line(tmp_path, caplog):
    save_image(tmp_path / "a.jpg")
    for name in ("b.dng", "c.dng", "d.PSD", "e.pdf", "labels.txt", "notes.md", ".hidden.zip"):
        (tmp_path / name).write_bytes(b"II*\0")
    (tmp_path / "f.dng").write_bytes((tmp_path / "a.jpg").read_bytes())  # the content counts
    (tmp_path / "folder.pdf").mkdir()

    found = list(opened(str(tmp_path)))

    assert caplog.messages == [
        f"{tmp_path}: 4 files not read: 2 .dng, 1 .pdf, 1 .psd; save images as JPEG or PNG"
    ]
    assert [item.path.name for item in found] == ["a.jpg", "b.dng", "c.dng", "d.PSD", "f.dng"]
    skipped = [item for item in found if isinstance(item, Skipped)]
    assert [(item.path.name, item.is_said) for item in skipped] == [
        ("b.dng", True), ("c.dng", True), ("d.PSD", True)
    ]  # fmt: skip
    assert skipped[0].reason == ".dng files cannot be read; save it as JPEG or PNG"


def test_a_pattern_names_what_it_finds_and_cannot_read(tmp_path, caplog):
    save_image(tmp_path / "a.jpg")
    (tmp_path / "a.svg").touch()

    assert names(opened(f"{tmp_path}/a.*")) == ["a.jpg", "a.svg"]
    assert caplog.messages == [
        f"{tmp_path}/a.*: 1 file not read: 1 .svg; save images as JPEG or PNG"
    ]


def test_a_folder_without_images_says_what_it_has(tmp_path):
    for name in ("a.pdf", "b.pdf", "c.docx", "Makefile"):
        (tmp_path / name).touch()
    with pytest.raises(DatasetError, match=r"\(it has 2 \.pdf, 1 \.docx, 1 without a suffix\)$"):
        opened(str(tmp_path))


def test_a_file_that_is_named_is_skipped_with_a_reason_of_its_own(tmp_path, caplog):
    (tmp_path / "a.dng").write_bytes(b"II*\0")
    (skipped,) = opened(str(tmp_path / "a.dng"))
    assert skipped == Skipped(
        tmp_path / "a.dng", ".dng files cannot be read; save it as JPEG or PNG"
    )
    assert caplog.messages == []


def test_few_bits_in_files_of_16_are_said_once(tmp_path, caplog):
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.full((20, 30), 2048, np.uint16))

    with caplog.at_level(logging.INFO):
        images = [item.image for item in opened(str(tmp_path))]

    assert [int(image.max()) for image in images] == [128, 128]
    assert caplog.messages == [
        f"{tmp_path / 'a.png'}: 12-bit data in 16 bits or more, scaled by that range"
    ]


def test_standard_input_is_read_from_a_file_that_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    content = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    source = open_source(["-"], SourceOptions())
    (frame,) = source
    assert frame.image_hw == (8, 8) and frame.path.name == "stdin.jpg"
    assert list(tmp_path.iterdir()) == [frame.path.parent]
    del source
    assert list(tmp_path.iterdir()) == []


def test_standard_input_that_is_closed(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(DatasetError, match="--source -: standard input is closed"):
        open_source(["-"], SourceOptions())


@pytest.mark.parametrize("options", [{"recursive": True}, True])
def test_options_of_another_kind(options):
    with pytest.raises(ConfigError, match=r"^options=.*: expected SourceOptions"):
        open_source(["."], options)


@pytest.mark.parametrize("number", ["99999999999999999999", "9" * 5000])
def test_no_camera_has_such_a_number(number):
    with pytest.raises(DatasetError, match=r"--source 9+: no camera has such a number"):
        open_source([number], SourceOptions())
