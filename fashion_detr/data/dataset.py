"""From examples to what the model takes: photo and masks prepared, keyed by (seed, epoch, index), and batched."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from pycocotools import mask as coco_mask
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional as tvF

from ..configuration_fashion_detr import FashionDetrConfig
from ..image_processing_fashion_detr import FashionDetrImageProcessor, decode_instances, encode_mask, to_rgb
from .augmentation import Augmentation
from .fashionpedia import fashionpedia_annotations

# An example is {"image": PIL image or uint8 array (H, W, 3), "image_id": int, "annotations": Fashionpedia's dicts}.
Example = dict[str, Any]


class FashionpediaExamples(Sequence):
    """The rows of `load_fashionpedia` as examples, each photo decoded when it is asked for."""

    def __init__(self, rows: Dataset):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        try:
            row = self.rows[index]
            image = to_rgb(row["image"])
        except (OSError, SyntaxError, ValueError) as error:
            name = self.rows.select_columns("file_name")[index]["file_name"]
            raise ValueError(f"{name} cannot be read as an image: {error}. Is the file complete?") from error
        if image.size != (row["width"], row["height"]):
            raise ValueError(
                f"{row['file_name']} is {image.width} x {image.height} pixels, but the annotations say "
                f"{row['width']} x {row['height']} (width x height)."
            )
        return {"image": image, "image_id": row["image_id"], "annotations": fashionpedia_annotations(row)}


def keep_in_memory(examples: Sequence[Example], num_workers: int = 0) -> list[Example]:
    """All examples, decoded or drawn once: where training has no cores to spare, doing it again would cost steps."""
    return list(DataLoader(examples, batch_size=None, collate_fn=_unchanged, num_workers=num_workers))


def _unchanged(example: Example) -> Example:
    return example


class FashionDataset(torch.utils.data.Dataset):
    """
    Examples prepared for the model, one `dict` each.

    Args:
        examples: Anything with a length and an index that yields examples.
        processor: The model's image processor.
        config: The model's configuration, for its vocabulary.
        augmentation: Random changes for training; `None` prepares the photo as it is.
        seed: The same seed, epoch and index give the same sample, whatever the worker or process.
        with_ground_truth: Adds `meta` for the evaluation: `image_id`, `size` (height, width) and `ground_truth`, the
            annotations with their masks as compressed run lengths at the original size.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        processor: FashionDetrImageProcessor,
        config: FashionDetrConfig,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        with_ground_truth: bool = False,
    ):
        self.examples = examples
        self.processor = processor
        self.config = config
        self.augmentation = augmentation
        self.seed = seed
        self.epoch = 0
        self.with_ground_truth = with_ground_truth

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = self.examples[index]
        image, annotations = example["image"], example["annotations"]
        size = image.shape[:2] if isinstance(image, np.ndarray) else (image.height, image.width)
        if self.augmentation is not None:
            image, annotations = self._augment(example, index)
        batch = self.processor(
            image,
            {"image_id": example["image_id"], "annotations": annotations},
            config=self.config,
            do_resize=self.augmentation is None,
        )
        sample = {name: values[0] for name, values in batch.items()}
        if self.with_ground_truth:
            sample["meta"] = {
                "image_id": example["image_id"],
                "size": tuple(size),
                "ground_truth": [
                    annotation | {"segmentation": as_rle(annotation["segmentation"], size)}
                    for annotation in example["annotations"]
                ],
            }
        return sample

    def _augment(self, example: Example, index: int) -> tuple[torch.Tensor, list[dict[str, Any]]]:
        image = tvF.to_image(example["image"])
        annotations, masks = decode_instances(example, image.shape[-2:])
        canvas = (self.processor.size["height"], self.processor.size["width"])
        random = np.random.default_rng([self.seed, self.epoch, index])
        image, masks, kept = self.augmentation(image, masks, canvas, random)
        left = [annotation for annotation, here in zip(annotations, kept.tolist()) if here]
        return image, [annotation | {"segmentation": mask} for annotation, mask in zip(left, masks)]


def as_rle(segmentation: Any, size: Sequence[int]) -> dict[str, Any]:
    """Any encoding of a mask as compressed run lengths, exactly as pycocotools would read it."""
    if isinstance(segmentation, (np.ndarray, torch.Tensor)):
        return encode_mask(np.asarray(segmentation) > 0.5)
    if isinstance(segmentation, dict) and not isinstance(segmentation["counts"], list):
        return segmentation
    rle = coco_mask.frPyObjects(segmentation, *size)
    return coco_mask.merge(rle) if isinstance(rle, list) else rle


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Pixels stacked, everything that has one entry an instance as a list."""
    return {
        name: torch.stack([sample[name] for sample in samples])
        if name in ("pixel_values", "pixel_mask")
        else [sample[name] for sample in samples]
        for name in samples[0]
    }
