"""What a run learns from and what it is judged by: for the same options and seed the same, whoever asks."""

from collections.abc import Sequence
from typing import NamedTuple

from ..data.dataset import Example, FashionpediaExamples, set_aside
from ..data.fashionpedia import load_fashionpedia
from ..data.synthetic import SyntheticEnsembles
from .arguments import DataArguments


class DataSplits(NamedTuple):
    """Examples to learn from, to choose checkpoints and thresholds by, and to report the final figures on."""

    train: Sequence[Example]
    selection: Sequence[Example]
    final: Sequence[Example]


def open_splits(options: DataArguments, seed: int, canvas: tuple[int, int]) -> DataSplits:
    """
    The data that the options name, or drawings where they name none.

    Args:
        options: `data_dir` and what belongs to it.
        seed: The run's; it decides what is drawn, and which photos are set aside.
        canvas: Height and width of drawings, in pixels.

    Raises:
        FileNotFoundError: a split is missing.
        ValueError: a split is broken, or `selection_images` leaves nothing to learn from.
    """
    if options.data_dir is None:

        def draw(split: str, count: int) -> SyntheticEnsembles:
            return SyntheticEnsembles(count, *canvas, seed, split, options.synthetic_categories)

        return DataSplits(
            train=draw(options.train_split, options.synthetic_train_images),
            selection=draw("selection", options.synthetic_eval_images),
            final=draw(options.eval_split, options.synthetic_eval_images),
        )
    train = FashionpediaExamples(load_fashionpedia(options.data_dir, options.train_split))
    final = FashionpediaExamples(load_fashionpedia(options.data_dir, options.eval_split))
    if not 0 <= options.selection_images < len(train):
        raise ValueError(
            f"`selection_images` has to leave photos to learn from: found {options.selection_images}, and split "
            f"{options.train_split!r} has {len(train)} photos."
        )
    if not options.selection_images:
        return DataSplits(train, final, final)
    selection, rest = set_aside(train, options.selection_images, seed)
    return DataSplits(rest, selection, final)
