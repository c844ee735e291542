"""The rows of `peers.py` as a table, and their average precision against training time as a picture."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fashion_detr.training.report import percent

Row = dict[str, Any]

# Okabe and Ito's palette, which colour-blind people tell apart.
COLOURS = {"ours": "#D55E00", "fashionformer": "#0072B2", "mask2former": "#009E73", "maskrcnn": "#CC79A7"}
NAMES = {
    "ours": "Fashion DETR",
    "fashionformer": "Fashionformer",
    "mask2former": "Mask2Former",
    "maskrcnn": "Mask R-CNN",
}
KEYS = {"settings", "figures", "evaluations"}


def figures(*names: str) -> Callable[[Row], str]:
    return lambda row: " / ".join(percent(row["figures"][name]) for name in names)


COLUMNS: dict[str, Callable[[Row], str]] = {
    "model": lambda row: label(row),
    "rate": lambda row: f"{row['settings']['learning_rate']:g}",
    "steps": lambda row: str(row["settings"]["steps"]),
    "AP_IoU": figures("AP_IoU"),
    "AP_IoU+F1": figures("AP_IoU+F1"),
    "AP50 / AP75": figures("AP50_IoU", "AP75_IoU"),
    "AP_IoU / +F1, frequent categories": figures("AP_IoU_frequent", "AP_IoU+F1_frequent"),
    "AP s / m / l": figures("AP_IoU_small", "AP_IoU_medium", "AP_IoU_large"),
    "AP covered 0-25 / 25-50 / 50-100 %": figures(
        "AP_IoU_covered_0_25", "AP_IoU_covered_25_50", "AP_IoU_covered_50_100"
    ),
    "s/step": lambda row: f"{row['seconds_per_step']:.2f}",
    "minutes": lambda row: f"{row['training_minutes']:.0f}",
    "peak GB": lambda row: f"{row['peak_memory_gb']:.1f}",
    "M params": lambda row: f"{row['parameters'] / 1e6:.1f}",
    "GMACs": lambda row: f"{row['gmacs']:.1f}",
}


def read_rows(folder: Path) -> list[Row]:
    """
    All rows of a folder, best first, each with its `file`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a JSON file is something else.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        raise FileNotFoundError(f"There is no row (a JSON file that peers.py wrote) in {folder}.")
    rows = [read_row(file) | {"file": file} for file in files]
    return sorted(rows, key=lambda row: (judged_on(row), -(row["figures"]["AP_IoU"] or 0)))


def read_row(file: Path) -> Row:
    """A row's content. Raises ValueError for what is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not valid JSON: {error}") from error
    is_row = isinstance(content, dict) and content.keys() >= KEYS and isinstance(content["settings"], dict)
    if not is_row or content["settings"].get("model") not in NAMES:
        raise ValueError(f"{file} is not a row that peers.py wrote.")
    return content


def judged_on(row: Row) -> str:
    settings = row["settings"]
    part = "photos taken from train" if settings["selection_images"] else "val"
    return f"{settings['data']}, {row['num_images']} images ({part}), A = {row['num_attributes']}"


def label(row: Row) -> str:
    """The model, what was changed about it, and the seed where it is another than that of most rows."""
    settings = row["settings"]
    seed = [f"seed {settings['seed']}"] if settings["seed"] else []
    return ", ".join([NAMES[settings["model"]], *settings["changes"], *seed])


def format_rows(rows: Sequence[Row]) -> str:
    """A markdown table for every set of images that rows are judged on."""
    lines: list[str] = []
    for place in dict.fromkeys(map(judged_on, rows)):
        lines += ["", f"{place}, percent", "", f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
        lines += [
            f"| {' | '.join(column(row) for column in COLUMNS.values())} |" for row in rows if judged_on(row) == place
        ]
    return "\n".join(lines[1:])


def draw_curves(rows: Sequence[Row], file: Path) -> Path:
    """Writes a PNG with one panel a set of images, and returns its path."""
    places = list(dict.fromkeys(map(judged_on, rows)))
    figure = Figure(figsize=(7 * len(places), 4.5), layout="constrained")
    panels = figure.subplots(1, len(places), squeeze=False)[0]
    for panel, place in zip(panels, places):
        for row in (row for row in rows if judged_on(row) == place):
            curve = [(0.0, 0.0)] + [(one["minutes"], 100 * (one["AP_IoU"] or 0)) for one in row["evaluations"]]
            name = f"{label(row)}, rate {row['settings']['learning_rate']:g}"
            panel.plot(*zip(*curve), marker="o", markersize=3, color=COLOURS[row["settings"]["model"]], label=name)
        panel.set(xlabel="minutes of training", ylabel="AP_IoU (%)", title=place, ylim=(0, None), xlim=(0, None))
        panel.grid(alpha=0.3)
        panel.legend(loc="lower right", fontsize=8)
    figure.savefig(file, dpi=120)
    return file
