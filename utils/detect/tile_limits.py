"""Which values the flags of tiles take."""

from __future__ import annotations

MERGES = ("nms", "nmm")
MAX_OVERLAP = 0.9
MIN_TILE = 32  # pixels; smaller ones are too many
