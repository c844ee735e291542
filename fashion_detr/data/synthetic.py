"""Synthetic ensembles: pictures of dressed figures with exact, overlapping ground truth, generated from a seed.

A figure is painted from back to front, as it is dressed: hair, legs, bottoms, inner layer, open or closed outer layer,
arms with their sleeves, scarf, bag. An owner map remembers which instance was painted last on every pixel; what is
visible of an instance, and what lies on what, is read from that map. Outlines are written in figure coordinates: the
unit is the figure's height, x = 0 is its axis, y = 0 the top of the head, y = 1 the soles.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import ceil, floor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from ..ontology_fashion_detr import ATTRIBUTES, CATEGORIES

Points = NDArray[np.float64]  # (n, 2): x, y
Colour = tuple[int, int, int]
T = TypeVar("T")

MIN_HEIGHT, MIN_WIDTH = 64, 48
MIN_VISIBLE_PIXELS = 6
EMPTY_SHARE, PAIR_SHARE = 0.012, 0.05
NOT_WANTED = -1  # index of an instance whose category was not asked for
LOOK_ALIKE_SHARE = 0.3  # how often the outer layer takes the colour of the layer below

_CATEGORY_IDS = {name: index for index, (name, _) in enumerate(CATEGORIES)}
_ATTRIBUTE_IDS = {name: sparse_id for sparse_id, name, _ in ATTRIBUTES}

# Heights on the figure.
_NECK, _SHOULDER, _CHEST, _WAIST, _HIP, _CROTCH, _ANKLE = 0.152, 0.178, 0.26, 0.385, 0.485, 0.525, 0.945
_WAVE_NUMBERS = np.array([(0.0, 37.0), (31.0, 5.0)])  # of the wave that outlines follow
_LEVELS = np.array([_SHOULDER, _CHEST, _WAIST, _HIP, 0.70, 0.95])

_SKINS = ((246, 214, 190), (234, 192, 160), (214, 164, 128), (178, 124, 88), (128, 84, 58), (88, 58, 44))
_HAIRS = ((28, 22, 22), (58, 38, 28), (104, 66, 38), (188, 148, 88), (140, 60, 36), (150, 148, 146))
_COLOURS = (
    (32, 32, 38), (70, 72, 80), (128, 130, 134), (226, 224, 218), (244, 238, 222), (196, 168, 128),
    (150, 110, 74), (92, 62, 44), (38, 52, 92), (62, 96, 148), (130, 168, 206), (160, 40, 46),
    (206, 84, 72), (226, 150, 160), (112, 48, 92), (52, 92, 66), (120, 134, 84), (214, 172, 62),
)  # fmt: skip
_METALS = ((206, 208, 214), (212, 180, 96), (92, 92, 98))

# ------------------------------------------------------------------------------------------------- textile patterns
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


_PATTERNS: dict[str, tuple[Callable[[Any, Any], Any], ...]] = {
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
_PATTERNED = tuple(name for name in _PATTERNS if name != "plain (pattern)")
_SHADES = 64  # steps from shadow to light that every tone has in a cloth's palette
_EDGE_INDEX = 3 * _SHADES  # after the three tones' shades
_INSIDE, _EDGE = 1, 2


@lru_cache(maxsize=96)
def _pattern_field(name: str, variant: int, period: int, height: int, width: int) -> NDArray[np.uint8]:
    """A canvas of one pattern, one period larger than the picture; tone x 64, to which a shade is added."""
    v, u = np.ogrid[: height + period, : width + period]
    tones = _PATTERNS[name][variant](u / period, v / period)
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


@lru_cache(maxsize=4)
def _sensor_noise(height: int, width: int) -> Image.Image:
    noise = np.random.default_rng(4).normal(16, 3.5, (2 * height, 2 * width, 3))
    return Image.fromarray(noise.clip(0, 32).astype(np.uint8))


@dataclass(frozen=True)
class _Cloth:
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
        return _shaded(self.colour, 0.72)

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


def _shaded(colour: Sequence[float], factor: float) -> Colour:
    red, green, blue = (min(255, int(channel * factor)) for channel in colour)
    return red, green, blue


@lru_cache(maxsize=4096)
def _palette(ground: Colour, accent: Colour, fold: float) -> NDArray[np.uint32]:
    tones = np.array([ground, accent, [(a + b) / 2 for a, b in zip(ground, accent, strict=True)]])
    light = 1 + fold * (np.arange(_SHADES) - 32) / 32
    shaded = (tones[:, None] * light[:, None] + 8).reshape(-1, 3)
    return _packed([*shaded, _shaded(ground, 0.72)])


def _packed(colours: Any) -> NDArray[np.uint32]:
    """Colours (n, 3) as RGBA pixels, one 32-bit number each: a third of the work when pixels are copied."""
    pixels = np.full((len(colours), 4), 255, np.uint8)
    pixels[:, :3] = np.clip(colours, 0, 255)
    return pixels.view(np.uint32)[:, 0]


# --------------------------------------------------------------------------------------------------------- outlines


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


def _curve(points: Any, steps: int = 5, closed: bool = False) -> Points:
    return _spline_matrix(len(points), steps, closed) @ np.asarray(points, float)


@lru_cache(maxsize=64)
def _fractions(count: int) -> Points:
    return np.linspace(0, 1, count)


def _tube(path: Points, half_widths: Sequence[float]) -> Points:
    """The outline of a band around a path: limbs, sleeves, straps."""
    along = np.empty_like(path)
    along[1:-1] = path[2:] - path[:-2]
    along[0], along[-1] = path[1] - path[0], path[-1] - path[-2]
    widths = np.interp(_fractions(len(path)), _fractions(len(half_widths)), half_widths)
    across = along[:, ::-1] * (widths / np.hypot(along[:, 0], along[:, 1]))[:, None] * (1, -1)
    return np.concatenate([path + across, (path - across)[::-1]])


@lru_cache(maxsize=1)
def _circle() -> Points:
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _ellipse(x: float, y: float, half_width: float, half_height: float) -> Points:
    return _circle() * (half_width, half_height) + (x, y)


def _star(count: int, inner: float) -> Points:
    """A star, or with a curve through its corners a flower, of radius 1."""
    angles = np.arange(2 * count) * np.pi / count - np.pi / 2
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.where(np.arange(2 * count) % 2, inner, 1.0)[:, None]


# ---------------------------------------------------------------------------------------------------- what is drawn
# Hems and fits: (figure height, length attribute) and (ease, flare at the ankle, silhouette attribute).

_Choices = tuple[str, ...]
_UPPER_HEMS = ((0.425, "above-the-hip (length)"), (0.505, "hip (length)"))
_JACKET_HEMS = ((0.44, "above-the-hip (length)"), (0.53, "hip (length)"))
_COAT_HEMS = ((0.66, "above-the-knee (length)"), (0.73, "knee (length)"), (0.81, "below the knee (length)"),
              (0.91, "maxi (length)"))  # fmt: skip
_SKIRT_HEMS = ((0.60, "mini (length)"), (0.67, "above-the-knee (length)"), (0.74, "knee (length)"), (0.83, "midi"),
               (0.92, "maxi (length)"))  # fmt: skip
_FITS = ((1.02, 0.0, "tight (fit)"), (1.14, 0.0, "regular (fit)"), (1.32, 0.05, "loose (fit)"))
_COAT_FITS = ((1.16, 0.02, "straight"), (1.18, 0.13, "a-line"), (1.42, 0.06, "oversized"))
_SKIRT_FITS = ((1.08, -0.01, "pencil"), (1.08, 0.05, "straight"), (1.06, 0.13, "a-line"), (1.05, 0.24, "flare"))


@dataclass(frozen=True)
class _Garment:
    """What a garment of one category can look like; each tuple is a list of choices."""

    category: str
    hems: tuple[tuple[float, str], ...]
    fits: tuple[tuple[float, float, str], ...]
    sleeves: _Choices = ()
    fronts: _Choices = ()  # for an inner layer keys of _NECKS and _COLLARS, for an outer one keys of _FRONTS
    pockets: _Choices = ()


_INNERS = (
    _Garment("top, t-shirt, sweatshirt", _UPPER_HEMS, _FITS,
             ("sleeveless", "short (length)", "short (length)", "elbow-length", "wrist-length"),
             ("round (neck)", "v-neck", "square (neckline)", "scoop (neck)", "boat (neck)"),
             ("patch (pocket)", "kangaroo (pocket)")),
    _Garment("shirt, blouse", _UPPER_HEMS[1:], _FITS[1:], ("short (length)", "elbow-length", "wrist-length"),
             ("shirt (collar)", "shirt (collar)", "peter pan (collar)", "mandarin (collar)"), ("patch (pocket)",)),
    _Garment("sweater", _UPPER_HEMS, _FITS[1:], ("three quarter (length)", "wrist-length"),
             ("turtle (neck)", "round (neck)", "v-neck"), ("kangaroo (pocket)",)),
)  # fmt: skip
_DRESS = _Garment("dress", _SKIRT_HEMS, _SKIRT_FITS, ("sleeveless", "short (length)", "elbow-length", "wrist-length"),
                  ("round (neck)", "v-neck", "square (neckline)", "scoop (neck)", "shirt (collar)"),
                  ("slash (pocket)",))  # fmt: skip
_JUMPSUIT = _Garment("jumpsuit", ((0.53, ""),), _FITS[:2], ("sleeveless", "short (length)"),
                     ("v-neck", "square (neckline)", "shirt (collar)"), ("patch (pocket)",))  # fmt: skip
_ONE_PIECES = (_DRESS, _DRESS, _DRESS, _JUMPSUIT)
_BOTTOMS = ("pants", "pants", "pants", "skirt", "skirt", "shorts")
_COAT, _JACKET, _CARDIGAN, _VEST = (
    _Garment("coat", _COAT_HEMS, _COAT_FITS, ("wrist-length",), ("lapel", "lapel", "collar", "hood"),
             ("flap (pocket)", "welt (pocket)", "patch (pocket)")),
    _Garment("jacket", _JACKET_HEMS, _FITS[1:], ("three quarter (length)", "wrist-length", "wrist-length"),
             ("lapel", "collar", "hood"), ("flap (pocket)", "welt (pocket)", "slash (pocket)")),
    _Garment("cardigan", _JACKET_HEMS, _FITS[1:], ("elbow-length", "wrist-length"), ("neckline",), ("patch (pocket)",)),
    _Garment("vest", _JACKET_HEMS, _FITS[:2], ("sleeveless",), ("neckline", "hood"), ("welt (pocket)",)),
)  # fmt: skip
_OUTERS = (_COAT, _COAT, _COAT, _JACKET, _JACKET, _CARDIGAN, _VEST)
_SKIRT = _Garment("skirt", _SKIRT_HEMS, _SKIRT_FITS, pockets=("patch (pocket)",))

# (share of the leg covered, length attribute) and (half widths from hip to hem, silhouette attribute).
_PANTS_HEMS = ((0.97, "maxi (length)"), (0.97, "maxi (length)"), (0.70, "below the knee (length)"))
_SHORTS_HEMS = ((0.20, "mini (length)"), (0.34, "above-the-knee (length)"), (0.50, "knee (length)"))
_LEG_FITS = (((0.053, 0.045, 0.038, 0.030, 0.025), "tight (fit)"), ((0.054, 0.049, 0.045, 0.041, 0.038), "straight"),
             ((0.056, 0.060, 0.066, 0.070, 0.074), "wide leg"),
             ((0.053, 0.045, 0.038, 0.050, 0.072), "bell bottom"))  # fmt: skip

_SLEEVE_REACH = {"short (length)": 0.30, "elbow-length": 0.53, "three quarter (length)": 0.76, "wrist-length": 1.0}
_SLEEVE_CUTS = {"set-in sleeve": (0.036, 0.031, 0.025), "puff (sleeve)": (0.040, 0.056, 0.026),
                "bell (sleeve)": (0.034, 0.036, 0.054)}  # fmt: skip
# Half width and depth of the opening, and the shape of its edge from the left shoulder to the right one.
_ROUND = tuple((np.cos(a), np.sin(a)) for a in np.linspace(np.pi, 0, 9))
_NECKS: dict[str, tuple[float, float, tuple[tuple[float, float], ...]]] = {
    "round (neck)": (0.040, 0.034, _ROUND),
    "scoop (neck)": (0.052, 0.075, _ROUND),
    "boat (neck)": (0.068, 0.018, _ROUND),
    "v-neck": (0.042, 0.085, ((-1, 0), (-0.5, 0.5), (0, 1), (0.5, 0.5), (1, 0))),
    "square (neckline)": (0.052, 0.055, ((-1, 0), (-0.94, 0.5), (-0.9, 1), (0, 1), (0.9, 1), (0.94, 0.5), (1, 0))),
    "turtle (neck)": (0.030, 0.006, _ROUND),
}
_COLLARS: dict[str, Points] = {  # the right half; the left one is its mirror image
    "shirt (collar)": np.array([(0.0, 0.168), (0.026, 0.134), (0.042, 0.148), (0.056, 0.186), (0.030, 0.196)]),
    "peter pan (collar)": _curve([(0, 0.165), (0.036, 0.143), (0.066, 0.172), (0.040, 0.208), (0.008, 0.19)], 3, True),
    "mandarin (collar)": np.array([(0.003, 0.172), (0.003, 0.150), (0.028, 0.130), (0.036, 0.150), (0.024, 0.168)]),
    "regular (collar)": np.array([(0.004, 0.185), (0.030, 0.126), (0.050, 0.138), (0.078, 0.184), (0.044, 0.212)]),
}  # fmt: skip
_LAPELS: dict[str, tuple[tuple[float, float], ...]] = {  # outer edge: outwards and along, 0 at the neck, 1 at the break
    "notched (lapel)": ((0.020, 0.00), (0.034, 0.30), (0.018, 0.34), (0.040, 0.44), (0.018, 0.75)),
    "peak (lapel)": ((0.020, 0.00), (0.030, 0.42), (0.058, 0.20), (0.042, 0.50), (0.018, 0.78)),
    "shawl (lapel)": ((0.020, 0.00), (0.034, 0.22), (0.038, 0.45), (0.030, 0.70), (0.014, 0.90)),
}
# How an outer layer closes: the height down to which it lies open, and the openings that go with it.
_FRONTS: dict[str, tuple[float, _Choices]] = {
    "lapel": (0.33, ("single breasted", "single breasted", "double breasted")),
    "collar": (0.185, ("single breasted", "double breasted", "zip-up")),
    "hood": (0.190, ("zip-up",)),
    "neckline": (0.31, ("single breasted",)),
}
_BUTTON_COLUMNS = {"single breasted": (0.0,), "double breasted": (-0.024, 0.024)}
# Half sizes and outline in them.
_POCKETS: dict[str, tuple[float, float, tuple[tuple[float, float], ...]]] = {
    "patch (pocket)": (0.020, 0.023, ((-1, -1), (1, -1), (1, 0.6), (0.5, 1), (-0.5, 1), (-1, 0.6))),
    "flap (pocket)": (0.027, 0.014, ((-1, -1), (1, -1), (1, 0.5), (0, 1), (-1, 0.5))),
    "welt (pocket)": (0.026, 0.0075, ((-1, -0.6), (1, -1), (1, 0.6), (-1, 1))),
    "slash (pocket)": (0.016, 0.030, ((-0.1, -1), (0.6, -1), (0.9, 1), (0.2, 1))),
    "kangaroo (pocket)": (0.052, 0.034, ((-0.6, -1), (0.6, -1), (1, 0.3), (1, 1), (-1, 1), (-1, 0.3))),
}
# Outlines of radius 1 and the radius in figure units.
_DECORATIONS: dict[str, tuple[float, Points]] = {
    "applique": (0.017, _star(5, 0.55)),
    "flower": (0.018, _curve(_star(5, 0.5), 3, True)),
    "bow": (0.024, np.array([(-1, -0.6), (0, -0.15), (1, -0.6), (1, 0.6), (0, 0.15), (-1, 0.6)])),
    "rivet": (0.0085, _circle()),
    "bead": (0.0085, _circle()),
}
# Ranges of degrees from straight down, positive away from the body: upper arm, forearm.
_ARM_POSES = {
    "hanging": ((5, 15), (-2, 12)),
    "relaxed": ((12, 24), (-14, 4)),
    "akimbo": ((34, 48), (-58, -40)),
    "across": ((8, 18), (-112, -80)),
    "raised": ((14, 30), (138, 158)),
}
_POSE_NAMES = ("hanging", "hanging", "relaxed", "relaxed", "akimbo", "across")


# ----------------------------------------------------------------------------------------------------------- canvas


@dataclass
class _Claim:
    """An attribute, and what must be visible for it to be told: points of the picture, or so many pixels."""

    attribute_id: int
    points: Points | None
    pixels: float
    share: float

    def is_seen(self, visible: NDArray[np.bool_], area: int, full_area: int) -> bool:
        if self.points is None:
            return area >= max(self.pixels, self.share * full_area)
        x, y = np.floor(self.points).astype(int).T
        height, width = visible.shape
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        return 2 * np.count_nonzero(visible[y[inside], x[inside]]) >= len(x)


@dataclass
class _Instance:
    index: int
    category_id: int
    parent: _Instance | None
    shape: NDArray[np.bool_]  # the full shape, hidden pixels included
    z: int = 0
    claims: list[_Claim] = field(default_factory=list)

    def claim(self, name: str, points: Points | None = None, pixels: float = 0.0, share: float = 0.0) -> None:
        self.claims.append(_Claim(_ATTRIBUTE_IDS[name], points, pixels, share))


class _Canvas:
    """
    The picture as packed RGBA pixels, the owner map (0 = nobody's), and the instances painted so far.

    What is not in `categories` can be added, but leaves no trace: neither paint nor annotation.
    """

    def __init__(self, picture: Image.Image, categories: Collection[str]) -> None:
        self.categories = categories
        self.pixels = np.array(picture.convert("RGBA")).view(np.uint32).squeeze(2)
        self.owners = np.zeros(self.pixels.shape, np.uint8)
        self.instances: list[_Instance] = []
        self._painted = 0

    def add(self, category: str, parent: _Instance | None = None) -> _Instance:
        shape = np.zeros(self.pixels.shape, bool)
        instance = _Instance(len(self.instances) + 1, _CATEGORY_IDS[category], parent, shape)
        if category in self.categories and (parent is None or parent.index != NOT_WANTED):
            self.instances.append(instance)
        else:
            instance.index = NOT_WANTED
        return instance

    def paint(self, outline: Points, cloth: _Cloth, instance: _Instance | None) -> None:
        """Covers what lies below; without an instance it is the body that does."""
        if instance is not None and instance.index == NOT_WANTED:
            return
        box, marks = self._raster(outline)
        covered = marks > 0
        np.copyto(self.pixels[box], cloth.swatch(box, marks == _EDGE, self.pixels.shape), where=covered)
        np.copyto(self.owners[box], instance.index if instance else 0, where=covered)
        self._painted += 1
        while instance is not None:
            instance.shape[box] |= covered
            instance.z = self._painted
            instance = instance.parent

    def ink(self, outline: Points, colour: Colour, line_width: int = 0) -> None:
        """A detail that belongs to whatever it lies on: a button, an eye; with a width, a line along the points."""
        box, marks = self._raster(outline, line_width)
        np.copyto(self.pixels[box], _packed([colour])[0], where=marks > 0)

    def _raster(self, points: Points, line_width: int = 0) -> tuple[tuple[slice, slice], NDArray[np.uint8]]:
        """The rows and columns that an outline (or a line) touches, and there 0, _INSIDE or _EDGE."""
        (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
        height, width = self.pixels.shape
        left, top = max(floor(left) - line_width, 0), max(floor(top) - line_width, 0)
        right = max(left, min(ceil(right) + 1 + line_width, width))
        bottom = max(top, min(ceil(bottom) + 1 + line_width, height))
        marks = Image.new("L", (right - left, bottom - top))
        if marks.width and marks.height:
            pen, path = ImageDraw.Draw(marks), (points - (left, top)).ravel().tolist()
            if line_width:
                pen.line(path, fill=_INSIDE, width=line_width)
            else:
                pen.polygon(path, fill=_INSIDE, outline=_EDGE)
        return (slice(top, bottom), slice(left, right)), np.asarray(marks)

    def annotations(self, image_id: int) -> list[dict[str, Any]]:
        owners = self.owners
        garments = np.array([0] + [(i.parent or i).index for i in self.instances], np.uint8)[owners]
        found = []
        for instance in sorted(self.instances, key=lambda instance: instance.z):
            visible = (owners if instance.parent else garments) == instance.index
            area, full_area = np.count_nonzero(visible), np.count_nonzero(instance.shape)
            if area < MIN_VISIBLE_PIXELS:
                continue
            seen = {c.attribute_id for c in instance.claims if c.is_seen(visible, area, full_area)}
            found.append(
                {
                    "id": image_id * 256 + instance.index,
                    "image_id": image_id,
                    "category_id": instance.category_id,
                    "attribute_ids": sorted(seen),
                    "segmentation": visible,
                    "bbox": _extent(visible),
                    "area": float(area),
                    "iscrowd": 0,
                    "covered": 1.0 - area / full_area,
                    "z": instance.z,
                }
            )
        return found


def _extent(mask: NDArray[np.bool_]) -> list[float]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(rows[0]), int(columns[0])
    return [float(left), float(top), float(columns[-1] - left + 1), float(rows[-1] - top + 1)]


# ------------------------------------------------------------------------------------------------------- the figure


@dataclass(frozen=True)
class _Worn:
    """A garment on this figure: its instance, material and cut."""

    spec: _Garment
    instance: _Instance
    cloth: _Cloth
    hem: float
    ease: float
    flare: float
    sleeve: str
    front: str


class _Figure:
    """One figure: draws its body and clothes onto a canvas, from back to front."""

    def __init__(self, canvas: _Canvas, rng: np.random.Generator, place: float = 0.5) -> None:
        self.canvas, self.rng = canvas, rng
        height, width = canvas.pixels.shape
        self.unit = min(height, 1.6 * width) * self._between(0.74, 0.96)
        if self._chance(0.18):
            self.unit *= self._between(1.1, 1.45)  # a closer shot: the picture's edge crops the figure
        slack = height - self.unit
        top = slack * self._between(0.15, 0.85) if slack > 0 else height * self._between(-0.03, 0.05)
        lean = self._between(-0.06, 0.06)
        self.frame = self.unit * np.array([(1.0, 0.0), (-lean, 1.0)])
        self.origin = np.array([width * (place + self._between(-0.12, 0.12)) + self.unit * lean * _HIP, top])
        self.skin = self._cloth(self._pick(_SKINS), fold=0.22)
        self.hair = self._cloth(self._pick(_HAIRS), fold=0.5)
        self.metal = self._cloth(self._pick(_METALS), fold=0.5)
        self.halves = self._build()
        self.umbrella_side = self._pick((-1, 1)) if self._chance(0.04) else 0
        self.arms = {side: self._arm(side) for side in (-1, 1)}
        self.legs = {side: self._leg(side) for side in (-1, 1)}

    # -- chance

    def _chance(self, share: float) -> bool:
        return self.rng.random() < share

    def _between(self, low: float, high: float) -> float:
        return low + (high - low) * self.rng.random()

    def _pick(self, choices: Sequence[T]) -> T:
        return choices[int(self.rng.random() * len(choices))]

    # -- body

    def _build(self) -> Points:
        """Half widths of the body at _LEVELS."""
        broad, waist, hips = self._between(0.9, 1.12), self._between(0.86, 1.16), self._between(0.92, 1.12)
        return np.array([0.098, 0.083, 0.070 * waist, 0.086 * hips, 0.082 * hips, 0.074 * hips]) * broad

    def _half(self, y: Any) -> Any:
        return np.interp(y, _LEVELS, self.halves)

    def _arm(self, side: int) -> Points:
        pose = _ARM_POSES["raised" if side == self.umbrella_side else self._pick(_POSE_NAMES)]
        upper, fore = (np.deg2rad(self._between(*angles)) for angles in pose)
        shoulder = np.array([side * (self.halves[0] - 0.012), _SHOULDER + 0.016])
        elbow = shoulder + 0.155 * np.array([side * np.sin(upper), np.cos(upper)])
        wrist = elbow + 0.140 * np.array([side * np.sin(fore), np.cos(fore)])
        return _curve([shoulder, elbow, wrist], 8)

    def _leg(self, side: int) -> Points:
        angle, bend = np.deg2rad(self._between(0, 6.5)), np.deg2rad(self._between(-3, 4))
        hip = np.array([side * 0.044, 0.505])
        knee = hip + 0.228 * np.array([side * np.sin(angle), np.cos(angle)])
        ankle = knee + 0.215 * np.array([side * np.sin(angle + bend), np.cos(angle + bend)])
        return _curve([hip, knee, ankle], 8)

    def _place(self, points: Points, wobble: float = 0.0) -> Points:
        """Figure coordinates to pixels: lean, scale, and a slow wave that keeps outlines from being drawn by ruler."""
        wave = np.sin(points @ _WAVE_NUMBERS + (wobble, 2 * wobble))
        return points @ self.frame + self.origin + (0.0035 * self.unit) * wave

    # -- materials

    def _cloth(self, colour: Colour, accent: Colour | None = None, pattern: str = "plain (pattern)",
               fold: float = 0.34) -> _Cloth:  # fmt: skip
        phase = self.rng.random(6)
        period = max(5, round(self.unit * (0.022 + 0.026 * phase[0])))
        variant = int(phase[1] * len(_PATTERNS[pattern]))
        return _Cloth(colour, _palette(colour, accent or colour, fold), pattern, variant, period,
                      (int(phase[2] * period), int(phase[3] * period)), (phase[4], phase[5]), 6 * phase[4])  # fmt: skip

    def _colour(self) -> Colour:
        return _shaded(self._pick(_COLOURS), self._between(0.86, 1.12))

    def _accent(self, colour: Colour) -> Colour:
        """A colour that stands out from `colour` in brightness, so that a pattern can be seen."""
        ground = sum(colour) / 3
        return self._pick([other for other in _COLOURS if abs(sum(other) / 3 - ground) > 55])

    def _garment_cloth(self, like: _Cloth | None = None, patterned: float = 0.5) -> _Cloth:
        colour = _shaded(like.colour, self._between(0.9, 1.12)) if like else self._colour()
        pattern = self._pick(_PATTERNED) if self._chance(patterned) else "plain (pattern)"
        return self._cloth(colour, self._accent(colour), pattern, self._between(0.26, 0.42))

    def _trim(self, cloth: _Cloth) -> _Cloth:
        """The material of a part: the garment's own, or a plain one that is darker, lighter or contrasting."""
        kind = self.rng.random()
        if kind < 0.35:
            return replace(cloth, fold_phase=(cloth.fold_phase[1], cloth.fold_phase[0]))
        if kind < 0.8:
            return self._cloth(_shaded(cloth.colour, 0.74 if sum(cloth.colour) > 150 else 1.7))
        return self._cloth(self._accent(cloth.colour))

    # -- brushes

    def _paint(self, outline: Points, cloth: _Cloth, instance: _Instance | None = None) -> None:
        self.canvas.paint(self._place(outline, cloth.wobble), cloth, instance)

    def _add(self, category: str, cloth: _Cloth, *outlines: Points, parent: _Instance | None = None) -> _Instance:
        instance = self.canvas.add(category, parent)
        for outline in outlines:
            self._paint(outline, cloth, instance)
        return instance

    def _line(self, path: Any, cloth: _Cloth, colour: Colour | None = None) -> None:
        width = max(1, round(self.unit / 230))
        self.canvas.ink(self._place(np.asarray(path, float), cloth.wobble), colour or cloth.edge, width)

    def _claim_pattern(self, instance: _Instance, cloth: _Cloth) -> None:
        instance.claim(cloth.pattern, pixels=3 * cloth.period**2)

    # -- the picture, from back to front

    def draw(self) -> None:
        inner, bottom = self._choose_outfit()
        outer = self._choose_outer(inner)
        is_open = self._chance(0.6)
        long_hair = self._chance(0.5)
        self._draw_behind(outer, is_open, long_hair)
        self._draw_legs(bare=bottom != "pants")
        self._draw_trunk()
        layers = [lambda: self._draw_inner(inner), lambda: self._draw_bottom(inner, bottom)]
        for layer in layers if self._chance(0.5) else reversed(layers):
            layer()
        self._draw_waist_and_tie(inner)
        if outer is not None:
            self._draw_outer(outer, is_open)
        self._draw_head(outer, long_hair)
        gloves = self._cloth(self._colour()) if self._chance(0.1) else None
        for side in (-1, 1):
            self._draw_arm(side, [worn for worn in (inner, outer) if worn is not None], gloves)
        self._draw_scarf_and_bag()

    def _choose_outfit(self) -> tuple[_Worn, str | None]:
        one_pieces = self._wanted(_ONE_PIECES)
        if one_pieces and self._chance(0.32):
            return self._wear(self._pick(one_pieces)), None
        bottoms = [bottom for bottom in _BOTTOMS if bottom in self.canvas.categories]
        return self._wear(self._pick(self._wanted(_INNERS))), self._pick(bottoms)

    def _wanted(self, specs: Sequence[_Garment]) -> list[_Garment]:
        return [spec for spec in specs if spec.category in self.canvas.categories]

    def _choose_outer(self, inner: _Worn) -> _Worn | None:
        outers = self._wanted(_OUTERS)
        if not outers or not self._chance(0.6):
            return None
        spec = self._pick(outers)
        return self._wear(spec, inner.cloth if self._chance(LOOK_ALIKE_SHARE) else None)

    def _wear(self, spec: _Garment, like: _Cloth | None = None) -> _Worn:
        """Chooses a garment's cut and material, and claims the attributes that follow from them."""
        hem, length = self._pick(spec.hems)
        ease, flare, silhouette = self._pick(spec.fits)
        sleeve = self._pick(spec.sleeves) if spec.sleeves else ""
        cloth = self._garment_cloth(like, 0.3 if spec in _OUTERS else 0.5)
        instance = self.canvas.add(spec.category)
        worn = _Worn(spec, instance, cloth, hem, ease, flare, sleeve, self._pick(spec.fronts) if spec.fronts else "")
        self._claim_pattern(instance, cloth)
        instance.claim(silhouette, share=0.45)
        if length:
            reach = 0.7 * self._reach(worn, hem)
            instance.claim(length, self._place(np.array([(-reach, hem - 0.014), (reach, hem - 0.014)]), cloth.wobble))
        if sleeve == "sleeveless":
            instance.claim(sleeve, share=0.45)
        return worn

    # -- cuts

    def _reach(self, worn: _Worn, y: Any) -> Any:
        """Half width of a garment at a height."""
        return self._half(y) * worn.ease + worn.flare * np.clip((np.asarray(y) - _WAIST) / (0.95 - _WAIST), 0, 1)

    def _side(self, worn: _Worn, side: int, neck: float, top: float = _SHOULDER) -> Points:
        """A garment's outer edge on one side, from neck (or waist) to hem."""
        heights = np.array([y for y in _LEVELS if top <= y < worn.hem - 0.04] + [worn.hem])
        reach = self._reach(worn, heights)
        if worn.sleeve == "sleeveless" and top == _SHOULDER:
            reach[0] = max(neck + 0.006, 0.80 * self.halves[0])
        start = [(neck, _NECK)] if top == _SHOULDER else []
        return _curve(np.array([*start, *zip(reach, heights, strict=True)]) * (side, 1))

    def _panel(self, worn: _Worn, neck_edge: Points, top: float = _SHOULDER) -> Points:
        """A closed front: neck (or waist) edge from left to right, right side, slightly sagging hem, left side."""
        neck = float(neck_edge[-1, 0])
        left, right = self._side(worn, -1, neck, top), self._side(worn, 1, neck, top)
        sag = _curve([right[-1], (0.0, worn.hem + 0.008), left[-1]], 4)
        return np.concatenate([neck_edge, right, sag, left[::-1]])

    # -- layers

    def _draw_behind(self, outer: _Worn | None, is_open: bool, long_hair: bool) -> None:
        if self.umbrella_side:
            self._draw_umbrella()
        if long_hair:
            self._paint(
                _curve([(-0.05, 0.03), (0.05, 0.03), (0.068, 0.2), (0, 0.24), (-0.068, 0.2)], 4, True), self.hair
            )
        if outer is not None and is_open:
            lining = self._cloth(_shaded(outer.cloth.colour, 0.55))
            back = replace(outer, ease=outer.ease * 0.94, hem=outer.hem - 0.012)
            self._paint(self._panel(back, np.array([(-0.03, _NECK), (0.03, _NECK)])), lining, outer.instance)

    def _draw_legs(self, bare: bool) -> None:
        for leg in self.legs.values():
            self._paint(_tube(leg, (0.045, 0.042, 0.031, 0.029, 0.018)), self.skin)
        legwear = self.rng.random()
        if bare and legwear < 0.3:
            tights = self._garment_cloth(patterned=0.25)
            self._add("tights, stockings", tights, *(_tube(leg, (0.046, 0.043, 0.033, 0.03, 0.02))
                                                     for leg in self.legs.values()))  # fmt: skip
        boots = self._chance(0.25)
        leather, knit = self._cloth(self._colour(), fold=0.5), self._knit()
        for side, leg in self.legs.items():
            if 0.3 <= legwear < 0.55:
                self._add("sock", knit, _tube(leg[13:], (0.027, 0.021)))
            elif 0.55 <= legwear < 0.62:
                self._add("leg warmer", knit, _tube(leg[11:16], (0.034, 0.033, 0.036)))
            if legwear < 0.97:
                self._draw_shoe(side, leg, leather, boots)

    def _knit(self) -> _Cloth:
        colour = self._colour()
        return self._cloth(colour, self._accent(colour), self._pick(("plain (pattern)", "stripe")))

    def _draw_shoe(self, side: int, leg: Points, leather: _Cloth, boots: bool) -> None:
        x, y = leg[-1]
        toe = np.array([(-0.020, -0.004), (0.018, -0.004), (0.030, 0.026), (0.040, 0.050), (-0.018, 0.050)])
        shoe = self._add("shoe", leather, toe * (side, 1) + (x, y))
        if boots:
            self._paint(_tube(leg[11:], (0.036, 0.024)), leather, shoe)
        sole = np.array([(-0.018, 0.046), (0.040, 0.046), (0.040, 0.053), (-0.018, 0.053)]) * (side, 1) + (x, y)
        self.canvas.ink(self._place(sole, leather.wobble), _shaded(leather.colour, 0.4))
        if self._chance(0.18):
            kind = self._pick(("bow", "buckle", "rivet"))
            self._decorate(shoe, kind, x + side * 0.010, y + 0.018)

    def _draw_trunk(self) -> None:
        body = _curve([(0.024, 0.12), (0.026, 0.15), (self.halves[0], _SHOULDER), (self.halves[1], _CHEST),
                       (self.halves[2], _WAIST), (self.halves[3], _HIP), (0.05, _CROTCH + 0.02)])  # fmt: skip
        self._paint(np.concatenate([body, (body * (-1, 1))[::-1]]), self.skin)

    def _draw_inner(self, worn: _Worn) -> None:
        instance, cloth = worn.instance, worn.cloth
        has_collar = worn.front in _COLLARS
        width, depth, shape = _NECKS["v-neck" if has_collar else worn.front]
        edge = np.array(shape) * (width, depth * (0.35 if has_collar else 1)) + (0, _NECK)
        self._paint(self._panel(worn, edge), cloth, instance)
        if has_collar:
            self._draw_buttons(worn, "single breasted", _NECK + 0.05)
            self._draw_collar(worn, worn.front)
        else:
            instance.claim("no opening", share=0.45)
            self._draw_neckline(worn, edge)
        if worn.spec is _JUMPSUIT:
            self._draw_trousers(instance, cloth, _PANTS_HEMS)
        self._draw_inner_details(worn)

    def _draw_neckline(self, worn: _Worn, edge: Points) -> None:
        trim = self._trim(worn.cloth)
        if worn.front == "turtle (neck)":
            band = np.array([(-0.031, 0.116), (0, 0.124), (0.031, 0.116), (0.038, 0.158), (0, 0.170), (-0.038, 0.158)])
        else:
            band = _tube(edge + np.array((0, 0.005)), (0.0065, 0.0065))
        part = self._add("neckline", trim, band, parent=worn.instance)
        part.claim(worn.front, share=0.45)

    def _draw_collar(self, worn: _Worn, name: str) -> None:
        half = _COLLARS[name]
        part = self._add("collar", self._trim(worn.cloth), half, half * (-1, 1), parent=worn.instance)
        part.claim(name, share=0.45)

    def _draw_inner_details(self, worn: _Worn) -> None:
        if self._chance(0.35):
            kind = self._pick(worn.spec.pockets)
            x, y = {"patch (pocket)": (0.044, 0.27), "kangaroo (pocket)": (0.0, 0.42)}.get(kind, (0.06, 0.50))
            if y < worn.hem - 0.03:
                self._draw_pocket(worn, kind, x, y)
        if self._chance(0.35):
            self._decorate(worn.instance, self._pick(("applique", "flower", "bow", "bead")),
                           self._between(-0.03, 0.03), self._between(0.25, 0.32))  # fmt: skip

    def _draw_pocket(self, worn: _Worn, kind: str, x: float, y: float) -> None:
        half_width, half_height, shape = _POCKETS[kind]
        mirrored = -1 if x < 0 else 1
        outline = np.array(shape) * (half_width * mirrored, half_height) + (x, y)
        part = self._add("pocket", self._trim(worn.cloth), outline, parent=worn.instance)
        part.claim(kind, share=0.45)

    def _draw_buttons(self, worn: _Worn, opening: str, start: float, axis: float = 0.0) -> None:
        colour = self._pick((self._accent(worn.cloth.colour), self.metal.colour))
        end = min(worn.hem, 0.56) - 0.02
        heights = np.linspace(start, end, max(2, round((end - start) / 0.06)))
        columns = [axis + column for column in _BUTTON_COLUMNS[opening]]
        self._line([(axis, start), (axis, worn.hem)], worn.cloth)
        centres = np.array([(x, y) for x in columns for y in heights])
        centres = self._place(centres, worn.cloth.wobble)
        for centre in centres:
            self.canvas.ink(_circle() * (0.0065 * self.unit) + centre, colour)
        worn.instance.claim(opening, centres)

    def _decorate(self, instance: _Instance, kind: str, x: float, y: float) -> None:
        if kind == "buckle":
            self._add("buckle", self.metal, _ellipse(x, y, 0.011, 0.009), parent=instance)
            return
        radius, shape = _DECORATIONS[kind]
        is_metal = kind in ("rivet", "bead") and self._chance(0.6)
        cloth = self.metal if is_metal else self._cloth(self._colour())
        centres = [(x + radius * 2.6 * step, y) for step in range(-2, 3)] if kind == "bead" else [(x, y)]
        self._add(kind, cloth, *(shape * radius + centre for centre in centres), parent=instance)

    def _draw_bottom(self, inner: _Worn, bottom: str | None) -> None:
        if bottom == "skirt":
            self._draw_skirt()
        elif bottom is not None:
            cloth = self._garment_cloth(inner.cloth if self._chance(0.15) else None, 0.3)
            instance = self.canvas.add(bottom)
            self._claim_pattern(instance, cloth)
            self._draw_trousers(instance, cloth, _PANTS_HEMS if bottom == "pants" else _SHORTS_HEMS)

    def _draw_trousers(self, instance: _Instance, cloth: _Cloth, hems: tuple[tuple[float, str], ...]) -> None:
        share, length = self._pick(hems)
        half_widths, silhouette = self._pick(_LEG_FITS if hems is _PANTS_HEMS else _LEG_FITS[1:3])
        top = np.array([(self._half(y) * 1.05, y) for y in (_WAIST + 0.015, 0.44, _HIP)] + [(0.046, _CROTCH + 0.03)])
        seat = np.concatenate([_curve(top), (_curve(top) * (-1, 1))[::-1]])
        legs = {side: leg[: max(4, round(share * len(leg)))] for side, leg in self.legs.items()}
        reach = max(2, round(share * len(half_widths)))
        for leg in legs.values():
            self._paint(_tube(leg, half_widths[:reach]), cloth, instance)
        self._paint(seat, cloth, instance)
        self._line([(0, _WAIST + 0.02), (0, _CROTCH + 0.025)], cloth)
        instance.claim(length, self._place(np.array([leg[-1] - (0, 0.012) for leg in legs.values()]), cloth.wobble))
        instance.claim(silhouette, share=0.45)
        if self._chance(0.5):
            for side in (-1, 1):
                outline = np.array(_POCKETS["slash (pocket)"][2]) * (side * 0.020, 0.026) + (side * 0.055, 0.445)
                self._add("pocket", self._trim(cloth), outline, parent=instance).claim("slash (pocket)", share=0.45)

    def _draw_skirt(self) -> None:
        worn = self._wear(_SKIRT)
        waist = float(self._reach(worn, _WAIST))
        edge = np.array([(-waist, _WAIST), (waist, _WAIST)])
        self._paint(self._panel(worn, edge, _WAIST), worn.cloth, worn.instance)
        if worn.cloth.pattern == "plain (pattern)" and worn.flare > 0.1 and self._chance(0.6):
            hem = self._reach(worn, worn.hem)
            for x in np.linspace(-0.75, 0.75, 6):
                self._line(
                    [(x * waist, _WAIST + 0.02), (x * hem, worn.hem)], worn.cloth, _shaded(worn.cloth.colour, 0.6)
                )
            worn.instance.claim("pleat", share=0.45)
        if self._chance(0.2):
            self._draw_pocket(worn, "patch (pocket)", self._pick((-0.045, 0.045)), 0.49)

    def _draw_waist_and_tie(self, inner: _Worn) -> None:
        if inner.front == "shirt (collar)" and inner.hem < 0.6 and self._chance(0.4):
            tie = self._garment_cloth(patterned=0.5)
            blade = [(-0.010, 0.160), (0.010, 0.160), (0.008, 0.182), (0.019, 0.36), (0, 0.385), (-0.019, 0.36),
                     (-0.008, 0.182)]  # fmt: skip
            self._add("tie", tie, np.array(blade))
        if self._chance(0.3):
            y, reach = _WAIST + 0.014, float(self._half(_WAIST)) * (inner.ease + 0.02)
            path = _curve([(-reach, y - 0.003), (0, y + 0.003), (reach, y - 0.003)])
            belt = self._add("belt", self._cloth(self._colour(), fold=0.5), _tube(path, (0.011, 0.011)))
            self._decorate(belt, "buckle", 0.0, y + 0.003)

    # -- outer layer

    def _draw_outer(self, worn: _Worn, is_open: bool) -> None:
        depth, openings = _FRONTS[worn.front]
        opening = self._pick(openings)
        gap = self._between(0.022, 0.045) if is_open else -0.004
        spread = gap + self._between(0.0, 0.03) if is_open else gap
        edges = {}
        for side in (-1, 1):
            edge = [(0.043, _NECK), (0.5 * (0.043 + max(gap, 0)) + 0.003, (_NECK + depth) / 2), (gap, depth),
                    (0.5 * (gap + spread), 0.5 * (depth + worn.hem)), (spread, worn.hem)]  # fmt: skip
            edges[side] = _curve(np.array(edge) * (side, 1))
            outline = np.concatenate([self._side(worn, side, 0.043), edges[side][::-1]])
            self._paint(outline, worn.cloth, worn.instance)
        self._close(worn, opening, edges[1][:, 0].min() if not is_open else gap + 0.016, depth, edges[1])
        self._draw_outer_parts(worn, edges, depth, max(gap, 0.0))

    def _close(self, worn: _Worn, opening: str, axis: float, depth: float, edge: Points) -> None:
        if opening != "zip-up":
            self._draw_buttons(worn, opening, depth + 0.012, max(axis, 0.0) if axis < 0.01 else axis)
            return
        path = edge[edge[:, 1] >= depth - 0.01]
        self._add("zipper", self.metal, _tube(path, (0.0052, 0.0052)), parent=worn.instance)
        worn.instance.claim(opening, self._place(path[1:-1], worn.cloth.wobble))
        if self._chance(0.45):
            for y in np.arange(0.23, worn.hem - 0.02, 0.042):
                reach = self._reach(worn, y)
                for low, high in ((-reach, -path[0, 0] - 0.01), (path[0, 0] + 0.01, reach)):
                    self._line([(low, y), (high, y)], worn.cloth, _shaded(worn.cloth.colour, 0.55))
            worn.instance.claim("quilted", share=0.45)

    def _draw_outer_parts(self, worn: _Worn, edges: dict[int, Points], depth: float, gap: float) -> None:
        if worn.front == "lapel":
            self._draw_lapels(worn, edges, depth)
        elif worn.front == "collar":
            self._draw_collar(worn, "regular (collar)")
        elif worn.front == "hood":
            trim = self._trim(worn.cloth)
            for_hood = [(-0.030, 0.150), (-0.075, 0.150), (-0.060, 0.108), (0, 0.098), (0.060, 0.108), (0.075, 0.150),
                        (0.030, 0.150), (0.020, 0.190), (0, 0.160), (-0.020, 0.190)]  # fmt: skip
            self._add("hood", trim, _curve(for_hood, 3, True), parent=worn.instance)
        else:
            bands = [_tube(edge[edge[:, 1] <= depth + 0.004], (0.008, 0.008)) for edge in edges.values()]
            self._add("neckline", self._trim(worn.cloth), *bands, parent=worn.instance).claim("v-neck", share=0.45)
        self._draw_outer_pockets(worn, gap)

    def _draw_outer_pockets(self, worn: _Worn, gap: float) -> None:
        if self._chance(0.65):
            kind = self._pick(worn.spec.pockets)
            y = min(worn.hem - 0.04, 0.485)
            x = (gap + float(self._reach(worn, y))) / 2 + 0.006
            for side in (-1, 1):
                self._draw_pocket(worn, kind, side * x, y)
        if worn.front == "collar" and self._chance(0.5):
            tab = np.array([(-0.028, -0.008), (0.02, -0.010), (0.02, 0.008), (-0.028, 0.010)])
            for side in (-1, 1):
                outline = tab * (side, 1) + (side * (self.halves[0] * worn.ease - 0.03), _SHOULDER + 0.004)
                self._add("epaulette", self._trim(worn.cloth), outline, parent=worn.instance)

    def _draw_lapels(self, worn: _Worn, edges: dict[int, Points], depth: float) -> None:
        name, trim = self._pick(tuple(_LAPELS)), self._trim(worn.cloth)
        for side, edge in edges.items():
            inner = edge[edge[:, 1] <= depth + 0.004]
            outwards, along = np.array(_LAPELS[name]).T
            heights = _NECK - 0.008 + along * (depth - _NECK)
            outer = np.stack([np.interp(heights, inner[:, 1], np.abs(inner[:, 0])) + outwards, heights], 1) * (side, 1)
            outline = np.concatenate([inner, outer[::-1]])
            self._add("lapel", trim, outline, parent=worn.instance).claim(name, share=0.45)

    # -- head and arms

    def _draw_head(self, outer: _Worn | None, long_hair: bool) -> None:
        self._paint(_ellipse(0, 0.062, 0.050, 0.062), self.hair)
        self._paint(_curve([(0.036, 0.055), (0.034, 0.092), (0.014, 0.125), (-0.014, 0.125), (-0.034, 0.092),
                            (-0.036, 0.055), (0, 0.030)], 4, True), self.skin)  # fmt: skip
        for x in (-0.015, 0.015):
            self.canvas.ink(self._place(_ellipse(x, 0.072, 0.005, 0.004)), (40, 30, 30))
        self.canvas.ink(self._place(_ellipse(0, 0.105, 0.010, 0.003)), (168, 72, 72))
        side = self._pick((-1, 1))
        self._paint(np.array([(-0.038, 0.060), (0.0, 0.012), (0.038, 0.060), (0.02, 0.040)]) * (side, 1), self.hair)
        if long_hair:
            for lock in (-1, 1):
                path = _curve(np.array([(0.041, 0.05), (0.046, 0.11), (0.052, self._between(0.16, 0.24))]) * (lock, 1))
                self._paint(_tube(path, (0.008, 0.012, 0.016)), self.hair)
        self._draw_headwear()

    def _draw_headwear(self) -> None:
        if self._chance(0.25):
            lens = self._cloth(self._pick(((30, 30, 34), (110, 80, 60), (70, 90, 120))), fold=0.6)
            bridge = np.array([(-0.038, 0.068), (0.038, 0.068), (0.038, 0.073), (-0.038, 0.073)])
            self._add(
                "glasses", lens, _ellipse(-0.016, 0.073, 0.0135, 0.011), _ellipse(0.016, 0.073, 0.0135, 0.011), bridge
            )
        kind = self.rng.random()
        if kind < 0.28:
            self._draw_hat(brimmed=kind < 0.14)
        elif kind < 0.36:
            band = _curve([(-0.049, 0.048), (-0.03, 0.016), (0, 0.006), (0.03, 0.016), (0.049, 0.048)])
            headband = self._add(
                "headband, head covering, hair accessory", self._garment_cloth(), _tube(band, (0.009,) * 2)
            )
            if self._chance(0.5):
                self._decorate(headband, self._pick(("bow", "flower")), self._pick((-0.03, 0.03)), 0.014)

    def _draw_hat(self, brimmed: bool) -> None:
        cloth = self._garment_cloth(patterned=0.25)
        crown = [(-0.052, 0.045), (-0.048, 0.0), (-0.02, -0.024), (0.02, -0.024), (0.048, 0.0), (0.052, 0.045)]
        hat = self._add("hat", cloth, np.concatenate([_curve(crown), [(0, 0.05)]]))
        if brimmed:
            self._paint(_ellipse(0, 0.040, 0.088, 0.015), cloth, hat)
            ribbon = _curve([(-0.051, 0.024), (0, 0.030), (0.051, 0.024)])
            self._add("ribbon", self._cloth(self._accent(cloth.colour)), _tube(ribbon, (0.007, 0.007)), parent=hat)
        else:
            self._paint(_tube(_curve([(-0.053, 0.042), (0, 0.034), (0.053, 0.042)]), (0.012, 0.012)), cloth, hat)
            if self._chance(0.4):
                self._decorate(hat, self._pick(("applique", "flower")), 0.02, 0.012)

    def _draw_arm(self, side: int, layers: list[_Worn], gloves: _Cloth | None) -> None:
        arm = self.arms[side]
        hand_path = np.stack([arm[-1], arm[-1] + 0.05 * _direction(arm)])
        self._paint(_tube(arm, (0.028, 0.025, 0.021, 0.016)), self.skin)
        sleeved = [worn for worn in layers if worn.sleeve != "sleeveless"]
        for worn in sleeved:
            self._draw_sleeve(arm, worn, is_top=worn is layers[-1])
        if self._chance(0.1):
            self._add("watch", self.metal, _tube(arm[-3:-1], (0.020, 0.019)))
        if gloves is not None:
            self._add("glove", gloves, _tube(np.concatenate([arm[-4:-1], hand_path]), (0.023, 0.020, 0.022, 0.016)))
        else:
            self._paint(
                _tube(_curve(np.stack([*hand_path, hand_path[1] + (0, 0.001)])), (0.014, 0.019, 0.010)), self.skin
            )

    def _draw_sleeve(self, arm: Points, worn: _Worn, is_top: bool) -> None:
        path = arm[: max(3, round(_SLEEVE_REACH[worn.sleeve] * len(arm)))]
        cut = self._pick(tuple(_SLEEVE_CUTS)) if is_top and self._chance(0.4) else "set-in sleeve"
        widths = [width * (0.9 + 0.5 * (worn.ease - 1)) for width in _SLEEVE_CUTS[cut]]
        cloth = replace(worn.cloth, fold_phase=(self.rng.random(), self.rng.random()))
        part = self._add("sleeve", cloth, _tube(path, widths), parent=worn.instance)
        part.claim(cut, share=0.5)
        part.claim(worn.sleeve, self._place(path[-2:-1], cloth.wobble))
        cuff = path[-1] - path[-2]
        across = np.array([cuff[1], -cuff[0]]) / np.hypot(*cuff) * widths[-1]
        self._line([path[-2] + across, path[-2] - across], cloth)

    # -- what is carried and wrapped around

    def _draw_scarf_and_bag(self) -> None:
        if self._chance(0.22):
            self._draw_scarf()
        if self._chance(0.45):
            self._draw_bag(self._pick((-1, 1)))

    def _draw_scarf(self) -> None:
        cloth, side = self._garment_cloth(patterned=0.6), self._pick((-1, 1))
        end = self._between(0.30, 0.44)
        tail = _curve([(side * 0.02, 0.165), (side * 0.032, 0.23), (side * 0.030, end)])
        scarf = self._add("scarf", cloth, _tube(tail, (0.018, 0.024, 0.027)))
        loop = [(-0.058, 0.150), (0, 0.128), (0.058, 0.150), (0.046, 0.186), (0, 0.200), (-0.046, 0.186)]
        self._paint(_curve(loop, 4, True), cloth, scarf)
        if self._chance(0.5):
            steps = np.linspace(-0.026, 0.026, 9)
            teeth = np.stack([side * 0.030 + steps, end + np.where(np.arange(9) % 2, 0.026, 0.006)], 1)
            fringe = np.concatenate([teeth, [(side * 0.030 + 0.026, end - 0.006), (side * 0.030 - 0.026, end - 0.006)]])
            self._add("fringe", self._trim(cloth), fringe, parent=scarf)

    def _draw_bag(self, side: int) -> None:
        cloth = self._cloth(self._colour(), fold=0.5) if self._chance(0.7) else self._garment_cloth(patterned=1.0)
        size = self._between(0.8, 1.3)
        crossbody = self._chance(0.5)
        x, y = (side * (self._half(_HIP) + 0.02), 0.50) if crossbody else self.arms[side][-1] + (0, 0.11)
        strap = [(-side * 0.055, 0.165), (side * 0.02, 0.33), (x, y - 0.03 * size)] if crossbody else [
            (x - 0.026, y - 0.03), (x - 0.014, y - 0.085), (x + 0.014, y - 0.085), (x + 0.026, y - 0.03)]  # fmt: skip
        bag = self._add("bag, wallet", cloth, _tube(_curve(strap), (0.006, 0.006)))
        body = [(-0.046, -0.038), (0.046, -0.038), (0.056, 0.040), (0, 0.048), (-0.056, 0.040)]
        self._paint(np.array(body) * size + (x, y), cloth, bag)
        if self._chance(0.5):
            path = np.array([(x - 0.036 * size, y - 0.024 * size), (x + 0.036 * size, y - 0.024 * size)])
            self._add("zipper", self.metal, _tube(path, (0.0055, 0.0055)), parent=bag)
        else:
            self._decorate(bag, self._pick(("buckle", "rivet", "bow")), x, y)

    def _draw_umbrella(self) -> None:
        hand_x, hand_y = self.arms[self.umbrella_side][-1]
        x = hand_x * 0.8
        dome = np.array([(np.cos(a), -0.62 * np.sin(a)) for a in np.linspace(0, np.pi, 13)])
        scallops = [(-0.66, -0.12), (-0.33, 0.0), (0, -0.12), (0.33, 0.0), (0.66, -0.12)]
        cloth = self._garment_cloth(patterned=0.4)
        umbrella = self._add("umbrella", cloth, np.concatenate([dome, scallops]) * 0.24 + (x, 0.03))
        shaft = _curve([(x, -0.02), (hand_x, hand_y - 0.02), (hand_x, hand_y + 0.06)])
        self._paint(_tube(shaft, (0.0035, 0.0035)), self.metal, umbrella)


def _direction(path: Points) -> Points:
    step = path[-1] - path[-2]
    return step / np.hypot(*step)


# ------------------------------------------------------------------------------------------------------ the picture


def _background(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """A plain, graded or mottled wall with or without a floor, or a street of blocks."""
    wall, ground = (_shaded(rng.integers(50, 236) + rng.normal(0, 16, 3).clip(-40, 40), 1.0) for _ in range(2))
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
        pen.line((0, horizon, width, horizon), fill=_shaded(ground, 0.7), width=max(1, height // 128))
    return picture


def _draw_street(pen: ImageDraw.ImageDraw, rng: np.random.Generator, horizon: int, width: int) -> None:
    left = 0
    while left < width:
        right, top = left + int(width * rng.uniform(0.15, 0.4)) + 1, int(horizon * rng.uniform(0.0, 0.6))
        front = _shaded(rng.integers(60, 210) + rng.normal(0, 14, 3).clip(-40, 40), 1.0)
        pen.rectangle((left, top, right, horizon), fill=front)
        step = max(6, int(width * rng.uniform(0.06, 0.12)))
        for y in range(top + step // 2, horizon - step, step + step // 2):
            for x in range(left + step // 3, right - step // 2, step):
                pen.rectangle((x, y, x + step // 2, y + step), fill=_shaded(front, 0.6))
        left = right


def _softened(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A lens's soft edges: every pixel gives an eighth to each of its two neighbours along the first axis."""
    quarter, eighth = pixels >> 2, pixels >> 3
    soft = pixels - quarter
    soft[1:-1] += eighth[:-2]
    soft[1:-1] += eighth[2:]
    soft[[0, -1]] += quarter[[0, -1]]
    return soft


def _expose(pixels: NDArray[np.uint32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """What a camera makes of the scene: soft edges, exposure and white balance, noise."""
    height, width = pixels.shape
    channels = pixels.view(np.uint8).reshape(height, width, 4)
    soft = Image.fromarray(_softened(_softened(channels).swapaxes(0, 1)).swapaxes(0, 1)).convert("RGB")
    gains = rng.uniform(0.85, 1.1) * rng.uniform(0.95, 1.05, 3)
    levels = (np.arange(256) * gains[:, None]).clip(0, 255).astype(int).ravel().tolist()
    x, y = int(rng.integers(width)), int(rng.integers(height))
    noise = _sensor_noise(height, width).crop((x, y, x + width, y + height))
    return np.array(ImageChops.add(soft.point(levels), noise, 1, -16))


class SyntheticEnsembles:
    """A map-style data set of dressed figures: garments in layers, their parts, accessories, visible attributes.

    Every picture depends on `(seed, split, index)` alone, whatever the process or the order of access. Most show one
    figure, some two, about one in a hundred none (an empty scene without annotations).

    Items are `{"image", "image_id", "annotations"}`:

    - `image`: uint8 RGB of shape `(height, width, 3)`; `image_id`: the index.
    - `annotations`: one dict an instance, in drawing order, with `id` (unique in the data set), `image_id`,
      `category_id` and sorted `attribute_ids` (Fashionpedia's own sparse ids; an attribute is listed only where the
      picture shows it), `segmentation` (bool, `(height, width)`), `bbox` (`[x, y, width, height]` of the mask),
      `area` (its pixels), `iscrowd` (0), `covered` (share in 0..1 of the instance's shape inside the picture that
      later layers hide) and `z` (drawing order, larger is nearer).

    Masks follow Fashionpedia: a garment's mask is what is visible of it with the parts on it, and each part is an
    instance too, so these masks overlap; separate garments and the body hide each other. Instances with fewer than
    6 visible pixels are left out.

    Args:
        num_images: Number of pictures, at least 1.
        height: Height of the pictures, at least 64.
        width: Width of the pictures, at least 48.
        seed: Non-negative seed; another one gives other figures.
        split: Name of the split; splits share no figures.
        categories: Names of the categories to draw; the others are neither painted nor annotated. All by default. A
            figure needs something to wear: at least a top, shirt or sweater, and pants, a skirt or shorts.

    Raises:
        ValueError: A count, size or seed is out of range, a category is unknown, or too few are asked for.
        IndexError: An item outside `0..num_images - 1` is asked for.
    """

    def __init__(
        self,
        num_images: int,
        height: int = 256,
        width: int = 192,
        seed: int = 0,
        split: str = "train",
        categories: Collection[str] | None = None,
    ) -> None:
        if num_images < 1:
            raise ValueError(f"num_images must be at least 1, found {num_images}")
        if height < MIN_HEIGHT or width < MIN_WIDTH:
            raise ValueError(
                f"pictures must be at least {MIN_HEIGHT} high and {MIN_WIDTH} wide, found {height} x {width}"
            )
        if seed < 0:
            raise ValueError(f"seed must not be negative, found {seed}")
        self.num_images, self.height, self.width, self.seed, self.split = num_images, height, width, seed, split
        self.categories = frozenset(_CATEGORY_IDS if categories is None else categories)
        _check_categories(self.categories)

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.num_images:
            raise IndexError(f"index {index} is outside the {self.num_images} images of split {self.split!r}")
        index = int(index)
        rng = np.random.default_rng([self.seed, zlib.crc32(self.split.encode()), index])
        canvas = _Canvas(_background(rng, self.height, self.width), self.categories)
        for place in _figure_places(rng):
            _Figure(canvas, rng, place).draw()
        image = _expose(canvas.pixels, rng)
        return {"image": image, "image_id": index, "annotations": canvas.annotations(index)}


def _check_categories(categories: frozenset[str]) -> None:
    unknown = sorted(categories - _CATEGORY_IDS.keys())
    if unknown:
        raise ValueError(f"unknown categories: {', '.join(unknown)}; they have Fashionpedia's names")
    for needed in ({spec.category for spec in _INNERS}, set(_BOTTOMS)):
        if not categories & needed:
            raise ValueError(f"a figure needs one of these to wear: {'; '.join(sorted(needed))}")


def _figure_places(rng: np.random.Generator) -> tuple[float, ...]:
    """Where figures stand, as shares of the picture's width."""
    kind = rng.random()
    if kind < EMPTY_SHARE:
        return ()
    return (0.3, 0.7) if kind < EMPTY_SHARE + PAIR_SHARE else (0.5,)
