"""Times the metric against Fashionpedia's official evaluator on the same generated scenes.

    pip install -e ".[test]"
    python benchmarks/metric.py --images 1158

The scenes have the size of Fashionpedia's validation set: 1,158 photos of 1024 x 683 pixels, some 7 instances and 100
detections each, 46 categories, 294 attributes. The official evaluator (`fashionpedia` 1.1) runs with the one name that
NumPy has dropped put back. Both start from masks in memory as run lengths, and end with all their figures. Ours has
more of them; the dearest, AP by how much of an instance others hide, is timed apart: the first line's ground truth
brings that share along, so that the time is for what both compute; for the second it is found from the masks.
"""

import argparse
import copy
import os
import time
from typing import Any

import numpy as np
from official_evaluator import official_evaluator, run_official
from pycocotools import mask as coco_mask

from fashion_detr.cli_number import positive
from fashion_detr.metrics import FASHIONPEDIA_ATTRIBUTED_CATEGORY_IDS, FashionAveragePrecision
from fashion_detr.ontology_fashion_detr import ATTRIBUTES, CATEGORIES

HEIGHT, WIDTH = 1024, 683
DETECTIONS = 100
CATEGORY_IDS = list(range(len(CATEGORIES)))
ATTRIBUTE_IDS = [entry[0] for entry in ATTRIBUTES]

Scene = dict[int, tuple[list[dict[str, Any]], list[dict[str, Any]]]]


def blob(rng: np.random.Generator, centre: np.ndarray, radius: float) -> dict[str, Any]:
    """A star-shaped outline of 24 points as compressed run lengths."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radii = radius * rng.uniform(0.7, 1.3, 24)
    points = centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rle = coco_mask.merge(coco_mask.frPyObjects([points.ravel().tolist()], HEIGHT, WIDTH))
    return {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()}


def attribute_list(rng: np.random.Generator, category_id: int) -> list[int]:
    if category_id not in FASHIONPEDIA_ATTRIBUTED_CATEGORY_IDS:
        return []
    return sorted(rng.choice(ATTRIBUTE_IDS, rng.integers(0, 6), replace=False).tolist())


def draw_scenes(images: int, seed: int = 0) -> Scene:
    rng = np.random.default_rng(seed)
    scenes = {}
    for image_id in range(images):
        truths, predictions = [], []
        for _ in range(rng.integers(2, 13)):
            category_id = int(rng.integers(len(CATEGORIES)))
            centre, radius = rng.uniform((100, 100), (WIDTH - 100, HEIGHT - 100)), float(rng.uniform(8, 200))
            shape = blob(rng, centre, radius)
            attribute_ids = attribute_list(rng, category_id)
            truths.append({"category_id": category_id, "segmentation": shape, "attribute_ids": attribute_ids})
            for _ in range(3):
                predictions.append(
                    {
                        "category_id": category_id,
                        "segmentation": blob(rng, centre + rng.normal(0, radius / 10, 2), radius),
                        "attribute_ids": attribute_ids if rng.random() < 0.5 else attribute_list(rng, category_id),
                        "score": float(rng.random()),
                    }
                )
        present = [truth["category_id"] for truth in truths]
        while len(predictions) < DETECTIONS:
            # What a model is not sure of is mostly of the kinds that the photo shows.
            category_id = int(rng.choice(present) if rng.random() < 0.7 else rng.integers(len(CATEGORIES)))
            centre = rng.uniform((0, 0), (WIDTH, HEIGHT))
            predictions.append(
                {
                    "category_id": category_id,
                    "segmentation": blob(rng, centre, float(rng.uniform(8, 200))),
                    "attribute_ids": attribute_list(rng, category_id),
                    "score": float(rng.random() / 2),
                }
            )
        scenes[image_id] = (predictions[:DETECTIONS], truths)
    return scenes


def with_cover(scenes: Scene) -> Scene:
    """The scenes with ground truth that knows how much of it others hide (here: nothing)."""
    return {
        image_id: (predictions, [{**one, "covered": 0.0} for one in truths])
        for image_id, (predictions, truths) in scenes.items()
    }


def run_ours(scenes: Scene) -> tuple[dict[str, float], float]:
    started = time.perf_counter()
    metric = FashionAveragePrecision(CATEGORY_IDS, ATTRIBUTE_IDS)
    for image_id, (predictions, truths) in scenes.items():
        metric.add(image_id, predictions, truths)
    figures = metric.compute()
    return figures, time.perf_counter() - started


def run_theirs(scenes: Scene) -> tuple[dict[str, float], float]:
    annotations = [
        {
            **copy.deepcopy(one),
            "image_id": image_id,
            "iscrowd": 0,
            "area": float(coco_mask.area(one["segmentation"])),
        }
        for image_id, (_, truths) in scenes.items()
        for one in truths
    ]
    dataset = {
        "info": {},
        "images": [{"id": image_id, "height": HEIGHT, "width": WIDTH} for image_id in scenes],
        "categories": [{"id": category_id, "name": str(category_id)} for category_id in CATEGORY_IDS],
        "attributes": [{"id": attribute_id, "name": str(attribute_id)} for attribute_id in ATTRIBUTE_IDS],
        "annotations": [{**one, "id": number} for number, one in enumerate(annotations, start=1)],
    }
    results = [{**copy.deepcopy(one), "image_id": image_id} for image_id, (found, _) in scenes.items() for one in found]
    with official_evaluator() as module:
        started = time.perf_counter()
        evaluation = run_official(module, dataset, results)
        seconds = time.perf_counter() - started
    return {"AP_IoU+F1": evaluation.results["AP"], "AP_IoU_official": evaluation.resultDet["AP"]}, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=positive, default=1158, help="number of photos (1158)")
    scenes = draw_scenes(parser.parse_args().images)
    instances = sum(len(truths) for _, truths in scenes.values())
    print(f"{len(scenes)} images, {instances} instances, {DETECTIONS} detections an image, {os.cpu_count()} cores")
    figures, seconds = run_ours(with_cover(scenes))
    _, seconds_with_cover = run_ours(scenes)
    official, official_seconds = run_theirs(scenes)
    print(f"fashionpedia 1.1                           {official_seconds:6.1f} s")
    for name, ours in {"": seconds, " and AP by cover": seconds_with_cover}.items():
        print(f"fashion_detr.metrics{name:<22} {ours:6.1f} s, {official_seconds / ours:.0f} times as fast")
    for name, value in official.items():
        print(f"{name:<16} {figures[name]:.6f}, official {value:.6f}, difference {abs(figures[name] - value):.1e}")


if __name__ == "__main__":
    main()
