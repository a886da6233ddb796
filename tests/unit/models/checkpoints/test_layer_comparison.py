"""A YOLOv5 checkpoint whose modules do what no row of a yaml can say is refused by name."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from models.checkpoints.loading import read_weights
from tests.checkpoint_builders import refusal, save_yolov5
from tests.error_messages import assert_message
from tests.model_builders import tiny_spec, trained_model


@functools.cache
def plain_model():
    """What is written of it is a copy."""
    return trained_model(tiny_spec(rep_block=None, activation="SiLU"))


def attribute(path, **values):
    def edit(root, _classes):
        for name, value in values.items():
            setattr(root.get_submodule(path), name, value)

    return edit


def replaced(path, make):
    def edit(root, classes):
        parent, _, name = path.rpartition(".")
        setattr(root.get_submodule(parent), name, make(classes))

    return edit


REFUSED = [
    (attribute("model.0.conv", padding_mode="reflect"), "layer 0 (model.0.conv): padding_mode"),
    (attribute("model.1.conv", kernel_size=(3, 1)), "backbone row 1 (layer 1, Conv): kernel_"),
    (attribute("model.1.conv", padding=(1, 0)), "backbone row 1 (layer 1, Conv): padding is"),
    (attribute("model.1.conv", padding="same"), "backbone row 1 (layer 1, Conv): padding is"),
    (attribute("model.1.conv", transposed=True), "layer 1 (model.1.conv): transposed is True"),
    (attribute("model.3.cv1.conv", stride=(2, 2)), "layer 3 (model.3.cv1.conv): stride is (2"),
    (attribute("model.3.cv2.conv", dilation=(2, 2)), "layer 3 (model.3.cv2.conv): dilation is"),
    (attribute("model.3.m.0", add=1), "backbone row 3 (layer 3, C3): add is 1"),
    (attribute("model.0.bn", eps=1e-5), "layer 1 (model.1.bn): norm_eps is 0.001, but 1e-05"),
    (attribute("model.9.m.0.cv1.bn", momentum=0.1), "layer 9 (model.9.m.0.cv1.bn): norm_mom"),
    (attribute("model.0.bn", momentum=None), "layer 0 (model.0.bn): norm_momentum is None"),
    (attribute("model.0.bn", track_running_stats=False), "layer 0 (model.0.bn): track_running"),
    (attribute("model.6.m", kernel_size=(5, 3)), "backbone row 6 (layer 6, SPPF): kernel_size"),
    (attribute("model.6.m", kernel_size=4), "backbone row 6 (layer 6, SPPF): k is 4"),
    (attribute("model.6.m", stride=2), "layer 6 (model.6.m): stride is 2"),
    (attribute("model.6.m", padding=1), "layer 6 (model.6.m): padding is 1"),
    (attribute("model.6.m", dilation=2), "layer 6 (model.6.m): dilation is 2"),
    (attribute("model.6.m", ceil_mode=True), "layer 6 (model.6.m): ceil_mode is True"),
    (attribute("model.7", scale_factor=1.5), "head row 0 (layer 7, nn.Upsample): s"),
    (attribute("model.7", scale_factor=(2.0, 3.0)), "head row 0 (layer 7, nn.Upsample): s"),
    (attribute("model.7", scale_factor=4.0), "head row 1 (layer 8, Concat): joins maps"),
    (attribute("model.7", mode="area"), "head row 0 (layer 7, nn.Upsample): mode is 'area'"),
    (attribute("model.7", mode="bilinear", align_corners=True), "layer 7 (model.7): align_"),
    (attribute("model.7", size=(40, 40)), "layer 7 (model.7): size is (40, 40)"),
    (attribute("model.8", d=2), "layer 8 (model.8): d is 2"),
    (attribute("model.10", nc=4), "layer 10 (model.10): nc is 4"),
    (attribute("model.10", na=3), "layer 10 (model.10): na is 3"),
    (attribute("model.10", stride=torch.tensor([8.0, 16.0, 64.0])), "its head: "),
    (attribute("", stride=torch.tensor([4.0, 8.0, 16.0])), "its network: stride is [4.0, 8.0"),
    (attribute("model.5", f=[1, 2]), "backbone row 5 (layer 5, Conv): reads 2 layers"),
    (attribute("model.5", f=9), "backbone row 5 (layer 5, Conv): from 9 is no layer"),
    (attribute("model.5", f="x"), "backbone row 5 (layer 5, Conv): f is 'x'"),
    (replaced("model.3.m", lambda _: nn.ModuleList([nn.Identity()])), "layer 3 (model.3.m): "),
    (replaced("model.3.m.0", lambda _: nn.Identity()), "layer 3 (model.3.m.0): class is"),
    (replaced("model.1.drop", lambda _: nn.Dropout()), "layer 1 (model.1): submodules is"),
    (replaced("model.1.bn", lambda _: nn.GroupNorm(1, 8)), "layer 1 (model.1.bn): class is"),
    (replaced("model.6.m", lambda _: nn.AvgPool2d(5, 1, 2)), "layer 6 (model.6.m): class is"),
    (replaced("model.4", lambda c: c["models.common", "Other"]()), "backbone row 4 (layer 4"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "expected"), REFUSED, ids=[case[1][:60] for case in REFUSED])
def test_attributes_that_no_row_can_say(tmp_path, edit, expected):
    text = refusal(save_yolov5(tmp_path / "y.pt", plain_model(), edit=edit))
    assert text.startswith(expected)


def test_hooks(tmp_path):
    def edit(root, classes):
        root.model[3].cv1.register_forward_hook(classes["models.common", "Other"])

    text = refusal(save_yolov5(tmp_path / "y.pt", plain_model(), edit=edit))
    assert text.startswith("layer 3 (model.3.cv1): has _forward_hooks")


def test_anchors_of_the_head_count(tmp_path):
    model = plain_model()
    changed = [[10, 10, 20, 20], [40, 40, 60, 60], [100, 100, 200, 200]]
    model = model.with_anchors(tuple(tuple(map(float, level)) for level in changed))
    yaml = {**model.spec.to_yaml(), "anchors": 2}
    checkpoint = read_weights(save_yolov5(tmp_path / "y.pt", model, yaml=yaml))
    assert checkpoint.spec["anchors"] == changed


def test_anchors_of_v5_are_also_in_pixels(tmp_path):
    """YOLOv5 v5 keeps them twice: in cells, and in pixels as a buffer of six dimensions."""

    def edit_with(factor):
        def edit(root, _classes):
            head = root.model[-1]
            del head.anchor_grid
            pixels = head.anchors * head.stride.view(-1, 1, 1)
            head.register_buffer("anchor_grid", factor * pixels.view(3, 1, -1, 1, 1, 2))

        return edit

    model = plain_model()
    path = save_yolov5(tmp_path / "y.pt", model, edit=edit_with(1))
    assert read_weights(path).spec["anchors"] == [list(level) for level in model.spec.anchors]
    text = refusal(save_yolov5(tmp_path / "y.pt", model, edit=edit_with(0.125)))
    assert_message(
        text, "its head: anchor_grid", "[1.25, 1.625, ... anchors times stride ... [10.0, 13.0"
    )


def test_anchors_in_pixels_where_cells_are_expected(tmp_path):
    def edit(root, _classes):
        head = root.model[-1]
        head.anchors *= head.stride.view(-1, 1, 1)

    text = refusal(save_yolov5(tmp_path / "y.pt", plain_model(), edit=edit))
    assert text.startswith("its head: anchor_grid is [10.0, 13.0, 16.0, 30.0] pixels, but ")


def test_an_empty_anchor_grid(tmp_path):
    """Before its first image a head has tensors of one element."""
    model = plain_model()
    edit = attribute("model.10", anchor_grid=[torch.zeros(1)] * 3)
    spec = read_weights(save_yolov5(tmp_path / "y.pt", model, edit=edit)).spec
    assert spec["anchors"] == [list(level) for level in model.spec.anchors]
