"""
Fashion DETR behind Hugging Face's Inference Endpoints: a photo in, its garments with masks and attributes as JSON out.

`fashion-detr publish` puts this file beside a model. It stands alone: the model brings its own code, and an endpoint
imports nothing else.
"""

import base64
import binascii
import inspect
import io
import math
import threading
from typing import Any

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

# A decoded photo takes three bytes a pixel, and each of its masks up to one more.
MAX_PIXELS = 25_000_000
MAX_OBJECTS = 100


class EndpointHandler:
    """
    Answers requests, one after the other: however many come at once, one photo is in memory.

    The answer is what the Hub's image-segmentation widget and `huggingface_hub.InferenceClient.image_segmentation`
    expect, a list of objects with `label`, `score` and `mask`, and more in every object.

    Args:
        path (`str`):
            The folder of the model.

    Example:

    ```python
    >>> handler = EndpointHandler("folder/of/the/model")
    >>> objects = handler({"inputs": Path("photo.jpg").read_bytes(), "parameters": {"threshold": 0.3}})
    >>> objects[0]["label"], objects[0]["score"], objects[0]["attributes"][0]["name"]
    ('coat', 0.93, 'double breasted')
    ```"""

    def __init__(self, path: str = ""):
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.processor = AutoImageProcessor.from_pretrained(path, trust_remote_code=True)
        self.model = AutoModel.from_pretrained(path, trust_remote_code=True).to(self.device).eval()
        self._open_image = inspect.getmodule(type(self.processor)).open_image  # the model's own code
        self._one_at_a_time = threading.Lock()

    def __call__(self, data: dict[str, Any]) -> list[dict[str, Any]]:
        """
        Finds the garments, parts and accessories of one photo.

        Args:
            data (`dict`):
                `inputs`: the photo as a PIL image, as the bytes of an image file or as their base64 text, also as a
                data URL (of an animation the first picture); paths and other URLs are not opened. `parameters`,
                optional: `threshold` (least score, 0.5), `mask_threshold` (0.5), `attribute_threshold` (the model's
                own), `top_k` (100) and, which change nothing, `subtask` (`"instance"`) and
                `overlap_mask_area_threshold` (0).

        Returns:
            Objects, best first, ready for JSON: `label`, `score`, `mask` (base64 text of a PNG of the photo's size, 255
            inside; masks may overlap), `bbox` (`[x0, y0, x1, y1]` in pixels), `attributes` (best first, each with the
            data set's `id`, `name`, `supercategory`, `score`) and `parent` (of a part, the position in the list of the
            garment that carries it, else `None`).

        Raises:
            ValueError: no photo, or a parameter that cannot be; an endpoint answers with the message and status 400.
        """
        if not isinstance(data, dict) or data.get("inputs") is None:
            raise ValueError('A request needs a photo: {"inputs": base64 text of an image file}.')
        parameters = _checked_parameters(data.get("parameters"))
        with self._one_at_a_time:
            return self._segment(self._open(data["inputs"]), parameters)

    def _open(self, inputs: Any) -> Image.Image:
        """The photo of a request."""
        if isinstance(inputs, str):
            inputs = _decoded(inputs)
        if isinstance(inputs, bytes):
            return self._open_image(inputs, MAX_PIXELS)
        if not isinstance(inputs, Image.Image):
            raise ValueError(
                "`inputs` has to be one photo: a PIL image, the bytes of an image file, or their base64 text; found "
                f"{type(inputs).__name__}."
            )
        if inputs.width * inputs.height > MAX_PIXELS:
            raise ValueError(
                f"The photo is {inputs.width} x {inputs.height} pixels; {MAX_PIXELS / 1e6:g} million are the most."
            )
        return inputs

    @torch.inference_mode()
    def _segment(self, image: Image.Image, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        pixels = self.processor.process_image(image)  # upright
        batch = self.processor(pixels, return_tensors="pt").to(self.device, self.model.dtype)
        (found,) = self.processor.post_process_fashion(
            self.model(**batch), target_sizes=[pixels.shape[-2:]], config=self.model.config, **parameters
        )
        return [
            {
                "label": entry["label"],
                "score": entry["score"],
                "mask": _as_png(entry["mask"]),
                "bbox": entry["bbox"],
                "attributes": entry["attributes"],
                "parent": entry["parent"],
            }
            for entry in found
        ]


def _decoded(text: str) -> bytes:
    try:
        is_data_url = text.lstrip()[:5].lower() == "data:"  # as a browser's FileReader gives it
        content = text.rpartition(",")[2] if is_data_url else text
        return base64.b64decode("".join(content.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(
            f"As text, `inputs` has to be an image file in base64 and nothing else, found {text[:40]!r}: {error}. "
            "Paths and URLs are not opened."
        ) from error


def _checked_parameters(parameters: Any) -> dict[str, Any]:
    """The parameters of a request as keywords of `post_process_fashion`; numbers may come as text, as from a URL."""
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise ValueError(f"`parameters` has to be an object of names and values, found {type(parameters).__name__}.")
    checks = {
        "threshold": _fraction,
        "mask_threshold": _open_fraction,
        "attribute_threshold": _fraction,
        "top_k": _count,
        "subtask": _instance,
        "overlap_mask_area_threshold": _nothing,
    }
    unknown = [name for name in parameters if name not in checks]
    if unknown:
        raise ValueError(f"Unknown parameters: {', '.join(map(str, unknown))[:200]}. There are {', '.join(checks)}.")
    checked = {name: checks[name](name, value) for name, value in parameters.items() if value is not None}
    for name in ("subtask", "overlap_mask_area_threshold"):  # of each there is but one value
        checked.pop(name, None)
    return checked


def _fraction(name: str, value: Any) -> float:
    number = _number(value)
    if not 0 <= number <= 1:
        raise ValueError(f"`{name}` has to be a number from 0 to 1, found {_shown(value)}.")
    return number


def _open_fraction(name: str, value: Any) -> float:
    number = _number(value)
    if not 0 < number < 1:
        raise ValueError(f"`{name}` has to be a number between 0 and 1, found {_shown(value)}.")
    return number


def _instance(name: str, value: Any) -> str:
    if value != "instance":
        raise ValueError(f"`{name}` has to be 'instance': the model tells instances apart; found {_shown(value)}.")
    return value


def _nothing(name: str, value: Any) -> float:
    if _number(value) != 0:
        raise ValueError(
            f"`{name}` has to be 0: masks keep their overlaps, and none is left out; found {_shown(value)}."
        )
    return 0.0


def _count(name: str, value: Any) -> int:
    number = _number(value)
    if number not in range(1, MAX_OBJECTS + 1):
        raise ValueError(f"`{name}` has to be a whole number from 1 to {MAX_OBJECTS}, found {_shown(value)}.")
    return int(number)


def _number(value: Any) -> float:
    """A number or its text as a float; NaN, which is in no range, for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.nan
    try:
        return float(value)
    except (OverflowError, ValueError):
        return math.nan


def _shown(value: Any) -> str:
    return repr(value)[:40]


def _as_png(mask: torch.Tensor) -> str:
    file = io.BytesIO()
    Image.fromarray(mask.to(torch.uint8).mul_(255).numpy()).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")
