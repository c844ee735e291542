"""Splits of data sets in Fashionpedia's layout, as rows of a `datasets.Dataset`."""

import glob
import hashlib
import inspect
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, Image, IterableDataset, List, NamedSplit, Value
from datasets.exceptions import DatasetGenerationError
from pycocotools import mask as coco_mask

from ..masks_fashion_detr import is_crowd, unpacked_segmentation
from .annotations import (
    Vocabulary,
    compressed_rle,
    drop_degenerate_polygons,
    first_cases,
    read_annotations,
    read_vocabulary,
    read_vocabulary_file,
    stated_area,
    write_vocabulary_file,
)
from .images import ImageFiles, find_annotation_file, find_images, open_photo, photo_fault

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

PARQUET_FOLDER = "data"
VOCABULARY_FILE = "vocabulary.json"
ROWS_PER_FILE = 1000
# While a file is written its photos are in memory several times; more than 2 GB are too many for Arrow's offsets.
BYTES_PER_FILE = 200_000_000


def find_split(data_dir: str | os.PathLike, split: str) -> tuple[Path, ImageFiles]:
    """The annotation file of a split, and where the images are that it lists: in a folder, or in an official archive.

    Raises FileNotFoundError with what was looked for and what is there.
    """
    data_dir = Path(data_dir).absolute()
    annotation_file = find_annotation_file(data_dir, split)
    return annotation_file, find_images(data_dir, split, annotation_file)


def read_split_vocabulary(data_dir: str | os.PathLike, split: str) -> Vocabulary:
    """The vocabulary of a split, from its annotation file or beside its parquet files.

    Raises FileNotFoundError for a split that is not there, ValueError for a broken file or an incomplete set of parquet
    files.
    """
    if _parquet_files(data_dir, split):
        return read_vocabulary_file(Path(data_dir) / VOCABULARY_FILE)
    return read_vocabulary(find_split(data_dir, split)[0])


def load_fashionpedia(data_dir: str | os.PathLike, split: str) -> Dataset:
    """The rows of a split, one per image (also of images without an object), with the columns of `FEATURES`.

    Images are decoded when a row is read, so a file whose size differs from the one listed is the consumer's to notice.
    The rows are cached by the content of the annotation file; its checks, and the warning about dropped annotations,
    come when the content is read first. What `save_parquet` wrote is read as well.

    Raises:
        FileNotFoundError: no such split, or image files are missing.
        ValueError: the annotation file is broken; the message has every problem, its count and first cases. Or the
            parquet files are no complete set; the message has their names.
    """
    if parquet_files := _parquet_files(data_dir, split):
        _require_whole(parquet_files)
        files = _as_patterns(parquet_files)
        return Dataset.from_parquet(files, split=_named_split(split), features=FEATURES)
    annotation_file, images = find_split(data_dir, split)
    try:
        dataset = Dataset.from_generator(
            _generate_rows,
            features=FEATURES,
            gen_kwargs={"annotation_file": annotation_file, "images": images},
            split=_named_split(split),
            fingerprint=_fingerprint(annotation_file, images, split),
        )
    except DatasetGenerationError as error:
        raise error.__cause__ from None  # the wrapper says only that generating failed
    _check_image_files(dataset["file_name"][:], images, annotation_file)
    return dataset


def stream_fashionpedia(data_dir: str | os.PathLike, split: str) -> IterableDataset:
    """The rows of `load_fashionpedia` one after the other, without a cache on disk.

    Raises what it raises, but for photos that are missing, which reading them finds.
    """
    if parquet_files := _parquet_files(data_dir, split):
        _require_whole(parquet_files)
        files = _as_patterns(parquet_files)
        return IterableDataset.from_parquet(files, split=_named_split(split), features=FEATURES)
    annotation_file, images = find_split(data_dir, split)
    return IterableDataset.from_generator(
        _generate_rows,
        features=FEATURES,
        gen_kwargs={"annotation_file": annotation_file, "images": images},
        split=_named_split(split),
    )


def _named_split(split: str) -> NamedSplit:
    """
    `datasets` takes only letters, digits and underscores, and `all` for all splits; files are named by what the split
    is called.
    """
    return NamedSplit("all_" if split == "all" else re.sub(r"\W", "_", split))


def _as_patterns(files: Sequence[Path]) -> list[str]:
    """Files as `datasets` takes them, which would look for others by brackets and stars in their paths."""
    return [glob.escape(str(file)) for file in files]


def _require_whole(files: Sequence[Path]) -> None:
    """Raises ValueError for what is no parquet file, or lacks a column: `datasets` would not say which file it was."""
    for file in files:
        try:
            columns = set(pq.read_schema(file).names)
        except (OSError, pa.ArrowException) as error:
            raise ValueError(
                f"{file} is no complete parquet file: {error}. Download it again; with git, after `git lfs install`."
            ) from error
        if missing := sorted(set(FEATURES) - columns):
            raise ValueError(f"{file} has no column {', '.join(missing)}: it is not what `save_parquet` writes.")


def save_parquet(
    data_dir: str | os.PathLike, split: str, output: str | os.PathLike, also: Sequence[str] = ()
) -> list[Path]:
    """
    Writes a split as parquet files that need nothing else: the photos' own bytes are inside.

    The folder has the layout of a data set on the Hub (`data/train-00000-of-00046.parquet`), and the vocabulary beside
    it; `load_fashionpedia` and `datasets.load_dataset` read it (the latter, splits named by letters, digits and
    underscores), `huggingface_hub` uploads it. Files of this split that the folder had before are replaced when all new
    ones are written; those of other splits stay. `also` names the splits that the caller packs into it as well.

    Raises what `load_fashionpedia` raises, and ValueError for a folder that holds splits of another vocabulary, or the
    data set itself, for photos that cannot be read or have another size than listed, and for files outside of the data
    set, which are not meant for others.
    """
    output = Path(output)
    folder, vocabulary_file = output / PARQUET_FOLDER, output / VOCABULARY_FILE
    if output.resolve() == Path(data_dir).resolve() and not _parquet_files(data_dir, split):
        raise ValueError(f"{output} is the data set itself, whose annotation files would no longer be read.")
    for place in (*output.parents, output, folder):
        if place.exists() and not place.is_dir():
            raise ValueError(f"{place} is a file, and has to be a folder: name another one.")
    if vocabulary_file.is_dir():
        raise ValueError(f"{vocabulary_file} is a folder, and has to be a file: name another place.")
    rows = load_fashionpedia(data_dir, split).cast_column("image", Image(decode=False))
    _require_sound_photos(rows, data_dir, split)
    vocabulary = read_split_vocabulary(data_dir, split)
    for other in also:
        _require_same_vocabulary(vocabulary, split, read_split_vocabulary(data_dir, other), f"split {other!r}")
    replaced = {file for one in (split, *also) for file in _parts(folder, one)}
    if set(folder.glob("*.parquet")) - replaced and vocabulary_file.is_file():
        before = f"what was packed into {output} before: name another folder, or delete that one"
        _require_same_vocabulary(vocabulary, split, read_vocabulary_file(vocabulary_file), before)
    folder.mkdir(parents=True, exist_ok=True)
    # Beside the old files, so that a move replaces one in no time, and in a hidden folder, which nothing reads.
    with TemporaryDirectory(dir=folder, prefix=".packing-") as unfinished:
        written = _write_parts(rows, split, Path(unfinished))
        stale = _parts(folder, split)
        files = [file.replace(folder / file.name) for file in written]
    for file in stale.keys() - set(files):
        file.unlink()
    write_vocabulary_file(vocabulary, vocabulary_file)
    return files


def _require_sound_photos(rows: Dataset, data_dir: str | os.PathLike, split: str) -> None:
    """Nobody looks again at what is packed; rows have undecoded images."""
    if not _parquet_files(data_dir, split):
        images = find_split(data_dir, split)[1]
        if outside := images.outside(rows["file_name"][:], data_dir):
            raise ValueError(
                f"{len(outside)} photos of split {split!r} lie outside of {data_dir}, and packing would hand on files "
                f"that may not be meant for it: {first_cases(list(map(repr, outside)))}. Move them into it."
            )
    faults = []
    for row in rows:
        if fault := photo_fault(row["image"], row["width"], row["height"]):
            faults.append(f"{row['file_name']!r}: {fault[1]}")
    if faults:
        raise ValueError(f"{len(faults)} photos of split {split!r} cannot be packed: {first_cases(faults)}")


def _require_same_vocabulary(vocabulary: Vocabulary, split: str, other: Vocabulary, whose: str) -> None:
    """All splits of a folder share one vocabulary file."""
    if vocabulary.names_by_id() != other.names_by_id():
        raise ValueError(f"Split {split!r} has other categories or attributes, by id and name, than {whose}.")


def _write_parts(rows: Dataset, split: str, folder: Path) -> list[Path]:
    """Writes rows with undecoded images as the parquet files of a split, and returns these in order."""
    parts = []
    for part in _parts_of(rows):
        parts.append(folder / f"{len(parts)}.parquet")
        columns = {name: [row[name] for row in part] for name in FEATURES}
        # `Dataset.from_dict` would drop the bytes of a photo where a file of its name lies in the current folder.
        Dataset(pa.Table.from_pydict(columns, schema=FEATURES.arrow_schema)).to_parquet(parts[-1])
    names = (f"{split}-{number:05}-of-{len(parts):05}.parquet" for number in range(len(parts)))
    return [part.replace(folder / name) for part, name in zip(parts, names)]


def _parts_of(rows: Dataset) -> Iterator[list[dict[str, Any]]]:
    """The rows of one file after the other, with the photos' bytes; at least one file, if an empty one."""
    part, size = [], 0
    for row in rows:
        row["image"] = _embedded(row["image"], row["file_name"])
        more = len(row["image"]["bytes"])
        if part and (len(part) == ROWS_PER_FILE or size + more > BYTES_PER_FILE):
            yield part
            part, size = [], 0
        part.append(row)
        size += more
    yield part


def _embedded(image: dict[str, Any], file_name: str) -> dict[str, Any]:
    """An undecoded image cell with the photo's bytes and, in place of its place on this machine, its name."""
    with open_photo(image) as file:
        return {"bytes": file.read(), "path": PurePosixPath((image["path"] or file_name).split("::")[0]).name}


def _parquet_files(data_dir: str | os.PathLike, split: str) -> list[Path]:
    """The parts of a packed split in order, none if it is not packed. Raises ValueError if they are no complete set."""
    folder = Path(data_dir).absolute() / PARQUET_FOLDER
    parts = _parts(folder, split)
    files = sorted(parts, key=parts.get)
    count = len(files)
    if [parts[file] for file in files] != [(number, count) for number in range(count)]:
        totals = Counter(total for _, total in parts.values())
        found = " and ".join(f"{number} of {total}" for total, number in sorted(totals.items()))
        raise ValueError(
            f"The parquet files of split {split!r} in {folder} are no complete set: expected each number from 00000 "
            f"once, up to the total after 'of'; found {found} files: {first_cases([file.name for file in files])}. "
            f"Pack the split again with `fashion-detr data to-parquet`, which leaves nothing of another set; or delete "
            f"what is of another set, and download what is missing."
        )
    return files


def _parts(folder: Path, split: str) -> dict[Path, tuple[int, int]]:
    """The parquet files of a split, complete or not, with the number and the total that their names tell."""
    # The Hub may append a hash. Names are matched in full, since what is a part may be deleted.
    pattern = re.compile(rf"{re.escape(split)}-(\d{{5}})-of-(\d{{5}})(?:-[0-9a-f]+)?\.parquet")
    matches = {file: pattern.fullmatch(file.name) for file in folder.glob("*.parquet")}
    return {file: (int(match[1]), int(match[2])) for file, match in matches.items() if match}


def fashionpedia_annotations(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A row's objects as Fashionpedia's own annotations: the file's ids and masks, bbox [x, y, w, h] in pixels."""
    return [
        {
            **{name: found[name] for name in ("id", "category_id", "attribute_ids", "bbox")},
            "area": stated_area(found),
            "image_id": row["image_id"],
            "iscrowd": int(found["iscrowd"]),
            "segmentation": unpacked_segmentation(found["segmentation"]),
        }
        for found in row["objects"]
    ]


def _fingerprint(annotation_file: Path, images: ImageFiles, split: str) -> str:
    """Name of the cached rows: what they are made of, the source of all that makes them included.

    `datasets` by itself hashes the path of the annotation file and the name of the generator, so edits of either would
    bring back the old rows.
    """
    digest = hashlib.sha256(f"{images}\n{split}".encode())
    sources = (__file__, *map(inspect.getfile, (read_annotations, ImageFiles, is_crowd)))
    for file in (annotation_file, *map(Path, sources)):
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:32]


def _generate_rows(annotation_file: Path, images: ImageFiles) -> Iterator[dict[str, Any]]:
    content = read_annotations(annotation_file)
    annotations_of = defaultdict(list)
    for annotation in drop_degenerate_polygons(content.pop("annotations"), annotation_file):
        annotations_of[annotation["image_id"]].append(annotation)
    for image in content["images"]:
        yield {
            "image": images.url(image["file_name"]),
            "image_id": image["id"],
            "file_name": image["file_name"],
            "width": image["width"],
            "height": image["height"],
            "objects": [_encode_object(annotation, image) for annotation in annotations_of.pop(image["id"], [])],
        }


def _encode_object(annotation: dict[str, Any], image: dict[str, Any]) -> dict[str, Any]:
    bbox, area = annotation.get("bbox"), stated_area(annotation)
    if bbox is None or area is None:
        rle = compressed_rle(annotation["segmentation"], image["height"], image["width"])
        bbox = coco_mask.toBbox(rle).tolist() if bbox is None else bbox
        area = coco_mask.area(rle) if area is None else area
    return {
        "id": annotation["id"],
        "category_id": annotation["category_id"],
        "attribute_ids": annotation.get("attribute_ids") or [],
        # `datasets` converts single numbers, but hands lists to Arrow, which refuses whole numbers that a float rounds.
        "bbox": [float(side) for side in bbox],
        "area": area,
        "iscrowd": is_crowd(annotation),
        "segmentation": _encode_segmentation(annotation["segmentation"]),
    }


def _encode_segmentation(segmentation: list | dict) -> dict[str, Any]:
    encoded = {"polygons": None, "counts": None, "rle": None, "size": None}
    if isinstance(segmentation, list):
        return encoded | {"polygons": segmentation}
    encoding = "rle" if isinstance(segmentation["counts"], str) else "counts"
    return encoded | {encoding: segmentation["counts"], "size": segmentation["size"]}


def _check_image_files(file_names: list[str], images: ImageFiles, annotation_file: Path) -> None:
    if missing := images.missing(file_names):
        raise FileNotFoundError(
            f"{len(missing)} of the {len(file_names)} images of {annotation_file} are missing in {images.folder}: "
            f"{first_cases(missing)}"
        )
