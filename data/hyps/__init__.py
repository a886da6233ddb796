"""The hyper-parameter yamls that are shipped."""

from __future__ import annotations

from pathlib import Path

HYPS_FOLDER = Path(__file__).parent
