"""What the model is shown of a photo: a window of it at the canvas' size, with the instances that are seen in it.

Nothing is made larger than it is needed. The photo is cropped before it is resized, polygons are drawn at the canvas'
size, and a mask is held as the box that it fills.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torchvision.transforms.v2 import functional as tvF

from ..masks_fashion_detr import decode_segmentation, enclosing_polygons, is_crowd, mask_box
from ..photos_fashion_detr import to_rgb

# An example is {"image": PIL image or uint8 array (H, W, 3), "image_id": int, "annotations": Fashionpedia's dicts}.
Example = dict[str, Any]
Recolor = Callable[[torch.Tensor], torch.Tensor]

# The covered share of a pixel is counted in 255ths, so that a mask of any softness takes one byte a pixel.
WHOLE = 255
# An instance of which less than this share of one canvas pixel is left has been cropped away.
LEAST_AREA = 0.5
# Where a photo shrinks, polygons are drawn on a grid up to so many times as fine and averaged: 16 levels a pixel.
FINEST = 4

# Fields of an annotation that describe the whole photo's mask, which is not the one that is shown.
_GEOMETRY = ("segmentation", "bbox", "area")


@dataclass(frozen=True)
class Placement:
    """
    What is shown of a photo, and how large.

    Args:
        window: Top, left, height and width of the part that is shown, in pixels of the photo.
        size: Height and width that it takes on the canvas.
        mirrored: Left and right are swapped.
    """

    window: tuple[int, int, int, int]
    size: tuple[int, int]
    mirrored: bool = False

    @property
    def scale(self) -> tuple[float, float]:
        """Canvas pixels for a pixel of the photo, down and across."""
        return self.size[0] / self.window[2], self.size[1] / self.window[3]


@dataclass(frozen=True, eq=False)
class Instance:
    """
    An annotation and its mask, held in one so that class, attributes and mask cannot part.

    Args:
        annotation: The data set's own dictionary without its geometry.
        shares: Covered share of every pixel of the mask's box, uint8 `(h, w)` in 255ths. No outer row or column is 0.
        top, left: Where the box lies, in pixels.
    """

    annotation: dict[str, Any]
    shares: np.ndarray
    top: int
    left: int

    @classmethod
    def cut_out(cls, annotation: dict[str, Any], shares: np.ndarray, top: int, left: int) -> Instance | None:
        """With the box tight around what is covered; `None` where (nearly) nothing is."""
        if shares.sum() < LEAST_AREA * WHOLE:
            return None
        x0, y0, x1, y1 = mask_box(shares)
        annotation = {name: value for name, value in annotation.items() if name not in _GEOMETRY}
        return cls(annotation, shares[y0:y1, x0:x1], top + y0, left + x0)

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the mask's box."""
        height, width = self.shares.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    @property
    def bbox(self) -> list[int]:
        """COCO's box `[x, y, width, height]` in pixels."""
        height, width = self.shares.shape
        return [self.left, self.top, width, height]

    @property
    def area(self) -> float:
        """Covered pixels."""
        return float(self.shares.sum()) / WHOLE

    def overlap(self, other: Instance) -> float:
        """Pixels that both cover."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom, right = (min(one.stop, two.stop) for one, two in zip(self.box, other.box))
        if top >= bottom or left >= right:
            return 0.0
        shared = (
            one.shares[top - one.top : bottom - one.top, left - one.left : right - one.left] for one in (self, other)
        )
        return float(np.minimum(*shared).sum()) / WHOLE


@dataclass(frozen=True, eq=False)
class Scene:
    """A photo `(3, h, w)` uint8 as it is shown, and its instances."""

    image: torch.Tensor
    instances: list[Instance]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return tuple(self.image.shape[-2:])


def upright(example: Example) -> Example:
    """
    An example with its photo as annotations describe it: a Pillow image upright and RGB, an array as it is.

    Raises ValueError for a photo that cannot be decoded, or an array that is none.
    """
    image = example["image"]
    if isinstance(image, Image.Image):
        return example | {"image": to_rgb(image)}
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(
            f"The photo of image {example['image_id']} has to be a Pillow image or a uint8 array (H, W, 3), found "
            f"{found}."
        )
    return example


def photo_size(example: Example) -> tuple[int, int]:
    """Height and width of an upright example's photo."""
    image = example["image"]
    return image.shape[:2] if isinstance(image, np.ndarray) else (image.height, image.width)


def place(example: Example, placement: Placement, recolor: Recolor | None = None) -> Scene:
    """
    An example as the placement shows it; instances that are not seen, and crowds, are left out.

    Args:
        example: The photo and its annotations, as [`upright`] returns them.
        placement: What of it is shown, and how large.
        recolor: Changes the colours of a photo `(3, h, w)` uint8; the result has the same form.

    Raises:
        ValueError: a mask of another size than its photo, or no polygon of three points; the annotation is named.
    """
    instances = []
    for row, annotation in enumerate(example["annotations"]):
        if not is_crowd(annotation):
            annotation = {"id": row, "image_id": example["image_id"]} | annotation  # for messages further on
            where = f"annotation {annotation['id']} of image {annotation['image_id']}"
            if "segmentation" not in annotation:
                raise ValueError(f"There is no 'segmentation' in {where}.")
            shares, top, left = _place_mask(annotation["segmentation"], photo_size(example), placement, where)
            if placement.mirrored:
                shares, left = shares[:, ::-1], placement.size[1] - left - shares.shape[1]
            instances.append(Instance.cut_out(annotation, shares, top, left))
    return Scene(_place_image(example["image"], placement, recolor), [instance for instance in instances if instance])


def _place_image(image: Image.Image | np.ndarray, placement: Placement, recolor: Recolor | None) -> torch.Tensor:
    top, left, height, width = placement.window
    if isinstance(image, Image.Image):
        pixels = np.array(image.crop((left, top, left + width, top + height)))
    else:
        pixels = np.array(image[top : top + height, left : left + width])
    shown = torch.from_numpy(pixels).permute(2, 0, 1)
    grows = placement.size[0] > height
    if recolor and grows:  # whichever of the two sizes has fewer pixels
        shown = recolor(shown)
    if placement.size != (height, width):
        shown = tvF.resize(shown, list(placement.size), antialias=True)
    if recolor and not grows:
        shown = recolor(shown)
    return shown.flip(-1) if placement.mirrored else shown


def _place_mask(
    segmentation: Any, size: tuple[int, int], placement: Placement, where: str
) -> tuple[np.ndarray, int, int]:
    """Shares of a box that holds the mask as it is placed but not mirrored, and the box's top and left."""
    if isinstance(segmentation, list):
        return _draw_polygons(enclosing_polygons(segmentation, size, where), placement)
    return _resize_mask(decode_segmentation(segmentation, size, where), placement)


def _draw_polygons(polygons: list[np.ndarray], placement: Placement) -> tuple[np.ndarray, int, int]:
    top, left, height, width = placement.window
    size = np.array([placement.size[1], placement.size[0]])  # x, y, as the points
    points = [(polygon.reshape(-1, 2) - (left, top)) * (size / (width, height)) for polygon in polygons]
    corners = np.concatenate(points)
    low = np.floor(corners.min(axis=0)).clip(0, size).astype(int)
    high = np.ceil(corners.max(axis=0)).clip(0, size).astype(int)
    if (low >= high).any():
        return np.zeros((0, 0), dtype=np.uint8), 0, 0
    # As fine as the photo's own pixels, so that a button of three of them is not lost between two of the canvas.
    fineness = min(FINEST, math.ceil(1 / min(1.0, *placement.scale) - 1e-6))
    width, height = ((high - low) * fineness).tolist()
    points = [((polygon - low) * fineness).ravel() for polygon in points]
    drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(points, height, width)))
    # pycocotools fills masks column by column, Pillow reads them row by row: transposed, nothing is copied for it.
    shares = np.asarray(Image.fromarray(drawn.T * np.uint8(WHOLE)).reduce(fineness)).T
    return shares, int(low[1]), int(low[0])


def _resize_mask(mask: np.ndarray, placement: Placement) -> tuple[np.ndarray, int, int]:
    top, left, height, width = placement.window
    mask = mask[top : top + height, left : left + width]
    rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
    if not len(rows):
        return np.zeros((0, 0), dtype=np.uint8), 0, 0
    # Pillow reads what lies around the box that is asked for, so the box alone gives what the whole mask would.
    vertical = _Span.around(rows, height, placement.size[0])
    horizontal = _Span.around(columns, width, placement.size[1])
    part = mask[vertical.read[0] : vertical.read[1], horizontal.read[0] : horizontal.read[1]]
    shares = np.rint(part * np.float32(WHOLE)).astype(np.uint8)
    if placement.size != (height, width):
        box = (horizontal.box[0], vertical.box[0], horizontal.box[1], vertical.box[1])
        image = Image.fromarray(np.ascontiguousarray(shares))
        shares = np.asarray(image.resize((horizontal.length, vertical.length), Image.Resampling.BILINEAR, box=box))
    return shares, vertical.start, horizontal.start


@dataclass(frozen=True)
class _Span:
    """
    One direction of a resize that is limited to where the mask is.

    Args:
        read: First and last + 1 of the old pixels that are read.
        box: Beginning and end of what becomes new pixels, counted from the first that is read.
        start, length: The new pixels.
    """

    read: tuple[int, int]
    box: tuple[float, float]
    start: int
    length: int

    @classmethod
    def around(cls, covered: np.ndarray, old: int, new: int) -> _Span:
        """Of a side of `old` pixels that becomes one of `new`; `covered` are the old pixels with a mask, in order."""
        first, last = int(covered[0]), int(covered[-1]) + 1
        if old == new:
            return cls((first, last), (0, last - first), first, last - first)
        reach = max(1.0, old / new)  # how far from its centre the bilinear filter of a new pixel reads
        start = max(0, math.floor((first - reach) * new / old))
        stop = min(new, math.ceil((last + reach) * new / old))
        margin = math.ceil(3 * reach)
        read = max(0, first - margin), min(old, last + margin)
        box = max(0.0, start * old / new - read[0]), min(read[1] - read[0], stop * old / new - read[0])
        return cls(read, box, start, stop - start)
