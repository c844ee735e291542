"""Random changes of a training photo and its masks."""

from dataclasses import dataclass

import numpy as np
import torch
from torchvision.transforms.v2 import functional as tvF

# An instance of which less than this share of one canvas pixel is left has been cropped away.
LEAST_AREA = 0.5


@dataclass(frozen=True)
class Augmentation:
    """
    Large scale jittering (Ghiasi et al., CVPR 2021; section 4.1 of the paper), flip and colour.

    Args:
        scale_range: The photo is resized to a random ratio of the size at which it just fits the canvas. Above 1 a
            random window of the canvas' size is cut out, below 1 the rest of the canvas is padding.
        flip_probability: How often the photo is mirrored.
        color_jitter: Brightness, contrast and saturation change by a factor of up to 1 +- this.

    Raises:
        ValueError: a scale that is not positive or falls, a share outside 0..1.
    """

    scale_range: tuple[float, float] = (1.0, 1.0)
    flip_probability: float = 0.0
    color_jitter: float = 0.0

    def __post_init__(self):
        low, high = self.scale_range
        if not 0 < low <= high:
            raise ValueError(f"`scale_range` has to be two rising positive ratios, found {self.scale_range}.")
        for field in ("flip_probability", "color_jitter"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"`{field}` has to lie between 0 and 1, found {getattr(self, field)}.")

    def __call__(
        self, image: torch.Tensor, masks: torch.Tensor, canvas: tuple[int, int], random: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """
        Args:
            image: `(3, h, w)` uint8.
            masks: `(n, h, w)` float32 in 0..1.
            canvas: Height and width that the result has to fit.
            random: The source of all chance.

        Returns:
            The photo `(3, h', w')` uint8 and its masks `(m, h', w')` float32, h' and w' at most the canvas', and which
            of the n instances are left, boolean `(n,)`.
        """
        height, width = image.shape[-2:]
        ratio = random.uniform(*self.scale_range) * min(canvas[0] / height, canvas[1] / width)
        placed = [max(1, min(limit, round(side * ratio))) for side, limit in zip((height, width), canvas)]
        # The window of the photo, in its own pixels, that fills the placed size.
        window = [min(side, max(1, round(new / ratio))) for side, new in zip((height, width), placed)]
        top, left = (int(random.integers(side - part + 1)) for side, part in zip((height, width), window))
        if placed != [height, width] or window != placed:
            image = tvF.resized_crop(image, top, left, *window, size=placed, antialias=True)
            if len(masks):
                masks = tvF.resized_crop(masks, top, left, *window, size=placed, antialias=True).clamp(0, 1)
            else:
                masks = masks.new_zeros(0, *placed)
        if random.random() < self.flip_probability:
            image, masks = image.flip(-1), masks.flip(-1)
        if self.color_jitter:
            image = self._recolor(image, random)
        kept = masks.flatten(1).sum(dim=1) >= LEAST_AREA
        return image, masks[kept], kept

    def _recolor(self, image: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
        for adjust in (tvF.adjust_brightness, tvF.adjust_contrast, tvF.adjust_saturation):
            image = adjust(image, random.uniform(1 - self.color_jitter, 1 + self.color_jitter))
        return image
