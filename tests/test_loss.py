"""The loss and the matching against arithmetic by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from fashion_detr import FashionDetrConfig
from fashion_detr.loss_fashion_detr import FashionDetrLoss, Targets, _mean_over_processes, focal_and_dice

LN2 = math.log(2)
SURE = 20.0  # a logit whose sigmoid is 1 for all purposes
Labels = dict[str, list[torch.Tensor]]


def loss_config(classes: int = 3, attributes: int = 4, **fields: Any) -> FashionDetrConfig:
    return FashionDetrConfig(
        id2label={index: f"class {index}" for index in range(classes)},
        id2attribute={index: f"attribute {index}" for index in range(attributes)},
        **fields,
    )


def prediction(masks: torch.Tensor, classes: torch.Tensor, attributes: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"masks_queries_logits": masks, "class_queries_logits": classes, "attribute_queries_logits": attributes}


def undecided(batch: int, queries: int, config: FashionDetrConfig, side: int) -> dict[str, torch.Tensor]:
    """All logits 0: every probability is one half."""
    return prediction(
        torch.zeros(batch, queries, side, side),
        torch.zeros(batch, queries, config.num_labels),
        torch.zeros(batch, queries, config.num_attributes),
    )


def terms_of(
    stage: dict[str, torch.Tensor], labels: Labels, config: FashionDetrConfig, pixel_mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of one stage whose initial masks are its own, and its internal ones every other pixel of them."""
    internal = stage["masks_queries_logits"][..., ::2, ::2]
    initial = {name: stage[name] for name in ("masks_queries_logits", "class_queries_logits")}
    return FashionDetrLoss(config)([initial, stage], [internal], **labels, pixel_mask=pixel_mask)


def garments(seed: int = 0, count: int = 4, side: int = 64) -> Labels:
    """One image of overlapping boxes whose borders lie on the larger of both strides."""
    random = torch.Generator().manual_seed(seed)
    masks = torch.zeros(count, side, side)
    for mask in masks:
        top, left, height, width = (8 * int(n) for n in torch.randint(1, side // 16, (4,), generator=random))
        mask[top : top + height, left : left + width] = 1
    return {
        "mask_labels": [masks],
        "class_labels": [torch.randint(3, (count,), generator=random)],
        "attribute_labels": [torch.randint(2, (count, 4), generator=random).float()],
    }


def perfect(labels: Labels, queries: int, order: torch.Tensor) -> dict[str, torch.Tensor]:
    """Query `order[i]` predicts instance i with certainty; the other queries predict nothing."""
    (masks,), (classes,), (attributes,) = labels.values()
    side = masks.shape[-1] // 4
    stage = prediction(*(torch.full((1, queries, *shape), -SURE) for shape in ((side, side), (3,), (4,))))
    stage["masks_queries_logits"][0, order] = SURE * (2 * masks[:, ::4, ::4] - 1)
    stage["class_queries_logits"][0, order, classes] = SURE
    stage["attribute_queries_logits"][0, order] = SURE * (2 * attributes - 1)
    return stage


def test_terms_by_hand():
    config = loss_config(
        classes=2, attributes=2, class_loss_weight=2, mask_loss_weight=3, dice_loss_weight=5, attribute_loss_weight=7
    )
    mask = torch.zeros(1, 8, 8)
    mask[:, :4] = 1  # two of the four cells
    labels = {
        "mask_labels": [mask],
        "class_labels": [torch.tensor([1])],
        "attribute_labels": [torch.tensor([[1.0, 0.0]])],
    }
    loss, terms = terms_of(undecided(1, 1, config, 2), labels, config)
    # At probability 1/2 a positive costs 0.25 * (1/2)^2 * ln 2, a negative 0.75 * (1/2)^2 * ln 2.
    positive, negative = 0.25 * 0.25 * LN2, 0.75 * 0.25 * LN2
    expected = {
        "class_stage1": positive + negative,
        "attribute_stage1": 2 * LN2 / math.sqrt(2),  # two decisions, divided by the root of two attributes
        # A cell costs the same whichever way it is wrong on average; dice: 2 * 2 * 1/2 over 4 * 1/4 + 2.
        **{f"mask_{name}": (positive + negative) / 2 for name in ("initial", "internal1", "stage1")},
        **{f"dice_{name}": 1 - 2.001 / 3.001 for name in ("initial", "stage1")},
        "dice_internal1": 0,  # at stride 8 there is one cell, covered to one half, which is what was predicted
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert float(terms[name]) == pytest.approx(value, rel=1e-5, abs=1e-6), name
    weights = {"class": 2, "mask": 3, "dice": 5, "attribute": 7}
    assert float(loss) == pytest.approx(sum(weights[n.split("_")[0]] * value for n, value in expected.items()))


def test_class_term_counts_every_query_and_divides_by_instances():
    config = loss_config()
    labels = garments(count=2)
    _, terms = terms_of(undecided(1, 5, config, 16), labels, config)
    # 5 queries x 3 classes: 2 positives, 13 negatives; 2 instances.
    assert float(terms["class_stage1"]) == pytest.approx((2 * 0.25 + 13 * 0.75) * 0.25 * LN2 / 2, rel=1e-5)
    # 2 instances x 4 attributes, divided by the instances and by the root of the attributes.
    assert float(terms["attribute_stage1"]) == pytest.approx(8 * LN2 / 2 / 2, rel=1e-5)


def test_perfect_prediction_is_found_and_costs_nothing():
    config, labels, order = loss_config(), garments(), torch.tensor([5, 0, 3, 6])
    stage = perfect(labels, 8, order)
    targets = Targets(**labels, pixel_mask=None, logits=stage["masks_queries_logits"])
    images, queries, instances = FashionDetrLoss(config).match([stage], targets)
    assert images.tolist() == [0] * 4
    assert torch.equal(order[instances], queries)
    loss, terms = terms_of(stage, labels, config)
    assert all(float(term) < 1e-5 for term in terms.values()), terms
    assert float(loss) < 1e-4


@pytest.mark.parametrize("side", [61, 62, 63, 64])
def test_a_cell_that_is_partly_image_is_told_by_that_part(side: int):
    """A garment over the whole of an image whose side is no multiple of the stride, alone and on a larger canvas."""
    labels = {"class_labels": [torch.tensor([0])], "attribute_labels": [torch.zeros(1, 4)]}
    canvas = torch.zeros(1, 64, 64)
    canvas[:, :side, :side] = 1
    for masks, pixel_mask in ((torch.ones(1, side, side), None), (canvas, canvas)):
        targets = Targets([masks], **labels, pixel_mask=pixel_mask, logits=torch.zeros(1, 1, 16, 16))
        assert targets.masks.eq(1).all()
        assert targets.coarse_masks.eq(1).all()
    half = torch.ones(1, side, side)
    half[..., side - 1 :] = 0  # but for the last column of pixels
    targets = Targets([half], **labels, pixel_mask=None, logits=torch.zeros(1, 1, 16, 16))
    last = side - 60  # pixels of the last cell that are image
    assert targets.masks.unflatten(1, (16, 16))[0, :, -1].tolist() == pytest.approx([(last - 1) / last] * 16)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"class_labels": [torch.zeros(1, 1, dtype=torch.long)]}, "have to be indices"),
        ({"class_labels": [torch.tensor([1.9])]}, "have to be indices"),
        ({"class_labels": [[1]]}, "class labels of image 0 have to be a tensor, found list"),
        ({"mask_labels": [np.ones((1, 32, 32))]}, "masks of image 0 have to be a tensor, found ndarray"),
    ],
)
def test_labels_of_another_kind_are_named(wrong: dict[str, Any], message: str):
    config = loss_config()
    with pytest.raises(ValueError, match=message):
        terms_of(undecided(1, 3, config, 8), garments(count=1) | wrong, config)


def test_class_tells_instances_of_the_same_mask_apart():
    config, labels, order = loss_config(), garments(count=2), torch.tensor([2, 1])
    labels["mask_labels"][0][1] = labels["mask_labels"][0][0]
    labels["class_labels"][0] = torch.tensor([0, 2])
    _, terms = terms_of(perfect(labels, 4, order), labels, config)
    assert float(terms["class_stage1"]) < 1e-5


def random_stage(batch: int, seed: int = 3) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return prediction(*(torch.randn(batch, 8, *shape, generator=random) for shape in ((16, 16), (3,), (4,))))


def test_order_of_the_instances_does_not_matter():
    config, labels, order = loss_config(), garments(), torch.tensor([2, 0, 3, 1])
    shuffled = {name: [tensor[order] for tensor in tensors] for name, tensors in labels.items()}
    _, terms = terms_of(random_stage(1), labels, config)
    _, other = terms_of(random_stage(1), shuffled, config)
    assert all(float(terms[name]) == pytest.approx(float(other[name]), rel=1e-5) for name in terms)


def test_a_batch_is_matched_image_by_image():
    config, stage = loss_config(), random_stage(3)
    images = [garments(seed=1), garments(seed=2, count=0), garments(seed=3, count=2)]
    batch = {name: [image[name][0] for image in images] for name in images[0]}
    criterion = FashionDetrLoss(config)
    masks = stage["masks_queries_logits"]
    together = criterion.match([stage], Targets(**batch, pixel_mask=None, logits=masks))
    assert together[0].tolist() == [0] * 4 + [2] * 2
    summed: dict[str, float] = {}
    for row, image in enumerate(images):
        alone = {name: logits[row : row + 1] for name, logits in stage.items()}
        _, queries, instances = criterion.match([alone], Targets(**image, pixel_mask=None, logits=masks[row : row + 1]))
        mine = together[0] == row
        first = sum(len(before["class_labels"][0]) for before in images[:row])
        assert torch.equal(together[1][mine], queries) and torch.equal(together[2][mine] - first, instances)
        for name, term in terms_of(alone, image, config)[1].items():
            summed[name] = summed.get(name, 0) + float(term) * max(1, len(image["class_labels"][0]))
    _, terms = terms_of(stage, batch, config)
    for name, total in summed.items():
        assert float(terms[name]) == pytest.approx(total / 6, rel=1e-4)


def test_all_predictions_share_the_assignment_of_least_total_cost():
    """The initial masks know half of the instances, the last stage the others: together they know all."""
    config, labels, order = loss_config(), garments(), torch.tensor([5, 0, 3, 6])
    full, unsure = perfect(labels, 8, order), undecided(1, 8, config, 16)
    early, late = ({name: logits.clone() for name, logits in unsure.items()} for _ in range(2))
    for name in full:
        early[name][:, order[:2]] = full[name][:, order[:2]]
        late[name][:, order[2:]] = full[name][:, order[2:]]
    initial = {name: early[name] for name in ("masks_queries_logits", "class_queries_logits")}
    targets = Targets(**labels, pixel_mask=None, logits=full["masks_queries_logits"])
    _, queries, instances = FashionDetrLoss(config).match([initial, late], targets)
    assert torch.equal(order[instances], queries)


def test_the_most_expensive_instances_stay_unmatched():
    config, labels = loss_config(), garments(count=4)
    order = torch.tensor([1, 0])
    known = {name: [tensors[0][[0, 2]]] for name, tensors in labels.items()}
    stage = perfect(known, 2, order)
    targets = Targets(**labels, pixel_mask=None, logits=stage["masks_queries_logits"])
    _, queries, instances = FashionDetrLoss(config).match([stage], targets)
    assert dict(zip(instances.tolist(), queries.tolist())) == {0: 1, 2: 0}


def test_one_pixel_is_still_an_instance():
    config, labels = loss_config(), garments(count=1, side=32)
    labels["mask_labels"][0].zero_()[0, 13, 22] = 1
    stage = undecided(1, 2, config, 8)
    targets = Targets(**labels, pixel_mask=None, logits=stage["masks_queries_logits"])
    assert targets.masks.sum() == 1 / 16
    assert targets.masks.view(8, 8)[3, 5] == 1 / 16
    logits = torch.full((1, 2, 8, 8), -SURE)
    logits[0, 1, 3, 5] = math.log((1 / 16) / (15 / 16))
    _, terms = terms_of({**stage, "masks_queries_logits": logits}, labels, config)
    assert float(terms["dice_stage1"]) < 1e-3


def test_a_half_covered_cell_is_predicted_at_one_half():
    # The threshold has to lie on the border.
    logits = torch.zeros(1, 4, requires_grad=True)
    focal, _ = focal_and_dice(logits, torch.full((1, 4), 0.5), torch.ones(1, 4), gamma=2)
    (slope,) = torch.autograd.grad(focal, logits)
    assert slope.abs().max() < 1e-6


def test_padding_does_not_count():
    config, labels, stage = loss_config(), garments(), random_stage(1)
    pixel_mask = torch.ones(1, 64, 64, dtype=torch.long)
    pixel_mask[:, :, 40:] = 0
    _, terms = terms_of(stage, labels, config, pixel_mask)
    labels["mask_labels"][0][..., 40:] = 1
    stage["masks_queries_logits"][..., 10:] = 7
    _, other = terms_of(stage, labels, config, pixel_mask)
    assert terms.keys() == other.keys()
    assert all(torch.equal(terms[name], other[name]) for name in terms)
    _, whole = terms_of(stage, labels, config)
    assert whole["mask_stage1"] != terms["mask_stage1"]


def test_a_diverged_model_reaches_the_check_of_its_loss():
    config, labels, stage = loss_config(), garments(), random_stage(1)
    stage["masks_queries_logits"].fill_(float("nan"))
    loss, _ = terms_of(stage, labels, config)
    assert not loss.isfinite()


def test_half_precision_logits_are_summed_in_float32():
    config, labels, stage = loss_config(), garments(), random_stage(1)
    half = {name: logits.bfloat16() for name, logits in stage.items()}
    expected, _ = terms_of({name: logits.float() for name, logits in half.items()}, labels, config)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = terms_of(half, labels, config)
    assert loss.dtype == torch.float32 and loss == expected


def broken(**changes: list[torch.Tensor]) -> Labels:
    return garments() | changes


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (broken(class_labels=[]), "each of the 1 images"),
        (broken(class_labels=[torch.zeros(3, dtype=torch.long)]), "3 class labels"),
        (broken(attribute_labels=[torch.zeros(4, 5)]), "attributes"),
        (broken(mask_labels=[torch.zeros(4, 16, 16)]), "size of `pixel_values`"),
        (broken(mask_labels=[torch.zeros(64, 64)]), "masks"),
        (broken(class_labels=[torch.tensor([0, 1, 2, 3])]), "0 to 2"),
        (broken(class_labels=[torch.tensor([0, 1, 2, -1])]), "0 to 2"),
        (broken(mask_labels=[255 * garments()["mask_labels"][0]]), "Masks of image 0 run from 0 to 255"),
        (broken(attribute_labels=[garments()["attribute_labels"][0] - 3]), "Attributes of image 0 run from -3"),
    ],
)
def test_labels_that_do_not_fit_are_named(labels, message):
    with pytest.raises(ValueError, match=message):
        terms_of(random_stage(1), labels, loss_config())


def _average(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    counts = _mean_over_processes(torch.tensor([3.0, 4.0][rank]))
    torch.save(counts, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_divide_by_their_mean(tmp_path):
    """3 and 4 instances: both divide by 3.5, as one process with all 7 would after averaging the gradients."""
    torch.multiprocessing.spawn(_average, args=(str(tmp_path),), nprocs=2)
    assert [torch.load(tmp_path / f"{rank}.pt").item() for rank in range(2)] == [3.5, 3.5]
    assert _mean_over_processes(torch.tensor(3.0)).item() == 3


def test_more_instances_than_queries_are_told(tiny_model, random_labels, caplog):
    queries = tiny_model.config.num_queries
    for count, told in ((queries, False), (queries + 1, True)):
        loss = tiny_model(torch.rand(1, 3, 64, 64), **random_labels(tiny_model.config, [count], (64, 64))).loss
        assert torch.isfinite(loss) and (f"(`num_queries`: {queries})" in caplog.text) == told


def test_the_number_that_divides_can_be_given(tiny_model, random_labels):
    """Three instances: divided by 6 each term is half of what it is; a number of 0 divides like 1."""
    pixels, labels = torch.rand(2, 3, 64, 64), random_labels(tiny_model.config, [1, 2], (64, 64))
    by_three, by_six, by_none = (
        tiny_model(pixels, **labels, num_items_in_batch=number).loss.item() for number in (None, torch.tensor(6.0), 0)
    )
    assert by_six == pytest.approx(by_three / 2, rel=1e-5)
    assert by_none == pytest.approx(by_three * 3, rel=1e-5)
