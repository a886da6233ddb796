"""The names that flags and model yamls choose blocks and activations by; known without torch."""

from __future__ import annotations

REP_BLOCKS = (
    "RepVGG",
    "RepConvN",
    "ACB",
    "DBB",
    "MobileOne",
    "QARepVGG",
    "OREPA",
    "OREPAVGG",
    "RepOpt",
    "LinearAdd",
)
REP_POLICIES = ("all", "downsample", "no-identity-in-residual")
ACTIVATIONS = ("SiLU", "LeakyReLU", "ReLU", "ReLU6", "Hardswish", "Mish", "GELU", "Identity")
