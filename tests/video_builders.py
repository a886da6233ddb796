"""Small video files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def save_video(
    path: Path, num_frames: int, image_hw: tuple[int, int] = (64, 64), fps: float = 10.0
) -> Path:
    """An mp4 whose n-th frame (from 1) is plain gray of value 10 n."""
    height, width = image_hw
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
    for number in range(1, num_frames + 1):
        writer.write(np.full((height, width, 3), 10 * number, np.uint8))
    writer.release()
    return path


def read_video(path: Path) -> tuple[list[np.ndarray], float]:
    """All frames (BGR) and the frames per second."""
    capture = cv2.VideoCapture(str(path))
    fps = capture.get(cv2.CAP_PROP_FPS)
    frames = []
    while True:
        readable, frame = capture.read()
        if not readable:
            break
        frames.append(frame)
    capture.release()
    return frames, fps
