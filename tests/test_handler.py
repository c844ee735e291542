"""`handler.py`: a request gets garments or a clear message, whatever it sends, and however many come at once."""

import base64
import io
import json
import os
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ImageSegmentationOutputElement
from PIL import Image, features

from fashion_detr import FashionDetrForInstanceSegmentation, FashionDetrImageProcessor, handler
from fashion_detr.handler import EndpointHandler

EXIF_ORIENTATION, QUARTER_TURN = 0x0112, 6
SIZE = (90, 70)  # height, width


@pytest.fixture(scope="module")
def folder(tiny_config, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    torch.manual_seed(0)
    FashionDetrForInstanceSegmentation(tiny_config()).save_pretrained(folder)
    FashionDetrImageProcessor(size={"height": 96, "width": 96}).save_pretrained(folder)
    (folder / "handler.py").write_bytes(Path(handler.__file__).read_bytes())
    return folder


@pytest.fixture(scope="module")
def serve(folder) -> EndpointHandler:
    return EndpointHandler(str(folder))


def photo(size: tuple[int, int] = SIZE, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def as_file(image: Image.Image, format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def request(inputs, **parameters) -> dict:
    return {"inputs": inputs, "parameters": {"threshold": 0} | parameters}


def decoded(mask: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(mask)))


def test_the_answer_is_what_the_model_finds_and_what_clients_of_the_hub_expect(serve):
    image = photo()
    answer = serve(request(as_file(image)))
    processor, model = serve.processor, serve.model
    with torch.inference_mode():
        outputs = model(**processor(image, return_tensors="pt"))
    (expected,) = processor.post_process_fashion(outputs, [SIZE], model.config, threshold=0)
    assert len(answer) == len(expected) > 0
    for found, entry in zip(answer, expected):
        mask = decoded(found.pop("mask"))
        assert mask.mode == "L" and np.array_equal(np.array(mask), 255 * entry["mask"].numpy())
        assert found == {name: entry[name] for name in ("label", "score", "bbox", "attributes", "parent")}
    text = json.dumps(serve(request(as_file(image))), allow_nan=False)
    parsed = ImageSegmentationOutputElement.parse_obj_as_list(text.encode())
    assert [one.label for one in parsed] == [entry["label"] for entry in expected]
    assert decoded(parsed[0].mask).size == image.size


@pytest.mark.parametrize(
    "wrap",
    [
        bytes,
        lambda data: base64.b64encode(data).decode(),
        lambda data: "data:image/png;base64," + base64.b64encode(data).decode(),  # a browser's FileReader
        base64.encodebytes,
    ],
)
def test_bytes_base64_and_images_are_alike(serve, wrap):
    data = as_file(photo())
    inputs = wrap(data)
    inputs = inputs.decode() if wrap is base64.encodebytes else inputs  # with line breaks, as mail has it
    assert serve(request(inputs)) == serve(request(Image.open(io.BytesIO(data))))


def test_photos_of_every_kind(serve):
    """Upright, of an animation the first picture, in any mode."""
    upright = serve(request(photo()))
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = QUARTER_TURN
    turned = as_file(photo().transpose(Image.Transpose.ROTATE_90), exif=exif)
    assert serve(request(turned)) == upright
    first, second = (photo(seed=seed).convert("P") for seed in (1, 2))
    animation = as_file(first, "GIF", save_all=True, append_images=[second])
    assert serve(request(animation)) == serve(request(as_file(first, "GIF")))
    for mode, format in (("CMYK", "JPEG"), ("L", "BMP"), ("I;16", "PNG"), ("RGBA", "WEBP")):
        image = photo().convert("L" if mode == "I;16" else mode).convert(mode)
        assert all(decoded(found["mask"]).size == SIZE[::-1] for found in serve(request(as_file(image, format))))


def test_parameters(serve):
    data = as_file(photo())
    everything = serve(request(data))
    scores = [found["score"] for found in everything]
    middle = (scores[3] + scores[4]) / 2
    assert len(serve(request(data, threshold=middle))) == 4
    assert len(serve(request(data, threshold=str(middle)))) == 4  # as a URL carries it
    assert serve({"inputs": data}) == serve({"inputs": data, "parameters": {"threshold": 0.5}}) == []
    assert [found["score"] for found in serve(request(data, top_k=2.0))] == scores[:2]
    assert serve(request(data, subtask="instance", overlap_mask_area_threshold=0)) == everything  # `InferenceClient`'s
    attributes = [one["score"] for found in everything for one in found["attributes"]]
    none_below = serve(request(data, attribute_threshold=1))
    assert attributes == [] or max(attributes) < 1
    assert all(found["attributes"] == [] for found in none_below)
    assert any(found["attributes"] for found in serve(request(data, attribute_threshold=0)))
    areas = [
        sum(np.count_nonzero(decoded(found["mask"])) for found in serve(request(data, mask_threshold=threshold)))
        for threshold in (0.4, 0.6)
    ]
    assert areas[0] > areas[1]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"threshold": 1.5}, "`threshold` has to be a number from 0 to 1, found 1.5"),
        ({"threshold": float("nan")}, "`threshold` .* found nan"),
        ({"attribute_threshold": True}, "`attribute_threshold` .* found True"),
        ({"mask_threshold": 0}, "`mask_threshold` has to be a number between 0 and 1, found 0"),
        ({"top_k": 0}, "`top_k` has to be a whole number from 1 to 100, found 0"),
        ({"top_k": 10**400}, "`top_k` .* found 1000"),
        ({"subtask": "panoptic"}, "`subtask` has to be 'instance'.* found 'panoptic'"),
        ({"overlap_mask_area_threshold": 0.5}, "`overlap_mask_area_threshold` has to be 0: masks keep their overlaps"),
        ({"top_k": "many"}, "`top_k` .* found 'many'"),
        ({"threshold": [0.5]}, r"`threshold` .* found \[0.5\]"),
        ({"thresh": 0.5}, "Unknown parameters: thresh. There are threshold, mask_threshold"),
        ([0.5], "`parameters` has to be an object of names and values, found list"),
    ],
)
def test_wrong_parameters(serve, parameters, message):
    with pytest.raises(ValueError, match=message):
        serve({"inputs": photo(), "parameters": parameters})


@pytest.mark.parametrize("data", [{}, {"inputs": None}, {"parameters": {}}, None, "photo.jpg", []])
def test_a_request_without_a_photo(serve, data):
    with pytest.raises(ValueError, match="needs a photo"):
        serve(data)


@pytest.mark.parametrize("inputs", [[as_file(photo())], 1, {"url": "x"}, np.zeros((4, 4, 3), np.uint8)])
def test_inputs_of_another_kind(serve, inputs):
    with pytest.raises(ValueError, match=f"one photo: .* found {type(inputs).__name__}"):
        serve({"inputs": inputs})


def test_neither_paths_nor_urls_are_opened(serve, tmp_path, monkeypatch):
    photo().save(tmp_path / "look.png")
    monkeypatch.chdir(tmp_path)
    for text in ("look.png", str(tmp_path / "look.png"), "https://example.com/look.png", "file:///look.png", "look"):
        with pytest.raises(ValueError, match=r"in base64 and nothing else, found|JPEG, PNG"):
            serve({"inputs": text})


def test_a_photo_in_memory_has_the_same_limit(serve, monkeypatch):
    monkeypatch.setattr(handler, "MAX_PIXELS", SIZE[0] * SIZE[1] - 1)
    with pytest.raises(ValueError, match="is 70 x 90 pixels"):
        serve({"inputs": photo()})


def test_one_photo_is_in_memory_at_a_time(serve, monkeypatch):
    at_once, most = [], []

    def segment(image, parameters):
        at_once.append(image)
        most.append(len(at_once))
        time.sleep(0.002)
        at_once.pop()
        return []

    monkeypatch.setattr(serve, "_segment", segment)
    threads = [threading.Thread(target=serve, args=(request(as_file(photo())),)) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 50 and max(most) == 1


# --- in a process of its own, as an endpoint starts it ----------------------------------------------------------------

ENDPOINT = """
import sys
for name in ("fashion_detr", "scipy", "pycocotools"):
    sys.modules[name] = None
import importlib.util
import json
import resource
import threading
from pathlib import Path

folder, requests, report = map(Path, sys.argv[1:])
spec = importlib.util.spec_from_file_location("handler", folder / "handler.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
serve = module.EndpointHandler(str(folder))

def answer(path):
    try:
        return len(serve({"inputs": path.read_bytes(), "parameters": {"threshold": 0}}))
    except ValueError as error:
        return str(error)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

photo = requests / "photo.jpg"
alone = answer(photo)
before = peak()
messages = {path.name: answer(path) for path in sorted(requests.iterdir())}
together = []
threads = [
    threading.Thread(target=lambda path=path: together.append(answer(path)))
    for path in [photo, requests / "bomb.png"] * 25
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
found = {"alone": alone, "messages": messages, "together": together, "after": answer(photo)}
report.write_text(json.dumps(found | {"megabytes": peak() - before}))
"""


def bomb(side: int) -> bytes:
    """A PNG of `side` x `side` pixels in some kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + side // 8)
    pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_hostile_files(folder, tmp_path):
    requests = tmp_path / "requests"
    requests.mkdir()
    jpeg = as_file(photo(), "JPEG")
    refused = {
        "bomb.png": (bomb(20_000), "400 megapixels"),
        "small_bomb.png": (bomb(5_120), "26 megapixels"),
        "text.jpg": (b"no photo " * 100, "JPEG, PNG"),
        "vector.svg": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "JPEG, PNG"),
        "empty.jpg": (b"", "empty"),
        "program.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "EPS"),
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
    }
    accepted = {
        "photo.jpg": jpeg,
        "animation.gif": as_file(
            photo().convert("P"), "GIF", save_all=True, append_images=[photo(seed=1).convert("P")]
        ),
        "print.jpg": as_file(photo().convert("CMYK"), "JPEG"),
    }
    for name, content in accepted.items() | {name: content for name, (content, _) in refused.items()}.items():
        (requests / name).write_bytes(content)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [sys.executable, "-c", ENDPOINT, str(folder), str(requests), str(tmp_path / "report.json")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    found = json.loads((tmp_path / "report.json").read_text())
    for name, (_, message) in refused.items():
        assert message in str(found["messages"][name]), name
    assert all(found["messages"][name] > 0 for name in accepted)
    assert found["after"] == found["alone"] > 0
    assert len(found["together"]) == 50 and found["together"].count(found["alone"]) == 25
    assert found["megabytes"] < 200  # the largest bomb alone would be 400


def test_formats_that_the_card_promises():
    assert all(features.check(name) for name in ("jpg", "zlib", "webp", "avif", "libtiff"))
