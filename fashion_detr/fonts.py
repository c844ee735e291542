"""A font for the labels of a picture, in any script that some font of this machine has."""

import logging
import re
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from PIL import ImageFont

if TYPE_CHECKING:
    from matplotlib.font_manager import FontProperties

logger = logging.getLogger(__name__)

REGULAR = 400
DIGITS = "0123456789."  # of the scores
# Control characters but for white space, and what is no sign itself but formats others: it could have the score behind
# a name run from right to left. The joiners that scripts of India and Persia need are not among them.
UNSEEN = re.compile("[\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]")


def load_font(text: str, size: int) -> ImageFont.FreeTypeFont:
    """
    A font of `size` pixels that can write a text: Pillow's own for plain English, which is all that it has, else the
    first with all characters of matplotlib's and those that are installed. Where none has all, that with the most, and
    a warning.
    """
    if text.isascii():
        return ImageFont.load_default(size)
    return ImageFont.truetype(_font_file(_needed(text)), size)


def printable(name: str) -> str:
    """A name without what no font has: halves of characters, which JSON can hold, line breaks and what turns text."""
    whole = name.encode("utf-8", "replace").decode()
    return " ".join(UNSEEN.sub("", whole).split())


def font_properties(names: Iterable[str]) -> "FontProperties | None":
    """matplotlib's font for names, as `load_font` chooses it; `None`, its default, for plain English."""
    from matplotlib.font_manager import FontProperties

    text = "".join(names)
    return None if text.isascii() else FontProperties(fname=_font_file(_needed(text)))


def _needed(text: str) -> frozenset[str]:
    return frozenset("".join(text.split()) + DIGITS)


@lru_cache(maxsize=256)
def _font_file(characters: frozenset[str]) -> str:
    fewest, best = len(characters) + 1, ""
    for file in _font_files():
        missing = characters - _characters_of(file)
        if len(missing) < fewest:
            fewest, best, lacking = len(missing), file, missing
        if not missing:
            return best
    logger.warning(
        "No font on this machine has all characters of the labels: %s will be drawn as boxes. Install one that has, "
        "such as Noto Sans of that script.",
        "".join(sorted(lacking)[:20]),
    )
    return best


@cache
def _font_files() -> tuple[str, ...]:
    """matplotlib's own font first, which has Latin, Greek, Cyrillic and Arabic letters; then the installed ones."""
    from matplotlib import font_manager

    def order(entry: font_manager.FontEntry) -> tuple:
        weight = font_manager.weight_dict.get(entry.weight, entry.weight)
        return entry.style != "normal", abs(weight - REGULAR), entry.name, entry.fname

    installed = sorted(font_manager.fontManager.ttflist, key=order)
    readable = (entry.fname for entry in installed if not entry.name.startswith("Last Resort"))  # all boxes
    return font_manager.findfont("DejaVu Sans"), *readable


@cache
def _characters_of(file: str) -> frozenset[str]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(file).get_charmap()))
    except (OSError, RuntimeError):  # matplotlib remembers fonts that are gone
        return frozenset()
