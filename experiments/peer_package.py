"""The package yolov5 (ultralytics/yolov5 from PyPI) as a process of its own: what it needs."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

_FONT = "Arial.ttf"
# Pickled networks are what it loads; no usage data, and settings beside its other files.
_ENVIRONMENT = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", "YOLO_OFFLINE": "true",
                "YOLO_AUTOINSTALL": "false", "PIN_MEMORY": "False", "MPLBACKEND": "Agg",
                "WANDB_MODE": "disabled"}  # fmt: skip


def peer_environment(folder: Path) -> dict[str, str]:
    """Variables with which it neither downloads nor installs, nor writes outside `folder`.

    A font under the name of one that it would download is put there, where matplotlib has it.
    """
    found = find_spec("matplotlib")
    if found is not None and found.origin is not None and not (folder / _FONT).exists():
        source = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if source.exists():
            shutil.copyfile(source, folder / _FONT)
    return {**_ENVIRONMENT, "YOLO_CONFIG_DIR": str(folder), "YOLOV5_CONFIG_DIR": str(folder)}
