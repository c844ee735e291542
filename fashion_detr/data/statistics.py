"""The picture of a data set's labels: what there is much of, what is small, and what is worn together."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter
from pycocotools import mask as coco_mask

from ..fonts import font_properties, printable
from .annotations import read_ground_truth
from .images import find_annotation_file

# Okabe and Ito's palette, which colour-blind people tell apart.
CATEGORY_COLOUR, ATTRIBUTE_COLOUR, SIZE_COLOUR, COUNT_COLOUR = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ATTRIBUTES_SHOWN = 40
LONGEST_NAME = 30  # characters; Fashionpedia's longest has 40
BAR_INCHES = 0.24
LEAST_BARS = 18  # a small vocabulary leaves room for titles and axes as well


@dataclass(frozen=True)
class LabelStatistics:
    """
    What the labels of a split add up to.

    Args:
        category_counts: Name of a category -> its instances; those that occur, most frequent first.
        attribute_counts: Name of an attribute -> instances that carry it; the same.
        sizes: (instances,) roots of mask area by image area, 0 to 1.
        instances_per_image: (images,) also of images without an instance.
        co_occurrence: (categories, categories) in the order of `category_counts`: of the images that show the row's
            category, the share that shows the column's.
    """

    category_counts: Mapping[str, int]
    attribute_counts: Mapping[str, int]
    sizes: np.ndarray
    instances_per_image: np.ndarray
    co_occurrence: np.ndarray


def label_statistics(annotation_file: Path) -> LabelStatistics:
    """Raises FileNotFoundError if there is no such file, and ValueError if it is broken."""
    vocabulary, images = read_ground_truth(annotation_file)
    categories, attributes = vocabulary.names_by_id()
    annotations_of = [[one for one in annotations if _is_learnt(one)] for _, annotations in images.values()]
    annotations = [annotation for one in annotations_of for annotation in one]
    category_counts = Counter(annotation["category_id"] for annotation in annotations)
    attribute_counts = Counter(key for annotation in annotations for key in set(annotation["attribute_ids"]))
    order = [key for key, _ in category_counts.most_common()]
    shown = [{annotation["category_id"] for annotation in one} for one in annotations_of]
    is_shown = np.array([[key in keys for key in order] for keys in shown], dtype=np.float64).reshape(
        len(shown), len(order)
    )
    return LabelStatistics(
        category_counts={categories[key]: count for key, count in category_counts.most_common()},
        attribute_counts={attributes[key]: count for key, count in attribute_counts.most_common()},
        sizes=np.array([_relative_size(annotation["segmentation"]) for annotation in annotations]),
        instances_per_image=np.array([len(one) for one in annotations_of]),
        co_occurrence=is_shown.T @ is_shown / is_shown.sum(axis=0)[:, None],
    )


def draw_statistics(data_dir: Path, split: str, path: Path) -> None:
    """
    Writes a PNG with the label statistics of a split.

    Raises:
        FileNotFoundError: there is no annotation file of that split.
        ValueError: it is broken; the message has every kind of problem, its count and first cases.
    """
    statistics = label_statistics(find_annotation_file(Path(data_dir), split))
    categories = [_shortened(name) for name in statistics.category_counts]
    attributes = dict(list(statistics.attribute_counts.items())[:ATTRIBUTES_SHOWN])
    bars = max(LEAST_BARS, len(categories), len(attributes))
    square = max(LEAST_BARS, len(categories))
    heights = [1 + BAR_INCHES * bars, 2.4 + BAR_INCHES * square]
    figure = Figure(figsize=(15, sum(heights) + 0.5), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=heights)
    left, right = top.subplots(1, 2)
    _draw_bars(left, statistics.category_counts, CATEGORY_COLOUR, "Instances by category")
    carried = len(statistics.attribute_counts)
    most = "" if len(attributes) == carried else f", the {len(attributes)} most frequent of {carried}"
    _draw_bars(right, attributes, ATTRIBUTE_COLOUR, f"Instances by attribute{most}")
    beside, below = bottom.subfigures(1, 2, width_ratios=[2.4, 1])
    _draw_co_occurrence(beside, categories, statistics.co_occurrence)
    sizes, counts = below.subplots(2, 1)
    _draw_sizes(sizes, statistics.sizes)
    _draw_instances_per_image(counts, statistics.instances_per_image)
    figure.suptitle(
        f"{split}: {len(statistics.instances_per_image):,} images, {len(statistics.sizes):,} instances, "
        f"{len(categories)} categories and {carried} attributes that occur"
    )
    figure.savefig(path, dpi=100, format=path.suffix[1:] or "png")  # at this very path, also without a suffix


def _is_learnt(annotation: dict[str, Any]) -> bool:
    """Crowds teach nothing, nor do masks without a pixel, which the metric still misses, as COCO's does."""
    return not annotation["iscrowd"] and coco_mask.area(annotation["segmentation"]) > 0


def _relative_size(rle: dict[str, Any]) -> float:
    height, width = rle["size"]
    return float(np.sqrt(coco_mask.area(rle) / (height * width)))


def _shortened(name: str) -> str:
    name = printable(name)
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1].rstrip(" ,") + "…"


def _draw_bars(axes: Any, counts: Mapping[str, int], colour: str, title: str) -> None:
    places = np.arange(len(counts))
    axes.barh(places, list(counts.values()), 0.75, color=colour)
    for place, count in zip(places, counts.values()):
        axes.annotate(f"{count:,}", (count, place), (3, 0), textcoords="offset points", va="center", fontsize=8)
    names = [_shortened(name) for name in counts]
    axes.set_yticks(places, names, fontproperties=font_properties(names), fontsize=9, parse_math=False)
    axes.set(ylim=(max(len(counts), 1) - 0.4, -0.6), xlim=(0, 1.12 * max(counts.values(), default=1)))
    axes.set_xlabel("instances")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(title, fontsize=11)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)


def _draw_co_occurrence(figure: Any, names: Sequence[str], shares: np.ndarray) -> None:
    """The diagonal is 1 by definition and left out, so that the colours are the other cells'."""
    axes = figure.subplots()
    off_diagonal = np.ma.masked_array(shares, mask=np.eye(len(names), dtype=bool))
    drawn = axes.pcolormesh(off_diagonal, cmap="Blues", vmin=0, vmax=1, edgecolors="0.9", linewidth=0.3)
    ticks = np.arange(len(names)) + 0.5
    style = {"fontproperties": font_properties(names), "fontsize": 9, "parse_math": False}
    axes.set_xticks(ticks, names, rotation=90, **style)
    axes.set_yticks(ticks, names, **style)
    axes.tick_params(length=0)
    axes.set(ylim=(max(len(names), 1), 0), facecolor="0.75")
    axes.set_title("Of the images that show the row's category, the share that shows the column's", fontsize=11)
    figure.colorbar(drawn, ax=axes, format=PercentFormatter(1), fraction=0.03, pad=0.01)


def _draw_sizes(axes: Any, sizes: np.ndarray) -> None:
    visible = sizes[sizes > 0]
    edges = np.geomspace(min(visible.min(initial=0.1), 0.1), 1, 41)
    axes.hist(visible, edges, color=SIZE_COLOUR)
    axes.set(xscale="log", xlabel="root of mask area / image area", ylabel="instances")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(f"Instance size, median {np.median(visible):.1%}" if len(visible) else "Instance size", fontsize=11)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)


def _draw_instances_per_image(axes: Any, counts: np.ndarray) -> None:
    numbers = np.bincount(counts) if len(counts) else np.zeros(1, dtype=int)
    axes.bar(np.arange(len(numbers)), numbers, 0.9, color=COUNT_COLOUR)
    axes.set(xlabel="instances", ylabel="images")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    mean = counts.mean() if len(counts) else 0
    axes.set_title(f"Instances per image, mean {mean:.1f}", fontsize=11)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
