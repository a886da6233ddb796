"""Files that claim more than they hold are refused before torch believes them."""

from __future__ import annotations

import pickle
import zipfile

import pytest
import torch

from utils.checkpoint_archive import MAX_EXPANSION, check_archive
from utils.device import peak_memory_mb
from utils.errors import CheckpointError

GIGABYTE = 2**30


@pytest.fixture
def saved(tmp_path):
    """The entries of a file with a few tensors, by name."""
    content = {
        "a": torch.ones(3), "b": torch.ones(2).half(), "c": torch.zeros(0), "d": torch.ones(2) > 0,
        "view": torch.ones(4, 4)[1:, ::2], "none": None, "nested": [(1, 2.5), {"x": "y"}],
    }  # fmt: skip
    torch.save({**content, "again": content["a"]}, tmp_path / "saved.pt")
    with zipfile.ZipFile(tmp_path / "saved.pt") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def with_pickle(entries, content):
    return {**entries, "saved/data.pkl": content}


def refusal(path):
    before = peak_memory_mb(torch.device("cpu"))
    with pytest.raises(CheckpointError) as caught:
        check_archive(path)
    assert peak_memory_mb(torch.device("cpu")) - before < 100
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text
    return text.removeprefix(f"{path}: ")


def test_what_torch_saves_passes(tmp_path, saved):
    check_archive(write(tmp_path / "a.pt", saved))
    names = list(saved)
    assert "saved/data.pkl" in names
    check_archive(write(tmp_path / "again.pt", saved, zipfile.ZIP_DEFLATED))  # zipped once more


def test_a_storage_that_claims_gigabytes(tmp_path, saved):
    old = saved["saved/data.pkl"]
    claim = pickle.BININT + (2**31 - 1).to_bytes(4, "little") + pickle.TUPLE
    new = old.replace(pickle.BININT1 + b"\x03" + pickle.TUPLE, claim)
    assert new != old
    text = refusal(write(tmp_path / "a.pt", with_pickle(saved, new)))
    assert text == "damaged checkpoint (storage '0' claims 8589934588 bytes, has 12)"


def test_a_storage_that_is_not_in_the_file(tmp_path, saved):
    del saved["saved/data/0"]
    assert "storage '0' claims 12 bytes, has 0" in refusal(write(tmp_path / "a.pt", saved))


@pytest.mark.parametrize("count", [b"J\xff\xff\xff\xff", b"N", b"K\x03K\x03", b"X\0\0\0\0"])
def test_a_storage_that_is_described_wrongly(tmp_path, saved, count):
    old = saved["saved/data.pkl"]
    new = old.replace(pickle.BININT1 + b"\x03" + pickle.TUPLE, count + pickle.TUPLE)
    text = refusal(write(tmp_path / "a.pt", with_pickle(saved, new)))
    assert text == "damaged checkpoint (a storage is described wrongly)"


def test_a_compressed_bomb(tmp_path, saved):
    bomb = {**saved, "saved/data/9": bytes(50 * 2**20)}
    text = refusal(write(tmp_path / "a.pt", bomb, zipfile.ZIP_DEFLATED))
    assert text.startswith("its entries claim 5242") and "torch.save stores" in text
    assert len(bomb["saved/data/9"]) > MAX_EXPANSION * (tmp_path / "a.pt").stat().st_size


@pytest.mark.parametrize("name", ["other/data.pkl", "SAVED/data.pkl", "saved/DATA.PKL"])
def test_two_descriptions(tmp_path, saved, name):
    path = write(tmp_path / "a.pt", {**saved, name: saved["saved/data.pkl"]})
    assert refusal(path).startswith("damaged checkpoint (")


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (b"cbuiltins\nbytearray\n", "builtins.bytearray"),
        (b"c__builtin__\nbytearray\n", "__builtin__.bytearray"),
        (b"ctorch\nTensor\n", "torch.Tensor"),
        (b"ctorch\nFloatTensor\n", "torch.FloatTensor"),
        (b"ctorch.sparse\nFloatTensor\n", "torch.sparse.FloatTensor"),
        (b"ctorch._utils\n_rebuild_sparse_tensor\n", "torch._utils._rebuild_sparse_tensor"),
        (b"ctorch._tensor\n_rebuild_from_type_v2\n", "torch._tensor._rebuild_from_type_v2"),
    ],
)
def test_calls_that_allocate_what_they_are_told(tmp_path, saved, call, name):
    """torch's restricted unpickler would make each of these, of gigabytes."""
    size = pickle.BININT + (GIGABYTE).to_bytes(4, "little") + pickle.TUPLE1
    content = pickle.PROTO + b"\x02" + call + size + pickle.REDUCE + pickle.STOP
    text = refusal(write(tmp_path / "a.pt", with_pickle(saved, content)))
    assert text.startswith(f"refused, nothing was executed: it wants to call {name}, which no ")


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x02", b"\xff.", b"\x80\x02X\xff\xff\xff\xff", b"\x80\x02c.", b"hello"]
)
def test_pickles_that_end_or_are_none(tmp_path, saved, content):
    path = write(tmp_path / "a.pt", with_pickle(saved, content))
    assert refusal(path).startswith("damaged checkpoint (")


@pytest.mark.parametrize(
    "levels",
    [
        pickle.TUPLE1 * 200_000,
        (pickle.BINPUT + b"\0" + pickle.BINGET + b"\0" + pickle.TUPLE2) * 60,
        (pickle.BINPUT + b"\0" + pickle.MARK + pickle.BINGET + b"\0" + pickle.MARK
         + pickle.TUPLE + pickle.BINGET + b"\0" + pickle.TUPLE) * 60,
    ],
    ids=["deep", "doubled", "doubled between marks"],
)  # fmt: skip
def test_keys_that_take_for_ever(tmp_path, saved, levels):
    """Hashing them ends the process, or does not end."""
    content = pickle.EMPTY_DICT + pickle.EMPTY_TUPLE + levels + pickle.NONE + pickle.SETITEM
    path = write(tmp_path / "a.pt", with_pickle(saved, b"\x80\x02" + content + pickle.STOP))
    assert refusal(path) == "damaged checkpoint (a tuple of more than 2000 values)"


def test_no_archive(tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(b"PK\x05\x06" + bytes(18))  # an archive without entries
    assert refusal(path).startswith("damaged checkpoint (")
