"""How far a detection run has come, and going on from there."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from utils.detect_config import DetectConfig
from utils.errors import ConfigError
from utils.growing_file import GrowingFile
from utils.run_folder import run_folder
from utils.structures import Frame, NamedFile

logger = logging.getLogger(__name__)
PROGRESS_FILE = "progress.jsonl"
# What may differ in a run that goes on: its outputs do not depend on it.
CHANGEABLE = frozenset(
    ("source", "recursive", "resume", "device", "batch_size", "view_img", "project", "name",
     "exist_ok", "strict", "report", "poll", "every_frame", "reconnect", "web")
)  # fmt: skip


class Progress(AbstractContextManager["Progress"]):
    """`progress.jsonl`: which outputs come from which frame, and how far the run has come.

    The first line has the run's name and options; each further one a frame and the sizes that the
    tables have after it, so that a cut run can go on behind its last whole frame. The last line of
    a finished run says so, and how many files there were. Of a live source each stream has one.

    Attributes:
        done: position and frame of the last one written, (0, 0) at the start; no frame where a
            file has no further ones.
        sizes: of the tables after it, in bytes.
        finished: nothing is left to do.
    """

    def __init__(
        self, folder: Path, options: Mapping[str, Any], name: str = "", num_files: int = 0
    ) -> None:
        """Begin anew.

        Args:
            folder: of the run.
            options: that a run which goes on must have, too.
            name: that was asked for; the folder may have a number after it.
            num_files: of the source.
        """
        self.done: tuple[int, int | None] = (0, 0)
        self.sizes, self.finished = dict[str, int](), False
        self._path = folder / PROGRESS_FILE
        self._options, self._name = json.loads(json.dumps(options)), name
        self._num_files = num_files
        self._kept, self._is_empty = 0, True  # bytes of an older file; no frame is noted
        self._streams: set[int] = set()
        self._file: GrowingFile | None = None

    @classmethod
    def of(
        cls, config: DetectConfig, folder: Path, files: Sequence[NamedFile], **more: str
    ) -> Progress:
        """Of a new run, or with `--resume` of the one that goes on.

        Args:
            config: the flags.
            folder: of the run.
            files: of the source; none of live ones.
            **more: what else the outputs depend on.

        Raises:
            ConfigError: the run had other options or files.
        """
        options = {name: value for name, value in asdict(config).items() if name not in CHANGEABLE}
        progress = cls(folder, {**options, **more}, config.name, len(files))
        if config.resume:
            # An object is not known again in the middle of a video.
            progress.resume(files, whole_videos=config.track or not config.nosave)
            position, frame = progress.done
            logger.info("%s: %s", folder, "nothing is left to do" if progress.finished
                        else f"goes on after file {position} of {len(files)}"
                        + ("" if frame is None else f", frame {frame}")
                        if position else "nothing was written yet")  # fmt: skip
        return progress

    def resume(self, files: Sequence[NamedFile], *, whole_videos: bool) -> None:
        """Go on where the run of this folder was cut.

        Args:
            files: of the source.
            whole_videos: a video that was being written begins anew.

        Raises:
            ConfigError: the run had other options or files, or the first line is damaged.
        """
        lines = self._path.read_bytes().splitlines(keepends=True) if self._path.exists() else []
        if not lines or not lines[0].endswith(b"\n"):
            return
        before = _content(lines[0]).get("options")
        if not isinstance(before, dict):
            raise ConfigError(
                f"--resume: {self._path}:1 is damaged; without that file the run begins anew"
            )
        self._check_options(before)
        ends, entries = [len(lines[0])], list[dict[str, Any]]()
        for line in lines[1:]:
            # A power cut may have kept this line, or a part, and not what the tables had.
            entry = _content(line)
            if not entry.keys() >= {"position", "sizes"} or not self._has_tables(entry["sizes"]):
                break
            self._check_file(entry, files)
            entries.append(entry)
            ends.append(ends[-1] + len(line))
        end = entries.pop() if entries and entries[-1]["position"] is None else None
        if end is None and whole_videos and entries and entries[-1]["video"]:
            position = entries[-1]["position"]
            while entries and entries[-1]["position"] == position:
                entries.pop()
        self._kept = ends[len(entries)]
        if entries:
            self.done = entries[-1]["position"], entries[-1]["frame"]
            self.sizes = entries[-1]["sizes"]
        if end is not None:
            num_read = end.get("files", len(files))  # files added at the end are left to do
            self.done, self.finished = (num_read, None), len(files) <= num_read

    def __enter__(self) -> Progress:
        """Open the file."""
        self._file = GrowingFile(self._path, self._kept)
        self._is_empty = not self._kept
        if not self._kept:
            self._write({"name": self._name, "options": self._options})
        return self

    def add(self, frame: Frame, name: str, sizes: Mapping[str, int]) -> None:
        """Note a frame whose outputs are written; of a live stream only the first one.

        Args:
            frame: the image and where it comes from.
            name: of its outputs.
            sizes: of the tables, by their paths from the run's folder.
        """
        self._is_empty = False
        if frame.is_live and frame.position in self._streams:
            return
        if frame.is_live:
            self._streams.add(frame.position)
        self._write({
            "output": name, "source": frame.source, "position": frame.position,
            "frame": frame.frame_index, "video": frame.is_video, "sizes": sizes,
        })  # fmt: skip

    def finish(self) -> None:
        """Note that nothing is left to do."""
        self._write({"position": None, "files": self._num_files, "sizes": {}})

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file; one that notes no frame goes after an error."""
        if self._file is not None:
            self._file.__exit__(kind, error, traceback)
        if kind is not None and self._is_empty:
            self._path.unlink(missing_ok=True)

    def _write(self, entry: Mapping[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(entry).encode() + b"\n")

    def _has_tables(self, sizes: Mapping[str, int]) -> bool:
        paths = [(self._path.parent / name, size) for name, size in sizes.items()]
        return all(path.is_file() and path.stat().st_size >= size for path, size in paths)

    def _check_options(self, before: Mapping[str, Any]) -> None:
        for name, value in self._options.items():
            if before.get(name) != value:
                flag = f"--{name.replace('_', '-')}"
                raise ConfigError(
                    f"--resume: {self._path.parent} was begun with {flag} {before.get(name)}, "
                    f"not {value}; give the same options, or begin anew without --resume"
                )

    def _check_file(self, entry: Mapping[str, Any], files: Sequence[NamedFile]) -> None:
        position = entry["position"]
        if position is None:
            return
        found = files[position - 1].source if position <= len(files) else "nothing"
        if found != entry["source"]:
            raise ConfigError(
                f"--resume: file {position} of the source was {entry['source']} and is now "
                f"{found}; begin anew without --resume"
            )


def cut_run(config: DetectConfig, name: str) -> Path | None:
    """The newest of the run folders `name`, `name2`, ... that notes its progress.

    A number may belong to the name: `exp-1of32` is the first of 32 parts, or the second run of the
    first of three; what the run was called says which. A renamed folder is found by its name.
    """
    numbered = re.compile(re.escape(name) + r"\d*")
    paths = [path for path in Path(config.project).glob(f"*/{PROGRESS_FILE}")
             if numbered.fullmatch(path.parent.name)]  # fmt: skip
    found = [path for path in paths if _is_called_so(path, config)]
    found = found or [path for path in paths if path.parent.name == name]
    return max(found, key=lambda path: path.stat().st_mtime_ns).parent if found else None


def _is_called_so(path: Path, config: DetectConfig) -> bool:
    """Whether the run that notes its progress in `path` has this name and part."""
    with path.open("rb") as file:
        head = _content(file.readline())
    options = head.get("options")
    shard = options.get("shard") if isinstance(options, dict) else None
    return (head.get("name"), shard) == (config.name, config.shard)


def _content(line: bytes) -> dict[str, Any]:
    """What a line says; nothing where it is cut or damaged."""
    try:
        content = json.loads(line) if line.endswith(b"\n") else {}
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def folder_of(config: DetectConfig, part: object, *, is_live: bool) -> AbstractContextManager[Path]:
    """A new folder, or that of the run to go on with.

    Args:
        config: the flags.
        part: of the source that the run reads, `3of16`; None for all of it.
        is_live: of the source.

    Raises:
        ConfigError: a live source cannot be gone on with.
    """
    name = config.name if part is None else f"{config.name}-{part}"
    if config.resume and is_live:
        raise ConfigError("--resume: a live source has no frames left that a cut run missed")
    before = cut_run(config, name) if config.resume and not config.exist_ok else None
    if before is not None:
        return run_folder(before.parent, before.name, exist_ok=True)
    return run_folder(config.project, name, exist_ok=config.exist_ok)
