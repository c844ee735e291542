"""
One mask at a time: from polygons and run lengths to arrays and back, and from the model's logits to a photo's pixels.
"""

import math
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch

from .configuration_fashion_detr import MASK_STRIDE

try:
    from pycocotools import mask as coco_mask
except ImportError:  # only annotations need it
    coco_mask = None

# In pixels; no photo has longer sides. The rasteriser's memory grows with the length of an outline, and it crashes on
# what is no number.
LARGEST_SIDE = 2**17
# Full-size masks are computed so many pixels at a time, as floats that stay in the processor's cache.
PIXELS_PER_CHUNK = 256_000
# With outlines in more than this share of its cells a mask is noise, and faster to compute as a whole.
LONGEST_OUTLINE = 0.25


def is_crowd(annotation: Mapping[str, Any]) -> bool:
    """Whether its mask shows a crowd, which is neither learnt nor counted; pandas' NaN says nothing of it."""
    value = annotation.get("iscrowd")
    return bool(value) and value == value


def mask_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """
    `(x0, y0, x1, y1)` around a boolean `(H, W)` mask; x1 and y1 lie beyond its last pixel.

    Raises:
        ValueError: the mask is empty.
    """
    rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
    if not len(rows):
        raise ValueError("An empty mask has no box.")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def mask_window(mask: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns of a mask's box; none of an empty mask."""
    if not mask.any():
        return slice(0, 0), slice(0, 0)
    left, top, right, bottom = mask_box(mask)
    return slice(top, bottom), slice(left, right)


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """
    A boolean `(H, W)` mask as COCO's compressed run lengths, ready for JSON: `{"size": [H, W], "counts": text}`, the
    same text that pycocotools makes, without it.
    """
    height, width = mask.shape
    counts = np.array([height * width])
    if mask.any():
        left, top, right, bottom = mask_box(mask)
        inside = mask[top:bottom, left:right]
        # Where a column changes, from above its first row to below its last. Runs go on from the bottom of a column to
        # the top of the next one: what ends there and begins there is no change, and occurs twice.
        changes = np.empty((bottom - top + 1, right - left), dtype=bool)
        changes[0], changes[-1] = inside[0], inside[-1]
        np.not_equal(inside[1:], inside[:-1], out=changes[1:-1])
        rows, columns = np.divmod(np.flatnonzero(changes), right - left)
        places, times = np.unique((columns + left) * height + rows + top, return_counts=True)
        counts = np.diff(places[times == 1], prepend=0, append=height * width)
        counts = counts[: len(counts) - (counts[-1] == 0)]
    return {"size": [height, width], "counts": _compress(counts)}


def decode_mask(rle: dict[str, Any]) -> np.ndarray:
    """
    COCO's run lengths, compressed or not, as a boolean `(H, W)` mask.

    Raises:
        ValueError: as [`mask_runs`].
    """
    height, width = map(int, rle["size"])
    counts = mask_runs(rle)
    mask = np.zeros((height, width), dtype=bool)
    runs = counts[: len(counts) // 2 * 2]  # up to the last pixel of the mask
    if len(runs):
        left, right = runs[0] // height, -(-runs.sum() // height)
        runs = np.append(runs, right * height - runs.sum())
        runs[0] -= left * height
        columns = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(-1, height).T
        window = mask_window(columns)
        mask[:, left:right][window] = columns[window]
    return mask


def _compress(counts: np.ndarray) -> str:
    """
    Run lengths as text. From the fourth on the difference to the last but one is written; of every number five bits a
    character, the lowest first, until nothing but the sign is left, and a sixth bit that says whether more follow.
    """
    rest = counts.astype(np.int64)
    rest[3:] -= counts[1:-2]
    characters, present = [], []
    goes_on = np.ones(len(rest), dtype=bool)
    while goes_on.any():
        present.append(goes_on)
        bits = rest & 31
        rest >>= 5
        goes_on = goes_on & (rest != -(bits >> 4))
        characters.append(48 + bits + 32 * goes_on)
    text = np.stack(characters, axis=1)[np.stack(present, axis=1)]
    return text.astype(np.uint8).tobytes().decode("ascii")


def mask_runs(rle: dict[str, Any]) -> np.ndarray:
    """
    The runs of one mask, int64 `(R,)`: so many pixels outside it, inside, outside..., column by column.

    Raises:
        ValueError: `counts` are no run lengths, or do not fill the mask.
    """
    (height, width), counts = map(int, rle["size"]), rle["counts"]
    if isinstance(counts, (str, bytes)):
        runs, _ = run_lengths([counts])
    elif isinstance(counts, list) and _are_counts(counts):
        runs = np.array(counts, dtype=np.int64)
    else:
        raise ValueError(f"expected counts of whole numbers below 2^32, found {reprlib.repr(counts)}")
    if runs.min(initial=0) < 0 or runs.sum() != height * width:
        found = f"{runs.sum()} (least {runs.min(initial=0)})"
        raise ValueError(f"expected counts that sum to {height} x {width} = {height * width} pixels, found {found}")
    return runs


def _are_counts(values: list) -> bool:
    are_whole = all(issubclass(kind, Integral) and kind is not bool for kind in set(map(type, values)))
    return are_whole and min(values, default=0) >= 0 and max(values, default=0) < 2**32


def run_lengths(texts: Sequence[str | bytes]) -> tuple[np.ndarray, np.ndarray]:
    """
    The run lengths of masks in COCO's compressed form, one mask behind the other, and where each mask's begin.

    pycocotools never checks the texts: runs that do not fill the mask would be taken for some other mask, or crash, or
    never come to an end. Many masks at once take little more time than one.

    Args:
        texts: The `counts` of T masks.

    Returns:
        int64 arrays `(R,)` and `(T,)`.

    Raises:
        ValueError: a text is of no such form.
    """
    texts = [text.encode(errors="surrogatepass") if isinstance(text, str) else text for text in texts]
    characters = np.frombuffer(b"".join(texts), dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((characters & 32) == 0)
    text_ends = np.cumsum([len(text) for text in texts], dtype=np.int64) - 1
    is_complete = all(texts) and (characters[text_ends] & 32 == 0).all()
    if not is_complete or (len(characters) and (characters.min() < 0 or characters.max() > 63)):
        shown = b"".join(texts)[:30].decode("latin-1")
        raise ValueError(f"expected counts in COCO's compressed form, found {shown!a}")
    starts = np.concatenate([[0], ends + 1])[: len(ends)]
    if (ends - starts).max(initial=0) > 6:
        raise ValueError("expected runs of at most 35 bits")
    places = 5 * (np.arange(len(characters)) - np.repeat(starts, ends - starts + 1))
    counts = np.add.reduceat((characters & 31) << places, starts) if len(starts) else starts
    counts -= (characters[ends] >> 4 & 1) << (places[ends] + 5)
    mask_ends = np.searchsorted(ends, text_ends, side="right")
    first = np.concatenate([[0], mask_ends])[: len(texts)]
    for start, end in zip(first.tolist(), mask_ends.tolist()):  # from the fourth on, differences to the last but one
        runs = counts[start:end]
        runs[1::2] = runs[1::2].cumsum()
        runs[2::2] = runs[2::2].cumsum()
    return counts, first


def decode_segmentation(segmentation, image_size: Sequence[int], where: str) -> np.ndarray:
    """
    A mask in any of its encodings as a float32 array `(H, W)` in 0..1.

    Args:
        segmentation:
            Polygons (lists of x, y, x, y, ... in pixels), `{"size", "counts"}` with a list (uncompressed) or a string
            (compressed), what [`unpacked_segmentation`] takes, or an array of 0 to 1.
        image_size:
            Height and width of the image.
        where:
            What the mask belongs to, for the error message.

    Raises:
        ValueError: a size other than the image's, broken run lengths, values outside 0..1, or no polygon of three
            points.
        ImportError: pycocotools is missing and the mask consists of polygons.
    """
    height, width = image_size
    segmentation = unpacked_segmentation(segmentation)
    if isinstance(segmentation, (np.ndarray, torch.Tensor)):
        _check_size(tuple(segmentation.shape), (height, width), where)
        if isinstance(segmentation, torch.Tensor):
            segmentation = segmentation.detach().float().cpu()
        mask = np.asarray(segmentation, dtype=np.float32)
        if mask.size and not (mask.min() >= 0 and mask.max() <= 1):  # NaN is neither
            found = f"{mask.min():g} to {mask.max():g}"
            raise ValueError(f"The mask of {where} has to have values from 0, outside, to 1, inside; found {found}.")
        return mask
    if isinstance(segmentation, dict):
        if not isinstance(segmentation.get("size"), Sequence) or "counts" not in segmentation:
            found = ", ".join(f"{key!r}: {reprlib.repr(value)}" for key, value in segmentation.items())
            raise ValueError(f"The mask of {where} needs a 'size' [height, width] and 'counts', found {found}.")
        _check_size(tuple(segmentation["size"]), (height, width), where)
        try:
            return decode_mask(segmentation).astype(np.float32)
        except ValueError as error:
            raise ValueError(f"The mask of {where}: {error}.") from None
    if not isinstance(segmentation, list):
        raise ValueError(
            f"The mask of {where} has to be polygons, run lengths or an array, found {type(segmentation).__name__}."
        )
    polygons = [polygon.tolist() for polygon in enclosing_polygons(segmentation, image_size, where)]
    if coco_mask is None:
        raise ImportError("Masks as polygons need pycocotools: `pip install pycocotools`.")
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))).astype(np.float32)


def unpacked_segmentation(segmentation):
    """
    A mask of a `datasets` row, whose columns `polygons`, `counts` (uncompressed) and `rle` (compressed run lengths) are
    None but for one, in the encoding that annotation files have; any other mask as it is.
    """
    if not isinstance(segmentation, dict) or not {"polygons", "counts", "rle"} <= segmentation.keys():
        return segmentation
    if segmentation["polygons"] is not None:
        return segmentation["polygons"]
    counts = segmentation["counts"] if segmentation["rle"] is None else segmentation["rle"]
    return {"size": segmentation["size"], "counts": counts}


def encloses_area(polygon: Sequence[float]) -> bool:
    """Whether a polygon [x1, y1, x2, y2, ...] has at least three points, and all of them whole."""
    return len(polygon) >= 6 and len(polygon) % 2 == 0


def enclosing_polygons(segmentation: list, image_size: Sequence[int], where: str) -> list[np.ndarray]:
    """
    The polygons of a mask that have at least three points, each as x, y, x, y, ... float64.

    Raises:
        ValueError: there is none, or something else than lists of numbers that lie on a photo or near it.
    """
    if not all(isinstance(polygon, (list, tuple, np.ndarray)) for polygon in segmentation):
        found = reprlib.repr(segmentation)
        raise ValueError(f"The mask of {where} has to be polygons [[x1, y1, x2, y2, ...], ...], found {found}.")
    height, width = image_size
    try:
        polygons = [np.asarray(polygon, dtype=np.float64) for polygon in segmentation]
    except (TypeError, ValueError) as error:
        raise ValueError(f"A polygon of {where} has to consist of numbers: {error}.") from error
    # A tiny photo can have as many polygons as rows; their corners lie beyond the first pixel.
    if [polygon.shape for polygon in polygons] == [(width,)] * height and np.isin(polygons, (0, 1, 255)).all():
        raise ValueError(f"The mask of {where} is a list of {height} rows of {width} values: make an array of it.")
    large = [polygon for polygon in polygons if polygon.ndim == 1 and encloses_area(polygon)]
    if not large:
        raise ValueError(
            f"The mask of {where} has no polygon of at least three points (6 numbers: x, y, x, y, x, y); found "
            f"polygons of {[len(polygon) for polygon in polygons]} numbers."
        )
    for polygon in large:
        if not (np.abs(polygon) <= LARGEST_SIDE).all():
            found = reprlib.repr(polygon.tolist())
            raise ValueError(f"A polygon of {where} has coordinates beyond {LARGEST_SIDE} pixels, or none: {found}.")
    return large


def _check_size(found: tuple, expected: tuple[int, int], where: str) -> None:
    if tuple(found) != tuple(expected):
        raise ValueError(
            f"The mask of {where} is {' x '.join(map(str, found))}, but its image is {expected[0]} x {expected[1]} "
            "(height x width)."
        )


def full_size_masks(
    mask_logits: torch.Tensor,
    queries: torch.Tensor,
    valid_size: Sequence[int],
    target_size: tuple[int, int],
    mask_threshold: float,
) -> Iterator[tuple[int, torch.Tensor]]:
    """
    Masks at the photo's size by one bilinear resize of the logits, one at a time.

    Args:
        mask_logits (`torch.FloatTensor` of shape `(N, h, w)`):
            Logits at stride 4, cropped to the image's part of the canvas.
        queries (`torch.LongTensor`):
            Which ones, in this order.
        valid_size, target_size:
            Height and width of the image on the canvas, and of the photo.
        mask_threshold (`float`):
            Probability above which a pixel belongs to the mask, between 0 and 1 without the ends.

    Yields:
        One of the queries and its mask, boolean `(height, width)`.
    """
    cut = logit(mask_threshold)
    rows, columns = (_Side.of(*lengths) for lengths in zip(mask_logits.shape[1:], valid_size, target_size))
    for query in queries.tolist():
        # NumPy leaves pages that nobody writes to the system: what is empty of a large mask takes no memory.
        mask = np.zeros(target_size, dtype=bool)
        _fill(mask, mask_logits[query].numpy(), rows, columns, cut)
        yield query, torch.from_numpy(mask)


@dataclass(frozen=True)
class _Side:
    """
    How the pixels of a photo lie between the cells of the mask logits, along one side.

    Attributes:
        before (`np.ndarray` of shape `(pixels,)`): The cell before the centre of every pixel, or the one there.
        way (`np.ndarray` of shape `(pixels,)`): How far the pixel is on its way to the next cell, float32 in 0..1.
        starts (`np.ndarray` of shape `(cells + 1,)`): The first pixel that is not before this cell.
    """

    before: np.ndarray
    way: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, cells: int, on_canvas: int, in_photo: int) -> "_Side":
        """
        There is a cell every `MASK_STRIDE` pixels of the canvas. The image need not end at a multiple of the stride, so
        the scale is that of the pixels on the canvas and in the photo, not that of the cells.
        """
        places = (np.arange(in_photo) + 0.5) * on_canvas / in_photo / MASK_STRIDE - 0.5
        places = places.clip(0, cells - 1)
        before = places.astype(np.int64)
        return cls(before, (places - before).astype(np.float32), np.searchsorted(before, np.arange(cells + 1)))

    def pixels(self, cells: np.ndarray) -> np.ndarray:
        """The pixels at and behind each of `(n,)` cells, `(m, n)`: where a cell has fewer, the last one again."""
        first, end = self.starts[cells], self.starts[cells + 1]
        return np.minimum(first + np.arange((end - first).max())[:, None], end - 1)


def _fill(mask: np.ndarray, logits: np.ndarray, rows: _Side, columns: _Side, cut: float) -> None:
    """
    Sets those pixels of an empty mask `(H, W)` whose bilinear sample of logits `(h, w)` is above `cut`.

    A sample lies between the lowest and the highest of the four cells around it. So it has to be computed only where
    some of them are above the cut and some are not, along the outline.
    """
    cells = np.pad(logits, ((0, 1), (0, 1)), mode="edge")
    corners = cells[:-1, :-1], cells[:-1, 1:], cells[1:, :-1], cells[1:, 1:]
    above = [corner > cut for corner in corners]
    some, all_four = np.logical_or.reduce(above), np.logical_and.reduce(above)
    has_pixels = np.logical_and.outer(np.diff(rows.starts) > 0, np.diff(columns.starts) > 0)
    outline = (some & ~all_four & has_pixels).nonzero()
    if len(outline[0]) > LONGEST_OUTLINE * all_four.size:
        _fill_all(mask, cells, rows, columns, cut)
        return
    if all_four.any():
        left, top, right, bottom = mask_box(all_four)
        window = slice(rows.starts[top], rows.starts[bottom]), slice(columns.starts[left], columns.starts[right])
        mask[window] = all_four[:, columns.before[window[1]]][rows.before[window[0]]]
    if len(outline[0]):
        _fill_outline(mask, corners, outline, rows, columns, cut)


def _fill_outline(
    mask: np.ndarray,
    corners: tuple[np.ndarray, ...],
    outline: tuple[np.ndarray, np.ndarray],
    rows: _Side,
    columns: _Side,
    cut: float,
) -> None:
    """Samples the pixels between the four `corners` of the `outline`, rows and columns of n cells."""
    ys, xs = rows.pixels(outline[0]), columns.pixels(outline[1])
    step = max(1, PIXELS_PER_CHUNK // (len(ys) * len(xs)))
    for start in range(0, ys.shape[1], step):
        part = slice(start, start + step)
        top_left, top_right, bottom_left, bottom_right = (
            corner[outline[0][part], outline[1][part]] for corner in corners
        )
        y, x = ys[:, None, part], xs[:, part]
        left = top_left + (bottom_left - top_left) * rows.way[y]
        right = top_right + (bottom_right - top_right) * rows.way[y]
        mask.reshape(-1)[y * mask.shape[1] + x] = left + (right - left) * columns.way[x] > cut


def _fill_all(mask: np.ndarray, cells: np.ndarray, rows: _Side, columns: _Side, cut: float) -> None:
    """Samples every pixel between `cells` `(h + 1, w + 1)`, some rows at a time."""
    left, right = cells[:, columns.before], cells[:, columns.before + 1]
    lines = left + (right - left) * columns.way
    step = max(1, PIXELS_PER_CHUNK // mask.shape[1])
    for start in range(0, len(mask), step):
        part = slice(start, start + step)
        top, bottom = lines[rows.before[part]], lines[rows.before[part] + 1]
        np.greater(top + (bottom - top) * rows.way[part, None], cut, out=mask[part])


def logit(probability: float) -> float:
    """Of a probability between 0 and 1, without the ends."""
    return math.log(probability / (1 - probability))
