"""Every shipped yaml: a step lowers the loss, both forms are equal, and so is its ONNX file.

At few channels and repeats: most rows have one module, the longest two. The sizes, as they are in
docs/models.md, are those of the yamls.
"""

from __future__ import annotations

import functools
from collections.abc import Container

import onnxruntime
import pytest
import torch

from experiments.model_table import (
    DOCUMENT,
    PUBLISHED,
    Sizes,
    documented,
    narrow,
    random_detector,
    shipped,
)
from models.conversion.deploy import relative_error, to_deploy
from models.export.export_networks import DecodedNetwork, output_names
from models.export.onnx_file import OnnxOptions, write_onnx
from models.losses.loss import DetectionLoss, LossConfig
from models.network.box_coder import BoxCoder
from models.network.detector import build_model
from models.network.model_spec import ModelSpec
from models.reparam.families import FAMILIES
from models.runtimes.network_metadata import INPUT
from tests.model_builders import meta_model
from tests.network_equivalence import equivalence_error
from utils.batches import Batch

SHIPPED = shipped()


@functools.cache
def narrow_spec(name: str) -> ModelSpec:
    return narrow(ModelSpec.from_file(f"{name}.yaml")).replaced(depth_multiple=0.2)


@functools.cache
def architecture(name: str, form: str) -> str:
    """Equal where only channels (a row's first argument), repeats or anchors differ.

    In deploy form, blocks are convolutions, of whatever family they were.
    """
    spec = narrow_spec(name)
    rows = [(source, module, args[1:]) for source, _, module, args in (*spec.backbone, *spec.head)]
    blocks = spec.rep_block, spec.rep_policy
    if form == "deploy":
        rows = [(source, "Conv" if module in FAMILIES else module, args)
                for source, module, args in rows]  # fmt: skip
        blocks = None, "all"
    return str((rows, blocks, spec.activation, len(spec.anchors)))


def cases(form: str, quick: Container[str] = ()) -> list:
    """One yaml of each architecture is quick, and so are those named; the others are slow."""
    seen, found = set(), []
    for name in SHIPPED:
        key = architecture(name, form)
        is_slow = key in seen and name not in quick
        found.append(pytest.param(name, marks=[pytest.mark.slow] if is_slow else []))
        seen.add(key)
    return found


each_yaml = pytest.mark.parametrize("name", cases("train"))


def batch(size: int) -> Batch:
    torch.manual_seed(1)
    boxes = torch.tensor([[0.1, 0.1, 0.4, 0.5], [0.3, 0.2, 0.9, 0.9], [0.5, 0.5, 0.6, 0.65]]) * size
    images = torch.rand(2, 3, size, size)
    indices, class_ids = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2])
    return Batch(images, indices, class_ids, boxes, (0, 1), (None, None), ())


@each_yaml
def test_one_step_lowers_the_loss(name):
    torch.manual_seed(0)
    model = build_model(narrow_spec(name)).train()
    size = max(64, 2 * model.stride)
    examples = batch(size)
    criterion = DetectionLoss(BoxCoder.of(model), 3, size, LossConfig())
    torch.manual_seed(2)  # of dropout
    before = criterion(model(examples.images), examples).total
    before.backward()
    with torch.no_grad():
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 1e-5 * parameter.grad / norm
    torch.manual_seed(2)
    after = criterion(model(examples.images), examples).total
    assert after.item() < before.item()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@each_yaml
def test_both_forms_compute_the_same(name):
    model = random_detector(narrow_spec(name)).double()
    x = torch.rand(1, 3, model.stride, 2 * model.stride, dtype=torch.float64)
    deployed = to_deploy(model)
    assert equivalence_error(model, deployed, [x]) < 1e-10
    built = build_model(model.spec, form="deploy").double().eval()
    built.load_state_dict(deployed.state_dict())
    assert equivalence_error(deployed, built, [x]) == 0


@pytest.mark.parametrize("name", cases("deploy"))
def test_the_onnx_file_computes_the_same(name, tmp_path):
    detector = to_deploy(random_detector(narrow_spec(name)))
    network, size = DecodedNetwork(detector).eval(), 2 * detector.stride
    write_onnx(tmp_path / "a.onnx", network, OnnxOptions((size, size)), {})
    images = torch.rand(1, 3, size, size)
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    found = [torch.from_numpy(each) for each in session.run(None, {INPUT: images.numpy()})]
    with torch.no_grad():
        assert relative_error([network(images)], found) < 1e-5


@pytest.mark.parametrize(
    ("name", "expected"),
    [("yolov5n", "p3 p4 p5"), ("yolov5n6", "p3 p4 p5 p6"), ("yolov5-p2", "p2 p3 p4 p5"),
     ("yolov5-p34", "p3 p4"), ("yolov5-p7", "p3 p4 p5 p6 p7")],
)  # fmt: skip
def test_maps_are_named_by_their_stride(name, expected):
    assert output_names("raw", meta_model(narrow_spec(name))) == tuple(expected.split())


# The table


TABLE = documented(DOCUMENT.read_text(encoding="utf-8"))


def test_the_table_has_every_yaml():
    assert sorted(TABLE) == SHIPPED


# Parameters in millions: ultralytics/yolov3 (release 9.0), YOLOv5-Lite's table (deploy form) and
# figures of its published files, AlexeyAB's networks.
PUBLISHED_PARAMETERS = {
    "yolov3": 61.9, "yolov3-spp": 63.0, "yolov3-tiny": 8.85, "yolov4": 64.36, "yolov4-tiny": 6.06,
    "v5lite-e": 0.787, "v5lite-s": 1.650, "v5lite-c": 4.57, "v5lite-g": 5.39,
}  # fmt: skip


@pytest.mark.parametrize("name", cases("train", {*PUBLISHED, *PUBLISHED_PARAMETERS}))
def test_sizes_in_the_table_and_published_ones(name):
    """Of what ultralytics prints, parameters of one of the forms to the digit that is printed;
    GFLOPs to that and 0.2 %.
    """
    sizes = Sizes.of(ModelSpec.from_file(f"{name}.yaml"))
    assert TABLE[name][:5] == sizes.columns(name)
    millions = [count / 1e6 for count in sizes.parameters]
    if name in PUBLISHED:
        parameters, gflops = PUBLISHED[name]
        assert min(abs(count - parameters) for count in millions) <= 0.05
        assert abs(sizes.gflops[1] - gflops) <= 0.05 + 0.002 * gflops
    if name in PUBLISHED_PARAMETERS:
        published = PUBLISHED_PARAMETERS[name]
        assert min(abs(count - published) for count in millions) < 0.01 * published


def test_published_sizes_are_of_shipped_yamls():
    assert {*PUBLISHED, *PUBLISHED_PARAMETERS} <= set(SHIPPED)
