"""What clothes and skin are made of: colours, textile patterns, folds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Colour = tuple[int, int, int]

SKINS = ((246, 214, 190), (234, 192, 160), (214, 164, 128), (178, 124, 88), (128, 84, 58), (88, 58, 44))
HAIRS = ((28, 22, 22), (58, 38, 28), (104, 66, 38), (188, 148, 88), (140, 60, 36), (150, 148, 146))
COLOURS = (
    (32, 32, 38), (70, 72, 80), (128, 130, 134), (226, 224, 218), (244, 238, 222), (196, 168, 128),
    (150, 110, 74), (92, 62, 44), (38, 52, 92), (62, 96, 148), (130, 168, 206), (160, 40, 46),
    (206, 84, 72), (226, 150, 160), (112, 48, 92), (52, 92, 66), (120, 134, 84), (214, 172, 62),
)  # fmt: skip
METALS = ((206, 208, 214), (212, 180, 96), (92, 92, 98))

# A pattern maps cloth coordinates, in periods, to one of three tones: 0 the ground, 1 the accent, 2 between the two.


def _cell(u: Any, v: Any) -> tuple[Any, Any]:
    """Position within the cell of a half-drop repeat, from -0.5 to 0.5."""
    return u % 1 - 0.5, (v + 0.5 * (np.floor(u) % 2)) % 1 - 0.5


def _dot(u: Any, v: Any) -> Any:
    x, y = _cell(u, v)
    return x**2 + y**2 < 0.085


def _floral(u: Any, v: Any) -> Any:
    x, y = _cell(u / 1.5, v / 1.5)
    radius, petals = np.hypot(x, y), np.cos(5 * np.arctan2(y, x))
    return np.where(radius < 0.12, 2, radius < 0.27 + 0.13 * petals)


def _leopard(u: Any, v: Any) -> Any:
    x, y = _cell(u, v)
    jitter = np.sin(12.9 * np.floor(u) + 78.2 * np.floor(v))
    radius, gap = np.hypot(x + 0.1 * jitter, y - 0.1 * jitter), np.cos(np.arctan2(y, x) * 2 + 9 * jitter)
    return np.where(radius < 0.2, 2, (radius < 0.42) & (gap < 0.7))


def _argyle(u: Any, v: Any) -> Any:
    x, y = np.abs(u / 1.6 % 1 - 0.5), np.abs(v / 2.4 % 1 - 0.5)
    return np.where(np.abs(x - y) < 0.05, 2, x + y < 0.5)


def _camouflage(u: Any, v: Any) -> Any:
    waves = np.sin(2.1 * u + 1.3 * np.sin(1.7 * v)) + np.sin(1.9 * v + 1.1 * np.sin(2.3 * u))
    return np.where(waves > 0.5, 1, np.where(waves < -0.6, 2, 0))


PATTERNS: dict[str, tuple[Callable[[Any, Any], Any], ...]] = {
    "plain (pattern)": (lambda u, v: 0 * u * v,),
    "stripe": (lambda u, v: v % 1 < 0.45, lambda u, v: u % 1 < 0.4),
    "check": (
        lambda u, v: (u % 1 < 0.45) * 1.0 + (v % 1 < 0.45),
        lambda u, v: (u / 1.5 % 1 < 0.22) | (v / 1.5 % 1 < 0.22),
    ),
    "dot": (_dot,),
    "floral": (_floral,),
    "geometric": (lambda u, v: u % 1 > v % 1, lambda u, v: (u % 2 < 1) ^ (v % 2 < 1)),
    "chevron": (lambda u, v: (v + np.abs(u % 1 - 0.5)) % 1 < 0.45,),
    "argyle": (_argyle,),
    "leopard": (_leopard,),
    "camouflage": (_camouflage,),
}
PATTERNED = tuple(name for name in PATTERNS if name != "plain (pattern)")
_SHADES = 64  # steps from shadow to light that every tone has in a cloth's palette
_EDGE_INDEX = 3 * _SHADES  # after the three tones' shades


@lru_cache(maxsize=96)
def _pattern_field(name: str, variant: int, period: int, height: int, width: int) -> NDArray[np.uint8]:
    """A canvas of one pattern, one period larger than the picture; tone x 64, to which a shade is added."""
    v, u = np.ogrid[: height + period, : width + period]
    tones = PATTERNS[name][variant](u / period, v / period)
    return np.broadcast_to(np.asarray(tones, np.uint8) * _SHADES, (height + period, width + period)).copy()


def _smooth_noise(seed: int, cells: tuple[int, int], size: tuple[int, int]) -> NDArray[np.float32]:
    """Noise of about unit amplitude with `cells` (rows, columns) of detail, at `size` (height, width)."""
    coarse = np.random.default_rng(seed).uniform(-1, 1, cells).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))


@lru_cache(maxsize=4)
def _fold_field(height: int, width: int) -> NDArray[np.uint8]:
    """Shades (10..54) of hanging cloth, twice the picture's size: folds that run down, and the weave's grain."""
    size = (2 * height, 2 * width)
    folds = 11 * _smooth_noise(1, (9, 28), size) + 5 * _smooth_noise(2, (30, 60), size)
    grain = np.random.default_rng(3).normal(0, 3, size)
    return np.clip(32 + folds + grain, 10, 54).astype(np.uint8)


@lru_cache(maxsize=512)
def _roundness(width: int) -> NDArray[np.uint8]:
    """Shade steps across a body or a limb: the middle catches the light. Wraps around in uint8, on purpose."""
    x = np.linspace(-1, 1, width)
    return np.round(8 - 17 * np.abs(x + 0.15) ** 2.2).clip(-9, 8).astype(np.int8).view(np.uint8)


@dataclass(frozen=True)
class Cloth:
    """A material: three tones in 64 shades each, its pattern, and its own cut-out of pattern, folds and wobble."""

    colour: Colour
    palette: NDArray[np.uint32]
    pattern: str = "plain (pattern)"
    variant: int = 0
    period: int = 8
    pattern_phase: tuple[int, int] = (0, 0)
    fold_phase: tuple[float, float] = (0.0, 0.0)
    wobble: float = 0.0

    @property
    def edge(self) -> Colour:
        return shaded(self.colour, 0.72)

    def swatch(self, box: tuple[slice, slice], edge: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.uint32]:
        """The material, with its darker edge, as packed pixels inside `box` of a picture of `size` (height, width)."""
        (rows, columns), (height, width) = box, size
        y, x = rows.start + self.pattern_phase[0], columns.start + self.pattern_phase[1]
        tones = _pattern_field(self.pattern, self.variant, self.period, height, width)
        tones = tones[y : y + edge.shape[0], x : x + edge.shape[1]]
        y, x = rows.start + int(self.fold_phase[0] * height), columns.start + int(self.fold_phase[1] * width)
        shades = _fold_field(height, width)[y : y + edge.shape[0], x : x + edge.shape[1]]
        index = tones + shades
        index += _roundness(edge.shape[1])
        index[edge] = _EDGE_INDEX
        return self.palette[index]


def shaded(colour: Sequence[float], factor: float) -> Colour:
    red, green, blue = (min(255, int(channel * factor)) for channel in colour)
    return red, green, blue


@lru_cache(maxsize=4096)
def palette(ground: Colour, accent: Colour, fold: float) -> NDArray[np.uint32]:
    tones = np.array([ground, accent, [(a + b) / 2 for a, b in zip(ground, accent, strict=True)]])
    light = 1 + fold * (np.arange(_SHADES) - 32) / 32
    shades = (tones[:, None] * light[:, None] + 8).reshape(-1, 3)
    return packed([*shades, shaded(ground, 0.72)])


def packed(colours: Any) -> NDArray[np.uint32]:
    """Colours (n, 3) as RGBA pixels, one 32-bit number each: a third of the work when pixels are copied."""
    pixels = np.full((len(colours), 4), 255, np.uint8)
    pixels[:, :3] = np.clip(colours, 0, 255)
    return pixels.view(np.uint32)[:, 0]
