"""What formats set for a library's sake in the whole process is put back."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import logging
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

import export
from models.formats.openvino import OpenVinoRunner, SignalStack, without_telemetry
from models.formats.presets import PRESETS
from models.formats.rknn_worker import answers_apart
from models.quantization.quantized_onnx import quantize, worst_layers
from models.runtimes.file_metadata import FileMetadata
from models.runtimes.input_sizes import InputSizes
from tests.checkpoint_builders import save_model
from tests.house.source_tree import ROOT
from tests.model_builders import tiny_spec, trained_model
from tests.quantized_builders import noise, write_raw_maps


def signal_stack() -> tuple[int | None, int, int]:
    """Address, flags and size of this thread's alternate signal stack."""
    stack = SignalStack()
    if sys.platform == "linux":
        ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    return stack.ss_sp, stack.ss_flags, stack.ss_size


def process_state() -> dict[str, object]:
    """What is the whole process's, as far as a library's workaround may touch it."""
    import onnxruntime

    devices = getattr(onnxruntime, "get_ep_devices", list)  # since 1.22
    telemetry = [name for name in sys.modules if name.startswith("openvino_telemetry")]
    return {
        "modules": telemetry,
        "log level": logging.getLogger().level,
        "stdout": sys.stdout,
        "stderr": sys.stderr,
        "warnings": list(warnings.filters),
        "numpy errors": np.geterr(),
        "standard output": os.fstat(1).st_ino,
        "environment": dict(os.environ),
        "signal stack": signal_stack(),
        "runtime's devices": [each.ep_name for each in devices()],
    }


@pytest.mark.parametrize("name", ["onnx", "torchscript", "openvino", "ncnn", "opencv4"])
def test_an_export_leaves_the_process_as_it_was(name, tmp_path):
    for package in PRESETS[name].packages:
        pytest.importorskip(package.module)
    weights = save_model(tmp_path / "w.pt", trained_model(tiny_spec(), seed=3))
    config = export.ExportConfig(str(weights), preset=(name,), imgsz=(64,))
    before = process_state()
    export.export(config)
    assert process_state() == before


def test_quantizing_leaves_the_process_as_it_was(tmp_path):
    source = write_raw_maps(tmp_path / "f.onnx", trained_model(tiny_spec(), seed=3), 64)
    before = process_state()
    quantize(source, tmp_path / "q.onnx", noise(2, 64), "minmax")
    worst_layers(source, tmp_path / "q.onnx", noise(1, 64))
    assert process_state() == before


@pytest.mark.parametrize("found_before", [False, True])
def test_telemetry_is_barred_inside_the_region_alone(found_before, monkeypatch):
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    if found_before:
        monkeypatch.setitem(sys.modules, "openvino_telemetry", sys)
    before = dict(sys.modules)
    with pytest.raises(ZeroDivisionError), without_telemetry():
        with pytest.raises(ImportError):
            importlib.import_module("openvino_telemetry")
        raise ZeroDivisionError
    assert dict(sys.modules) == before


def test_openvino_networks_end_in_any_order(tmp_path):
    # The second Core's end set the first one's signal stack, whose memory was gone by then.
    pytest.importorskip("openvino")
    detector = trained_model(tiny_spec(), seed=3)
    source = write_raw_maps(tmp_path / "f.onnx", detector, 64)
    sizes = InputSizes((64, 64))
    anchors, strides = detector.spec.anchors, detector.strides
    texts = FileMetadata(("a", "b", "c"), strides, anchors, sizes, "raw", 13).as_texts()
    before = signal_stack()
    runners = [OpenVinoRunner(source, texts=texts) for _ in range(3)]
    assert signal_stack() == before
    while runners:
        runners.pop(0)
        gc.collect()
        assert signal_stack() == before


def test_the_worker_gives_its_standard_output_back():
    code = (
        "import os; from models.formats.rknn_worker import answers_apart\n"
        "with answers_apart() as answers:\n"
        "    os.write(1, b'printed '); answers.write(b'answer ')\n"
        "os.write(1, b'after')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"answer after", b"printed ")
    assert answers_apart.__doc__


@pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime_qnn") is None, reason="onnxruntime-qnn is not installed"
)
def test_the_plug_in_is_taken_away_again(tmp_path):
    from models.formats.qnn import registered_plug_in

    before = process_state()
    for _ in range(2):  # onnxruntime takes a plug-in that is registered once alone
        with registered_plug_in() as devices:
            assert devices
    assert process_state() == before
