"""`fashion-detr predict`: the garments in photos."""

import argparse
import json
import os
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cli_error import CommandError, complain, printed
from .cli_model import add_device_option, add_model_option, load_model, model_source, require_device
from .cli_number import fraction, positive
from .cli_path import local_path, require_writable

if TYPE_CHECKING:
    from PIL import Image

    from . import FashionDetrForInstanceSegmentation, FashionDetrImageProcessor, FashionResult
    from .data.predicted import PredictedAnnotations

# In bytes; it leaves room for a number and a suffix.
LONGEST_STEM = 240
PHOTO_KINDS = ("avif", "bmp", "gif", "heic", "heif", "jfif", "jpe", "jpeg", "jpg", "png", "tif", "tiff", "webp")
PHOTO_SUFFIXES = tuple(f".{kind}" for kind in PHOTO_KINDS)
# What an overlay has in its PNG file under "Software", so that it is not taken for a photo.
OVERLAY_MARK = "fashion-detr predict"
RESULT_SUFFIXES = (".png", ".json")
LABELS_PER_LINE = 4


def add_predict(commands: Any) -> None:
    parser = commands.add_parser(
        "predict",
        help="find the garments in photos",
        description="For every photo an overlay, OUTPUT/NAME.png, and its objects with their masks, OUTPUT/NAME.json.",
    )
    parser.add_argument("photos", nargs="+", type=local_path, metavar="PHOTO", help="a photo, or a folder of photos")
    add_model_option(parser)
    parser.add_argument(
        "--output", required=True, type=local_path, help="folder for the results; made if it is missing"
    )
    parser.add_argument("--threshold", type=fraction, default=0.3, help="least score of an object (0.3)")
    parser.add_argument("--attribute_threshold", type=fraction, help="least probability of one (the model's)")
    parser.add_argument("--top_k", type=positive, default=100, help="largest number of objects in a photo (100)")
    parser.add_argument(
        "--coco", type=local_path, metavar="FILE", help="also all objects as one annotation file, for annotation tools"
    )
    add_device_option(parser)
    parser.set_defaults(run=predict)


def predict(arguments: argparse.Namespace) -> int:
    """
    Finds the objects in photos, one photo at a time. A photo that cannot be read is reported, the others are done.

    Returns:
        0, or 1 when a photo failed.

    Raises:
        CommandError: the model, the device or the output folder is not usable, or a result would replace a photo.
    """
    from PIL import Image

    from .data.annotations import has_whole_characters
    from .data.predicted import PredictedAnnotations

    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # Pillow's limit is below ours
    photos = _list_photos(arguments.photos)
    results = [arguments.output / name for name in _result_names(photos)]
    _check_output(arguments.output, photos, results)
    places = photos if arguments.coco is None else _check_together(arguments.coco, photos, results)
    predictor = _Predictor.load(model_source(arguments.model), arguments)
    together = None if arguments.coco is None else PredictedAnnotations(predictor.model.config)
    status = 0
    times = Counter(photo.name for photo in photos)
    try:
        for photo, result, place in zip(photos, results, places):
            name = photo.name if times[photo.name] == 1 else str(photo)
            started = time.perf_counter()
            try:
                image = _read_photo(photo)
            except ValueError as error:
                complain(error)
                status = 1
                continue
            objects, summary = predictor.write_results(image, name, result)
            if together is not None and not has_whole_characters(place.as_posix()):
                complain(f"{name} is left out of --coco {arguments.coco}, which cannot hold its name: it is no UTF-8")
                status = 1
            elif together is not None:
                together.add(place.as_posix(), objects)
            print(
                f"{printed(name)} -> {printed(result.name)}: {summary} ({time.perf_counter() - started:.2f} s)",
                flush=True,
            )
    finally:  # also of what was done before an end by Ctrl+C
        if together is not None and together.images:
            _write_together(together, arguments.coco)
    if together is not None and not together.images:
        complain(f"No photo was done, so there is nothing to write to --coco {arguments.coco}")
    return status


def _write_together(together: "PredictedAnnotations", file: Path) -> None:
    try:
        together.write(file)
    except OSError as error:
        raise CommandError(f"The objects cannot be written to --coco {file}: {error}.") from error
    print(f"{len(together.annotations)} objects in {len(together.images)} photos: {file}", flush=True)


@dataclass(frozen=True)
class _Predictor:
    """A model with its image processor and what the user wants to see of its results."""

    model: "FashionDetrForInstanceSegmentation"
    processor: "FashionDetrImageProcessor"
    threshold: float
    attribute_threshold: float | None
    top_k: int

    @classmethod
    def load(cls, source: str, arguments: argparse.Namespace) -> "_Predictor":
        require_device(arguments.device)
        model, processor = load_model(source)
        return cls(
            model.to(arguments.device), processor, arguments.threshold, arguments.attribute_threshold, arguments.top_k
        )

    def write_results(self, image: "Image.Image", name: str, result: Path) -> tuple["FashionResult", str]:
        """
        Writes `result`.png and `result`.json for an upright RGB image, and returns what was found, also in a few words.

        Raises:
            CommandError: a file cannot be written.
        """
        from PIL.PngImagePlugin import PngInfo

        from .visualization import draw_objects

        outputs = self._run(image)
        objects = self._objects(outputs, image, self.threshold, self.top_k)
        record = {"image": name} | json.loads(objects.to_json())
        marks = PngInfo()
        marks.add_text("Software", OVERLAY_MARK)
        overlay_path, record_path = (result.with_name(result.name + suffix) for suffix in RESULT_SUFFIXES)
        try:
            # Pillow's own level, 6, takes as long as half of the model's work and makes a file 8 % smaller.
            draw_objects(image, objects).save(overlay_path, compress_level=2, pnginfo=marks)
            # At once or not at all: a later run replaces only what it knows for a result.
            unfinished = record_path.with_name(f".{record_path.name}.part")
            unfinished.write_text(json.dumps(record, allow_nan=False) + "\n", encoding="utf-8")
            unfinished.replace(record_path)
        except OSError as error:
            raise CommandError(f"The results of {name} cannot be written to {result.parent}: {error}.") from error
        return objects, _summary(objects) if objects else self._why_nothing(outputs, image)

    def _run(self, image: "Image.Image") -> Any:
        import torch

        batch = self.processor([image], return_tensors="pt").to(self.model.device)
        with torch.inference_mode():
            return self.model(**batch)

    def _objects(self, outputs: Any, image: "Image.Image", threshold: float, top_k: int) -> "FashionResult":
        return self.processor.post_process_fashion(
            outputs,
            target_sizes=[(image.height, image.width)],
            config=self.model.config,
            threshold=threshold,
            attribute_threshold=self.attribute_threshold,
            top_k=top_k,
        )[0]

    def _why_nothing(self, outputs: Any, image: "Image.Image") -> str:
        best = self._objects(outputs, image, threshold=0.0, top_k=1)
        if not best:
            return "nothing found, at any threshold"
        return (
            f"nothing above --threshold {self.threshold:g}; the best is {best[0]['label']!r} with a score of "
            f"{best[0]['score']:.4f}"
        )


def _summary(objects: "FashionResult") -> str:
    best = [f"{entry['label']} {entry['score']:.2f}" for entry in objects[:LABELS_PER_LINE]]
    more = ["..."] if len(objects) > LABELS_PER_LINE else []
    return f"{len(objects)} {'object' if len(objects) == 1 else 'objects'}: {'; '.join(best + more)}"


def _list_photos(paths: Sequence[Path]) -> list[Path]:
    """The photos themselves and those in the folders, each once; hidden files are left out of folders."""
    photos: dict[str, Path] = {}
    for path in paths:
        found = [path]
        if os.path.isdir(path):  # Path.is_dir raises for a name that is too long
            found = _photos_in(path)
        elif str(path).startswith(("http:", "https:")):
            address = str(path).replace(":/", "://", 1)  # of which a path folds the slashes
            raise CommandError(f"{address} is no file: predict takes files and folders, so fetch it first.")
        for photo in found:
            photos.setdefault(os.path.realpath(photo), photo)  # Path.resolve raises for links in a circle
    return list(photos.values())


def _photos_in(folder: Path) -> list[Path]:
    try:
        shown = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
        files = [file for file in shown if file.is_file()]
    except OSError as error:
        raise CommandError(f"The folder {folder} cannot be read: {error.strerror}.") from error
    named_so = [file for file in files if file.suffix.lower() in PHOTO_SUFFIXES]
    photos = [file for file in named_so if not _is_overlay(file)]
    if overlays := len(named_so) - len(photos):
        complain(f"In {folder} this command's own overlays are not taken for photos: {overlays}")
    if lost := [file.name for file in shown if not os.path.exists(file)]:
        complain(f"In {folder} these links lead nowhere: {', '.join(lost[:3])}{', ...' if len(lost) > 3 else ''}")
    if not photos:
        raise CommandError(f"The folder {folder} holds no photo ({', '.join(PHOTO_SUFFIXES)}).")
    if others := [file.name for file in files if file.suffix.lower() not in PHOTO_SUFFIXES]:
        shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        complain(f"{len(others)} of the {len(files)} files in {folder} are no photos by their names: {shown}")
    return photos


def _is_overlay(file: Path) -> bool:
    """Whether a picture is the result of an earlier run; one that cannot be read is for its reader to complain of."""
    from PIL import Image

    if file.suffix != RESULT_SUFFIXES[0]:
        return False
    try:
        with Image.open(file) as image:
            return image.info.get("Software") == OVERLAY_MARK
    except Exception:  # what Pillow raises on damaged files is not documented
        return False


def _result_names(photos: Sequence[Path]) -> list[str]:
    """A name for the results of each photo: its stem, numbered from the second photo with that stem on."""
    stems = [_shortened(photo.stem) for photo in photos]
    # Some file systems do not tell upper from lower case.
    free = {stem.casefold() for stem in stems}  # of these the first photo each gets its own
    taken = set(free)
    numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: count(2))
    names = []
    for stem in stems:
        name, folded = stem, stem.casefold()
        if folded in free:
            free.remove(folded)
        else:
            numbered = (f"{stem}_{number}" for number in numbers[folded])
            name = next(other for other in numbered if other.casefold() not in taken)
        taken.add(name.casefold())
        names.append(name)
    return names


def _shortened(stem: str) -> str:
    """A file name has at most 255 bytes, and that of a result may be longer than that of its photo."""
    encoded = os.fsencode(stem)
    return stem if len(encoded) <= LONGEST_STEM else encoded[:LONGEST_STEM].decode(errors="ignore")


def _check_together(file: Path, photos: Sequence[Path], results: Sequence[Path]) -> list[Path]:
    """Makes the folder of the file with all objects, and returns the photos' places below the folder of them all."""
    if os.path.lexists(file):
        raise CommandError(
            f"--coco {file} exists, and may have been corrected by hand: name another file, or delete it."
        )
    if os.path.abspath(file) in {
        os.path.abspath(f"{result}{suffix}") for result in results for suffix in RESULT_SUFFIXES
    }:
        raise CommandError(f"--coco {file} will be the result of one photo: name another file.")
    paths = [os.path.abspath(photo) for photo in photos]
    try:
        folder = os.path.commonpath([os.path.dirname(path) for path in paths])
        file.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # two drives have no folder in common
        raise CommandError(f"--coco {file}: {error}.") from error
    require_writable(file.parent, f"--coco {file}")
    return [Path(os.path.relpath(path, folder)) for path in paths]


def _check_output(output: Path, photos: Sequence[Path], results: Sequence[Path]) -> None:
    """Makes the folder for the results, unless one of them would replace a photo, or what no earlier run made."""
    originals = set(map(os.path.realpath, photos))
    for result in results:
        for suffix in RESULT_SUFFIXES:
            path = result.with_name(result.name + suffix)
            if os.path.realpath(path) in originals:
                raise CommandError(f"The results would replace the photo {path}. Choose another --output folder.")
            if path.exists() and not _is_result(path):
                raise CommandError(
                    f"The results would replace {path}, which is no earlier result of this command. Choose another "
                    "--output folder, or move the file."
                )
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"The folder --output {output} cannot be made: {error.strerror}.") from error
    require_writable(output, f"--output {output}")


def _is_result(file: Path) -> bool:
    """Whether an earlier run made it. Labelling tools write `photo.json` beside `photo.jpg`, too."""
    if file.suffix == RESULT_SUFFIXES[0]:
        return _is_overlay(file)
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and {"image", "width", "height", "objects"} <= content.keys()


def _read_photo(path: Path) -> "Image.Image":
    """
    A photo, upright and as RGB.

    Raises:
        ValueError: it is missing, no image, cut short or far too large; the message names it.
    """
    from .photos_fashion_detr import open_image, to_rgb

    try:
        image = open_image(path)
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist.") from None
    try:
        return to_rgb(image)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
