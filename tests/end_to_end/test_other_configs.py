"""What a program gives the five functions instead of their config is refused at once."""

from __future__ import annotations

import pytest

from convert import convert
from detect import detect
from export import export
from train import train
from utils.convert_config import ConvertConfig
from utils.detect_config import DetectConfig
from utils.errors import ConfigError, DatasetError
from utils.train_config import TrainConfig
from utils.val_config import ValConfig
from val import validate

CALLS = {
    train: "TrainConfig",
    validate: "ValConfig",
    detect: "DetectConfig",
    convert: "ConvertConfig",
    export: "ExportConfig",
}


@pytest.mark.parametrize("given", [None, "best.pt", {"weights": "best.pt"}, "class", "another"])
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_refused(call, given, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given = {"class": TrainConfig, "another": ConvertConfig()}.get(str(given), given)
    if call is convert and isinstance(given, ConvertConfig):
        given = ValConfig()
    with pytest.raises(ConfigError, match=rf"the config is .*, expected {CALLS[call]}\(\.\.\.\)$"):
        call(given)
    assert not list(tmp_path.iterdir())


def test_subclasses_are_configs():
    class Mine(DetectConfig):
        pass

    with pytest.raises(DatasetError, match="--source"):
        detect(Mine(weights="x.pt", source=("",)))
