"""
Evaluates, through the Trainer, a model that knows the ground truth but for some noise.

`test_evaluation.py` runs it on one process and on two, `torchrun --nproc_per_node N tests/oracle_evaluation.py OUTPUT`.
"""

import json
import sys
from pathlib import Path

import torch
from torch import nn

from fashion_detr import FashionDetrConfig, FashionDetrImageProcessor
from fashion_detr.data.dataset import FashionDataset
from fashion_detr.data.synthetic import SyntheticEnsembles
from fashion_detr.modeling_fashion_detr import FashionDetrForInstanceSegmentationOutput
from fashion_detr.training.arguments import FashionTrainingArguments
from fashion_detr.training.report import model_document
from fashion_detr.training.trainer import FashionTrainer

IMAGES, BATCH = 5, 2  # on two processes the last batch is padded with an image seen before
SIZE, QUERIES = (128, 96), 64


class Oracle(nn.Module):
    """Answers with its labels; the noise depends on the image alone."""

    def __init__(self, config: FashionDetrConfig):
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, pixel_values, pixel_mask, mask_labels, class_labels, attribute_labels):
        batch, _, height, width = pixel_values.shape
        masks = torch.full((batch, QUERIES, height // 4, width // 4), -5.0)
        classes = torch.full((batch, QUERIES, self.config.num_labels), -5.0)
        attributes = torch.full((batch, QUERIES, self.config.num_attributes), -5.0)
        for image in range(batch):
            noise = torch.Generator().manual_seed(int(mask_labels[image].sum()))
            count = len(class_labels[image])
            covered = nn.functional.avg_pool2d(mask_labels[image][:, None], 4)[:, 0]
            masks[image, :count] = 10 * (covered - 0.5) + 2 * torch.randn(covered.shape, generator=noise)
            right = 6 * nn.functional.one_hot(class_labels[image], self.config.num_labels)
            classes[image, :count] += right + 2 * torch.randn(right.shape, generator=noise)
            known = 6 * attribute_labels[image]
            attributes[image, :count] += known + 1.5 * torch.randn(known.shape, generator=noise)
        sizes = torch.tensor([[height, width]] * batch)
        return FashionDetrForInstanceSegmentationOutput(
            loss=self.weight + 1,
            loss_dict={},
            masks_queries_logits=masks,
            class_queries_logits=classes,
            attribute_queries_logits=attributes,
            valid_sizes=sizes,
        )


def evaluate(output_file: Path) -> None:
    config = FashionDetrConfig()
    processor = FashionDetrImageProcessor(size={"height": SIZE[0], "width": SIZE[1]})
    selection, dataset = (
        FashionDataset(SyntheticEnsembles(count, *SIZE, split=split), processor, config, with_ground_truth=True)
        for split, count in (("selection", 4 * IMAGES), ("val", IMAGES))
    )
    args = FashionTrainingArguments(
        output_dir=str(output_file.parent / "trainer"), per_device_eval_batch_size=BATCH, use_cpu=True, report_to="none"
    )
    trainer = FashionTrainer(model=Oracle(config), args=args, eval_dataset=dataset, processing_class=processor)
    trainer.choose_attribute_thresholds(selection)
    trainer.evaluate()
    document = model_document(trainer.evaluation, IMAGES)
    document["thresholds"] = config.attribute_thresholds
    document["processes"] = trainer.args.world_size
    if trainer.is_world_process_zero():
        output_file.write_text(json.dumps(document))


if __name__ == "__main__":
    torch.set_num_threads(1)
    evaluate(Path(sys.argv[1]))
