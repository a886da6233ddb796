"""How live sources are read."""

from __future__ import annotations

from dataclasses import dataclass


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
