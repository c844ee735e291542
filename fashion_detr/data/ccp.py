"""Clothing Co-Parsing (CCP) as a data set in Fashionpedia's format: 800 street photos for development and benchmarks.

CCP (Yang, Luo and Lin, "Clothing Co-Parsing by Joint Image Segmentation and Labeling", CVPR 2014,
https://github.com/bearpaw/clothing-co-parsing, Apache-2.0) names what every pixel of 1,004 photos shows, by one of 59
labels. Labels become Fashionpedia's categories, some of them an attribute as well, and the lengths of garments are
measured on their masks. Parts of garments, layers under other layers and all other attributes are not annotated.
"""

import json
import logging
import os
import shutil
from bisect import bisect_right
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy import ndimage
from scipy.io import loadmat

from ..masks_fashion_detr import encode_mask
from ..ontology_fashion_detr import ATTRIBUTES, CATEGORIES
from ..photos_fashion_detr import open_image, to_rgb
from .annotations import Vocabulary, first_cases

logger = logging.getLogger(__name__)

REPOSITORY = "https://github.com/bearpaw/clothing-co-parsing"
ADVICE = f"Expected a clone of CCP's repository: git clone {REPOSITORY}"

# The numbers of a split's photos. A number is a photo's image id too. The other 204 photos with a label map are unused.
SPLITS = {"train": range(1, 701), "val": range(701, 801)}

# A label's category, and the attribute that the label states by itself.
LABELS: dict[str, tuple[str, str | None]] = {
    "shirt": ("shirt, blouse", None),
    "blouse": ("shirt, blouse", None),
    "t-shirt": ("top, t-shirt, sweatshirt", "classic (t-shirt)"),
    "top": ("top, t-shirt, sweatshirt", None),
    "sweatshirt": ("top, t-shirt, sweatshirt", None),
    "hoodie": ("top, t-shirt, sweatshirt", "hoodie"),
    "bodysuit": ("top, t-shirt, sweatshirt", None),  # a top, as far as trousers or a skirt show it
    "sweater": ("sweater", None),
    "jumper": ("sweater", None),  # British English: a knitted pullover
    "cardigan": ("cardigan", None),
    "jacket": ("jacket", None),
    "blazer": ("jacket", "blazer"),
    "vest": ("vest", None),
    "pants": ("pants", None),
    "jeans": ("pants", "jeans"),
    "leggings": ("pants", "leggings"),
    "shorts": ("shorts", None),
    "skirt": ("skirt", None),
    "coat": ("coat", None),
    "dress": ("dress", None),
    "romper": ("jumpsuit", None),  # CCP uses it for long ones as well
    "cape": ("cape", None),
    "glasses": ("glasses", None),
    "sunglasses": ("glasses", None),
    "hat": ("hat", None),
    "tie": ("tie", None),
    "gloves": ("glove", None),
    "watch": ("watch", None),
    "belt": ("belt", None),
    "stockings": ("tights, stockings", None),
    "tights": ("tights, stockings", None),
    "socks": ("sock", None),
    "shoes": ("shoe", None),
    "boots": ("shoe", None),
    "clogs": ("shoe", None),
    "flats": ("shoe", None),
    "heels": ("shoe", None),
    "loafers": ("shoe", None),
    "pumps": ("shoe", None),
    "sandals": ("shoe", None),
    "sneakers": ("shoe", None),
    "wedges": ("shoe", None),
    "bag": ("bag, wallet", None),
    "purse": ("bag, wallet", None),
    "wallet": ("bag, wallet", None),
    "scarf": ("scarf", None),
}
# Labels without an instance: the person, and what Fashionpedia has no category for. A suit is its jacket in some photos
# and jacket and trousers under one label in others, and accessories can be anything.
UNUSED_LABELS = frozenset(
    ("null", "skin", "hair", "suit", "accessories", "bracelet", "earrings", "necklace", "ring")
    + ("bra", "intimate", "panties", "swimwear")
)

# Garments whose length is an attribute, and the lengths by where the hem ends: below (exclusive) which share of the
# person's height, counted from the top. One scale for all: a jacket and a skirt that end together are equally long.
HEMMED = frozenset(("jacket", "pants", "shorts", "skirt", "coat", "dress"))
LENGTHS: tuple[tuple[float, str], ...] = (
    (0.42, "above-the-hip (length)"),
    (0.50, "hip (length)"),
    (0.55, "micro (length)"),
    (0.60, "mini (length)"),
    (0.66, "above-the-knee (length)"),
    (0.72, "knee (length)"),
    (0.77, "below the knee (length)"),
    (0.86, "midi"),
    (0.94, "maxi (length)"),
    (float("inf"), "floor (length)"),
)

# Fashionpedia annotates these one by one, while a label map has both under one label: each of the two largest connected
# pieces is an instance. A third one is what a strap or a trouser leg cut off; shoes that touch remain one instance.
PAIRED = frozenset(("glove", "sock", "shoe"))
MIN_AREA = 64  # pixels of an instance; less is a stray superpixel

_CATEGORY_IDS = {name: index for index, (name, _) in enumerate(CATEGORIES)}
_ATTRIBUTE_IDS = {name: key for key, name, _ in ATTRIBUTES}
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=int)

Mask = NDArray[np.bool_]
# Category id, attribute ids, mask of the photo's (height, width).
Instance = tuple[int, list[int], Mask]


def convert_ccp(clone: Path, output: Path) -> dict[str, tuple[int, int]]:
    """Writes a clone of CCP's repository as a data set that `load_fashionpedia(output, split)` reads.

    Photos 1 to 700 are for training, 701 to 800 for validation, whatever else is there: what a clone lacks is left
    out, with a warning, and no photo changes sides. A split without any photo gets no file. Photos are copied as they
    are to `output/images`; the annotation files come last, when everything before has succeeded.

    Args:
        clone: Folder with `photos`, `annotations/pixel-level` and `label_list.mat`.
        output: A folder that is empty or does not exist yet.

    Returns:
        Split -> (images, annotations) written.

    Raises:
        FileNotFoundError: `clone` is no clone of the repository, or lacks the photo of a label map.
        ValueError: `output` has files in it, a photo or a label map cannot be read, or they do not fit each other.
    """
    clone, output = Path(clone), Path(output)
    _check_output(output)
    labels = _read_labels(clone)
    contents = {}
    for split, numbers in SPLITS.items():
        found = [number for number in numbers if _label_map_file(clone, number).is_file()]
        if len(found) < len(numbers):
            logger.warning(
                f"{clone} has label maps of {len(found)} of the {len(numbers)} photos of split {split!r}: figures on "
                "it do not compare with those on all of them."
            )
        if found:
            contents[split] = _annotate(clone, found, labels)
    if not contents:
        folder = _label_map_file(clone, 1).parent
        raise FileNotFoundError(f"{folder} has no label map of any split, such as 0001.mat. {ADVICE}")
    _write(contents, clone, output)
    return {split: (len(content["images"]), len(content["annotations"])) for split, content in contents.items()}


def find_instances(label_map: NDArray[np.integer], labels: list[str]) -> list[Instance]:
    """The instances of a label map, by category, then attribute that the label states, then size within a pair.

    Labels of one category and attribute are one instance (a bag and a purse, a shirt and a blouse: rare, and mostly a
    change of mind within one garment); jeans with other pants, or a hoodie over a t-shirt, are two.

    Args:
        label_map: `(height, width)`, values index `labels`.
        labels: Names from `LABELS` and `UNUSED_LABELS`, of which "null" is the background.
    """
    groups: dict[tuple[str, str | None], list[int]] = {}
    for value in np.unique(label_map):
        if labels[value] in LABELS:
            groups.setdefault(LABELS[labels[value]], []).append(value)
    instances = []
    for category, nickname in sorted(groups, key=_rank):
        mask = np.isin(label_map, groups[category, nickname])
        for piece in _two_largest_pieces(mask) if category in PAIRED else [mask]:
            if piece.sum() < MIN_AREA:
                continue
            names = [] if nickname is None else [nickname]
            if category in HEMMED:
                names.append(hem_length(piece, person=label_map != labels.index("null")))
            instances.append((_CATEGORY_IDS[category], sorted(_ATTRIBUTE_IDS[name] for name in names), piece))
    return instances


def hem_length(garment: Mask, person: Mask) -> str:
    """The name of the length attribute of a garment, by where its lowest pixel lies on the person.

    Args:
        garment: `(height, width)`, inside `person`, not empty.
        person: `(height, width)`, everything that is labelled: from the top of hair or hat to the shoes, as a rule.
    """
    top, bottom = _rows(person)
    _, hem = _rows(garment)
    bounds = [bound for bound, _ in LENGTHS]
    return LENGTHS[bisect_right(bounds, (hem - top) / (bottom - top))][1]


def _rows(mask: Mask) -> tuple[int, int]:
    """The first row of a mask, and the one after its last."""
    rows = np.flatnonzero(mask.any(axis=1))
    return int(rows[0]), int(rows[-1]) + 1


def _rank(group: tuple[str, str | None]) -> tuple[int, int]:
    category, nickname = group
    return _CATEGORY_IDS[category], -1 if nickname is None else _ATTRIBUTE_IDS[nickname]


def _two_largest_pieces(mask: Mask) -> list[Mask]:
    pieces, _ = ndimage.label(mask, _EIGHT_NEIGHBOURS)
    areas = np.bincount(pieces.ravel())[1:]
    largest = np.argsort(-areas, kind="stable")[:2] + 1
    return [pieces == number for number in largest]


def _annotate(clone: Path, numbers: list[int], labels: list[str]) -> dict[str, Any]:
    """The content of a split's annotation file; every photo is decoded once, to know that it can be."""
    images, annotations = [], []
    for number in numbers:
        label_map = _read_label_map(_label_map_file(clone, number), labels)
        photo = _photo_file(clone, number)
        _check_photo(photo, label_map)
        height, width = label_map.shape
        images.append({"id": number, "file_name": photo.name, "width": width, "height": height, "license": 1})
        for category_id, attribute_ids, mask in find_instances(label_map, labels):
            rle = encode_mask(mask)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category_id,
                    "attribute_ids": attribute_ids,
                    "segmentation": rle,
                    "bbox": coco_mask.toBbox(rle).tolist(),
                    "area": float(coco_mask.area(rle)),
                    "iscrowd": 0,
                }
            )
    return {
        "info": {
            "description": "Clothing Co-Parsing in Fashionpedia's format",
            "version": "1.0",
            "url": REPOSITORY,
        },
        "licenses": [{"id": 1, "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}],
        "images": images,
        "annotations": annotations,
        **Vocabulary.fashionpedia().lists(),
    }


def _write(contents: dict[str, dict[str, Any]], clone: Path, output: Path) -> None:
    """Photos first; the annotation files get their names when all of them are complete."""
    folder = output / "images"
    folder.mkdir(parents=True, exist_ok=True)
    for content in contents.values():
        for image in content["images"]:
            shutil.copyfile(clone / "photos" / image["file_name"], folder / image["file_name"])
    files = {split: output / f"instances_attributes_{split}.json" for split in contents}
    for split, file in files.items():
        file.with_suffix(".incomplete").write_text(json.dumps(contents[split]), encoding="utf-8")
    for file in files.values():
        os.replace(file.with_suffix(".incomplete"), file)


def _label_map_file(clone: Path, number: int) -> Path:
    return clone / "annotations" / "pixel-level" / f"{number:04d}.mat"


def _photo_file(clone: Path, number: int) -> Path:
    return clone / "photos" / f"{number:04d}.jpg"


def _check_output(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file: expected the folder that the data set is to be written to.")
    entries = sorted(os.listdir(output)) if output.is_dir() else []
    if entries:
        raise ValueError(
            f"{output} is not empty ({first_cases(entries)}): name a new folder, or remove what an earlier conversion "
            "left there."
        )


def _read_labels(clone: Path) -> list[str]:
    """The names of the labels, by their values in the label maps."""
    folders = (clone / "photos", clone / "annotations" / "pixel-level")
    files = (clone / "label_list.mat", clone / "annotations" / "label_list.mat")
    missing = [str(folder.relative_to(clone)) for folder in folders if not folder.is_dir()]
    file = next((file for file in files if file.is_file()), None)
    if missing or file is None:
        lacking = missing + ([] if file else ["label_list.mat"])
        entries = sorted(os.listdir(clone)) if clone.is_dir() else ["no such folder"]
        raise FileNotFoundError(f"{clone} lacks {', '.join(lacking)} (found: {first_cases(entries)}). {ADVICE}")
    labels = [str(name) for name in np.ravel(_read_variable(file, "label_list"))]
    unknown = [name for name in labels if name not in LABELS and name not in UNUSED_LABELS]
    if unknown or "null" not in labels:
        found = f"unknown labels {first_cases(unknown)}" if unknown else "no label 'null'"
        raise ValueError(f"{file}: {found}. Expected the names of CCP's 59 labels.")
    return labels


def _read_label_map(file: Path, labels: list[str]) -> NDArray[np.integer]:
    label_map = _read_variable(file, "groundtruth")
    if not isinstance(label_map, np.ndarray) or label_map.ndim != 2 or not np.issubdtype(label_map.dtype, np.integer):
        found = f"{label_map.dtype} of shape {label_map.shape}" if isinstance(label_map, np.ndarray) else label_map
        raise ValueError(f"{file}: expected 'groundtruth' as integers of shape (height, width), found {found}.")
    if label_map.size and not 0 <= label_map.min() <= label_map.max() < len(labels):
        raise ValueError(
            f"{file}: expected labels from 0 to {len(labels) - 1}, found {label_map.min()} to {label_map.max()}."
        )
    return label_map


def _read_variable(file: Path, name: str) -> Any:
    try:
        content = loadmat(file, simplify_cells=True)
    except Exception as error:  # of many types, from zlib.error to TypeError: a cut file fails wherever it was cut
        raise ValueError(f"{file} cannot be read as a MATLAB file: {error}. Is the clone complete?") from error
    if name not in content:
        variables = [key for key in content if not key.startswith("__")]
        raise ValueError(f"{file} has no variable {name!r}, found: {first_cases(variables) or 'none'}.")
    return content[name]


def _check_photo(photo: Path, label_map: NDArray[np.integer]) -> None:
    if not photo.is_file():
        raise FileNotFoundError(f"{photo} is missing, but its label map is there. Is the clone complete?")
    width, height = to_rgb(open_image(photo)).size
    if (height, width) != label_map.shape:
        raise ValueError(
            f"{photo} is {width} x {height} pixels, but its label map {label_map.shape[1]} x {label_map.shape[0]} "
            "(width x height): expected the photo as CCP publishes it."
        )
