"""A model's figures: the same on one process and on two, with and without attribute thresholds of its own."""

import json
import subprocess
import sys
from pathlib import Path

import oracle_evaluation
import pytest
import torch

from fashion_detr import FashionDetrConfig, FashionDetrImageProcessor
from fashion_detr.data.synthetic import SyntheticEnsembles
from fashion_detr.image_processing_fashion_detr import ATTRIBUTE_THRESHOLD
from fashion_detr.masks_fashion_detr import encode_mask
from fashion_detr.modeling_fashion_detr import FashionDetrForInstanceSegmentationOutput
from fashion_detr.training.evaluation import Evaluation

SCRIPT = Path(__file__).parent / "oracle_evaluation.py"


def on_processes(count: int, folder: Path) -> dict:
    output = folder / f"{count}.json"
    if count == 1:
        oracle_evaluation.evaluate(output)
        return json.loads(output.read_text())
    run = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}", SCRIPT, output],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(output.read_text())


def test_one_process_and_two_come_to_the_same_figures(tmp_path):
    """Five images in batches of two: on two processes one of them is seen twice, and counts once."""
    alone, together = on_processes(1, tmp_path), on_processes(2, tmp_path)
    assert (alone.pop("processes"), together.pop("processes")) == (1, 2)
    assert 0.2 < alone["AP_IoU"] < 0.9 and 0.05 < alone["AP_IoU+F1"] < 0.9
    assert alone["AP_IoU+F1"] > alone["AP_IoU+F1_fixed_threshold"]  # chosen on other images
    assert len(set(alone["thresholds"])) > 1
    # As text, where NaN equals itself.
    assert json.dumps(together, sort_keys=True) == json.dumps(alone, sort_keys=True)


def test_the_fixed_threshold_is_judged_beside_the_models_own():
    """
    One coat, found exactly, with the probability 0.4 of an attribute that it does not carry. Its own thresholds leave
    the attribute out; the fixed one, 0.3, lets it in: F1 of {} against {}: 1; of one against {}: present 0, absent
    2 * 293 / (294 + 293) = 0.998, macro 0.499: below every threshold.
    """
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[8:40, 8:40] = True
    config = FashionDetrConfig(attribute_thresholds=[0.5] * 294)
    coat = config.label2id["coat"]
    logits = torch.full((1, 1, 294), -10.0)
    logits[0, 0, 7] = torch.logit(torch.tensor(0.4))
    classes = torch.full((1, 1, 46), -10.0)
    classes[0, 0, coat] = 10.0
    outputs = FashionDetrForInstanceSegmentationOutput(
        masks_queries_logits=torch.where(mask[::4, ::4], 10.0, -10.0)[None, None],
        class_queries_logits=classes,
        attribute_queries_logits=logits,
        valid_sizes=torch.tensor([[64, 64]]),
    )
    truth = {"category_id": coat, "attribute_ids": [], "segmentation": encode_mask(mask.numpy())}
    evaluation = Evaluation(config)
    evaluation.add(outputs, [{"image_id": 1, "size": (64, 64), "ground_truth": [truth]}], FashionDetrImageProcessor())
    assert ATTRIBUTE_THRESHOLD == 0.3
    assert evaluation.metric.compute()["AP_IoU+F1"] == pytest.approx(1)
    assert evaluation.fixed.compute()["AP_IoU+F1"] == 0

    without = Evaluation(FashionDetrConfig())
    assert without.fixed is without.metric


def test_synthetic_ground_truth_brings_its_cover():
    evaluation = Evaluation(FashionDetrConfig())
    drawn = SyntheticEnsembles(20, 128, 96)
    annotations = [entry for index in range(20) for entry in drawn[index]["annotations"]]
    for index in range(20):
        evaluation.metric.add(index, [], drawn[index]["annotations"])
    known = sorted(round(entry["covered"], 6) for entry in annotations)
    shares = [share for record in evaluation.state()[0].values() for share in record["truth_covered"].tolist()]
    assert sorted(round(share, 6) for share in shares) == known
    assert evaluation.metric.compute()["AP_IoU_covered_50_100"] == 0  # there are some, and none was found
