"""What a model learned from: how much of what, and under which terms. What nobody stated stays unknown."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..configuration_fashion_detr import FashionDetrConfig
from ..data.annotations import read_json
from ..data.dataset import Example
from ..data.images import find_annotation_file
from ..data.priors import pairs_of
from ..training.arguments import DataArguments
from ..training.splits import open_splits
from .run import Run

APACHE = "Apache-2.0"
# Beginning of the description in a data set's own files -> the terms of its annotations, which COCO's format has no
# place for: its `licenses` are those of the photos.
ANNOTATION_TERMS = {"Clothing Co-Parsing": APACHE, "Fashionpedia": "CC BY 4.0"}
# The rarest category is on one figure in thirty.
FIGURES_LOOKED_AT = 200


@dataclass(frozen=True)
class Splits:
    """
    The data of a run, as train.py took it.

    Attributes:
        train, held_out: What was learned from, and what the figures were measured on.
        annotation_file: Where the labels of `train` are; `None` where figures are drawn, or the data is packed.
        is_drawn: Whether they are no photos, but drawn.
    """

    train: Sequence[Example]
    held_out: Sequence[Example]
    annotation_file: Path | None
    is_drawn: bool


@dataclass(frozen=True)
class TrainingData:
    """
    What a card tells of the data. `None` stands for what is not known.

    Attributes:
        name, url: What it is called, and where it is from.
        annotations_terms, photos_terms: Their licences.
        num_images: How many photos were learned from.
        instances: Category -> its instances in them, for every category of the vocabulary.
        never_shown: The categories of the vocabulary that no photo shows.
        is_drawn: No photos, but figures drawn by this project's code.
    """

    name: str | None = None
    url: str | None = None
    annotations_terms: str | None = None
    photos_terms: str | None = None
    num_images: int | None = None
    instances: Mapping[str, int] | None = None
    never_shown: Sequence[str] | None = None
    is_drawn: bool = False


def recorded_splits(run: Run, canvas: tuple[int, int], data_dir: Path | None = None) -> Splits | None:
    """
    The data of a run; `None` where nothing tells where it is, or it is no longer there.

    Args:
        run: The run.
        canvas: Height and width of drawn figures, in pixels.
        data_dir: Where the data is now, if not where it was.

    Raises:
        FileNotFoundError: a split is missing.
        ValueError: a split is broken, or a folder is named for a run that learned from drawings.
    """
    arguments = run.arguments()
    options = arguments[1] if arguments else DataArguments()
    is_drawn = arguments is not None and options.data_dir is None
    if is_drawn and data_dir is not None:
        raise ValueError(f"{run.folder} has learned from drawings: there is no --data_dir, found {data_dir}.")
    if is_drawn:
        train, _, held_out = open_splits(options, run.seed, canvas)
        return Splits(train, held_out, None, is_drawn=True)
    if data_dir is None and options.data_dir is not None and Path(options.data_dir).is_dir():
        data_dir = Path(options.data_dir)
    if data_dir is None:
        return None
    train, _, held_out = open_splits(replace(options, data_dir=str(data_dir)), run.seed, canvas)
    try:
        annotation_file = find_annotation_file(data_dir, options.train_split)
    except FileNotFoundError:
        annotation_file = None
    return Splits(train, held_out, annotation_file, is_drawn=False)


def describe(
    splits: Splits | None, config: FashionDetrConfig, name: str | None = None, terms: str | None = None
) -> TrainingData:
    """
    What a card tells of the data.

    Args:
        splits: The data, if it is there.
        config: The configuration of the model that learned from it.
        name, terms: What the person states; it goes before what the data's own files say.

    Raises:
        ValueError: the data has a category that the model does not know, or drawings are given a name or terms.
    """
    name = _one_line(name)
    if splits is not None and splits.is_drawn and (name or terms):
        raise ValueError(
            "The model has learned from this project's drawings: there is no --data_name and no --data_license."
        )
    if splits is None:
        return TrainingData(name, annotations_terms=terms or _annotation_terms(name), photos_terms=terms)
    counts = _count(splits, config)
    shown = {label for label, count in counts.items() if count}
    facts = {
        "num_images": len(splits.train),
        "never_shown": [label for label in config.id2label.values() if label not in shown],
        "is_drawn": splits.is_drawn,
    }
    if splits.is_drawn:
        return TrainingData(
            "synthetic ensembles, dressed figures that this project's code draws", None, APACHE, APACHE, **facts
        )
    header = _header(splits.annotation_file)
    name = name or _one_line(header["info"].get("description"))
    return TrainingData(
        name=name,
        url=_one_line(header["info"].get("url")),
        annotations_terms=terms or _annotation_terms(name),
        photos_terms=terms or ", ".join(header["licenses"]) or None,
        instances=counts,
        **facts,
    )


def _one_line(text: Any) -> str | None:
    return " ".join(str(text or "").split()) or None


def _annotation_terms(name: str | None) -> str | None:
    """The terms of the annotations of a data set that is known."""
    return next((its for known, its in ANNOTATION_TERMS.items() if (name or "").startswith(known)), None)


def _count(splits: Splits, config: FashionDetrConfig) -> dict[str, int]:
    """Instances of every category of the vocabulary in the training data; of drawn figures in the first ones."""
    if splits.is_drawn:
        figures = (splits.train[index] for index in range(min(FIGURES_LOOKED_AT, len(splits.train))))
        found = Counter(annotation["category_id"] for figure in figures for annotation in figure["annotations"])
    else:
        found = Counter(category_id for category_id, _ in pairs_of(splits.train))
    unknown = sorted(set(found) - set(config.category_ids))
    if unknown:
        raise ValueError(
            f"The model does not know category {unknown[0]} of the training data: it has learned from other data."
        )
    return {config.id2label[index]: found[category_id] for index, category_id in enumerate(config.category_ids)}


def _header(annotation_file: Path | None) -> dict[str, Any]:
    """What an annotation file says of itself: `info`, a mapping, and `licenses`, names."""
    content = {} if annotation_file is None else read_json(annotation_file)
    info, licenses = content.get("info"), content.get("licenses")
    names = [entry.get("name") for entry in licenses if isinstance(entry, dict)] if isinstance(licenses, list) else []
    return {
        "info": info if isinstance(info, dict) else {},
        "licenses": [str(one) for one in dict.fromkeys(names) if one],
    }
