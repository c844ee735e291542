"""What a training run left behind, as far as the card of its model tells of it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

from ..training.arguments import DataArguments, ModelArguments
from ..training.report import FIGURES_FILE
from ..training.run_record import ENVIRONMENT_FILE, OPTIONS_FILE

METRICS_NEEDED = ("AP_IoU", "num_images", "num_attributes")
DEFAULT_SEED = 42  # of transformers' TrainingArguments


@dataclass(frozen=True)
class Run:
    """
    The records in the folder of a run. A folder that is only a saved model has none of them.

    Attributes:
        folder: Where they are.
        options: The options that differ from the defaults; `None` = not recorded.
        environment: Where it ran; `None` = not recorded.
        metrics: The final figures, as fractions; `None` = nothing was measured.
    """

    folder: Path
    options: dict[str, Any] | None
    environment: dict[str, Any] | None
    metrics: dict[str, Any] | None

    @property
    def seed(self) -> int:
        return (self.options or {}).get("seed", DEFAULT_SEED)

    def arguments(self) -> tuple[ModelArguments, DataArguments] | None:
        """The options on model and data, complete; `None` where they are not recorded."""
        if self.options is None:
            return None
        parser = HfArgumentParser((ModelArguments, DataArguments))
        return parser.parse_dict(self.options, allow_extra_keys=True)


def read_run(folder: Path) -> Run:
    """
    The records in a folder.

    Raises:
        ValueError: one of them is broken; the message names it.
    """
    metrics = _read(folder / FIGURES_FILE, json.loads)
    missing = [name for name in METRICS_NEEDED if metrics is not None and name not in metrics]
    if missing:
        raise ValueError(f"{folder / FIGURES_FILE} lacks {missing}: it is not what train.py or evaluate writes.")
    return Run(
        folder=folder,
        options=_read(folder / OPTIONS_FILE, yaml.safe_load),
        environment=_read(folder / ENVIRONMENT_FILE, json.loads),
        metrics=metrics,
    )


def _read(path: Path, parse: Callable[[str], Any]) -> dict[str, Any] | None:
    """The mapping in a file; `None` where there is no such file."""
    if not path.is_file():
        return None
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} has to be what train.py writes, a mapping; found {type(content).__name__}.")
    return content
