"""Overlays beside the figures in TensorBoard."""

from pathlib import Path

import numpy as np
from PIL import Image
from transformers.integrations import TensorBoardCallback

from ..data.dataset import FashionDataset
from ..image_processing_fashion_detr import FashionDetrImageProcessor
from .report import OVERLAYS_FOLDER, draw_overlays

OVERLAYS = 4


class OverlayTensorBoardCallback(TensorBoardCallback):
    """
    transformers' callback, which after every evaluation also shows the first held-out photos: ground truth, prediction.

    Args:
        dataset: The held-out photos.
        processor: The model's image processor.
    """

    def __init__(self, dataset: FashionDataset, processor: FashionDetrImageProcessor):
        super().__init__()
        self.dataset = dataset
        self.processor = processor

    def on_evaluate(self, args, state, control, model=None, **kwargs):
        folder = Path(args.output_dir) / OVERLAYS_FOLDER / f"step-{state.global_step}"
        paths = draw_overlays(
            model, self.processor, self.dataset.examples, OVERLAYS, folder if self.tb_writer is not None else None
        )
        for path in paths:
            picture = np.asarray(Image.open(path).convert("RGB"))
            self.tb_writer.add_image(f"overlays/{path.stem}", picture, state.global_step, dataformats="HWC")
