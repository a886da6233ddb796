"""Yaml files read strictly.

The only module that calls the yaml library.

Every mistake is a ConfigError that names the file, the key, what was found, and what is allowed.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from utils.errors import ConfigError, hint_at, suggest
from utils.output_files import write_text
from utils.path_kind import path_kind

MAX_ALIASES = 32  # in a file: a few more, each of several others, and it stands for gigabytes


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses many aliases, and a duplicate key (yaml silently uses the last)."""

    num_aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self.num_aliases += 1
            if self.num_aliases > MAX_ALIASES:
                raise yaml.YAMLError(f"more than {MAX_ALIASES} aliases (*name)")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, typing.Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is written twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the mapping in a yaml file.

    Raises:
        ConfigError: the file is missing, is not yaml, or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file{hint_at(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text: {error}") from None
    try:
        content = yaml.load(text, Loader=_UniqueKeyLoader)  # a SafeLoader
    # What a wrong tag or an impossible date raises is no error of yaml's.
    except (
        *(yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError),
        OverflowError,
    ) as error:
        raise ConfigError(f"{path}: not valid yaml: {_one_line(error)}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected `key: value` lines, found {type(content).__name__}")
    return content


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping atomically, keys in the order given."""
    write_text(path, yaml.safe_dump(dict(content), sort_keys=False))


def find_shipped(name: str | Path, folder: Path) -> Path:
    """The yaml `name` in the working directory or, failing that, in the project's `folder`.

    Raises:
        ConfigError: it is in neither; names the closest shipped file.
    """
    path = Path(name)
    if path_kind(path) == "file":
        return path
    shipped = folder / path.name
    if path_kind(shipped) == "file":
        return shipped
    known = sorted(file.name for file in folder.glob("*.yaml"))
    raise ConfigError(f"{path}: no such file{suggest(path.name, known, 'shipped')}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).replace(' in "<unicode string>",', " in").split())
