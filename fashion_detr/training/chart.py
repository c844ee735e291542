"""The picture of an evaluation: precision against recall, and every category's average precision."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..fonts import font_properties, printable

# Okabe and Ito's palette, which colour-blind people tell apart.
COLOURS = {"AP50_IoU": "#56B4E9", "AP75_IoU": "#009E73", "AP_IoU": "#0072B2", "AP_IoU+F1": "#D55E00"}
LABELS = {
    "AP50_IoU": "IoU .50",
    "AP75_IoU": "IoU .75",
    "AP_IoU": "IoU .50 to .95",
    "AP_IoU+F1": "IoU and F1 .50 to .95",
}
BAR_INCHES = 0.26
LEAST_HEIGHT = 4.5


def draw_evaluation(document: Mapping[str, Any], curves: Mapping[str, np.ndarray], path: Path) -> None:
    """
    Writes a PNG: curves on the left, a pair of bars a category on the right, most precise first.

    Args:
        document: What `metrics.json` holds.
        curves: `FashionAveragePrecision.precision_recall`; empty where there is no ground truth.
        path: The file.
    """
    present = {name: figures for name, figures in document["per_category"].items() if figures["instances"]}
    height = max(LEAST_HEIGHT, 1.2 + BAR_INCHES * len(present))
    figure = Figure(figsize=(12, height), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.1])
    _draw_curves(left, curves)
    _draw_bars(right, present)
    figure.suptitle(
        f"{document['num_images']} images, {sum(one['instances'] for one in present.values())} instances, "
        f"A = {document['num_attributes']}"
    )
    figure.savefig(path, dpi=110)


def _draw_curves(axes: Any, curves: Mapping[str, np.ndarray]) -> None:
    for name, precision in curves.items():
        recall = np.linspace(0, 100, len(precision))
        label = f"{LABELS[name]}: mean {100 * precision.mean():.1f}"
        axes.plot(recall, 100 * precision, color=COLOURS[name], label=label, linewidth=2)
    axes.set(xlim=(0, 100), ylim=(0, 102), xlabel="recall, percent", ylabel="precision, percent")
    axes.set_title("Precision at recall, mean over categories", fontsize=11)
    axes.grid(alpha=0.3)
    if curves:
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)
    else:
        axes.text(50, 50, "no ground truth", ha="center")


def _draw_bars(axes: Any, present: Mapping[str, Mapping[str, Any]]) -> None:
    ranked = sorted(present, key=lambda name: present[name]["AP_IoU"])
    places = np.arange(len(ranked))
    for name, offset in (("AP_IoU", 0.2), ("AP_IoU+F1", -0.2)):
        values = [100 * present[category][name] for category in ranked]
        axes.barh(places + offset, values, 0.38, color=COLOURS[name], label=name)
        for place, value in zip(places, values):
            axes.text(value + 0.8, place + offset, f"{value:.0f}", va="center", fontsize=7)
    labels = [printable(f"{category} ({present[category]['instances']})") for category in ranked]
    # No formulas: names may have dollars.
    axes.set_yticks(places, labels, fontproperties=font_properties(labels), fontsize=8, parse_math=False)
    axes.set(xlim=(0, 105), ylim=(-0.7, max(len(ranked), 1) - 0.3), xlabel="average precision, percent")
    axes.set_title("Categories (instances)", fontsize=11)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
