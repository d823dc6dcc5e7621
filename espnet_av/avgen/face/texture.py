# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The still picture of a face, made once per speaker: a shaded height field with skin, brows, hair, neck and shirt.

Two versions are lit from two directions; the renderer blends them over time. Mouth and eyes are left to
``face_features.py``. Legend: S side of the texture in pixels.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from espnet_av.avgen.face.identity import Identity

SIDE = 256
HALF = 1.25  # face units from the middle of the texture to its edge
PIXELS_PER_UNIT = SIDE / (2 * HALF)
_AXIS = ((np.arange(SIDE, dtype=np.float32) + 0.5) / PIXELS_PER_UNIT) - np.float32(HALF)
X, Y = np.meshgrid(_AXIS, _AXIS)


@dataclass(frozen=True)
class FaceTexture:
    """``pictures`` uint8 ``(2, S, S, 3)`` under two lights; of the skin ``shades`` ``(2, S, S)`` and ``grain``."""

    pictures: np.ndarray
    shades: np.ndarray
    grain: np.ndarray


def bump(cx: float, cy: float, sx: float, sy: float) -> np.ndarray:
    """Return a Gaussian of height 1 over the texture ``(S, S)``."""
    return np.exp(-0.5 * (((X - cx) / sx) ** 2 + ((Y - cy) / sy) ** 2))


def step(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """Return the smooth step from 0 at ``low`` to 1 at ``high``."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def mix(under: np.ndarray, over: np.ndarray | tuple, mask: np.ndarray) -> np.ndarray:
    """Lay ``over`` on ``under`` ``(..., 3)`` where ``mask`` is 1."""
    return under + mask[..., None] * (np.asarray(over, dtype=np.float32) - under)


def make_texture(identity: Identity) -> FaceTexture:
    """Paint the still face of ``identity``."""
    rng = np.random.default_rng(identity.seed)
    grain = _noise(rng, 0.8) * 0.020 + _noise(rng, 2.5) * 0.012 + _noise(rng, 12.0) * 0.025
    normals = _normals(_height(identity))
    albedo = _albedo(identity, grain)
    strands = _hair_strands(identity, rng)
    backdrop = _backdrop(identity, rng)
    pictures, shades = [], []
    for light in (identity.light, identity.light_drift):
        diffuse, glint = _light(normals, np.array(light, dtype=np.float32))
        shade = 0.34 + 0.72 * diffuse
        picture = _compose(identity, albedo, shade, glint, strands, backdrop)
        pictures.append(np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8))
        shades.append(shade)
    return FaceTexture(np.stack(pictures), np.stack(shades).astype(np.float32), grain.astype(np.float32))


def _noise(rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Return smooth noise ``(S, S)`` of standard deviation 1."""
    field = cv2.GaussianBlur(rng.standard_normal((SIDE, SIDE)).astype(np.float32), (0, 0), sigma)
    return field / field.std()


def _face_radius(identity: Identity) -> np.ndarray:
    """Return the distance from the middle of the face, 1 on its outline."""
    narrow = 1 - identity.jaw * 0.35 * step(0.2, 1.0, Y)
    return np.sqrt((X / (identity.half_width * narrow)) ** 2 + ((Y - 0.02) / identity.half_height) ** 2)


def _height(identity: Identity) -> np.ndarray:
    radius = _face_radius(identity)
    z = 0.62 * np.sqrt(np.clip(1.03 - np.minimum(radius, 1.01) ** 2, 1e-3, None))
    tip = 0.12 + identity.nose_length * 0.45
    w, ex, ey = identity.nose_width, identity.eye_x, identity.eye_y
    z += 0.11 * bump(0, ey + identity.nose_length * 1.05, 0.055 * w, 0.16) + 0.10 * bump(0, tip - 0.02, 0.07 * w, 0.06)
    for side in (-1, 1):
        z += 0.045 * bump(side * 0.095 * w, tip, 0.035, 0.04)  # wing of the nose
        z += 0.05 * bump(side * ex, ey - 0.17, 0.16, 0.05)  # brow
        z -= 0.06 * bump(side * ex, ey, 0.14, 0.08)  # eye socket
        z += 0.05 * bump(side * 0.42, 0.14, 0.13, 0.12)  # cheek bone
        z += 0.012 * (1 + identity.age) * bump(side * 0.33, 0.40, 0.07, 0.12)  # beside the mouth
    z += 0.05 * bump(0, 0.85, 0.14, 0.09) - 0.02 * bump(0, identity.mouth_y - 0.13, 0.022, 0.05)
    z += 0.035 * bump(0, identity.mouth_y, 0.22, 0.11)
    return cv2.GaussianBlur(z.astype(np.float32), (0, 0), 1.2)


def _normals(z: np.ndarray) -> np.ndarray:
    gy, gx = np.gradient(z, 1 / PIXELS_PER_UNIT)
    normals = np.stack([-gx, -gy, np.ones_like(z)], axis=-1)
    return normals / np.linalg.norm(normals, axis=-1, keepdims=True)


def _light(normals: np.ndarray, light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Lambert shading and the specular highlight, each ``(S, S)``."""
    halfway = light + np.array([0, 0, 1], dtype=np.float32)
    halfway /= np.linalg.norm(halfway)
    return np.clip(normals @ light, 0, 1), 0.11 * np.clip(normals @ halfway, 0, 1) ** 24


def _albedo(identity: Identity, grain: np.ndarray) -> np.ndarray:
    skin = np.broadcast_to(np.array(identity.skin, dtype=np.float32), (SIDE, SIDE, 3)).copy()
    ex, ey, w = identity.eye_x, identity.eye_y, identity.nose_width
    tip = 0.165 + identity.nose_length * 0.45
    rosy = bump(-0.4, 0.25, 0.16, 0.12) + bump(0.4, 0.25, 0.16, 0.12) + 0.7 * bump(0, tip - 0.05, 0.09, 0.07)
    skin *= 1 - rosy[..., None] * np.array([0.0, 0.10, 0.09], dtype=np.float32)
    for side in (-1, 1):
        skin *= 1 - (0.08 + 0.10 * identity.age) * bump(side * ex, ey + 0.085, 0.11, 0.035)[..., None]
        skin *= 1 - 0.55 * bump(side * 0.058 * w, tip + 0.004, 0.026, 0.014)[..., None]  # nostril
        wing = _stroke(side * 0.118 * w, tip - 0.055, side * 0.108 * w, tip + 0.012, 0.016, bow=side * 0.012)
        skin *= 1 - 0.26 * wing[..., None]
        fold = _stroke(side * 0.15, tip - 0.03, side * 0.33, identity.mouth_y - 0.02, 0.018, bow=side * 0.03)
        skin *= 1 - (0.05 + 0.15 * identity.age) * fold[..., None]
        for k in range(3):  # beside the eye
            wrinkle = _stroke(side * (ex + 0.17), ey + 0.02 * k, side * (ex + 0.26), ey - 0.05 + 0.06 * k, 0.007)
            skin *= 1 - 0.16 * identity.age * wrinkle[..., None]
    for k in range(3):
        line = np.exp(-(((Y - ey + 0.30 + 0.075 * k - 0.03 * (X / 0.4) ** 2) / 0.008) ** 2)) * step(
            0.45, 0.25, np.abs(X)
        )
        skin *= 1 - 0.14 * identity.age * line[..., None]
    skin *= (1 + grain)[..., None]
    return _brows(identity, _beard(identity, skin, grain), grain)


def _stroke(x0: float, y0: float, x1: float, y1: float, width: float, bow: float = 0.0) -> np.ndarray:
    """Return a soft line ``(S, S)`` from one point to another, bent sideways by ``bow``."""
    dx, dy = x1 - x0, y1 - y0
    length = np.hypot(dx, dy)
    t = ((X - x0) * dx + (Y - y0) * dy) / length**2
    off = ((X - x0) * -dy + (Y - y0) * dx) / length + bow * np.sin(np.pi * np.clip(t, 0, 1)) * np.sign(dx or 1.0)
    return np.exp(-((off / width) ** 2)) * step(-0.05, 0.15, t) * step(1.05, 0.85, t)


def _beard(identity: Identity, skin: np.ndarray, grain: np.ndarray) -> np.ndarray:
    if identity.beard <= 0:
        return skin
    radius = np.sqrt((X / 0.62) ** 2 + ((Y - 0.05) / 0.95) ** 2)
    cheek = step(0.45, 0.75, radius) * step(0.22, 0.5, Y)
    upper_lip = bump(0, identity.mouth_y - 0.135, 0.17, 0.035) * 0.8
    clear = 1 - 0.9 * bump(0, identity.mouth_y + 0.02, 0.26, 0.09)
    density = np.clip(np.maximum(cheek * clear, upper_lip) * (1 + 6 * grain), 0, 1)
    return mix(skin, np.array(identity.hair) * 0.8 + 0.05, 0.6 * identity.beard * density)


def _brows(identity: Identity, skin: np.ndarray, grain: np.ndarray) -> np.ndarray:
    for side in (-1, 1):
        t = (X * side - identity.eye_x + 0.16) / 0.34
        centre = identity.eye_y - identity.brow_gap - identity.brow_arch * np.sin(np.clip(t * 1.15, 0, 1.3) * 2.4)
        hairs = 1 + 0.35 * np.sin((X * side * 1.0 - (Y - centre) * 1.6) * 170 + 20 * grain)
        thick = identity.brow_thick * (1.15 - 0.55 * np.clip(t, 0, 1))
        mask = np.exp(-(((Y - centre) / thick) ** 2)) * step(0, 0.10, t) * step(1.05, 0.80, t) * np.clip(hairs, 0, 1)
        skin = mix(skin, np.array(identity.hair) * 0.75, 0.9 * mask)
    return skin


def _hair_strands(identity: Identity, rng: np.random.Generator) -> np.ndarray:
    """Return the lightness of hair ``(S, S)`` around 1: strands that run down from the parting, or curls."""
    if identity.hair_style == "curly":
        curl = _noise(rng, 1.6) + 0.8 * _noise(rng, 3.5)
        return (1 + 0.22 * np.tanh(curl) + 0.05 * _noise(rng, 0.8)).astype(np.float32)
    sheet = rng.standard_normal((256, 1024)).astype(np.float32)
    fine = cv2.GaussianBlur(sheet, (0, 0), sigmaX=0.9, sigmaY=34)
    locks = cv2.GaussianBlur(sheet, (0, 0), sigmaX=5, sigmaY=40)
    strands = fine / fine.std() * 0.16 + locks / locks.std() * 0.16
    top_x = identity.parting if identity.hair_style in ("side", "long", "bob") else 0.0
    dx, dy = X - top_x, Y + identity.half_height + 0.30
    angle = np.arctan2(dx, dy) * (0.32 / np.pi) + 0.5
    angle += 0.015 * np.sin(5 * np.hypot(dx, dy) + 3 * np.sign(dx))
    radius = np.hypot(dx, dy)
    field = cv2.remap(
        strands,
        (angle * 1023).astype(np.float32),
        (radius * 110).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
    gloss = 0.28 * np.exp(-(((radius - 0.58 - 0.05 * field) / 0.12) ** 2))
    return (1 + field + gloss).astype(np.float32)


def _backdrop(identity: Identity, rng: np.random.Generator) -> np.ndarray:
    """Return an out-of-focus room ``(S, S, 3)``."""
    top, bottom = (np.array(colour, dtype=np.float32) for colour in identity.background)
    blend = step(-1.3, 1.3, Y + 0.4 * rng.uniform(-1, 1) * X)
    room = top + blend[..., None] * (bottom - top)
    for _ in range(7):
        cx, cy = rng.uniform(-1.2, 1.2, 2)
        w, h = rng.uniform(0.1, 0.45, 2)
        shape = step(0.12, -0.12, np.maximum(np.abs(X - cx) - w, np.abs(Y - cy) - h))
        room = room * (1 + shape[..., None] * rng.uniform(-0.28, 0.28, 3).astype(np.float32))
    return room


def _compose(
    identity: Identity,
    albedo: np.ndarray,
    shade: np.ndarray,
    glint: np.ndarray,
    strands: np.ndarray,
    backdrop: np.ndarray,
) -> np.ndarray:
    """Stack room, back hair, neck, shirt, ears, face, front hair and glasses: ``(S, S, 3)``."""
    skin, hair = np.array(identity.skin, dtype=np.float32), np.array(identity.hair, dtype=np.float32)
    hair_lit = hair * (strands * (0.50 + 0.50 * shade))[..., None]
    out = mix(backdrop, hair_lit * 0.72, _back_hair(identity, strands))
    neck_edge = 0.40 * identity.half_width / 0.7 + 0.06 * step(0.85, 1.25, Y)
    neck = step(0.025, -0.025, np.abs(X) - neck_edge) * step(0.5, 0.6, Y)
    chin_shadow = 0.50 + 0.28 * step(0.95, 1.25, Y) - 0.15 * (np.abs(X) / 0.45) ** 2
    out = mix(out, skin * chin_shadow[..., None], neck)
    collar = step(0.0, 0.03, Y - (1.06 + 0.30 * X**2 - 0.10 * np.exp(-((np.abs(X) - 0.42) ** 2) / 0.02)))
    cloth = (
        np.array(identity.shirt)
        * (0.75 - 0.25 * np.abs(X) + 0.12 * np.sin(X * 9 + Y * 4) * step(1.0, 1.2, Y))[..., None]
    )
    out = mix(out, cloth, collar)
    for side in (-1, 1):
        ear = np.sqrt(((X - side * identity.half_width * 0.99) / 0.085) ** 2 + ((Y - 0.0) / 0.17) ** 2)
        inner = np.sqrt(((X - side * identity.half_width * 1.02) / 0.045) ** 2 + ((Y + 0.01) / 0.10) ** 2)
        colour = skin * (0.74 - 0.22 * step(1.0, 0.4, inner))[..., None] * np.array([1.0, 0.95, 0.94], dtype=np.float32)
        out = mix(out, colour, step(1.1, 0.92, ear))
    face = step(1.012, 0.985, _face_radius(identity))
    out = mix(out, albedo * shade[..., None] + glint[..., None], face)
    out = mix(out, hair_lit, _front_hair(identity, strands))
    return _glasses(identity, out) if identity.glasses else out


def _back_hair(identity: Identity, strands: np.ndarray) -> np.ndarray:
    """Return the mask of the hair behind the face."""
    style = identity.hair_style
    volume = {"short": 0.09, "side": 0.12, "crop": 0.045, "curly": 0.16, "receding": 0.05}.get(style, 0.13)
    rough = (0.30 if style == "curly" else 0.10) * (strands - 1) * volume / 0.1
    across, along = (
        np.abs(X) / (identity.half_width + volume),
        np.abs(Y + 0.10) / (identity.half_height + volume * 0.75 - 0.08),
    )
    cap = (across**2.5 + along**2.5) ** (1 / 2.5)
    mask = step(1.02, 0.98, cap + rough * 0.25)
    if style in ("long", "bob"):
        length = 1.35 if style == "long" else 0.62
        width = identity.half_width + 0.16 + 0.06 * np.sin(2.2 * (Y + 0.3))
        fall = step(0.02, -0.02, np.abs(X) - width + 0.06 * (strands - 1)) * step(-0.25, -0.1, Y)
        return np.maximum(mask, fall * step(length + 0.05, length - 0.05, Y + 0.08 * (strands - 1)))
    ends = 0.28 if style in ("side", "curly") else 0.10
    return mask * step(ends, ends - 0.25, Y + 0.15 * (strands - 1))


def _front_hair(identity: Identity, strands: np.ndarray) -> np.ndarray:
    """Return the mask of the hair over the forehead and temples."""
    style, side = identity.hair_style, np.abs(X) / identity.half_width
    line = identity.hairline + 0.26 * np.clip(side, 0, 1.0) ** 3.0
    if style in ("side", "bob"):
        line = line + 0.13 * np.tanh((X / np.sign(identity.parting) - abs(identity.parting)) * -3.0) * (side < 1.2)
    if style == "long":
        line = line - 0.12 + 0.42 * np.clip(np.abs(X - identity.parting) / identity.half_width, 0, 1.2) ** 1.6
    if style == "receding":
        line = line - 0.16 * np.exp(-(((side - 0.55) / 0.28) ** 2)) + 0.05 * np.exp(-((side / 0.2) ** 2))
    rough = (0.20 if style == "curly" else 0.13) * (strands - 1)
    feather = 0.05 if style in ("crop", "receding") else 0.03
    inside = np.maximum(step(1.03, 0.97, _face_radius(identity)), _back_hair(identity, strands) * step(-0.45, -0.6, Y))
    mask = step(feather, -feather, Y - line - rough) * inside
    burns = step(0.90, 0.97, _face_radius(identity)) * step(0.05, -0.15, Y + rough) * inside
    return np.maximum(mask, burns * (0.0 if style in ("tied", "receding") else 0.85))


def _glasses(identity: Identity, picture: np.ndarray) -> np.ndarray:
    rim = np.zeros_like(X)
    for side in (-1, 1):
        u, v = (X - side * (identity.eye_x + 0.005)) / 0.205, (Y - identity.eye_y - 0.02) / 0.155
        lens = (np.abs(u) ** 3 + np.abs(v) ** 3) ** (1 / 3)
        rim = np.maximum(rim, np.exp(-(((lens - 1) / 0.075) ** 2)))
        arm = np.exp(-(((Y - identity.eye_y + 0.03) / 0.014) ** 2)) * (X * side > identity.eye_x + 0.20)
        rim = np.maximum(rim, arm * step(identity.half_width + 0.03, identity.half_width, np.abs(X)))
    bridge = np.exp(-(((Y - identity.eye_y + 0.03 - 0.02 * np.cos(X * 14)) / 0.013) ** 2)) * (
        np.abs(X) < identity.eye_x - 0.20
    )
    return mix(picture, (0.10, 0.09, 0.09), 0.9 * np.maximum(rim, bridge))
