"""A data set looked through before a training run: what is in it, and everything that is wrong with it, at once.

The reader (`annotations.py`) refuses a file at the first stage that has problems, and image files are only opened when
an epoch reaches them. Here every annotation and every image file is looked at, whatever else is broken. Photos are
decoded at the least size that their format offers, and masks are not rasterised unless coordinates alone leave a doubt.
"""

from __future__ import annotations

import reprlib
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from ..masks_fashion_detr import LARGEST_SIDE, encloses_area, is_crowd
from .annotations import (
    FIELDS,
    SHOWN,
    box_fault,
    compressed_rle,
    different_names,
    entry_fault,
    first_cases,
    lists_of,
    read_json,
    reference_problems,
    segmentation_fault,
    without_heading,
)
from .images import find_annotation_file, find_images, photo_fault, tidy

ERROR, WARNING = "error", "warning"

# A box may differ from its mask, and both may reach out of the image, by so many pixels. Conventions make up for two of
# them (is the last pixel inside of a box? does it count where a polygon's line ends?) and rounding for the third.
PIXEL_TOLERANCE = 3.0
# An area may differ from its mask by this share of the larger one, and by half the outline of the mask's box: pixels
# that a polygon's line crosses count or do not.
AREA_TOLERANCE = 0.25
# Crowds are regions that nobody has told apart, a few in a hundred annotations. From this share on they are a slip.
CROWD_SHARE = 0.2
# What CVAT and Datumaro write of every shape, under `attributes`, that says nothing about what it shows.
HOW_IT_IS_DRAWN = {"keyframe", "occluded", "rotation", "track_id"}
WHO_MAKES_CROWDS = 'some tools export what was painted with a brush as a crowd; set "iscrowd" to 0 to have it learnt'

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels
Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Finding:
    """
    One kind of problem.

    Args:
        split: Where; `None` for what concerns the data set as a whole.
        severity: "error" if no training can start with it, else "warning".
        kind: What is wrong, in a few words.
        count: How many cases there are.
        offenders: The first five of them.
    """

    split: str | None
    severity: str
    kind: str
    count: int
    offenders: tuple[str, ...]


@dataclass(frozen=True)
class Counts:
    """What a split holds. `instances_per_image`: least, median and largest number, images without one included."""

    images: int
    annotations: int
    images_without_annotation: int
    polygons: int
    uncompressed_run_lengths: int
    compressed_run_lengths: int
    crowds: int
    instances_per_image: tuple[int, float, int]


@dataclass(frozen=True)
class Report:
    """What `check_data_set` saw: counts of every split whose annotation file could be read, and all findings."""

    data_dir: Path
    counts: Mapping[str, Counts]
    findings: tuple[Finding, ...]

    @property
    def can_train(self) -> bool:
        return not any(finding.severity == ERROR for finding in self.findings)


def check_data_set(data_dir: Path, splits: Sequence[str] = ("train", "val")) -> Report:
    """
    Looks through a data set in Fashionpedia's layout. Raises nothing: whatever is wrong is in the report.

    The first of `splits` is the one to learn from: it has to be there and to hold an instance that can be learnt. Any
    other split that is not there is a warning.
    """
    data_dir = Path(data_dir)
    files, findings = _find_annotation_files(data_dir, splits)
    counts, vocabularies = {}, {}
    for split, annotation_file in files.items():
        errors, warnings = _Findings(split, ERROR), _Findings(split, WARNING)
        content = _read_lists(annotation_file, errors)
        if content is not None:
            counts[split] = _count(content)
            sound = _check_entries(content, errors)
            classes = without_heading(sound)
            vocabularies[split] = _vocabulary(content, sound, classes)
            _check_names(classes, errors)
            _check_references(content, sound, errors)
            _check_attributes(content, sound, warnings, is_learnt=split == splits[0])
            unlearnable = _check_masks(sound, errors, warnings)
            _check_crowds(sound["annotations"], warnings)
            if split == splits[0] and unlearnable == len(content["annotations"]):
                errors.add("training splits without an instance to learn from", _told_unlearnable(unlearnable))
            elif not content["annotations"]:
                warnings.add("splits without an annotation, on which nothing can be measured", annotation_file.name)
            _check_images(data_dir, split, annotation_file, sound["images"], errors, warnings)
            _check_listed_once(sound["images"], warnings)
        findings += [*errors, *warnings]
    findings += _compare_vocabularies(vocabularies)
    findings.sort(key=lambda finding: finding.severity != ERROR)  # stable: else in the order of the checks
    return Report(data_dir, counts, tuple(findings))


def format_report(report: Report) -> str:
    """The report for a terminal, errors first."""
    lines = [f"Data set {report.data_dir}"]
    for split, counts in report.counts.items():
        least, median, largest = counts.instances_per_image
        lines += [
            f"{split}: {counts.images:,} images ({counts.images_without_annotation:,} without an annotation), "
            f"{counts.annotations:,} annotations ({counts.crowds:,} crowds)",
            f"  instances an image: {least} to {largest}, median {median:g}",
            f"  masks: {counts.polygons:,} as polygons, {counts.uncompressed_run_lengths:,} as run lengths, "
            f"{counts.compressed_run_lengths:,} as compressed run lengths",
        ]
    for finding in report.findings:
        where = "" if finding.split is None else f"{finding.split}: "
        lines.append(f"{finding.severity}: {where}{finding.kind}: {finding.count:,}")
        lines += [textwrap.indent(case, "    ") for case in finding.offenders]
        if finding.count > len(finding.offenders):
            lines.append(f"    ... and {finding.count - len(finding.offenders):,} more")
    errors = sum(finding.severity == ERROR for finding in report.findings)
    warnings = len(report.findings) - errors
    summary = f"{errors} kinds of errors, {warnings} of warnings" if report.findings else "nothing was found"
    lines.append(f"Training {'can' if report.can_train else 'cannot'} start: {summary}.")
    return "\n".join(lines)


def _find_annotation_files(data_dir: Path, splits: Sequence[str]) -> tuple[dict[str, Path], list[Finding]]:
    files, missing = {}, {}
    for split in splits:
        try:
            files[split] = find_annotation_file(data_dir, split)
        except OSError as error:
            missing[split] = _printable(str(error))
    kind = "splits without an annotation file"
    return files, [
        Finding(split, ERROR if split == splits[0] else WARNING, kind, 1, (message,))
        for split, message in missing.items()
    ]


class _Findings:
    """The cases of one split and severity by kind. Only the first are kept: there may be hundreds of thousands."""

    def __init__(self, split: str | None, severity: str):
        self._split, self._severity = split, severity
        self._counts: Counter[str] = Counter()
        self._first: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, kind: str, *cases: str) -> None:
        for case in cases:
            self._counts[kind] += 1
            if len(self._first[kind]) < SHOWN:
                self._first[kind].append(_printable(case))

    def __iter__(self) -> Iterator[Finding]:
        for kind, count in self._counts.items():
            yield Finding(self._split, self._severity, kind, count, tuple(self._first[kind]))


def _printable(text: str) -> str:
    """JSON may hold half of a surrogate pair, which no terminal takes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _read_lists(annotation_file: Path, errors: _Findings) -> dict[str, list] | None:
    """The lists of an annotation file, their entries unchecked. `None` if one is missing: all else would follow."""
    try:
        content = read_json(annotation_file)
    except (OSError, ValueError) as error:
        errors.add("annotation files that cannot be read", str(error))
        return None
    lists = lists_of(content)
    missing = [name for name in FIELDS if name not in lists]
    if missing:
        found = (
            first_cases(sorted(map(repr, content))) if content and isinstance(content, dict) else type(content).__name__
        )
        message = f"{annotation_file} lacks {missing}: expected the lists {list(FIELDS)}, found {found}"
        errors.add("annotation files that lack a list", message)
        return None
    empty = [f"{name!r} of {annotation_file}" for name in ("images", "categories") if not lists[name]]
    errors.add("empty lists", *empty)
    return lists


def _count(content: dict[str, list]) -> Counts:
    images, annotations = (_mappings(content[name]) for name in ("images", "annotations"))
    per_image = dict.fromkeys((image["id"] for image in images if isinstance(image.get("id"), int)), 0)
    encodings, crowds = Counter(), 0
    for annotation in annotations:
        image_id, segmentation = annotation.get("image_id"), annotation.get("segmentation")
        if isinstance(image_id, int) and image_id in per_image:
            per_image[image_id] += 1
        if isinstance(segmentation, dict):
            encodings[type(segmentation.get("counts"))] += 1
        elif isinstance(segmentation, list):
            encodings["polygons"] += 1
        crowds += is_crowd(annotation)
    instances = list(per_image.values()) or [0]
    return Counts(
        images=len(content["images"]),
        annotations=len(content["annotations"]),
        images_without_annotation=sum(count == 0 for count in per_image.values()),
        polygons=encodings["polygons"],
        uncompressed_run_lengths=encodings[list],
        compressed_run_lengths=encodings[str],
        crowds=crowds,
        instances_per_image=(min(instances), float(np.median(instances)), max(instances)),
    )


def _check_entries(content: dict[str, list], errors: _Findings) -> dict[str, list[dict]]:
    """Checks the entries of every list by themselves. Returns the lists without the broken ones."""
    sound = {}
    for section, entries in content.items():
        faults = [entry_fault(section, entry) for entry in entries]
        sound[section] = [entry for entry, fault in zip(entries, faults) if fault is None]
        cases = [f"entry {index}: {fault}" for index, fault in enumerate(faults) if fault is not None]
        errors.add(f"missing or malformed fields in {section!r}", *cases)
        ids = Counter(entry["id"] for entry in _identified(entries))
        errors.add(f"duplicate ids in {section!r}", *[f"id {key}: {n} times" for key, n in ids.items() if n > 1])
    return sound


def _mappings(entries: list) -> list[dict]:
    return [entry for entry in entries if isinstance(entry, dict)]


def _identified(entries: list) -> list[dict]:
    return [entry for entry in _mappings(entries) if isinstance(entry.get("id"), int)]


def _vocabulary(
    content: dict[str, list], sound: dict[str, list[dict]], classes: dict[str, list[dict]]
) -> dict[str, dict[int, str]]:
    """Id -> name of the categories and of the attributes in `classes`, without a list that has a broken entry."""
    return {
        section: {entry["id"]: entry["name"] for entry in classes[section]}
        for section in ("categories", "attributes")
        if len(sound[section]) == len(content[section])
    }


def _check_names(sound: dict[str, list[dict]], errors: _Findings) -> None:
    """A model tells its categories by their names, and its attributes too: each name belongs to one id."""
    for section in ("categories", "attributes"):
        ids_of = defaultdict(list)
        for key, name in {entry["id"]: entry["name"] for entry in sound[section]}.items():
            ids_of[name].append(key)
        cases = [
            f"{name!r} of the ids {first_cases(ids)}: merge them under one id, or give them different names"
            for name, ids in ids_of.items()
            if len(ids) > 1
        ]
        errors.add(f"names in {section!r} that occur several times", *cases)


def _check_references(content: dict[str, list], sound: dict[str, list[dict]], errors: _Findings) -> None:
    # An entry that is broken otherwise still has its id, and what refers to it is not to blame.
    known = {section: _identified(entries) for section, entries in content.items()}
    for kind, cases in reference_problems(known | {"annotations": sound["annotations"]}).items():
        errors.add(kind, *cases)


def _check_crowds(annotations: list[dict], warnings: _Findings) -> None:
    crowds = sum(is_crowd(annotation) for annotation in annotations)
    if crowds > CROWD_SHARE * len(annotations):
        told = f"{crowds:,} of {len(annotations):,} annotations: {WHO_MAKES_CROWDS}"
        warnings.add("splits with many crowds, which are not learnt", told)


def _check_attributes(
    content: dict[str, list], sound: dict[str, list[dict]], warnings: _Findings, is_learnt: bool
) -> None:
    """Tools write attributes down in ways of their own, and what is not under `attribute_ids` is not learnt."""
    carries_any = any(annotation.get("attribute_ids") for annotation in _mappings(content["annotations"]))
    if is_learnt and sound["attributes"] and not carries_any:
        warnings.add("training splits whose annotations carry no attribute", f"none of {len(sound['attributes'])}")
    for annotation in sound["annotations"]:
        unread = annotation.get("attributes")
        if isinstance(unread, dict):
            # Also without what is said to be absent, or not said at all.
            unread = {name: value for name, value in unread.items() if value and name not in HOW_IT_IS_DRAWN}
        if unread and not annotation.get("attribute_ids"):
            case = f"annotation {annotation['id']}: {reprlib.repr(unread)}"
            warnings.add("annotations whose 'attributes' are not read: 'attribute_ids' are", case)


def _check_masks(sound: dict[str, list[dict]], errors: _Findings, warnings: _Findings) -> int:
    """Checks all masks. Returns how many annotations have nothing to teach, without those that are broken."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in sound["images"]}
    unlearnable = 0
    for annotation in sound["annotations"]:
        size = sizes.get(annotation["image_id"])
        may_have_pixels = size is None or _check_geometry(annotation, size, errors, warnings)
        unlearnable += is_crowd(annotation) or not may_have_pixels
    return unlearnable


def _told_unlearnable(count: int) -> str:
    expected = "expected at least one that is no crowd and whose mask has pixels"
    if not count:
        return f"{expected}, found no annotation: annotate some of the photos"
    return f"{expected}, found {count:,} annotations, all of them crowds or without a pixel ({WHO_MAKES_CROWDS})"


def _check_geometry(annotation: dict[str, Any], size: Size, errors: _Findings, warnings: _Findings) -> bool:
    """Checks the mask of an annotation, and what its box and area say about it. `False` for a mask without a pixel."""
    name = f"annotation {annotation['id']} of image {annotation['image_id']}"
    stated = annotation.get("bbox")
    fault = box_fault(stated)
    if fault:
        errors.add("malformed boxes", f"{name}: {fault}")
        stated = None
    segmentation = annotation["segmentation"]
    fault = segmentation_fault(segmentation, list(size))
    if fault:
        errors.add("segmentations that do not fit the format or their image", f"{name}: {fault}")
        return True  # it is broken, not empty
    if not segmentation:
        warnings.add("annotations without a mask (a box is not enough), which are dropped", name)
        return False
    if isinstance(segmentation, list):
        kept = [polygon for polygon in segmentation if encloses_area(polygon)]
        if len(kept) < len(segmentation):
            what = f"{len(kept)} of {len(segmentation)} polygons are left" + ("" if kept else ": it is dropped")
            warnings.add("degenerate polygons, which are dropped", f"{name}: {what}")
        if not kept:
            return False
        segmentation = kept
    mask = _Mask.measure(segmentation, size)
    box = None if stated is None else (stated[0], stated[1], stated[0] + stated[2], stated[1] + stated[3])
    _check_extent(name, mask, box, warnings)
    if mask.is_empty():
        warnings.add("masks without a pixel", name)
        return False
    _check_measures(name, mask, box, annotation.get("area"), warnings)
    return True


@dataclass(frozen=True)
class _Mask:
    """What is known of a mask: from its coordinates as long as that is enough, from its pixels where it is not."""

    segmentation: list | dict
    size: Size
    box: Box
    area: float

    @classmethod
    def measure(cls, segmentation: list | dict, size: Size) -> _Mask:
        if isinstance(segmentation, dict):
            rle = compressed_rle(segmentation, *size)
            x, y, width, height = coco_mask.toBbox(rle).tolist()
            return cls(rle, size, (x, y, x + width, y + height), int(coco_mask.area(rle)))
        polygons = [np.array(polygon, dtype=np.float64).reshape(-1, 2) for polygon in segmentation]
        points = polygons[0] if len(polygons) == 1 else np.concatenate(polygons)
        box = (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())
        return cls(segmentation, size, box, sum(map(_polygon_area, polygons)))

    @property
    def half_outline(self) -> float:
        return self.box[2] - self.box[0] + self.box[3] - self.box[1]

    def pixels(self) -> int:
        return int(coco_mask.area(compressed_rle(self.segmentation, *self.size)))

    def is_empty(self) -> bool:
        """Polygons that are a pixel thick all over cover pixels, unless they lie outside."""
        if isinstance(self.segmentation, dict):
            return self.area == 0
        may_be = self.area <= self.half_outline or _overhang(self.box, self.size) > 0
        return may_be and self.pixels() == 0

    def agrees_with_area(self, stated: float) -> bool:
        """Polygons that overlap, cross themselves or reach out of the image have another area than pixels."""
        is_possible = 0 <= stated <= LARGEST_SIDE**2  # and not NaN
        return is_possible and (self._is_near(stated, self.area) or self._is_near(stated, self.pixels()))

    def _is_near(self, stated: float, area: float) -> bool:
        return abs(stated - area) <= AREA_TOLERANCE * max(stated, area) + self.half_outline + 1


def _polygon_area(points: np.ndarray) -> float:
    """The shoelace formula, for points (n, 2)."""
    x, y = points[:, 0], points[:, 1]
    return abs(float(x[:-1] @ y[1:] - x[1:] @ y[:-1] + x[-1] * y[0] - x[0] * y[-1])) / 2


def _check_extent(name: str, mask: _Mask, box: Box | None, warnings: _Findings) -> None:
    outside = [
        f"{name}: {what} {_rounded(corners)} in {mask.size[1]} x {mask.size[0]}"
        for what, corners in (("mask", mask.box), ("box", box))
        if corners is not None and _overhang(corners, mask.size) > PIXEL_TOLERANCE
    ]
    kind = f"polygons or boxes that reach out of the image by more than {PIXEL_TOLERANCE:g} pixels"
    warnings.add(kind, *outside[:1])


def _check_measures(name: str, mask: _Mask, box: Box | None, area: float | None, warnings: _Findings) -> None:
    if box is not None:
        clipped, expected = _clip(box, mask.size), _clip(mask.box, mask.size)
        if max(abs(a - b) for a, b in zip(clipped, expected)) > PIXEL_TOLERANCE:
            kind = f"boxes that contradict their mask by more than {PIXEL_TOLERANCE:g} pixels"
            text = f"{name}: expected [x0, y0, x1, y1] {_rounded(expected)}, found {_rounded(clipped)}"
            warnings.add(kind, text)
    if area is not None and not mask.agrees_with_area(area):
        kind = f"areas that contradict their mask by more than {AREA_TOLERANCE:.0%}"
        warnings.add(kind, f"{name}: expected {mask.pixels()} pixels, found {reprlib.repr(area)}")


def _overhang(box: Box, size: Size) -> float:
    """By how many pixels a box reaches out of its image; negative inside."""
    return max(-box[0], -box[1], box[2] - size[1], box[3] - size[0])


def _clip(box: Box, size: Size) -> Box:
    height, width = size
    return tuple(min(max(value, 0), limit) for value, limit in zip(box, (width, height, width, height)))


def _rounded(box: Box) -> list[float]:
    return [round(value, 1) for value in box]


def _check_images(
    data_dir: Path,
    split: str,
    annotation_file: Path,
    images: list[dict[str, Any]],
    errors: _Findings,
    warnings: _Findings,
) -> None:
    if not images:
        return
    try:
        files = find_images(data_dir, split, annotation_file)
        missing = set(files.missing([image["file_name"] for image in images]))
    except (OSError, ValueError) as error:
        errors.add("image folders or archives that are not found", str(error))
        return
    gone = [image["file_name"] for image in images if image["file_name"] in missing]
    alike = [files.look_alike(name) for name in gone[:SHOWN]]  # each looks through a folder
    told = [repr(name) if other is None else f"{name!r} {other}" for name, other in zip(gone, alike)]
    errors.add("missing image files", *told, *map(repr, gone[SHOWN:]))
    outside = files.outside([image["file_name"] for image in images], data_dir)
    warnings.add("photos outside of the data set, with which it cannot be packed", *map(repr, outside))
    for image in images:
        name = image["file_name"]
        if name not in missing:
            photo = {"bytes": None, "path": files.url(name)}
            if fault := photo_fault(photo, image["width"], image["height"]):
                errors.add(fault[0], f"{name!r}: {fault[1]}")


def _check_listed_once(images: list[dict[str, Any]], warnings: _Findings) -> None:
    names = {image["id"]: tidy(image["file_name"]) for image in images}
    twice = [f"{name!r}: {count} times" for name, count in Counter(names.values()).items() if count > 1]
    warnings.add("photos that are listed several times, and would be learnt with a part of their objects", *twice)


def _compare_vocabularies(vocabularies: Mapping[str, Mapping[str, dict[int, str]]]) -> list[Finding]:
    """A model has one vocabulary, so that of every split has to be that of the first."""
    errors = _Findings(None, ERROR)
    first = next(iter(vocabularies), None)
    for split, vocabulary in vocabularies.items():
        for section in ("categories", "attributes"):
            if section in vocabulary and section in vocabularies[first]:
                different = different_names(vocabularies[first][section], vocabulary[section])
                cases = [f"id {key}: {one} in {first!r}, {other} in {split!r}" for key, one, other in different]
                errors.add(f"{section} that differ between {first!r} and {split!r}", *cases)
    return list(errors)
