"""Our model and three peers on equal terms: the same photos, backbone, steps, optimiser and metric. One command a row.

    python benchmarks/peers.py --model ours --data_dir data/ccp --output rows/ours.json
    python benchmarks/peers.py --model mask2former --data_dir data/ccp --learning_rate 3e-4 --output rows/m2f_3e-4.json
    python benchmarks/peers.py --model maskrcnn --synthetic --output rows/maskrcnn.json
    python benchmarks/peers.py --model fashionformer --fashionformer FILE.py --data_dir data/ccp --output rows/ff.json
    python benchmarks/peers.py --table rows

What is equal comes from one configuration file (`configs/ccp_lite0.yaml`: canvas, augmentation, backbone and its
weights, batch, weight decay, clipping, warm-up, width, queries); what is a peer's own is in `peer_models.py` and
`peer_mask_rcnn.py`. All are trained by the loop below, on the CPU, and judged on their best 60 results a photo at the
photo's original size. Rates and attribute thresholds are chosen with `--selection_images 100`, on photos that are taken
from the training ones; the last row learns from all of them, and its last step counts. The same command goes on where
it was killed, and does nothing once its row is there.
"""

import argparse
import json
import math
import os
import resource
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from command_line import told_plainly
from peer_ablations import ABLATIONS
from peer_mask_rcnn import MaskRcnn
from peer_models import Contestant, Fashionformer, Mask2Former, Ours
from peer_table import draw_curves, format_rows, read_row, read_rows
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from fashion_detr import FashionDetrConfig, FashionDetrImageProcessor
from fashion_detr.cli_number import positive
from fashion_detr.data.annotations import Vocabulary
from fashion_detr.data.dataset import FashionDataset, collate
from fashion_detr.data.fashionpedia import read_split_vocabulary
from fashion_detr.data.priors import category_attributes, pairs_of
from fashion_detr.image_processing_fashion_detr import ATTRIBUTE_THRESHOLD
from fashion_detr.metrics import FashionAveragePrecision
from fashion_detr.training.allocator import keep_freed_memory
from fashion_detr.training.arguments import CAPABILITIES_WITHOUT_BF16, DataArguments, ModelArguments
from fashion_detr.training.backbone_weights import load_backbone_weights
from fashion_detr.training.depthwise import keep_depthwise_in_float32
from fashion_detr.training.report import FIGURES
from fashion_detr.training.splits import open_splits

MODELS = ("ours", "fashionformer", "mask2former", "maskrcnn")
CONFIG = Path(__file__).parent.parent / "configs" / "ccp_lite0.yaml"
SYNTHETIC = "synthetic"
TOP_K = 60  # results a photo: the best of the queries x classes table, or of the boxes that NMS leaves
CHECKPOINT_STEPS = 100
CURVE_FIGURES = ("AP_IoU", "AP_IoU+F1")
# A category that occurs twice among 100 photos moves the mean of all by a point, by chance. What settings are worth is
# told by the categories that have at least so many instances.
FREQUENT = 10
FREQUENT_FIGURES = ("AP_IoU", "AP_IoU+F1", "AP50_IoU", "AP75_IoU")
# The fields of FashionDetrConfig that a peer depends on; a row of it outlives changes of the others.
SHARED_FIELDS = ("backbone_config", "freeze_backbone_batch_norm", "d_model", "num_queries")


@dataclass(frozen=True)
class Settings:
    """All that a row depends on: two rows with equal settings are the same row."""

    model: str
    data: str  # the folder's name, or "synthetic"
    steps: int
    learning_rate: float
    seed: int
    selection_images: int
    evaluation_steps: int
    attribute_threshold: float
    changes: list[str]  # what `--set` and `--ablation` asked for
    options: dict[str, Any]  # of the configuration file, changed accordingly

    def part(self, arguments_class: type) -> Any:
        """Those options that are `ModelArguments` or `DataArguments`."""
        names = {entry.name for entry in fields(arguments_class)}
        return arguments_class(**{name: value for name, value in self.options.items() if name in names})

    @property
    def bf16(self) -> bool:
        return (
            bool(self.options.get("bf16")) and torch.backends.cpu.get_cpu_capability() not in CAPABILITIES_WITHOUT_BF16
        )


@dataclass
class Progress:
    """What a run that is killed goes on with, beside the weights and the optimiser."""

    step: int = 0
    seconds: list[float] = field(default_factory=list)  # of every step, waiting for its photos included
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    peak_memory_gb: float = 0.0


# --- What is trained, and on what -------------------------------------------------------------------------------------


def build_config(vocabulary: Vocabulary, backbone: str | None, model_fields: dict[str, Any]) -> FashionDetrConfig:
    known = vocabulary.config_kwargs() | model_fields
    return FashionDetrConfig(**known) if backbone is None else FashionDetrConfig.from_backbone(backbone, **known)


def build_contestant(
    name: str,
    config: FashionDetrConfig,
    canvas: Sequence[int],
    detections: int = TOP_K,
    attention: str = "eager",
    fashionformer: Path | None = None,
) -> Contestant:
    """
    A contestant with random weights.

    Args:
        name: One of `MODELS`.
        config: Vocabulary, backbone, width and number of queries.
        canvas: Height and width in pixels.
        detections: The largest number of detections of a model that has no queries.
        attention: Attention implementation of our own model.
        fashionformer: The file with that peer, which is no part of this project.
    """
    if name == "ours":
        return Ours(config, attention)
    if name == "fashionformer":
        if fashionformer is None:
            raise SystemExit("Fashionformer is no part of this project: give its file with --fashionformer PATH.")
        return Fashionformer(config, fashionformer)
    return Mask2Former(config) if name == "mask2former" else MaskRcnn(config, min(canvas), detections)


def build_data(settings: Settings, data_dir: Path | None) -> tuple[FashionDetrConfig, FashionDataset, FashionDataset]:
    """The configuration with the data's vocabulary, what is learnt from, and what is judged."""
    data, model = settings.part(DataArguments), settings.part(ModelArguments)
    height, width = data.image_size
    processor = FashionDetrImageProcessor(
        size={"height": height, "width": width}, image_mean=data.image_mean, image_std=data.image_std
    )
    set_aside = settings.selection_images if data_dir is not None else 0  # drawings have a split to choose by
    data = replace(data, data_dir=data_dir and str(data_dir), selection_images=set_aside)
    vocabulary = Vocabulary.fashionpedia() if data_dir is None else read_split_vocabulary(data_dir, data.eval_split)
    config = build_config(vocabulary, model.backbone, model.model_config)
    train, selection, final = open_splits(data, settings.seed, (height, width))
    judged = selection if settings.selection_images else final
    if (pairs := pairs_of(train)) is not None:
        config.category_attributes = category_attributes(pairs, config)
    return (
        config,
        FashionDataset(train, processor, config, data.augmentation(), seed=settings.seed),
        FashionDataset(judged, processor, config, with_ground_truth=True),
    )


def batches(dataset: FashionDataset, first_step: int, settings: Settings) -> Iterator[dict[str, Any]]:
    """The batches from a step on: their photos and changes depend on the seed and on the number of the step alone."""
    size = settings.options["per_device_train_batch_size"]
    per_epoch = len(dataset) // size
    if not per_epoch:
        raise SystemExit(f"There are {len(dataset)} photos to learn from, fewer than a batch of {size}.")
    step = first_step
    while step < settings.steps:
        epoch, done = divmod(step, per_epoch)
        dataset.set_epoch(epoch)
        order = np.random.default_rng([settings.seed, epoch]).permutation(len(dataset))[: per_epoch * size]
        chosen = order.reshape(per_epoch, size)[done : done + settings.steps - step].tolist()
        workers = settings.options.get("dataloader_num_workers", 0)
        yield from DataLoader(dataset, batch_sampler=chosen, collate_fn=collate, num_workers=workers)
        step += len(chosen)


# --- The loop that all share ------------------------------------------------------------------------------------------


def parameter_groups(contestant: Contestant, settings: Settings) -> list[dict[str, Any]]:
    """The backbone learns at a rate of its own; norms, biases and embeddings do not decay, as in our own Trainer."""
    in_backbone = {id(parameter) for parameter in contestant.backbone.parameters()}
    embeddings = {id(module.weight) for module in contestant.modules() if isinstance(module, nn.Embedding)}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in contestant.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and name.endswith("weight") and id(parameter) not in embeddings
            groups.setdefault((id(parameter) in in_backbone, decays), []).append(parameter)
    factor = settings.options["backbone_learning_rate_factor"]
    return [
        {
            "params": parameters,
            "peak_rate": settings.learning_rate * (factor if is_backbone else 1.0),
            "weight_decay": settings.options["weight_decay"] if decays else 0.0,
        }
        for (is_backbone, decays), parameters in groups.items()
    ]


def rate_factor(step: int, warmup: int, steps: int) -> float:
    """Of the learning rate: a linear rise, then half a cosine down to nothing."""
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def train_step(
    contestant: Contestant, optimizer: torch.optim.Optimizer, batch: dict[str, Any], step: int, settings: Settings
) -> float:
    """Returns the loss. Raises FloatingPointError where it is not finite."""
    # Some losses draw points or boxes by chance: with a seed a step, a run that goes on draws the same.
    torch.manual_seed(settings.seed * 1_000_003 + step)
    factor = rate_factor(step, settings.options["warmup_steps"], settings.steps)
    for group in optimizer.param_groups:
        group["lr"] = group["peak_rate"] * factor
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
        loss = contestant.loss(in_memory_format(batch, settings))
    if not torch.isfinite(loss):
        raise FloatingPointError(f"The loss of {settings.model} is {loss.item()} at step {step}.")
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(contestant.parameters(), settings.options["max_grad_norm"])
    optimizer.step()
    return loss.item()


def in_memory_format(batch: dict[str, Any], settings: Settings) -> dict[str, Any]:
    if settings.options.get("channels_last"):
        batch["pixel_values"] = batch["pixel_values"].contiguous(memory_format=torch.channels_last)
    return batch


@torch.inference_mode()
def evaluate(contestant: Contestant, judged: FashionDataset, settings: Settings) -> FashionAveragePrecision:
    contestant.eval()
    metric = FashionAveragePrecision(contestant.config.category_ids, contestant.config.attribute_ids)
    loader = DataLoader(
        judged,
        batch_size=settings.options["per_device_eval_batch_size"],
        collate_fn=collate,
        num_workers=settings.options.get("dataloader_num_workers", 0),
    )
    for batch in loader:
        metas = batch.pop("meta")
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
            sizes = [meta["size"] for meta in metas]
            found = contestant.predict(in_memory_format(batch, settings), sizes, TOP_K, settings.attribute_threshold)
        for meta, results in zip(metas, found):
            metric.add(meta["image_id"], results, meta["ground_truth"])
    contestant.train()
    return metric


def run(
    contestant: Contestant, train: FashionDataset, judged: FashionDataset, settings: Settings, checkpoint: Path
) -> dict[str, Any]:
    """Trains, from the checkpoint on where there is one, and returns the row."""
    if settings.options.get("channels_last"):
        contestant.to(memory_format=torch.channels_last)
    if settings.bf16:
        keep_depthwise_in_float32(contestant)
    contestant.train()
    optimizer = torch.optim.AdamW(parameter_groups(contestant, settings))
    progress = load_checkpoint(checkpoint, contestant, optimizer, settings)
    started = time.perf_counter()
    for batch in batches(train, progress.step, settings):
        loss = train_step(contestant, optimizer, batch, progress.step, settings)
        progress.step += 1
        progress.seconds.append(time.perf_counter() - started)
        if progress.step % settings.evaluation_steps == 0 or progress.step == settings.steps:
            progress.evaluations.append(evaluation_record(evaluate(contestant, judged, settings), progress))
            print(summary(progress), flush=True)
        if progress.step % CHECKPOINT_STEPS == 0 or progress.step == settings.steps:
            progress.peak_memory_gb = max(progress.peak_memory_gb, peak_memory_gb())
            save_checkpoint(checkpoint, contestant, optimizer, settings, progress)
            print(f"step {progress.step}: loss {loss:.2f}, {progress.seconds[-1]:.2f} s", flush=True)
        started = time.perf_counter()
    return row(contestant, judged, settings, progress)


def evaluation_record(metric: FashionAveragePrecision, progress: Progress) -> dict[str, Any]:
    figures = metric.compute()
    try:
        best_threshold, _ = metric.best_attribute_thresholds()
    except ValueError:  # too few instances that carry attributes were found
        best_threshold = None
    return {
        "step": progress.step,
        "minutes": sum(progress.seconds) / 60,
        "best_attribute_threshold": best_threshold,
        **{name: None if math.isnan(figures[name]) else figures[name] for name in FIGURES},
        **frequent_figures(metric),
    }


def frequent_figures(metric: FashionAveragePrecision) -> dict[str, float | None]:
    """Figures over the frequent categories alone, named like those over all with `_frequent` behind."""
    judged = [figures for figures in metric.per_category().values() if figures["instances"] >= FREQUENT]
    return {
        f"{name}_frequent": statistics.fmean(figures[name] for figures in judged) if judged else None
        for name in FREQUENT_FIGURES
    }


def summary(progress: Progress) -> str:
    last = progress.evaluations[-1]
    figures = ", ".join(f"{name} {100 * (last[name] or 0):.1f}" for name in CURVE_FIGURES)
    return f"step {progress.step}, {last['minutes']:.1f} minutes: {figures}"


def peak_memory_gb() -> float:
    """Of this process since its start; the kernel counts in kilobytes (macOS in bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def row(contestant: Contestant, judged: FashionDataset, settings: Settings, progress: Progress) -> dict[str, Any]:
    last = progress.evaluations[-1]
    return {
        "settings": asdict(settings),
        "figures": {name: last[name] for name in (*FIGURES, *(f"{name}_frequent" for name in FREQUENT_FIGURES))},
        "best_attribute_threshold": last["best_attribute_threshold"],
        "num_images": len(judged),
        "num_attributes": contestant.config.num_attributes,
        "seconds_per_step": statistics.median(progress.seconds),
        "training_minutes": sum(progress.seconds) / 60,
        "peak_memory_gb": progress.peak_memory_gb,
        "parameters": sum(parameter.numel() for parameter in contestant.parameters()),
        "gmacs": gmacs(contestant, judged[0]),
        "threads": torch.get_num_threads(),
        "bf16": settings.bf16,
        "torch": torch.__version__,
        "evaluations": [
            {name: one[name] for name in ("step", "minutes", *CURVE_FIGURES)} for one in progress.evaluations
        ],
    }


@torch.no_grad()
def gmacs(contestant: Contestant, sample: dict[str, Any]) -> float:
    """Multiply-adds of one photo in matrix products and convolutions, in billions. The counter misses fused attention,
    so that it is taken apart; sampling at points (deformable attention, regions) is never counted."""
    contestant.eval()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        contestant(sample["pixel_values"][None], sample["pixel_mask"][None])
    contestant.train()
    return counter.get_total_flops() / 2e9


# --- Files ------------------------------------------------------------------------------------------------------------


def save_checkpoint(
    file: Path, contestant: Contestant, optimizer: torch.optim.Optimizer, settings: Settings, progress: Progress
) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished")
    torch.save(
        {
            "settings": asdict(settings),
            "progress": asdict(progress),
            "weights": contestant.state_dict(),
            "optimizer": optimizer.state_dict(),
        },
        unfinished,
    )
    os.replace(unfinished, file)


def load_checkpoint(
    file: Path, contestant: Contestant, optimizer: torch.optim.Optimizer, settings: Settings
) -> Progress:
    if not file.is_file():
        return Progress()
    content = torch.load(file, weights_only=True)
    require_same_settings(file, content["settings"], settings)
    contestant.load_state_dict(content["weights"])
    optimizer.load_state_dict(content["optimizer"])
    print(f"going on from step {content['progress']['step']} ({file})", flush=True)
    return Progress(**content["progress"])


def require_same_settings(file: Path, found: dict[str, Any], settings: Settings) -> None:
    expected = asdict(settings)
    other = [name for name in expected if found.get(name) != expected[name]]
    if other:
        differences = "; ".join(f"{name} is {found.get(name)}, not {expected[name]}" for name in other)
        raise SystemExit(f"{file} belongs to another row ({differences}): choose another --output, or delete it.")


def write_row(content: dict[str, Any], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, file)


# --- The command ------------------------------------------------------------------------------------------------------


def parse(command: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--table", type=Path, metavar="ROWS_DIR", help="print all rows of a folder and draw its picture"
    )
    parser.add_argument("--model", choices=MODELS, help="whose row it is")
    parser.add_argument("--output", type=Path, help="the row's JSON file")
    parser.add_argument("--data_dir", type=Path, help="data set in Fashionpedia's layout")
    parser.add_argument("--synthetic", action="store_true", help="synthetic ensembles instead, drawn on the fly")
    parser.add_argument("--fashionformer", type=Path, metavar="FILE.py", help="the file with that peer")
    parser.add_argument("--config", type=Path, default=CONFIG, help="what all models share")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="fields of FashionDetrConfig")
    parser.add_argument("--ablation", choices=ABLATIONS, help="a part of our model to do without")
    parser.add_argument("--steps", type=positive, default=1000, help="length of the training")
    parser.add_argument("--learning_rate", type=float, default=8e-4, help="at its peak")
    parser.add_argument("--seed", type=int, default=0, help="of weights, batches and augmentation")
    parser.add_argument("--selection_images", type=int, default=0, help="training photos to judge by instead of val")
    parser.add_argument("--evaluation_steps", type=positive, default=250, help="from one evaluation to the next")
    parser.add_argument("--attribute_threshold", type=float, default=ATTRIBUTE_THRESHOLD, help="from which it is named")
    parser.add_argument("--work_dir", type=Path, help="folder of the checkpoint; by default `work` beside the row")
    arguments = parser.parse_args(command)
    if arguments.table is None:
        if arguments.model is None or arguments.output is None:
            parser.error("a row needs --model and --output")
        if (arguments.data_dir is None) != arguments.synthetic:
            parser.error("a row needs either --data_dir or --synthetic")
        if bare := [entry for entry in arguments.set if "=" not in entry]:
            parser.error(f"--set takes NAME=VALUE, found {bare[0]!r}")
        own = [entry for entry in arguments.set if entry.split("=")[0] not in SHARED_FIELDS]
        if (own or arguments.ablation) and arguments.model != "ours":
            parser.error(
                f"--ablation and --set change our own model; of a peer only what all share: {', '.join(SHARED_FIELDS)}"
            )
    return arguments


def read_settings(arguments: argparse.Namespace) -> Settings:
    options = yaml.safe_load(arguments.config.read_text(encoding="utf-8"))
    changed = dict(entry.split("=", 1) for entry in arguments.set)
    options["model_config"] |= {name: yaml.safe_load(value) for name, value in changed.items()}
    if arguments.model != "ours":
        fields_of_ours = options["model_config"]
        options["model_config"] = {name: fields_of_ours[name] for name in SHARED_FIELDS if name in fields_of_ours}
    return Settings(
        model=arguments.model,
        data=SYNTHETIC if arguments.synthetic else arguments.data_dir.resolve().name,
        steps=arguments.steps,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
        selection_images=arguments.selection_images,
        evaluation_steps=arguments.evaluation_steps,
        attribute_threshold=arguments.attribute_threshold,
        changes=[*arguments.set, *([arguments.ablation] if arguments.ablation else [])],
        options=options,
    )


def make_row(arguments: argparse.Namespace) -> None:
    """Trains and writes the row, unless it is there already."""
    with told_plainly():
        settings = read_settings(arguments)
        if arguments.output.is_file():
            require_same_settings(arguments.output, read_row(arguments.output)["settings"], settings)
            print(f"{arguments.output} is finished")
            return
        config, train, judged = build_data(settings, arguments.data_dir)
        model, canvas = settings.part(ModelArguments), settings.part(DataArguments).image_size
        torch.manual_seed(settings.seed)
        attention = model.attn_implementation or "sdpa"
        contestant = build_contestant(
            settings.model, config, canvas, attention=attention, fashionformer=arguments.fashionformer
        )
        if arguments.ablation is not None:
            ABLATIONS[arguments.ablation](contestant.model)
        if model.backbone_weights is not None:
            load_backbone_weights(contestant.backbone, model.backbone_weights)
    work_dir = arguments.work_dir or arguments.output.parent / "work"
    content = run(contestant, train, judged, settings, work_dir / f"{arguments.output.stem}.pt")
    write_row(content, arguments.output)


def main() -> None:
    arguments = parse()
    if arguments.table is not None:
        with told_plainly():
            rows = read_rows(arguments.table)
        print(format_rows(rows))
        print(f"\nAP against training time: {draw_curves(rows, arguments.table / 'ap_over_time.png')}")
        return
    keep_freed_memory()
    # Vanishing gradients reach magnitudes that a processor handles many times slower than zero.
    torch.set_flush_denormal(True)
    make_row(arguments)


if __name__ == "__main__":
    main()
