"""What a run shows at its end: a table of figures and pictures of held-out images."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..configuration_fashion_detr import FashionDetrConfig
from ..data.annotations import Vocabulary
from ..data.dataset import Example
from ..image_processing_fashion_detr import ATTRIBUTE_THRESHOLD, FashionDetrImageProcessor
from ..masks_fashion_detr import decode_segmentation
from ..metrics import FashionAveragePrecision
from ..modeling_fashion_detr import FashionDetrForInstanceSegmentation
from ..photos_fashion_detr import to_rgb
from ..visualization import contact_sheet, draw_objects
from .chart import draw_evaluation
from .evaluation import Evaluation

FIGURES = (
    "AP_IoU",
    "AP_IoU+F1",
    "AP50_IoU",
    "AP75_IoU",
    "AP_IoU_small",
    "AP_IoU_medium",
    "AP_IoU_large",
    "AP_IoU_covered_0_25",
    "AP_IoU_covered_25_50",
    "AP_IoU_covered_50_100",
    "AR_IoU_100",
    "attribute_F1",
    "attribute_F1_head",
    "attribute_F1_mid",
    "attribute_F1_tail",
)
FIXED_THRESHOLD_FIGURE = "AP_IoU+F1_fixed_threshold"
FIGURES_FILE, PICTURE_FILE, OVERLAYS_FOLDER = "metrics.json", "evaluation.png", "overlays"
# A model that is not sure yet should still show what it sees.
OVERLAY_THRESHOLD = 0.3


def figures_document(
    metric: FashionAveragePrecision,
    category_names: Mapping[int, str],
    attribute_names: Mapping[int, str],
    num_images: int,
    split: str | None = None,
    data_dir: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """
    What `metrics.json` holds: the figures as fractions, what they depend on, `per_category`, `per_supercategory` and
    `per_attribute`.

    Args:
        metric: The metric, with every image in it.
        category_names, attribute_names: The data set's id -> name.
        num_images: How many images were judged.
        split: Of which split; `None` where only an annotation file was given.
        data_dir: In which folder; `None` of a split where they are drawn.
        more: Further entries, such as the number of steps.
    """
    categories, attributes = metric.per_category(), metric.per_attribute()
    return {
        **metric.compute(),
        "num_images": num_images,
        "num_attributes": len(attribute_names),
        "split": split,
        "data_dir": data_dir,
        **more,
        "per_category": {name: categories[category_id] for category_id, name in category_names.items()},
        "per_supercategory": metric.per_supercategory(),
        "per_attribute": {attribute_names[attribute_id]: figures for attribute_id, figures in attributes.items()},
    }


def model_document(evaluation: Evaluation, num_images: int, **more: Any) -> dict[str, Any]:
    """`figures_document` of a model, with its `AP_IoU+F1` under one attribute threshold for all beside."""
    return figures_document(
        evaluation.metric,
        *Vocabulary.of(evaluation.config).names_by_id(),
        num_images,
        **{FIXED_THRESHOLD_FIGURE: evaluation.fixed.compute()["AP_IoU+F1"]},
        fixed_attribute_threshold=ATTRIBUTE_THRESHOLD,
        **more,
    )


def write_report(document: dict[str, Any], metric: FashionAveragePrecision, output_dir: Path) -> list[Path]:
    """
    Writes `metrics.json`, where figures without any ground truth are null (JSON has no NaN), and the picture
    `evaluation.png`. Returns their paths.
    """
    figures, picture = output_dir / FIGURES_FILE, output_dir / PICTURE_FILE
    figures.write_text(json.dumps(_without_nan(document), indent=2) + "\n", encoding="utf-8")
    draw_evaluation(document, metric.precision_recall(), picture)
    return [figures, picture]


def forget_results(output_dir: Path) -> None:
    """Removes what a run measured and drew at its end: the one that starts in its folder will leave other weights."""
    for file in (output_dir / FIGURES_FILE, output_dir / PICTURE_FILE, *(output_dir / OVERLAYS_FOLDER).glob("*.png")):
        file.unlink(missing_ok=True)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def format_table(document: dict[str, Any]) -> str:
    """The main figures of `metrics.json` in percent, the super-categories, and the categories that occur, most frequent
    first."""
    rows = [(name, percent(document[name])) for name in FIGURES]
    if FIXED_THRESHOLD_FIGURE in document:
        label = f"AP_IoU+F1, attributes from {document['fixed_attribute_threshold']:g} on"
        rows.insert(2, (label, percent(document[FIXED_THRESHOLD_FIGURE])))
    width = max(len(name) for name in (*(name for name, _ in rows), *document["per_category"]))
    lines = [
        f"{document['num_images']} images{_of_split(document)}, A = {document['num_attributes']} attributes, percent",
        "",
        *(f"{name:<{width}}  {value:>7}" for name, value in rows),
    ]
    for kind in ("supercategory", "category"):
        present = [
            (name, figures)
            for name, figures in document[f"per_{kind}"].items()
            if figures["AP_IoU"] == figures["AP_IoU"]  # not NaN: it occurs
        ]
        if kind == "category":
            present.sort(key=lambda row: -row[1]["instances"])
        if present:
            header = "" if kind == "supercategory" else f"  {'instances':>9}"
            lines += ["", f"{kind:<{width}}  {'AP_IoU':>7}  {'AP_IoU+F1':>9}{header}"]
        for name, figures in present:
            instances = f"  {figures['instances']:>9}" if kind == "category" else ""
            lines.append(
                f"{name:<{width}}  {percent(figures['AP_IoU']):>7}  {percent(figures['AP_IoU+F1']):>9}{instances}"
            )
    return "\n".join(lines)


def _of_split(document: dict[str, Any]) -> str:
    return "" if document["split"] is None else f" of split {document['split']}"


def percent(fraction: float | None) -> str:
    """What is not known, or NaN for want of any ground truth, is a dash."""
    return "-" if fraction is None or math.isnan(fraction) else f"{100 * fraction:.1f}"


@torch.no_grad()
def draw_overlays(
    model: FashionDetrForInstanceSegmentation,
    processor: FashionDetrImageProcessor,
    examples: Sequence[Example],
    count: int,
    output_dir: Path | None,
) -> list[Path]:
    """
    Writes `count` PNG files, ground truth beside prediction, and returns their paths. All processes of a training call
    it, since a sharded model computes with all of them; `None` for the folder where nothing is to be written.
    """
    if output_dir is not None:
        output_dir.mkdir(parents=True, exist_ok=True)
    model.eval()
    paths = []
    for index in range(min(count, len(examples))):
        example = examples[index]
        image = photo_of(example)
        outputs = model(**processor(image, return_tensors="pt").to(model.device))
        if output_dir is None:
            continue
        found = processor.post_process_fashion(
            outputs, [(image.height, image.width)], model.config, threshold=OVERLAY_THRESHOLD
        )[0]
        truth = as_objects(example["annotations"], (image.height, image.width), model.config)
        paths.append(output_dir / f"{example['image_id']}.png")
        contact_sheet([draw_objects(image, truth), draw_objects(image, found)], columns=2).save(paths[-1])
    return paths


def photo_of(example: Example) -> Image.Image:
    """The photo of an example in RGB; drawn ones come as arrays."""
    image = example["image"]
    return to_rgb(image if isinstance(image, Image.Image) else Image.fromarray(image))


def as_objects(
    annotations: Sequence[dict[str, Any]], size: tuple[int, int], config: FashionDetrConfig
) -> list[dict[str, Any]]:
    """Annotations, or results, of a photo `(height, width)` as `draw_objects` takes them, without scores."""
    class_index = {category_id: index for index, category_id in enumerate(config.category_ids)}
    attribute_index = {attribute_id: index for index, attribute_id in enumerate(config.attribute_ids)}
    objects = []
    for annotation in annotations:
        mask = torch.from_numpy(decode_segmentation(annotation["segmentation"], size, "the ground truth")) > 0.5
        if not mask.any():
            continue
        label_id = class_index[annotation["category_id"]]
        objects.append(
            {
                "label_id": label_id,
                "label": config.id2label[label_id],
                "score": None,
                "mask": mask,
                "attributes": [
                    {"id": attribute_id, "name": config.id2attribute[attribute_index[attribute_id]]}
                    for attribute_id in annotation.get("attribute_ids", ())
                ],
            }
        )
    return objects
