"""The data yamls that are shipped."""

from __future__ import annotations

from pathlib import Path

DATASETS_FOLDER = Path(__file__).parent
