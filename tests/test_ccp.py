"""The converter of Clothing Co-Parsing, on a clone of three drawn photos."""

import errno
import json
import logging
import shutil
from pathlib import Path

import datasets
import numpy as np
import PIL.Image
import pytest
from pycocotools import mask as coco_mask
from scipy.io import savemat

from fashion_detr.data import ccp
from fashion_detr.data.annotations import Vocabulary, read_vocabulary
from fashion_detr.data.ccp import LABELS, UNUSED_LABELS, convert_ccp, find_instances, hem_length
from fashion_detr.data.dataset import FashionpediaExamples
from fashion_detr.data.fashionpedia import fashionpedia_annotations, load_fashionpedia

# CCP's label_list.mat, in its order.
LABEL_LIST = (
    "null accessories bag belt blazer blouse bodysuit boots bra bracelet cape cardigan clogs coat dress earrings flats "
    "glasses gloves hair hat heels hoodie intimate jacket jeans jumper leggings loafers necklace panties pants pumps "
    "purse ring romper sandals scarf shirt shoes shorts skin skirt sneakers socks stockings suit sunglasses sweater "
    "sweatshirt swimwear t-shirt tie tights top vest wallet watch wedges"
)
NAMES = LABEL_LIST.split()

HEIGHT, WIDTH = 100, 60
Box = tuple[int, int, int, int]  # x0, y0, x1, y1, exclusive

# Drawn in this order; a later box hides what it covers. The person is 100 pixels tall, from hair to shoes.
DRESSED: list[tuple[str, Box]] = [
    ("hair", (25, 0, 35, 10)),
    ("accessories", (40, 2, 52, 12)),
    ("coat", (15, 10, 45, 60)),
    ("top", (25, 12, 35, 40)),
    ("jeans", (20, 60, 40, 90)),
    ("shoes", (30, 90, 38, 100)),
    ("shoes", (5, 92, 25, 100)),
    ("shoes", (50, 90, 58, 98)),  # 64 pixels, but a third piece
    ("bag", (46, 40, 53, 49)),  # 63 pixels
    ("purse", (0, 20, 8, 28)),  # 64
    ("wallet", (0, 40, 1, 41)),
    ("watch", (0, 50, 9, 57)),  # 63
    ("suit", (0, 60, 15, 85)),
]


def box_mask(*boxes: Box, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


def label_map(drawn: list[tuple[str, Box]], names: list[str] = NAMES, size=(HEIGHT, WIDTH)) -> np.ndarray:
    labels = np.full(size, names.index("null"), dtype=np.uint8)
    for name, box in drawn:
        labels[box_mask(box, size=size)] = names.index(name)
    return labels


def write_label_list(file: Path, names: list[str]) -> None:
    savemat(file, {"label_list": np.array([names], dtype=object)})


def write_clone(clone: Path, names: list[str] = NAMES, label_list: str = "label_list.mat") -> Path:
    """Photo 1 is dressed, photo 2 has a skirt and is of another size, photo 701 is empty."""
    skirt = [("skin", (10, 20, 20, 120)), ("skirt", (5, 60, 25, 93))]  # ends at 73 of 100
    drawn = {
        1: label_map(DRESSED, names),
        2: label_map(skirt, names, size=(130, 40)),
        701: label_map([], names),
    }
    (clone / "photos").mkdir(parents=True)
    (clone / "annotations" / "pixel-level").mkdir(parents=True)
    write_label_list(clone / label_list, names)
    for number, labels in drawn.items():
        savemat(clone / "annotations" / "pixel-level" / f"{number:04d}.mat", {"groundtruth": labels})
        pixels = np.random.default_rng(number).integers(0, 255, (*labels.shape, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(clone / "photos" / f"{number:04d}.jpg", quality=70)
    return clone


@pytest.fixture
def clone(tmp_path) -> Path:
    return write_clone(tmp_path / "clone")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_every_label_has_its_place():
    assert len(NAMES) == 59
    assert set(LABELS) | UNUSED_LABELS == set(NAMES) and not set(LABELS) & UNUSED_LABELS


@pytest.mark.parametrize(
    ("label_list", "names"), [("label_list.mat", NAMES), ("annotations/label_list.mat", NAMES[::-1])]
)
def test_conversion(tmp_path, label_list, names):
    """By hand; and a label is what the clone's own list says, wherever that lies."""
    clone, output = write_clone(tmp_path / "clone", names, label_list), tmp_path / "new" / "ccp"
    assert convert_ccp(clone, output) == {"train": (2, 7), "val": (1, 0)}

    rows = load_fashionpedia(output, "train")
    assert rows["image_id"][:] == [1, 2]
    first, second = (fashionpedia_annotations(row) for row in rows)
    expected = [
        # id, category, attributes, box x y w h, area
        (1, 1, [], [25, 12, 10, 28], 280),
        (2, 6, [36, 154], [20, 60, 20, 30], 600),  # jeans, 0.90 of the person: maxi
        (3, 9, [150], [15, 10, 30, 50], 30 * 50 - 280),  # at 0.60: above the knee, no longer mini
        (4, 23, [], [5, 92, 20, 8], 160),  # the larger shoe first
        (5, 23, [], [30, 90, 8, 10], 80),
        (6, 24, [], [0, 20, 53, 29], 63 + 64 + 1),  # bag, purse and wallet are one
    ]
    found = [
        (entry["id"], entry["category_id"], entry["attribute_ids"], entry["bbox"], entry["area"]) for entry in first
    ]
    assert found == expected
    assert [(entry["category_id"], entry["attribute_ids"]) for entry in second] == [(8, [152])]  # 0.73: below the knee

    coat = box_mask((15, 10, 45, 60)) & ~box_mask((25, 12, 35, 40))
    assert np.array_equal(coco_mask.decode(first[2]["segmentation"]), coat)
    assert np.array_equal(coco_mask.decode(first[3]["segmentation"]), box_mask((5, 92, 25, 100)))
    assert load_fashionpedia(output, "val")[0]["objects"] == []


def test_files(clone, tmp_path):
    output = tmp_path / "ccp"
    output.mkdir()
    convert_ccp(clone, output)
    assert sorted(path.name for path in output.iterdir()) == [
        "images",
        "instances_attributes_train.json",
        "instances_attributes_val.json",
    ]
    for photo in (clone / "photos").iterdir():
        assert (output / "images" / photo.name).read_bytes() == photo.read_bytes()
    content = json.loads((output / "instances_attributes_train.json").read_text())
    assert content["licenses"][0]["name"] == "Apache-2.0"
    assert content["images"][1] == {"id": 2, "file_name": "0002.jpg", "width": 40, "height": 130, "license": 1}
    assert read_vocabulary(output / "instances_attributes_train.json") == Vocabulary.fashionpedia()
    assert FashionpediaExamples(load_fashionpedia(output, "train"))[1]["image"].size == (40, 130)


@pytest.mark.parametrize(
    ("shortest", "longest", "attribute_id"),
    [
        (1, 41, 146),
        (42, 49, 147),
        (50, 54, 148),
        (55, 59, 149),
        (60, 65, 150),
        (66, 71, 151),
        (72, 76, 152),
        (77, 85, 153),
        (86, 93, 154),
        (94, 100, 155),
    ],
)
def test_hem_length(shortest, longest, attribute_id):
    """The person is 100 pixels tall, from row 20 of the picture on; one pixel of the garment is enough."""
    person = box_mask((10, 20, 30, 120), size=(150, 40))
    names = {key: name for key, name, _ in Vocabulary.fashionpedia().attributes}
    for hem in (shortest, longest):
        garment = box_mask((10, 20, 30, 21), (29, 20, 30, 20 + hem), size=(150, 40))
        assert hem_length(garment, person) == names[attribute_id]


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [
        # Two labels of one category are two instances only where an attribute tells them apart, in its order.
        ([("shirt", (0, 0, 10, 10)), ("blouse", (30, 0, 40, 10))], [(0, [], 200)]),
        ([("hoodie", (0, 0, 10, 20)), ("t-shirt", (10, 0, 20, 10))], [(1, [0], 100), (1, [16], 200)]),
        ([("jeans", (0, 0, 10, 20)), ("pants", (10, 0, 20, 20))], [(6, [155], 200), (6, [36, 155], 200)]),
        # Boots and socks under one category or another; diagonal neighbours are connected.
        ([("boots", (0, 0, 10, 10)), ("shoes", (20, 0, 30, 20))], [(23, [], 200), (23, [], 100)]),
        ([("socks", (0, 0, 10, 10)), ("socks", (10, 10, 20, 20))], [(22, [], 200)]),
        ([("gloves", (0, 0, 10, 10)), ("gloves", (12, 10, 19, 19))], [(17, [], 100)]),  # the second: 63 pixels
        # One pair of glasses, though a nose parts them.
        ([("glasses", (0, 0, 10, 10)), ("glasses", (12, 0, 22, 10))], [(13, [], 200)]),
        ([("suit", (0, 0, 10, 10)), ("skin", (12, 0, 22, 10)), ("bra", (30, 0, 40, 10))], []),
    ],
)
def test_instances(drawn, expected):
    found = find_instances(label_map(drawn), NAMES)
    assert [(category, attributes, mask.sum()) for category, attributes, mask in found] == expected


def test_what_a_clone_lacks_is_left_out(clone, tmp_path, caplog):
    """No photo changes sides: without 701 there is no validation, and 801 belongs to no split."""
    maps, photos = clone / "annotations" / "pixel-level", clone / "photos"
    (maps / "0701.mat").rename(maps / "0801.mat")
    (photos / "0701.jpg").rename(photos / "0801.jpg")
    with caplog.at_level(logging.WARNING, logger=ccp.__name__):
        assert convert_ccp(clone, tmp_path / "ccp") == {"train": (2, 7)}
    messages = " ".join(caplog.messages)
    assert "2 of the 700 photos of split 'train'" in messages and "0 of the 100 photos of split 'val'" in messages
    assert not (tmp_path / "ccp" / "instances_attributes_val.json").exists()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def write_map(values: np.ndarray, name: str = "groundtruth"):
    return lambda clone: savemat(clone / "annotations" / "pixel-level" / "0002.mat", {name: values})


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (shutil.rmtree, FileNotFoundError, r"lacks photos, annotations.pixel-level, label_list.mat .*git clone https"),
        (lambda clone: shutil.rmtree(clone / "photos"), FileNotFoundError, r"lacks photos \(found: annotations, label"),
        (lambda clone: (clone / "label_list.mat").unlink(), FileNotFoundError, r"lacks label_list.mat \("),
        (
            lambda clone: [file.unlink() for file in (clone / "annotations" / "pixel-level").iterdir()],
            FileNotFoundError,
            r"pixel-level has no label map of any split",
        ),
        (
            lambda clone: write_label_list(clone / "label_list.mat", ["null", "sari"]),
            ValueError,
            r"unknown labels sari",
        ),
        (lambda clone: write_label_list(clone / "label_list.mat", ["hat"]), ValueError, r"no label 'null'"),
        (
            write_map(np.zeros((130, 40), np.uint8), "tags"),
            ValueError,
            r"0002.mat has no variable 'groundtruth', .*tags",
        ),
        (write_map(np.full((130, 40), 59, np.uint8)), ValueError, r"0002.mat: .* 0 to 58, found 59 to 59"),
        (write_map(np.zeros((130, 40))), ValueError, r"0002.mat: expected .*integers.*float64 of shape \(130, 40\)"),
        (write_map(np.zeros((130, 40, 3), np.uint8)), ValueError, r"0002.mat: .*found uint8 of shape \(130, 40, 3\)"),
        (write_map(np.zeros((40, 130), np.uint8)), ValueError, r"0002.jpg is 40 x 130 pixels, .*label map 130 x 40"),
        (lambda clone: cut(clone / "annotations" / "pixel-level" / "0002.mat"), ValueError, r"0002.mat cannot be read"),
        (lambda clone: cut(clone / "photos" / "0002.jpg"), ValueError, r"0002.jpg cannot be read as an image"),
        (lambda clone: (clone / "photos" / "0002.jpg").unlink(), FileNotFoundError, r"0002.jpg is missing"),
    ],
)
def test_a_damaged_clone_is_refused_before_anything_is_written(clone, tmp_path, damage, error, message):
    damage(clone)
    with pytest.raises(error, match=message):
        convert_ccp(clone, tmp_path / "ccp")
    assert not (tmp_path / "ccp").exists()


def test_an_output_in_use_is_refused(clone, tmp_path):
    output = tmp_path / "ccp"
    convert_ccp(clone, output)
    before = {file: file.read_bytes() for file in output.rglob("*.*")}
    with pytest.raises(ValueError, match=r"ccp is not empty \(images, instances_attributes_train.json"):
        convert_ccp(clone, output)
    assert {file: file.read_bytes() for file in output.rglob("*.*")} == before
    with pytest.raises(ValueError, match="is a file"):
        convert_ccp(clone, clone / "label_list.mat")


@pytest.mark.parametrize(("module", "name"), [("shutil", "copyfile"), ("json", "dumps")])
def test_a_full_disk_leaves_no_annotation_file(clone, tmp_path, monkeypatch, module, name):
    """The second photo, or the second annotation file, does not fit any more."""
    original, calls = getattr(getattr(ccp, module), name), []

    def fail_at_the_second(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*arguments)

    monkeypatch.setattr(getattr(ccp, module), name, fail_at_the_second)
    with pytest.raises(OSError, match="No space left"):
        convert_ccp(clone, tmp_path / "ccp")
    assert not list((tmp_path / "ccp").rglob("*.json"))
