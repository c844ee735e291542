"""Photos of every kind and state of file: the processor sees the same pixels, or says what is wrong with them."""

import base64
import io
import re
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fashion_detr import FashionDetrImageProcessor, photos_fashion_detr
from fashion_detr.photos_fashion_detr import open_image, to_rgb

# 16 x 16 pixels, the left half red and the right half green, compressed by zlib.
HEIC = (
    "c-muNV30{GsVvAy%}izhg51nBLl8SRGck>Ufw3kxwIq=N0u(b+a*CjAhJwuG5(YG&l$nzcHpIn&fe{FSfN=qY1_E0kR?f`KO9S&jqM|@fDif5"
    "KQI>27V)7MamgK^f{K+gRDge@VG7FOPfpjTQnKL6ZNN56Bk=zG{KYxGxU|`^9P5|nVaA4$N{Qn=MfElEM8HD6^F*zgxB{iKG8PQ}GC^WK8d$n%X"
    "vj>U`4m2<@@HBvgTatjP*<2V879Z>c+98~rpHq~VoKpc5<z-+4Dq#@GEG|feddvZeHIj1@K@Jmux*bga|Ns92kY<9>An}6CicFA3W)2PxASIDmk"
    "P8cAV6d?^GBLBZ0NJj&DT$ykw$xx;FRWNF+2N_d?|*FmE&lzyUi%F1+&`7iTXp#6k%k8i%(f;mPgq&B>>Qqc_1(#`|Hx`a;ed+84FDSJXeI"
)


def pixels(height: int = 30, width: int = 50, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def values(image: Any) -> torch.Tensor:
    return FashionDetrImageProcessor(size={"height": 64, "width": 64})(image, return_tensors="pt").pixel_values


def transparent(mode: str) -> tuple[Image.Image, np.ndarray]:
    """The left half of a photo, the right half see-through; and what it looks like on white paper."""
    image, alpha = pixels(), np.zeros((30, 50), dtype=np.uint8)
    alpha[:, :25] = 255
    if mode == "LA":
        image = np.repeat(image[..., :1], 3, axis=-1)
        picture = Image.merge("LA", [Image.fromarray(image[..., 0]), Image.fromarray(alpha)])
    elif mode == "P":
        index = np.where(alpha == 255, image[..., 0] % 4, 7).astype(np.uint8)
        palette = pixels(1, 8, 5)[0]
        picture = Image.frombytes("P", (50, 30), index.tobytes())
        picture.putpalette(palette.tobytes())
        picture.info["transparency"] = 7
        image = palette[index]
    else:
        picture = Image.fromarray(np.dstack([image, alpha]), "RGBA")
    return picture, np.where(alpha[..., None] == 255, image, 255).astype(np.uint8)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_becomes_white(mode):
    picture, expected = transparent(mode)
    assert picture.mode == mode
    stored = io.BytesIO()
    picture.save(stored, "PNG", **({"transparency": 7} if mode == "P" else {}))
    assert torch.equal(values(picture), values(expected))
    assert torch.equal(values(Image.open(stored)), values(expected))


@pytest.mark.parametrize("mode", ["RGBa", "La"])
def test_colours_multiplied_by_their_alpha(mode):
    picture, expected = transparent(mode.upper())
    assert torch.equal(values(picture.convert(mode)), values(expected))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LAB", "I", "F"])
def test_modes_are_converted(mode):
    picture = Image.fromarray(pixels()).convert("L" if mode in "IF" else "RGB").convert(mode)
    expected = picture.convert("L" if mode in "IF" else "RGB").convert("RGB")
    assert torch.equal(values(picture), values(expected))


@pytest.mark.parametrize("brightest", [65535, 255])
def test_sixteen_bit_greyscale(brightest):
    """Also a dark one: how deep the file is does not depend on what it shows."""
    grey = np.linspace(0, brightest, 30 * 50).reshape(30, 50).astype(np.uint16)
    stored = io.BytesIO()
    Image.fromarray(grey).save(stored, "PNG")
    picture = Image.open(stored)
    assert picture.mode == "I;16"
    expected = np.repeat((grey // 257).astype(np.uint8)[..., None], 3, axis=-1)
    assert torch.allclose(values(picture), values(expected), atol=0.02)


@pytest.mark.parametrize("white", [1, 255, 65535])
def test_floating_point_greyscale(white):
    levels = np.arange(256, dtype=np.float32).reshape(16, 16)
    stored = levels * np.float32(white / 255)
    stored[0, 0] = np.nan  # is black
    grey = np.asarray(to_rgb(Image.fromarray(stored)))
    assert np.array_equal(grey, np.repeat(levels[..., None], 3, axis=-1))


def test_floats_that_resizing_took_beyond_one_are_no_dark_photo():
    levels = np.arange(256, dtype=np.float32).reshape(16, 16)
    grey = np.asarray(to_rgb(Image.fromarray(levels / 255 * 1.5)))[..., 0]
    assert np.abs(grey - (levels * 1.5).clip(max=255)).max() <= 1


def test_exif_orientation_is_applied(tmp_path):
    upright = Image.fromarray(pixels())
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    assert Image.open(tmp_path / "turned.png").size == (30, 50)
    assert torch.equal(values(tmp_path / "turned.png"), values(upright))


def test_photos_of_an_iphone(tmp_path):
    (tmp_path / "photo.heic").write_bytes(zlib.decompress(base64.b85decode(HEIC)))
    photo = np.asarray(to_rgb(open_image(tmp_path / "photo.heic")), dtype=int)
    assert photo.shape == (16, 16, 3)
    assert abs(photo[:, [2, 13]] - np.array([[200, 30, 30], [30, 200, 30]])).max() < 10


def test_broken_files_are_named(tmp_path):
    stored = io.BytesIO()
    Image.fromarray(pixels(200, 200)).save(stored, "JPEG")
    cut, text = tmp_path / "cut.jpg", tmp_path / "text.jpg"
    cut.write_bytes(stored.getvalue()[:3000])
    text.write_text("no photo")
    Image.fromarray(pixels()).save(tmp_path / "good.png")
    for path in (cut, text):
        with pytest.raises(ValueError, match=path.name):
            values(path)
    with pytest.raises(ValueError, match="complete"):
        values(Image.open(cut))
    with Image.open(text.with_name("good.png")) as closed:
        pass
    loaded = Image.open(text.with_name("good.png"))
    loaded.load()
    loaded.close()
    for image in (closed, loaded):
        with pytest.raises(ValueError, match="its file has been closed"):
            values(image)
    for url in ("http://localhost/\u00e4.jpg", "http://[::1/x.jpg"):
        with pytest.raises(ValueError, match=re.escape(f"{url} cannot be fetched")):
            values(url)
    with pytest.raises(FileNotFoundError, match=r"absent\.jpg"):
        values(tmp_path / "absent.jpg")
    for folder in (tmp_path, str(tmp_path)):
        with pytest.raises(ValueError, match=r"it is a folder\. Give the files in it"):
            values(folder)


def png_of(width: int, height: int) -> bytes:
    """The beginning of a PNG, up to where its pixels would come."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    checked = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + checked + struct.pack(">I", 1000) + b"IDAT"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("width", "height", "found"), [(20_000, 20_000, 400), (11_000, 11_000, 121)])
def test_an_image_that_would_fill_the_memory_is_not_decoded(tmp_path, width, height, found):
    """Pillow itself opens the smaller one; neither has any pixels, which is not what is said of it."""
    content = png_of(width, height)
    path = tmp_path / "bomb.png"
    path.write_bytes(content)
    message = f"it has {found} megapixels; the limit.* is 120. Make it smaller first"
    for source in (path, str(path)):
        with pytest.raises(ValueError, match=f"bomb.png cannot be read as an image: {message}"):
            values(source)
    for source in (content, io.BytesIO(content)):
        with pytest.raises(ValueError, match=f"The file cannot be read as an image: {message}"):
            open_image(source)
    if found == 121:
        with pytest.raises(ValueError, match=f"The image cannot be decoded: {message}"):
            values(Image.open(path))


def test_the_largest_number_of_pixels_can_be_chosen(monkeypatch):
    stored = io.BytesIO()
    Image.fromarray(pixels(40, 50)).save(stored, "PNG")
    assert np.array_equal(open_image(stored.getvalue(), max_pixels=2000), pixels(40, 50))
    with pytest.raises(ValueError, match="limit"):
        open_image(stored.getvalue(), max_pixels=1999)
    monkeypatch.setattr(photos_fashion_detr, "MAX_PIXELS", 1999)
    with pytest.raises(ValueError, match="limit"):
        to_rgb(Image.open(stored))
    # What is in memory already can be used, however large it is.
    assert np.array_equal(to_rgb(Image.fromarray(pixels(40, 50))), pixels(40, 50))


def test_bytes_are_the_content_of_a_file():
    stored = io.BytesIO()
    Image.fromarray(pixels()).save(stored, "PNG")
    content = stored.getvalue()
    for file in (content, bytearray(content), memoryview(content), stored, {"bytes": content, "path": "a.png"}):
        assert torch.equal(values(file), values(pixels()))
    assert np.array_equal(open_image(stored), pixels())


@pytest.mark.parametrize("image", [None, {"image": b"x" * 10_000}, [1.0]])
def test_what_is_no_image_is_named_by_its_type(image):
    with pytest.raises(ValueError, match=r"An image has to be .*; found (NoneType|dict|float)\.$"):
        values(image)


def test_of_an_animation_the_first_frame_is_taken():
    stored = io.BytesIO()
    frames = [Image.new("RGB", (50, 30), colour) for colour in ("red", "blue")]
    frames[0].save(stored, "GIF", save_all=True, append_images=frames[1:])
    assert torch.equal(values(stored.getvalue()), values(frames[0]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty, or not a JPEG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "or not a JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "is a program"),
    ],
)
def test_what_is_no_photo_is_said_to_be_none(content, message):
    with pytest.raises(ValueError, match=message):
        values(content)


@pytest.mark.filterwarnings("ignore")  # of what Pillow thinks of the files
@pytest.mark.parametrize("kind", ["AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"])
def test_a_damaged_file_is_an_error_of_value(kind):
    stored = io.BytesIO()
    Image.fromarray(pixels()).save(stored, kind)
    content, random = stored.getvalue(), np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        damaged = np.frombuffer(content, dtype=np.uint8)[: random.integers(len(content) // 2, len(content) + 1)].copy()
        damaged[random.integers(min(len(damaged), 300), size=5)] = random.integers(256, size=5)
        try:
            to_rgb(open_image(damaged.tobytes(), max_pixels=10_000))
        except ValueError:
            refused += 1
    assert refused > 10


def test_damaged_exif_data_do_not_matter(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels()).save(tmp_path / "photo.png", exif=exif.tobytes().replace(b"MM\0*", b"MM\0\0"))
    assert torch.equal(values(tmp_path / "photo.png"), values(pixels()))
