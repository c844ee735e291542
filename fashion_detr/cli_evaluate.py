"""`fashion-detr evaluate`: the figures of a model, or of a file of predictions."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cli_error import CommandError, complain
from .cli_model import add_device_option, load_model, model_source, require_device
from .cli_path import local_path, require_writable

if TYPE_CHECKING:
    from . import FashionDetrConfig
    from .data.annotations import Vocabulary
    from .metrics import FashionAveragePrecision


def add_evaluate(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="measure a model, or a file of predictions",
        description="AP_IoU and AP_IoU+F1 at the photos' original size: a table, OUTPUT/metrics.json and the picture "
        "OUTPUT/evaluation.png. Give either --model and --data_dir, or --predictions and --annotations.",
    )
    parser.add_argument(
        "--model", type=os.path.expanduser, help="folder of a trained model, or its id on the Hub (owner/name)"
    )
    parser.add_argument("--data_dir", type=local_path, help="data set in Fashionpedia's layout")
    parser.add_argument("--split", default="val", help="split of the data set (val)")
    add_device_option(parser)
    parser.add_argument(
        "--save_attribute_thresholds",
        action="store_true",
        help="find from which probability on each attribute is best reported, and store it in the model's config.json; "
        "on a split that no figure is reported on",
    )
    parser.add_argument("--predictions", type=local_path, help="results of any model, in Fashionpedia's result format")
    parser.add_argument("--annotations", type=local_path, help="the annotation file that they are held against")
    parser.add_argument(
        "--output", required=True, type=local_path, help="folder for the results; made if it is missing"
    )
    parser.set_defaults(run=evaluate)


def evaluate(arguments: argparse.Namespace) -> int:
    """
    Runs `fashion-detr evaluate`.

    Raises:
        CommandError: what is to be measured is not usable, or the figures cannot be written.
    """
    pairs = ((arguments.model, arguments.data_dir), (arguments.predictions, arguments.annotations))
    complete, begun = [all(pair) for pair in pairs], [any(pair) for pair in pairs]
    if complete != begun or sum(complete) != 1:
        raise CommandError("evaluate needs either --model and --data_dir, or --predictions and --annotations.")
    if arguments.save_attribute_thresholds and not (Path(arguments.model or "") / "config.json").is_file():
        raise CommandError("--save_attribute_thresholds needs --model with the folder of a model, to write into it.")
    _check_figures_folder(arguments)
    from .training.report import format_table, write_report

    score = _score_file if arguments.predictions else _score_model
    try:
        metric, document = score(arguments)
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from error
    said = []
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
        said.append(f"All figures: {' and '.join(map(str, write_report(document, metric, arguments.output)))}")
        if arguments.save_attribute_thresholds:
            said.append(_save_attribute_thresholds(metric, Path(arguments.model) / "config.json"))
    except OSError as error:
        raise CommandError(f"The figures cannot be written to {arguments.output}: {error}.") from error
    finally:  # after the files, since whoever reads it may have gone, and whatever became of them
        print(format_table(document), *said, sep="\n", flush=True)
    return 0


def _check_figures_folder(arguments: argparse.Namespace) -> None:
    """What cannot be written is better known before all photos are looked at."""
    output = arguments.output.absolute()
    there = next(path for path in (output, *output.parents) if path.exists())
    if not there.is_dir():
        raise CommandError(f"The folder --output {arguments.output} cannot be made: {there} is a file.")
    require_writable(there, f"--output {arguments.output}")
    if arguments.save_attribute_thresholds and not os.access(Path(arguments.model) / "config.json", os.W_OK):
        raise CommandError(f"--save_attribute_thresholds: {arguments.model}/config.json may not be written.")


def _score_file(arguments: argparse.Namespace) -> "tuple[FashionAveragePrecision, dict[str, Any]]":
    """The metric of a file of predictions; the whole file is checked before anything is computed."""
    from .data.annotations import read_ground_truth, read_results
    from .metrics import FashionAveragePrecision
    from .training.report import figures_document

    vocabulary, images = read_ground_truth(arguments.annotations)
    results = read_results(arguments.predictions, vocabulary, {key: size for key, (size, _) in images.items()})
    if without := len(images) - len(results):
        complain(f"warning: {without} of {len(images)} images have no prediction in {arguments.predictions}.")
    categories, attributes = vocabulary.names_by_id()
    metric = FashionAveragePrecision(list(categories), list(attributes))
    for image_id, (_, annotations) in images.items():
        metric.add(image_id, results.get(image_id, []), annotations)
    return metric, figures_document(metric, categories, attributes, len(images))


def _score_model(arguments: argparse.Namespace) -> "tuple[FashionAveragePrecision, dict[str, Any]]":
    """The metric of a model on a split, photo by photo."""
    import torch
    from tqdm import tqdm

    from .data.dataset import FashionDataset, FashionpediaExamples, collate
    from .data.fashionpedia import load_fashionpedia, read_split_vocabulary
    from .training.evaluation import Evaluation
    from .training.report import model_document

    require_device(arguments.device)
    vocabulary = read_split_vocabulary(arguments.data_dir, arguments.split)
    model, processor = load_model(model_source(arguments.model))
    _require_vocabulary(model.config, vocabulary, arguments)
    _warn_of_other_names(model.config, vocabulary)
    model.to(arguments.device)
    examples = FashionpediaExamples(load_fashionpedia(arguments.data_dir, arguments.split))
    dataset = FashionDataset(examples, processor, model.config, with_ground_truth=True, with_labels=False)
    evaluation = Evaluation(model.config)
    for index in tqdm(range(len(dataset)), desc="photos", file=sys.stderr):
        batch = collate([dataset[index]])
        with torch.inference_mode():
            outputs = model(
                batch["pixel_values"].to(arguments.device), pixel_mask=batch["pixel_mask"].to(arguments.device)
            )
        evaluation.add(outputs, batch["meta"], processor)
    return evaluation.metric, model_document(
        evaluation, len(dataset), split=arguments.split, data_dir=str(arguments.data_dir)
    )


def _save_attribute_thresholds(metric: "FashionAveragePrecision", config_file: Path) -> str:
    """Writes the best thresholds into a model's configuration, all else as it was; returns what was done."""
    try:
        for_all, thresholds = metric.best_attribute_thresholds()
    except ValueError as error:
        raise CommandError(f"The attribute thresholds stay as they are: {error}.") from error
    content = json.loads(config_file.read_text(encoding="utf-8"))
    try:
        text = json.dumps(content | {"attribute_thresholds": thresholds}, indent=2, sort_keys=True)
        config_file.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"The attribute thresholds cannot be written to {config_file}: {error}.") from error
    own = sum(threshold != for_all for threshold in thresholds)
    return (
        f"{config_file}: attributes are reported from a probability of {for_all:g} on, {own} of them from another one"
    )


def _require_vocabulary(config: "FashionDetrConfig", vocabulary: "Vocabulary", arguments: argparse.Namespace) -> None:
    expected = vocabulary.config_kwargs()
    for field in ("category_ids", "attribute_ids"):
        if sorted(getattr(config, field)) != sorted(expected[field]):
            raise CommandError(
                f"The model {arguments.model} and the data in {arguments.data_dir} do not share their {field}: "
                f"{len(getattr(config, field))} in the model, {len(expected[field])} in the data. "
                "A model is measured on the labels that it was trained on."
            )


def _warn_of_other_names(config: "FashionDetrConfig", vocabulary: "Vocabulary") -> None:
    """Equal ids of other data sets are common; only the person can tell a new name from another label."""
    known = type(vocabulary).of(config)
    for kind, in_model, in_data in zip(("category", "attribute"), known.names_by_id(), vocabulary.names_by_id()):
        other = [key for key in in_model if in_model[key] != in_data[key]]
        if other:
            complain(
                f"warning: {len(other)} of {len(in_model)} {kind} names differ, as of id {other[0]}: "
                f"{in_model[other[0]]!r} in the model, {in_data[other[0]]!r} in the data. Labels are told apart by "
                "their ids: if these are other labels, the figures mean nothing."
            )
