"""A trained model as the start of another one: its weights, under the labels of other data."""

import logging
from typing import Any

import torch

from ..configuration_fashion_detr import FashionDetrConfig
from ..data.annotations import Vocabulary, first_cases
from ..loading import load_whole
from ..modeling_fashion_detr import FashionDetrForInstanceSegmentation

logger = logging.getLogger(__name__)


def load_for_vocabulary(
    source: str, vocabulary: Vocabulary, changes: dict[str, Any] | None = None
) -> FashionDetrForInstanceSegmentation:
    """
    A saved model made ready to learn a vocabulary. What it knows of labels that carry the same name is kept, whatever
    their ids; heads start from chance for the others. All other weights are loaded. Logs which labels are new.

    Which attributes a category carries, and the attribute thresholds, are left behind: other data has its own.

    Args:
        source: Folder, or id on the Hub.
        vocabulary: Categories and attributes to learn.
        changes: Fields of the saved configuration that change, such as dropout and loss weights. The weights have to
            fit what they make.

    Raises:
        OSError: there is no such model.
        ValueError: it is a model of another kind, or weights are missing, damaged or of another size.
        StrictDataclassError: a field changes to what the configuration does not allow.
    """
    try:
        saved = load_whole(source)
    except ValueError as error:
        raise ValueError(
            f"`model_name_or_path`: {error} Weights of a backbone alone are given by `backbone_weights`."
        ) from error
    saved_fields, _ = FashionDetrConfig.get_config_dict(source)
    of_other_data = {"category_attributes": None, "attribute_thresholds": None}
    of_other_use = {"output_attentions": False}  # which would have training make them for nobody
    config = FashionDetrConfig.from_dict(
        saved_fields | of_other_data | of_other_use | vocabulary.config_kwargs() | (changes or {})
    )
    model = FashionDetrForInstanceSegmentation(config)
    weights = saved.state_dict()
    try:
        for head, before, after in (
            ("class_head", saved.config.id2label, config.id2label),
            ("attribute_head", saved.config.id2attribute, config.id2attribute),
        ):
            _carry_over(getattr(model, head), getattr(saved, head), before, after)
            weights |= {f"{head}.{name}": tensor for name, tensor in getattr(model, head).state_dict().items()}
            new = [name for name in after.values() if name not in before.values()]
            known, names = len(after) - len(new), first_cases(new, shown=20) or "none"
            logger.info("%s: %d of %d labels are known, new: %s", head, known, len(after), names)
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"`model_config` changes the sizes of weights, which {source} already has: {' '.join(str(error).split())} "
            "It is that of the configuration file too, `configs/demo.yaml` if none is named first; "
            "`configs/fine_tune.yaml` has none."
        ) from error
    logger.info("All other weights: from %s", source)
    return model


@torch.no_grad()
def _carry_over(head: torch.nn.Linear, saved: torch.nn.Linear, before: dict[int, str], after: dict[int, str]) -> None:
    """Copies the weights of every label that both heads have; `before` and `after` map their rows to names."""
    row_of = {name: row for row, name in before.items()}
    for row, name in after.items():
        if name in row_of:
            head.weight[row] = saved.weight[row_of[name]]
            head.bias[row] = saved.bias[row_of[name]]
