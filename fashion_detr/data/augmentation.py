"""Random changes of a training photo and its masks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real

import numpy as np
import torch
from PIL import Image

from .scene import WHOLE, Example, Instance, Placement, Scene, photo_size, place, upright

# A part lies on the garment that holds at least this share of it, and is pasted with it.
CONTAINMENT = 0.5
# How often copy-paste takes a garment of the second photo.
TAKEN = 0.5
# An instance of which a pasted garment leaves less than this share is no longer learnt from: its class and attributes
# cannot be told from such a remainder.
LEAST_VISIBLE = 0.1

# Luma, and the two axes of chroma, of NTSC's YIQ.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


@dataclass(frozen=True)
class Augmentation:
    """
    Large scale jittering (section 4.1 of the paper) and copy-paste (Ghiasi et al., "Simple Copy-Paste is a Strong Data
    Augmentation Method for Instance Segmentation", CVPR 2021), flip and colour.

    Args:
        scale_range: The photo is resized to a random ratio of the size at which it just fits the canvas. Above 1 a
            random window of the canvas' size is cut out, below 1 the rest of the canvas is padding.
        flip_probability: How often the photo is mirrored.
        color_jitter: Brightness, contrast and saturation change by a factor of up to 1 +- this; hue turns by up to a
            quarter of it (1 is a full circle).
        copy_paste_probability: How often garments of a second photo are pasted on top. That photo is changed in the
            same way, its scale counted from the size at which it just fits the first, and put anywhere on it.

    Raises:
        ValueError: scales that are no two positive numbers, or fall, a share outside 0..1.
    """

    scale_range: tuple[float, float] = (1.0, 1.0)
    flip_probability: float = 0.0
    color_jitter: float = 0.0
    copy_paste_probability: float = 0.0

    def __post_init__(self):
        scales = list(self.scale_range)
        are_ratios = all(isinstance(scale, Real) and 0 < scale < math.inf for scale in scales)
        if len(scales) != 2 or not are_ratios or scales[0] > scales[1]:
            raise ValueError(f"`scale_range` has to be two rising positive ratios, found {self.scale_range}.")
        for field in ("flip_probability", "color_jitter", "copy_paste_probability"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"`{field}` has to lie between 0 and 1, found {getattr(self, field)}.")

    def __call__(
        self, examples: Sequence[Example], index: int, canvas: tuple[int, int], random: np.random.Generator
    ) -> Scene:
        """
        The photo as it is shown, with the instances that are seen on it.

        Args:
            examples: Where the photo comes from, and the second one of copy-paste, which is never the same.
            index: Which of them.
            canvas: Height and width that the result has to fit.
            random: The source of all chance.
        """
        scene = self._show(examples[index], canvas, random)
        if len(examples) > 1 and random.random() < self.copy_paste_probability:
            second = (index + int(random.integers(1, len(examples)))) % len(examples)
            layer = self._show(examples[second], scene.size, random)
            top, left = (int(random.integers(room - side + 1)) for room, side in zip(scene.size, layer.size))
            scene = paste(replace(layer, instances=pick(layer.instances, random)), scene, top, left)
        return scene

    def _show(self, example: Example, canvas: tuple[int, int], random: np.random.Generator) -> Scene:
        example = upright(example)
        placement = self._placement(photo_size(example), canvas, random)
        if not self.color_jitter:
            return place(example, placement)
        factors = random.uniform(1 - self.color_jitter, 1 + self.color_jitter, size=3).tolist()
        turn = random.uniform(-self.color_jitter, self.color_jitter) / 4
        return place(example, placement, lambda image: recolor(image, *factors, turn))

    def _placement(self, photo: tuple[int, int], canvas: tuple[int, int], random: np.random.Generator) -> Placement:
        ratio = random.uniform(*self.scale_range) * min(limit / side for limit, side in zip(canvas, photo))
        size = [max(1, min(limit, round(side * ratio))) for side, limit in zip(photo, canvas)]
        # The window of the photo, in its own pixels, that fills that size.
        height, width = (min(side, max(1, round(new / ratio))) for side, new in zip(photo, size))
        top, left = (int(random.integers(side - part + 1)) for side, part in zip(photo, (height, width)))
        mirrored = bool(random.random() < self.flip_probability)
        return Placement((top, left, height, width), tuple(size), mirrored)


def recolor(image: torch.Tensor, brightness: float, contrast: float, saturation: float, turn: float) -> torch.Tensor:
    """
    Brightness, contrast, saturation and hue of a photo `(3, h, w)` uint8, in this order.

    The first three are torchvision's `adjust_*` but for their rounding and clipping in between. Hue turns the plane of
    chroma about grey, from red to green where positive, and leaves the luma as it is. So all four are linear in the
    colours and make one matrix and one pass; torchvision's hue, by way of HSV, takes ten times as long as decoding the
    photo.
    """
    luma = _YIQ[0]
    step = max(1, min(image.shape[1:]) // 128)  # of a large photo some of the pixels tell the mean as well
    mean = image[:, ::step, ::step].float().mean(dim=(1, 2)).numpy().astype(np.float64)
    pivot = (1 - contrast) * brightness * (luma @ mean)
    cosine, sine = np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)
    hue = np.linalg.inv(_YIQ) @ np.array([[1, 0, 0], [0, cosine, sine], [0, -sine, cosine]]) @ _YIQ
    saturate = saturation * np.eye(3) + (1 - saturation) * np.tile(luma, (3, 1))
    matrix = np.column_stack([brightness * contrast * hue @ saturate, [pivot] * 3])  # the pivot is grey: it stays
    pixels = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    return torch.from_numpy(np.array(pixels.convert("RGB", tuple(matrix.ravel().tolist())))).permute(2, 0, 1)


def pick(instances: list[Instance], random: np.random.Generator) -> list[Instance]:
    """
    A random part of the instances, at least one where there is one: garments, each with everything that lies on it.

    A coat is never taken without its pockets, nor a bag left behind that is seen before the coat: their pixels are
    pasted with the coat's, and would be unlabelled.
    """
    by_size = sorted(instances, key=lambda instance: -instance.area)  # stable, so of two alike the first carries
    carriers = [
        {larger for larger in range(number) if instance.overlap(by_size[larger]) >= CONTAINMENT * instance.area}
        for number, instance in enumerate(by_size)
    ]
    garments = [number for number, found in enumerate(carriers) if not found]
    taken = {garment for garment in garments if random.random() < TAKEN}
    if garments and not taken:
        taken = {garments[int(random.integers(len(garments)))]}
    for number, found in enumerate(carriers):  # a zipper comes with a pocket that comes with a coat
        if not taken.isdisjoint(found):
            taken.add(number)
    return [by_size[number] for number in sorted(taken)]


def paste(layer: Scene, scene: Scene, top: int, left: int) -> Scene:
    """
    The instances of one photo on top of another that is as large or larger; `top` and `left` place the former on it.

    Masks are of what is seen. Where the annotator of a photo lets masks overlap (a pocket and its coat) both are seen,
    while below a pasted garment nothing is left to see. So its pixels leave all masks below it, parts with their
    garments, and an instance of which (nearly) all is hidden leaves with its class and attributes. Among the pasted
    instances masks overlap as they did.
    """
    if not layer.instances:
        return scene
    pasted = [replace(instance, top=instance.top + top, left=instance.left + left) for instance in layer.instances]
    cover = np.zeros(scene.size, dtype=np.uint8)
    for instance in pasted:
        np.maximum(cover[instance.box], instance.shares, out=cover[instance.box])
    seen = [_uncovered(instance, cover) for instance in scene.instances]

    rows, columns = (
        slice(min(side.start for side in sides), max(side.stop for side in sides))
        for sides in zip(*(instance.box for instance in pasted))
    )
    opacity = torch.from_numpy(cover[rows, columns]).float() / WHOLE
    image = scene.image.clone()
    below = image[:, rows, columns]
    above = layer.image[:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    below.copy_(torch.lerp(below.float(), above.float(), opacity).round())
    return Scene(image, [instance for instance in seen if instance] + pasted)


def _uncovered(instance: Instance, cover: np.ndarray) -> Instance | None:
    """What `cover` `(h, w)`, in 255ths, leaves of an instance; `None` where that is too little."""
    hidden = cover[instance.box].astype(np.uint16)
    if not hidden.any():
        return instance
    shares = ((instance.shares * (WHOLE - hidden) + WHOLE // 2) // WHOLE).astype(np.uint8)
    left = Instance.cut_out(instance.annotation, shares, instance.top, instance.left)
    return left if left is not None and left.area >= LEAST_VISIBLE * instance.area else None
