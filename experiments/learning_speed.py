"""How fast composed kernels learn beside a plain one: `python -m experiments.learning_speed`.

Where g is the gradient of the loss by a kernel, a step of SGD moves the kernel of a plain
convolution by -lr g, and a composed one's by -lr J J^T g, J being the derivative of the kernel by
its parameters. The speed is the mean of |J^T g|^2 / |g|^2 over gradients of random directions. A
norm after the convolution makes the size of the kernel irrelevant: what turns is its direction, at
the speed divided by the squared size.
"""

from __future__ import annotations

import argparse
import datetime
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from experiments.training_runs import REPORTS, machine_line
from models.reparam.composed_kernel import ComposedKernel
from models.reparam.families import block_family
from models.reparam.rep_block import ConvGeometry
from utils.logs import configure_logging
from utils.output_files import write_text

logger = logging.getLogger(__name__)
SHAPES = ((16, 16, 3), (64, 64, 3), (128, 256, 3), (64, 64, 1), (3, 32, 6))  # in, out, size
BLOCKS = (
    "OREPA(start=plain)",
    "OREPA(start=plain, scaling=scalar)",
    "OREPA(start=paper)",
    "OREPA(start=paper, scaling=none)",
    "OREPAVGG(start=plain)",
    "OREPAVGG(start=paper)",
)
FREE = "OREPA(start=paper)"  # also with a free kernel that alone learns as fast as a plain one


def learning_speed(kernel: ComposedKernel, gradients: int = 20) -> float:
    """The mean of |J^T g|^2 / |g|^2 over so many gradients of random directions."""
    parameters, found = list(kernel.parameters()), []
    for _ in range(gradients):
        weight = kernel.compose(torch.float64)
        g = torch.randn_like(weight)
        derivatives = torch.autograd.grad((weight * g).sum(), parameters)
        found.append(sum(float(d.square().sum()) for d in derivatives) / float(g.square().sum()))
    return sum(found) / len(found)


def row(text: str, geometry: ConvGeometry, *, free: bool = False) -> str:
    """Speed, size beside a plain kernel's, and speed over squared size, as cells of a table."""
    torch.manual_seed(0)
    block = block_family(text, "rep_block").make(geometry, nn.Identity(), identity=False)
    (kernel,) = (part for part in block.double().modules() if isinstance(part, ComposedKernel))
    plain = geometry.conv(bias=False).weight.detach().double()
    if free:
        nn.init.ones_(kernel.scales["origin"])
        kernel.set_kernel(plain)
    size = float(kernel.compose(torch.float64).detach().norm() / plain.norm())
    speed = learning_speed(kernel)
    return f"{speed:.2f} | {size:.2f} | {speed / size**2:.2f} |"


def report() -> str:
    """All blocks in all geometries, in Markdown."""
    lines = [
        f"# How fast composed kernels learn, {datetime.date.today()}", "",
        "Speed: how far a step of SGD moves the kernel, beside a plain convolution's, for a "
        "gradient of random direction (mean of 20). Size: norm of the kernel that it starts with, "
        "beside that of a plain one. Turns: speed over squared size, which is what counts before a "
        "norm. Seed 0; no data are needed.", "", machine_line(), "",
        "Made by `python -m experiments.learning_speed`.", "",
        "| block | convolution | speed | size | turns |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for shape in SHAPES:
        geometry = ConvGeometry(*shape)
        name = f"{geometry.kernel_size}x{geometry.kernel_size}, {shape[0]} to {shape[1]} channels"
        for text in BLOCKS:
            if geometry.kernel_size <= 3 or not text.startswith("OREPAVGG"):  # that has no stack
                lines.append(f"| `{text}` | {name} | {row(text, geometry)}")
        freed = row(FREE, geometry, free=True)
        lines.append(f"| the authors' terms, free kernel at 1 | {name} | {freed}")
    return "\n".join([*lines, ""])


def main(argv: Sequence[str] | None = None) -> None:
    """Write `learning_speed_cpu_<date>.md`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", 1)[0])
    parser.add_argument("--out", type=Path, default=REPORTS, help="folder of the report")
    folder = parser.parse_args(argv).out
    configure_logging()
    path = folder / f"learning_speed_cpu_{datetime.date.today()}.md"
    write_text(path, report())
    logger.info("Report: %s", path)


if __name__ == "__main__":
    main()
