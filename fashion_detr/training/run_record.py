"""What a run leaves behind so that it can be repeated: its options, where it ran, and what it said."""

import json
import logging
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml

from ..hub_id import unlike_hub_id

OPTIONS_FILE = "config.yaml"
ENVIRONMENT_FILE = "environment.json"
LOG_FILE = "train.log"
PACKAGES = ("fashion-detr", "torch", "torchvision", "transformers", "accelerate", "datasets", "timm", "numpy", "pillow")


def keep_log(output_dir: Path) -> None:
    """What is logged from now on also goes to `train.log` in the run's folder. A run that goes on adds to its log."""
    output_dir.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(output_dir / LOG_FILE, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)


def write_record(output_dir: Path, options: dict[str, Any], processes: int) -> None:
    """
    Writes `config.yaml`, which `train.py` takes as it is, and `environment.json`.

    Args:
        output_dir: The run's folder, which exists.
        options: The options that differ from the defaults.
        processes: How many processes train together.
    """
    sources = {name: options[name] for name in ("model_name_or_path", "backbone_weights") if options.get(name)}
    options = options | {name: unlike_hub_id(source) for name, source in sources.items()}
    (output_dir / OPTIONS_FILE).write_text(yaml.safe_dump(options, sort_keys=True), encoding="utf-8")
    (output_dir / ENVIRONMENT_FILE).write_text(json.dumps(_environment(processes), indent=1), encoding="utf-8")


def usable_cores() -> int:
    """Cores that this process may run on: containers and `taskset` leave fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _environment(processes: int) -> dict[str, Any]:
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "command": without_tokens(sys.argv),
        "processes": processes,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_cores": usable_cores(),
        "devices": devices,
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def without_tokens(command: list[str]) -> list[str]:
    """A command line with the values of `--hub_token` and the like hidden: a run's folder is published."""
    hidden, value_is_next = [], False
    for word in command:
        option, equals, value = word.partition("=")
        is_token = option.startswith("--") and option.endswith("_token")
        hidden.append("***" if value_is_next else option + equals + ("***" if value else "") if is_token else word)
        value_is_next = is_token and not equals
    return hidden


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
