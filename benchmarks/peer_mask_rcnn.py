"""Mask R-CNN with attributes, from torchvision's parts: the comparison's model that finds boxes first."""

from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from peer_models import Contestant, attribute_layer, attribute_loss, float_labels
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, paste_masks_in_image
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, masks_to_boxes
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from transformers.backbone_utils import load_backbone

from fashion_detr import FashionDetrConfig
from fashion_detr.masks_fashion_detr import encode_mask
from fashion_detr.modeling_fashion_detr import image_sizes

LEVELS = ("0", "1", "2", "3")
# torchvision's anchors of 32 to 512 pixels are for photos whose shorter side is 800.
ANCHOR_SIDES, ANCHOR_CANVAS = (32, 64, 128, 256, 512), 800
RATIOS = (0.5, 1.0, 2.0)
FULLY_CONNECTED = 1024
# torchvision leaves out what scores less than 0.05. A short training is seldom as sure, and average precision can only
# gain by what stands at the end of the list.
LEAST_SCORE = 0.001


class MaskRcnn(Contestant):
    """
    Mask R-CNN (He et al., ICCV 2017) as torchvision's `maskrcnn_resnet50_fpn_v2` builds it (Li et al., 2021): batch
    norm in pyramid and heads, two convolutions in the proposal head, four and a fully connected layer in the box head;
    proposals, sampling, losses and NMS are torchvision's defaults. Attributes as in Attribute-Mask R-CNN (Jia et al.,
    ECCV 2020), whose box head has the same layers: one linear layer more on its features.

    Args:
        config: As in [`Contestant`]; it has no queries.
        shorter_side: Of the canvas in pixels: the anchors are scaled with it.
        detections: The largest number of detections an image.
    """

    def __init__(self, config: FashionDetrConfig, shorter_side: int, detections: int):
        super().__init__(config)
        width = config.d_model
        self.body = load_backbone(config)
        self.pyramid = FeaturePyramidNetwork(self.body.channels, width, LastLevelMaxPool(), nn.BatchNorm2d)
        anchors = AnchorGenerator(
            tuple((round(side * shorter_side / ANCHOR_CANVAS),) for side in ANCHOR_SIDES), (RATIOS,) * len(ANCHOR_SIDES)
        )
        self.proposals = RegionProposalNetwork(
            anchors,
            FloatRPNHead(width, len(RATIOS), conv_depth=2),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n={"training": 2000, "testing": 1000},
            post_nms_top_n={"training": 2000, "testing": 1000},
            nms_thresh=0.7,
        )
        self.heads = AttributeRoIHeads(
            MultiScaleRoIAlign(LEVELS, output_size=7, sampling_ratio=2),
            FastRCNNConvFCHead((width, 7, 7), [width] * 4, [FULLY_CONNECTED], nn.BatchNorm2d),
            AttributePredictor(FULLY_CONNECTED, config.num_labels + 1, config.num_attributes),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=512,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=LEAST_SCORE,
            nms_thresh=0.5,
            detections_per_img=detections,
            mask_roi_pool=MultiScaleRoIAlign(LEVELS, output_size=14, sampling_ratio=2),
            mask_head=MaskRCNNHeads(width, [width] * 4, 1, nn.BatchNorm2d),
            mask_predictor=FloatMaskPredictor(width, width, config.num_labels + 1),
        )
        self.train()

    @property
    def backbone(self) -> nn.Module:
        return self.body

    def forward(self, pixel_values, pixel_mask):
        """Detections an image: `boxes` on the canvas, `labels` from 1 on, `scores`, `masks` 28 x 28, `attributes`."""
        return self._run(pixel_values, pixel_mask, None)[0]

    def loss(self, batch):
        return sum(self._run(batch["pixel_values"], batch["pixel_mask"], self._targets(batch))[1].values())

    def _run(self, pixel_values: torch.Tensor, pixel_mask: torch.Tensor, targets: Any) -> tuple[list, dict]:
        sizes = [tuple(size) for size in image_sizes(pixel_mask.bool()).tolist()]
        maps = self.pyramid(OrderedDict(zip(LEVELS, self.body(pixel_values).feature_maps)))
        boxes, proposal_losses = self.proposals(ImageList(pixel_values, sizes), maps, targets)
        found, losses = self.heads(maps, boxes, sizes, targets)
        return found, losses | proposal_losses

    @staticmethod
    def _targets(batch: dict[str, Any]) -> list[dict[str, torch.Tensor]]:
        """The labels with boxes; label 0 is the background."""
        return [one | {"labels": one["labels"] + 1, "boxes": boxes_around(one["masks"])} for one in float_labels(batch)]

    def predict(self, batch, sizes, top_k, attribute_threshold):
        found = self(batch["pixel_values"], batch["pixel_mask"])
        return [
            self._results(one, masks[:top_k], attribute_threshold)
            for one, masks in zip(found, self.full_size_masks(found, batch["pixel_mask"], sizes))
        ]

    def full_size_masks(
        self, found: list[dict[str, torch.Tensor]], pixel_mask: torch.Tensor, sizes: list[tuple[int, int]]
    ) -> list[torch.Tensor]:
        """Boolean `(n, height, width)` of every image at its original size, by torchvision's own pasting."""
        ratios = torch.tensor(sizes) / image_sizes(pixel_mask.bool())
        return [
            paste_masks_in_image(one["masks"], one["boxes"] * ratio.flip(0).repeat(2), size)[:, 0] >= 0.5
            for one, ratio, size in zip(found, ratios, sizes)
        ]

    def _results(
        self, found: dict[str, torch.Tensor], masks: torch.Tensor, attribute_threshold: float
    ) -> list[dict[str, Any]]:
        config, attribute_ids = self.config, np.asarray(self.config.attribute_ids)
        results = []
        for mask, label, score, attributes in zip(masks, found["labels"], found["scores"], found["attributes"]):
            label_id = int(label) - 1
            carried = np.ones(config.num_attributes, dtype=bool)
            if config.category_attributes is not None:
                carried[:] = False
                carried[config.category_attributes.get(label_id, [])] = True
            attribute_scores = attributes.numpy() * carried
            results.append(
                {
                    "category_id": config.category_ids[label_id],
                    "attribute_ids": attribute_ids[carried & (attribute_scores >= attribute_threshold)].tolist(),
                    "segmentation": encode_mask(mask.numpy()),
                    "score": float(score),
                    "attribute_scores": attribute_scores,
                }
            )
        return results


def boxes_around(masks: torch.Tensor) -> torch.Tensor:
    """`[x0, y0, x1, y1]` of soft masks `(n, H, W)`: around what is covered by half, or else around the most covered."""
    cut = masks.flatten(1).amax(dim=1).clamp(max=0.5) if len(masks) else masks.new_zeros(0)
    boxes = masks_to_boxes(masks >= cut[:, None, None])
    return boxes + boxes.new_tensor([0, 0, 1, 1])


class AttributeRoIHeads(RoIHeads):
    """Attributes are learnt on the sampled regions that hold an object, and read from the boxes that are found."""

    def select_training_samples(self, proposals, targets):
        proposals, instances, labels, regression = super().select_training_samples(proposals, targets)
        self.holds_object = torch.cat(labels) > 0
        self.attribute_truth = torch.cat(
            [one["attributes"][places[label > 0]] for one, places, label in zip(targets, instances, labels)]
        )
        return proposals, instances, labels, regression

    def forward(self, features, proposals, image_shapes, targets=None):
        found, losses = super().forward(features, proposals, image_shapes, targets)
        if self.training:
            logits = self.box_predictor.attribute_logits[self.holds_object]
            losses["loss_attribute"] = attribute_loss(logits, self.attribute_truth)
        else:
            boxes = [one["boxes"] for one in found]
            self.box_predictor(self.box_head(self.box_roi_pool(features, boxes, image_shapes)))
            probabilities = self.box_predictor.attribute_logits.sigmoid().split([len(one) for one in boxes])
            found = [one | {"attributes": attributes} for one, attributes in zip(found, probabilities)]
        return found, losses


# In half precision a coordinate of some hundred pixels would be rounded to whole ones: all that leads to boxes and
# losses leaves the heads in float32.


class FloatRPNHead(RPNHead):
    def forward(self, x):
        return tuple([maps.float() for maps in levels] for levels in super().forward(x))


class FloatMaskPredictor(MaskRCNNPredictor):
    def forward(self, x):
        return super().forward(x).float()


class AttributePredictor(FastRCNNPredictor):
    """Keeps the attribute logits `(R, A)` of the last call, which torchvision's heads have no place for."""

    def __init__(self, in_channels: int, num_classes: int, num_attributes: int):
        super().__init__(in_channels, num_classes)
        self.attribute_layer = attribute_layer(in_channels, num_attributes)
        self.attribute_logits: torch.Tensor | None = None

    def forward(self, x):
        self.attribute_logits = self.attribute_layer(x).float()
        scores, deltas = super().forward(x)
        return scores.float(), deltas.float()
