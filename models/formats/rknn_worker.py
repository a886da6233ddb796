"""The half of RKNN that runs in the toolkit's own Python: `python rknn_worker.py`.

rknn-toolkit2 needs older packages than we do, so it lives in an environment of its own and this
file imports nothing of the project. Questions come through stdin and answers leave through stdout,
each as its length in 8 bytes and an npz archive: a JSON text `fields`, and arrays.
"""

from __future__ import annotations

import io
import json
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np


def read_message(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The fields and arrays of a message; None where the stream ends."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    (length,) = struct.unpack("<Q", head)
    content = stream.read(length)
    if len(content) < length:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    fields: dict[str, Any] = json.loads(str(arrays.pop("fields")))
    return fields, arrays


def write_message(stream: BinaryIO, fields: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Write what `read_message` reads."""
    buffer = io.BytesIO()
    np.savez(buffer, fields=np.array(json.dumps(fields)), **arrays)
    stream.write(struct.pack("<Q", buffer.tell()))
    stream.write(buffer.getvalue())
    stream.flush()


class Simulated:
    """One network, compiled for a chip and run in the toolkit's simulator."""

    def __init__(self) -> None:
        self.rknn: Any = None

    def answer(self, fields: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
        """The arrays that answer a question: an image asks for outputs, fields for a network."""
        if arrays:
            return self.run(arrays["image"])
        self.build(fields)
        return {}

    def build(self, fields: dict[str, Any]) -> None:
        """Compile `onnx` for `platform`, calibrated on the images that `dataset` lists.

        The compiled file goes to `output`, where that is given.
        """
        from rknn.api import RKNN

        self.rknn = RKNN(verbose=True)  # the table of layers is among what it prints
        self.rknn.config(
            mean_values=[[0, 0, 0]], std_values=[[255, 255, 255]],
            target_platform=fields["platform"],
        )  # fmt: skip
        _must_be_0("load_onnx", self.rknn.load_onnx(fields["onnx"]))
        _must_be_0("build", self.rknn.build(do_quantization=True, dataset=fields["dataset"]))
        if fields["output"]:
            _must_be_0("export_rknn", self.rknn.export_rknn(fields["output"]))
        _must_be_0("init_runtime", self.rknn.init_runtime())

    def run(self, image: Any) -> dict[str, Any]:
        """(1, H, W, 3) uint8 -> the outputs, in order."""
        answers = self.rknn.inference(inputs=[image], data_format=["nhwc"])
        return {f"out{index}": answer for index, answer in enumerate(answers)}


def _must_be_0(step: str, code: int) -> None:
    if code != 0:
        raise RuntimeError(f"{step} gave {code}")


@contextmanager
def answers_apart() -> Iterator[BinaryIO]:
    """A region in which what is printed goes to stderr; gives a stream that leads to stdout.

    What the toolkit prints must not get between the answers.
    """
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(os.dup(stdout), "wb") as answers:
            yield answers
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


def main() -> None:
    """Answer until the questions end."""
    questions, simulated = sys.stdin.buffer, Simulated()
    with answers_apart() as answers:
        while (message := read_message(questions)) is not None:
            fields, arrays = message
            try:
                found = simulated.answer(fields, arrays)
            except ImportError as error:
                write_message(answers, {"missing": str(error)}, {})
            except Exception as error:  # noqa: BLE001 - the toolkit's errors share no base class
                write_message(answers, {"error": str(error)}, {})
            else:
                write_message(answers, {}, found)


if __name__ == "__main__":
    main()
