"""How exact the masks of finished rows are, and where they fail.

    python benchmarks/peer_masks.py rows/ours.json rows/fashionformer.json --data_dir data/ccp --fashionformer FILE.py

Every annotated instance is compared with that one of its photo's first predictions whose mask fits best, of any class:
of n instances the first 1.5 n + 2 different masks. Their IoU tells masks apart with far less noise than AP does. What
an error is worth is told by putting it right: what lies outside the true box taken away, or every pixel within two of
the canvas' pixels of the true border as in the truth.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peer_models import Contestant
from peer_pictures import load_contestant
from pycocotools import mask as coco_mask
from scipy.ndimage import binary_dilation, binary_erosion
from torch.nn.functional import interpolate

from fashion_detr.configuration_fashion_detr import MASK_STRIDE
from fashion_detr.data.dataset import FashionDataset, collate
from fashion_detr.masks_fashion_detr import mask_box

CANDIDATES = 60  # results asked of a model
RIM = 2  # pixels of the canvas on both sides of a border
# Bounds of the sizes, in square pixels of the canvas: 16 x 16 and 40 x 40 pixels.
SIZES = {"all": (0, np.inf), "< 16²": (0, 256), "16² to 40²": (256, 1600), "> 40²": (1600, np.inf)}
EXACT = 0.75  # IoU


@dataclass
class InstanceErrors:
    """An annotated instance and the mask that fits it best."""

    area: float  # in square pixels of the canvas
    right_class: bool
    iou: float
    iou_in_box: float  # without what lies outside the true box
    iou_right_rim: float  # with the border as in the truth
    iou_of_truth: float  # of the true mask itself, through the stride of the model's masks and back


def iou_of(mask: np.ndarray, truth: np.ndarray) -> float:
    union = (mask | truth).sum()
    return float((mask & truth).sum() / union) if union else 0.0


def inside_box(mask: np.ndarray, truth: np.ndarray) -> np.ndarray:
    x0, y0, x1, y1 = mask_box(truth)
    inside = np.zeros_like(mask)
    inside[y0:y1, x0:x1] = mask[y0:y1, x0:x1]
    return inside


def right_rim(mask: np.ndarray, truth: np.ndarray, width: int) -> np.ndarray:
    rim = binary_dilation(truth, iterations=width) & ~binary_erosion(truth, iterations=width)
    return np.where(rim, truth, mask)


def through_stride(truth: np.ndarray, cell: float) -> np.ndarray:
    """The mask as shares of square cells, and linearly back to its size: what a perfect model's masks would be."""
    size = [max(1, round(side / cell)) for side in truth.shape]
    shares = interpolate(torch.from_numpy(truth).float()[None, None], size=size, mode="area")
    return interpolate(shares, size=truth.shape, mode="bilinear")[0, 0].numpy() > 0.5


def first_masks(found: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The best results with different masks: a query comes up once, though it has a score for every class."""
    best: dict[str | bytes, dict[str, Any]] = {}
    for result in sorted(found, key=lambda one: -one["score"]):
        best.setdefault(result["segmentation"]["counts"], result)
    return list(best.values())[:count]


def errors_of_photo(
    found: list[dict[str, Any]], truth: list[dict[str, Any]], pixels_per_canvas: float
) -> list[InstanceErrors]:
    """
    Results and annotations of one photo, with run lengths of its size.

    `pixels_per_canvas`: how many of the photo's pixels lie side by side in one of the canvas. Where nothing was found,
    every instance has an empty mask.
    """
    truth = [one for one in truth if not one.get("iscrowd") and coco_mask.area(one["segmentation"])]
    found = first_masks(found, int(1.5 * len(truth)) + 2)
    errors = []
    for annotation in truth:
        true_mask = coco_mask.decode(annotation["segmentation"]).astype(bool)
        mask, category_id = np.zeros_like(true_mask), None
        if found:
            overlaps = coco_mask.iou([one["segmentation"] for one in found], [annotation["segmentation"]], [0])
            best = found[overlaps.argmax()]
            mask, category_id = coco_mask.decode(best["segmentation"]).astype(bool), best["category_id"]
        errors.append(
            InstanceErrors(
                area=true_mask.sum() / pixels_per_canvas**2,
                right_class=category_id == annotation["category_id"],
                iou=iou_of(mask, true_mask),
                iou_in_box=iou_of(inside_box(mask, true_mask), true_mask),
                iou_right_rim=iou_of(right_rim(mask, true_mask, max(1, round(RIM * pixels_per_canvas))), true_mask),
                iou_of_truth=iou_of(through_stride(true_mask, MASK_STRIDE * pixels_per_canvas), true_mask),
            )
        )
    return errors


@torch.inference_mode()
def errors_of(contestant: Contestant, judged: FashionDataset) -> list[InstanceErrors]:
    canvas = judged.processor.size["height"], judged.processor.size["width"]
    errors: list[InstanceErrors] = []
    for index in range(len(judged)):
        batch = collate([judged[index]])
        (meta,) = batch.pop("meta")
        (found,) = contestant.predict(batch, [meta["size"]], CANDIDATES, attribute_threshold=0.5)
        pixels_per_canvas = max(side / limit for side, limit in zip(meta["size"], canvas))
        errors += errors_of_photo(found, meta["ground_truth"], pixels_per_canvas)
    return errors


def format_errors(errors: list[InstanceErrors]) -> str:
    """A table with a line a size: mean IoU, and in how many percent of the instances it is above `EXACT`."""
    ways = {
        "as found": "iou",
        "inside the true box": "iou_in_box",
        "border put right": "iou_right_rim",
        "truth at the masks' stride": "iou_of_truth",
    }
    lines = [
        f"| size on the canvas | instances | {' | '.join(ways)} | right class % |",
        f"|{'---|' * (len(ways) + 3)}",
    ]
    for name, (least, bound) in SIZES.items():
        chosen = [one for one in errors if least <= one.area < bound]
        if not chosen:
            continue
        cells = [name, str(len(chosen))]
        for way in ways.values():
            values = np.array([getattr(one, way) for one in chosen])
            cells.append(f"{values.mean():.3f}, {100 * (values > EXACT).mean():.1f} %")
        cells.append(f"{100 * np.mean([one.right_class for one in chosen]):.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(command: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path, nargs="+", metavar="ROW.json", help="finished rows of peers.py")
    parser.add_argument("--data_dir", type=Path, help="the data set of the rows; none for synthetic ensembles")
    parser.add_argument("--fashionformer", type=Path, metavar="FILE.py", help="the file with that peer")
    arguments = parser.parse_args(command)
    for row in arguments.rows:
        contestant, judged = load_contestant(row, arguments.data_dir, arguments.fashionformer)
        print(f"{row}: mean IoU, share of instances above {EXACT}\n\n{format_errors(errors_of(contestant, judged))}\n")


if __name__ == "__main__":
    main()
