"""The teacher's part of the loss: least where the student agrees, and by hand on small maps."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import train
from data.synthetic.dataset import SyntheticConfig, write_dataset
from data.synthetic.shapes import CLASS_NAMES
from models.checkpoints.loading import build_from_checkpoint
from models.conversion.deploy import is_deployed
from models.losses.distillation import MIN_OBJECTNESS, DistillationLoss, load_teacher
from models.losses.loss import DetectionLoss, LossConfig, paired_ciou
from models.network.box_coder import BoxCoder
from models.network.detector import build_model
from models.network.model_spec import ModelSpec
from tests.equivalence.test_ranks import SIZE, whole_batch
from tests.model_builders import tiny_spec, trained_model, write_tiny
from utils.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from utils.errors import ConfigError

CPU = torch.device("cpu")
NAMES = ("a", "b", "c")


def saved(path: Path, model, class_names=NAMES) -> Path:
    save_checkpoint(
        path,
        Checkpoint(
            form="train",
            spec=model.spec.to_yaml(),
            class_names=class_names,
            weights=model.state_dict(),
            image_size=SIZE,
        ),
    )
    return path


def losses(model, teacher, gain: float = 1.0, num_classes: int = 3):
    labels = DetectionLoss(BoxCoder.of(model), num_classes, SIZE, LossConfig())
    return labels, DistillationLoss(labels, teacher, gain)


def of_teacher(model, teacher) -> torch.Tensor:
    labels, both = losses(model, teacher)
    batch = whole_batch()
    raw = model(batch.images)
    return both(raw, batch).total - labels(raw, batch).total


def test_a_student_that_agrees_has_nothing_to_learn():
    student = trained_model(tiny_spec()).double()
    for conv in student.head.modules():
        if isinstance(conv, torch.nn.Conv2d):
            torch.nn.init.zeros_(conv.bias)  # objects nearly everywhere
    teacher, moved = copy.deepcopy(student), copy.deepcopy(student)
    with torch.no_grad():
        for parameter in moved.head.parameters():
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))

    least, more = of_teacher(student, teacher), of_teacher(moved, teacher)

    assert more > 1.05 * least
    assert largest_gradient(student, least) < 1e-3 * largest_gradient(moved, more)


def largest_gradient(model, loss: torch.Tensor) -> float:
    loss.backward()
    return max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None)


def test_terms_by_hand():
    """One level, one image, 2 x 1 cells and one anchor, with the formulas written out."""
    student, teacher = (
        trained_model(tiny_spec(), 1).double(),
        trained_model(tiny_spec(), 2).double(),
    )
    _, both = losses(student, teacher)
    generator = torch.Generator().manual_seed(0)
    raw, target = (torch.randn(1, 8, 2, 1, generator=generator) for _ in range(2))
    target[0, 4] = torch.tensor([[2.0], [-4.0]])  # sure of the first cell, not of the second

    box, objectness, class_ = both._level_terms(raw, target, (2.0, 3.0))

    sure = target[0, 4].sigmoid()
    assert sure[1] < MIN_OBJECTNESS < sure[0]
    assert objectness == pytest.approx(
        float(F.binary_cross_entropy(raw[0, 4].sigmoid(), sure)), rel=1e-5
    )
    # with one sure cell the weights cancel
    assert class_ == pytest.approx(
        float(F.binary_cross_entropy(raw[0, 5:, 0].sigmoid(), target[0, 5:, 0].sigmoid())), rel=1e-5
    )
    assert 0 < box < 2.5
    same, _, _ = both._level_terms(target, target, (2.0, 3.0))
    assert same == pytest.approx(0, abs=1e-5)


def test_the_whole_by_a_second_formula():
    """Over three levels, with gains and balance, by loops over cells."""
    student, teacher = (
        trained_model(tiny_spec(), 1).double(),
        trained_model(tiny_spec(), 2).double(),
    )
    for model in (student, teacher):
        for conv in model.head.modules():
            if isinstance(conv, torch.nn.Conv2d):
                torch.nn.init.zeros_(conv.bias)
    batch = whole_batch()
    labels, both = losses(student, teacher, gain=0.5)
    raw, taught = student(batch.images), teacher(batch.images)
    expected = 0.0
    levels = zip(raw, taught, student.spec.anchors, student.strides, (4.0, 1.0, 0.4), strict=True)
    for mine, target, anchors, stride, balance in levels:
        cells, box_sum, class_sum, weights = [], 0.0, 0.0, 0.0
        pairs = torch.tensor(anchors).view(-1, 2) / stride
        images, channels, height, width = mine.shape
        for folder in itertools.product(
            range(images), range(len(pairs)), range(height), range(width)
        ):
            image, anchor, row, column = folder
            first = anchor * channels // len(pairs)
            pick = slice(first, first + channels // len(pairs))
            m, t = (
                mine[image, pick, row, column].float(),
                target[image, pick, row, column].float(),
            )
            sure = t[4].sigmoid()
            cells.append(F.binary_cross_entropy_with_logits(m[4], sure))
            if sure <= MIN_OBJECTNESS:
                continue
            boxes = [
                torch.cat((2 * v[:2].sigmoid() - 0.5, (2 * v[2:4].sigmoid()) ** 2 * pairs[anchor]))
                for v in (m, t)
            ]
            box_sum += sure * (1 - paired_ciou(boxes[0][None], boxes[1][None])[0])
            class_sum += sure * F.binary_cross_entropy_with_logits(m[5:], t[5:].sigmoid())
            weights += sure
        expected += balance * sum(cells) / len(cells) * labels.objectness_gain
        expected += (box_sum * labels.box_gain + class_sum * labels.class_gain) / weights
    found = both(raw, batch).total - labels(raw, batch).total
    assert float(found.detach()) == pytest.approx(0.5 * 5 * float(expected.detach()), rel=1e-4)


def test_without_gain_only_labels_count():
    student, teacher = (
        trained_model(tiny_spec(), 1).double(),
        trained_model(tiny_spec(), 2).double(),
    )
    labels, nothing = losses(student, teacher, gain=0.0)
    batch = whole_batch()
    raw = student(batch.images)

    assert nothing(raw, batch).total == labels(raw, batch).total
    assert torch.equal(nothing(raw, batch).parts(), labels(raw, batch).parts())


def test_one_class_and_no_sure_anchor_are_no_trouble():
    student = trained_model(tiny_spec(nc=1)).double()
    teacher = copy.deepcopy(student)
    with torch.no_grad():
        for conv in teacher.head.modules():
            if isinstance(conv, torch.nn.Conv2d):
                conv.weight.zero_()
                conv.bias.fill_(-20.0)
    _, both = losses(student, teacher, num_classes=1)
    batch = whole_batch()
    batch.class_ids.zero_()

    loss = both(student(batch.images), batch).total
    loss.backward()

    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in student.parameters() if p.grad is not None)


def test_a_teacher_is_read_in_deploy_form_and_does_not_learn(tmp_path):
    student, teacher = build_model(tiny_spec()), trained_model(tiny_spec(width_multiple=0.5))

    read = load_teacher(saved(tmp_path / "t.pt", teacher), student, NAMES, CPU)

    assert is_deployed(read) and not read.training
    assert not any(parameter.requires_grad for parameter in read.parameters())


def test_messages(tmp_path):
    student, teacher = build_model(tiny_spec()), trained_model(tiny_spec())
    path = saved(tmp_path / "t.pt", teacher, ("cat", "dog", "owl"))
    with pytest.raises(ConfigError) as caught:
        load_teacher(path, student, NAMES, CPU)
    assert str(caught.value) == (
        f"--teacher {path}: finds 3 classes (cat, dog, owl), the data set has 3 classes "
        "(a, b, c); train the teacher on this data set first"
    )
    other = trained_model(tiny_spec(anchors=[[10, 13], [30, 61], [116, 90]]))
    path = saved(tmp_path / "u.pt", other)
    with pytest.raises(ConfigError, match=r"\[1, 1, 1\] anchors, the student .*; take a teacher"):
        load_teacher(path, student, NAMES, CPU)


def save_model_of(path: Path, cfg: Path) -> Path:
    model = build_model(ModelSpec.from_file(cfg).replaced(num_classes=6))
    return saved(path, model, CLASS_NAMES)


def test_a_run_with_a_teacher(tmp_path, capsys):
    data = write_dataset(tmp_path / "data", SyntheticConfig(images=16, size=SIZE, seed=0))
    cfg = write_tiny(tmp_path / "teacher.yaml", anchors=[[9, 9] * 2, [30, 30] * 2, [60, 60] * 2])
    small = write_tiny(tmp_path / "student.yaml", width_multiple=0.125)
    flags = ["--data", data, "--imgsz", SIZE, "--batch-size", 8, "--workers", 0, "--device", "cpu",
             "--noplots", "--amp", "off", "--project", tmp_path, "--noautoanchor"]  # fmt: skip
    flags = [str(word) for word in flags]
    assert train.main([*flags, "--cfg", str(cfg), "--epochs", "1", "--name", "teacher"]) == 0
    teacher = tmp_path / "teacher" / "weights" / "best.pt"

    report = tmp_path / "report.json"
    code = train.main(
        [*flags, "--cfg", str(small), "--epochs", "1", "--teacher", str(teacher),
         "--name", "student", "--report", str(report), "--multi-scale"]
    )  # fmt: skip

    assert code == 0
    assert f"Learning from {teacher} beside the labels" in capsys.readouterr().out
    student = load_checkpoint(Path(json.loads(report.read_text())["weights"]["last"]))
    assert student.spec["anchors"] == load_checkpoint(teacher).spec["anchors"]
    last = tmp_path / "student" / "weights" / "last.pt"
    averaged = build_from_checkpoint(load_checkpoint(last))
    assert averaged.spec.anchors == build_from_checkpoint(load_checkpoint(teacher)).spec.anchors
    assert train.main(["--resume", str(last), "--epochs", "2"]) == 0  # the teacher is remembered
    moved = teacher.rename(tmp_path / "moved.pt")
    assert train.main(["--resume", str(last), "--epochs", "3", "--teacher", str(moved)]) == 0
    other = save_model_of(tmp_path / "other.pt", cfg)
    assert train.main(["--resume", str(last), "--epochs", "4", "--teacher", str(other)]) == 2
    assert "is not the one that the run in" in capsys.readouterr().err
