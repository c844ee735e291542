"""From an image to numbers: what of its detections and ground truths is kept for the figures.

An image leaves arrays: areas, scores, IoU and F1 of every pair of one category, attributes of what was found. The
records of all images are then regrouped by category, for the matching.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from pycocotools import mask as coco_mask

from .entries import Instance

MAX_DETECTIONS = (1, 10, 100)  # per image and category, the best scores first

# What lies inside another instance by this share is carried by it, like a pocket by its coat.
CARRIED_SHARE = 0.5

# Attributes are compared where a detection has found its instance: an IoU of at least
FOUND_IOU = 0.5


class ImageRecord(TypedDict):
    """
    What is kept of an image: D detections by category and falling score (the best 100 of a category), G ground truths
    by category, P pairs of one category in the order of the detections, Q of them found.
    """

    categories: np.ndarray  # (D,) int64, ids
    scores: np.ndarray  # (D,) float64
    areas: np.ndarray  # (D,) float64, pixels of the mask
    truth_categories: np.ndarray  # (G,) int64, ids
    truth_areas: np.ndarray  # (G,) float64
    truth_crowds: np.ndarray  # (G,) bool
    truth_covered: np.ndarray  # (G,) float64, share that others hide
    truth_attributes: np.ndarray  # (G, A / 8) uint8, bits packed
    pair_categories: np.ndarray  # (P,) int64, ids
    ious: np.ndarray  # (P,) float64 in 0..1; for a crowd: share of the detection that lies inside it
    f1s: np.ndarray  # (P,) float64 in 0..1
    found_truths: np.ndarray  # (Q,) int64: the instances that were found, and of the detections that found them
    found_attributes: np.ndarray  # (Q, A / 8) uint8, bits packed
    found_attribute_scores: np.ndarray | None  # (Q, A) float16, where the detections have them


@dataclass(frozen=True)
class CategoryRecord:
    """One category in I images: N detections and M ground truths image by image, P pairs by detection."""

    detections: np.ndarray  # (I,) int64, how many in each image
    truths: np.ndarray  # (I,) int64
    scores: np.ndarray  # (N,) float64, falling in each image
    areas: np.ndarray  # (N,) float64
    truth_areas: np.ndarray  # (M,) float64
    truth_crowds: np.ndarray  # (M,) bool
    truth_covered: np.ndarray  # (M,) float64
    ious: np.ndarray  # (P,) float64
    f1s: np.ndarray  # (P,) float64


# --- One image --------------------------------------------------------------------------------------------------------


def image_record(detections: Sequence[Instance], truths: Sequence[Instance], attributes: int) -> ImageRecord:
    """The record of one image; `attributes` is A."""
    detections = _best_of_each_category(detections)
    truths = sorted(truths, key=lambda truth: truth.category_id)
    categories = np.array([one.category_id for one in detections], dtype=np.int64)
    truth_categories = np.array([one.category_id for one in truths], dtype=np.int64)
    crowds = np.array([truth.crowd for truth in truths], dtype=bool)
    rows, columns = _pairs(categories, truth_categories)
    ious = _ious(detections, truths, categories, truth_categories)
    areas, mask_areas = _mask_areas(detections), _mask_areas(truths)
    known_areas = [area if truth.area is None else truth.area for truth, area in zip(truths, mask_areas.tolist())]
    vectors = _multi_hot(detections, attributes), _multi_hot(truths, attributes)
    finders, found = _found_pairs(ious, rows, columns, crowds)
    attribute_scores = [detections[finder].attribute_scores for finder in finders]
    if any(one is None for one in attribute_scores):
        found_attribute_scores = None
    else:
        found_attribute_scores = np.array(attribute_scores, dtype=np.float16).reshape(len(finders), attributes)
    return {
        "categories": categories,
        "scores": np.array([one.score for one in detections], dtype=np.float64),
        "areas": areas,
        "truth_categories": truth_categories,
        "truth_areas": np.array(known_areas, dtype=np.float64),
        "truth_crowds": crowds,
        "truth_covered": _covered_shares(truths, mask_areas),
        "truth_attributes": np.packbits(vectors[1], axis=1),
        "pair_categories": categories[rows],
        "ious": ious,
        "f1s": binary_macro_f1(*vectors)[rows, columns],
        "found_truths": np.array(found, dtype=np.int64),
        "found_attributes": np.packbits(vectors[0][finders], axis=1),
        "found_attribute_scores": found_attribute_scores,
    }


def _best_of_each_category(detections: Sequence[Instance]) -> list[Instance]:
    """By category and falling score, at most 100 of a category; detections of one score keep their order."""
    ordered = sorted(detections, key=lambda one: (one.category_id, -one.score))
    most = MAX_DETECTIONS[-1]
    return [
        one
        for number, one in enumerate(ordered)
        if number < most or ordered[number - most].category_id != one.category_id
    ]


def _pairs(categories: np.ndarray, truth_categories: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (P,) of the detections, and of the ground truths, of all pairs of one category, both sorted by it."""
    first = np.searchsorted(truth_categories, categories, side="left")
    count = np.searchsorted(truth_categories, categories, side="right") - first
    return np.repeat(np.arange(len(categories)), count), spans(first, count)


def spans(first: np.ndarray, count: np.ndarray) -> np.ndarray:
    """`count[i]` consecutive numbers from `first[i]` on, for every i, in one array."""
    return np.arange(count.sum()) + np.repeat(first - np.cumsum(count) + count, count)


def _span(categories: np.ndarray, category_id: int) -> tuple[int, int]:
    """Where a category begins among sorted ones, and where it ends."""
    return tuple(int(np.searchsorted(categories, category_id, side=side)) for side in ("left", "right"))


def _ious(
    detections: Sequence[Instance], truths: Sequence[Instance], categories: np.ndarray, truth_categories: np.ndarray
) -> np.ndarray:
    """IoU of the pairs, (P,) float64."""
    # pycocotools: with the masks of faster-coco-eval 1.8 in its place the whole metric took twice as long.
    values = [np.zeros(0)]
    rles = [one.rle for one in detections]
    for category_id in np.unique(truth_categories).tolist():
        start, end = _span(categories, category_id)
        if start < end:
            first, last = _span(truth_categories, category_id)
            theirs = [truth.rle for truth in truths[first:last]]
            crowds = [truth.crowd for truth in truths[first:last]]
            values.append(coco_mask.iou(rles[start:end], theirs, crowds).ravel())
    return np.concatenate(values)


def _mask_areas(instances: Sequence[Instance]) -> np.ndarray:
    """One at a time: pycocotools counts the masks of a list in 8 bits, which 256 of them overflow."""
    return np.array([coco_mask.area(instance.rle) for instance in instances], dtype=np.float64)


def _multi_hot(instances: Sequence[Instance], attributes: int) -> np.ndarray:
    """(N, A) bool."""
    vectors = np.zeros((len(instances), attributes), dtype=bool)
    rows = [row for row, instance in enumerate(instances) for _ in instance.attributes]
    vectors[rows, [column for instance in instances for column in instance.attributes]] = True
    return vectors


def _found_pairs(
    ious: np.ndarray, rows: np.ndarray, columns: np.ndarray, crowds: np.ndarray
) -> tuple[list[int], list[int]]:
    """Positions of the detections that find an instance, and of what they find: the free one with the highest IoU."""
    candidates: dict[int, list[tuple[float, int]]] = {}
    for pair in np.flatnonzero((ious >= FOUND_IOU) & ~crowds[columns]).tolist():
        candidates.setdefault(int(rows[pair]), []).append((-ious[pair], int(columns[pair])))
    pairs: dict[int, int] = {}  # instance -> its finder
    for finder, reached in candidates.items():
        free = [one for one in reached if one[1] not in pairs]
        if free:
            pairs[min(free)[1]] = finder
    return list(pairs.values()), list(pairs)


def binary_macro_f1(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Binary macro F1 of every pair of attribute vectors: the mean of the F1 of "present" and the F1 of "absent".

    A class that neither vector has is left out of the mean, as in `sklearn.metrics.f1_score(average="macro")`, so two
    empty vectors score 1. "Absent" is a class with hundreds of members: the figure depends on A.

    Args:
        predicted: (D, A) bool.
        true: (G, A) bool.

    Returns:
        (D, G) float64 in 0..1, equal to scikit-learn's to the last bit.
    """
    predicted, true = predicted.astype(np.float64), true.astype(np.float64)
    both = predicted @ true.T
    present = predicted.sum(axis=1)[:, None] + true.sum(axis=1)[None, :]
    return macro_f1_of_counts(both, present, predicted.shape[1])


def macro_f1_of_counts(both: np.ndarray, present: np.ndarray, attributes: int) -> np.ndarray:
    """Binary macro F1 from the attributes that both vectors have, and those that each has, added up."""
    both_absent = attributes - present + both
    absent = 2 * attributes - present
    f1_present = np.divide(2 * both, present, out=np.zeros(np.shape(both)), where=present > 0)
    f1_absent = np.divide(2 * both_absent, absent, out=np.zeros(np.shape(both)), where=absent > 0)
    classes = (present > 0).astype(np.float64) + (absent > 0)
    return (f1_present + f1_absent) / np.maximum(classes, 1)  # no class at all: a vocabulary without attributes


# --- How much of an instance others hide ------------------------------------------------------------------------------


def _covered_shares(truths: Sequence[Instance], areas: np.ndarray) -> np.ndarray:
    """
    How much of every ground truth others hide: what it says of itself, else the share of its box that belongs to
    others and not to it. A garment that holds most of a part carries it, and hides nothing of it.
    """
    shares = np.array([np.nan if truth.covered is None else truth.covered for truth in truths], dtype=np.float64)
    unknown = np.isnan(shares)
    if not unknown.any():
        return shares
    shares[unknown] = 0
    rles = [truth.rle for truth in truths]
    boxes = coco_mask.toBbox(rles)
    near = _overlap(boxes)
    if not near.any():
        return shares
    # With everything taken for a crowd, pycocotools gives the share of the first that lies inside the second.
    carried = near & (coco_mask.iou(rles, rles, [True] * len(rles)) >= CARRIED_SHARE)
    hides = near & ~carried
    hidden = unknown & hides.any(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    box_areas = boxes[:, 2] * boxes[:, 3]
    boxes = boxes.astype(int).tolist()
    height, width = rles[0]["size"]
    # What nothing carries has one picture of others, the whole: what is not near its box is not in it either.
    alone = np.flatnonzero(hidden & ~carried.any(axis=1)).tolist()
    if alone:
        whole = coco_mask.merge(rles)
        in_boxes = coco_mask.iou(
            [whole], [_box_rle(boxes[number], height, width) for number in alone], [True] * len(alone)
        )
        of_all = np.rint(in_boxes[0] * float(coco_mask.area(whole)))  # whole pixels, so that no share is negative
        shares[alone] = (of_all - areas[alone]) / box_areas[alone]
    for number in np.flatnonzero(hidden & carried.any(axis=1)).tolist():
        others = [rles[other] for other in np.flatnonzero(hides[number]).tolist()]
        theirs = coco_mask.merge(others) if len(others) > 1 else others[0]
        box = _box_rle(boxes[number], height, width)
        in_box, on_it = coco_mask.iou([theirs], [box, rles[number]], [True, True])[0]
        shares[number] = np.rint((in_box - on_it) * float(coco_mask.area(theirs))) / box_areas[number]
    return shares


def _box_rle(box: list[int], height: int, width: int) -> dict:
    """A filled box (x, y, width, height); pycocotools would draw it as a polygon, at many times the cost."""
    left, top, columns, rows = box
    rest = (width - left - columns) * height + height - top - rows
    counts = [left * height + top, *([rows, height - rows] * (columns - 1)), rows, rest]
    return coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)


def _overlap(boxes: np.ndarray) -> np.ndarray:
    """(N, N) bool: which boxes (x, y, width, height) share a pixel; none does with itself."""
    starts, ends = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    touching = ((starts[:, None] < ends[None]) & (starts[None] < ends[:, None])).all(axis=2)
    return touching & ~np.eye(len(boxes), dtype=bool)


# --- All images -------------------------------------------------------------------------------------------------------


def category_records(images: Sequence[ImageRecord], category_ids: Iterable[int]) -> dict[int, CategoryRecord]:
    """The records of at least one image, regrouped by category."""
    detections = _by_category(images, "categories", ("scores", "areas"), category_ids)
    truths = _by_category(images, "truth_categories", ("truth_areas", "truth_crowds", "truth_covered"), category_ids)
    pairs = _by_category(images, "pair_categories", ("ious", "f1s"), category_ids)
    return {
        category_id: CategoryRecord(
            detections[category_id].pop("images"),
            truths[category_id].pop("images"),
            **detections[category_id],
            **truths[category_id],
            **{name: pairs[category_id][name] for name in ("ious", "f1s")},
        )
        for category_id in category_ids
    }


def _by_category(
    images: Sequence[ImageRecord], key: str, names: Sequence[str], category_ids: Iterable[int]
) -> dict[int, dict[str, np.ndarray]]:
    """For every category its rows of the columns `names`, and under `images` how many each image has (I,)."""
    categories = concatenated(images, key)
    order = np.argsort(categories, kind="stable")
    categories = categories[order]
    numbers = np.repeat(np.arange(len(images)), [len(image[key]) for image in images])[order]
    columns = {name: concatenated(images, name)[order] for name in names}
    result = {}
    for category_id in category_ids:
        rows = slice(*_span(categories, category_id))
        result[category_id] = {name: column[rows] for name, column in columns.items()}
        result[category_id]["images"] = np.bincount(numbers[rows], minlength=len(images))
    return result


def concatenated(images: Sequence[ImageRecord], name: str) -> np.ndarray:
    """One column of all images, of which there is at least one."""
    return np.concatenate([image[name] for image in images])
