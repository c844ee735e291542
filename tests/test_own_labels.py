"""Own categories and attributes: the worked example of docs/own_labels.md, from drawn photos to a published model."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import datasets
import pytest
import torch
from transformers import ResNetConfig, ResNetModel

from fashion_detr import FashionDetrForInstanceSegmentation, FashionDetrImageProcessor
from fashion_detr.cli import main
from fashion_detr.data.annotations import Vocabulary
from fashion_detr.data.dataset import collate
from fashion_detr.training.arguments import parse_arguments
from fashion_detr.training.fine_tuning import load_for_vocabulary

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "own_labels.md").read_text(encoding="utf-8")
CATEGORIES = {3: "coat", 7: "trousers", 12: "tote bag"}
ATTRIBUTES = {10: "plain", 20: "striped", 21: "red", 35: "blue", 70: "long handles"}
OWN = Vocabulary(
    tuple((key, name, "") for key, name in CATEGORIES.items()),
    tuple((key, name, "") for key, name in ATTRIBUTES.items()),
)

# Without our package. The biases leave the heads no choice: every query is a tote bag, or trousers, with long handles.
USE = """
import json, sys
sys.modules["fashion_detr"] = None
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

model = AutoModel.from_pretrained("published", trust_remote_code=True)
processor = AutoImageProcessor.from_pretrained("published", trust_remote_code=True)
photo = Image.open("my_data/val/000.jpg")
batch = processor(photo, return_tensors="pt")
found = {"canvas": list(batch["pixel_values"].shape)}
for name in ("tote bag", "trousers"):
    with torch.inference_mode():
        model.class_head.bias.fill_(-20.0)[model.config.label2id[name]] = 20.0
        model.attribute_head.bias.fill_(-20.0)[4] = 20.0
        result = processor.post_process_fashion(
            model(**batch), [photo.size[::-1]], model.config, threshold=0.0, top_k=3
        )[0]
    found[name] = [[entry["label"], [attribute["name"] for attribute in entry["attributes"]]] for entry in result]
    found[name] += [[entry["category_id"], entry["attribute_ids"]] for entry in result.to_coco(5, model.config)]
print(json.dumps(found))
"""


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess:
    """A command in a process of its own, whose caches are the folder's and which has no network."""
    environment = os.environ | {"HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture
def start(tiny_config, tmp_path) -> Path:
    """A saved model of Fashionpedia's labels, in half precision, with a canvas and a normalisation of its own."""
    torch.manual_seed(0)
    folder = tmp_path / "checkpoints" / "fashion-detr-lite0-ccp"
    config = tiny_config(category_attributes={9: [0]}, attribute_thresholds=[0.5] * 294, class_loss_weight=2)
    FashionDetrForInstanceSegmentation(config).to(torch.bfloat16).save_pretrained(folder)
    FashionDetrImageProcessor(size={"height": 64, "width": 96}, image_mean=[0.5] * 3).save_pretrained(folder)
    return folder


@pytest.fixture
def my_data(tmp_path, monkeypatch) -> Path:
    """What the page's example draws, but fewer photos; the working folder and its caches are the test's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    script = re.search(r"```python\n([^`]*write_split.*?)```", PAGE, re.DOTALL)[1]
    exec(script.replace("count=60", "count=3").replace("count=20", "count=1"), {})
    return tmp_path / "my_data"


def test_the_worked_example(start, my_data, tmp_path):
    """Two steps as on the page, published; names and ids come out right in a process that knows only the folder."""
    command = re.search(r"accelerate launch train.py(.*?)\n```", PAGE, re.DOTALL)[1].replace("\\\n", " ")
    config_file, *options = shlex.split(command)
    options += ["--max_steps", "2", "--warmup_steps", "0", "--dataloader_num_workers", "0", "--save_strategy", "no"]
    options += ["--channels_last", "false"]  # PyTorch 2.14 corrupts memory in the backward pass of so narrow a ResNet
    done = run([sys.executable, str(ROOT / "train.py"), str(ROOT / config_file), *options], tmp_path)
    for line in re.findall(r"^(?:class_head|attribute_head|All other weights): .*", PAGE, re.MULTILINE):
        assert line in done.stderr, f"the page promises {line!r}"
    assert json.loads((tmp_path / "outputs" / "own" / "metrics.json").read_text())["num_attributes"] == 5

    assert main(["publish", "outputs/own", "--repo_id", "me/own", "--dry_run", "published"]) == 0
    found = json.loads(run([sys.executable, "-c", USE], tmp_path).stdout)
    assert found["canvas"] == [1, 3, 192, 128]
    count = len(found["tote bag"]) // 2
    assert count and found["tote bag"] == [["tote bag", ["long handles"]]] * count + [[12, [70]]] * count
    assert found["trousers"] == [["trousers", []]] * count + [[7, []]] * count, "no trousers of the photos have handles"


def test_what_a_model_knows_by_name_is_kept(start, caplog):
    saved = FashionDetrForInstanceSegmentation.from_pretrained(start, dtype=torch.float32)
    with caplog.at_level("INFO", logger="fashion_detr"):
        model = load_for_vocabulary(str(start), OWN)
    assert "class_head: 1 of 3 labels are known, new: trousers, tote bag" in caplog.text
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}, "half precision would learn badly"
    assert torch.equal(model.class_head.weight[0], saved.class_head.weight[saved.config.label2id["coat"]])
    assert not torch.isin(model.class_head.weight[1:], saved.class_head.weight).any()
    assert model.class_head.bias[1] == model.attribute_head.bias[4] < -1, "rare until shown otherwise"
    for name, tensor in model.state_dict().items():
        if not name.startswith(("class_head", "attribute_head")):
            assert torch.equal(tensor, saved.state_dict()[name]), name
    assert model.config.category_ids == list(CATEGORIES) and model.config.attribute_ids == list(ATTRIBUTES)
    assert model.config.class_loss_weight == 2, "the architecture's and the loss's fields stay"
    assert model.config.category_attributes is None and model.config.attribute_thresholds is None

    changed = load_for_vocabulary(str(start), OWN, {"dropout": 0.3, "class_loss_weight": 5}).config
    assert (changed.dropout, changed.class_loss_weight, changed.d_model) == (0.3, 5, saved.config.d_model)
    with pytest.raises(ValueError, match=r"`model_config` changes the sizes of weights, which .*: .*quer"):
        load_for_vocabulary(str(start), OWN, {"num_queries": 3})
    with pytest.raises(ValueError, match="`model_config` changes the sizes of weights"):
        load_for_vocabulary(str(start), OWN, {"d_model": 2 * saved.config.d_model})

    again = load_for_vocabulary(str(start), Vocabulary.fashionpedia())
    assert all(torch.equal(tensor, saved.state_dict()[name]) for name, tensor in again.state_dict().items())


def test_a_backbone_is_no_model_to_start_from(tmp_path):
    ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"`model_name_or_path`: .* type 'resnet', expected 'fashion_detr'.*backbone_weights"
    ):
        load_for_vocabulary(str(tmp_path), OWN)


def test_weights_that_were_cut_short_are_named(start):
    weights = start / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"`model_name_or_path`: The weights of .* are damaged"):
        load_for_vocabulary(str(start), OWN)


def prepare(train: ModuleType, start: Path, folder: Path, *more: str) -> tuple:
    """The model and the three data sets that train.py would train with and judge by."""
    options = ["--model_name_or_path", str(start), "--data_dir", str(folder), "--output_dir", str(folder / "out")]
    options += more
    _, model_args, data_args, args = parse_arguments(options, ROOT / "configs" / "fine_tune.yaml")
    model, processor = train.build_model(model_args, data_args)
    return model, processor, train.build_datasets(data_args, args, model.config, processor)


def edit(folder: Path, split: str, change) -> None:
    file = folder / f"{split}.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_plain_coco(train_script, start, my_data, tmp_path):
    """Without attributes the model learns masks and categories. Canvas and normalisation are the saved model's."""

    def without_attributes(content):
        del content["attributes"]
        for entry in content["annotations"]:
            del entry["attribute_ids"]

    for split in ("train", "val"):
        edit(my_data, split, without_attributes)
    model, processor, (train, _, _) = prepare(train_script, start, my_data)
    assert (processor.size["height"], processor.size["width"], processor.image_mean[0]) == (64, 96, 0.5)
    assert model.config.num_attributes == 0 and list(model.config.id2label.values()) == list(CATEGORIES.values())
    batch = collate([train[0], train[1]])
    loss = model.train()(**batch).loss
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(model.class_head.weight.grad).all()
    model.save_pretrained(tmp_path / "again")
    model = FashionDetrForInstanceSegmentation.from_pretrained(tmp_path / "again")
    with torch.no_grad():
        outputs = model(batch["pixel_values"], batch["pixel_mask"])
    result = processor.post_process_fashion(outputs, None, model.config, threshold=0.0)[0]
    assert len(result) and all(entry["attributes"] == [] for entry in result)


def test_splits_that_list_different_labels_are_refused(train_script, start, my_data):
    def without_coats(content):
        content["categories"] = content["categories"][1:]
        content["annotations"] = [entry for entry in content["annotations"] if entry["category_id"] != 3]

    def swapped(content):
        names = [entry["name"] for entry in content["categories"]]
        for entry, name in zip(content["categories"], names[::-1]):
            entry["name"] = name

    before = (my_data / "val.json").read_text()
    edit(my_data, "val", without_coats)
    with pytest.raises(ValueError, match=r"category 3 is 'coat' in split 'train' and nothing in 'val'.*data check"):
        prepare(train_script, start, my_data)
    (my_data / "val.json").write_text(before)
    edit(my_data, "val", swapped)  # two exports that number the classes differently
    with pytest.raises(ValueError, match=r"category 3 is 'coat' in split 'train' and '.*' in 'val'"):
        prepare(train_script, start, my_data)


@pytest.mark.parametrize("count", ["-1", "3", "20"])
def test_photos_to_learn_from_have_to_be_left(count, train_script, start, my_data):
    with pytest.raises(ValueError, match=rf"`selection_images` .* found {count}, and split 'train' has 3 photos"):
        prepare(train_script, start, my_data, "--selection_images", count)


def test_figures_of_other_names_come_with_a_warning(start, my_data, tmp_path, capsys):
    """The ids are those of the model, the names are not: nobody but the person can tell whether the labels are."""
    model = load_for_vocabulary(str(start), OWN)
    model.save_pretrained(tmp_path / "own")
    FashionDetrImageProcessor.from_pretrained(start).save_pretrained(tmp_path / "own")
    command = [
        "evaluate",
        "--model",
        str(tmp_path / "own"),
        "--data_dir",
        str(my_data),
        "--output",
        str(tmp_path / "e"),
    ]
    assert main(command) == 0 and "warning" not in capsys.readouterr().err

    def rename(content):
        content["categories"][0]["name"] = "manteau"

    edit(my_data, "val", rename)
    assert main(command) == 0
    assert "warning: 1 of 3 category names differ, as of id 3: 'coat' in the model, 'manteau' in the" in (
        capsys.readouterr().err
    )


def test_evaluations_may_have_a_canvas_of_their_own(train_script, start, my_data):
    """Photos to learn from keep the training canvas; the saved processor is the one that the figures are of."""
    _, processor, (train, selection, final) = prepare(train_script, start, my_data, "--eval_image_size", "96", "160")
    assert train.processor is processor and processor.size["height"] == 64
    for held_out in (selection, final):
        assert held_out[0]["pixel_values"].shape == (3, 96, 160) and held_out.processor.image_mean[0] == 0.5
    assert train[0]["pixel_values"].shape == (3, 64, 96)
