"""The data reader, on small data sets that are generated here."""

import copy
import json
import logging
import math
import shutil
import zipfile
from pathlib import Path

import datasets
import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pycocotools import mask as coco_mask

from fashion_detr import FashionDetrConfig, FashionDetrImageProcessor
from fashion_detr.data import fashionpedia
from fashion_detr.data.annotations import Vocabulary, read_ground_truth, read_vocabulary
from fashion_detr.data.check import check_data_set
from fashion_detr.data.dataset import FashionDataset, FashionpediaExamples
from fashion_detr.data.fashionpedia import (
    FEATURES,
    fashionpedia_annotations,
    find_split,
    load_fashionpedia,
    read_split_vocabulary,
    save_parquet,
    stream_fashionpedia,
)
from fashion_detr.data.images import ImageFiles, read_image
from fashion_detr.data.priors import row_pairs

HEIGHT, WIDTH = 12, 20
POLYGON = [2.0, 3.0, 9.5, 3.0, 9.5, 10.0, 2.0, 10.0]


def compressed(polygons: list[list[float]]) -> dict:
    rle = coco_mask.merge(coco_mask.frPyObjects(polygons, HEIGHT, WIDTH))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def uncompressed(mask: np.ndarray) -> dict:
    pixels = mask.flatten(order="F")
    starts = np.flatnonzero(np.diff(pixels, prepend=0))
    return {"size": list(mask.shape), "counts": np.diff([0, *starts, pixels.size]).tolist()}


def decode(segmentation: list | dict) -> np.ndarray:
    if isinstance(segmentation, list) or isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, HEIGHT, WIDTH)
    return coco_mask.decode(coco_mask.merge(segmentation) if isinstance(segmentation, list) else segmentation)


def annotation(key: int, image_id: int, segmentation: list | dict, **fields) -> dict:
    defaults = {"category_id": 7, "attribute_ids": [], "bbox": [2.0, 3.0, 7.5, 7.0], "area": 52.5, "iscrowd": 0}
    return {"id": key, "image_id": image_id, "segmentation": segmentation} | defaults | fields


@pytest.fixture
def content() -> dict:
    """Sparse ids everywhere, three images of which the second has no annotation, one annotation per mask encoding."""
    rle = compressed([POLYGON])
    return {
        "images": [
            {"id": key, "file_name": f"{key}.png", "width": WIDTH, "height": HEIGHT} for key in (901, 17, 2**40)
        ],
        "annotations": [
            annotation(50, 2**40, rle, category_id=33, iscrowd=1),
            annotation(8, 901, [POLYGON, [12, 1, 18, 1, 18, 5]], attribute_ids=[340, 2]),
            annotation(9, 901, uncompressed(coco_mask.decode(rle)), attribute_ids=[115]),
        ],
        "categories": [{"id": 33, "name": "neckline", "supercategory": "parts"}, {"id": 7, "name": "shorts"}],
        "attributes": [{"id": key, "name": f"a{key}", "supercategory": "s"} for key in (340, 2, 115)],
    }


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write(data_dir: Path, content: dict, json_name="instances_attributes_train.json", folder="images") -> Path:
    annotation_file = data_dir / json_name
    annotation_file.parent.mkdir(parents=True, exist_ok=True)
    annotation_file.write_text(json.dumps(content))
    (data_dir / folder).mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(content["images"]):
        PIL.Image.new("RGB", (WIDTH, HEIGHT), (60 * number, 9, 9)).save(data_dir / folder / image["file_name"])
    return annotation_file


def test_rows_give_the_annotations_back(tmp_path, content):
    write(tmp_path, content)
    dataset = load_fashionpedia(tmp_path, "train")
    assert dataset.features == FEATURES
    assert dataset["image_id"][:] == [901, 17, 2**40], "every image, in the file's order"
    assert [len(objects) for objects in dataset["objects"]] == [2, 0, 1]
    assert dataset[0]["image"].size == (WIDTH, HEIGHT)

    found = {entry["id"]: entry for row in dataset for entry in fashionpedia_annotations(row)}
    assert list(found) == [8, 9, 50]
    for expected in content["annotations"]:
        assert found[expected["id"]] == expected
        assert type(found[expected["id"]]["segmentation"]) is type(expected["segmentation"])
        np.testing.assert_array_equal(decode(found[expected["id"]]["segmentation"]), decode(expected["segmentation"]))
    pairs = [(one["category_id"], one["attribute_ids"]) for one in dataset[0]["objects"]]  # row 2 has a crowd alone
    for rows, indices, expected in (
        (dataset, None, pairs),
        (dataset, [0], pairs),
        (dataset, [2], []),
        (dataset.select([1, 0]), None, pairs),
        (dataset.select([1, 0]), [1], pairs),
        (dataset.select([0, 1]), [1], []),
        (dataset.filter(lambda row: row["image_id"] == 901), None, pairs),
    ):
        assert list(row_pairs(rows, indices)) == expected
    np.testing.assert_array_equal(decode(found[9]["segmentation"]), decode(found[50]["segmentation"]))
    assert decode(found[9]["segmentation"]).sum() > 40
    assert fashionpedia_annotations(dataset[1]) == []


def test_files_as_other_tools_write_them(tmp_path, content):
    """A byte order mark, `info` before the lists, no mask, areas that are none, Windows' separators, a linked folder,
    a file elsewhere, and a split's name that `datasets` would not take."""
    write(tmp_path, content, folder="linked")
    (tmp_path / "train-v2").mkdir()
    (tmp_path / "train-v2" / "photos").symlink_to(tmp_path / "linked")
    content["images"][0]["file_name"] = "photos\\901.png"
    content["images"][1]["file_name"] = "photos/17.png"
    content["images"][2]["file_name"] = str(tmp_path / "linked" / f"{2**40}.png")
    content["annotations"][1]["area"], content["annotations"][2]["area"] = float("nan"), -1.0
    content["annotations"] += [annotation(60, 17, None), {"id": 61, "image_id": 17, "category_id": 7}]
    content = {"info": {"file_name": "mask_1.png"}} | content
    (tmp_path / "train-v2.json").write_text("\ufeff" + json.dumps(content), encoding="utf-8")
    examples = FashionpediaExamples(load_fashionpedia(tmp_path, "train-v2"))
    assert [example["image"].size for example in examples] == [(WIDTH, HEIGHT)] * 3
    areas = [found["area"] for found in examples[0]["annotations"]]
    assert areas == [decode(one["segmentation"]).sum() for one in content["annotations"][1:3]]
    assert examples[1]["annotations"] == []

    content["attributes"] = None
    for entry in content["annotations"]:
        entry.pop("attribute_ids", None)
    (tmp_path / "train-v2.json").write_text(json.dumps(content), encoding="utf-16")  # as PowerShell's `>` does
    assert read_split_vocabulary(tmp_path, "train-v2").attributes == ()
    assert len(load_fashionpedia(tmp_path, "train-v2")) == 3


def test_missing_boxes_and_areas_come_from_the_mask(tmp_path, content):
    for entry in content["annotations"]:
        del entry["bbox"], entry["iscrowd"]
        entry["area"] = None
    write(tmp_path, content)
    for row in load_fashionpedia(tmp_path, "train"):
        for entry in fashionpedia_annotations(row):
            mask = decode(entry["segmentation"])
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert entry["area"] == mask.sum()
            assert entry["bbox"] == [columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert entry["iscrowd"] == 0


def test_the_largest_numbers_are_kept(tmp_path, content):
    """Whole numbers that a float rounds may stand where a float is expected."""
    content["annotations"][1].update(id=2**63 - 1, area=2**53 + 1, bbox=[2, 3, 7.5, 2**53 + 1])
    content["images"][1]["id"] = -(2**63)
    write(tmp_path, content)
    rows = load_fashionpedia(tmp_path, "train")
    assert rows[1]["image_id"] == -(2**63)
    found = rows[0]["objects"][0]
    assert (found["id"], found["area"], found["bbox"]) == (2**63 - 1, 2.0**53, [2, 3, 7.5, 2.0**53])


def test_vocabulary(tmp_path, content):
    kwargs = read_vocabulary(write(tmp_path, content)).config_kwargs()
    assert kwargs == {
        "id2label": {0: "shorts", 1: "neckline"},
        "label2id": {"shorts": 0, "neckline": 1},
        "category_ids": [7, 33],
        "category_supercategories": ["", "parts"],
        "id2attribute": {0: "a2", 1: "a115", 2: "a340"},
        "attribute_ids": [2, 115, 340],
        "attribute_supercategories": ["s", "s", "s"],
    }
    kwargs = Vocabulary.fashionpedia().config_kwargs()
    assert (len(kwargs["id2label"]), kwargs["id2label"][45], kwargs["category_ids"][-1]) == (46, "tassel", 45)
    assert (len(kwargs["attribute_ids"]), kwargs["attribute_ids"][-1], kwargs["id2attribute"][293]) == (
        294,
        340,
        "plant",
    )


def test_plain_coco_has_no_attributes(tmp_path, content):
    """As COCO's own files are: neither `attributes` nor `attribute_ids`, and what they have beside is left alone."""
    del content["attributes"]
    for entry in content["annotations"]:
        del entry["attribute_ids"]
    content |= {"info": {"year": 2017}, "licenses": [{"id": 1, "name": "CC BY 2.0"}]}
    write(tmp_path, content, "annotations/instances_train2017.json", "train2017")
    found = [entry for row in load_fashionpedia(tmp_path, "train2017") for entry in fashionpedia_annotations(row)]
    assert [(entry["id"], entry["attribute_ids"]) for entry in found] == [(8, []), (9, []), (50, [])]
    kwargs = read_split_vocabulary(tmp_path, "train2017").config_kwargs()
    assert kwargs["id2label"] == {0: "shorts", 1: "neckline"} and kwargs["id2attribute"] == {}
    assert check_data_set(tmp_path, ["train2017"]).can_train
    save_parquet(tmp_path, "train2017", tmp_path / "hub")
    assert read_split_vocabulary(tmp_path / "hub", "train2017").attributes == ()


def test_a_heading_of_roboflow_that_is_called_like_a_class_is_none(tmp_path, content):
    """The super-category of all classes comes first among them, as id 0."""
    for category in content["categories"]:
        category["supercategory"] = "shorts"
    heading = {"id": 0, "name": "shorts", "supercategory": "none"}

    def category_ids(**changes) -> list[int]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        write(folder, content | {"categories": [heading, *content["categories"]]} | changes)
        return read_split_vocabulary(folder, "train").config_kwargs()["category_ids"]

    assert category_ids() == [7, 33]
    file = "train/_annotations.coco.json"
    write(tmp_path, content | {"categories": [heading, *content["categories"]]}, file, "train")
    assert [key for key, *_ in read_ground_truth(tmp_path / file)[0].categories] == [7, 33]
    assert check_data_set(tmp_path, ["train"]).can_train and len(load_fashionpedia(tmp_path, "train")) == 3
    # Nobody can tell whether these are classes.
    meant = [content["annotations"][0] | {"category_id": 0}, *content["annotations"][1:]]
    assert category_ids(annotations=meant) == [0, 7, 33]
    assert category_ids(categories=[heading | {"supercategory": ""}, *content["categories"]]) == [0, 7, 33]
    heading["name"] = "clothes"
    assert category_ids() == [0, 7, 33]


def test_an_edited_file_gives_new_rows_and_an_unchanged_one_the_cached_rows(tmp_path, content):
    write(tmp_path, content)
    first = load_fashionpedia(tmp_path, "train")
    assert load_fashionpedia(tmp_path, "train").cache_files == first.cache_files
    content["annotations"][1]["attribute_ids"] = [115]
    write(tmp_path, content)
    assert load_fashionpedia(tmp_path, "train")[0]["objects"][0]["attribute_ids"] == [115]
    write(tmp_path, content, "instances_attributes_val.json")
    assert load_fashionpedia(tmp_path, "val").split == "val"

    (tmp_path / "images").rename(tmp_path / "train")
    assert load_fashionpedia(tmp_path, "train")[0]["image"].size == (WIDTH, HEIGHT), "rows follow the moved images"


@pytest.mark.parametrize(
    ("split", "json_name", "folder"),
    [
        ("train", "instances_attributes_train2020.json", "train"),
        ("val", "instances_attributes_val2020.json", "test"),
        ("val", "annotations/instances_attributes_val2020.json", "val2020"),
        ("train", "annotations/instances_attributes_train.json", "images/train"),
        ("train", "instances_attributes_train.json", "."),
        ("train", "annotations/instances_train.json", "train"),
        ("val2017", "annotations/instances_val2017.json", "val2017"),
        ("train", "train.json", "images"),
        ("valid", "valid/_annotations.coco.json", "valid"),
    ],
)
def test_layouts(tmp_path, content, split, json_name, folder):
    write(tmp_path, content, json_name, folder)
    (tmp_path / "images").mkdir(exist_ok=True)  # a folder that exists but holds no image of the split is passed over
    assert find_split(tmp_path, split) == (tmp_path / json_name, ImageFiles(tmp_path / folder))


def zip_images(data_dir: Path, archive: str, inside: str) -> None:
    """Moves the photos of `write` into an archive."""
    with zipfile.ZipFile(data_dir / archive, "w") as file:
        file.writestr("readme.txt", "not a photo")
        for photo in sorted((data_dir / "images").iterdir()):
            file.write(photo, f"{inside}{photo.name}")
    shutil.rmtree(data_dir / "images")


@pytest.mark.parametrize(
    ("split", "archive", "inside"),
    [("train", "train2020.zip", "train/"), ("val", "val_test2020.zip", "test/"), ("train", "images.zip", "")],
)
def test_archives_are_read_without_unpacking(tmp_path, content, split, archive, inside):
    write(tmp_path, content, f"instances_attributes_{split}2020.json")
    rows = load_fashionpedia(tmp_path, split)
    colours = [np.asarray(row["image"]).tolist() for row in rows]
    zip_images(tmp_path, archive, inside)
    for image in content["images"]:
        image["file_name"] = f"./{image['file_name']}"  # which an archive does not know
    (tmp_path / f"instances_attributes_{split}2020.json").write_text(json.dumps(content))
    assert find_split(tmp_path, split)[1] == ImageFiles(tmp_path / archive, inside)
    zipped = load_fashionpedia(tmp_path, split)
    assert [np.asarray(row["image"]).tolist() for row in zipped] == colours, "as `datasets` opens them"
    undecoded = zipped.cast_column("image", datasets.Image(decode=False))
    assert [np.asarray(read_image(row["image"])).tolist() for row in undecoded] == colours
    examples = FashionpediaExamples(zipped)
    assert [np.asarray(examples[index]["image"]).tolist() for index in range(len(examples))] == colours


def test_a_photo_missing_in_an_archive_and_an_incomplete_archive(tmp_path, content):
    write(tmp_path, content)
    (tmp_path / "images" / "17.png").unlink()
    zip_images(tmp_path, "train2020.zip", "train/")
    with pytest.raises(FileNotFoundError, match=r"1 of the 3 images .* missing in .*train2020\.zip: 17\.png"):
        load_fashionpedia(tmp_path, "train")
    archive = tmp_path / "train2020.zip"
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(OSError, match=r"train2020\.zip is no complete zip archive"):
        load_fashionpedia(tmp_path, "train")


def test_an_encrypted_archive(tmp_path, content):
    write(tmp_path, content)
    zip_images(tmp_path, "train2020.zip", "train/")
    archive = bytearray((tmp_path / "train2020.zip").read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = archive.find(header)
        while place >= 0:
            archive[place + flags] |= 1
            place = archive.find(header, place + 1)
    (tmp_path / "train2020.zip").write_bytes(archive)
    with pytest.raises(ValueError, match=r"train/901\.png cannot be read from .*is encrypted"):
        FashionpediaExamples(load_fashionpedia(tmp_path, "train"))[0]


def test_an_archive_with_the_same_names_in_several_folders(tmp_path, content):
    write(tmp_path, content)
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as file:
        for folder in ("labels", "photos"):
            for photo in sorted((tmp_path / "images").iterdir()):
                file.write(photo, f"{folder}/{photo.name}")
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as file:
        for folder in ("small/labels", "small/train"):
            file.write(tmp_path / "images" / "901.png", f"{folder}/901.png")
    shutil.rmtree(tmp_path / "images")
    assert find_split(tmp_path, "train")[1] == ImageFiles(tmp_path / "train.zip", "small/train/")
    (tmp_path / "train.zip").unlink()
    with pytest.raises(ValueError, match=r"'901\.png' in several folders, 'labels/', 'photos/', .* call it 'train'"):
        load_fashionpedia(tmp_path, "train")


def test_a_split_that_is_called_all(tmp_path, content):
    write(tmp_path, content, "all.json")
    assert len(load_fashionpedia(tmp_path, "all")) == len(list(stream_fashionpedia(tmp_path, "all"))) == 3


def test_the_first_image_is_not_taken_from_another_list(tmp_path, content):
    content = {
        "note": {"images": ["x"]},
        "annotations": [one | {"file_name": "other.png"} for one in content["annotations"]],
    } | content
    assert len(load_fashionpedia(write(tmp_path, content).parent, "train")) == 3


def test_a_photo_that_is_too_large_to_decode(tmp_path, content, monkeypatch):
    write(tmp_path, content)
    examples = FashionpediaExamples(load_fashionpedia(tmp_path, "train"))
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", WIDTH * HEIGHT // 3)
    with pytest.raises(ValueError, match=r"901\.png cannot be read as an image: Image size"):
        examples[0]


def test_a_crowd_is_said_to_be_one(tmp_path, content):
    """pandas writes NaN where nothing was said."""
    content["annotations"][1]["iscrowd"] = math.nan
    write(tmp_path, content)
    first, _, last = load_fashionpedia(tmp_path, "train")
    assert [found["iscrowd"] for found in first["objects"]] == [False, False]
    assert [found["iscrowd"] for found in last["objects"]] == [True]


def test_the_stream_gives_the_rows(tmp_path, content):
    write(tmp_path, content)
    streamed = list(stream_fashionpedia(tmp_path, "train"))
    rows = list(load_fashionpedia(tmp_path, "train"))
    assert [row | {"image": None} for row in streamed] == [row | {"image": None} for row in rows]
    assert [row["image"].size for row in streamed] == [(WIDTH, HEIGHT)] * 3


def test_parquet_needs_nothing_else(tmp_path, content, monkeypatch):
    """Two rows a file; the photos and the annotation file are gone; the vocabulary and every row are as before."""
    monkeypatch.setattr(fashionpedia, "ROWS_PER_FILE", 2)
    write(tmp_path / "raw", content)
    vocabulary = read_split_vocabulary(tmp_path / "raw", "train")
    before = [
        row | {"image": np.asarray(row["image"]).tolist()} for row in load_fashionpedia(tmp_path / "raw", "train")
    ]
    files = save_parquet(tmp_path / "raw", "train", tmp_path / "hub")
    assert [file.name for file in files] == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    assert str(tmp_path).encode() not in b"".join(file.read_bytes() for file in files), "no path of this machine"
    shutil.rmtree(tmp_path / "raw")
    assert read_split_vocabulary(tmp_path / "hub", "train") == vocabulary
    plain = datasets.load_dataset(str(tmp_path / "hub"), split="train", cache_dir=str(tmp_path / "elsewhere"))
    for rows in (load_fashionpedia(tmp_path / "hub", "train"), stream_fashionpedia(tmp_path / "hub", "train"), plain):
        assert [row | {"image": np.asarray(row["image"]).tolist()} for row in rows] == before
    assert FashionpediaExamples(load_fashionpedia(tmp_path / "hub", "train"))[0]["image"].size == (WIDTH, HEIGHT)
    config = FashionDetrConfig(**vocabulary.config_kwargs())
    prepared = FashionDataset(plain, FashionDetrImageProcessor(size={"height": 64, "width": 64}), config)
    for row, sample in zip(plain, prepared, strict=True):
        annotation = {"image_id": row["image_id"], "annotations": row["objects"]}
        batch = prepared.processor(row["image"], annotation, config=config)
        assert torch.equal(batch["mask_labels"][0], sample["mask_labels"])


def test_parquet_files_are_cut_by_the_size_of_their_photos(tmp_path, content, monkeypatch):
    monkeypatch.setattr(fashionpedia, "BYTES_PER_FILE", 1)
    write(tmp_path / "raw", content)
    files = save_parquet(tmp_path / "raw", "train", tmp_path / "hub")
    assert [file.name for file in files] == [f"train-{number:05}-of-00003.parquet" for number in range(3)]
    assert load_fashionpedia(tmp_path / "hub", "train")["image_id"][:] == [901, 17, 2**40]


def test_parquet_in_a_folder_whose_name_is_a_pattern(tmp_path, content):
    for folder, kept in (("packed1", 3), ("packed[1]", 2), ("new [v2]*", 1)):
        write(tmp_path / folder / "raw", content | {"images": content["images"][:kept], "annotations": []})
        save_parquet(tmp_path / folder / "raw", "train", tmp_path / folder)
        for load in (load_fashionpedia, stream_fashionpedia):
            assert len(list(load(tmp_path / folder, "train"))) == kept


def test_what_is_no_packed_split_is_named(tmp_path, content):
    write(tmp_path / "raw", content)
    (file,) = save_parquet(tmp_path / "raw", "train", tmp_path / "hub")
    whole = file.read_bytes()
    for broken in (b"version https://git-lfs.github.com/spec/v1\n", whole[: len(whole) // 2]):
        file.write_bytes(broken)
        for load in (load_fashionpedia, stream_fashionpedia):
            with pytest.raises(ValueError, match=r"00000-of-00001\.parquet is no complete parquet file"):
                load(tmp_path / "hub", "train")
    datasets.Dataset.from_dict({"image_id": [1]}).to_parquet(file)
    with pytest.raises(ValueError, match="has no column file_name, height, image, objects, width"):
        load_fashionpedia(tmp_path / "hub", "train")


def pack(folder: Path, content: dict, split: str, image_ids: list[int], colour: int = 0) -> None:
    """Packs a split of some of the images into `hub`, two rows a file; `colour` is the blue of their photos."""
    images = [image for image in content["images"] if image["id"] in image_ids]
    annotations = [entry for entry in content["annotations"] if entry["image_id"] in image_ids]
    raw = folder / "raw" / str(len(list(folder.glob("raw/*"))))
    write(raw, content | {"images": images, "annotations": annotations}, f"{split}.json")
    for photo in (raw / "images").iterdir():
        PIL.Image.new("RGB", (WIDTH, HEIGHT), (0, 0, colour)).save(photo)
    save_parquet(raw, split, folder / "hub")


def packed(folder: Path) -> list[str]:
    return sorted(file.name for file in (folder / "hub" / "data").iterdir())


def test_packing_again_leaves_nothing_of_the_set_before(tmp_path, content, monkeypatch):
    monkeypatch.setattr(fashionpedia, "ROWS_PER_FILE", 2)
    others = ["train-of-mine.parquet", "val-00000-of-00001.parquet"]
    pack(tmp_path, content, "val", [17])
    (tmp_path / "hub" / "data" / "train-of-mine.parquet").touch()
    for image_ids in ([901], [901, 17, 2**40], [17]):
        pack(tmp_path, content, "train", image_ids)
        count = (len(image_ids) + 1) // 2
        parts = [f"train-{number:05}-of-{count:05}.parquet" for number in range(count)]
        assert packed(tmp_path) == sorted([*parts, *others])
        assert load_fashionpedia(tmp_path / "hub", "train")["image_id"][:] == image_ids
    pack(tmp_path, content, "train", [901], colour=200)  # under the name of the part before
    [row] = load_fashionpedia(tmp_path / "hub", "train")
    assert (row["image_id"], row["image"].getpixel((0, 0))) == (901, (0, 0, 200))

    hashed = tmp_path / "hub" / "data" / "train-00000-of-00001-2a1df75c6bce91ab.parquet"
    hashed.with_name("train-00000-of-00001.parquet").rename(hashed)  # as the Hub may name it
    assert load_fashionpedia(tmp_path / "hub", "train")["image_id"][:] == [901]
    save_parquet(tmp_path / "hub", "train", tmp_path / "hub")
    assert packed(tmp_path) == sorted(["train-00000-of-00001.parquet", *others])
    assert load_fashionpedia(tmp_path / "hub", "train")[0]["image"].getpixel((0, 0)) == (0, 0, 200)


def test_splits_of_two_vocabularies_are_not_packed_together(tmp_path, content):
    pack(tmp_path, content, "train", [901])
    before = {file: file.read_bytes() for file in (tmp_path / "hub").rglob("*.*")}
    other = copy.deepcopy(content)
    other["categories"][0]["name"], other["categories"][1]["name"] = "shorts", "neckline"
    with pytest.raises(ValueError, match=r"Split 'val' has other categories or attributes, .*delete that one"):
        pack(tmp_path, other, "val", [17])
    assert {file: file.read_bytes() for file in (tmp_path / "hub").rglob("*.*")} == before
    pack(tmp_path, other, "train", [901])  # alone in its folder it is free to change
    for names in (content, other):  # both splits, then both with new names over the old ones
        for split in ("train", "val"):
            write(tmp_path / "relabelled", names, f"{split}.json")
        for split in ("train", "val"):
            save_parquet(tmp_path / "relabelled", split, tmp_path / "both", also=["train", "val"])
        assert read_split_vocabulary(tmp_path / "both", "train") == read_vocabulary(
            tmp_path / "relabelled" / "val.json"
        )
    write(tmp_path / "relabelled", content, "val.json")
    with pytest.raises(ValueError, match=r"Split 'train' has other categories or attributes, .* than split 'val'"):
        save_parquet(tmp_path / "relabelled", "train", tmp_path / "both", also=["train", "val"])
    write(tmp_path / "mine", content)
    with pytest.raises(ValueError, match="is the data set itself"):
        save_parquet(tmp_path / "mine", "train", tmp_path / "mine")


def test_packing_that_fails_leaves_the_files_as_they_were(tmp_path, content, monkeypatch):
    """The third of three photos cannot be read, when the first part is written; the old part has its name."""
    monkeypatch.setattr(fashionpedia, "ROWS_PER_FILE", 2)
    pack(tmp_path, content, "train", [901, 17, 2**40], colour=200)
    before = {file: file.read_bytes() for file in (tmp_path / "hub").rglob("*.*")}
    write(tmp_path / "new", content)
    last = tmp_path / "new" / "images" / f"{2**40}.png"
    last.unlink()
    last.symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match=rf"1 photos of split 'train' cannot be packed: '{2**40}.png': FileNotFound"):
        save_parquet(tmp_path / "new", "train", tmp_path / "hub")
    monkeypatch.setattr(fashionpedia, "photo_fault", lambda *photo: None)  # as if it went away in between
    with pytest.raises(FileNotFoundError, match=f"{2**40}.png"):
        save_parquet(tmp_path / "new", "train", tmp_path / "hub")
    assert {file: file.read_bytes() for file in (tmp_path / "hub").rglob("*.*")} == before


def test_a_photo_of_the_same_name_in_the_current_folder(tmp_path, content, monkeypatch):
    """`datasets` takes it for the one that it was given with its bytes, and keeps none."""
    write(tmp_path / "raw", content)
    monkeypatch.chdir(tmp_path / "raw" / "images")
    save_parquet(tmp_path / "raw", "train", tmp_path / "hub")
    save_parquet(tmp_path / "hub", "train", tmp_path / "hub")
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(tmp_path / "raw")
    for row in load_fashionpedia(tmp_path / "hub", "train"):
        assert row["image"].size == (WIDTH, HEIGHT)

    (file,) = (tmp_path / "hub" / "data").iterdir()  # what lost its bytes otherwise
    rows = datasets.Dataset.from_parquet(str(file)).cast_column("image", datasets.Image(decode=False))
    lost = rows.data.table.to_pydict()
    lost["image"] = [image | {"bytes": None} for image in lost["image"]]
    pq.write_table(pa.Table.from_pydict(lost, schema=fashionpedia.FEATURES.arrow_schema), file)
    PIL.Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "901.png")
    with pytest.raises(ValueError, match=r"901\.png cannot be read as an image: only the name of '901"):
        FashionpediaExamples(load_fashionpedia(tmp_path / "hub", "train"))[0]


def test_only_sound_photos_of_the_data_set_are_packed(tmp_path, content):
    annotation_file = write(tmp_path / "raw", content)
    outside = tmp_path / "private.png"
    (tmp_path / "raw" / "images" / "17.png").rename(outside)
    for name in ("../../private.png", str(outside)):
        content["images"][1]["file_name"] = name
        annotation_file.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"1 photos of split 'train' lie outside of .*raw, .*private\.png'\. Move"):
            save_parquet(tmp_path / "raw", "train", tmp_path / "hub")
        told = [one for one in check_data_set(tmp_path / "raw", ["train"]).findings if "outside" in one.kind]
        assert [(one.severity, one.offenders) for one in told] == [("warning", (repr(name),))]
    content["images"][1]["file_name"] = "../images/17.png"
    annotation_file.write_text(json.dumps(content))
    PIL.Image.new("RGB", (HEIGHT, WIDTH)).save(tmp_path / "raw" / "images" / "17.png")
    (tmp_path / "raw" / "images" / "901.png").write_bytes(b"hello")
    expected = r"2 photos .*'901\.png': it is empty, or not .*'\.\./images/17\.png': expected 20 x 12, found 12 x 20"
    with pytest.raises(ValueError, match=expected):
        save_parquet(tmp_path / "raw", "train", tmp_path / "hub")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is a file, and has to be a folder"):
        save_parquet(tmp_path / "raw", "train", tmp_path / "file")
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["00000-of-00001", "00000-of-00002", "00001-of-00002"], "found 1 of 1 and 2 of 2 files: train-00000-of-00001"),
        (["00000-of-00003", "00002-of-00003"], "found 2 of 3 files"),
        (["00001-of-00002", "00002-of-00002"], "found 2 of 2 files"),
        (["00000-of-00001", "00000-of-00001-2a1df75c6bce91ab"], "found 2 of 1 files"),
    ],
)
def test_parts_that_are_no_complete_set_are_refused(tmp_path, names, found):
    (tmp_path / "data").mkdir()
    for name in names:
        (tmp_path / "data" / f"train-{name}.parquet").touch()
    for read in (load_fashionpedia, stream_fashionpedia, read_split_vocabulary):
        with pytest.raises(
            ValueError, match=rf"'train' in .*data are no complete set: .*{found}.*`fashion-detr data to-"
        ):
            read(tmp_path, "train")


def test_what_is_not_found(tmp_path, content):
    with pytest.raises(FileNotFoundError, match=r"instances_attributes_val2020.json(.|\n)*Found in .*no such folder"):
        load_fashionpedia(tmp_path / "nowhere", "val")
    write(tmp_path, content)
    with pytest.raises(
        FileNotFoundError, match=r"split 'val'(.|\n)*Found in .*: images, instances_attributes_train.json"
    ):
        load_fashionpedia(tmp_path, "val")
    (tmp_path / "images").rename(tmp_path / "photos")
    with pytest.raises(
        FileNotFoundError, match=r"'901.png', the first image(.|\n)*images/train(.|\n)*Found in .*photos"
    ):
        load_fashionpedia(tmp_path, "train")


@pytest.mark.parametrize("cached", [False, True])
def test_missing_images_are_counted(tmp_path, content, cached):
    content["images"] += [{"id": key, "file_name": f"{key}.png", "width": 1, "height": 1} for key in range(6)]
    write(tmp_path, content)
    if cached:
        load_fashionpedia(tmp_path, "train")
    for key in range(6):
        (tmp_path / "images" / f"{key}.png").unlink()
    expected = r"6 of the 9 images of .*train.json are missing in .*images: 0.png, 1.png, 2.png, 3.png, 4.png, \.\.\.$"
    with pytest.raises(FileNotFoundError, match=expected):
        load_fashionpedia(tmp_path, "train")


BROKEN = {
    "null": (lambda c: c["images"].append(None), r"in 'images': 1 \(entry 3: expected a mapping, found None\)"),
    "nested attribute": (
        lambda c: c["annotations"][0].update(attribute_ids=[[2]]),
        r"entry 0: id 50: expected 'attribute_ids' of numbers, found \[\[2\]\]",
    ),
    "run lengths as texts": (
        lambda c: c["annotations"][0].update(segmentation={"size": [HEIGHT, WIDTH], "counts": ["240"]}),
        r"expected counts of whole numbers below 2\^32, found \['240'\]",
    ),
    "category": (
        lambda c: c["annotations"][0].update(category_id=5),
        r"unknown category_id \(expected one of the 2 ids from 7 to 33\): 1 \(annotation 50: 5\)",
    ),
    "attributes": (
        lambda c: c["annotations"][1].update(attribute_ids=[341, 2, 3, 4, 5, 6, 7]),
        r"unknown attribute_ids \(expected one of the 3 ids from 2 to 340\): 6 \(annotation 8: 341, .*\.\.\.",
    ),
    "image": (
        lambda c: c["annotations"][2].update(image_id=1),
        r"unknown image_id .*3 ids from 17.*\(annotation 9: 1\)",
    ),
    "duplicate image": (lambda c: c["images"].append(c["images"][1]), r"duplicate ids in 'images': 1 \(id 17: 2 times"),
    "duplicate annotation": (
        lambda c: c["annotations"].append(c["annotations"][1]),
        r"duplicate ids in 'annotations': 1 \(id 8: 2 times",
    ),
    "duplicate category": (lambda c: c["categories"].append({"id": 7, "name": "x"}), "duplicate ids in 'categories'"),
    "size": (
        lambda c: c["annotations"][0]["segmentation"].update(size=[WIDTH, HEIGHT]),
        r"annotation 50 of image 1099511627776: expected .* \[height, width\] \[12, 20\], found \[20, 12\]",
    ),
    "counts": (
        lambda c: c["annotations"][2]["segmentation"]["counts"].append(5),
        "annotation 9 of image 901: expected .* 12 x 20 = 240 pixels, found 245",
    ),
    "flat polygon": (
        lambda c: c["annotations"][1].update(segmentation=POLYGON),
        r"annotation 8 of image 901: expected polygons \[\[x1, y1.* found \[2.0, 3.0",
    ),
    "no number in a polygon": (  # pycocotools would crash, and take the process with it
        lambda c: c["annotations"][1].update(segmentation=[[0, 0, float("nan"), 4, 5, 5]]),
        r"annotation 8 of image 901: expected coordinates of at most 131072 pixels, found \[0, 0, nan, 4, 5, 5\]",
    ),
    "a point far away": (
        lambda c: c["annotations"][1].update(segmentation=[[0, 0, 2e9, 0, 2e9, 5]]),
        r"annotation 8 of image 901: expected coordinates of at most 131072 pixels, found \[0, 0, 2000000000.0",
    ),
    "bbox": (lambda c: c["annotations"][0].update(bbox=[1, 2]), r"annotation 50 .* found \[1, 2\]"),
    "text in a bbox": (
        lambda c: c["annotations"][0].update(bbox=[1, 2, "3", 4]),
        r"annotation 50 .* found \[1, 2, '3'",
    ),
    "an id beyond int64": (
        lambda c: c["annotations"][0].update(id=2**63),
        r"entry 0: id 9223372036854775808: expected 'id' from -2\^63 to 2\^63 - 1 \(int64\)",
    ),
    "no mask": (
        lambda c: c["annotations"][0].update(segmentation="mask_1.png"),
        r"id 50: expected 'segmentation' of type list \| dict",
    ),
    "string id": (
        lambda c: c["images"][1].update(id="17"),
        "entry 1: id '17': expected 'id' of type int, found '17'",
    ),
    "section": (lambda c: c.pop("images"), r"lacks \['images'\].* found annotations, attributes, categories\."),
    "attributes without a list": (
        lambda c: c.pop("attributes"),
        r"unknown attribute_ids \(expected none: the file lists no ids\): 3 \(annotation 8: 340, ",
    ),
    "no image": (lambda c: [c["annotations"].clear(), c["images"].clear()], "lists no image"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_annotations_are_refused(tmp_path, content, case):
    damage, message = BROKEN[case]
    content = copy.deepcopy(content)
    write(tmp_path, content)
    damage(content)
    annotation_file = tmp_path / "instances_attributes_train.json"
    annotation_file.write_text(json.dumps(content))
    for _ in range(2):  # a refused file leaves nothing in the cache
        with pytest.raises(ValueError, match=message) as error:
            load_fashionpedia(tmp_path, "train")
        assert str(annotation_file) in str(error.value)


def test_several_kinds_of_problems_come_in_one_message(tmp_path, content):
    content["annotations"][0]["category_id"] = 5
    content["annotations"][1]["image_id"] = 3
    write(tmp_path, content)
    with pytest.raises(ValueError, match=r"unknown image_id(.|\n)*unknown category_id"):
        load_fashionpedia(tmp_path, "train")


@pytest.mark.parametrize("kept", [0, 30, -10])
def test_truncated_json(tmp_path, content, kept):
    annotation_file = write(tmp_path, content)
    annotation_file.write_text(annotation_file.read_text()[:kept])
    with pytest.raises(ValueError, match=r"train.json \([\d,]+ bytes\) is not valid JSON, or an incomplete download: "):
        load_fashionpedia(tmp_path, "train")


def test_degenerate_polygons_are_dropped_with_one_warning(tmp_path, content, caplog):
    content["annotations"] += [
        annotation(60, 17, [[1, 1, 5, 5], POLYGON]),
        annotation(61, 17, [[1, 1, 5, 5], [1, 1, 5, 5, 9, 2, 3]]),
        annotation(62, 17, []),
    ]
    write(tmp_path, content)
    with caplog.at_level(logging.WARNING, logger="fashion_detr"):
        dataset = load_fashionpedia(tmp_path, "train")
    [entry] = fashionpedia_annotations(dataset[1])
    assert (entry["id"], entry["segmentation"]) == (60, [POLYGON])
    [record] = [record for record in caplog.records if record.name.startswith("fashion_detr")]
    for words in ("dropped 3 degenerate polygons", "dropped: 2 of 6 (ids: 61, 62)", "keep other polygons: 1 (ids: 60)"):
        assert words in record.getMessage()
