"""Photos: a file, a URL or any Pillow image becomes an upright one of 8-bit RGB, or an error that says why not."""

import io
import re
import urllib.request
from http.client import HTTPException
from urllib.parse import quote, urlsplit

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base

try:  # HEIC, the format of iPhones, which Pillow cannot read
    import pi_heif
except ImportError:
    HEIC_NEEDS = " HEIC, the format of iPhones, needs `pip install pi-heif`."
else:
    HEIC_NEEDS = ""
    pi_heif.register_heif_opener()
UNKNOWN_FORMAT = (
    f"it is empty, or not a JPEG, PNG, WebP, AVIF, GIF, TIFF or BMP file, whatever its name says.{HEIC_NEEDS}"
)

ORIENTATION = Base.Orientation.value

# A file of some kilobytes can hold an image that fills the memory, so one whose header declares more pixels is not
# decoded. The largest sensors in wide use, of phones and of medium format cameras, have 108 million.
MAX_PIXELS = 120_000_000
# The same of a server: as many pixels in the largest common format, 16-bit RGBA, have 960 MB.
MAX_FETCHED_BYTES = 960_000_000
# Floats of 8 bits go a little beyond 255 where they were resized; far beyond it they are of 16 bits.
LARGEST_OVERSHOOT = 511
# What holds the content of a file.
BYTES = (bytes, bytearray, memoryview)
# What Pillow raises on damaged files, as far as it is known.
DAMAGED = (OSError, RuntimeError, SyntaxError, ValueError, Image.DecompressionBombError)


def open_image(source, max_pixels: int = MAX_PIXELS, timeout: float | None = None) -> Image.Image:
    """
    Reads a photo whole, of an animation the first frame.

    Args:
        source (path, URL, `bytes` or file object):
            Where the photo is, or the content of its file.
        max_pixels (`int`, *optional*, defaults to 120 million):
            The largest number of pixels. It is held against the header of the file, before anything is decoded.
        timeout (`float`, *optional*):
            Seconds to wait for a URL; without it the wait has no end.

    Raises:
        ValueError: it is no image, cut short, damaged, too large or not to be fetched; the message names the path or
            URL, if there is one.
        FileNotFoundError: there is no such file.
    """
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        content = _fetch(source, timeout)
    else:
        content = source
    name = source if isinstance(source, str) or hasattr(source, "__fspath__") else "The file"
    try:
        image = _open(io.BytesIO(content) if isinstance(content, BYTES) else content, max_pixels)
        _load(image, max_pixels)
    except ValueError as error:
        raise ValueError(f"{name} cannot be read as an image: {error}") from error
    return image


def _fetch(url: str, timeout: float | None) -> bytes:
    try:
        parts = urlsplit(url)  # as browsers send them: letters of all languages and spaces in code
        path, query = (quote(part, safe="%/:=&?~+!$,;'@()*[]") for part in (parts.path, parts.query))
        coded = parts._replace(path=path, query=query, fragment="").geturl()
        # Some servers refuse Python's own name.
        request = urllib.request.Request(coded, headers={"User-Agent": "fashion-detr"})
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            content = answer.read(MAX_FETCHED_BYTES + 1)
    except (OSError, HTTPException, ValueError) as error:
        raise ValueError(f"{url} cannot be fetched: {error}") from error
    if len(content) > MAX_FETCHED_BYTES:
        raise ValueError(f"{url} is no photo: its file is larger than {MAX_FETCHED_BYTES / 1e6:,.0f} MB.")
    return content


def _open(source, max_pixels: int) -> Image.Image:
    """Looks at the header of a path or file object; raises `ValueError` with what is wrong, `FileNotFoundError`."""
    try:
        return Image.open(source)
    except FileNotFoundError:
        raise
    except IsADirectoryError as error:
        raise ValueError("it is a folder. Give the files in it, one by one.") from error
    except UnidentifiedImageError as error:
        raise ValueError(UNKNOWN_FORMAT) from error
    except Image.DecompressionBombError as error:
        # Pillow has a limit of its own, beyond which it gives no image that could be asked for its size.
        found = re.search(r"(\d+) pixels", str(error))
        raise ValueError(_too_large(int(found[1]) if found else None, max_pixels)) from error
    except DAMAGED as error:
        raise ValueError(f"{error}. Is the file complete, and a photo?") from error


def _load(image: Image.Image, max_pixels: int) -> None:
    """Decodes an image, unless it is in memory already; raises `ValueError` with what is wrong."""
    if isinstance(image, ImageFile.ImageFile):
        require_safe(image, max_pixels)
    try:
        image.load()
    except (AssertionError, *DAMAGED) as error:
        if isinstance(error, AssertionError) or "closed image" in str(error):  # Pillow's only words for it
            raise ValueError("its file has been closed. Use it inside its `with`, or call its `load` there.") from error
        raise ValueError(f"{error}. Is the file complete, and a photo?") from error


def require_safe(image: ImageFile.ImageFile, max_pixels: int = MAX_PIXELS) -> None:
    """Raises `ValueError` for a file whose header tells that it had better not be decoded."""
    if image.width * image.height > max_pixels:
        raise ValueError(_too_large(image.width * image.height, max_pixels))
    if image.format == "EPS":  # Pillow would have Ghostscript run it
        raise ValueError("an EPS file is a program, which is not run here. Save it as PNG or JPEG first.")


def _too_large(pixels: int | None, max_pixels: int) -> str:
    found = "too many" if pixels is None else f"{pixels / 1e6:,.0f}"
    return (
        f"it has {found} megapixels; the limit, which keeps it from filling the memory, is {max_pixels / 1e6:,.0f}. "
        "Make it smaller first."
    )


def to_rgb(image: Image.Image) -> Image.Image:
    """
    Any Pillow image upright and as 8-bit RGB: EXIF orientation, 16 bit, palettes; transparency becomes white. What is
    so already is returned as it is. Raises `ValueError` where the file that it comes from is damaged or too large.
    """
    try:
        _load(image, MAX_PIXELS)
    except ValueError as error:
        raise ValueError(f"The image cannot be decoded: {error}") from error
    image = _upright(image)
    if image.mode.startswith("I") or image.mode == "F":
        # Pillow's own conversion would clip at 255. Mode I has 32 bits and can hold 16-bit values.
        values = np.nan_to_num(np.asarray(image, dtype=np.float32))
        brightest = values.max(initial=0)
        if image.mode.startswith("I;16") or (image.mode == "I" and brightest > 255) or brightest > LARGEST_OVERSHOOT:
            values = values / 257
        elif image.mode == "F" and brightest < 2:  # from 0 to 1, and a little beyond where they were resized
            values = values * 255
        image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    if image.mode in ("La", "RGBa"):  # colours multiplied by their alpha
        image = image.convert(image.mode.upper())
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    """Turned as the EXIF orientation says; as it lies where the EXIF data are damaged, like browsers show it."""
    try:
        return image if image.getexif().get(ORIENTATION, 1) == 1 else ImageOps.exif_transpose(image)
    except Exception:  # Pillow raises whatever it meets on its way through them
        return image
