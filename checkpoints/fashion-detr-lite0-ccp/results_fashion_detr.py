"""Results of Fashion DETR: the layered objects of one photo, and what people and other programs make of them."""

import json
import math
import operator
import reprlib
from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.utils import TRANSFORMERS_DYNAMIC_MODULE_NAME

from .configuration_fashion_detr import FashionDetrConfig, vocabulary_of
from .masks_fashion_detr import decode_mask, encode_mask, mask_box, mask_window
from .ontology_fashion_detr import PART_OF
from .photos_fashion_detr import to_rgb

# Target of a virtual try-on -> the garments, by their names in the ontology, that give way to the new one. A coat and a
# cape lie over the upper body, so they go with it, although Fashionpedia counts them to the whole body.
TRY_ON_GARMENTS: dict[str, tuple[str, ...]] = {
    "upper": ("shirt, blouse", "top, t-shirt, sweatshirt", "sweater", "cardigan", "jacket", "vest", "coat", "cape"),
    "lower": ("pants", "shorts", "skirt"),
    "dress": ("dress", "jumpsuit"),
}
TRY_ON_GARMENTS["full"] = tuple(name for names in TRY_ON_GARMENTS.values() for name in names)

LABEL_MAP_ORDERS = ("parts", "size", "score")
BACKGROUND = -1

_BYTE_ORDER_MARK = "\ufeff"  # some editors begin their files with it
# What an object has in JSON, beside its mask.
_JSON_FIELDS = ("label_id", "label", "score", "bbox", "attributes", "parent")


class FashionResult(list):
    r"""
    The garments, parts and accessories of one photo: the list of dictionaries that
    [`~FashionDetrImageProcessor.post_process_fashion`] documents, best first, with all that can be made of it.

    Masks keep their overlaps: a pixel belongs to the pocket, to the coat below and to the shirt below that. Slices and
    sums are plain lists, because positions (`parent`) mean nothing in them. For the same reason objects stay where they
    are: of the methods that change a list, `append` and the assignment to one position work, the others raise
    `TypeError`, and [`~FashionResult.keep`] makes a result of some objects, in any order. What code that came with a
    model has made is pickled as the plain list too, so that a process that never loaded the model can read it;
    `to_json` keeps all.

    Args:
        objects (iterable of `dict`):
            Dictionaries with `label_id`, `label`, `score`, `mask` (`torch.BoolTensor` `(height, width)` on the CPU),
            `bbox` (`[x0, y0, x1, y1]` in pixels around the mask), `attributes` and `parent`.
        image_size (`tuple[int, int]`):
            Height and width of the photo, in pixels.

    Raises:
        ValueError: a mask of another size, a parent that is not in the list, or objects that carry one another.

    Example:

    ```python
    >>> result = processor.post_process_fashion(outputs, target_sizes=[(photo.height, photo.width)])[0]
    >>> result[0]["label"], [result[part]["label"] for part in result.children(0)]
    ('coat', ['collar', 'pocket'])

    >>> sure = result.keep(position for position, entry in enumerate(result) if entry["score"] > 0.8)
    >>> sure.plot(photo).save("overlay.png")
    >>> result.mask("upper", dilate=8).save("repaint.png")
    ```"""

    def __init__(self, objects: Iterable[dict[str, Any]], image_size: Sequence[int]):
        super().__init__(objects)
        self.image_size = tuple(int(side) for side in image_size)
        for position, entry in enumerate(self):
            self._check_entry(position, entry)
        for position in range(len(self)):
            self._check_carriers(position)

    def __reduce__(self):
        """How to pickle it; `transformers_modules.*` can be imported only where the model was loaded."""
        if type(self).__module__.startswith(f"{TRANSFORMERS_DYNAMIC_MODULE_NAME}."):
            return list, (list(self),)
        return type(self), (list(self), self.image_size)

    def __repr__(self) -> str:
        """A line an object; whole masks would hide them."""
        height, width = self.image_size
        lines = []
        for position, entry in enumerate(self):
            line = f"  {position}: {entry['label']}"
            if isinstance(entry.get("score"), float):
                line += f" {entry['score']:.2f}"
            if entry["parent"] is not None:
                line += f" on {entry['parent']}"
            lines.append(line + "".join(f", {attribute['name']}" for attribute in entry.get("attributes") or ()))
        return "\n".join([f"FashionResult: {len(self)} objects in a photo of {width} x {height}", *lines])

    def __copy__(self) -> "FashionResult":
        return type(self)(self, self.image_size)

    def __deepcopy__(self, memo: dict) -> "FashionResult":
        return type(self)(deepcopy(list(self), memo), self.image_size)

    def keep(self, positions: Iterable[int]) -> "FashionResult":
        """
        A result with some of the objects, in any order.

        Args:
            positions (iterable of `int`):
                Which ones, in their new order.

        Returns:
            A new result, whose masks are those of this one. `parent` is the carrier's new position, and `None` where
            the carrier is left out.

        Raises:
            ValueError: a position that occurs twice.
            IndexError: a position that is not in the list.
        """
        positions = self._all_checked(positions)
        moved = {old: new for new, old in enumerate(positions)}
        if len(moved) < len(positions):
            raise ValueError(f"An object can be kept once, but a position occurs twice in {positions}.")
        objects = [self[old] | {"parent": moved.get(self[old]["parent"])} for old in positions]
        return type(self)(objects, self.image_size)

    def _stay(self, *args, **kwargs):
        """Raises `TypeError`: this method of lists would move objects away from the positions that parts know."""
        raise TypeError(
            "The objects of a result keep their positions, by which `parent` names them. For a result with some of "
            "them, in any order, use `result.keep(positions)`; `list(result)` is a list that can be changed."
        )

    __delitem__ = __iadd__ = __imul__ = clear = extend = insert = pop = remove = reverse = sort = _stay

    def append(self, entry: dict[str, Any]):
        """
        Adds an object behind the others.

        Raises:
            ValueError: as for a new result; its parent has to be in the list already.
        """
        self._check_entry(len(self), entry)
        super().append(entry)

    def __setitem__(self, position, entry):
        if isinstance(position, slice):
            self._stay()
        position = self._checked(position)
        self._check_entry(position, entry)
        before = self[position]
        super().__setitem__(position, entry)
        try:
            self._check_carriers(position)
        except ValueError:
            super().__setitem__(position, before)
            raise

    def __eq__(self, other) -> bool:
        """Whether the other list has equal objects, pixel by pixel, and, if it is a result, of a photo as large."""
        if not isinstance(other, list) or len(self) != len(other):
            return False
        return getattr(other, "image_size", self.image_size) == self.image_size and all(map(_are_equal, self, other))

    def __ne__(self, other) -> bool:
        return not self == other

    def _check_entry(self, position: int, entry: dict[str, Any]) -> None:
        """Raises `ValueError` where an object does not fit the photo, or names a parent that there is not."""
        if not isinstance(entry, dict) or not entry.keys() >= {"label", "mask", "parent"}:
            found = f"one with {', '.join(map(repr, entry))}" if isinstance(entry, dict) else type(entry).__name__
            raise ValueError(
                f"Object {position} has to be a dictionary with 'label', 'mask' and 'parent' at least, found {found}."
            )
        mask, parent = entry["mask"], entry["parent"]
        if not isinstance(mask, torch.Tensor) or tuple(mask.shape) != self.image_size:
            found = _by(mask.shape) if isinstance(mask, torch.Tensor) else f"no tensor, but {type(mask).__name__}"
            raise ValueError(
                f"The mask of object {position} ({entry['label']!r}) is {found}, but its photo is "
                f"{_by(self.image_size)} (height x width)."
            )
        if mask.dtype != torch.bool:
            raise ValueError(
                f"The mask of object {position} ({entry['label']!r}) has to be boolean, found {mask.dtype}."
            )
        is_position = isinstance(parent, (int, np.integer)) and parent in range(len(self))
        if parent is not None and (parent == position or not is_position):
            raise ValueError(
                f"The parent of object {position} ({entry['label']!r}) has to be the position of another one, 0 to "
                f"{len(self) - 1}, found {parent}."
            )

    # --- layers -------------------------------------------------------------------------------------------------------

    def children(self, position: int) -> list[int]:
        """The positions of the parts that an object carries, in the order of the list."""
        position = self._checked(position)
        return [part for part, entry in enumerate(self) if entry["parent"] == position]

    def tree(self) -> list[dict[str, Any]]:
        """
        The objects with their parts below them.

        Returns:
            A `dict` for every object without a parent, in the order of the list: its position as `index`, its `label`,
            and `children`, the same for its parts.
        """

        def branch(position: int) -> dict[str, Any]:
            children = [branch(part) for part in self.children(position)]
            return {"index": position, "label": self[position]["label"], "children": children}

        return [branch(position) for position, entry in enumerate(self) if entry["parent"] is None]

    def layers(self, order: str | Sequence[int] = "parts") -> list[int]:
        """
        The positions of the objects from the lowest layer to the uppermost.

        Args:
            order (`str` or sequence of `int`, *optional*, defaults to `"parts"`):
                `"parts"`: parts (collars, pockets, zippers ...) over everything that is no part, and small over large
                among either. `"size"`: small over large, whatever it is. `"score"`: sure over unsure. Or positions,
                which are taken as they are; what is not among them is left out.

        Raises:
            ValueError: another name.
            IndexError: a position that is not in the list.
        """
        if not isinstance(order, str):
            return self._all_checked(order)
        if order not in LABEL_MAP_ORDERS:
            raise ValueError(
                f"`order` has to be one of {', '.join(map(repr, LABEL_MAP_ORDERS))} or a list of positions, found "
                f"{order!r}."
            )
        if order == "score":
            return sorted(range(len(self)), key=lambda position: self[position]["score"])

        def height(position: int) -> tuple[bool, int]:
            is_part = order == "parts" and self[position]["label"] in PART_OF
            return is_part, -int(np.count_nonzero(self[position]["mask"].numpy()))

        return sorted(range(len(self)), key=height)

    def to_label_map(self, order: str | Sequence[int] = "parts") -> torch.Tensor:
        """
        Everything in one map, where every pixel belongs to one object at most: what lies below another is lost.

        Args:
            order (`str` or sequence of `int`, *optional*, defaults to `"parts"`):
                Which object a pixel goes to that several claim: the uppermost of [`~FashionResult.layers`]. The default
                keeps parts visible on their garments.

        Returns:
            `torch.IntTensor` `(height, width)` with the position of the object in every pixel, -1 where there is none.

        Raises:
            ValueError, IndexError: see [`~FashionResult.layers`].
        """
        label_map = np.full(self.image_size, BACKGROUND, dtype=np.int32)
        for position in self.layers(order):
            mask = self[position]["mask"].numpy()
            window = mask_window(mask)
            label_map[window][mask[window]] = position
        return torch.from_numpy(label_map)

    # --- for other programs -------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """
        The result as JSON text: `width` and `height` of the photo, and `objects`, each with the fields of its `dict`
        but the mask, which stands under `segmentation` as COCO's compressed run lengths.
        """
        objects = [
            {field: entry[field] for field in _JSON_FIELDS} | {"segmentation": encode_mask(entry["mask"].numpy())}
            for entry in self
        ]
        height, width = self.image_size
        record = {"width": width, "height": height, "objects": objects}
        return json.dumps(record, allow_nan=False, default=_as_python)

    @classmethod
    def from_json(cls, text: str | bytes) -> "FashionResult":
        """
        What [`~FashionResult.to_json`] or `fashion-detr predict` wrote, with equal masks.

        Raises:
            ValueError: the text is no JSON, a field is missing or no such thing, or a mask does not fit the photo.
        """
        try:
            text = text.removeprefix(_BYTE_ORDER_MARK) if isinstance(text, str) else text
            record = json.loads(text, parse_constant=_refuse_constant)
            image_size = _side(record["height"]), _side(record["width"])
            objects = [_read_object(position, entry, image_size) for position, entry in enumerate(record["objects"])]
            return cls(objects, image_size)
        except (AttributeError, KeyError, MemoryError, RecursionError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(
                "The text, and not the name of a file, has to be what `FashionResult.to_json` writes: 'width', "
                f"'height' and 'objects', each with {', '.join(map(repr, _JSON_FIELDS))} and 'segmentation'. It is "
                f"not: {error!r}."
            ) from error

    def to_coco(
        self, image_id: int | str, config: FashionDetrConfig | None = None, boxes: bool = False
    ) -> list[dict[str, Any]]:
        """
        The result in Fashionpedia's official format, COCO's with attributes; JSON takes a list of them as it is.

        Args:
            image_id (`int` or `str`):
                The data set's own id of the photo.
            config ([`FashionDetrConfig`], *optional*):
                The model's vocabulary, which knows the data set's ids; Fashionpedia's by default.
            boxes (`bool`, *optional*, defaults to `False`):
                Whether to add `bbox` (`[x, y, width, height]` in pixels) and the mask's `area`. Tools that show
                results, such as FiftyOne, leave out objects without a box; pycocotools takes areas from boxes where
                there are any, which changes its figures by size.

        Returns:
            A `dict` an object: `image_id`, `category_id` and `attribute_ids` (the data set's own), `segmentation`
            (compressed run lengths) and `score`.

        Raises:
            ValueError: the vocabulary has other labels, or is none.
        """
        config = vocabulary_of(config)
        number = whole_number(image_id)  # JSON knows no numbers of other libraries
        for entry in self:
            if config.id2label.get(entry["label_id"]) != entry["label"]:
                raise ValueError(
                    f"The vocabulary does not have {entry['label']!r} as its label {entry['label_id']}: pass "
                    "`config=model.config`."
                )
        return [
            {
                "image_id": image_id if number is None else number,
                "category_id": config.category_ids[entry["label_id"]],
                "attribute_ids": [attribute["id"] for attribute in entry["attributes"]],
                "segmentation": encode_mask(entry["mask"].numpy()),
                "score": entry["score"],
            }
            | (_box_and_area(entry) if boxes else {})
            for entry in self
        ]

    def to_supervision(self):
        """
        The result as `supervision.Detections`, for roboflow's annotators, trackers and filters.

        `data` has of every object `class_name` (the label), `attributes` (a list of their names), `index` (its position
        in this list) and `parent` (the `index` of the object that carries it, -1 = none). Both stay as they are where
        detections are filtered; [`keep`] drops what is not wanted beforehand and moves the parents along.

        Raises:
            ImportError: supervision is not installed.
        """
        try:
            from supervision import Detections
        except ImportError as error:
            raise ImportError(f"`to_supervision` needs `pip install supervision` ({error}).") from error
        attributes = np.empty(len(self), dtype=object)
        for position, entry in enumerate(self):  # at once, lists of one length would become a table
            attributes[position] = [attribute["name"] for attribute in entry["attributes"]]
        parents = [BACKGROUND if entry["parent"] is None else entry["parent"] for entry in self]
        return Detections(
            xyxy=np.array([entry["bbox"] for entry in self], dtype=np.float32).reshape(-1, 4),
            mask=np.array([entry["mask"].numpy() for entry in self], dtype=bool).reshape(-1, *self.image_size),
            confidence=np.array([entry["score"] for entry in self], dtype=np.float32),
            class_id=np.array([entry["label_id"] for entry in self], dtype=int),
            data={
                "class_name": np.array([entry["label"] for entry in self], dtype=str),
                "attributes": attributes,
                "index": np.arange(len(self)),
                "parent": np.array(parents, dtype=int),
            },
        )

    # --- pictures -----------------------------------------------------------------------------------------------------

    def plot(self, image: Image.Image, max_attributes: int | None = 3) -> Image.Image:
        """
        The objects drawn over their photo, with labels beside it.

        Args:
            image (`PIL.Image.Image`):
                The photo, of any mode; turned as its EXIF data say, where they do.
            max_attributes (`int`, *optional*, defaults to 3):
                The largest number of attributes in a label, the first ones; `None` for all.

        Returns:
            An RGB image, wider than the photo where labels need room.

        Raises:
            ImportError: the package `fashion_detr`, which draws, is not installed; a model's folder goes without it.
            ValueError: no PIL image, a damaged one, one of another size than the result, or no whole number from 0 on.
        """
        photo = self._photo(image)
        if max_attributes is not None and (whole_number(max_attributes) is None or max_attributes < 0):
            raise ValueError(f"`max_attributes` has to be a whole number from 0 on, found {max_attributes!r}.")
        try:
            from fashion_detr.visualization import draw_objects
        except ImportError as error:
            raise ImportError(
                "`plot` needs the package fashion_detr, of which a model's folder carries only what the model needs: "
                f"`pip install .` in the project's repository ({error})."
            ) from error
        return draw_objects(photo, self, max_attributes)

    def mask(self, target: str, dilate: int = 0) -> Image.Image:
        """
        The region of the photo that a virtual try-on repaints: the garments that give way, with their parts.

        To put a dress on somebody in shirt and trousers, repaint `"full"`.

        Args:
            target (`str`):
                `"upper"` (shirts to coats), `"lower"` (pants, shorts, skirts), `"dress"` (one-piece garments) or
                `"full"` (all of them); `TRY_ON_GARMENTS` has the names. Shoes, bags and other accessories always stay.
            dilate (`int`, *optional*, defaults to 0):
                How far the region grows, in pixels of the photo, to all sides, as under a square brush of
                `2 * dilate + 1` pixels: seams are repainted better with some pixels around them.

        Returns:
            A `"L"` image of the photo's size, 255 = repaint, 0 = keep; all black where there is no such garment.

        Raises:
            ValueError: another target, or no whole number of pixels from 0 on.
        """
        if not isinstance(target, str) or target not in TRY_ON_GARMENTS:
            raise ValueError(f"`target` has to be one of {', '.join(map(repr, TRY_ON_GARMENTS))}, found {target!r}.")
        pixels = whole_number(dilate)
        if pixels is None or pixels < 0:
            raise ValueError(f"`dilate` has to be a whole number of pixels from 0 on, found {dilate!r}.")
        repainted = [n for n, entry in enumerate(self) if entry["label"] in TRY_ON_GARMENTS[target]]
        region = np.zeros(self.image_size, dtype=bool)
        for position in repainted:
            region |= self[position]["mask"].numpy()
            repainted += self.children(position)  # which have their turn later, with parts of their own
        return mask_image(_grown(region, pixels) if pixels else region)

    def crop(self, position: int, image: Image.Image) -> Image.Image:
        """
        One object cut out of its photo.

        Args:
            position (`int`):
                Which one.
            image (`PIL.Image.Image`):
                The photo, of any mode; turned as its EXIF data say, where they do.

        Returns:
            An `"RGBA"` image of the size of its mask's box, transparent outside of the mask.

        Raises:
            ValueError: no PIL image, a damaged one, or one of another size than the result; or the mask is empty.
            IndexError: there is no such object.
        """
        photo = self._photo(image)
        mask = self[self._checked(position)]["mask"].numpy()
        if not mask.any():
            raise ValueError(f"There is nothing to cut out: the mask of object {position} is empty.")
        left, top, right, bottom = mask_box(mask)
        cut_out = photo.crop((left, top, right, bottom))
        cut_out.putalpha(mask_image(mask[top:bottom, left:right]))
        return cut_out

    def _all_checked(self, positions: Iterable[int]) -> list[int]:
        """Positions as numbers from 0 on; raises `IndexError` where the list has none such."""
        if not isinstance(positions, Iterable):
            raise IndexError(f"Several positions are a list, [{positions}] for a single one; found {positions!r}.")
        return [self._checked(position) for position in positions]

    def _checked(self, position: int) -> int:
        """A position as a number from 0 on; raises `IndexError` where the list has none such."""
        number = whole_number(position)
        if number is None or number not in range(-len(self), len(self)):
            raise IndexError(
                f"There is no object {position}: the result has {len(self)}, and positions are whole numbers."
            )
        return number % len(self)

    def _check_carriers(self, position: int) -> None:
        """Raises `ValueError` where the way up from an object, from parent to parent, has no end."""
        above, carrier = set(), self[position]["parent"]
        while carrier is not None:
            if carrier in above:
                raise ValueError(
                    f"Objects cannot carry one another, but above object {position} ({self[position]['label']!r}) the "
                    f"parents {', '.join(map(str, sorted(above)))} lead in a circle. One of these has to have `None`."
                )
            above.add(carrier)
            carrier = self[carrier]["parent"]

    def _photo(self, image: Image.Image) -> Image.Image:
        """The photo upright and as RGB, as the image processor reads it; raises `ValueError` where it is another."""
        if not isinstance(image, Image.Image):
            raise ValueError(
                f"`image` has to be the photo as a PIL image, found {type(image).__name__}. `Image.fromarray` makes "
                "one of an array `(height, width, 3)` of uint8, and `Image.open` of a file."
            )
        photo = to_rgb(image)
        if photo.size[::-1] != self.image_size:
            raise ValueError(
                f"The result belongs to a photo of {_by(self.image_size)} pixels, but the image is "
                f"{_by(photo.size[::-1])} (height x width, turned as its EXIF data say). Was it resized or turned, or "
                "was the size in `target_sizes` not that of the upright photo?"
            )
        return photo


def _are_equal(one: Any, other: Any) -> bool:
    if not isinstance(one, dict) or not isinstance(other, dict):
        return one is other
    return one.keys() == other.keys() and all(
        torch.equal(value, other[field])
        if isinstance(value, torch.Tensor) and isinstance(other[field], torch.Tensor)
        else value == other[field]
        for field, value in one.items()
    )


def _refuse_constant(name: str) -> None:
    raise ValueError(f"JSON has no {name}, and no number of a result is one.")


def _side(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"The sides of a photo and its masks are whole numbers of pixels, found {value!r}.")
    return value


def _are_numbers(values: list) -> bool:
    return all(type(value) in (int, float) and math.isfinite(value) for value in values)


def _read_object(position: int, entry: dict[str, Any], image_size: tuple[int, int]) -> dict[str, Any]:
    """One of JSON's objects; raises `ValueError`, or what a field of another kind makes Python raise."""
    segmentation, found = entry["segmentation"], {field: entry[field] for field in _JSON_FIELDS}
    name = f"object {position} ({found['label']!r})"
    size = tuple(_side(side) for side in segmentation["size"])
    if size != image_size:  # before so much memory is asked for
        raise ValueError(f"The mask of {name} is {_by(size)}, but its photo is {_by(image_size)} (height x width).")
    box, attributes = found["bbox"], found["attributes"]
    are_named = isinstance(attributes, list) and all(
        isinstance(one, dict) and isinstance(one.get("name"), str) for one in attributes
    )
    for field, is_sound, wanted in (
        ("label", isinstance(found["label"], str), "a text"),
        ("label_id", type(found["label_id"]) is int, "a whole number"),
        ("score", found["score"] is None or _are_numbers([found["score"]]), "a number or null"),
        ("bbox", isinstance(box, list) and len(box) == 4 and _are_numbers(box), "a list of four numbers"),
        ("attributes", are_named, "a list of objects with a 'name'"),
    ):
        if not is_sound:
            raise ValueError(f"The {field!r} of {name} has to be {wanted}, found {reprlib.repr(found[field])}.")
    return found | {"mask": torch.from_numpy(decode_mask(segmentation))}


def _as_python(value: Any) -> Any:
    """Numbers and arrays of other libraries as JSON takes them."""
    if isinstance(value, (np.generic, np.ndarray, torch.Tensor)):
        return value.tolist()
    raise TypeError(f"JSON has no place for a {type(value).__name__}, found {value!r}.")


def whole_number(value: Any) -> int | None:
    """A whole number of any library as an `int`; `None` for anything else, floats and truth values too."""
    if isinstance(value, bool) or (isinstance(value, torch.Tensor) and value.dtype == torch.bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _box_and_area(entry: dict[str, Any]) -> dict[str, Any]:
    x0, y0, x1, y1 = entry["bbox"]
    return {"bbox": np.array([x0, y0, x1 - x0, y1 - y0]).tolist(), "area": int(np.count_nonzero(entry["mask"].numpy()))}


def _grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    """A mask `(H, W)` with all that is at most `pixels` rows and columns away from it, at the same cost for any."""
    pixels = min(pixels, max(mask.shape))
    for _ in range(2):  # along the columns, then, transposed, along the rows
        seen = np.pad(mask, ((pixels + 1, pixels), (0, 0))).cumsum(axis=0, dtype=np.int32)
        mask = (seen[2 * pixels + 1 :] != seen[: -2 * pixels - 1]).T
    return mask


def mask_image(mask: np.ndarray) -> Image.Image:
    """A boolean mask `(H, W)` as an `"L"` image, 255 inside."""
    return Image.fromarray(mask.astype(np.uint8) * 255)


def _by(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))


__all__ = ["FashionResult"]
