"""The peer's process: requests and answers, what it prints, how it ends, why it is skipped."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.measurement import PeerFailedError
from benchmarks.peer import PROGRAM, Peer, PeerProcess

PYTHON = Path(sys.executable)
# Follows the protocol without any package: counts how often it prepares and how often it is asked.
FAKE = """
import json, sys
print(json.dumps({"versions": {"yolov5": "0"}}), flush=True)
prepared = {}
for line in sys.stdin:
    request = json.loads(line)
    if request["task"] == "fail":
        raise SystemExit("out of luck")
    turns = prepared.setdefault(request["key"], [])
    turns.append(1)
    facts = {"turns": len(turns), "keys": len(prepared), **request["arguments"]}
    print(json.dumps({"seconds": 0.25, "facts": facts, "also": {"part": 0.1}}), flush=True)
"""


@pytest.fixture
def fake(tmp_path):
    program = tmp_path / "fake.py"
    program.write_text(FAKE)
    return program


def test_one_process_answers_all_turns(tmp_path, fake):
    with Peer(PYTHON, tmp_path, fake) as peer:
        assert peer.versions == {"yolov5": "0"}
        first, second = (peer.contestant(name, "work", size=64) for name in ("a", "b"))
        assert dict(first.turn().facts) == {"turns": 1, "keys": 1, "size": 64}
        assert dict(second.turn().facts) == {"turns": 1, "keys": 2, "size": 64}
        again = first.turn()
        assert again.facts["turns"] == 2 and again.seconds == 0.25 and again.also == {"part": 0.1}


def test_a_run_is_a_process_of_its_own_timed_from_outside(tmp_path, fake):
    with Peer(PYTHON, tmp_path, fake) as peer:
        whole = peer.run("a", "work")
        turns = [whole.turn(), whole.turn()]
    assert [turn.facts["turns"] for turn in turns] == [1, 1]
    assert all(turn.seconds not in (0.25, 0.0) for turn in turns)


def test_an_error_is_the_last_line_printed_and_the_next_turn_has_a_new_process(tmp_path, fake):
    with Peer(PYTHON, tmp_path, fake) as peer:
        good = peer.contestant("a", "work")
        good.turn()
        with pytest.raises(PeerFailedError, match=r"^out of luck$"):
            peer.contestant("b", "fail").turn()
        assert good.turn().facts["turns"] == 1


def test_the_peer_is_skipped_with_a_reason(tmp_path):
    with pytest.raises(PeerFailedError, match=r"^nopython: No such file.*make bench"):
        PeerProcess(tmp_path / "nopython", tmp_path)
    if find_spec("yolov5") is None:
        with pytest.raises(PeerFailedError, match=r"^the package yolov5 is not installed in this"):
            PeerProcess(PYTHON, tmp_path)


def stub_package(folder):
    """A package of this name whose data set counts files and prints to standard output."""
    utils = folder / "yolov5" / "utils"
    utils.mkdir(parents=True)
    for path in (folder / "yolov5" / "__init__.py", utils / "__init__.py"):
        path.touch()
    (utils / "dataloaders.py").write_text(
        "import os\n"
        "def LoadImagesAndLabels(images, image_size, batch_size):\n"
        "    print('{\"seconds\": 0}')\n"
        "    os.write(1, b'noise')\n"
        "    return os.listdir(images)\n"
    )
    information = folder / "yolov5-1.2.3.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: yolov5\nVersion: 1.2.3\n")


def test_what_the_package_prints_is_no_answer(tmp_path):
    stub_package(tmp_path)
    images = tmp_path / "data" / "images"
    images.mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "../labels.cache"):
        (images / name).touch()
    arguments = {"images": str(images), "image_size": 64, "first": True}
    request = json.dumps({"key": "a", "task": "read_data_set", "arguments": arguments})
    code = f"import runpy, sys; sys.path.insert(0, {str(tmp_path)!r}); "
    code += f"runpy.run_path({str(PROGRAM)!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], input=f"{request}\n{request}\n", text=True,
        capture_output=True, check=True,
    )  # fmt: skip
    ready, *answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert ready["versions"]["yolov5"] == "1.2.3" and len(answers) == 2
    assert answers[0]["facts"] == {"images": 2} and answers[0]["seconds"] > 0
    assert "noise" in done.stderr and not (tmp_path / "data" / "labels.cache").exists()
