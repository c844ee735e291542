"""What the training set alone can tell about a data set: which attributes its categories carry."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from datasets import Dataset
from torch.utils.data import Subset

from ..configuration_fashion_detr import FashionDetrConfig
from ..masks_fashion_detr import is_crowd
from .dataset import Example, FashionpediaExamples


def category_attributes(pairs: Iterable[tuple[int, Iterable[int]]], config: FashionDetrConfig) -> dict[int, list[int]]:
    """
    For `FashionDetrConfig.category_attributes`: class index -> the attribute indices that an instance of it carries.

    Args:
        pairs: Category id and attribute ids of every instance, the data set's own.
        config: Maps the ids. A class without an instance carries nothing.
    """
    class_index = {category_id: index for index, category_id in enumerate(config.category_ids)}
    attribute_index = {attribute_id: index for index, attribute_id in enumerate(config.attribute_ids)}
    carried: dict[int, set[int]] = defaultdict(set)
    for category_id, attribute_ids in pairs:
        carried[class_index[category_id]].update(attribute_index[one] for one in attribute_ids)
    return {index: sorted(carried[index]) for index in class_index.values()}


def pairs_of(examples: Sequence[Example]) -> Iterable[tuple[int, Sequence[int]]] | None:
    """
    The `pairs` of examples that are read or in memory, or of some of them, without crowds, which nobody learns; `None`
    where they would be drawn anew.
    """
    indices = None
    if isinstance(examples, Subset):
        examples, indices = examples.dataset, examples.indices
    if isinstance(examples, FashionpediaExamples):
        return row_pairs(examples.rows, indices)
    if isinstance(examples, list):
        chosen = examples if indices is None else (examples[index] for index in indices)
        annotations = (annotation for example in chosen for annotation in example["annotations"])
        return ((one["category_id"], one["attribute_ids"]) for one in annotations if not is_crowd(one))
    return None


def has_an_instance(examples: Sequence[Example]) -> bool:
    """Whether there is anything but crowds; where it is drawn anew, there is."""
    pairs = pairs_of(examples)
    return pairs is None or next(iter(pairs), None) is not None


def row_pairs(rows: Dataset, indices: Sequence[int] | None = None) -> Iterable[tuple[int, Sequence[int]]]:
    """Category id and attribute ids of every instance in the rows of `load_fashionpedia`; no mask is unpacked."""
    rows = rows.select_columns("objects")
    if indices is not None:
        rows = rows.select(indices)
    for batch in rows.with_format("arrow").iter(1000):
        for chunk in batch.column("objects").chunks:
            instances = chunk.flatten()
            names = ("category_id", "attribute_ids", "iscrowd")
            for *pair, is_a_crowd in zip(*(instances.field(name).to_pylist() for name in names)):
                if not is_a_crowd:
                    yield tuple(pair)
