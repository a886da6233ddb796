"""Training 8-bit networks: nearer to the float32 network than calibration alone brings them."""

from __future__ import annotations

import copy
import logging

import numpy as np
import pytest
import torch

from models.conversion.deploy import to_deploy
from models.network.detector import Detector
from models.quantization.qdq_scheme import QdqScheme
from models.quantization.quantization_training import (
    QuantizationTraining,
    teacher_loss,
    train_quantized,
)
from models.runtimes.onnx_runner import open_session
from tests.model_builders import finding_model, tiny_spec
from tests.quantized_builders import constants
from tests.unit.models.quantization.test_quantized_graph import (
    SIZE,
    Pair,
    sample_images,
    write_pair_of,
)
from utils.errors import DivergedError

FAST = QuantizationTraining(epochs=6, lr=1e-4)
HARSH = QdqScheme("s8", symmetric=True, per_channel=False)


@pytest.fixture(scope="module")
def teacher() -> Detector:
    """A network that finds many objects; one channel of each weight has far larger numbers.

    RepVGG blocks come out like that; one scale for all channels then leaves the others few steps.
    """
    deployed = to_deploy(finding_model(tiny_spec()))
    with torch.no_grad():
        for conv in deployed.layers[:-1].modules():
            if isinstance(conv, torch.nn.Conv2d):
                conv.weight[0] *= 8
    return deployed


@pytest.fixture(scope="module")
def pair(teacher, tmp_path_factory) -> Pair:
    return write_pair_of(teacher, tmp_path_factory.mktemp("pair"), HARSH)


def batches(count: int = 4) -> list[np.ndarray]:
    return [np.concatenate(sample_images(4, seed=seed)) for seed in range(1, 1 + count)]


def beyond_least(graph, teacher: Detector, images: torch.Tensor) -> float:
    """The loss less what it is where student and teacher agree."""
    loss = teacher_loss(teacher, SIZE)
    with torch.no_grad():
        least = loss.distance(teacher(images), images)
        return float(loss.distance(graph(images), images) - least)


def test_training_brings_it_nearer_to_the_float_network(pair, teacher, tmp_path, caplog):
    graph, seen = pair.graph(), torch.from_numpy(np.concatenate(batches()))
    unseen = torch.from_numpy(np.concatenate(sample_images(8, seed=99)))
    before = [beyond_least(graph, teacher, images) for images in (seen, unseen)]

    with caplog.at_level(logging.INFO):
        losses = train_quantized(graph, teacher, batches(), FAST)

    after = [beyond_least(graph, teacher, images) for images in (seen, unseen)]
    assert after[0] < 0.8 * before[0]
    assert after[1] < 0.8 * before[1]
    assert losses[-1] < losses[0]
    assert len(losses) == 6
    assert [record.message for record in caplog.records] == [
        f"8-bit epoch {epoch}/6: loss {loss:.4f}" for epoch, loss in enumerate(losses, 1)
    ]
    graph.write(tmp_path / "trained.onnx")
    deployed = [
        runtime_error(path, teacher, unseen) for path in (pair.quantized, tmp_path / "trained.onnx")
    ]
    assert deployed == pytest.approx([before[1], after[1]], rel=0.1)


def runtime_error(path, teacher: Detector, images: torch.Tensor) -> float:
    """The same of a file in onnxruntime."""
    session = open_session(str(path))
    answers = [session.run(None, {"images": one[None].numpy()}) for one in images]
    raw = [torch.from_numpy(np.concatenate(level)) for level in zip(*answers, strict=True)]
    return beyond_least(lambda _: raw, teacher, images)


def test_weights_of_7_bits_stay_within_them(teacher, tmp_path):
    """Else a trained file would saturate where the file before it did not."""
    pair = write_pair_of(teacher, tmp_path, QdqScheme(reduce_range=True))
    graph = pair.graph()
    train_quantized(graph, teacher, batches(2), QuantizationTraining(epochs=2, lr=1e-2))
    graph.write(tmp_path / "trained.onnx")
    before, after = constants(pair.quantized), constants(tmp_path / "trained.onnx")
    weights = [name for name, value in after.items() if value.dtype == np.int8 and value.ndim == 4]
    assert len(weights) > 10
    assert any((before[name] != after[name]).any() for name in weights)
    assert max(np.abs(after[name].astype(int)).max() for name in weights) == 64


def test_teacher_and_constants_stay(pair, teacher):
    graph, kept = pair.graph(), copy.deepcopy(teacher.state_dict())
    constants = [p.clone() for p in graph.parameters() if not p.requires_grad]

    train_quantized(graph, teacher, batches(1), QuantizationTraining(epochs=1))

    assert all(torch.equal(kept[name], value) for name, value in teacher.state_dict().items())
    after = [p for p in graph.parameters() if not p.requires_grad]
    assert all(torch.equal(*both) for both in zip(constants, after, strict=True))


def test_twice_the_same(pair, teacher):
    found = []
    for _ in range(2):
        graph = pair.graph()
        losses = train_quantized(graph, teacher, batches(2), QuantizationTraining(epochs=1))
        found.append((losses, [p.detach() for p in graph.parameters()]))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(*both) for both in zip(found[0][1], found[1][1], strict=True))


@pytest.mark.parametrize(
    ("data", "epochs", "count"),
    [([], 2, 2), (batches(1), 0, 0)],
    ids=["no images", "no epochs"],
)
def test_nothing_to_do(data, epochs, count, pair, teacher, tmp_path):
    graph = pair.graph()
    settings = QuantizationTraining(epochs=epochs)
    assert train_quantized(graph, teacher, data, settings) == (0.0,) * count
    graph.write(tmp_path / "same.onnx")
    assert (tmp_path / "same.onnx").read_bytes() == pair.quantized.read_bytes()


def test_a_loss_that_is_no_number(pair, teacher):
    nan = np.full((1, 3, SIZE, SIZE), np.nan, np.float32)
    with pytest.raises(DivergedError, match="loss of 8-bit training is nan; lower the learning"):
        train_quantized(pair.graph(), teacher, [nan], QuantizationTraining(epochs=1))


def test_the_distance_is_least_where_both_agree(teacher):
    images = torch.from_numpy(np.concatenate(sample_images(2)))
    loss = teacher_loss(teacher, SIZE)
    with torch.no_grad():
        taught = teacher(images)
        least = loss.distance(taught, images)
        noise = torch.Generator().manual_seed(0)
        for size in (0.1, 0.5):
            moved = [m + size * torch.randn(m.shape, generator=noise) for m in taught]
            further = loss.distance(moved, images)
            assert further > least
            least = further


def test_tensors_are_taken_as_well(pair, teacher):
    (batch,) = batches(1)
    settings = QuantizationTraining(epochs=1)
    one = train_quantized(pair.graph(), teacher, [batch], settings)
    assert one == train_quantized(pair.graph(), teacher, [torch.from_numpy(batch)], settings)
