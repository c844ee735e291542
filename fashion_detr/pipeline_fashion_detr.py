"""Pipeline of Fashion DETR: `pipeline("image-segmentation", ...)` that keeps overlaps, attributes and parents."""

import base64
import os
from typing import Any

from PIL import Image
from transformers import ImageSegmentationPipeline

from .configuration_fashion_detr import FashionDetrConfig, make_findable
from .photos_fashion_detr import open_image, to_rgb
from .results_fashion_detr import mask_image

# Longer texts are no paths: Linux's longest one.
LONGEST_PATH = 4096

# What a saved model's configuration says of its pipelines, so that transformers finds this one.
CUSTOM_PIPELINES = {
    "image-segmentation": {
        "impl": "pipeline_fashion_detr.FashionDetrPipeline",
        "pt": ["AutoModelForInstanceSegmentation"],
        "type": "image",
    }
}


class FashionDetrPipeline(ImageSegmentationPipeline):
    r"""
    Image segmentation with layers: every garment, part and accessory with a mask of its own, whatever lies over it.

    A saved model names it, so that transformers uses it in place of its own pipeline, which paints all masks into one
    map. Photos of any sizes make one batch.

    Example:

    ```python
    >>> from transformers import pipeline

    >>> segment = pipeline("image-segmentation", model="outputs/demo", trust_remote_code=True)
    >>> segments = segment("photo.jpg", threshold=0.3)
    >>> segments[0]["label"], [attribute["name"] for attribute in segments[0]["attributes"]]
    ('coat', ['double breasted', 'check'])
    ```"""

    def check_model_type(self, supported_models: Any) -> None:
        """
        The base class knows the library's own models only, and would call this one unsupported.

        Raises:
            ValueError: it is another model, or comes without its image processor.
        """
        model_type = self.model.config.model_type
        if model_type != FashionDetrConfig.model_type:
            raise ValueError(
                f"This pipeline is for models of type {FashionDetrConfig.model_type!r}, found {model_type!r}."
            )
        if self.image_processor is None:
            raise ValueError(
                "The pipeline needs the image processor of the model, too: `image_processor=AutoImageProcessor."
                "from_pretrained(...)`. `transformers.pipeline` finds it by itself, given the name of the model."
            )

    def _sanitize_parameters(self, **kwargs):
        preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)
        own = {name: kwargs[name] for name in ("attribute_threshold", "top_k") if name in kwargs}
        return preprocess, forward, postprocess | own

    def __call__(self, inputs=None, **kwargs) -> list[dict[str, Any]] | list[list[dict[str, Any]]]:
        """
        Finds the objects of one photo, or of several.

        Args:
            inputs (`str`, `PIL.Image.Image`, or a list of them):
                Photos: paths, URLs, base64 texts, or images. Of an empty list the result is one, too.
            threshold (`float`, *optional*, defaults to 0.5):
                Least score: class probability times the IoU that the mask can be expected to have.
            mask_threshold (`float`, *optional*, defaults to 0.5):
                Probability above which a pixel belongs to the mask.
            attribute_threshold (`float`, *optional*):
                Least probability of an attribute; by default the configuration's `attribute_thresholds`, else 0.3.
            top_k (`int`, *optional*, defaults to 100):
                The largest number of objects a photo.
            batch_size (`int`, *optional*, defaults to 1):
                How many photos the model sees at once.
            timeout (`float`, *optional*):
                Seconds to wait for an image from the web; without it the wait has no end.

        Returns:
            For every photo a list of `dict`, best first: `label`, `score`, `mask` (an `"L"` image of the photo's size,
            255 inside; masks may overlap), and beyond what the library's pipeline gives `bbox` (`[x0, y0, x1, y1]` in
            pixels), `attributes` (best first, each with the data set's `id`, `name`, `supercategory`, `score`) and
            `parent` (for a part, the position in the list of the garment that carries it, else `None`).

        Raises:
            ValueError: something that is no photo, or an argument that cannot be.
            FileNotFoundError: there is no such file, if a path object names it.
        """
        inputs = kwargs.pop("images", inputs)  # the base class's former name
        if isinstance(inputs, (list, tuple)) and not inputs:
            return []  # the base class would look at the first one
        return super().__call__(inputs, **kwargs)

    def preprocess(self, image, subtask: str | None = None, timeout: float | None = None):
        if not isinstance(image, Image.Image):
            image = _open_photo(image, timeout)
        return super().preprocess(to_rgb(image), subtask=subtask, timeout=timeout)

    def _forward(self, model_inputs):
        model_outputs = super()._forward(model_inputs)
        # Nothing is made of them here, and the base class does not know how to take those of a batch apart.
        model_outputs["cross_attentions"] = None
        return model_outputs

    def postprocess(
        self,
        model_outputs,
        threshold: float = 0.5,
        mask_threshold: float = 0.5,
        attribute_threshold: float | None = None,
        top_k: int = 100,
        overlap_mask_area_threshold: float = 0.0,
        subtask: str | None = None,
    ) -> list[dict[str, Any]]:
        if subtask not in (None, "instance"):
            raise ValueError(f"The model tells instances apart, `subtask='instance'`; found {subtask!r}.")
        if overlap_mask_area_threshold:
            raise ValueError(
                "Here masks keep their overlaps, so none is left out for being covered: found "
                f"overlap_mask_area_threshold={overlap_mask_area_threshold}. One flat map is made by the image "
                "processor's `post_process_instance_segmentation`."
            )
        (result,) = self.image_processor.post_process_fashion(
            model_outputs,
            target_sizes=model_outputs["target_size"],
            config=self.model.config,
            threshold=threshold,
            attribute_threshold=attribute_threshold,
            mask_threshold=mask_threshold,
            top_k=top_k,
        )
        return [
            {
                "score": entry["score"],
                "label": entry["label"],
                "mask": mask_image(entry["mask"].numpy()),
                "bbox": entry["bbox"],
                "attributes": entry["attributes"],
                "parent": entry["parent"],
            }
            for entry in result
        ]


def _open_photo(source, timeout: float | None) -> Image.Image:
    """
    A photo by path, URL or base64 text, read as the image processor reads it: `load_image` would clip 16 bits and paint
    transparency black. The content of a file, as `bytes` or an open file, is taken as well.
    """
    if not isinstance(source, (str, os.PathLike, bytes)) and not hasattr(source, "read"):
        raise ValueError(
            "A photo is the path of a file, a URL, base64 text or a PIL image, and several are a list of them; found "
            f"{type(source).__name__}. `Image.fromarray` makes an image of an array `(height, width, 3)` of uint8."
        )
    is_text = isinstance(source, str) and not source.startswith(("http://", "https://")) and not os.path.exists(source)
    if not is_text:
        return open_image(source, timeout=timeout)
    is_data_url = source.lstrip()[:5].lower() == "data:"
    text = source.rpartition(",")[2] if is_data_url else source
    try:
        content = base64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        raise ValueError(
            f"A photo is the path of a file, a URL or base64 text; there is no file {source[:60]!r}, and it is none of "
            "the others."
        ) from error
    try:
        return open_image(content)
    except ValueError as error:
        if is_data_url or len(source) > LONGEST_PATH:
            raise
        raise ValueError(f"There is no file {source[:60]!r}. As base64 text: {error}") from error


make_findable(__name__)

__all__ = ["CUSTOM_PIPELINES", "FashionDetrPipeline"]
