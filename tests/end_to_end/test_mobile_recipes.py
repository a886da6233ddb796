"""The recipes for TFLite and Core ML in docs/deploy.md, run as they are written there.

`TFLITE_PYTHON` and `COREML_PYTHON` name the interpreters of the environments that the recipes make.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
RUN_TFLITE = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
runner = Interpreter(sys.argv[1])
runner.allocate_tensors()
answers = []
for image in np.load("calibration.npy")[:4]:
    runner.set_tensor(runner.get_input_details()[0]["index"], image[None])
    runner.invoke()
    answers.append([runner.get_tensor(each["index"])[0] for each in runner.get_output_details()])
np.savez("answers.npz", *map(np.stack, zip(*answers)))
"""
EVALUATE_COREML = """
import numpy as np, torch
from tests.mil_program import evaluate
pixels = np.load("calibration.npy")[:4].transpose(0, 3, 1, 2) * 255
with torch.no_grad():
    answers = [evaluate(converted._mil_program, torch.from_numpy(each[None])) for each in pixels]
np.savez("answers.npz", torch.cat(answers).numpy())
"""


def interpreter(variable: str) -> Path:
    if not os.environ.get(variable):
        pytest.skip(f"{variable} names no interpreter")
    return Path(os.environ[variable])


def blocks(heading: str) -> list[str]:
    """The blocks of code of a section: how the environment is made, then what is run."""
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    section = re.split(r"^#+ ", text.split(f"### {heading}\n")[1], flags=re.MULTILINE)[0]
    return re.findall(r"^```\w*\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)


def run(folder: Path, *command: object) -> None:
    done = subprocess.run(
        [*map(str, command)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def folder(shared, tmp_path_factory) -> Path:
    """`best.pt`, a folder `images`, and the files that the recipes start from."""
    folder = tmp_path_factory.mktemp("mobile")
    (folder / "best.pt").write_bytes((shared / "weights" / "yolov5n.pt").read_bytes())
    (folder / "images").symlink_to(shared / "data" / "coco128" / "images" / "train2017")
    export, calibration = blocks("TFLite")[1:3]  # the first makes an environment
    run(folder, sys.executable, ROOT / "export.py", *shlex.split(export)[2:], "--device", "cpu")
    run(folder, sys.executable, "-c", calibration)
    return folder


def answers(folder: Path) -> list[np.ndarray]:
    return list(np.load(folder / "answers.npz").values())


def expected(folder: Path, name: str) -> list[np.ndarray]:
    """What onnxruntime answers on the same four images, the channels last."""
    session = onnxruntime.InferenceSession(folder / name)
    images = np.load(folder / "calibration.npy")[:4].transpose(0, 3, 1, 2)
    found = [session.run(None, {"images": each[None].copy()}) for each in images]
    outputs = [np.concatenate(each) for each in zip(*found, strict=True)]
    return [each.transpose(0, 2, 3, 1) if each.ndim == 4 else each for each in outputs]


def distances(found: np.ndarray, wanted: np.ndarray) -> tuple[float, float]:
    """The largest in pixels and in probability, where objectness is above 0.25."""
    assert found.shape == wanted.shape
    objects = wanted[..., 4] > 0.25
    assert objects.sum() > 20
    difference = np.abs(found - wanted)[objects]
    return float(difference[:, :4].max()), float(difference[:, 4:].max())


def test_tflite(folder):
    python = interpreter("TFLITE_PYTHON")
    for command in blocks("TFLite")[3].splitlines():
        run(folder, python.parent / "onnx2tf", *shlex.split(command)[1:])
    for kind, pixels, probability in (("float32", 0.004, 1e-4), ("float16", 1.0, 0.02)):
        run(folder, python, "-c", RUN_TFLITE, f"tflite/best_{kind}.tflite")
        found = distances(answers(folder)[0], expected(folder, "best.onnx")[0])
        assert found[0] < pixels and found[1] < probability, kind
    for kind, share in (("float32", 1e-4), ("dynamic_range_quant", 0.15)):
        run(folder, python, "-c", RUN_TFLITE, f"tflite/best-npu_{kind}.tflite")
        maps = {each.shape: each for each in answers(folder)}
        for wanted in expected(folder, "best-npu.onnx"):
            assert np.abs(maps[wanted.shape] - wanted).max() < share * np.abs(wanted).max(), kind


def test_coreml(folder):
    python = interpreter("COREML_PYTHON")
    run(folder, python, "-c", blocks("CoreML")[1] + EVALUATE_COREML)
    assert (folder / "best.mlpackage" / "Manifest.json").is_file()
    found = distances(answers(folder)[0], expected(folder, "best.onnx")[0])
    assert found[0] < 1.0 and found[1] < 0.02
