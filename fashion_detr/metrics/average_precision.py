"""Average precision of instances that carry attributes, by Fashionpedia's rules.

Two questions are asked of a detection: does its mask overlap an instance of its category (IoU), and does it name that
instance's attributes (binary macro F1)? `AP_IoU` asks the first, `AP_IoU+F1` both at once.

Sources: COCO's evaluator (`pycocotools.cocoeval`), which the figures of `IoU` equal, and Fashionpedia's (`fashionpedia`
1.1 on PyPI, Jia et al., ECCV 2020), which those of `IoU+F1`, `F1` and `IoU_official` equal. The two differ in how a
detection finds its instance. COCO gives it the free instance with the highest IoU. Fashionpedia, for categories that
carry attributes, walks along the free instances and moves on only to one that is at least as good in IoU AND in F1,
even where no F1 is asked for; and a crowd region, once matched, is gone, where COCO's absorbs any number of detections.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .attributes import AttributeFigures, attribute_figures, best_thresholds
from .entries import EntryReader, mistake, read_image_id, require_distinct, summary
from .matching import (
    AREA_RANGES,
    COCO_RULE,
    COVER_RANGES,
    IOU_ALONE_RULE,
    JOINT_RULE,
    THRESHOLDS,
    match_category,
    precision_at_recall,
    recall,
)
from .records import MAX_DETECTIONS, CategoryRecord, ImageRecord, category_records, image_record

# Fashionpedia's evaluator hard-codes which of its 46 categories (ids 0 to 45) are held to the F1 thresholds, and its
# three super-categories.
FASHIONPEDIA_CATEGORY_IDS = frozenset(range(46))
FASHIONPEDIA_ATTRIBUTED_CATEGORY_IDS = frozenset((*range(13), 28, 29, 31, 32, 33))
FASHIONPEDIA_SUPERCATEGORIES = {"outerwear": range(13), "accessories": range(13, 27), "parts": range(27, 46)}

ASKING = slice(0, 10)  # the thresholds .50 to .95
UNASKED = -1
ALL_AREAS = 0
AREAS = {name: place for place, name in enumerate(AREA_RANGES) if place != ALL_AREAS}
COVERS = {name: place for place, name in enumerate(COVER_RANGES, start=len(AREA_RANGES))}
# For figures at one threshold: its name, and its place among the thresholds.
SINGLE_THRESHOLDS = {"50": 0, "75": 5}
F1_THRESHOLDS = {f"{threshold:.2f}": place for place, threshold in enumerate(THRESHOLDS[ASKING])}

State = dict[int | str, ImageRecord]


# --- One category -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Figures:
    """
    One category's figures by range, IoU threshold and F1 threshold, NaN where it has no instance that counts. Held to
    IoU alone, a category has one F1 "threshold", which asks for nothing.
    """

    instances: int
    coco_ap: np.ndarray  # (R + cover ranges, T or the 10 that ask, 1) by COCO's rule
    coco_ar: np.ndarray  # (R + cover ranges, as above, 1, 3), for the best 1, 10 and 100 detections
    joint_ap: np.ndarray  # (R, T, F) by Fashionpedia's rule
    joint_ar: np.ndarray  # (R, T, F, 3)
    coco_curve: np.ndarray  # (10, 101) precision at 101 recall levels, all areas
    joint_curves: np.ndarray  # (10, 101) by F1 threshold, or (1, 101); the mean over the IoU thresholds


def _category_figures(record: CategoryRecord, attributed: bool) -> _Figures:
    matches = match_category(record, COCO_RULE if attributed else IOU_ALONE_RULE)
    precision, recalls = precision_at_recall(matches), recall(matches)
    areas = slice(0, len(AREA_RANGES))
    joint_precision, joint_recalls = precision[areas], recalls[areas]
    if attributed:
        matches = match_category(record, JOINT_RULE)
        joint_precision, joint_recalls = precision_at_recall(matches), recall(matches)
    return _Figures(
        instances=int(np.count_nonzero(~record.truth_crowds)),
        coco_ap=precision.mean(axis=-1),
        coco_ar=recalls,
        joint_ap=joint_precision.mean(axis=-1),
        joint_ar=joint_recalls,
        coco_curve=precision[ALL_AREAS, ASKING, UNASKED],
        joint_curves=joint_precision[ALL_AREAS, ASKING, ASKING].mean(axis=0),
    )


@dataclass(frozen=True)
class _Question:
    """What is asked of a detection: where its figures lie in the arrays of a category."""

    coco: bool
    iou: slice
    f1: slice

    def ap(self, one: _Figures, place: int = ALL_AREAS) -> np.ndarray:
        return (one.coco_ap if self.coco else one.joint_ap)[place, self.iou, self.f1]

    def ar(self, one: _Figures, place: int = ALL_AREAS, detections: int = -1) -> np.ndarray:
        return (one.coco_ar if self.coco else one.joint_ar)[place, self.iou, self.f1, detections]

    def at_iou(self, place: int) -> "_Question":
        return _Question(self.coco, slice(place, place + 1), self.f1)

    def ap_at_f1(self, one: _Figures, place: int) -> np.ndarray:
        """A category that is held to IoU alone has its only figure at every F1 threshold."""
        ap = one.joint_ap[ALL_AREAS, self.iou]
        return ap[:, place if ap.shape[1] > 1 else UNASKED]


NO_MORE = slice(-1, None)  # the threshold that asks for nothing
QUESTIONS = {
    "IoU": _Question(coco=True, iou=ASKING, f1=NO_MORE),
    "IoU_official": _Question(coco=False, iou=ASKING, f1=NO_MORE),
    "IoU+F1": _Question(coco=False, iou=ASKING, f1=ASKING),
    "F1": _Question(coco=False, iou=NO_MORE, f1=ASKING),
}


def _mean_of_defined(values: Iterable[np.ndarray]) -> float:
    flat = np.concatenate([np.zeros(0), *(np.ravel(value) for value in values)])
    defined = flat[~np.isnan(flat)]
    return float(defined.mean()) if defined.size else math.nan


def _all_means(figures: Sequence[_Figures]) -> dict[str, float]:
    """Every figure that is a mean over categories, under its name."""

    def mean(pick: Callable[[_Figures], np.ndarray]) -> float:
        return _mean_of_defined(pick(one) for one in figures)

    result = {}
    for name, asked in QUESTIONS.items():
        result[f"AP_{name}"] = mean(asked.ap)
        if name != "F1":
            for threshold, place in SINGLE_THRESHOLDS.items():
                result[f"AP{threshold}_{name}"] = mean(asked.at_iou(place).ap)
        for area, place in AREAS.items():
            result[f"AP_{name}_{area}"] = mean(lambda one, asked=asked, place=place: asked.ap(one, place))
        for column, detections in enumerate(MAX_DETECTIONS):
            result[f"AR_{name}_{detections}"] = mean(lambda one, asked=asked, i=column: asked.ar(one, detections=i))
        for area, place in AREAS.items():
            result[f"AR_{name}_{area}"] = mean(lambda one, asked=asked, place=place: asked.ar(one, place))
    for cover, place in COVERS.items():
        result[f"AP_IoU_{cover}"] = mean(lambda one, place=place: QUESTIONS["IoU"].ap(one, place))
    for threshold, place in F1_THRESHOLDS.items():
        for prefix, asked in (
            ("AP_IoU+F1", QUESTIONS["IoU+F1"]),
            ("AP50_IoU+F1", QUESTIONS["IoU+F1"].at_iou(SINGLE_THRESHOLDS["50"])),
            ("AP75_IoU+F1", QUESTIONS["IoU+F1"].at_iou(SINGLE_THRESHOLDS["75"])),
            ("AP_F1", QUESTIONS["F1"]),
        ):
            result[f"{prefix}@{threshold}"] = mean(lambda one, asked=asked, place=place: asked.ap_at_f1(one, place))
    result["attribute_gap"] = result["AP_IoU"] - result["AP_IoU+F1"]
    return result


# --- The metric -------------------------------------------------------------------------------------------------------


class FashionAveragePrecision:
    """AP_IoU and AP_IoU+F1, gathered image by image.

    An image leaves only numbers behind (IoU and F1 of same-category pairs, areas, scores of at most 100 detections a
    category, the attributes of what was found), so memory does not depend on its size. An image that is seen again, as
    padding of the last batch or on another process, counts once: the first one stays.

    Across processes: `for state in accelerate.utils.gather_object([metric.state()]): merged.merge(state)`.

    Args:
        category_ids: The dataset's category ids.
        attribute_ids: The dataset's attribute ids, sparse as they are. Their number A enters the F1 ("absent" is a
            class too): state it with every figure.
        attributed_category_ids: The categories that `AP_IoU+F1` holds to the F1 thresholds; the others are held to IoU
            alone. None means Fashionpedia's 18 if `category_ids` are Fashionpedia's 0 to 45, else those with at least
            one attribute in the ground truth.
        supercategories: Name -> category ids, for `per_supercategory`. None means Fashionpedia's outerwear,
            accessories and parts if `category_ids` are Fashionpedia's, else none.

    Raises:
        ValueError: An id twice, an attributed category or a super-category's that is no category, attributed categories
            without attributes.
    """

    def __init__(
        self,
        category_ids: Sequence[int],
        attribute_ids: Sequence[int],
        attributed_category_ids: Sequence[int] | None = None,
        supercategories: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        require_distinct(category_ids, "category_ids")
        require_distinct(attribute_ids, "attribute_ids")
        columns = {attribute_id: column for column, attribute_id in enumerate(attribute_ids)}
        self._reader = EntryReader(frozenset(category_ids), columns)
        self._fixed_attributed = _fixed_attributed_category_ids(self._reader, attributed_category_ids)
        if supercategories is None:
            is_fashionpedia = set(category_ids) == FASHIONPEDIA_CATEGORY_IDS
            supercategories = FASHIONPEDIA_SUPERCATEGORIES if is_fashionpedia else {}
        for name, members in supercategories.items():
            if unknown := sorted(set(members) - set(category_ids)):
                expected = summary(self._reader.category_ids)
                raise ValueError(f"super-category {name!r} holds {unknown}, expected {expected}")
        self._supercategories = {name: frozenset(members) for name, members in supercategories.items()}
        self._records: State = {}
        self._figures: dict[int, _Figures] | None = None

    def add(
        self, image_id: int | str, predictions: Sequence[Mapping[str, Any]], ground_truth: Sequence[Mapping[str, Any]]
    ) -> None:
        """Take one image; an image without predictions or without ground truth belongs in, too.

        Args:
            image_id: Ties in score between images are settled by its order, as in the official evaluators.
            predictions: `{"category_id", "score", "segmentation"}` each, and `"attribute_ids"`, none if missing;
                `segmentation` is a compressed RLE `{"size": [h, w], "counts"}` or a bool array (h, w). Their area is
                the mask's.
                Optionally `"attribute_scores"`, (A,) probabilities 0..1 in the order of the metric's `attribute_ids`,
                from which `best_attribute_thresholds` chooses.
            ground_truth: `{"category_id", "segmentation"}` each, optionally `"attribute_ids"`, `"iscrowd"` (0 or 1),
                `"area"` (the mask's if missing; Fashionpedia's files give the polygon's) and `"covered"` (share 0..1
                that others hide; if missing, the share of its box that belongs to others and not to it).

        Raises:
            ValueError: An unknown id, a score or area that is no finite number, a segmentation of another form or of
                another size than the image's first, run lengths that do not fill it, a missing key. The image is then
                not taken at all.
        """
        image_id = read_image_id(image_id)
        if image_id in self._records:
            return
        found, truths = self._reader.read_image(image_id, predictions, ground_truth)
        self._records[image_id] = image_record(found, truths, len(self._reader.attribute_columns))
        self._figures = None

    def state(self) -> State:
        """Everything gathered so far, as plain dicts of NumPy arrays keyed by image id; small, and fit to pickle."""
        return dict(self._records)

    def merge(self, other_state: State) -> None:
        """Take another metric's images; those already here stay as they are. Both need the same attributes, in order.

        Raises:
            ValueError: The state holds a category that is not in this metric's vocabulary.
        """
        for image_id, record in other_state.items():
            categories = {*record["categories"].tolist(), *record["truth_categories"].tolist()}
            if not self._reader.category_ids.issuperset(categories):
                expected = f"among {summary(self._reader.category_ids)}"
                raise mistake(f"image {image_id!r} of the merged state", "category_id", sorted(categories), expected)
        self._records = {**other_state, **self._records}
        self._figures = None

    @property
    def attributed_category_ids(self) -> frozenset[int]:
        """The categories that `AP_IoU+F1` holds to F1: the given ones, Fashionpedia's, or those learnt so far."""
        if self._fixed_attributed is not None:
            return self._fixed_attributed
        return frozenset(
            category_id
            for record in self._records.values()
            for category_id in record["truth_categories"][record["truth_attributes"].any(axis=1)].tolist()
        )

    def compute(self) -> dict[str, float]:
        """The figures over all images so far, as fractions 0..1.

        A figure without any ground truth of its kind is NaN, which JSON lacks: write it as null (None).

        Returns:
            For each of four questions, `IoU` (COCO's), `IoU+F1` (both criteria), `F1` (no IoU asked for) and
            `IoU_official` (what Fashionpedia's evaluator calls AP by IoU; it differs from COCO's where instances of an
            attributed category overlap, or are crowds, see the module's docstring):

            - `AP_<question>`: the mean over IoU .50:.05:.95, F1 .50:.05:.95 and categories. The official mean: an
              attributed category enters once per F1 threshold, so ten times, the others once (208 entries for
              Fashionpedia). `AP50_<question>`, `AP75_<question>`: at one IoU threshold.
            - `AP_<question>_small`, `_medium`, `_large`: by the area of the mask, up to 32 x 32, up to 96 x 96 pixels.
            - `AR_<question>_1`, `_10`, `_100`: recall of the best detections of an image and category;
              `AR_<question>_small`, `_medium`, `_large`: of the best 100.

            Beside them:

            - `AP_IoU+F1@0.50` to `@0.95`, also for `AP50_IoU+F1`, `AP75_IoU+F1` and `AP_F1`: at one F1 threshold.
            - `AP_IoU_covered_0_25`, `_25_50`, `_50_100`: by the percentage of an instance that others hide. A detection
              that found nothing is wrong in all three.
            - `attribute_gap`: `AP_IoU` - `AP_IoU+F1`. Attributes widen it; so does, either way, that attributed
              categories count ten times in the second mean alone. With every attribute right it need not be 0.
            - `attribute_F1`, `attribute_F1_head`, `_mid`, `_tail`: mean F1 of the attributes over the instances found;
              by how many instances carry them (100 or more, 10 or more, fewer).
        """
        result = _all_means(list(self._all_figures().values()))
        attributes = self._attribute_figures()
        result["attribute_F1"] = _mean_of_defined([attributes.f1])
        for band, members in attributes.bands().items():
            result[f"attribute_F1_{band}"] = _mean_of_defined([attributes.f1[members]])
        return result

    def per_category(self) -> dict[int, dict[str, float]]:
        """For every category id `{"AP_IoU", "AP50_IoU", "AP75_IoU", "AP_IoU+F1", "AP_F1", "instances"}`.

        NaN where a category has no ground truth. `instances` counts ground truths that are no crowds. Held to IoU
        alone, a category has equal figures for `IoU` and `IoU+F1`.
        """
        names = ("AP_IoU", "AP50_IoU", "AP75_IoU", "AP_IoU+F1", "AP_F1")
        result = {}
        for category_id, one in self._all_figures().items():
            means = _all_means([one])
            result[category_id] = {**{name: means[name] for name in names}, "instances": one.instances}
        return result

    def per_supercategory(self) -> dict[str, dict[str, float]]:
        """For every super-category what `compute` gives for all, but for the figures of single attributes."""
        figures = self._all_figures()
        return {
            name: _all_means([one for category_id, one in figures.items() if category_id in members])
            for name, members in self._supercategories.items()
        }

    def per_attribute(self) -> dict[int, dict[str, float | str]]:
        """For every attribute id that an instance carries `{"support", "found", "precision", "recall", "F1", "band"}`.

        `support` counts the instances that carry it, of the categories that are held to attributes; `found` those of
        them that a detection found with an IoU of at least 0.5. The other figures are over the found instances. `band`
        is `head` (support of 100 or more), `mid` (10 or more) or `tail`.
        """
        figures = self._attribute_figures()
        bands = figures.bands()
        return {
            attribute_id: {
                "support": int(figures.support[column]),
                "found": int(figures.found[column]),
                "precision": float(figures.precision[column]),
                "recall": float(figures.recall[column]),
                "F1": float(figures.f1[column]),
                "band": next(name for name, members in bands.items() if members[column]),
            }
            for attribute_id, column in self._reader.attribute_columns.items()
            if figures.support[column]
        }

    def precision_recall(self) -> dict[str, np.ndarray]:
        """Precision at the recalls 0, 0.01, ... 1, the mean over categories: `AP50_IoU`, `AP75_IoU`, `AP_IoU` and
        `AP_IoU+F1` -> (101,) float64 in 0..1, of which the mean is the figure of that name.

        Without any ground truth the dictionary is empty.
        """
        figures = [one for one in self._all_figures().values() if not np.isnan(one.joint_curves).any()]
        if not figures:
            return {}
        coco = np.mean([one.coco_curve for one in figures], axis=0)
        curves = {f"AP{name}_IoU": coco[place] for name, place in SINGLE_THRESHOLDS.items()}
        joint = np.concatenate([one.joint_curves for one in figures]).mean(axis=0)
        return {**curves, "AP_IoU": coco.mean(axis=0), "AP_IoU+F1": joint}

    def best_attribute_thresholds(self) -> tuple[float, list[float]]:
        """The attribute thresholds that serve `AP_IoU+F1` best, for predictions with `attribute_scores`.

        Choose them on other images than those that figures are reported on.

        Returns:
            The best one for all attributes, and one an attribute in the order of `attribute_ids`: its own where at
            least 30 found instances carry it and both halves of them agree, else the one for all.

        Raises:
            ValueError: Fewer than 30 instances with attributes were found, or predictions lack `attribute_scores`.
        """
        attributes = len(self._reader.attribute_columns)
        for_all, each = best_thresholds(self._images(), self.attributed_category_ids, attributes)
        return round(for_all, 2), [round(float(threshold), 2) for threshold in each]

    def _attribute_figures(self) -> AttributeFigures:
        return attribute_figures(self._images(), self.attributed_category_ids, len(self._reader.attribute_columns))

    def _all_figures(self) -> dict[int, _Figures]:
        if self._figures is None:
            attributed = self.attributed_category_ids
            records = category_records(self._images(), sorted(self._reader.category_ids))
            self._figures = {
                category_id: _category_figures(record, category_id in attributed)
                for category_id, record in records.items()
            }
        return self._figures

    def _images(self) -> list[ImageRecord]:
        """The records in the order of their ids; where there is none, that of an empty image."""
        image_ids = sorted(self._records, key=lambda image_id: (isinstance(image_id, str), image_id))
        records = [self._records[image_id] for image_id in image_ids]
        return records or [image_record([], [], len(self._reader.attribute_columns))]


def _fixed_attributed_category_ids(
    vocabulary: EntryReader, attributed_category_ids: Sequence[int] | None
) -> frozenset[int] | None:
    """The attributed categories that are known before any ground truth; None if they are to be learnt."""
    categories = vocabulary.category_ids
    if attributed_category_ids is None:
        is_fashionpedia = categories == FASHIONPEDIA_CATEGORY_IDS and vocabulary.attribute_columns
        return FASHIONPEDIA_ATTRIBUTED_CATEGORY_IDS if is_fashionpedia else None
    attributed = frozenset(attributed_category_ids)
    if unknown := sorted(attributed - categories):
        raise ValueError(f"attributed_category_ids holds {unknown}, expected {summary(vocabulary.category_ids)}")
    if attributed and not vocabulary.attribute_columns:
        raise ValueError(f"attributed_category_ids holds {sorted(attributed)}, expected none: there are no attributes")
    return attributed
