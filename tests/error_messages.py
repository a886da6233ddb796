"""What tests ask of an error's message: where, which value, and what to do; not the sentence."""

from __future__ import annotations

BETWEEN = " ... "


def assert_message(message: str, start: str, *parts: str) -> None:
    """One line that starts with the file or flag and has every other part.

    Args:
        message: of the error.
        start: its beginning: the file, with the line or key where there is one.
        parts: what else it has, in any order; `a ... b` are two of them.
    """
    assert "\n" not in message
    assert message.startswith(start), message
    missing = [one for part in parts for one in part.split(BETWEEN) if one not in message]
    assert missing == [], message
