"""`evaluate.load("fashion_detr/metrics/fashion_ap")`: AP_IoU and AP_IoU+F1 as a module of Hugging Face evaluate."""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

from fashion_detr.metrics import FashionAveragePrecision
from fashion_detr.metrics.entries import mistake, read_segmentation
from fashion_detr.ontology_fashion_detr import ATTRIBUTES, CATEGORIES

_DESCRIPTION = """
Average precision of instance masks that carry attributes: AP_IoU (COCO's mask AP) and Fashionpedia's AP_IoU+F1, equal
to the official evaluators' numbers, by size, cover, category, super-category and attribute.
"""

_CITATION = """
@inproceedings{jia2020fashionpedia,
  title = {Fashionpedia: Ontology, Segmentation, and an Attribute Localization Dataset},
  author = {Jia, Menglin and Shi, Mengyun and Sirotenko, Mikhail and Cui, Yin and Cardie, Claire and Hariharan, Bharath
            and Adam, Hartwig and Belongie, Serge},
  booktitle = {European Conference on Computer Vision (ECCV)},
  year = {2020}
}
"""

_INPUTS_DESCRIPTION = """
Args:
    predictions: for every image a list of {"category_id", "attribute_ids", "segmentation", "score"}; the mask is a
        compressed RLE {"size": [height, width], "counts"} or a bool array (height, width).
    references: for every image {"image_id", "annotations"}, a whole number and a list of {"category_id",
        "attribute_ids", "segmentation"}, optionally with "iscrowd", "area" and "covered".
    category_ids, attribute_ids: the data set's own ids; Fashionpedia's by default.
    attributed_category_ids: the categories that AP_IoU+F1 holds to their attributes; see FashionAveragePrecision.
Returns:
    The figures of FashionAveragePrecision.compute as fractions 0..1 (NaN where there is no ground truth of the kind),
    "per_category", "per_supercategory" and "per_attribute".
Examples:
    >>> metric = evaluate.load("fashion_detr/metrics/fashion_ap")
    >>> metric.add_batch(predictions=[[]], references=[{"image_id": 7, "annotations": []}])
    >>> figures = metric.compute()
"""

_OBJECT = {
    "category_id": datasets.Value("int64"),
    "attribute_ids": datasets.List(datasets.Value("int64")),
    "segmentation": {"size": datasets.List(datasets.Value("int64")), "counts": datasets.Value("string")},
}
_OPTIONAL = {
    "iscrowd": datasets.Value("bool"),
    "area": datasets.Value("float64"),
    "covered": datasets.Value("float64"),
}


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS_DESCRIPTION)
class FashionAP(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        annotation = {**_OBJECT, **_OPTIONAL}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS_DESCRIPTION,
            features=datasets.Features(
                {
                    "predictions": datasets.List({**_OBJECT, "score": datasets.Value("float64")}),
                    "references": {"image_id": datasets.Value("int64"), "annotations": datasets.List(annotation)},
                }
            ),
            reference_urls=["https://github.com/cvdfoundation/fashionpedia"],
        )

    def add_batch(self, *, predictions: Sequence, references: Sequence, **kwargs) -> None:
        """Takes some images."""
        super().add_batch(
            predictions=[
                [
                    _storable(one, ("score",), f"prediction {row} of image {number} of the batch")
                    for row, one in enumerate(image)
                ]
                for number, image in enumerate(predictions)
            ],
            references=[_reference(number, image) for number, image in enumerate(references)],
            **kwargs,
        )

    def add(self, *, prediction: Sequence, reference: dict[str, Any], **kwargs) -> None:
        """Takes one image."""
        self.add_batch(predictions=[prediction], references=[reference], **kwargs)

    def _compute(
        self,
        predictions: Sequence,
        references: Sequence,
        category_ids: Sequence[int] | None = None,
        attribute_ids: Sequence[int] | None = None,
        attributed_category_ids: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        metric = FashionAveragePrecision(
            list(range(len(CATEGORIES))) if category_ids is None else category_ids,
            [entry[0] for entry in ATTRIBUTES] if attribute_ids is None else attribute_ids,
            attributed_category_ids,
        )
        for found, image in zip(predictions, references):
            metric.add(image["image_id"], found, image["annotations"])
        return {
            **metric.compute(),
            "per_category": metric.per_category(),
            "per_supercategory": metric.per_supercategory(),
            "per_attribute": metric.per_attribute(),
        }


def _reference(number: int, image: dict[str, Any]) -> dict[str, Any]:
    where = f"reference {number} of the batch"
    if not isinstance(image, dict) or not {"image_id", "annotations"} <= image.keys():
        found = sorted(image) if isinstance(image, dict) else type(image).__name__
        raise mistake(where, "the image", found, 'a dictionary {"image_id", "annotations"}')
    if isinstance(image["image_id"], str):  # the column that stores them is one of whole numbers
        raise mistake(where, "image_id", repr(image["image_id"]), "a whole number; FashionAveragePrecision takes texts")
    return {
        "image_id": image["image_id"],
        "annotations": [
            _storable(one, tuple(_OPTIONAL), f"annotation {row} of image {image['image_id']}")
            for row, one in enumerate(image["annotations"])
        ],
    }


def _storable(entry: dict[str, Any], more: tuple[str, ...], where: str) -> dict[str, Any]:
    """An entry with all its columns, missing ones as None, and the mask as run lengths in text."""
    if not isinstance(entry, dict):
        raise mistake(where, "the entry", repr(entry), "a dictionary")
    rle = read_segmentation(entry.get("segmentation"), where)
    counts = rle["counts"].decode("ascii") if isinstance(rle["counts"], bytes) else rle["counts"]
    stored = {name: entry.get(name) for name in ("category_id", "attribute_ids", *more)}
    return {**stored, "segmentation": {"size": list(rle["size"]), "counts": counts}}
