"""How a network takes over the tensors of a file, without memory or random numbers of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class Unfilled(TorchFunctionMode):
    """While it is entered, modules start without the random numbers of their weights.

    Their memory is not touched, and so not taken, before weights from a file replace them.
    """

    _RANDOM = frozenset({nn.init.kaiming_uniform_, nn.init.uniform_, nn.init.normal_,
                         nn.init.trunc_normal_, nn.init.xavier_uniform_, Tensor.uniform_,
                         Tensor.normal_})  # fmt: skip

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Leave a tensor as it is where random numbers are asked for."""
        given = dict(kwargs or {})
        if func in self._RANDOM:
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def apart(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, each of which has memory of its own.

    In a file they may share it. A network that is trained must not change one with another.
    """
    seen: set[int] = set()
    found = {}
    for name, tensor in weights.items():
        storage = tensor.untyped_storage()
        whole = storage.nbytes() == tensor.numel() * tensor.element_size()
        shared = storage.data_ptr() in seen or not whole
        seen.add(storage.data_ptr())
        found[name] = tensor.clone() if shared else tensor
    return found
