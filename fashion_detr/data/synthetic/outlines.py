"""Outlines from control points: curves, bands, ellipses."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # (n, 2): x, y


@lru_cache(maxsize=64)
def _spline_matrix(count: int, steps: int, closed: bool) -> Points:
    """The matrix that takes `count` control points to a Catmull-Rom curve through them."""
    segments = count if closed else count - 1
    t = np.arange(segments * steps + (not closed)) / steps
    segment = np.minimum(t.astype(int), segments - 1)
    f = t - segment
    weights = (-(f**3) + 2 * f**2 - f, 3 * f**3 - 5 * f**2 + 2, -3 * f**3 + 4 * f**2 + f, f**3 - f**2)
    matrix = np.zeros((len(t), count))
    for offset, weight in enumerate(weights, start=-1):
        neighbour = (segment + offset) % count if closed else (segment + offset).clip(0, count - 1)
        np.add.at(matrix, (np.arange(len(t)), neighbour), weight / 2)
    return matrix


def curve(points: Any, steps: int = 5, closed: bool = False) -> Points:
    return _spline_matrix(len(points), steps, closed) @ np.asarray(points, float)


@lru_cache(maxsize=64)
def _fractions(count: int) -> Points:
    return np.linspace(0, 1, count)


def tube(path: Points, half_widths: Sequence[float]) -> Points:
    """The outline of a band around a path: limbs, sleeves, straps."""
    along = np.empty_like(path)
    along[1:-1] = path[2:] - path[:-2]
    along[0], along[-1] = path[1] - path[0], path[-1] - path[-2]
    widths = np.interp(_fractions(len(path)), _fractions(len(half_widths)), half_widths)
    across = along[:, ::-1] * (widths / np.hypot(along[:, 0], along[:, 1]))[:, None] * (1, -1)
    return np.concatenate([path + across, (path - across)[::-1]])


@lru_cache(maxsize=1)
def circle() -> Points:
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def ellipse(x: float, y: float, half_width: float, half_height: float) -> Points:
    return circle() * (half_width, half_height) + (x, y)


def star(count: int, inner: float) -> Points:
    """A star, or with a curve through its corners a flower, of radius 1."""
    angles = np.arange(2 * count) * np.pi / count - np.pi / 2
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.where(np.arange(2 * count) % 2, inner, 1.0)[:, None]


def direction(path: Points) -> Points:
    step = path[-1] - path[-2]
    return step / np.hypot(*step)
