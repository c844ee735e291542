"""`fashion-detr evaluate` on files of predictions: figures worked out by hand, and every kind of broken entry named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from fashion_detr.cli import main
from fashion_detr.cli_evaluate import _save_attribute_thresholds
from fashion_detr.metrics import FashionAveragePrecision

SIZE = (40, 30)


def box(top: int, left: int, height: int, width: int) -> dict[str, Any]:
    mask = np.zeros(SIZE, dtype=np.uint8, order="F")
    mask[top : top + height, left : left + width] = 1
    rle = coco_mask.encode(mask)
    return {"size": list(SIZE), "counts": rle["counts"].decode()}


def scene() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A coat with two attributes and a shoe in one image, nothing in the other; both found exactly."""
    polygon = [[2.0, 2.0, 12.0, 2.0, 12.0, 22.0, 2.0, 22.0]]
    truth = {
        "images": [{"id": key, "file_name": f"{key}.jpg", "height": SIZE[0], "width": SIZE[1]} for key in (7, 8)],
        "categories": [{"id": 3, "name": "coat"}, {"id": 9, "name": "shoe"}],
        "attributes": [{"id": key, "name": f"attribute {key}"} for key in (11, 20, 340)],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "attribute_ids": [11, 340], "segmentation": polygon},
            {"id": 2, "image_id": 7, "category_id": 9, "attribute_ids": [], "segmentation": box(30, 5, 6, 8)},
        ],
    }
    coat = coco_mask.merge(coco_mask.frPyObjects(polygon, *SIZE))
    coat = {"size": list(SIZE), "counts": coat["counts"].decode()}
    found = {"image_id": 7, "category_id": 3, "attribute_ids": [340, 11], "segmentation": coat, "score": 0.9}
    shoe = {"image_id": 7, "category_id": 9, "attribute_ids": [], "segmentation": box(30, 5, 6, 8), "score": 0.4}
    return truth, [found, shoe]


def evaluate(folder: Path, truth: dict[str, Any], results: Any) -> int:
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(results if isinstance(results, str) else json.dumps(results))
    files = ["--predictions", str(folder / "results.json"), "--annotations", str(folder / "truth.json")]
    return main(["evaluate", *files, "--output", str(folder / "out")])


def test_exact_predictions_score_one(tmp_path, capsys):
    assert evaluate(tmp_path, *scene()) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["AP_IoU"] == pytest.approx(1) and metrics["AP_IoU+F1"] == pytest.approx(1)
    assert metrics["num_images"] == 2 and metrics["num_attributes"] == 3
    assert metrics["per_category"]["coat"]["instances"] == 1
    with Image.open(tmp_path / "out" / "evaluation.png") as picture:
        assert picture.width > 1000 and len(picture.convert("L").getcolors()) > 50
    assert metrics["per_attribute"]["attribute 11"]["F1"] == 1 and "attribute 20" not in metrics["per_attribute"]
    assert metrics["AP_IoU_large"] is None  # no such instance: undefined, and JSON has no NaN
    said = capsys.readouterr()
    table = said.out
    assert "1 of 2 images have no prediction" in said.err
    assert "2 images, A = 3 attributes" in table and "coat" in table and str(tmp_path / "out") in table


# But for event loops of Gradio's, from the tests of the page, that happen to be collected meanwhile.
@pytest.mark.filterwarnings("error", r"ignore:unclosed (<socket\.socket|event loop):ResourceWarning")
def test_any_name_can_be_drawn(tmp_path):
    truth, results = scene()
    for category, name in zip(truth["categories"], ("US$ bag \\foo $ \n", "Ärmel дом \ud800")):
        category["name"] = name
    assert evaluate(tmp_path, truth, results) == 0
    assert (tmp_path / "out" / "evaluation.png").is_file()


def test_figures_that_cannot_be_written_are_printed(tmp_path, capsys):
    truth, results = scene()
    (tmp_path / "out" / "metrics.json").mkdir(parents=True)
    assert evaluate(tmp_path, truth, results) == 2
    said = capsys.readouterr()
    assert "2 images, A = 3 attributes" in said.out and "The figures cannot be written" in said.err


def test_where_the_figures_cannot_go_is_said_first(tmp_path, capsys):
    (tmp_path / "out").touch()
    (tmp_path / "config.json").touch()
    options = ["--model", str(tmp_path), "--data_dir", "nowhere", "--output", str(tmp_path / "out")]
    assert main(["evaluate", *options]) == 2
    assert "The folder --output" in capsys.readouterr().err


def test_wrong_attributes_cost_the_joint_figure_alone(tmp_path):
    truth, results = scene()
    results[0]["attribute_ids"] = [20]
    assert evaluate(tmp_path, truth, results) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["AP_IoU"] == pytest.approx(1)
    # The coat enters ten times with 0, once per F1 threshold; the shoe, which carries none, once with 1.
    assert metrics["AP_IoU+F1"] == pytest.approx(1 / 11)


def test_files_of_other_tools(tmp_path):
    """COCO's own form names no attributes; a byte order mark, keys of one's own, no area where pandas had none."""
    truth, results = scene()
    truth["categories"][1]["name"] = "coat"  # as Roboflow names a super-category like its only category
    for annotation in truth["annotations"]:
        annotation |= {"area": float("nan"), "covered": 40, "note": "mine"}
    for result in results:
        result |= {"attribute_scores": {"11": 0.5}, "bbox": [0, 0, 1, 1]}
    del results[0]["attribute_ids"]
    results[1]["attribute_ids"] = None
    results[1]["segmentation"]["size"] = [40.0, 30.0]
    assert evaluate(tmp_path, truth, "\ufeff" + json.dumps(results)) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["AP_IoU"] == pytest.approx(1)
    assert metrics["AP_IoU+F1"] == pytest.approx(1 / 11)
    assert set(metrics["per_category"]) == {"coat (3)", "coat (9)"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 6}, "unknown image_id: 1 (entry 1: 6)"),
        ({"category_id": 4}, "unknown category_id (expected one of the 2 ids from 3 to 9): 1 (entry 1: 4)"),
        ({"attribute_ids": [11, 12]}, "entry 1: [12]"),
        ({"attribute_ids": 11}, "attribute_ids that are no list"),
        ({"score": 10**400}, "scores that are no finite number"),
        ({"score": float("nan")}, "scores that are no finite number: 1 (entry 1: nan)"),
        ({"score": "high"}, "entry 1: 'high'"),
        ({"segmentation": box(1, 1, 2, 2) | {"size": [30, 40]}}, "size [height, width] [40, 30], found [30, 40]"),
        ({"segmentation": [[1, 1, 2, 2, 3, 1]]}, "no run lengths"),
        ({"segmentation": box(1, 1, 2, 2) | {"counts": box(1, 1, 2, 2)["counts"][:-1]}}, "COCO's compressed form"),
        ({"segmentation": {"size": list(SIZE), "counts": "a1"}}, "sum to 40 x 30 = 1200 pixels, found 49"),
        ({"segmentation": {"size": list(SIZE), "counts": "~~"}}, "COCO's compressed form, found '~~'"),
        ({"segmentation": {"size": list(SIZE), "counts": ""}}, "COCO's compressed form, found ''"),
    ],
)
def test_a_broken_entry_is_named_before_anything_is_computed(tmp_path, capsys, change, message):
    truth, results = scene()
    results[1] |= change
    assert evaluate(tmp_path, truth, results) == 2
    said = capsys.readouterr().err
    assert message in said and "results.json" in said
    assert not (tmp_path / "out").exists()


def test_a_missing_key_a_list_and_half_a_file_are_named(tmp_path, capsys):
    truth, results = scene()
    del results[0]["score"]
    for broken, message in ((results, "missing keys: 1 (entry 0: score)"), ({}, "list"), ("[{", "not valid JSON")):
        assert evaluate(tmp_path, truth, broken) == 2
        assert message in capsys.readouterr().err


def test_thresholds_are_written_into_the_configuration(tmp_path):
    """Thirty coats with the probability 0.7 of an attribute that they carry; one that they do not has 0.62."""
    metric = FashionAveragePrecision([3], [11, 20])
    coat = {"category_id": 3, "attribute_ids": [11], "segmentation": box(2, 2, 20, 10)}
    for image_id in range(30):
        metric.add(image_id, [coat | {"score": 0.9, "attribute_scores": [0.7, 0.62]}], [coat])
    config_file = tmp_path / "config.json"
    config_file.write_text(json.dumps({"auto_map": {"AutoModel": "code.Model"}, "d_model": 32}))
    assert "attributes are reported from a probability of 0.65 on" in _save_attribute_thresholds(metric, config_file)
    expected = {"auto_map": {"AutoModel": "code.Model"}, "d_model": 32, "attribute_thresholds": [0.65, 0.65]}
    assert json.loads(config_file.read_text()) == expected


def test_thresholds_need_a_models_folder(tmp_path, capsys):
    options = ["--model", str(tmp_path), "--data_dir", str(tmp_path), "--save_attribute_thresholds"]
    assert main(["evaluate", *options, "--output", str(tmp_path / "out")]) == 2
    assert "--save_attribute_thresholds needs --model with the folder of a model" in capsys.readouterr().err


def test_half_a_pair_of_options_is_refused(tmp_path, capsys):
    for options in ([], ["--model", "m"], ["--model", "m", "--data_dir", "d", "--predictions", "p"]):
        assert main(["evaluate", *options, "--output", str(tmp_path)]) == 2
        assert "either --model and --data_dir, or --predictions and --annotations" in capsys.readouterr().err
