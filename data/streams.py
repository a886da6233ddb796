"""Live sources: cameras, network streams, screens, snapshots; the newest frame of each counts.

Every stream is read by a thread of its own, as fast as it sends, so that a slow network is never
behind: it gets the newest frame, and the ones between are dropped and counted.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from data.addresses import file_name, without_password
from data.captures import Capture, open_capture
from data.stream_options import StreamOptions
from data.video import is_cut_off
from utils.errors import DatasetError
from utils.letterbox import InputSize
from utils.structures import FittedFrame, Frame, NamedFile, Skipped, StreamState

logger = logging.getLogger(__name__)

RECONNECT_DELAYS = (1.0, 2.0, 4.0, 8.0, 15.0)  # seconds before each new try; the last one repeats
MAX_DIGITS = 9  # of a camera's number: OpenCV takes 32 bits
WAITING_FRAMES = 16  # of a stream of which every frame is wanted; beyond, the sender waits
POLL_SECONDS = 0.2  # how often a wait looks whether the run has ended
_FOR_EVER = " and until it is; Ctrl-C ends the run, --reconnect SECONDS limits the wait"
END_SECONDS = 1.0  # how long the end of a run waits for threads inside a library


class LiveSource:
    """Several live streams.

    Attributes:
        states: one per stream, in their order.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        options: StreamOptions,
        opener: Callable[[str, StreamOptions], Capture | None] = open_capture,
    ) -> None:
        """Choose the streams; none is opened yet.

        Args:
            addresses: camera numbers and addresses.
            options: how they are read.
            opener: opens one; None where it is not up.

        Raises:
            DatasetError: no camera can have such a number.
        """
        for each in addresses:
            if each.isdecimal() and len(each) > MAX_DIGITS:
                raise DatasetError(f"--source {each}: no camera has such a number; the first is 0")
        self._run = _Run()
        self.states = [StreamState(without_password(address)) for address in addresses]
        labels = _labels(addresses)
        self._readers = [
            _StreamReader(partial(opener, address, options), label, options, state, self._run)
            for address, label, state in zip(addresses, labels, self.states, strict=True)
        ]

    @property
    def is_live(self) -> bool:
        """Frames come at the speed of the cameras."""
        return True

    def groups(self) -> Iterator[list[Frame]]:
        """What has arrived since the last group: at most one frame of each stream.

        Waits until there is one; ends when every stream has ended or was given up, or `stop` was
        called.

        Raises:
            UserError: a stream needs something that this machine lacks.
        """
        for reader in self._readers:
            reader.start()
        try:
            while frames := self._next_group():
                yield frames
        finally:
            self.stop()
            deadline = time.monotonic() + END_SECONDS
            for reader in self._readers:
                reader.join(max(deadline - time.monotonic(), 0))

    def stop(self) -> None:
        """End the streams; may be called from any thread."""
        self._run.ended.set()
        with self._run.news:
            self._run.news.notify_all()

    def _next_group(self) -> list[Frame]:
        with self._run.news:
            while not self._run.ended.is_set():
                for reader in self._readers:
                    if reader.error is not None:
                        raise reader.error
                frames = [frame for reader in self._readers if (frame := reader.take())]
                if frames or not any(reader.is_alive() for reader in self._readers):
                    self._run.news.notify_all()
                    return frames
                self._run.news.wait(POLL_SECONDS)
        return []


@dataclass(frozen=True, slots=True)
class _Label:
    """What the frames of a stream are called."""

    source: str
    path: Path
    position: int
    num_positions: int


def _labels(addresses: Sequence[str]) -> list[_Label]:
    return [
        _Label(without_password(address), Path(file_name(address)), position, len(addresses))
        for position, address in enumerate(addresses, 1)
    ]


@dataclass(frozen=True, slots=True)
class _Run:
    """What all streams of a run share: that something arrived, and that the run has ended."""

    news: threading.Condition = field(default_factory=threading.Condition)
    ended: threading.Event = field(default_factory=threading.Event)


class _StreamReader(threading.Thread):
    """Reads one stream, opening it again whenever it stops.

    Attributes:
        error: what ended the thread, where it was neither the stream nor the run; None before.
    """

    def __init__(
        self,
        opener: Callable[[], Capture | None],
        label: _Label,
        options: StreamOptions,
        state: StreamState,
        run: _Run,
    ) -> None:
        # A daemon: a library that hangs must not keep the program from ending.
        super().__init__(daemon=True, name=f"stream {label.position}")
        self._opener, self._label, self._options = opener, label, options
        self._state, self._shared = state, run
        self._frames: deque[Frame] = deque()
        self.error: Exception | None = None
        self._num_read = 0
        self._began: float | None = None  # when the first frame arrived
        self._last_seen, self._tries = time.monotonic(), 0

    def take(self) -> Frame | None:
        """The next frame that waits; the lock must be held."""
        if not self._frames:
            return None
        self._state.frames += 1
        return self._frames.popleft()

    def run(self) -> None:
        """Read until the stream ends or is given up, or the run ends."""
        try:
            self._read_and_reopen()
        except Exception as error:  # noqa: BLE001, raised again by the thread that takes frames
            self.error = error

    def _read_and_reopen(self) -> None:
        self._last_seen = time.monotonic()
        while not self._shared.ended.is_set():
            capture = self._opener()
            if capture is not None:
                with contextlib.closing(capture):
                    self._read(capture)
                if capture.is_file and self._num_read:
                    self._note_end(capture.frame_count)
                    return
            if self._shared.ended.is_set() or self._is_given_up():
                return
            self._wait_before_next_try()

    def _read(self, capture: Capture) -> None:
        for image in capture:
            self._num_read += 1
            self._note_return()
            now = time.time()
            self._began = self._began or now
            self._put(
                Frame(
                    image=image,
                    source=self._label.source,
                    path=self._label.path,
                    position=self._label.position,
                    num_positions=self._label.num_positions,
                    frame_index=self._num_read,
                    frame_count=capture.frame_count,
                    fps=capture.fps,
                    is_video=True,
                    seconds=now - self._began if capture.seconds is None else capture.seconds,
                    captured=now,
                ),
                waits=self._options.every_frame or capture.is_file,
            )
            if self._shared.ended.is_set():
                return

    def _put(self, frame: Frame, *, waits: bool) -> None:
        """Offer a frame: wait for a place, or replace the one that nobody took."""
        news = self._shared.news
        with news:
            while waits and len(self._frames) >= WAITING_FRAMES:
                if self._shared.ended.is_set():
                    return
                news.wait(POLL_SECONDS)
            if not waits and self._frames:
                self._state.dropped += len(self._frames)
                self._frames.clear()
            self._frames.append(frame)
            news.notify_all()

    def _note_return(self) -> None:
        """Count and log the end of an outage."""
        now = time.monotonic()
        if self._tries:
            away = now - self._last_seen
            self._state.seconds_away += away
            logger.info("%s: frames after %.0f s", self._state.source, away)
        self._last_seen, self._tries = now, 0

    def _note_end(self, frame_count: int | None) -> None:
        """Count and log that a file behind an address ended too early."""
        read = self._num_read * self._options.stride
        if frame_count is not None and is_cut_off(read, frame_count):
            self._state.outages += 1
            logger.warning("%s: broken after frame %d of %d; the rest is omitted",
                           self._state.source, read, frame_count)  # fmt: skip

    def _is_given_up(self) -> bool:
        limit = self._options.reconnect_seconds
        away = time.monotonic() - self._last_seen
        if limit is None or away < limit:
            return False
        self._state.gave_up = True
        self._state.seconds_away += away
        logger.error("%s: given up after %.0f s without a frame", self._state.source, away)
        return True

    def _wait_before_next_try(self) -> None:
        delay = RECONNECT_DELAYS[min(self._tries, len(RECONNECT_DELAYS) - 1)]
        if self._num_read and not self._tries:
            self._state.outages += 1
        self._tries += 1
        what = "no more frames" if self._num_read else "not there yet"
        if self._state.source.lower().startswith("srt:") and not self._num_read:
            what = f"{what}, or this OpenCV has no SRT, as the one from pip"
        limit = self._options.reconnect_seconds
        wait = ""
        if self._tries == 1 and not self._num_read:  # said once: the run may wait for ever
            wait = _FOR_EVER if limit is None else f", for {limit:g} s in all (--reconnect)"
        logger.warning("%s: %s; trying again in %g s%s", self._state.source, what, delay, wait)
        if limit is not None:
            delay = min(delay, max(self._last_seen + limit - time.monotonic(), 0))
        self._shared.ended.wait(delay)


@dataclass(slots=True)
class LiveFrames:
    """Frames of live streams: those that have arrived make a batch, however few they are."""

    live: LiveSource

    @property
    def is_live(self) -> bool:
        """They come at the speed of the cameras."""
        return True

    def batches(self, size: InputSize, batch_size: int) -> Iterator[list[FittedFrame] | Skipped]:
        """Batches of the newest frames; all have one size, where there are several streams."""
        several = len(self.streams) > 1
        one_size = replace(size, stride=None) if several else size
        number = 0
        for frames in self.live.groups():
            fitted = [
                FittedFrame(number + index, frame, one_size.letterbox(frame.image_hw))
                for index, frame in enumerate(frames)
            ]
            number += len(fitted)
            for start in range(0, len(fitted), batch_size):
                yield fitted[start : start + batch_size]

    @property
    def files(self) -> Sequence[NamedFile]:
        """None: streams are named as they come."""
        return ()

    @property
    def streams(self) -> Sequence[StreamState]:
        """One per stream, in their order."""
        return self.live.states

    def stop(self) -> None:
        """End the streams."""
        self.live.stop()
