"""What a run shows at its end: a table of figures and pictures of held-out images."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..configuration_fashion_detr import FashionDetrConfig
from ..data.dataset import Example
from ..image_processing_fashion_detr import FashionDetrImageProcessor, decode_segmentation, to_rgb
from ..metrics import FashionAveragePrecision
from ..modeling_fashion_detr import FashionDetrForInstanceSegmentation
from ..visualization import contact_sheet, draw_objects

FIGURES = ("AP_IoU", "AP_IoU+F1", "AP50_IoU", "AP75_IoU", "AP_IoU_small", "AP_IoU_medium", "AP_IoU_large")
# A model that is not sure yet should still show what it sees.
OVERLAY_THRESHOLD = 0.3


def figures_document(
    metric: FashionAveragePrecision, names: Mapping[int, str], num_images: int, num_attributes: int, **more: Any
) -> dict[str, Any]:
    """
    What `metrics.json` holds: the figures as fractions, what they depend on, and `per_category`.

    Args:
        metric: The metric, with every image in it.
        names: Category id -> name.
        num_images, num_attributes: How many images were judged, and A.
        more: Further entries, such as the number of steps.
    """
    categories = metric.per_category()
    return {
        **metric.compute(),
        "num_images": num_images,
        "num_attributes": num_attributes,
        **more,
        "per_category": {name: categories[category_id] for category_id, name in names.items()},
    }


def write_metrics(document: dict[str, Any], output_dir: Path) -> Path:
    """Writes `metrics.json`; figures without any ground truth are null, as JSON has no NaN. Returns its path."""
    path = output_dir / "metrics.json"
    path.write_text(json.dumps(_without_nan(document), indent=2) + "\n", encoding="utf-8")
    return path


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def format_table(document: dict[str, Any]) -> str:
    """The figures of `metrics.json` in percent, then one row a category that occurs, most frequent first."""
    rows = [(name, _percent(document[name])) for name in FIGURES]
    width = max(len(name) for name in (*FIGURES, *document["per_category"]))
    lines = [
        f"{document['num_images']} held-out images, A = {document['num_attributes']} attributes, percent",
        "",
        *(f"{name:<{width}}  {value:>7}" for name, value in rows),
        "",
        f"{'category':<{width}}  {'AP_IoU':>7}  {'AP_IoU+F1':>9}  {'instances':>9}",
    ]
    present = [(name, figures) for name, figures in document["per_category"].items() if figures["instances"]]
    for name, figures in sorted(present, key=lambda row: -row[1]["instances"]):
        lines.append(
            f"{name:<{width}}  {_percent(figures['AP_IoU']):>7}  {_percent(figures['AP_IoU+F1']):>9}"
            f"  {figures['instances']:>9}"
        )
    return "\n".join(lines)


def _percent(fraction: float) -> str:
    """A NaN, a figure without any ground truth, is a dash."""
    return "-" if fraction != fraction else f"{100 * fraction:.1f}"


@torch.no_grad()
def draw_overlays(
    model: FashionDetrForInstanceSegmentation,
    processor: FashionDetrImageProcessor,
    examples: Sequence[Example],
    count: int,
    output_dir: Path,
) -> list[Path]:
    """Writes `count` PNG files, ground truth beside prediction, and returns their paths."""
    output_dir.mkdir(parents=True, exist_ok=True)
    model.eval()
    paths = []
    for index in range(min(count, len(examples))):
        example = examples[index]
        image = example["image"] if isinstance(example["image"], Image.Image) else Image.fromarray(example["image"])
        image = to_rgb(image)
        batch = processor(image, return_tensors="pt").to(model.device)
        found = processor.post_process_fashion(
            model(**batch), [(image.height, image.width)], model.config, threshold=OVERLAY_THRESHOLD
        )[0]
        truth = _as_objects(example, (image.height, image.width), model.config)
        paths.append(output_dir / f"{example['image_id']}.png")
        contact_sheet([draw_objects(image, truth), draw_objects(image, found)], columns=2).save(paths[-1])
    return paths


def _as_objects(example: Example, size: tuple[int, int], config: FashionDetrConfig) -> list[dict[str, Any]]:
    """Ground truth in the form of `post_process_fashion`, without scores."""
    class_index = {category_id: index for index, category_id in enumerate(config.category_ids)}
    attribute_index = {attribute_id: index for index, attribute_id in enumerate(config.attribute_ids)}
    objects = []
    for annotation in example["annotations"]:
        mask = torch.from_numpy(decode_segmentation(annotation["segmentation"], size, "the ground truth")) > 0.5
        if not mask.any():
            continue
        label_id = class_index[annotation["category_id"]]
        left, top, width, height = annotation["bbox"]
        objects.append(
            {
                "label_id": label_id,
                "label": config.id2label[label_id],
                "score": None,
                "mask": mask,
                "bbox": [left, top, left + width, top + height],
                "attributes": [
                    {"id": attribute_id, "name": config.id2attribute[attribute_index[attribute_id]]}
                    for attribute_id in annotation.get("attribute_ids", ())
                ],
                "parent": None,
            }
        )
    return objects
