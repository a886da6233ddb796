"""A flag that would change nothing in any file is refused; one that changes a file is taken."""

from __future__ import annotations

from typing import Any

import pytest

from models.export.request import ExportConfig
from utils.errors import ConfigError

# Flag, value, what gives it an effect.
FLAGS: list[tuple[str, Any, dict[str, Any]]] = [
    ("conf_thres", 0.5, {"nms": True}),
    ("iou_thres", 0.6, {"nms": True}),
    ("topk_all", 50, {"preset": ("npu", "e2e")}),
    ("calibration_images", 5, {"preset": ("hailo",)}),
    ("calibration", ("entropy",), {"preset": ("onnx", "qdq-u16")}),
    ("qat_epochs", 1, {"int8": True, "technique": ("train",)}),
    ("qat_batch_size", 2, {"int8": True, "technique": ("train",)}),
]


@pytest.mark.parametrize(("name", "value", "more"), FLAGS, ids=str)
def test_alone_it_is_refused(name: str, value: Any, more: dict[str, Any]) -> None:
    flag = "--" + name.replace("_", "-")
    with pytest.raises(ConfigError, match=f"^{flag}: is for .*; add --.*, or leave it out$"):
        ExportConfig(**{name: value}).check()
    ExportConfig(**{name: value}, **more).check()


def test_a_limit_may_be_given_for_any_file() -> None:
    ExportConfig(max_drop=1.0).check()
