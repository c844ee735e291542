"""The canvas: it remembers which instance was painted last on every pixel, from which the ground truth is read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ...masks_fashion_detr import mask_box
from ...ontology_fashion_detr import ATTRIBUTES, CATEGORIES
from .cloth import Cloth, Colour, packed
from .outlines import Points

MIN_VISIBLE_PIXELS = 6
NOT_WANTED = -1  # index of an instance whose category was not asked for

CATEGORY_IDS = {name: index for index, (name, _) in enumerate(CATEGORIES)}
_ATTRIBUTE_IDS = {name: sparse_id for sparse_id, name, _ in ATTRIBUTES}
_INSIDE, _EDGE = 1, 2


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
class Instance:
    index: int
    category_id: int
    parent: Instance | None
    shape: NDArray[np.bool_]  # the full shape, hidden pixels included
    z: int = 0
    claims: list[_Claim] = field(default_factory=list)

    @property
    def is_wanted(self) -> bool:
        return self.index != NOT_WANTED

    def claim(self, name: str, points: Points | None = None, pixels: float = 0.0, share: float = 0.0) -> None:
        self.claims.append(_Claim(_ATTRIBUTE_IDS[name], points, pixels, share))


class Canvas:
    """
    The picture as packed RGBA pixels, the owner map (0 = nobody's), and the instances painted so far.

    What is not in `categories` can be added, but leaves no trace: neither paint nor annotation.
    """

    def __init__(self, picture: Image.Image, categories: Collection[str]) -> None:
        self.categories = categories
        self.pixels = np.array(picture.convert("RGBA")).view(np.uint32).squeeze(2)
        self.owners = np.zeros(self.pixels.shape, np.uint8)
        self.instances: list[Instance] = []
        self._painted = 0

    def add(self, category: str, parent: Instance | None = None) -> Instance:
        shape = np.zeros(self.pixels.shape, bool)
        instance = Instance(len(self.instances) + 1, CATEGORY_IDS[category], parent, shape)
        if category in self.categories and (parent is None or parent.is_wanted):
            self.instances.append(instance)
        else:
            instance.index = NOT_WANTED
        return instance

    def paint(self, outline: Points, cloth: Cloth, instance: Instance | None) -> None:
        """Covers what lies below; without an instance it is the body that does."""
        if instance is not None and not instance.is_wanted:
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
        np.copyto(self.pixels[box], packed([colour])[0], where=marks > 0)

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
            left, top, right, bottom = map(float, mask_box(visible))
            found.append(
                {
                    "id": image_id * 256 + instance.index,
                    "image_id": image_id,
                    "category_id": instance.category_id,
                    "attribute_ids": sorted(seen),
                    "segmentation": visible,
                    "bbox": [left, top, right - left, bottom - top],
                    "area": float(area),
                    "iscrowd": 0,
                    "covered": 1.0 - area / full_area,
                    "z": instance.z,
                }
            )
        return found
