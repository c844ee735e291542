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

OPTIONS_FILE = "config.yaml"
ENVIRONMENT_FILE = "environment.json"
LOG_FILE = "train.log"
PACKAGES = ("fashion-detr", "torch", "torchvision", "transformers", "accelerate", "datasets", "timm", "numpy", "pillow")


def write_record(output_dir: Path, options: dict[str, Any], processes: int) -> None:
    """
    Writes `config.yaml`, which `train.py` takes as it is, and `environment.json`; what is logged from now on also goes
    to `train.log`. A run that goes on adds to its log.

    Args:
        output_dir: The run's folder; made if it is missing.
        options: The options that differ from the defaults.
        processes: How many processes train together.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    (output_dir / OPTIONS_FILE).write_text(yaml.safe_dump(options, sort_keys=True), encoding="utf-8")
    (output_dir / ENVIRONMENT_FILE).write_text(json.dumps(_environment(processes), indent=1), encoding="utf-8")
    handler = logging.FileHandler(output_dir / LOG_FILE, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)


def _environment(processes: int) -> dict[str, Any]:
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "command": sys.argv,
        "processes": processes,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_cores": os.cpu_count(),
        "devices": devices,
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
