from __future__ import annotations

import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from data import captures, streams
from data.addresses import file_name, is_address, without_password
from data.captures import open_capture
from data.stream_options import StreamOptions
from data.streams import LiveSource
from tests.video_builders import save_video
from utils.errors import MissingPackageError


class FakeCapture:
    """Sends images whose pixels are their number, at a rate; then it is lost."""

    def __init__(self, num_images, fps=200.0, *, frame_count=None, image_hw=(8, 8)):
        self.num_images, self.fps, self.frame_count = num_images, fps, frame_count
        self.image_hw = image_hw
        self.is_file, self.seconds = frame_count is not None, None
        self.closed = False

    def __iter__(self):
        for number in range(self.num_images):
            time.sleep(1 / self.fps)
            self.seconds = number / 10 if self.is_file else None
            yield np.full((*self.image_hw, 3), number % 256, np.uint8)

    def close(self):
        self.closed = True


class Camera:
    """An opener: for each try the next capture, None where it is not up; then never again."""

    def __init__(self, *captures):
        self.captures = list(captures)
        self.tries = 0

    def __call__(self, address, options):
        self.tries += 1
        return self.captures.pop(0) if self.captures else None


@pytest.fixture(autouse=True)
def short_delays(monkeypatch):
    monkeypatch.setattr(streams, "RECONNECT_DELAYS", (0.02, 0.05))


def source_of(camera, *addresses, **options):
    return LiveSource(addresses or ("rtsp://me:secret@door/1",), StreamOptions(**options), camera)


def test_the_newest_frame_is_given_and_the_others_are_counted():
    source = source_of(Camera(FakeCapture(60, fps=200)), reconnect_seconds=0.1)
    seen = []
    for (frame,) in source.groups():
        seen.append(frame)
        time.sleep(0.05)  # a network of 20 frames/s
    (state,) = source.states
    assert state.frames == len(seen) < 60
    assert state.frames + state.dropped == 60
    indices = [frame.frame_index for frame in seen]
    assert indices == sorted(set(indices)) and indices[-1] == 60
    for frame in seen:
        assert int(frame.image[0, 0, 0]) == frame.frame_index - 1
        assert frame.is_live and abs(time.time() - frame.captured) < 60
        assert frame.seconds == pytest.approx(frame.captured - seen[0].captured)
        assert (frame.source, frame.path.name) == ("rtsp://door/1", "rtsp_door_1")


def test_the_frames_of_a_file_have_its_own_times(tmp_path):
    """However fast or slowly they arrive; those of what is live have the time of their arrival."""
    times = [[frame.seconds for frame in group]
             for group in source_of(Camera(FakeCapture(3, frame_count=3))).groups()]  # fmt: skip
    assert times == [[0.0], [0.1], [0.2]]
    live = source_of(Camera(FakeCapture(3, fps=20)), every_frame=True, reconnect_seconds=0.01)
    seconds = [frame.seconds for group in live.groups() for frame in group]
    assert np.diff(seconds) == pytest.approx([0.05, 0.05], abs=0.04)
    address = save_video(tmp_path / "v.avi", 5, (64, 64), fps=10).as_uri()
    opened = open_capture(address, StreamOptions(stride=2))
    assert opened is not None and opened.is_file
    assert [opened.seconds for _ in opened] == pytest.approx([0, 0.2, 0.4])


def test_what_is_given_is_not_old():
    source = source_of(Camera(FakeCapture(100, fps=100)), reconnect_seconds=0.1)
    ages = []
    for (frame,) in source.groups():
        ages.append(time.time() - frame.captured)
        time.sleep(0.1)
    assert max(ages[:-1]) < 2  # in order, the last would be 9 s old


def test_every_frame():
    source = source_of(Camera(FakeCapture(40, fps=1000)), every_frame=True, reconnect_seconds=0.1)
    seen = []
    for (frame,) in source.groups():
        seen.append(frame.frame_index)
        time.sleep(0.005)
    assert seen == list(range(1, 41)) and source.states[0].dropped == 0


def test_a_file_behind_an_address_is_read_whole_and_once():
    camera = Camera(FakeCapture(30, fps=1000, frame_count=30), FakeCapture(30))
    source = source_of(camera)
    seen = []
    for (frame,) in source.groups():
        seen.append(frame.frame_index)
        time.sleep(0.005)
    assert seen == list(range(1, 31)) and camera.tries == 1


@pytest.mark.parametrize(("count", "stride", "is_cut"), [(30, 1, 0), (100, 1, 1), (120, 4, 0)])
def test_a_file_behind_an_address_that_is_cut_off_is_said(count, stride, is_cut, caplog):
    camera = Camera(FakeCapture(30, fps=1000, frame_count=count))
    source = source_of(camera, stride=stride)
    assert len(list(source.groups())) == 30
    assert source.states[0].outages == is_cut
    assert ("rtsp://door/1: broken after frame 30 of 100" in caplog.text) == bool(is_cut)


def test_what_this_machine_lacks_is_an_error_of_the_run(monkeypatch):
    monkeypatch.setitem(sys.modules, "mss", None)
    for addresses in (("screen",), ("screen", "http://127.0.0.1:9/never")):
        source = LiveSource(addresses, StreamOptions())
        with pytest.raises(MissingPackageError, match="pip install mss"):
            list(source.groups())
    source = source_of(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(source.groups())


def test_a_lost_stream_is_opened_again(caplog):
    caplog.set_level("INFO")
    captures = [FakeCapture(3), None, None, FakeCapture(2)]
    source = source_of(Camera(*captures), every_frame=True, reconnect_seconds=0.3)
    seen = [frame.frame_index for (frame,) in source.groups()]
    (state,) = source.states
    assert seen == [1, 2, 3, 4, 5]
    assert (state.outages, state.gave_up) == (2, True)  # the last one for ever
    assert state.seconds_away > 0.1 and captures[0].closed and captures[3].closed
    assert "rtsp://door/1: no more frames; trying again in 0.02 s" in caplog.messages
    assert caplog.messages[-1].startswith("rtsp://door/1: given up after 0 s without a frame")
    assert "secret" not in caplog.text


def test_a_camera_that_is_not_up_yet_is_waited_for():
    source = source_of(Camera(None, None, None, FakeCapture(2, frame_count=2)))
    assert [frame.frame_index for (frame,) in source.groups()] == [1, 2]
    assert (source.states[0].outages, source.states[0].gave_up) == (0, False)
    assert source.states[0].seconds_away > 0.05


@pytest.mark.parametrize(
    ("limit", "wait"),
    [(None, " and until it is; Ctrl-C ends the run, --reconnect SECONDS limits the wait"),
     (30.0, ", for 30 s in all (--reconnect)")],
)  # fmt: skip
def test_how_long_a_camera_is_waited_for_is_said_once(limit, wait, caplog):
    caplog.set_level("WARNING")
    opener = Camera(None, None, FakeCapture(1, frame_count=1))
    list(source_of(opener, "0", reconnect_seconds=limit).groups())
    assert caplog.messages == [
        f"0: not there yet; trying again in 0.02 s{wait}",
        "0: not there yet; trying again in 0.05 s",
    ]


@pytest.mark.parametrize("address", ["/dev/video97", "0", "rtsp://door"])
def test_only_an_http_address_is_polled(address, monkeypatch):
    """A camera would never answer."""

    class Closed:
        def open(self, *address):
            asked.append(address[0])

        def isOpened(self):
            return False

    asked = []
    monkeypatch.setattr(captures.cv2, "VideoCapture", Closed)
    assert open_capture(address, StreamOptions(poll_seconds=5.0)) is None
    assert asked == {"0": [0], "rtsp://door": ["rtsp://door"]}.get(address, [])  # no such device


def test_late_images_are_not_caught_up_with(monkeypatch):
    """A camera that was slow for a while is not asked without a pause afterwards."""
    asked = []

    def fetch(address):
        asked.append(time.monotonic())
        time.sleep(0.1 if len(asked) <= 3 else 0)
        return b""

    monkeypatch.setattr(captures, "fetch", fetch)
    monkeypatch.setattr(captures, "decode_image", lambda name, content: SimpleNamespace(pixels=0))
    capture = open_capture("http://door/a.jpg", StreamOptions(poll_seconds=0.03))
    assert capture is not None
    images = iter(capture)
    for _ in range(7):
        next(images)
    assert min(np.diff(asked[3:])) > 0.025


def test_one_dead_stream_never_stops_the_others():
    class OneDead:
        def __call__(self, address, options):
            return None if "dead" in address else FakeCapture(20, fps=100, frame_count=20)

    source = source_of(OneDead(), "rtsp://dead", "rtsp://alive")
    seen = []
    for frames in source.groups():
        seen += [(frame.position, frame.num_positions) for frame in frames]
        if len(seen) == 20:
            source.stop()
    assert seen == [(2, 2)] * 20


def test_several_streams_come_together():
    class Two:
        def __call__(self, address, options):
            return FakeCapture(200, fps=100)

    source = source_of(Two(), "0", "1")
    groups = source.groups()
    next(groups)
    time.sleep(0.1)  # both have a new one
    assert [frame.path.name for frame in next(groups)] == ["camera0", "camera1"]
    groups.close()


def test_the_end_of_a_run_does_not_wait_for_a_stalled_stream(monkeypatch):
    monkeypatch.setattr(streams, "END_SECONDS", 0.2)
    hangs = threading.Event()

    class Hanging(FakeCapture):
        def __iter__(self):
            yield from super().__iter__()
            hangs.wait(20)

    source = source_of(Camera(Hanging(3)))
    start = time.monotonic()
    threading.Timer(0.3, source.stop).start()
    assert [frame.frame_index for (frame,) in source.groups()][-1] == 3
    assert time.monotonic() - start < 2
    hangs.set()


def test_stop_ends_a_run_that_waits():
    source = source_of(Camera())
    threading.Timer(0.2, source.stop).start()
    start = time.monotonic()
    assert list(source.groups()) == []
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    ("address", "shown", "name"),
    [
        ("rtsp://user:secret@host/1", "rtsp://host/1", "rtsp_host_1"),
        ("http://host/a@b", "http://host/a@b", "http_host_a_b"),  # no password: in the path
        ("http://host/cam?x=1", "http://host/cam?x=1", "http_host_cam_x_1"),
        ("0", "0", "camera0"),
    ],
)
def test_names(address, shown, name):
    assert (without_password(address), file_name(address)) == (shown, name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[(f"{scheme}://host/1", True) for scheme in ("rtsp", "RTSPS", "rtmp", "srt", "udp")],
        *[(text, True) for text in ("0", "12", "screen", "screen:2", "/dev/video0", "http://h/a")],
        *[(text, False) for text in ("a.jpg", "rtsp", "screens", "/dev/video", "folder/0", "")],
    ],
)
def test_addresses(text, expected):
    assert is_address(text) is expected


def test_the_options_reach_the_opener():
    seen = []

    def opener(address, options):
        seen.append((address, options))
        return FakeCapture(1, frame_count=1)

    list(source_of(opener, "0", stride=3).groups())
    assert seen == [("0", StreamOptions(stride=3))]
