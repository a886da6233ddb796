"""A name with arguments as text, `LeakyReLU(0.1)`: read, never evaluated."""

from __future__ import annotations

import ast
import dataclasses
from typing import Any

from utils.errors import ConfigError


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
