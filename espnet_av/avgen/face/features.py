# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The parts of a face that change their look from frame to frame: mouth and eyes, painted into windows of the texture.

Curves such as the edge of a lip are functions of the column, so only the soft masks are two-dimensional. Legend:
H, W height and width of the window in pixels.
"""

import numpy as np

from espnet_av.avgen.face.identity import Identity
from espnet_av.avgen.face.texture import HALF, PIXELS_PER_UNIT, FaceTexture
from espnet_av.avgen.face.visemes import LOWER_TUCK, OPENING, PRESS, TEETH, TONGUE, UPPER_RAISE, WIDTH

_SOFT = 0.5 / 0.014  # one over the width of a soft edge in face units
_CAVITY = np.array((0.15, 0.045, 0.045), dtype=np.float32)
_TONGUE = np.array((0.70, 0.33, 0.32), dtype=np.float32)
_TOOTH = np.array((0.93, 0.90, 0.83), dtype=np.float32)
_LASH = np.array((0.07, 0.05, 0.05), dtype=np.float32)


def ramp(distance: np.ndarray, soft: float = _SOFT) -> np.ndarray:
    """Return a mask that is 0.5 where ``distance`` (face units) is 0, and 1 inside."""
    return np.clip(distance * soft + 0.5, 0.0, 1.0)


def _lay(under: np.ndarray, over: np.ndarray, mask: np.ndarray) -> None:
    """Lay ``over`` on ``under`` ``(H, W, 3)`` in place."""
    under += mask[..., None] * (over - under)


class _Window:
    """A rectangle of the texture with its axes: ``x`` ``(W,)`` and ``y`` ``(H, 1)`` in face units from its centre."""

    def __init__(self, cx: float, cy: float, left: float, right: float, top: float, bottom: float) -> None:
        x0, x1 = (int((cx + v + HALF) * PIXELS_PER_UNIT) for v in (-left, right))
        y0, y1 = (int((cy + v + HALF) * PIXELS_PER_UNIT) for v in (-top, bottom))
        self.place = (slice(y0, y1), slice(x0, x1))
        self.x = ((np.arange(x0, x1, dtype=np.float32) + 0.5) / PIXELS_PER_UNIT - HALF - cx).astype(np.float32)
        self.y = ((np.arange(y0, y1, dtype=np.float32) + 0.5) / PIXELS_PER_UNIT - HALF - cy).astype(np.float32)[:, None]


class MouthPainter:
    """Paint the mouth for given articulation values (``visemes.ARTICULATION``)."""

    def __init__(self, identity: Identity, texture: FaceTexture) -> None:
        self._who = identity
        self._window = _Window(0.0, identity.mouth_y, 0.44, 0.44, 0.20, 0.40)
        self._shades = texture.shades[(slice(None), *self._window.place)]
        self._grain = texture.grain[self._window.place]
        rng = np.random.default_rng([identity.seed, 31])
        self._creases = np.convolve(rng.standard_normal(96), np.hanning(5) / 2, "same")
        self._tooth_tone = 1 + 0.05 * rng.standard_normal(24)

    def paint(self, picture: np.ndarray, articulation: np.ndarray, light: float) -> None:
        """Paint into ``picture`` uint8 ``(S, S, 3)`` for ``articulation`` ``(A,)``; ``light`` 0..1 mixes lights."""
        x, y = self._window.x, self._window.y
        patch = picture[self._window.place].astype(np.float32) / 255
        shade = self._shades[0] + light * (self._shades[1] - self._shades[0])
        shape = _lip_shape(self._who, x, articulation)
        half_width, upper, lower, upper_edge, lower_edge, edge = shape
        self._paint_surroundings(patch, half_width, lower_edge, upper)
        lips = self._lip_light(shape, articulation)[..., None] * np.array(self._who.lip, dtype=np.float32)
        _lay(patch, lips * shade[..., None], ramp(y - upper_edge) * ramp(lower_edge - y) * edge)
        self._paint_inside(patch, shape, articulation, 0.5 + 0.5 * shade)
        gap = np.clip((lower - upper) / 0.02, 0, 1)
        seam = np.exp(-(((y - (upper + lower) / 2) / 0.008) ** 2)) * edge * (1 - gap)
        _lay(patch, np.array(self._who.lip, dtype=np.float32) * 0.22, 0.75 * seam)
        picture[self._window.place] = np.clip(patch * 255 + 0.5, 0, 255).astype(np.uint8)

    def _paint_surroundings(
        self, patch: np.ndarray, half_width: float, lower_edge: np.ndarray, upper: np.ndarray
    ) -> None:
        """Shade the hollow under the lower lip and the corners."""
        x, y = self._window.x, self._window.y
        hollow = np.exp(-(((y - lower_edge - 0.034) / 0.030) ** 2)) * np.exp(-((x / (0.7 * half_width)) ** 2))
        corner = np.exp(-((np.abs(x) - half_width - 0.004) ** 2 + (y - upper) ** 2) / 0.018**2)
        patch *= (1 - 0.26 * hollow - 0.32 * corner)[..., None]

    def _lip_light(self, shape: tuple, articulation: np.ndarray) -> np.ndarray:
        """Return the lightness of the lips ``(H, W)``: the upper faces down, the lower shines, both have creases."""
        x, y = self._window.x, self._window.y
        half_width, upper, lower, upper_edge, lower_edge, _ = shape
        t_up = np.clip((y - upper_edge) / np.maximum(upper - upper_edge, 1e-3), 0, 1)
        t_low = np.clip((y - lower) / np.maximum(lower_edge - lower, 1e-3), 0, 1)
        crease = np.interp(x / half_width, np.linspace(-1, 1, len(self._creases)), self._creases)
        shine = (
            np.exp(-(((t_low - 0.42) / 0.22) ** 2)) * np.exp(-((x / (0.55 * half_width)) ** 2)) * (0.20 + 0.06 * crease)
        )
        light = np.where(y < (upper + lower) / 2, 0.98 - 0.32 * t_up, 1.04 - 0.26 * t_low**2 + shine)
        return light * (1 + 0.05 * crease) + self._grain

    def _paint_inside(self, patch: np.ndarray, shape: tuple, articulation: np.ndarray, shade: np.ndarray) -> None:
        """Paint the dark cavity, the tongue and the teeth where the lips are apart."""
        x, y = self._window.x, self._window.y
        half_width, upper, lower, _, _, edge = shape
        teeth, tongue, opening = (float(articulation[k]) for k in (TEETH, TONGUE, OPENING))
        inside = np.broadcast_to(_CAVITY, patch.shape).copy()
        phase = x / self._who.tooth_width + 0.5
        gap = 1 - 0.30 * np.exp(-(((phase - np.round(phase)) / 0.07) ** 2))
        tone = gap * self._tooth_tone[np.clip(np.floor(phase).astype(int) + 12, 0, 23)] * (1 - 0.35 * (x / 0.25) ** 2)
        scallop = 0.006 * (2 * np.abs(phase - np.floor(phase) - 0.5)) ** 2
        lower_top = lower - 0.020 - 0.020 * teeth
        lower_mask = (
            ramp(y - lower_top - scallop) * ramp(0.74 * half_width - np.abs(x)) * (0.75 * teeth * (1 - 0.7 * tongue))
        )
        _lay(inside, _TOOTH * (tone * 0.82)[None, :, None], lower_mask)
        height = (0.03 + 0.14 * tongue) * min(1.0, 2.2 * opening + 0.4 * tongue)
        top = lower - height * np.exp(-((x / (0.62 * half_width)) ** 4))
        groove = 1 - 0.18 * np.exp(-((x / 0.02) ** 2))
        flesh = ramp(y - top, 1 / 0.03) * min(1.0, 2.0 * tongue)
        _lay(inside, _TONGUE * (groove * (0.85 + 0.15 * np.clip((y - top) / 0.05, 0, 1)))[..., None], flesh)
        upper_bottom = np.maximum(0.014 + 0.010 * teeth, upper + 0.010 + 0.018 * teeth) - scallop
        out = np.clip((tongue - 0.85) / 0.15, 0, 1)  # the tip between the teeth
        upper_mask = (
            ramp(upper_bottom - y)
            * ramp(0.84 * half_width - np.abs(x))
            * (0.22 + 0.78 * teeth)
            * (1 - 0.75 * out * flesh)
        )
        _lay(inside, _TOOTH * (tone * (1 - 0.25 * np.clip(1 - (y - upper) / 0.02, 0, 1)))[..., None], upper_mask)
        mask = ramp(y - upper) * ramp(lower - y) * edge * np.clip((lower - upper) / 0.008, 0, 1)
        _lay(patch, inside * shade[..., None], mask)


def _lip_shape(who: Identity, x: np.ndarray, articulation: np.ndarray) -> tuple:
    """Return half width, and per column (W,): inner upper, inner lower, outer upper, outer lower edge, side mask."""
    opening = max(0.0, float(articulation[OPENING])) * who.articulation_gain
    width, raise_up, tuck, press = (float(articulation[k]) for k in (WIDTH, UPPER_RAISE, LOWER_TUCK, PRESS))
    spread, rounded = max(0.0, width), max(0.0, -width)
    half_width = who.mouth_width * (1 + 0.20 * spread - 0.42 * rounded) * (1 - 0.05 * opening)
    ax = np.abs(x) / half_width
    inside = np.clip(1 - ax**2, 0, 1)
    line = (who.mouth_curve - 0.022 * spread) * np.minimum(ax, 1.3) ** 2 + 0.003 * np.cos(np.minimum(ax, 1.0) * 6)
    profile = inside ** (0.8 - 0.3 * rounded)
    lift = 0.030 * opening + 0.045 * raise_up * min(1.0, 0.35 + 3 * opening) * (opening > 0)
    upper = line - lift * profile
    lower = line + 0.20 * opening * (1 - 0.8 * tuck) * profile
    pout = 1 + 0.32 * rounded - 0.14 * spread
    u = x / half_width * who.mouth_width
    bow = 1 - 0.26 * np.exp(-((u / 0.028) ** 2)) + 0.12 * np.exp(-(((np.abs(u) - 0.06) / 0.035) ** 2))
    upper_edge = upper - who.upper_lip * (1 - 0.60 * press) * pout * inside**0.75 * bow
    lower_edge = lower + who.lower_lip * (1 - 0.50 * press) * (1 - 0.65 * tuck) * pout * inside**0.6
    return half_width, upper, lower, upper_edge, lower_edge, ramp(half_width - np.abs(x), 1 / 0.012)


class EyePainter:
    """Paint both eyes for a blink value and a direction of gaze."""

    def __init__(self, identity: Identity, texture: FaceTexture) -> None:
        self._who = identity
        self._eyes = []
        for side in (-1, 1):
            window = _Window(side * identity.eye_x, identity.eye_y, 0.17, 0.17, 0.13, 0.11)
            shades = texture.shades[(slice(None), *window.place)]
            self._eyes.append((side, window, shades))

    def paint(self, picture: np.ndarray, blink: float, gaze: np.ndarray, light: float) -> None:
        """Paint into ``picture`` uint8 ``(S, S, 3)``; ``blink`` 0 open .. 1 shut, ``gaze`` (2,) in face units."""
        for side, window, shades in self._eyes:
            patch = picture[window.place].astype(np.float32) / 255
            shade = shades[0] + light * (shades[1] - shades[0])
            self._paint_one(patch, side, window, shade, blink, gaze)
            picture[window.place] = np.clip(patch * 255 + 0.5, 0, 255).astype(np.uint8)

    def _paint_one(
        self, patch: np.ndarray, side: int, window: _Window, shade: np.ndarray, blink: float, gaze: np.ndarray
    ) -> None:
        who, x, y = self._who, window.x, window.y
        a = x * side / (0.118 * who.eye_size)  # -1 inner corner .. +1 outer corner
        arch = np.clip(1 - a * a, 0, 1)
        tilt = -who.eye_tilt * 0.118 * a
        top = -0.056 * who.eye_size * arch**0.75 + tilt
        bottom = 0.034 * who.eye_size * arch + tilt
        lid = top + (bottom - top) * 0.94 * blink
        corner = ramp(0.118 * who.eye_size - np.abs(x), 1 / 0.01)
        skin = np.array(who.skin, dtype=np.float32)
        patch *= (1 - 0.22 * np.exp(-(((y - top + 0.034) / 0.009) ** 2)) * (np.abs(a) < 1.15))[..., None]  # crease
        _lay(patch, skin * (0.90 * shade)[..., None], ramp(y - top) * ramp(lid - y) * corner * min(1.0, 8 * blink))
        ball = self._eyeball(x, y, a, lid, gaze, side)
        _lay(patch, ball * (0.62 + 0.38 * shade)[..., None], ramp(y - lid) * ramp(bottom - y) * corner)
        reach = (np.abs(a) < 1.06).astype(np.float32)
        thick = 0.008 + 0.005 * np.clip(a, 0, 1) * who.lash
        line = np.exp(-(((y - lid) / thick) ** 2)) * reach * (0.55 + 0.40 * who.lash)
        hairs = np.clip(np.sin(a * 26 + (y - lid) * side * 60), 0, 1) * np.clip(0.3 + a, 0, 1) * (0.75 * who.lash)
        line = np.maximum(line, hairs * ramp(lid - y) * ramp(y - lid + 0.030 * who.lash) * reach)
        _lay(patch, _LASH, np.clip(line, 0, 1))
        _lay(patch, skin * 0.35, 0.35 * np.exp(-(((y - bottom) / 0.007) ** 2)) * reach)

    def _eyeball(
        self, x: np.ndarray, y: np.ndarray, a: np.ndarray, lid: np.ndarray, gaze: np.ndarray, side: int
    ) -> np.ndarray:
        """Return white, iris, pupil and glint ``(H, W, 3)``."""
        gx, gy = float(gaze[0]), float(gaze[1]) - 0.010
        white = (0.94 - 0.22 * a * a) * (0.62 + 0.38 * np.clip((y - lid) / 0.035, 0, 1))
        ball = white[..., None] * np.array((1.0, 0.97, 0.96), dtype=np.float32)
        pink = np.exp(-(((a + 1) / 0.16) ** 2))
        ball *= 1 - pink[None, :, None] * np.array((0.05, 0.35, 0.32), dtype=np.float32)
        dx, dy = x - gx, y - gy
        radius = np.sqrt(dx * dx + dy * dy)
        size = 0.047 * self._who.eye_size**0.5
        spokes = 1 + 0.16 * np.sin(np.arctan2(dy, dx) * 17 + 3 * side)
        tint = np.array(self._who.iris, dtype=np.float32) * (spokes * (0.75 + 0.55 * radius / size))[..., None]
        _lay(ball, tint, ramp(size - radius))
        _lay(ball, np.float32(0.04) * np.ones(3, np.float32), 0.55 * np.exp(-(((radius - size) / 0.007) ** 2)))
        _lay(ball, np.float32(0.02) * np.ones(3, np.float32), ramp(0.019 - radius))
        lx, ly = self._who.light[0], self._who.light[1]
        glint = ramp(0.011 - np.sqrt((dx - 0.03 * lx) ** 2 + (dy - 0.035 * ly) ** 2), 1 / 0.01)
        _lay(ball, np.float32(0.97) * np.ones(3, np.float32), glint)
        return ball
