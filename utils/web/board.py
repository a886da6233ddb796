"""What the page shows: the newest frame of each source, its rate, lag and counts.

The thread of the run publishes, and never waits for anybody: whoever looks on gets the newest
frame at the moment of asking, and lines that a slow reader leaves waiting are dropped. Images are
drawn and encoded only when somebody asks for them, in the thread that asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from utils.structures import Detections, Frame, ImageArray, StreamState

Draw = Callable[[Frame, Detections], ImageArray]
RATE_SECONDS = 5.0  # over which the rate is measured
RATE_FRAMES = 256
MAX_WAITING_LINES = 256  # of one reader of the events
MAX_READERS = 32
WATCHED_SECONDS = 3.0  # a page asks more often, unless an answer is under way
LONGEST_SIDE, JPEG_QUALITY = 1920, 85


class Doorbell:
    """Wakes the server's waiting tasks from any thread; rung often, it wakes them once."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event = asyncio.Event()
        self._is_rung = False

    def ring(self) -> None:
        """Wake them soon."""
        if self._loop is not None and not self._is_rung:
            self._is_rung = True
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._is_rung = False
        self._event, before = asyncio.Event(), self._event
        before.set()

    def answer(self) -> asyncio.Event:
        """Set by the next ring; ask for it before looking whether there is anything new."""
        self._loop = asyncio.get_running_loop()
        return self._event


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Whether an event comes in time."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Shown:
    """A frame and what was found in it; drawn by whoever asks first."""

    frame: Frame
    detections: Detections
    draw: Draw


@dataclass(slots=True)
class _Slot:
    """The newest frame of a source, and the counts so far."""

    newest: _Shown | None = None
    frames: int = 0
    detections: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)
    published: deque[float] = field(default_factory=lambda: deque(maxlen=RATE_FRAMES))
    lag: float | None = None
    drawing: threading.Lock = field(default_factory=threading.Lock)
    drawn: tuple[_Shown, bytes] | None = None

    def rate(self, now: float) -> float:
        """Frames per second of late."""
        recent = [when for when in self.published if now - when <= RATE_SECONDS]
        return len(recent) / max(now - recent[0], 1.0) if recent else 0.0


class EventReader:
    """The lines that one reader of the events has still to get."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque(maxlen=MAX_WAITING_LINES)
        self._dropped = 0

    def put(self, line: bytes) -> None:
        """Add a line, instead of the oldest one where too many wait."""
        self._dropped += len(self._lines) == MAX_WAITING_LINES
        self._lines.append(line)

    def take(self) -> tuple[list[bytes], int]:
        """The lines that wait, and how many were dropped before them."""
        lines, dropped = list(self._lines), self._dropped
        self._lines.clear()
        self._dropped = 0
        return lines, dropped


class LiveBoard:
    """The state of a run for those who look on; every method may be called from any thread.

    Attributes:
        doorbell: rung at every change.
        has_source: whether the run has a source, or only answers requests.
    """

    def __init__(self, streams: Sequence[StreamState] = (), *, has_source: bool = True) -> None:
        """Begin with nothing.

        Args:
            streams: live sources, which have a position each, from the start; files are read one
                after the other and share position 1.
            has_source: whether there will be frames.
        """
        self.doorbell, self.has_source = Doorbell(), has_source
        self._lock, self._version, self._ended = threading.Lock(), 0, False
        self._streams = streams
        self._slots = {position: _Slot() for position in range(1, len(streams) + 1)}
        self._readers: set[EventReader] = set()
        self._asked, self._told = -math.inf, threading.Event()

    @property
    def version(self) -> int:
        """Greater after every change."""
        return self._version

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self._ended

    def publish(
        self,
        frame: Frame,
        detections: Detections,
        names: Sequence[str],
        draw: Draw,
        line: Callable[[], bytes],
    ) -> None:
        """Show a frame.

        Args:
            frame: the image and where it comes from.
            detections: boxes in pixels of that image.
            names: the class name of each detection.
            draw: the image with boxes on it; called in another thread, if at all.
            line: of the frame, for readers of events; called only where there are some.
        """
        now = time.monotonic()
        with self._lock:
            slot = self._slots.setdefault(frame.position if self._streams else 1, _Slot())
            slot.newest = _Shown(frame, detections, draw)
            slot.counts = Counter(names)
            slot.totals.update(slot.counts)
            slot.frames, slot.detections = slot.frames + 1, slot.detections + len(detections)
            slot.lag = None if frame.captured is None else max(time.time() - frame.captured, 0.0)
            slot.published.append(now)
            self._version += 1
            if self._readers:
                text = line()
                for reader in self._readers:
                    reader.put(text)
        self.doorbell.ring()

    def end(self) -> None:
        """Nothing more will come."""
        with self._lock:
            self._ended = True
            self._version += 1
        self.doorbell.ring()

    def wait_told(self, seconds: float) -> None:
        """Wait, at most this long, until whoever looked of late has asked again after the end."""
        if time.monotonic() - self._asked < WATCHED_SECONDS:
            self._told.wait(seconds)

    def subscribe(self) -> EventReader | None:
        """A new reader of events; None where there are too many."""
        with self._lock:
            if len(self._readers) >= MAX_READERS:
                return None
            reader = EventReader()
            self._readers.add(reader)
            return reader

    def unsubscribe(self, reader: EventReader) -> None:
        """Keep no more lines for a reader."""
        with self._lock:
            self._readers.discard(reader)

    def take(self, reader: EventReader) -> tuple[list[bytes], int]:
        """See `EventReader.take`."""
        with self._lock:
            return reader.take()

    def jpeg(self, position: int) -> tuple[Frame, bytes] | None:
        """The newest frame with its boxes, at most 1920 pixels long; None before there is one."""
        slot = self._slots.get(position)
        if slot is None or slot.newest is None:
            return None
        with slot.drawing:  # those who ask at the same time get the same bytes
            newest = slot.newest
            if slot.drawn is None or slot.drawn[0] is not newest:
                slot.drawn = newest, _encoded(newest.draw(newest.frame, newest.detections))
            return newest.frame, slot.drawn[1]

    def as_values(self) -> dict[str, Any]:
        """What the page shows beside the images, ready for JSON."""
        now = time.monotonic()
        with self._lock:
            self._asked = now
            if self._ended:
                self._told.set()
            sources = [
                self._source_values(position, slot, now) for position, slot in self._slots.items()
            ]
            return {
                "version": self._version,
                "ended": self._ended,
                "has_source": self.has_source,
                "sources": sources,
            }

    def _source_values(self, position: int, slot: _Slot, now: float) -> dict[str, Any]:
        stream = self._streams[position - 1] if self._streams else None
        frame = slot.newest.frame if slot.newest else None
        values: dict[str, Any] = {
            "position": position,
            "source": stream.source if stream else frame.source if frame else "",
            "frames": slot.frames, "detections": slot.detections,
            "counts": dict(slot.counts), "totals": dict(slot.totals),
            "rate": round(slot.rate(now), 1),
            "lag": None if slot.lag is None else round(slot.lag, 3),
            "age": round(now - slot.published[-1], 1) if slot.published else None,
        }  # fmt: skip
        if frame is not None:
            files = None if frame.is_live else [frame.position, frame.num_positions]
            values |= {"frame": frame.frame_index, "frame_count": frame.frame_count,
                       "is_video": frame.is_video, "image_hw": frame.image_hw,
                       "file": files}  # fmt: skip
        if stream is not None:
            values |= {"dropped": stream.dropped, "outages": stream.outages,
                       "gave_up": stream.gave_up}  # fmt: skip
        return values


def _encoded(image: ImageArray) -> bytes:
    """An RGB image as JPEG, shrunk where it is larger than screens."""
    scale = LONGEST_SIDE / max(image.shape[:2])
    if scale < 1:
        height, width = (max(round(side * scale), 1) for side in image.shape[:2])
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))[1].tobytes()
