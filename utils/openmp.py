"""How the threads of OpenMP wait, with which torch computes on CPUs."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

# A user who has set one of these has chosen.
VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def let_threads_sleep(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let threads that wait for others sleep, unless the environment says how they wait.

    Left to itself, a thread that is done turns in a loop until the others are, for milliseconds. On
    a machine that is busy, with processes that load images for example, it keeps those it waits for
    from a core. OpenMP's libraries read the environment when they are loaded: with torch.

    Args:
        environment: of this process; changed.
    """
    if not any(name in environment for name in VARIABLES):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
