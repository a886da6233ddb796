"""What the system says of its processor."""

from __future__ import annotations

import platform

import pytest

from utils import machine


@pytest.mark.parametrize(
    ("architecture", "flags", "expected"),
    [
        ("x86_64", ["flags : fma avx2 avx512_vnni amx_int8"], False),
        ("x86_64", ["flags : fma avx2 avx_vnni"], False),
        ("x86_64", ["flags : fma avx2"], True),
        ("AMD64", [], True),  # Windows says nothing
        ("x86_64", [], True),
        ("aarch64", ["Features : asimd asimddp"], False),
        ("arm64", [], False),
    ],
)
def test_which_processors_may_lack_vnni(architecture, flags, expected, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: architecture)
    monkeypatch.setattr(machine, "_lines", lambda _: flags)
    assert machine.may_lack_vnni() is expected
