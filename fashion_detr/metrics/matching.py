"""From an image to numbers, and from numbers to matches: which detection found which ground truth.

An image leaves a record per category: IoU and F1 of every pair, areas, scores. Matching then runs over the records of a
category together, for all thresholds and ranges at once.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypedDict

import numpy as np
from pycocotools import mask as coco_mask

from .entries import Instance

# A threshold below every IoU and F1 asks for nothing; as the last entry it yields the figures of one criterion alone.
NO_THRESHOLD = -1.0
THRESHOLDS = np.append(np.linspace(0.5, 0.95, 10), NO_THRESHOLD)

RECALL_LEVELS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = (1, 10, 100)  # per image and category, the best scores first

# Mask areas in pixels, both ends included, as in COCO: an instance of 32 x 32 is small and medium.
AREA_RANGES = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
# How much of an instance others hide, in percent; the upper end belongs to the next range.
COVER_RANGES = {"covered_0_25": (0, 0.25), "covered_25_50": (0.25, 0.5), "covered_50_100": (0.5, np.inf)}

# What lies inside another instance by this share is carried by it, like a pocket by its coat.
CARRIED_SHARE = 0.5

# Attributes are compared where a detection has found its instance: an IoU of at least
FOUND_IOU = 0.5

# What decides whether a ground truth counts.
TRUTH_COLUMNS = ("truth_areas", "truth_crowds", "truth_covered")

# Cells of the matching grid that are worked on at once; a few arrays of this many numbers are in memory.
CELLS_PER_CHUNK = 4_000_000


class CategoryRecord(TypedDict):
    """What is kept of one category in one image: D detections by falling score, G ground truths as given, P pairs."""

    scores: np.ndarray  # (D,) float64
    areas: np.ndarray  # (D,) float64, pixels of the mask
    ious: np.ndarray  # (D, G) float64 in 0..1; for a crowd: share of the detection that lies inside it
    f1s: np.ndarray  # (D, G) float64 in 0..1; (0, 0) without ground truth
    truth_areas: np.ndarray  # (G,) float64
    truth_crowds: np.ndarray  # (G,) bool
    truth_covered: np.ndarray  # (G,) float64, share that others hide
    truth_attributes: np.ndarray  # (G, A / 8) uint8, bits packed
    found_truths: np.ndarray  # (P,) int64: the instances that were found, and of the detections that found them
    found_attributes: np.ndarray  # (P, A / 8) uint8, bits packed
    found_attribute_scores: np.ndarray | None  # (P, A) float16, where the detections have them


ImageRecord = dict[int, CategoryRecord]


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


def image_record(detections: Sequence[Instance], truths: Sequence[Instance], attributes: int) -> ImageRecord:
    """The record of one image; `attributes` is A."""
    scores = np.array([detection.score for detection in detections], dtype=np.float64)
    areas = _mask_areas(detections)
    members: dict[int, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    # The sort is stable: detections of one score keep their order.
    for number in np.argsort(-scores, kind="stable").tolist():
        members[detections[number].category_id][0].append(number)
    for number, truth in enumerate(truths):
        members[truth.category_id][1].append(number)
    covered = _covered_shares(truths)
    record = {}
    for category_id, (found, numbers) in sorted(members.items()):
        found = found[: MAX_DETECTIONS[-1]]
        record[category_id] = _category_record(
            scores[found],
            areas[found],
            [detections[number] for number in found],
            [truths[number] for number in numbers],
            covered[numbers],
            attributes,
        )
    return record


def _category_record(
    scores: np.ndarray,
    areas: np.ndarray,
    detections: Sequence[Instance],
    truths: Sequence[Instance],
    covered: np.ndarray,
    attributes: int,
) -> CategoryRecord:
    if not truths:  # most categories of an image: nothing to find
        return {"scores": scores, "areas": areas, "ious": np.zeros((len(scores), 0)), **_nothing_to_find(attributes)}
    crowds = np.array([truth.crowd for truth in truths], dtype=bool)
    ious = _ious(detections, truths)
    finders, found = _found_pairs(ious, crowds)
    attribute_scores = [detections[finder].attribute_scores for finder in finders]
    has_scores = finders and all(one is not None for one in attribute_scores)
    truth_areas = _mask_areas(truths)
    for number, truth in enumerate(truths):
        truth_areas[number] = truth_areas[number] if truth.area is None else truth.area
    return {
        "scores": scores,
        "areas": areas,
        "ious": ious,
        "f1s": _f1s(detections, truths, attributes),
        "truth_areas": truth_areas,
        "truth_crowds": crowds,
        "truth_covered": covered,
        "truth_attributes": _packed([truth.attributes for truth in truths], attributes),
        "found_truths": np.array(found, dtype=np.int64),
        "found_attributes": _packed([detections[finder].attributes for finder in finders], attributes),
        "found_attribute_scores": np.array(attribute_scores) if has_scores else None,
    }


@lru_cache
def _nothing_to_find(attributes: int) -> dict[str, np.ndarray | None]:
    """What the records of categories without ground truth have in common; none of these arrays is ever written to."""
    return {
        "f1s": np.zeros((0, 0)),
        "truth_areas": np.zeros(0),
        "truth_crowds": np.zeros(0, dtype=bool),
        "truth_covered": np.zeros(0),
        "truth_attributes": np.packbits(np.zeros((0, attributes), dtype=bool), axis=1),
        "found_truths": np.zeros(0, dtype=np.int64),
        "found_attributes": np.packbits(np.zeros((0, attributes), dtype=bool), axis=1),
        "found_attribute_scores": None,
    }


def _mask_areas(instances: Sequence[Instance]) -> np.ndarray:
    if not instances:
        return np.zeros(0)
    return np.asarray(coco_mask.area([instance.rle for instance in instances]), dtype=np.float64)


def _packed(attribute_sets: Sequence[frozenset[int]], attributes: int) -> np.ndarray:
    """Multi-hot vectors with eight attributes a byte."""
    vectors = np.zeros((len(attribute_sets), attributes), dtype=bool)
    for row, columns in enumerate(attribute_sets):
        vectors[row, list(columns)] = True
    return np.packbits(vectors, axis=1)


def _f1s(detections: Sequence[Instance], truths: Sequence[Instance], attributes: int) -> np.ndarray:
    """(D, G) binary macro F1."""
    both = np.array([[len(one.attributes & truth.attributes) for truth in truths] for one in detections], dtype=float)
    predicted = np.array([len(one.attributes) for one in detections], dtype=float)
    true = np.array([len(truth.attributes) for truth in truths], dtype=float)
    return macro_f1_of_counts(both.reshape(len(detections), len(truths)), predicted[:, None] + true, attributes)


def _covered_shares(truths: Sequence[Instance]) -> np.ndarray:
    """
    How much of every ground truth others hide: what it says of itself, else the share of its box that belongs to
    others and not to it. A garment that holds most of a part carries it, and hides nothing of it.
    """
    shares = np.array([np.nan if truth.covered is None else truth.covered for truth in truths], dtype=np.float64)
    if not np.isnan(shares).any():
        return shares
    rles = [truth.rle for truth in truths]
    boxes = coco_mask.toBbox(rles)
    near = _overlap(boxes)
    # With everything taken for a crowd, pycocotools gives the share of the first that lies inside the second.
    carried = np.asarray(coco_mask.iou(rles, rles, [True] * len(rles))) >= CARRIED_SHARE
    hides = near & ~carried
    box_areas = boxes[:, 2] * boxes[:, 3]
    for number in np.flatnonzero(np.isnan(shares)):
        others = [rles[other] for other in np.flatnonzero(hides[number])]
        shares[number] = 0
        if others and box_areas[number]:
            theirs = coco_mask.merge(others)
            box = _box_rle(boxes[number].astype(int).tolist(), *truths[0].rle["size"])
            in_box, on_it = coco_mask.iou([theirs], [box, rles[number]], [True, True])[0]
            shares[number] = (in_box - on_it) * float(coco_mask.area(theirs)) / box_areas[number]
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


def _ious(detections: Sequence[Instance], truths: Sequence[Instance]) -> np.ndarray:
    # pycocotools: with the masks of faster-coco-eval 1.8 in its place the whole metric took twice as long.
    if not detections or not truths:
        return np.zeros((len(detections), len(truths)))
    crowds = [truth.crowd for truth in truths]
    return np.asarray(coco_mask.iou([one.rle for one in detections], [one.rle for one in truths], crowds))


def _found_pairs(ious: np.ndarray, crowds: np.ndarray) -> tuple[list[int], list[int]]:
    """Positions of the detections that find an instance, and of what they find: the free one with the highest IoU."""
    finders, found = [], []
    if ious.size:
        open_ious = np.where(crowds, 0.0, ious)
        for detection in np.flatnonzero((open_ious >= FOUND_IOU).any(axis=1)).tolist():
            truth = int(open_ious[detection].argmax())
            if open_ious[detection, truth] >= FOUND_IOU:
                finders.append(detection)
                found.append(truth)
                open_ious[:, truth] = 0
    return finders, found


# --- Matching: R ranges, T IoU thresholds, F F1 thresholds at once ----------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """How detections of a category find their instances, and which ranges of instances are looked at."""

    iou_thresholds: np.ndarray  # (T,)
    f1_thresholds: np.ndarray  # (F,)
    weighs_f1: bool
    crowds_absorb: bool
    cover_ranges: bool  # behind the ranges of area

    @property
    def grid(self) -> tuple[int, int, int]:
        return self.ranges, len(self.iou_thresholds), len(self.f1_thresholds)

    @property
    def ranges(self) -> int:
        return len(AREA_RANGES) + (len(COVER_RANGES) if self.cover_ranges else 0)


COCO_RULE = Rule(THRESHOLDS[:-1], THRESHOLDS[-1:], weighs_f1=False, crowds_absorb=True, cover_ranges=True)
# Fashionpedia's rule for categories that are held to IoU alone is COCO's; where no IoU is asked for, anything matches.
IOU_ALONE_RULE = Rule(THRESHOLDS, THRESHOLDS[-1:], weighs_f1=False, crowds_absorb=True, cover_ranges=True)
JOINT_RULE = Rule(THRESHOLDS, THRESHOLDS, weighs_f1=True, crowds_absorb=False, cover_ranges=False)


@dataclass(frozen=True)
class Matches:
    """N detections of one category, all images together, by falling score."""

    right: np.ndarray  # (R, T, F, N) bool
    wrong: np.ndarray  # (R, T, F, N) bool; what is neither is ignored
    ranks: np.ndarray  # (N,) int64, position among the detections of its image
    positives: np.ndarray  # (R,) int64, ground truths that count


def match_category(records: Sequence[CategoryRecord], rule: Rule) -> Matches:
    """
    Gives every detection of a category, best score first, at most one ground truth of its image.

    A detection walks along the ground truths, those to ignore last. It takes one that is free and reaches both
    thresholds, and leaves it for a later one only if that is at least as good in both criteria, but never leaves a
    ground truth that counts for one to ignore. Under COCO's rule F1 is constant, and the walk ends at the highest IoU.
    A detection is ignored if its ground truth is, or if it has none and its own area is outside the range.
    """
    starts = np.cumsum([0, *(len(record["scores"]) for record in records)])
    matched, ignored = np.zeros((*rule.grid, starts[-1]), bool), np.zeros((*rule.grid, starts[-1]), bool)
    # Most detections reach no ground truth by any threshold: they are unmatched already.
    able = [np.flatnonzero((record["ious"] >= rule.iou_thresholds.min()).any(axis=1)) for record in records]
    for chunk in _chunks_of_one_shape(records, able, rule):
        places, found, to_ignore = _match_chunk(
            [records[number] for number in chunk], [able[number] for number in chunk], starts[chunk], rule
        )
        matched[..., places], ignored[..., places] = found, to_ignore

    areas = _concatenated(records, "areas")
    outside = np.zeros((rule.ranges, len(areas)), bool)
    outside[: len(AREA_RANGES)] = _outside(areas, AREA_RANGES)
    ignored |= ~matched & outside[:, None, None, :]
    order = np.argsort(-_concatenated(records, "scores"), kind="stable")
    truths = [_concatenated(records, name) for name in TRUTH_COLUMNS]
    return Matches(
        right=(matched & ~ignored)[..., order],
        wrong=(~matched & ~ignored)[..., order],
        ranks=(np.arange(len(areas)) - np.repeat(starts[:-1], np.diff(starts)))[order],
        positives=np.count_nonzero(~_to_ignore(truths[0], truths[1].astype(bool), truths[2], rule), axis=1),
    )


def _outside(values: np.ndarray, ranges: dict[str, tuple[float, float]]) -> np.ndarray:
    """(ranges, N) bool: which of N values lie outside each range, both ends included."""
    lower, upper = np.array(list(ranges.values())).T[:, :, None]
    return (values < lower) | (values > upper)


def _to_ignore(areas: np.ndarray, crowds: np.ndarray, covered: np.ndarray, rule: Rule) -> np.ndarray:
    """(R, N) bool: crowds, and instances outside the range, neither count nor cost."""
    ignore = _outside(areas, AREA_RANGES)
    if rule.cover_ranges:
        lower, upper = np.array(list(COVER_RANGES.values())).T[:, :, None]
        ignore = np.concatenate([ignore, (covered < lower) | (covered >= upper)])
    return ignore | crowds


def _concatenated(records: Sequence[CategoryRecord], name: str) -> np.ndarray:
    return np.concatenate([record[name] for record in records]) if records else np.zeros(0)


def _chunks_of_one_shape(
    records: Sequence[CategoryRecord], able: Sequence[np.ndarray], rule: Rule
) -> Iterator[np.ndarray]:
    """Numbers of records with equally many ground truths and (about) equally many able detections, some at a time."""
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, record in enumerate(records):
        if len(able[number]):
            groups[(len(able[number]) - 1).bit_length(), record["ious"].shape[1]].append(number)
    cells_per_pair = int(np.prod(rule.grid))
    for (bits, truths), numbers in groups.items():
        per_chunk = max(1, CELLS_PER_CHUNK // (cells_per_pair * max(truths, 2**bits)))
        for start in range(0, len(numbers), per_chunk):
            yield np.array(numbers[start : start + per_chunk])


def _match_chunk(
    records: Sequence[CategoryRecord], able: Sequence[np.ndarray], starts: np.ndarray, rule: Rule
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Matches the able detections of N records with G ground truths each.

    Returns:
        places: (M,) int64, the detections' places in the category; `starts` are the records' first ones.
        matched: (R, T, F, M) bool, the detection has a ground truth.
        ignored: (R, T, F, M) bool, its ground truth is to ignore.
    """
    counts = np.array([len(rows) for rows in able])
    truths, most = records[0]["ious"].shape[1], int(counts.max())
    ious = np.full((len(records), most, truths), -np.inf)  # what a shorter record lacks reaches no threshold
    f1s = np.zeros_like(ious)
    for number, (record, rows) in enumerate(zip(records, able)):
        ious[number, : counts[number]] = record["ious"][rows]
        if rule.weighs_f1:
            f1s[number, : counts[number]] = record["f1s"][rows]
    areas, crowds, covered = (np.stack([record[name] for record in records]) for name in TRUTH_COLUMNS)
    ignore = _to_ignore(areas.ravel(), crowds.ravel(), covered.ravel(), rule).reshape(-1, *areas.shape)
    ignore = np.moveaxis(ignore, 0, 1)  # (N, R, G)
    order = np.argsort(ignore, axis=2, kind="stable")
    ignore = np.take_along_axis(ignore, order, axis=2)
    stays_free = np.take_along_axis(np.broadcast_to(crowds[:, None], order.shape), order, axis=2) & rule.crowds_absorb
    grid = (len(records), *rule.grid)
    free = np.ones((truths, *grid), dtype=bool)
    matched = np.zeros((most, *grid), dtype=bool)
    ignored = np.zeros_like(matched)
    # (D, G, N, R, 1, 1): a detection's values in the order in which it walks.
    ious, f1s = (
        np.take_along_axis(values[:, None], order[:, :, None], axis=3).transpose(2, 3, 0, 1)[..., None, None]
        for values in (ious, f1s)
    )
    ignore, stays_free = (values.transpose(2, 0, 1)[..., None, None] for values in (ignore, stays_free))
    for detection in range(most):
        found = _walk(ious[detection], f1s[detection], free, ignore, rule)
        for truth in range(truths):
            taken = found == truth
            free[truth] &= ~taken | stays_free[truth]
            matched[detection] |= taken
            ignored[detection] |= taken & ignore[truth]
    real = np.arange(most)[:, None] < counts
    places = np.zeros((most, len(records)), dtype=np.int64)
    for number, rows in enumerate(able):
        places[: counts[number], number] = starts[number] + rows
    return places[real], np.moveaxis(matched[real], 0, -1), np.moveaxis(ignored[real], 0, -1)


def _walk(ious: np.ndarray, f1s: np.ndarray, free: np.ndarray, ignore: np.ndarray, rule: Rule) -> np.ndarray:
    """
    One detection's walk along G ground truths, in every cell of the grid and in N records.

    Args:
        ious, f1s: (G, N, R, 1, 1) float64.
        free: (G, N, R, T, F) bool.
        ignore: (G, N, R, 1, 1) bool, False before True.

    Returns:
        (N, R, T, F) int16, the position of the ground truth it ends at, -1 for none.
    """
    # A hair below 1, as both evaluators have it, so that a perfect overlap reaches a threshold of 1.
    least_iou = np.minimum(rule.iou_thresholds, 1 - 1e-10)[:, None]
    least_f1 = np.minimum(rule.f1_thresholds, 1 - 1e-10)
    found = np.full(free.shape[1:], -1, dtype=np.int16)
    counts = np.zeros(free.shape[1:], dtype=bool)
    for position in range(len(free)):
        iou, f1, to_ignore = ious[position], f1s[position], ignore[position]
        better = free[position] & (iou >= least_iou) & (f1 >= least_f1) & ~(counts & to_ignore)
        found[better] = position
        if position + 1 < len(free):
            least_iou, least_f1 = np.where(better, iou, least_iou), np.where(better, f1, least_f1)
            counts |= better & ~to_ignore
    return found


# --- From matches to precision and recall -----------------------------------------------------------------------------


def precision_at_recall(matches: Matches) -> np.ndarray:
    """The best precision at each of 101 recall levels or beyond, (R, T, F, 101); NaN where nothing counts."""
    grid = matches.right.shape[:-1]
    curves = np.full((*grid, len(RECALL_LEVELS)), np.nan)
    for place in np.flatnonzero(matches.positives):
        positives = matches.positives[place]
        # Recall and the best precision change at hits alone: which hit reaches each level, were there enough of them?
        hit_of_level = np.searchsorted(np.arange(1, positives + 1) / positives, RECALL_LEVELS, side="left")
        known: dict[tuple[bytes, bytes], np.ndarray] = {}  # neighbouring thresholds often give the same matches
        for cell in np.ndindex(grid[1:]):
            right, wrong = matches.right[(place, *cell)], matches.wrong[(place, *cell)]
            key = right.tobytes(), wrong.tobytes()
            if key not in known:
                known[key] = _curve(right, right | wrong, hit_of_level)
            curves[(place, *cell)] = known[key]
    return curves


def _curve(right: np.ndarray, judged: np.ndarray, hit_of_level: np.ndarray) -> np.ndarray:
    """One cell's precision at the recall levels (101,), given which hit reaches each level."""
    hits = np.flatnonzero(right)
    # The spacing is both evaluators' guard against 0 / 0; it makes a perfect precision one bit less than 1.
    precision = np.arange(1, len(hits) + 1) / (np.cumsum(judged)[hits] + np.spacing(1))
    best = np.maximum.accumulate(precision[::-1])[::-1]
    curve = np.zeros(len(RECALL_LEVELS))
    reached = hit_of_level < len(hits)
    curve[reached] = best[hit_of_level[reached]]
    return curve


def recall(matches: Matches) -> np.ndarray:
    """Share of the ground truths found by the best 1, 10 and 100 detections, (R, T, F, 3); NaN where nothing counts."""
    found = [np.count_nonzero(matches.right & (matches.ranks < detections), axis=-1) for detections in MAX_DETECTIONS]
    positives = np.where(matches.positives > 0, matches.positives, np.nan)
    return np.stack(found, axis=-1) / positives[:, None, None, None]
