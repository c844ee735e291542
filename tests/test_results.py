"""Results keep their layers: through JSON and other programs' formats, flattened, cut out, drawn."""

import copy
import json
import pickle
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from fashion_detr import FashionDetrConfig, FashionDetrImageProcessor, FashionResult
from fashion_detr.data.annotations import Vocabulary, read_results
from fashion_detr.fonts import load_font, printable
from fashion_detr.modeling_fashion_detr import FashionDetrForInstanceSegmentationOutput
from fashion_detr.ontology_fashion_detr import CATEGORIES
from fashion_detr.results_fashion_detr import TRY_ON_GARMENTS
from fashion_detr.visualization import draw_objects

CONFIG = FashionDetrConfig()
PHOTO = (64, 48)
OFFICIAL_KEYS = ["image_id", "category_id", "attribute_ids", "segmentation", "score"]
TOP, TROUSERS = "top, t-shirt, sweatshirt", "pants"


def box(top: int, left: int, bottom: int, right: int, size: tuple[int, int] = PHOTO) -> torch.Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


TOY = {"coat": box(8, 4, 60, 44), "collar": box(4, 16, 16, 32), "pocket": box(32, 8, 44, 20)}


def toy_outputs() -> FashionDetrForInstanceSegmentationOutput:
    """
    What a perfect model says of the toy on a canvas of the photo's size, and of a faint hat.

    Logits of 16 inside and -10 outside give boxes of whole cells back exactly, their corners too: the pixels beside an
    edge have 5/8 of their own side, the ones in a corner 25/64.
    """
    masks = torch.full((1, 4, 16, 12), -10.0)
    for query, mask in enumerate(TOY.values()):
        masks[0, query][mask[::4, ::4]] = 16.0
    masks[0, 3, :2, :4] = 1.0
    classes = torch.full((1, 4, CONFIG.num_labels), -10.0)
    for query, (name, logit) in enumerate([("coat", 4.0), ("collar", 3.0), ("pocket", 2.0), ("hat", 1.0)]):
        classes[0, query, CONFIG.label2id[name]] = logit
    attributes = torch.full((1, 4, CONFIG.num_attributes), -10.0)
    attributes[0, 0, :2] = torch.tensor([2.0, -0.5])
    return FashionDetrForInstanceSegmentationOutput(
        class_queries_logits=classes,
        masks_queries_logits=masks,
        attribute_queries_logits=attributes,
        valid_sizes=torch.tensor([PHOTO]),
    )


def toy(**arguments: Any) -> FashionResult:
    (result,) = FashionDetrImageProcessor().post_process_fashion(toy_outputs(), [PHOTO], **arguments)
    return result


def thing(label: str, mask: torch.Tensor, parent: int | None = None, score: float = 0.5) -> dict[str, Any]:
    rows, columns = mask.nonzero(as_tuple=True)
    sides = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return {
        "label_id": CONFIG.label2id[label],
        "label": label,
        "score": score,
        "mask": mask,
        "bbox": [float(side) for side in sides],
        "attributes": [],
        "parent": parent,
    }


def outfit() -> FashionResult:
    """A top with a sleeve, trousers with a pocket, a dress, a coat with a collar, and a bag."""
    return FashionResult(
        [
            thing(TOP, box(0, 0, 8, 8)),
            thing("sleeve", box(0, 8, 8, 12), parent=0),
            thing(TROUSERS, box(20, 0, 28, 8)),
            thing("pocket", box(20, 4, 28, 12), parent=2),
            thing("dress", box(0, 20, 8, 28)),
            thing("coat", box(20, 20, 28, 28)),
            thing("collar", box(16, 20, 24, 28), parent=5),
            thing("bag, wallet", box(40, 0, 48, 8)),
            thing("zipper", box(40, 4, 48, 6), parent=7),
        ],
        PHOTO,
    )


# --- the list ---------------------------------------------------------------------------------------------------------


def test_toy_layers_come_back_whole():
    result = toy(threshold=0.6)
    assert [entry["label"] for entry in result] == list(TOY)
    for entry in result:
        assert torch.equal(entry["mask"], TOY[entry["label"]])
        assert list(entry) == ["label_id", "label", "score", "mask", "bbox", "attributes", "parent"]
    assert result[1]["bbox"] == [16.0, 4.0, 32.0, 16.0]
    assert [entry["parent"] for entry in result] == [None, 0, 0]
    assert result.children(0) == [1, 2] == result.children(-3) and result.children(2) == []
    leaves = [{"index": 1, "label": "collar", "children": []}, {"index": 2, "label": "pocket", "children": []}]
    assert result.tree() == [{"index": 0, "label": "coat", "children": leaves}]


def test_embeddings_are_those_of_the_queries_that_found_the_objects():
    outputs = toy_outputs()
    processor = FashionDetrImageProcessor()
    with pytest.raises(ValueError, match="without query_hidden_states"):
        processor.post_process_fashion(outputs, [PHOTO], output_embeddings=True)
    shuffled = [3, 2, 0, 1]  # hat, pocket, coat, collar
    for name in ("class_queries_logits", "masks_queries_logits", "attribute_queries_logits"):
        outputs[name] = outputs[name][:, shuffled]
    outputs.query_hidden_states = torch.arange(8, dtype=torch.bfloat16, requires_grad=True).view(1, 4, 2)
    (result,) = processor.post_process_fashion(outputs, [PHOTO], threshold=0.6, output_embeddings=True)
    assert [entry["label"] for entry in result] == ["coat", "collar", "pocket"]
    assert [entry["embedding"].tolist() for entry in result] == [[4, 5], [6, 7], [2, 3]]
    assert all(entry["embedding"].dtype == torch.float32 for entry in result)
    assert not any(entry["embedding"].requires_grad for entry in result)
    assert result.keep([2])[0]["embedding"].tolist() == [2, 3]
    assert FashionResult.from_json(result.to_json()) == toy(threshold=0.6)  # JSON leaves them out
    nothing = processor.post_process_fashion(outputs, [PHOTO], threshold=1.0, output_embeddings=True)
    assert [list(objects) for objects in nothing] == [[]]


def test_it_is_the_documented_list():
    result = toy()
    assert isinstance(result, list) and len(result) == 4 and result.image_size == PHOTO
    assert type(result[1:]) is list and toy(threshold=0.999) == []
    for again in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        assert type(again) is FashionResult and again.image_size == PHOTO
        assert all(torch.equal(one["mask"], other["mask"]) for one, other in zip(again, result, strict=True))
    with pytest.raises(ValueError, match=r"object 0 .'pants'. is 3 x 4, but its photo is 64 x 48"):
        FashionResult([thing(TROUSERS, torch.ones(3, 4).bool())], PHOTO)
    for parent in (0, 1, -1, 0.0, "0"):
        with pytest.raises(ValueError, match="parent of object 0"):
            FashionResult([thing("pocket", box(0, 0, 4, 4), parent=parent)], PHOTO)
    with pytest.raises(IndexError, match="no object 4: the result has 4"):
        result.children(4)


def test_keep_takes_the_parents_along():
    result = outfit()
    for positions in ([6, 1, 5], [-3, 1, -4], np.array([6, 1, 5]), torch.tensor([6, 1, 5]), iter((6, 1, 5))):
        kept = result.keep(positions)
        assert type(kept) is FashionResult and kept.image_size == PHOTO
        assert [entry["label"] for entry in kept] == ["collar", "sleeve", "coat"]
        # The collar's coat has moved from 5 to 2, and the sleeve's top is left out.
        assert [entry["parent"] for entry in kept] == [2, None, None]
        assert kept[0]["mask"] is result[6]["mask"]
    assert [entry["parent"] for entry in result] == [None, 0, None, 2, None, None, 5, None, 7]
    assert result.keep([]) == [] and FashionResult.from_json(kept.keep([2, 0]).to_json()).children(0) == [1]
    for twice in ([0, 2, 0], [8, -1]):
        with pytest.raises(ValueError, match="a position occurs twice"):
            result.keep(twice)
    for one in (1, None):
        with pytest.raises(IndexError, match=f"are a list, .* found {one}"):
            result.keep(one)
    with pytest.raises(IndexError, match="found 1"):
        result.to_label_map(order=1)
    # Truth values of all objects are no positions.
    for outside in ([9], [-10], [1.0], [True, False], torch.arange(9) > 7, np.arange(9) > 7):
        with pytest.raises(IndexError, match=r"no object .*: the result has 9"):
            result.keep(outside)


@pytest.mark.parametrize(
    "change",
    [
        lambda result: result.__delitem__(0),
        lambda result: result.__setitem__(slice(0, 2), []),
        lambda result: result.__iadd__(outfit()),
        lambda result: result.__imul__(0),
        lambda result: result.clear(),
        lambda result: result.extend(outfit()),
        lambda result: result.insert(0, result[0]),
        lambda result: result.pop(),
        lambda result: result.remove(result[0]),
        lambda result: result.reverse(),
        lambda result: result.sort(key=lambda entry: entry["label"]),
    ],
)
def test_objects_do_not_leave_their_positions(change):
    result = outfit()
    with pytest.raises(TypeError, match=r"use `result\.keep\(positions\)`"):
        change(result)
    assert [entry["label"] for entry in result] == [entry["label"] for entry in outfit()]


def test_objects_can_be_added_and_replaced():
    result = outfit()
    result.append(thing("pocket", box(0, 20, 4, 24), parent=4))
    result[3] = result[3] | {"parent": 5}
    assert result.children(4) == [9] and result.children(5) == [3, 6] and result.children(2) == []
    assert pickle.loads(pickle.dumps(result)).children(4) == [9] == copy.copy(result).children(4)


def test_what_does_not_fit_is_neither_added_nor_put_in_place():
    result, small = outfit(), thing("pocket", torch.ones(3, 4).bool())
    for entry, message in [
        (small, r"object \d+ .'pocket'. is 3 x 4, but its photo is 64 x 48"),
        (thing("pocket", box(0, 0, 4, 4), parent=99), r"the position of another one, 0 to 8, found 99"),
        ({"label": "pocket"}, "a dictionary with 'label', 'mask' and 'parent' at least, found one with 'label'"),
        (thing("pocket", box(0, 0, 4, 4)) | {"mask": None}, "is no tensor, but NoneType"),
        (thing("pocket", box(0, 0, 4, 4).float()), r"'pocket'. has to be boolean, found torch\.float32"),
        ("pocket", "found str"),
    ]:
        with pytest.raises(ValueError, match=message):
            result.append(entry)
        with pytest.raises(ValueError, match=message):
            result[2] = entry
    with pytest.raises(ValueError, match="lead in a circle"):
        result[5] = result[5] | {"parent": 6}  # the collar that it carries
    with pytest.raises(IndexError, match="no object 9"):
        result[9] = result[0]
    assert result.to_json() == outfit().to_json()


@pytest.mark.parametrize("parents", [[1, 0], [1, 2, 0], [None, 2, 3, 2]])
def test_objects_cannot_carry_one_another(parents):
    objects = [thing("pocket", box(0, 0, 4, 4), parent=parent) for parent in parents]
    with pytest.raises(ValueError, match=r"cannot carry one another, but above object . .'pocket'"):
        FashionResult(objects, PHOTO)
    record = json.loads(FashionResult([thing("pocket", box(0, 0, 4, 4)) for _ in parents], PHOTO).to_json())
    for entry, parent in zip(record["objects"], parents):
        entry["parent"] = parent
    with pytest.raises(ValueError, match="lead in a circle"):
        FashionResult.from_json(json.dumps(record))


@pytest.mark.parametrize(
    ("arguments", "labels", "attributes"),
    [
        ({}, ["coat", "collar", "pocket", "hat"], 2),
        ({"threshold": 0.6}, ["coat", "collar", "pocket"], 2),
        ({"threshold": 0.97}, ["coat"], 2),
        ({"top_k": 2}, ["coat", "collar"], 2),
        ({"attribute_threshold": 0.5}, ["coat", "collar", "pocket", "hat"], 1),
        ({"attribute_threshold": 0.9}, ["coat", "collar", "pocket", "hat"], 0),
    ],
)
def test_every_threshold_changes_the_result(arguments, labels, attributes):
    """Scores: 0.98, 0.95, 0.88, and for the hat 0.73 of its class times 0.73 in its mask. Attributes: 0.88, 0.38."""
    result = toy(**arguments)
    assert [entry["label"] for entry in result] == labels and len(result[0]["attributes"]) == attributes


def test_mask_threshold_moves_the_outline():
    """On the line from 16 to -10 over four pixels probability 0.9999 is at 9.2, about one pixel further inside."""
    areas = [int(toy(mask_threshold=threshold)[0]["mask"].sum()) for threshold in (0.001, 0.5, 0.9999)]
    assert areas[0] > areas[1] == 52 * 40 > areas[2]
    # A mask that has no pixel above the threshold is no object.
    assert [entry["label"] for entry in toy(mask_threshold=0.75, threshold=0.0)] == ["coat", "collar", "pocket"]


def test_outputs_that_still_have_gradients():
    outputs = toy_outputs()
    for name in ("class_queries_logits", "masks_queries_logits", "attribute_queries_logits"):
        outputs[name] = outputs[name].clone().requires_grad_()
    (result,) = FashionDetrImageProcessor().post_process_fashion(outputs, [PHOTO])
    assert torch.equal(result[0]["mask"], TOY["coat"])


# --- JSON -------------------------------------------------------------------------------------------------------------


def test_json_and_back():
    for result in (toy(threshold=0.6), toy(threshold=0.999)):
        text = result.to_json()
        again = FashionResult.from_json(text)
        assert again.image_size == PHOTO and again.to_json() == text
        for one, other in zip(again, result, strict=True):
            assert torch.equal(one.pop("mask"), other["mask"])
            assert one == {name: value for name, value in other.items() if name != "mask"}
    record = json.loads(toy().to_json())
    assert (record["height"], record["width"]) == PHOTO
    assert coco_mask.decode(record["objects"][2]["segmentation"]).sum() == TOY["pocket"].sum()
    # A file of `fashion-detr predict` also names its photo.
    assert len(FashionResult.from_json(json.dumps(record | {"image": "photo.jpg"}))) == 4
    for broken, message in [
        ({"width": 48, "height": 64}, "'objects'"),
        (record | {"height": 65}, "object 0 .'coat'. is 64 x 48, but its photo is 65 x 48"),
        (record | {"objects": [record["objects"][0] | {"segmentation": [[1, 2, 3, 4, 5, 6]]}]}, "TypeError"),
        ([], "TypeError"),
    ]:
        with pytest.raises(ValueError, match=message):
            FashionResult.from_json(json.dumps(broken))
    with pytest.raises(ValueError, match="not the name of a file"):
        FashionResult.from_json("photo.json")


def test_json_that_editors_and_other_programs_made():
    text = toy().to_json()
    for other in ("\ufeff" + text, text.encode("utf-8-sig"), text.encode("utf-16")):
        assert FashionResult.from_json(other).to_json() == text
    numbers = toy()
    for entry, score in zip(numbers, (np.float32(0.5), torch.tensor(0.5), np.float64(0.5), 1)):
        entry |= {"score": score, "bbox": torch.tensor(entry["bbox"]), "label_id": np.int64(entry["label_id"])}
    again = FashionResult.from_json(numbers.to_json())
    assert [entry["score"] for entry in again] == [0.5, 0.5, 0.5, 1]
    assert [entry["bbox"] for entry in again] == [entry["bbox"] for entry in toy()]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"width": 48', '"width": 30.7'),
        ('"width": 48', '"width": Infinity'),
        ('"width": 48', '"width": 10000000000000'),
        ('"size": [64, 48]', '"size": [64, 48, 1]'),
        ('"size": [64, 48]', '"size": [Infinity, 48]'),
        ('"size": [64, 48]', '"size": [10000000000, 10000000000]'),
        ('"size": [64, 48]', '"size": 64'),
        ('"attributes": [', '"attributes": null, "other": ['),
        ('"score": ', '"score": NaN, "other": '),
        ('"score": ', '"score": "high", "other": '),
        ('"score": ', '"score": 1e999, "other": '),
        ('"bbox": ', '"bbox": null, "other": '),
        ('"label": ', '"label": 5, "other": '),
        ('"label_id": ', '"label_id": "a", "other": '),
        ('"attributes": [', '"attributes": [1, '),
        ('"objects": ', '"objects": ' + 100_000 * "["),
    ],
)
def test_json_that_is_no_result_is_a_value_error(old, new):
    text = toy(threshold=0.6).to_json()
    assert old in text
    with pytest.raises(ValueError, match=r"JSON|has to be|have to be|sides of a photo|but its photo is"):
        FashionResult.from_json(text.replace(old, new))


def test_results_are_equal_pixel_by_pixel():
    result = toy(threshold=0.6, attribute_threshold=0.2)
    same = FashionResult.from_json(result.to_json())
    assert result == same == copy.deepcopy(result) == list(same)
    assert (result != same) is False
    same[0]["mask"][0, 0] ^= True
    assert result != same and toy(threshold=0.999) == [] != result
    assert result != result.keep(range(len(result) - 1)) and result != FashionResult([], (3, 4))


def test_printed_it_is_a_line_an_object():
    result = toy(threshold=0.6, attribute_threshold=0.2)
    lines = repr(result).splitlines()
    assert lines[0] == f"FashionResult: {len(result)} objects in a photo of 48 x 64" and len(lines) == 1 + len(result)
    for position, (line, entry) in enumerate(zip(lines[1:], result)):
        assert line.startswith(f"  {position}: {entry['label']} {entry['score']:.2f}")
        assert all(attribute["name"] in line for attribute in entry["attributes"])
    result[0] |= {"score": None, "attributes": None}  # as for what was drawn by hand
    assert repr(result).splitlines()[1] == f"  0: {result[0]['label']}"


# --- other programs ---------------------------------------------------------------------------------------------------


def test_official_result_format(tmp_path):
    entries = toy(threshold=0.6, attribute_threshold=0.2).to_coco(77)
    (tmp_path / "results.json").write_text(json.dumps(entries))
    results = read_results(tmp_path / "results.json", Vocabulary.fashionpedia(), {77: PHOTO})[77]
    assert [result["category_id"] for result in results] == [CONFIG.label2id[name] for name in TOY]
    assert results[0]["attribute_ids"] == CONFIG.attribute_ids[:2] and results[1]["attribute_ids"] == []
    assert all(list(entry) == OFFICIAL_KEYS and entry["image_id"] == 77 for entry in entries)
    assert np.array_equal(coco_mask.decode(entries[0]["segmentation"]), TOY["coat"].numpy())

    own = FashionDetrConfig(id2label={0: "pocket", 1: "coat"}, category_ids=[32, 9])
    (entry,) = FashionResult([thing("coat", TOY["coat"]) | {"label_id": 1}], PHOTO).to_coco(1, own)
    assert entry["category_id"] == 9
    with pytest.raises(ValueError, match=r"'coat' as its label 9: pass `config=model\.config`"):
        toy().to_coco(77, own)
    with pytest.raises(ValueError, match=r"`config` has to be the model's, `model\.config`, found dict"):
        toy().to_coco(77, {})


def test_coco_with_boxes():
    result = toy(threshold=0.6)
    entries = json.loads(json.dumps(result.to_coco(np.int64(77), boxes=True)))
    for entry, found in zip(entries, result, strict=True):
        assert entry["bbox"] == coco_mask.toBbox(entry["segmentation"]).tolist()
        assert entry["area"] == coco_mask.area(entry["segmentation"]) == found["mask"].sum()
        assert entry["image_id"] == 77


@pytest.mark.parametrize("threshold", [0.6, 0.97, 0.999])
def test_supervision(monkeypatch, threshold):
    """Its constructor takes arrays of one length; the library itself is not needed to say which."""
    result = toy(threshold=threshold)
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match="pip install supervision"):
        result.to_supervision()
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=SimpleNamespace))
    detections, count = result.to_supervision(), len(result)
    assert detections.xyxy.shape == (count, 4) and detections.mask.shape == (count, *PHOTO)
    assert detections.mask.dtype == bool and detections.confidence.shape == detections.class_id.shape == (count,)
    assert all(isinstance(value, np.ndarray) and value.shape == (count,) for value in detections.data.values())
    assert detections.data["class_name"].tolist() == list(TOY)[:count]
    assert detections.data["parent"].tolist() == [-1, 0, 0][:count]
    assert detections.data["index"].tolist() == [0, 1, 2][:count]
    assert detections.xyxy.tolist() == [[4, 8, 44, 60], [16, 4, 32, 16], [8, 32, 20, 44]][:count]
    assert all(np.array_equal(mask, entry["mask"]) for mask, entry in zip(detections.mask, result, strict=True))
    if count:
        assert detections.data["attributes"][0] == [CONFIG.id2attribute[0], CONFIG.id2attribute[1]]


# --- one map ----------------------------------------------------------------------------------------------------------


def row(*pixels: int) -> torch.Tensor:
    mask = torch.zeros(1, 6, dtype=torch.bool)
    mask[0, list(pixels)] = True
    return mask


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("parts", [0, 2, 1, 1, 1, -1]),  # the sleeve over top and belt, though it is larger than the belt
        ("size", [0, 2, 2, 1, 1, -1]),
        ("score", [0, 0, 0, 0, 1, -1]),
        ([1, 2, 0], [0, 0, 0, 0, 1, -1]),
        ([0, -1], [0, 2, 2, 0, -1, -1]),
        ([], [-1] * 6),
    ],
)
def test_label_map_orders(order, expected):
    result = FashionResult(
        [
            thing(TOP, row(0, 1, 2, 3), score=0.9),
            thing("sleeve", row(2, 3, 4), score=0.8),
            thing("belt", row(1, 2), score=0.7),
        ],
        (1, 6),
    )
    label_map = result.to_label_map(order=order)
    assert label_map.dtype == torch.int32 and label_map.tolist() == [expected]


def test_label_map_keeps_parts_visible():
    result = toy(threshold=0.6)
    label_map = result.to_label_map()
    assert label_map.shape == PHOTO and torch.equal(label_map == -1, ~(TOY["coat"] | TOY["collar"]))
    assert torch.equal(label_map == 1, TOY["collar"]) and torch.equal(label_map == 2, TOY["pocket"])
    assert torch.equal(label_map == 0, TOY["coat"] & ~TOY["collar"] & ~TOY["pocket"])
    assert (toy(threshold=0.999).to_label_map() == -1).all()
    with pytest.raises(ValueError, match="'parts', 'size', 'score'"):
        result.to_label_map("area")
    with pytest.raises(IndexError, match="no object 3"):
        result.to_label_map([0, 3])


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "members"), [("upper", [0, 1, 5, 6]), ("lower", [2, 3]), ("dress", [4]), ("full", range(7))]
)
def test_try_on_masks(target, members):
    result = outfit()
    expected = torch.stack([result[member]["mask"] for member in members]).any(dim=0)
    mask = result.mask(target)
    assert mask.mode == "L" and mask.size == PHOTO[::-1]
    assert np.array_equal(np.array(mask), 255 * expected.numpy().astype(np.uint8))
    grown = np.zeros(PHOTO, dtype=bool)
    for y, x in expected.nonzero().tolist():
        grown[max(0, y - 3) : y + 4, max(0, x - 3) : x + 4] = True
    assert np.array_equal(np.array(result.mask(target=target, dilate=3)) == 255, grown)


def test_try_on_takes_the_parts_of_parts_along():
    result = outfit()
    result.append(thing("zipper", box(0, 12, 8, 16), parent=1))  # of the top's sleeve
    region = np.array(result.mask("upper")) == 255
    assert region[0:8, 12:16].all() and not region[40:48, 4:6].any()  # and not that of the bag


def test_try_on_targets_are_the_ontologys_garments():
    clothes = [name for name, group in CATEGORIES if group in ("upperbody", "lowerbody", "wholebody")]
    assert sorted(TRY_ON_GARMENTS["full"]) == sorted(clothes)
    assert not np.array(FashionResult([], PHOTO).mask("full", dilate=5)).any()
    with pytest.raises(ValueError, match="'upper', 'lower', 'dress', 'full', found 'shoes'"):
        outfit().mask("shoes")
    with pytest.raises(ValueError, match=r"found \['upper'\]"):
        outfit().mask(["upper"])
    for pixels in (-1, 2.0, "2", None, True):
        with pytest.raises(ValueError, match=f"whole number of pixels from 0 on, found {pixels!r}"):
            outfit().mask("upper", dilate=pixels)
    assert outfit().mask("upper", dilate=np.uint8(200)) == outfit().mask("upper", dilate=200)


def test_crop_is_cut_out_tightly():
    pixels = np.random.default_rng(0).integers(0, 256, (*PHOTO, 3), dtype=np.uint8)
    mask = box(10, 5, 30, 20) & ~box(10, 5, 15, 8)
    cut_out = FashionResult([thing(TOP, mask)], PHOTO).crop(0, Image.fromarray(pixels))
    assert cut_out.mode == "RGBA" and cut_out.size == (15, 20)
    assert np.array_equal(np.array(cut_out)[..., :3], pixels[10:30, 5:20])
    assert np.array_equal(np.array(cut_out)[..., 3], 255 * mask[10:30, 5:20].numpy().astype(np.uint8))
    for call in (lambda image: toy().crop(0, image), lambda image: toy().plot(image)):
        with pytest.raises(ValueError, match="photo of 64 x 48 pixels, but the image is 48 x 64"):
            call(Image.new("RGB", PHOTO))
    nothing = thing(TOP, mask) | {"mask": torch.zeros_like(mask)}
    with pytest.raises(ValueError, match="the mask of object 0 is empty"):
        FashionResult([nothing], PHOTO).crop(0, Image.new("RGB", PHOTO[::-1]))


def stored_otherwise(pixels: np.ndarray, kind: str) -> Image.Image:
    """A grey photo `(H, W)` uint8, white where it is 255, as another kind of image that looks the same."""
    if kind == "I;16":
        return Image.fromarray(pixels.astype(np.uint16) * 257)
    if kind == "RGBA":  # what is white is see-through, over black
        alpha = np.where(pixels == 255, 0, 255).astype(np.uint8)
        grey = np.where(pixels == 255, 0, pixels)
        return Image.fromarray(np.dstack([grey, grey, grey, alpha]))
    turned = Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6  # to be turned clockwise by a quarter
    return turned


@pytest.mark.parametrize("kind", ["I;16", "RGBA", "turned"])
def test_pictures_show_what_the_processor_saw(kind):
    pixels = np.random.default_rng(0).integers(0, 255, PHOTO, dtype=np.uint8)
    pixels[20:50, 10:30] = 255
    result, rgb, image = toy(), Image.fromarray(pixels).convert("RGB"), stored_otherwise(pixels, kind)
    assert image.mode == ("L" if kind == "turned" else kind)
    assert result.crop(0, image) == result.crop(0, rgb)
    assert result.plot(image) == result.plot(rgb) == draw_objects(image, result)


@pytest.mark.parametrize("image", [np.zeros((*PHOTO, 3), np.uint8), torch.zeros(3, *PHOTO), "photo.jpg"])
def test_only_an_image_is_the_photo(image):
    for call in (lambda: toy().crop(0, image), lambda: toy().plot(image)):
        with pytest.raises(ValueError, match=rf"found {type(image).__name__}\. `Image\.fromarray` makes one"):
            call()


def test_plot_is_the_projects_drawing(monkeypatch):
    image, result = Image.new("RGB", PHOTO[::-1], "grey"), toy(attribute_threshold=0.2)
    assert result.plot(image, max_attributes=1) == draw_objects(image, result, 1) != draw_objects(image, result, 2)
    monkeypatch.setitem(sys.modules, "fashion_detr.visualization", None)
    with pytest.raises(ImportError, match="needs the package fashion_detr"):
        result.plot(image)


@pytest.mark.parametrize("label", ["Mäntel", "Брюки", "παλτό", "سترة"])
def test_labels_of_other_scripts_are_written(label):
    """Not as the box that stands for a character that a font does not have."""
    font = load_font(label, 30)
    box = bytes(font.getmask("\U0010fffd"))
    assert all(bytes(font.getmask(character)) != box for character in f"{label}coat0.93")


def test_a_script_without_a_font_is_told(caplog):
    """What else the text has is written all the same."""
    font = load_font("\U000f0000 coat", 30)
    assert bytes(font.getmask("\U000f0000")) != bytes(font.getmask("c")) != bytes(font.getmask("0"))
    assert "No font on this machine has all characters of the labels: \U000f0000 will be" in caplog.text


@pytest.mark.parametrize("name", ["\u202ecoat", "co\x00at\x1b", "\ufeffcoat\n"])
def test_a_name_neither_turns_its_score_nor_shows_what_has_no_shape(name):
    image = Image.new("RGB", PHOTO[::-1], "grey")
    entries = [toy()[0] | {"label": label, "attributes": [{"name": label}]} for label in (name, "coat")]
    odd, plain = (draw_objects(image, [entry]) for entry in entries)
    assert odd == plain
    assert printable("\u0915\u094d\u200d\u0937 \u202b") == "\u0915\u094d\u200d\u0937"  # a script that needs its joiner


@pytest.mark.parametrize("most", [-1, 1.5])
def test_attributes_are_counted_from_zero(most):
    with pytest.raises(ValueError, match="`max_attributes` has to be a whole number from 0 on"):
        toy().plot(Image.new("RGB", PHOTO[::-1]), max_attributes=most)
