from __future__ import annotations

import pytest

from utils.call_text import CallText, parse_call
from utils.errors import ConfigError

GOOD = [
    ("A", CallText("A")),
    ("A()", CallText("A")),
    (" A(1, -2.5)\n", CallText("A", (1, -2.5))),
    ("nn.A(b=True)", CallText("A", (), {"b": True})),
    ("torch.nn.A([1, 2], c='x')", CallText("A", ([1, 2],), {"c": "x"})),
    ("A(b, c=d, e=true, f=false)", CallText("A", ("b",), {"c": "d", "e": True, "f": False})),
]
BAD = [
    "", "1", "'A'", "a.b", "A.B()", "A(x.y)", "A(-x)",
    "A(", "A + B", "A()()", "A[0]", "lambda: 1", "if",
    "A(__import__('os'))", "A(open('f').read())", "A(*[1])", "A(**{'a': 1})", "A(x for x in y)",
    "\0", "A; B",
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), GOOD)
def test_good(text, expected):
    assert parse_call(text, "f.yaml") == expected


@pytest.mark.parametrize("text", BAD)
def test_bad(text):
    with pytest.raises(ConfigError) as caught:
        parse_call(text, "f.yaml")
    assert str(caught.value) == (f"f.yaml: {text!r} is not a name like `SiLU` or `LeakyReLU(0.1)`")
