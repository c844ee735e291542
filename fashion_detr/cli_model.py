"""Which model a command works with, and loading it."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .cli_error import CommandError
from .hub_id import is_hub_id

if TYPE_CHECKING:
    from . import FashionDetrForInstanceSegmentation, FashionDetrImageProcessor

# Any one file of each group makes that part of a model.
MODEL_FILES = {
    "configuration": ("config.json",),
    "weights": (
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
    ),
    "image processor": ("preprocessor_config.json", "processor_config.json"),
}
# In a clone of the repository, or installed from one with `pip install -e`.
DEFAULT_MODEL = Path(__file__).parents[1] / "checkpoints" / "fashion-detr-lite0-ccp"


def add_model_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        type=os.path.expanduser,
        default=str(DEFAULT_MODEL) if DEFAULT_MODEL.is_dir() else None,
        required=not DEFAULT_MODEL.is_dir(),
        help="folder of a trained model, or its id on the Hub (owner/name); by default the repository's own, for "
        "street photos",
    )


def add_device_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", help="where the model runs: cuda, cuda:1, mps ... (cpu)")


def load_model(source: str) -> "tuple[FashionDetrForInstanceSegmentation, FashionDetrImageProcessor]":
    """
    The model and the image processor of a folder, or of the Hub.

    Raises:
        CommandError: a file is damaged, they do not belong together, or it is another model.
    """
    from . import FashionDetrImageProcessor
    from .loading import load_whole

    try:
        with quiet_transformers():
            return load_whole(source), FashionDetrImageProcessor.from_pretrained(source)
    except Exception as error:  # a damaged file can raise anything in the libraries that parse it
        where = f" (there is no folder {source} here, so it was looked for on the Hub)" if is_hub_id(source) else ""
        raise CommandError(f"The model {source} cannot be loaded{where}: {error}") from error


def require_device(device: str) -> None:
    import torch

    try:
        torch.zeros(1, device=device).cpu()
    except (AssertionError, ImportError, NotImplementedError, RuntimeError) as error:  # a build without CUDA asserts
        reason = str(error).strip().splitlines()[0]
        raise CommandError(f"--device {device}: PyTorch cannot use it here ({reason}). Use --device cpu.") from error


def model_source(name: str) -> str:
    """
    The folder or the id on the Hub that `--model` means; an id is `owner/name` where no folder `owner` is here.

    Raises:
        CommandError: there is no such folder, or it lacks files.
    """
    if is_hub_id(name):
        return name
    folder = Path(name)
    if not os.path.isdir(folder):
        raise CommandError(f"The model folder {folder} does not exist. --model takes a folder made by training.")
    if not os.access(folder, os.X_OK):
        raise CommandError(f"The files of the model folder {folder} may not be opened: it needs the permission.")
    lacking = [
        f"its {part} ({files[0]})"
        for part, files in MODEL_FILES.items()
        if not any(os.path.isfile(folder / file) for file in files)
    ]
    if lacking:
        raise CommandError(
            f"The model folder {folder} lacks {' and '.join(lacking)}. Model and image processor are written there by "
            "training, or by their `save_pretrained`."
        )
    for file in (folder / file for files in MODEL_FILES.values() for file in files):
        if file.is_file() and not os.access(file, os.R_OK):  # weights are written for their owner alone
            raise CommandError(f"You may not read {file}: its owner can allow it, `chmod a+r`.")
    return str(folder)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Holds back the progress bars and reports of transformers and the Hub: what goes wrong is said once, by us."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    verbosity, of_hub = logging.get_verbosity(), hub_logging.get_verbosity()
    had_bars = logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    hub_logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        hub_logging.set_verbosity(of_hub)
        if had_bars:
            logging.enable_progress_bar()
