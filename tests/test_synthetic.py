"""Synthetic ensembles: determinism, exact ground truth, coverage of the ontology, and a difficulty that stays fixed."""

from collections import Counter

import numpy as np
import pytest

from fashion_detr.data.synthetic import SyntheticEnsembles
from fashion_detr.data.synthetic.figure import Figure
from fashion_detr.ontology_fashion_detr import ATTRIBUTES, CATEGORIES, PART_OF

NAMES = [name for name, _ in CATEGORIES]
ATTRIBUTE_NAMES = {sparse_id: name for sparse_id, name, _ in ATTRIBUTES}
WITHOUT_ATTRIBUTES = {"head", "neck", "arms and hands", "waist", "legs and feet", "others", "closures", "decorations"}
# Every figure wears exactly one of these.
INNERS = {"top, t-shirt, sweatshirt", "shirt, blouse", "sweater", "dress", "jumpsuit"}


@pytest.fixture(scope="module")
def items() -> list[dict]:
    data = SyntheticEnsembles(200)
    return [data[index] for index in range(len(data))]


@pytest.fixture(scope="module")
def annotations(items) -> list[dict]:
    return [annotation for item in items for annotation in item["annotations"]]


def is_part(annotation: dict) -> bool:
    return NAMES[annotation["category_id"]] in PART_OF


def assert_same(first: dict, second: dict) -> None:
    np.testing.assert_array_equal(first["image"], second["image"])
    assert len(first["annotations"]) == len(second["annotations"])
    for one, other in zip(first["annotations"], second["annotations"], strict=True):
        np.testing.assert_array_equal(one["segmentation"], other["segmentation"])
        assert {**one, "segmentation": None} == {**other, "segmentation": None}


def test_an_item_depends_on_seed_split_and_index_only(items):
    longer = SyntheticEnsembles(1000)
    for index in (150, 3, 77, 3):
        assert_same(longer[index], items[index])
    assert_same(SyntheticEnsembles(5, seed=9)[np.int64(4)], SyntheticEnsembles(9, seed=9)[4])


@pytest.mark.parametrize("other", [{"split": "val"}, {"seed": 1}])
def test_splits_and_seeds_share_no_picture(items, other):
    seen = {item["image"].tobytes() for item in items[:20]}
    masks = {a["segmentation"].tobytes() for item in items[:20] for a in item["annotations"]}
    for item in SyntheticEnsembles(20, **other):
        assert item["image"].tobytes() not in seen
        assert not masks & {a["segmentation"].tobytes() for a in item["annotations"]}


def test_types_and_boxes_follow_from_the_masks(items):
    ids = set()
    for index, item in enumerate(items):
        assert item["image_id"] == index
        assert item["image"].shape == (256, 192, 3) and item["image"].dtype == np.uint8
        for annotation in item["annotations"]:
            mask = annotation["segmentation"]
            rows, columns = np.nonzero(mask)
            assert mask.shape == (256, 192) and mask.dtype == np.bool_
            assert annotation["area"] == len(rows) >= 6 and isinstance(annotation["area"], float)
            left, top, width, height = annotation["bbox"]
            assert (left, top) == (columns.min(), rows.min())
            assert (left + width - 1, top + height - 1) == (columns.max(), rows.max())
            assert all(isinstance(number, float) for number in annotation["bbox"])
            assert 0 <= annotation["covered"] < 1 and annotation["iscrowd"] == 0
            assert annotation["image_id"] == index
            ids.add(annotation["id"])
        order = [annotation["z"] for annotation in item["annotations"]]
        assert order == sorted(order)
    assert len(ids) == sum(len(item["annotations"]) for item in items) and min(ids) > 0


def test_ids_are_fashionpedias_and_only_garments_and_their_parts_have_attributes(annotations):
    for annotation in annotations:
        assert annotation["attribute_ids"] == sorted(set(annotation["attribute_ids"]))
        assert set(annotation["attribute_ids"]) <= set(ATTRIBUTE_NAMES)
        if CATEGORIES[annotation["category_id"]][1] in WITHOUT_ATTRIBUTES:
            assert not annotation["attribute_ids"]


def test_sleeveless_is_told_where_shoulders_are_seen(items):
    """Of what lies below a jacket nobody sees whether it has sleeves."""
    sleeveless = next(sparse_id for sparse_id, name in ATTRIBUTE_NAMES.items() if name == "sleeveless")
    seen = Counter()
    for item in items:
        worn = [NAMES[annotation["category_id"]] for annotation in item["annotations"]]
        told = [NAMES[a["category_id"]] for a in item["annotations"] if sleeveless in a["attribute_ids"]]
        seen.update(told)
        if sum(name in INNERS for name in worn) == 1 and {"jacket", "coat", "cardigan"} & set(worn):
            assert not told
    assert seen["vest"] >= 10 and seen.total() - seen["vest"] >= 5


def test_coverage_of_the_ontology(annotations):
    categories = Counter(NAMES[annotation["category_id"]] for annotation in annotations)
    attributes = Counter(ATTRIBUTE_NAMES[i] for annotation in annotations for i in annotation["attribute_ids"])
    frequent = {name for name, count in categories.items() if count >= 10}
    assert len(categories) >= 38 and len(frequent) >= 28
    assert {"collar", "lapel", "sleeve", "pocket", "neckline", "zipper", "buckle", "hood"} <= frequent
    assert len(attributes) >= 50 and sum(count >= 10 for count in attributes.values()) >= 40


def test_parts_lie_on_a_garment_that_can_carry_them(items):
    for item in items:
        wholes = [annotation for annotation in item["annotations"] if not is_part(annotation)]
        for part in filter(is_part, item["annotations"]):
            carriers = [w for w in wholes if NAMES[w["category_id"]] in PART_OF[NAMES[part["category_id"]]]]
            assert any(not (part["segmentation"] & ~whole["segmentation"]).any() for whole in carriers)


def test_separate_garments_hide_each_other_and_parts_too(items):
    for item in items:
        for kind in (True, False):
            masks = [a["segmentation"] for a in item["annotations"] if is_part(a) is kind]
            assert not masks or np.sum(masks, axis=0).max() <= 1


def test_a_bare_instance_is_not_covered_and_a_layered_one_is(annotations):
    covered = {
        name: np.mean([a["covered"] for a in annotations if NAMES[a["category_id"]] == name])
        for name in ("bag, wallet", "coat", "shirt, blouse")
    }
    assert covered["bag, wallet"] < covered["coat"] < covered["shirt, blouse"]


def test_difficulty_is_fixed(items, annotations):
    """Changes of these figures change what results on this data set mean: change them knowingly."""
    covered = np.array([annotation["covered"] for annotation in annotations])
    areas = np.array([annotation["area"] for annotation in annotations])
    parts = np.array([is_part(annotation) for annotation in annotations])
    counts = np.array([len(item["annotations"]) for item in items])
    assert 12 <= counts.mean() <= 16 and counts.max() <= 45
    assert 0.17 <= np.mean(covered > 0.5) <= 0.27
    assert 0.40 <= np.mean(covered > 0.05) <= 0.58
    assert 0.40 <= parts.mean() <= 0.60
    assert 60 <= np.median(areas[parts]) <= 140
    assert 300 <= np.median(areas[~parts]) <= 700
    assert areas.min() <= 10 and areas.max() >= 9000


def test_some_scenes_are_empty_and_some_hold_two_figures(items):
    empty = [item for item in items if not item["annotations"]]
    figures = [sum(NAMES[a["category_id"]] in INNERS for a in item["annotations"]) for item in items]
    assert 1 <= len(empty) <= 8
    assert 2 <= sum(count == 2 for count in figures) <= 25
    assert max(figures) == 2


def test_only_the_wanted_categories_are_drawn(items):
    wanted = ["dress", "top, t-shirt, sweatshirt", "skirt", "hat", "sleeve"]
    pictures = [SyntheticEnsembles(50, categories=wanted)[index] for index in range(50)]
    assert {NAMES[a["category_id"]] for item in pictures for a in item["annotations"]} == set(wanted)
    assert any((item["image"] != full["image"]).any() for item, full in zip(pictures, items))
    with pytest.raises(ValueError, match="unknown categories: trousers"):
        SyntheticEnsembles(1, categories=[*wanted, "trousers"])
    with pytest.raises(ValueError, match="pants; shorts; skirt"):
        SyntheticEnsembles(1, categories=["dress", "sweater"])


def test_what_is_not_wanted_leaves_no_trace(monkeypatch):
    """Neither soles nor cuffs nor, where a zipper closes a coat, the attribute that only the zipper shows."""
    drawn = Counter()

    def unseen(draw):
        def drawing(figure: Figure, *arguments, **options) -> None:
            before = figure.canvas.pixels.copy()
            draw(figure, *arguments, **options)
            np.testing.assert_array_equal(figure.canvas.pixels, before)
            drawn[draw.__name__] += 1

        return drawing

    for part in ("_draw_shoe", "_draw_sleeve"):
        monkeypatch.setattr(Figure, part, unseen(getattr(Figure, part)))
    garments = SyntheticEnsembles(60, categories=["top, t-shirt, sweatshirt", "coat", "pants"])
    attributes = {one for item in garments for entry in item["annotations"] for one in entry["attribute_ids"]}
    assert "zip-up" not in {ATTRIBUTE_NAMES[one] for one in attributes} and min(drawn.values()) > 20 and len(drawn) == 2


@pytest.mark.parametrize("size", [(64, 48), (96, 64), (128, 300), (1024, 768)])
def test_shapes_scale_with_the_picture(size):
    data = SyntheticEnsembles(4, *size)
    for item in data:
        assert item["image"].shape == (*size, 3)
        assert all(annotation["segmentation"].shape == size for annotation in item["annotations"])
    assert sum(len(item["annotations"]) for item in data) >= 16


def test_a_large_picture_shows_the_same_figures():
    """The same random draws give the same outfit at every size."""
    small, large = SyntheticEnsembles(10)[5], SyntheticEnsembles(10, 512, 384)[5]
    by_id = {annotation["id"]: annotation for annotation in large["annotations"]}
    for annotation in small["annotations"]:
        other = by_id[annotation["id"]]
        assert other["category_id"] == annotation["category_id"]
        if annotation["area"] > 400:
            assert other["area"] == pytest.approx(4 * annotation["area"], rel=0.15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_images": 0}, "at least 1, found 0"),
        ({"num_images": 1, "height": 63}, "at least 64 high and 48 wide, found 63 x 192"),
        ({"num_images": 1, "width": 47}, "at least 64 high and 48 wide, found 256 x 47"),
        ({"num_images": 1, "seed": -1}, "must not be negative, found -1"),
        ({"num_images": 1, "height": 256.5}, "height must be a whole number, found 256.5"),
        ({"num_images": 1, "categories": "dress"}, "list of names, found the text 'dress'"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        SyntheticEnsembles(**arguments)


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_outside_is_an_index_error(index):
    with pytest.raises(IndexError, match=f"index {index} is outside the 3 images"):
        SyntheticEnsembles(3)[index]
