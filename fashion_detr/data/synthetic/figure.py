"""
A dressed figure, painted from back to front: hair, legs, bottoms, inner layer, open or closed outer layer, arms with
their sleeves, scarf, bag.

Outlines are written in figure coordinates: the unit is the figure's height, x = 0 is its axis, y = 0 the top of the
head, y = 1 the soles.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from .canvas import Canvas, Instance
from .cloth import COLOURS, HAIRS, METALS, PATTERNED, PATTERNS, SKINS, Cloth, Colour, palette, shaded
from .outlines import Points, circle, curve, direction, ellipse, tube
from .wardrobe import (
    ARM_POSES,
    BOTTOMS,
    BUTTON_COLUMNS,
    CHEST,
    COLLARS,
    CROTCH,
    DECORATIONS,
    FRONTS,
    HIP,
    INNERS,
    JUMPSUIT,
    LAPELS,
    LEG_FITS,
    NECK,
    NECKS,
    ONE_PIECES,
    OUTERS,
    PANTS_HEMS,
    POCKETS,
    POSE_NAMES,
    SHORTS_HEMS,
    SHOULDER,
    SKIRT,
    SLEEVE_CUTS,
    SLEEVE_REACH,
    WAIST,
    Garment,
)

T = TypeVar("T")
LOOK_ALIKE_SHARE = 0.3  # how often the outer layer takes the colour of the layer below

_WAVE_NUMBERS = np.array([(0.0, 37.0), (31.0, 5.0)])  # of the wave that outlines follow
_LEVELS = np.array([SHOULDER, CHEST, WAIST, HIP, 0.70, 0.95])


@dataclass(frozen=True)
class _Worn:
    """A garment on this figure: its instance, material and cut."""

    spec: Garment
    instance: Instance
    cloth: Cloth
    hem: float
    ease: float
    flare: float
    sleeve: str
    front: str


class Figure:
    """One figure: draws its body and clothes onto a canvas, from back to front."""

    def __init__(self, canvas: Canvas, rng: np.random.Generator, place: float = 0.5) -> None:
        self.canvas, self.rng = canvas, rng
        height, width = canvas.pixels.shape
        self.unit = min(height, 1.6 * width) * self._between(0.74, 0.96)
        if self._chance(0.18):
            self.unit *= self._between(1.1, 1.45)  # a closer shot: the picture's edge crops the figure
        slack = height - self.unit
        top = slack * self._between(0.15, 0.85) if slack > 0 else height * self._between(-0.03, 0.05)
        lean = self._between(-0.06, 0.06)
        self.frame = self.unit * np.array([(1.0, 0.0), (-lean, 1.0)])
        self.origin = np.array([width * (place + self._between(-0.12, 0.12)) + self.unit * lean * HIP, top])
        self.skin = self._cloth(self._pick(SKINS), fold=0.22)
        self.hair = self._cloth(self._pick(HAIRS), fold=0.5)
        self.metal = self._cloth(self._pick(METALS), fold=0.5)
        self.halves = self._build()
        self.umbrella_side = self._pick((-1, 1)) if self._chance(0.04) else 0
        self.arms = {side: self._arm(side) for side in (-1, 1)}
        self.legs = {side: self._leg(side) for side in (-1, 1)}

    # -- chance

    def _chance(self, share: float) -> bool:
        return self.rng.random() < share

    def _between(self, low: float, high: float) -> float:
        return low + (high - low) * self.rng.random()

    def _pick(self, choices: Sequence[T]) -> T:
        return choices[int(self.rng.random() * len(choices))]

    # -- body

    def _build(self) -> Points:
        """Half widths of the body at _LEVELS."""
        broad, waist, hips = self._between(0.9, 1.12), self._between(0.86, 1.16), self._between(0.92, 1.12)
        return np.array([0.098, 0.083, 0.070 * waist, 0.086 * hips, 0.082 * hips, 0.074 * hips]) * broad

    def _half(self, y: Any) -> Any:
        return np.interp(y, _LEVELS, self.halves)

    def _arm(self, side: int) -> Points:
        pose = ARM_POSES["raised" if side == self.umbrella_side else self._pick(POSE_NAMES)]
        upper, fore = (np.deg2rad(self._between(*angles)) for angles in pose)
        shoulder = np.array([side * (self.halves[0] - 0.012), SHOULDER + 0.016])
        elbow = shoulder + 0.155 * np.array([side * np.sin(upper), np.cos(upper)])
        wrist = elbow + 0.140 * np.array([side * np.sin(fore), np.cos(fore)])
        return curve([shoulder, elbow, wrist], 8)

    def _leg(self, side: int) -> Points:
        angle, bend = np.deg2rad(self._between(0, 6.5)), np.deg2rad(self._between(-3, 4))
        hip = np.array([side * 0.044, 0.505])
        knee = hip + 0.228 * np.array([side * np.sin(angle), np.cos(angle)])
        ankle = knee + 0.215 * np.array([side * np.sin(angle + bend), np.cos(angle + bend)])
        return curve([hip, knee, ankle], 8)

    def _place(self, points: Points, wobble: float = 0.0) -> Points:
        """Figure coordinates to pixels: lean, scale, and a slow wave that keeps outlines from being drawn by ruler."""
        wave = np.sin(points @ _WAVE_NUMBERS + (wobble, 2 * wobble))
        return points @ self.frame + self.origin + (0.0035 * self.unit) * wave

    # -- materials

    def _cloth(self, colour: Colour, accent: Colour | None = None, pattern: str = "plain (pattern)",
               fold: float = 0.34) -> Cloth:  # fmt: skip
        phase = self.rng.random(6)
        period = max(5, round(self.unit * (0.022 + 0.026 * phase[0])))
        variant = int(phase[1] * len(PATTERNS[pattern]))
        return Cloth(colour, palette(colour, accent or colour, fold), pattern, variant, period,
                      (int(phase[2] * period), int(phase[3] * period)), (phase[4], phase[5]), 6 * phase[4])  # fmt: skip

    def _colour(self) -> Colour:
        return shaded(self._pick(COLOURS), self._between(0.86, 1.12))

    def _accent(self, colour: Colour) -> Colour:
        """A colour that stands out from `colour` in brightness, so that a pattern can be seen."""
        ground = sum(colour) / 3
        return self._pick([other for other in COLOURS if abs(sum(other) / 3 - ground) > 55])

    def _garment_cloth(self, like: Cloth | None = None, patterned: float = 0.5) -> Cloth:
        colour = shaded(like.colour, self._between(0.9, 1.12)) if like else self._colour()
        pattern = self._pick(PATTERNED) if self._chance(patterned) else "plain (pattern)"
        return self._cloth(colour, self._accent(colour), pattern, self._between(0.26, 0.42))

    def _trim(self, cloth: Cloth) -> Cloth:
        """The material of a part: the garment's own, or a plain one that is darker, lighter or contrasting."""
        kind = self.rng.random()
        if kind < 0.35:
            return replace(cloth, fold_phase=(cloth.fold_phase[1], cloth.fold_phase[0]))
        if kind < 0.8:
            return self._cloth(shaded(cloth.colour, 0.74 if sum(cloth.colour) > 150 else 1.7))
        return self._cloth(self._accent(cloth.colour))

    # -- brushes

    def _paint(self, outline: Points, cloth: Cloth, instance: Instance | None = None) -> None:
        self.canvas.paint(self._place(outline, cloth.wobble), cloth, instance)

    def _add(self, category: str, cloth: Cloth, *outlines: Points, parent: Instance | None = None) -> Instance:
        instance = self.canvas.add(category, parent)
        for outline in outlines:
            self._paint(outline, cloth, instance)
        return instance

    def _line(self, path: Any, cloth: Cloth, colour: Colour | None = None) -> None:
        width = max(1, round(self.unit / 230))
        self.canvas.ink(self._place(np.asarray(path, float), cloth.wobble), colour or cloth.edge, width)

    def _claim_pattern(self, instance: Instance, cloth: Cloth) -> None:
        instance.claim(cloth.pattern, pixels=3 * cloth.period**2)

    # -- the picture, from back to front

    def draw(self) -> None:
        inner, bottom = self._choose_outfit()
        outer = self._choose_outer(inner)
        is_open = self._chance(0.6)
        long_hair = self._chance(0.5)
        self._draw_behind(outer, is_open, long_hair)
        self._draw_legs(bare=bottom != "pants")
        self._draw_trunk()
        layers = [lambda: self._draw_inner(inner), lambda: self._draw_bottom(inner, bottom)]
        for layer in layers if self._chance(0.5) else reversed(layers):
            layer()
        self._draw_waist_and_tie(inner)
        if outer is not None:
            self._draw_outer(outer, is_open)
        self._draw_head(outer, long_hair)
        gloves = self._cloth(self._colour()) if self._chance(0.1) else None
        for side in (-1, 1):
            self._draw_arm(side, [worn for worn in (inner, outer) if worn is not None], gloves)
        self._draw_scarf_and_bag()

    def _choose_outfit(self) -> tuple[_Worn, str | None]:
        one_pieces = self._wanted(ONE_PIECES)
        if one_pieces and self._chance(0.32):
            return self._wear(self._pick(one_pieces)), None
        bottoms = [bottom for bottom in BOTTOMS if bottom in self.canvas.categories]
        return self._wear(self._pick(self._wanted(INNERS))), self._pick(bottoms)

    def _wanted(self, specs: Sequence[Garment]) -> list[Garment]:
        return [spec for spec in specs if spec.category in self.canvas.categories]

    def _choose_outer(self, inner: _Worn) -> _Worn | None:
        outers = self._wanted(OUTERS)
        if not outers or not self._chance(0.6):
            return None
        spec = self._pick(outers)
        return self._wear(spec, inner.cloth if self._chance(LOOK_ALIKE_SHARE) else None)

    def _wear(self, spec: Garment, like: Cloth | None = None) -> _Worn:
        """Chooses a garment's cut and material, and claims the attributes that follow from them."""
        hem, length = self._pick(spec.hems)
        ease, flare, silhouette = self._pick(spec.fits)
        sleeve = self._pick(spec.sleeves) if spec.sleeves else ""
        cloth = self._garment_cloth(like, 0.3 if spec in OUTERS else 0.5)
        instance = self.canvas.add(spec.category)
        worn = _Worn(spec, instance, cloth, hem, ease, flare, sleeve, self._pick(spec.fronts) if spec.fronts else "")
        self._claim_pattern(instance, cloth)
        instance.claim(silhouette, share=0.45)
        if length:
            reach = 0.7 * self._reach(worn, hem)
            instance.claim(length, self._place(np.array([(-reach, hem - 0.014), (reach, hem - 0.014)]), cloth.wobble))
        if sleeve == "sleeveless":
            shoulder = 0.8 * self.halves[0] - 0.01
            armholes = np.array([(side * shoulder, SHOULDER + 0.012) for side in (-1, 1)])
            instance.claim(sleeve, self._place(armholes, cloth.wobble))
        return worn

    # -- cuts

    def _reach(self, worn: _Worn, y: Any) -> Any:
        """Half width of a garment at a height."""
        return self._half(y) * worn.ease + worn.flare * np.clip((np.asarray(y) - WAIST) / (0.95 - WAIST), 0, 1)

    def _side(self, worn: _Worn, side: int, neck: float, top: float = SHOULDER) -> Points:
        """A garment's outer edge on one side, from neck (or waist) to hem."""
        heights = np.array([y for y in _LEVELS if top <= y < worn.hem - 0.04] + [worn.hem])
        reach = self._reach(worn, heights)
        if worn.sleeve == "sleeveless" and top == SHOULDER:
            reach[0] = max(neck + 0.006, 0.80 * self.halves[0])
        start = [(neck, NECK)] if top == SHOULDER else []
        return curve(np.array([*start, *zip(reach, heights, strict=True)]) * (side, 1))

    def _panel(self, worn: _Worn, neck_edge: Points, top: float = SHOULDER) -> Points:
        """A closed front: neck (or waist) edge from left to right, right side, slightly sagging hem, left side."""
        neck = float(neck_edge[-1, 0])
        left, right = self._side(worn, -1, neck, top), self._side(worn, 1, neck, top)
        sag = curve([right[-1], (0.0, worn.hem + 0.008), left[-1]], 4)
        return np.concatenate([neck_edge, right, sag, left[::-1]])

    # -- layers

    def _draw_behind(self, outer: _Worn | None, is_open: bool, long_hair: bool) -> None:
        if self.umbrella_side:
            self._draw_umbrella()
        if long_hair:
            self._paint(
                curve([(-0.05, 0.03), (0.05, 0.03), (0.068, 0.2), (0, 0.24), (-0.068, 0.2)], 4, True), self.hair
            )
        if outer is not None and is_open:
            lining = self._cloth(shaded(outer.cloth.colour, 0.55))
            back = replace(outer, ease=outer.ease * 0.94, hem=outer.hem - 0.012)
            self._paint(self._panel(back, np.array([(-0.03, NECK), (0.03, NECK)])), lining, outer.instance)

    def _draw_legs(self, bare: bool) -> None:
        for leg in self.legs.values():
            self._paint(tube(leg, (0.045, 0.042, 0.031, 0.029, 0.018)), self.skin)
        legwear = self.rng.random()
        if bare and legwear < 0.3:
            tights = self._garment_cloth(patterned=0.25)
            self._add("tights, stockings", tights, *(tube(leg, (0.046, 0.043, 0.033, 0.03, 0.02))
                                                     for leg in self.legs.values()))  # fmt: skip
        boots = self._chance(0.25)
        leather, knit = self._cloth(self._colour(), fold=0.5), self._knit()
        for side, leg in self.legs.items():
            if 0.3 <= legwear < 0.55:
                self._add("sock", knit, tube(leg[13:], (0.027, 0.021)))
            elif 0.55 <= legwear < 0.62:
                self._add("leg warmer", knit, tube(leg[11:16], (0.034, 0.033, 0.036)))
            if legwear < 0.97:
                self._draw_shoe(side, leg, leather, boots)

    def _knit(self) -> Cloth:
        colour = self._colour()
        return self._cloth(colour, self._accent(colour), self._pick(("plain (pattern)", "stripe")))

    def _draw_shoe(self, side: int, leg: Points, leather: Cloth, boots: bool) -> None:
        x, y = leg[-1]
        toe = np.array([(-0.020, -0.004), (0.018, -0.004), (0.030, 0.026), (0.040, 0.050), (-0.018, 0.050)])
        shoe = self._add("shoe", leather, toe * (side, 1) + (x, y))
        if boots:
            self._paint(tube(leg[11:], (0.036, 0.024)), leather, shoe)
        sole = np.array([(-0.018, 0.046), (0.040, 0.046), (0.040, 0.053), (-0.018, 0.053)]) * (side, 1) + (x, y)
        if shoe.is_wanted:
            self.canvas.ink(self._place(sole, leather.wobble), shaded(leather.colour, 0.4))
        if self._chance(0.18):
            kind = self._pick(("bow", "buckle", "rivet"))
            self._decorate(shoe, kind, x + side * 0.010, y + 0.018)

    def _draw_trunk(self) -> None:
        body = curve([(0.024, 0.12), (0.026, 0.15), (self.halves[0], SHOULDER), (self.halves[1], CHEST),
                       (self.halves[2], WAIST), (self.halves[3], HIP), (0.05, CROTCH + 0.02)])  # fmt: skip
        self._paint(np.concatenate([body, (body * (-1, 1))[::-1]]), self.skin)

    def _draw_inner(self, worn: _Worn) -> None:
        instance, cloth = worn.instance, worn.cloth
        has_collar = worn.front in COLLARS
        width, depth, shape = NECKS["v-neck" if has_collar else worn.front]
        edge = np.array(shape) * (width, depth * (0.35 if has_collar else 1)) + (0, NECK)
        self._paint(self._panel(worn, edge), cloth, instance)
        if has_collar:
            self._draw_buttons(worn, "single breasted", NECK + 0.05)
            self._draw_collar(worn, worn.front)
        else:
            instance.claim("no opening", share=0.45)
            self._draw_neckline(worn, edge)
        if worn.spec is JUMPSUIT:
            self._draw_trousers(instance, cloth, PANTS_HEMS)
        self._draw_inner_details(worn)

    def _draw_neckline(self, worn: _Worn, edge: Points) -> None:
        trim = self._trim(worn.cloth)
        if worn.front == "turtle (neck)":
            band = np.array([(-0.031, 0.116), (0, 0.124), (0.031, 0.116), (0.038, 0.158), (0, 0.170), (-0.038, 0.158)])
        else:
            band = tube(edge + np.array((0, 0.005)), (0.0065, 0.0065))
        part = self._add("neckline", trim, band, parent=worn.instance)
        part.claim(worn.front, share=0.45)

    def _draw_collar(self, worn: _Worn, name: str) -> None:
        half = COLLARS[name]
        part = self._add("collar", self._trim(worn.cloth), half, half * (-1, 1), parent=worn.instance)
        part.claim(name, share=0.45)

    def _draw_inner_details(self, worn: _Worn) -> None:
        if self._chance(0.35):
            kind = self._pick(worn.spec.pockets)
            x, y = {"patch (pocket)": (0.044, 0.27), "kangaroo (pocket)": (0.0, 0.42)}.get(kind, (0.06, 0.50))
            if y < worn.hem - 0.03:
                self._draw_pocket(worn, kind, x, y)
        if self._chance(0.35):
            self._decorate(worn.instance, self._pick(("applique", "flower", "bow", "bead")),
                           self._between(-0.03, 0.03), self._between(0.25, 0.32))  # fmt: skip

    def _draw_pocket(self, worn: _Worn, kind: str, x: float, y: float) -> None:
        half_width, half_height, shape = POCKETS[kind]
        mirrored = -1 if x < 0 else 1
        outline = np.array(shape) * (half_width * mirrored, half_height) + (x, y)
        part = self._add("pocket", self._trim(worn.cloth), outline, parent=worn.instance)
        part.claim(kind, share=0.45)

    def _draw_buttons(self, worn: _Worn, opening: str, start: float, axis: float = 0.0) -> None:
        colour = self._pick((self._accent(worn.cloth.colour), self.metal.colour))
        end = min(worn.hem, 0.56) - 0.02
        heights = np.linspace(start, end, max(2, round((end - start) / 0.06)))
        columns = [axis + column for column in BUTTON_COLUMNS[opening]]
        self._line([(axis, start), (axis, worn.hem)], worn.cloth)
        centres = np.array([(x, y) for x in columns for y in heights])
        centres = self._place(centres, worn.cloth.wobble)
        for centre in centres:
            self.canvas.ink(circle() * (0.0065 * self.unit) + centre, colour)
        worn.instance.claim(opening, centres)

    def _decorate(self, instance: Instance, kind: str, x: float, y: float) -> None:
        if kind == "buckle":
            self._add("buckle", self.metal, ellipse(x, y, 0.011, 0.009), parent=instance)
            return
        radius, shape = DECORATIONS[kind]
        is_metal = kind in ("rivet", "bead") and self._chance(0.6)
        cloth = self.metal if is_metal else self._cloth(self._colour())
        centres = [(x + radius * 2.6 * step, y) for step in range(-2, 3)] if kind == "bead" else [(x, y)]
        self._add(kind, cloth, *(shape * radius + centre for centre in centres), parent=instance)

    def _draw_bottom(self, inner: _Worn, bottom: str | None) -> None:
        if bottom == "skirt":
            self._draw_skirt()
        elif bottom is not None:
            cloth = self._garment_cloth(inner.cloth if self._chance(0.15) else None, 0.3)
            instance = self.canvas.add(bottom)
            self._claim_pattern(instance, cloth)
            self._draw_trousers(instance, cloth, PANTS_HEMS if bottom == "pants" else SHORTS_HEMS)

    def _draw_trousers(self, instance: Instance, cloth: Cloth, hems: tuple[tuple[float, str], ...]) -> None:
        share, length = self._pick(hems)
        half_widths, silhouette = self._pick(LEG_FITS if hems is PANTS_HEMS else LEG_FITS[1:3])
        top = np.array([(self._half(y) * 1.05, y) for y in (WAIST + 0.015, 0.44, HIP)] + [(0.046, CROTCH + 0.03)])
        seat = np.concatenate([curve(top), (curve(top) * (-1, 1))[::-1]])
        legs = {side: leg[: max(4, round(share * len(leg)))] for side, leg in self.legs.items()}
        reach = max(2, round(share * len(half_widths)))
        for leg in legs.values():
            self._paint(tube(leg, half_widths[:reach]), cloth, instance)
        self._paint(seat, cloth, instance)
        self._line([(0, WAIST + 0.02), (0, CROTCH + 0.025)], cloth)
        instance.claim(length, self._place(np.array([leg[-1] - (0, 0.012) for leg in legs.values()]), cloth.wobble))
        instance.claim(silhouette, share=0.45)
        if self._chance(0.5):
            for side in (-1, 1):
                outline = np.array(POCKETS["slash (pocket)"][2]) * (side * 0.020, 0.026) + (side * 0.055, 0.445)
                self._add("pocket", self._trim(cloth), outline, parent=instance).claim("slash (pocket)", share=0.45)

    def _draw_skirt(self) -> None:
        worn = self._wear(SKIRT)
        waist = float(self._reach(worn, WAIST))
        edge = np.array([(-waist, WAIST), (waist, WAIST)])
        self._paint(self._panel(worn, edge, WAIST), worn.cloth, worn.instance)
        if worn.cloth.pattern == "plain (pattern)" and worn.flare > 0.1 and self._chance(0.6):
            hem = self._reach(worn, worn.hem)
            for x in np.linspace(-0.75, 0.75, 6):
                self._line([(x * waist, WAIST + 0.02), (x * hem, worn.hem)], worn.cloth, shaded(worn.cloth.colour, 0.6))
            worn.instance.claim("pleat", share=0.45)
        if self._chance(0.2):
            self._draw_pocket(worn, "patch (pocket)", self._pick((-0.045, 0.045)), 0.49)

    def _draw_waist_and_tie(self, inner: _Worn) -> None:
        if inner.front == "shirt (collar)" and inner.hem < 0.6 and self._chance(0.4):
            tie = self._garment_cloth(patterned=0.5)
            blade = [(-0.010, 0.160), (0.010, 0.160), (0.008, 0.182), (0.019, 0.36), (0, 0.385), (-0.019, 0.36),
                     (-0.008, 0.182)]  # fmt: skip
            self._add("tie", tie, np.array(blade))
        if self._chance(0.3):
            y, reach = WAIST + 0.014, float(self._half(WAIST)) * (inner.ease + 0.02)
            path = curve([(-reach, y - 0.003), (0, y + 0.003), (reach, y - 0.003)])
            belt = self._add("belt", self._cloth(self._colour(), fold=0.5), tube(path, (0.011, 0.011)))
            self._decorate(belt, "buckle", 0.0, y + 0.003)

    # -- outer layer

    def _draw_outer(self, worn: _Worn, is_open: bool) -> None:
        depth, openings = FRONTS[worn.front]
        opening = self._pick(openings)
        gap = self._between(0.022, 0.045) if is_open else -0.004
        spread = gap + self._between(0.0, 0.03) if is_open else gap
        edges = {}
        for side in (-1, 1):
            edge = [(0.043, NECK), (0.5 * (0.043 + max(gap, 0)) + 0.003, (NECK + depth) / 2), (gap, depth),
                    (0.5 * (gap + spread), 0.5 * (depth + worn.hem)), (spread, worn.hem)]  # fmt: skip
            edges[side] = curve(np.array(edge) * (side, 1))
            outline = np.concatenate([self._side(worn, side, 0.043), edges[side][::-1]])
            self._paint(outline, worn.cloth, worn.instance)
        self._close(worn, opening, edges[1][:, 0].min() if not is_open else gap + 0.016, depth, edges[1])
        self._draw_outer_parts(worn, edges, depth, max(gap, 0.0))

    def _close(self, worn: _Worn, opening: str, axis: float, depth: float, edge: Points) -> None:
        if opening != "zip-up":
            self._draw_buttons(worn, opening, depth + 0.012, max(axis, 0.0) if axis < 0.01 else axis)
            return
        path = edge[edge[:, 1] >= depth - 0.01]
        zipper = self._add("zipper", self.metal, tube(path, (0.0052, 0.0052)), parent=worn.instance)
        if zipper.is_wanted:
            worn.instance.claim(opening, self._place(path[1:-1], worn.cloth.wobble))
        if self._chance(0.45):
            for y in np.arange(0.23, worn.hem - 0.02, 0.042):
                reach = self._reach(worn, y)
                for low, high in ((-reach, -path[0, 0] - 0.01), (path[0, 0] + 0.01, reach)):
                    self._line([(low, y), (high, y)], worn.cloth, shaded(worn.cloth.colour, 0.55))
            worn.instance.claim("quilted", share=0.45)

    def _draw_outer_parts(self, worn: _Worn, edges: dict[int, Points], depth: float, gap: float) -> None:
        if worn.front == "lapel":
            self._draw_lapels(worn, edges, depth)
        elif worn.front == "collar":
            self._draw_collar(worn, "regular (collar)")
        elif worn.front == "hood":
            trim = self._trim(worn.cloth)
            for_hood = [(-0.030, 0.150), (-0.075, 0.150), (-0.060, 0.108), (0, 0.098), (0.060, 0.108), (0.075, 0.150),
                        (0.030, 0.150), (0.020, 0.190), (0, 0.160), (-0.020, 0.190)]  # fmt: skip
            self._add("hood", trim, curve(for_hood, 3, True), parent=worn.instance)
        else:
            bands = [tube(edge[edge[:, 1] <= depth + 0.004], (0.008, 0.008)) for edge in edges.values()]
            self._add("neckline", self._trim(worn.cloth), *bands, parent=worn.instance).claim("v-neck", share=0.45)
        self._draw_outer_pockets(worn, gap)

    def _draw_outer_pockets(self, worn: _Worn, gap: float) -> None:
        if self._chance(0.65):
            kind = self._pick(worn.spec.pockets)
            y = min(worn.hem - 0.04, 0.485)
            x = (gap + float(self._reach(worn, y))) / 2 + 0.006
            for side in (-1, 1):
                self._draw_pocket(worn, kind, side * x, y)
        if worn.front == "collar" and self._chance(0.5):
            tab = np.array([(-0.028, -0.008), (0.02, -0.010), (0.02, 0.008), (-0.028, 0.010)])
            for side in (-1, 1):
                outline = tab * (side, 1) + (side * (self.halves[0] * worn.ease - 0.03), SHOULDER + 0.004)
                self._add("epaulette", self._trim(worn.cloth), outline, parent=worn.instance)

    def _draw_lapels(self, worn: _Worn, edges: dict[int, Points], depth: float) -> None:
        name, trim = self._pick(tuple(LAPELS)), self._trim(worn.cloth)
        for side, edge in edges.items():
            inner = edge[edge[:, 1] <= depth + 0.004]
            outwards, along = np.array(LAPELS[name]).T
            heights = NECK - 0.008 + along * (depth - NECK)
            outer = np.stack([np.interp(heights, inner[:, 1], np.abs(inner[:, 0])) + outwards, heights], 1) * (side, 1)
            outline = np.concatenate([inner, outer[::-1]])
            self._add("lapel", trim, outline, parent=worn.instance).claim(name, share=0.45)

    # -- head and arms

    def _draw_head(self, outer: _Worn | None, long_hair: bool) -> None:
        self._paint(ellipse(0, 0.062, 0.050, 0.062), self.hair)
        self._paint(curve([(0.036, 0.055), (0.034, 0.092), (0.014, 0.125), (-0.014, 0.125), (-0.034, 0.092),
                            (-0.036, 0.055), (0, 0.030)], 4, True), self.skin)  # fmt: skip
        for x in (-0.015, 0.015):
            self.canvas.ink(self._place(ellipse(x, 0.072, 0.005, 0.004)), (40, 30, 30))
        self.canvas.ink(self._place(ellipse(0, 0.105, 0.010, 0.003)), (168, 72, 72))
        side = self._pick((-1, 1))
        self._paint(np.array([(-0.038, 0.060), (0.0, 0.012), (0.038, 0.060), (0.02, 0.040)]) * (side, 1), self.hair)
        if long_hair:
            for lock in (-1, 1):
                path = curve(np.array([(0.041, 0.05), (0.046, 0.11), (0.052, self._between(0.16, 0.24))]) * (lock, 1))
                self._paint(tube(path, (0.008, 0.012, 0.016)), self.hair)
        self._draw_headwear()

    def _draw_headwear(self) -> None:
        if self._chance(0.25):
            lens = self._cloth(self._pick(((30, 30, 34), (110, 80, 60), (70, 90, 120))), fold=0.6)
            bridge = np.array([(-0.038, 0.068), (0.038, 0.068), (0.038, 0.073), (-0.038, 0.073)])
            self._add(
                "glasses", lens, ellipse(-0.016, 0.073, 0.0135, 0.011), ellipse(0.016, 0.073, 0.0135, 0.011), bridge
            )
        kind = self.rng.random()
        if kind < 0.28:
            self._draw_hat(brimmed=kind < 0.14)
        elif kind < 0.36:
            band = curve([(-0.049, 0.048), (-0.03, 0.016), (0, 0.006), (0.03, 0.016), (0.049, 0.048)])
            headband = self._add(
                "headband, head covering, hair accessory", self._garment_cloth(), tube(band, (0.009,) * 2)
            )
            if self._chance(0.5):
                self._decorate(headband, self._pick(("bow", "flower")), self._pick((-0.03, 0.03)), 0.014)

    def _draw_hat(self, brimmed: bool) -> None:
        cloth = self._garment_cloth(patterned=0.25)
        crown = [(-0.052, 0.045), (-0.048, 0.0), (-0.02, -0.024), (0.02, -0.024), (0.048, 0.0), (0.052, 0.045)]
        hat = self._add("hat", cloth, np.concatenate([curve(crown), [(0, 0.05)]]))
        if brimmed:
            self._paint(ellipse(0, 0.040, 0.088, 0.015), cloth, hat)
            ribbon = curve([(-0.051, 0.024), (0, 0.030), (0.051, 0.024)])
            self._add("ribbon", self._cloth(self._accent(cloth.colour)), tube(ribbon, (0.007, 0.007)), parent=hat)
        else:
            self._paint(tube(curve([(-0.053, 0.042), (0, 0.034), (0.053, 0.042)]), (0.012, 0.012)), cloth, hat)
            if self._chance(0.4):
                self._decorate(hat, self._pick(("applique", "flower")), 0.02, 0.012)

    def _draw_arm(self, side: int, layers: list[_Worn], gloves: Cloth | None) -> None:
        arm = self.arms[side]
        hand_path = np.stack([arm[-1], arm[-1] + 0.05 * direction(arm)])
        self._paint(tube(arm, (0.028, 0.025, 0.021, 0.016)), self.skin)
        sleeved = [worn for worn in layers if worn.sleeve != "sleeveless"]
        for worn in sleeved:
            self._draw_sleeve(arm, worn, is_top=worn is layers[-1])
        if self._chance(0.1):
            self._add("watch", self.metal, tube(arm[-3:-1], (0.020, 0.019)))
        if gloves is not None:
            self._add("glove", gloves, tube(np.concatenate([arm[-4:-1], hand_path]), (0.023, 0.020, 0.022, 0.016)))
        else:
            self._paint(
                tube(curve(np.stack([*hand_path, hand_path[1] + (0, 0.001)])), (0.014, 0.019, 0.010)), self.skin
            )

    def _draw_sleeve(self, arm: Points, worn: _Worn, is_top: bool) -> None:
        path = arm[: max(3, round(SLEEVE_REACH[worn.sleeve] * len(arm)))]
        cut = self._pick(tuple(SLEEVE_CUTS)) if is_top and self._chance(0.4) else "set-in sleeve"
        widths = [width * (0.9 + 0.5 * (worn.ease - 1)) for width in SLEEVE_CUTS[cut]]
        cloth = replace(worn.cloth, fold_phase=(self.rng.random(), self.rng.random()))
        part = self._add("sleeve", cloth, tube(path, widths), parent=worn.instance)
        part.claim(cut, share=0.5)
        part.claim(worn.sleeve, self._place(path[-2:-1], cloth.wobble))
        cuff = path[-1] - path[-2]
        across = np.array([cuff[1], -cuff[0]]) / np.hypot(*cuff) * widths[-1]
        if part.is_wanted:
            self._line([path[-2] + across, path[-2] - across], cloth)

    # -- what is carried and wrapped around

    def _draw_scarf_and_bag(self) -> None:
        if self._chance(0.22):
            self._draw_scarf()
        if self._chance(0.45):
            self._draw_bag(self._pick((-1, 1)))

    def _draw_scarf(self) -> None:
        cloth, side = self._garment_cloth(patterned=0.6), self._pick((-1, 1))
        end = self._between(0.30, 0.44)
        tail = curve([(side * 0.02, 0.165), (side * 0.032, 0.23), (side * 0.030, end)])
        scarf = self._add("scarf", cloth, tube(tail, (0.018, 0.024, 0.027)))
        loop = [(-0.058, 0.150), (0, 0.128), (0.058, 0.150), (0.046, 0.186), (0, 0.200), (-0.046, 0.186)]
        self._paint(curve(loop, 4, True), cloth, scarf)
        if self._chance(0.5):
            steps = np.linspace(-0.026, 0.026, 9)
            teeth = np.stack([side * 0.030 + steps, end + np.where(np.arange(9) % 2, 0.026, 0.006)], 1)
            fringe = np.concatenate([teeth, [(side * 0.030 + 0.026, end - 0.006), (side * 0.030 - 0.026, end - 0.006)]])
            self._add("fringe", self._trim(cloth), fringe, parent=scarf)

    def _draw_bag(self, side: int) -> None:
        cloth = self._cloth(self._colour(), fold=0.5) if self._chance(0.7) else self._garment_cloth(patterned=1.0)
        size = self._between(0.8, 1.3)
        crossbody = self._chance(0.5)
        x, y = (side * (self._half(HIP) + 0.02), 0.50) if crossbody else self.arms[side][-1] + (0, 0.11)
        strap = [(-side * 0.055, 0.165), (side * 0.02, 0.33), (x, y - 0.03 * size)] if crossbody else [
            (x - 0.026, y - 0.03), (x - 0.014, y - 0.085), (x + 0.014, y - 0.085), (x + 0.026, y - 0.03)]  # fmt: skip
        bag = self._add("bag, wallet", cloth, tube(curve(strap), (0.006, 0.006)))
        body = [(-0.046, -0.038), (0.046, -0.038), (0.056, 0.040), (0, 0.048), (-0.056, 0.040)]
        self._paint(np.array(body) * size + (x, y), cloth, bag)
        if self._chance(0.5):
            path = np.array([(x - 0.036 * size, y - 0.024 * size), (x + 0.036 * size, y - 0.024 * size)])
            self._add("zipper", self.metal, tube(path, (0.0055, 0.0055)), parent=bag)
        else:
            self._decorate(bag, self._pick(("buckle", "rivet", "bow")), x, y)

    def _draw_umbrella(self) -> None:
        hand_x, hand_y = self.arms[self.umbrella_side][-1]
        x = hand_x * 0.8
        dome = np.array([(np.cos(a), -0.62 * np.sin(a)) for a in np.linspace(0, np.pi, 13)])
        scallops = [(-0.66, -0.12), (-0.33, 0.0), (0, -0.12), (0.33, 0.0), (0.66, -0.12)]
        cloth = self._garment_cloth(patterned=0.4)
        umbrella = self._add("umbrella", cloth, np.concatenate([dome, scallops]) * 0.24 + (x, 0.03))
        shaft = curve([(x, -0.02), (hand_x, hand_y - 0.02), (hand_x, hand_y + 0.06)])
        self._paint(tube(shaft, (0.0035, 0.0035)), self.metal, umbrella)
