"""What is around the figures, and what a camera makes of the scene."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from .cloth import shaded


@lru_cache(maxsize=4)
def _sensor_noise(height: int, width: int) -> Image.Image:
    noise = np.random.default_rng(4).normal(16, 3.5, (2 * height, 2 * width, 3))
    return Image.fromarray(noise.clip(0, 32).astype(np.uint8))


def background(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """A plain, graded or mottled wall with or without a floor, or a street of blocks."""
    wall, ground = (shaded(rng.integers(50, 236) + rng.normal(0, 16, 3).clip(-40, 40), 1.0) for _ in range(2))
    kind, horizon = int(rng.integers(4)), int(height * rng.uniform(0.72, 0.92))
    if kind == 1:
        light = np.linspace(rng.uniform(0.65, 1.0), rng.uniform(0.85, 1.15), height)[:, None, None]
        rows = (light * wall).clip(0, 255).astype(np.uint8)
        picture = Image.fromarray(rows).resize((width, height))
    elif kind == 2:
        cells = (int(rng.integers(5, 24)), int(rng.integers(5, 24)))
        coarse = (wall + rng.normal(0, 26, (*cells, 1)) + rng.normal(0, 8, (*cells, 3))).clip(0, 255)
        picture = Image.fromarray(coarse.astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    else:
        picture = Image.new("RGB", (width, height), wall)
    pen = ImageDraw.Draw(picture)
    if kind == 3:
        _draw_street(pen, rng, horizon, width)
    if kind == 3 or rng.random() < 0.5:
        pen.rectangle((0, horizon, width, height), fill=ground)
        pen.line((0, horizon, width, horizon), fill=shaded(ground, 0.7), width=max(1, height // 128))
    return picture


def _draw_street(pen: ImageDraw.ImageDraw, rng: np.random.Generator, horizon: int, width: int) -> None:
    left = 0
    while left < width:
        right, top = left + int(width * rng.uniform(0.15, 0.4)) + 1, int(horizon * rng.uniform(0.0, 0.6))
        front = shaded(rng.integers(60, 210) + rng.normal(0, 14, 3).clip(-40, 40), 1.0)
        pen.rectangle((left, top, right, horizon), fill=front)
        step = max(6, int(width * rng.uniform(0.06, 0.12)))
        for y in range(top + step // 2, horizon - step, step + step // 2):
            for x in range(left + step // 3, right - step // 2, step):
                pen.rectangle((x, y, x + step // 2, y + step), fill=shaded(front, 0.6))
        left = right


def _softened(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A lens's soft edges: every pixel gives an eighth to each of its two neighbours along the first axis."""
    quarter, eighth = pixels >> 2, pixels >> 3
    soft = pixels - quarter
    soft[1:-1] += eighth[:-2]
    soft[1:-1] += eighth[2:]
    soft[[0, -1]] += quarter[[0, -1]]
    return soft


def expose(pixels: NDArray[np.uint32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """What a camera makes of the scene: soft edges, exposure and white balance, noise."""
    height, width = pixels.shape
    channels = pixels.view(np.uint8).reshape(height, width, 4)
    soft = Image.fromarray(_softened(_softened(channels).swapaxes(0, 1)).swapaxes(0, 1)).convert("RGB")
    gains = rng.uniform(0.85, 1.1) * rng.uniform(0.95, 1.05, 3)
    levels = (np.arange(256) * gains[:, None]).clip(0, 255).astype(int).ravel().tolist()
    x, y = int(rng.integers(width)), int(rng.integers(height))
    noise = _sensor_noise(height, width).crop((x, y, x + width, y + height))
    return np.array(ImageChops.add(soft.point(levels), noise, 1, -16))
