"""The configuration keeps what it is given, refuses contradictions, and needs no network."""

import json
import math
import time

import numpy as np
import pytest
from huggingface_hub.errors import StrictDataclassError

from fashion_detr import FashionDetrConfig
from fashion_detr.ontology_fashion_detr import ATTRIBUTES, CATEGORIES


def test_default_vocabulary_is_fashionpedia():
    config = FashionDetrConfig()
    assert (config.num_labels, config.num_attributes) == (46, 294)
    assert config.id2label[0] == "shirt, blouse" and config.id2label[45] == "tassel"
    assert config.label2id["coat"] == 9 and config.category_ids == list(range(46))
    # The attribute ids have gaps: 294 of them reach up to 340.
    assert config.attribute_ids == [attribute_id for attribute_id, _, _ in ATTRIBUTES]
    assert max(config.attribute_ids) == 340 and len(set(config.attribute_ids)) == 294
    assert len(config.category_supercategories) == len(CATEGORIES)
    assert len(config.attribute_supercategories) == len(ATTRIBUTES)
    assert config.backbone_config.model_type == "resnet" and list(config.backbone_config.depths) == [3, 4, 6, 3]


def test_round_trips_through_string_file_and_folder(tmp_path):
    config = FashionDetrConfig.from_backbone(
        "swin_base", num_queries=17, category_attributes={3: [0, 5]}, class_loss_weight=2
    )
    config.to_json_file(tmp_path / "one.json")
    config.save_pretrained(tmp_path)
    copies = [
        FashionDetrConfig.from_dict(json.loads(config.to_json_string(use_diff=False))),
        FashionDetrConfig.from_json_file(tmp_path / "one.json"),
        FashionDetrConfig.from_pretrained(tmp_path),
    ]
    for copy in copies:
        assert copy.category_attributes == {3: [0, 5]}  # JSON made a string of the key
        assert copy.id2label == config.id2label and copy.id2attribute == config.id2attribute
        assert copy.attribute_ids == config.attribute_ids
        assert (copy.num_queries, copy.class_loss_weight) == (17, 2)
        assert copy.backbone_config.to_dict() == config.backbone_config.to_dict()


def test_custom_vocabulary():
    config = FashionDetrConfig(
        id2label={0: "coat", 1: "pocket"},
        category_ids=[9, 32],
        id2attribute={"0": "plain", "1": "dotted", "2": "striped"},
        attribute_ids=[295, 301, 317],
    )
    assert (config.num_labels, config.num_attributes) == (2, 3)
    assert config.label2id == {"coat": 0, "pocket": 1}
    assert config.id2attribute == {0: "plain", 1: "dotted", 2: "striped"}
    # Fashionpedia's super-categories would be wrong for it.
    assert config.category_supercategories is None and config.attribute_supercategories is None
    bare = FashionDetrConfig(id2label={0: "coat", 1: "pocket"}, id2attribute={0: "plain"})
    assert (bare.category_ids, bare.attribute_ids) == ([0, 1], [0])


def test_given_ids_and_supercategories_are_kept_beside_the_default_names():
    ids = list(range(1000, 1294))
    config = FashionDetrConfig(attribute_ids=ids, category_supercategories=["all"] * 46)
    assert config.attribute_ids == ids
    assert config.category_supercategories == ["all"] * 46


def test_common_names_map_to_ours(tiny_config):
    config = tiny_config()
    assert (config.hidden_size, config.num_attention_heads, config.num_hidden_layers) == (32, 4, 2)


def test_a_new_vocabulary_for_a_saved_configuration_has_fitting_ids(tiny_config, tmp_path):
    """What `from_pretrained(..., id2label=...)` does when a trained model is fine-tuned on other classes."""
    tiny_config().save_pretrained(tmp_path)
    config = FashionDetrConfig.from_pretrained(tmp_path, id2label={0: "a", 1: "b"}, id2attribute={0: "c"})
    assert (config.num_labels, len(config.category_ids)) == (2, 2)
    assert (config.num_attributes, len(config.attribute_ids)) == (1, 1)
    assert config.label2id == {"a": 0, "b": 1}
    config.save_pretrained(tmp_path)


@pytest.mark.parametrize(
    "again",
    [
        {"num_labels": 2},
        {"id2label": {0: "coat", 1: "shoe"}, "label2id": {"coat": 0, "shoe": 1}, "num_labels": 2},
        {"id2label": {"0": "coat", "1": "shoe"}, "id2attribute": {0: "plain", 1: "striped"}},
        {"label2id": {"coat": 0, "shoe": 1}},
        {"num_labels": np.int64(2)},
        {"id2label": None, "label2id": None, "num_labels": None, "id2attribute": None, "category_ids": None},
    ],
)
def test_the_saved_vocabulary_once_more_changes_nothing(tiny_config, tmp_path, again):
    vocabulary = {
        "id2label": {0: "coat", 1: "shoe"},
        "category_ids": [3, 7],
        "category_supercategories": ["garment", "accessory"],
        "category_attributes": {0: [1], 1: []},
        "id2attribute": {0: "plain", 1: "striped"},
        "attribute_ids": [30, 70],
        "attribute_thresholds": [0.2, 0.4],
    }
    tiny_config(**vocabulary).save_pretrained(tmp_path)
    config = FashionDetrConfig.from_pretrained(tmp_path, **again)
    assert {name: getattr(config, name) for name in vocabulary} == vocabulary
    assert FashionDetrConfig.from_pretrained(tmp_path, num_labels=3).id2label[2] == "LABEL_2"
    cleared = FashionDetrConfig.from_pretrained(tmp_path, attribute_thresholds=None, category_attributes=None)
    assert cleared.attribute_thresholds is None and cleared.category_attributes is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"category_attributes": {0: 5}}, "category_attributes"),
        ({"attribute_thresholds": ["a"] * 294}, "'a' is no probability"),
        ({"d_model": 30}, "d_model"),
        ({"d_model": 0}, "d_model"),
        ({"d_model": -32}, "d_model"),
        ({"class_loss_weight": math.nan}, "class_loss_weight"),
        ({"mask_cost": math.inf}, "mask_cost"),
        ({"focal_alpha": 5.0}, "focal_alpha"),
        ({"focal_gamma": -2.0}, "focal_gamma"),
        ({"id2label": {}}, "one class at least"),
        ({"id2label": {0: 1}}, "have to be texts, found 1"),
        ({"id2attribute": {0: None}}, "have to be texts, found None"),
        ({"decoder_attention_heads": 7}, "decoder_attention_heads"),
        ({"decoder_attention_heads": 0}, "decoder_attention_heads"),
        ({"num_queries": 0}, "num_queries"),
        ({"decoder_layers": 0}, "decoder_layers"),
        ({"decoder_ffn_dim": 0}, "decoder_ffn_dim"),
        ({"dropout": 1.0}, "dropout"),
        ({"evidence_dropout": -0.1}, "evidence_dropout"),
        ({"d_model": "256"}, "d_model"),
        ({"id2label": {1: "coat"}}, "id2label"),
        ({"category_ids": [0, 1]}, "ids"),
        ({"category_ids": [0] * 46}, "ids"),
        ({"id2attribute": {0: "plain"}, "attribute_ids": [1, 2]}, "id2attribute"),
        ({"id2label": {0: "coat"}, "category_supercategories": []}, "super-categories"),
        ({"category_attributes": {0: [294]}}, "category_attributes"),
        ({"category_attributes": {46: [0]}}, "category_attributes"),
        ({"attribute_thresholds": [0.5]}, "attribute_thresholds"),
        ({"attribute_thresholds": [1.5] * 294}, "attribute_thresholds"),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        FashionDetrConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_attributes": 5}, "give `id2attribute`"),
        ({"backbone": "resnet18", "use_timm_backbone": True}, r"FashionDetrConfig.from_backbone\('resnet18'\)"),
        ({"num_labels": "3"}, "`num_labels` has to be a whole number"),
        ({"num_labels": 3, "id2label": {0: "coat"}}, "`num_labels` is 3, but `id2label` has 1 names"),
        ({"id2label": ["coat", "shoe"]}, r"`id2label` has to be a dictionary .* found \['coat', 'shoe'\]"),
        ({"id2attribute": {"x": "plain"}}, "`id2attribute` has to be a dictionary"),
    ],
)
def test_labels_that_cannot_be_read_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        FashionDetrConfig(**fields)


def test_labels_can_be_given_by_name(tiny_config, tmp_path):
    labels = {"coat": 0, "shoe": 1}
    assert FashionDetrConfig(label2id=labels).id2label == {0: "coat", 1: "shoe"}
    tiny_config().save_pretrained(tmp_path)
    changed = FashionDetrConfig.from_pretrained(tmp_path, label2id=labels)
    assert changed.id2label == {0: "coat", 1: "shoe"} and changed.category_ids == [0, 1]


@pytest.mark.parametrize("name", ["resnet50", "resnet101", "swin_base", "tf_efficientnet_lite0", "convnext_atto"])
def test_backbone_by_name(name):
    """HF_HUB_OFFLINE is set for all tests: a look at the network would raise."""
    start = time.perf_counter()
    config = FashionDetrConfig.from_backbone(name, num_queries=7)
    assert config.num_queries == 7 and len(config.backbone_config.out_indices) == 4
    assert time.perf_counter() - start < 10


def test_levels_are_chosen_by_reduction():
    """A ConvNeXt begins at reduction 4, a VGG at 1: the same four reductions have other positions."""
    out_indices = {
        name: list(FashionDetrConfig.from_backbone(name).backbone_config.out_indices)
        for name in ("convnext_atto", "tf_efficientnet_lite0", "vgg11", "dla34")
    }
    assert out_indices == {
        "convnext_atto": [0, 1, 2, 3],
        "tf_efficientnet_lite0": [1, 2, 3, 4],
        "vgg11": [2, 3, 4, 5],
        "dla34": [2, 3, 4, 5],  # of which timm lists the last five alone
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_base_patch16_224", "reductions"),
        ("swin_tiny_patch4_window7_224", "NHWC"),
        ("resnet_fifty", "Unknown backbone"),
        ("hf_hub:timm/resnet18.a1_in1k", "Unknown backbone"),
    ],
)
def test_unsuitable_backbones_are_named(name, message):
    with pytest.raises(ValueError, match=message):
        FashionDetrConfig.from_backbone(name)
