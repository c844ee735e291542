"""Trains Fashion DETR: `accelerate launch train.py [config.yaml] [--option value ...]`, also under torchrun."""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import set_seed

from fashion_detr import FashionDetrConfig, FashionDetrForInstanceSegmentation, FashionDetrImageProcessor
from fashion_detr.cli_error import abandon
from fashion_detr.data.annotations import Vocabulary, different_names
from fashion_detr.data.dataset import Example, FashionDataset, keep_in_memory
from fashion_detr.data.fashionpedia import read_split_vocabulary
from fashion_detr.data.priors import category_attributes, has_an_instance, pairs_of
from fashion_detr.training.allocator import keep_freed_memory
from fashion_detr.training.arguments import (
    DataArguments,
    FashionTrainingArguments,
    ModelArguments,
    given_options,
    parse_arguments,
)
from fashion_detr.training.backbone_weights import load_backbone_weights
from fashion_detr.training.checkpoints import fault, last_sound_checkpoint
from fashion_detr.training.depthwise import keep_depthwise_in_float32
from fashion_detr.training.fine_tuning import load_for_vocabulary
from fashion_detr.training.report import (
    OVERLAYS_FOLDER,
    draw_overlays,
    forget_results,
    format_table,
    model_document,
    write_report,
)
from fashion_detr.training.run_record import keep_log, usable_cores, write_record
from fashion_detr.training.splits import open_splits
from fashion_detr.training.trainer import FashionTrainer, require_figure
from fashion_detr.training.weight_average import AVERAGE_FILE

DEFAULT_CONFIG = Path(__file__).parent / "configs" / "demo.yaml"
OVERLAYS = 8

logger = logging.getLogger("fashion_detr.train")


def main(arguments: list[str]) -> None:
    try:
        trainer, final, data_args = prepare(arguments)
    except (ImportError, OSError, StrictDataclassError, ValueError) as error:
        sys.exit(f"train.py: {error}")  # the person's to put right: said without a traceback
    trainer.train(resume_from_checkpoint=trainer.args.resume_from_checkpoint)
    if trainer.args.enable_jit_checkpoint and trainer.state.global_step < trainer.state.max_steps:
        sys.exit(
            f"train.py: stopped by a signal at step {trainer.state.global_step} of {trainer.state.max_steps}; the same "
            "command with `--resume_from_checkpoint true` goes on"
        )
    minutes = trainer.training_minutes
    logger.info("Training took %.1f minutes", minutes)

    trainer.save_model()  # before an evaluation in half precision (`bf16_full_eval`) rounds the weights
    if trainer.eval_dataset.examples is not final.examples:  # the final figures stay unseen
        trainer.choose_attribute_thresholds(trainer.eval_dataset)
        if trainer.args.should_save:
            trainer.accelerator.unwrap_model(trainer.model).config.save_pretrained(trainer.args.output_dir)
    trainer.save_state()
    evaluate(trainer, final, data_args, minutes)
    trainer.end()


def prepare(arguments: list[str]) -> tuple[FashionTrainer, FashionDataset, DataArguments]:
    """
    The trainer, ready to start, what the final figures are measured on, and the options on data. The run's record is
    written when all of it holds, so that a slip does not replace that of the run before.

    Raises:
        ImportError, OSError, ValueError, StrictDataclassError: an option, the model or the data cannot be used.
    """
    config_file, model_args, data_args, args = parse_arguments(arguments, DEFAULT_CONFIG)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.WARNING)
    logging.getLogger("fashion_detr").setLevel(logging.INFO if args.should_log else logging.WARNING)
    if args.should_save:
        keep_log(Path(args.output_dir))
    logger.info("Configuration: %s, output: %s", config_file, args.output_dir)
    use_all_cores(args)
    keep_freed_memory()
    set_seed(args.seed)
    # Before anything that takes time.
    require_figure(args.metric_for_best_model)
    args.resume_from_checkpoint = checkpoint_to_resume(args)

    model, processor = build_model(model_args, data_args)
    if model_args.attn_implementation is not None:
        model.set_attn_implementation(model_args.attn_implementation)
    if args.sync_batch_norm:
        model = with_synchronised_batch_norm(model)
    if args.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if args.bf16 and args.device.type == "cpu":
        keep_depthwise_in_float32(model)
    train, selection, final = build_datasets(data_args, args, model.config, processor)
    logger.info("Images: %d to learn from, %d held out for the final figures", len(train), len(final))

    batch = args.train_batch_size * args.world_size
    if args.dataloader_drop_last and len(train) < batch:
        raise ValueError(f"`dataloader_drop_last` leaves no batch: there are {len(train)} images for one of {batch}.")
    try:
        trainer = FashionTrainer(
            model=model, args=args, train_dataset=train, eval_dataset=selection, processing_class=final.processor
        )
        require_usable(trainer)
    except (RuntimeError, TypeError) as error:  # of packages that are not there, and schedules that need more options
        raise ValueError(str(error)) from error
    if args.should_save:
        forget_results(Path(args.output_dir))
        write_record(Path(args.output_dir), given_options(arguments, DEFAULT_CONFIG), args.world_size)
    return trainer, final, data_args


def require_usable(trainer: FashionTrainer) -> None:
    """Makes optimiser and schedule on trial, which raise what they find wrong with their options."""
    args = trainer.args
    if not trainer.is_deepspeed_enabled and not trainer.is_fsdp_enabled:  # which make them of a model in parts
        trainer.create_optimizer_and_scheduler(num_training_steps=max(args.max_steps, 1))
        trainer.optimizer = trainer.lr_scheduler = None


def use_all_cores(args: FashionTrainingArguments) -> None:
    """Launchers set OMP_NUM_THREADS=1; on CPU the processes of this machine share its cores instead."""
    if args.device.type == "cpu":
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        threads = max(1, usable_cores() // processes)
        torch.set_num_threads(threads)
        logger.info("CPU: %d threads for each of %d processes", threads, processes)
        # Vanishing gradients reach magnitudes that a processor handles many times slower than zero.
        torch.set_flush_denormal(True)


def with_synchronised_batch_norm(model: FashionDetrForInstanceSegmentation) -> FashionDetrForInstanceSegmentation:
    """Batch norms that share their statistics; timm's carry an activation, which only timm knows to keep."""
    if model.config.freeze_backbone_batch_norm:
        raise ValueError("`sync_batch_norm` needs batch norms that learn: set freeze_backbone_batch_norm to false.")
    if model.config.backbone_config.model_type == "timm_backbone":
        from timm.layers import convert_sync_batchnorm

        return convert_sync_batchnorm(model)
    return torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)


def build_model(
    model_args: ModelArguments, data_args: DataArguments
) -> tuple[FashionDetrForInstanceSegmentation, FashionDetrImageProcessor]:
    canvas = {} if data_args.image_size is None else {"size": canvas_size(data_args.image_size)}
    if data_args.data_dir is None:
        vocabulary = Vocabulary.fashionpedia()
    else:
        vocabulary = read_split_vocabulary(data_args.data_dir, data_args.eval_split)
    if model_args.model_name_or_path is not None:
        if model_args.backbone is not None or model_args.backbone_weights is not None:
            logger.info("`backbone` and `backbone_weights` are not used: `model_name_or_path` brings its own")
        model = load_for_vocabulary(model_args.model_name_or_path, vocabulary, model_args.model_config)
        return model, FashionDetrImageProcessor.from_pretrained(model_args.model_name_or_path, **canvas)

    if model_args.backbone is None and not model_args.model_config:
        raise ValueError(
            "Nothing says what is to learn: `model_name_or_path`, a trained model to go on from, or `backbone`, the "
            "part that a new one begins with."
        )
    processor = FashionDetrImageProcessor(image_mean=data_args.image_mean, image_std=data_args.image_std, **canvas)
    fields = vocabulary.config_kwargs() | model_args.model_config
    if model_args.backbone is None:
        config = FashionDetrConfig(**fields)
    else:
        config = FashionDetrConfig.from_backbone(model_args.backbone, **fields)
    model = FashionDetrForInstanceSegmentation(config)
    if model_args.backbone_weights is not None:
        load_backbone_weights(model.model.backbone, model_args.backbone_weights)
    elif config.freeze_backbone_batch_norm:
        logger.warning(
            "The backbone starts from chance (`backbone_weights`), but its batch norms, if any, are not to learn: "
            "set `freeze_backbone_batch_norm: false` in `model_config`."
        )
    return model, processor


def canvas_size(sides: Sequence[int]) -> dict[str, int]:
    """Height and width as the image processor takes them."""
    return dict(zip(("height", "width"), sides))


def build_datasets(
    data_args: DataArguments,
    args: FashionTrainingArguments,
    config: FashionDetrConfig,
    processor: FashionDetrImageProcessor,
) -> tuple[FashionDataset, FashionDataset, FashionDataset]:
    """Training data, what checkpoints are chosen by, and what the final figures are measured on; the last two have the
    canvas of the evaluations."""
    canvas = (processor.size["height"], processor.size["width"])
    with args.main_process_first(desc="reading the annotations"):
        if data_args.data_dir is not None and args.local_process_index == 0:  # one: it holds both files in memory
            require_same_vocabulary(data_args, config)
        train, selection, final = open_splits(data_args, args.seed, canvas)

    if not has_an_instance(train):
        raise ValueError(
            f"There is nothing to learn: no photo of split {data_args.train_split!r} has an annotation with a mask that"
            " is no crowd. `fashion-detr data check` tells more."
        )
    if args.load_best_model_at_end and not has_an_instance(selection):
        raise ValueError(
            "`load_best_model_at_end` chooses by photos without a single annotation: set aside more training "
            "photos (`selection_images`), name another `eval_split`, or switch it off."
        )
    if data_args.keep_in_memory:
        train = keep_in_memory(train, num_workers=torch.get_num_threads())
    learn_priors(config, train)
    judging = processor
    if data_args.eval_image_size is not None:
        judging = FashionDetrImageProcessor.from_dict(processor.to_dict(), size=canvas_size(data_args.eval_image_size))
    return (
        FashionDataset(train, processor, config, data_args.augmentation(), seed=args.seed),
        FashionDataset(selection, judging, config, with_ground_truth=True),
        FashionDataset(final, judging, config, with_ground_truth=True),
    )


def require_same_vocabulary(data_args: DataArguments, config: FashionDetrConfig) -> None:
    """Raises ValueError if an id means one thing among what is learnt, and another among what is judged."""
    learnt = read_split_vocabulary(data_args.data_dir, data_args.train_split).names_by_id()
    judged = Vocabulary.of(config).names_by_id()  # the model has that split's
    for kind, one, other in zip(("category", "attribute"), learnt, judged):
        for key, in_train, in_eval in different_names(one, other):
            raise ValueError(
                f"All splits need the same categories and attributes, but {kind} {key} is {in_train} in split "
                f"{data_args.train_split!r} and {in_eval} in {data_args.eval_split!r}. `fashion-detr data check` tells "
                "all differences."
            )


def learn_priors(config: FashionDetrConfig, train: Sequence[Example]) -> None:
    """Has the configuration know which attributes a category can carry, where counting them costs no drawing."""
    pairs = pairs_of(train)
    if pairs is None:
        return
    config.category_attributes = category_attributes(pairs, config)
    carried = sum(map(len, config.category_attributes.values()))
    if config.num_attributes and not carried:
        logger.warning(
            "No annotation carries an attribute (`attribute_ids`), so none of the %d will ever be reported",
            config.num_attributes,
        )
    logger.info("Attributes: %d pairs of category and attribute occur, others are not reported", carried)


def checkpoint_to_resume(args: FashionTrainingArguments) -> str | None:
    """
    `--resume_from_checkpoint` names a checkpoint, or is `true` for the last complete one in the output folder. Without
    any the run starts from the beginning: the command that is repeated after every kill is the same.

    Raises:
        ValueError: the named checkpoint is incomplete, damaged or not there, or `ema_decay` asks for an average that
            it does not have.
    """
    choice = str(args.resume_from_checkpoint or False)  # in a file `true` is no text
    if choice.lower() == "false":
        return None
    if choice.lower() != "true":
        reason = fault(Path(choice)) if Path(choice).is_dir() else "there is no such folder"
        if reason is not None:
            raise ValueError(
                f"`resume_from_checkpoint`: {choice} cannot be gone on from, {reason}. `true` takes the last complete "
                f"checkpoint in {args.output_dir}."
            )
        return with_its_parts(Path(choice), args)
    last = last_sound_checkpoint(Path(args.output_dir)) if Path(args.output_dir).is_dir() else None
    if last is None:
        logger.warning("There is no checkpoint in %s: starting from the beginning", args.output_dir)
        return None
    logger.info("Going on from %s", last)
    return with_its_parts(last, args)


def with_its_parts(checkpoint: Path, args: FashionTrainingArguments) -> str:
    """
    The checkpoint, which has averaged weights if the run needs them: raises ValueError if it does not. Warns of one
    that has no more than weights.
    """
    if not args.deepspeed and not (checkpoint / "scheduler.pt").is_file():  # DeepSpeed has files of its own
        logger.warning(
            "%s has weights alone (`save_only_model`): the optimiser and the learning rate begin anew", checkpoint
        )
    if args.ema_decay and not (checkpoint / AVERAGE_FILE).is_file():
        raise ValueError(
            f"`resume_from_checkpoint`: {checkpoint} has no averaged weights, it was made without `ema_decay`. Go on "
            f"without it too, or start another run from its weights, `--model_name_or_path {checkpoint}`."
        )
    return str(checkpoint)


def evaluate(trainer: FashionTrainer, dataset: FashionDataset, data_args: DataArguments, minutes: float) -> None:
    """The final figures: a table on screen, `metrics.json` with its picture, and overlays of held-out images."""
    loop_metrics = trainer.evaluate(dataset, metric_key_prefix="final")
    output_dir = Path(trainer.args.output_dir)
    overlays_dir = output_dir / OVERLAYS_FOLDER if trainer.is_world_process_zero() else None
    paths = draw_overlays(trainer.model, trainer.processing_class, dataset.examples, OVERLAYS, overlays_dir)
    if not trainer.is_world_process_zero():
        return
    document = model_document(
        trainer.evaluation,
        num_images=len(dataset),
        split=data_args.eval_split,
        data_dir=data_args.data_dir,
        loss=loop_metrics["final_loss"],
        steps=trainer.state.global_step,
        training_minutes=round(minutes, 2),
    )
    write_report(document, trainer.evaluation.metric, output_dir)
    print(format_table(document))
    print(f"Model, metrics.json, evaluation.png and {len(paths)} overlays: {output_dir}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        print(
            "train.py: interrupted; `--resume_from_checkpoint true` goes on from the last checkpoint, if any",
            file=sys.stderr,
        )
        sys.exit(130)
    except BrokenPipeError:  # `| head` has read enough
        abandon(sys.stdout, sys.stderr)
        sys.exit(141)
