"""AP_IoU and AP_IoU+F1 against arithmetic by hand, pycocotools, scikit-learn and Fashionpedia's own evaluator."""

import contextlib
import copy
import importlib.util
import io
import json
import math
import pickle
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import official_evaluator as official
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fashion_detr import metrics
from fashion_detr.data.annotations import read_ground_truth, read_results
from fashion_detr.metrics import FASHIONPEDIA_ATTRIBUTED_CATEGORY_IDS, FashionAveragePrecision, binary_macro_f1

SIZE = 160
CATEGORY_IDS = list(range(46))
ATTRIBUTE_IDS = [0, 3, 7, 20, 115, 340]
DRAWN_CATEGORY_IDS = [0, 1, 9, 23, 31, 40]  # four attributed ones, two held to IoU alone; the others stay empty

Scene = dict[int, tuple[list[dict[str, Any]], list[dict[str, Any]]]]  # image id -> (predictions, ground truth)


def box(top: int, left: int, height: int, width: int, size: int = SIZE) -> np.ndarray:
    mask = np.zeros((size, size), dtype=bool)
    mask[max(top, 0) : top + height, max(left, 0) : left + width] = True
    return mask


def rle(mask: np.ndarray) -> dict[str, Any]:
    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def approx(figure: float) -> Any:
    """Both evaluators' guard against 0/0 leaves a perfect precision one bit below 1."""
    return pytest.approx(figure, abs=1e-12)


def truth(category_id: int, mask: np.ndarray, attribute_ids: list[int], **extra: Any) -> dict[str, Any]:
    return {"category_id": category_id, "segmentation": rle(mask), "attribute_ids": attribute_ids, **extra}


def prediction(category_id: int, mask: np.ndarray, attribute_ids: list[int], score: float) -> dict[str, Any]:
    return {**truth(category_id, mask, attribute_ids), "score": score}


def draw_attributes(rng: np.random.Generator) -> list[int]:
    return [one for one in ATTRIBUTE_IDS if rng.random() < 0.4]


def flip_one(attribute_ids: list[int], rng: np.random.Generator) -> list[int]:
    return sorted(set(attribute_ids) ^ {int(rng.choice(ATTRIBUTE_IDS))})


def draw_truth(rng: np.random.Generator) -> tuple[tuple[int, int, int, int], dict[str, Any]]:
    side = int(rng.choice([8, 32, 50, 96, 120]))
    place = (int(rng.integers(0, SIZE - side + 1)), int(rng.integers(0, SIZE - side + 1)), side, side)
    area = {"area": float(side * side * rng.uniform(0.9, 1.1))} if rng.random() < 0.5 else {"area": float(side * side)}
    category_id = int(rng.choice(DRAWN_CATEGORY_IDS))
    return place, truth(category_id, box(*place), draw_attributes(rng), iscrowd=int(rng.random() < 0.2), **area)


def draw_prediction(rng: np.random.Generator, place: tuple[int, int, int, int], true: dict[str, Any]) -> dict[str, Any]:
    top, left, height, width = place
    moved = box(top + int(rng.integers(-4, 5)), left + int(rng.integers(-4, 5)), height, max(1, width - 3))
    attribute_ids = flip_one(true["attribute_ids"], rng) if rng.random() < 0.6 else true["attribute_ids"]
    category_id = true["category_id"] if rng.random() < 0.85 else int(rng.choice([*DRAWN_CATEGORY_IDS, 5, 45]))
    return prediction(category_id, moved, attribute_ids, round(float(rng.random()), 1))  # one decimal: many ties


def draw_scene(seed: int, images: int = 5) -> Scene:
    """Overlapping instances, crowds, tied scores, empty images, predictions in categories without ground truth."""
    rng = np.random.default_rng(seed)
    scene: Scene = {}
    for image_id in rng.permutation(images).tolist():
        drawn = [draw_truth(rng) for _ in range(rng.integers(0, 7))]
        predictions = [draw_prediction(rng, *one) for one in drawn for _ in range(rng.integers(0, 4))]
        scene[image_id] = (predictions, [true for _, true in drawn])
    scene[images] = ([], [])
    return scene


def crowded_scene(category_id: int) -> Scene:
    """130 detections of one category in one image: only the best 100 may count."""
    rng = np.random.default_rng(0)
    true = truth(category_id, box(10, 10, 60, 60), [3], area=3600.0, iscrowd=0)
    late = prediction(category_id, box(10, 10, 60, 60), [3], 0.0)
    others = [draw_prediction(rng, (10, 10, 60, 60), true) | {"category_id": category_id} for _ in range(129)]
    return {1: ([late, *others], [true]), 2: ([late], [true])}


def measure(scene: Scene, **options: Any) -> FashionAveragePrecision:
    metric = FashionAveragePrecision(CATEGORY_IDS, ATTRIBUTE_IDS, **options)
    for image_id, (predictions, ground_truth) in scene.items():
        metric.add(image_id, predictions, ground_truth)
    return metric


# --- By hand ----------------------------------------------------------------------------------------------------------


def test_perfect_scene() -> None:
    # Shirt (0, attributed) and shoe (23, IoU alone), each found exactly with the right attributes: IoU 1, F1 1, so a
    # precision of 1 at every recall and threshold. 60 x 60 = 3,600 pixels: medium, and nothing small or large.
    true = [truth(0, box(0, 0, 60, 60), [3, 7]), truth(23, box(80, 80, 60, 60), [])]
    figures = measure({1: ([{**one, "score": 0.9} for one in true], true)}).compute()

    # Both attributes are named for the one shirt that carries them; two instances hide nothing of each other.
    assert figures.pop("attribute_gap") == approx(0)
    nans = {name for name in figures if name.endswith(("_small", "_large", "_25_50", "_50_100", "_head", "_mid"))}
    assert len(nans) == 4 * 2 * 2 + 2 + 2 and len(figures) == 93
    assert all(math.isnan(figures[name]) for name in nans)
    assert {name for name in figures if figures[name] == approx(1)} == figures.keys() - nans


def test_empty_predictions() -> None:
    # Ground truth and no detection: no recall level is reached, 0 (not NaN) where there is ground truth.
    metric = measure({1: ([], [truth(0, box(0, 0, 60, 60), [3])]), 2: ([], [])})
    figures = metric.compute()
    assert figures["AP_IoU"] == figures["AP_IoU+F1"] == figures["AP_IoU_medium"] == figures["AR_IoU_100"] == 0.0
    assert math.isnan(figures["AP_IoU_small"])
    shirt = metric.per_category()[0]
    assert shirt == {"AP_IoU": 0, "AP50_IoU": 0, "AP75_IoU": 0, "AP_IoU+F1": 0, "AP_F1": 0, "instances": 1}
    # Nothing was found, so nothing is known of the attribute but that one instance carries it.
    assert metric.per_attribute()[3]["support"] == 1 and metric.per_attribute()[3]["found"] == 0
    assert math.isnan(metric.per_attribute()[3]["F1"])
    assert math.isnan(metric.per_category()[23]["AP_IoU"])


def test_no_image_at_all() -> None:
    metric = measure({})
    assert all(math.isnan(value) for value in metric.compute().values())
    assert metric.per_attribute() == metric.precision_recall() == {}


def test_mixed_scene() -> None:
    # Coat (9, attributed), two instances of 40 x 40 = 1,600 pixels, A = 6 attributes.
    #   0.9  the first, shifted by 10 of 40 columns: IoU = 30/50 = 0.6, reaches .50, .55, .60 (3 of 10 thresholds).
    #        Attributes {3}, true {3, 7}: present 2*1/(1+2) = 2/3, absent 2*4/(5+4) = 8/9, macro 7/9 = 0.778,
    #        reaches .50 .55 .60 .65 .70 .75 (6 of 10 thresholds).
    #   0.8  nothing there: wrong.
    #   0.7  the second, exactly, attributes right: reaches every threshold.
    # AP by which of the two instances are found (101 recall levels; 51 of them up to 0.5, 50 beyond):
    #   both:        precision 1, 1/2, 2/3 -> 51 * 1 and 50 * 2/3           = (51 + 100/3) / 101
    #   second only: precision 0, 0, 1/3 at recall 1/2 -> 51 * 1/3          = 17 / 101
    # Shoe (23, IoU alone), one instance, one exact detection with a wrong attribute: AP 1, and attributes do not count.
    coats = [truth(9, box(0, 0, 40, 40), [3, 7]), truth(9, box(0, 80, 40, 40), [20])]
    shoe = truth(23, box(80, 80, 20, 20), [])
    predictions = [
        prediction(9, box(0, 10, 40, 40), [3], 0.9),
        prediction(9, box(100, 0, 40, 40), [], 0.8),
        prediction(9, box(0, 80, 40, 40), [20], 0.7),
        prediction(23, box(80, 80, 20, 20), [3], 0.6),
    ]
    metric = measure({1: (predictions, [*coats, shoe])})
    figures = metric.compute()

    both, second_only = (51 + 100 / 3) / 101, 17 / 101
    coat_iou = (3 * both + 7 * second_only) / 10
    coat_joint = (3 * 6 * both + (100 - 3 * 6) * second_only) / 100
    assert figures["AP_IoU"] == approx((coat_iou + 1) / 2)
    assert figures["AP50_IoU"] == approx((both + 1) / 2)
    assert figures["AP75_IoU"] == approx((second_only + 1) / 2)
    # The official mean: the coat enters ten times (once per F1 threshold), the shoe once.
    assert figures["AP_IoU+F1"] == approx((10 * coat_joint + 1) / 11)
    # No IoU asked for: the coats' F1 decides alone, the 0.8 detection finds no free instance with F1 >= .5, see below.
    #   its {} scores 2*4/(6+4) = 0.8 absent, 0 present, macro 0.4 against {3, 7} and
    #   2*5/(6+5) = 0.909, macro 0.4545 against {20}: wrong at every threshold, as before.
    assert figures["AP_F1"] == approx((6 * both + 4 * second_only + 1) / 11)
    # Recall of the coats: 1 at three IoU thresholds, 1/2 at seven.
    assert figures["AR_IoU_100"] == approx(((3 * 1 + 7 * 0.5) / 10 + 1) / 2)
    # The best detection of an image alone: the first coat at three thresholds; with the best ten, as with all.
    assert figures["AR_IoU_1"] == approx((0.3 * 0.5 + 1) / 2) and figures["AR_IoU_10"] == figures["AR_IoU_100"]
    coat = metric.per_category()[9]
    assert coat["AP_IoU"] == approx(coat_iou) and coat["AP_IoU+F1"] == approx(coat_joint) and coat["instances"] == 2
    # One F1 threshold: .75 is reached by the 0.9 (7/9), .80 is not.
    assert figures["AP_IoU+F1@0.75"] == approx((coat_iou + 1) / 2)
    assert figures["AP_IoU+F1@0.80"] == approx((second_only + 1) / 2)
    assert figures["AP50_IoU+F1@0.75"] == approx((both + 1) / 2)
    groups = metric.per_supercategory()
    assert groups["outerwear"]["AP_IoU"] == approx(coat_iou) and groups["accessories"]["AP_IoU"] == approx(1)
    # Attributes of what was found (IoU of at least 0.5): 3 named and true, 7 true and not named, 20 named and true.
    # The shoe is held to IoU alone, so that its wrong 3 costs nothing.
    attributes = metric.per_attribute()
    assert {one: attributes[one]["F1"] for one in attributes} == {3: 1, 7: 0, 20: 1}
    assert attributes[7] | {"precision": None} == {
        "support": 1, "found": 1, "precision": None, "recall": 0, "F1": 0, "band": "tail"
    }  # fmt: skip
    assert math.isnan(attributes[7]["precision"])  # it was never named
    assert figures["attribute_F1"] == figures["attribute_F1_tail"] == approx(2 / 3)
    curves = metric.precision_recall()
    assert curves["AP50_IoU"][[0, 50, 51, 100]] == pytest.approx([1, 1, (2 / 3 + 1) / 2, (2 / 3 + 1) / 2])
    assert {name: curve.mean() for name, curve in curves.items()} == {name: approx(figures[name]) for name in curves}


def test_average_precision_by_cover() -> None:
    # Three coats. The first says that 60 % of it are hidden; the second is a frame of 40 x 40 around the third, which
    # takes 20 x 20 of its box: 400 / 1,600 = 25 % of it are others'. The third is whole. Only the second is found.
    frame, inside = box(0, 60, 40, 40), box(10, 70, 20, 20)
    coats = [
        truth(9, box(60, 0, 30, 30), [], covered=0.6),
        truth(9, frame & ~inside, []),
        truth(9, inside, []),
    ]
    figures = measure({1: ([{**coats[1], "score": 0.9}], coats)}).compute()
    assert figures["AP_IoU_covered_25_50"] == approx(1)
    assert figures["AP_IoU_covered_0_25"] == figures["AP_IoU_covered_50_100"] == 0
    # A part lies on its garment and is of its mask. Neither hides the other, though the part does not fill its box.
    frame_on_coat = box(65, 5, 10, 10) & ~box(67, 7, 6, 6)
    on_coat = measure({1: ([], [truth(9, box(60, 0, 30, 30), []), truth(31, frame_on_coat, [])])})
    assert on_coat.state()[1]["truth_covered"].tolist() == [0.0, 0.0]


def test_hundreds_of_instances_in_one_image() -> None:
    """pycocotools counts the masks of a list in 8 bits."""
    truths = [truth(key, box(number % 90, 10, 8, 8), []) for key in CATEGORY_IDS[:3] for number in range(90)]
    assert len(truths) == 270
    figures = measure({1: ([{**one, "score": 0.9} for one in truths], truths)}).compute()
    assert figures["AP_IoU"] == approx(1)


def test_what_nothing_hides_is_covered_by_no_less_than_nothing() -> None:
    """An L of 22 pixels, and a mirrored one of 28 behind its corner, whose boxes meet: shares that floats round."""
    first, second = np.zeros((2, SIZE, SIZE), dtype=bool)
    first[:11, 0] = first[10, 1:12] = True
    second[11, 10:24] = second[:11, 23] = True
    for number in range(20):
        first[12 + number, 0] = second[12 + number, 23] = True
        state = measure({1: ([], [truth(9, first, []), truth(9, second, [])])}).state()
        assert (state[1]["truth_covered"] >= 0).all()


def test_the_official_walk_is_not_the_highest_iou() -> None:
    # Two coats of 40 x 40, the second 10 columns to the right: IoU 0.6 with each other.
    #   0.9  covers the second exactly, and names the first one's attributes.
    #   0.8  covers 30 of the first one's 40 columns: IoU 0.75 with the first, 20/50 = 0.4 with the second.
    # COCO: 0.9 takes the second, 0.8 the first up to .75: both found at 6 thresholds, one of two (51/101) at 4.
    # Official, no F1 asked for: at .50, .55, .60 the 0.9 takes the first (IoU 0.6, F1 1) and does not move on to the
    # second, better in IoU but worse in F1; the 0.8 finds the first taken: one of two. Above .60 it is as in COCO.
    coats = [truth(9, box(0, 0, 40, 40), [3]), truth(9, box(0, 10, 40, 40), [7])]
    predictions = [prediction(9, box(0, 10, 40, 40), [3], 0.9), prediction(9, box(0, 0, 40, 30), [3], 0.8)]
    figures = measure({1: (predictions, coats)}).compute()
    assert figures["AP_IoU"] == approx((6 * 1 + 4 * 51 / 101) / 10)
    assert figures["AP_IoU_official"] == approx((3 * 1 + 7 * 51 / 101) / 10)


def test_crowds_absorb_any_number_for_coco_and_one_for_the_joint_metric() -> None:
    # One coat found last, and two detections inside a crowd of coats before it. COCO ignores both of them: AP 1.
    # Fashionpedia's evaluator lets the crowd absorb the first; the second is wrong: precision 1/2 at every recall.
    coats = [truth(9, box(0, 0, 40, 40), [3]), truth(9, box(60, 0, 80, 160), [3], iscrowd=1)]
    places = [box(60, 0, 40, 40), box(60, 80, 40, 40), box(0, 0, 40, 40)]
    predictions = [prediction(9, mask, [3], 0.9 - 0.1 * i) for i, mask in enumerate(places)]
    figures = measure({1: (predictions, coats)}).compute()
    assert figures["AP_IoU"] == approx(1)
    assert figures["AP_IoU+F1"] == figures["AP_IoU_official"] == pytest.approx(0.5)


# --- Against the references -------------------------------------------------------------------------------------------


def coco_dataset(scene: Scene) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The scene as a COCO file and a result list. Annotation ids start at 1: both evaluators take id 0 for no match."""
    annotations = [{**one, "image_id": image_id} for image_id, (_, true) in scene.items() for one in true]
    results = [{**one, "image_id": image_id} for image_id, (found, _) in scene.items() for one in found]
    dataset = {
        "info": {},
        "images": [{"id": image_id, "height": SIZE, "width": SIZE} for image_id in scene],
        "categories": [{"id": category_id, "name": str(category_id)} for category_id in CATEGORY_IDS],
        "attributes": [{"id": attribute_id, "name": str(attribute_id)} for attribute_id in ATTRIBUTE_IDS],
        "annotations": [{"iscrowd": 0, **one, "id": i} for i, one in enumerate(annotations, start=1)],
    }
    return copy.deepcopy(dataset), copy.deepcopy(results)


def run_coco(scene: Scene) -> dict[str, float]:
    dataset, results = coco_dataset(scene)
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO()
        ground_truth.dataset = dataset
        ground_truth.createIndex()
        evaluation = COCOeval(ground_truth, ground_truth.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ("AP_IoU", "AP50_IoU", "AP75_IoU", "AP_IoU_small", "AP_IoU_medium", "AP_IoU_large")
    return {**dict(zip(names, evaluation.stats[:6], strict=True)), "AR_IoU_100": evaluation.stats[8]}


def assert_equal_to(reference: dict[str, float], figures: dict[str, float]) -> None:
    """The references write -1 for what is undefined."""
    assert reference
    for name, expected in reference.items():
        found = -1.0 if math.isnan(figures[name]) else figures[name]
        assert found == pytest.approx(expected, abs=1e-9), name


@pytest.mark.parametrize("seed", range(30))
def test_iou_equals_coco(seed: int) -> None:
    scene = draw_scene(seed)
    assert_equal_to(run_coco(scene), measure(scene).compute())


@pytest.mark.parametrize("category_id", [0, 23])
def test_iou_equals_coco_beyond_100_detections(category_id: int) -> None:
    scene = crowded_scene(category_id)
    assert_equal_to(run_coco(scene), measure(scene).compute())


@pytest.fixture
def official_evaluator() -> Iterator[types.ModuleType]:
    for name in ("sklearn", "fashionpedia"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    with official.official_evaluator() as module:
        yield module


def official_figures(
    module: types.ModuleType, dataset: dict[str, Any], results: list[dict[str, Any]]
) -> dict[str, Any]:
    """Every number that the official evaluator has, under our names; super-categories under (name, figure)."""
    evaluation = official.run_official(module, dataset, results)
    figures = {}
    for question, found in (
        ("IoU+F1", evaluation.results),
        ("F1", evaluation.resultF1),
        ("IoU_official", evaluation.resultDet),
    ):
        for name, value in found.items():
            if supercategory := {"APo": "outerwear", "APa": "accessories", "APp": "parts"}.get(name):
                figures[supercategory, f"AP_{question}"] = value
            else:
                figures[our_name(name, question)] = value
    return figures


def our_name(name: str, question: str) -> str:
    """AP_IOU50_F175 -> AP50_IoU+F1@0.75, APs -> AP_IoU+F1_small, AR@10 -> AR_IoU+F1_10, ARm@100 -> AR_IoU+F1_medium."""
    areas = {"s": "_small", "m": "_medium", "l": "_large"}
    kind, rest = name[:2], name[2:]
    if kind == "AR":
        return f"AR_{question}" + (areas[rest[0]] if rest[0] in areas else f"_{rest[1:]}")
    if rest in areas:
        return f"AP_{question}{areas[rest]}"
    iou = re.search(r"IOU(\d+)", rest)
    f1 = re.search(r"F1(\d+)", rest)
    return f"AP{iou[1] if iou else ''}_{question}" + (f"@0.{f1[1]}" if f1 else "")


def assert_equals_the_official_one(module: types.ModuleType, scene: Scene) -> None:
    assert_all_figures_equal(official_figures(module, *coco_dataset(scene)), measure(scene))


def assert_all_figures_equal(expected: dict[str, Any], metric: FashionAveragePrecision) -> None:
    figures, groups = metric.compute(), metric.per_supercategory()
    found = {name: groups[name[0]][name[1]] if isinstance(name, tuple) else figures[name] for name in expected}
    assert len(expected) == 49
    assert_equal_to(expected, found)


def test_every_number_equals_the_official_one_on_the_authors_sample(official_evaluator: types.ModuleType) -> None:
    """The sample has 48 categories and 320 attributes; the evaluator's lists of categories are fixed all the same."""
    folder = Path(__file__).parent / "data" / "fashionpedia_sample"
    dataset, results = (json.loads((folder / name).read_text()) for name in ("sample.json", "fake_results.json"))
    metric = FashionAveragePrecision(
        [category["id"] for category in dataset["categories"]],
        [attribute["id"] for attribute in dataset["attributes"]],
        FASHIONPEDIA_ATTRIBUTED_CATEGORY_IDS,
        {"outerwear": range(13), "accessories": range(13, 27), "parts": range(27, 46)},
    )
    vocabulary, images = read_ground_truth(folder / "sample.json")
    found = read_results(folder / "fake_results.json", vocabulary, {key: size for key, (size, _) in images.items()})
    for image_id, (_, annotations) in images.items():
        metric.add(image_id, found.get(image_id, []), annotations)
    assert_all_figures_equal(official_figures(official_evaluator, dataset, results), metric)
    assert metric.compute()["AP_IoU"] == pytest.approx(0.532, abs=1e-3)


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """
    Up to six images, for which the official evaluator needs no more time than for one: crowds, tied scores, duplicated
    and shifted boxes, empty sides and attribute lists.
    """
    scene: Scene = {}
    attribute_lists = st.lists(st.sampled_from(ATTRIBUTE_IDS), unique=True, max_size=4)
    sides = st.sampled_from([0, 4, 12, 32, 60, 100])  # an empty mask, small ones, the border of 32 x 32, large ones
    categories = st.sampled_from(DRAWN_CATEGORY_IDS)
    for image_id in range(draw(st.integers(1, 6))):
        truths, predictions = [], []
        for _ in range(draw(st.integers(0, 4))):
            place = (draw(st.integers(0, 60)), draw(st.integers(0, 60)), draw(sides), draw(sides))
            crowd = draw(st.booleans()) and draw(st.booleans())
            true = truth(draw(categories), box(*place), draw(attribute_lists), iscrowd=int(crowd))
            true["area"] = float(place[2] * place[3])
            truths.append(true)
            for _ in range(draw(st.integers(0, 3))):
                shift = draw(st.sampled_from([0, 0, 2, 7, 20]))
                moved = box(place[0] + shift, place[1], place[2], place[3])
                same = draw(st.booleans())
                category_id = true["category_id"] if same or draw(st.booleans()) else draw(categories)
                attribute_ids = true["attribute_ids"] if same else draw(attribute_lists)
                score = draw(st.sampled_from([0.1, 0.5, 0.5, 0.9]))
                predictions.append(prediction(category_id, moved, attribute_ids, score))
        scene[image_id] = (predictions, truths)
    return scene


@settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(scene=scenes())
def test_every_number_equals_the_official_one_on_drawn_scenes(
    scene: Scene, official_evaluator: types.ModuleType
) -> None:
    if any(predictions for predictions, _ in scene.values()):  # the official reader fails on an empty result list
        assert_equals_the_official_one(official_evaluator, scene)


@pytest.mark.parametrize("seed", range(4))
def test_every_number_equals_the_official_one(seed: int, official_evaluator: types.ModuleType) -> None:
    assert_equals_the_official_one(official_evaluator, draw_scene(seed, images=3))


@pytest.mark.parametrize("category_id", [0, 23])
def test_every_number_equals_the_official_one_beyond_100_detections(
    category_id: int, official_evaluator: types.ModuleType
) -> None:
    assert_equals_the_official_one(official_evaluator, crowded_scene(category_id))


def test_f1_equals_scikit_learn() -> None:
    f1_score = pytest.importorskip("sklearn.metrics").f1_score
    rng = np.random.default_rng(0)
    vectors = np.concatenate([np.zeros((1, 7)), np.ones((1, 7)), rng.integers(0, 2, (10, 7))]).astype(bool)
    expected = [
        [f1_score(true.astype(int), found.astype(int), average="macro") for true in vectors] for found in vectors
    ]
    assert np.array_equal(binary_macro_f1(vectors, vectors), np.array(expected))


def test_f1_of_empty_vectors() -> None:
    # Both empty: only "absent" exists, F1 1. Nothing against 3 of 294: present 0, absent 2*291/(294+291) = 0.9949.
    three = np.zeros((1, 294), dtype=bool)
    three[0, :3] = True
    nothing = np.zeros((1, 294), dtype=bool)
    assert binary_macro_f1(nothing, nothing) == 1.0
    assert binary_macro_f1(nothing, three) == pytest.approx((2 * 291 / (294 + 291)) / 2)


# --- The class --------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' decode on NumPy 2
def test_bool_masks_and_rles_give_the_same_figures() -> None:
    scene = draw_scene(0)
    decoded = {
        image_id: tuple(
            [{**one, "segmentation": coco_mask.decode(one["segmentation"]).astype(bool)} for one in entries]
            for entries in sides
        )
        for image_id, sides in scene.items()
    }
    assert measure(scene).compute() == pytest.approx(measure(decoded).compute(), nan_ok=True)


def test_a_missing_area_is_the_masks() -> None:
    small = truth(9, box(0, 0, 32, 32), [])  # 1,024 pixels: the border belongs to small and medium
    figures = measure({1: ([{**small, "score": 1.0}], [small])}).compute()
    assert figures["AP_IoU_small"] == figures["AP_IoU_medium"] == approx(1)
    assert math.isnan(measure({1: ([], [{**small, "area": 1025.0}])}).compute()["AP_IoU_small"])


def test_processes_merge_and_repeated_images_count_once() -> None:
    scene = draw_scene(2, images=6)
    image_ids = list(scene)
    parts = [{one: scene[one] for one in image_ids[:4]}, {one: scene[one] for one in image_ids[3:]}]
    merged = measure({})
    for part in parts:
        merged.merge(pickle.loads(pickle.dumps(measure(part).state())))
    merged.add(image_ids[0], *scene[image_ids[0]])
    whole = measure(scene)
    assert merged.compute() == pytest.approx(whole.compute(), abs=0, nan_ok=True)
    assert pickle.loads(pickle.dumps(merged)).compute() == pytest.approx(whole.compute(), abs=0, nan_ok=True)


def test_figures_follow_what_is_added_later() -> None:
    true = truth(9, box(0, 0, 40, 40), [3])
    metric = measure({1: ([{**true, "score": 1.0}], [true])})
    assert metric.compute()["AP_IoU"] == approx(1)
    metric.add(2, [], [true])
    assert metric.compute()["AP_IoU"] == pytest.approx(51 / 101)  # one of two found: recall levels up to 0.5


def test_best_attribute_thresholds() -> None:
    # Sixty coats, found exactly, A = 6. Odd ones carry 3, even ones 7. Probabilities of 3: 0.2 if carried, else 0.12;
    # of 7: 0.7 if carried, else 0.62. One threshold for all:
    #   below 0.12 both are named always: present 2*1/3, absent 2*4/(4+5) = 0.889, macro 0.778: 6 of 10 F1 thresholds;
    #   0.15 names 3 rightly and 7 always: 0.778 for the odd ones (6 of 10), 1 for the even ones: (0.6 + 1) / 2 = 0.8;
    #   0.65 names 7 rightly and 3 never: the odd ones 0 and 2*5/11, macro 0.4545 (0 of 10): 0.5. So 0.15 is best.
    # With 0.65 for the attribute 7 all is right.
    metric = measure({})
    for image_id in range(60):
        carried = image_id % 2
        scores = [0.0, 0.2 if carried else 0.12, 0.62 if carried else 0.7, 0.0, 0.0, 0.0]
        true = truth(9, box(0, 0, 40, 40), [3] if carried else [7])
        metric.add(image_id, [{**true, "score": 0.5, "attribute_scores": scores}], [true])
    assert metric.best_attribute_thresholds() == (0.15, [0.15, 0.15, 0.65, 0.15, 0.15, 0.15])

    with pytest.raises(ValueError, match="without 'attribute_scores'"):
        measure({1: ([{**true, "score": 0.5}], [true])}).best_attribute_thresholds()
    with pytest.raises(ValueError, match="0 found instances carry attributes, at least 30 are needed"):
        measure({1: ([], [true])}).best_attribute_thresholds()


def test_rare_attributes_keep_the_threshold_of_all() -> None:
    true = truth(9, box(0, 0, 40, 40), [3, 7])
    metric = measure({})
    scores = [0.0, 0.9, 0.1, 0.0, 0.0, 0.0]
    for image_id in range(29):  # one found instance too few
        metric.add(image_id, [{**true, "score": 0.5, "attribute_scores": scores}], [true])
    with pytest.raises(ValueError, match="29 found instances carry attributes, at least 30 are needed"):
        metric.best_attribute_thresholds()
    other = truth(9, box(0, 0, 40, 40), [20])
    metric.add(29, [{**other, "score": 0.5, "attribute_scores": scores}], [other])
    for_all, each = metric.best_attribute_thresholds()
    assert set(each) == {for_all}


def test_the_module_of_evaluate_comes_to_the_same_figures() -> None:
    evaluate = pytest.importorskip("evaluate")
    module = evaluate.load(str(Path(metrics.__file__).parent / "fashion_ap"))
    scene = draw_scene(3)
    for image_id, (predictions, ground_truth) in scene.items():
        module.add_batch(predictions=[predictions], references=[{"image_id": image_id, "annotations": ground_truth}])
    figures = module.compute(category_ids=CATEGORY_IDS, attribute_ids=ATTRIBUTE_IDS)
    metric = measure(scene)
    assert {name: figures[name] for name in metric.compute()} == pytest.approx(metric.compute(), abs=0, nan_ok=True)
    assert figures["per_supercategory"].keys() == {"outerwear", "accessories", "parts"}
    assert figures["per_attribute"][3]["support"] == metric.per_attribute()[3]["support"] > 0
    # Bool masks, one call, Fashionpedia's own vocabulary by default; A = 294.
    coat = {"category_id": 9, "attribute_ids": [], "segmentation": box(0, 0, 40, 40)}
    again = module.compute(predictions=[[{**coat, "score": 0.5}]], references=[{"image_id": 1, "annotations": [coat]}])
    assert again["AP_IoU+F1"] == approx(1)
    probabilities = {**coat, "segmentation": box(0, 0, 40, 40) * 0.8 + 0.1, "score": 0.5}
    with pytest.raises(ValueError, match=r"expected a compressed RLE or a bool array"):
        module.add_batch(predictions=[[probabilities]], references=[{"image_id": 1, "annotations": [coat]}])
    for reference, message in (
        ([coat], "reference 0 of the batch: the image is list"),
        ({"image_id": 1}, r"the image is \['image_id'\]"),
        ({"image_id": "a.jpg", "annotations": []}, "image_id is 'a.jpg', expected a whole number"),
        ({"image_id": 1, "annotations": [{**coat, "segmentation": None}]}, "annotation 0 of image 1: segmentation is"),
    ):
        with pytest.raises(ValueError, match=message):
            module.add(prediction=[], reference=reference)


def test_attributed_categories() -> None:
    true = [truth(9, box(0, 0, 40, 40), [3]), truth(23, box(80, 0, 40, 40), [])]
    bare = [{**one, "attribute_ids": [7], "score": 1.0} for one in true]
    assert measure({}).attributed_category_ids == FASHIONPEDIA_ATTRIBUTED_CATEGORY_IDS
    assert len(FASHIONPEDIA_ATTRIBUTED_CATEGORY_IDS) == 18

    learnt = FashionAveragePrecision([9, 23], ATTRIBUTE_IDS)
    learnt.add("photo", bare, true)
    assert learnt.attributed_category_ids == {9}
    # {7} against {3}: present 0, absent 2*4/(5+5) = 0.8, macro 0.4, fails all ten; the shoe is held to IoU alone.
    assert learnt.compute()["AP_IoU+F1"] == pytest.approx(1 / 11)

    given = FashionAveragePrecision([9, 23], ATTRIBUTE_IDS, attributed_category_ids=[])
    given.add("photo", bare, true)
    assert given.compute()["AP_IoU+F1"] == approx(1)


def test_a_vocabulary_without_attributes_is_plain_coco() -> None:
    metric = FashionAveragePrecision(CATEGORY_IDS, [])
    true = truth(9, box(0, 0, 40, 40), [])
    metric.add(1, [{**true, "score": 1.0}], [true])
    assert metric.compute()["AP_IoU+F1"] == metric.compute()["AP_IoU"] == approx(1)


def test_records_hold_no_masks() -> None:
    side = 2000
    true = [truth(9, box(0, 0, side, side, side), [3])]
    metric = measure({1: ([{**one, "score": 0.5} for one in true * 200], true)})
    assert len(pickle.dumps(metric.state())) < 10_000
    assert metric.state()[1]["ious"].shape == (100,)


GOOD = prediction(9, box(0, 0, 40, 40), [3], 0.5)
CUT_SHORT = {"size": [160, 160], "counts": rle(box(0, 0, 40, 40))["counts"][:8]}
FALLING = {"size": [160, 160], "counts": "1OPPi0"}  # 1, -1, 25600


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({**GOOD, "category_id": 46}, "image 7, prediction 1: category_id is 46, expected one of the 46 ids"),
        ({**GOOD, "category_id": 9.5}, "prediction 1: category_id is 9.5, expected an integer"),
        ({**GOOD, "attribute_ids": [1]}, "prediction 1: attribute_ids' entry is 1, expected one of the 6 ids"),
        ({**GOOD, "attribute_ids": 5}, "prediction 1: attribute_ids is 5, expected a list"),
        ({**GOOD, "score": float("nan")}, "prediction 1: score is nan, expected a finite number"),
        ({**GOOD, "score": "high"}, "prediction 1: score is 'high', expected a number"),
        ({**GOOD, "score": 10**400}, "prediction 1: score is 10+, expected a number"),
        ({**GOOD, "attribute_scores": [0.5]}, r"prediction 1: attribute_scores is of shape \(1,\), expected 6 prob"),
        ({**GOOD, "attribute_scores": [0, 0, 0, 0, 0, 7]}, "prediction 1: attribute_scores is from 0.0 to 7.0, expec"),
        ({**GOOD, "segmentation": np.ones((9, 8), dtype=bool)}, r"prediction 1: .* is \(9, 8\), expected \(160, 160\)"),
        ({**GOOD, "segmentation": rle(np.ones((9, 8)))}, r"prediction 1: .* is \(9, 8\), .* image 7, ground truth 0"),
        ({**GOOD, "segmentation": np.ones((9, 8))}, "prediction 1: segmentation is .* float64, expected"),
        ({**GOOD, "segmentation": {"size": [9, 8], "counts": [72]}}, "prediction 1: RLE's counts is a list, expected"),
        ({**GOOD, "segmentation": CUT_SHORT}, r"prediction 1: the sum of the RLE's runs is \d+ .*, expected 160 x 160"),
        ({**GOOD, "segmentation": FALLING}, r"prediction 1: the sum of .* is 25600 \(least run -1\), expected 160 x"),
        ({**GOOD, "segmentation": {"size": [160, 160], "counts": "~~"}}, "prediction 1: RLE's counts is '~~', expect"),
        ({**GOOD, "segmentation": {"size": [9, 8]}}, "prediction 1: the key 'counts' is missing, expected"),
        ({key: GOOD[key] for key in GOOD if key != "score"}, "prediction 1: the key 'score' is missing, expected"),
    ],
)
def test_mistakes_are_named(entry: dict[str, Any], message: str) -> None:
    metric = measure({})
    with pytest.raises(ValueError, match=message):
        metric.add(7, [GOOD, entry], [truth(9, box(0, 0, 40, 40), [3])])
    assert metric.state() == {}


def test_mistakes_in_ground_truth_and_vocabulary_are_named() -> None:
    with pytest.raises(ValueError, match="image 7, ground truth 0: category_id is 99"):
        measure({7: ([], [truth(99, box(0, 0, 4, 4), [])])})
    with pytest.raises(ValueError, match="ground truth 0: area is nan"):
        measure({7: ([], [truth(9, box(0, 0, 4, 4), [], area=math.nan)])})
    with pytest.raises(ValueError, match="ground truth 0: covered is 60"):
        measure({7: ([], [truth(9, box(0, 0, 4, 4), [], covered=60)])})
    with pytest.raises(ValueError, match=r"super-category 'tops' holds \[1\]"):
        FashionAveragePrecision([0], [3], supercategories={"tops": [0, 1]})
    with pytest.raises(ValueError, match=r"attribute_ids holds \[3\] more than once"):
        FashionAveragePrecision([0], [3, 3])
    with pytest.raises(ValueError, match=r"attributed_category_ids holds \[5\]"):
        FashionAveragePrecision([0], [3], [5])
    with pytest.raises(ValueError, match="merged state: category_id"):
        FashionAveragePrecision([0], [3]).merge(measure({1: ([], [truth(9, box(0, 0, 4, 4), [])])}).state())
