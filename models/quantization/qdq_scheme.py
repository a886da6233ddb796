"""What an ONNX file rounds: pairs of QuantizeLinear and DequantizeLinear (QDQ) on its tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

IntegerType = Literal["u8", "s8", "u16"]


@dataclass(frozen=True, slots=True)
class QdqScheme:
    """The integers that tensors become; weights are always signed 8-bit ones.

    Attributes:
        activations: type of the integers that activations become.
        symmetric: the zero point of activations is 0.
        per_channel: weights have a scale per output channel.
        rounded_bias: biases become 32-bit integers.
        reduce_range: weights use 7 of their 8 bits, so that two products with 8-bit activations
            fit into 16 bits, as x86 processors without VNNI add them.
    """

    activations: IntegerType = "u8"
    symmetric: bool = False
    per_channel: bool = True
    rounded_bias: bool = True
    reduce_range: bool = False


U8S8 = QdqScheme()  # x86 processors and most runtimes
U16S8 = QdqScheme("u16")  # where 8 bits lose too much
S8S8 = QdqScheme("s8", symmetric=True, rounded_bias=False)  # compilers without zero points
