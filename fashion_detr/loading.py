"""Loading a saved model with this package's code."""

import torch
from safetensors import SafetensorError

from .configuration_fashion_detr import FashionDetrConfig
from .modeling_fashion_detr import FashionDetrForInstanceSegmentation


def load_whole(source: str) -> FashionDetrForInstanceSegmentation:
    """
    A saved model in float32 with every one of its weights; `from_pretrained` fills gaps by chance and only logs it.

    Args:
        source: Folder, or id on the Hub.

    Raises:
        OSError: there is no such model.
        ValueError: it is a model of another kind, or weights are missing or damaged.
    """
    kind = FashionDetrConfig.get_config_dict(source)[0].get("model_type")
    if kind != FashionDetrConfig.model_type:
        raise ValueError(f"{source} is a model of type {kind!r}, expected {FashionDetrConfig.model_type!r}.")
    try:
        model, report = FashionDetrForInstanceSegmentation.from_pretrained(
            source, dtype=torch.float32, output_loading_info=True
        )
    except SafetensorError as error:
        raise ValueError(f"The weights of {source} are damaged: {error}.") from error
    missing, unknown = sorted(report["missing_keys"]), len(report["unexpected_keys"])
    if missing:
        raise ValueError(
            f"The weights of {source} do not fit its config.json and this version of the code: {len(missing)} tensors "
            f"are missing, such as {missing[0]!r}, and {unknown} are not known. A model of another version works with "
            "the code in its own folder, by `AutoModel.from_pretrained(..., trust_remote_code=True)`."
        )
    return model
