"""An INT8 ONNX file as a network that can be trained: every rounding of the file, with gradients.

Training therefore sees exactly what will run: the same nodes, the same pairs of QuantizeLinear and
DequantizeLinear, the same zero points; only values change. Weights and biases are float32 master
values, rounded at each use as the file will hold them.

Shapes: B images, H W pixels or cells, K output channels of a convolution.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.quantization.fake_quantize import Array, FakeQuantize, fake_quantize, weight_limits
from models.quantization.onnx_nodes import OPERATORS, Node, nodes_of, unsupported
from utils.errors import CheckpointError

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
INT32 = (-(2.0**31), 2.0**31 - 1)
# Weights in the file lie within half a step of their source; farther, the source is another file.
MAX_STEPS_APART = 1.0


@dataclass(frozen=True, slots=True)
class Masters:
    """The float32 values of one convolution: weight (K, ...) and bias (K,)."""

    weight: Array
    bias: Array | None


class QuantizedGraph(nn.Module):
    """A file with pairs of QuantizeLinear and DequantizeLinear, in float32 arithmetic.

    Scales are trained, except that of the images, whose pixels are multiples of it already.

    Args:
        model: the file, an `onnx.ModelProto`; it is not changed.
        masters: of each convolution, by its node's name.
        where: the file's name, for messages.

    Attributes:
        quantizers: one FakeQuantize for each scale of activations and weights.
        numbers: what the file holds beside scales: weights, biases, constants.

    Raises:
        CheckpointError: the file has an operator that cannot be trained, or was not made from
            `masters`.
    """

    def __init__(self, model: Any, masters: Mapping[str, Masters], where: str) -> None:
        from onnx import numpy_helper

        super().__init__()
        self._model, self._where, self._nodes = model, where, nodes_of(model)
        self._arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        self._inputs = [each.name for each in model.graph.input if each.name not in self._arrays]
        self._outputs = [each.name for each in model.graph.output]
        self._writers = {node.output: node for node in self._nodes}
        self.quantizers, self.numbers = nn.ModuleList(), nn.ParameterList()
        self._quantizer_of: dict[str, int] = {}  # scale -> index in `quantizers`
        self._number_of: dict[str, int] = {}  # initializer -> index in `numbers`
        self._scale_of: dict[str, str] = {}  # what a QuantizeLinear writes -> its scale
        self._bias_scales: dict[str, tuple[str, str]] = {}  # bias -> scales of input and weight
        for node in self._nodes:
            if node.operator == QUANTIZE:
                self._read_activation(node)
            elif node.operator != DEQUANTIZE and (reason := unsupported(node)):
                raise self._refusal(node, f"{reason}; it cannot be trained in 8 bits")
        for node in self._nodes:
            if node.operator == "Conv":
                self._read_convolution(node, masters.get(node.name))
            elif node.operator not in (QUANTIZE, DEQUANTIZE):
                self._read_constants(node)

    @classmethod
    def read(cls, path: Path, source: Path) -> QuantizedGraph:
        """The network of an INT8 file, its weights those of the float32 file it was made from.

        Raises:
            CheckpointError: as for the constructor.
        """
        import onnx

        return cls(onnx.load(str(path)), float_convolutions(source), path.name)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) RGB in 0-1, any B -> the file's outputs in their order: raw maps."""
        values: dict[str, Tensor] = {self._inputs[0]: images}
        values.update((name, self.numbers[index]) for name, index in self._number_of.items())
        for node in self._nodes:
            values[node.output] = self._run(node, values)
        return tuple(values[name] for name in self._outputs)

    def write(self, path: Path) -> None:
        """Write the file with the numbers as they are now, and nothing else changed."""
        from onnx import numpy_helper

        model, found = copy.deepcopy(self._model), self._initializers()
        for tensor in model.graph.initializer:
            before = self._arrays[tensor.name]
            now = found.get(tensor.name, before).reshape(before.shape).astype(before.dtype)
            if not np.array_equal(before, now):
                tensor.CopyFrom(numpy_helper.from_array(now, tensor.name))
        path.write_bytes(model.SerializeToString(deterministic=True))

    def _run(self, node: Node, values: Mapping[str, Tensor]) -> Tensor:
        name = node.inputs[0]
        if node.operator == QUANTIZE:  # and back at once: its DequantizeLinear has nothing to do
            return self._quantizer(node.inputs[1])(values[name])  # type: ignore[no-any-return]
        if node.operator != DEQUANTIZE:
            inputs = [values[each] if each else None for each in node.inputs]
            return OPERATORS[node.operator](inputs, node.attributes)
        if name in self._scale_of:
            return values[name]
        if name in self._bias_scales:
            return fake_quantize(values[name], self._bias_scale(name).detach(), INT32)
        return self._quantizer(node.inputs[1])(values[name])  # type: ignore[no-any-return]

    def _quantizer(self, scale: str) -> FakeQuantize:
        quantizer = self.quantizers[self._quantizer_of[scale]]
        if not isinstance(quantizer, FakeQuantize):
            raise TypeError(f"{scale} has no FakeQuantize")
        return quantizer

    def _bias_scale(self, name: str) -> Tensor:
        """(K,), or (1,) for one scale: input scale times weight scale."""
        of_input, of_weight = self._bias_scales[name]
        return (self._quantizer(of_input).scale * self._quantizer(of_weight).scale).flatten()

    @torch.no_grad()
    def _initializers(self) -> dict[str, Array]:
        """The present values of the file's initializers, by name."""
        found: dict[str, Array] = {
            name: self._quantizer(name).scale.cpu().numpy() for name in self._quantizer_of
        }
        for name, index in self._number_of.items():
            found[name] = self.numbers[index].detach().cpu().numpy()
        for node in self._nodes:
            name = node.inputs[0]
            if node.operator != DEQUANTIZE or name in self._scale_of:
                continue
            if name in self._bias_scales:
                scale = self._bias_scale(name).cpu().numpy()
                found[node.inputs[1]] = scale
                found[name] = (found[name].astype(np.float64) / scale).round().clip(*INT32)
            else:
                found[name] = self._quantizer(node.inputs[1]).quantize(
                    self.numbers[self._number_of[name]]
                )
        return found

    def _read_activation(self, node: Node) -> None:
        """Read the scale of a QuantizeLinear; refuse one that no DequantizeLinear inverts."""
        for other in self._nodes:
            pair = other.operator == DEQUANTIZE and other.inputs[1:] == node.inputs[1:]
            if node.output in other.inputs and not pair:
                raise self._refusal(node, f"is followed by {other.name}, not by its inverse")
        if self._arrays[node.inputs[1]].size != 1:
            raise self._refusal(node, "has several scales, expected one for all of an activation")
        trained = node.inputs[0] not in self._inputs
        limits = np.iinfo(self._zero_points(node).dtype)
        self._add_quantizer(node, (int(limits.min), int(limits.max)), (), trained=trained)
        self._scale_of[node.output] = node.inputs[1]

    def _add_quantizer(
        self, node: Node, limits: tuple[int, int], shape: tuple[int, ...], *, trained: bool
    ) -> None:
        """Add a FakeQuantize for a node's scale, unless another node's scale is the same one."""
        scale, zero = self._arrays[node.inputs[1]], self._zero_points(node)
        if len(np.unique(zero)) != 1:
            raise self._refusal(node, "has several zero points, expected one")
        quantizer = FakeQuantize(scale.reshape(shape), int(zero.flat[0]), limits, trained=trained)
        index = self._quantizer_of.setdefault(node.inputs[1], len(self.quantizers))
        if index == len(self.quantizers):
            self.quantizers.append(quantizer)
        elif quantizer.low != self._quantizer(node.inputs[1]).low:
            raise self._refusal(node, "shares its scale with another zero point")

    def _read_convolution(self, node: Node, masters: Masters | None) -> None:
        if masters is None or (masters.bias is None) != (not node.input(2)):
            raise self._refusal(node, "the float32 file has no such convolution")
        weight = self._add_master(node, node.inputs[1], masters.weight)
        if weight is not None:
            self._read_weight(weight)
        bias = None
        if masters.bias is not None:
            bias = self._add_master(node, node.inputs[2], masters.bias)
        if bias is not None:
            self._read_bias(node, bias, weight)

    def _read_bias(self, node: Node, bias: Node, weight: Node | None) -> None:
        """Check that an integer bias has the scale of its products: input times weight."""
        before = self._writers.get(node.inputs[0])
        if weight is None or before is None or before.inputs[0] not in self._scale_of:
            raise self._refusal(node, "its bias is rounded, but its input or its weight is not")
        scales = self._scale_of[before.inputs[0]], weight.inputs[1]
        if self._bias_scales.setdefault(bias.inputs[0], scales) != scales:
            raise self._refusal(node, "shares its bias with another convolution")
        product = self._bias_scale(bias.inputs[0]).detach().numpy()
        if not np.allclose(product, self._arrays[bias.inputs[1]].ravel(), rtol=1e-5, atol=0):
            raise self._refusal(node, "its bias has a scale that is not input times weight")

    def _read_weight(self, node: Node, *, trained: bool = True) -> None:
        """Add a FakeQuantize for a stored tensor: one scale, or one per index along an axis."""
        stored, scale = self._arrays[node.inputs[0]], self._arrays[node.inputs[1]]
        limits = weight_limits(stored, int(self._zero_points(node).flat[0]))
        self._add_quantizer(node, limits, _per_channel(node, scale, stored.ndim), trained=trained)

    def _read_constants(self, node: Node) -> None:
        """Read inputs that are constants: factors, bounds, stored tensors; they are not trained."""
        for name in node.inputs:
            writer = self._writers.get(name)
            if name in self._arrays:
                self._add_number(name, self._arrays[name], trained=False)
            elif writer and writer.operator == DEQUANTIZE and writer.inputs[0] in self._arrays:
                self._read_weight(writer, trained=False)
                self._add_number(writer.inputs[0], self._stored(writer), trained=False)

    def _add_master(self, node: Node, name: str, master: Array) -> Node | None:
        """A float32 weight or bias of a convolution, which takes it as `name`.

        Returns:
            The DequantizeLinear by which it takes it; None where the file holds it in float32.

        Raises:
            CheckpointError: the file's differs by more than rounding explains.
        """
        writer = self._writers.get(name)
        held = name if writer is None else writer.inputs[0]
        if held not in self._arrays or (writer is not None and writer.operator != DEQUANTIZE):
            raise self._refusal(node, f"{name} is computed, expected numbers that the file holds")
        stored, step = self._arrays[held], np.zeros((), np.float32)
        if writer is not None:
            stored, step = self._stored(writer), self._arrays[writer.inputs[1]]
            step = step.reshape(_per_channel(writer, step, stored.ndim))
        alike = master.shape == stored.shape
        if alike:
            far = np.abs(master - stored) > MAX_STEPS_APART * step + 1e-6 * np.abs(master)
            alike = master.ndim == 1 or not far.any()
        if not alike:
            raise self._refusal(
                node, "has other numbers in the float32 file; give the file that it was made from"
            )
        # Biases may have been corrected since.
        self._add_number(held, np.where(far, stored, master).astype(np.float32), trained=True)
        return writer

    def _stored(self, node: Node) -> Array:
        """The float32 values that a DequantizeLinear makes of its stored integers."""
        integers, scale = self._arrays[node.inputs[0]], self._arrays[node.inputs[1]]
        steps = (integers.astype(np.int64) - int(self._zero_points(node).flat[0])).astype(
            np.float32
        )
        stored: Array = steps * scale.reshape(_per_channel(node, scale, integers.ndim))
        return stored

    def _zero_points(self, node: Node) -> Array:
        """The zero points of a QuantizeLinear or DequantizeLinear; by default an unsigned 0."""
        return self._arrays[node.input(2)] if node.input(2) else np.zeros((), np.uint8)

    def _add_number(self, name: str, value: Array, *, trained: bool) -> None:
        if self._number_of.setdefault(name, len(self.numbers)) == len(self.numbers):
            self.numbers.append(nn.Parameter(torch.from_numpy(value.copy()), requires_grad=trained))

    def _refusal(self, node: Node, why: str) -> CheckpointError:
        name = node.name or node.output
        return CheckpointError(f"{self._where}: {node.operator} {name}: {why}")


def _per_channel(node: Node, scale: Array, dimensions: int) -> tuple[int, ...]:
    """The shape in which a scale broadcasts over a tensor: () if there is one for all of it."""
    if scale.size == 1:
        return ()
    axis = node.attributes.get("axis", 1) % dimensions
    return tuple(scale.size if index == axis else 1 for index in range(dimensions))


def float_convolutions(source: Path) -> dict[str, Masters]:
    """Weight and bias of every convolution of a float32 file, by its node's name."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(source))
    arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    return {
        node.name: Masters(arrays[node.inputs[1]], arrays.get(node.input(2)))
        for node in nodes_of(model)
        if node.operator == "Conv"
    }
