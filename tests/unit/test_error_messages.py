from __future__ import annotations

import pytest

from tests.error_messages import assert_message


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ("a.yaml: nc is 0, must be above 0", ("a.yaml: ", "nc is 0 ... above 0")),
        ("a.yaml: nc is 0, must be above 0", ("a.yaml: ", "above 0", "nc is 0")),  # any order
        ("a.yaml: no such file", ("a.yaml: ",)),
    ],
)
def test_parts_that_are_there(message, parts):
    assert_message(message, *parts)


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ("b.yaml: nc is 0", ("a.yaml: ", "nc is 0")),  # another file
        ("in a.yaml: nc is 0", ("a.yaml: ", "nc is 0")),  # not at the start
        ("a.yaml: nc is 0", ("a.yaml: ", "nc is 1")),  # another value
        ("a.yaml: nc is 0", ("a.yaml: ", "nc is 0 ... above 0")),  # one of two
        ("a.yaml: nc is 0\n", ("a.yaml: ", "nc is 0")),  # two lines
    ],
)
def test_parts_that_are_not(message, parts):
    with pytest.raises(AssertionError):
        assert_message(message, *parts)
