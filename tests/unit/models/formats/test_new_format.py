"""Adding a format: the log of a newcomer.

1. Copied the nearest module of models/formats (ncnn.py: one converter, one runner) to
   toy_format.py; read models/formats/format.py for what each field means.
2. Wrote `write_toy(source, path)`, which makes the file from an ONNX file, and `open_toy(path)`,
   which returns a runner. Filled in FORMAT: runtime, one preset.
3. Added one row to models/formats/table.py, with the suffix (here: beside it, since it is not
   shipped).

Nothing else: `--preset toy`, the comparison with PyTorch, the report, the check of what is
installed, detect.py and val.py on `x.toy` follow from the row. In the product,
tests/house/test_formats.py then asks for the row in docs/deploy.md.
"""

from __future__ import annotations

import numpy as np
import pytest

import export
from models.export.request import ExportConfig
from models.formats.presets import PRESETS
from models.formats.table import TABLE, FormatRow
from models.runtimes.open_runner import open_runner
from tests.checkpoint_builders import save_model
from tests.model_builders import tiny_spec, trained_model
from utils.errors import CheckpointError, ConfigError

ROWS = (*TABLE, FormatRow("tests.unit.models.formats.toy_format", (".toy",)))


@pytest.fixture
def weights(tmp_path):
    return save_model(tmp_path / "w.pt", trained_model(tiny_spec(), seed=3))


def test_the_row_is_all_that_export_and_detect_need(weights, tmp_path, monkeypatch):
    presets = {preset.name: preset for row in ROWS for preset in row.format.presets}
    assert set(presets) - set(PRESETS) == {"toy"}
    monkeypatch.setitem(PRESETS, "toy", presets["toy"])
    result = export.export(ExportConfig(str(weights), preset=("toy",), imgsz=(64,)))
    (file,) = result.files
    assert file.path == tmp_path / "w.toy"
    assert file.verified == "toy runtime, CPU"
    assert 0 < max(file.errors.by_name().values()) < 1e-4
    assert result.as_report()["files"][0]["preset"] == "toy"

    image = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    found = open_runner(str(file.path), device="cpu", table=ROWS)
    expected = open_runner(str(weights), device="cpu")
    assert found.class_names == expected.class_names
    np.testing.assert_allclose(found.run(image), expected.run(image), rtol=1e-3, atol=1e-3)


def test_its_errors_are_those_of_every_format(tmp_path):
    (tmp_path / "x.toy").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"x\.toy: is no toy file"):
        open_runner(str(tmp_path / "x.toy"), table=ROWS)
    with pytest.raises(ConfigError, match=r"--half: .*x\.toy computes in float32"):
        open_runner(str(tmp_path / "x.toy"), half=True, table=ROWS)
    with pytest.raises(CheckpointError, match=r"neither a \.pt checkpoint nor an .*, \.toy"):
        open_runner(str(tmp_path / "x.engine"), table=ROWS)
