"""Images are written in the format of their suffix, and read back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from utils.errors import UserError
from utils.image_output import writable_suffix, write_image

IMAGE = np.zeros((6, 8, 3), np.uint8)
IMAGE[..., 0] = 200  # RGB: red


@pytest.mark.parametrize("name", ["a.png", "b.PNG", "ä文.bmp"])
def test_an_image_is_read_back(tmp_path, name):
    path = tmp_path / name
    write_image(path, IMAGE)
    read = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(read, IMAGE)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("suffix", "written"),
    [
        (".jpg", ".jpg"),
        (".PNG", ".PNG"),
        (".mpo", ".jpg"),
        ("", ".jpg"),
        (".xyz", ".jpg"),
        (".pbm", ".jpg"),
        (".avif", ".jpg"),
        (".jp\udce9", ".jpg"),
    ],
)
def test_writable_suffix(suffix, written):
    assert writable_suffix(suffix) == written


def test_an_image_of_unknown_format(tmp_path):
    with pytest.raises(UserError) as error:
        write_image(tmp_path / "a.xyz", IMAGE)
    assert str(error.value) == (
        f"{tmp_path}/a.xyz: images cannot be written as '.xyz'; use .jpg or .png"
    )
