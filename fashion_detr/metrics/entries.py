"""What a caller hands to the metric, checked and in one form: every mistake is named with the entry that holds it."""

import math
import operator
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from ..masks_fashion_detr import LARGEST_SIDE, is_crowd, run_lengths


@dataclass(slots=True)
class Instance:
    """A detection or a ground truth after its checks; `where` names it in messages."""

    where: str
    category_id: int
    rle: dict[str, Any]
    attributes: frozenset[int]  # columns of the multi-hot vector
    score: float = 0.0
    area: float | None = None  # of a ground truth that knows it; else the mask's
    attribute_scores: np.ndarray | None = None  # (A,) float16 in 0..1, of a detection
    crowd: bool = False
    covered: float | None = None  # share in 0..1 that others hide, of a ground truth that knows it


@dataclass(frozen=True)
class EntryReader:
    """The ids that may occur, and the column of each attribute in a multi-hot vector."""

    category_ids: frozenset[int]
    attribute_columns: dict[int, int]

    def read_image(
        self, image_id: int | str, predictions: Sequence[Mapping[str, Any]], ground_truth: Sequence[Mapping[str, Any]]
    ) -> tuple[list[Instance], list[Instance]]:
        """An image's detections and ground truths. Raises ValueError for anything that cannot be judged."""
        truths = [self.read_truth(one, f"image {image_id!r}, ground truth {i}") for i, one in enumerate(ground_truth)]
        found = [self.read_prediction(one, f"image {image_id!r}, prediction {i}") for i, one in enumerate(predictions)]
        _require_one_size([*truths, *found])
        _require_full_runs([*truths, *found])
        return found, truths

    def read_prediction(self, entry: Mapping[str, Any], where: str) -> Instance:
        instance = self._read_common(entry, where)
        instance.score = _read_number(_get(entry, "score", where), "score", where)
        if entry.get("attribute_scores") is not None:
            instance.attribute_scores = self._read_attribute_scores(entry["attribute_scores"], where)
        return instance

    def read_truth(self, entry: Mapping[str, Any], where: str) -> Instance:
        instance = self._read_common(entry, where)
        instance.crowd = is_crowd(entry)
        if entry.get("area") is not None:
            instance.area = _read_number(entry["area"], "area", where)
            if instance.area < 0:
                raise mistake(where, "area", instance.area, "at least 0 pixels")
        if entry.get("covered") is not None:
            instance.covered = _read_number(entry["covered"], "covered", where)
            if not 0 <= instance.covered <= 1:
                raise mistake(where, "covered", instance.covered, "a share from 0 to 1")
        return instance

    def _read_common(self, entry: Mapping[str, Any], where: str) -> Instance:
        try:
            category_id, segmentation = entry["category_id"], entry["segmentation"]
        except KeyError as error:
            raise _missing(error.args[0], entry, where) from None
        attribute_ids = entry.get("attribute_ids")
        return Instance(
            where,
            self._read_category(category_id, where),
            read_segmentation(segmentation, where),
            self._read_attributes(() if attribute_ids is None else attribute_ids, where),
        )

    def _read_category(self, value: Any, where: str) -> int:
        if type(value) is int and value in self.category_ids:
            return value
        category_id = _read_integer(value, "category_id", where)
        if category_id not in self.category_ids:
            raise mistake(where, "category_id", category_id, f"one of {summary(self.category_ids)}")
        return category_id

    def _read_attributes(self, values: Any, where: str) -> frozenset[int]:
        if type(values) is not list and (isinstance(values, str) or not hasattr(values, "__iter__")):
            raise mistake(where, "attribute_ids", repr(values), "a list of attribute ids")
        try:
            return frozenset([self.attribute_columns[value] for value in values])
        except (KeyError, TypeError):
            pass  # the first entry that is not known is named below
        columns = []
        for value in values:
            attribute_id = _read_integer(value, "attribute_ids' entry", where)
            if attribute_id not in self.attribute_columns:
                expected = f"one of {summary(self.attribute_columns)}"
                raise mistake(where, "attribute_ids' entry", attribute_id, expected)
            columns.append(self.attribute_columns[attribute_id])
        return frozenset(columns)

    def _read_attribute_scores(self, values: Any, where: str) -> np.ndarray:
        scores = np.asarray(values, dtype=np.float16)
        expected = f"{len(self.attribute_columns)} probabilities, one an attribute of the vocabulary"
        if scores.shape != (len(self.attribute_columns),):
            raise mistake(where, "attribute_scores", f"of shape {scores.shape}", expected)
        if not ((scores >= 0) & (scores <= 1)).all():
            raise mistake(where, "attribute_scores", f"from {scores.min()} to {scores.max()}", expected)
        return scores


def mistake(where: str, what: str, found: Any, expected: str) -> ValueError:
    return ValueError(f"{where}: {what} is {found}, expected {expected}")


def summary(ids: Collection[int]) -> str:
    return f"the {len(ids)} ids of the vocabulary ({min(ids)} to {max(ids)})" if ids else "an empty vocabulary"


def read_image_id(image_id: Hashable) -> int | str:
    return image_id if isinstance(image_id, str) else _read_integer(image_id, "image_id", f"image {image_id!r}")


def require_distinct(ids: Sequence[int], name: str) -> None:
    if len(set(ids)) != len(ids):
        repeated = sorted({one for one in ids if list(ids).count(one) > 1})
        raise ValueError(f"{name} holds {repeated} more than once, expected distinct ids")


def _get(entry: Mapping[str, Any], key: str, where: str) -> Any:
    try:
        return entry[key]
    except KeyError:
        raise _missing(key, entry, where) from None


def _missing(key: str, entry: Mapping[str, Any], where: str) -> ValueError:
    return mistake(where, f"the key {key!r}", "missing", f"it beside {sorted(entry)}")


def _read_integer(value: Any, what: str, where: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise mistake(where, what, repr(value), "an integer") from None


def _read_number(value: Any, what: str, where: str) -> float:
    if type(value) is float and math.isfinite(value):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):  # a whole number may be larger than any float
        raise mistake(where, what, repr(value), "a number") from None
    if not math.isfinite(number):
        raise mistake(where, what, number, "a finite number")
    return number


def read_segmentation(segmentation: Any, where: str) -> dict[str, Any]:
    """Compressed RLE of either form. Raises ValueError for any other form."""
    if type(segmentation) is dict or isinstance(segmentation, Mapping):
        return _read_rle(segmentation, where)
    mask = np.asarray(segmentation)
    if mask.ndim != 2 or mask.dtype != bool:
        found = f"an array of shape {mask.shape} and dtype {mask.dtype}"
        raise mistake(where, "segmentation", found, "a compressed RLE or a bool array of shape (height, width)")
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"]}


def _read_rle(rle: Mapping[str, Any], where: str) -> dict[str, Any]:
    counts, size = _get(rle, "counts", where), _get(rle, "size", where)
    if not isinstance(counts, (bytes, str)):
        raise mistake(where, "RLE's counts", f"a {type(counts).__name__}", "compressed: bytes or str")
    if not isinstance(size, Sequence | np.ndarray) or len(size) != 2:
        raise mistake(where, "RLE's size", size, "[height, width]")
    sides = [_read_integer(side, "RLE's size", where) for side in size]
    if not all(0 <= side <= LARGEST_SIDE for side in sides):  # beyond it pycocotools would crash
        raise mistake(where, "RLE's size", sides, f"sides from 0 to {LARGEST_SIDE} pixels")
    return {"size": sides, "counts": counts}


def _require_one_size(instances: Sequence[Instance]) -> None:
    """Masks of one image are compared pixel by pixel: every one has the (height, width) of the first."""
    expected = instances[0].rle["size"] if instances else None
    for instance in instances:
        if instance.rle["size"] != expected:
            found, expected = (tuple(one.rle["size"]) for one in (instance, instances[0]))
            raise mistake(instance.where, "the mask's (height, width)", found, f"{expected} as in {instances[0].where}")


def _require_full_runs(instances: Sequence[Instance]) -> None:
    """Run lengths that do not fill their mask would be compared as another, or keep pycocotools busy for ever."""
    if not instances:
        return
    try:
        counts, first = run_lengths([one.rle["counts"] for one in instances])
        filled, least = np.add.reduceat(counts, first), np.minimum.reduceat(counts, first)
    except ValueError:
        if len(instances) > 1:  # which one?
            for instance in instances:
                _require_full_runs([instance])
        counts_found = instances[0].rle["counts"][:30]
        raise mistake(instances[0].where, "RLE's counts", repr(counts_found), "COCO's compressed form") from None
    for instance, pixels, shortest in zip(instances, filled.tolist(), least.tolist()):
        height, width = instance.rle["size"]
        if pixels != height * width or shortest < 0:
            expected = f"{height} x {width} = {height * width}, each run at least 0"
            raise mistake(instance.where, "the sum of the RLE's runs", f"{pixels} (least run {shortest})", expected)
