"""Figures of the block families: `python -m experiments.block_figures` writes docs/images/blocks.

Each is an SVG of a block in train form, from its input x on the left. Branches run side by side and
are added; kernels that are merged before the convolution stand above it.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from utils.output_files import write_text

logger = logging.getLogger(__name__)
FOLDER = Path(__file__).resolve().parents[1] / "docs" / "images" / "blocks"
NORM, CONVOLVE = "norm", "convolution"
FILLS = {  # kind of box -> fill and outline
    "conv": ("#dbeafe", "#0b6fb8"),
    "norm": ("#fdf2d0", "#b7791f"),
    "act": ("#e3f5e1", "#2f855a"),
    "kernel": ("#efe4fb", "#6b46c1"),
}
OTHER_KINDS = {NORM: "norm", "scale": "act"}  # of boxes that are no convolution or kernel
LINE, TEXT = "#52606d", "#1f2933"
BOX_HEIGHT, PITCH, GAP, MARGIN = 32, 46, 22, 14
FORK, LEFT = 36.0, 60.0  # where branches part, and where their first boxes begin
BELOW_TERMS = 30  # room for the line from the sum of kernels to the convolution
LETTER = 7.6  # width of one, in 14 px Helvetica, on average
RADIUS = 11

Steps = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BlockFigure:
    """A family's block where input and output have the same shape.

    Attributes:
        branches: what each branch computes, in order; an empty one is the identity.
        terms: kernels that are merged into the first convolution's: layers in a row, then a scale.
        post_norm: whether a norm follows the sum.
        note: text below.
    """

    branches: tuple[Steps, ...]
    terms: tuple[Steps, ...] = ()
    post_norm: bool = False
    note: str = ""


COMPOSED = (
    ("3x3", "scale"),
    ("1x1", "average", "scale"),
    ("1x1", "cosines", "scale"),
    ("1x1", "3x3", "scale"),
    ("depthwise 3x3", "1x1", "scale"),
)
THREE = (("3x3", NORM), ("1x1", NORM), (NORM,))
FIGURES = {
    "RepVGG": BlockFigure(THREE),
    "RepConvN": BlockFigure(THREE[:2]),
    "ACB": BlockFigure((("3x3", NORM), ("1x3", NORM), ("3x1", NORM))),
    "DBB": BlockFigure(
        (
            ("3x3", NORM),
            ("1x1", NORM),
            ("1x1", NORM, "3x3", NORM),
            ("1x1", NORM, "average", NORM),
        )
    ),
    "MobileOne": BlockFigure((("3x3", NORM),) * 4 + THREE[1:]),
    "QARepVGG": BlockFigure((("3x3", NORM), ("1x1",), ()), post_norm=True),
    "OREPA": BlockFigure(((CONVOLVE,),), (*COMPOSED, ("1x1", "scale")), post_norm=True),
    "OREPAVGG": BlockFigure(((CONVOLVE, NORM), *THREE[1:]), COMPOSED),
    "RepOpt": BlockFigure((("3x3", NORM),), note="the optimizer multiplies the gradient by G"),
    "LinearAdd": BlockFigure(
        ((CONVOLVE,),),
        (("3x3", "scale"), ("1x1", "scale"), ("identity", "scale")),
        post_norm=True,
    ),
}


class Canvas:
    """Elements of an SVG, and how far to the right they reach."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.boxes: list[str] = []
        self.right = 0.0

    def arrow(self, *points: tuple[float, float]) -> None:
        """A line through points, with an arrow at its end."""
        path = " L".join(f"{x:g} {y:g}" for x, y in points)
        self.lines.append(f'<path d="M{path}"/>')

    def text(self, x: float, y: float, text: str, size: int = 14) -> None:
        """A text whose middle is at x, y."""
        self.boxes.append(
            f'<text x="{x:g}" y="{y + size * 0.36:g}" font-size="{size}">{escape(text)}</text>'
        )
        self.right = max(self.right, x + len(text) * LETTER * size / 28)

    def box(self, left: float, y: float, text: str, kind: str) -> float:
        """A box around a text, its middle at height y; returns its right side."""
        width = width_of(text)
        fill, outline = FILLS[kind]
        self.boxes.append(
            f'<rect x="{left:g}" y="{y - BOX_HEIGHT / 2:g}" width="{width:g}" '
            f'height="{BOX_HEIGHT}" rx="5" fill="{fill}" stroke="{outline}"/>'
        )
        self.text(left + width / 2, y, text)
        self.right = max(self.right, left + width)
        return left + width

    def plus(self, x: float, y: float) -> None:
        """The sign of a sum."""
        self.boxes.append(
            f'<circle cx="{x:g}" cy="{y:g}" r="{RADIUS}" fill="#ffffff" stroke="{LINE}" '
            'stroke-width="1.5"/>'
        )
        self.text(x, y, "+")

    def svg(self, height: float, label: str) -> str:
        """The whole file; `label` describes it to who cannot see it."""
        width = round(self.right + MARGIN)
        arrow = '<path d="M0 0 L8 4 L0 8 z" fill="#52606d"/>'
        return "\n".join(
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:g}" '
                f'width="{width}" height="{height:g}" font-family="Helvetica, Arial, sans-serif" '
                f'role="img" aria-label="{escape(label)}">',
                '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
                f'markerHeight="7" orient="auto">{arrow}</marker></defs>',
                f'<rect width="{width}" height="{height:g}" rx="8" fill="#ffffff"/>',
                f'<g stroke="{LINE}" stroke-width="1.5" fill="none" marker-end="url(#arrow)">',
                *self.lines,
                f'</g>\n<g fill="{TEXT}" text-anchor="middle">',
                *self.boxes,
                "</g>\n</svg>\n",
            )
        )


def width_of(text: str) -> float:
    """Of a box around a text."""
    return round(max(44.0, len(text) * LETTER + 18))


def length_of(steps: Sequence[str]) -> float:
    """Of boxes in a row, with gaps between."""
    return sum(map(width_of, steps)) + GAP * max(len(steps) - 1, 0)


def draw(name: str, figure: BlockFigure) -> str:
    """The SVG of a family."""
    canvas = Canvas()
    first = MARGIN + BOX_HEIGHT / 2
    if figure.terms:
        top, first = first, first + PITCH * len(figure.terms) + BELOW_TERMS
        draw_terms(canvas, figure.terms, top, first)
    draw_branches(canvas, figure, first)
    bottom = first + PITCH * (len(figure.branches) - 1) + BOX_HEIGHT / 2 + MARGIN
    if figure.note:
        canvas.text(LEFT + 110, bottom + 4, figure.note, 12)
        bottom += 20
    return canvas.svg(bottom, description(name, figure))


def draw_terms(canvas: Canvas, terms: Sequence[Steps], top: float, target: float) -> None:
    """Kernels, each a chain of boxes, added and led down to the convolution at height `target`."""
    total_x = LEFT + max(map(length_of, terms)) + GAP + RADIUS
    middle = top + PITCH * (len(terms) - 1) / 2
    for number, steps in enumerate(terms):
        y = top + PITCH * number
        x = draw_steps(canvas, steps, y, "kernel")
        canvas.arrow((x, y), *way_to_sum(y, total_x, middle))
    canvas.plus(total_x, middle)
    right, turn = total_x + RADIUS + GAP, target - BOX_HEIGHT / 2 - 18
    conv_x = LEFT + width_of(CONVOLVE) / 2
    end = (conv_x, target - BOX_HEIGHT / 2)
    canvas.arrow((total_x + RADIUS, middle), (right, middle), (right, turn), (conv_x, turn), end)
    canvas.text(conv_x + 46, turn - 9, "kernel W", 12)
    canvas.right = max(canvas.right, right)


def draw_branches(canvas: Canvas, figure: BlockFigure, first: float) -> None:
    """The branches from x to their sum, the norm that may follow it, and the activation."""
    count = len(figure.branches)
    middle = first + PITCH * (count - 1) / 2
    total_x = LEFT + max(map(length_of, figure.branches)) + GAP + RADIUS
    canvas.text(12, middle, "x")
    for number, steps in enumerate(figure.branches):
        y = first + PITCH * number
        way = [(FORK, middle), (FORK, y)] if y != middle else [(22.0, y)]
        if steps:
            canvas.arrow(*way, (LEFT, y))
            way = [(draw_steps(canvas, steps, y, "conv"), y)]
        if steps in ((), (NORM,)):
            canvas.text(LEFT + 30 if not steps else LEFT + 82, y - 9, "identity", 12)
        if count > 1:
            canvas.arrow(*way, *way_to_sum(y, total_x, middle))
    x = LEFT + length_of(figure.branches[0])
    if count > 1:
        canvas.lines.append(f'<path d="M22 {middle:g} L{FORK:g} {middle:g}" marker-end="none"/>')
        canvas.plus(total_x, middle)
        x = total_x + RADIUS
    if figure.post_norm:
        canvas.arrow((x, middle), (x + GAP, middle))
        x = canvas.box(x + GAP, middle, NORM, "norm")
    canvas.arrow((x, middle), (x + GAP, middle))
    x = canvas.box(x + GAP, middle, "act.", "act")
    canvas.arrow((x, middle), (x + GAP, middle))
    canvas.right = max(canvas.right, x + GAP)


def draw_steps(canvas: Canvas, steps: Steps, y: float, kind: str) -> float:
    """Boxes in a row; returns where the last one ends."""
    x = LEFT
    for index, step in enumerate(steps):
        if index:
            canvas.arrow((x, y), (x + GAP, y))
            x += GAP
        x = canvas.box(x, y, step, OTHER_KINDS.get(step, kind))
    return x


def way_to_sum(y: float, total_x: float, middle: float) -> list[tuple[float, float]]:
    """Corners of the line from a row at height y to the circle of the sum."""
    if y == middle:
        return [(total_x - RADIUS, y)]
    return [(total_x, y), (total_x, middle + (RADIUS if y > middle else -RADIUS))]


def description(name: str, figure: BlockFigure) -> str:
    """The figure in a sentence, for who cannot see it."""
    branches = [", ".join(("identity", *steps) if steps in ((), (NORM,)) else steps)
                for steps in figure.branches]  # fmt: skip
    text = f"{name} in train form: {'; '.join(branches)}"
    text += ", summed" if len(branches) > 1 else ""
    text += ", norm" if figure.post_norm else ""
    terms = "; ".join(", ".join(steps) for steps in figure.terms)
    return f"{text}, activation." + (f" The kernel is the sum of: {terms}." if terms else "")


def write(folder: Path) -> Iterator[Path]:
    """Write a file per family."""
    for name, figure in FIGURES.items():
        path = folder / f"{name.lower()}.svg"
        write_text(path, draw(name, figure))
        yield path


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=FOLDER)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for path in write(parser.parse_args(argv).out):
        logger.info("%s", path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
