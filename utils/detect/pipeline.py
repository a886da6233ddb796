"""From a source's frames to what is found in them, in stages side by side."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from utils.errors import CheckpointError
from utils.letterbox import InputSize, network_input
from utils.postprocess import PostprocessConfig, postprocess
from utils.structures import (
    Detections,
    FittedFrame,
    FloatArray,
    Frame,
    NamedFile,
    Skipped,
    StreamState,
)

if TYPE_CHECKING:
    from utils.detect.comparison import Comparison
    from utils.detect.zone_counts import FrameCounts

ItemT = TypeVar("ItemT")
STAGES = ("decode", "preprocess", "inference", "postprocess")  # of what is found
AHEAD_BATCHES = 2  # read while the network works
POLL_SECONDS = 0.2  # how often a waiting thread looks whether the other one has ended
WINDOW_BATCHES = 4  # a batch waits until so many batches' frames have come after its first
END_SECONDS = 1.0  # how long the end of a run waits for a thread inside a library


def ahead(items: Iterator[ItemT], depth: int) -> Iterator[ItemT]:
    """The items in their order, made by a thread that is at most `depth` of them ahead.

    An error of `items` is raised here, after what came before it.
    """
    maker = _Maker(items, depth)
    maker.start()
    try:
        while True:
            is_item, value = maker.made.get()
            if is_item:
                yield value
            elif value is None:
                return
            else:
                raise value
    finally:
        maker.given_up.set()
        maker.join(END_SECONDS)


class _Maker(threading.Thread):
    """Puts items into a queue; the last entry is no item: None, or the error that ended them."""

    def __init__(self, items: Iterator[Any], depth: int) -> None:
        # A daemon: a library that hangs must not keep the program from ending.
        super().__init__(daemon=True, name="ahead")
        self._items = items
        self.made: queue.Queue[tuple[bool, Any]] = queue.Queue(depth)
        self.given_up = threading.Event()

    def run(self) -> None:
        try:
            for item in self._items:
                self._put(True, item)
                if self.given_up.is_set():
                    break
            self._close()
            self._put(False, None)
        except BaseException as error:  # noqa: BLE001, raised again by the other thread
            self._put(False, error)

    def _put(self, is_item: bool, value: object) -> None:
        while not self.given_up.is_set():
            with contextlib.suppress(queue.Full):
                self.made.put((is_item, value), timeout=POLL_SECONDS)
                return

    def _close(self) -> None:
        """Let a generator end in the thread that ran it."""
        if isinstance(self._items, Generator):
            self._items.close()


@dataclass(frozen=True, slots=True)
class Found:
    """What the network found in a frame.

    Attributes:
        number: of the frame in the run, from 0.
        frame: the image and where it comes from.
        input_hw: height and width of the network input.
        detections: boxes in pixels of the frame.
        milliseconds: of inference, the frame's share.
        counts: at lines and in zones, after this frame; None where nothing is counted.
        comparison: with what a second network found; None without one.
    """

    number: int
    frame: Frame
    input_hw: tuple[int, int]
    detections: Detections
    milliseconds: float
    counts: FrameCounts | None = None
    comparison: Comparison | None = None


def in_order(results: Iterable[Found | Skipped]) -> Iterator[Found | Skipped]:
    """Results by the numbers 0, 1, 2, ... of their frames, however they come."""
    early: dict[int, Found] = {}
    due = 0
    for result in results:
        if isinstance(result, Skipped):
            yield result
            continue
        early[result.number] = result
        while due in early:
            yield early.pop(due)
            due += 1


class Source(Protocol):
    """Something that yields frames."""

    @property
    def is_live(self) -> bool:
        """Whether frames that are not read in time are lost."""

    def batches(self, size: InputSize, batch_size: int) -> Iterator[list[FittedFrame] | Skipped]:
        """Frames in batches of one input size, and files that cannot be read as they come."""

    @property
    def streams(self) -> Sequence[StreamState]:
        """What happened to each live stream so far."""

    @property
    def files(self) -> Sequence[NamedFile]:
        """All files in their order, also those of other parts; none of live sources."""

    def stop(self) -> None:
        """Let `batches` end soon; may be called from any thread."""


class Network(Protocol):
    """What of a runner is needed here."""

    @property
    def batch_size(self) -> int | None:
        """Images the file computes at a time; None where any number will do."""

    @property
    def stride(self) -> int:
        """Height and width of the input must be multiples of this."""

    def run(self, images: FloatArray) -> FloatArray:
        """(B, 3, H, W) RGB in 0-1 -> (B, N, 5 + C) decoded predictions, boxes in input pixels."""


@dataclass(frozen=True, slots=True)
class FrameDetector:
    """A network and how its results are read. Threads must not share one: give each its own.

    Attributes:
        network: what computes.
        class_names: name of each class id.
        size: what images are letterboxed to.
        rules: which boxes become detections.
    """

    network: Network
    class_names: tuple[str, ...]
    size: InputSize
    rules: PostprocessConfig

    def results(
        self, source: Source, batch_size: int, clock: StageClock
    ) -> Iterator[Found | Skipped]:
        """What is found in each frame, in their order, and files to skip.

        Three threads: reading, the network, and the caller's. A live source reads by itself, and
        nothing of it may wait.

        Args:
            source: of the frames.
            batch_size: images per run of the network, where its file leaves the choice.
            clock: counts the seconds of each stage.
        """
        batch_size = self.network.batch_size or max(batch_size, len(source.streams))
        batches = prepared(source.batches(self.size, batch_size), clock)
        if not source.is_live:
            batches = ahead(batches, AHEAD_BATCHES)
        return in_order(ahead(self.find(batches, clock), 1))

    def found_in(self, frames: Iterable[Frame], batch_size: int) -> Iterator[Found]:
        """What is found in frames at hand, in their order; each is read when it is its turn.

        Args:
            frames: as they are asked for.
            batch_size: images per run of the network, where its file leaves the choice.
        """
        clock = StageClock(STAGES)
        batches = grouped(frames, self.size, self.network.batch_size or batch_size)
        for result in in_order(self.find(prepared(batches, clock), clock)):
            if isinstance(result, Found):
                yield result

    def find(
        self, batches: Iterable[tuple[list[FittedFrame], FloatArray] | Skipped], clock: StageClock
    ) -> Iterator[Found | Skipped]:
        """Run and postprocess batch after batch, each with its network input, (B, 3, H, W).

        Raises:
            CheckpointError: the network has another number of classes than there are names.
        """
        for batch in batches:
            if isinstance(batch, Skipped):
                yield batch
                continue
            items, images = batch
            with clock.stage("inference"):
                decoded = self.network.run(images)
            milliseconds = 1000 * clock.last["inference"] / len(items)
            self._check_num_classes(decoded.shape[2] - 5)
            for item, rows in zip(items, decoded, strict=True):
                box = item.letterbox
                with clock.stage("postprocess"):
                    detections = postprocess(rows, self.rules).in_original(box)
                yield Found(item.number, item.frame, box.input_hw, detections, milliseconds)

    def _check_num_classes(self, num_classes: int) -> None:
        if num_classes != len(self.class_names):
            raise CheckpointError(
                f"the network has {num_classes} classes but there are names for "
                f"{len(self.class_names)}; give the --data that it was trained with"
            )


def prepared(
    batches: Iterable[list[FittedFrame] | Skipped], clock: StageClock
) -> Iterator[tuple[list[FittedFrame], FloatArray] | Skipped]:
    """Batches with the network inputs made of them, (B, 3, H, W), and files to skip."""
    for batch in clock.each("decode", batches):
        if isinstance(batch, Skipped):
            yield batch
            continue
        with clock.stage("preprocess"):
            images = network_input([item.letterbox.apply_image(item.frame.image) for item in batch])
        yield batch, images


class StageClock:
    """Adds up the seconds spent in each stage.

    Attributes:
        seconds: stage -> seconds so far.
        last: stage -> seconds of its latest run.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self.seconds = dict.fromkeys(stages, 0.0)
        self.last = dict(self.seconds)
        self._lock = threading.Lock()  # frames and tiles may be prepared in different threads

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the block towards a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            with self._lock:
                self.last[name] = spent
                self.seconds[name] += spent

    def each(self, name: str, items: Iterable[ItemT]) -> Iterator[ItemT]:
        """The items, the time it takes to get each of them counted towards a stage."""
        iterator = iter(items)
        while True:
            with self.stage(name):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def milliseconds_per(self, count: int) -> dict[str, float]:
        """Stage -> milliseconds divided by `count` (0 where nothing was counted)."""
        return {name: 1000 * seconds / max(count, 1) for name, seconds in self.seconds.items()}


def grouped(
    items: Iterable[Frame | Skipped], size: InputSize, batch_size: int
) -> Iterator[list[FittedFrame] | Skipped]:
    """Frames in batches of one input size, and skipped files as they come.

    Frames of one size wait for each other, a window of a few batches long: so batches need not
    be in the order of their frames' numbers.

    Args:
        items: frames as they are read.
        size: what each is letterboxed to.
        batch_size: of a full batch.
    """
    waiting: dict[tuple[int, int], list[FittedFrame]] = {}
    number = 0
    for item in items:
        if isinstance(item, Skipped):
            yield item
            continue
        letterbox = size.letterbox(item.image_hw)
        group = waiting.setdefault(letterbox.input_hw, [])
        group.append(FittedFrame(number, item, letterbox))
        if len(group) == batch_size:
            yield waiting.pop(letterbox.input_hw)
        number += 1
        # The first group of the mapping is the one whose first frame waits longest.
        for oldest, group in list(waiting.items())[:1]:
            if number - group[0].number >= WINDOW_BATCHES * batch_size:
                yield waiting.pop(oldest)
    yield from waiting.values()
