"""
Results as HTML: the layers over a photo, and the tree of its objects.

Layers are outlines in SVG, some kilobytes for a photo, which the browser draws sharply at any size and switches on and
off without the server. Text that comes from a model or a file is escaped.
"""

import base64
import io
from collections import Counter
from html import escape
from typing import Any

import numpy as np
from contourpy import LineType, contour_generator
from PIL import Image

from ..masks_fashion_detr import mask_box
from ..results_fashion_detr import FashionResult
from ..visualization import COLOURS

# The longer side of a photo on the page is at most so many pixels.
SHOWN_SIDE = 1280
# An outline is traced on a grid of at most so many cells along the longer side of its object.
OUTLINE_CELLS = 256
# Outlines are in whole numbers, which take the fewest characters, of so many to a pixel.
SUBPIXELS = 4


def shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width on the page of a photo of the given height and width."""
    scale = min(1.0, SHOWN_SIDE / max(size))
    height, width = (max(1, round(side * scale)) for side in size)
    return height, width


def photo_html(photo: Image.Image, size: tuple[int, int]) -> str:
    """A photo at a height and width as an `<img>` that holds its own pixels."""
    height, width = size
    stored = io.BytesIO()
    photo.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2).save(stored, "JPEG", quality=88)
    pixels = base64.b64encode(stored.getvalue()).decode("ascii")
    return f'<img src="data:image/jpeg;base64,{pixels}" width="{width}" height="{height}" alt="Your photo">'


def layers_html(objects: FashionResult) -> str:
    """The outlines of all objects as one `<svg>` of the shape of their masks, parts above garments."""
    height, width = objects.image_size
    keys = object_keys(objects)
    shapes = []
    for position in objects.layers():
        entry, key = objects[position], keys[position]
        shapes.append(
            f'<g data-object="{key}" style="--colour:{_colour(entry)}">'
            f"<title>{escape(entry['label'])} {entry['score']:.2f}</title>"
            f'<g class="casing"><use href="#outline-{key}"/></g>'
            f'<g class="layer"><path id="outline-{key}" vector-effect="non-scaling-stroke" '
            f'd="{outline(entry["mask"].numpy())}"/></g></g>'
        )
    return f'<svg viewBox="0 0 {SUBPIXELS * width} {SUBPIXELS * height}" aria-hidden="true">{"".join(shapes)}</svg>'


def tree_html(objects: FashionResult) -> str:
    """The objects as a list with a switch for each, parts below the garments that carry them."""
    keys, names = object_keys(objects), object_names(objects)

    def branch(node: dict[str, Any]) -> str:
        entry, key = objects[node["index"]], keys[node["index"]]
        attributes = "".join(
            f"<li>{escape(attribute['name'])} <small>{attribute['score']:.2f}</small></li>"
            for attribute in entry["attributes"]
        )
        parts = "".join(map(branch, node["children"]))
        return (
            f'<li data-object="{key}" style="--colour:{_colour(entry)}">'
            f'<label><input type="checkbox" value="{key}" checked><b>{escape(names[node["index"]])}</b>'
            f'<span class="score">{entry["score"]:.2f}</span></label>'
            + (f'<ul class="attributes" aria-label="Attributes">{attributes}</ul>' if attributes else "")
            + (f'<ul class="parts" aria-label="Parts">{parts}</ul>' if parts else "")
            + "</li>"
        )

    count = f"{len(objects)} {'object' if len(objects) == 1 else 'objects'}"
    return (
        f'<div class="tree-head"><h2>{count}</h2>'
        '<button type="button" data-switch="on">Show all</button>'
        '<button type="button" data-switch="off">Hide all</button></div>'
        f'<ul class="tree">{"".join(map(branch, objects.tree()))}</ul>'
    )


def note_html(text: str, busy: bool = False) -> str:
    """A sentence in place of the tree; while it is `busy`, nothing on the page can be touched."""
    return f'<p class="note" role="status" aria-busy="{"true" if busy else "false"}">{escape(text)}</p>'


def error_html(text: str) -> str:
    """A sentence that screen readers read out at once."""
    return f'<p role="alert">{escape(text)}</p>'


def nothing_found(below: FashionResult, threshold: float) -> str:
    """Why the page stays empty, from all objects below the threshold."""
    if not below:
        return "Nothing was found in this photo, at any threshold."
    return (
        f"Nothing has a score of {threshold:.2f} or more. The best guess is {below[0]['label']!r} with "
        f"{below[0]['score']:.2f}: a lower threshold shows it."
    )


def object_keys(objects: FashionResult) -> list[str]:
    """
    What each object is known by in the page: its class and its place among those of its class.

    Positions would not do: with the threshold they change. Objects are in the order of their scores, so this changes
    only where objects of one class swap places.
    """
    seen: Counter[int] = Counter()
    keys = []
    for entry in objects:
        seen[entry["label_id"]] += 1
        keys.append(f"{entry['label_id']}-{seen[entry['label_id']]}")
    return keys


def object_names(objects: FashionResult) -> list[str]:
    """The labels, numbered where several objects share one."""
    total = Counter(entry["label"] for entry in objects)
    seen: Counter[str] = Counter()
    names = []
    for label in (entry["label"] for entry in objects):
        seen[label] += 1
        names.append(f"{label} {seen[label]}" if total[label] > 1 else label)
    return names


def outline(mask: np.ndarray) -> str:
    """
    The border of a boolean mask `(H, W)`, which is not empty, as the data of an SVG path in `SUBPIXELS`.

    Holes are paths of their own, to be filled by the rule `evenodd`.
    """
    left, top, right, bottom = mask_box(mask)
    window = Image.fromarray(mask[top:bottom, left:right])
    cell = -(-max(window.size) // OUTLINE_CELLS)
    covered = np.pad(np.asarray(window.convert("L").reduce(cell), dtype=np.float32), 1)
    # What is thinner than a cell covers none by half.
    lines = contour_generator(z=covered, line_type=LineType.Separate).lines(min(127.5, covered.max() / 2))
    corner, limit = np.array([left, top]), np.array(mask.shape[::-1])
    paths = []
    for line in lines:
        points = SUBPIXELS * (corner + (line[:-1] - 0.5) * cell).clip(0, limit)
        points = np.rint(points).astype(int)
        turns = np.diff(points, n=2, axis=0).any(axis=1)
        points = points[np.concatenate([[True], turns, [True]])]
        steps = " ".join(map(str, np.diff(points, axis=0).ravel().tolist()))
        paths.append(f"M{points[0, 0]} {points[0, 1]}l{steps}z")
    return "".join(paths)


def _colour(entry: dict[str, Any]) -> str:
    return "rgb({},{},{})".format(*COLOURS[entry["label_id"] % len(COLOURS)])
