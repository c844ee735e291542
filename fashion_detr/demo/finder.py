"""What happens to a photo behind the page: the network sees it once, and the sliders work on what it said."""

import io
import re
import zipfile
from dataclasses import dataclass

import torch
from PIL import Image

from ..image_processing_fashion_detr import FashionDetrImageProcessor
from ..modeling_fashion_detr import FashionDetrForInstanceSegmentation, FashionDetrForInstanceSegmentationOutput
from ..results_fashion_detr import FashionResult, mask_image

# So many masks of the largest photos fit into the memory of a small server.
MOST_OBJECTS = 50


@dataclass(frozen=True)
class Settings:
    """
    What the sliders say, in 0..1.

    Attributes:
        threshold: Least score of an object.
        mask_threshold: Probability above which a pixel belongs to a mask.
        attribute_threshold: Least probability of an attribute; `None` = the model's own.
    """

    threshold: float
    mask_threshold: float
    attribute_threshold: float | None


@dataclass(frozen=True)
class Sighting:
    """
    What is kept of a photo while its page is open; not the photo.

    Attributes:
        name: Its file's name without the ending.
        size: Its height and width, in pixels.
        outputs: What post-processing needs of the network's output, on the CPU.
    """

    name: str
    size: tuple[int, int]
    outputs: FashionDetrForInstanceSegmentationOutput


@dataclass(frozen=True)
class Finder:
    """A model with its image processor."""

    model: FashionDetrForInstanceSegmentation
    processor: FashionDetrImageProcessor

    def look(self, photo: Image.Image, name: str) -> Sighting:
        """Runs the network on an upright RGB photo."""
        batch = self.processor([photo], return_tensors="pt").to(self.model.device)
        with torch.inference_mode():
            outputs = self.model(**batch)
        needed = ("class_queries_logits", "masks_queries_logits", "attribute_queries_logits", "valid_sizes")
        outputs = FashionDetrForInstanceSegmentationOutput(**{field: outputs[field].cpu() for field in needed})
        return Sighting(name, (photo.height, photo.width), outputs)

    def objects(self, sighting: Sighting, settings: Settings, size: tuple[int, int]) -> FashionResult:
        """The objects of a photo, at most `MOST_OBJECTS`, with masks of the given height and width."""
        return self.processor.post_process_fashion(
            sighting.outputs,
            target_sizes=[size],
            config=self.model.config,
            threshold=settings.threshold,
            mask_threshold=settings.mask_threshold,
            attribute_threshold=settings.attribute_threshold,
            top_k=MOST_OBJECTS,
        )[0]


def masks_zip(objects: FashionResult) -> bytes:
    """
    An archive with a mask for every object, a greyscale PNG of the photo's size, 255 inside.

    The names begin with the positions in the list, which the JSON text gives as `parent`.
    """
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as archive:
        for position, entry in enumerate(objects):
            png = io.BytesIO()
            mask_image(entry["mask"].numpy()).save(png, "PNG")
            label = re.sub(r"[^\w-]+", "_", entry["label"])
            archive.writestr(f"{position:02d}_{label}.png", png.getvalue())
    return stored.getvalue()
