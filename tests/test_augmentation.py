"""Training samples: photo, masks, classes and attributes change together, and by the key alone."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from PIL.ExifTags import Base
from pycocotools import mask as coco_mask
from scipy.ndimage import binary_erosion
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional as tvF

from fashion_detr import FashionDetrConfig, FashionDetrImageProcessor
from fashion_detr.data.augmentation import Augmentation, paste, pick, recolor
from fashion_detr.data.dataset import FashionDataset, collate
from fashion_detr.data.scene import Instance, Placement, Scene, place
from fashion_detr.data.synthetic import SyntheticEnsembles

CONFIG = FashionDetrConfig()
EVERYTHING = Augmentation((0.5, 2.0), 0.5, 0.3, 0.7)
# One a category. No colour lies between two others, or between another and the grey of the photos.
COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255)]
GREY = (40, 40, 40)

seeds = st.integers(0, 10**6)


def processor(height: int, width: int) -> FashionDetrImageProcessor:
    return FashionDetrImageProcessor(size={"height": height, "width": width})


def ensembles(count: int, height: int = 128, width: int = 96) -> SyntheticEnsembles:
    return SyntheticEnsembles(count, height, width)


def attributes_of(category: int) -> list[int]:
    return [CONFIG.attribute_ids[category], CONFIG.attribute_ids[40 + category]]


def annotate(segmentation, category: int = 0, **fields) -> dict:
    names = {"id": category, "image_id": 1, "category_id": category, "attribute_ids": attributes_of(category)}
    return names | {"segmentation": segmentation} | fields


def box(x0: float, y0: float, x1: float, y1: float) -> list[float]:
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def painted(size: tuple[int, int], layers: dict[int, tuple[int, int, int, int]], as_polygons: bool) -> dict:
    """A photo with a box `(x0, y0, x1, y1)` a category, each in the category's colour, later ones on top."""
    image = Image.new("RGB", size[::-1], GREY)
    annotations = []
    for category, (x0, y0, x1, y1) in layers.items():
        ImageDraw.Draw(image).rectangle([x0, y0, x1 - 1, y1 - 1], fill=COLORS[category])
        mask = np.zeros(size, dtype=np.uint8, order="F")
        mask[y0:y1, x0:x1] = 1
        annotations.append(annotate([box(x0, y0, x1, y1)] if as_polygons else coco_mask.encode(mask), category))
    return {"image": image, "image_id": 1, "annotations": annotations}


def blob(random: np.random.Generator, size: tuple[int, int], points: int = 60) -> list[float]:
    """A closed wavy outline, part of which may lie outside of the photo."""
    height, width = size
    angles = np.sort(random.uniform(0, 2 * np.pi, points))
    radius = 1 + 0.2 * np.sin(3 * angles + random.uniform(0, 6)) + 0.05 * np.sin(7 * angles)
    x = random.uniform(0.2, 0.8) * width + random.uniform(0.1, 0.5) * width * radius * np.cos(angles)
    y = random.uniform(0.2, 0.8) * height + random.uniform(0.1, 0.5) * height * radius * np.sin(angles)
    return np.stack([x, y], axis=1).ravel().tolist()


def instance(rows: slice, columns: slice, category: int = 0, share: int = 255) -> Instance:
    shares = np.full((rows.stop - rows.start, columns.stop - columns.start), share, dtype=np.uint8)
    return Instance({"id": category, "category_id": category}, shares, rows.start, columns.start)


def drawn(scene: Scene) -> np.ndarray:
    """All masks of a scene, `(n, h, w)` in 0..1."""
    masks = np.zeros((len(scene.instances), *scene.size))
    for mask, one in zip(masks, scene.instances):
        mask[one.box] = one.shares / 255
    return masks


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


@pytest.mark.parametrize("canvas", [(120, 90), (166, 128), (80, 80)])
def test_an_augmentation_that_changes_nothing_gives_what_the_processor_gives(canvas):
    random = np.random.default_rng(0)
    size = (120, 90)
    mask = np.zeros(size, dtype=bool)
    mask[20:80, 3:60] = random.random((60, 57)) < 0.7
    encodings = {
        "polygons": [[5.5, 60, 40, 3.2, 84, 50, 90, 121, 30, 100], box(2, 3, 20, 16)],
        "run lengths": coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)),
        "array": mask,
        "shares": random.random(size).astype(np.float32),
    }
    annotations = [annotate(segmentation, category) for category, segmentation in enumerate(encodings.values())]
    annotations.append(annotate(mask, iscrowd=1))
    pixels = random.integers(256, size=(*size, 3), dtype=np.uint8)
    photo = Image.fromarray(pixels)
    turned = photo.transpose(Image.Transpose.ROTATE_90)  # as a camera that was held upright stores it
    turned.getexif()[Base.Orientation] = 6
    for image in (pixels, photo, turned):
        examples = [{"image": image, "image_id": 1, "annotations": annotations}]
        expected = FashionDataset(examples, processor(*canvas), CONFIG)[0]
        sample = FashionDataset(examples, processor(*canvas), CONFIG, Augmentation())[0]
        assert torch.equal(sample["pixel_values"], expected["pixel_values"])
        assert torch.equal(sample["pixel_mask"], expected["pixel_mask"].bool())
        for name in ("class_labels", "attribute_labels"):
            assert torch.equal(sample[name], expected[name])
        judged = FashionDataset(examples, processor(*canvas), CONFIG, with_ground_truth=True)[0]
        assert judged["meta"]["size"] == size
        bare = FashionDataset(examples, processor(*canvas), CONFIG, with_ground_truth=True, with_labels=False)[0]
        assert bare.keys() == {"pixel_values", "pixel_mask", "meta"} and bare["meta"] == judged["meta"]
        masks, expected = sample["mask_labels"].float(), expected["mask_labels"]
        assert (masks[1:] - expected[1:]).abs().max() < 1.6 / 255
        if canvas == size:
            assert torch.equal(masks[:3], expected[:3])
        # Polygons are drawn at the new size, not resized: the same shape, with another rim.
        assert iou((masks[0] > 0.5).numpy(), (expected[0] > 0.5).numpy()) > 0.97


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_polygons_drawn_at_the_canvas_size_agree_with_resized_masks(seed):
    random = np.random.default_rng(seed)
    size = tuple(random.integers(150, 400, size=2).tolist())
    height, width = (int(random.integers(side // 2, side + 1)) for side in size)
    top, left = int(random.integers(size[0] - height + 1)), int(random.integers(size[1] - width + 1))
    scale = random.uniform(0.3, 2.5)
    placed = (round(height * scale), round(width * scale))
    placement = Placement((top, left, height, width), placed, bool(random.integers(2)))
    polygons = [blob(random, size), blob(random, size)]
    whole = coco_mask.merge(coco_mask.frPyObjects(polygons, *size))
    image = np.zeros((*size, 3), dtype=np.uint8)
    example = {"image": image, "image_id": 1, "annotations": [annotate(polygons), annotate(whole)]}
    scene = place(example, placement)
    masks = drawn(scene)
    if len(masks) and masks[0].sum() > 4000:
        assert iou(*(masks > 0.5)) > 0.97
        assert scene.instances[0].area == pytest.approx(scene.instances[1].area, rel=0.02)


@pytest.mark.parametrize("scale", [0.5, 0.57, 0.83, 1.0, 1.7])
@pytest.mark.parametrize("encoding", ["polygon", "array"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_button_of_three_pixels_keeps_its_place_and_area(scale, encoding, mirrored):
    """Wherever it lies it is there; on average it is neither larger nor smaller, nor beside its place."""
    size, placed = (100, 100), (round(100 * scale),) * 2
    image = np.zeros((*size, 3), dtype=np.uint8)
    areas, shifts = [], []
    for x, y in np.random.default_rng(0).uniform(3, 90, size=(100, 2)):
        if encoding == "polygon":
            segmentation = [box(x, y, x + 3, y + 3)]
        else:
            x, y = int(x), int(y)
            segmentation = np.zeros(size)
            segmentation[y : y + 3, x : x + 3] = 1
        example = {"image": image, "image_id": 1, "annotations": [annotate(segmentation)]}
        scene = place(example, Placement((0, 0, *size), placed, mirrored))
        (button,), (mask,) = scene.instances, drawn(scene)
        areas.append(button.area / (9 * scale**2))
        middle = (np.argwhere(mask > 0) + 0.5).T @ mask[mask > 0] / mask.sum()
        shifts.append(middle - np.array([y + 1.5, 100 - x - 1.5 if mirrored else x + 1.5]) * scale)
    assert min(areas) > 0.6 and max(areas) < 1.5 and np.mean(areas) == pytest.approx(1, abs=0.06)
    assert np.abs(shifts).max() < 0.6 and np.abs(np.mean(shifts, axis=0)).max() < 0.1


def test_cropping_cuts_masks_and_drops_what_is_not_seen():
    """By hand: of 8 x 8 pixels the window shows rows 2..5 and columns 4..7, twice as large and mirrored."""
    layers = {0: (0, 0, 4, 8), 1: (5, 3, 8, 5), 2: (4, 0, 8, 2), 3: (3, 5, 6, 8)}
    for as_polygons in (True, False):
        scene = place(painted((8, 8), layers, as_polygons), Placement((2, 4, 4, 4), (8, 8), mirrored=True))
        assert [one.annotation["category_id"] for one in scene.instances] == [1, 3]
        assert not {"bbox", "area", "segmentation"} & set(scene.instances[0].annotation)
        expected = np.zeros((2, 8, 8))
        expected[0, 2:6, 0:6] = 1
        expected[1, 6:8, 4:8] = 1
        assert np.array_equal(drawn(scene) > 0.5, expected > 0.5)
        if as_polygons:
            assert [one.bbox for one in scene.instances] == [[0, 2, 6, 4], [4, 6, 4, 2]]
            assert [one.area for one in scene.instances] == [24, 8]
        assert torch.equal(
            scene.image.flip(-1), place(painted((8, 8), layers, True), Placement((2, 4, 4, 4), (8, 8))).image
        )


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_mirroring_twice_is_identity(seed):
    random = np.random.default_rng(seed)
    size = (50, 37)
    window, placed = (3, 5, 40, 30), ((40, 30), (57, 43), (20, 15))[seed % 3]
    image = random.integers(256, size=(*size, 3), dtype=np.uint8)
    annotations = [annotate([blob(random, size)]), annotate(random.random(size) < 0.5)]
    example = {"image": image, "image_id": 1, "annotations": annotations}
    plain, mirrored = (place(example, Placement(window, placed, flip)) for flip in (False, True))
    assert torch.equal(plain.image, mirrored.image.flip(-1))
    assert np.array_equal(drawn(plain), drawn(mirrored)[:, :, ::-1])


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(20, 90), st.integers(20, 90), st.booleans(), st.booleans())
def test_pixels_masks_classes_and_attributes_stay_together(seed, height, width, as_polygons, pasting):
    """
    Each category has a colour of its own in two painted photos. Whatever is cropped, mirrored, resized, pasted and
    covered: the pixels of a mask show its colour, the attributes are its category's, what is seen is labelled (but the
    remainders of what is covered), and nothing is there twice.
    """
    boxes = {0: (4, 6, 30, 50), 1: (8, 20, 18, 30), 2: (34, 2, 47, 40)}
    others = {3: (5, 5, 40, 40), 4: (20, 10, 34, 36), 5: (45, 3, 66, 25)}
    examples = [painted((60, 48), boxes, as_polygons), painted((44, 70), others, as_polygons)]
    augmentation = Augmentation((0.5, 2.0), 0.5, copy_paste_probability=float(pasting))
    data = FashionDataset(examples, processor(height, width), CONFIG, augmentation, seed=seed)
    sample, scene = data[seed % 2], data.augmented(seed % 2)
    masks, classes = sample["mask_labels"].float().numpy(), sample["class_labels"].tolist()
    assert len(set(classes)) == len(classes) == len(scene.instances)
    assert not masks[:, ~sample["pixel_mask"].numpy()].any()
    masks = masks[:, : scene.size[0], : scene.size[1]]
    image = scene.image.numpy().astype(int)
    for label, attributes, mask, one in zip(classes, sample["attribute_labels"], masks, scene.instances):
        assert attributes.nonzero().flatten().tolist() == [label, 40 + label]
        rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
        x, y = columns[0], rows[0]
        assert one.bbox == [x, y, columns[-1] + 1 - x, rows[-1] + 1 - y]
        assert one.area == pytest.approx(mask.sum(), rel=1e-3) and one.area >= 0.5
        # Away from the border, and where no smaller mask (a part on its garment) is near, the colour is pure.
        near = sum((other for other in masks if other.sum() < mask.sum()), np.zeros_like(mask))
        inside = binary_erosion((mask > 0.999) & (near == 0), iterations=3)
        assert (abs(image[:, inside] - np.array(COLORS[label])[:, None]) <= 2).all()
    for label in set(boxes | others) - set(classes):
        seen = (abs(image - np.array(COLORS[label])[:, None, None]) <= 2).all(axis=0).sum()
        x0, y0, x1, y1 = (boxes | others)[label]
        ratio = 2 * max(height / 44, width / 48)
        assert seen <= (0.1 * (x1 - x0) * (y1 - y0) * ratio**2 if pasting else 0)


def test_what_lies_below_a_pasted_garment_loses_its_pixels():
    """By hand, on 10 x 10 pixels: a garment of 6 x 6 at (2, 2), its rim half covered, is pasted at (1, 0)."""
    garment = instance(slice(1, 7), slice(2, 8), 9)
    garment.shares[0] = 128
    layer = Scene(torch.full((3, 8, 9), 201, dtype=torch.uint8), [garment, instance(slice(3, 4), slice(3, 5), 8)])
    below = [
        instance(slice(0, 10), slice(0, 10), 0),  # a coat below all of it
        instance(slice(4, 6), slice(4, 6), 1),  # its pocket: hidden
        instance(slice(3, 8), slice(6, 9), 2),  # 5 of 15 pixels left
        instance(slice(3, 8), slice(2, 8), 3, share=200),  # nothing left
        instance(slice(7, 10), slice(2, 3), 4),  # 2 of 3 left
        instance(slice(2, 3), slice(2, 4), 5),  # below the half covered row
        instance(slice(2, 3), slice(4, 6), 11, share=200),  # 200 * 127 / 255 = 99.6 of 255 are left
        instance(slice(0, 2), slice(0, 9), 6),  # beside it
        instance(slice(3, 9), slice(3, 5), 7),  # 2 of 12 left: 17 %
        instance(slice(3, 8), slice(3, 9), 10, share=255),  # 5 of 30 left
    ]
    below[-1].shares[:, -1] = 128  # of which half: 2.5 of 27.5, 9 %
    photo = Scene(torch.full((3, 10, 10), 100, dtype=torch.uint8), below)
    scene = paste(layer, photo, top=1, left=0)
    assert [one.annotation["category_id"] for one in scene.instances] == [0, 2, 4, 5, 11, 6, 7, 9, 8]
    expected = [
        ([0, 0, 10, 10], 100 - 30 - 6 * 128 / 255),
        ([8, 3, 1, 5], 5),
        ([2, 8, 1, 2], 2),
        ([2, 2, 2, 1], 2 * 127 / 255),
        ([4, 2, 2, 1], 2 * 100 / 255),
        ([0, 0, 9, 2], 18),
        ([3, 8, 2, 1], 2),
        ([2, 2, 6, 6], 30 + 6 * 128 / 255),
        ([3, 4, 2, 1], 2),
    ]
    assert [one.bbox for one in scene.instances] == [bbox for bbox, _ in expected]
    assert [one.area for one in scene.instances] == pytest.approx([area for _, area in expected])
    image = torch.full((10, 10), 100)
    image[3:8, 2:8] = 201
    image[2, 2:8] = 151  # 100 + 101 * 128 / 255
    assert torch.equal(scene.image.long(), image.expand(3, 10, 10))
    assert below[0].area == 100 and (photo.image == 100).all()  # what was handed in is as it was


def test_garments_are_taken_with_all_that_lies_on_them():
    """The zipper hangs from the coat's pocket, half of which lies beside the coat; two coats alike are one."""
    coat, pocket, zipper = (slice(0, 20), slice(0, 20)), (slice(14, 26), slice(5, 11)), (slice(21, 25), slice(8, 10))
    boxes = [zipper, (slice(0, 4), slice(30, 34)), coat, pocket, (slice(18, 22), slice(25, 26)), coat]
    instances = [instance(*rows_columns, category) for category, rows_columns in enumerate(boxes)]
    found = {
        frozenset(one.annotation["category_id"] for one in pick(instances, np.random.default_rng(seed)))
        for seed in range(60)
    }
    coat_and_its_parts, hat, bag = {0, 2, 3, 5}, {1}, {4}
    combinations = [coat_and_its_parts, hat, bag, coat_and_its_parts | hat, coat_and_its_parts | bag, hat | bag]
    assert found == {frozenset(one) for one in [*combinations, coat_and_its_parts | hat | bag]}
    assert pick([], np.random.default_rng(0)) == []


def test_copy_paste_takes_another_photo_and_fits_it_to_the_first():
    examples = [painted((30, 20), {category: (2, 2, 18, 28)}, True) for category in range(4)]

    def shown(augmentation: Augmentation, count: int, seed: int) -> Scene:
        return augmentation(examples[:count], 1 % count, (60, 60), np.random.default_rng(seed))

    always, half_size = (Augmentation(scale, copy_paste_probability=1.0) for scale in ((1.0, 1.0), (0.5, 0.5)))
    taken = []
    for seed in range(30):
        first, second = shown(half_size, 4, seed).instances
        assert (first.annotation["category_id"], first.bbox[2:], second.bbox[2:]) == (1, [16, 26], [8, 13])
        (hiding,) = shown(always, 4, seed).instances
        assert hiding.annotation["category_id"] != 1 and hiding.bbox == [4, 4, 32, 52]
        taken.append(hiding.annotation["category_id"])
    assert set(taken) == {0, 2, 3}
    assert len(shown(always, 1, 0).instances) == 1  # there is no other photo


def test_samples_depend_on_seed_epoch_and_index_only():
    data, again = (FashionDataset(ensembles(4), processor(128, 96), CONFIG, EVERYTHING, seed=7) for _ in range(2))
    _, second = data[2], data[1]
    assert all(torch.equal(second[name], again[1][name]) for name in second)
    again.set_epoch(1)
    assert not torch.equal(second["pixel_values"], again[1]["pixel_values"])
    other_seed = FashionDataset(ensembles(4), processor(128, 96), CONFIG, EVERYTHING, seed=8)
    assert not torch.equal(second["pixel_values"], other_seed[1]["pixel_values"])
    (batch,) = DataLoader(data, batch_size=4, num_workers=2, collate_fn=collate)
    for index in range(4):
        sample = data[index]
        assert torch.equal(batch["pixel_values"][index], sample["pixel_values"])
        assert torch.equal(batch["mask_labels"][index], sample["mask_labels"])
        assert sample["mask_labels"].flatten(1).sum(dim=1).min() > 0
        assert sample["mask_labels"].min() >= 0 and sample["mask_labels"].max() <= 1
        assert len(sample["mask_labels"]) == len(sample["class_labels"]) == len(sample["attribute_labels"])
        assert (sample["mask_labels"] * ~sample["pixel_mask"]).sum() == 0


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_scale_window_and_size_fit(seed):
    random = np.random.default_rng(seed)
    photo, canvas = (tuple(random.integers(8, 200, size=2).tolist()) for _ in range(2))
    example = {"image": np.zeros((*photo, 3), dtype=np.uint8), "image_id": 1, "annotations": []}
    factor = random.uniform(0.5, 2)
    scene = Augmentation((factor, factor), 0.5)([example], 0, canvas, random)
    ratio = factor * min(canvas[0] / photo[0], canvas[1] / photo[1])
    expected = [min(limit, max(1, round(side * ratio))) for side, limit in zip(photo, canvas)]
    assert list(scene.size) == expected
    sample = FashionDataset([example], processor(*canvas), CONFIG, Augmentation((factor, factor)))[0]
    assert sample["mask_labels"].shape == (0, *canvas) and sample["attribute_labels"].shape == (0, 294)
    assert sample["pixel_mask"].sum() == expected[0] * expected[1]


def test_every_window_of_an_enlarged_photo_is_shown():
    """Twice the size shows 2 x 2 of 4 x 4 pixels, whose corner keeps its value."""
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4, 1).repeat(3, axis=2)
    example = {"image": pixels, "image_id": 1, "annotations": []}
    random = np.random.default_rng(0)
    corners = {int(Augmentation((2.0, 2.0))([example], 0, (4, 4), random).image[0, 0, 0]) for _ in range(150)}
    assert corners == {0, 1, 2, 4, 5, 6, 8, 9, 10}


@settings(max_examples=30, deadline=None)
@given(seeds, st.floats(0.6, 1.4))
def test_colours_change_as_torchvision_changes_them(seed, factor):
    random = np.random.default_rng(seed)
    image = torch.from_numpy(random.integers(256, size=(3, 9, 7), dtype=np.uint8))
    arguments = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "turn": 0.0}
    assert torch.equal(recolor(image, **arguments), image)
    for name in ("brightness", "contrast", "saturation"):
        expected = getattr(tvF, f"adjust_{name}")(image, factor)
        assert (recolor(image, **arguments | {name: factor}).int() - expected.int()).abs().max() <= 2
    soft = image // 4 + 90  # so that nothing is clipped in between
    expected = tvF.adjust_saturation(tvF.adjust_contrast(tvF.adjust_brightness(soft, 0.8), factor), 2 - factor)
    assert (recolor(soft, 0.8, factor, 2 - factor, 0.0).int() - expected.int()).abs().max() <= 3
    grey = image[:1].expand(3, -1, -1)
    assert torch.equal(recolor(grey, 1.0, 1.0, factor, factor), grey)


def test_hue_turns_red_to_green_and_keeps_the_luma():
    red = torch.tensor([150, 110, 110], dtype=torch.uint8)[:, None, None]
    turned = recolor(red, 1.0, 1.0, 1.0, 1 / 3).flatten()
    assert turned.argmax() == 1
    luma = torch.tensor([0.299, 0.587, 0.114])
    assert float(luma @ turned.float()) == pytest.approx(float(luma @ red.flatten().float()), abs=1)


def test_errors_say_what_is_wrong():
    for scales in ((2.0, 0.5), (1.0, math.inf), (1.0,), "ab"):
        with pytest.raises(ValueError, match="scale_range"):
            Augmentation(scale_range=scales)
    for fields in ({"copy_paste_probability": 1.5}, {"color_jitter": -0.1}):
        with pytest.raises(ValueError, match=next(iter(fields))):
            Augmentation(**fields)
    with pytest.raises(ValueError, match="augmentation"):
        FashionDataset([], processor(8, 8), CONFIG, Augmentation(), with_ground_truth=True)

    def sample(annotation, augmentation):
        crowd = annotate(np.ones((8, 6), dtype=bool), iscrowd=1)
        example = {"image": np.zeros((8, 6, 3), dtype=np.uint8), "image_id": 1, "annotations": [crowd, annotation]}
        return FashionDataset([example], processor(8, 8), CONFIG, augmentation)[0]

    for image, found in ((np.zeros((8, 6), dtype=np.uint8), r"uint8 \(8, 6\)"), (np.zeros((8, 6, 3)), "float64")):
        with pytest.raises(ValueError, match=f"photo of image 7 has to be .*, found {found}"):
            FashionDataset([{"image": image, "image_id": 7, "annotations": []}], processor(8, 8), CONFIG)[0]
    square = [box(1, 1, 5, 5)]
    for annotation, message in (
        (annotate(square, 0, category_id=77), "category id 77 in annotation 0 of image 1"),
        (annotate(square, 0, attribute_ids=[9999]), "attribute id 9999 in annotation 0 of image 1"),
        (annotate([[1, 1, 2, 2]]), "annotation 0 of image 1 has no polygon"),
        (annotate(np.zeros((6, 8))), "annotation 0 of image 1 is 6 x 8"),
        ({"segmentation": square, "attribute_ids": []}, "no 'category_id' in annotation 1 of image 1"),
        ({"category_id": 0, "attribute_ids": []}, "no 'segmentation' in annotation 1 of image 1"),
    ):
        for augmentation in (None, Augmentation()):
            with pytest.raises(ValueError, match=message):
                sample(annotation, augmentation)
