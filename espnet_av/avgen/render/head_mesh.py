# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A head as a mesh with shapes for each control, and meshes that users bring.

The head is made of rings around the mouth, from the edge of the lips to the outline of the face and on to the back of
the skull. x goes to the right of the picture, y down, z to the viewer; 1 is half the height of the face.

Axes: ``V`` vertices, ``F`` faces, ``K`` controls or values of a code.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_av.utils.errors import DataError, MissingDataError, describe

NUM_ANGLES, NUM_LIP, NUM_FACE = 96, 6, 44
MOUTH = (0.0, 0.46)  # its middle
MOUTH_HALF = 0.25
EYE = (0.275, -0.17)  # of the right side of the picture
BACK = ((0.995, -0.14), (0.985, -0.3), (0.95, -0.5), (0.82, -0.72), (0.5, -0.9), (0.05, -0.96))  # radius, depth
SKIN, LIP, HAIR = (0.93, 0.75, 0.65), (0.80, 0.42, 0.42), (0.25, 0.16, 0.11)
GREY = (0.78, 0.76, 0.74)


@dataclass(frozen=True)
class FaceMesh:
    """A mesh that moves linearly.

    Attributes:
        vertices: At rest, float64 ``(V, 3)``.
        faces: Corners of each, int ``(F, 3)`` or ``(F, 4)``; clockwise in the picture, seen from outside.
        colours: RGB from 0 to 1 of each face, ``(F, 3)``.
        shapes: What a 1 of each control adds, ``(K, V, 3)``.
        names: Of the controls; empty: the shapes belong to the values of the face code, in their order.
    """

    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray
    shapes: np.ndarray
    names: tuple[str, ...] = ()

    def moved(self, values: np.ndarray) -> np.ndarray:
        """Return the vertices ``(V, 3)`` for values of the controls ``(K,)``."""
        return self.vertices + np.tensordot(values, self.shapes, axes=1)


def surface(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the depth of the resting face at places of the picture."""

    def bump(cx: float, cy: float, wx: float, wy: float) -> np.ndarray:
        return np.exp(-(((np.abs(x) - cx) / wx) ** 2) - ((y - cy) / wy) ** 2)

    z = 0.82 * np.sqrt(np.clip(1 - (x / 0.8) ** 2 - ((y + 0.02) / 1.06) ** 2, 0.0, 1.0))
    bridge = np.clip((y + 0.34) / 0.5, 0, 1) ** 1.3 * (1 - _step(0.16, 0.27, y))
    z += 0.24 * bridge * np.exp(-((x / (0.065 + 0.045 * np.clip(y + 0.2, 0, 1))) ** 2))
    z += 0.07 * bump(0.085, 0.16, 0.055, 0.06)  # wings of the nose
    z -= 0.075 * bump(EYE[0], EYE[1], 0.15, 0.10)
    z += 0.045 * bump(0.26, -0.36, 0.20, 0.08)  # brows
    z += 0.05 * bump(0.40, 0.10, 0.18, 0.17)  # cheeks
    z += 0.06 * bump(0.0, 0.86, 0.17, 0.10)  # chin
    z += 0.045 * bump(0.0, MOUTH[1], 0.26, 0.15)
    return z - 0.03 * bump(0.0, 0.66, 0.15, 0.05)


def build_head() -> FaceMesh:
    """Return the head of this package: controls by the names of ``visemes.ARTICULATION``, ``smile`` and ``brow``."""
    angle = 2 * np.pi * np.arange(NUM_ANGLES) / NUM_ANGLES
    cos, sin = np.cos(angle), np.sin(angle)
    rings, spread = _rings(cos, sin)
    vertices = np.concatenate(rings)
    hair = np.clip(_hairy(*vertices.T), 0, 1)[:, None]
    vertices = vertices + 0.055 * hair * vertices / np.linalg.norm(vertices, axis=1, keepdims=True)
    faces = _quads(len(rings))
    colours = _colours(vertices, faces)
    spread = np.repeat(spread, NUM_ANGLES)
    shapes = _shapes(vertices, spread, np.tile(cos, len(rings)), np.tile(sin, len(rings)))
    return FaceMesh(vertices, faces, colours, np.stack(list(shapes.values())), tuple(shapes))


def _rings(cos: np.ndarray, sin: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the rings from the lips outward, and how far out each is: 0 at the lips, 1 at the outline, more behind."""
    narrow = np.where(sin > 0, 1 - 0.16 * np.clip(sin, 0, 1) ** 2, 1.0)
    outline = np.stack((0.73 * np.sign(cos) * np.abs(cos) ** 0.9 * narrow, 0.99 * sin - 0.01), axis=1)
    bow = 0.012 * np.exp(-((np.abs(cos) - 0.22) ** 2) / 0.02)  # of Cupid
    thick = np.where(sin > 0, 0.088, 0.058 + bow) * np.abs(sin) ** 0.7
    rings, spread = [], []
    for step in range(NUM_LIP + 1):
        share = step / NUM_LIP
        x = (MOUTH_HALF + 0.03 * share) * cos
        y = MOUTH[1] + np.sign(sin) * thick * share
        swell = 0.035 * np.sin(np.pi * min(share, 0.85) / 0.85) * np.abs(sin) ** 0.5 - 0.015 * (1 - share)
        rings.append(np.stack((x, y, surface(x, y) + swell), axis=1))
        spread.append(0.0)
    lips = rings[-1][:, :2]
    for step in range(1, NUM_FACE + 1):
        share = (step / NUM_FACE) ** 1.15
        place = (1 - share) * lips + share * outline
        rings.append(np.concatenate((place, surface(*place.T)[:, None]), axis=1))
        spread.append(share)
    for radius, depth in BACK:
        low = np.where(outline[:, 1] > 0.2, 1 + 0.8 * depth * (outline[:, 1] - 0.2), 1.0)  # the jaw ends at the neck
        place = outline * radius * np.stack((np.ones_like(low), low), axis=1)
        rings.append(np.concatenate((place, np.full((len(place), 1), depth)), axis=1))
        spread.append(1.0)
    return rings, np.array(spread)


def _quads(num_rings: int) -> np.ndarray:
    ring, angle = np.meshgrid(np.arange(num_rings - 1), np.arange(NUM_ANGLES), indexing="ij")
    after = (angle + 1) % NUM_ANGLES
    corners = (ring, angle), (ring + 1, angle), (ring + 1, after), (ring, after)
    return np.stack([row * NUM_ANGLES + column for row, column in corners], axis=-1).reshape(-1, 4)


def _colours(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    x, y, z = vertices[faces].mean(axis=1).T
    number = np.arange(len(faces)) // NUM_ANGLES
    skin, lip, hair = (np.array(each) for each in (SKIN, LIP, HAIR))
    blush = 0.5 * np.exp(-(((np.abs(x) - 0.42) / 0.17) ** 2) - ((y - 0.16) / 0.15) ** 2)
    blush += 0.3 * np.exp(-((x / 0.09) ** 2) - ((y - 0.14) / 0.09) ** 2)
    colours = skin + blush[:, None] * (np.array((0.90, 0.58, 0.52)) - skin)
    fade = np.clip((number - NUM_LIP + 1.5) / 1.5, 0, 1)[:, None]
    colours = np.where(number[:, None] < NUM_LIP + 1, lip + fade * (colours - lip), colours)
    return colours + _step(0.0, 0.6, _hairy(x, y, z))[:, None] * (hair - colours)


def _hairy(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return how much hair grows at places of the head, 0 to 1."""
    top = -0.60 + 0.44 * np.clip(np.abs(x) / 0.74, 0, 1) ** 3
    return np.maximum(_step(-0.02, 0.08, top - y), _step(0.16, 0.30, -z) * _step(-0.5, -0.2, -y))


def _shapes(vertices: np.ndarray, spread: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> dict[str, np.ndarray]:
    """Return what each control does."""
    x, y, z = vertices.T
    zero = np.zeros_like(x)
    lower, upper = np.clip(sin, 0, None), np.clip(-sin, 0, None)
    near = np.exp(-spread / 0.16)
    front = np.where(z > -0.1, 1.0, np.clip((z + 0.6) / 0.5, 0, 1))
    jaw = lower**0.8 * (1 - 0.42 * spread) * front
    lips = np.exp(-spread / 0.05)
    side = np.sign(cos) * np.abs(cos) ** 1.5
    corner = np.abs(cos) ** 4 * np.exp(-spread / 0.22)
    thin = np.where(spread == 0, y - MOUTH[1], 0.0)
    brow = np.exp(-(((y + 0.40) / 0.13) ** 2)) * np.exp(-((x / 0.55) ** 4)) * front

    def move(dx: np.ndarray, dy: np.ndarray, dz: np.ndarray) -> np.ndarray:
        return np.stack((dx, dy, dz), axis=1)

    return {
        "opening": move(
            -0.035 * side * near, 0.25 * jaw - 0.03 * upper**0.8 * near, -0.05 * jaw - 0.02 * np.abs(cos) * near
        ),
        "width": move(0.075 * side * near, zero, -0.05 * np.abs(sin) ** 0.5 * near - 0.02 * near),
        "upper_raise": move(zero, -0.035 * upper**0.8 * lips, 0.02 * upper * lips),
        "lower_tuck": move(zero, -0.035 * lower**0.8 * lips, -0.05 * lower * lips),
        "press": move(zero, -0.4 * thin, -0.02 * lips),
        "smile": move(0.05 * side * near, -0.07 * corner - 0.02 * near * np.abs(cos), -0.03 * corner),
        "brow": move(zero, -0.07 * brow, 0.01 * brow),
    }


def _step(low: float, high: float, value: np.ndarray) -> np.ndarray:
    share = np.clip((value - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)


# -------------------------------------------------------------------- meshes of users


def read_mesh(path: str | os.PathLike) -> FaceMesh:
    """Read a mesh of a user.

    Args:
        path: ``NAME.obj`` with ``NAME.npz`` beside it, which holds ``shapes (K, V, 3)`` and perhaps ``names (K,)`` of
            controls; without names the shapes belong to the values of the face code. Or a ``.npz`` that holds
            ``vertices (V, 3)`` and ``faces (F, 3)`` too. ``mean (K,)``, if there, is taken off the values first.

    Raises:
        MissingDataError: A file is not there.
        DataError: It holds something else.
    """
    path = Path(path)
    obj = path.with_suffix(".obj") if path.suffix == ".obj" else None
    arrays = _read_arrays(path.with_suffix(".npz"))
    if obj is not None:
        arrays |= read_obj(obj)
    for name, dims in (("vertices", 2), ("faces", 2), ("shapes", 3)):
        if name not in arrays or arrays[name].ndim != dims:
            raise DataError(describe(f"{path} holds no {name}", sorted(arrays), "vertices, faces, shapes"))
    vertices, shapes = arrays["vertices"].astype(np.float64), arrays["shapes"].astype(np.float64)
    if shapes.shape[1:] != vertices.shape:
        raise DataError(describe(f"{path}: shapes do not fit the vertices", shapes.shape, ("K", *vertices.shape)))
    names = tuple(str(name) for name in arrays.get("names", ()))
    if names and len(names) != len(shapes):
        raise DataError(describe(f"{path}: a name for each shape is needed", len(names), len(shapes)))
    if "mean" in arrays:
        vertices = vertices - np.tensordot(arrays["mean"], shapes, axes=1)
    middle, scale = vertices.mean(axis=0), np.ptp(vertices[:, 1]) / 2
    faces = arrays["faces"].astype(np.int64)
    colours = np.tile(GREY, (len(faces), 1))
    turned = np.array((1.0, -1.0, 1.0)) / max(scale, 1e-9)  # up is down in pictures
    return FaceMesh((vertices - middle) * turned, faces[:, ::-1], colours, shapes * turned, names)


def read_obj(path: str | os.PathLike) -> Mapping[str, np.ndarray]:
    """Return ``vertices (V, 3)`` and triangles ``faces (F, 3)`` of a Wavefront file.

    Raises:
        MissingDataError: There is no such file.
        DataError: A line cannot be read, or a face names a vertex that is not there.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(describe("no mesh", str(path), fix="pass --mesh NAME.obj or NAME.npz"))
    vertices, faces = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        kind, *words = line.split() or [""]
        try:
            if kind == "v":
                vertices.append([float(word) for word in words[:3]])
            elif kind == "f":
                corners = [int(word.split("/")[0]) for word in words]
                corners = [corner - 1 if corner > 0 else len(vertices) + corner for corner in corners]
                faces += [[corners[0], *pair] for pair in zip(corners[1:], corners[2:], strict=False)]
        except ValueError as error:
            raise DataError(describe(f"{path}:{number}: cannot be read", line.strip())) from error
    found = {"vertices": np.array(vertices, dtype=np.float64), "faces": np.array(faces, dtype=np.int64)}
    if not vertices or not faces or found["faces"].max() >= len(vertices) or found["faces"].min() < 0:
        raise DataError(describe(f"{path} holds no mesh", (len(vertices), len(faces)), "v and f lines that fit"))
    return found


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise MissingDataError(describe("no shapes of the mesh", str(path), fix="write shapes (K, V, 3) into it"))
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error}); fix: make it again") from error
