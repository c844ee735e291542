"""The check of a data set, on one with every kind of problem and on broken files; the picture of its labels."""

import copy
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from fashion_detr import FashionDetrConfig
from fashion_detr.data.annotations import read_ground_truth
from fashion_detr.data.check import Counts, check_data_set, format_report
from fashion_detr.data.statistics import draw_statistics, label_statistics

SAMPLE = Path(__file__).parent / "data" / "fashionpedia_sample" / "sample.json"
HEIGHT, WIDTH = 40, 60
SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]  # 20 x 20
SQUARE_RUNS = [10 * HEIGHT + 10, *[20, HEIGHT - 20] * 19, 20, 10 + 30 * HEIGHT]
JSON = "instances_attributes_{}.json"


def compressed(runs: list[int]) -> dict[str, Any]:
    rle = coco_mask.frPyObjects({"size": [HEIGHT, WIDTH], "counts": runs}, HEIGHT, WIDTH)
    return {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()}


def annotation(key: int, image_id: int = 1, segmentation: Any = (SQUARE,), **fields: Any) -> dict[str, Any]:
    segmentation = list(segmentation) if isinstance(segmentation, tuple) else segmentation
    box = {"bbox": [10, 10, 20, 20], "area": 400.0, "category_id": 7, "attribute_ids": [], "iscrowd": 0}
    return {"id": key, "image_id": image_id, "segmentation": segmentation} | box | fields


def healthy() -> dict[str, Any]:
    """Four images, of which the last has no annotation; sparse ids; every encoding; boxes and areas by any custom."""
    content = {
        "images": [{"id": key, "file_name": f"{key}.png", "width": WIDTH, "height": HEIGHT} for key in (1, 2, 3, 4)],
        "annotations": [
            annotation(10, attribute_ids=[2, 340]),
            annotation(11, category_id=33, bbox=[9.5, 9.5, 21, 21], area=441),
            annotation(12, 2, {"size": [HEIGHT, WIDTH], "counts": SQUARE_RUNS}, iscrowd=1),
            annotation(13, 3, compressed(SQUARE_RUNS), bbox=None, area=None),
            # A bow tie: the areas of its halves have opposite signs, so that the shoelace formula gives 0.
            annotation(14, 3, ([10, 10, 30, 30, 30, 10, 10, 30],), area=200),
            # Two squares over each other have the area of one.
            annotation(15, 3, (SQUARE, SQUARE)),
        ],
        "categories": [{"id": 33, "name": "neckline", "supercategory": "parts"}, {"id": 7, "name": "shorts"}],
        "attributes": [{"id": key, "name": f"a{key}", "supercategory": "s"} for key in (340, 2)],
    }
    return copy.deepcopy(content)  # the tests change it


def write(data_dir: Path, split: str, content: Any) -> Path:
    annotation_file = data_dir / JSON.format(split)
    annotation_file.write_text(json.dumps(content))
    folder = data_dir / split
    folder.mkdir(exist_ok=True)
    for key in (1, 2, 3, 4):
        PIL.Image.new("RGB", (WIDTH, HEIGHT)).save(folder / f"{key}.png")
    return annotation_file


def write_both(data_dir: Path) -> None:
    for split in ("train", "val"):
        write(data_dir, split, healthy())


def test_the_folder_may_be_relative(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    write_both(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert check_data_set("mine").findings == ()
    monkeypatch.chdir(tmp_path / "mine")
    assert check_data_set(".").findings == ()


def test_a_healthy_data_set(tmp_path):
    write_both(tmp_path)
    turned = PIL.Image.new("RGB", (HEIGHT, WIDTH))  # stored lying down; the reader turns it
    turned.getexif()[0x0112] = 6
    turned.save(tmp_path / "train" / "4.png", exif=turned.getexif())
    report = check_data_set(tmp_path)
    assert report.findings == ()
    assert report.can_train
    expected = Counts(
        images=4,
        annotations=6,
        images_without_annotation=1,
        polygons=4,
        uncompressed_run_lengths=1,
        compressed_run_lengths=1,
        crowds=1,
        instances_per_image=(0, 1.5, 3),
    )
    assert report.counts == {"train": expected, "val": expected}
    text = format_report(report)
    assert text.endswith("Training can start: nothing was found.")
    assert "train: 4 images (1 without an annotation), 6 annotations (1 crowds)" in text
    assert "instances an image: 0 to 3, median 1.5" in text


def test_every_kind_of_problem_is_found_once(tmp_path):
    content = healthy()
    content["images"] += [
        {"id": 5, "file_name": "gone.png", "width": WIDTH, "height": HEIGHT},
        {"id": 6, "file_name": "turned.png", "width": WIDTH, "height": HEIGHT},
        {"id": 7, "file_name": "text.png", "width": WIDTH, "height": HEIGHT},
        {"id": 8, "file_name": "4.png", "width": None, "height": HEIGHT},
        {"id": 4, "file_name": "4.png", "width": WIDTH, "height": HEIGHT},
    ]
    content["categories"] += [{"id": 40, "name": "tie"}, {"id": 40, "name": "tie"}]
    content["attributes"][1]["name"] = None  # what a broken list lacks is not held against the other split
    content["attributes"] += [{"id": 340, "name": "a340"}]
    far, thin = [40, 10, 70, 10, 70, 30, 40, 30], [10, 10, 20, 10, 30, 10]
    content["annotations"] += [
        annotation(20, 8),  # an image whose own entry is broken is known all the same
        annotation(21, 99),
        annotation(22, category_id=8),
        annotation(23, attribute_ids=[2, 341]),
        annotation(24, attribute_ids="2"),
        annotation(25, bbox=[10, 10, None, 20]),
        annotation(26, segmentation=[[10, 10, None, 10, 30, 30]]),
        annotation(27, segmentation=[SQUARE, [1, 1, 5, 5]]),
        annotation(28, segmentation=[far], bbox=[40, 10, 30, 20], area=600),
        annotation(29, segmentation=[thin]),
        annotation(30, bbox=[10, 10, 20, 23.5]),
        annotation(31, area=40),
        annotation(15, 3),
    ]
    write(tmp_path, "train", content)
    write(tmp_path, "val", healthy())
    PIL.Image.new("RGB", (HEIGHT, WIDTH)).save(tmp_path / "train" / "turned.png")
    (tmp_path / "train" / "text.png").write_text("no image")

    report = check_data_set(tmp_path)
    expected = [  # severity, part of the kind, part of the offender
        ("error", "fields in 'images'", "entry 7: id 8: expected 'width' of type int, found None"),
        ("error", "ids in 'images'", "id 4: 2 times"),
        ("error", "fields in 'annotations'", "entry 10: id 24: expected 'attribute_ids'"),
        ("error", "ids in 'annotations'", "id 15: 2 times"),
        ("error", "ids in 'categories'", "id 40: 2 times"),
        ("error", "fields in 'attributes'", "entry 1: id 2: expected 'name' of type str, found None"),
        ("error", "ids in 'attributes'", "id 340: 2 times"),
        ("error", "unknown image_id (expected one of the 8 ids from 1 to 8)", "annotation 21: 99"),
        ("error", "unknown category_id (expected one of the 3 ids from 7 to 40)", "annotation 22: 8"),
        ("error", "unknown attribute_ids (expected one of the 2 ids from 2 to 340)", "annotation 23: 341"),
        ("error", "malformed boxes", "annotation 25 of image 1: expected [x, y, width, height]"),
        ("error", "segmentations that do not fit", "annotation 26 of image 1: expected coordinates"),
        ("error", "missing image files", "'gone.png'"),
        ("error", "another size", "'turned.png': expected 60 x 40, found 40 x 60"),
        ("error", "no readable image", "'text.png': it is empty, or not a JPEG"),
        ("error", "categories that differ between 'train' and 'val'", "id 40: 'tie' in 'train', nothing in 'val'"),
        ("warning", "degenerate polygons", "annotation 27 of image 1: 1 of 2 polygons are left"),
        ("warning", "reach out of the image", "annotation 28 of image 1: mask [40.0, 10.0, 70.0, 30.0] in 60 x 40"),
        ("warning", "without a pixel", "annotation 29 of image 1"),
        ("warning", "boxes that contradict", "annotation 30 of image 1: expected [x0, y0, x1, y1] [10.0, 10.0, 30.0"),
        ("warning", "areas that contradict", "annotation 31 of image 1: expected 400 pixels, found 40"),
    ]
    left = list(report.findings)
    for severity, kind, offender in expected:
        [finding] = [one for one in left if kind in one.kind]
        left.remove(finding)
        assert (finding.severity, finding.count) == (severity, 1), finding
        assert finding.split == (None if "differ" in kind else "train")
        assert offender in finding.offenders[0]
    assert left == []
    assert [one.severity for one in report.findings] == sorted(one.severity for one in report.findings)
    assert not report.can_train
    text = format_report(report)
    assert "error: train: missing image files: 1\n    'gone.png'\n" in text
    assert "error: categories that differ between" in text
    assert text.endswith("Training cannot start: 16 kinds of errors, 5 of warnings.")


def test_only_the_first_offenders_are_named(tmp_path):
    content = healthy()
    content["annotations"] += [annotation(key, 50) for key in range(100, 107)]
    write(tmp_path, "train", content)
    [finding] = check_data_set(tmp_path, ["train"]).findings
    assert (finding.count, len(finding.offenders), finding.offenders[4]) == (7, 5, "annotation 104: 50")
    assert "... and 2 more" in format_report(check_data_set(tmp_path))


@pytest.mark.parametrize(
    ("segmentation", "fault"),
    [
        (SQUARE, "expected polygons"),
        ([[float("nan"), 10, 30, 10, 30, 30]], "expected coordinates"),
        ([[10, 10, 10**400, 10, 30, 30]], "expected coordinates"),
        ([[10, 10, "30", 10, 30, 30]], "expected coordinates"),
        ({"size": [HEIGHT, WIDTH]}, "expected an RLE's counts"),
        ({"size": [WIDTH, HEIGHT], "counts": SQUARE_RUNS}, "[40, 60], found [60, 40]"),
        ({"size": [HEIGHT, WIDTH], "counts": [*SQUARE_RUNS, 5]}, "40 x 60 = 2400 pixels, found 2405"),
        ({"size": [HEIGHT, WIDTH], "counts": ["2400"]}, "expected counts of whole numbers"),
        ({"size": [HEIGHT, WIDTH], "counts": [9 * 10**4299] * 2}, "expected counts of whole numbers"),
        ({"size": [HEIGHT, WIDTH], "counts": "\ud800"}, "compressed form"),
    ],
)
def test_malformed_masks(tmp_path, segmentation, fault):
    content = healthy()
    content["annotations"][0]["segmentation"] = segmentation
    write(tmp_path, "train", content)
    report = check_data_set(tmp_path, ["train"])
    [finding] = report.findings
    assert (finding.kind, finding.count) == ("segmentations that do not fit the format or their image", 1)
    assert finding.offenders[0].startswith("annotation 10 of image 1: ")
    assert fault in finding.offenders[0]
    assert not report.can_train


def test_what_would_teach_less_than_it_seems(tmp_path):
    """Attributes that nothing carries, and a photo that is listed twice, each time with other objects."""
    content = healthy()
    for entry in content["annotations"]:
        entry |= {"attribute_ids": [], "attributes": {"occluded": True, "rotation": 0.0}}
    content["annotations"][0]["attributes"]["colour"] = "red"
    content["images"].append({"id": 9, "file_name": "./1.png", "width": WIDTH, "height": HEIGHT})
    write(tmp_path, "train", content)
    report = check_data_set(tmp_path, ["train"])
    assert report.can_train
    assert {(one.kind.split(",")[0], one.offenders) for one in report.findings} == {
        ("annotations whose 'attributes' are not read: 'attribute_ids' are", ("annotation 10: {'colour': 'red'}",)),
        ("training splits whose annotations carry no attribute", ("none of 2",)),
        ("photos that are listed several times", ("'1.png': 2 times",)),
    }


@pytest.mark.parametrize("number", [1, 4])
def test_photos_of_almost_the_same_name_are_told(tmp_path, number):
    """The first one, by which the folder is found, and another one."""
    content = healthy()
    for image in content["images"]:
        if image["id"] == number:
            image["file_name"] = f"M\u00e4ntel%20{number}.png"
    write(tmp_path, "train", content)
    (tmp_path / "train" / f"{number}.png").rename(tmp_path / "train" / f"MA\u0308NTEL {number}.PNG")
    [finding] = check_data_set(tmp_path, ["train"]).findings
    assert f"'M\\xe4ntel%20{number}.png' is listed, 'MA\\u0308NTEL {number}.PNG' is there" in finding.offenders[0]


@pytest.mark.parametrize(
    ("fields", "kinds"),
    [
        ({"segmentation": [[1, 1, None, 5], SQUARE]}, ["degenerate polygons"]),
        ({"segmentation": []}, ["annotations without a mask (a box is not enough)"]),
        # The box of what is left inside: 40 to 60.
        ({"segmentation": [[40, 10, 70, 10, 70, 30, 40, 30]], "bbox": [40, 10, 20, 20]}, ["polygons or boxes"]),
        ({"segmentation": [[70, 10, 90, 10, 90, 30, 70, 30]]}, ["polygons or boxes", "masks without a pixel"]),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [2400]}}, ["masks without a pixel"]),
        ({"bbox": [10, 10, 20, 1e300]}, ["polygons or boxes", "boxes that contradict"]),
        *(({"area": area}, ["areas that contradict"]) for area in (-400, float("nan"), 2**63 - 1)),
    ],
)
def test_training_starts_with_warnings(tmp_path, fields, kinds):
    content = healthy()
    content["annotations"][0].update(fields)
    annotation_file = write(tmp_path, "train", content)
    report = check_data_set(tmp_path, ["train"])
    assert [(one.severity, one.count) for one in report.findings] == [("warning", 1)] * len(kinds)
    for finding, kind in zip(report.findings, kinds):
        assert finding.kind.startswith(kind)
        assert finding.offenders[0].startswith("annotation 10 of image 1")
    assert report.can_train
    read_ground_truth(annotation_file)


@pytest.mark.parametrize(
    ("section", "entry", "kind", "offender"),
    [
        ("categories", {"id": 8, "name": "shorts"}, "names in 'categories'", "'shorts' of the ids 7, 8: merge"),
        ("attributes", {"id": 3, "name": "a340"}, "names in 'attributes'", "'a340' of the ids 340, 3: merge"),
        ("categories", {"id": 8, "name": "tie", "supercategory": 5}, "fields in", "'supercategory' of type str | None"),
        ("attributes", {"id": 3, "name": "a3", "supercategory": ["s"]}, "fields in", "'supercategory' of type str"),
        ("annotations", annotation(16, iscrowd="0"), "fields in", "'iscrowd' of type bool | int | float | None"),
        ("annotations", annotation(16, area=10**400), "fields in", "'area' from -2^63"),
        ("annotations", annotation(16, attribute_ids=[True]), "fields in", "'attribute_ids' of numbers, found [True]"),
        (
            "images",
            {"id": 9, "file_name": "\ud800.png", "width": WIDTH, "height": HEIGHT},
            "fields in",
            r"'file_name' of whole characters, found '\ud800.png'",
        ),
        ("annotations", annotation(True), "fields in", "'id' of type int, found True"),
        (
            "annotations",
            annotation(2**63),
            "fields in",
            "'id' from -2^63 to 2^63 - 1 (int64), found 9223372036854775808",
        ),
        ("annotations", annotation(-(2**63) - 1), "fields in", "'id' from -2^63 to 2^63 - 1 (int64)"),
        (
            "images",
            {"id": 2**70, "file_name": "4.png", "width": WIDTH, "height": HEIGHT},
            "fields in",
            "'id' from -2^63",
        ),
        ("categories", {"id": 2**70, "name": "tie"}, "fields in", "'id' from -2^63"),
        ("attributes", {"id": 2**70, "name": "a3"}, "fields in", "'id' from -2^63"),
    ],
)
def test_what_no_training_takes(tmp_path, section, entry, kind, offender):
    """The configuration, or the columns of the rows, would refuse it when the training starts."""
    content = healthy()
    content[section].append(entry)
    write(tmp_path, "train", content)
    report = check_data_set(tmp_path, ["train"])
    [finding] = report.findings
    assert kind in finding.kind and repr(section) in finding.kind
    assert (finding.severity, finding.count) == ("error", 1)
    assert offender in finding.offenders[0]
    assert not report.can_train


POINT = [10, 10, 10, 10, 10, 10]


@pytest.mark.parametrize(
    ("annotations", "found"),
    [
        ([], "found no annotation"),
        (
            [annotation(10, iscrowd=1), annotation(11, iscrowd=True)],
            "found 2 annotations, all of them crowds or without",
        ),
        ([annotation(10, iscrowd=1), annotation(11, segmentation=[[1, 1, 5, 5]])], "found 2 annotations"),
        ([annotation(10, segmentation=[POINT], bbox=None)], "found 1 annotations"),
    ],
)
def test_a_training_split_needs_an_instance_to_learn_from(tmp_path, annotations, found):
    write_both(tmp_path)
    write(tmp_path, "train", healthy() | {"annotations": annotations})
    finding = check_data_set(tmp_path).findings[0]
    assert (finding.split, finding.severity, finding.count) == ("train", "error", 1)
    assert finding.kind == "training splits without an instance to learn from"
    assert found in finding.offenders[0]
    judged = check_data_set(tmp_path, ["val", "train"])
    assert judged.can_train, "to be judged by, such photos serve as well"
    nothing = "splits without an annotation, on which nothing can be measured"
    assert (nothing in [one.kind for one in judged.findings]) is (annotations == [])

    broken = annotation(16, segmentation=SQUARE)  # it would be learnt from if it were repaired
    write(tmp_path, "train", healthy() | {"annotations": [*annotations, broken]})
    [finding] = [one for one in check_data_set(tmp_path).findings if one.severity == "error"]
    assert finding.kind == "segmentations that do not fit the format or their image"


def test_what_an_epoch_would_trip_over_later(tmp_path):
    """A photo that ends early, one with more pixels than are read, one listed as it lies; brush strokes as crowds."""
    content = healthy()
    for one in content["annotations"][:3]:
        one["iscrowd"] = 1
    content["images"][3]["file_name"] = "4.jpg"
    write(tmp_path, "train", content)
    folder = tmp_path / "train"
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(folder / "4.jpg", quality=95)
    (folder / "4.jpg").write_bytes((folder / "4.jpg").read_bytes()[:-1500])
    PIL.Image.new("1", (12_000, 10_001)).save(folder / "3.png")
    turned = PIL.Image.new("RGB", (WIDTH, HEIGHT))
    turned.getexif()[0x0112] = 8
    turned.save(folder / "2.png", exif=turned.getexif())
    report = check_data_set(tmp_path, ["train"])
    told = "\n".join(case for one in report.findings for case in one.offenders)
    assert "'4.jpg': OSError: image file is truncated" in told
    assert "'3.png': ValueError: it has 120 megapixels; the limit, which keeps it from filling" in told
    assert "'2.png': expected 60 x 40, found 40 x 60 (width x height), turned by its EXIF orientation" in told
    assert '3 of 6 annotations: some tools export what was painted with a brush as a crowd; set "iscrowd" to 0' in told
    assert len(report.findings) == 3 and not report.can_train


@pytest.mark.parametrize("attribute_ids", [[[2]], [{}], ["\ud800"], [None]])
def test_attributes_that_are_no_ids(tmp_path, attribute_ids):
    content = healthy()
    content["annotations"][0]["attribute_ids"] = attribute_ids
    write(tmp_path, "train", content)
    report = check_data_set(tmp_path, ["train"])
    assert [one.severity for one in report.findings] == ["error"]
    assert b"10: " in format_report(report).encode()  # half a surrogate pair has no encoding


@pytest.mark.parametrize("custom", ["corners", "last pixel inside", "mask"])
def test_the_authors_sample_has_no_finding(tmp_path, custom):
    """Boxes by any custom, derived from its polygons: it has none of its own."""
    content = json.loads(SAMPLE.read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    for one in content["annotations"]:
        points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in one["segmentation"]])
        corner, extent = points.min(axis=0), np.ptp(points, axis=0)
        if custom == "mask":
            rle = coco_mask.merge(coco_mask.frPyObjects(one["segmentation"], *sizes[one["image_id"]]))
            one["bbox"] = coco_mask.toBbox(rle).tolist()
        else:
            one["bbox"] = [*corner.tolist(), *(extent + (custom == "last pixel inside")).tolist()]
    (tmp_path / JSON.format("val")).write_text(json.dumps(content))
    for image in content["images"]:
        PIL.Image.new("L", (image["width"], image["height"])).save(tmp_path / image["file_name"])
    report = check_data_set(tmp_path, ["val"])
    assert report.findings == ()
    assert report.counts["val"].polygons == 12


def test_photos_in_an_archive(tmp_path):
    write_both(tmp_path)
    shutil.rmtree(tmp_path / "train")
    png = io.BytesIO()
    PIL.Image.new("RGB", (WIDTH, HEIGHT)).save(png, "png")
    with zipfile.ZipFile(tmp_path / "train2020.zip", "w") as archive:
        for key in (1, 2, 4):
            archive.writestr(f"train/{key}.png", png.getvalue()[: 20 if key == 2 else None])
    missing, unreadable = check_data_set(tmp_path).findings
    assert (missing.kind, missing.offenders) == ("missing image files", ("'3.png'",))
    assert (unreadable.kind, unreadable.count) == ("files that are no readable image", 1)
    assert unreadable.offenders[0].startswith("'2.png'")


def test_missing_splits_and_photos(tmp_path):
    nowhere = check_data_set(tmp_path / "nowhere")
    assert [(one.split, one.severity) for one in nowhere.findings] == [("train", "error"), ("val", "warning")]
    assert "no such folder" in format_report(nowhere)

    write(tmp_path, "train", healthy())
    [finding] = check_data_set(tmp_path).findings
    assert (finding.split, finding.severity) == ("val", "warning")
    assert "instances_attributes_val2020.json" in finding.offenders[0]
    assert check_data_set(tmp_path).can_train
    [finding] = check_data_set(tmp_path, ["train2017", "train"]).findings
    assert (finding.split, finding.severity) == ("train2017", "error"), "what there is cannot be learnt from"

    (tmp_path / "train").rename(tmp_path / "photos")
    [finding] = check_data_set(tmp_path, ["train"]).findings
    assert (finding.severity, finding.kind) == ("error", "image folders or archives that are not found")
    assert "'1.png', the first image" in finding.offenders[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        (json.dumps(healthy())[:-10], "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("\x00\xff", "not valid JSON"),
        ("null", "found NoneType"),
        ("[1, 2]", "found list"),
        ('{"images": null, "categories": [], "x": 1}', "lacks ['images', 'annotations']"),
        ('{"images": [], "categories": [], "attributes": [], "annotations": []}', "'images' of"),
    ],
)
def test_broken_files(tmp_path, text, message):
    write_both(tmp_path)
    (tmp_path / JSON.format("train")).write_text(text, encoding="latin-1")
    report = check_data_set(tmp_path)
    assert {one.severity for one in report.findings} == {"error"}
    assert message in report.findings[0].offenders[0]
    assert str(tmp_path / JSON.format("train")) in report.findings[0].offenders[0]
    assert report.counts["val"].images == 4


def places(node: Any, path: tuple = ()) -> list[tuple]:
    """The paths of all nodes of a JSON document."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *[place for key, child in children for place in places(child, (*path, key))]]


JUNK = [
    None,
    True,
    -1,
    0,
    2,
    2**63,
    7.5,
    1e300,
    float("nan"),
    10**400,
    "",
    "x",
    "shorts",
    "\ud800",
    "\0",
    [],
    [[]],
    [None],
    {},
    {"id": 1},
]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(places(healthy())[1:]), st.sampled_from(JUNK)), min_size=1, max_size=3))
def test_nothing_crashes_the_check_and_what_it_passes_can_be_read(tmp_path, changes):
    content = healthy()
    for (*path, last), junk in changes:
        node = content
        try:
            for key in path:
                node = node[key]
            node[last] = copy.deepcopy(junk)
        except (KeyError, IndexError, TypeError):
            pass  # an earlier change has replaced the parent
    annotation_file = tmp_path / JSON.format("train")
    if not annotation_file.exists():
        write(tmp_path, "train", content)
    annotation_file.write_text(json.dumps(content))
    report = check_data_set(tmp_path, ["train"])
    format_report(report).encode()
    if report.can_train:
        vocabulary, _ = read_ground_truth(annotation_file)
        FashionDetrConfig(**vocabulary.config_kwargs())


def test_label_statistics(tmp_path):
    content = healthy()
    content["annotations"][0]["attribute_ids"] *= 2  # a repeated id is one attribute
    # Nothing without a pixel, and no crowd, such as that of image 2.
    content["annotations"].append(annotation(90, 2, compressed([HEIGHT * WIDTH])))
    statistics = label_statistics(write(tmp_path, "train", content))
    assert list(statistics.category_counts.items()) == [("shorts", 4), ("neckline", 1)]
    assert dict(statistics.attribute_counts) == {"a2": 1, "a340": 1}
    # Image 1 has both categories, image 3 has shorts only.
    np.testing.assert_allclose(statistics.co_occurrence, [[1, 1 / 2], [1, 1]])
    np.testing.assert_array_equal(statistics.instances_per_image, [2, 0, 3, 0])
    np.testing.assert_allclose(statistics.sizes[2], np.sqrt(400 / (HEIGHT * WIDTH)))
    assert len(statistics.sizes) == 5


@pytest.mark.parametrize("annotations", [6, 0])
def test_the_picture_of_the_labels(tmp_path, annotations):
    content = healthy()
    content["annotations"] = content["annotations"][:annotations]
    content["categories"][1]["name"] = "$\\frac$"  # no formula
    write(tmp_path, "val", content)
    draw_statistics(tmp_path, "val", tmp_path / "labels.png")
    with PIL.Image.open(tmp_path / "labels.png") as picture:
        assert min(picture.size) >= 1000
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    colours = {"#0072b2": 6, "#d55e00": 2, "#009e73": 6, "#cc79a7": 4}  # of the four panels with bars
    for colour, instances in colours.items():
        drawn = (pixels == np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])).all(axis=1).sum()
        assert (drawn > 1000) == (annotations > 0 or colour == "#cc79a7"), (colour, instances)


def test_the_picture_names_a_split_that_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="annotation file of split 'test'"):
        draw_statistics(tmp_path, "test", tmp_path / "labels.png")
