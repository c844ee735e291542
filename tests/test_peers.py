"""The comparison with other models: every contestant learns, its results are valid, and a killed row goes on."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import peer_masks
import peer_pictures
import peers
import pytest
import torch
import yaml
from conftest import TINY_BACKBONE
from peer_mask_rcnn import MaskRcnn, boxes_around
from peer_models import Contestant
from PIL import Image
from pycocotools import mask as coco_mask

from fashion_detr.data.dataset import collate
from fashion_detr.metrics import FashionAveragePrecision
from fashion_detr.training import trainer
from fashion_detr.training.arguments import DataArguments
from fashion_detr.training.splits import open_splits

CANVAS = (96, 64)
FASHIONFORMER = os.environ.get("FASHIONFORMER_FILE")
CONTESTANTS = [
    "ours",
    pytest.param(
        "fashionformer",
        marks=pytest.mark.skipif(FASHIONFORMER is None, reason="FASHIONFORMER_FILE does not name the peer's file"),
    ),
    "mask2former",
    "maskrcnn",
]


@pytest.fixture
def config_file(tmp_path) -> Path:
    """What the models share, with a backbone of a few thousand weights."""
    options = {
        "image_size": list(CANVAS),
        "scale_range": [0.7, 1.4],
        "flip_probability": 0.5,
        "synthetic_train_images": 5,
        "synthetic_eval_images": 2,
        "model_config": {"backbone_config": TINY_BACKBONE, "d_model": 32, "num_queries": 12, "decoder_ffn_dim": 64},
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 2,
        "backbone_learning_rate_factor": 0.25,
        "weight_decay": 0.05,
        "max_grad_norm": 1.0,
        "warmup_steps": 0,
        "channels_last": True,
    }
    file = tmp_path / "shared.yaml"
    file.write_text(yaml.safe_dump(options))
    return file


def command(config_file: Path, model: str, output: Path, *more: str) -> list[str]:
    given = ["--model", model, "--synthetic", "--config", str(config_file), "--output", str(output), *more]
    return given + (["--fashionformer", FASHIONFORMER] if FASHIONFORMER else [])


def built(config_file: Path, model: str) -> tuple[peers.Settings, Contestant, torch.utils.data.Dataset]:
    arguments = peers.parse(command(config_file, model, config_file.with_suffix(".json"), "--learning_rate", "2e-3"))
    settings = peers.read_settings(arguments)
    config, _, judged = peers.build_data(settings, None)
    torch.manual_seed(0)
    file = Path(FASHIONFORMER) if FASHIONFORMER else None
    return settings, peers.build_contestant(model, config, CANVAS, fashionformer=file), judged


def test_drawings_to_choose_by_are_others_than_those_of_the_figures(config_file):
    """The same that `train.py` chooses by."""
    arguments = peers.parse(command(config_file, "ours", config_file.with_suffix(".json"), "--selection_images", "2"))
    settings = peers.read_settings(arguments)
    options = settings.part(DataArguments)
    expected = open_splits(options, settings.seed, tuple(options.image_size))
    for selection_images, split in ((2, expected.selection), (0, expected.final)):
        _, _, judged = peers.build_data(replace(settings, selection_images=selection_images), None)
        assert np.array_equal(judged.examples[0]["image"], split[0]["image"])
    assert not np.array_equal(expected.selection[0]["image"], expected.final[0]["image"])


@pytest.mark.parametrize("model", CONTESTANTS)
def test_contestant_learns_and_its_results_are_valid(config_file, model):
    settings, contestant, judged = built(config_file, model)
    batch = collate([judged[index] for index in range(2)])
    metas = batch.pop("meta")
    frozen = {name: value.clone() for name, value in contestant.backbone.named_buffers()}
    optimizer = torch.optim.AdamW(peers.parameter_groups(contestant.train(), settings))
    # The same number of step draws the same points and boxes, so that the losses can be compared.
    losses = [peers.train_step(contestant, optimizer, batch, 0, settings) for _ in range(3)]
    assert np.isfinite(losses).all()
    assert losses[0] > losses[1] > losses[2]
    assert all(torch.equal(value, frozen[name]) for name, value in contestant.backbone.named_buffers())

    metric = FashionAveragePrecision(contestant.config.category_ids, contestant.config.attribute_ids)
    sizes = [(150, 100), (75, 50)]
    with torch.inference_mode():
        found = contestant.eval().predict(batch, sizes, top_k=20, attribute_threshold=0.3)
    for meta, size, results in zip(metas, sizes, found):
        assert 0 < len(results) <= 20
        assert {tuple(one["segmentation"]["size"]) for one in results} == {size}
        assert [one["score"] for one in results] == sorted((one["score"] for one in results), reverse=True)
        metric.add(meta["image_id"], results, [])  # refuses what is not in the format


@pytest.mark.parametrize("model", ["mask2former", "maskrcnn"])
def test_a_batch_without_an_instance_is_no_accident(config_file, model):
    settings, contestant, judged = built(config_file, model)
    batch = collate([judged[0]])
    for name in ("mask_labels", "class_labels", "attribute_labels"):
        batch[name] = [batch[name][0][:0]]
    optimizer = torch.optim.AdamW(peers.parameter_groups(contestant.train(), settings))
    assert np.isfinite(peers.train_step(contestant, optimizer, batch, 0, settings))


def test_interrupted_row_ends_like_one_that_ran_through(config_file, tmp_path, monkeypatch, capsys):
    """Killed in the fourth step, after the checkpoint of the second, in the second epoch of two batches."""
    monkeypatch.setattr(peers, "CHECKPOINT_STEPS", 2)
    options = ("--steps", "4", "--evaluation_steps", "3")
    through, killed = tmp_path / "rows" / "through.json", tmp_path / "rows" / "killed.json"
    peers.make_row(peers.parse(command(config_file, "maskrcnn", through, *options)))

    loss, calls = MaskRcnn.loss, []

    def fourth_time_killed(self, batch):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return loss(self, batch)

    monkeypatch.setattr(MaskRcnn, "loss", fourth_time_killed)
    with pytest.raises(KeyboardInterrupt):
        peers.make_row(peers.parse(command(config_file, "maskrcnn", killed, *options)))
    assert not killed.exists()
    peers.make_row(peers.parse(command(config_file, "maskrcnn", killed, *options)))
    assert len(calls) == 4 + 2  # the steps 3 and 4

    weights = [torch.load(file.parent / "work" / f"{file.stem}.pt")["weights"] for file in (through, killed)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    rows = [json.loads(file.read_text()) for file in (through, killed)]
    assert rows[0]["figures"] == rows[1]["figures"]
    assert [[one["step"] for one in row["evaluations"]] for row in rows] == [[3, 4]] * 2
    assert rows[0]["gmacs"] > 0 and rows[0]["parameters"] > 1000 and rows[0]["peak_memory_gb"] > 0.1

    capsys.readouterr()
    peers.make_row(peers.parse(command(config_file, "maskrcnn", killed, *options)))
    assert "is finished" in capsys.readouterr().out and len(calls) == 6
    with pytest.raises(SystemExit, match=r"learning_rate is 0\.0008, not 0\.0003"):
        peers.make_row(peers.parse(command(config_file, "maskrcnn", killed, *options, "--learning_rate", "3e-4")))

    table = peers.format_rows(peers.read_rows(through.parent))
    assert table.count("| Mask R-CNN | 0.0008 | 4 |") == 2 and "A = 294" in table
    assert peers.draw_curves(peers.read_rows(through.parent), tmp_path / "curves.png").stat().st_size > 1000


def test_pictures_show_the_photos_with_small_objects_and_every_model(config_file, tmp_path, capsys):
    for model in ("ours", "maskrcnn"):
        peers.make_row(peers.parse(command(config_file, model, tmp_path / "rows" / f"{model}.json", "--steps", "2")))
    capsys.readouterr()
    sheet = tmp_path / "pictures" / "sheet.png"
    peer_pictures.main([str(tmp_path / "rows"), "--photos", "2", "--output", str(sheet)])
    assert "photo, truth, Fashion DETR, Mask R-CNN" in capsys.readouterr().out
    with Image.open(sheet) as picture:
        assert picture.height > 2 * peer_pictures.PANEL_HEIGHT
        assert len(picture.getcolors(maxcolors=1 << 24)) > 1000

    _, judged = peer_pictures.load_contestant(tmp_path / "rows" / "ours.json", None, None)
    small = [
        sum(0 < coco_mask.area(one["segmentation"]) < 32**2 for one in judged[index]["meta"]["ground_truth"])
        for index in peer_pictures.photos_with_small_objects(judged, len(judged))
    ]
    assert small == sorted(small, reverse=True) and small[0] > 0

    peer_masks.main([str(tmp_path / "rows" / f"{model}.json") for model in ("ours", "maskrcnn")])
    assert capsys.readouterr().out.count("| all | ") == 2

    with pytest.raises(SystemExit, match=r"ours\.json is judged on synthetic: leave --data_dir out"):
        peer_masks.main([str(tmp_path / "rows" / "ours.json"), "--data_dir", str(tmp_path)])

    (tmp_path / "rows" / "work" / "ours.pt").unlink()
    with pytest.raises(SystemExit, match="has no checkpoint"):
        peer_pictures.main([str(tmp_path / "rows"), "--output", str(sheet)])


def as_result(mask: np.ndarray, **entries) -> dict:
    return {"segmentation": coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))), **entries}


def test_errors_of_masks_by_hand():
    square, leaking, elsewhere = np.zeros((3, 40, 40), dtype=bool)
    square[10:20, 10:20] = True  # 100 pixels
    leaking[10:20, 10:30] = True  # as many outside the true box
    elsewhere[30:40, 30:40] = True
    truth = [
        as_result(square, category_id=7),
        as_result(np.zeros_like(square), category_id=7),
        as_result(square, category_id=7, iscrowd=1),
    ]
    # The leaking mask comes three times, for three classes; its best score is that of a wrong one. There is room for
    # three masks, so the fourth and perfect one, with the lowest score, is too late.
    masks = [(elsewhere, 0.9), (leaking, 0.8), (leaking, 0.7), (leaking, 0.6), (leaking[::-1], 0.5), (square, 0.1)]
    found = [as_result(mask, category_id=8 - (score == 0.7), score=score) for mask, score in masks]
    (errors,) = peer_masks.errors_of_photo(found, truth, pixels_per_canvas=1.0)
    assert (errors.area, errors.right_class) == (100, False)
    assert (errors.iou, errors.iou_in_box) == (pytest.approx(1 / 2), 1)
    # Two columns outside are put right, eight are left.
    assert errors.iou_right_rim == pytest.approx(100 / 180)
    # Along either side cells of 4 pixels are covered by 1/2, 1, 1 from pixel 8 on, and pixels 10 to 19 come back as
    # 9, 11, 13, 15, 16, 16, 16, 16, 14 and 10 sixteenths: 13 of their products are no more than one half.
    assert errors.iou_of_truth == pytest.approx(0.87)

    (scaled,) = peer_masks.errors_of_photo(found, truth, pixels_per_canvas=2.0)
    assert scaled.area == 25 and scaled.iou == errors.iou
    assert scaled.iou_right_rim == pytest.approx(100 / 160)  # four columns are put right

    table = peer_masks.format_errors([errors, scaled])
    assert "| < 16² | 2 | 0.500, 0.0 % | 1.000, 100.0 % |" in table and "40²" not in table.splitlines()[-1]
    (missed,) = peer_masks.errors_of_photo([], truth, 1.0)
    assert (missed.iou, missed.iou_in_box, missed.right_class) == (0, 0, False)
    assert peer_masks.errors_of_photo(found, [], 1.0) == []


def test_ablations_take_out_what_they_name(config_file):
    settings, contestant, judged = built(config_file, "ours")
    batch = collate([judged[index] for index in range(2)])
    model = contestant.model.eval()

    def attributes() -> torch.Tensor:
        return model(batch["pixel_values"], batch["pixel_mask"]).attribute_queries_logits

    peers.ABLATIONS["uniform_gate"](model)
    batch.pop("meta")
    optimizer = torch.optim.AdamW(peers.parameter_groups(contestant.train(), settings))
    peers.train_step(contestant, optimizer, batch, 1, settings)
    for stage in model.eval().model.stages:
        gate = stage.internal_attention.gate(torch.randn(5, model.config.d_model)).softmax(dim=-1)
        assert torch.allclose(gate, torch.full_like(gate, 1 / 3))

    before = attributes()
    torch.nn.init.normal_(model.model.attribute_queries)
    own = attributes()
    assert not torch.allclose(own, before)
    peers.ABLATIONS["shared_query"](model)
    shared = attributes()
    torch.nn.init.normal_(model.model.attribute_queries)
    assert torch.equal(attributes(), shared) and not torch.allclose(shared, own)


@pytest.mark.parametrize("model", CONTESTANTS)
def test_width_can_be_set_for_all(config_file, model):
    arguments = peers.parse(command(config_file, model, config_file.with_suffix(".json"), "--set", "d_model=64"))
    settings = peers.read_settings(arguments)
    assert settings.options["model_config"]["d_model"] == 64 and settings.changes == ["d_model=64"]


def test_a_gate_that_is_not_there_cannot_be_taken_out(config_file, tmp_path):
    without = command(config_file, "ours", tmp_path / "row.json", "--set", "internal_attention=false")
    with pytest.raises(SystemExit, match="internal_attention=false takes out"):
        peers.make_row(peers.parse([*without, "--ablation", "uniform_gate"]))


def test_optimiser_and_schedule_are_those_of_our_own_training(config_file):
    settings, contestant, _ = built(config_file, "ours")

    class Options:
        learning_rate, backbone_learning_rate_factor, weight_decay = settings.learning_rate, 0.25, 0.05

    def by_parameter(groups, rate):
        return {id(one): (group[rate], group["weight_decay"]) for group in groups for one in group["params"]}

    expected = by_parameter(trainer.parameter_groups(contestant.model, Options), "lr")
    assert by_parameter(peers.parameter_groups(contestant, settings), "peak_rate") == expected
    assert [peers.rate_factor(step, 10, 30) for step in (0, 5, 10, 20, 30)] == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_softmax_with_no_object_becomes_the_same_probability(config_file):
    _, contestant, _ = built(config_file, "mask2former")
    classes = torch.zeros(1, 1, 47)
    classes[0, 0, 3] = np.log(4.0)  # 4 of 50, the others 1 of 50 each
    layer = {"classes": classes, "masks": torch.zeros(1, 1, 24, 16), "attributes": torch.zeros(1, 1, 294)}
    outputs = contestant.as_logits([layer], torch.ones(1, *CANVAS, dtype=torch.bool))
    probabilities = outputs.class_queries_logits.sigmoid()[0, 0]
    assert probabilities[3].item() == pytest.approx(0.08)
    assert probabilities[[0, 45]].tolist() == pytest.approx([0.02, 0.02])


def test_boxes_lead_from_the_canvas_to_the_photo(config_file):
    """The photo takes the upper half of the canvas and is twice as large: 48 x 64 of 96 x 64 pixels, 96 x 128."""
    soft = torch.zeros(2, *CANVAS)
    soft[0, 10:20, 30:50], soft[0, 9, 30:50] = 1.0, 0.4
    soft[1, 5, 7] = 0.2
    assert boxes_around(soft).tolist() == [[30, 10, 50, 20], [7, 5, 8, 6]]
    assert boxes_around(soft[:0]).shape == (0, 4)

    _, contestant, _ = built(config_file, "maskrcnn")
    pixel_mask = torch.zeros(1, *CANVAS, dtype=torch.bool)
    pixel_mask[:, :48] = True
    found = {"boxes": boxes_around(soft[:1]), "masks": torch.ones(1, 1, 28, 28)}
    [masks] = contestant.full_size_masks([found], pixel_mask, [(96, 128)])
    expected = np.zeros((96, 128), dtype=np.uint8, order="F")
    expected[20:40, 60:100] = 1
    pasted = np.asfortranarray(masks[0].numpy().astype(np.uint8))
    assert coco_mask.iou([coco_mask.encode(pasted)], [coco_mask.encode(expected)], [0])[0, 0] > 0.9


def test_command_says_what_is_missing(config_file, tmp_path, capsys):
    for given, message in (
        (["--model", "ours"], "a row needs --model and --output"),
        (["--model", "ours", "--output", "row.json"], "either --data_dir or --synthetic"),
        (["--model", "maskrcnn", "--output", "row.json", "--synthetic", "--set", "dropout=0"], "all share"),
        (["--model", "maskrcnn", "--output", "row.json", "--synthetic", "--ablation", "shared_query"], "all share"),
    ):
        with pytest.raises(SystemExit):
            peers.parse(given)
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit, match="--fashionformer PATH"):
        peers.build_contestant("fashionformer", None, CANVAS)
