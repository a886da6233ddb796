"""A bias beyond 32 bits is represented by a wider scale, or no file is written."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from packaging.version import Version

from models.conversion.deploy import to_deploy
from models.quantization.qdq_scheme import QdqScheme
from models.quantization.quantized_onnx import WIDENS_SCALES, quantize
from tests.model_builders import tiny_spec, trained_model
from tests.quantized_builders import constants, noise, write_raw_maps
from utils.errors import MissingPackageError

SIZE = 64


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("per_channel", [True, False])
def test_a_bias_where_weights_are_almost_0(per_channel, sign, tmp_path):
    detector = to_deploy(trained_model(tiny_spec(), seed=3))
    conv = detector.layers[5].conv
    with torch.no_grad():
        conv.weight[0 if per_channel else slice(None)] *= 1e-9
        conv.bias[0] = sign
    source, target = write_raw_maps(tmp_path / "f.onnx", detector, SIZE), tmp_path / "q.onnx"
    scheme = QdqScheme(per_channel=per_channel)
    if Version(onnxruntime.__version__) < Version(WIDENS_SCALES):
        with pytest.raises(MissingPackageError, match=rf"'onnxruntime>={WIDENS_SCALES}'"):
            quantize(source, target, noise(2, SIZE), "minmax", scheme)
        assert [path.name for path in tmp_path.iterdir()] == ["f.onnx"]
        return
    quantize(source, target, noise(2, SIZE), "minmax", scheme)
    (node,) = (n for n in onnx.load(target).graph.node if n.name == "/layers.5/conv/Conv")
    name, values = node.input[2].removesuffix("_DequantizeLinear_Output"), constants(target)
    bias = values[f"{name}_quantized"] * values[f"{name}_quantized_scale"].astype(np.float64)
    assert bias[0] == pytest.approx(sign, rel=1e-3)
