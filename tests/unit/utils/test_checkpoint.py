"""Our checkpoint files: round trip, safety, and what a wrong file is told."""

from __future__ import annotations

import json
import zipfile

import pytest
import torch

from tests.checkpoint_builders import CLASS_NAMES, checkpoint_of, save_model, tensors_equal
from tests.error_messages import assert_message
from tests.model_builders import tiny_spec, trained_model
from utils import checkpoint as room
from utils.checkpoint import FORMAT, is_native, load_checkpoint, save_checkpoint
from utils.errors import CheckpointError


@pytest.fixture(scope="module")
def model():
    return trained_model(tiny_spec())


@pytest.fixture
def full(model):
    """A checkpoint with every field filled."""
    return checkpoint_of(
        model,
        image_size=320,
        ema_weights={name: tensor * 2 for name, tensor in model.state_dict().items()},
        training={"optimizer": {"state": {0: torch.ones(2)}}, "epoch": 3},
        config={"opt": {"epochs": 3, "freeze": [0]}},
        metrics={"AP": 0.25, "epoch": 2},
    )


def test_round_trip(tmp_path, full):
    path = tmp_path / "new" / "a.pt"
    save_checkpoint(path, full)
    loaded = load_checkpoint(path)
    for name in ("form", "spec", "class_names", "image_size", "config", "metrics"):
        assert getattr(loaded, name) == getattr(full, name), name
    assert tensors_equal(loaded.weights, full.weights)
    assert tensors_equal(loaded.ema_weights, full.ema_weights)
    assert loaded.training["epoch"] == 3
    assert torch.equal(loaded.training["optimizer"]["state"][0], torch.ones(2))
    assert loaded.made_with["torch"] == torch.__version__
    assert loaded.class_names == CLASS_NAMES


def test_the_file_holds_no_class(tmp_path, full):
    path = tmp_path / "a.pt"
    save_checkpoint(path, full)
    assert torch.serialization.get_unsafe_globals_in_checkpoint(str(path)) == []
    content = torch.load(path, weights_only=True)
    assert content["format"] == FORMAT
    assert content["schema_version"] == 1
    assert json.loads(content["metadata"])["form"] == "train"
    assert is_native(path)


def test_the_average_is_what_counts(tmp_path, full, model):
    assert full.best_weights is full.ema_weights
    assert checkpoint_of(model).best_weights is not None
    finished = full.for_inference()
    assert tensors_equal(finished.weights, full.ema_weights)
    assert finished.ema_weights is None and finished.training is None
    assert finished.config == full.config


def test_a_failed_write_leaves_the_old_file(tmp_path, model, monkeypatch):
    path = save_model(tmp_path / "a.pt", model)
    before = path.read_bytes()

    def half_written(_content, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(room.torch, "save", half_written)
    with pytest.raises(OSError, match="disk full"):
        save_model(path, model)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]


def write(path, content):
    torch.save(content, path)
    return path


def test_another_file_under_a_checkpoints_name(tmp_path):
    """(name, content, parts of the message after `<path>: `)."""
    pt = "not a PyTorch checkpoint"
    table = [
        ("empty.pt", b"", f"{pt} ... empty"),
        ("text.pt", b"hello", f"{pt} ... text"),
        (
            "pointer.pt",
            b"version https://git-lfs.github.com/spec/v1\n",
            f"{pt} ... Git LFS ... fetch",
        ),
        (
            "binary.pt",
            b"\0\1\2" * 100,
            f"{pt} ... torch.save",
        ),
    ]
    for name, content, expected in table:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path)
        assert_message(str(caught.value), f"{path}: ", expected)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "gone.pt")
    assert_message(str(caught.value), f"{tmp_path}/gone.pt: no such weights file", "downloaded")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path)
    assert_message(str(caught.value), f"{tmp_path}: ", "is a folder ... weights file")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file(tmp_path, model, share):
    path = save_model(tmp_path / "a.pt", model)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert_message(str(caught.value), f"{path}: not a PyTorch checkpoint (", "its end is missing")


def test_a_file_of_torch_before_its_archives(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert_message(str(caught.value), f"{path}: not a PyTorch checkpoint (", "torch before 1.6")


def test_a_damaged_file(tmp_path, model):
    path = save_model(tmp_path / "a.pt", model)
    content = bytearray(path.read_bytes())
    content[60:200] = b"\xff" * 140
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: damaged checkpoint (")
    assert "\n" not in str(caught.value)


def test_a_zip_of_something_else(tmp_path):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: damaged checkpoint (")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [{"a": torch.zeros(2)}, torch.zeros(2), [1], None])
def test_weights_without_architecture(tmp_path, content):
    path = write(tmp_path / "a.pt", content)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert_message(str(caught.value), f"{path}: ", "without their architecture ... train.py")


def test_a_newer_schema(tmp_path):
    path = write(tmp_path / "a.pt", {"format": FORMAT, "schema_version": 2})
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert_message(str(caught.value), f"{path}: ", "schema 2 ... 1 ... update")


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": "x"},
        {"metadata": "{"},  # no JSON
        {"metadata": "{}"},  # nothing in it
        {"metadata": '{"form": "both", "spec": {}}'},
        {"weights": 3, "metadata": '{"form": "train", "spec": {}}'},
    ],
)
def test_our_format_with_wrong_content(tmp_path, changes):
    content = {"format": FORMAT, "schema_version": 1, "metadata": "{}", "weights": {}}
    path = write(tmp_path / "a.pt", {**content, "ema_weights": None, "training": None, **changes})
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: damaged checkpoint (")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ["a"]}, "1 class_names, but the network has 3 classes"),
        ({"class_names": [0, 1, 2]}, "class_names holds something else than text"),
        ({"image_size": 0}, "image_size is 0, expected 1 to 65536"),
        ({"image_size": -640}, "image_size is -640, expected 1 to 65536"),
        ({"image_size": 10**9}, "image_size is 1000000000, expected 1 to 65536"),
    ],
)
def test_metadata_that_cannot_be_true(tmp_path, model, changes, message):
    path = save_model(tmp_path / "a.pt", model)
    content = torch.load(path, weights_only=True)
    content["metadata"] = json.dumps({**json.loads(content["metadata"]), **changes})
    write(path, content)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert_message(str(caught.value), f"{path}: damaged checkpoint (", message)


def test_a_pickled_class_is_not_ours(tmp_path):
    path = write(tmp_path / "a.pt", torch.nn.Conv2d(1, 1, 1))
    assert not is_native(path)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert_message(str(caught.value), f"{path}: ", "pickled classes")
