"""When work must be done that several threads do."""

from __future__ import annotations

import time
from collections.abc import Callable


class Deadline:
    """A time at which work ends; earlier where that is asked, by a signal for example."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        """Set it.

        Args:
            seconds: from now on.
            now: the time in seconds.
        """
        self._now, self._end = now, now() + seconds

    def left(self) -> float:
        """Seconds; below 0 when it has passed."""
        return self._end - self._now()

    def has_passed(self) -> bool:
        """Whether work must end."""
        return self.left() <= 0

    def end_now(self) -> None:
        """No second is left; may be called by any thread and by a signal's handler."""
        self._end = -1e300
