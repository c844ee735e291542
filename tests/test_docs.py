"""The documentation: links lead somewhere, commands have the options that they name, and every Python block runs."""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from accelerate.commands.launch import launch_command_parser
from PIL import Image
from transformers import HfArgumentParser

from fashion_detr import FashionDetrForInstanceSegmentation, FashionDetrImageProcessor
from fashion_detr.cli import main
from fashion_detr.metrics import FashionAveragePrecision
from fashion_detr.ontology_fashion_detr import ATTRIBUTES, CATEGORIES, PART_OF
from fashion_detr.training.arguments import (
    DataArguments,
    FashionTrainingArguments,
    ModelArguments,
    parse_arguments,
)
from fashion_detr.training.report import FIXED_THRESHOLD_FIGURE

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# Every page in a namespace of its own, where the model and the data are that the pages speak of.
RUN_BLOCKS = """
import re, sys
for page in sys.argv[1:]:
    names = {}
    for number, block in enumerate(re.findall(r"```python\\n(.*?)```", open(page, encoding="utf-8").read(), re.DOTALL)):
        print("running", page, "block", number, file=sys.stderr)
        exec(compile(block, f"{page}, block {number}", "exec"), names)
    if "session" in names:  # the ONNX graph, here with two photos
        torch, model = names["torch"], names["model"]
        inputs = names["processor"](names["photos"], return_tensors="pt")
        found = names["session"].run(names["fields"], {name: values.numpy() for name, values in inputs.items()})
        with torch.inference_mode():
            outputs = model(**inputs)
        for field, values in zip(names["fields"], found):
            assert values.shape == outputs[field].shape and abs(values - outputs[field].numpy()).max() < 1e-4, field
        print("as the model", file=sys.stderr)
"""


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def commands() -> list[str]:
    """The lines of all bash blocks, and commands within the text; placeholders in brackets are for people."""
    lines = []
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", text(page), re.DOTALL):
            lines += [part.strip() for line in block.replace("\\\n", " ").splitlines() for part in line.split("&&")]
        lines += re.findall(r"`((?:accelerate launch|fashion-detr) [^`]*--[^`]*)`", text(page))
    return [line for line in lines if "[config.yaml]" not in line]


@pytest.fixture
def parsers(monkeypatch) -> list[argparse.ArgumentParser]:
    """The parsers that `main` made; it goes no further than to understand its arguments."""
    seen = []
    parse_args = argparse.ArgumentParser.parse_args

    def understand(self, *args, **kwargs):
        seen.append(self)
        arguments = parse_args(self, *args, **kwargs)
        arguments.run = lambda arguments: 0
        return arguments

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", understand)
    return seen


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", text(page))
    missing = [link for link in links if "://" not in link and not (page.parent / link.split("#")[0]).exists()]
    assert links and not missing


def test_commands_of_the_package_are_understood(parsers):
    own = [shlex.split(line, comments=True)[1:] for line in commands() if line.startswith("fashion-detr ")]
    assert {arguments[0] for arguments in own} >= {"predict", "evaluate", "data", "publish", "demo"}
    for arguments in own:
        assert main(arguments) == 0


def test_commands_of_training_are_understood(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    launched = [shlex.split(line) for line in commands() if "train.py" in line]
    assert len(launched) >= 8
    for words in launched:
        before, after = words[2 : words.index("train.py")], words[words.index("train.py") + 1 :]
        launcher = launch_command_parser().parse_args([*before, "train.py"])
        assert launcher.config_file is None or Path(launcher.config_file).is_file()
        parse_arguments([*after, "--use_cpu", "--output_dir", str(tmp_path)], ROOT / "configs" / "demo.yaml")


def test_options_within_the_text_exist(parsers):
    main(["data", "check", "somewhere"])
    waiting = [launch_command_parser(), HfArgumentParser((ModelArguments, DataArguments, FashionTrainingArguments))]
    waiting += parsers
    known = set()
    while waiting:
        parser = waiting.pop()
        known |= set(parser._option_string_actions)
        for action in parser._actions:
            waiting += action.choices.values() if isinstance(action, argparse._SubParsersAction) else []
    named = {option for page in PAGES for option in re.findall(r"`(--\w+)[ `]", text(page))}
    assert len(named) > 10 and named <= known


def test_python_blocks_run(tiny_config, tmp_path):
    torch.manual_seed(0)
    model = FashionDetrForInstanceSegmentation(tiny_config(decoder_layers=1))
    with torch.no_grad():  # it is sure to find coats, that there is something to crop and to draw
        model.class_head.bias[model.config.label2id["coat"]] = 8
    for name in ("checkpoints/fashion-detr-lite0-ccp", "outputs/own"):
        model.save_pretrained(tmp_path / name)
        FashionDetrImageProcessor(size={"height": 96, "width": 64}).save_pretrained(tmp_path / name)
    Image.linear_gradient("L").resize((60, 90)).convert("RGB").save(tmp_path / "photo.jpg")
    (tmp_path / "exported").mkdir()
    for split, value in (("train", "red"), ("val", "blue")):
        annotation = {"attributes": {"occluded": True, "colour": value, "striped": True, "lined": False, "pockets": 0}}
        (tmp_path / "exported" / f"{split}.json").write_text(json.dumps({"annotations": [annotation]}))
    (tmp_path / "my_photos").mkdir()
    draft = {"categories": [{"id": 0}], "annotations": [{"category_id": 0, "attribute_ids": [17]}]}
    (tmp_path / "my_photos" / "train.json").write_text(json.dumps(draft | {"attributes": [{"id": 17, "name": "long"}]}))
    (tmp_path / "fashion_detr").symlink_to(ROOT / "fashion_detr")  # `evaluate.load` is given a path in the repository
    environment = os.environ | {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", RUN_BLOCKS, *map(str, PAGES)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("as the model") == 1
    assert (tmp_path / "overlay.png").is_file() and (tmp_path / "repaint.png").is_file()
    named = json.loads((tmp_path / "named" / "val.json").read_text())
    assert [entry["name"] for entry in named["attributes"]] == ["colour: red", "striped", "pockets: 0", "colour: blue"]
    assert named["annotations"] == [{"attribute_ids": [3, 1, 2]}]
    draft = json.loads((tmp_path / "for_the_tool.json").read_text())
    assert draft["categories"] == [{"id": 1}]
    assert draft["annotations"] == [{"category_id": 1, "attributes": {"long": True}}]
    assert sum(text(page).count("```python") for page in PAGES) == done.stderr.count("running ")


def test_labels_are_those_of_the_ontology():
    page = text(ROOT / "docs" / "labels.md")
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in re.findall(r"^\|.*\|$", page, re.MULTILINE)]
    for number, (name, supercategory) in enumerate(CATEGORIES):
        assert any(row[0] == supercategory and f"{name} ({number})" in row[1].split("; ") for row in rows), name
    counts = {row[0]: int(row[1]) for row in rows if len(row) == 3 and row[1].isdecimal()}
    assert counts == Counter(supercategory for _, _, supercategory in ATTRIBUTES)
    for part in PART_OF:
        is_decoration = dict(CATEGORIES)[part] == "decorations"
        assert any(("all decorations" if is_decoration else part) in re.split(", | and ", row[0]) for row in rows), part


def test_figures_are_called_as_in_metrics_json():
    known = {*FashionAveragePrecision([0], [0]).compute(), FIXED_THRESHOLD_FIGURE}
    named = set(re.findall(r"`((?:AP|AR)\d*_[\w+@.]+|attribute_(?:gap|F1))`", text(ROOT / "docs" / "evaluate.md")))
    assert len(named) > 10 and named <= known
