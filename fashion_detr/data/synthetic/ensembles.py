"""The data set: dressed figures with exact, overlapping ground truth, generated from a seed."""

import zlib
from collections.abc import Collection
from numbers import Integral
from operator import index as whole_index
from typing import Any

import numpy as np

from .canvas import CATEGORY_IDS, Canvas
from .figure import Figure
from .picture import background, expose
from .wardrobe import BOTTOMS, INNERS

MIN_HEIGHT, MIN_WIDTH = 64, 48
EMPTY_SHARE, PAIR_SHARE = 0.012, 0.05


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
        ValueError: A count, size or seed is no whole number or out of range, a category is unknown, or too few are
            asked for.
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
        for name, number in {"num_images": num_images, "height": height, "width": width, "seed": seed}.items():
            if not isinstance(number, Integral):
                raise ValueError(f"{name} must be a whole number, found {number!r}")
        if isinstance(categories, str):
            raise ValueError(f"categories must be a list of names, found the text {categories!r}")
        if num_images < 1:
            raise ValueError(f"num_images must be at least 1, found {num_images}")
        if height < MIN_HEIGHT or width < MIN_WIDTH:
            raise ValueError(
                f"pictures must be at least {MIN_HEIGHT} high and {MIN_WIDTH} wide, found {height} x {width}"
            )
        if seed < 0:
            raise ValueError(f"seed must not be negative, found {seed}")
        self.num_images, self.height, self.width, self.seed, self.split = num_images, height, width, seed, split
        self.categories = frozenset(CATEGORY_IDS if categories is None else categories)
        _check_categories(self.categories)

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = whole_index(index)
        if not 0 <= index < self.num_images:
            raise IndexError(f"index {index} is outside the {self.num_images} images of split {self.split!r}")
        rng = np.random.default_rng([self.seed, zlib.crc32(self.split.encode()), index])
        canvas = Canvas(background(rng, self.height, self.width), self.categories)
        for place in _figure_places(rng):
            Figure(canvas, rng, place).draw()
        image = expose(canvas.pixels, rng)
        return {"image": image, "image_id": index, "annotations": canvas.annotations(index)}


def _check_categories(categories: frozenset[str]) -> None:
    unknown = sorted(categories - CATEGORY_IDS.keys())
    if unknown:
        raise ValueError(f"unknown categories: {', '.join(unknown)}; they have Fashionpedia's names")
    for needed in ({spec.category for spec in INNERS}, set(BOTTOMS)):
        if not categories & needed:
            raise ValueError(f"a figure needs one of these to wear: {'; '.join(sorted(needed))}")


def _figure_places(rng: np.random.Generator) -> tuple[float, ...]:
    """Where figures stand, as shares of the picture's width."""
    kind = rng.random()
    if kind < EMPTY_SHARE:
        return ()
    return (0.3, 0.7) if kind < EMPTY_SHARE + PAIR_SHARE else (0.5,)
