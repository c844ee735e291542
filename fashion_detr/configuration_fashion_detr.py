"""Configuration of Fashion DETR: architecture, loss, and the only place where label names live."""

import math
import sys
from numbers import Integral, Real

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig, ResNetConfig, SwinConfig, TimmBackboneConfig
from transformers.configuration_utils import SubConfigSpec

from .ontology_fashion_detr import ATTRIBUTES, CATEGORIES

REDUCTIONS = (4, 8, 16, 32)
MASK_STRIDE = REDUCTIONS[0]  # of the mask logits
STAGES = ("stage1", "stage2", "stage3", "stage4")

# What is of no use without the names that it belongs to.
LABEL_FIELDS = ("id2label", "label2id", "category_ids", "category_supercategories", "category_attributes")
ATTRIBUTE_FIELDS = (
    "id2attribute",
    "attribute_ids",
    "attribute_supercategories",
    "category_attributes",
    "attribute_thresholds",
)


@strict
class FashionDetrConfig(PreTrainedConfig):
    r"""
    Configuration of [`FashionDetrForInstanceSegmentation`]. The defaults are the ResNet-50 model of "DETR-based Layered
    Clothing Segmentation and Fine-Grained Attribute Recognition" (Tian, Cao and Mok, CVPRW 2023) on Fashionpedia's
    46 categories and 294 attributes.

    Args:
        backbone_config (`PreTrainedConfig` or `dict`, *optional*, defaults to a ResNet-50):
            Any transformers backbone that yields four maps at reductions 4, 8, 16 and 32. Weights never come from the
            configuration. [`~FashionDetrConfig.from_backbone`] builds it from a name.
        freeze_backbone_batch_norm (`bool`, *optional*, defaults to `True`):
            Keeps the statistics and the affine parameters of the backbone's batch norms fixed, as is right for
            pretrained weights and small batches. Set to `False` when the backbone is trained from scratch.
        d_model (`int`, *optional*, defaults to 256):
            Channels of the feature pyramid, the fused feature and the queries.
        num_queries (`int`, *optional*, defaults to 100):
            The largest number of instances found in one image.
        decoder_layers (`int`, *optional*, defaults to 3):
            Stages of the decoder (the paper's j).
        decoder_attention_heads (`int`, *optional*, defaults to 8):
            Heads of every attention.
        decoder_ffn_dim (`int`, *optional*, defaults to 512):
            Width of the feed-forward networks.
        dropout (`float`, *optional*, defaults to 0.1):
            Share, 0 to below 1, of what the decoder's attentions and feed-forward networks yield that training drops.
        evidence_dropout (`float`, *optional*, defaults to 0.5):
            Probability, 0 to below 1, that training hides the features under an instance's mask from its attributes.
        internal_attention (`bool`, *optional*, defaults to `True`):
            Attention of a query to the pixels inside its previous mask, at several scales. `False` is for ablation.
        external_attention (`bool`, *optional*, defaults to `True`):
            Attention of a query to the regions of the other instances. `False` is for ablation.
        multi_layer_rendering (`bool`, *optional*, defaults to `True`):
            Attribute evidence pooled from every level of the pyramid (eq. 2). `False` pools the fused feature only.
        class_loss_weight, mask_loss_weight, dice_loss_weight, attribute_loss_weight (`float`, *optional*, default 1):
            The lambdas of eq. 3; `mask` is the focal term of the masks.
        class_cost, mask_cost, dice_cost, attribute_cost (`float`, *optional*):
            Weights of the terms in the bipartite matching; they do not enter the loss.
        focal_alpha (`float`, *optional*, defaults to 0.25), focal_gamma (`float`, *optional*, defaults to 2.0):
            Focal loss: gamma of the classes and the masks, alpha of the classes (a mask's two sides weigh alike).
        id2label (`dict[int, str]`, *optional*, defaults to Fashionpedia's 46 categories):
            Contiguous class index -> name.
        category_ids (`list[int]`, *optional*):
            Class index -> the data set's own category id. Defaults to the index itself.
        category_supercategories (`list[str]`, *optional*):
            Class index -> super-category.
        id2attribute (`dict[int, str]`, *optional*, defaults to Fashionpedia's 294 attributes):
            Contiguous attribute index -> name.
        attribute_ids (`list[int]`, *optional*):
            Attribute index -> the data set's own id (Fashionpedia's are sparse). Defaults to the index itself.
        attribute_supercategories (`list[str]`, *optional*):
            Attribute index -> super-category ("length", "textile pattern", ...).
        category_attributes (`dict[int, list[int]]`, *optional*):
            Class index -> the attribute indices that this class can carry; the others are never reported for it.
            `None` allows every attribute everywhere.
        attribute_thresholds (`list[float]`, *optional*):
            Attribute index -> the probability, 0 to 1, from which this attribute is reported, as training or
            `fashion-detr evaluate --save_attribute_thresholds` found it to serve best. `None`: 0.3 for all.

    Raises:
        StrictDataclassFieldValidationError: a field of another type, of `huggingface_hub`.
        StrictDataclassClassValidationError: sizes or label lists contradict each other, of `huggingface_hub`.
        ValueError: names that are no dictionary, another number of labels than names, an unknown backbone.

    Example:

    ```python
    >>> from fashion_detr import FashionDetrConfig, FashionDetrForInstanceSegmentation

    >>> config = FashionDetrConfig.from_backbone("resnet50")
    >>> model = FashionDetrForInstanceSegmentation(config)
    ```"""

    _auto_class = "AutoConfig"
    model_type = "fashion_detr"
    sub_configs_defaults = {
        "backbone_config": SubConfigSpec(
            config_class=AutoConfig, model_type="resnet", init_kwargs={"out_features": list(STAGES)}
        )
    }
    attribute_map = {
        "hidden_size": "d_model",
        "num_hidden_layers": "decoder_layers",
        "num_attention_heads": "decoder_attention_heads",
    }

    backbone_config: dict | PreTrainedConfig | None = None
    freeze_backbone_batch_norm: bool = True

    d_model: int = 256
    num_queries: int = 100
    decoder_layers: int = 3
    decoder_attention_heads: int = 8
    decoder_ffn_dim: int = 512
    dropout: float | int = 0.1
    evidence_dropout: float | int = 0.5
    internal_attention: bool = True
    external_attention: bool = True
    multi_layer_rendering: bool = True

    class_loss_weight: float | int = 1.0
    mask_loss_weight: float | int = 1.0
    dice_loss_weight: float | int = 1.0
    attribute_loss_weight: float | int = 1.0
    class_cost: float | int = 2.0
    mask_cost: float | int = 5.0
    dice_cost: float | int = 5.0
    attribute_cost: float | int = 1.0
    focal_alpha: float | int = 0.25
    focal_gamma: float | int = 2.0

    category_ids: list[int] | None = None
    category_supercategories: list[str] | None = None
    id2attribute: dict | None = None
    attribute_ids: list[int] | None = None
    attribute_supercategories: list[str] | None = None
    category_attributes: dict | None = None
    attribute_thresholds: list | None = None

    def __post_init__(self, **kwargs):
        if "num_attributes" in kwargs:
            raise ValueError("`num_attributes` follows from the names: give `id2attribute`, index -> name.")
        if kwargs.get("backbone") is not None:
            raise ValueError(
                f"A backbone is chosen by `FashionDetrConfig.from_backbone({kwargs['backbone']!r})`, or given as "
                "`backbone_config`; `backbone` is no field."
            )
        if not isinstance(kwargs.get("num_labels", 0), Integral):
            raise ValueError(f"`num_labels` has to be a whole number, found {kwargs['num_labels']!r}.")
        if self.id2label is None and self.label2id is not None:
            self.id2label = {index: name for name, index in self.label2id.items()}
        self.id2label = _with_integer_keys("id2label", self.id2label)
        if self.id2label is not None and kwargs.get("num_labels", len(self.id2label)) != len(self.id2label):
            raise ValueError(f"`num_labels` is {kwargs['num_labels']}, but `id2label` has {len(self.id2label)} names.")
        backbone = self.backbone_config
        if isinstance(backbone, dict) and backbone.get("model_type") not in CONFIG_MAPPING:
            raise ValueError(
                "`backbone_config` needs the `model_type` of a backbone of transformers, such as 'resnet', 'swin' or "
                f"'timm_backbone', found {backbone.get('model_type')!r}."
            )
        if self.id2label is None and "num_labels" not in kwargs:
            self.id2label = {index: name for index, (name, _) in enumerate(CATEGORIES)}
            self.category_supercategories = self.category_supercategories or [group for _, group in CATEGORIES]
        if self.id2attribute is None:
            self.id2attribute = {index: name for index, (_, name, _) in enumerate(ATTRIBUTES)}
            self.attribute_ids = self.attribute_ids or [attribute_id for attribute_id, _, _ in ATTRIBUTES]
            self.attribute_supercategories = self.attribute_supercategories or [group for _, _, group in ATTRIBUTES]
        super().__post_init__(**kwargs)

        self.label2id = {name: index for index, name in self.id2label.items()}
        self.id2attribute = _with_integer_keys("id2attribute", self.id2attribute)
        self.category_attributes = _with_integer_keys("category_attributes", self.category_attributes)
        if self.category_ids is None:
            self.category_ids = sorted(self.id2label)
        if self.attribute_ids is None:
            self.attribute_ids = sorted(self.id2attribute)

    @property
    def num_attributes(self) -> int:
        """Number of attributes (the paper's A)."""
        return len(self.id2attribute)

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs):
        """
        A new vocabulary takes the place of all that belongs to the saved one: fine-tuning on other labels needs
        their names alone, `from_pretrained(..., id2label={0: "shirt", 1: "shoe"})`. The saved one once more, or as many
        labels as it has, changes nothing.
        """
        fields = ("num_labels", *LABEL_FIELDS, *ATTRIBUTE_FIELDS)
        given = {name: kwargs.pop(name) for name in fields if name in kwargs}
        # Scripts say "as it was" by None; of these two it is a value.
        clearable = ("category_attributes", "attribute_thresholds")
        given = {name: value for name, value in given.items() if value is not None or name in clearable}
        labels, attributes = given.get("id2label"), given.get("id2attribute")
        if labels is None and "label2id" in given:
            labels = {index: name for name, index in given["label2id"].items()}
        replaced = ()
        if labels is not None:
            replaced += () if _are_equal_names(config_dict.get("id2label"), labels) else LABEL_FIELDS
        elif "num_labels" in given and given["num_labels"] != len(config_dict.get("id2label") or ()):
            replaced += LABEL_FIELDS
        if attributes is not None and not _are_equal_names(config_dict.get("id2attribute"), attributes):
            replaced += ATTRIBUTE_FIELDS
        saved = {name: value for name, value in config_dict.items() if name not in replaced}
        return super().from_dict(saved | given, **kwargs)

    @classmethod
    def from_backbone(cls, name: str, **kwargs) -> "FashionDetrConfig":
        """
        Builds a configuration around a backbone, without network access and without weights.

        Args:
            name (`str`):
                `"resnet50"`, `"resnet101"`, `"swin_base"` (image size 224, window 7), or the name of a timm model
                whose `features_only` form offers maps at reductions 4, 8, 16 and 32, of images of any size.
            kwargs:
                Further fields of the configuration.

        Raises:
            ValueError: timm does not know the name, or the model does not offer the four maps.
            ImportError: the name is timm's and timm is not installed.
        """
        transformers_backbones = {
            "resnet50": lambda: ResNetConfig(out_features=list(STAGES)),
            "resnet101": lambda: ResNetConfig(depths=[3, 4, 23, 3], out_features=list(STAGES)),
            "swin_base": lambda: SwinConfig(
                image_size=224,
                window_size=7,
                embed_dim=128,
                depths=[2, 2, 18, 2],
                num_heads=[4, 8, 16, 32],
                out_features=list(STAGES),
            ),
        }
        build = transformers_backbones.get(name, lambda: _timm_backbone_config(name))
        return cls(backbone_config=build(), **kwargs)

    def validate_architecture(self):
        """Checks what no single field can tell; runs at construction and before saving."""
        for field in ("d_model", "num_queries", "decoder_layers", "decoder_ffn_dim", "decoder_attention_heads"):
            if getattr(self, field) < 1:
                raise ValueError(f"`{field}` has to be at least 1, found {getattr(self, field)}.")
        for field in ("dropout", "evidence_dropout"):
            if not 0 <= getattr(self, field) < 1:
                raise ValueError(f"`{field}` has to lie between 0 and below 1, found {getattr(self, field)}.")
        if self.d_model % self.decoder_attention_heads or self.d_model % 4:
            raise ValueError(
                f"`d_model` has to be a multiple of 4 and of `decoder_attention_heads`; "
                f"found d_model={self.d_model}, decoder_attention_heads={self.decoder_attention_heads}."
            )
        for term in ("class", "mask", "dice", "attribute"):
            for field in (f"{term}_loss_weight", f"{term}_cost"):
                if not 0 <= getattr(self, field) < math.inf:
                    raise ValueError(f"`{field}` has to be a number from 0 on, found {getattr(self, field)}.")
        if not 0 <= self.focal_alpha <= 1 or not 0 <= self.focal_gamma < math.inf:
            raise ValueError(
                "`focal_alpha` has to lie between 0 and 1 and `focal_gamma` to be a number from 0 on, found "
                f"{self.focal_alpha} and {self.focal_gamma}."
            )
        if not self.id2label:
            raise ValueError("`id2label` has no names: the model needs one class at least.")
        _check_labels("id2label", self.id2label, "category_ids", self.category_ids, self.category_supercategories)
        _check_labels(
            "id2attribute", self.id2attribute, "attribute_ids", self.attribute_ids, self.attribute_supercategories
        )
        if self.attribute_thresholds is not None:
            wrong = [value for value in self.attribute_thresholds if not (isinstance(value, Real) and 0 <= value <= 1)]
            if wrong or len(self.attribute_thresholds) != self.num_attributes:
                raise ValueError(
                    f"`attribute_thresholds` needs one probability for each of the {self.num_attributes} attributes, "
                    f"found {len(self.attribute_thresholds)} values"
                    + (f", of which {wrong[0]!r} is no probability." if wrong else ".")
                )
        for category, attributes in (self.category_attributes or {}).items():
            indices = range(self.num_attributes)
            known = isinstance(attributes, (list, tuple)) and all(index in indices for index in attributes)
            if category not in self.id2label or not known:
                raise ValueError(
                    f"`category_attributes` maps class index {category} to {attributes}; classes are 0 to "
                    f"{len(self.id2label) - 1} and attributes 0 to {len(self.id2attribute) - 1}."
                )


def vocabulary_of(config: FashionDetrConfig | None) -> FashionDetrConfig:
    """The configuration, by default that of Fashionpedia's ontology. Raises ValueError for anything else."""
    if config is None:
        return FashionDetrConfig()
    if not hasattr(config, "id2attribute"):  # its class is another one where it came with a model
        raise ValueError(f"`config` has to be the model's, `model.config`, found {type(config).__name__}.")
    return config


def _with_integer_keys(field: str, mapping: dict | None) -> dict | None:
    """JSON turns integer keys into text, in whose order 10 comes before 2."""
    if mapping is None:
        return None
    try:
        return {index: mapping[key] for index, key in sorted((int(key), key) for key in mapping)}
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{field}` has to be a dictionary whose keys are 0, 1, 2 ..., found {mapping!r}.") from error


def _are_equal_names(saved: dict | None, given: dict | None) -> bool:
    """Whether both are the same names; what is no dictionary of names is refused where it is used."""
    try:
        return _with_integer_keys("saved", saved) == _with_integer_keys("given", given)
    except ValueError:
        return False


def _check_labels(field: str, names: dict, ids_field: str, ids: list, supercategories: list | None) -> None:
    """Names are texts and count from 0; the parallel lists are as long; the data set's ids are unique."""
    if sorted(names) != list(range(len(names))):
        raise ValueError(f"The keys of `{field}` have to be 0 to {len(names) - 1}, found {sorted(names)}.")
    if not all(isinstance(name, str) for name in names.values()):
        found = next(name for name in names.values() if not isinstance(name, str))
        raise ValueError(f"The names in `{field}` have to be texts, found {found!r}.")
    if len(set(names.values())) != len(names):
        twice = sorted({name for name in names.values() if list(names.values()).count(name) > 1})
        raise ValueError(f"Every name in `{field}` has to occur once, found several times: {', '.join(twice)}.")
    if ids is None or len(ids) != len(names) or len(set(ids)) != len(ids):
        found = "none" if ids is None else f"{len(ids)}, of which {len(set(ids))} differ"
        raise ValueError(
            f"`{field}` has {len(names)} names, so `{ids_field}` needs {len(names)} different ids; found {found}. For "
            f"other labels than a saved model's give `{field}` to `from_pretrained`: it replaces all that belongs to "
            "the old ones."
        )
    if supercategories is not None and len(supercategories) != len(names):
        raise ValueError(
            f"`{field}` has {len(names)} names, but there are {len(supercategories)} super-categories for it."
        )


def _timm_backbone_config(name: str) -> TimmBackboneConfig:
    """The four maps of a timm model, chosen by their reduction because their position differs from model to model."""
    try:  # outside of it, remote code would need timm whatever the backbone
        import timm
    except ImportError as error:
        raise ImportError(
            f"The backbone {name!r} is a timm model: install it with `pip install timm`. "
            "Without timm there are 'resnet50', 'resnet101' and 'swin_base'."
        ) from error
    import torch

    if not timm.is_model(name):
        similar = timm.list_models(f"*{name.split('.')[0]}*")[:5]
        raise ValueError(
            f"Unknown backbone {name!r}. Known are 'resnet50', 'resnet101', 'swin_base' and timm's model names"
            + (f", such as {', '.join(similar)}." if similar else " (see `timm.list_models()`).")
        )
    try:
        with torch.device("meta"):
            features = timm.create_model(name, features_only=True, pretrained=False)
    except (RuntimeError, AttributeError, AssertionError) as error:
        raise ValueError(f"timm's {name!r} cannot be used as a backbone: it has no feature maps ({error}).") from error
    reductions = features.feature_info.reduction()
    missing = [reduction for reduction in REDUCTIONS if reduction not in reductions]
    if missing:
        raise ValueError(
            f"A backbone has to offer feature maps at reductions {list(REDUCTIONS)}, but timm's {name!r} offers "
            f"{reductions}. Choose a model with a feature hierarchy, such as a ResNet, a ConvNeXt or an EfficientNet."
        )
    if str(getattr(features, "output_fmt", "NCHW")).upper().endswith("NHWC"):
        raise ValueError(
            f"timm's {name!r} yields maps with the channels last (NHWC); a backbone has to yield (B, C, H, W). "
            "For Swin use 'swin_base' or pass a transformers `SwinConfig` as `backbone_config`."
        )
    # A reduction can occur more than once (a stem beside a stage): the deepest map of it has seen the most.
    # The indices are the model's own, of which timm need not list the first ones.
    deepest = dict(zip(reductions, features.feature_info.out_indices))
    return TimmBackboneConfig(backbone=name, out_indices=[deepest[reduction] for reduction in REDUCTIONS])


def make_findable(module_name: str) -> None:
    """
    Sets a module as an attribute of its package, as an import does and transformers' loader of remote code does not.

    Without it what pickles classes by their names finds none of them: `datasets`, which hashes what `Dataset.map` is
    given, would follow all that they refer to without an end.
    """
    package, _, name = module_name.rpartition(".")
    if package in sys.modules:
        setattr(sys.modules[package], name, sys.modules[module_name])


make_findable(__name__)

__all__ = ["FashionDetrConfig"]
