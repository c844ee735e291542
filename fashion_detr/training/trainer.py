"""transformers' Trainer for instance targets: streamed average precision, named loss terms, parameter groups."""

import json
import logging
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence, Sized
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import ConcatDataset, Subset
from transformers import Trainer, TrainerCallback
from transformers.integrations import TensorBoardCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, rotate_checkpoints

from ..data.dataset import FashionDataset, collate
from .arguments import FashionTrainingArguments
from .checkpoints import break_seal, seal
from .evaluation import Evaluation
from .report import FIGURES
from .tensorboard import OverlayTensorBoardCallback
from .weight_average import WeightAverage

logger = logging.getLogger(__name__)

ELAPSED_FILE = "elapsed.json"  # of a checkpoint: the minutes of training that made it


class FashionTrainer(Trainer):
    """
    Trainer of Fashion DETR.

    * Evaluation turns every batch into run lengths at the original size and hands them to the metric, image by image.
      Nothing of an image but its matching figures is kept, and processes exchange those alone: the Trainer's own
      gathering would cut lists of instances to the size of the last batch.
    * The loss is divided by the instances of all processes and of the whole accumulation window, so that neither the
      number of processes nor that of accumulated batches changes a step.
    * The log carries every term of the loss; a loss that is not finite stops the run with its terms.
    * The backbone has a learning rate of its own; norms, biases and query embeddings do not decay.
    * Checkpoints are sealed, so that a run that was killed can tell which ones are complete.
    * With `ema_decay` the averaged weights are evaluated while it trains, and are the model's in the end. Each `train`
      begins its own average.
    * A run that is resumed at its end takes no further step.
    * `training_minutes` counts what came before a resumed checkpoint too.
    * `hyperparameter_search` minimises the sum of all figures unless it is told otherwise: give it
      `direction="maximize", compute_objective=lambda figures: figures["eval_AP_IoU"]`.

    Args:
        args: [`~fashion_detr.training.arguments.FashionTrainingArguments`].
        train_dataset, eval_dataset: [`~fashion_detr.data.dataset.FashionDataset`], the latter with ground truth.
        processing_class: The model's image processor.

    Raises:
        ValueError: `args` are others, there is no image processor, `metric_for_best_model` is no figure of the
            evaluation, figures of one's own are asked for, or `ema_decay` where no process has the whole weights.
    """

    def __init__(self, model=None, args=None, data_collator=None, *others, **kwargs):
        if not isinstance(args, FashionTrainingArguments):
            raise ValueError(
                "FashionTrainer needs `args=FashionTrainingArguments(...)`, which has options that transformers' own "
                f"lack; found {type(args).__name__}."
            )
        super().__init__(model, args, data_collator or collate, *others, **kwargs)
        if self.processing_class is None:
            raise ValueError("FashionTrainer needs `processing_class=...`, the model's image processor.")
        if self.compute_metrics is not None:
            raise ValueError(
                "FashionTrainer has no use for `compute_metrics`, which would be given no predictions: they are judged "
                "one by one. `trainer.evaluation.metric` has all figures after an evaluation."
            )
        require_figure(args.metric_for_best_model)
        self.evaluation: Evaluation | None = None
        self._term_sums: dict[str, torch.Tensor] = defaultdict(float)
        self._terms_since = 0  # the step after which they were summed
        self._began = time.monotonic()
        self._minutes_before = 0.0  # in the processes whose checkpoint this one goes on from
        self.average: WeightAverage | None = None
        if self.args.ema_decay:
            if self.is_fsdp_enabled or self.is_deepspeed_enabled:
                raise ValueError("`ema_decay` needs whole weights in every process: not with FSDP or DeepSpeed.")
            self.average = WeightAverage(self.model, self.args.ema_decay)
            self.add_callback(_AverageAfterStep(self.average))
        if "tensorboard" in self.args.report_to and isinstance(self.eval_dataset, FashionDataset):
            self.remove_callback(TensorBoardCallback)
            self.add_callback(OverlayTensorBoardCallback(self.eval_dataset, self.processing_class))
        self.add_callback(EpochCallback(self.train_dataset))

    @property
    def training_minutes(self) -> float:
        return self._minutes_before + (time.monotonic() - self._began) / 60

    def train(self, *args, **kwargs):
        self._began = time.monotonic()
        if self.average is not None:
            self.average.follow(self.model)
        result = super().train(*args, **kwargs)
        if self.average is not None:
            self.average.keep()
        return result

    def call_model_init(self, trial=None):
        model = super().call_model_init(trial)
        if getattr(self, "average", None) is not None:  # there is none yet when the Trainer itself is made
            self.average.follow(model.to(self.args.device))
        return model

    def _run_epoch(self, *args, **kwargs):
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(*args, **kwargs)
        else:  # transformers looks for the end only behind a step, and would take one too many
            self.control.should_training_stop = True

    def _get_num_items_in_batch(self, batch_samples, device):
        """Instances of an accumulation window, all processes together; the Trainer counts `labels` alone."""
        count = sum(len(classes) for batch in batch_samples for classes in batch["class_labels"])
        return self.accelerator.reduce(torch.tensor(float(count), device=device), reduction="sum")

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        inputs = {name: value for name, value in inputs.items() if name != "meta"}
        if self.args.channels_last:
            inputs["pixel_values"] = inputs["pixel_values"].contiguous(memory_format=torch.channels_last)
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)
        if not torch.isfinite(loss):
            terms = ", ".join(f"{name} = {term.item():.4g}" for name, term in outputs.loss_dict.items())
            raise FloatingPointError(
                f"The loss is {loss.item()} at step {self.state.global_step}: {terms}. "
                "A lower learning rate, a longer warm-up or a lower `max_grad_norm` may help."
            )
        if model.training:
            if not self._term_sums:
                self._terms_since = self.state.global_step
            for name, term in outputs.loss_dict.items():
                self._term_sums[name] += term
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        if "loss" in logs and self._term_sums:
            # Every batch has added its share of the terms of its step.
            sums = torch.stack(list(self._term_sums.values()))
            means = self.accelerator.reduce(sums, reduction="sum") / (self.state.global_step - self._terms_since)
            logs = logs | {f"loss/{name}": mean for name, mean in zip(self._term_sums, means.tolist())}
            self._term_sums.clear()
        super().log(logs, *args, **kwargs)

    def create_optimizer(self, model=None):
        if self.optimizer is None:
            model = self.model if model is None else model
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, model)
            self.optimizer = optimizer_class(parameter_groups(model, self.args), **options)
        return self.optimizer

    def create_scheduler(self, num_training_steps, optimizer=None):
        if self.lr_scheduler is None and self.args.lr_drop_epochs:
            optimizer = self.optimizer if optimizer is None else optimizer
            drops = [epoch * self._steps_an_epoch() for epoch in self.args.lr_drop_epochs]
            warmup = self.args.get_warmup_steps(num_training_steps)
            self.lr_scheduler = LambdaLR(optimizer, lambda step: step_schedule(step, warmup, drops))
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    def _steps_an_epoch(self) -> int:
        """As the Trainer counts them: what is left of the photos, or of the batches of a step, makes another one."""
        if not isinstance(self.train_dataset, Sized):
            raise ValueError("`lr_drop_epochs` needs a data set with a length: an epoch of this one has no known end.")
        batches = len(self.train_dataset) / (self.args.train_batch_size * self.args.world_size)
        batches = math.floor(batches) if self.args.dataloader_drop_last else math.ceil(batches)
        return math.ceil(batches / self.args.gradient_accumulation_steps)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        if "meta" not in inputs:
            raise ValueError(
                "Figures need photos with their ground truth: `FashionDataset(..., with_ground_truth=True)`."
            )
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        self.evaluation.add(outputs, inputs["meta"], self.processing_class)
        return loss.detach(), None, None

    def evaluate(self, *args, **kwargs):
        with self._averaged():  # callbacks, which draw overlays, see the model that was judged
            return super().evaluate(*args, **kwargs)

    def predict(self, *args, **kwargs):
        with self._averaged():
            return super().predict(*args, **kwargs)

    def _averaged(self) -> AbstractContextManager[None]:
        # Before and after training the model's weights are what is meant, whoever has put them there.
        return self.average.in_place() if self.average is not None and self.is_in_train else nullcontext()

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

    def _save_checkpoint(self, model, trial):
        checkpoint = Path(self._get_output_dir(trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.args.should_save:
            break_seal(checkpoint)
            checkpoint.mkdir(parents=True, exist_ok=True)
            (checkpoint / ELAPSED_FILE).write_text(json.dumps({"minutes": self.training_minutes}))
            if self.average is not None:
                self.average.save(checkpoint)
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()  # every process has written its part
        if self.args.should_save:
            seal(checkpoint)
            # Only now that there is a newer one to go on from.
            rotate_checkpoints(str(checkpoint.parent), limit, self.state.best_model_checkpoint, use_mtime=True)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        elapsed = Path(resume_from_checkpoint) / ELAPSED_FILE
        if elapsed.is_file():  # a checkpoint that another program wrote has none
            self._minutes_before = json.loads(elapsed.read_text())["minutes"]
        if self.average is not None:
            self.average.load(Path(resume_from_checkpoint))

    def _load_best_model(self):
        super()._load_best_model()
        if self.average is not None:
            self.average.load(Path(self.state.best_model_checkpoint))

    def _determine_best_metric(self, metrics, trial):
        name = self.args.metric_for_best_model
        if name is not None and not {name, f"eval_{name}"} & metrics.keys():  # such as F1 where nothing is found yet
            logger.warning("There is no %s at step %d, which is not the best then", name, self.state.global_step)
            return False
        return super()._determine_best_metric(metrics, trial)

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


def require_figure(name: str | None) -> None:
    """Raises `ValueError` for what no evaluation yields; with several evaluation sets their names stand before it."""
    if name is not None and not any(name == known or name.endswith(f"_{known}") for known in ("loss", *FIGURES)):
        raise ValueError(
            f"`metric_for_best_model` has to be 'loss' or one of {', '.join(map(repr, FIGURES))}, found {name!r}."
        )


class _AverageAfterStep(TrainerCallback):
    def __init__(self, average: WeightAverage):
        self.average = average

    def on_step_end(self, args, state, control, **kwargs):
        self.average.update()


class EpochCallback(TrainerCallback):
    """
    Tells a `FashionDataset` its epoch, for samples that differ from epoch to epoch; also those inside of torch's
    `Subset` and `ConcatDataset`. On several processes, and where a run goes on within an epoch, nobody else does: add
    it to a Trainer that is not [`FashionTrainer`].
    """

    def __init__(self, dataset: Any):
        self.datasets = list(_fashion_datasets(dataset))

    def on_epoch_begin(self, args, state, control, **kwargs):
        for dataset in self.datasets:
            dataset.set_epoch(int(state.epoch or 0))


def _fashion_datasets(dataset: Any) -> Iterator[FashionDataset]:
    if isinstance(dataset, FashionDataset):
        yield dataset
    elif isinstance(dataset, Subset):
        yield from _fashion_datasets(dataset.dataset)
    elif isinstance(dataset, ConcatDataset):
        for part in dataset.datasets:
            yield from _fashion_datasets(part)


def step_schedule(step: int, warmup: float, drops: Sequence[float]) -> float:
    """The factor of the learning rate: it rises over the first `warmup` steps, and falls to a tenth at every drop."""
    return min(1.0, (step + 1) / (warmup + 1)) * 0.1 ** sum(step >= drop for drop in drops)


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
