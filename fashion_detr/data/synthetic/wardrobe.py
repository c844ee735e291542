"""What a figure can wear and how it can stand: cuts, hems, openings, parts and poses, as lists of choices."""

from dataclasses import dataclass

import numpy as np

from .outlines import Points, circle, curve, star

_Choices = tuple[str, ...]

# Heights on the figure.
NECK, SHOULDER, CHEST, WAIST, HIP, CROTCH = 0.152, 0.178, 0.26, 0.385, 0.485, 0.525

# Hems and fits: (figure height, length attribute) and (ease, flare at the ankle, silhouette attribute).
_UPPER_HEMS = ((0.425, "above-the-hip (length)"), (0.505, "hip (length)"))
_JACKET_HEMS = ((0.44, "above-the-hip (length)"), (0.53, "hip (length)"))
_COAT_HEMS = ((0.66, "above-the-knee (length)"), (0.73, "knee (length)"), (0.81, "below the knee (length)"),
              (0.91, "maxi (length)"))  # fmt: skip
_SKIRT_HEMS = ((0.60, "mini (length)"), (0.67, "above-the-knee (length)"), (0.74, "knee (length)"), (0.83, "midi"),
               (0.92, "maxi (length)"))  # fmt: skip
_FITS = ((1.02, 0.0, "tight (fit)"), (1.14, 0.0, "regular (fit)"), (1.32, 0.05, "loose (fit)"))
_COAT_FITS = ((1.16, 0.02, "straight"), (1.18, 0.13, "a-line"), (1.42, 0.06, "oversized"))
_SKIRT_FITS = ((1.08, -0.01, "pencil"), (1.08, 0.05, "straight"), (1.06, 0.13, "a-line"), (1.05, 0.24, "flare"))


@dataclass(frozen=True)
class Garment:
    """What a garment of one category can look like; each tuple is a list of choices."""

    category: str
    hems: tuple[tuple[float, str], ...]
    fits: tuple[tuple[float, float, str], ...]
    sleeves: _Choices = ()
    fronts: _Choices = ()  # for an inner layer keys of NECKS and COLLARS, for an outer one keys of FRONTS
    pockets: _Choices = ()


INNERS = (
    Garment("top, t-shirt, sweatshirt", _UPPER_HEMS, _FITS,
             ("sleeveless", "short (length)", "short (length)", "elbow-length", "wrist-length"),
             ("round (neck)", "v-neck", "square (neckline)", "scoop (neck)", "boat (neck)"),
             ("patch (pocket)", "kangaroo (pocket)")),
    Garment("shirt, blouse", _UPPER_HEMS[1:], _FITS[1:], ("short (length)", "elbow-length", "wrist-length"),
             ("shirt (collar)", "shirt (collar)", "peter pan (collar)", "mandarin (collar)"), ("patch (pocket)",)),
    Garment("sweater", _UPPER_HEMS, _FITS[1:], ("three quarter (length)", "wrist-length"),
             ("turtle (neck)", "round (neck)", "v-neck"), ("kangaroo (pocket)",)),
)  # fmt: skip
_DRESS = Garment("dress", _SKIRT_HEMS, _SKIRT_FITS, ("sleeveless", "short (length)", "elbow-length", "wrist-length"),
                  ("round (neck)", "v-neck", "square (neckline)", "scoop (neck)", "shirt (collar)"),
                  ("slash (pocket)",))  # fmt: skip
JUMPSUIT = Garment("jumpsuit", ((0.53, ""),), _FITS[:2], ("sleeveless", "short (length)"),
                     ("v-neck", "square (neckline)", "shirt (collar)"), ("patch (pocket)",))  # fmt: skip
ONE_PIECES = (_DRESS, _DRESS, _DRESS, JUMPSUIT)
BOTTOMS = ("pants", "pants", "pants", "skirt", "skirt", "shorts")
_COAT, _JACKET, _CARDIGAN, _VEST = (
    Garment("coat", _COAT_HEMS, _COAT_FITS, ("wrist-length",), ("lapel", "lapel", "collar", "hood"),
             ("flap (pocket)", "welt (pocket)", "patch (pocket)")),
    Garment("jacket", _JACKET_HEMS, _FITS[1:], ("three quarter (length)", "wrist-length", "wrist-length"),
             ("lapel", "collar", "hood"), ("flap (pocket)", "welt (pocket)", "slash (pocket)")),
    Garment("cardigan", _JACKET_HEMS, _FITS[1:], ("elbow-length", "wrist-length"), ("neckline",), ("patch (pocket)",)),
    Garment("vest", _JACKET_HEMS, _FITS[:2], ("sleeveless",), ("neckline", "hood"), ("welt (pocket)",)),
)  # fmt: skip
OUTERS = (_COAT, _COAT, _COAT, _JACKET, _JACKET, _CARDIGAN, _VEST)
SKIRT = Garment("skirt", _SKIRT_HEMS, _SKIRT_FITS, pockets=("patch (pocket)",))

# (share of the leg covered, length attribute) and (half widths from hip to hem, silhouette attribute).
PANTS_HEMS = ((0.97, "maxi (length)"), (0.97, "maxi (length)"), (0.70, "below the knee (length)"))
SHORTS_HEMS = ((0.20, "mini (length)"), (0.34, "above-the-knee (length)"), (0.50, "knee (length)"))
LEG_FITS = (((0.053, 0.045, 0.038, 0.030, 0.025), "tight (fit)"), ((0.054, 0.049, 0.045, 0.041, 0.038), "straight"),
             ((0.056, 0.060, 0.066, 0.070, 0.074), "wide leg"),
             ((0.053, 0.045, 0.038, 0.050, 0.072), "bell bottom"))  # fmt: skip

SLEEVE_REACH = {"short (length)": 0.30, "elbow-length": 0.53, "three quarter (length)": 0.76, "wrist-length": 1.0}
SLEEVE_CUTS = {"set-in sleeve": (0.036, 0.031, 0.025), "puff (sleeve)": (0.040, 0.056, 0.026),
                "bell (sleeve)": (0.034, 0.036, 0.054)}  # fmt: skip
# Half width and depth of the opening, and the shape of its edge from the left shoulder to the right one.
_ROUND = tuple((np.cos(a), np.sin(a)) for a in np.linspace(np.pi, 0, 9))
NECKS: dict[str, tuple[float, float, tuple[tuple[float, float], ...]]] = {
    "round (neck)": (0.040, 0.034, _ROUND),
    "scoop (neck)": (0.052, 0.075, _ROUND),
    "boat (neck)": (0.068, 0.018, _ROUND),
    "v-neck": (0.042, 0.085, ((-1, 0), (-0.5, 0.5), (0, 1), (0.5, 0.5), (1, 0))),
    "square (neckline)": (0.052, 0.055, ((-1, 0), (-0.94, 0.5), (-0.9, 1), (0, 1), (0.9, 1), (0.94, 0.5), (1, 0))),
    "turtle (neck)": (0.030, 0.006, _ROUND),
}
COLLARS: dict[str, Points] = {  # the right half; the left one is its mirror image
    "shirt (collar)": np.array([(0.0, 0.168), (0.026, 0.134), (0.042, 0.148), (0.056, 0.186), (0.030, 0.196)]),
    "peter pan (collar)": curve([(0, 0.165), (0.036, 0.143), (0.066, 0.172), (0.040, 0.208), (0.008, 0.19)], 3, True),
    "mandarin (collar)": np.array([(0.003, 0.172), (0.003, 0.150), (0.028, 0.130), (0.036, 0.150), (0.024, 0.168)]),
    "regular (collar)": np.array([(0.004, 0.185), (0.030, 0.126), (0.050, 0.138), (0.078, 0.184), (0.044, 0.212)]),
}  # fmt: skip
LAPELS: dict[str, tuple[tuple[float, float], ...]] = {  # outer edge: outwards and along, 0 at the neck, 1 at the break
    "notched (lapel)": ((0.020, 0.00), (0.034, 0.30), (0.018, 0.34), (0.040, 0.44), (0.018, 0.75)),
    "peak (lapel)": ((0.020, 0.00), (0.030, 0.42), (0.058, 0.20), (0.042, 0.50), (0.018, 0.78)),
    "shawl (lapel)": ((0.020, 0.00), (0.034, 0.22), (0.038, 0.45), (0.030, 0.70), (0.014, 0.90)),
}
# How an outer layer closes: the height down to which it lies open, and the openings that go with it.
FRONTS: dict[str, tuple[float, _Choices]] = {
    "lapel": (0.33, ("single breasted", "single breasted", "double breasted")),
    "collar": (0.185, ("single breasted", "double breasted", "zip-up")),
    "hood": (0.190, ("zip-up",)),
    "neckline": (0.31, ("single breasted",)),
}
BUTTON_COLUMNS = {"single breasted": (0.0,), "double breasted": (-0.024, 0.024)}
# Half sizes and outline in them.
POCKETS: dict[str, tuple[float, float, tuple[tuple[float, float], ...]]] = {
    "patch (pocket)": (0.020, 0.023, ((-1, -1), (1, -1), (1, 0.6), (0.5, 1), (-0.5, 1), (-1, 0.6))),
    "flap (pocket)": (0.027, 0.014, ((-1, -1), (1, -1), (1, 0.5), (0, 1), (-1, 0.5))),
    "welt (pocket)": (0.026, 0.0075, ((-1, -0.6), (1, -1), (1, 0.6), (-1, 1))),
    "slash (pocket)": (0.016, 0.030, ((-0.1, -1), (0.6, -1), (0.9, 1), (0.2, 1))),
    "kangaroo (pocket)": (0.052, 0.034, ((-0.6, -1), (0.6, -1), (1, 0.3), (1, 1), (-1, 1), (-1, 0.3))),
}
# Outlines of radius 1 and the radius in figure units.
DECORATIONS: dict[str, tuple[float, Points]] = {
    "applique": (0.017, star(5, 0.55)),
    "flower": (0.018, curve(star(5, 0.5), 3, True)),
    "bow": (0.024, np.array([(-1, -0.6), (0, -0.15), (1, -0.6), (1, 0.6), (0, 0.15), (-1, 0.6)])),
    "rivet": (0.0085, circle()),
    "bead": (0.0085, circle()),
}
# Ranges of degrees from straight down, positive away from the body: upper arm, forearm.
ARM_POSES = {
    "hanging": ((5, 15), (-2, 12)),
    "relaxed": ((12, 24), (-14, 4)),
    "akimbo": ((34, 48), (-58, -40)),
    "across": ((8, 18), (-112, -80)),
    "raised": ((14, 30), (138, 158)),
}
POSE_NAMES = ("hanging", "hanging", "relaxed", "relaxed", "akimbo", "across")
