"""All formats, and the kinds of file that export.py writes, by their names."""

from __future__ import annotations

from collections.abc import Mapping

from models.formats.format import Format, Preset
from models.formats.table import TABLE

FORMATS: tuple[Format, ...] = tuple(row.format for row in TABLE)
PRESETS: Mapping[str, Preset] = {preset.name: preset for each in FORMATS for preset in each.presets}
