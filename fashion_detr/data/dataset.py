"""From examples to what the model takes: photo and masks prepared, keyed by (seed, epoch, index), and batched."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Image
from torch.utils.data import DataLoader, Subset

from ..configuration_fashion_detr import FashionDetrConfig
from ..image_processing_fashion_detr import FashionDetrImageProcessor, instance_labels
from ..masks_fashion_detr import encode_mask
from ..photos_fashion_detr import DAMAGED, to_rgb
from .annotations import compressed_rle
from .augmentation import Augmentation
from .fashionpedia import fashionpedia_annotations
from .images import read_image
from .scene import WHOLE, Example, Scene, photo_size, upright

# Every covered share in 255ths as a number in 0..1. Half precision tells all of them apart.
_SHARES = (np.arange(WHOLE + 1) / WHOLE).astype(np.float16)


class FashionpediaExamples(Sequence):
    """The rows of `load_fashionpedia` as examples, each photo decoded when it is asked for."""

    def __init__(self, rows: Dataset):
        # `datasets` would open an archive anew, with its long table of contents, for every photo in it.
        self.rows = rows.cast_column("image", Image(decode=False))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        row = self.rows[index]
        try:
            image = to_rgb(read_image(row["image"]))
        except DAMAGED as error:
            raise ValueError(f"{row['file_name']} cannot be read as an image: {error}") from error
        if image.size != (row["width"], row["height"]):
            raise ValueError(
                f"{row['file_name']} is {image.width} x {image.height} pixels, but the annotations say "
                f"{row['width']} x {row['height']} (width x height)."
            )
        return {"image": image, "image_id": row["image_id"], "annotations": fashionpedia_annotations(row)}


def keep_in_memory(examples: Sequence[Example], num_workers: int = 0) -> list[Example]:
    """All examples, decoded or drawn once: where training has no cores to spare, doing it again would cost steps."""
    return list(DataLoader(examples, batch_size=None, collate_fn=_unchanged, num_workers=num_workers))


def set_aside(examples: Sequence[Example], count: int, seed: int) -> tuple[Subset, Subset]:
    """`count` examples to choose by, drawn by the seed, and the rest to learn from; both in the order they came in."""
    order = np.random.default_rng(seed).permutation(len(examples))
    return Subset(examples, sorted(order[:count].tolist())), Subset(examples, sorted(order[count:].tolist()))


def _unchanged(example: Example) -> Example:
    return example


class FashionDataset(torch.utils.data.Dataset):
    """
    Examples prepared for the model, one `dict` each.

    Args:
        examples: Anything with a length and an index that yields examples, or the rows of `load_fashionpedia`.
        processor: The model's image processor.
        config: The model's configuration, for its vocabulary.
        augmentation: Random changes for training. `None` leaves the photo to the processor. Otherwise `mask_labels` are
            float16 and `pixel_mask` is boolean, less than half as much to hand from worker to trainer.
        seed: The same seed, epoch and index give the same sample, whatever the worker or process. `FashionTrainer` sets
            the epoch; another Trainer needs the callback [`~fashion_detr.training.trainer.EpochCallback`] for it.
        with_ground_truth: Adds `meta` for the evaluation: `image_id`, `size` (height, width) and `ground_truth`, the
            annotations with their masks as compressed run lengths at the original size.
        with_labels: `False` leaves out what only a loss needs; it takes many times the photo's own memory.

    Raises:
        ValueError: ground truth is asked for of photos that are augmented.
    """

    def __init__(
        self,
        examples: Sequence[Example] | Dataset,
        processor: FashionDetrImageProcessor,
        config: FashionDetrConfig,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        with_ground_truth: bool = False,
        with_labels: bool = True,
    ):
        if augmentation is not None and with_ground_truth:
            raise ValueError("The ground truth is that of the whole photo: with it, `augmentation` has to be None.")
        self.examples = FashionpediaExamples(examples) if isinstance(examples, Dataset) else examples
        self.processor = processor
        self.config = config
        self.augmentation = augmentation
        self.seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # also with workers that outlive an epoch
        self.with_ground_truth = with_ground_truth
        self.with_labels = with_labels
        self._mean, self._std = _normalisation(processor)

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.augmentation is not None:
            return self._sample(self.augmented(index))
        example = upright(self.examples[index])
        annotation = None
        if self.with_labels:
            annotation = {"image_id": example["image_id"], "annotations": example["annotations"]}
        batch = self.processor(example["image"], annotation, config=self.config)
        sample = {name: values[0] for name, values in batch.items()}
        if self.with_ground_truth:
            size = photo_size(example)
            sample["meta"] = {
                "image_id": example["image_id"],
                "size": size,
                "ground_truth": [
                    annotation | {"segmentation": as_rle(annotation["segmentation"], size)}
                    for annotation in example["annotations"]
                ],
            }
        return sample

    def augmented(self, index: int) -> Scene:
        """The photo and its instances as this epoch's sample shows them."""
        canvas = (self.processor.size["height"], self.processor.size["width"])
        random = np.random.default_rng([self.seed, int(self._epoch), index])
        return self.augmentation(self.examples, index, canvas, random)

    def _sample(self, scene: Scene) -> dict[str, torch.Tensor]:
        """What the processor makes of a photo, of a scene: masks go from their boxes straight to the canvas."""
        canvas, (height, width) = (self.processor.size["height"], self.processor.size["width"]), scene.size
        pixel_values = torch.zeros(3, *canvas)
        pixels = pixel_values[:, :height, :width].copy_(scene.image)
        pixels.sub_(self._mean).div_(self._std)
        pixel_mask = torch.zeros(canvas, dtype=torch.bool)
        pixel_mask[:height, :width] = True
        mask_labels = np.zeros((len(scene.instances), *canvas), dtype=np.float16)
        for mask, instance in zip(mask_labels, scene.instances):
            mask[instance.box] = np.take(_SHARES, instance.shares)
        annotations = [instance.annotation for instance in scene.instances]
        class_labels, attribute_labels = instance_labels(annotations, self.config)
        return {
            "pixel_values": pixel_values,
            "pixel_mask": pixel_mask,
            "mask_labels": torch.from_numpy(mask_labels),
            "class_labels": class_labels,
            "attribute_labels": attribute_labels,
        }


def _normalisation(processor: FashionDetrImageProcessor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation `(3, 1, 1)` of the channels in the photo's own values, 0 to 255."""
    values = 1.0 / (processor.rescale_factor if processor.do_rescale else 1.0)
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else ([0.0] * 3, [1.0] * 3)
    return torch.tensor(mean).view(3, 1, 1) * values, torch.tensor(std).view(3, 1, 1) * values


def as_rle(segmentation: Any, size: Sequence[int]) -> dict[str, Any]:
    """Any encoding of a mask as compressed run lengths, exactly as pycocotools would read it."""
    if isinstance(segmentation, (np.ndarray, torch.Tensor)):
        return encode_mask(np.asarray(segmentation) > 0.5)
    return compressed_rle(segmentation, *size)


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Pixels stacked, everything that has one entry an instance as a list."""
    return {
        name: torch.stack([sample[name] for sample in samples])
        if name in ("pixel_values", "pixel_mask")
        else [sample[name] for sample in samples]
        for name in samples[0]
    }
