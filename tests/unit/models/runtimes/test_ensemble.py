"""Several networks as one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import export
from models.runtimes.ensemble import EnsembleRunner
from models.runtimes.open_runner import open_networks, open_runner
from tests.checkpoint_builders import save_model
from tests.model_builders import finding_model, tiny_spec
from tests.onnx_builders import OUR_METADATA, save_detector
from utils.errors import CheckpointError, ConfigError
from utils.postprocess import VAL_POSTPROCESS, PostprocessConfig, postprocess

SIZE = 64


class FakeRunner:
    """Answers the same rows for every image."""

    def __init__(self, rows=(), names=("cat", "dog"), stride=32, hw=(None, None), known=None,
                 batch=None, suppresses=False):  # fmt: skip
        self.rows = np.array(rows, np.float32).reshape(-1, 7)
        self.class_names, self.stride, self.input_hw = names, stride, hw
        self.known_hw, self.batch_size, self.suppresses = known, batch, suppresses

    def run(self, images):
        return np.repeat(self.rows[None], len(images), axis=0)


def ensemble(*runners):
    return EnsembleRunner(runners, [f"{letter}.onnx" for letter in "abc"[: len(runners)]])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two checkpoints, and the first one as an ONNX file of one size."""
    folder = tmp_path_factory.mktemp("ensemble")
    first = save_model(folder / "a.pt", finding_model(tiny_spec()))
    second = save_model(folder / "b.pt", finding_model(tiny_spec(), spread=0.3))
    export.export(export.ExportConfig(str(first), imgsz=(SIZE,), output=str(folder / "a.onnx")))
    return [str(first), str(second), str(folder / "a.onnx")]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((2, 3, SIZE, SIZE), np.float32)


def found(runner, images, rules):
    return [postprocess(decoded, rules) for decoded in runner.run(images)]


def assert_same(results, expected, atol=0.0):
    for each, other in zip(results, expected, strict=True):
        assert len(each) == len(other) > 5
        np.testing.assert_allclose(each.boxes, other.boxes, atol=atol)
        np.testing.assert_allclose(each.scores, other.scores, atol=atol / 100)
        np.testing.assert_array_equal(each.class_ids, other.class_ids)


@pytest.mark.parametrize("rules", [PostprocessConfig(), VAL_POSTPROCESS], ids=["detect", "val"])
def test_one_network_twice_finds_what_it_finds_once(files, images, rules):
    once = found(open_runner(files[0], device="cpu"), images, rules)
    twice = found(open_networks([files[0]] * 2, device="cpu"), images, rules)
    assert_same(twice, once)


def test_a_checkpoint_and_its_file_of_one_size(files, images):
    """Their boxes differ by rounding, and each suppresses the other's."""
    together = open_networks([files[0], files[2]], device="cpu")
    assert (together.input_hw, together.batch_size) == ((SIZE, SIZE), 1)
    rules = PostprocessConfig()
    once = found(open_runner(files[0], device="cpu"), images, rules)
    assert_same(found(together, images, rules), once, atol=0.05)


def test_the_predictions_of_all_count(files, images):
    runners = [open_runner(path, device="cpu") for path in files[:2]]
    parts = [runner.run(images) for runner in runners]
    np.testing.assert_array_equal(
        EnsembleRunner(runners, files[:2]).run(images), np.concatenate(parts, axis=1)
    )


def test_the_order_of_networks_is_irrelevant(files, images):
    runners = [(open_runner(path, device="cpu"), path) for path in files]
    results = [
        found(EnsembleRunner(*zip(*order, strict=True)), images, PostprocessConfig())
        for order in itertools.permutations(runners)
    ]
    for other in results[1:]:
        # Of the checkpoint and its file, whose scores are nearly equal, either may come first.
        assert_same(other, results[0], atol=0.05)


def test_augmented_networks_together(files, images):
    together = open_networks(files[:2], device="cpu", augment=True)
    parts = [open_networks([path], device="cpu", augment=True).run(images) for path in files[:2]]
    np.testing.assert_array_equal(together.run(images), np.concatenate(parts, axis=1))
    with pytest.raises(ConfigError, match=r"^--augment: .*a\.onnx takes 64x64 px only"):
        open_networks(files, device="cpu", augment=True)


def test_one_network_alone_is_itself(files):
    assert type(open_networks(files[:1], device="cpu")) is type(open_runner(files[0], device="cpu"))


def test_what_the_networks_have_in_common(caplog):
    both = ensemble(FakeRunner(stride=32, known=(640, 640), batch=4),
                    FakeRunner(names=(), stride=64, hw=(None, 128), batch=2))  # fmt: skip
    assert (both.class_names, both.stride, both.input_hw) == (("cat", "dog"), 64, (None, 128))
    assert (both.known_hw, both.batch_size) == ((640, 640), 4)
    free = ensemble(FakeRunner(names=()), FakeRunner(names=()))
    assert (free.class_names, free.known_hw, free.batch_size) == ((), None, None)
    assert not free.suppresses
    assert ensemble(FakeRunner(), FakeRunner(suppresses=True)).suppresses
    assert not caplog.messages


def test_networks_made_for_different_sizes_are_noted(caplog):
    both = ensemble(FakeRunner(known=(320, 320)), FakeRunner(), FakeRunner(known=(640, 512)))
    assert both.known_hw == (320, 320)
    assert caplog.messages == [
        "--weights: made for different sizes (a.onnx for 320x320 px, c.onnx for 640x512 px); "
        "without --imgsz the first one's is used"
    ]


SAME_CLASSES = "--weights: networks that run together need the same classes; "
DIFFERENT = [
    # two or three runners, the error
    ([{}, {"names": ("cat", "dot")}],
     SAME_CLASSES + "class 1 is 'dog' in a.onnx and 'dot' in b.onnx"),
    ([{}, {"names": ("cat", "dog", "owl")}], SAME_CLASSES + "a.onnx has 2 and b.onnx 3"),
    ([{}, {"names": ()}, {"names": ("dog", "cat")}],
     SAME_CLASSES + "class 0 is 'cat' in a.onnx and 'dog' in c.onnx"),
    ([{"hw": (64, 64)}, {"hw": (64, 96)}],
     "--weights: networks that run together need the same input; width is 64 px in a.onnx and "
     "96 px in b.onnx; export one of them again with the other's --imgsz, or --dynamic"),
    ([{"hw": (None, None)}, {"hw": (64, None)}, {"hw": (32, 32)}],
     "--weights: networks that run together need the same input; height is 64 px in b.onnx and "
     "32 px in c.onnx; export one of them again with the other's --imgsz, or --dynamic"),
    ([{"hw": (96, 96)}, {"stride": 64}],
     "--weights: a.onnx takes 96 px only, which is no multiple of 64, as b.onnx needs; export it "
     "again with another --imgsz"),
]  # fmt: skip


@pytest.mark.parametrize(("runners", "message"), DIFFERENT)
def test_networks_that_do_not_fit_together(runners, message):
    with pytest.raises(ConfigError) as error:
        ensemble(*(FakeRunner(**settings) for settings in runners))
    assert str(error.value) == message


def test_files_without_names_and_of_different_classes(tmp_path):
    """That is known only when they have run."""
    metadata = {key: value for key, value in OUR_METADATA.items() if key != "names"}
    rows = [[16, 16, 16, 8, 0.5, 0.25, 1.0]]
    paths = [
        str(save_detector(tmp_path / "two.onnx", rows)),
        str(save_detector(tmp_path / "one.onnx", [rows[0][:6]], metadata=metadata)),
    ]
    with pytest.raises(CheckpointError) as error:
        open_networks(paths, device="cpu").run(np.ones((1, 3, 64, 64), np.float32))
    assert str(error.value) == (SAME_CLASSES + f"numbers of classes: {paths[0]} 2, {paths[1]} 1")
