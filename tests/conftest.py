"""What the tests share: a model of a few thousand weights, labels for it, and the names of the files it consists of."""

import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

# Before the first import of transformers: no test may depend on the network.
os.environ["HF_HUB_OFFLINE"] = "1"
# With `pytest -n` a worker, and what it starts, has one thread: more would wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from transformers import SwinConfig

import fashion_detr
from fashion_detr import FashionDetrConfig, FashionDetrForInstanceSegmentation

STAGES = ["stage1", "stage2", "stage3", "stage4"]
TINY_BACKBONE = {
    "model_type": "resnet",
    "layer_type": "basic",
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 32, 64],
    "depths": [1, 1, 1, 1],
    "out_features": STAGES,
}

# What a saved model with its processor carries of the code.
FLAT_FILES = {path.name for path in Path(fashion_detr.__file__).parent.glob("*_fashion_detr.py")}


def _tiny_backbone(name: str) -> dict[str, Any] | SwinConfig:
    if name == "swin":
        return SwinConfig(
            image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4], window_size=2, out_features=STAGES
        )
    return TINY_BACKBONE


@pytest.fixture(scope="session")
def train_script() -> ModuleType:
    """The repository's `train.py` as a module."""
    spec = importlib.util.spec_from_file_location("train", Path(__file__).parent.parent / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., FashionDetrConfig]:
    """`tiny_config(backbone="resnet" | "swin" | a timm name, **fields)`."""

    def build(backbone: str = "resnet", **fields: Any) -> FashionDetrConfig:
        sizes = {
            "d_model": 32,
            "num_queries": 10,
            "decoder_layers": 2,
            "decoder_attention_heads": 4,
            "decoder_ffn_dim": 64,
        }
        if backbone in ("resnet", "swin"):
            return FashionDetrConfig(**{**sizes, "backbone_config": _tiny_backbone(backbone), **fields})
        return FashionDetrConfig.from_backbone(backbone, **{**sizes, **fields})

    return build


@pytest.fixture
def tiny_model(tiny_config) -> FashionDetrForInstanceSegmentation:
    torch.manual_seed(0)
    return FashionDetrForInstanceSegmentation(tiny_config()).eval()


@pytest.fixture(scope="session")
def random_labels() -> Callable[..., dict[str, list[torch.Tensor]]]:
    """`random_labels(config, counts, (height, width))`: boxes as masks, `counts[b]` instances in image b."""

    def build(
        config: FashionDetrConfig, counts: Sequence[int], size: tuple[int, int], seed: int = 0
    ) -> dict[str, list[torch.Tensor]]:
        random = torch.Generator().manual_seed(seed)
        height, width = size
        labels: dict[str, list[torch.Tensor]] = {"mask_labels": [], "class_labels": [], "attribute_labels": []}
        for count in counts:
            masks = torch.zeros(count, height, width)
            for mask in masks:
                top = int(torch.randint(height // 2, (), generator=random))
                left = int(torch.randint(width // 2, (), generator=random))
                mask[top : top + height // 2, left : left + width // 2] = 1
            labels["mask_labels"].append(masks)
            labels["class_labels"].append(torch.randint(config.num_labels, (count,), generator=random))
            carried = torch.rand(count, config.num_attributes, generator=random) > 0.9
            labels["attribute_labels"].append(carried.float())
        return labels

    return build
