"""The folder that goes to the Hub: all that loading, serving and understanding a model needs, and nothing else."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi
from PIL import Image

from .. import handler
from ..image_processing_fashion_detr import FashionDetrImageProcessor
from ..modeling_fashion_detr import FashionDetrForInstanceSegmentation
from ..photos_fashion_detr import to_rgb
from ..training.report import OVERLAYS_FOLDER
from .card import CardExample, needs_timm, render_card
from .project_files import LICENSE, TEMPLATE, project_file
from .run import Run
from .training_data import Splits, TrainingData

REQUIREMENTS = ("transformers>=5.23", "torch", "torchvision", "pillow")
EXAMPLES_FOLDER = "examples"
MOST_EXAMPLES = 4
LONGEST_SIDE = 1600  # pixels of an example; a page shows less
JPEG_QUALITY = 85


def write_folder(
    folder: Path,
    repo_id: str,
    model: FashionDetrForInstanceSegmentation,
    processor: FashionDetrImageProcessor,
    run: Run,
    splits: Splits | None,
    data: TrainingData,
    dtype: torch.dtype = torch.float32,
    license_id: str | None = None,
) -> None:
    """
    Writes model, code, handler, licence, examples and card into a folder.

    Args:
        folder: The folder, which exists.
        repo_id: The model's id on the Hub, `owner/name`.
        model, processor: What is published; both stay as they are.
        run: What the training left.
        splits, data: Its data, if it is there, and what is known of it.
        dtype: Of the stored weights. They load as float32 unless the loader asks for something else.
        license_id: The weights' licence, as the Hub names it, where the person states it.

    Raises:
        OSError: a file cannot be written.
    """
    weights = {name: _rounded(tensor, dtype) for name, tensor in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=weights)
    processor.save_pretrained(folder)
    shutil.copyfile(handler.__file__, folder / "handler.py")
    shutil.copyfile(project_file(LICENSE), folder / LICENSE)
    requirements = [*REQUIREMENTS, *(["timm>=1.0.15"] if needs_timm(model.config) else [])]
    (folder / "requirements.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")
    card = render_card(
        project_file(TEMPLATE).read_text(encoding="utf-8"),
        repo_id,
        model,
        run,
        data,
        canvas=(processor.size["height"], processor.size["width"]),
        examples=_write_examples(folder, run, splits),
        license_id=license_id,
        is_rounded=dtype == torch.bfloat16,
    )
    card.save(folder / "README.md")


def upload(folder: Path, repo_id: str, api: HfApi, private: bool) -> str:
    """
    Puts a folder's files into a repository of the Hub, made if it is missing, and returns the commit's address.

    Examples of an earlier publication that the folder does not have are deleted: they are photos of people.

    Raises:
        ValueError: it has to be private and is public already; nothing was uploaded.
    """
    api.create_repo(repo_id, exist_ok=True, private=private or None)  # else as its owner's default says
    if private and not api.repo_info(repo_id).private:  # making it again has not changed it
        raise ValueError("it is public already, and nothing was uploaded. Make it private in its settings on the Hub.")
    commit = api.upload_folder(
        repo_id=repo_id,
        folder_path=folder,
        commit_message="Publish a Fashion DETR",
        delete_patterns=[f"{EXAMPLES_FOLDER}/*"],
    )
    return commit.commit_url


def _rounded(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _write_examples(folder: Path, run: Run, splits: Splits | None) -> list[CardExample]:
    """Some of the run's overlays, smaller, each with its picture where the data is there."""
    arguments = run.arguments()
    if run.metrics is None or arguments is None:  # nobody knows what drew them: the run has not reached its end
        return []
    if arguments[1].eval_split == arguments[1].train_split:  # a memory is no example
        return []
    overlays = sorted((run.folder / OVERLAYS_FOLDER).glob("*.png"), key=lambda path: (len(path.stem), path.stem))
    pictures = {} if splits is None else _first_pictures(splits.held_out, len(overlays))
    examples = []
    for overlay in overlays[:MOST_EXAMPLES]:
        picture = pictures.get(overlay.stem)
        examples.append(
            CardExample(
                title=f"Picture {overlay.stem}",
                picture=None if picture is None else _save(picture, folder, f"{overlay.stem}.jpg"),
                layers=_save(Image.open(overlay), folder, f"{overlay.stem}_layers.jpg"),
            )
        )
    return examples


def _first_pictures(held_out: Sequence[dict[str, Any]], count: int) -> dict[str, Image.Image]:
    """The pictures that train.py draws its overlays of, by the names that it gives these."""
    pictures = {}
    for index in range(min(count, len(held_out))):
        example = held_out[index]
        image = example["image"]
        pictures[str(example["image_id"])] = image if isinstance(image, Image.Image) else Image.fromarray(image)
    return pictures


def _save(image: Image.Image, folder: Path, name: str) -> str:
    """Writes a JPEG below `folder`, and returns its path within it."""
    path = folder / EXAMPLES_FOLDER / name
    path.parent.mkdir(exist_ok=True)
    image = to_rgb(image).copy()
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    image.save(path, quality=JPEG_QUALITY)
    return path.relative_to(folder).as_posix()
