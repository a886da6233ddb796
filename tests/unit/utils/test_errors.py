"""What errors suggest."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.errors import hint_at


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("data/images/trian", "; did you mean data/images/train?"),
        ("data/image/train", "; did you mean data/images/train?"),  # of a folder above it
        ("data/images/train/a.jpg", ""),  # the folder is there, and has nothing like it
        ("zzz/images", ""),
        ("n" * 5000 + "/images", ""),  # longer than a name can be
        ("data\\images", "; on this system folders are separated by /"),
    ],
)
def test_what_is_called_nearly_so(tmp_path, monkeypatch, path, hint):
    (tmp_path / "data" / "images" / "train").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert hint_at(Path(path)) == hint
