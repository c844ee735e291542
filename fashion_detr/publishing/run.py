"""What a training run left behind, as far as the card of its model tells of it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser, TrainingArguments

from ..training.arguments import DataArguments, ModelArguments
from ..training.report import FIGURES_FILE
from ..training.run_record import ENVIRONMENT_FILE, OPTIONS_FILE

METRICS_NEEDED = ("AP_IoU", "num_images", "num_attributes")
# What the card computes with, of every record; people edit them.
KINDS = {
    FIGURES_FILE: {
        "AP_IoU": Real,
        "num_images": int,
        "num_attributes": int,
        "training_minutes": Real,
        "per_category": dict,
    },
    ENVIRONMENT_FILE: {"packages": dict, "devices": list},
    OPTIONS_FILE: {"data_dir": str, "model_name_or_path": str, "backbone_weights": str, "seed": int},
}
DEFAULT_SEED = TrainingArguments.seed


@dataclass(frozen=True)
class Run:
    """
    The records in the folder of a run. A folder that is only a saved model has none of them.

    Attributes:
        folder: Where they are.
        options: The options that differ from the defaults; `None` = not recorded.
        environment: Where it ran; `None` = not recorded.
        metrics: The final figures, as fractions; `None` = nothing was measured.
        judged: What they were measured on.
    """

    folder: Path
    options: dict[str, Any] | None
    environment: dict[str, Any] | None
    metrics: dict[str, Any] | None

    @property
    def judged(self) -> "Judged":
        """What the figures were measured on."""
        metrics, arguments = self.metrics or {}, self.arguments()
        split, data_dir = metrics.get("split"), metrics.get("data_dir")
        if arguments is None or split is None:
            return Judged(split)
        options = arguments[1]
        if _resolved(data_dir) != _resolved(options.data_dir):
            return Judged(split, is_other_data=True)
        return Judged(split, is_other_data=False, is_held_out=split != options.train_split)

    @property
    def seed(self) -> int:
        return (self.options or {}).get("seed", DEFAULT_SEED)

    def arguments(self) -> tuple[ModelArguments, DataArguments] | None:
        """The options on model and data, complete; `None` where they are not recorded."""
        if self.options is None:
            return None
        parser = HfArgumentParser((ModelArguments, DataArguments))
        return parser.parse_dict(self.options, allow_extra_keys=True)


@dataclass(frozen=True)
class Judged:
    """
    What figures were measured on, as far as the records tell; `None` stands for what they do not.

    Attributes:
        split: The name of the split.
        is_other_data: Whether it is of another folder than the run's data.
        is_held_out: Whether the model never learned from it.
    """

    split: str | None
    is_other_data: bool | None = None
    is_held_out: bool | None = None


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


def _resolved(data_dir: str | None) -> Path | None:
    return None if data_dir is None else Path(str(data_dir)).resolve()


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
    for name, kind in KINDS[path.name].items():
        if content.get(name) is not None and not isinstance(content[name], kind):
            raise ValueError(f"{path} has to be what train.py writes, but for {name!r} it has {content[name]!r}.")
    return content
