"""What a model finds in photos as one annotation file, for people to correct and for models to learn from."""

import json
from pathlib import Path
from typing import Any

from ..configuration_fashion_detr import FashionDetrConfig
from ..results_fashion_detr import FashionResult
from .annotations import Vocabulary


class PredictedAnnotations:
    """
    Photos with their objects in Fashionpedia's format, COCO's with attributes. Every annotation has its `score` beside
    what annotations always have.

    Args:
        config: The model's vocabulary.
    """

    def __init__(self, config: FashionDetrConfig):
        self.config = config
        self.vocabulary = Vocabulary.of(config)
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, file_name: str, objects: FashionResult) -> None:
        """Takes a photo; `file_name` is its place below the folder of all photos."""
        height, width = objects.image_size
        image_id = len(self.images) + 1
        self.images.append({"id": image_id, "file_name": file_name, "width": width, "height": height})
        for found in objects.to_coco(image_id, self.config, boxes=True):
            self.annotations.append({"id": len(self.annotations) + 1, **found, "iscrowd": 0})

    def write(self, file: Path) -> None:
        """Raises OSError if the file cannot be written."""
        lists = {"images": self.images, "annotations": self.annotations}
        content = {"info": {"description": "found by a model"}} | lists | self.vocabulary.lists()
        file.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")
