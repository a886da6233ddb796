"""Yaml files read strictly, and values like `LeakyReLU(0.1)` in them.

The only module that calls the yaml library.

Every mistake is a ConfigError that names the file, the key, what was found, and what is allowed.
"""

from __future__ import annotations

import ast
import dataclasses
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from utils.errors import ConfigError, hint_at, suggest
from utils.output_files import atomic_path

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
    with atomic_path(path) as temporary:
        temporary.write_text(yaml.safe_dump(dict(content), sort_keys=False), encoding="utf-8")


def find_shipped(name: str | Path, folder: Path) -> Path:
    """The yaml `name` in the working directory or, failing that, in the project's `folder`.

    Raises:
        ConfigError: it is in neither; names the closest shipped file.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = folder / path.name
    if shipped.is_file():
        return shipped
    known = sorted(file.name for file in folder.glob("*.yaml"))
    raise ConfigError(f"{path}: no such file{suggest(path.name, known, 'shipped')}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).replace(' in "<unicode string>",', " in").split())


@dataclasses.dataclass(frozen=True, slots=True)
class CallText:
    """A name with literal arguments."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)


def parse_call(text: str, where: str) -> CallText:
    """`LeakyReLU(0.1)`, `nn.SiLU()` or a bare `RepVGG` as a name and literals.

    A leading `nn.` or `torch.nn.` is dropped. `true` and `false` are booleans as in yaml, other
    bare names are strings: `OREPA(scaling=vector, post_bn=true)`.

    Raises:
        ConfigError: not a name with literal arguments.
    """
    refusal = ConfigError(f"{where}: {text!r} is not a name like `SiLU` or `LeakyReLU(0.1)`")
    try:
        node = ast.parse(text.strip(), mode="eval").body
        call = node if isinstance(node, ast.Call) else None
        name = ast.unparse(call.func if call else node)
        args = tuple(_literal(arg) for arg in call.args) if call else ()
        keywords = call.keywords if call else []
        if any(keyword.arg is None for keyword in keywords):
            raise refusal  # `**{...}`
        kwargs = {str(keyword.arg): _literal(keyword.value) for keyword in keywords}
    except (SyntaxError, ValueError):
        raise refusal from None
    name = name.removeprefix("torch.").removeprefix("nn.")
    if not name.isidentifier():
        raise refusal
    return CallText(name, args, kwargs)


def _literal(node: ast.expr) -> Any:
    """A literal; a bare name is yaml's boolean or a string.

    Raises:
        ValueError: an expression that would have to be evaluated.
    """
    if isinstance(node, ast.Name):
        return {"true": True, "false": False}.get(node.id, node.id)
    return ast.literal_eval(node)
