"""The things to detect, as lit and anti-aliased patches.

Each outline is a function of the distance to its edge on a grid where the shape spans about -1 to 1
(positive inside). The distance gives the smooth edge, the relief, and with the relief the shading.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]

RING_WIDTH = 0.3
CROSS_ARM = 0.34
CRATE_SIDE = 0.78
STAR_WAIST = 0.45
MARGIN = 1.12  # the grid reaches this far, so that soft edges are not cut off


@dataclass(frozen=True, slots=True)
class Look:
    """How one shape appears.

    Attributes:
        outline: a key of OUTLINES.
        diameter: in pixels.
        angle: rotation in radians.
        stretch: width over height before rotation, as if seen from the side.
        color: RGB, each 0-1.
        light_angle: where the light comes from, in radians.
    """

    outline: str
    diameter: float
    angle: float
    stretch: float
    color: tuple[float, float, float]
    light_angle: float


@dataclass(frozen=True, slots=True)
class Patch:
    """A drawn shape: `color` (S, S, 3) RGB 0-1 and `alpha` (S, S) 0-1, its centre in the middle."""

    color: Array
    alpha: Array


def render(look: Look) -> Patch:
    """Draw a shape on a patch of its own."""
    side = int(np.ceil(look.diameter * MARGIN)) | 1
    steps = (np.arange(side, dtype=np.float32) - side // 2) / (look.diameter / 2)
    across, down = np.meshgrid(steps, steps)
    cosine, sine = np.float32(np.cos(look.angle)), np.float32(np.sin(look.angle))
    x = (cosine * across + sine * down) / np.float32(look.stretch)
    y = cosine * down - sine * across
    depth = OUTLINES[look.outline](x, y)
    alpha = np.clip(depth * look.diameter / 2 + 0.5, 0, 1)
    shade, shine = _light(_relief(look.outline, depth), look)
    paint = np.array(look.color, np.float32) * _pattern(look.outline, x, y, depth)[..., None]
    color = np.clip(paint * shade[..., None] + shine[..., None], 0, 1)
    return Patch(color.astype(np.float32), alpha.astype(np.float32))


def _ball(x: Array, y: Array) -> Array:
    return np.subtract(1, np.hypot(x, y))


def _oval(x: Array, y: Array) -> Array:
    depth: Array = (1 - np.hypot(x / 0.55, y)) * 0.55
    return depth


def _ring(x: Array, y: Array) -> Array:
    half = RING_WIDTH / 2
    return np.subtract(half, np.abs(np.hypot(x, y) - (1 - half)))


def _star(x: Array, y: Array) -> Array:
    return _folded_polygon(x, y, points=5, waist=STAR_WAIST)


def _triangle(x: Array, y: Array) -> Array:
    return _folded_polygon(x, y, points=3, waist=0.5)


def _cross(x: Array, y: Array) -> Array:
    x, y = np.abs(x), np.abs(y)
    depth: Array = np.maximum(np.minimum(CROSS_ARM - x, 1 - y), np.minimum(1 - x, CROSS_ARM - y))
    return depth


def _crate(x: Array, y: Array) -> Array:
    depth: Array = np.minimum(CRATE_SIDE - np.abs(x), CRATE_SIDE - np.abs(y))
    return depth


def _moon(x: Array, y: Array) -> Array:
    depth: Array = np.minimum(1 - np.hypot(x, y), np.hypot(x - 0.5, y) - 0.75)
    return depth


def _folded_polygon(x: Array, y: Array, points: int, waist: float) -> Array:
    """A star: every point is folded onto one edge, from a tip (radius 1) to a waist."""
    half = np.pi / points
    angle = np.abs((np.arctan2(y, x) + half) % (2 * half) - half)
    radius = np.hypot(x, y)
    edge_x, edge_y = waist * np.cos(half) - 1, waist * np.sin(half)
    along_x, along_y = radius * np.cos(angle) - 1, radius * np.sin(angle)
    depth: Array = (edge_x * along_y - edge_y * along_x) / np.hypot(edge_x, edge_y)
    return depth


OUTLINES: dict[str, Callable[[Array, Array], Array]] = {
    "ball": _ball,
    "star": _star,
    "ring": _ring,
    "crate": _crate,
    "cross": _cross,
    "moon": _moon,
    "oval": _oval,
    "triangle": _triangle,
}
CLASS_NAMES = ("ball", "star", "ring", "crate", "cross", "moon")
DISTRACTORS = ("oval", "triangle")  # drawn, never labelled


def _relief(outline: str, depth: Array) -> Array:
    """Height above the ground: a sphere, a tube, roofs, or a flat top with a chamfer."""
    inside = np.clip(depth, 0, None)
    relief: Array
    if outline in ("ball", "oval"):
        relief = np.sqrt(inside * (2 - inside))
    elif outline in ("ring", "moon"):
        tube = RING_WIDTH if outline == "ring" else 0.5
        relief = np.sqrt(np.clip(inside * (tube - inside), 0, None))
    elif outline == "star":
        relief = inside * 0.9
    else:
        relief = np.minimum(inside, 0.12)
    return relief


def _light(relief: Array, look: Look) -> tuple[Array, Array]:
    """Diffuse light (about 0.3 to 1.2) and specular shine (0 to 0.6) on a relief."""
    slope_y, slope_x = np.gradient(relief * (look.diameter / 2))
    length = np.sqrt(slope_x**2 + slope_y**2 + 1)
    light = np.array([np.cos(look.light_angle) * 0.6, np.sin(look.light_angle) * 0.6, 0.53])
    facing = (-slope_x * light[0] - slope_y * light[1] + light[2]) / length
    shade = 0.35 + 0.9 * np.clip(facing, 0, 1)
    # The eye looks straight down: the mirrored light's upward part decides the shine.
    shine = 0.6 * np.clip(2 * facing / length - light[2], 0, 1) ** 12
    return shade.astype(np.float32), shine.astype(np.float32)


def _pattern(outline: str, x: Array, y: Array, depth: Array) -> Array:
    """(S, S) factors on the colour: a crate has stripes inside a frame, a ball a belt."""
    pattern = np.ones_like(x)
    if outline == "crate":
        pattern[(depth > 0.16) & (np.sin(x * 12) > 0)] = 0.5
    if outline == "ball":
        pattern[np.abs(y) < 0.13] = 0.55
    return pattern
