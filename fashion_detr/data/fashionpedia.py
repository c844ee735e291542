"""Splits of data sets in Fashionpedia's layout, as rows of a `datasets.Dataset`."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Image, List, NamedSplit, Value
from datasets.exceptions import DatasetGenerationError
from pycocotools import mask as coco_mask

from . import annotations as annotations_module
from .annotations import compressed_rle, drop_degenerate_polygons, first_cases, read_annotations

FEATURES = Features(
    {
        "image": Image(),
        "image_id": Value("int64"),
        "file_name": Value("string"),
        "width": Value("int32"),
        "height": Value("int32"),
        "objects": List(
            {
                "id": Value("int64"),
                "category_id": Value("int64"),
                "attribute_ids": List(Value("int64")),
                "bbox": List(Value("float32"), length=4),
                "area": Value("float64"),
                "iscrowd": Value("bool"),
                # One encoding is set, the others are None: polygons, uncompressed RLE (counts) or compressed RLE (rle).
                "segmentation": {
                    "polygons": List(List(Value("float64"))),
                    "counts": List(Value("int64")),
                    "rle": Value("string"),
                    "size": List(Value("int32")),
                },
            }
        ),
    }
)

_FILE_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')


def find_split(data_dir: str | os.PathLike, split: str) -> tuple[Path, Path]:
    """The annotation file of a split and the folder that holds the first image it lists.

    Raises FileNotFoundError with what was looked for and what is there.
    """
    data_dir = Path(data_dir).absolute()
    names = (f"instances_attributes_{split}2020.json", f"instances_attributes_{split}.json")
    files = [folder / name for folder in (data_dir, data_dir / "annotations") for name in names]
    annotation_file = next((file for file in files if file.is_file()), None)
    if annotation_file is None:
        raise FileNotFoundError(_not_found(f"annotation file of split {split!r}", files, data_dir))

    # The official val images come with the test images, in val_test2020.zip, whose folder is test.
    names = (split, f"{split}2020", f"images/{split}", "images", *(["test"] if split == "val" else []), ".")
    folders = [data_dir / name for name in names]
    image_name = _first_image_name(annotation_file)
    image_folder = next((folder for folder in folders if (folder / image_name).is_file()), None)
    if image_folder is None:
        what = f"folder with {image_name!r}, the first image of {annotation_file}"
        raise FileNotFoundError(_not_found(what, folders, data_dir))
    return annotation_file, image_folder


def load_fashionpedia(data_dir: str | os.PathLike, split: str) -> Dataset:
    """The rows of a split, one per image (also of images without an object), with the columns of `FEATURES`.

    Images are decoded when a row is read, so a file whose size differs from the one listed is the consumer's to notice.
    The rows are cached by the content of the annotation file; its checks, and the warning about dropped annotations,
    come when the content is read first.

    Raises:
        FileNotFoundError: no such split, or image files are missing.
        ValueError: the annotation file is broken; the message has every problem, its count and first cases.
    """
    annotation_file, image_folder = find_split(data_dir, split)
    try:
        dataset = Dataset.from_generator(
            _generate_rows,
            features=FEATURES,
            gen_kwargs={"annotation_file": annotation_file, "image_folder": image_folder},
            split=NamedSplit(split),
            fingerprint=_fingerprint(annotation_file, image_folder, split),
        )
    except DatasetGenerationError as error:
        raise error.__cause__ from None  # the wrapper says only that generating failed
    _check_image_files(dataset["file_name"][:], image_folder, annotation_file)
    return dataset


def fashionpedia_annotations(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A row's objects as Fashionpedia's own annotations: the file's ids and masks, bbox [x, y, w, h] in pixels."""
    return [
        {
            **{name: found[name] for name in ("id", "category_id", "attribute_ids", "bbox", "area")},
            "image_id": row["image_id"],
            "iscrowd": int(found["iscrowd"]),
            "segmentation": _decode_segmentation(found["segmentation"]),
        }
        for found in row["objects"]
    ]


def _first_image_name(annotation_file: Path) -> str:
    """Found by a search of the bytes: every load needs it, while half a gigabyte is parsed in the first load only."""
    with annotation_file.open("rb") as file:
        empty = annotation_file.stat().st_size == 0  # which mmap refuses
        match = None if empty else _FILE_NAME.search(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if match:
            return json.loads(match[1])
    read_annotations(annotation_file)
    raise ValueError(f"{annotation_file} lists no image: expected at least one entry in 'images'.")


def _fingerprint(annotation_file: Path, image_folder: Path, split: str) -> str:
    """Name of the cached rows: what they are made of, this module's source included.

    `datasets` by itself hashes the path of the annotation file and the name of the generator, so edits of either would
    bring back the old rows.
    """
    digest = hashlib.sha256(f"{image_folder}\n{split}".encode())
    for file in (annotation_file, Path(__file__), Path(annotations_module.__file__)):
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:32]


def _generate_rows(annotation_file: Path, image_folder: Path) -> Iterator[dict[str, Any]]:
    content = read_annotations(annotation_file)
    annotations_of = defaultdict(list)
    for annotation in drop_degenerate_polygons(content.pop("annotations"), annotation_file):
        annotations_of[annotation["image_id"]].append(annotation)
    for image in content["images"]:
        yield {
            "image": str(image_folder / image["file_name"]),
            "image_id": image["id"],
            "file_name": image["file_name"],
            "width": image["width"],
            "height": image["height"],
            "objects": [_encode_object(annotation, image) for annotation in annotations_of.pop(image["id"], [])],
        }


def _encode_object(annotation: dict[str, Any], image: dict[str, Any]) -> dict[str, Any]:
    bbox, area = annotation.get("bbox"), annotation.get("area")
    if bbox is None or area is None:
        rle = compressed_rle(annotation["segmentation"], image["height"], image["width"])
        bbox = coco_mask.toBbox(rle).tolist() if bbox is None else bbox
        area = coco_mask.area(rle) if area is None else area
    return {
        "id": annotation["id"],
        "category_id": annotation["category_id"],
        "attribute_ids": annotation.get("attribute_ids") or [],
        "bbox": bbox,
        "area": area,
        "iscrowd": bool(annotation.get("iscrowd")),
        "segmentation": _encode_segmentation(annotation["segmentation"]),
    }


def _encode_segmentation(segmentation: list | dict) -> dict[str, Any]:
    encoded = {"polygons": None, "counts": None, "rle": None, "size": None}
    if isinstance(segmentation, list):
        return encoded | {"polygons": segmentation}
    encoding = "rle" if isinstance(segmentation["counts"], str) else "counts"
    return encoded | {encoding: segmentation["counts"], "size": segmentation["size"]}


def _decode_segmentation(encoded: dict[str, Any]) -> list[list[float]] | dict[str, Any]:
    if encoded["polygons"] is not None:
        return encoded["polygons"]
    return {"size": encoded["size"], "counts": encoded["counts"] if encoded["rle"] is None else encoded["rle"]}


def _check_image_files(file_names: list[str], image_folder: Path, annotation_file: Path) -> None:
    missing = [name for name in file_names if not os.path.isfile(os.path.join(image_folder, name))]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(file_names)} images of {annotation_file} are missing in {image_folder}: "
            f"{first_cases(missing)}"
        )


def _not_found(what: str, candidates: Iterable[Path], data_dir: Path) -> str:
    entries = sorted(os.listdir(data_dir)) if data_dir.is_dir() else ["no such folder"]
    looked_for = "\n".join(f"  {path}" for path in candidates)
    return f"No {what}. Looked for:\n{looked_for}\nFound in {data_dir}: {first_cases(entries, shown=20)}"
