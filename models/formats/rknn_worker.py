"""The half of RKNN that runs in the toolkit's own Python: `python rknn_worker.py`.

rknn-toolkit2 needs older packages than we do, so it lives in an environment of its own and this
file imports nothing of the project. Questions come through stdin and answers leave through stdout,
each as its length in 8 bytes and an npz archive: a JSON text `words`, and arrays.
"""

from __future__ import annotations

import io
import json
import os
import struct
import sys
from typing import Any, BinaryIO

import numpy as np


def read_message(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Words and arrays; None where the stream ends."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    (length,) = struct.unpack("<Q", head)
    content = stream.read(length)
    if len(content) < length:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    words: dict[str, Any] = json.loads(str(arrays.pop("words")))
    return words, arrays


def write_message(stream: BinaryIO, words: dict[str, Any], arrays: dict[str, Any]) -> None:
    """The other direction."""
    buffer = io.BytesIO()
    np.savez(buffer, words=np.array(json.dumps(words)), **arrays)
    stream.write(struct.pack("<Q", buffer.tell()))
    stream.write(buffer.getvalue())
    stream.flush()


class Simulated:
    """One network, compiled for a chip and run in the toolkit's simulator."""

    def __init__(self) -> None:
        self.rknn: Any = None

    def answer(self, words: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
        """The arrays that answer a question: an image asks for outputs, words for a network."""
        if arrays:
            return self.run(arrays["image"])
        self.build(words)
        return {}

    def build(self, words: dict[str, Any]) -> None:
        """Compile `onnx` for `platform`, calibrated on the images that `dataset` lists.

        The compiled file goes to `output`, where that is given.
        """
        from rknn.api import RKNN

        self.rknn = RKNN(verbose=True)  # the table of layers is among what it prints
        self.rknn.config(
            mean_values=[[0, 0, 0]], std_values=[[255, 255, 255]],
            target_platform=words["platform"],
        )  # fmt: skip
        _must_be_0("load_onnx", self.rknn.load_onnx(words["onnx"]))
        _must_be_0("build", self.rknn.build(do_quantization=True, dataset=words["dataset"]))
        if words["output"]:
            _must_be_0("export_rknn", self.rknn.export_rknn(words["output"]))
        _must_be_0("init_runtime", self.rknn.init_runtime())

    def run(self, image: Any) -> dict[str, Any]:
        """(1, H, W, 3) uint8 -> the outputs, in order."""
        answers = self.rknn.inference(inputs=[image], data_format=["nhwc"])
        return {f"out{place}": answer for place, answer in enumerate(answers)}


def _must_be_0(step: str, code: int) -> None:
    if code != 0:
        raise RuntimeError(f"{step} gave {code}")


def main() -> None:
    """Answer until the questions end."""
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the toolkit prints must not get between the answers
    simulated = Simulated()
    while (message := read_message(questions)) is not None:
        words, arrays = message
        try:
            found = simulated.answer(words, arrays)
        except ImportError as error:
            write_message(answers, {"missing": str(error)}, {})
        except Exception as error:  # noqa: BLE001 - the toolkit's errors share no base class
            write_message(answers, {"error": str(error)}, {})
        else:
            write_message(answers, {}, found)


if __name__ == "__main__":
    main()
