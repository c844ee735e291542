"""The page to try a model: as a program sees it, and in a browser where there is one."""

import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops, ImageDraw

from fashion_detr import FashionDetrConfig, FashionDetrImageProcessor, FashionResult
from fashion_detr.cli import main
from fashion_detr.modeling_fashion_detr import FashionDetrForInstanceSegmentationOutput
from fashion_detr.visualization import COLOURS

pytest.importorskip("gradio", reason='the page needs `pip install -e ".[demo]"`')
import httpx
from gradio_client import Client, handle_file

from fashion_detr.demo import app, build_app
from fashion_detr.demo.markup import SUBPIXELS, object_keys, outline, tree_html

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio.queueing")

CONFIG = FashionDetrConfig()
CONFIG.attribute_thresholds = [0.6] * CONFIG.num_attributes
HEIGHT, WIDTH = 240, 160  # of the photo, twice the canvas
SLIDERS = (0.3, 0.5, 0.3, False)
# Label, class logit, and top, left, bottom, right on the canvas. A pocket on the coat; a hat, hardly seen.
SEEN = (
    ("coat", 6.0, (20, 12, 84, 68)),
    ("pocket", 2.0, (48, 20, 60, 36)),
    ("shoe", 3.0, (100, 16, 116, 36)),
    ("shoe", 1.0, (100, 44, 116, 64)),
    ("hat", -1.0, (4, 28, 16, 52)),
)


class Scripted(torch.nn.Module):
    """A model that sees the same on every photo, and counts how often it looks, and how often at once."""

    config = CONFIG
    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.looks = self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    def forward(self, pixel_values: torch.Tensor, pixel_mask: torch.Tensor) -> FashionDetrForInstanceSegmentationOutput:
        with self.lock:
            self.looks += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(0.005)
        with self.lock:
            self.at_once -= 1
        rows, columns = pixel_mask[0].any(dim=1).sum(), pixel_mask[0].any(dim=0).sum()
        classes = torch.full((1, len(SEEN), CONFIG.num_labels), -9.0)
        masks = torch.full((1, len(SEEN), 30, 20), -9.0)
        attributes = torch.full((1, len(SEEN), CONFIG.num_attributes), -9.0)
        attributes[0, 0, :2] = torch.tensor([2.0, 0.0])
        for query, (label, logit, (top, left, bottom, right)) in enumerate(SEEN):
            classes[0, query, CONFIG.label2id[label]] = logit
            masks[0, query, top // 4 : bottom // 4, left // 4 : right // 4] = 3.0
        masks[0, 0, 21, 3:17] = -1.0  # perhaps the coat is longer
        return FashionDetrForInstanceSegmentationOutput(
            class_queries_logits=classes,
            masks_queries_logits=masks,
            attribute_queries_logits=attributes,
            valid_sizes=torch.tensor([[rows, columns]]),
        )


PROCESSOR = FashionDetrImageProcessor(size={"height": 120, "width": 80})


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Iterator[SimpleNamespace]:
    """The page of a scripted model: `url`, a connection `http`, the `model`, the `folder` of the files it serves."""
    folder = tmp_path_factory.mktemp("gradio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        model = Scripted()
        blocks = build_app(model, PROCESSOR)
        _, url, _ = blocks.launch(prevent_thread_lock=True, quiet=True)
        with httpx.Client(base_url=url, timeout=60) as http:
            yield SimpleNamespace(url=url, http=http, model=model, folder=folder)
        blocks.close()


@pytest.fixture
def visitor(page) -> Client:
    return Client(page.url, verbose=False)


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    """A photo that lies on its side, as its EXIF data say."""
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path_factory.mktemp("photo") / "street 1.jpg"
    Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    return path


def look(visitor: Client, path: Path, sliders: tuple = SLIDERS) -> tuple[str, dict[str, str]]:
    """What the page says of a file: its note, and the value of its result."""
    _, note, result = visitor.predict(handle_file(str(path)), *sliders, api_name="/look")
    return note, result.get("value", {})


def adjust(visitor: Client, *sliders: Any) -> dict[str, str]:
    return visitor.predict(*sliders, api_name="/adjust")["value"]


def parsed(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(f"<div>{html.replace(' checked>', '/>')}</div>")


def rows(tree: str) -> list[tuple[str, str | None]]:
    """The names in a tree, each with that of the object that it lies below."""

    def below(element: ElementTree.Element, parent: str | None) -> Iterator[tuple[str, str | None]]:
        for child in element:
            name = child.find("label/b") if child.tag == "li" else None
            if name is not None:
                yield name.text, parent
            yield from below(child, parent if name is None else name.text)

    return list(below(parsed(tree), None))


def expected(size: tuple[int, int] = (HEIGHT, WIDTH), **thresholds: float) -> FashionResult:
    """What post-processing alone makes of the scripted output."""
    outputs = Scripted()(torch.zeros(1, 3, 120, 80), torch.ones(1, 120, 80))
    arguments = {"threshold": 0.3, "mask_threshold": 0.5, "attribute_threshold": 0.3} | thresholds
    return PROCESSOR.post_process_fashion(outputs, target_sizes=[size], config=CONFIG, **arguments)[0]


def filled(path: str, size: tuple[int, int]) -> np.ndarray:
    """An SVG path as a mask `(H, W)`, filled by the rule `evenodd`."""
    scale = 4
    mask = Image.new("1", (size[1] * scale, size[0] * scale))
    for ring in re.findall(r"M([^z]*)z", path):
        start, steps = (np.array(part.split(), dtype=int).reshape(-1, 2) for part in ring.split("l"))
        points = np.concatenate([start, start + steps.cumsum(axis=0)]) * scale / SUBPIXELS
        shape = Image.new("1", mask.size)
        ImageDraw.Draw(shape).polygon([tuple(point) for point in points], fill=1)
        mask = ImageChops.logical_xor(mask, shape)
    return np.asarray(mask)[scale // 2 :: scale, scale // 2 :: scale]


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


# --- what a photo becomes ---------------------------------------------------------------------------------------------


def test_a_photo_becomes_layers_and_a_tree(visitor, photo):
    note, result = look(visitor, photo)
    assert note == ""
    assert rows(result["tree"]) == [("coat", None), ("pocket", "coat"), ("shoe 1", None), ("shoe 2", None)]
    attributes = [CONFIG.id2attribute[index] for index in (0, 1)]
    assert "".join(parsed(result["tree"]).find(".//*[@class='attributes']").itertext()) == (
        f"{attributes[0]} 0.88{attributes[1]} 0.50"
    )

    objects, svg = expected(), ElementTree.fromstring(result["layers"])
    layers = {group.get("data-object"): group for group in svg}
    assert list(layers)[-1] == f"{CONFIG.label2id['pocket']}-1"  # the part lies on top
    for key, entry in zip(object_keys(objects), objects):
        assert layers[key].get("style") == "--colour:rgb({},{},{})".format(*COLOURS[entry["label_id"]])
        assert iou(filled(layers[key].find(".//path").get("d"), (HEIGHT, WIDTH)), entry["mask"].numpy()) > 0.97
        assert f"{entry['score']:.2f}" in result["tree"]


def blob(seed: int) -> np.ndarray:
    noise = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return (torch.nn.functional.interpolate(noise, (700, 500), mode="bilinear")[0, 0] > 0.5).numpy()


def stamped(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """A mask in which every box turns what it covers over."""
    mask = np.zeros((700, 500), dtype=bool)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] ^= True
    return mask


@pytest.mark.parametrize(
    ("mask", "least"),
    [
        (blob(0), 0.98),
        (~blob(1), 0.98),
        (stamped((0, 0, 700, 500)), 0.999),
        (stamped((100, 100, 600, 400), (200, 200, 500, 300)), 0.98),  # a ring
        (stamped((10, 10, 40, 40), (660, 460, 690, 490)), 0.8),  # two pieces, each as wide as some cells
        (stamped((350, 250, 351, 251)), 0.9),
        (stamped((50, 250, 650, 251)), 0.3),  # thinner than a cell
    ],
)
def test_outlines_enclose_their_masks(mask, least):
    path = outline(mask)
    assert iou(filled(path, mask.shape), mask) >= least
    assert len(path) < 20_000


def test_text_of_a_model_is_no_markup():
    objects = expected()
    for entry in objects:
        entry["label"] = entry["attributes"] = "<b>&"
        entry["attributes"] = [{"id": 0, "name": "<script>", "supercategory": None, "score": 0.5}]
    assert rows(tree_html(objects))[0][0] == "<b>& 1"
    assert "<script" not in tree_html(objects)


def test_sliders_work_on_what_the_network_said(page, visitor, photo):
    _, first = look(visitor, photo)
    looks = page.model.looks
    assert [name for name, _ in rows(adjust(visitor, 0.75, 0.5, 0.3, False)["tree"])] == ["coat", "pocket", "shoe"]
    assert ("hat", None) in rows(adjust(visitor, 0.2, 0.5, 0.3, False)["tree"])
    wider = adjust(visitor, 0.3, 0.1, 0.3, False)
    assert rows(wider["tree"]) == rows(first["tree"]) and wider["layers"] != first["layers"]
    fewer = adjust(visitor, 0.3, 0.5, 0.6, False)["tree"]
    assert fewer.count("<small>") == first["tree"].count("<small>") - 1
    assert adjust(visitor, 0.3, 0.5, 0.3, True)["tree"] == fewer  # the model's own instead
    nothing = adjust(visitor, 0.95, 0.5, 0.3, False)
    assert nothing["layers"] == "" and "0.95 or more. The best guess is 'coat' with 0.9" in unescape(nothing["tree"])
    assert page.model.looks == looks


def test_who_comes_back_too_late_is_told_so(visitor):
    for function in ("/adjust", "/write_json", "/write_masks"):
        with pytest.raises(Exception, match="drop it again"):
            visitor.predict(*SLIDERS, api_name=function)


def test_downloads_have_the_size_of_the_photo(visitor, tmp_path):
    large = tmp_path / "street 1.png"
    Image.new("RGB", (1600, 2400)).save(large)
    look(visitor, large)
    objects = expected((2400, 1600))
    written = Path(visitor.predict(*SLIDERS, api_name="/write_json"))
    assert written.name == "street 1.json"
    read = FashionResult.from_json(written.read_text())
    assert [entry["label"] for entry in read] == ["coat", "shoe", "pocket", "shoe"]
    assert all(torch.equal(one["mask"], other["mask"]) for one, other in zip(read, objects))

    written = Path(visitor.predict(*SLIDERS, api_name="/write_masks"))
    assert written.name == "street 1_masks.zip"
    with zipfile.ZipFile(written) as archive:
        assert archive.namelist() == ["00_coat.png", "01_shoe.png", "02_pocket.png", "03_shoe.png"]
        for name, entry in zip(archive.namelist(), objects):
            mask = np.asarray(Image.open(io.BytesIO(archive.read(name))))
            assert np.array_equal(mask, 255 * entry["mask"].numpy())


# --- what visitors may send -------------------------------------------------------------------------------------------


def png_of(width: int, height: int) -> bytes:
    """The beginning of a PNG, up to where its pixels would come."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    checked = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + checked + struct.pack(">I", 1000) + b"IDAT"


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stored = io.BytesIO()
    image.save(stored, kind, **options)
    return stored.getvalue()


STREET = Image.effect_noise((WIDTH, HEIGHT), 60)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'


NO_PHOTOS = [
    ("bomb.png", png_of(20_000, 20_000), "400 megapixels; the limit.* is 50. Make it smaller"),
    ("scan.png", png_of(8_000, 7_500), "60 megapixels; the limit.* is 50"),
    ("text.jpg", b"no photo", "not a JPEG, PNG"),
    ("drawing.svg", SVG, "not a JPEG, PNG"),
    ("drawing.png", SVG, "not a JPEG, PNG"),
    ("empty.jpg", b"", "is empty"),
    ("cut.jpg", encoded(STREET, "JPEG")[:2000], "complete"),
    ("cut.png", encoded(STREET, "PNG")[:2000], "complete"),
    ("program.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "is a program"),
]


@pytest.mark.parametrize(("name", "content", "words"), NO_PHOTOS, ids=[name for name, _, _ in NO_PHOTOS])
def test_what_is_no_photo_is_refused_in_words(page, visitor, photo, tmp_path, name, content, words):
    look(visitor, photo)
    looks = page.model.looks
    (tmp_path / name).write_bytes(content)
    note, _ = look(visitor, tmp_path / name)
    assert re.search(words, note) and "alert" in note and str(page.folder) not in note
    assert page.model.looks == looks
    assert "coat" in look(visitor, photo)[1]["tree"]


PHOTOS = [
    ("cmyk.jpg", encoded(STREET.convert("CMYK"), "JPEG")),
    ("moving.gif", encoded(STREET, "GIF", save_all=True, append_images=[Image.new("L", STREET.size)])),
    ("photo", encoded(STREET, "WEBP")),
    ("wrong.svg", encoded(STREET, "PNG")),
]


@pytest.mark.parametrize(("name", "content"), PHOTOS, ids=[name for name, _ in PHOTOS])
def test_photos_of_all_kinds_are_seen(visitor, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    note, result = look(visitor, tmp_path / name)
    assert note == "" and "coat" in result["tree"]


def upload(page: SimpleNamespace, content: bytes) -> httpx.Response:
    return page.http.post("gradio_api/upload", files={"files": ("photo.jpg", content)})


def join(page: SimpleNamespace, session: str, *fields: dict[str, Any]) -> None:
    """Queues photos as a browser does, wherever they are said to be."""
    functions = page.http.get("config").json()["dependencies"]
    number = next(function["id"] for function in functions if function["api_name"] == "look")
    for photo in fields:
        data = [{"meta": {"_type": "gradio.FileData"}} | photo, *SLIDERS]
        request = {"data": data, "fn_index": number, "session_hash": session}
        page.http.post("gradio_api/queue/join", json=request).raise_for_status()


def answers(page: SimpleNamespace, session: str) -> Iterator[dict[str, Any]]:
    """What came of each of them: `success`, and the `output`."""
    with page.http.stream("GET", "gradio_api/queue/data", params={"session_hash": session}) as stream:
        for line in stream.iter_lines():
            message = json.loads(line.removeprefix("data:") or "{}")
            if message.get("msg") == "process_completed":
                yield message


def test_fifty_photos_at_once_are_looked_at_one_by_one(page, visitor, photo):
    path = upload(page, photo.read_bytes()).json()[0]
    page.model.most_at_once, looks = 0, page.model.looks
    join(page, "crowd", *[{"path": path}] * 50)
    assert [message["success"] for message in answers(page, "crowd")] == [True] * 50
    assert page.model.most_at_once == 1 and page.model.looks == looks + 50
    assert "coat" in look(visitor, photo)[1]["tree"]


def test_too_large_a_file_is_not_taken(page):
    taken = upload(page, b"\0" * (app.MAX_MEGABYTES * 2**20 + 1))
    assert taken.status_code == 413 and "maximum allowed size" in taken.text


def test_no_other_file_can_be_read(page, photo, tmp_path):
    path = upload(page, photo.read_bytes()).json()[0]
    assert page.http.get(f"gradio_api/file={path}").status_code == 200
    secret = tmp_path / "secret.jpg"
    shutil.copy(photo, secret)
    here = Path("setup.cfg")
    for other in (secret, Path(app.__file__), here.resolve(), here, page.folder / ".." / secret.name):
        for route in ("gradio_api/file=", "file=", "gradio_api/file/", "static/", "gradio_api/stream/"):
            assert page.http.get(f"{route}{other}").status_code >= 400

    looks = page.model.looks
    sent = [
        {"path": str(secret)},
        {"path": os.path.join(page.folder, os.path.relpath(secret, page.folder))},
        {"path": str(secret), "meta": None},
        {"path": str(secret), "is_stream": True},
        {"path": str(secret), "meta": {}},
        {"path": str(secret), "url": f"{page.url}gradio_api/file={path}"},
        {"path": f"{page.url}gradio_api/file={path}"},
        {"path": "https://example.org/photo.jpg"},
    ]
    join(page, "thief", *sent)
    refusals = list(answers(page, "thief"))
    assert [refusal["success"] for refusal in refusals] == [False] * len(sent)
    assert [refusal["output"]["error"] for refusal in refusals[-2:]] == [app.NO_UPLOAD] * 2  # not fetched at all
    beside_the_queue = page.http.post("gradio_api/run/look", json={"data": [{"path": path}, *SLIDERS]})
    assert beside_the_queue.status_code >= 400
    assert page.model.looks == looks


def test_photos_are_deleted_and_forgotten(photo, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(app, "DELETED_EVERY", 0.2)
    monkeypatch.setattr(app, "KEPT", 0.5)
    blocks = build_app(Scripted(), PROCESSOR)
    _, url, _ = blocks.launch(prevent_thread_lock=True, quiet=True)
    try:
        visitor = Client(url, verbose=False)
        look(visitor, photo)
        deadline = time.monotonic() + 10
        while list(tmp_path.rglob("*.jpg")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with pytest.raises(Exception, match="drop it again"):
            while time.monotonic() < deadline:
                adjust(visitor, *SLIDERS)
    finally:
        blocks.close()


# --- the command ------------------------------------------------------------------------------------------------------

# Runs a command and names every machine but this one that it turns to.
WATCHED = """
import sys
def watch(event, arguments):
    if event in ("socket.getaddrinfo", "socket.connect"):
        host = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
        host = host[0] if isinstance(host, tuple) else host
        if host not in (None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0"):
            print("ASKED", host, file=sys.stderr, flush=True)
sys.addaudithook(watch)
from fashion_detr.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def model_folder(tiny_model, tmp_path) -> Path:
    tiny_model.save_pretrained(tmp_path / "model")
    FashionDetrImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_the_page_and_asks_nobody(model_folder, photo, tmp_path, end):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "GRADIO_"))}
    process = subprocess.Popen(
        [sys.executable, "-c", WATCHED, "demo", "--model", str(model_folder), "--port", str(port)],
        env=environment | {"TMPDIR": str(tmp_path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore Ctrl+C
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        url = f"http://127.0.0.1:{port}/"
        assert url in process.stdout.readline()
        with httpx.Client(base_url=url, timeout=60) as http:
            document = http.get("").text + http.get("theme.css").text
            assert "googleapis" not in document and "gstatic" not in document
            page = SimpleNamespace(http=http)
            join(page, "visitor", {"path": upload(page, photo.read_bytes()).json()[0]})
            assert [message["success"] for message in answers(page, "visitor")] == [True]
        process.send_signal(end)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0 and "ASKED" not in errors and "Traceback" not in errors
    assert not list(tmp_path.rglob("*.jpg")) and not list(tmp_path.glob("fashion-detr-demo-*"))


def test_without_gradio_the_command_says_what_to_install(model_folder, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("fashion_detr.demo")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo", "--model", str(model_folder)]) == 2
    assert 'pip install -e ".[demo]"' in capsys.readouterr().err


@pytest.mark.parametrize("port", ["0", "65536", "x"])
def test_a_port_that_cannot_be_is_named(model_folder, capsys, port):
    with pytest.raises(SystemExit):
        main(["demo", "--model", str(model_folder), "--port", port])
    assert "from 1 to 65535" in capsys.readouterr().err


def test_a_proxy_that_hides_the_page_is_named(model_folder, capsys, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert main(["demo", "--model", str(model_folder), "--port", str(port)]) == 2
    assert "add 127.0.0.1 to NO_PROXY" in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(page, model_folder, capsys):
    port = page.url.rstrip("/").rsplit(":", 1)[1]
    assert main(["demo", "--model", str(model_folder), "--port", port]) == 2
    assert f"127.0.0.1:{port}" in capsys.readouterr().err


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture
def phone(page, tmp_path) -> Iterator[Any]:
    """The page in Chromium, on a screen as narrow as a phone's; `phone.asked` has all addresses that it asked for."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser needs `pip install playwright`")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
        tab.asked = []
        tab.on("request", lambda request: tab.asked.append(request.url))
        tab.goto(page.url)
        tab.wait_for_selector("#photo")
        yield tab
        browser.close()


def test_a_visit_with_a_phone(page, phone, photo, tmp_path):
    def layers() -> list[str]:
        return [layer.get_attribute("data-object") for layer in phone.locator(".stage [data-object]:visible").all()]

    coat, pocket, shoe = (f"{CONFIG.label2id[label]}-1" for label in ("coat", "pocket", "shoe"))
    (tmp_path / "text.jpg").write_text("no photo")
    phone.set_input_files("#photo input[type=file]", tmp_path / "text.jpg")
    assert "not a JPEG" in phone.locator("[role=alert]").inner_text()

    phone.set_input_files("#photo input[type=file]", photo)
    phone.wait_for_selector(".tree")
    assert not phone.is_visible("[role=alert]") and not phone.is_visible("#photo")
    assert layers() == [coat, shoe, shoe.replace("-1", "-2"), pocket]
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390

    phone.get_by_label("coat").tap()
    assert coat not in layers() and pocket in layers() and phone.locator(".lit").count() == 0
    phone.locator(".tree label", has_text="pocket").hover()
    assert {lit.get_attribute("data-object") for lit in phone.locator(".lit").all()} == {pocket}
    phone.get_by_text("Thresholds").click()
    objects = phone.get_by_label("number input for Objects")
    objects.fill("0.75")
    objects.press("Enter")
    phone.wait_for_selector("text=3 objects")
    assert layers() == [shoe, pocket]  # the coat is still switched off
    own = phone.get_by_label("Each attribute by the model's own threshold")
    assert own.is_checked() and phone.locator(".attributes li").count() == 1
    attributes = phone.get_by_label("number input for Attributes")
    attributes.fill("0.4")
    attributes.press("Enter")
    phone.wait_for_selector(".attributes li >> nth=1")
    assert not own.is_checked()
    phone.get_by_text("Show all").click()
    assert layers() == [coat, shoe, pocket]
    phone.get_by_text("Hide all").click()
    assert layers() == []

    for button, name in (("Download JSON", "street 1.json"), ("Download masks", "street 1_masks.zip")):
        with phone.expect_download() as download:
            phone.get_by_text(button).click()
        assert download.value.suggested_filename == name
        shutil.copy(download.value.path(), tmp_path / name)
    assert len(json.loads((tmp_path / "street 1.json").read_text())["objects"]) == 3
    assert len(zipfile.ZipFile(tmp_path / "street 1_masks.zip").namelist()) == 3

    phone.get_by_text("Another photo").click()
    phone.wait_for_selector("#photo")
    assert layers() == []
    assert all(address.startswith((page.url, "data:", "blob:")) for address in phone.asked)
