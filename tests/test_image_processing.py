"""From any photo onto the canvas, and from logits back to the photo."""

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from transformers import AutoImageProcessor

from fashion_detr import FashionDetrConfig, FashionDetrImageProcessor
from fashion_detr.image_processing_fashion_detr import _parents
from fashion_detr.modeling_fashion_detr import FashionDetrForInstanceSegmentationOutput

CONFIG = FashionDetrConfig()
MEAN, STD = FashionDetrImageProcessor.image_mean, FashionDetrImageProcessor.image_std
SURE = 10.0


def processor(height: int = 64, width: int = 64, **fields: Any) -> FashionDetrImageProcessor:
    return FashionDetrImageProcessor(size={"height": height, "width": width}, **fields)


def pixels(height: int = 30, width: int = 50, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def box(size: tuple[int, int], top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def values(image: Any) -> torch.Tensor:
    return processor()(image, return_tensors="pt").pixel_values


# --- onto the canvas --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pillow", "numpy"])
@pytest.mark.parametrize(
    ("size", "placed"),
    [
        ((30, 50), (38, 64)),
        ((50, 30), (64, 38)),
        ((64, 64), (64, 64)),
        ((128, 256), (32, 64)),
        ((1, 1), (64, 64)),
        ((1, 5000), (1, 64)),
        ((5000, 1), (64, 1)),
        ((3, 50), (4, 64)),
    ],
)
def test_letterbox(size, placed, kind):
    image = np.full((*size, 3), 255, dtype=np.uint8)
    arguments = {} if kind == "pillow" or size[0] != 3 else {"input_data_format": "channels_last"}
    batch = processor()(Image.fromarray(image) if kind == "pillow" else image, return_tensors="pt", **arguments)
    assert batch.pixel_values.shape == (1, 3, 64, 64) and batch.pixel_values.dtype == torch.float32
    assert batch.pixel_mask.shape == (1, 64, 64) and batch.pixel_mask.dtype == torch.int64
    expected = torch.zeros(64, 64, dtype=torch.int64)
    expected[: placed[0], : placed[1]] = 1
    assert torch.equal(batch.pixel_mask[0], expected)
    # A white photo stays white on its part of the canvas, beside zeros.
    white = (1 - torch.tensor(MEAN)) / torch.tensor(STD)
    assert torch.allclose(batch.pixel_values[0], white[:, None, None] * expected, atol=1e-4)


def test_an_image_without_pixels_is_named():
    photo = Image.fromarray(pixels())
    for empty in (photo.crop((10, 5, 10, 30)), np.zeros((25, 0, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"Image 1 has no pixels: 25 x 0 \(height x width\)"):
            FashionDetrImageProcessor()([photo, empty])


def test_without_resizing():
    image = pixels()
    batch = processor(do_resize=False)(image, return_tensors="pt")
    assert batch.pixel_mask.sum() == 30 * 50
    restored = batch.pixel_values[0] * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    assert np.array_equal((255 * restored[:, :30, :50]).round().byte().permute(1, 2, 0).numpy(), image)
    with pytest.raises(ValueError, match="fit the canvas"):
        processor(do_resize=False)(pixels(65, 10))


@pytest.mark.parametrize("size", [(0, 64), (64, -64)])
def test_a_canvas_has_whole_pixels(size):
    with pytest.raises(ValueError, match="whole numbers of pixels from 1 on, found"):
        processor()(pixels(), size=dict(zip(("height", "width"), size)))


def test_all_kinds_of_input_agree(tmp_path):
    image = pixels()
    expected = values(Image.fromarray(image))
    Image.fromarray(image).save(tmp_path / "photo.png")
    same = [
        image,
        torch.from_numpy(image),
        torch.from_numpy(image).permute(2, 0, 1),
        image.transpose(2, 0, 1),
        image.astype(np.uint16) * 257,
        image.astype(np.int32) * 257,
        image.astype(np.uint64) * 257,
        torch.from_numpy(image.astype(np.uint32) * 257),
        (image.astype(np.uint16) * 257).astype(">u2"),
        np.ascontiguousarray(image[:, ::-1, ::-1])[:, ::-1, ::-1],  # a mirrored photo of OpenCV, put right
        str(tmp_path / "photo.png"),
        tmp_path / "photo.png",
        [Image.fromarray(image)],
    ]
    for other in same:
        assert torch.equal(values(other), expected)
    narrow = image[:, :3, 0]  # a grey array of three columns is no photo of one row
    assert torch.equal(values(narrow), values(Image.fromarray(narrow)))
    grey = np.repeat(image[..., :1], 3, axis=-1)
    assert torch.equal(values(image[..., :1]), values(grey))
    bright = grey > 127
    for black_or_white in (bright, torch.from_numpy(bright)):
        assert torch.equal(values(black_or_white), values(bright.astype(np.uint8) * 255))


def test_floats_that_are_scaled_already_are_noticed(caplog):
    scaled = torch.from_numpy(pixels()).permute(2, 0, 1) / 255
    FashionDetrImageProcessor()(scaled, do_rescale=False)
    assert not caplog.text
    FashionDetrImageProcessor()(scaled)
    assert "do_rescale=False" in caplog.text


def test_batch_equals_single():
    images = [pixels(30, 50, 1), pixels(90, 20, 2), pixels(64, 64, 3)]
    batch = processor()(images, return_tensors="pt")
    for row, image in enumerate(images):
        alone = processor()(image, return_tensors="pt")
        assert torch.equal(batch.pixel_values[row], alone.pixel_values[0])
        assert torch.equal(batch.pixel_mask[row], alone.pixel_mask[0])


def test_saves_and_loads(tmp_path):
    ours = processor(48, 80, image_mean=[0.5] * 3, image_std=[0.25] * 3, do_resize=False)
    ours.save_pretrained(tmp_path)
    for loaded in (FashionDetrImageProcessor.from_pretrained(tmp_path), AutoImageProcessor.from_pretrained(tmp_path)):
        assert isinstance(loaded, FashionDetrImageProcessor)
        assert {**loaded.to_dict(), "auto_map": None} == {**ours.to_dict(), "auto_map": None}
        assert torch.equal(loaded(pixels()).pixel_values, ours(pixels()).pixel_values)
    # An option of one call is not kept.
    assert ours(pixels(), size={"height": 64, "width": 64}, do_resize=True).pixel_values.shape == (1, 3, 64, 64)
    assert ours(pixels()).pixel_values.shape == (1, 3, 48, 80)


# --- annotations ------------------------------------------------------------------------------------------------------


def encodings(mask: np.ndarray, top: int, left: int, bottom: int, right: int) -> dict[str, Any]:
    """One box in every form."""
    compressed = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    flat = mask.flatten(order="F")
    changes = np.flatnonzero(np.diff(np.concatenate([[False], flat]).astype(int)))
    runs = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return {
        "polygon": [[left, top, right, top, right, bottom, left, bottom]],
        "uncompressed": {"size": list(mask.shape), "counts": runs},
        "compressed": {"size": list(mask.shape), "counts": compressed["counts"].decode()},
        "bytes": compressed,
        "array": mask,
        "tensor": torch.from_numpy(mask),
    }


def annotate(**fields: Any) -> dict[str, Any]:
    annotation = {"id": 12, "category_id": 9, "attribute_ids": [115, 340], "segmentation": [[1, 1, 20, 1, 20, 20]]}
    return {"image_id": 77, "annotations": [annotation | fields]}


def test_all_encodings_of_a_mask_agree():
    mask = box((30, 50), 5, 10, 25, 40)
    expected = None
    for name, segmentation in encodings(mask, 5, 10, 25, 40).items():
        batch = processor()(pixels(), annotations=annotate(segmentation=segmentation), return_tensors="pt")
        (labels,) = batch.mask_labels
        expected = labels if expected is None else expected
        assert labels.shape == (1, 64, 64) and torch.equal(labels, expected), name
    # 64 / 50 of the size, and nothing in the padding.
    assert expected.sum() == pytest.approx(20 * 30 * (64 / 50) ** 2, rel=0.03)
    assert expected[:, 38:].sum() == 0 and expected.min() >= 0 and expected.max() == 1


def test_labels_use_the_models_indices():
    config = FashionDetrConfig(
        id2label={0: "pocket", 1: "coat"},
        category_ids=[32, 9],
        id2attribute={0: "plain", 1: "dotted", 2: "long"},
        attribute_ids=[340, 2, 115],
    )
    batch = processor()([pixels()] * 2, annotations=[annotate(), {"annotations": []}], config=config)
    assert batch.class_labels[0].tolist() == [1]
    assert batch.attribute_labels[0].tolist() == [[1, 0, 1]]
    assert [tuple(batch[name][1].shape) for name in ("mask_labels", "class_labels", "attribute_labels")] == [
        (0, 64, 64),
        (0,),
        (0, 3),
    ]
    default = processor()(pixels(), annotations=annotate())
    carried = default.attribute_labels[0][0].nonzero().flatten().tolist()
    assert [CONFIG.attribute_ids[index] for index in carried] == [115, 340]
    assert processor()(pixels(), annotations=annotate(iscrowd=1)).mask_labels[0].shape == (0, 64, 64)


def test_a_button_survives_a_large_reduction():
    mask = box((1000, 1000), 500, 500, 502, 502)
    batch = processor()(pixels(1000, 1000), annotations=annotate(segmentation=mask))
    assert batch.mask_labels[0].sum() == pytest.approx(4 * 0.064**2, rel=0.1)


@pytest.mark.parametrize("canvas", [(1, 1), (1, 2), (2, 1), (1, 64)])
def test_a_side_of_one_pixel(canvas):
    """Where torch cannot resize bytes."""
    size = dict(zip(("height", "width"), canvas))
    batch = FashionDetrImageProcessor(size=size)(Image.fromarray(pixels()), annotations=annotate())
    assert batch.pixel_values[0].shape == (3, *canvas) and batch.pixel_values[0].isfinite().all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"category_id": 46}, "category id 46 in annotation 12 of image 77"),
        ({"attribute_ids": [1, 341]}, "attribute id 341 in annotation 12 of image 77"),
        ({"segmentation": [[1, 1, 20, 20]]}, "annotation 12 of image 77 has no polygon of at least three points"),
        ({"segmentation": []}, "no polygon"),
        ({"segmentation": {"size": [50, 30], "counts": [1500]}}, "50 x 30, but its image is 30 x 50"),
        ({"segmentation": {"size": [30, 50], "counts": [1400]}}, "= 1500 pixels, found 1400"),
        ({"segmentation": {"size": [30, 50], "counts": "PPPPPPPPPPPPPP0"}}, "of annotation 12 of image 77: exp"),
        ({"segmentation": np.ones((30, 51))}, "30 x 51"),
        ({"segmentation": np.full((30, 50), 255)}, "from 0, outside, to 1, inside; found 255 to 255"),
        ({"segmentation": np.full((30, 50), np.nan)}, "inside; found nan to nan"),
        ({"segmentation": np.ones((30, 50)).tolist()}, "a list of 30 rows of 50 values: make an array of it"),
        ({"segmentation": [1, 1, 20, 1, 20, 20]}, "polygons .*, found .1, 1, 20"),
        (
            {"segmentation": [[1, 1, 20, float("nan"), 20, 20]]},
            "12 of image 77 has coordinates beyond 131072",
        ),
        ({"segmentation": [[1, 1, 20, 1e30, 20, 20]]}, "coordinates beyond 131072 pixels"),
        ({"segmentation": [["a", 1, 20, 1, 20, 20]]}, "annotation 12 of image 77 has to consist of numbers"),
        ({"segmentation": {"counts": [1500]}}, "needs a 'size' .height, width. and 'counts', found 'counts'"),
        ({"segmentation": {"size": [30, 50]}}, "needs a 'size'"),
        ({"attribute_ids": 115}, "'attribute_ids' of annotation 12 of image 77 has to be a list, found 115"),
        ({"category_id": [1]}, "category id .1. in annotation 12"),
        ({"category_id": "1"}, "category id '1' in annotation 12"),
        ({"iscrowd": "0"}, "'iscrowd' of annotation 12 of image 77 has to be 0 or 1, found the text '0'"),
    ],
)
def test_wrong_annotations_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        processor()(pixels(), annotations=annotate(**fields))


def test_polygons_of_a_tiny_photo_are_no_rows():
    """One polygon of eight numbers, on a photo of one row of eight pixels."""
    batch = processor(8, 8)(pixels(1, 8), annotations=annotate(segmentation=[[0, 0, 4, 0, 4, 1, 0, 1]]))
    assert batch.mask_labels[0][0, 0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]


def test_what_augmentation_cut_off_is_not_learnt():
    cut_off = annotate(category_id=3, segmentation=np.zeros((30, 50)))["annotations"]
    batch = processor()(pixels(), annotations={"annotations": cut_off + annotate()["annotations"] + cut_off})
    assert len(batch.mask_labels[0]) == 1 and batch.class_labels[0].tolist() == [9]


def test_numbers_of_other_libraries_are_ids():
    plain = processor()(pixels(), annotations=annotate())
    ids = {"category_id": torch.tensor(annotate()["annotations"][0]["category_id"])}
    ids["attribute_ids"] = torch.tensor(annotate()["annotations"][0]["attribute_ids"])
    for name in ("class_labels", "attribute_labels"):
        assert torch.equal(processor()(pixels(), annotations=annotate(**ids))[name][0], plain[name][0])


def test_one_annotation_an_image():
    with pytest.raises(ValueError, match="2 images, 1 given"):
        processor()([pixels(), pixels()], annotations=annotate())


# --- back to the photo ------------------------------------------------------------------------------------------------


PHOTO = (480, 320)
OUTFIT = {
    "coat": box(PHOTO, 60, 50, 450, 290),
    "pocket": box(PHOTO, 260, 80, 330, 150),
    "collar": box(PHOTO, 40, 120, 100, 220),
}


def outfit_outputs(canvas: int = 512) -> FashionDetrForInstanceSegmentationOutput:
    """What a perfect model says of the outfit, the pocket first; a fourth query sees a faint hat on the coat."""
    objects = [
        {"category_id": CONFIG.label2id[name], "attribute_ids": [], "segmentation": OUTFIT[name]}
        for name in ("pocket", "coat", "collar")
    ]
    masks = processor(canvas, canvas)(pixels(*PHOTO), annotations={"annotations": objects}).mask_labels[0]
    shares = torch.nn.functional.avg_pool2d(masks[:, None], 4)[:, 0]
    queries = torch.full((1, 4, canvas // 4, canvas // 4), -SURE)
    queries[0, :3] = 2 * SURE * (shares - 0.5)
    queries[0, 3, 40:80, 30:60] = 1.0
    classes = torch.full((1, 4, CONFIG.num_labels), -SURE)
    for query, (name, logit) in enumerate([("pocket", 2.0), ("coat", 4.0), ("collar", 3.0), ("hat", 0.0)]):
        classes[0, query, CONFIG.label2id[name]] = logit
    attributes = torch.full((1, 4, CONFIG.num_attributes), -SURE)
    attributes[0, 1, :3] = torch.tensor([1.0, 3.0, -1.0])
    height, width = PHOTO
    valid = torch.tensor([[canvas, round(canvas * width / height)]])
    return FashionDetrForInstanceSegmentationOutput(
        class_queries_logits=classes,
        masks_queries_logits=queries,
        attribute_queries_logits=attributes,
        valid_sizes=valid,
    )


def iou(one: torch.Tensor | np.ndarray, other: torch.Tensor | np.ndarray) -> float:
    one, other = np.asarray(one), np.asarray(other)
    return float((one & other).sum() / (one | other).sum())


def found(**arguments: Any) -> list[dict[str, Any]]:
    (objects,) = FashionDetrImageProcessor().post_process_fashion(outfit_outputs(), target_sizes=[PHOTO], **arguments)
    return objects


@pytest.mark.parametrize("labels", [["dress", "jacket", "pocket"], ["jacket", "dress", "pocket"]])
def test_a_part_within_two_garments_belongs_to_the_smaller(labels):
    masks = torch.zeros(3, 8, 8, dtype=torch.bool)
    masks[labels.index("dress")] = True
    masks[labels.index("jacket"), :4] = True
    masks[2, :2, :2] = True
    assert _parents(labels, masks) == [None, None, labels.index("jacket")]


def test_overlapping_garments_come_back_whole():
    objects = found()
    assert [entry["label"] for entry in objects] == ["coat", "collar", "pocket"]  # best first
    for entry in objects:
        assert entry["mask"].shape == PHOTO and entry["mask"].dtype == torch.bool
        assert iou(entry["mask"], OUTFIT[entry["label"]]) > 0.98
        rows, columns = np.nonzero(OUTFIT[entry["label"]])
        corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert entry["bbox"] == pytest.approx(corners, abs=2)
        assert entry["label_id"] == CONFIG.label2id[entry["label"]]
        assert 0.5 < entry["score"] <= 1
    # The positions in this very list; the coat belongs to nothing.
    assert [entry["parent"] for entry in objects] == [None, 0, 0]
    coat = objects[0]
    assert [attribute["id"] for attribute in coat["attributes"]] == [CONFIG.attribute_ids[1], CONFIG.attribute_ids[0]]
    assert coat["attributes"][0]["name"] == CONFIG.id2attribute[1]
    assert coat["attributes"][0]["supercategory"] == CONFIG.attribute_supercategories[1]
    assert coat["attributes"][0]["score"] == pytest.approx(torch.tensor(3.0).sigmoid().item())


def test_half_an_output_is_refused():
    whole = outfit_outputs()
    half = FashionDetrForInstanceSegmentationOutput(
        class_queries_logits=whole.class_queries_logits, masks_queries_logits=whole.masks_queries_logits.numpy()
    )
    lacking = "masks_queries_logits, attribute_queries_logits, valid_sizes"
    for name in ("post_process_fashion", "post_process_instance_segmentation", "post_process_coco"):
        with pytest.raises(ValueError, match=f"Output without {lacking}"):
            getattr(FashionDetrImageProcessor(), name)(half, target_sizes=[PHOTO])


def test_a_mask_between_two_pixels_takes_no_place():
    """A photo smaller than its canvas: the best mask covers no centre of its pixels, the second one does."""
    outputs = outfit_outputs(64)
    outputs.valid_sizes = torch.tensor([[64, 64]])
    outputs.masks_queries_logits = torch.full((1, 4, 16, 16), -SURE)
    outputs.masks_queries_logits[0, 1, 0, 0] = SURE  # the coat, 4 of 64 pixels where the photo's first centre is at 8
    outputs.masks_queries_logits[0, 2, 4:12, 4:12] = SURE  # the collar
    (objects,) = FashionDetrImageProcessor().post_process_fashion(outputs, target_sizes=[(4, 4)], top_k=1)
    assert [(entry["label"], int(entry["mask"].sum())) for entry in objects] == [("collar", 4)]


def test_every_threshold_changes_the_result():
    # The hat: half a class times the IoU that its mask can be expected to have, nearly the probability inside it.
    hat = 0.5 * torch.tensor(1.0).sigmoid().item()
    assert [entry["label"] for entry in found(threshold=0.3)][-1] == "hat"
    assert found(threshold=0.3)[-1]["score"] == pytest.approx(hat, rel=1e-3)
    assert [entry["label"] for entry in found(threshold=0.97)] == ["coat"]
    assert found(threshold=0.999) == []
    assert [entry["label"] for entry in found(top_k=2)] == ["coat", "collar"]
    assert len(found(attribute_threshold=0.2)[0]["attributes"]) == 3
    assert len(found(attribute_threshold=0.9)[0]["attributes"]) == 1
    areas = [found(mask_threshold=threshold)[0]["mask"].sum() for threshold in (0.01, 0.5, 0.99)]
    assert areas[0] > areas[1] > areas[2]


NO_FRACTIONS = [30, -0.1, math.nan, math.inf, None, "0.5", True]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("threshold", value) for value in NO_FRACTIONS],
        *[("attribute_threshold", value) for value in NO_FRACTIONS if value is not None],
        *[("mask_threshold", value) for value in [*NO_FRACTIONS, 0, 1.0]],
        *[("top_k", value) for value in [0, -1, 2.0, None, "2", True]],
    ],
)
def test_thresholds_that_cannot_be_are_refused(name, value):
    """Before anything is computed, so for no image at all, too."""
    kind = "a whole number from 1 on" if name == "top_k" else "a number (from|between) 0 (to|and) 1"
    message = f"`{name}` has to be {kind}, found {re.escape(repr(value))}"
    processor_, outputs = FashionDetrImageProcessor(), outfit_outputs()
    none = FashionDetrForInstanceSegmentationOutput(**{field: tensor[:0] for field, tensor in outputs.items()})
    calls = [processor_.post_process_fashion]
    calls += [processor_.post_process_coco] if name in ("attribute_threshold", "top_k") else []
    calls += [processor_.post_process_instance_segmentation] if name in ("threshold", "mask_threshold") else []
    for call in calls:
        for of_images, sizes in ((outputs, [PHOTO]), (none, [])):
            with pytest.raises(ValueError, match=message):
                call(of_images, target_sizes=sizes, **{name: value})


def test_outputs_that_are_no_numbers_are_noticed(caplog):
    outputs = outfit_outputs()
    outputs.masks_queries_logits[:] = float("nan")
    assert processor().post_process_fashion(outputs, [PHOTO], threshold=0.5) == [[]]
    assert all(entry["score"] == 0 for entry in processor().post_process_coco(outputs, [PHOTO])[0])
    assert "no numbers (NaN)" in caplog.text


def test_the_ends_of_thresholds_and_numbers_of_numpy_are_taken():
    assert len(found(threshold=0)) == 4 and found(threshold=1) == []
    assert len(found(threshold=np.float32(0.3), mask_threshold=np.float32(0.5), top_k=np.int64(3))) == 3
    assert len(found(attribute_threshold=0)[0]["attributes"]) == CONFIG.num_attributes
    assert found(attribute_threshold=1)[0]["attributes"] == []
    (results,) = FashionDetrImageProcessor().post_process_coco(outfit_outputs(), [PHOTO], top_k=np.int64(3))
    assert len(results) == 3


def test_attribute_thresholds_of_the_model_hold_unless_another_is_asked_for():
    # Probabilities: the second attribute sigmoid(3) = 0.95, the first sigmoid(2) = 0.88 or less, see `outfit_outputs`.
    thresholds = [1.0] * CONFIG.num_attributes
    thresholds[0] = 0.0
    own = FashionDetrConfig(attribute_thresholds=thresholds)
    assert [one["id"] for one in found(config=own)[0]["attributes"]] == [CONFIG.attribute_ids[0]]
    assert len(found(config=own, attribute_threshold=0.2)[0]["attributes"]) == 3
    (results,) = FashionDetrImageProcessor().post_process_coco(
        outfit_outputs(), [PHOTO], own, top_k=4, output_attribute_scores=True
    )
    assert results[0]["attribute_ids"] == [CONFIG.attribute_ids[0]]
    assert results[0]["attribute_scores"].shape == (CONFIG.num_attributes,)
    assert results[0]["attribute_scores"][1] == pytest.approx(torch.tensor(3.0).sigmoid().item())


def test_a_category_carries_its_own_attributes_alone():
    coat = CONFIG.label2id["coat"]
    limited = FashionDetrConfig(category_attributes={coat: [0, 2]})
    assert [attribute["id"] for attribute in found(config=limited)[0]["attributes"]] == [CONFIG.attribute_ids[0]]
    none = FashionDetrConfig(category_attributes={coat + 1: [0]})
    assert found(config=none)[0]["attributes"] == []


def test_a_vocabulary_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"model\.config"):
        found(config=FashionDetrConfig(id2label={0: "coat"}))
    with pytest.raises(ValueError, match=r"294 attributes, but the vocabulary names 1: .*model\.config"):
        found(config=FashionDetrConfig(id2attribute={0: "red"}))
    with pytest.raises(ValueError, match="target size"):
        FashionDetrImageProcessor().post_process_fashion(outfit_outputs(), target_sizes=[PHOTO, PHOTO])
    for no_config in ({}, {"num_labels": 3}):
        with pytest.raises(ValueError, match=r"`config` has to be .*model\.config`, found dict"):
            found(config=no_config)


@pytest.mark.parametrize(
    "sizes", [PHOTO, [None], [(math.inf, 10)], [(-5, 10)], [(0, 10)], [(480, 320, 3)], [(480,)], 480]
)
def test_what_is_no_target_size_is_named(sizes):
    with pytest.raises(ValueError, match=r"needs \(height, width\) in pixels for every image, found"):
        FashionDetrImageProcessor().post_process_fashion(outfit_outputs(), target_sizes=sizes)


def test_a_target_size_on_its_side_is_noticed(caplog):
    FashionDetrImageProcessor().post_process_fashion(outfit_outputs(), target_sizes=[(330, 320)])
    assert not caplog.text
    FashionDetrImageProcessor().post_process_fashion(outfit_outputs(), target_sizes=[PHOTO[::-1]])
    assert "exif_transpose" in caplog.text


def test_coco_results_use_the_datasets_ids():
    (results,) = FashionDetrImageProcessor().post_process_coco(outfit_outputs(), [PHOTO], top_k=4)
    assert [result["category_id"] for result in results[:3]] == [
        CONFIG.label2id[n] for n in ("coat", "collar", "pocket")
    ]
    assert results[0]["attribute_ids"] == CONFIG.attribute_ids[:2]
    assert iou(coco_mask.decode(results[0]["segmentation"]).astype(bool), OUTFIT["coat"]) > 0.98


def test_instance_segmentation_contract():
    def run(**arguments: Any) -> dict[str, Any]:
        (result,) = FashionDetrImageProcessor().post_process_instance_segmentation(
            outfit_outputs(), target_sizes=[PHOTO], **arguments
        )
        return result

    flat = run()
    assert flat["segmentation"].shape == PHOTO and flat["segmentation"].ndim == 2
    by_label = {CONFIG.id2label[segment["label_id"]]: segment for segment in flat["segments_info"]}
    assert set(by_label) == set(OUTFIT)
    assert all(set(segment) >= {"id", "label_id", "was_fused", "score"} for segment in by_label.values())
    # The parts lie above their coat and are all there; the coat has what they leave.
    visible = {name: flat["segmentation"] == segment["id"] for name, segment in by_label.items()}
    assert iou(visible["pocket"], OUTFIT["pocket"]) > 0.98 and iou(visible["collar"], OUTFIT["collar"]) > 0.98
    assert iou(visible["coat"], OUTFIT["coat"] & ~OUTFIT["pocket"] & ~OUTFIT["collar"]) > 0.98
    assert set(flat["segmentation"].unique().tolist()) == {-1} | {segment["id"] for segment in flat["segments_info"]}

    stack = run(return_binary_maps=True)
    assert stack["segmentation"].shape == (3, *PHOTO)
    for segment in stack["segments_info"]:
        assert iou(stack["segmentation"][segment["id"]] > 0, OUTFIT[CONFIG.id2label[segment["label_id"]]]) > 0.98

    # Pocket and collar hide a tenth of the coat, so it is left out where more than that has to be seen.
    strict = run(overlap_mask_area_threshold=0.95)
    assert {CONFIG.id2label[segment["label_id"]] for segment in strict["segments_info"]} == {"pocket", "collar"}
    assert set(strict["segmentation"].unique().tolist()) == {-1} | {
        segment["id"] for segment in strict["segments_info"]
    }

    with pytest.raises(ValueError, match="`overlap_mask_area_threshold` has to be a number from 0 to 1, found nan"):
        run(overlap_mask_area_threshold=math.nan)

    nothing = run(threshold=0.9999)
    assert nothing["segments_info"] == [] and (nothing["segmentation"] == -1).all()
    assert nothing["segmentation"].shape == PHOTO
    assert torch.equal(run(threshold=0.9999, return_binary_maps=True)["segmentation"], nothing["segmentation"])


def test_logits_beyond_the_photo_do_not_matter():
    processor_, outputs = FashionDetrImageProcessor(), outfit_outputs()
    expected = processor_.post_process_fashion(outputs, target_sizes=[PHOTO])
    columns = -(-int(outputs.valid_sizes[0, 1]) // 4)
    outputs.masks_queries_logits[..., columns:] = SURE
    for one, other in zip(expected[0], processor_.post_process_fashion(outputs, target_sizes=[PHOTO])[0], strict=True):
        assert one["score"] == other["score"] and torch.equal(one["mask"], other["mask"])


def test_without_target_sizes_masks_have_the_size_on_the_canvas():
    (objects,) = FashionDetrImageProcessor().post_process_fashion(outfit_outputs())
    assert {tuple(entry["mask"].shape) for entry in objects} == {(512, 341)}
