"""How sources are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data.video import Shard
    from utils.detect_config import DetectConfig


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How live sources are read.

    Attributes:
        stride: yield every so many-th frame.
        poll_seconds: fetch an image behind an address again after so long; None reads videos.
        every_frame: frames wait for the network instead of being dropped.
        reconnect_seconds: give a stream up when it has sent nothing for so long; None never does.
    """

    stride: int = 1
    poll_seconds: float | None = None
    every_frame: bool = False
    reconnect_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How sources are read.

    Attributes:
        recursive: folders with all folders below.
        shard: the part to read; None for everything.
        streams: of live ones; its stride is that of videos, too.
    """

    recursive: bool = False
    shard: Shard | None = None
    streams: StreamOptions = field(default_factory=StreamOptions)

    @classmethod
    def of(cls, config: DetectConfig) -> SourceOptions:
        """What the flags of detect.py ask for.

        Raises:
            ConfigError: `--shard` names no part.
        """
        streams = StreamOptions(
            config.vid_stride, config.poll, config.every_frame, config.reconnect
        )
        if config.shard is None:
            return cls(config.recursive, streams=streams)
        from data.video import Shard

        return cls(config.recursive, Shard.parse(config.shard), streams)
