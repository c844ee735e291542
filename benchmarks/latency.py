"""How long our model and its peers take for a photo, and how much memory: all contestants in turn, several rounds.

    python benchmarks/latency.py --backbones resnet50 swin_base lite0 --batches 1 4 --precisions float32 bf16
    python benchmarks/latency.py --fashionformer FILE.py --backbones resnet50

Two times each: the network alone, and the network with its own post-processing to masks of the photos' original size,
at most 100 a photo. ResNet-50 and Swin-B see 1024 x 1024 pixels with 256 channels and 100 queries (as published), the
small model 384 x 256 with 128 channels and 50 queries (as in `configs/ccp_lite0.yaml`). The photos have the aspect 3:2
and twice the height of the canvas. Weights are random. Memory is measured in a process of its own for each, above what
the loaded model takes. Linux only.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from evaluation_memory import reset_peak, resident_memory
from peer_models import Contestant
from peers import MODELS, build_config, build_contestant
from transformers import Mask2FormerImageProcessor

from fashion_detr.cli_number import positive
from fashion_detr.data.annotations import Vocabulary

TOP_K = 100
NAMES = ("resnet50", "swin_base", "lite0")
PRECISIONS = ("float32", "bf16")
LITE0 = {"d_model": 128, "num_queries": 50, "decoder_attention_heads": 4}


@dataclass(frozen=True)
class Case:
    """What all contestants of a table do."""

    backbone: str
    batch: int
    precision: str
    memory_format: torch.memory_format

    @property
    def canvas(self) -> tuple[int, int]:
        return (384, 256) if self.backbone == "lite0" else (1024, 1024)

    @property
    def photo(self) -> tuple[int, int]:
        height = 2 * self.canvas[0]
        return height, height * 2 // 3

    def build(self, name: str, attention: str, fashionformer: Path | None) -> Contestant:
        torch.manual_seed(0)
        is_small = self.backbone == "lite0"
        config = build_config(
            Vocabulary.fashionpedia(),
            "tf_efficientnet_lite0" if is_small else self.backbone,
            LITE0 if is_small else {},
        )
        contestant = build_contestant(name, config, self.canvas, TOP_K, attention, fashionformer)
        return contestant.eval().to(memory_format=self.memory_format)

    def photos(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Noise, and where the canvas holds it."""
        height, width = self.canvas
        generator = torch.Generator().manual_seed(0)
        pixel_mask = torch.zeros(self.batch, height, width, dtype=torch.bool)
        pixel_mask[:, :, : height * 2 // 3] = True
        pixel_values = torch.randn(self.batch, 3, height, width, generator=generator) * pixel_mask[:, None]
        return pixel_values.contiguous(memory_format=self.memory_format), pixel_mask

    @torch.inference_mode()
    def forward(self, contestant: Contestant, photos: tuple[torch.Tensor, torch.Tensor]) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
            return contestant(*photos)

    @torch.inference_mode()
    def forward_to_masks(self, contestant: Contestant, photos: tuple[torch.Tensor, torch.Tensor], name: str) -> None:
        MASKS[name](contestant, self.forward(contestant, photos), photos[1], [self.photo] * self.batch)


# --- Every contestant's own way to masks of the original size ---------------------------------------------------------


def masks_of_ours(contestant, outputs, pixel_mask, sizes):
    contestant.processor.post_process_fashion(outputs, sizes, contestant.config, threshold=0.0, top_k=TOP_K)


def masks_of_fashionformer(contestant, outputs, pixel_mask, sizes):
    on_canvas = contestant.as_logits(outputs, pixel_mask).valid_sizes.tolist()
    contestant.model.decode(outputs, on_canvas, sizes, top_k=TOP_K)


def masks_of_mask2former(contestant, outputs, pixel_mask, sizes):
    """transformers' own, which goes by way of 384 x 384 pixels; its score threshold would keep no random mask."""
    outputs = _Mask2FormerOutput(outputs[-1]["classes"], outputs[-1]["masks"])
    Mask2FormerImageProcessor().post_process_instance_segmentation(
        outputs, threshold=0.0, target_sizes=sizes, return_binary_maps=True
    )


@dataclass
class _Mask2FormerOutput:
    class_queries_logits: torch.Tensor
    masks_queries_logits: torch.Tensor


def masks_of_maskrcnn(contestant, outputs, pixel_mask, sizes):
    contestant.full_size_masks(outputs, pixel_mask, sizes)


MASKS: dict[str, Callable[[Contestant, Any, torch.Tensor, list[tuple[int, int]]], None]] = {
    "ours": masks_of_ours,
    "fashionformer": masks_of_fashionformer,
    "mask2former": masks_of_mask2former,
    "maskrcnn": masks_of_maskrcnn,
}


# --- Measuring --------------------------------------------------------------------------------------------------------


def measure_times(case: Case, contestants: dict[str, Contestant], rounds: int) -> dict[str, tuple[float, float]]:
    """Median seconds of the network and of the whole, round robin: what slows the machine down hits all alike."""
    photos = case.photos()
    seconds: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds + 1):  # the first one warms up
        for name, contestant in contestants.items():
            for task, work in (
                ("forward", lambda: case.forward(contestant, photos)),  # noqa: B023 - called at once
                ("masks", lambda: case.forward_to_masks(contestant, photos, name)),  # noqa: B023
            ):
                started = time.perf_counter()
                work()
                if number:
                    seconds.setdefault((name, task), []).append(time.perf_counter() - started)
    return {
        name: tuple(statistics.median(seconds[name, task]) for task in ("forward", "masks")) for name in contestants
    }


def measure_memory(case: Case, name: str, attention: str, fashionformer: Path | None, threads: int) -> float:
    """Peak GB above the loaded model, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_memory, args=(case, name, attention, fashionformer, threads, queue))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"Measuring the memory of {name} failed: {case}")
    return queue.get()


def _memory(case: Case, name: str, attention: str, fashionformer: Path | None, threads: int, queue: Any) -> None:
    torch.set_num_threads(threads)
    contestant, photos = case.build(name, attention, fashionformer), case.photos()
    loaded = resident_memory("VmRSS")
    reset_peak()
    case.forward_to_masks(contestant, photos, name)
    queue.put(resident_memory("VmHWM") - loaded)


def format_table(case: Case, times: dict[str, tuple[float, float]], memory: dict[str, float]) -> str:
    height, width = case.canvas
    reference = times["ours"] if "ours" in times else next(iter(times.values()))
    lines = [
        f"{case.backbone}, {case.batch} x {height} x {width}, masks {case.photo[0]} x {case.photo[1]}, "
        f"{case.precision}, {str(case.memory_format).removeprefix('torch.')}, {torch.get_num_threads()} threads",
        "",
        "| model | forward s | ratio | with masks s | ratio | peak GB above the model |",
        "|---|---|---|---|---|---|",
    ]
    for name, (forward, masks) in times.items():
        lines.append(
            f"| {name} | {forward:.3f} | {forward / reference[0]:.2f} | {masks:.3f} | {masks / reference[1]:.2f} | "
            f"{memory[name]:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--fashionformer", type=Path, metavar="FILE.py", help="the file with that peer")
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, help="by default all; Fashionformer if its file is given"
    )
    parser.add_argument("--backbones", nargs="+", choices=NAMES, default=["resnet50"])
    parser.add_argument("--batches", nargs="+", type=positive, default=[1])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=["float32"])
    parser.add_argument("--channels_last", action="store_true", help="memory format of all weights and photos")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--attention", choices=("sdpa", "eager"), default="sdpa", help="of our own model")
    arguments = parser.parse_args()
    if arguments.fashionformer is not None and not arguments.fashionformer.is_file():
        parser.error(f"there is no file {arguments.fashionformer}")
    names = arguments.models or [name for name in MODELS if name != "fashionformer" or arguments.fashionformer]
    memory_format = torch.channels_last if arguments.channels_last else torch.contiguous_format
    for backbone in arguments.backbones:
        for batch in arguments.batches:
            for precision in arguments.precisions:
                case = Case(backbone, batch, precision, memory_format)
                options = (arguments.attention, arguments.fashionformer)
                memory = {name: measure_memory(case, name, *options, torch.get_num_threads()) for name in names}
                contestants = {name: case.build(name, *options) for name in names}
                print(format_table(case, measure_times(case, contestants, arguments.rounds), memory), "\n", flush=True)


if __name__ == "__main__":
    main()
