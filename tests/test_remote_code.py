"""A saved folder is all that another machine needs: fresh processes load it, without our package."""

import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoModelForImageSegmentation, AutoModelForInstanceSegmentation

from fashion_detr import FashionDetrForInstanceSegmentation, FashionDetrImageProcessor

LOGITS = ("class_queries_logits", "masks_queries_logits", "attribute_queries_logits")
PHOTO = (90, 70)

# Our package may be installed where the tests run, and what only training needs may be missing where they load.
BLOCK = """
import sys
for name in ("fashion_detr", "scipy", "pycocotools"):
    sys.modules[name] = None
"""

LOAD_AND_SAVE_AGAIN = (
    BLOCK
    + """
import copy
import torch
from datasets.fingerprint import Hasher
from PIL import Image
from transformers import (
    AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageSegmentation, AutoModelForInstanceSegmentation, pipeline
)

first, second, photo, report = sys.argv[1:]
torch.set_num_threads(1)
config = AutoConfig.from_pretrained(first, trust_remote_code=True)
processor = AutoImageProcessor.from_pretrained(first, trust_remote_code=True)
inputs = processor(Image.open(photo), return_tensors="pt")
found = {"config": (type(config).__name__, config.num_labels, config.num_attributes), "inputs": dict(inputs)}
for auto_class in (AutoModel, AutoModelForInstanceSegmentation, AutoModelForImageSegmentation):
    model = auto_class.from_pretrained(first, trust_remote_code=True)
    with torch.no_grad():
        found[auto_class.__name__] = type(model).__name__, dict(model(**inputs))
with torch.no_grad():
    outputs = model(**inputs)
found["garments"] = processor.post_process_fashion(
    outputs, target_sizes=[Image.open(photo).size[::-1]], config=model.config, threshold=0.0
)[0]
for twin in (copy.copy(found["garments"]), copy.deepcopy(found["garments"])):
    assert twin.image_size == found["garments"].image_size and len(twin) == len(found["garments"])
model.save_pretrained(second)
processor.save_pretrained(second)
segment = pipeline("image-segmentation", model=first, trust_remote_code=True)
found["pipeline"] = segment(photo, threshold=0.0, mask_threshold=0.5, overlap_mask_area_threshold=0.0)
Hasher.hash(segment)  # as `Dataset.map` does with what its function uses
torch.save(found, report)
"""
)

LOAD_A_THIRD_TIME = (
    BLOCK
    + """
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

second, third, photo, report = sys.argv[1:]
torch.set_num_threads(1)
processor = AutoImageProcessor.from_pretrained(second, trust_remote_code=True)
model = AutoModel.from_pretrained(second, trust_remote_code=True)
with torch.no_grad():
    torch.save(dict(model(**processor(Image.open(photo), return_tensors="pt"))), report)
model.save_pretrained(third)
processor.save_pretrained(third)
"""
)


def run(script: str, *arguments: Path, folder: Path) -> None:
    """The script in a fresh process whose working folder, module cache and search path know nothing of ours."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(folder / "modules"), "HF_HUB_OFFLINE": "1"}
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    process = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr[-4000:]


@pytest.fixture(scope="module")
def original(tiny_config, tmp_path_factory) -> dict:
    """A saved model with its processor, a photo, and what the original says of it."""
    folder = tmp_path_factory.mktemp("remote")
    torch.manual_seed(0)
    model = FashionDetrForInstanceSegmentation(tiny_config()).eval()
    processor = FashionDetrImageProcessor(size={"height": 96, "width": 96})
    model.save_pretrained(folder / "first")
    processor.save_pretrained(folder / "first")
    image = np.random.default_rng(0).integers(0, 256, (*PHOTO, 3), dtype=np.uint8)
    Image.fromarray(image).save(folder / "photo.png")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the other processes: the sums shall have one order
    with torch.no_grad():
        inputs = processor(Image.open(folder / "photo.png"), return_tensors="pt")
        outputs = model(**inputs)
    torch.set_num_threads(threads)
    garments = processor.post_process_fashion(outputs, target_sizes=[PHOTO], config=model.config, threshold=0.0)[0]
    return {"folder": folder, "config": model.config, "inputs": inputs, "outputs": outputs, "garments": garments}


@pytest.fixture(scope="module")
def loaded(original) -> dict:
    """What a fresh process found in the folder, and saved again."""
    folder = original["folder"]
    paths = [folder / name for name in ("first", "second", "photo.png", "found.pt")]
    run(LOAD_AND_SAVE_AGAIN, *paths, folder=folder)
    return torch.load(folder / "found.pt", weights_only=False)


def assert_complete(folder: Path) -> None:
    """Every `auto_map` entry names a file that is here, and so does every relative import of every file."""
    for name in ("config.json", "preprocessor_config.json"):
        auto_map = json.loads((folder / name).read_text())["auto_map"]
        assert auto_map
        for entry in auto_map.values():
            assert "--" not in entry, f"{entry} still names the repository that it came from"
            module, class_name = entry.split(".")
            tree = ast.parse((folder / f"{module}.py").read_text())
            assert class_name in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    modules = list(folder.glob("*.py"))
    assert {path.stem for path in modules} >= {
        f"{part}_fashion_detr"
        for part in ("configuration", "modeling", "loss", "image_processing", "masks", "photos", "ontology")
    }
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1 and node.module, f"{path.name} imports from a parent or the folder itself"
                assert (folder / f"{node.module}.py").exists(), f"{path.name} imports {node.module}"


def test_folder_is_complete(original):
    folder = original["folder"] / "first"
    assert_complete(folder)
    auto_map = json.loads((folder / "config.json").read_text())["auto_map"]
    assert {name for name in auto_map if name.startswith("AutoModel")} == {
        "AutoModel",
        "AutoModelForInstanceSegmentation",
        "AutoModelForImageSegmentation",
    }


def test_a_fresh_process_gives_the_same_outputs(original, loaded):
    config = original["config"]
    assert loaded["config"] == ("FashionDetrConfig", config.num_labels, config.num_attributes)
    assert all(torch.equal(original["inputs"][name], value) for name, value in loaded["inputs"].items())
    for auto_class in ("AutoModel", "AutoModelForInstanceSegmentation", "AutoModelForImageSegmentation"):
        class_name, outputs = loaded[auto_class]
        assert class_name == "FashionDetrForInstanceSegmentation"
        assert all(torch.equal(original["outputs"][name], outputs[name]) for name in LOGITS)
    assert len(loaded["garments"]) == len(original["garments"]) > 0
    for garment, expected in zip(loaded["garments"], original["garments"]):
        assert torch.equal(garment.pop("mask"), expected["mask"])
        assert garment == {name: value for name, value in expected.items() if name != "mask"}


def test_stock_pipeline(original, loaded):
    names = set(original["config"].id2label.values())
    assert loaded["pipeline"]
    for segment in loaded["pipeline"]:
        assert segment["label"] in names and 0 <= segment["score"] <= 1
        assert segment["mask"].size == PHOTO[::-1]


def test_saved_again_it_loads_a_third_time(original, loaded):
    folder = original["folder"]
    assert_complete(folder / "second")
    paths = [folder / name for name in ("second", "third", "photo.png", "third.pt")]
    run(LOAD_A_THIRD_TIME, *paths, folder=folder)
    assert_complete(folder / "third")
    outputs = torch.load(folder / "third.pt", weights_only=False)
    assert all(torch.equal(original["outputs"][name], outputs[name]) for name in LOGITS)
    for name in ("config.json", "preprocessor_config.json", "modeling_fashion_detr.py"):
        assert (folder / "third" / name).read_text() == (folder / "second" / name).read_text()


def test_bare_model_carries_its_code_too(tiny_model, tmp_path):
    """`FashionDetrModel` is public as well: what it saves names the same files."""
    tiny_model.model.save_pretrained(tmp_path)
    FashionDetrImageProcessor().save_pretrained(tmp_path)
    assert_complete(tmp_path)


def test_a_class_made_of_it_is_saved_with_its_own_file(tiny_config, tmp_path, monkeypatch):
    code = "from fashion_detr import FashionDetrForInstanceSegmentation as Base\n\n\nclass Mine(Base):\n    pass\n"
    (tmp_path / "my_model.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("my_model").Mine(tiny_config()).save_pretrained(tmp_path / "saved")
    auto_map = json.loads((tmp_path / "saved" / "config.json").read_text())["auto_map"]
    assert {name for auto_class, name in auto_map.items() if "Model" in auto_class} == {"my_model.Mine"}
    assert (tmp_path / "saved" / "my_model.py").read_text() == code
    FashionDetrImageProcessor().save_pretrained(tmp_path / "saved")
    assert_complete(tmp_path / "saved")
    assert (tmp_path / "saved" / "pipeline_fashion_detr.py").is_file(), "what `custom_pipelines` names"


@pytest.mark.parametrize("auto_class", [AutoModel, AutoModelForInstanceSegmentation, AutoModelForImageSegmentation])
def test_registered_in_process(tiny_config, auto_class):
    assert isinstance(auto_class.from_config(tiny_config()), FashionDetrForInstanceSegmentation)


def test_the_first_name_registers_all(original):
    """Importing the configuration alone is enough for the auto classes."""
    script = """
import sys
sys.path.insert(0, sys.argv[1])
from fashion_detr import FashionDetrConfig
from transformers import AutoConfig, AutoImageProcessor, AutoModel
assert type(AutoModel.from_pretrained(sys.argv[2])).__name__ == "FashionDetrForInstanceSegmentation"
assert type(AutoConfig.from_pretrained(sys.argv[2])) is FashionDetrConfig
assert type(AutoImageProcessor.from_pretrained(sys.argv[2])).__name__ == "FashionDetrImageProcessor"
"""
    root = Path(sys.modules["fashion_detr"].__file__).parents[1]
    run(script, root, original["folder"] / "first", folder=original["folder"])
