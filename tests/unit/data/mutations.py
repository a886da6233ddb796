"""Seeded damage to the content of files."""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np

TOKENS = (
    *(b"nan", b"inf", b"-1", b"1e400", b"-0", b"0x1", b"1_0", b"\xd9\xa3", b"9" * 400, b"2.5"),
    *(b"\0", b"\xff", b"\xef\xbb\xbf", b"\r", b"\n", b" ", b"\t", b'"', b"'", b"\\", b"\\ud800"),
    *(b"[" * 3000, b"{", b"}", b"]", b":", b"- ", b"&a ", b"*a", b"!!int ", b"!!map ", b"? ", b"#"),
    *(b"<object>", b"</object>", b"<bndbox>", b"&owl;", b"&#0;", b"<![CDATA[", b"<!--", b"<?x?>"),
    *(b'<!DOCTYPE a [<!ENTITY owl "owl">]>', b"2001-99-99", b"!!bool x", b"<<: 1", b"null", b"~"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**53, 2**70, 10**400, 1.5, -0.0, 1e308, -1e308),
    *(float("nan"), float("inf"), "", "0", "1", "x", "1.5", "\0", "\ud800", "a\\b", "n" * 5000),
    *([], {}, [[]], [None], {"a": []}, [1, 2, 3, 4], [0.0] * 6, [[0] * 6]),
)


def mutate_bytes(rng: np.random.Generator, content: bytes) -> bytes:
    """One to four cuts, copies, flips and insertions."""
    for _ in range(rng.integers(1, 5)):
        start = int(rng.integers(0, len(content) + 1))
        end = min(len(content), start + int(rng.geometric(0.1)))
        piece = content[start:end]
        match rng.integers(0, 6):
            case 0:
                content = content[:start] + content[end:]
            case 1:
                content = content[:start] + piece * 3 + content[end:]
            case 2:
                content = content[:start] + bytes(rng.permutation(list(piece))) + content[end:]
            case 3:
                content = content[:start] + bytes(rng.bytes(1)) + content[start + 1 :]
            case 4 if rng.random() < 0.2:
                content = content[:start]
            case _:
                token = TOKENS[rng.integers(len(TOKENS))]
                content = content[:start] + token + content[end if rng.random() < 0.5 else start :]
    return content


def mutate_texts(rng: np.random.Generator, content: bytes) -> bytes:
    """An xml in which a fifth of the texts between tags are something else."""

    def change(match: re.Match[bytes]) -> bytes:
        token = TOKENS[rng.integers(len(TOKENS))]
        return match[0] if rng.random() < 0.8 or b"<" in token else b">" + token + b"<"

    return re.sub(rb">[^<>\s]+<", change, content)


def mutate_tree(rng: np.random.Generator, tree: Any) -> Any:
    """A copy of lists and mappings in which one to three entries are another value, gone or new."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.integers(1, 4)):
        entries = list(_entries(tree))
        if not entries:
            return tree
        parent, key = entries[rng.integers(len(entries))]
        match rng.integers(0, 5):
            case 0 if isinstance(parent, dict):
                del parent[key]
            case 1 if isinstance(parent, list):
                parent.insert(key, copy.deepcopy(parent[key]))
            case 2:
                other, its_key = entries[rng.integers(len(entries))]
                parent[key] = copy.deepcopy(other[its_key])
            case _:
                parent[key] = copy.deepcopy(VALUES[rng.integers(len(VALUES))])
    return tree


def _entries(tree: Any) -> Any:
    """Every list and mapping in a tree with each of its indices or keys."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in list(pairs):
        yield tree, key
        if isinstance(value, dict | list):
            yield from _entries(value)
