"""The page itself: what is on it, and what happens when somebody touches it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

try:
    import gradio as gr
    from gradio.processing_utils import save_bytes_to_cache
    from gradio.utils import get_upload_folder, is_in_or_equal
    from gradio_client.utils import is_http_url_like
except ImportError as error:
    raise ImportError(f'The page needs Gradio: `pip install -e ".[demo]"` ({error}).') from error

from PIL import Image

from ..image_processing_fashion_detr import ATTRIBUTE_THRESHOLD, FashionDetrImageProcessor
from ..loading import load_whole
from ..modeling_fashion_detr import FashionDetrForInstanceSegmentation
from ..photos_fashion_detr import open_image, to_rgb
from .finder import Finder, Settings, Sighting, masks_zip
from .markup import error_html, layers_html, note_html, nothing_found, photo_html, shown_size, tree_html

# The most that phones take unless asked for more.
MAX_PIXELS = 50_000_000
MAX_MEGABYTES = 20
# Seconds after which photos and downloads are deleted, and what the network said of a photo is forgotten.
KEPT = 3600
DELETED_EVERY = 600
# What is kept of a photo takes some megabytes. Of more visitors, those who were away longest drop theirs again.
MOST_VISITORS = 64
LONGEST_QUEUE = 64

HEADER = "<h1>Fashion DETR</h1><p>Every garment, part and accessory of a photo, as a layer of its own.</p>"
PLACEHOLDER = f"# Choose a photo\nor drop it here, up to {MAX_MEGABYTES} MB\nIt is deleted after an hour"
LOOKING = "Looking at the photo \N{HORIZONTAL ELLIPSIS}"
FORGOTTEN = "The photo has been forgotten, because the page was left alone for long. Please drop it again."
FAILED = "Something went wrong on the server. Please try again, or try another photo."
NO_UPLOAD = "Please upload the photo itself. Where it lies is not enough."

# Where the slider is at first: what is too much is quickly seen and switched off, what is missing is not.
THRESHOLD = 0.3
# The value of a result that is not there.
NOTHING = {"layers": "", "tree": ""}

# What Gradio takes when a page is launched, and not before. The system's own fonts need no download.
LAUNCH_OPTIONS = {
    "theme": gr.themes.Default(
        primary_hue="indigo",
        neutral_hue="zinc",
        font=gr.themes.Font("sans-serif"),
        font_mono=gr.themes.Font("monospace"),
    ).set(  # enough contrast for everybody
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
    ),
    "css": Path(__file__).with_name("page.css").read_text(encoding="utf-8"),
    "max_file_size": f"{MAX_MEGABYTES}mb",
    "state_session_capacity": MOST_VISITORS,
    "footer_links": ["gradio", "settings"],
    "run_history": False,
    "enable_monitoring": False,
    "share": False,
    "ssr_mode": False,
}


class _Page(gr.Blocks):
    """Blocks that are launched with the page's options, unless others are given."""

    def launch(self, **options: Any):
        return super().launch(**(LAUNCH_OPTIONS | options))


def build_app(
    model: FashionDetrForInstanceSegmentation | str, processor: FashionDetrImageProcessor | None = None
) -> gr.Blocks:
    """
    The page for one model, ready for its `launch`, which takes all options of Gradio's.

    The page asks the network for nothing. Photos are kept for an hour, in a temporary folder of this machine.

    Args:
        model ([`FashionDetrForInstanceSegmentation`] or `str`):
            The model, or its folder, or its id on the Hub.
        processor ([`FashionDetrImageProcessor`], *optional*):
            Its image processor, needed with a model that is loaded already.

    Example, the whole `app.py` of a Space:

    ```python
    from fashion_detr.demo import build_app

    build_app("owner/model").launch()
    ```"""
    if isinstance(model, str):
        processor = FashionDetrImageProcessor.from_pretrained(model)
        model = load_whole(model)
    if processor is None:
        raise ValueError("A model that is loaded already needs its image processor: `build_app(model, processor)`.")
    actions = _Actions(Finder(model.eval(), processor))
    with _Page(title="Fashion DETR", analytics_enabled=False, delete_cache=(DELETED_EVERY, KEPT)) as page:
        sighting = gr.State(time_to_live=KEPT)
        gr.HTML(HEADER, elem_id="header", apply_default_css=False)
        note = gr.HTML(elem_id="note", apply_default_css=False)
        photo = _photo_input()
        with _result() as result, gr.Column(elem_id="controls"):
            another = gr.Button("Another photo", variant="primary", size="md")
            with gr.Row():
                json_button = gr.Button("Download JSON", size="md", min_width=140)
                masks_button = gr.Button("Download masks", size="md", min_width=140)
            sliders = _sliders(model.config.attribute_thresholds is not None)
        files = [gr.DownloadButton(visible="hidden", elem_id=name) for name in ("json-file", "masks-file")]

        shown = [sighting, photo, note, result]
        one_at_a_time = {"concurrency_id": "photo", "concurrency_limit": 1}  # one large photo, or its masks, in memory
        looking = photo.upload(
            actions.look, [photo, *sliders], shown, api_name="look", show_progress_on=photo, **one_at_a_time
        )
        looking.failure(actions.fail, outputs=shown, api_visibility="private")
        another.click(actions.clear, outputs=shown, api_visibility="private", queue=False)
        gr.on(
            [slider.change for slider in sliders],
            actions.adjust,
            [sighting, *sliders],
            result,
            api_name="adjust",
            trigger_mode="always_last",
            show_progress="hidden",
        )
        for button, write, file in zip((json_button, masks_button), (actions.write_json, actions.write_masks), files):
            written = button.click(write, [sighting, *sliders], file, api_name=write.__name__, **one_at_a_time)
            written.success(js=f"() => document.getElementById('{file.elem_id}').click()")
    return page.queue(max_size=LONGEST_QUEUE, api_open=False)  # nobody gets in beside the queue


def _photo_input() -> gr.Image:
    """
    Where a photo is dropped. Its value is the path of the uploaded file, which nobody has looked at yet.

    What is changed here lasts as long as no event updates the component; a new value is no update.
    """
    photo = gr.Image(
        label="Photo",
        sources=["upload", "clipboard"],
        type="filepath",
        image_mode=None,
        placeholder=PLACEHOLDER,
        elem_id="photo",
    )
    move = photo.async_move_resource_to_block_cache

    async def move_upload(path: str) -> str | None:
        if is_http_url_like(path):  # Gradio would fetch it, however large it is
            raise gr.Error(NO_UPLOAD, print_exception=False)
        return await move(path)

    def path_of_upload(uploaded: Any) -> str | None:
        if uploaded is None or uploaded.path is None:
            return None
        if not is_in_or_equal(uploaded.path, photo.GRADIO_CACHE):  # Gradio checks only what says that it is a file
            raise gr.Error(NO_UPLOAD, print_exception=False)
        return uploaded.path  # Gradio would open the file, and has no words for one that is no photo

    photo.async_move_resource_to_block_cache = move_upload
    photo.preprocess = path_of_upload
    return photo


def _result() -> gr.HTML:
    """The photo with its layers, and the tree of its objects. Buttons and sliders go between them."""
    return gr.HTML(
        NOTHING,
        html_template='<figure class="stage">${photo}${value.layers}</figure>@children<section>${value.tree}</section>',
        js_on_load=Path(__file__).with_name("page.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id="result",
        photo="",
    )


def _sliders(has_attribute_thresholds: bool) -> list[gr.Slider | gr.Checkbox]:
    """Three thresholds, and whether those of the model hold instead of the third; what `_settings` takes."""
    with gr.Accordion("Thresholds", open=False):
        threshold = gr.Slider(0.05, 0.95, THRESHOLD, step=0.01, label="Objects", info="Least score")
        mask_threshold = gr.Slider(0.05, 0.95, 0.5, step=0.01, label="Masks", info="Least probability of a pixel")
        attribute_threshold = gr.Slider(
            0.05, 0.95, ATTRIBUTE_THRESHOLD, step=0.01, label="Attributes", info="Least probability of an attribute"
        )
        own = gr.Checkbox(
            has_attribute_thresholds,
            label="Each attribute by the model's own threshold",
            visible=has_attribute_thresholds,
        )
    attribute_threshold.input(js="() => false", outputs=own)
    return [threshold, mask_threshold, attribute_threshold, own]


def _settings(threshold: float, mask_threshold: float, attribute_threshold: float, own: bool) -> Settings:
    return Settings(threshold, mask_threshold, None if own else attribute_threshold)


@dataclass(frozen=True)
class _Actions:
    """What the page does. Updates are in the order of the outputs in `build_app`."""

    finder: Finder

    def look(self, path: str | None, *sliders: Any) -> Iterator[tuple[Any, ...]]:
        """Shows an uploaded photo, and then what the network finds in it; or says why it is none."""
        try:
            photo = _read(path)
        except ValueError as error:
            yield None, None, error_html(str(error)), gr.skip()
            return
        size = (photo.height, photo.width)
        waiting = NOTHING | {"tree": note_html(LOOKING, busy=True)}
        image = photo_html(photo, shown_size(size))
        yield None, None, "", gr.update(value=waiting, photo=image)
        sighting = self.finder.look(photo, Path(path).stem)
        yield sighting, None, "", gr.update(value=self._drawn(sighting, sliders))

    def adjust(self, sighting: Sighting | None, *sliders: Any) -> dict[str, Any]:
        """Draws the layers anew after a slider was moved."""
        return gr.update(value=self._drawn(_remembered(sighting), sliders))

    def write_json(self, sighting: Sighting | None, *sliders: Any) -> str:
        """The file with all that was found, at the photo's size."""
        sighting = _remembered(sighting)
        objects = self.finder.objects(sighting, _settings(*sliders), sighting.size)
        return _save(objects.to_json().encode(), f"{sighting.name}.json")

    def write_masks(self, sighting: Sighting | None, *sliders: Any) -> str:
        """The archive with all masks, at the photo's size."""
        sighting = _remembered(sighting)
        objects = self.finder.objects(sighting, _settings(*sliders), sighting.size)
        return _save(masks_zip(objects), f"{sighting.name}_masks.zip")

    def clear(self) -> tuple[Any, ...]:
        """Back to the beginning."""
        return None, None, "", gr.update(value=NOTHING, photo="")

    def fail(self) -> tuple[Any, ...]:
        """The same, after an error that nobody foresaw."""
        return None, None, error_html(FAILED), gr.update(value=NOTHING, photo="")

    def _drawn(self, sighting: Sighting, sliders: Sequence[Any]) -> dict[str, str]:
        """The value of the result."""
        settings, size = _settings(*sliders), shown_size(sighting.size)
        objects = self.finder.objects(sighting, settings, size)
        if objects:
            return {"layers": layers_html(objects), "tree": tree_html(objects)}
        below = self.finder.objects(sighting, replace(settings, threshold=0.0), size)
        return NOTHING | {"tree": note_html(nothing_found(below, settings.threshold))}


def _remembered(sighting: Sighting | None) -> Sighting:
    if sighting is None:
        raise gr.Error(FORGOTTEN, print_exception=False)
    return sighting


def _read(path: str | None) -> Image.Image:
    """An uploaded photo, upright and as RGB; raises `ValueError` where it is none, without the server's path."""
    if path is None:
        raise ValueError("No file has arrived.")
    try:
        with open(path, "rb") as file:
            return to_rgb(open_image(file, MAX_PIXELS))
    except OSError as error:
        raise ValueError(f"The file cannot be read: {error.strerror}.") from error


def _save(content: bytes, name: str) -> str:
    """A file in the folder that Gradio serves from and deletes from."""
    return save_bytes_to_cache(content, name, get_upload_folder())
