"""Depthwise convolutions under mixed precision on a CPU."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn


def keep_depthwise_in_float32(model: nn.Module) -> None:
    """
    Has a model's depthwise convolutions compute in float32 where the CPU's autocast would choose bf16. What they
    hand on has the precision of what they got.

    Their backward pass in bf16 takes a CPU up to five times as long as in float32: it was a third of a step of a model
    whose backbone is made of them.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            module.forward = partial(_without_autocast, module, module.forward)


def _without_autocast(
    module: nn.Conv2d, convolve: Callable[[torch.Tensor], torch.Tensor], maps: torch.Tensor
) -> torch.Tensor:
    with torch.autocast("cpu", enabled=False):
        # The weights' own precision is float32, but for a model that is judged in half precision.
        return convolve(maps.to(module.weight.dtype)).to(maps.dtype)
