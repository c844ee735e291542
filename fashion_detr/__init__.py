"""
Fashion DETR: every garment, part and accessory of a photo, with its class, mask and attributes.

Names load at first use. With the first of them the classes are registered, so that transformers' auto classes find
`fashion_detr` without `trust_remote_code`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .configuration_fashion_detr import FashionDetrConfig
    from .image_processing_fashion_detr import FashionDetrImageProcessor
    from .modeling_fashion_detr import FashionDetrForInstanceSegmentation, FashionDetrModel, FashionDetrPreTrainedModel
    from .pipeline_fashion_detr import FashionDetrPipeline
    from .results_fashion_detr import FashionResult

__version__ = "0.1.0"

_MODULES = {
    "FashionDetrConfig": "configuration_fashion_detr",
    "FashionDetrForInstanceSegmentation": "modeling_fashion_detr",
    "FashionDetrImageProcessor": "image_processing_fashion_detr",
    "FashionDetrModel": "modeling_fashion_detr",
    "FashionDetrPipeline": "pipeline_fashion_detr",
    "FashionDetrPreTrainedModel": "modeling_fashion_detr",
    "FashionResult": "results_fashion_detr",
}

__all__ = [
    "FashionDetrConfig",
    "FashionDetrForInstanceSegmentation",
    "FashionDetrImageProcessor",
    "FashionDetrModel",
    "FashionDetrPipeline",
    "FashionDetrPreTrainedModel",
    "FashionResult",
]


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(_MODULES)}")
    from importlib import import_module

    for public, module in _MODULES.items():
        globals()[public] = getattr(import_module(f".{module}", __name__), public)
    _register()
    return globals()[name]


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])


def _register() -> None:
    """Makes the classes known to AutoConfig, AutoModel..., AutoImageProcessor in this process."""
    from transformers import (
        AutoConfig,
        AutoImageProcessor,
        AutoModel,
        AutoModelForImageSegmentation,
        AutoModelForInstanceSegmentation,
    )

    config, model = globals()["FashionDetrConfig"], globals()["FashionDetrForInstanceSegmentation"]
    AutoConfig.register(config.model_type, config, exist_ok=True)
    for auto_class in (AutoModel, AutoModelForImageSegmentation, AutoModelForInstanceSegmentation):
        auto_class.register(config, model, exist_ok=True)
    processors = {"torchvision": globals()["FashionDetrImageProcessor"]}
    AutoImageProcessor.register(config, image_processor_classes=processors, exist_ok=True)
