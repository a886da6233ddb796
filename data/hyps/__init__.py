"""The hyper-parameter yamls that are shipped, and what YOLOv5's have besides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.errors import ConfigError

HYPS_FOLDER = Path(__file__).parent


def used_keys(where: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a hyper-parameter yaml without `iou_t`, which YOLOv5 writes and does not use.

    Args:
        where: the file, for messages.
        content: of the yaml.

    Raises:
        ConfigError: it has `anchors`, as files have that YOLOv5's search wrote.
    """
    if "anchors" in content:
        raise ConfigError(
            f"{where}: anchors is {content['anchors']!r}, but here how many a level has is a key "
            f"of the model yaml; leave it out, and write `anchors: 3` into --cfg for new anchors"
        )
    return {key: value for key, value in content.items() if key != "iou_t"}
