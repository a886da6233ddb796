"""Videos and streams with boxes drawn on them, in files of a limited length."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from utils.structures import Frame, ImageArray
from utils.video_output import VideoFile

ASSUMED_FPS = 30.0


class AnnotatedVideos:
    """One mp4 for each video or stream, or several in turn.

    A file's video is finished when the next one begins; those of streams grow side by side.
    """

    def __init__(self, folder: Path, segment_seconds: float | None = None) -> None:
        """Choose the folder.

        Args:
            folder: where they go.
            segment_seconds: begin a new file when one is this long.
        """
        self._folder, self._segment_seconds = folder, segment_seconds
        self._open: dict[int, _Segment] = {}

    def write(self, frame: Frame, name: str, drawn: ImageArray) -> None:
        """Append to the video of a frame.

        Args:
            frame: where the image comes from.
            name: of the file, without suffix.
            drawn: the image to write, boxes already on it.
        """
        segment = self._segment(frame, name, (drawn.shape[0], drawn.shape[1]))
        seconds = None if frame.seconds is None else max(frame.seconds - segment.start, 0.0)
        segment.file.write(drawn, seconds)

    def close(self) -> None:
        """Finish all that are open."""
        while self._open:
            self._open.popitem()[1].file.close()

    def _segment(self, frame: Frame, name: str, image_hw: tuple[int, int]) -> _Segment:
        """The file that this frame belongs to, opened where it is the first one in it."""
        start, number = frame.seconds or 0.0, 1
        current = self._open.get(frame.position)
        if current is not None:
            if self._segment_seconds is None or start - current.start < self._segment_seconds:
                return current
            current.file.close()
            number = current.number + 1
        elif not frame.is_live:
            self.close()
        part = f"_part{number}" if self._segment_seconds is not None else ""
        # The sound of a cut file would start anew in each part.
        is_cut = bool(part) or frame.frame_index > 1
        sound = None if frame.is_live or is_cut else frame.path
        path = self._folder / f"{name}{part}.mp4"
        file = VideoFile(path, frame.fps or ASSUMED_FPS, image_hw, sound)
        self._open[frame.position] = _Segment(
            file, start if is_cut or frame.is_live else 0.0, number
        )
        return self._open[frame.position]


@dataclass(frozen=True, slots=True)
class _Segment:
    """A video, where in its source it starts, and which part of it it is."""

    file: VideoFile
    start: float
    number: int
