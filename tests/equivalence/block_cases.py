"""The matrix: every block family in every geometry it allows."""

from __future__ import annotations

from typing import Any

from models.reparam.families import FAMILIES
from tests.block_equivalence import BlockCase

GEOMETRIES: dict[str, dict[str, Any]] = {
    "in == out": {"in_channels": 8, "out_channels": 8},
    "in == out, odd": {"in_channels": 8, "out_channels": 8, "hw": (5, 9)},
    "identity off": {"in_channels": 8, "out_channels": 8, "identity": False},
    "in != out": {"in_channels": 6, "out_channels": 10},
    "stride 2": {"in_channels": 8, "out_channels": 8, "stride": 2},
    "stride 2, odd": {"in_channels": 4, "out_channels": 6, "stride": 2, "hw": (9, 5)},
    "2 groups": {"in_channels": 8, "out_channels": 8, "groups": 2},
    "4 groups, in != out": {"in_channels": 8, "out_channels": 12, "groups": 4},
    "depthwise": {"in_channels": 6, "out_channels": 6, "groups": 6},
    "depthwise, stride 2": {"in_channels": 6, "out_channels": 6, "groups": 6, "stride": 2},
    "depthwise, 2 filters": {"in_channels": 4, "out_channels": 8, "groups": 4},
    "1x1": {"in_channels": 6, "out_channels": 6, "kernel_size": 1},
    "1x1, stride 2, 2 groups": {
        "in_channels": 4, "out_channels": 6, "kernel_size": 1, "stride": 2, "groups": 2,
    },
    "5x5": {"in_channels": 4, "out_channels": 4, "kernel_size": 5},
    "5x5, stride 2, odd": {
        "in_channels": 4, "out_channels": 6, "kernel_size": 5, "stride": 2, "hw": (9, 7),
    },
    "dilated": {"in_channels": 4, "out_channels": 4, "dilation": 2},
    "dilated, stride 2, 2 groups": {
        "in_channels": 4, "out_channels": 6, "dilation": 2, "stride": 2, "groups": 2,
    },
    "dilated 5x5, depthwise": {
        "in_channels": 3, "out_channels": 3, "dilation": 2, "kernel_size": 5, "groups": 3,
    },
    "padded more than needed": {"in_channels": 4, "out_channels": 4, "padding": 3},
    "one channel": {"in_channels": 1, "out_channels": 1, "hw": (3, 3)},
    "input of one cell": {"in_channels": 4, "out_channels": 4, "hw": (1, 1)},
}  # fmt: skip

# Those that return the shape of their input.
WITH_IDENTITY = {
    "in == out", "in == out, odd", "2 groups", "depthwise", "1x1", "5x5", "dilated",
    "dilated 5x5, depthwise", "one channel", "input of one cell",
}  # fmt: skip


# A family with other options has the branches of the family, or fewer: fewer geometries do.
WITH_OPTIONS = (
    "OREPA(scaling=scalar)",
    "OREPA(scaling=none)",
    "OREPA(post_bn=false)",
    "ACB(horizontal=false)",
    "ACB(vertical=false)",
    "ACB(branch_bn=false)",
)
FOR_OPTIONS = {
    "in == out, odd", "in != out", "stride 2, odd", "4 groups, in != out", "depthwise", "1x1",
    "5x5, stride 2, odd", "dilated, stride 2, 2 groups", "padded more than needed", "one channel",
}  # fmt: skip


def cases_of(kind: str) -> dict[str, BlockCase]:
    """`kind` in every geometry it allows."""
    pooling = kind == "DBB"  # which has no dilation
    names = FOR_OPTIONS if kind in WITH_OPTIONS else GEOMETRIES.keys()
    return {
        name: BlockCase(kind, **geometry)
        for name, geometry in GEOMETRIES.items()
        if name in names and not (pooling and "dilation" in geometry)
    }


KINDS = (*FAMILIES, "MobileOne(branches=1)", *WITH_OPTIONS, "Conv")
WITHOUT_NORMS = "OREPA(post_bn=false)"  # a bias in their place
CASES = {f"{kind}: {name}": case for kind in KINDS for name, case in cases_of(kind).items()}
CASES["Conv: with bias"] = BlockCase("Conv", 4, 8, bias=True)
# Kernels beside which no branch lies centred: none is needed where all are merged first.
MERGED_FIRST = ("Conv", "OREPA", "OREPA(post_bn=false)")
for kind in MERGED_FIRST:
    CASES[f"{kind}: even kernel"] = BlockCase(kind, 3, 8, kernel_size=6, stride=2, padding=2)
    CASES[f"{kind}: 2x2"] = BlockCase(kind, 4, 6, kernel_size=2, stride=2, groups=2)
    CASES[f"{kind}: 4x4, dilated"] = BlockCase(kind, 4, 4, kernel_size=4, dilation=2)
    CASES[f"{kind}: without padding"] = BlockCase(kind, 4, 8, padding=0)
    CASES[f"{kind}: 5x5 without padding"] = BlockCase(kind, 4, 8, kernel_size=5, padding=0)
