"""Annotation and result files in Fashionpedia's format: read, and checked as a whole.

The format is COCO's, with an `attribute_ids` list on every annotation and an `attributes` list beside `categories`
(Jia et al., "Fashionpedia", ECCV 2020, https://github.com/cvdfoundation/fashionpedia). COCO's own files, which have
neither, are those of data without attributes. A file's own `categories` and `attributes` are its vocabulary, so ids are
kept as the file has them, sparse or not. What a training run would trip over later is checked while the file is read:
an error names every kind of problem, its count and its first cases.
"""

from __future__ import annotations

import json
import logging
import math
import mmap
import os
import re
import reprlib
import sys
from collections import Counter, defaultdict
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from ..configuration_fashion_detr import FashionDetrConfig
from ..masks_fashion_detr import LARGEST_SIDE, encloses_area, is_crowd, mask_runs
from ..ontology_fashion_detr import ATTRIBUTES, CATEGORIES

logger = logging.getLogger(__name__)

_RESULT_KEYS = ("image_id", "category_id", "segmentation", "score")
SHOWN = 5  # cases that a message names before it only counts
_ENTRY_FIELDS = {"id": int, "name": str, "supercategory": str | None}
FIELDS: dict[str, dict[str, Any]] = {  # the lists of a file, and the types in their entries
    "categories": _ENTRY_FIELDS,
    "attributes": _ENTRY_FIELDS,
    "images": {"id": int, "file_name": str, "width": int, "height": int},
    "annotations": {
        "id": int,
        "image_id": int,
        "category_id": int,
        "segmentation": list | dict,
        "attribute_ids": list | None,
        "bbox": list | None,
        "area": int | float | None,
        "iscrowd": bool | int | float | None,
    },
}
_INT64 = range(-(2**63), 2**63)  # what the columns of rows and the tensors of ids hold
_SURROGATE = re.compile("[\ud800-\udfff]")  # half of a character

_IMAGES = re.compile(rb'"images"\s*:\s*\[')
_FIRST_ENTRY = re.compile(rb"\s*\{(?:[^{}]|\{[^{}]*\})*\}")
_FILE_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')


@dataclass(frozen=True)
class Vocabulary:
    """Categories and attributes of a data set: (its id, name, super-category) each, sorted by id."""

    categories: tuple[tuple[int, str, str], ...]
    attributes: tuple[tuple[int, str, str], ...]

    @classmethod
    def fashionpedia(cls) -> Vocabulary:
        """Fashionpedia's 46 categories and 294 attributes."""
        categories = tuple((index, *category) for index, category in enumerate(CATEGORIES))
        return cls(categories=categories, attributes=ATTRIBUTES)

    @classmethod
    def of(cls, config: FashionDetrConfig) -> Vocabulary:
        """What a model knows."""
        kinds = (
            (config.category_ids, config.id2label, config.category_supercategories),
            (config.attribute_ids, config.id2attribute, config.attribute_supercategories),
        )
        return cls(
            *(
                tuple(sorted(zip(ids, (names[index] for index in range(len(ids))), groups or [""] * len(ids))))
                for ids, names, groups in kinds
            )
        )

    @classmethod
    def from_lists(cls, content: Mapping[str, Any]) -> Vocabulary:
        """Of `categories` and `attributes` as annotation files have them."""
        return cls(categories=_entries(content["categories"]), attributes=_entries(content["attributes"]))

    def lists(self) -> dict[str, list[dict[str, Any]]]:
        """`categories` and `attributes` as annotation files have them."""
        keys = ("id", "name", "supercategory")
        return {
            "categories": [dict(zip(keys, entry)) for entry in self.categories],
            "attributes": [dict(zip(keys, entry)) for entry in self.attributes],
        }

    def names_by_id(self) -> tuple[dict[int, str], dict[int, str]]:
        """The names of the categories and of the attributes, by their ids; behind one that several share is its id."""
        return _distinct_names(self.categories), _distinct_names(self.attributes)

    def config_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of `FashionDetrConfig`: contiguous index -> name, and index -> id in the data set."""
        category_ids, categories, category_supercategories = _columns(self.categories)
        attribute_ids, attributes, attribute_supercategories = _columns(self.attributes)
        return {
            "id2label": dict(enumerate(categories)),
            "label2id": {name: index for index, name in enumerate(categories)},
            "category_ids": category_ids,
            "category_supercategories": category_supercategories,
            "id2attribute": dict(enumerate(attributes)),
            "attribute_ids": attribute_ids,
            "attribute_supercategories": attribute_supercategories,
        }


def read_vocabulary(annotation_file: str | os.PathLike) -> Vocabulary:
    """The vocabulary of an annotation file. Raises ValueError for a file that is not in Fashionpedia's format."""
    content = read_annotations(Path(annotation_file))
    return Vocabulary.from_lists(without_heading(content))


def write_vocabulary_file(vocabulary: Vocabulary, file: str | os.PathLike) -> None:
    """The vocabulary as a JSON file of its own, in the form that annotation files have it in."""
    Path(file).write_text(json.dumps(vocabulary.lists(), indent=1), encoding="utf-8")


def read_vocabulary_file(file: str | os.PathLike) -> Vocabulary:
    """What `write_vocabulary_file` wrote. Raises FileNotFoundError, or ValueError for a file of another form."""
    content = read_json(Path(file))
    try:
        return Vocabulary.from_lists(content)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file} has to list 'categories' and 'attributes' with 'id' and 'name': {error!r}") from error


def first_image_name(annotation_file: Path) -> str:
    """Found by a search of the bytes: every load needs it, while half a gigabyte is parsed in the first load only."""
    with annotation_file.open("rb") as file:
        empty = annotation_file.stat().st_size == 0  # which mmap refuses
        content = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        images = _IMAGES.search(content)
        match = images and _FIRST_ENTRY.match(content, images.end())
        name = match and _FILE_NAME.search(match[0])
        if name:
            return json.loads(name[1])
    for image in read_annotations(annotation_file)["images"]:  # the bytes are of an unusual form
        return image["file_name"]
    raise ValueError(f"{annotation_file} lists no image: expected at least one entry in 'images'.")


def read_ground_truth(
    annotation_file: str | os.PathLike,
) -> tuple[Vocabulary, dict[int, tuple[tuple[int, int], list[dict[str, Any]]]]]:
    """An annotation file without its photos: the vocabulary, and image id -> ((height, width), annotations).

    Every image of the file is there, also one without an annotation; masks are compressed run lengths.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is broken; the message has every problem, its count and first cases.
    """
    annotation_file = Path(annotation_file)
    content = read_annotations(annotation_file)
    images = {image["id"]: ((image["height"], image["width"]), []) for image in content["images"]}
    for annotation in drop_degenerate_polygons(content["annotations"], annotation_file):
        size, annotations = images[annotation["image_id"]]
        rle = compressed_rle(annotation["segmentation"], *size)
        attribute_ids = annotation.get("attribute_ids") or []
        annotations.append(
            {
                "category_id": annotation["category_id"],
                "attribute_ids": attribute_ids,
                "segmentation": rle,
                "area": stated_area(annotation),
                "iscrowd": is_crowd(annotation),
            }
        )
    return Vocabulary.from_lists(without_heading(content)), images


def read_results(
    results_file: str | os.PathLike, vocabulary: Vocabulary, sizes: Mapping[int, tuple[int, int]]
) -> dict[int, list[dict[str, Any]]]:
    """A file of predictions in Fashionpedia's result format, checked as a whole: image id -> its predictions.

    The format is a JSON list of `{"image_id", "category_id", "attribute_ids", "segmentation", "score"}`, the masks as
    compressed or uncompressed run lengths of the image's size. Without `attribute_ids` it is COCO's own: a prediction
    that names none.

    Args:
        results_file: The file.
        vocabulary: The ids that may occur.
        sizes: Image id -> (height, width), of every image that may occur.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is broken; the message has every kind of problem, its count and first cases.
    """
    results_file = Path(results_file)
    entries = read_json(results_file)
    if not isinstance(entries, list):
        raise ValueError(f"{results_file} has to be a list of predictions, found {type(entries).__name__}.")
    category_ids = {entry[0] for entry in vocabulary.categories}
    attribute_ids = {entry[0] for entry in vocabulary.attributes}
    problems, results = defaultdict(list), defaultdict(list)
    for number, entry in enumerate(entries):
        fault = _result_fault(entry, category_ids, attribute_ids, sizes)
        if fault:
            kind, found = fault
            problems[kind].append(f"entry {number}: {found}")
        else:
            rle = compressed_rle(entry["segmentation"], *sizes[entry["image_id"]])
            named = entry.get("attribute_ids") or []
            kept = {key: entry[key] for key in ("category_id", "score")}  # other tools' files have keys of their own
            results[entry["image_id"]].append(kept | {"attribute_ids": named, "segmentation": rle})
    _refuse(results_file, problems)
    return dict(results)


def _result_fault(
    entry: Any, category_ids: set[int], attribute_ids: set[int], sizes: Mapping[int, tuple[int, int]]
) -> tuple[str, str] | None:
    """The first thing that is wrong with a prediction: its kind, and what was found."""
    if not isinstance(entry, dict):
        return "entries that are no mappings", reprlib.repr(entry)
    missing = [key for key in _RESULT_KEYS if key not in entry]
    if missing:
        return "missing keys", ", ".join(missing)
    if not _is_known(entry["image_id"], sizes):
        return "unknown image_id", reprlib.repr(entry["image_id"])
    if not _is_known(entry["category_id"], category_ids):
        return f"unknown category_id (expected {_span(category_ids)})", reprlib.repr(entry["category_id"])
    named = entry.get("attribute_ids")
    if not isinstance(named, list | None):
        return "attribute_ids that are no list", reprlib.repr(named)
    unknown = [value for value in named or [] if not _is_known(value, attribute_ids)]
    if unknown:
        return f"unknown attribute_ids (expected {_span(attribute_ids)})", reprlib.repr(unknown)
    score = entry["score"]
    if not are_numbers([score]):
        return "scores that are no finite number", reprlib.repr(score)
    if not isinstance(entry["segmentation"], dict):
        return "segmentations that are no run lengths", reprlib.repr(entry["segmentation"])
    fault = segmentation_fault(entry["segmentation"], list(sizes[entry["image_id"]]))
    return ("segmentations that do not fit the format or their image", fault) if fault else None


def _is_known(value: Any, known: Container) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in known


def different_names(one: Mapping[int, str], other: Mapping[int, str]) -> list[tuple[int, str, str]]:
    """The ids that two vocabularies name differently: an id, and what it is in either, "nothing" if not listed."""

    def told(key: int, names: Mapping[int, str]) -> str:
        return repr(names[key]) if key in names else "nothing"

    return [
        (key, told(key, one), told(key, other))
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    ]


def _distinct_names(entries: tuple[tuple[int, str, str], ...]) -> dict[int, str]:
    times = Counter(name for _, name, _ in entries)
    names = {}
    for key, name, _ in entries:
        while times[name] > 1:
            name = f"{name} ({key})"  # which another one may be called by itself
        names[key] = name
    return names


def _columns(entries: tuple[tuple[int, str, str], ...]) -> tuple[list[int], list[str], list[str]]:
    return tuple([entry[column] for entry in entries] for column in range(3))


def _entries(records: list[dict]) -> tuple[tuple[int, str, str], ...]:
    return tuple(sorted((record["id"], record["name"], record.get("supercategory") or "") for record in records))


def are_numbers(values: list, largest: float = sys.float_info.max) -> bool:
    """Whether all values are finite numbers that a float can hold, and none is larger, whatever its sign."""
    if not values or not set(map(type, values)) <= {int, float}:
        return not values
    # A NaN may hide from the comparisons, but not from the sum.
    return max(values) <= largest and min(values) >= -largest and not math.isnan(sum(map(float, values)))


def drop_degenerate_polygons(annotations: list[dict], annotation_file: Path) -> list[dict]:
    """Without polygons that enclose no area, and without the annotations that have no other polygon; warns of both.

    A few of them among hundreds of thousands of annotations are no reason to refuse a data set, but pycocotools would
    fail on them or, worse, take four numbers for a box.
    """
    kept, reduced, dropped, polygons = [], [], [], 0
    for annotation in annotations:
        segmentation = annotation["segmentation"]
        if isinstance(segmentation, list):
            valid = [polygon for polygon in segmentation if encloses_area(polygon)]
            polygons += len(segmentation) - len(valid)
            if not valid:
                dropped.append(annotation["id"])
                continue
            if len(valid) < len(segmentation):
                reduced.append(annotation["id"])
                annotation = annotation | {"segmentation": valid}
        kept.append(annotation)
    if reduced or dropped:
        logger.warning(
            f"{annotation_file}: dropped {polygons} degenerate polygons (fewer than three points, or an odd number of "
            f"coordinates). Annotations without a mask, which are dropped: {len(dropped)} of {len(annotations)} "
            f"(ids: {first_cases(dropped)}). Annotations that keep other polygons: {len(reduced)} "
            f"(ids: {first_cases(reduced)})."
        )
    return kept


def read_annotations(annotation_file: Path) -> dict[str, list[dict]]:
    """The four lists of an annotation file, checked."""
    content = read_json(annotation_file)
    lists = lists_of(content)
    missing = [name for name in FIELDS if name not in lists]
    if missing:
        found = first_cases(sorted(content)) if content and isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{annotation_file} lacks {missing}: expected the lists {list(FIELDS)}, found {found}.")
    for problems in (_entry_problems, reference_problems, _geometry_problems):  # each relies on the one before
        _refuse(annotation_file, problems(lists))
    return lists


def read_json(file: Path) -> Any:
    """A file's content in any of Unicode's encodings, whatever wrote it. Raises OSError, or ValueError if no JSON."""
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        size = file.stat().st_size
        message = f"{file} ({size:,} bytes) is not valid JSON, or an incomplete download: {error}"
        raise ValueError(message) from error


def lists_of(content: Any) -> dict[str, list]:
    """
    Those of a file's lists that it has. Plain COCO files have no attributes, and objects that only have a box have no
    mask: both are as good as empty lists.
    """
    sections = content if isinstance(content, dict) else {}
    if sections and sections.get("attributes") is None:
        sections = sections | {"attributes": []}
    lists = {name: sections[name] for name in FIELDS if isinstance(sections.get(name), list)}
    for annotation in lists.get("annotations", []):
        if isinstance(annotation, dict) and annotation.get("segmentation") is None:
            annotation["segmentation"] = []
    return lists


def without_heading(lists: dict[str, list[dict]]) -> dict[str, list[dict]]:
    """
    The lists without Roboflow's heading: category 0, the super-category "none" below which all others lie. Only one
    that is called like a class is left out, since then no model could tell them apart, and that no annotation means.
    """
    heading = next((one for one in lists["categories"] if type(one["id"]) is int and one["id"] == 0), None)
    others = [one for one in lists["categories"] if one is not heading]
    if (
        heading is None
        or heading.get("supercategory") != "none"
        or not any(one["name"] == heading["name"] for one in others)
        or not all(one.get("supercategory") == heading["name"] for one in others)
        or any(one.get("category_id") == 0 for one in lists["annotations"])
    ):
        return lists
    return lists | {"categories": others}


def stated_area(annotation: Mapping[str, Any]) -> float | None:
    """The area that an annotation states in pixels; `None` if it states none that can be, such as pandas' NaN."""
    area = annotation.get("area")
    return area if area is not None and 0 <= area < math.inf else None


def _refuse(annotation_file: Path, problems: dict[str, list]) -> None:
    """Raises ValueError if any kind of problem has a case."""
    lines = [f"- {kind}: {len(cases)} ({first_cases(cases)})" for kind, cases in problems.items() if cases]
    if lines:
        raise ValueError("\n".join([f"{annotation_file} cannot be used:", *lines]))


def _entry_problems(content: dict[str, list[dict]]) -> dict[str, list]:
    problems = {}
    for section in FIELDS:
        faults = [entry_fault(section, entry) for entry in content[section]]
        malformed = [f"entry {index}: {fault}" for index, fault in enumerate(faults) if fault]
        counts = Counter() if malformed else Counter(entry["id"] for entry in content[section])
        problems[f"missing or malformed fields in {section!r}"] = malformed
        problems[f"duplicate ids in {section!r}"] = [f"id {key}: {n} times" for key, n in counts.items() if n > 1]
    return problems


def entry_fault(section: str, entry: Any) -> str | None:
    """The first thing that is wrong with the fields of an entry."""
    if not isinstance(entry, dict):
        return f"expected a mapping, found {reprlib.repr(entry)}"
    name = f"id {reprlib.repr(entry.get('id'))}"
    for field, kind in FIELDS[section].items():
        value = entry.get(field)
        is_misplaced_bool = isinstance(value, bool) and field != "iscrowd"  # to Python a bool is an int as well
        if not isinstance(value, kind) or is_misplaced_bool:
            expected = getattr(kind, "__name__", kind)
            return f"{name}: expected {field!r} of type {expected}, found {reprlib.repr(value)}"
        if field == "file_name" and not has_whole_characters(value):
            return f"{name}: expected 'file_name' of whole characters, found {reprlib.repr(value)}"
        if isinstance(value, int) and value not in _INT64:
            return f"{name}: expected {field!r} from -2^63 to 2^63 - 1 (int64), found {reprlib.repr(value)}"
    if section == "images" and not all(1 <= entry[side] <= LARGEST_SIDE for side in ("width", "height")):
        found = f"{reprlib.repr(entry['width'])} x {reprlib.repr(entry['height'])}"
        return f"{name}: expected width x height from 1 to {LARGEST_SIDE} pixels, found {found}"
    attribute_ids = entry.get("attribute_ids") if section == "annotations" else None
    if any(isinstance(value, list | dict | bool) for value in attribute_ids or []):
        return f"{name}: expected 'attribute_ids' of numbers, found {reprlib.repr(entry['attribute_ids'])}"
    return None


def has_whole_characters(name: str) -> bool:
    """Python reads a file name that is no UTF-8 as halves of characters, and JSON can hold them too; rows cannot."""
    return _SURROGATE.search(name) is None


def reference_problems(content: dict[str, list[dict]]) -> dict[str, list]:
    problems = {}
    references = {"image_id": "images", "category_id": "categories", "attribute_ids": "attributes"}
    for field, section in references.items():
        known = {entry["id"] for entry in content[section]}
        problems[f"unknown {field} (expected {_span(known)})"] = [
            f"annotation {annotation['id']}: {reprlib.repr(value)}"
            for annotation in content["annotations"]
            for value in (annotation.get(field) or [] if field == "attribute_ids" else [annotation[field]])
            if value not in known
        ]
    return problems


def _geometry_problems(content: dict[str, list[dict]]) -> dict[str, list]:
    sizes = {image["id"]: [image["height"], image["width"]] for image in content["images"]}
    boxes, masks = [], []
    for annotation in content["annotations"]:
        name = f"annotation {annotation['id']} of image {annotation['image_id']}"
        fault = box_fault(annotation.get("bbox"))
        if fault:
            boxes.append(f"{name}: {fault}")
        fault = segmentation_fault(annotation["segmentation"], sizes[annotation["image_id"]])
        if fault:
            masks.append(f"{name}: {fault}")
    return {"malformed bboxes": boxes, "segmentations that do not fit the format or their image": masks}


def box_fault(box: list | None) -> str | None:
    """What is wrong with the box of an annotation, which need not have one."""
    if box is None or (len(box) == 4 and are_numbers(box)):
        return None
    return f"expected [x, y, width, height] in pixels, found {reprlib.repr(box)}"


def segmentation_fault(segmentation: list | dict, size: list[int]) -> str | None:
    """What is wrong with a mask, given its image's [height, width]; the rasteriser would crash on some of it."""
    if isinstance(segmentation, list):
        flat = all(
            isinstance(polygon, list) and not isinstance(next(iter(polygon), 0), list) for polygon in segmentation
        )
        if not flat:
            return f"expected polygons [[x1, y1, x2, y2, ...], ...], found {reprlib.repr(segmentation)}"
        for polygon in segmentation:
            if encloses_area(polygon) and not are_numbers(polygon, LARGEST_SIDE):
                return f"expected coordinates of at most {LARGEST_SIDE} pixels, found {reprlib.repr(polygon)}"
        return None
    counts = segmentation.get("counts")
    if not isinstance(counts, (list, str)):
        return f"expected an RLE's counts as a list or a string, found {reprlib.repr(counts)}"
    if segmentation.get("size") != size:
        return f"expected an RLE of its image's size [height, width] {size}, found {segmentation.get('size')}"
    try:
        mask_runs(segmentation)
    except ValueError as error:
        return str(error)
    return None


def compressed_rle(segmentation: list | dict, height: int, width: int) -> dict[str, Any]:
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    rle = {"size": [height, width], "counts": segmentation["counts"]}  # a file may write its size as 96.0
    return coco_mask.frPyObjects(rle, height, width) if isinstance(rle["counts"], list) else rle


def _span(ids: set[int]) -> str:
    return f"one of the {len(ids)} ids from {min(ids)} to {max(ids)}" if ids else "none: the file lists no ids"


def first_cases(cases: list, shown: int = SHOWN) -> str:
    """The first cases, and a sign that there are more."""
    return ", ".join(map(str, cases[:shown])) + (", ..." if len(cases) > shown else "")
