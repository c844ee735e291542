"""transformers' Trainer for instance targets: streamed average precision, named loss terms, parameter groups."""

import logging
import math
from collections import defaultdict
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import Trainer, TrainerCallback

from ..data.dataset import FashionDataset, collate
from .evaluation import Evaluation
from .report import FIGURES

logger = logging.getLogger(__name__)


class FashionTrainer(Trainer):
    """
    Trainer of Fashion DETR.

    * Evaluation turns every batch into run lengths at the original size and hands them to the metric, image by image.
      Nothing of an image but its matching figures is kept, and processes exchange those alone: the Trainer's own
      gathering would cut lists of instances to the size of the last batch.
    * The log carries every term of the loss; a loss that is not finite stops the run with its terms.
    * The backbone has a learning rate of its own; norms, biases and query embeddings do not decay.

    Args:
        train_dataset, eval_dataset: [`~fashion_detr.data.dataset.FashionDataset`], the latter with ground truth.
        processing_class: The model's image processor.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, data_collator=collate, **kwargs)
        self.evaluation: Evaluation | None = None
        self._term_sums: dict[str, torch.Tensor] = defaultdict(float)
        self._term_count = 0
        if isinstance(self.train_dataset, FashionDataset):
            self.add_callback(_EpochKey(self.train_dataset))

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        inputs = {name: value for name, value in inputs.items() if name != "meta"}
        if self.args.channels_last:
            inputs["pixel_values"] = inputs["pixel_values"].contiguous(memory_format=torch.channels_last)
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        if not torch.isfinite(loss):
            terms = ", ".join(f"{name} = {term.item():.4g}" for name, term in outputs.loss_dict.items())
            raise FloatingPointError(
                f"The loss is {loss.item()} at step {self.state.global_step}: {terms}. "
                "A lower learning rate, a longer warm-up or a lower `max_grad_norm` may help."
            )
        if model.training:
            for name, term in outputs.loss_dict.items():
                self._term_sums[name] += term
            self._term_count += 1
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        if "loss" in logs and self._term_count:
            means = torch.stack(list(self._term_sums.values())) / self._term_count
            means = self.accelerator.reduce(means, reduction="mean").tolist()
            logs = logs | {f"loss/{name}": mean for name, mean in zip(self._term_sums, means)}
            self._term_sums.clear()
            self._term_count = 0
        super().log(logs, *args, **kwargs)

    def create_optimizer(self, model=None):
        if self.optimizer is None:
            model = self.model if model is None else model
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, model)
            self.optimizer = optimizer_class(parameter_groups(model, self.args), **options)
        return self.optimizer

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        self.evaluation.add(outputs, inputs["meta"], self.processing_class)
        return loss.detach(), None, None

    def evaluation_loop(self, *args, metric_key_prefix="eval", **kwargs):
        self.evaluation = Evaluation(self.accelerator.unwrap_model(self.model).config)
        result = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        for state in gather_object([self.evaluation.state()]):
            self.evaluation.merge(state)
        figures = self.evaluation.metric.compute()
        result.metrics.update(
            {f"{metric_key_prefix}_{name}": figures[name] for name in FIGURES if not math.isnan(figures[name])}
        )
        return result

    def choose_attribute_thresholds(self, selection: FashionDataset) -> None:
        """
        Stores in the model's configuration from which probability on each attribute is best reported.

        Args:
            selection: Images that the model has not learnt from, and that no figure is reported on.
        """
        self.evaluate(selection, metric_key_prefix="selection")
        try:
            for_all, thresholds = self.evaluation.metric.best_attribute_thresholds()
        except ValueError as error:
            logger.info("The attributes keep their threshold: %s", error)
            return
        self.accelerator.unwrap_model(self.model).config.attribute_thresholds = thresholds
        own = sum(threshold != for_all for threshold in thresholds)
        logger.info("Attributes are reported from a probability of %.2f on, %d of them from another one", for_all, own)


class _EpochKey(TrainerCallback):
    """Tells the training data its epoch: on several processes nobody else does."""

    def __init__(self, dataset: FashionDataset):
        self.dataset = dataset

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.dataset.set_epoch(int(state.epoch or 0))


def parameter_groups(model: torch.nn.Module, args) -> list[dict[str, Any]]:
    """
    Trainable parameters in up to four groups: backbone or not, with weight decay or not.

    One-dimensional parameters (norms, biases, layer scales) and the query embeddings do not decay; what else is in
    transformers' own rule by name follows from the dimension.
    """
    groups: dict[tuple[bool, bool], list] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_embedding = name.endswith(("kernels", "attribute_queries", "relative_position_bias_table"))
            groups["backbone." in name, parameter.ndim > 1 and not is_embedding].append(parameter)
    return [
        {
            "params": parameters,
            "lr": args.learning_rate * (args.backbone_learning_rate_factor if in_backbone else 1.0),
            "weight_decay": args.weight_decay if decays else 0.0,
        }
        for (in_backbone, decays), parameters in groups.items()
    ]
