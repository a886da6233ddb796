"""Damaged and hostile `.pt` files: only this project's errors, in bounded time and memory.

Every case is a mutation of a good file by a seeded generator, so a failure is repeated by its seed.
"""

from __future__ import annotations

import io
import logging
import pickle
import pickletools
import random
import re
import time
import zipfile
from collections import Counter

import pytest
import torch

from models.checkpoints.loading import build_from_checkpoint, read_weights
from tests.checkpoint_builders import save_model, save_yolov5
from tests.model_builders import tiny_spec, trained_model
from utils.device import peak_memory_mb
from utils.errors import CheckpointError, UserError

logger = logging.getLogger(__name__)
MAX_SECONDS = 5  # of a processor, which other work on the machine does not lengthen
MAX_GROWTH_MB = 200  # of the process, over all cases; the files have 0.1 MB
CPU = torch.device("cpu")
BACKBONE = [
    [-1, 1, "Conv", [32, 3, 2]],
    [-1, 1, "Conv", [32, 3, 2]],
    [-1, 1, "C3", [32]],
    [-1, 1, "SPPF", [32, 3]],
]
HEAD = [
    [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
    [[-1, 0], 1, "Concat", [1]],
    [[5], 1, "Detect", ["nc", "anchors"]],
]
OPCODES = bytes(ord(opcode.code) for opcode in pickletools.opcodes)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One checkpoint of each kind."""
    folder = tmp_path_factory.mktemp("good")
    model = trained_model(tiny_spec(rep_block=None, activation="SiLU", anchors=[[10, 13, 16, 30]],
                                    backbone=BACKBONE, head=HEAD))  # fmt: skip
    paths = [save_model(folder / "ours.pt", model), save_yolov5(folder / "y.pt", model)]
    return [path.read_bytes() for path in paths]


def truncated(content, random_):
    return content[: random_.randrange(len(content))]


def overwritten(content, random_):
    """Bytes changed anywhere: data, names, sizes, the directory of the archive."""
    changed = bytearray(content)
    for _ in range(random_.choice((1, 4, 64))):
        changed[random_.randrange(len(changed))] = random_.randrange(256)
    return bytes(changed)


def directory_overwritten(content, random_):
    changed = bytearray(content)
    start = content.rindex(b"PK\x05\x06") - 46 * 3
    for _ in range(random_.choice((1, 3))):
        changed[random_.randrange(start, len(changed))] = random_.choice((0, 0x7F, 0xFF))
    return bytes(changed)


def entry_changed(content, random_):
    """An entry is missing, empty, twice its length, or another's."""
    entries = read_entries(content)
    name, other = random_.choice(list(entries)), random_.choice(list(entries))
    new = random_.choice((None, b"", entries[name] * 2, entries[other]))
    entries = {**entries, name: new}
    return write_entries({key: value for key, value in entries.items() if value is not None})


def pickle_changed(change):
    def mutate(content, random_):
        entries = read_entries(content)
        name = next(name for name in entries if name.endswith("data.pkl"))
        return write_entries({**entries, name: change(entries[name], random_)})

    return mutate


def positions(content):
    """Start of each operation of a pickle, and its end."""
    starts = [position for _, _, position in pickletools.genops(content)]
    return [*starts, len(content)]


def bytes_of_pickle(content, random_):
    changed = bytearray(content)
    for _ in range(random_.choice((1, 2, 8))):
        changed[random_.randrange(len(changed))] = random_.randrange(256)
    return bytes(changed)


def other_opcode(content, random_):
    changed = bytearray(content)
    position = random_.choice(positions(content)[:-1])
    changed[position] = random_.choice((*OPCODES, 0xFF, 0x01))
    return bytes(changed)


def operations_removed(content, random_):
    start, end = sorted(random_.sample(positions(content), 2))
    end = min(end, start + 200)
    return content[:start] + content[end:]


def operations_repeated(content, random_):
    points = positions(content)
    index = random_.randrange(len(points) - 1)
    first, last = points[index], points[min(index + random_.randrange(1, 40), len(points) - 1)]
    return content[:last] + content[first:last] * random_.choice((1, 3, 1000)) + content[last:]


def huge_numbers(content, random_):
    """Integers, among them the sizes of storages and tensors, become large or negative."""
    changed = content
    operations = list(pickletools.genops(content))
    numbers = [each for each in operations if each[0].name in ("BININT1", "BININT2", "BININT")]
    for opcode, _, position in sorted(random_.sample(numbers, 3), key=lambda each: -each[2]):
        length = {"BININT1": 2, "BININT2": 3, "BININT": 5}[opcode.name]
        value = random_.choice((2**31 - 1, -1, -(2**31), 10**6, 2**20, 0))
        number = pickle.BININT + value.to_bytes(4, "little", signed=True)
        if random_.random() < 0.3:
            number = pickle.LONG1 + b"\xff" + b"\x7f" * 255
        changed = changed[:position] + number + changed[position + length :]
    return changed


def recursion(content, random_):
    """What was remembered earlier comes where something else was: also inside itself."""
    changed = content
    operations = list(pickletools.genops(content))
    gets = [each for each in operations if each[0].name in ("BINGET", "BINPUT")]
    for _, _, position in random_.sample(gets, min(5, len(gets))):
        index = bytes([random_.randrange(256)])
        changed = changed[: position + 1] + index + changed[position + 2 :]
    return changed


def deep_nesting(content, random_):
    depth = random_.choice((100, 1000, 50_000))
    kind = random_.choice((pickle.TUPLE1, None))
    point = random_.choice(positions(content)[:-1])
    nested = pickle.EMPTY_TUPLE + pickle.TUPLE1 * depth
    if kind is None:
        nested = pickle.EMPTY_LIST * depth + pickle.APPEND * (depth - 1)
    return content[:point] + nested + content[point:]


def text_changed(content, random_):
    """Names of classes, keys and storages become those of others."""
    operations = list(pickletools.genops(content))
    texts = [each for each in operations if each[0].name == "BINUNICODE"]
    (_, old, position), (_, new, _) = random_.sample(texts, 2)
    new = random_.choice((new, "", "x" * 30_000, "../../etc", "\0")).encode()
    end = position + 5 + len(old.encode())
    text = pickle.BINUNICODE + len(new).to_bytes(4, "little") + new
    return content[:position] + text + content[end:]


def number_in_text(content, random_):
    """A number of our metadata, which are JSON, or a digit of any other text."""
    operations = list(pickletools.genops(content))
    texts = [
        (text, position)
        for opcode, text, position in operations
        if opcode.name == "BINUNICODE" and re.search(r"\d", text)
    ]
    old, position = max(texts, key=lambda each: len(each[0]))
    if random_.random() < 0.2:
        old, position = random_.choice(texts)
    number = random_.choice(list(re.finditer(r"[\d.]+", old)))
    values = ("1e9", "1" + "0" * 400, "-1", "0", "NaN", "1e308", "[" * 5000, '"x"', "null", "{}")
    new = (old[: number.start()] + random_.choice(values) + old[number.end() :]).encode()
    end = position + 5 + len(old.encode())
    text = pickle.BINUNICODE + len(new).to_bytes(4, "little") + new
    return content[:position] + text + content[end:]


MUTATIONS = {
    "truncated": truncated,
    "overwritten": overwritten,
    "directory overwritten": directory_overwritten,
    "entry changed": entry_changed,
    **{
        change.__name__: pickle_changed(change)
        for change in (
            bytes_of_pickle, other_opcode, operations_removed, operations_repeated, huge_numbers,
            recursion, deep_nesting, text_changed, number_in_text,
        )
    },
}  # fmt: skip


def read_entries(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_entries(entries):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


def outcome(path):
    """`read` or the class of this project's error; anything else ends the test."""
    try:
        build_from_checkpoint(read_weights(path))
    except UserError as error:
        assert "\n" not in str(error), str(error)
        return "CheckpointError" if isinstance(error, CheckpointError) else type(error).__name__
    return "read"


def fuzz(files, path, mutation, cases):
    """Outcomes and the longest time of all cases of one mutation."""
    outcomes, slowest = Counter(), 0.0
    for seed in range(cases):
        random_ = random.Random(f"{mutation} {seed}")
        path.write_bytes(MUTATIONS[mutation](random_.choice(files), random_))
        start = time.process_time()
        try:
            outcomes[outcome(path)] += 1
        except Exception as error:
            raise AssertionError(f"{mutation}, seed {seed}: {error!r:.500}") from error
        slowest = max(slowest, time.process_time() - start)
    return outcomes, slowest


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch: protocols, read-only buffers
@pytest.mark.parametrize(
    "cases", [25, pytest.param(400, marks=pytest.mark.slow)], ids=["quick", "thousands"]
)
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_only_this_projects_errors(tmp_path, files, mutation, cases):
    for content in files:  # what is measured includes one good file
        (tmp_path / "a.pt").write_bytes(content)
        assert outcome(tmp_path / "a.pt") == "read"
    before = peak_memory_mb(CPU)
    outcomes, slowest = fuzz(files, tmp_path / "a.pt", mutation, cases)
    growth = peak_memory_mb(CPU) - before
    logger.info("%s: %s, at most %.2f s, %.0f MB more", mutation, outcomes, slowest, growth)
    assert sum(outcomes.values()) == cases
    assert set(outcomes) <= {"read", "CheckpointError", "ConfigError"}
    assert outcomes["CheckpointError"] > 0  # the mutations do damage
    assert slowest < MAX_SECONDS and growth < MAX_GROWTH_MB
