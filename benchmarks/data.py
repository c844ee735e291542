"""Checks, reads and streams a generated Fashionpedia of full size, and times its preparation for training.

    python benchmarks/data.py FOLDER

FOLDER gets the official layout: instances_attributes_train2020.json with 45,623 images and 333,401 annotations, most of
them polygons, and train2020.zip with a JPEG of 768 x 1024 or 1024 x 768 pixels under every name (2,000 different ones;
about 10 GB). What is there already is used again. Every step runs in a process of its own, whose peak memory is given.
"""

import argparse
import io
import json
import multiprocessing
import re
import resource
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from fashion_detr import FashionDetrConfig, FashionDetrImageProcessor
from fashion_detr.cli_number import positive
from fashion_detr.data.annotations import Vocabulary
from fashion_detr.data.augmentation import Augmentation
from fashion_detr.data.check import check_data_set, format_report
from fashion_detr.data.dataset import FashionDataset, FashionpediaExamples
from fashion_detr.data.fashionpedia import load_fashionpedia, stream_fashionpedia
from fashion_detr.data.images import ImageFiles, read_image
from fashion_detr.metrics import FASHIONPEDIA_ATTRIBUTED_CATEGORY_IDS
from fashion_detr.training.allocator import keep_freed_memory

IMAGES, ANNOTATIONS, DIFFERENT = 45_623, 333_401, 2_000
SIDES = (768, 1024)
CANVAS = {"height": 1024, "width": 1024}


def write_data_set(folder: Path, images: int) -> None:
    """Real annotations are mostly polygons of some hundred points; one in ten is a compressed mask here."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "instances_attributes_train2020.json").is_file():
        return
    rng = np.random.default_rng(0)
    different = [draw_photo(rng) for _ in range(min(DIFFERENT, images))]
    entries, annotations = [], []
    per_image = rng.multinomial(round(ANNOTATIONS * images / IMAGES) - images, np.full(images, 1 / images)) + 1
    with zipfile.ZipFile(folder / "train2020.zip", "w", zipfile.ZIP_STORED) as archive:
        for image_id, count in enumerate(per_image.tolist()):
            jpeg, (width, height) = different[image_id % len(different)]
            name = f"{image_id:032x}.jpg"
            archive.writestr(f"train/{name}", jpeg)
            entries.append({"id": image_id, "file_name": name, "width": width, "height": height})
            annotations += [
                draw_annotation(rng, len(annotations) + number, image_id, (width, height)) for number in range(count)
            ]
    content = {"images": entries, "annotations": annotations} | Vocabulary.fashionpedia().lists()
    (folder / "instances_attributes_train2020.json").write_text(json.dumps(content))


def draw_photo(rng: np.random.Generator) -> tuple[bytes, tuple[int, int]]:
    """Smooth colours with fine noise on top: decodes about as fast as a photo of its size."""
    width, height = SIDES if rng.random() < 0.7 else SIDES[::-1]
    coarse = Image.fromarray(rng.integers(0, 256, (height // 32, width // 32, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    pixels += rng.integers(-12, 13, (height, width, 1), dtype=np.int16)
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue(), (width, height)


def draw_annotation(rng: np.random.Generator, number: int, image_id: int, size: tuple[int, int]) -> dict[str, Any]:
    points = int(rng.integers(40, 200))
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    radii = np.exp(rng.uniform(np.log(6), np.log(300))) * (1 + 0.15 * np.sin(3 * angles) + rng.normal(0, 0.01, points))
    centre = rng.uniform((0.2 * size[0], 0.2 * size[1]), (0.8 * size[0], 0.8 * size[1]))
    outline = centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    outline = outline.clip(0, np.array(size) - 1).round(1)
    segmentation: Any = [outline.ravel().tolist()]
    rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, size[1], size[0]))
    if rng.random() < 0.1:
        segmentation = {"size": [size[1], size[0]], "counts": rle["counts"].decode()}
    category_id = int(rng.integers(46))
    attributes = [entry[0] for entry in Vocabulary.fashionpedia().attributes]
    carries = category_id in FASHIONPEDIA_ATTRIBUTED_CATEGORY_IDS
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "attribute_ids": sorted(rng.choice(attributes, 3, replace=False).tolist()) if carries else [],
        "segmentation": segmentation,
        "bbox": coco_mask.toBbox(rle).tolist(),
        "area": float(coco_mask.area(rle)),
        "iscrowd": 0,
    }


def check(folder: Path) -> str:
    report = check_data_set(folder, ["train"])
    assert report.can_train, format_report(report)
    return f"{report.counts['train'].annotations:,} annotations, {len(report.findings)} kinds of findings"


def read(folder: Path) -> str:
    """The first time: parsed, checked and cached."""
    started = time.perf_counter()
    rows = load_fashionpedia(folder, "train")
    first = time.perf_counter()
    FashionpediaExamples(rows)[0]
    return (
        f"{len(rows):,} rows after {first - started:.1f} s, first photo {1000 * (time.perf_counter() - first):.0f} ms"
    )


def stream(folder: Path) -> str:
    started = time.perf_counter()
    next(iter(stream_fashionpedia(folder, "train")))
    return f"first row after {time.perf_counter() - started:.1f} s"


def training_data(folder: Path, color_jitter: float = 0.2) -> FashionDataset:
    augmentation = Augmentation(scale_range=(0.5, 2.0), flip_probability=0.5, color_jitter=color_jitter)
    processor = FashionDetrImageProcessor(size=CANVAS)
    return FashionDataset(
        FashionpediaExamples(load_fashionpedia(folder, "train")), processor, FashionDetrConfig(), augmentation
    )


def prepare(folder: Path, images: int) -> str:
    """Alternately some photos only decoded and the same prepared, on one thread: noise of the machine meets all."""
    torch.set_num_threads(1)
    keep_freed_memory()  # as train.py does
    contestants: dict[str, Callable[[int], Any]] = {
        "only decoded": lambda index: decode(folder, index),
        "prepared": training_data(folder, color_jitter=0).__getitem__,
        "prepared with colours": training_data(folder).__getitem__,
    }
    order = np.random.default_rng(0).permutation(len(load_fashionpedia(folder, "train")))[:images].tolist()
    for index in order:
        decode(folder, index)  # from here on its bytes are in the system's cache for all
    seconds = dict.fromkeys(contestants, 0.0)
    for start in range(0, len(order), 20):
        for name, contestant in contestants.items():
            started = time.perf_counter()
            for index in order[start : start + 20]:
                contestant(index)
            seconds[name] += time.perf_counter() - started
    rates = {name: len(order) / spent for name, spent in seconds.items()}
    first = rates["only decoded"]
    return ", ".join(f"{rate:.0f} photos/s {name} ({rate / first:.0%})" for name, rate in rates.items())


def decode(folder: Path, index: int) -> Image.Image:
    url = ImageFiles(folder / "train2020.zip", "train/").url(f"{index:032x}.jpg")
    return read_image({"bytes": None, "path": url}).convert("RGB")


def pass_over(folder: Path, images: int) -> str:
    """Memory while an epoch goes by."""
    torch.set_num_threads(1)
    keep_freed_memory()
    dataset = training_data(folder)
    order = np.random.default_rng(0).permutation(len(dataset))[:images].tolist()
    in_use = []
    for number, index in enumerate(order):
        dataset[index]
        if number % max(1, len(order) // 8) == 0:
            in_use.append(resident())
    return "GB in use during the epoch: " + " ".join(f"{one:.2f}" for one in [*in_use, resident()])


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e9


def _measured(step: Callable[..., str], arguments: tuple, queue: Any) -> None:
    started = time.perf_counter()
    said = step(*arguments)
    [peak] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    queue.put(f"{step.__name__:<10} {time.perf_counter() - started:7.1f} s {int(peak) / 1e6:6.2f} GB peak  {said}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the data set is, or is made")
    parser.add_argument("--images", type=positive, default=IMAGES, help=f"size of the data set ({IMAGES:,})")
    parser.add_argument("--sample", type=positive, default=500, help="photos whose preparation is timed (500)")
    parser.add_argument("--epoch", type=positive, default=4000, help="photos of the pass that watches memory (4,000)")
    arguments = parser.parse_args()
    if arguments.folder.is_file():
        parser.error(f"{arguments.folder} is a file, and has to be a folder")
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    write_data_set(arguments.folder, arguments.images)
    for step, more in (
        (check, ()),
        (read, ()),
        (stream, ()),
        (prepare, (arguments.sample,)),
        (pass_over, (arguments.epoch,)),
    ):
        process = context.Process(target=_measured, args=(step, (arguments.folder, *more), queue))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"{step.__name__} failed")
        print(queue.get(), flush=True)


if __name__ == "__main__":
    main()
