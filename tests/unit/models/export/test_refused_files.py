"""What is said of a file that cannot be written as it was asked for."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

import export
from models.export.onnx_file import OnnxOptions, write_onnx
from models.formats.presets import PRESETS
from utils.errors import CheckFailedError


class Recent(nn.Module):
    """What opset 11 does not have."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)


def test_what_an_opset_does_not_have(tmp_path):
    with pytest.raises(CheckFailedError) as caught:
        write_onnx(tmp_path / "recent.onnx", Recent(), OnnxOptions((8, 8), opset=11), {})
    message = str(caught.value)
    assert message.startswith("opset 11 does not hold this network (Exporting the operator 'aten::")
    assert message.endswith("; take another --opset or --preset; no file is left behind")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("preset", ["onnx", "openvino"])
def test_the_file_that_was_asked_for_is_named(preset, tmp_path):
    wanted = tmp_path / "wanted"
    with (
        pytest.raises(CheckFailedError, match=r"^wanted: is wrong$"),
        export._atomic_output(wanted, PRESETS[preset]) as path,
    ):
        assert path.name != wanted.name
        raise CheckFailedError(f"{path.name}: is wrong")
    assert list(tmp_path.iterdir()) == []
