"""An exponential moving average of the weights, which is what is evaluated and published."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import AveragedModel

AVERAGE_FILE = "average.safetensors"


class WeightAverage:
    """
    Follows a model's parameters and buffers: after every step, average = d average + (1 - d) model.

    Args:
        model: The model that learns.
        decay: The share d in 0..1 that the average keeps. Early on it is (1 + n) / (10 + n), n the steps before, so
            that what was learnt first, which is little, is soon forgotten; the first step's weights are taken whole.
    """

    def __init__(self, model: torch.nn.Module, decay: float):
        self._decay = decay
        self.follow(model)

    def follow(self, model: torch.nn.Module) -> None:
        """Begins anew, with the weights that the model has now."""

        def average(averages: list[torch.Tensor], current: list[torch.Tensor], updates: torch.Tensor) -> None:
            kept = min(self._decay, (1 + int(updates)) / (10 + int(updates)))
            for old, new in zip(averages, current):
                if old.is_floating_point():
                    old.lerp_(new, 1 - kept)
                else:
                    old.copy_(new)

        self.model = model
        self._is_in_place = False
        self.averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=True)

    def update(self) -> None:
        self.averaged.update_parameters(self.model)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the averaged weights inside the block; blocks inside of it change nothing."""
        if self._is_in_place:
            yield
            return
        self._swap()
        self._is_in_place = True
        try:
            yield
        finally:
            self._swap()
            self._is_in_place = False

    def keep(self) -> None:
        """The model has the averaged weights from now on."""
        self.model.load_state_dict(self.averaged.module.state_dict())

    def save(self, folder: Path) -> None:
        tensors = {name: tensor.detach().contiguous() for name, tensor in self.averaged.state_dict().items()}
        save_file(tensors, folder / AVERAGE_FILE)

    def load(self, folder: Path) -> None:
        """Raises FileNotFoundError if the checkpoint has no average."""
        self.averaged.load_state_dict(load_file(folder / AVERAGE_FILE))

    def _swap(self) -> None:
        for mine, theirs in zip(self._tensors(self.model), self._tensors(self.averaged.module)):
            mine.data, theirs.data = theirs.data, mine.data

    @staticmethod
    def _tensors(model: torch.nn.Module) -> Iterator[torch.Tensor]:
        yield from model.parameters()
        yield from model.buffers()
