"""
Pictures for people: garments drawn over their photo, with labels beside it, and sheets of such pictures.

A full-length figure leaves free space left and right, and a button leaves none inside. So labels never lie on the
photo: they stand in a column on either side, and a thin line leads from each to its object.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion, distance_transform_edt
from scipy.optimize import isotonic_regression, linear_sum_assignment

from .fonts import load_font, printable
from .photos_fashion_detr import to_rgb

# The photo's longer side, in pixels: text on a smaller one would be larger than the garments, and a larger one is slow
# to write and not seen whole on any screen.
LEAST_SIDE, LARGEST_SIDE = 1000, 3000

PAPER = (255, 255, 255)
INK = (24, 24, 27)
PALE_INK = (92, 92, 101)
FILL_OPACITY = 0.36
CASING_OPACITY = 0.75
# Strokes are drawn this many times larger and reduced, because Pillow's lines have jagged edges.
SUPERSAMPLING = 3
# Text shrinks to the first of these at which the labels of many objects fit beside the photo.
TEXT_SCALES = (1.0, 0.85, 0.7)
# Labels stand on the side of their object as long as a column stays below this share of the photo's height.
EASY_COLUMN = 0.6

# Fashionpedia's classes, by index. Each colour, in the order of how often a class is seen, is the one farthest in OKLab
# from all before it, under normal sight and simulated protanopia and deuteranopia alike (Machado et al., 2009).
# fmt: off
COLOURS = (
    (195, 120, 240), (195, 180, 255), (90, 210, 90), (105, 150, 15), (150, 75, 90), (105, 105, 225),
    (120, 90, 255), (135, 240, 165), (135, 45, 195), (180, 60, 0), (255, 210, 0), (210, 225, 105),
    (240, 120, 195), (135, 225, 240), (255, 150, 0), (75, 210, 195), (30, 135, 135), (105, 240, 225),
    (210, 60, 195), (255, 195, 135), (180, 105, 165), (30, 180, 195), (225, 120, 75), (255, 75, 15),
    (120, 165, 105), (165, 105, 75), (120, 195, 165), (165, 75, 165), (165, 30, 135), (255, 150, 150),
    (135, 165, 225), (0, 120, 180), (225, 120, 165), (0, 240, 195), (0, 165, 255), (225, 30, 135),
    (60, 75, 225), (90, 135, 210), (60, 150, 105), (105, 195, 225), (135, 195, 45), (45, 165, 75),
    (180, 30, 60), (60, 195, 135), (240, 75, 135), (105, 195, 105),
)
# fmt: on


@dataclass
class _Shape:
    """The mask of one object, cropped and at the size of the drawing."""

    left: int
    top: int
    distance: np.ndarray  # (h, w) float32, pixels to the outline, positive inside
    colour: tuple[int, int, int]

    @property
    def window(self) -> tuple[slice, slice]:
        height, width = self.distance.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    @property
    def inside(self) -> np.ndarray:
        return self.distance > 0


@dataclass
class _Label:
    """The text of one object, broken into lines; `height` includes the space to the next label."""

    lines: list[tuple[str, ImageFont.FreeTypeFont, tuple[int, int, int]]]
    width: int
    height: int


class _Anchor(NamedTuple):
    """Where the line of a label ends, in pixels; a dot would hide an object that is hardly larger."""

    x: float
    y: float
    with_dot: bool


@dataclass(frozen=True)
class _Style:
    """Everything measured in pixels, from the size of the drawing."""

    title: ImageFont.FreeTypeFont
    detail: ImageFont.FreeTypeFont
    outline: float
    leader: float
    dot: float
    gap: int
    text_width: int

    @classmethod
    def for_side(cls, side: int, text: str, text_scale: float = 1.0) -> "_Style":
        return cls(
            title=load_font(text, round(text_scale * side / 50)),
            detail=load_font(text, round(text_scale * side / 66)),
            outline=side / 450,
            leader=side / 500,
            dot=side / 330,
            gap=round(side / 80),
            text_width=round(side * 0.27),
        )


def draw_objects(image: Image.Image, objects: Sequence[dict[str, Any]], max_attributes: int | None = 3) -> Image.Image:
    """
    Draws the objects of a photo: translucent masks with outlines, and labels in columns beside it.

    Args:
        image:
            The photo, of any mode; turned as its EXIF data say, where they do. It is drawn with a longer side of 1000
            to 3000 pixels.
        objects:
            What `post_process_fashion` returns for it; `label_id`, `label`, `score`, `mask` (boolean `(height, width)`,
            of the photo's size) and `attributes` are used. A `score` of `None`, as for ground truth, is not written.
        max_attributes:
            The largest number of attributes in a label, the first ones; `None` = all.

    Returns:
        An RGB image: the photo, widened by the columns that are needed and heightened where labels need more room.

    Raises:
        ValueError: a mask of another size than the photo, or a damaged photo.
    """
    image = to_rgb(image)
    scale = min(max(LEAST_SIDE, max(image.size)), LARGEST_SIDE) / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    text = _all_text(objects, max_attributes)
    style = _Style.for_side(max(size), text)
    photo = np.array(image.resize(size, Image.Resampling.LANCZOS))
    drawn = [(entry, _shape(entry, image.size, size, style)) for entry in objects if bool(entry["mask"].any())]
    shapes = [shape for _, shape in drawn]
    top_layer = _paint(photo, shapes, style)
    for text_scale in TEXT_SCALES:
        style = _Style.for_side(max(size), text, text_scale)
        labels = [_label(entry, max_attributes, style) for entry, _ in drawn]
        if sum(label.height for label in labels) <= 2 * size[1]:
            break
    return _annotate(Image.fromarray(photo), shapes, _visible_parts(shapes, top_layer), labels, style)


def contact_sheet(pictures: Sequence[Image.Image], columns: int) -> Image.Image:
    """
    Pictures of any sizes on one white sheet, row by row, each centred in its cell.

    Raises:
        ValueError: no picture, or no column.
    """
    if not pictures or columns < 1:
        raise ValueError(f"A sheet needs a picture and a column, found {len(pictures)} pictures, {columns} columns.")
    columns = min(columns, len(pictures))
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    widths = [max(picture.width for picture in pictures[column::columns]) for column in range(columns)]
    heights = [max(picture.height for picture in row) for row in rows]
    gap = max(8, max(widths) // 50)
    sheet = Image.new("RGB", (sum(widths) + gap * (columns + 1), sum(heights) + gap * (len(rows) + 1)), PAPER)
    top = gap
    for row, height in zip(rows, heights):
        left = gap
        for picture, width in zip(row, widths):
            sheet.paste(picture, (left + (width - picture.width) // 2, top + (height - picture.height) // 2))
            left += width + gap
        top += height + gap
    return sheet


def _shape(entry: dict[str, Any], photo_size: tuple[int, int], size: tuple[int, int], style: _Style) -> _Shape:
    """The mask of an object, which is not empty, at the size `(width, height)` of the drawing."""
    mask = np.asarray(entry["mask"], dtype=bool)
    if mask.shape != photo_size[::-1]:
        raise ValueError(
            f"The mask of {entry['label']!r} is {mask.shape[0]} x {mask.shape[1]}, but the photo is "
            f"{photo_size[1]} x {photo_size[0]} (height x width). Is the photo upright, and not resized?"
        )
    scales = [new / old for new, old in zip(size, photo_size)]
    margin = int(3 * style.outline) + 2
    starts, ends = [], []
    for axis, scale in enumerate(scales):
        filled = mask.any(axis=axis).nonzero()[0]
        starts.append(max(0, int(filled[0] * scale) - margin))
        ends.append(min(size[axis], int((filled[-1] + 1) * scale) + margin + 1))
    box = (starts[0] / scales[0], starts[1] / scales[1], ends[0] / scales[0], ends[1] / scales[1])
    resized = Image.fromarray(mask.astype(np.uint8) * 255).resize(
        (ends[0] - starts[0], ends[1] - starts[1]), Image.Resampling.BILINEAR, box=box
    )
    coverage = np.asarray(resized)
    # An object thinner than a pixel of the drawing covers no pixel by half.
    inside = coverage >= min(128, coverage.max())
    from_edge = distance_transform_edt(~(inside & ~binary_erosion(inside)))
    # The outline runs between the last pixel inside and the first one outside.
    distance = np.where(inside, from_edge + 0.5, 0.5 - from_edge).astype(np.float32)
    return _Shape(starts[0], starts[1], distance, COLOURS[entry["label_id"] % len(COLOURS)])


def _paint(photo: np.ndarray, shapes: list[_Shape], style: _Style) -> np.ndarray:
    """
    Paints the shapes into `photo` `(H, W, 3)` uint8, in place, small ones above large ones.

    Returns:
        `(H, W)` int16, the shape that is uppermost in each pixel, -1 = none.
    """
    top_layer = np.full(photo.shape[:2], -1, dtype=np.int16)
    areas = [int(shape.inside.sum()) for shape in shapes]
    for index in np.argsort(areas, kind="stable")[::-1]:
        shape = shapes[index]
        top_layer[shape.window][shape.inside] = index
        area = photo[shape.window].astype(np.float32)
        to_outline = np.abs(shape.distance)
        for colour, coverage in (
            (shape.colour, FILL_OPACITY * (shape.distance + 0.5).clip(0, 1)),
            (INK, CASING_OPACITY * (1.1 * style.outline + 0.5 - to_outline).clip(0, 1)),
            (shape.colour, (0.6 * style.outline + 0.5 - to_outline).clip(0, 1)),
        ):
            area += coverage[..., None] * (np.float32(colour) - area)
        photo[shape.window] = area.round().astype(np.uint8)
    return top_layer


def _visible_parts(shapes: list[_Shape], top_layer: np.ndarray) -> list[np.ndarray]:
    """For every shape the boolean window that no smaller one covers; all of it where nothing is left."""
    parts = [top_layer[shape.window] == index for index, shape in enumerate(shapes)]
    return [part if part.any() else shape.inside for part, shape in zip(parts, shapes)]


def _all_text(objects: Sequence[dict[str, Any]], max_attributes: int | None) -> str:
    names = [attribute["name"] for entry in objects for attribute in entry["attributes"][:max_attributes]]
    return printable("".join([*(entry["label"] for entry in objects), *names]))


def _label(entry: dict[str, Any], max_attributes: int | None, style: _Style) -> _Label:
    """Class and score, and below them the first attributes in smaller text."""
    title = printable(entry["label"]).split() or [""]
    if entry["score"] is not None:
        title[-1] += f" {entry['score']:.2f}"
    attributes = printable(", ".join(attribute["name"] for attribute in entry["attributes"][:max_attributes])).split()
    lines = [(line, style.title, INK) for line in _wrap(title, style.title, style.text_width)]
    lines += [(line, style.detail, PALE_INK) for line in _wrap(attributes, style.detail, style.text_width)]
    width = max(round(font.getlength(line)) for line, font, _ in lines)
    return _Label(lines, width, sum(_line_height(font) for _, font, _ in lines) + style.gap)


def _wrap(words: list[str], font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Fills lines of at most `width` pixels with words; a longer word has a line of its own."""
    lines: list[str] = []
    for word in words:
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _line_height(font: ImageFont.FreeTypeFont) -> int:
    return round(1.25 * font.size)


def _annotate(
    photo: Image.Image, shapes: list[_Shape], visible: list[np.ndarray], labels: list[_Label], style: _Style
) -> Image.Image:
    """Puts the photo on a sheet with a column of labels on either side, and leads a line from each to its object."""
    centres = [shape.left + float(part.nonzero()[1].mean()) for shape, part in zip(shapes, visible)]
    left, right = _sides(centres, [label.height for label in labels], photo.size)
    margin = 4 * style.gap
    widths = [max((labels[index].width + margin for index in side), default=0) for side in (left, right)]
    height = max(photo.height, *(sum(labels[index].height for index in side) for side in (left, right)))
    sheet = Image.new("RGB", (widths[0] + photo.width + widths[1], height), PAPER)
    corner = (widths[0], (height - photo.height) // 2)
    sheet.paste(photo, corner)
    for side, is_left in ((left, True), (right, False)):
        edge = corner[0] - 2 * style.gap if is_left else corner[0] + photo.width + 2 * style.gap
        anchors = [_anchor(shapes[index], visible[index], corner, is_left, style) for index in side]
        order, tops = _column(edge, anchors, [labels[index].height for index in side], height, style)
        for position, top in zip(order, tops):
            index = side[position]
            top += style.gap / 2
            _lead(sheet, (edge, top + _line_height(style.title) / 2), anchors[position], shapes[index].colour, style)
            _write(sheet, labels[index], edge, round(top), is_left, shapes[index].colour, style)
    return sheet


def _sides(centres: list[float], heights: list[int], photo_size: tuple[int, int]) -> tuple[list[int], list[int]]:
    """
    Which labels go left and right: on the side where the object is, but neither column much higher than it needs to be.

    Args:
        centres, heights:
            Of every object, the middle of its visible part from left to right; of its label, the height.
        photo_size:
            Width and height.
    """
    order = sorted(range(len(centres)), key=lambda index: centres[index])
    ordered = np.array([heights[index] for index in order])
    on_the_left = sum(centre < photo_size[0] / 2 for centre in centres)

    def burden(split: int) -> tuple[float, int]:
        tallest = max(ordered[:split].sum(), ordered[split:].sum())
        return max(tallest, EASY_COLUMN * photo_size[1]), abs(split - on_the_left)

    split = min(range(len(order) + 1), key=burden)
    return order[:split], order[split:]


def _anchor(shape: _Shape, part: np.ndarray, corner: tuple[int, int], to_left: bool, style: _Style) -> _Anchor:
    """
    Where on the sheet, with the photo at `corner`, the line of a label meets the visible part of its object: well
    inside of it and on the side of the label, or at the outline of a tiny one.
    """
    # The photo's border counts as an edge, so that a line does not end in it.
    depth = distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1]
    with_dot = bool(depth.max() > 3 * style.dot)
    rows, columns = (depth >= (0.6 * depth.max() if with_dot else 1)).nonzero()
    nearest = columns == (columns.min() if to_left else columns.max())
    x = corner[0] + shape.left + float(columns[nearest][0]) + 0.5
    return _Anchor(x, corner[1] + shape.top + float(np.median(rows[nearest])) + 0.5, with_dot)


def _column(
    edge: float, anchors: list[_Anchor], heights: list[int], room: int, style: _Style
) -> tuple[list[int], list[float]]:
    """The order of the labels of a column from top to bottom, such that lines do not cross, and their tops."""
    order = sorted(range(len(anchors)), key=lambda index: anchors[index].y)
    slots = _stack(order, anchors, heights, room, style)
    # Lines of the least total length do not cross.
    drop = _line_height(style.title) / 2
    lengths = [[np.hypot(edge - anchor.x, top + drop - anchor.y) for top in slots] for anchor in anchors]
    labels, places = linear_sum_assignment(np.reshape(lengths, (len(anchors), len(anchors))))
    order = [int(labels[place]) for place in np.argsort(places)]
    return order, _stack(order, anchors, heights, room, style)


def _stack(order: list[int], anchors: list[_Anchor], heights: list[int], room: int, style: _Style) -> list[float]:
    """The tops of labels in this order, without overlaps, as near to the height of their objects as can be."""
    if not order:
        return []
    ordered = np.array([heights[index] for index in order], dtype=float)
    offsets = ordered.cumsum() - ordered
    wanted = np.array([anchors[index].y for index in order]) - _line_height(style.title) / 2
    # What remains of a top without the labels above it must not decrease: least squares under that is isotonic.
    slack = isotonic_regression(wanted - offsets).x.clip(0, max(0.0, room - ordered.sum()))
    return (offsets + slack).tolist()


def _lead(
    sheet: Image.Image, start: tuple[float, float], end: _Anchor, colour: tuple[int, int, int], style: _Style
) -> None:
    """Draws the line from a label to its object, in a dark casing that sets it off from any photo."""
    for ink, casing in ((INK, 0.4 * style.leader), (colour, 0.0)):
        radius = style.dot + casing
        left, top = (int(min(a, b) - radius - 1) for a, b in zip(start, end))
        right, bottom = (int(max(a, b) + radius + 2) for a, b in zip(start, end))
        stroke = Image.new("L", ((right - left) * SUPERSAMPLING, (bottom - top) * SUPERSAMPLING))
        pen = ImageDraw.Draw(stroke)
        points = [((x - left) * SUPERSAMPLING, (y - top) * SUPERSAMPLING) for x, y in (start, end[:2])]
        pen.line(points, fill=255, width=round((style.leader + 2 * casing) * SUPERSAMPLING))
        if end.with_dot:
            pen.circle(points[1], radius * SUPERSAMPLING, fill=255)
        sheet.paste(ink, (left, top), stroke.reduce(SUPERSAMPLING))


def _write(
    sheet: Image.Image,
    label: _Label,
    edge: float,
    top: int,
    is_left: bool,
    colour: tuple[int, int, int],
    style: _Style,
) -> None:
    """Writes a label beside the inner edge of its column, behind a bar of its object's colour."""
    pen = ImageDraw.Draw(sheet)
    outwards = -1 if is_left else 1
    bar = sorted((edge, edge + outwards * style.gap / 2))
    pen.rectangle((bar[0], top, bar[1], top + label.height - style.gap), colour)
    x = edge + outwards * style.gap
    for line, font, ink in label.lines:
        pen.text((x, top + _line_height(font) / 2), line, ink, font, anchor="rm" if is_left else "lm")
        top += _line_height(font)
