"""Core ML's programs evaluated by torch, in float32: prediction itself needs macOS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

Arguments = dict[str, Any]


def evaluate(program: Any, inputs: torch.Tensor) -> torch.Tensor:
    """The one output of a program (coremltools' `_mil_program`) of one input."""
    function = program.functions["main"]
    known = dict.fromkeys(function.inputs, inputs)

    def value(argument: Any) -> Any:
        if isinstance(argument, tuple | list):
            return [value(each) for each in argument]
        if argument.name in known:
            return known[argument.name]
        constant = argument.val
        if isinstance(constant, np.ndarray) and constant.dtype.kind == "f":
            return torch.from_numpy(constant.astype(np.float32))
        return constant.tolist() if hasattr(constant, "tolist") else constant

    for operation in function.operations:
        if operation.op_type != "const":
            given = {
                name: value(each) for name, each in operation.inputs.items() if each is not None
            }
            known[operation.outputs[0].name] = OPERATIONS[operation.op_type](given)
    return known[function.outputs[0].name]


def _padded(given: Arguments, border: float) -> torch.Tensor:
    if given["pad_type"] == "valid":
        return given["x"]
    assert given["pad_type"] == "custom"
    top, bottom, left, right = given["pad"]
    return F.pad(given["x"], (left, right, top, bottom), value=border)


def _conv(given: Arguments) -> torch.Tensor:
    inputs, bias = _padded(given, 0), given.get("bias")
    return F.conv2d(
        inputs, given["weight"], bias, given["strides"], 0, given["dilations"], given["groups"]
    )


def _max_pool(given: Arguments) -> torch.Tensor:
    assert not given["ceil_mode"]
    return F.max_pool2d(_padded(given, -torch.inf), given["kernel_sizes"], given["strides"])


def _upsample(given: Arguments) -> torch.Tensor:
    factors = (given["scale_factor_height"], given["scale_factor_width"])
    return F.interpolate(given["x"], scale_factor=factors)


def _slice(given: Arguments) -> torch.Tensor:
    axes = range(given["x"].ndim)
    from_start, to_end, squeezed = (
        given.get(name) or [False] * len(axes)
        for name in ("begin_mask", "end_mask", "squeeze_mask")
    )
    assert not any(squeezed)
    steps = given.get("stride") or [1] * len(axes)
    starts = [None if from_start[axis] else given["begin"][axis] for axis in axes]
    ends = [None if to_end[axis] else given["end"][axis] for axis in axes]
    return given["x"][tuple(map(slice, starts, ends, steps))]


OPERATIONS: dict[str, Callable[[Arguments], torch.Tensor]] = {
    "conv": _conv,
    "max_pool": _max_pool,
    "upsample_nearest_neighbor": _upsample,
    "slice_by_index": _slice,
    "silu": lambda given: F.silu(given["x"]),
    "sigmoid": lambda given: given["x"].sigmoid(),
    "add": lambda given: given["x"] + given["y"],
    "sub": lambda given: given["x"] - given["y"],
    "mul": lambda given: given["x"] * given["y"],
    "pow": lambda given: given["x"] ** given["y"],
    "cast": lambda given: given["x"],
    "concat": lambda given: torch.cat(given["values"], given["axis"]),
    "reshape": lambda given: given["x"].reshape(given["shape"]),
    "transpose": lambda given: given["x"].permute(given["perm"]),
}
