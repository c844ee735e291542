"""Image processor of Fashion DETR: photos and annotations in, garments with masks and attributes out."""

import math
from collections.abc import Hashable, Iterator, Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as tvF
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_processing_base import BatchFeature
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    PILImageResampling,
    SizeDict,
    is_valid_image,
)
from transformers.utils import logging

from .configuration_fashion_detr import MASK_STRIDE, FashionDetrConfig, make_findable, vocabulary_of
from .masks_fashion_detr import decode_segmentation, encode_mask, full_size_masks, is_crowd, logit, mask_box
from .ontology_fashion_detr import PART_OF
from .photos_fashion_detr import BYTES, open_image, to_rgb
from .results_fashion_detr import FashionResult, whole_number

logger = logging.get_logger(__name__)

# A part belongs to a garment that holds at least this share of it.
PARENT_CONTAINMENT = 0.5

# An attribute is reported from this probability on, unless the model's configuration knows better. F1 weighs what is
# missed like what is invented, so the threshold that serves it best is half of the F1 that is reached (Lipton et al.,
# "Optimal Thresholding of Classifiers to Maximize F1 Measure", 2014): 0.5 would suit a perfect model alone.
ATTRIBUTE_THRESHOLD = 0.3

# Integers of these types count as 16-bit if any value is above 255, else as 8-bit.
WIDE_INTEGERS = (
    *(np.int16, np.int32, np.int64, np.uint32, np.uint64),
    *(torch.int16, torch.int32, torch.int64, torch.uint32, torch.uint64),
)


class FashionDetrImageProcessor(TorchvisionBackend):
    r"""
    Prepares photos for [`FashionDetrForInstanceSegmentation`] and turns its output into garments.

    Every photo is resized to fit the canvas `size`, keeping its aspect, and put at the top left; the rest is padding.
    So photos of any sizes make one batch. Palette, greyscale, 16-bit and transparent images (on white) are converted
    to RGB, and the EXIF orientation is applied.

    Args:
        size (`dict`, *optional*, defaults to `{"height": 1024, "width": 1024}`):
            The canvas, in pixels.
        do_resize (`bool`, *optional*, defaults to `True`):
            `False` keeps the size of photos that fit the canvas already.
        image_mean, image_std (`list[float]`, *optional*, default to ImageNet's):
            Normalisation of the three channels; has to be that of the backbone's weights.
    """

    _auto_class = "AutoImageProcessor"
    model_input_names = ["pixel_values", "pixel_mask"]
    resample = PILImageResampling.BILINEAR
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD
    size = {"height": 1024, "width": 1024}
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True

    def preprocess(self, images, annotations=None, config=None, **kwargs) -> BatchFeature:
        """
        Prepares a batch for the model.

        Args:
            images (image or list of images):
                PIL images, paths, URLs, image files as `bytes` or opened, what `datasets` holds of an undecoded one
                (`{"bytes", "path"}`), or `np.ndarray` or `torch.Tensor`, `(H, W, 3)` or `(3, H, W)`, values 0 to 255
                (16-bit integers: to 65535), or booleans.
            annotations (`dict` or list of `dict`, *optional*):
                One `{"image_id": ..., "annotations": [...]}` an image, with Fashionpedia's annotation dictionaries:
                `category_id`, `attribute_ids` and `segmentation` as polygons, uncompressed or compressed run lengths,
                or an array `(H, W)` with values 0 to 1. Crowd annotations are left out.
            config ([`FashionDetrConfig`], *optional*):
                The model's vocabulary, which maps the data set's ids; Fashionpedia's by default.
            kwargs:
                Overrides of the processor's fields, and `return_tensors`. Photos always fill the canvas as above, so
                that the library's `do_pad`, `do_center_crop` and their sizes change nothing.

        Returns:
            `BatchFeature` with `pixel_values` `(B, 3, H, W)` float32 (bytes stay bytes where nothing is rescaled or
            normalised) and `pixel_mask` `(B, H, W)` int64 (1 = image); with annotations also `mask_labels` (list of
            `(n, H, W)` float32, the covered share of every pixel), `class_labels` (list of `(n,)` int64) and
            `attribute_labels` (list of `(n, A)` float32).

        Raises:
            ValueError: an unreadable image, an unknown id, a mask of another size than its image, a broken polygon.
            FileNotFoundError: a path that leads nowhere.
        """
        if isinstance(annotations, dict):
            annotations = [annotations]
        return super().preprocess(images, annotations, config, **kwargs)

    def _preprocess_image_like_inputs(self, images, annotations, config, **kwargs) -> BatchFeature:
        if not all((whole_number(side) or 0) > 0 for side in (kwargs["size"].height, kwargs["size"].width)):
            raise ValueError(
                "`size` has to give the canvas as 'height' and 'width', whole numbers of pixels from 1 on, found "
                f"{dict(kwargs['size'])}."
            )
        images = self._prepare_image_like_inputs(images, **kwargs)
        batch = self._preprocess(images, **kwargs)
        if annotations is not None:
            if len(annotations) != len(images):
                raise ValueError(f"One annotation an image is needed: {len(images)} images, {len(annotations)} given.")
            config = vocabulary_of(config)
            labels = [
                self._labels(annotation, image.shape[-2:], config, **kwargs)
                for annotation, image in zip(annotations, images)
            ]
            for name in ("mask_labels", "class_labels", "attribute_labels"):
                batch[name] = [label[name] for label in labels]
        return batch

    def fetch_images(self, images):
        """Opens files with Pillow, wherever they are; grey arrays get three channels; other images pass."""
        if isinstance(images, (list, tuple)):
            return [self.fetch_images(image) for image in images]
        if isinstance(images, dict) and {"bytes", "path"} == set(images):  # as `datasets` holds undecoded images
            images = images["path"] if images["bytes"] is None else images["bytes"]
        if isinstance(images, (str, *BYTES)) or hasattr(images, "__fspath__") or hasattr(images, "read"):
            return open_image(images)
        if not is_valid_image(images):
            raise ValueError(
                "An image has to be a Pillow image, an array or tensor, a path, a URL, or a file as bytes or opened; "
                f"found {type(images).__name__}."
            )
        if isinstance(images, np.ndarray) and images.ndim == 2:
            return np.repeat(images[None], 3, axis=0)
        if isinstance(images, torch.Tensor) and images.ndim == 2:
            return images.expand(3, -1, -1)
        return images

    def process_image(self, image, do_convert_rgb: bool | None = None, **kwargs) -> torch.Tensor:
        """One image of any kind as a `(3, H, W)` tensor, uint8 unless it came as floats."""
        if isinstance(image, Image.Image):
            image = np.array(to_rgb(image))
            kwargs["input_data_format"] = "channels_last"
        else:
            if isinstance(image, np.ndarray):
                # Torch takes neither mirrored views (`[..., ::-1]` makes BGR RGB) nor a foreign byte order.
                image = np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("="))
            if image.dtype in WIDE_INTEGERS or image.dtype in (np.uint16, torch.uint16):
                pixels = np.asarray(image.cpu() if isinstance(image, torch.Tensor) else image)
                if pixels.dtype == np.uint16 or pixels.max(initial=0) > 255:
                    image = (pixels // 257).astype(np.uint8)
            elif image.dtype in (np.bool_, torch.bool):
                image = np.asarray(image).astype(np.uint8) * 255
            if image.shape[-1] == 3 and image.shape[0] != 3:
                # The library would take a photo of one row, (1, W, 3), for a greyscale one, (1, H, W).
                kwargs["input_data_format"] = kwargs.get("input_data_format") or "channels_last"
        return super().process_image(image, do_convert_rgb=do_convert_rgb, **kwargs)

    def _preprocess(
        self,
        images: list[torch.Tensor],
        do_resize: bool,
        size: SizeDict,
        resample,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean,
        image_std,
        return_tensors=None,
        **kwargs,
    ) -> BatchFeature:
        if not images:
            raise ValueError("There is no image: `images` is empty.")
        canvases, masks = [], []
        for number, image in enumerate(images):
            if 0 in image.shape:
                raise ValueError(
                    f"Image {number} has no pixels: {image.shape[-2]} x {image.shape[-1]} (height x width)."
                )
            if do_rescale and image.is_floating_point() and 0 < image.max() <= 1:
                logger.warning_once(
                    "An image of floats has no value above 1, where 0 to 255 are expected, and is taken as black. "
                    "If its values are 0 to 1, as `ToTensor` makes them, pass `do_rescale=False`."
                )
            height, width = self._placed_size(image.shape[-2:], size, do_resize)
            if (height, width) != tuple(image.shape[-2:]):
                if 1 in (height, width):  # torch cannot resize bytes to one row or column
                    image = image.float()
                image = self.resize(image, SizeDict(height=height, width=width), resample=resample)
            image = self.rescale_and_normalize(image, do_rescale, rescale_factor, do_normalize, image_mean, image_std)
            canvas = image.new_zeros(image.shape[0], size.height, size.width)
            canvas[:, :height, :width] = image
            mask = torch.zeros(size.height, size.width, dtype=torch.int64, device=image.device)
            mask[:height, :width] = 1
            canvases.append(canvas)
            masks.append(mask)
        data = {"pixel_values": torch.stack(canvases), "pixel_mask": torch.stack(masks)}
        return BatchFeature(data=data, tensor_type=return_tensors)

    @staticmethod
    def _placed_size(image_size: Sequence[int], canvas: SizeDict, do_resize: bool) -> tuple[int, int]:
        """Height and width that a photo takes on the canvas."""
        height, width = image_size
        if not do_resize:
            if height > canvas.height or width > canvas.width:
                raise ValueError(
                    f"With `do_resize=False` a photo has to fit the canvas of {canvas.height} x {canvas.width} pixels, "
                    f"found {height} x {width}."
                )
            return height, width
        scale = min(canvas.height / height, canvas.width / width)
        return (
            min(canvas.height, max(1, round(height * scale))),
            min(canvas.width, max(1, round(width * scale))),
        )

    def _labels(
        self,
        annotation: dict[str, Any],
        image_size: Sequence[int],
        config: FashionDetrConfig,
        size: SizeDict,
        do_resize: bool,
        **kwargs,
    ) -> dict[str, torch.Tensor]:
        """The labels of one image on its canvas."""
        if not isinstance(annotation, dict) or "annotations" not in annotation:
            raise ValueError(
                'Every image needs {"image_id": ..., "annotations": [...]}, found '
                f"{sorted(annotation) if isinstance(annotation, dict) else type(annotation).__name__}."
            )
        if not isinstance(annotation["annotations"], (list, tuple)):
            raise ValueError(f"'annotations' has to be a list, found {annotation['annotations']!r}.")
        instances, masks = decode_instances(annotation, image_size)
        classes, attributes = instance_labels(instances, config, annotation.get("image_id"))
        height, width = self._placed_size(image_size, size, do_resize)
        canvas = torch.zeros(len(instances), size.height, size.width)
        if len(instances):
            if (height, width) != tuple(image_size):
                masks = tvF.resize(masks, [height, width], antialias=True).clamp(0, 1)
            canvas[:, :height, :width] = masks
        return {"mask_labels": canvas, "class_labels": classes, "attribute_labels": attributes}

    def post_process_fashion(
        self,
        outputs,
        target_sizes: Sequence[tuple[int, int]] | None = None,
        config: FashionDetrConfig | None = None,
        threshold: float = 0.5,
        attribute_threshold: float | None = None,
        mask_threshold: float = 0.5,
        top_k: int = 100,
        output_embeddings: bool = False,
    ) -> list[FashionResult]:
        """
        The garments, parts and accessories of every photo, best first; masks keep their overlaps.

        Args:
            outputs ([`FashionDetrForInstanceSegmentationOutput`]):
                Output of the model.
            target_sizes (list of B `(height, width)`, *optional*):
                Original sizes of the upright photos, in pixels; without it masks have the size of the photo on the
                canvas.
            config ([`FashionDetrConfig`], *optional*):
                The model's vocabulary; Fashionpedia's by default.
            threshold (`float`, *optional*, defaults to 0.5):
                Least score: class probability times the IoU that the mask can be expected to have.
            attribute_threshold (`float`, *optional*):
                Least probability of an attribute; by default the configuration's `attribute_thresholds`, else 0.3.
            mask_threshold (`float`, *optional*, defaults to 0.5):
                Probability above which a pixel belongs to the mask.
            top_k (`int`, *optional*, defaults to 100):
                The largest number of objects a photo.
            output_embeddings (`bool`, *optional*, defaults to `False`):
                Whether every object also has its `embedding`, a float32 tensor `(d,)` on the CPU: the row of
                `query_hidden_states` that found it.

        Returns:
            B [`FashionResult`], lists of `dict`: `label_id` (class index), `label`, `score`, `mask`
            (`torch.BoolTensor` `(height, width)` on the CPU), `bbox` `[x0, y0, x1, y1]` in pixels around the mask,
            `attributes` (best first, each with the data set's `id`, `name`, `supercategory`, `score`), and `parent`
            (for a part, the position in the list of the garment that carries it, else `None`).

        Raises:
            ValueError: a threshold that is no number in 0..1 (for `mask_threshold` without the two ends), a `top_k`
                that is no whole number from 1 on, a vocabulary of another size, or not one target size an image.
        """
        _check_outputs(outputs, *(["query_hidden_states"] if output_embeddings else []))
        _check_fraction("threshold", threshold)
        _check_top_k(top_k)
        _check_fraction("mask_threshold", mask_threshold, with_ends=False)
        cut = logit(mask_threshold)
        config = vocabulary_of(config)
        attribute_thresholds = _attribute_thresholds(attribute_threshold, config)
        results = []
        images = self._images(outputs, config, mask_threshold)
        for number, (image, target) in enumerate(zip(images, self._targets(outputs, target_sizes))):
            class_scores, classes = image["scores"].max(dim=1)
            order = class_scores.argsort(descending=True, stable=True)
            order = order[class_scores[order] >= threshold]
            objects, kept = [], []
            valid_size, logits = image["valid_size"], image["mask_logits"]
            for query, mask in full_size_masks(logits, order, valid_size, target, mask_threshold):
                if len(objects) == top_k:
                    break
                if not mask.numpy().any():  # on a photo smaller than its canvas a mask may lie between two pixels
                    continue
                label_id = int(classes[query])
                objects.append(
                    {
                        "label_id": label_id,
                        "label": config.id2label[label_id],
                        "score": float(class_scores[query]),
                        "mask": mask,
                        "bbox": [float(side) for side in mask_box(mask.numpy())],
                        "attributes": _attributes(image["attributes"][query], label_id, attribute_thresholds, config),
                    }
                )
                kept.append(query)
            parents = _parents([entry["label"] for entry in objects], logits[kept] > cut)
            objects = [entry | {"parent": parent} for entry, parent in zip(objects, parents)]
            if output_embeddings:
                embeddings = outputs.query_hidden_states[number].detach()[kept].float().cpu()
                objects = [entry | {"embedding": embedding} for entry, embedding in zip(objects, embeddings)]
            results.append(FashionResult(objects, target))
        return results

    def post_process_instance_segmentation(
        self,
        outputs,
        threshold: float = 0.5,
        mask_threshold: float = 0.5,
        overlap_mask_area_threshold: float = 0.0,
        target_sizes: Sequence[tuple[int, int]] | None = None,
        return_binary_maps: bool = False,
    ) -> list[dict[str, Any]]:
        """
        The result in the form that transformers' own pipeline expects.

        Args:
            outputs, threshold, mask_threshold, target_sizes:
                As in `post_process_fashion`.
            overlap_mask_area_threshold (`float`, *optional*, defaults to 0.0):
                An instance is left out of the flattened map if no more than this share of it stays visible there.
            return_binary_maps (`bool`, *optional*, defaults to `False`):
                `True` gives one binary map an instance, which keeps the overlaps.

        Returns:
            A `dict` an image: `segmentation`, `(height, width)` int32 with the segment's id in every pixel (-1 = none,
            small instances above large ones), or with `return_binary_maps`, where there is any, `(n, height, width)`
            bool; and `segments_info`, one `dict` a segment with `id`, `label_id`, `was_fused`, `score`.

        Raises:
            ValueError: as `post_process_fashion`; also an `overlap_mask_area_threshold` that is no number in 0..1.
        """
        _check_outputs(outputs)
        _check_fraction("overlap_mask_area_threshold", overlap_mask_area_threshold)
        results = []
        objects_of_images = self.post_process_fashion(
            outputs,
            target_sizes,
            config=_nameless(outputs),
            threshold=threshold,
            mask_threshold=mask_threshold,
            top_k=outputs.class_queries_logits.shape[1],
        )
        for objects in objects_of_images:
            segments = [
                {"id": number, "label_id": entry["label_id"], "was_fused": False, "score": entry["score"]}
                for number, entry in enumerate(objects)
            ]
            if return_binary_maps and objects:  # of nothing transformers' own models return the flat map
                segmentation = torch.stack([entry["mask"] for entry in objects])
            else:
                segmentation, kept = _flatten(objects, overlap_mask_area_threshold)
                segments = [segments[number] for number in kept]
            results.append({"segmentation": segmentation, "segments_info": segments})
        return results

    def post_process_coco(
        self,
        outputs,
        target_sizes: Sequence[tuple[int, int]],
        config: FashionDetrConfig | None = None,
        attribute_threshold: float | None = None,
        top_k: int = 100,
        output_attribute_scores: bool = False,
    ) -> list[list[dict[str, Any]]]:
        """
        Results for average precision: the best of the whole N x K table, so that a query may answer for two classes.

        Args:
            outputs, target_sizes, config, attribute_threshold:
                As in `post_process_fashion`.
            top_k (`int`, *optional*, defaults to 100):
                The largest number of results a photo.
            output_attribute_scores (`bool`, *optional*, defaults to `False`):
                Whether every result also has its `attribute_scores`, a float32 array `(A,)` in 0..1, zero where its
                class cannot carry the attribute.

        Returns:
            B lists of Fashionpedia's result dictionaries: `category_id` and `attribute_ids` (the data set's own ids),
            `segmentation` (compressed run lengths at the original size), `score`.

        Raises:
            ValueError: as `post_process_fashion`.
        """
        _check_outputs(outputs)
        _check_top_k(top_k)
        config = vocabulary_of(config)
        attribute_ids = np.asarray(config.attribute_ids)
        thresholds = _attribute_thresholds(attribute_threshold, config).numpy()
        results = []
        for image, target in zip(self._images(outputs, config), self._targets(outputs, target_sizes)):
            scores, cells = image["scores"].flatten().topk(min(top_k, image["scores"].numel()))
            queries, classes = cells // config.num_labels, cells % config.num_labels
            masks = full_size_masks(image["mask_logits"], queries.unique(), image["valid_size"], target, 0.5)
            encoded = {query: encode_mask(mask.numpy()) for query, mask in masks}
            found = []
            for score, query, label_id in zip(scores.tolist(), queries.tolist(), classes.tolist()):
                carriable = _carriable(label_id, config).numpy()
                attribute_scores = image["attributes"][query].numpy() * carriable
                entry = {
                    "category_id": config.category_ids[label_id],
                    "attribute_ids": attribute_ids[carriable & (attribute_scores >= thresholds)].tolist(),
                    "segmentation": encoded[query],
                    "score": score,
                }
                found.append(entry | {"attribute_scores": attribute_scores} if output_attribute_scores else entry)
            results.append(found)
        return results

    @staticmethod
    def _images(outputs, config: FashionDetrConfig, mask_threshold: float = 0.5) -> Iterator[dict[str, Any]]:
        """
        Image by image, on the CPU: `mask_logits` `(N, h, w)` cropped to the image's part of the canvas, `valid_size`,
        `attributes` `(N, A)` in 0..1, and `scores` `(N, K)`: class probability times mask quality, the IoU
        that the mask can be expected to have if the pixels' probabilities are true.
        """
        num_classes = outputs.class_queries_logits.shape[-1]
        if num_classes != config.num_labels:
            raise ValueError(
                f"The output has {num_classes} classes, but the vocabulary names {config.num_labels}: "
                "pass `config=model.config`."
            )
        num_attributes = outputs.attribute_queries_logits.shape[-1]
        if num_attributes != config.num_attributes:
            raise ValueError(
                f"The output has {num_attributes} attributes, but the vocabulary names {config.num_attributes}: "
                "pass `config=model.config`."
            )
        for classes, masks, attributes, valid_size in zip(
            outputs.class_queries_logits.detach(),
            outputs.masks_queries_logits.detach(),
            outputs.attribute_queries_logits.detach(),
            outputs.valid_sizes.tolist(),
        ):
            rows, columns = (math.ceil(side / MASK_STRIDE) for side in valid_size)
            masks = masks[:, :rows, :columns].float().cpu()
            probability = masks.sigmoid().flatten(1)
            inside = probability > mask_threshold
            union = torch.where(inside, 1, probability).sum(1)
            quality = (probability * inside).sum(1) / union.clamp(min=1)
            scores = classes.float().cpu().sigmoid() * quality[:, None]
            if scores.isnan().any():
                logger.warning_once(
                    "The model's output has values that are no numbers (NaN), so objects get a score of 0. Half "
                    "precision can do that: load the model with `dtype=torch.float32`, or torch.bfloat16."
                )
            yield {
                "mask_logits": masks,
                "valid_size": valid_size,
                "scores": scores.nan_to_num(0),
                "attributes": attributes.float().cpu().sigmoid().nan_to_num(0),
            }

    @staticmethod
    def _targets(outputs, target_sizes) -> list[tuple[int, int]]:
        if target_sizes is None:
            return [tuple(size) for size in outputs.valid_sizes.tolist()]
        try:
            sizes = [tuple(int(side) for side in size) for size in target_sizes]
        except (TypeError, ValueError, OverflowError):
            sizes = [()]
        if not all(len(size) == 2 and min(size) > 0 for size in sizes):
            raise ValueError(f"`target_sizes` needs (height, width) in pixels for every image, found {target_sizes}.")
        if len(sizes) != len(outputs.class_queries_logits):
            raise ValueError(
                f"One target size an image is needed: {len(outputs.class_queries_logits)} images, {len(sizes)} sizes."
            )
        if any(map(_is_turned, sizes, outputs.valid_sizes.tolist())):
            logger.warning_once(
                "A photo is upright and its target size lies on its side, or the other way round. The image processor "
                "turns photos as their EXIF data say: take the size after `ImageOps.exif_transpose(photo)`."
            )
        return sizes


def _check_outputs(outputs, *further: str) -> None:
    names = ("class_queries_logits", "masks_queries_logits", "attribute_queries_logits", "valid_sizes", *further)
    lacking = [name for name in names if not isinstance(getattr(outputs, name, None), torch.Tensor)]
    if lacking:
        raise ValueError(
            f"Post-processing needs what the model returns, with the tensors {', '.join(names)}; found "
            f"{type(outputs).__name__} without {', '.join(lacking)}. Arrays become tensors by `torch.from_numpy`, and "
            "`return_dict=False` leaves the names out."
        )


def _is_turned(size: tuple[int, int], valid_size: list[int]) -> bool:
    """Whether two (height, width) are clearly portrait and landscape; small sides are rounded."""
    ratios = [height / width for height, width in (size, valid_size)]
    return min(ratios) < 0.9 and max(ratios) > 1.1


def decode_instances(
    annotation: dict[str, Any], image_size: Sequence[int]
) -> tuple[list[dict[str, Any]], torch.Tensor]:
    """
    What one image has to teach: its annotations but crowds and masks without a pixel, which augmentation leaves of
    what it cuts off, and their masks `(n, H, W)`, float32 in 0..1.

    Raises what `decode_segmentation` raises, with the annotation and the image named.
    """
    image_id = annotation.get("image_id")
    for row, instance in enumerate(annotation["annotations"]):
        if not isinstance(instance, dict):
            raise ValueError(f"What is {_where(image_id, {}, row)} has to be a dictionary, found {instance!r}.")
        if isinstance(instance.get("iscrowd"), str):  # it would be true whatever it says
            where = _where(image_id, instance, row)
            raise ValueError(f"'iscrowd' of {where} has to be 0 or 1, found the text {instance['iscrowd']!r}.")
    rows = enumerate(annotation["annotations"])  # what has no id is called by its place
    instances = [{"id": row} | instance for row, instance in rows if not is_crowd(instance)]
    masks = torch.zeros(len(instances), *image_size)
    for row, instance in enumerate(instances):
        where = _where(image_id, instance, row)
        if "segmentation" not in instance:
            raise ValueError(f"There is no 'segmentation' in {where}.")
        masks[row] = torch.from_numpy(decode_segmentation(instance["segmentation"], image_size, where))
    seen = masks.flatten(1).any(dim=1)
    if seen.all():
        return instances, masks
    return [instance for instance, is_seen in zip(instances, seen.tolist()) if is_seen], masks[seen]


def instance_labels(
    instances: Sequence[dict[str, Any]], config: FashionDetrConfig, image_id: Any = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Class indices `(n,)` int64 and attributes `(n, A)` float32 in {0, 1} of annotations in the data set's own ids.

    Raises `ValueError` for an id that the vocabulary does not know, with the annotation and the image named.
    """
    class_index = {category_id: index for index, category_id in enumerate(config.category_ids)}
    attribute_index = {attribute_id: index for index, attribute_id in enumerate(config.attribute_ids)}
    classes = torch.zeros(len(instances), dtype=torch.int64)
    attributes = torch.zeros(len(instances), config.num_attributes)
    for row, instance in enumerate(instances):
        where = _where(image_id, instance, row)
        if "category_id" not in instance:
            raise ValueError(f"There is no 'category_id' in {where}.")
        classes[row] = known_index(class_index, instance["category_id"], "category", where)
        attributes[row, known_attributes(attribute_index, instance.get("attribute_ids"), where)] = 1
    return classes, attributes


def _where(image_id: Any, instance: dict[str, Any], row: int) -> str:
    if image_id is None:
        image_id = instance.get("image_id", "(without id)")
    return f"annotation {instance.get('id', row)} of image {image_id}"


def _check_fraction(name: str, value: Any, with_ends: bool = True) -> None:
    """Raises `ValueError` where the argument is no number in 0..1, or, without the ends, 0 or 1 itself."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= 1 or (value in (0, 1) and not with_ends):
        wanted = "from 0 to 1" if with_ends else "between 0 and 1"
        raise ValueError(f"`{name}` has to be a number {wanted}, found {value!r}.")


def _check_top_k(top_k: Any) -> None:
    if (whole_number(top_k) or 0) < 1:
        raise ValueError(f"`top_k` has to be a whole number from 1 on, found {top_k!r}.")


def known_index(index: dict[int, int], dataset_id: int, kind: str, where: str) -> int:
    """The index of a data set's own id; raises `ValueError` for one that the vocabulary does not have."""
    number = whole_number(dataset_id)
    key = dataset_id if number is None else number
    if not isinstance(key, Hashable) or key not in index:
        known = f"{len(index)} of them, from {min(index)} to {max(index)}" if index else "none"
        raise ValueError(
            f"Unknown {kind} id {dataset_id!r} in {where}: the vocabulary has {known}. Is `config` the configuration "
            "of the model that is trained on this data?"
        )
    return index[key]


def known_attributes(index: dict[int, int], dataset_ids: Sequence[int] | None, where: str) -> list[int]:
    """The indices of an annotation's attributes; raises `ValueError` for what is no list of known ones."""
    if dataset_ids is None:
        return []
    if not isinstance(dataset_ids, (list, tuple, set, np.ndarray, torch.Tensor)):
        raise ValueError(f"'attribute_ids' of {where} has to be a list, found {dataset_ids!r}.")
    return [known_index(index, dataset_id, "attribute", where) for dataset_id in dataset_ids]


def _carriable(label_id: int, config: FashionDetrConfig) -> torch.Tensor:
    """Which attributes a class can carry, boolean `(A,)`."""
    if config.category_attributes is None:
        return torch.ones(config.num_attributes, dtype=torch.bool)
    allowed = torch.zeros(config.num_attributes, dtype=torch.bool)
    allowed[config.category_attributes.get(label_id, [])] = True
    return allowed


def _attribute_thresholds(threshold: float | None, config: FashionDetrConfig) -> torch.Tensor:
    """The least probability of every attribute, `(A,)`: as asked for, else the configuration's, else the default."""
    if threshold is not None:
        _check_fraction("attribute_threshold", threshold)
    if threshold is None and config.attribute_thresholds is not None:
        return torch.tensor(config.attribute_thresholds, dtype=torch.float32)
    return torch.full((config.num_attributes,), ATTRIBUTE_THRESHOLD if threshold is None else threshold)


def _attributes(
    probabilities: torch.Tensor, label_id: int, thresholds: torch.Tensor, config: FashionDetrConfig
) -> list[dict[str, Any]]:
    found = (_carriable(label_id, config) & (probabilities >= thresholds)).nonzero().flatten().tolist()
    supercategories = config.attribute_supercategories or [None] * config.num_attributes
    return sorted(
        (
            {
                "id": config.attribute_ids[index],
                "name": config.id2attribute[index],
                "supercategory": supercategories[index],
                "score": float(probabilities[index]),
            }
            for index in found
        ),
        key=lambda attribute: -attribute["score"],
    )


def _parents(labels: list[str], masks: torch.Tensor) -> list[int | None]:
    """
    For every part the garment that holds most of it, among those that can carry such a part.

    `masks` is boolean `(n, h, w)` at stride 4. On a tie the smaller garment wins: a jacket before the dress below it.
    """
    parents: list[int | None] = [None] * len(labels)
    parts = [number for number, label in enumerate(labels) if label in PART_OF]
    if not parts:
        return parents
    flat = masks.flatten(1).float()
    areas = flat.sum(dim=1)
    containments = flat[parts] @ flat.T / areas[parts].clamp(min=1)[:, None]
    for part, containment in zip(parts, containments):
        carriers = [
            other
            for other, name in enumerate(labels)
            if other != part and name in PART_OF[labels[part]] and containment[other] >= PARENT_CONTAINMENT
        ]
        parents[part] = max(carriers, key=lambda other: (float(containment[other]), -float(areas[other])), default=None)
    return parents


def _flatten(objects: FashionResult, least_visible: float) -> tuple[torch.Tensor, list[int]]:
    """
    One map, small objects above large ones, and the positions of the objects in it: those of which more than the share
    `least_visible` stays visible when all are drawn. What lay below one that is left out shows again.
    """
    order = objects.layers("size")
    label_map = objects.to_label_map(order)
    visible = np.bincount(label_map.numpy().ravel() + 1, minlength=len(objects) + 1)[1:]
    areas = [np.count_nonzero(entry["mask"].numpy()) for entry in objects]
    kept = [number for number in range(len(objects)) if visible[number] > least_visible * areas[number]]
    if len(kept) < len(objects):
        label_map = objects.to_label_map([number for number in order if number in kept])
    return label_map, kept


def _nameless(outputs) -> FashionDetrConfig:
    """A vocabulary of the output's size, for results that carry numbers alone."""
    return FashionDetrConfig(
        id2label={index: str(index) for index in range(outputs.class_queries_logits.shape[-1])},
        id2attribute={index: str(index) for index in range(outputs.attribute_queries_logits.shape[-1])},
    )


make_findable(__name__)

__all__ = ["FashionDetrImageProcessor"]
