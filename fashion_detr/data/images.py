"""The photos of a split: where they lie, a folder or one of Fashionpedia's zip archives, and what is wrong with one."""

import io
import os
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from posixpath import normpath
from typing import Any, BinaryIO
from urllib.parse import unquote

import PIL.Image
from PIL.ExifTags import Base

from ..photos_fashion_detr import UNKNOWN_FORMAT, require_safe
from .annotations import first_cases, first_image_name

ZIP_URL = "zip://"


@dataclass(frozen=True)
class ImageFiles:
    """
    The photos of a split.

    Args:
        folder: The folder with the photos, or the zip archive; absolute, as it stands in every photo's path.
        prefix: In an archive, the folder of the photos inside it, with a slash at its end.
    """

    folder: Path
    prefix: str | None = None

    def missing(self, names: Sequence[str]) -> list[str]:
        """Which file names of an annotation file are not there."""
        if self.prefix is None:
            files = (Path(folder, name) for folder, _, inside in os.walk(self.folder) for name in inside)
            there = {file.relative_to(self.folder).as_posix() for file in files}
            # What the walk does not meet may still be there: behind a link, or outside of the folder.
            return [
                name
                for name in names
                if normpath(name) not in there and not (self.folder / self._place(name)).is_file()
            ]
        members = _archive(str(self.folder)).namelist()
        there = {name.removeprefix(self.prefix) for name in members if name.startswith(self.prefix)}
        return [name for name in names if tidy(name) not in there]

    def outside(self, names: Sequence[str], data_dir: str | os.PathLike) -> list[str]:
        """
        Which file names of an annotation file lead out of the data set: they could be those of any file. Links that lie
        in it are its owner's.
        """
        if self.prefix is not None:
            return []
        top = normpath(Path(data_dir).absolute().as_posix())
        return [name for name in names if not Path(normpath(self.folder / self._place(name))).is_relative_to(top)]

    def look_alike(self, name: str) -> str | None:
        """What a missing photo may be called instead, in words."""
        if self.prefix is not None or not (place := self.folder / tidy(name)).parent.is_dir():
            return None
        wanted = _folded(place.name)
        others = (file for file in os.listdir(place.parent) if file != place.name)
        if (found := next((file for file in others if _folded(file) == wanted), None)) is None:
            return None
        # Written out, two forms of the same letter can be told apart.
        return f"({place.name!a} is listed, {found!a} is there: names have to be the same character by character)"

    def url(self, name: str) -> str:
        """What `open_photo`, and the Image feature of `datasets`, find the photo by."""
        if self.prefix is None:
            return str(self.folder / self._place(name))
        return f"{ZIP_URL}{self.prefix}{tidy(name)}::{self.folder}"

    def _place(self, name: str) -> str:
        """Below the folder: a file is called as it is listed, or as Windows lists it."""
        plain = normpath(name)
        return plain if "\\" not in plain or (self.folder / plain).is_file() else tidy(name)


def tidy(name: str) -> str:
    """A listed file name as folders and archives have it: "./a.jpg" is a.jpg, and Windows writes `photos\\a.jpg`."""
    return normpath(name.replace("\\", "/"))


def _folded(name: str) -> str:
    """The same for names that people take for one: in upper and lower case, %20 for a space, ä as one sign or two."""
    return unicodedata.normalize("NFC", unquote(name)).casefold()


def find_annotation_file(data_dir: Path, split: str) -> Path:
    """The annotation file of a split. Raises FileNotFoundError with what was looked for and what is there."""
    kinds = ("instances_attributes_{}2020", "instances_attributes_{}", "instances_{}", "{}")
    files = [folder / f"{kind.format(split)}.json" for folder in (data_dir, data_dir / "annotations") for kind in kinds]
    files.append(data_dir / split / "_annotations.coco.json")  # as Roboflow exports it
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise FileNotFoundError(not_found(f"annotation file of split {split!r}", files, data_dir))
    return found


def find_images(data_dir: Path, split: str, annotation_file: Path) -> ImageFiles:
    """The folder or the archive that holds the first image of an annotation file.

    Raises FileNotFoundError with what was looked for and what is there, ValueError for an archive with several folders
    that have it.
    """
    # Fashionpedia's val images come with the test images, in val_test2020.zip, whose folder is test.
    with_test = annotation_file.name == "instances_attributes_val2020.json"
    names = (split, f"{split}2020", f"images/{split}", "images", *(["test"] if with_test else []), ".")
    archive_names = (f"{split}2020.zip", *(["val_test2020.zip"] if with_test else []), f"{split}.zip", "images.zip")
    folders, archives = [data_dir / name for name in names], [data_dir / name for name in archive_names]
    name = first_image_name(annotation_file)
    for folder in folders:
        if (folder / name).is_file() or (folder / tidy(name)).is_file():
            return ImageFiles(folder.absolute())
    for archive in archives:
        if prefixes := list(_prefixes(archive, tidy(name))):
            return ImageFiles(archive.absolute(), _only(prefixes, names, archive, name))
    what = f"{name!r}, the first image of {annotation_file}"
    if alike := next(filter(None, (ImageFiles(folder).look_alike(name) for folder in folders)), None):
        what += f" {alike}"
    raise FileNotFoundError(not_found(what, [*folders, *archives], data_dir))


def not_found(what: str, candidates: list[Path], data_dir: Path) -> str:
    entries = sorted(os.listdir(data_dir)) if data_dir.is_dir() else ["no such folder"]
    looked_for = "\n".join(f"  {path}" for path in candidates)
    return f"No {what}. Looked for:\n{looked_for}\nFound in {data_dir}: {first_cases(entries, shown=20)}"


def open_photo(image: Mapping[str, Any]) -> BinaryIO:
    """
    The file of an undecoded cell of a `datasets` image column, `{"bytes", "path"}`: its bytes, or what lies at its path
    or `zip://member::archive`. Raises OSError if it is missing or cannot be read.
    """
    if image["bytes"] is not None:
        return io.BytesIO(image["bytes"])
    url = image["path"]
    if not url.startswith(ZIP_URL):
        if not os.path.isabs(url):  # whatever lay in the current folder would be taken for it
            raise FileNotFoundError(
                f"only the name of {url!r} is there, without its bytes. Pack the data set again, or give its full path"
            )
        return open(url, "rb")
    member, archive = url.removeprefix(ZIP_URL).split("::", 1)
    try:
        return io.BytesIO(_archive(archive).read(member))
    except (KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:  # encrypted: RuntimeError
        raise OSError(f"{member} cannot be read from {archive}: {error}") from error


def read_image(image: Mapping[str, Any]) -> PIL.Image.Image:
    """A photo from an undecoded cell."""
    with open_photo(image) as file:
        return PIL.Image.open(io.BytesIO(file.read()))


def photo_fault(image: Mapping[str, Any], width: int, height: int) -> tuple[str, str] | None:
    """What is wrong with the photo of an undecoded cell, its kind and its case; `width` and `height` are as listed."""
    try:
        with open_photo(image) as file:
            found, is_turned = _decode(file)
    except PIL.UnidentifiedImageError:
        return "files that are no readable image", UNKNOWN_FORMAT
    except Exception as error:  # what Pillow's decoders and archives raise on damaged bytes is not documented
        return "files that are no readable image", f"{type(error).__name__}: {error}"
    if found == (width, height):
        return None
    case = f"expected {width} x {height}, found {found[0]} x {found[1]} (width x height)"
    if is_turned:
        case += ", turned by its EXIF orientation: annotations are those of the upright photo"
    return "image files of another size than listed", case


def _decode(file: BinaryIO) -> tuple[tuple[int, int], bool]:
    """(width, height) as the reader will see the photo, and whether that is turned by its EXIF orientation."""
    with PIL.Image.open(file) as image:
        width, height = image.size
        require_safe(image)
        image.draft(None, (1, 1))  # a JPEG's bytes are all read, but most of its pixels need not be computed
        image.load()
        is_turned = image.getexif().get(Base.Orientation) in (5, 6, 7, 8)
        return (height, width) if is_turned else (width, height), is_turned


def _prefixes(archive: Path, name: str) -> Iterator[str]:
    """Folders inside an archive that hold `name`."""
    if archive.is_file():
        try:
            members = _archive(str(archive)).namelist()
        except zipfile.BadZipFile as error:
            raise OSError(f"{archive} is no complete zip archive: {error}. Download it again.") from error
        yield from (member[: len(member) - len(name)] for member in members if f"/{member}".endswith(f"/{name}"))


def _only(prefixes: list[str], names: Sequence[str], archive: Path, name: str) -> str:
    """That of several folders in an archive which is called like the split."""
    if len(prefixes) == 1:
        return prefixes[0]
    for known in names:
        called = [prefix for prefix in prefixes if f"/{prefix}".endswith(f"/{known}/")]
        if len(called) == 1:
            return called[0]
    raise ValueError(
        f"{archive} has {name!r} in several folders, {', '.join(map(repr, prefixes))}, so nobody can tell which ones "
        f"are the photos: leave one of them, or call it {names[0]!r}."
    )


def _archive(path: str) -> zipfile.ZipFile:
    """The archive, opened once a process: its table of contents is long, and its file position cannot be shared."""
    return _opened_archive(path, os.stat(path).st_mtime_ns, os.getpid())


@lru_cache(maxsize=8)
def _opened_archive(path: str, modified: int, process: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)
