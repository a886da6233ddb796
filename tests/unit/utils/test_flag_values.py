"""Values from Python: what numpy and torch make is plain, what is empty is no value."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from utils.convert_config import ConvertConfig
from utils.detect_config import DetectConfig
from utils.errors import ConfigError
from utils.flag_values import check_values
from utils.train_config import TrainConfig
from utils.val_config import ValConfig


@pytest.mark.parametrize(
    ("config", "plain"),
    [
        (DetectConfig(half=np.True_), DetectConfig(half=True)),
        (DetectConfig(imgsz=np.array([64, 96])), DetectConfig(imgsz=(64, 96))),
        (DetectConfig(classes=torch.tensor([0, 2])), DetectConfig(classes=(0, 2))),
        (DetectConfig(conf_thres=torch.tensor(0.5)), DetectConfig(conf_thres=0.5)),
        (TrainConfig(epochs=np.array(3)), TrainConfig(epochs=3)),
    ],
    ids=["numpy bool", "array", "tensor", "scalar tensor", "scalar array"],
)
def test_what_numpy_and_torch_make_becomes_plain(config, plain):
    assert config == plain
    check_values(config)


@pytest.mark.parametrize(
    ("config", "flag"),
    [
        (TrainConfig(seed=()), "--seed"),
        (TrainConfig(device=[]), "--device"),
        (TrainConfig(data=[]), "--data"),
        (ValConfig(data=()), "--data"),
        (DetectConfig(shard=[]), "--shard"),
        (DetectConfig(source=[]), "--source"),  # and not the shipped images
        (DetectConfig(weights=()), "--weights"),
        (ConvertConfig(half=()), "--half"),
        (ConvertConfig(output=[]), "--output"),
    ],
    ids=str,
)
def test_nothing_is_no_value(config, flag):
    with pytest.raises(ConfigError, match=f"^{flag}: is empty; leave it out for its default"):
        check_values(config)


def test_an_empty_name_is_no_choice():
    with pytest.raises(ConfigError, match=r"^--stem : no such choice"):
        check_values(ConvertConfig(stem=""))
    check_values(ConvertConfig(rep_block=""))  # its default
