"""Cache of resized training images: all of them in memory or on disk, or those needed last."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from utils.errors import ConfigError
from utils.letterbox import long_side_hw
from utils.logs import Progress
from utils.machine import USED_AT_MOST, free_memory
from utils.output_files import atomic_path, reported_writing
from utils.structures import ImageArray, ImageRecord

CacheKind = str  # "none", "ram" or "disk"
_GB = 1e9

Reader = Callable[[int], ImageArray]  # of the image with an index
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class ImageCache(Protocol):
    """The resized images of a data set, by index."""

    def __getitem__(self, index: int) -> ImageArray:
        """(H, W, 3) uint8 RGB."""


@dataclass(slots=True)
class _Entry:
    """For one image, read by the thread that has the lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    image: ImageArray | None = None


class RecentImages:
    """The images that were asked for last; threads that want the same one wait while one reads it.

    A copy in another process starts empty.

    Attributes:
        read: gives an image.
        capacity: how many are kept.
    """

    def __init__(self, read: Reader, capacity: int) -> None:
        self.read, self.capacity = read, capacity
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[RecentImages], tuple[Reader, int]]:
        """For `pickle`: how to make another one."""
        return RecentImages, (self.read, self.capacity)

    def __getitem__(self, index: int) -> ImageArray:
        """(H, W, 3) uint8 RGB.

        Raises:
            DatasetError: as `read`, which is tried again the next time.
        """
        with self._lock:
            entry = self._entries.setdefault(index, _Entry())
            self._entries.move_to_end(index)
            while len(self._entries) > self.capacity:
                self._entries.popitem(last=False)
        with entry.lock:
            if entry.image is None:
                entry.image = self.read(index)
            return entry.image


class DiskCache:
    """One `.npy` file per image in a folder of its own, never beside the images.

    A file is named after the image's path, size and modification time, so a changed image is
    read again.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)

    def __getitem__(self, index: int) -> ImageArray:
        """(H, W, 3) uint8 RGB."""
        return np.asarray(np.load(self._paths[index]), np.uint8)


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """Where resized images are cached.

    Attributes:
        kind: in memory or on disk.
        folder: of a disk cache.
        copies: how many processes of this machine hold a cache in memory.
    """

    kind: CacheKind
    folder: Path = Path("runs/cache")
    copies: int = 1


def fill_cache(
    settings: CacheSettings, records: Sequence[ImageRecord], image_size: int, read: Reader
) -> ImageCache:
    """Read and cache every image once.

    Args:
        settings: where to cache them.
        records: the images.
        image_size: their longer side after resizing, in pixels.
        read: gives a resized image.

    Raises:
        ConfigError: they do not fit into 80 % of the memory or disk that is free now.
    """
    folder = settings.folder
    if settings.kind == "ram":
        need = cache_bytes(records, image_size) * settings.copies
        _check_room("ram", need, free_memory(), "--cache disk")
        return _in_parallel(range(len(records)), read, "caching images")
    with reported_writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / _file_name(record, image_size) for record in records]
    missing = [index for index, path in enumerate(paths) if not path.exists()]
    need = cache_bytes([records[index] for index in missing], image_size)
    _check_room("disk", need, shutil.disk_usage(folder).free, "a smaller --imgsz")

    def write(index: int) -> None:
        with atomic_path(paths[index]) as temporary, temporary.open("wb") as file:
            np.save(file, read(index))

    _in_parallel(missing, write, f"caching images in {folder}")
    return DiskCache(paths)


def cache_bytes(records: Sequence[ImageRecord], image_size: int) -> int:
    """The size of all resized images in bytes."""
    sizes = (long_side_hw(record.image_hw, image_size) for record in records)
    return sum(3 * height * width for height, width in sizes)


def _check_room(kind: str, need: int, free: int | None, instead: str) -> None:
    if free is not None and need > USED_AT_MOST * free:
        raise ConfigError(
            f"--cache {kind}: the images take {need / _GB:.1f} GB, {free / _GB:.1f} GB are free "
            f"(at most {USED_AT_MOST:.0%} of it is used); use {instead}, or omit --cache"
        )


def _file_name(record: ImageRecord, image_size: int) -> str:
    state = record.path.stat()
    identity = f"{record.path.resolve()} {state.st_size} {state.st_mtime_ns} {image_size}"
    return hashlib.sha256(identity.encode("utf-8", "backslashreplace")).hexdigest()[:32] + ".npy"


def _in_parallel(
    items: Sequence[ItemT], work: Callable[[ItemT], ResultT], title: str
) -> list[ResultT]:
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(Progress(pool.map(work, items), len(items), title, "image"))
