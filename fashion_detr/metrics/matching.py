"""From numbers to matches: which detection found which ground truth, and the precision and recall that follow.

Matching runs over a category's records of all images together, for all thresholds and ranges at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .records import MAX_DETECTIONS, CategoryRecord, spans

# A threshold below every IoU and F1 asks for nothing; as the last entry it yields the figures of one criterion alone.
NO_THRESHOLD = -1.0
THRESHOLDS = np.append(np.linspace(0.5, 0.95, 10), NO_THRESHOLD)

RECALL_LEVELS = np.linspace(0.0, 1.0, 101)

# Mask areas in pixels, both ends included, as in COCO: an instance of 32 x 32 is small and medium.
AREA_RANGES = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
# How much of an instance others hide, in percent; the upper end belongs to the next range.
COVER_RANGES = {"covered_0_25": (0, 0.25), "covered_25_50": (0.25, 0.5), "covered_50_100": (0.5, np.inf)}

# Cells of the matching grid that are worked on at once; a few arrays of this many numbers are in memory.
CELLS_PER_CHUNK = 4_000_000


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


def match_category(record: CategoryRecord, rule: Rule) -> Matches:
    """
    Gives every detection of a category, best score first, at most one ground truth of its image.

    A detection walks along the ground truths, those to ignore last. It takes one that is free and reaches both
    thresholds, and leaves it for a later one only if that is at least as good in both criteria, but never leaves a
    ground truth that counts for one to ignore. Under COCO's rule F1 is constant, and the walk ends at the highest IoU.
    A detection is ignored if its ground truth is, or if it has none and its own area is outside the range.
    """
    matched = np.zeros((*rule.grid, len(record.scores)), dtype=bool)
    ignored = np.zeros_like(matched)
    to_ignore = _to_ignore(record, rule)
    for pairs in _blocks_of_pairs(record, rule):
        places, found, found_to_ignore = _match_block(pairs, record, to_ignore, rule)
        matched[..., places], ignored[..., places] = found, found_to_ignore

    outside = np.zeros((rule.ranges, len(record.scores)), dtype=bool)
    outside[: len(AREA_RANGES)] = _outside(record.areas, AREA_RANGES)
    ignored |= ~matched & outside[:, None, None, :]
    order = np.argsort(-record.scores, kind="stable")
    return Matches(
        right=(matched & ~ignored)[..., order],
        wrong=(~matched & ~ignored)[..., order],
        ranks=spans(np.zeros_like(record.detections), record.detections)[order],
        positives=np.count_nonzero(~to_ignore, axis=1),
    )


def _outside(values: np.ndarray, ranges: dict[str, tuple[float, float]]) -> np.ndarray:
    """(ranges, N) bool: which of N values lie outside each range, both ends included."""
    lower, upper = np.array(list(ranges.values())).T[:, :, None]
    return (values < lower) | (values > upper)


def _to_ignore(record: CategoryRecord, rule: Rule) -> np.ndarray:
    """(R, M) bool: crowds, and instances outside the range, neither count nor cost."""
    ignore = _outside(record.truth_areas, AREA_RANGES)
    if rule.cover_ranges:
        lower, upper = np.array(list(COVER_RANGES.values())).T[:, :, None]
        covered = record.truth_covered
        ignore = np.concatenate([ignore, (covered < lower) | (covered >= upper)])
    return ignore | record.truth_crowds


@dataclass(frozen=True)
class _Block:
    """I images with G ground truths and at most D detections that can reach one, as positions in the record."""

    detections: np.ndarray  # (I, D), by falling score
    real: np.ndarray  # (I, D) bool; the rest fills up
    truths: np.ndarray  # (I, G)
    pairs: np.ndarray  # (I, D, G)


def _blocks_of_pairs(record: CategoryRecord, rule: Rule) -> Iterator[_Block]:
    """Images with equally many ground truths and (about) equally many able detections, some at a time."""
    images = len(record.detections)
    image_of = np.repeat(np.arange(images), record.detections)
    truths = record.truths[image_of]  # of each detection's image
    first_pair, first_truth = np.cumsum(truths) - truths, np.cumsum(record.truths) - record.truths
    # Most detections reach no ground truth by any threshold: they are unmatched already.
    reaches = np.repeat(np.arange(len(image_of)), truths)[record.ious >= rule.iou_thresholds.min()]
    able = np.flatnonzero(np.bincount(reaches, minlength=len(image_of)))
    counts = np.bincount(image_of[able], minlength=images)
    first_able = np.cumsum(counts) - counts
    sizes = np.ceil(np.log2(np.maximum(counts, 1))).astype(np.int64)
    for size, width in sorted(set(zip(sizes[counts > 0].tolist(), record.truths[counts > 0].tolist()))):
        members = np.flatnonzero((counts > 0) & (sizes == size) & (record.truths == width))
        at_once = max(1, CELLS_PER_CHUNK // (int(np.prod(rule.grid)) * max(width, 2**size)))
        for start in range(0, len(members), at_once):
            chunk = members[start : start + at_once]
            steps = np.arange(counts[chunk].max())
            real = steps < counts[chunk, None]
            detections = able[first_able[chunk, None] + np.where(real, steps, 0)]
            yield _Block(
                detections,
                real,
                first_truth[chunk, None] + np.arange(width),
                first_pair[detections][..., None] + np.arange(width),
            )


def _match_block(
    block: _Block, record: CategoryRecord, to_ignore: np.ndarray, rule: Rule
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Matches the detections of a block.

    Returns:
        places: (N,) int64, the detections' positions in the category.
        matched: (R, T, F, N) bool, the detection has a ground truth.
        ignored: (R, T, F, N) bool, its ground truth is to ignore.
    """
    images, most, truths = block.pairs.shape
    ignore = np.moveaxis(to_ignore[:, block.truths], 0, 1)  # (I, R, G)
    order = np.argsort(ignore, axis=2, kind="stable")
    ignore = np.take_along_axis(ignore, order, axis=2)
    crowds = np.broadcast_to(record.truth_crowds[block.truths][:, None], order.shape)
    stays_free = np.take_along_axis(crowds, order, axis=2) & rule.crowds_absorb
    ious = np.where(block.real[..., None], record.ious[block.pairs], -np.inf)  # what fills up reaches no threshold
    f1s = record.f1s[block.pairs] if rule.weighs_f1 else np.zeros_like(ious)
    grid = (images, *rule.grid)
    free = np.ones((truths, *grid), dtype=bool)
    matched = np.zeros((most, *grid), dtype=bool)
    ignored = np.zeros_like(matched)
    # (D, G, I, R, 1, 1): a detection's values in the order in which it walks.
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
    real = block.real.T
    return block.detections.T[real], np.moveaxis(matched[real], 0, -1), np.moveaxis(ignored[real], 0, -1)


def _walk(ious: np.ndarray, f1s: np.ndarray, free: np.ndarray, ignore: np.ndarray, rule: Rule) -> np.ndarray:
    """
    One detection's walk along G ground truths, in every cell of the grid and in I images.

    Args:
        ious, f1s: (G, I, R, 1, 1) float64.
        free: (G, I, R, T, F) bool.
        ignore: (G, I, R, 1, 1) bool, False before True.

    Returns:
        (I, R, T, F) int16, the position of the ground truth it ends at, -1 for none.
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
        right, judged = matches.right[place], matches.right[place] | matches.wrong[place]
        outcomes = right.view(np.uint8) + judged.view(np.uint8)
        known: dict[bytes, np.ndarray] = {}  # neighbouring thresholds often give the same matches
        for cell in np.ndindex(grid[1:]):
            key = outcomes[cell].tobytes()
            if key not in known:
                known[key] = _curve(right[cell], judged[cell], hit_of_level)
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
