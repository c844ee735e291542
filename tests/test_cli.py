"""`fashion-detr predict` with the photos and model folders that people really have, and the drawing of its results."""

import json
import os
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from unittest import mock

import datasets
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from fashion_detr import FashionDetrConfig, FashionDetrForInstanceSegmentation, FashionDetrImageProcessor
from fashion_detr.cli import main
from fashion_detr.cli_path import local_path
from fashion_detr.cli_predict import _result_names
from fashion_detr.data.annotations import Vocabulary, read_ground_truth
from fashion_detr.training.arguments import DataArguments, ModelArguments
from fashion_detr.visualization import COLOURS, contact_sheet, draw_objects

EXIF_ORIENTATION, ROTATED_BY_270 = 0x0112, 6


@pytest.fixture(scope="module")
def model_folder(tiny_config, tmp_path_factory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    FashionDetrForInstanceSegmentation(tiny_config()).save_pretrained(folder)
    FashionDetrImageProcessor(size={"height": 96, "width": 64}).save_pretrained(folder)
    return folder


@pytest.fixture
def damaged_model(model_folder, tmp_path):
    """A copy of the model folder, to be changed."""
    folder = tmp_path / "damaged"
    folder.mkdir()
    for file in model_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def photo(width: int = 60, height: int = 90) -> Image.Image:
    image = Image.new("RGB", (width, height), "beige")
    ImageDraw.Draw(image).rectangle((width // 4, height // 4, width * 3 // 4, height * 3 // 4), "navy")
    return image


def run(model: Path | str, output: Path, *photos: Path, threshold: float = 0.0, options: tuple[str, ...] = ()) -> int:
    arguments = ["predict", *map(str, photos), "--model", str(model), "--output", str(output)]
    return main([*arguments, "--threshold", str(threshold), "--top_k", "2", *options])


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_help_needs_no_model_library():
    code = (
        "import sys; from fashion_detr.cli import main\n"
        "try: main(['predict', '--help'])\n"
        "except SystemExit: print('loaded', [name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--attribute_threshold" in done.stdout and "loaded []" in done.stdout


def test_module_runs_and_fails_without_traceback(tmp_path):
    command = [sys.executable, "-m", "fashion_detr.cli", "predict", "a.jpg", "--model", "no/such/model"]
    done = subprocess.run([*command, "--output", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("fashion-detr: ") and "does not exist" in done.stderr
    assert "Traceback" not in done.stderr


def test_result_describes_the_photo(model_folder, tmp_path, capsys):
    photo(61, 87).save(tmp_path / "look.jpg")
    options = ("--attribute_threshold", "0.01", "--top_k", "7")
    assert run(model_folder, tmp_path / "out", tmp_path / "look.jpg", options=options) == 0

    result = read(tmp_path / "out" / "look.json")
    assert (result["image"], result["width"], result["height"]) == ("look.jpg", 61, 87)
    assert 0 < len(result["objects"]) <= 7
    for entry in result["objects"]:
        assert list(entry) == ["label_id", "label", "score", "bbox", "attributes", "parent", "segmentation"]
        assert entry["label"] == FashionDetrConfig().id2label[entry["label_id"]]
        assert 0 < entry["score"] <= 1
        rows, columns = coco_mask.decode(entry["segmentation"]).nonzero()
        assert entry["segmentation"]["size"] == [87, 61]
        assert entry["bbox"] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        for attribute in entry["attributes"]:
            assert set(attribute) == {"id", "name", "supercategory", "score"}
    with Image.open(tmp_path / "out" / "look.png") as overlay:
        assert overlay.mode == "RGB" and overlay.height >= 1000

    (line,) = capsys.readouterr().out.splitlines()
    first = result["objects"][0]
    assert line.startswith(f"look.jpg -> look: {len(result['objects'])} objects: {first['label']} {first['score']:.2f}")
    assert line.endswith(" s)")


def test_nothing_found_names_the_best_score(model_folder, tmp_path, capsys):
    photo().save(tmp_path / "look.png")
    assert run(model_folder, tmp_path / "out", tmp_path / "look.png") == 0
    best = read(tmp_path / "out" / "look.json")["objects"][0]

    assert run(model_folder, tmp_path / "out", tmp_path / "look.png", threshold=1.0) == 0
    assert read(tmp_path / "out" / "look.json")["objects"] == []
    line = capsys.readouterr().out.splitlines()[-1]
    assert "nothing above --threshold 1" in line and f"{best['label']!r} with a score of {best['score']:.4f}" in line


def test_unreadable_photos_are_reported_and_the_others_done(model_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    photo().save(tmp_path / "good.jpg")
    photo(90, 90).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:-200])
    (tmp_path / "text.jpg").write_text("not a photo")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "bomb.png").write_bytes(white_png(500, 500))
    bad = [tmp_path / name for name in ("missing.jpg", "cut.jpg", "text.jpg", "empty.jpg", "bomb.png")]

    assert run(model_folder, tmp_path / "out", *bad, tmp_path / "good.jpg") == 1
    printed = capsys.readouterr()
    complaints = printed.err.splitlines()
    assert len(complaints) == len(bad)
    for path, complaint in zip(bad, complaints):
        assert complaint.startswith("fashion-detr: ") and complaint.count(str(path)) >= 1
    assert "missing.jpg does not exist" in complaints[0]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["good.json", "good.png"]
    assert printed.out.count("\n") == 1


def test_a_name_that_cannot_be_printed_stops_nothing(model_folder, tmp_path):
    photo().save(tmp_path / "фото.jpg")
    photo().save(os.fsencode(tmp_path) + b"/caf\xe9.jpg")
    command = [sys.executable, "-m", "fashion_detr.cli", "predict", str(tmp_path), "a" * 300]
    options = ["--model", str(model_folder), "--output", str(tmp_path / "out")]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*command, *options], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr and "File name too long" in done.stderr
    assert len(list((tmp_path / "out").glob("*.json"))) == 2 == done.stdout.count("\n")
    assert "\\u0444\\u043e\\u0442\\u043e.jpg -> " in done.stdout


def test_names_that_a_terminal_would_obey_or_a_file_cannot_hold(model_folder, tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    photo().save(folder / "\x1b[31mred\nline.jpg")
    photo().save(os.fsencode(folder) + b"/caf\xe9.jpg")
    (folder / "lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert run(model_folder, tmp_path / "out", folder, options=("--coco", str(tmp_path / "all.json"))) == 1
    printed = capsys.readouterr()
    assert r"\x1b[31mred\nline.jpg -> \x1b[31mred\nline: " in printed.out and "\x1b" not in printed.out + printed.err
    assert r"caf\udce9.jpg is left out of --coco" in printed.err and "links lead nowhere: lost.jpg" in printed.err
    assert len(read_ground_truth(tmp_path / "all.json")[1]) == 1
    assert len(list((tmp_path / "out").iterdir())) == 4, "two results of two photos, and nothing unfinished"


def test_thousands_of_photos_of_one_name_are_numbered_at_once():
    photos = [Path(f"{number}/look.jpg") for number in range(20_000)]
    names = _result_names([*photos, Path("look_3.jpg"), Path("LOOK.png")])
    assert names[:3] == ["look", "look_2", "look_4"] and names[-2:] == ["look_3", "LOOK_20002"]
    assert len({name.casefold() for name in names}) == len(names)


def white_png(width: int, height: int) -> bytes:
    """A tiny file of many pixels, written by hand because Pillow need not be able to hold it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress((b"\0" + b"\xff" * width) * height)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_folder_gives_its_photos_once(model_folder, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("b.JPG", "a.png", "._a.png"):
        photo().save(folder / name, format="PNG")
    (folder / "notes.txt").write_text("no photo")
    (folder / "circle.png").symlink_to(folder / "circle.png")
    assert run(model_folder, tmp_path / "out", folder, folder / "a.png") == 0
    assert run(model_folder, tmp_path / "some", folder / "circle.png", folder / "a.png") == 1
    assert sorted(file.name for file in (tmp_path / "some").iterdir()) == ["a.json", "a.png"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.json", "a.png", "b.json", "b.png"]


def test_empty_folder_is_an_error(model_folder, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    assert run(model_folder, tmp_path / "out", tmp_path / "photos") == 2
    assert "holds no photo" in capsys.readouterr().err


def test_same_stem_gets_its_own_results(model_folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    photos = [tmp_path / "look.jpg", tmp_path / "LOOK.png", other / "look.jpg", tmp_path / "look_2.jpg"]
    for width, path in enumerate(photos, start=40):
        photo(width).save(path)
    assert run(model_folder, tmp_path / "out", *photos) == 0
    widths = {path.stem: read(path)["width"] for path in (tmp_path / "out").glob("*.json")}
    assert widths == {"look": 40, "LOOK_3": 41, "look_4": 42, "look_2": 43}


def test_photos_are_never_replaced(model_folder, tmp_path, capsys):
    photo().save(tmp_path / "look.png")
    before = (tmp_path / "look.png").read_bytes()
    assert run(model_folder, tmp_path, tmp_path / "look.png") == 2
    assert "would replace the photo" in capsys.readouterr().err
    assert (tmp_path / "look.png").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content"), [("look.png", b""), ("look.json", b'{"shapes": []}'), ("look.json", b"[")]
)
def test_what_no_earlier_run_made_is_never_replaced(model_folder, tmp_path, capsys, name, content):
    """Labelling tools write `look.json` beside `look.jpg`."""
    photo().save(tmp_path / "look.jpg")
    (tmp_path / name).write_bytes(content)
    assert run(model_folder, tmp_path, tmp_path / "look.jpg") == 2
    assert f"{name}, which is no earlier result of this command" in capsys.readouterr().err
    assert (tmp_path / name).read_bytes() == content
    (tmp_path / name).unlink()
    for _ in range(2):
        assert run(model_folder, tmp_path, tmp_path / "look.jpg") == 0


def test_results_beside_their_photos_are_no_photos(model_folder, tmp_path, capsys):
    """Whatever records lie beside them."""
    photo(61, 87).save(tmp_path / "look.jpg")
    photo(40, 40).save(tmp_path / "other.png")
    assert run(model_folder, tmp_path, tmp_path / "look.jpg") == 0
    (tmp_path / "other.json").write_bytes((tmp_path / "look.json").read_bytes())
    before = read(tmp_path / "look.json")
    assert run(model_folder, tmp_path / "out", tmp_path) == 0
    assert "own overlays are not taken for photos: 1" in capsys.readouterr().err
    assert {file.stem for file in (tmp_path / "out").iterdir()} == {"look", "other"}
    assert before == read(tmp_path / "out" / "look.json")


def test_a_name_as_long_as_names_can_be(model_folder, tmp_path):
    for name in ("ä" * 125 + "a.jpg", "ä" * 125 + "b.jpg"):
        photo().save(tmp_path / name)
    assert run(model_folder, tmp_path / "out", tmp_path) == 0
    assert sorted(file.name for file in (tmp_path / "out").glob("*.json")) == [
        "ä" * 120 + ".json",
        "ä" * 120 + "_2.json",
    ]


def test_places_that_may_not_be_used_are_known_before_the_work(model_folder, tmp_path, capsys, monkeypatch):
    photo().save(tmp_path / "look.jpg")
    options = ("--coco", str(tmp_path / "all.json"))
    with monkeypatch.context() as patch:
        patch.setattr("fashion_detr.cli_path.os.access", lambda path, mode: False)
        assert run(model_folder, tmp_path / "out", tmp_path / "look.jpg") == 2
        patch.setattr("fashion_detr.cli_path.os.access", lambda path, mode: path != tmp_path)
        assert run(model_folder, tmp_path / "out", tmp_path / "look.jpg", options=options) == 2
    assert not list((tmp_path / "out").iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(
            "fashion_detr.cli_predict.Path.iterdir", mock.Mock(side_effect=PermissionError(13, "Permission denied"))
        )
        assert run(model_folder, tmp_path / "out", tmp_path) == 2
        patch.setattr("fashion_detr.cli_model.os.access", lambda path, mode: path != model_folder)
        assert run(model_folder, tmp_path / "out", tmp_path / "look.jpg") == 2
    error = capsys.readouterr().err
    assert (
        error.count("nothing may be written") == 2
        and "may not be opened" in error
        and "cannot be read: Permission denied" in error
    )


def test_exif_rotated_photo_is_handled_upright(model_folder, tmp_path):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = ROTATED_BY_270
    upright = photo(48, 96)
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "rotated.png", exif=exif)
    upright.save(tmp_path / "upright.png")
    assert run(model_folder, tmp_path / "out", tmp_path / "rotated.png", tmp_path / "upright.png") == 0
    rotated, expected = (read(tmp_path / "out" / f"{name}.json") for name in ("rotated", "upright"))
    assert (rotated["width"], rotated["height"]) == (48, 96)
    assert rotated["objects"] == expected["objects"]


def test_every_size_and_kind_of_photo(model_folder, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for width, height in ((1, 1), (1, 5000), (5000, 1)):
        Image.new("RGB", (width, height), "teal").save(folder / f"{width}x{height}.png")
    for mode in ("L", "RGBA", "P", "I;16", "CMYK", "1"):
        photo().convert("L" if mode == "I;16" else mode).convert(mode).save(folder / f"{mode.replace(';', '')}.tif")
    assert run(model_folder, tmp_path / "out", folder) == 0
    results = {path.stem: read(path) for path in (tmp_path / "out").glob("*.json")}
    assert len(results) == len(list((tmp_path / "out").glob("*.png"))) == 9
    assert (results["1x5000"]["width"], results["1x5000"]["height"]) == (1, 5000)
    for result in results.values():
        for entry in result["objects"]:
            assert entry["segmentation"]["size"] == [result["height"], result["width"]]


@pytest.mark.parametrize("name", ["missing", "no/such/folder", "./model", "model/", "~/no_such_model"])
def test_missing_model_folder_never_asks_the_network(name, tmp_path, capsys, monkeypatch, no_network):
    monkeypatch.chdir(tmp_path)
    assert run(name, tmp_path / "out", tmp_path / "look.jpg") == 2
    assert "does not exist" in capsys.readouterr().err


def test_missing_folder_beside_existing_ones_is_local(tmp_path, capsys, monkeypatch, no_network):
    monkeypatch.chdir(tmp_path)
    Path("outputs").mkdir()
    assert run("outputs/demo", tmp_path / "out", tmp_path / "look.jpg") == 2
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_model_folder_without_a_file_names_it(damaged_model, file, tmp_path, capsys, no_network):
    (damaged_model / file).unlink()
    assert run(damaged_model, tmp_path / "out", tmp_path / "look.jpg") == 2
    error = capsys.readouterr().err
    assert f"({file})" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", b'{"d_model":'),
        ("config.json", b'{"model_type": "bert"}'),
        ("preprocessor_config.json", b"{"),
        ("model.safetensors", b""),
    ],
)
def test_damaged_model_is_one_line(damaged_model, file, content, tmp_path, capsys):
    (damaged_model / file).write_bytes(content)
    assert run(damaged_model, tmp_path / "out", tmp_path / "look.jpg") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"fashion-detr: The model {damaged_model} cannot be loaded") and error.count("\n") == 1


def test_weights_have_to_fill_the_model(damaged_model, tmp_path, capsys):
    config = read(damaged_model / "config.json")
    (damaged_model / "config.json").write_text(json.dumps(config | {"decoder_layers": 3}))
    assert run(damaged_model, tmp_path / "out", tmp_path / "look.jpg") == 2
    assert "tensors are missing, such as 'model.stages.2" in capsys.readouterr().err


def test_output_that_is_a_file_is_an_error(model_folder, tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    assert run(model_folder, tmp_path / "out", tmp_path / "look.jpg") == 2
    assert "cannot be made" in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--threshold", "1.5"), ("--threshold", "nan"), ("--top_k", "0"), ("--top_n", "3")])
def test_wrong_options_are_errors_of_usage(tmp_path, option, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["predict", "look.jpg", "--model", "m", "--output", str(tmp_path), *option])
    assert stop.value.code == 2
    assert option[0] in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps", "tpu"])
def test_a_device_that_is_not_here_is_an_error(model_folder, tmp_path, capsys, device):
    assert run(model_folder, tmp_path / "out", tmp_path / "look.jpg", options=("--device", device)) == 2
    error = capsys.readouterr().err
    assert f"--device {device}: PyTorch cannot use it here" in error and "--device cpu" in error


def test_the_command_line_as_people_use_it(model_folder, tmp_path, capsys, monkeypatch):
    """Hyphens for underscores; photos of one name told apart; files that are no photos named; an end by Ctrl+C."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        photo(61, 87).save(tmp_path / folder / "look.jpg")
    (tmp_path / "a" / "phone.mov").write_bytes(b"0")
    options = ("--attribute-threshold=0.01", "--top-k", "7")
    assert run(model_folder, tmp_path / "out", tmp_path / "a", tmp_path / "b", options=options) == 0
    assert "1 of the 2 files in " in (error := capsys.readouterr().err) and "phone.mov" in error
    for name, folder in (("look", "a"), ("look_2", "b")):
        assert read(tmp_path / "out" / f"{name}.json")["image"] == str(tmp_path / folder / "look.jpg")

    assert main(["predict", "https://a.example/look.jpg", "--output", "out", "--model", str(model_folder)]) == 2
    assert "https://a.example/look.jpg is no file: predict takes files" in capsys.readouterr().err

    def interrupted(paths):
        raise KeyboardInterrupt

    monkeypatch.setattr("fashion_detr.cli_predict._list_photos", interrupted)
    assert run(model_folder, tmp_path / "out", tmp_path / "a") == 130
    assert capsys.readouterr().err == "fashion-detr: interrupted\n"


def test_all_objects_in_one_annotation_file(model_folder, tmp_path, capsys):
    """It is a data set to learn from, and a file of results beside the photos' own files."""
    for folder, size in (("train/a", (61, 87)), ("train/b", (40, 40))):
        (tmp_path / folder).mkdir(parents=True)
        photo(*size).save(tmp_path / folder / "look.jpg")
    (tmp_path / "train" / "a" / "broken.jpg").write_bytes(b"0")
    folders, file = [tmp_path / "train" / name for name in "ab"], tmp_path / "train.json"
    options = ("--threshold", "0.01", "--attribute_threshold", "0.01", "--top_k", "5", "--coco", str(file))
    assert run(model_folder, tmp_path / "out", *folders, options=options) == 1
    assert f"objects in 2 photos: {file}" in capsys.readouterr().out
    content = read(file)
    assert [image["file_name"] for image in content["images"]] == ["a/look.jpg", "b/look.jpg"]
    vocabulary, images = read_ground_truth(file)
    assert vocabulary == Vocabulary.fashionpedia()
    for image, name in zip(images.values(), ("look", "look_2")):
        (height, width), annotations = image
        alone = read(tmp_path / "out" / f"{name}.json")
        assert (alone["height"], alone["width"]) == (height, width)
        for one, other in zip(annotations, alone["objects"], strict=True):
            assert one["segmentation"]["counts"] == other["segmentation"]["counts"]
            assert one["attribute_ids"] == [attribute["id"] for attribute in other["attributes"]]
    assert main(["data", "check", str(tmp_path), "--split", "train"]) == 0
    assert "nothing was found" in capsys.readouterr().out

    before = file.read_bytes()
    for taken in (file, folders[0] / "look.jpg", tmp_path, tmp_path / "new" / "look_2.json"):
        assert run(model_folder, tmp_path / "new", *folders, options=("--coco", str(taken))) == 2
        assert "another file" in capsys.readouterr().err
    assert file.read_bytes() == before
    options = ("--coco", str(tmp_path / "none.json"))
    assert run(model_folder, tmp_path / "new", folders[0] / "broken.jpg", options=options) == 1
    assert "No photo was done" in capsys.readouterr().err and not (tmp_path / "none.json").exists()


def test_the_vocabulary_of_a_model_in_an_annotation_file():
    """Whatever the order of the names in its configuration, and without super-categories."""
    names = {10: "k", 2: "c", **{index: f"x{index}" for index in (0, 1, 3, 4, 5, 6, 7, 8, 9)}}
    config = FashionDetrConfig(id2label=names, category_ids=list(range(100, 111)), id2attribute={1: "b", 0: "a"})
    vocabulary = Vocabulary.of(config)
    assert {key: name for key, name, _ in vocabulary.categories} == {100 + key: name for key, name in names.items()}
    assert vocabulary.attributes == ((0, "a", ""), (1, "b", ""))
    assert list(config.id2label) == list(range(11))


@pytest.mark.parametrize("arguments", [["predict", "", "--output", "out"], ["data", "check", ""]])
def test_an_empty_path_is_not_the_current_folder(arguments, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert "has to be a path, found ''" in capsys.readouterr().err


def test_a_pipe_that_closes_early(tmp_path):
    command = f"{sys.executable} -m fashion_detr.cli data check {tmp_path} | true"
    done = subprocess.run(["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True)
    assert done.stderr == "" and done.returncode in (1, 141)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_under_what_is_printed(tmp_path):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "fashion_detr.cli", "data", "check", str(tmp_path)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "No space left on device" in done.stderr


def drawn_object(size: tuple[int, int], box: tuple[int, int, int, int], label_id: int = 15) -> dict:
    mask = torch.zeros(size[1], size[0], dtype=torch.bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    attributes = [{"id": 0, "name": name, "score": 0.9} for name in ("above-the-knee (length)", "plain", "fitted", "x")]
    label = "headband, head covering, hair accessory"
    return {"label_id": label_id, "label": label, "score": 0.93, "mask": mask, "attributes": attributes, "parent": None}


def test_a_photo_without_objects_is_only_enlarged():
    image = photo(50, 100)
    assert draw_objects(image, []).size == (500, 1000)
    assert draw_objects(Image.new("RGB", (1500, 1200)), []).size == (1500, 1200)
    assert image.size == (50, 100)


@pytest.mark.parametrize("size", [(64, 64), (1, 1), (1, 5000), (5000, 1), (6000, 4000)])
def test_any_size_can_be_drawn(size):
    objects = [drawn_object(size, (0, 0, *size)), drawn_object(size, (0, 0, 1, 1), label_id=34)]
    drawing = draw_objects(Image.new("RGB", size), objects)
    side = min(max(1000, max(size)), 3000)
    assert drawing.mode == "RGB"
    assert drawing.width > side * size[0] // max(size) and drawing.height >= side * size[1] // max(size)


def test_mask_is_painted_in_the_colour_of_its_class_and_nowhere_else():
    size = (1000, 1000)
    drawing = draw_objects(Image.new("RGB", size, "black"), [drawn_object(size, (100, 100, 400, 900), label_id=6)])
    left = drawing.width - 1000  # the object lies on the left, and so does the only column
    pixels = np.asarray(drawing)[:, left:].astype(int)
    inside = pixels[700, 300]
    assert np.allclose(inside / inside.max(), np.array(COLOURS[6]) / max(COLOURS[6]), atol=0.03)
    assert tuple(pixels[500, 100]) == COLOURS[6]  # the outline is opaque
    assert (pixels[700, 450:] == 0).all()


def test_small_object_stays_visible_above_a_large_one():
    size = (1000, 1000)
    small, large = drawn_object(size, (480, 480, 520, 520), label_id=34), drawn_object(size, (0, 0, 1000, 1000), 6)
    drawings = [draw_objects(Image.new("RGB", size), objects) for objects in ([small, large], [large, small])]
    for drawing in drawings:
        colours = {colour for _, colour in drawing.getcolors(maxcolors=1 << 24)}
        assert COLOURS[34] in colours and COLOURS[6] in colours


def test_sixty_labels_do_not_overlap(monkeypatch):
    placed = []
    write = ImageDraw.ImageDraw.text

    def record(pen, position, text, fill, font, anchor):
        placed.append(pen.textbbox(position, text, font, anchor))
        write(pen, position, text, fill, font, anchor)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", record)
    generator = np.random.default_rng(0)
    size = (300, 450)
    corners = generator.integers((0, 0), (290, 440), size=(60, 2)).tolist()
    objects = [drawn_object(size, (x, y, x + 3, y + 3), index % 46) for index, (x, y) in enumerate(corners)]
    drawing = draw_objects(photo(*size), objects)
    boxes = np.array(placed)
    assert len(boxes) >= 120 and boxes.min() >= 0
    assert (boxes[:, 2] <= drawing.width).all() and (boxes[:, 3] <= drawing.height).all()
    overlap = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    assert ((overlap > 0).all(axis=-1).sum(axis=1) == 1).all()  # each with itself


def test_label_has_at_most_the_wanted_attributes_and_no_score_of_ground_truth(monkeypatch):
    texts = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda pen, position, text, *rest, **more: texts.append(text))
    size = (100, 100)
    draw_objects(photo(*size), [drawn_object(size, (10, 10, 30, 30)) | {"score": None}], max_attributes=2)
    assert " ".join(texts) == "headband, head covering, hair accessory above-the-knee (length), plain"


def test_mask_of_another_size_is_an_error():
    with pytest.raises(ValueError, match="90 x 60, but the photo is 60 x 90"):
        draw_objects(photo(90, 60), [drawn_object((60, 90), (0, 0, 5, 5))])


def test_contact_sheet_holds_every_picture():
    pictures = [Image.new("RGB", (20 + 10 * index, 30), COLOURS[index]) for index in range(5)]
    sheet = contact_sheet(pictures, columns=2)
    counts = {colour: number for number, colour in sheet.getcolors()}
    assert all(counts[COLOURS[index]] == picture.width * 30 for index, picture in enumerate(pictures))
    assert sheet.width > 60 + 50 and sheet.height > 3 * 30
    with pytest.raises(ValueError, match="found 0 pictures"):
        contact_sheet([], columns=2)


def test_data_commands(tmp_path, capsys, monkeypatch):
    """Check, draw, pack, and check what cannot be checked; the exit status says whether training can start."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    entries = [{"id": 3, "name": "coat", "supercategory": "outerwear"}]
    square = {"size": [6, 8], "counts": [8, 3, 3, 3, 31]}
    annotation = {"id": 1, "image_id": 5, "category_id": 3, "attribute_ids": [], "segmentation": square}
    (tmp_path / "set" / "images").mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(tmp_path / "set" / "images" / "a.png")
    for split in ("train", "val"):
        content = {
            "categories": entries,
            "attributes": [],
            "images": [{"id": 5, "file_name": "a.png", "width": 8, "height": 6}],
            "annotations": [annotation | {"bbox": [1, 2, 2, 3], "area": 6, "iscrowd": 0}],
        }
        (tmp_path / "set" / f"instances_attributes_{split}2020.json").write_text(json.dumps(content))
    assert main(["data", "check", str(tmp_path / "set")]) == 0
    assert capsys.readouterr().out.endswith("Training can start: nothing was found.\n")
    assert main(["data", "stats", str(tmp_path / "set"), "--output", str(tmp_path / "new" / "stats.png")]) == 0
    assert Image.open(tmp_path / "new" / "stats.png").width > 500
    assert main(["data", "stats", str(tmp_path / "set"), "--output", str(tmp_path / "new")]) == 0
    assert (tmp_path / "new" / "statistics.png").is_file()
    assert main(["data", "to-parquet", str(tmp_path / "set"), str(tmp_path / "packed")]) == 0
    assert len(list((tmp_path / "packed" / "data").glob("*.parquet"))) == 2
    assert main(["data", "check", str(tmp_path / "packed")]) == 2
    assert "is packed: name the data set" in capsys.readouterr().err

    (tmp_path / "set" / "images" / "a.png").write_bytes(b"")
    assert main(["data", "check", str(tmp_path / "set")]) == 1
    assert main(["data", "convert-ccp", str(tmp_path / "set"), str(tmp_path / "ccp")]) == 2
    assert "clothing-co-parsing" in capsys.readouterr().err
    assert main(["data", "stats", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_paths_as_people_type_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("~/set") == tmp_path / "set" and local_path("~nobody-here/set") == Path("~nobody-here/set")
    assert DataArguments(data_dir="~/set").data_dir == str(tmp_path / "set")
    assert ModelArguments(model_name_or_path="~/model").model_name_or_path == str(tmp_path / "model")
