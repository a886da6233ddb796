"""The JSON file beside networks whose own format has no room for metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.errors import CheckpointError

METADATA = "metadata.json"


def of_compiled(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a compiled network, which takes pixels and divides them itself."""
    given = {**metadata.get("input", {}), "layout": "NHWC", "dtype": "uint8", "range": [0, 255]}
    return {**metadata, "input": given}


def write_metadata(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Write key -> value."""
    text = json.dumps(dict(metadata), indent=1)
    (folder / METADATA).write_text(text + "\n", encoding="utf-8")


def read_metadata(file: Path) -> dict[str, str]:
    """Key -> JSON text.

    Raises:
        CheckpointError: it is not there, or not JSON.
    """
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{file}: no such file; export the checkpoint again") from None
    except ValueError as error:
        raise CheckpointError(f"{file}: cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: holds {type(content).__name__}, expected keys and values")
    return {key: json.dumps(value) for key, value in content.items()}
