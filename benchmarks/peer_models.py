"""The models that `peers.py` and `latency.py` compare, behind one small interface and over the same backbone.

What is shared is the backbone, the width of the decoder (`d_model`) and the number of queries; all else of a peer is as
published, and the comments say where. Every peer is given what our own post-processing knows: which attributes a
category can carry and, where it has queries, that the score counts the mask's certainty.
"""

import importlib.util
import math
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation
from transformers.backbone_utils import load_backbone

from fashion_detr import FashionDetrConfig, FashionDetrForInstanceSegmentation, FashionDetrImageProcessor
from fashion_detr.modeling_fashion_detr import (
    FashionDetrForInstanceSegmentationOutput,
    freeze_batch_norm,
    image_sizes,
)

Batch = dict[str, Any]  # what `fashion_detr.data.dataset.collate` makes
Results = list[list[dict[str, Any]]]  # Fashionpedia's result format, a list an image


def float32() -> torch.autocast:
    """Matching, losses and coordinates are computed in float32 whatever the precision of the network."""
    return torch.autocast("cpu", enabled=False)


def attribute_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """
    Of matched instances `(P, A)`: binary cross-entropy, divided by their number and by the root of A.

    For the peers that were published without attributes, and the reduction that ours has: the usual mean over A leaves
    the two or three attributes of an instance a 294th of the weight each.
    """
    total = binary_cross_entropy_with_logits(logits, truth, reduction="sum")
    return total / (max(1, len(logits)) * logits.shape[-1] ** 0.5)


def attribute_layer(width: int, num_attributes: int) -> nn.Linear:
    """Starts at the probability 1 / A everywhere, as in Attribute-Mask R-CNN (Jia et al., ECCV 2020)."""
    layer = nn.Linear(width, num_attributes)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.constant_(layer.bias, -math.log(num_attributes - 1))
    return layer


class Contestant(nn.Module, ABC):
    """
    One model of the comparison.

    Args:
        config: Vocabulary, backbone, `d_model` and `num_queries`; the other fields are those of our own model.
    """

    def __init__(self, config: FashionDetrConfig):
        super().__init__()
        self.config = config
        self.processor = FashionDetrImageProcessor()

    @property
    @abstractmethod
    def backbone(self) -> nn.Module:
        """The part that starts from pretrained weights, and learns at a rate of its own."""

    @abstractmethod
    def forward(self, pixel_values: torch.Tensor, pixel_mask: torch.Tensor) -> Any:
        """The network alone, without post-processing; `(B, 3, H, W)` and `(B, H, W)`, the photo at the top left."""

    @abstractmethod
    def loss(self, batch: Batch) -> torch.Tensor:
        """The weighted sum `()` of all terms of a batch."""

    @abstractmethod
    def predict(self, batch: Batch, sizes: list[tuple[int, int]], top_k: int, attribute_threshold: float) -> Results:
        """The best `top_k` of every image at its original size (height, width), each with its `attribute_scores`."""

    def train(self, mode: bool = True):
        super().train(mode)
        if self.config.freeze_backbone_batch_norm:
            freeze_batch_norm(self.backbone)
        return self


class QueryContestant(Contestant):
    """A model whose queries each have a class, a mask and attributes: our own post-processing serves it."""

    @abstractmethod
    def as_logits(self, outputs: Any, pixel_mask: torch.Tensor) -> FashionDetrForInstanceSegmentationOutput:
        """What `forward` returns, in the form of our own model."""

    def predict(self, batch, sizes, top_k, attribute_threshold):
        outputs = self.as_logits(self(batch["pixel_values"], batch["pixel_mask"]), batch["pixel_mask"])
        return self.processor.post_process_coco(
            outputs, sizes, self.config, attribute_threshold, top_k, output_attribute_scores=True
        )


def float_labels(batch: Batch) -> list[dict[str, torch.Tensor]]:
    """`masks` `(n, H, W)`, `labels` and `attributes` of every image; the data hand masks over in half precision."""
    columns = zip(batch["mask_labels"], batch["class_labels"], batch["attribute_labels"])
    return [
        {"masks": masks.float(), "labels": labels, "attributes": attributes} for masks, labels, attributes in columns
    ]


class Ours(QueryContestant):
    """Fashion DETR with its own loss."""

    def __init__(self, config: FashionDetrConfig, attention: str = "eager"):
        super().__init__(config)
        self.model = FashionDetrForInstanceSegmentation(config)
        self.model.set_attn_implementation(attention)
        self.train()

    @property
    def backbone(self) -> nn.Module:
        return self.model.model.backbone

    def forward(self, pixel_values, pixel_mask):
        return self.model(pixel_values, pixel_mask)

    def loss(self, batch):
        return self.model(**batch).loss

    def as_logits(self, outputs, pixel_mask):
        return outputs


class Fashionformer(QueryContestant):
    """
    Fashionformer (Xu et al., ECCV 2022), from a file that is no part of this project.

    The file's defaults have to be those of the release's `configs/fashionformer/fashionpedia`: three stages, 8 heads,
    2,048 in the feed-forward networks; class, mask, dice and attributes weighted 2, 1, 4 and 2.

    Args:
        config: As in [`Contestant`].
        file: Python file with the class `FashionFormerPeer(backbone, channels, num_classes, num_attributes,
            num_queries, hidden)`.
    """

    def __init__(self, config: FashionDetrConfig, file: Path):
        super().__init__(config)
        backbone = load_backbone(config)
        self.model = load_module(file).FashionFormerPeer(
            backbone,
            backbone.channels,
            config.num_labels,
            config.num_attributes,
            num_queries=config.num_queries,
            hidden=config.d_model,
        )
        self.train()

    @property
    def backbone(self) -> nn.Module:
        return self.model.backbone

    def forward(self, pixel_values, pixel_mask):
        return self.model(pixel_values)

    def loss(self, batch):
        outputs = self.model(batch["pixel_values"])
        with float32():
            return sum(self.model.criterion(in_float32(outputs), float_labels(batch)).values())

    def as_logits(self, outputs, pixel_mask):
        # The release ranks by class probability alone.
        return FashionDetrForInstanceSegmentationOutput(
            class_queries_logits=outputs["class_logits"][-1],
            masks_queries_logits=outputs["mask_logits"][-1],
            attribute_queries_logits=outputs["attr_logits"][-1],
            valid_sizes=image_sizes(pixel_mask.bool()),
        )


def load_module(file: Path) -> ModuleType:
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file}: Fashionformer needs a Python file with FashionFormerPeer.")
    specification = importlib.util.spec_from_file_location("fashionformer_peer", file)
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # its dataclasses look themselves up
    specification.loader.exec_module(module)
    return module


def in_float32(value: Any) -> Any:
    """Floating-point tensors in nested lists and dictionaries as float32; everything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: in_float32(entry) for key, entry in value.items()}
    return [in_float32(entry) for entry in value] if isinstance(value, list) else value


class Mask2Former(QueryContestant):
    """
    Mask2Former (Cheng et al., CVPR 2022) of transformers, with a linear attribute head on the queries of every layer.

    The configuration's defaults are the paper's for COCO instances: 9 decoder layers, 6 deformable layers in the pixel
    decoder, class, mask and dice weighted 2, 5, 5 at every layer, "no object" 0.1, masks judged at 12,544 points.
    """

    def __init__(self, config: FashionDetrConfig):
        super().__init__(config)
        width = config.d_model
        self.model = Mask2FormerForUniversalSegmentation(
            Mask2FormerConfig(
                backbone_config=config.backbone_config,
                feature_size=width,
                mask_feature_size=width,
                hidden_dim=width,
                num_queries=config.num_queries,
                id2label=config.id2label,
            )
        )
        pixel_level = self.model.model.pixel_level_module
        pixel_level.decoder = InFloat32(pixel_level.decoder)
        self.attribute_head = attribute_layer(width, config.num_attributes)
        self.train()

    @property
    def backbone(self) -> nn.Module:
        return self.model.model.pixel_level_module.encoder

    def forward(self, pixel_values, pixel_mask):
        """Class, mask and attribute logits of the learnt queries (first) and of every layer."""
        outputs = self.model.model(pixel_values, output_hidden_states=True)
        return [
            {
                "classes": self.model.class_predictor(queries),
                "masks": masks,
                "attributes": self.attribute_head(queries),
            }
            for queries, masks in self._layers(outputs)
        ]

    def _layers(self, outputs: Any):
        states = outputs.transformer_decoder_intermediate_states  # (N, B, d) each
        layers = [(queries.transpose(0, 1), masks) for queries, masks in zip(states, outputs.masks_queries_logits)]
        return layers if self.training else layers[-1:]

    def loss(self, batch):
        layers = self(batch["pixel_values"], batch["pixel_mask"])
        labels = float_labels(batch)
        with float32():
            return sum(self._layer_loss(in_float32(layer), labels) for layer in layers)

    def _layer_loss(self, layer: dict[str, torch.Tensor], labels: list[dict[str, torch.Tensor]]) -> torch.Tensor:
        criterion, weights = self.model.criterion, self.model.weight_dict
        masks, classes = [one["masks"] for one in labels], [one["labels"] for one in labels]
        matches = criterion.matcher(layer["masks"], layer["classes"], masks, classes)
        count = criterion.get_num_masks(classes, layer["masks"].device)
        terms = criterion.loss_masks(layer["masks"], masks, matches, count)
        terms |= criterion.loss_labels(layer["classes"], classes, matches)
        attributes = attribute_loss(
            torch.cat([logits[queries] for logits, (queries, _) in zip(layer["attributes"], matches)]),
            torch.cat([one["attributes"][instances] for one, (_, instances) in zip(labels, matches)]),
        )
        return sum(weights[name] * term for name, term in terms.items()) + attributes

    def as_logits(self, outputs, pixel_mask):
        probabilities = outputs[-1]["classes"].float().log_softmax(dim=-1)[..., :-1]  # their logarithms
        return FashionDetrForInstanceSegmentationOutput(
            # Of the softmax that has "no object" in it, as the logit of a sigmoid.
            class_queries_logits=probabilities - torch.log1p(-probabilities.exp()),
            masks_queries_logits=outputs[-1]["masks"],
            attribute_queries_logits=outputs[-1]["attributes"],
            valid_sizes=image_sizes(pixel_mask.bool()),
        )


class InFloat32(nn.Module):
    """A pixel decoder in float32, as in Mask2Former's release: deformable attention computes coordinates in it."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, features, **options):
        with float32():
            return self.module([maps.float() for maps in features], **options)
