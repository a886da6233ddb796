"""Flags of detect.py that change nothing on the sources they are given with."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from data.addresses import HTTP, SCREEN
from utils.logs import flag_of
from utils.path_kind import path_kind

if TYPE_CHECKING:
    from utils.detect.pipeline import Source
    from utils.detect_config import DetectConfig

logger = logging.getLogger(__name__)


def log_idle_source_flags(config: DetectConfig, source: Source) -> None:
    """Name each flag that no source needs, and what it is for."""

    def has_frames() -> bool:
        return source.is_live or any(file.is_video for file in source.files)

    def has_still_images() -> bool:
        addresses = [stream.source for stream in source.streams]
        return any(HTTP.match(each) or SCREEN.fullmatch(each) for each in addresses)

    def has_folder() -> bool:
        return any(path_kind(Path(text)) == "folder" for text in config.sources)

    rules: dict[str, tuple[str, Callable[[], bool]]] = {
        "poll": ("an http(s) address or a screen", has_still_images),
        "every_frame": ("a live source", lambda: source.is_live),
        "reconnect": ("a live source", lambda: source.is_live),
        "vid_stride": ("a video or a live source", has_frames),
        "segment": ("a video or a live source", has_frames),
        "recursive": ("a folder", has_folder),
    }
    defaults = {field.name: field.default for field in fields(config)}
    for name, (needed, is_there) in rules.items():
        if getattr(config, name) != defaults[name] and not is_there():
            logger.warning("%s: changes nothing without %s in --source", flag_of(name), needed)
