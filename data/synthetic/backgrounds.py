"""Backgrounds: coloured noise crossed by lines."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.floating[Any]]


def hsv_to_rgb(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    """A colour from hue, saturation and value, each 0-1."""
    pixel = np.array([[[hue * 360 % 360, saturation, value]]], np.float32)
    red, green, blue = cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return red, green, blue


def fractal_noise(
    generator: np.random.Generator, image_hw: tuple[int, int], cells: int, octaves: int
) -> Image:
    """(H, W) noise of several scales, scaled to 0-1.

    Args:
        generator: source of randomness.
        image_hw: height and width.
        cells: how many random values span the coarsest scale; each octave doubles it.
        octaves: how many scales, each half as strong as the one before.
    """
    height, width = image_hw
    total = np.zeros(image_hw, np.float32)
    for octave in range(octaves):
        count = cells * 2**octave
        coarse = generator.standard_normal((count, count)).astype(np.float32)
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) / 2**octave
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)


def draw_background(generator: np.random.Generator, image_hw: tuple[int, int]) -> Image:
    """(H, W, 3) RGB 0-1: two colours mixed by noise and a slope of light, with lines across."""
    hue = generator.uniform()
    dark = _muted_color(generator, hue, (0.15, 0.45))
    bright = _muted_color(generator, hue + generator.uniform(-0.2, 0.2), (0.5, 0.9))
    rough = fractal_noise(generator, image_hw, int(generator.integers(2, 6)), 6)
    mix = (rough * generator.uniform(0.4, 1.0))[..., None]
    ground = np.asarray(dark * (1 - mix) + bright * mix, np.float32)
    ground *= _slope_of_light(generator, image_hw)[..., None]
    return _with_lines(generator, np.clip(ground, 0, 1))


def _muted_color(
    generator: np.random.Generator, hue: float, value_range: tuple[float, float]
) -> Image:
    saturation = generator.uniform(0.05, 0.5)
    return np.array(hsv_to_rgb(hue, saturation, generator.uniform(*value_range)), np.float32)


def _slope_of_light(generator: np.random.Generator, image_hw: tuple[int, int]) -> Image:
    """(H, W) brightness that rises evenly in some direction, about 0.7 to 1.3."""
    angle, strength = generator.uniform(0, 2 * np.pi), generator.uniform(0, 0.3)
    down, across = np.mgrid[-1 : 1 : image_hw[0] * 1j, -1 : 1 : image_hw[1] * 1j]
    slope = 1 + strength * (np.cos(angle) * across + np.sin(angle) * down) / np.sqrt(2)
    return np.asarray(slope, np.float32)


def _with_lines(generator: np.random.Generator, ground: Image) -> Image:
    """Thin lines and arcs, half transparent, as clutter."""
    height, width = ground.shape[:2]
    lines = ground.copy()
    for _ in range(generator.integers(0, 9)):
        color = tuple(generator.uniform(0.1, 0.9, 3).tolist())
        thickness = int(generator.integers(1, max(2, max(height, width) // 80)))
        ends = generator.uniform(-0.1, 1.1, (2, 2)) * (width, height)
        first, second = ends.astype(int).tolist()
        if generator.uniform() < 0.6:
            cv2.line(lines, first, second, color, thickness, cv2.LINE_AA)
        else:
            axes = generator.uniform(0.1, 0.6, 2) * (width, height)
            sweep = float(generator.uniform(40, 160))
            turn = float(generator.uniform(0, 360))
            radii = axes.astype(int).tolist()
            cv2.ellipse(lines, first, radii, turn, 0, sweep, color, thickness, cv2.LINE_AA)
    return cv2.addWeighted(ground, 0.45, lines, 0.55, 0)  # type: ignore[return-value]
