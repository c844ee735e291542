"""The figures of a model: its predictions judged under its own attribute thresholds, and under one for all."""

from collections.abc import Sequence
from typing import Any

from ..configuration_fashion_detr import FashionDetrConfig
from ..image_processing_fashion_detr import ATTRIBUTE_THRESHOLD, FashionDetrImageProcessor
from ..metrics import FashionAveragePrecision


class Evaluation:
    """
    Gathers a model's predictions, batch by batch, as run lengths at the photos' original size.

    Attributes:
        metric: The metric under the model's own attribute thresholds.
        fixed: The metric under one threshold for all attributes, as is the practice in the field; the same object
            where the model has no thresholds of its own.
    """

    def __init__(self, config: FashionDetrConfig):
        self.config = config
        self.metric = FashionAveragePrecision(config.category_ids, config.attribute_ids)
        self.fixed = self.metric
        if config.attribute_thresholds is not None:
            self.fixed = FashionAveragePrecision(config.category_ids, config.attribute_ids)

    def add(self, outputs: Any, metas: Sequence[dict[str, Any]], processor: FashionDetrImageProcessor) -> None:
        """
        Takes a batch.

        Args:
            outputs: The model's output.
            metas: One `{"image_id", "size", "ground_truth"}` an image, as `FashionDataset` makes them.
            processor: The model's image processor.
        """
        sizes = [meta["size"] for meta in metas]
        predictions = processor.post_process_coco(outputs, sizes, self.config, output_attribute_scores=True)
        for meta, found in zip(metas, predictions):
            self.metric.add(meta["image_id"], found, meta["ground_truth"])
            if self.fixed is not self.metric:
                self.fixed.add(meta["image_id"], [self._at_fixed_threshold(one) for one in found], meta["ground_truth"])

    def state(self) -> list:
        """What other processes need; see `merge`."""
        return [metric.state() for metric in self._metrics()]

    def merge(self, state: list) -> None:
        """Takes the images of another process."""
        for metric, other in zip(self._metrics(), state):
            metric.merge(other)

    def _metrics(self) -> list[FashionAveragePrecision]:
        return [self.metric] if self.fixed is self.metric else [self.metric, self.fixed]

    def _at_fixed_threshold(self, prediction: dict[str, Any]) -> dict[str, Any]:
        named = zip(self.config.attribute_ids, prediction["attribute_scores"] >= ATTRIBUTE_THRESHOLD)
        return prediction | {"attribute_ids": [attribute_id for attribute_id, is_named in named if is_named]}
