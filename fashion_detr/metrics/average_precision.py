"""Average precision of instances that carry attributes, by Fashionpedia's rules.

Two questions are asked of a detection: does its mask overlap an instance of its category (IoU), and does it name that
instance's attributes (binary macro F1)? `AP_IoU` asks the first, `AP_IoU+F1` both at once.

Sources: COCO's evaluator (`pycocotools.cocoeval`), which `AP_IoU` equals, and Fashionpedia's (`fashionpedia` 1.1 on
PyPI, Jia et al., ECCV 2020), which `AP_IoU+F1`, `AP_F1` and `AP_IoU_official` equal. The two differ in how a detection
finds its instance. COCO gives it the free instance with the highest IoU. Fashionpedia, for categories that carry
attributes, walks along the free instances and moves on only to one that is at least as good in IoU AND in F1, even
where no F1 is asked for; and a crowd region, once matched, is gone, where COCO's absorbs any number of detections.
"""

import math
import operator
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from pycocotools import mask as coco_mask

# Fashionpedia's evaluator hard-codes which of its 46 categories (ids 0 to 45) are held to the F1 thresholds.
FASHIONPEDIA_CATEGORY_IDS = frozenset(range(46))
FASHIONPEDIA_ATTRIBUTED_CATEGORY_IDS = frozenset((*range(13), 28, 29, 31, 32, 33))

# A threshold below every IoU and F1 asks for nothing; as the last entry it yields the figures of one criterion alone.
NO_THRESHOLD = -1.0
THRESHOLDS = np.append(np.linspace(0.5, 0.95, 10), NO_THRESHOLD)
ASKING = slice(0, 10)
AT_50, AT_75, UNASKED = 0, 5, 10

RECALL_LEVELS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = 100  # per image and category, the best scores first

# Mask areas in pixels, both ends included, as in COCO: an instance of 32 x 32 is small and medium.
AREA_RANGES = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
AREA_NAMES = tuple(AREA_RANGES)
ALL_AREAS = AREA_NAMES.index("all")


class CategoryRecord(TypedDict):
    """What matching needs of one category in one image: D detections by falling score, G ground truths as given."""

    scores: np.ndarray  # (D,) float64
    areas: np.ndarray  # (D,) float64, pixels of the mask
    ious: np.ndarray  # (D, G) float64 in 0..1; for a crowd: share of the detection that lies inside it
    f1s: np.ndarray  # (D, G) float64 in 0..1
    truth_areas: np.ndarray  # (G,) float64
    truth_crowds: np.ndarray  # (G,) bool
    truth_attribute_counts: np.ndarray  # (G,) int64


ImageRecord = dict[int, CategoryRecord]
State = dict[int | str, ImageRecord]


# --- Reading what the caller hands over -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Instance:
    """A detection or a ground truth after its checks; `where` names it in messages."""

    where: str
    category_id: int
    rle: dict[str, Any]
    attributes: np.ndarray  # (A,) bool
    area: float
    score: float = 0.0
    crowd: bool = False

    @property
    def size(self) -> tuple[int, int]:
        return tuple(self.rle["size"])


@dataclass(frozen=True)
class _Vocabulary:
    """The ids that may occur, and the column of each attribute in a multi-hot vector."""

    category_ids: tuple[int, ...]
    attribute_columns: dict[int, int]

    def read_prediction(self, entry: Mapping[str, Any], where: str) -> _Instance:
        score = _read_number(_get(entry, "score", where), "score", where)
        return _Instance(**self._read_common(entry, where), score=score)

    def read_truth(self, entry: Mapping[str, Any], where: str) -> _Instance:
        common = self._read_common(entry, where)
        if entry.get("area") is not None:
            common["area"] = _read_number(entry["area"], "area", where)
        return _Instance(**common, crowd=bool(entry.get("iscrowd", False)))

    def _read_common(self, entry: Mapping[str, Any], where: str) -> dict[str, Any]:
        rle = _read_segmentation(_get(entry, "segmentation", where), where)
        return {
            "where": where,
            "category_id": self._read_category(_get(entry, "category_id", where), where),
            "rle": rle,
            "attributes": self._read_attributes(_get(entry, "attribute_ids", where), where),
            "area": float(coco_mask.area(rle)),
        }

    def _read_category(self, value: Any, where: str) -> int:
        category_id = _read_integer(value, "category_id", where)
        if category_id not in self.category_ids:
            raise _mistake(where, "category_id", category_id, f"one of {_summary(self.category_ids)}")
        return category_id

    def _read_attributes(self, values: Any, where: str) -> np.ndarray:
        if values is None or isinstance(values, str) or not hasattr(values, "__iter__"):
            raise _mistake(where, "attribute_ids", repr(values), "a list of attribute ids")
        attributes = np.zeros(len(self.attribute_columns), dtype=bool)
        for value in values:
            attribute_id = _read_integer(value, "attribute_ids' entry", where)
            if attribute_id not in self.attribute_columns:
                expected = f"one of {_summary(self.attribute_columns)}"
                raise _mistake(where, "attribute_ids' entry", attribute_id, expected)
            attributes[self.attribute_columns[attribute_id]] = True
        return attributes


def _mistake(where: str, what: str, found: Any, expected: str) -> ValueError:
    return ValueError(f"{where}: {what} is {found}, expected {expected}")


def _summary(ids: Sequence[int] | Mapping[int, int]) -> str:
    return f"the {len(ids)} ids of the vocabulary ({min(ids)} to {max(ids)})" if ids else "an empty vocabulary"


def _get(entry: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in entry:
        raise _mistake(where, f"the key {key!r}", "missing", f"it beside {sorted(entry)}")
    return entry[key]


def _read_integer(value: Any, what: str, where: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise _mistake(where, what, repr(value), "an integer") from None


def _read_number(value: Any, what: str, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise _mistake(where, what, repr(value), "a number") from None
    if not math.isfinite(number):
        raise _mistake(where, what, number, "a finite number")
    return number


def _read_image_id(image_id: Hashable) -> int | str:
    return image_id if isinstance(image_id, str) else _read_integer(image_id, "image_id", f"image {image_id!r}")


def _read_segmentation(segmentation: Any, where: str) -> dict[str, Any]:
    """Compressed RLE of either form. Raises ValueError for any other form."""
    if isinstance(segmentation, Mapping):
        return _read_rle(segmentation, where)
    mask = np.asarray(segmentation)
    if mask.ndim != 2 or mask.dtype != bool:
        found = f"an array of shape {mask.shape} and dtype {mask.dtype}"
        raise _mistake(where, "segmentation", found, "a compressed RLE or a bool array of shape (height, width)")
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


def _read_rle(rle: Mapping[str, Any], where: str) -> dict[str, Any]:
    counts, size = _get(rle, "counts", where), _get(rle, "size", where)
    if not isinstance(counts, bytes | str):
        raise _mistake(where, "RLE's counts", f"a {type(counts).__name__}", "compressed: bytes or str")
    if len(size) != 2:
        raise _mistake(where, "RLE's size", list(size), "[height, width]")
    return {"size": [_read_integer(side, "RLE's size", where) for side in size], "counts": counts}


def _require_one_size(instances: Sequence[_Instance]) -> None:
    """Masks of one image are compared pixel by pixel: every one has the (height, width) of the first."""
    for instance in instances:
        if instance.size != instances[0].size:
            expected = f"{instances[0].size} as in {instances[0].where}"
            raise _mistake(instance.where, "the mask's (height, width)", instance.size, expected)


# --- From an image to its record --------------------------------------------------------------------------------------


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
    attributes = predicted.shape[1]
    both_present = predicted @ true.T
    present = predicted.sum(axis=1)[:, None] + true.sum(axis=1)[None, :]
    both_absent = attributes - present + both_present
    absent = 2 * attributes - present
    f1_present = np.divide(2 * both_present, present, out=np.zeros_like(present), where=present > 0)
    f1_absent = np.divide(2 * both_absent, absent, out=np.zeros_like(absent), where=absent > 0)
    classes = (present > 0).astype(np.float64) + (absent > 0)
    return (f1_present + f1_absent) / np.maximum(classes, 1)  # no class at all: a vocabulary without attributes


def _ious(detections: Sequence[_Instance], truths: Sequence[_Instance]) -> np.ndarray:
    if not detections or not truths:
        return np.zeros((len(detections), len(truths)))
    crowds = [truth.crowd for truth in truths]
    return np.asarray(coco_mask.iou([one.rle for one in detections], [one.rle for one in truths], crowds))


def _stack_attributes(instances: Sequence[_Instance], attributes: int) -> np.ndarray:
    return np.array([instance.attributes for instance in instances], dtype=bool).reshape(len(instances), attributes)


def _category_record(detections: Sequence[_Instance], truths: Sequence[_Instance], attributes: int) -> CategoryRecord:
    detections = sorted(detections, key=lambda detection: -detection.score)[:MAX_DETECTIONS]  # stable: ties keep order
    true_attributes = _stack_attributes(truths, attributes)
    return {
        "scores": np.array([detection.score for detection in detections], dtype=np.float64),
        "areas": np.array([detection.area for detection in detections], dtype=np.float64),
        "ious": _ious(detections, truths),
        "f1s": binary_macro_f1(_stack_attributes(detections, attributes), true_attributes),
        "truth_areas": np.array([truth.area for truth in truths], dtype=np.float64),
        "truth_crowds": np.array([truth.crowd for truth in truths], dtype=bool),
        "truth_attribute_counts": true_attributes.sum(axis=1),
    }


def _image_record(detections: Sequence[_Instance], truths: Sequence[_Instance], attributes: int) -> ImageRecord:
    def of(category_id: int, instances: Sequence[_Instance]) -> list[_Instance]:
        return [instance for instance in instances if instance.category_id == category_id]

    category_ids = sorted({instance.category_id for instance in (*detections, *truths)})
    return {one: _category_record(of(one, detections), of(one, truths), attributes) for one in category_ids}


# --- Matching: R area ranges, T IoU thresholds, F F1 thresholds at once -----------------------------------------------


@dataclass(frozen=True)
class _Rule:
    """How detections of a category find their instances; the module's docstring tells why there are two ways."""

    f1_thresholds: np.ndarray  # (F,)
    weighs_f1: bool
    crowds_absorb: bool


COCO_RULE = _Rule(f1_thresholds=THRESHOLDS[[UNASKED]], weighs_f1=False, crowds_absorb=True)
JOINT_RULE = _Rule(f1_thresholds=THRESHOLDS, weighs_f1=True, crowds_absorb=False)


def _outside(areas: np.ndarray) -> np.ndarray:
    """(R, N) bool: which of N areas lie outside each area range."""
    lower, upper = np.array(list(AREA_RANGES.values())).T[:, :, None]
    return (areas < lower) | (areas > upper)


def _truths_to_ignore(record: CategoryRecord) -> np.ndarray:
    """(R, G) bool: crowds, and instances outside the area range, neither count nor cost."""
    return record["truth_crowds"] | _outside(record["truth_areas"])


def _match(record: CategoryRecord, rule: _Rule) -> tuple[np.ndarray, np.ndarray]:
    """Give every detection, best score first, at most one ground truth.

    A detection walks along the ground truths, those to ignore last. It takes one that is free and reaches both
    thresholds, and leaves it for a later one only if that is at least as good in both criteria, but never leaves a
    ground truth that counts for one to ignore. Under COCO's rule F1 is constant, and the walk ends at the highest IoU.

    Returns:
        matched: (R, T, F, D) bool, the detection has a ground truth.
        ignored: (R, T, F, D) bool, it is neither right nor wrong: its ground truth is to ignore, or it has none and
            its own area is outside the range.
    """
    ignore = _truths_to_ignore(record)
    order = np.argsort(ignore, axis=1, kind="stable")
    ignore = np.take_along_axis(ignore, order, axis=1)
    ious = record["ious"][:, order]  # (D, R, G)
    f1s = record["f1s"][:, order] if rule.weighs_f1 else np.zeros_like(ious)
    stays_free = record["truth_crowds"][order] & rule.crowds_absorb

    grid = (len(AREA_RANGES), len(THRESHOLDS), len(rule.f1_thresholds))
    free = np.ones((*grid, ignore.shape[1]), dtype=bool)
    matched = np.zeros((*grid, len(ious)), dtype=bool)
    ignored = np.zeros_like(matched)
    for detection in range(len(ious) if ignore.size else 0):
        found = _walk(ious[detection], f1s[detection], free, ignore, rule.f1_thresholds)
        hit = np.nonzero(found >= 0)
        target = found[hit]
        free[(*hit, target)] = stays_free[hit[0], target]
        matched[(*hit, detection)] = True
        ignored[(*hit, detection)] = ignore[hit[0], target]
    return matched, ignored | (~matched & _outside(record["areas"])[:, None, None, :])


def _walk(
    ious: np.ndarray, f1s: np.ndarray, free: np.ndarray, ignore: np.ndarray, f1_thresholds: np.ndarray
) -> np.ndarray:
    """One detection's walk along G ground truths, in every cell of the grid.

    Args:
        ious, f1s: (R, G) float64.
        free: (R, T, F, G) bool.
        ignore: (R, G) bool, False before True.
        f1_thresholds: (F,) float64.

    Returns:
        (R, T, F) int64, the position of the ground truth it ends at, -1 for none.
    """
    # A hair below 1, as both evaluators have it, so that a perfect overlap reaches a threshold of 1.
    least_iou = np.minimum(THRESHOLDS, 1 - 1e-10)[None, :, None]
    least_f1 = np.minimum(f1_thresholds, 1 - 1e-10)[None, None, :]
    found = np.full(free.shape[:3], -1)
    counts = np.zeros(free.shape[:3], dtype=bool)
    for position in range(free.shape[3]):
        iou, f1, to_ignore = (values[:, position, None, None] for values in (ious, f1s, ignore))
        better = free[..., position] & (iou >= least_iou) & (f1 >= least_f1) & ~(counts & to_ignore)
        least_iou, least_f1 = np.where(better, iou, least_iou), np.where(better, f1, least_f1)
        found[better] = position
        counts |= better & ~to_ignore
    return found


# --- From matches to figures ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _CategoryFigures:
    """One category's figures; NaN in an area range where it has no instance that counts."""

    instances: int
    iou: np.ndarray  # (R, T) AP by COCO's rule
    recall: np.ndarray  # (R, T) by COCO's rule
    joint: np.ndarray  # (R, T, 10) AP by F1 threshold, or (R, T, 1) where the category is held to IoU alone
    official_iou: np.ndarray  # (R, T) AP by the joint rule with no F1 asked for


def _category_figures(records: Sequence[CategoryRecord], attributed: bool) -> _CategoryFigures:
    precision, recall = _score(records, COCO_RULE)
    official = _score(records, JOINT_RULE)[0] if attributed else precision
    return _CategoryFigures(
        instances=sum(int(np.count_nonzero(~record["truth_crowds"])) for record in records),
        iou=precision[..., -1],
        recall=recall[..., -1],
        joint=official[..., ASKING] if attributed else precision,
        official_iou=official[..., -1],
    )


def _score(records: Sequence[CategoryRecord], rule: _Rule) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and final recall of a category over its images, both (R, T, F), NaN without ground truth."""
    shape = (len(AREA_RANGES), len(THRESHOLDS), len(rule.f1_thresholds))
    precision, recall = np.full(shape, np.nan), np.full(shape, np.nan)
    positives = sum((np.count_nonzero(~_truths_to_ignore(record), axis=1) for record in records), np.zeros(shape[0]))
    if not positives.any():
        return precision, recall
    order = np.argsort(-np.concatenate([record["scores"] for record in records]), kind="stable")
    matches = [_match(record, rule) for record in records]
    matched, ignored = (np.concatenate(parts, axis=-1)[..., order] for parts in zip(*matches, strict=True))
    for area in np.flatnonzero(positives):
        right, wrong = matched[area] & ~ignored[area], ~matched[area] & ~ignored[area]
        precision[area] = _average_precision(right, wrong, positives[area])
        recall[area] = np.count_nonzero(right, axis=-1) / positives[area]
    return precision, recall


def _average_precision(right: np.ndarray, wrong: np.ndarray, positives: float) -> np.ndarray:
    """Mean over 101 recall levels of the best precision at that recall or beyond; 0 where it is never reached.

    Args:
        right, wrong: (T, F, N) bool, detections by falling score; ignored ones are neither.
        positives: how many ground truths count, at least 1.

    Returns:
        (T, F) float64 in 0..1.
    """
    hits, misses = np.cumsum(right, axis=-1, dtype=np.float64), np.cumsum(wrong, axis=-1, dtype=np.float64)
    precision = hits / (misses + hits + np.spacing(1))  # spacing: both evaluators' guard where the first are ignored
    envelope = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    reached = np.concatenate([envelope, np.zeros((*envelope.shape[:2], 1))], axis=-1)
    means = np.zeros(right.shape[:2])
    for cell in np.ndindex(means.shape):
        first_at_level = np.searchsorted(hits[cell] / positives, RECALL_LEVELS, side="left")
        means[cell] = reached[cell][first_at_level].mean()
    return means


def _mean_of_defined(values: Sequence[np.ndarray]) -> float:
    flat = np.concatenate([np.ravel(value) for value in values]) if values else np.zeros(0)
    defined = flat[~np.isnan(flat)]
    return float(defined.mean()) if defined.size else math.nan


# --- The metric -------------------------------------------------------------------------------------------------------


class FashionAveragePrecision:
    """AP_IoU and AP_IoU+F1, gathered image by image.

    An image leaves only numbers behind (IoU and F1 of same-category pairs, areas, scores of at most 100 detections a
    category), so memory does not depend on its size. An image that is seen again, as padding of the last batch or on
    another process, counts once: the first one stays.

    Across processes: `for state in accelerate.utils.gather_object([metric.state()]): merged.merge(state)`.

    Args:
        category_ids: The dataset's category ids.
        attribute_ids: The dataset's attribute ids, sparse as they are. Their number A enters the F1 ("absent" is a
            class too): state it with every figure.
        attributed_category_ids: The categories that `AP_IoU+F1` holds to the F1 thresholds; the others are held to IoU
            alone. None means Fashionpedia's 18 if `category_ids` are Fashionpedia's 0 to 45, else those with at least
            one attribute in the ground truth.

    Raises:
        ValueError: An id twice, an attributed category that is no category, attributed categories without attributes.
    """

    def __init__(
        self,
        category_ids: Sequence[int],
        attribute_ids: Sequence[int],
        attributed_category_ids: Sequence[int] | None = None,
    ) -> None:
        _require_distinct(category_ids, "category_ids")
        _require_distinct(attribute_ids, "attribute_ids")
        columns = {attribute_id: column for column, attribute_id in enumerate(attribute_ids)}
        self._vocabulary = _Vocabulary(tuple(sorted(category_ids)), columns)
        self._fixed_attributed = _fixed_attributed_category_ids(self._vocabulary, attributed_category_ids)
        self._records: State = {}
        self._figures: dict[int, _CategoryFigures] | None = None

    def add(
        self, image_id: int | str, predictions: Sequence[Mapping[str, Any]], ground_truth: Sequence[Mapping[str, Any]]
    ) -> None:
        """Take one image; an image without predictions or without ground truth belongs in, too.

        Args:
            image_id: Ties in score between images are settled by its order, as in the official evaluators.
            predictions: `{"category_id", "score", "segmentation", "attribute_ids"}` each; `segmentation` is a
                compressed RLE `{"size": [h, w], "counts"}` or a bool array (h, w). Their area is the mask's.
            ground_truth: `{"category_id", "segmentation", "attribute_ids"}` each, optionally `"iscrowd"` (0 or 1) and
                `"area"` (the mask's if missing; Fashionpedia's files give the polygon's).

        Raises:
            ValueError: An unknown id, a score or area that is no finite number, a segmentation of another form or of
                another size than the image's first, a missing key. The image is then not taken at all.
        """
        image_id = _read_image_id(image_id)
        if image_id in self._records:
            return
        read = self._vocabulary
        truths = [read.read_truth(one, f"image {image_id!r}, ground truth {i}") for i, one in enumerate(ground_truth)]
        found = [read.read_prediction(one, f"image {image_id!r}, prediction {i}") for i, one in enumerate(predictions)]
        _require_one_size([*truths, *found])
        self._records[image_id] = _image_record(found, truths, len(read.attribute_columns))
        self._figures = None

    def state(self) -> State:
        """Everything gathered so far, as plain dicts of NumPy arrays keyed by image id; small, and fit to pickle."""
        return dict(self._records)

    def merge(self, other_state: State) -> None:
        """Take another metric's images; those already here stay as they are.

        Raises:
            ValueError: The state holds a category that is not in this metric's vocabulary.
        """
        known = set(self._vocabulary.category_ids)
        for image_id, record in other_state.items():
            if not known.issuperset(record):
                expected = f"among {_summary(self._vocabulary.category_ids)}"
                raise _mistake(f"image {image_id!r} of the merged state", "category_id", sorted(record), expected)
        self._records = {**other_state, **self._records}
        self._figures = None

    @property
    def attributed_category_ids(self) -> frozenset[int]:
        """The categories that `AP_IoU+F1` holds to F1: the given ones, Fashionpedia's, or those learnt so far."""
        if self._fixed_attributed is not None:
            return self._fixed_attributed
        return frozenset(
            category_id
            for image in self._records.values()
            for category_id, record in image.items()
            if record["truth_attribute_counts"].any()
        )

    def compute(self) -> dict[str, float]:
        """The figures over all images so far, as fractions 0..1.

        A figure without any ground truth of its kind is NaN, which JSON lacks: write it as null (None).

        Returns:
            - `AP_IoU`, `AP50_IoU`, `AP75_IoU`, `AP_IoU_small`, `AP_IoU_medium`, `AP_IoU_large`, `AR_IoU_100`:
              COCO's segmentation figures, IoU .50:.05:.95, the mean over categories.
            - `AP_IoU+F1`, `AP_IoU+F1_small`, `AP_IoU+F1_medium`, `AP_IoU+F1_large`: both criteria, F1 .50:.05:.95. The
              official mean: an attributed category enters once per F1 threshold, so ten times, the others once (208
              entries for Fashionpedia).
            - `AP_F1`: the same mean with no IoU asked for.
            - `AP_IoU_official`: what Fashionpedia's evaluator calls AP by IoU. It differs from `AP_IoU` where instances
              of an attributed category overlap, or are crowds; see the module's docstring.
        """
        figures = list(self._all_figures().values())

        def mean(pick: Callable[[_CategoryFigures], np.ndarray]) -> float:
            return _mean_of_defined([pick(one) for one in figures])

        result = {
            "AP_IoU": mean(lambda one: one.iou[ALL_AREAS, ASKING]),
            "AP_IoU+F1": mean(lambda one: one.joint[ALL_AREAS, ASKING]),
            "AP_F1": mean(lambda one: one.joint[ALL_AREAS, UNASKED]),
            "AP50_IoU": mean(lambda one: one.iou[ALL_AREAS, AT_50]),
            "AP75_IoU": mean(lambda one: one.iou[ALL_AREAS, AT_75]),
            "AR_IoU_100": mean(lambda one: one.recall[ALL_AREAS, ASKING]),
            "AP_IoU_official": mean(lambda one: one.official_iou[ALL_AREAS, ASKING]),
        }
        for area, name in enumerate(AREA_NAMES):
            if area != ALL_AREAS:
                result[f"AP_IoU_{name}"] = mean(lambda one, area=area: one.iou[area, ASKING])
                result[f"AP_IoU+F1_{name}"] = mean(lambda one, area=area: one.joint[area, ASKING])
        return result

    def per_category(self) -> dict[int, dict[str, float]]:
        """For every category id `{"AP_IoU", "AP_IoU+F1", "instances"}`, NaN where it has no ground truth.

        `instances` counts ground truths that are no crowds. Held to IoU alone, a category has two equal figures.
        """
        return {
            category_id: {
                "AP_IoU": _mean_of_defined([one.iou[ALL_AREAS, ASKING]]),
                "AP_IoU+F1": _mean_of_defined([one.joint[ALL_AREAS, ASKING]]),
                "instances": one.instances,
            }
            for category_id, one in self._all_figures().items()
        }

    def _all_figures(self) -> dict[int, _CategoryFigures]:
        if self._figures is None:
            attributed = self.attributed_category_ids
            self._figures = {
                category_id: _category_figures(self._records_of(category_id), category_id in attributed)
                for category_id in self._vocabulary.category_ids
            }
        return self._figures

    def _records_of(self, category_id: int) -> list[CategoryRecord]:
        image_ids = sorted(self._records, key=lambda image_id: (isinstance(image_id, str), image_id))
        return [self._records[one][category_id] for one in image_ids if category_id in self._records[one]]


def _require_distinct(ids: Sequence[int], name: str) -> None:
    if len(set(ids)) != len(ids):
        repeated = sorted({one for one in ids if list(ids).count(one) > 1})
        raise ValueError(f"{name} holds {repeated} more than once, expected distinct ids")


def _fixed_attributed_category_ids(
    vocabulary: _Vocabulary, attributed_category_ids: Sequence[int] | None
) -> frozenset[int] | None:
    """The attributed categories that are known before any ground truth; None if they are to be learnt."""
    categories = frozenset(vocabulary.category_ids)
    if attributed_category_ids is None:
        is_fashionpedia = categories == FASHIONPEDIA_CATEGORY_IDS and vocabulary.attribute_columns
        return FASHIONPEDIA_ATTRIBUTED_CATEGORY_IDS if is_fashionpedia else None
    attributed = frozenset(attributed_category_ids)
    if unknown := sorted(attributed - categories):
        raise ValueError(f"attributed_category_ids holds {unknown}, expected {_summary(vocabulary.category_ids)}")
    if attributed and not vocabulary.attribute_columns:
        raise ValueError(f"attributed_category_ids holds {sorted(attributed)}, expected none: there are no attributes")
    return attributed
