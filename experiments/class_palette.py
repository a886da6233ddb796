"""Choose the colors of classes: `python -m experiments.class_palette` prints them.

Of a grid of sRGB colors that are neither dark, pale nor gray, and on which dark or light letters
can be read, each next one is the farthest from all before it, so that few classes get the most
different colors. Neighbours in the list are then put far apart. Distances are CIEDE2000.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from utils.draw import contrast, text_color
from utils.letterbox import MAX_PIXEL

logger = logging.getLogger(__name__)
FIRST, COUNT = 20, 80
STEP, MIN_LIGHTNESS, MAX_LIGHTNESS, MIN_CHROMA, MIN_CONTRAST = 15, 38, 95, 25, 4.5
START = (255, 60, 45)
Floats = npt.NDArray[np.float64]


def lab(rgb: Floats) -> Floats:
    """CIELAB (N, 3) of sRGB colors (N, 3) in 0-255, white point D65."""
    share = rgb / MAX_PIXEL
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
         [0.0193339, 0.1191920, 0.9503041]]
    )  # fmt: skip
    x, y, z = (linear @ to_xyz.T / np.array([0.95047, 1.0, 1.08883])).T
    fx, fy, fz = (
        np.where(each > (6 / 29) ** 3, np.cbrt(each), each / (3 * (6 / 29) ** 2) + 4 / 29)
        for each in (x, y, z)
    )
    return np.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], axis=-1)


def ciede2000(one: Floats, other: Floats) -> Floats:
    """Perceptual distance of CIELAB colors (..., 3), after Sharma, Wu and Dalal (2005)."""
    L1, a1, b1 = np.moveaxis(one, -1, 0)
    L2, a2, b2 = np.moveaxis(other, -1, 0)
    mean_C = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    stretch = 1.5 - 0.5 * np.sqrt(mean_C**7 / (mean_C**7 + 25.0**7))
    a1, a2 = a1 * stretch, a2 * stretch
    C1, C2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = np.degrees(np.arctan2(b1, a1)) % 360, np.degrees(np.arctan2(b2, a2)) % 360
    gray = C1 * C2 == 0
    turn = np.where(gray, 0.0, (h2 - h1 + 180) % 360 - 180)
    dL, dC = L2 - L1, C2 - C1
    dH = 2 * np.sqrt(C1 * C2) * np.sin(np.radians(turn) / 2)
    L, C = (L1 + L2) / 2, (C1 + C2) / 2
    h = np.where(gray, h1 + h2, (h1 + turn / 2) % 360)
    T = (
        1 - 0.17 * np.cos(np.radians(h - 30)) + 0.24 * np.cos(np.radians(2 * h))
        + 0.32 * np.cos(np.radians(3 * h + 6)) - 0.20 * np.cos(np.radians(4 * h - 63))
    )  # fmt: skip
    S_L = 1 + 0.015 * (L - 50) ** 2 / np.sqrt(20 + (L - 50) ** 2)
    S_C, S_H = 1 + 0.045 * C, 1 + 0.015 * C * T
    blue = 30 * np.exp(-(((h - 275) / 25) ** 2))
    R = -np.sin(np.radians(2 * blue)) * 2 * np.sqrt(C**7 / (C**7 + 25.0**7))
    parts = (dL / S_L) ** 2 + (dC / S_C) ** 2 + (dH / S_H) ** 2 + R * dC / S_C * dH / S_H
    return np.asarray(np.sqrt(parts), np.float64)


def smallest_distance(rgb: Floats) -> float:
    """The smallest distance between any two of the colors (N, 3)."""
    found = lab(rgb)
    distances = ciede2000(found[:, None], found[None])
    return float(distances[~np.eye(len(rgb), dtype=bool)].min())


def candidates() -> Floats:
    """The colors to choose from, (N, 3) in 0-255."""
    steps = np.arange(0, 256, STEP, dtype=float)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    L, a, b = lab(grid).T
    usable = (L >= MIN_LIGHTNESS) & (L <= MAX_LIGHTNESS) & (np.hypot(a, b) >= MIN_CHROMA)
    readable = [_is_readable((int(r), int(g), int(b))) for r, g, b in grid]
    return np.asarray(grid[usable & np.array(readable)], np.float64)


def _is_readable(color: tuple[int, int, int]) -> bool:
    return contrast(color, text_color(color)) >= MIN_CONTRAST


def choose(colors: Floats) -> list[int]:
    """COUNT of the colors, the first FIRST farthest apart, neighbours in the list far apart."""
    found = lab(colors)
    chosen = [int(np.abs(colors - np.array(START)).sum(axis=1).argmin())]
    nearest = ciede2000(found, found[chosen[0]])
    while len(chosen) < COUNT:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, ciede2000(found, found[chosen[-1]]))
    ordered = [chosen[0]]
    for group in (chosen[1:FIRST], chosen[FIRST:]):
        left = list(group)
        while left:
            recent = found[ordered[-2:]]
            apart = ciede2000(found[left][:, None], recent[None]).min(axis=1)
            ordered.append(left.pop(int(apart.argmax())))
    return ordered


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and how far apart its colors are."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    colors = candidates()
    table = colors[choose(colors)]
    for start in range(0, COUNT, 7):
        line = (f"({r:.0f}, {g:.0f}, {b:.0f})," for r, g, b in table[start : start + 7])
        logger.info("    %s", " ".join(line))
    for count in (FIRST, COUNT):
        logger.info("%d colors: at least %.1f apart", count, smallest_distance(table[:count]))
    pairs = lab(table)
    logger.info("neighbours: at least %.1f apart", ciede2000(pairs[1:], pairs[:-1]).min())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
