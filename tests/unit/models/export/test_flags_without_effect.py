"""A flag that would change nothing in any file is refused; one that changes a file is taken."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from models.export.request import ExportConfig
from tests.error_messages import assert_message
from utils.cli import check_command_line, check_options
from utils.errors import ConfigError

# Flag, value, what gives it an effect.
FLAGS: list[tuple[str, Any, dict[str, Any]]] = [
    ("conf_thres", 0.5, {"nms": True}),
    ("iou_thres", 0.6, {"nms": True}),
    ("topk_all", 50, {"preset": ("npu", "e2e")}),
    ("calibration_images", 5, {"preset": ("hailo",)}),
    ("calibration", ("entropy",), {"preset": ("onnx", "qdq-u16"), "data": "a.yaml"}),
    ("qat_epochs", 1, {"int8": True, "technique": ("train",), "data": "a.yaml"}),
    ("qat_batch_size", 2, {"int8": True, "technique": ("train",), "data": "a.yaml"}),
]


@pytest.mark.parametrize(("name", "value", "more"), FLAGS, ids=str)
def test_alone_it_is_refused(name: str, value: Any, more: dict[str, Any]) -> None:
    flag = "--" + name.replace("_", "-")
    with pytest.raises(ConfigError, match=f"^{flag}: is for .*; add --.*, or leave it out$"):
        check_options(ExportConfig(**{name: value}), ExportConfig)
    check_options(ExportConfig(**{name: value}, **more), ExportConfig)


def test_a_limit_may_be_given_for_any_file() -> None:
    check_options(ExportConfig(max_drop=1.0), ExportConfig)


# What is wrong, the message.
TOGETHER: list[tuple[dict[str, Any], str]] = [
    ({"int8": True}, "INT8 files are calibrated on your images: give --data"),
    ({"half": True, "preset": ("npu",)}, "--half: preset npu is not written in float16"),
    ({"opset": 5}, "--opset 5: preset onnx is written with"),
    ({"dynamic": (), "preset": ("ncnn",)}, "--dynamic: files of preset ncnn have fixed sizes"),
    ({"batch_size": 2, "preset": ("ncnn",)}, "--batch-size 2: ncnn files take one image"),
    ({"output": "a.pt"}, "--output a.pt: an ONNX file ends in .onnx"),
    ({"preset": ("onnx", "npu"), "output": "a.onnx"}, "--output a.onnx: give a folder"),
    ({"summary": "a.onnx", "output": "b.onnx"}, "--output: changes nothing with --summary"),
    ({"summary": "a.onnx", "preset": ("npu",)}, "--preset: changes nothing with --summary"),
]


@pytest.mark.parametrize(("flags", "message"), TOGETHER, ids=str)
def test_flags_that_do_not_go_together(flags: dict[str, Any], message: str) -> None:
    """They are refused before torch is imported."""
    with pytest.raises(ConfigError) as error:
        check_options(ExportConfig(**flags), ExportConfig)
    assert_message(str(error.value), message)


def test_a_summary_needs_no_other_file(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.onnx").touch()
    flags = ["--summary", "a.onnx", "--imgsz", "320"]
    monkeypatch.setattr(sys, "argv", ["export.py", *flags])
    found = check_command_line(ExportConfig, {})
    assert found == ExportConfig(summary="a.onnx", imgsz=(320,))
    monkeypatch.setattr(sys, "argv", ["export.py", *flags, "--weights", "gone.pt"])
    with pytest.raises(SystemExit):
        check_command_line(ExportConfig, {})
