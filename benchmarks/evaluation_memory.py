"""Peak memory of judging 100 detections on a photo of 12 megapixels, above what the loaded model takes. Linux only.

python benchmarks/evaluation_memory.py
"""

from pathlib import Path

import numpy as np
import torch

from fashion_detr import FashionDetrConfig, FashionDetrForInstanceSegmentation, FashionDetrImageProcessor
from fashion_detr.masks_fashion_detr import encode_mask
from fashion_detr.training.evaluation import Evaluation

HEIGHT, WIDTH, DETECTIONS = 4000, 3000, 100


def resident_memory(name: str) -> float:
    """A line of the kernel's account of this process in GB: VmRSS = now, VmHWM = the peak since it was last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1]) / 2**20


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    config = FashionDetrConfig.from_backbone("resnet50", num_queries=DETECTIONS)
    model = FashionDetrForInstanceSegmentation(config).eval()
    processor = FashionDetrImageProcessor()
    photo = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    truths = []
    for number in range(10):
        mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
        mask[number * 300 : number * 300 + 900, number * 200 : number * 200 + 800] = True
        truths.append({"category_id": number, "attribute_ids": [], "segmentation": encode_mask(mask)})
    del mask

    loaded = resident_memory("VmRSS")
    reset_peak()
    with torch.inference_mode():
        outputs = model(**processor(photo, return_tensors="pt"))
    print(f"model loaded      {loaded:.2f} GB")
    print(f"forward pass     +{resident_memory('VmHWM') - loaded:.2f} GB at its peak, canvas 1024 x 1024")

    # Random weights see nothing: blobs of all sizes instead, every mask with a long outline.
    outputs.masks_queries_logits = torch.nn.functional.interpolate(
        torch.randn(1, DETECTIONS, 16, 16), size=outputs.masks_queries_logits.shape[-2:], mode="bicubic"
    )
    before = resident_memory("VmRSS")
    reset_peak()
    evaluation = Evaluation(config)
    meta = {"image_id": 1, "size": (HEIGHT, WIDTH), "ground_truth": truths}
    evaluation.add(outputs, [meta], processor)
    evaluation.metric.compute()
    peak = resident_memory("VmHWM")
    print(f"judging          +{peak - before:.2f} GB at its peak, {DETECTIONS} detections, {HEIGHT} x {WIDTH} pixels")
    print(f"                  {peak - loaded:.2f} GB above the loaded model")


if __name__ == "__main__":
    main()
