"""Attributes one by one: support, precision, recall, F1 and, from their probabilities, the thresholds that serve best.

All of it looks at the instances that were found (IoU of at least 0.5, categories held to attributes): whether an
instance is found at all is the affair of the average precision.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from .matching import THRESHOLDS
from .records import ImageRecord, concatenated, macro_f1_of_counts

# By how many instances carry an attribute, as LVIS bands its categories (Gupta et al., 2019): 100 or more, 10 or more.
BANDS = {"head": 100, "mid": 10, "tail": 1}

CANDIDATES = np.linspace(0.05, 0.95, 19)
# An attribute that fewer found instances carry keeps the threshold of all: its best one would be chance. So it is with
# all attributes together.
MIN_CARRIERS = 30


@dataclass(frozen=True)
class AttributeFigures:
    """
    Figures of A attributes; NaN where nothing defines them.

    `support` (A,) counts the instances that carry an attribute, `found` (A,) those of them that were found;
    `precision`, `recall` and `f1` (A,) are over the found instances, in 0..1.
    """

    support: np.ndarray
    found: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray

    def bands(self) -> dict[str, np.ndarray]:
        """Which attributes belong to the head, the middle and the tail, boolean (A,); without support to none."""
        upper, members = np.inf, {}
        for name, lower in BANDS.items():
            members[name] = (self.support >= lower) & (self.support < upper)
            upper = lower
        return members


def attribute_figures(
    images: Sequence[ImageRecord], category_ids: Collection[int], attributes: int
) -> AttributeFigures:
    """Counts over the instances of the categories that are held to attributes; `attributes` is A."""
    held = np.isin(concatenated(images, "truth_categories"), sorted(category_ids))
    support = _bits(images, "truth_attributes", attributes)[held & ~concatenated(images, "truth_crowds")].sum(axis=0)
    found = _found(images, category_ids, attributes)
    carried, claimed = found.true.sum(axis=0), found.predicted.sum(axis=0)
    both = (found.true & found.predicted).sum(axis=0)
    return AttributeFigures(
        support=support,
        found=carried,
        precision=_ratio(both, claimed),
        recall=_ratio(both, carried),
        f1=np.where(carried > 0, _ratio(2 * both, carried + claimed), np.nan),
    )


@dataclass(frozen=True)
class _Found:
    """The Q instances of the categories asked for that were found, and what their finders say."""

    categories: np.ndarray  # (Q,) int64, ids, ascending
    true: np.ndarray  # (Q, A) bool
    predicted: np.ndarray  # (Q, A) bool
    scores: np.ndarray  # (Q, A) float16, NaN where the finder has none


def _found(images: Sequence[ImageRecord], category_ids: Collection[int], attributes: int) -> _Found:
    truths = np.array([len(image["truth_categories"]) for image in images], dtype=np.int64)
    found = [len(image["found_truths"]) for image in images]
    rows = concatenated(images, "found_truths") + np.repeat(np.cumsum(truths) - truths, found)
    categories = concatenated(images, "truth_categories")[rows]
    # By category, and by image within it.
    held = [number for number in np.argsort(categories, kind="stable") if categories[number] in category_ids]
    scores = [
        np.full((len(image["found_truths"]), attributes), np.nan, dtype=np.float16)
        if image["found_attribute_scores"] is None
        else image["found_attribute_scores"]
        for image in images
    ]
    true, predicted = _bits(images, "truth_attributes", attributes), _bits(images, "found_attributes", attributes)
    return _Found(categories[held], true[rows[held]], predicted[held], np.concatenate(scores)[held])


def best_thresholds(
    images: Sequence[ImageRecord], category_ids: Collection[int], attributes: int
) -> tuple[float, np.ndarray]:
    """
    The thresholds under which most found instances reach the F1 thresholds of `AP_IoU+F1`, categories weighing alike.

    First the best one for all attributes; then, from the most frequent attribute on, each one's own, if it is better on
    both halves of the instances, each taken alone: what is better on one of them only is mostly chance.

    Args:
        images: Records with attribute scores.
        category_ids: The categories that are held to attributes.
        attributes: A.

    Returns:
        The threshold for all, and one an attribute, (A,) float64.

    Raises:
        ValueError: fewer than 30 instances with attributes were found, or the predictions have no `attribute_scores`.
    """
    found = _found(images, category_ids, attributes)
    if np.isnan(found.scores).any():
        raise ValueError("predictions without 'attribute_scores' cannot tell which threshold would have been better")
    if (with_attributes := int(found.true.any(axis=1).sum())) < MIN_CARRIERS:
        raise ValueError(f"{with_attributes} found instances carry attributes, at least {MIN_CARRIERS} are needed")
    scores, true = found.scores.astype(np.float32), found.true
    sizes = np.unique(found.categories, return_counts=True)[1]
    weights = np.repeat(1 / (len(sizes) * sizes), sizes)
    in_first_half = np.concatenate([np.arange(size) < size / 2 for size in sizes])
    halves = np.stack([weights * in_first_half, weights * ~in_first_half])

    def worth(both: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Of the two halves; their sum is that of all."""
        f1s = macro_f1_of_counts(both, present, attributes)
        return halves @ (f1s[:, None] >= THRESHOLDS[None, :-1]).mean(axis=1)

    def counts(thresholds: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        predicted = scores >= thresholds
        return (true & predicted).sum(axis=1), true.sum(axis=1) + predicted.sum(axis=1)

    for_all = float(CANDIDATES[np.argmax([worth(*counts(threshold)).sum() for threshold in CANDIDATES])])
    thresholds = np.full(attributes, for_all)
    both, present = counts(for_all)
    best = worth(both, present)
    carriers = true.sum(axis=0)
    for attribute in np.argsort(-carriers, kind="stable"):
        if carriers[attribute] < MIN_CARRIERS:
            break
        column, has = scores[:, attribute], true[:, attribute]
        before = column >= thresholds[attribute]
        for candidate in CANDIDATES:
            after = column >= candidate
            changed = after.astype(np.int64) - before
            trial = worth(both + (has * changed), present + changed)
            if (trial > best).all():
                best, thresholds[attribute] = trial, candidate
        changed = (column >= thresholds[attribute]).astype(np.int64) - before
        both, present = both + has * changed, present + changed
    return for_all, thresholds


def _bits(images: Sequence[ImageRecord], name: str, attributes: int) -> np.ndarray:
    return np.unpackbits(concatenated(images, name), axis=1, count=attributes).astype(bool)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
