"""`pipeline("image-segmentation", ...)`: layers, parts and attributes, from a folder that needs no package."""

import ast
import base64
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import FLAT_FILES
from PIL import Image
from transformers import Trainer, TrainingArguments

from fashion_detr import (
    FashionDetrForInstanceSegmentation,
    FashionDetrImageProcessor,
    FashionDetrPipeline,
    photos_fashion_detr,
)
from fashion_detr.modeling_fashion_detr import FashionDetrForInstanceSegmentationOutput

PHOTO = (64, 48)
SIZES = [(90, 70), (40, 80), (64, 64)]


def box(top: int, left: int, bottom: int, right: int) -> torch.Tensor:
    mask = torch.zeros(PHOTO, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


TOY = {"coat": box(8, 4, 60, 44), "collar": box(4, 16, 16, 32), "pocket": box(32, 8, 44, 20)}


@pytest.fixture
def segment(tiny_model, monkeypatch) -> FashionDetrPipeline:
    """A pipeline whose model sees the toy, whatever the photo, and a faint hat (see tests/test_results.py)."""
    config = tiny_model.config
    masks = torch.full((1, 4, 16, 12), -10.0)
    for query, mask in enumerate(TOY.values()):
        masks[0, query][mask[::4, ::4]] = 16.0
    masks[0, 3, :2, :4] = 1.0
    classes = torch.full((1, 4, config.num_labels), -10.0)
    for query, (name, logit) in enumerate([("coat", 4.0), ("collar", 3.0), ("pocket", 2.0), ("hat", 0.0)]):
        classes[0, query, config.label2id[name]] = logit
    attributes = torch.full((1, 4, config.num_attributes), -10.0)
    attributes[0, 0, :2] = torch.tensor([2.0, -0.5])

    def forward(pixel_values, pixel_mask):
        return FashionDetrForInstanceSegmentationOutput(
            class_queries_logits=classes,
            masks_queries_logits=masks,
            attribute_queries_logits=attributes,
            valid_sizes=torch.tensor([[int(pixel_mask[0, :, 0].sum()), int(pixel_mask[0, 0].sum())]]),
        )

    monkeypatch.setattr(tiny_model, "forward", forward)
    processor = FashionDetrImageProcessor(size={"height": PHOTO[0], "width": PHOTO[1]})
    return FashionDetrPipeline(tiny_model, image_processor=processor, task="image-segmentation")


def photo(size: tuple[int, int] = PHOTO, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def test_toy_layers_come_back_whole(segment):
    segments = segment(photo())
    assert [one["label"] for one in segments] == list(TOY)
    for one in segments:
        assert one["mask"].mode == "L" and one["mask"].size == PHOTO[::-1]
        assert np.array_equal(np.array(one["mask"]), 255 * TOY[one["label"]].numpy().astype(np.uint8))
    assert [one["parent"] for one in segments] == [None, 0, 0]
    assert segments[1]["bbox"] == [16.0, 4.0, 32.0, 16.0]
    assert segments[0]["score"] == pytest.approx(torch.tensor(4.0).sigmoid().item(), rel=1e-3)
    names = segment.model.config.id2attribute
    assert [attribute["name"] for attribute in segments[0]["attributes"]] == [names[0], names[1]]


@pytest.mark.parametrize(
    ("arguments", "labels", "attributes"),
    [
        ({"threshold": 0.3}, [*TOY, "hat"], 2),
        ({"threshold": 0.9}, ["coat", "collar"], 2),
        ({"threshold": 0.3, "mask_threshold": 0.75}, list(TOY), 2),
        ({"attribute_threshold": 0.5}, list(TOY), 1),
        ({"top_k": 1}, ["coat"], 2),
        ({"subtask": "instance", "overlap_mask_area_threshold": 0.0}, list(TOY), 2),
    ],
)
def test_options(segment, arguments, labels, attributes):
    """The same in the call and for all calls of a pipeline."""
    always = FashionDetrPipeline(segment.model, image_processor=segment.image_processor, **arguments)
    for segments in (segment(photo(), **arguments), always(photo()), segment(images=photo(), **arguments)):
        assert [one["label"] for one in segments] == labels and len(segments[0]["attributes"]) == attributes


def test_what_it_cannot_do_is_said(segment, tmp_path):
    with pytest.raises(ValueError, match=r"instances apart.*'semantic'"):
        segment(photo(), subtask="semantic")
    with pytest.raises(ValueError, match="without an inputs argument"):
        segment()
    with pytest.raises(ValueError, match=r"keep their overlaps.*overlap_mask_area_threshold=0\.5"):
        segment(photo(), overlap_mask_area_threshold=0.5)
    (tmp_path / "text.jpg").write_text("no photo")
    with pytest.raises(ValueError, match=r"text\.jpg cannot be read"):
        segment(tmp_path / "text.jpg")
    with pytest.raises(ValueError, match="`threshold` has to be a number from 0 to 1, found 30"):
        segment(photo(), threshold=30)
    with pytest.raises(ValueError, match="needs the image processor of the model"):
        FashionDetrPipeline(model=segment.model)
    segment.model.config = SimpleNamespace(model_type="detr")
    with pytest.raises(ValueError, match="of type 'fashion_detr', found 'detr'"):
        segment.check_model_type({})


def test_a_batch_is_taken_apart_whatever_the_model_tells(tiny_model):
    processor = FashionDetrImageProcessor(size={"height": PHOTO[0], "width": PHOTO[1]})
    segment = FashionDetrPipeline(tiny_model, image_processor=processor, threshold=0.0, top_k=2)
    photos = [photo(seed=number) for number in range(3)]  # more than the model has stages
    alone = [[one["label"] for one in segment(one_photo)] for one_photo in photos]
    tiny_model.set_attn_implementation("eager")
    tiny_model.config.output_attentions = tiny_model.config.output_hidden_states = True
    assert [[one["label"] for one in segments] for segments in segment(photos, batch_size=3)] == alone


@pytest.mark.parametrize("kind", ["ndarray", "Tensor", "tuple", "dict", "int"])
def test_what_is_no_photo_is_named(segment, kind):
    array = np.array(photo())
    no_photo = {"ndarray": array, "Tensor": torch.from_numpy(array), "tuple": (photo(),), "dict": {"image": photo()}}
    for inputs in (no_photo.get(kind, 7), [photo(), no_photo.get(kind, 7)]):
        with pytest.raises(ValueError, match=rf"A photo is .* several are a list of them; found {kind}\. `Image\.from"):
            segment(inputs)


def test_folders_and_empty_lists(segment, tmp_path, monkeypatch):
    (tmp_path / "abcd").mkdir()  # which is base64 as well
    monkeypatch.chdir(tmp_path)
    for folder in ("abcd", str(tmp_path), tmp_path):
        with pytest.raises(ValueError, match=r"cannot be read as an image: it is a folder\."):
            segment(folder)
    assert segment([]) == [] == segment([], batch_size=2, threshold=0.3)


@pytest.fixture
def photo_server(tmp_path) -> Iterator[str]:
    """The address of a server of the temporary folder's files."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_photos_are_read_as_the_processor_reads_them(segment, tmp_path, monkeypatch, photo_server):
    """Upright, on white, by path, URL, text or opened: the model gets what the processor makes of the photo."""
    seen = []
    monkeypatch.setattr(segment, "_forward", lambda inputs: seen.append(inputs) or {"target_size": [(1, 1)]})
    monkeypatch.setattr(segment, "postprocess", lambda outputs: None)
    see_through = photo(SIZES[0])
    see_through.putalpha(photo(SIZES[0], 1).convert("L"))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    see_through.save(tmp_path / "turned.png", exif=exif)
    path, url = tmp_path / "turned.png", f"{photo_server}/turned.png"
    shutil.copy(path, tmp_path / "ü a+b%.png")
    foreign = f"{photo_server}/ü a+b%25.png#top"
    text = base64.b64encode(path.read_bytes()).decode()
    for image in (str(path), path, Image.open(path), url, foreign, text, f"data:image/png;base64,{text}"):
        segment(image)
        expected = segment.image_processor(path, return_tensors="pt").pixel_values
        assert torch.equal(seen[-1]["pixel_values"], expected) and seen[-1]["target_size"] == [SIZES[0][::-1]]
    with pytest.raises(ValueError, match=f"{photo_server}/no.png cannot be fetched: .*404"):
        segment(f"{photo_server}/no.png")
    for name in ("no.png", "data/img", "DSC00012", "a,abcd"):  # of which some are base64 as well
        with pytest.raises(ValueError, match=rf"no file '{name}'"):
            segment(name)
    for no_image in ("data:image/png;base64,abcd", 2000 * "abcd"):  # too long for a path
        with pytest.raises(ValueError, match=r"^The file cannot be read as an image"):
            segment(no_image)
    monkeypatch.setattr(photos_fashion_detr, "MAX_FETCHED_BYTES", 100)
    with pytest.raises(ValueError, match=r"turned\.png is no photo: its file is larger than"):
        segment(url)


# --- a folder is all that it needs ------------------------------------------------------------------------------------

SEGMENT_AND_SAVE_AGAIN = """
import sys
for name in ("fashion_detr", "scipy", "pycocotools"):
    sys.modules[name] = None
import pickle
import numpy as np
import torch
from PIL import Image
from transformers import pipeline

torch.set_num_threads(1)
*folders, photos, report = sys.argv[1:]
images = [Image.open(path) for path in photos.split(",")]
found = []
for source, target in zip(folders, folders[1:]):
    segment = pipeline("image-segmentation", model=source, trust_remote_code=True)
    segment.save_pretrained(target)
    for segments in segment(images, batch_size=2, threshold=0.0):
        found.append([one | {"mask": np.array(one["mask"])} for one in segments])
outputs = segment.model(**segment.image_processor(images[:1], return_tensors="pt"))
(layers,) = segment.image_processor.post_process_fashion(outputs, config=segment.model.config, threshold=0.0)
assert type(layers).from_json(layers.to_json()).to_json() == layers.to_json()
see_through = Image.new("RGBA", layers.image_size[::-1])
assert layers.keep([-1]).crop(0, see_through).convert("RGB").getextrema() == ((255, 255),) * 3
try:
    layers.plot(images[0].resize(layers.image_size[::-1]))
except ImportError as error:
    refusal = str(error)
with open(report, "wb") as file:
    pickle.dump({"class": type(segment).__name__, "found": found, "layers": layers, "refusal": refusal}, file)
"""


def in_a_fresh_process(folder: Path, *arguments: Any) -> str:
    """What the script says on its standard error; its working folder and its caches know nothing of the package."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(folder / "modules"), "HF_HUB_OFFLINE": "1"}
    process = subprocess.run(
        [sys.executable, "-W", "default", "-c", SEGMENT_AND_SAVE_AGAIN, *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    return process.stderr


def assert_carries_its_code(folder: Path) -> None:
    """Every flat file, the same as in the package, and whatever it imports from its neighbours."""
    files = {path.name: path.read_text() for path in folder.glob("*.py")}
    assert set(files) == FLAT_FILES
    package = Path(sys.modules["fashion_detr"].__file__).parent
    for name, text in files.items():
        assert text == (package / name).read_text()
        imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom) and node.level]
        assert all(node.level == 1 and f"{node.module}.py" in files for node in imports)


@pytest.fixture(scope="module")
def saved(tiny_config, tmp_path_factory) -> Path:
    """A folder with `first`, a saved model with random weights, and photos of several sizes."""
    folder = tmp_path_factory.mktemp("pipeline")
    torch.manual_seed(0)
    model = FashionDetrForInstanceSegmentation(tiny_config())
    # Random weights see next to nothing; so they see something everywhere.
    torch.nn.init.normal_(model.class_head.bias)
    torch.nn.init.normal_(model.attribute_head.bias)
    model.save_pretrained(folder / "first")
    FashionDetrImageProcessor(size={"height": 96, "width": 96}).save_pretrained(folder / "first")
    for number, size in enumerate(SIZES):
        photo(size, number).save(folder / f"{number}.png")
    return folder


def test_three_generations_without_the_package(saved):
    photos = ",".join(str(saved / f"{number}.png") for number in range(len(SIZES)))
    folders = [saved / name for name in ("first", "second", "third", "fourth")]
    said = in_a_fresh_process(saved, *folders, photos, saved / "found.pkl")
    for line in said.splitlines():
        assert not any(word in line.lower() for word in ("warn", "error", "not supported", "falling back")), line
    for folder in folders:
        assert_carries_its_code(folder)
    assert (saved / "fourth" / "config.json").read_text() == (saved / "second" / "config.json").read_text()

    report = pickle.loads((saved / "found.pkl").read_bytes())
    assert report["class"] == "FashionDetrPipeline" and "needs the package fashion_detr" in report["refusal"]
    # The code of a folder has another name in every process: its results are pickled as what everybody can read.
    assert type(report["layers"]) is list and report["layers"][0].keys() >= {"label", "mask", "parent"}
    generations = [report["found"][start : start + 3] for start in (0, 3, 6)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the other process: the sums shall have one order
    here = FashionDetrPipeline(
        FashionDetrForInstanceSegmentation.from_pretrained(saved / "first"),
        image_processor=FashionDetrImageProcessor.from_pretrained(saved / "first"),
    )
    for number, size in enumerate(SIZES):
        expected = here(str(saved / f"{number}.png"), threshold=0.0)
        assert expected and expected[0]["mask"].size == size[::-1]
        for generation in generations:
            assert len(generation[number]) == len(expected)
            for one, other in zip(generation[number], expected):
                assert np.mean(one["mask"] == np.array(other["mask"])) > 0.999  # one photo at once, or two
                assert (one["label"], one["parent"]) == (other["label"], other["parent"])
                assert one["score"] == pytest.approx(other["score"], rel=1e-3)
    torch.set_num_threads(threads)


WITH_THE_PACKAGE = """
import sys
import fashion_detr
from transformers import AutoImageProcessor, pipeline

first, photo, again = sys.argv[1:]
fashion_detr.FashionDetrForInstanceSegmentation  # now its classes are registered
segment = pipeline("image-segmentation", model=first, trust_remote_code=True)
segments = segment(photo, threshold=0.0)
assert type(segment).__name__ == "FashionDetrPipeline" and "attributes" in segments[0]
segment.save_pretrained(again)
AutoImageProcessor.from_pretrained(first)
"""


def test_nothing_is_logged_where_the_package_is_installed(saved, tmp_path):
    """Its classes are registered, and yet the pipeline comes from the folder."""
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    arguments = [str(saved / "first"), str(saved / "0.png"), str(tmp_path / "again")]
    process = subprocess.run(
        [sys.executable, "-c", WITH_THE_PACKAGE, *arguments], capture_output=True, text=True, env=environment
    )
    assert process.returncode == 0, process.stderr
    for line in process.stderr.splitlines():
        assert not any(word in line.lower() for word in ("warn", "error", "not supported", "falling back")), line
    assert_carries_its_code(tmp_path / "again")


def test_trainer_saves_the_pipeline_too(tiny_model, tmp_path):
    arguments = TrainingArguments(str(tmp_path), use_cpu=True)
    Trainer(model=tiny_model, args=arguments, processing_class=FashionDetrImageProcessor()).save_model()
    assert_carries_its_code(tmp_path)
    assert tiny_model.config.custom_pipelines["image-segmentation"]["impl"].split(".")[0] + ".py" in FLAT_FILES
