# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A shaded head in three dimensions that moves as the codes say: the one of this package, or a user's mesh.

Axes: ``F`` frames of motion, ``V`` vertices, ``K`` controls.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from espnet_av.avgen.render.head_angles import head_angles
from espnet_av.avgen.render.head_mesh import EYE, NUM_ANGLES, FaceMesh, build_head, surface
from espnet_av.utils.errors import DataError, describe

if TYPE_CHECKING:
    from espnet_av.avgen.output import Generated
    from espnet_av.avgen.score_files import FaceBasis

SIZE, FINER = 288, 2  # pixels of a picture; it is drawn so many times larger
LIGHT = np.array((-0.45, -0.55, 0.85)) / np.linalg.norm((-0.45, -0.55, 0.85))
DISTANCE = 5.0  # of the viewer, in halves of a face
SHIFT = 4  # bits behind the point in coordinates of polygons
MAX_TURN, MAX_MOVE = 0.6, 0.25
LIMITS = {"opening": (0.0, 1.1), "width": (-1.0, 1.0), "gaze_x": (-1.0, 1.0), "gaze_y": (-1.0, 1.0)}
BACKDROP = ((0.89, 0.91, 0.94), (0.70, 0.75, 0.82))
SHIRT, WHITE, IRIS, DARK = (0.27, 0.38, 0.52), (0.97, 0.96, 0.95), (0.30, 0.42, 0.46), (0.10, 0.07, 0.07)
THROAT, TEETH, TONGUE = (0.22, 0.06, 0.07), (0.93, 0.91, 0.86), (0.72, 0.34, 0.34)
EAR, EAR_INSIDE = (0.88, 0.67, 0.58), (0.77, 0.54, 0.47)
LID, BROW, LASH = (0.86, 0.67, 0.58), (0.24, 0.16, 0.11), (0.16, 0.10, 0.08)


class MeshFace:
    """Draw a head as a mesh.

    Args:
        face_basis: What face codes mean; controls are found by their names, what is not named keeps still.
        mesh: Of a user; None: the head of this package.

    Raises:
        DataError: Nothing is known of the codes that the mesh could follow.
    """

    def __init__(self, face_basis: "FaceBasis | None", mesh: FaceMesh | None = None) -> None:
        self.own = mesh is None
        self.mesh = build_head() if mesh is None else mesh
        if self.mesh.names and (face_basis is None or face_basis.column("opening") is None):
            names = None if face_basis is None else list(face_basis.names)
            fix = "pass --face_basis FILE.npz, or a --mesh with shapes for the values of the code"
            raise DataError(describe("the mesh needs to know which control opens the mouth", names, fix=fix))
        self.face_basis = face_basis
        self._backdrop = _backdrop(SIZE * FINER)

    def __call__(self, sample: "Generated") -> Iterator[np.ndarray]:
        """Yield a picture ``(288, 288, 3)`` for each frame of the motion."""
        values = self._values(sample)
        turns, moves = head_motion(sample)
        extra = self._extra(sample) if self.own else None
        for index in range(len(sample.face)):
            control = None if extra is None else {name: float(track[index]) for name, track in extra.items()}
            yield self.draw(values[index], turns[index], moves[index], control)

    def draw(
        self, values: np.ndarray, turn: np.ndarray, move: np.ndarray, controls: dict[str, float] | None
    ) -> np.ndarray:
        """Return one picture.

        Args:
            values: Of the mesh's shapes, ``(K,)``.
            turn: Yaw, pitch and roll in rad.
            move: To the right, down and nearer, in halves of a face.
            controls: Of what is no part of the mesh: eyes, teeth and tongue; None: there is no such thing.
        """
        camera = _Camera(turn, move)
        picture = self._backdrop.copy()
        vertices = self.mesh.moved(values)
        turned, flat = camera(vertices)
        if self.own:
            _draw_bust(picture, camera)
        corners = turned[self.mesh.faces]
        normals = _face_normals(corners)
        front = np.flatnonzero(normals[:, 2] > 0)
        light = _shade(_smooth(normals, self.mesh, len(vertices), self.own), self.mesh.faces, self.own)
        colours = np.clip(self.mesh.colours * light[:, :1] + light[:, 1:], 0, 1) * 255
        order = front[np.argsort(corners[front, :, 2].mean(axis=1))]
        polygons = np.rint(flat[self.mesh.faces[order]] * 2**SHIFT).astype(np.int32)
        near = [camera.matrix[2, 0] * sign > 0.05 for sign in (-1.0, 1.0)]
        if controls is not None:
            _draw_ears(picture, camera, [side for side, shown in zip((-1.0, 1.0), near, strict=True) if not shown])
            _draw_inside(picture, camera, vertices, controls)
        for polygon, colour in zip(polygons, colours[order].tolist(), strict=True):
            cv2.fillConvexPoly(picture, polygon, colour, cv2.LINE_8, SHIFT)
        if controls is not None:
            _draw_ears(picture, camera, [side for side, shown in zip((-1.0, 1.0), near, strict=True) if shown])
            _draw_eyes(picture, camera, controls)
        return cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_AREA)

    def _values(self, sample: "Generated") -> np.ndarray:
        if not self.mesh.names:
            if sample.face.shape[1] != len(self.mesh.shapes):
                what = "the mesh has another number of shapes than the face code values"
                raise DataError(describe(what, len(self.mesh.shapes), sample.face.shape[1]))
            return sample.face
        return np.stack([self._track(sample, name) for name in self.mesh.names], axis=1)

    def _track(self, sample: "Generated", name: str) -> np.ndarray:
        basis = self.face_basis
        column = None if basis is None else basis.column(name)
        if basis is None or column is None:
            return np.zeros(len(sample.face))
        return basis.controls(sample.face)[:, column].clip(*LIMITS.get(name, (0.0, 1.0)))

    def _extra(self, sample: "Generated") -> dict[str, np.ndarray]:
        names = ("opening", "teeth", "tongue", "blink", "gaze_x", "gaze_y", "brow", "smile")
        return {name: self._track(sample, name) for name in names}


def head_motion(sample: "Generated") -> tuple[np.ndarray, np.ndarray]:
    """Return yaw, pitch and roll ``(F, 3)``, and shifts from the middle position ``(F, 3)``.

    Both are 0 where only joint angles are known.
    """
    rotation, shift = sample.head_R, sample.head_t
    if rotation is None or shift is None:
        return np.zeros((len(sample.face), 3)), np.zeros((len(sample.face), 3))
    moves = shift - np.median(shift, axis=0)
    return head_angles(rotation).clip(-MAX_TURN, MAX_TURN), moves.clip(-MAX_MOVE, MAX_MOVE)


class _Camera:
    """Turns and shifts points of the head, and puts them into the picture."""

    def __init__(self, turn: np.ndarray, move: np.ndarray) -> None:
        (cy, cp, cr), (sy, sp, sr) = np.cos(turn), np.sin(turn)
        yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        pitch = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
        roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        self.matrix, self.move = roll @ yaw @ pitch, move

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return points ``(..., 3)`` turned, and their places in the picture ``(..., 2)``."""
        pivot = np.array((0.0, 0.55, -0.35))
        turned = (points - pivot) @ self.matrix.T + pivot + self.move
        return turned, self.place(turned)

    @staticmethod
    def place(points: np.ndarray) -> np.ndarray:
        """Return where points lie in the picture."""
        scale = SIZE * FINER * 0.36 * DISTANCE / (DISTANCE - points[..., 2:])
        return points[..., :2] * scale + SIZE * FINER * np.array((0.5, 0.46))


def _face_normals(corners: np.ndarray) -> np.ndarray:
    """Return unit normals ``(F, 3)``, toward the viewer where a face is seen from outside."""
    four = corners.shape[1] == 4
    first = corners[:, 2] - corners[:, 0] if four else corners[:, 1] - corners[:, 0]
    normals = np.cross(first, corners[:, 3] - corners[:, 1] if four else corners[:, 2] - corners[:, 0])
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _smooth(normals: np.ndarray, mesh: FaceMesh, num_vertices: int, own: bool) -> np.ndarray:
    """Return normals of vertices; of the own head, of faces averaged with their neighbours."""
    if own:
        grid = normals.reshape(-1, NUM_ANGLES, 3)
        summed = grid + 0.7 * (np.roll(grid, 1, axis=1) + np.roll(grid, -1, axis=1))
        padded = np.concatenate((summed[:1], summed, summed[-1:]))
        summed = summed + 0.7 * (padded[:-2] + padded[2:])
        found = summed.reshape(-1, 3)
    else:
        found = np.zeros((num_vertices, 3))
        for corner in mesh.faces.T:
            np.add.at(found, corner, normals)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)


def _shade(normals: np.ndarray, faces: np.ndarray, own: bool) -> np.ndarray:
    """Return factor and gloss of each face, ``(F, 2)``."""
    diffuse = np.clip(0.25 + 0.75 * (normals @ LIGHT), 0, 1)
    fill = np.clip(normals @ np.array((0.8, 0.1, 0.6)), 0, 1)
    half = LIGHT + np.array((0, 0, 1))
    gloss = 0.10 * np.clip(normals @ (half / np.linalg.norm(half)), 0, 1) ** 18
    found = np.stack((0.42 + 0.58 * diffuse + 0.12 * fill, gloss), axis=1)
    return found if own else found[faces].mean(axis=1)


def _backdrop(size: int) -> np.ndarray:
    down, across = np.mgrid[0:size, 0:size] / size
    far = np.clip(np.hypot(across - 0.45, down - 0.35) / 0.8, 0, 1)[..., None]
    low, high = (np.array(each) for each in BACKDROP)
    return np.ascontiguousarray(np.rint((low + far * (high - low)) * 255).astype(np.uint8))


def _fill(picture: np.ndarray, points: np.ndarray, colour: Sequence[float]) -> None:
    polygon = np.rint(points * 2**SHIFT).astype(np.int32)
    cv2.fillPoly(picture, [polygon], [255 * value for value in colour], cv2.LINE_AA, SHIFT)


def _line(picture: np.ndarray, points: np.ndarray, colour: Sequence[float], width: float) -> None:
    path = np.rint(points * 2**SHIFT).astype(np.int32)
    rgb = [255 * value for value in colour]
    cv2.polylines(picture, [path], False, rgb, max(1, round(width * FINER)), cv2.LINE_AA, SHIFT)


def _curve(points: Sequence[tuple[float, float]], num: int = 24) -> np.ndarray:
    """Return a smooth line through three points."""
    first, middle, last = (np.array(point) for point in points)
    share = np.linspace(0, 1, num)[:, None]
    control = 2 * middle - 0.5 * (first + last)
    return (1 - share) ** 2 * first + 2 * share * (1 - share) * control + share**2 * last


def _draw_bust(picture: np.ndarray, camera: _Camera) -> None:
    """Draw neck and shoulders, which follow the head a little."""
    sway = 0.4 * camera.move * (1, 1, 0)
    side = np.array([(0.40, 0.60), (0.36, 1.02), (0.44, 1.14), (0.92, 1.30), (1.25, 1.5), (1.35, 1.9)])
    neck = np.concatenate((side[:3], [(0.0, 1.34)], side[2::-1] * (-1, 1)))
    shirt = np.concatenate((side[2:], side[:1:-1] * (-1, 1), [(0.0, 1.36)]))
    for points, colour, depth in ((shirt, SHIRT, -0.45), (neck, (0.76, 0.58, 0.49), -0.35)):
        flat = np.concatenate((points, np.full((len(points), 1), depth)), axis=1)
        _fill(picture, camera.place(flat + sway), colour)
    angle = np.linspace(0, 2 * np.pi, 40)
    chin = np.stack((0.42 * np.cos(angle), 0.94 + 0.17 * np.sin(angle), np.full(40, -0.35)), axis=1)
    under = np.zeros(picture.shape[:2], np.uint8)
    _fill(under, camera.place(chin + sway), (1.0,))
    neck_mask = np.zeros_like(under)
    flat = np.concatenate((neck, np.full((len(neck), 1), -0.35)), axis=1)
    _fill(neck_mask, camera.place(flat + sway), (1.0,))
    share = cv2.GaussianBlur(under, (0, 0), 7.0).astype(np.float32) * (neck_mask > 127) / 255
    picture[:] = (picture * (1 - 0.35 * share[..., None])).astype(np.uint8)


def _draw_ears(picture: np.ndarray, camera: _Camera, sides: Sequence[float]) -> None:
    """Draw ears: behind the head where they turn away, over it where they turn to the viewer."""
    angle = np.linspace(0, 2 * np.pi, 36)
    for side in sides:
        for size, colour in ((1.0, EAR), (0.62, EAR_INSIDE)):
            back = -np.cos(angle)  # the rim stands off
            high = size * 0.17 * np.sin(angle) * (1 + 0.15 * np.sin(angle - 0.4))
            points = np.stack((side * (0.72 + 0.095 * size * (1 + back) / 2), high, -0.1 - 0.1 * size * back), axis=1)
            _fill(picture, camera(points)[1], colour)


def _draw_inside(picture: np.ndarray, camera: _Camera, vertices: np.ndarray, controls: dict[str, float]) -> None:
    """Draw what an open mouth shows; the lips are drawn over it."""
    edge = vertices[:NUM_ANGLES]
    top, bottom = edge[:, 1].min(), edge[:, 1].max()
    half, depth = edge[:, 0].max() * 1.05, float(edge[:, 2].mean()) - 0.06
    open_by = max(bottom - top, 0.0)

    def oval(middle: float, wide: float, high: float, z: float) -> np.ndarray:
        angle = np.linspace(0, 2 * np.pi, 40)
        points = np.stack((wide * np.cos(angle), middle + high * np.sin(angle), np.full(40, z)), axis=1)
        return camera(points)[1]

    _fill(picture, oval((top + bottom) / 2, half, open_by / 2 + 0.03, depth - 0.05), THROAT)
    if open_by < 0.012:
        return
    tongue = 0.35 + 0.65 * controls["tongue"]
    _fill(picture, oval(bottom + 0.015, 0.6 * half, 0.55 * open_by * tongue, depth - 0.02), TONGUE)
    seen = min(0.075, 0.25 * open_by + 0.06 * controls["teeth"])
    x = np.linspace(-0.8 * half, 0.8 * half, 30)
    upper = top + 0.012 + 0.25 * open_by * (x / half) ** 2
    lower = upper + seen * np.sqrt(np.clip(1 - (x / (0.84 * half)) ** 4, 0, 1))
    strip = np.concatenate((np.stack((x, upper - 0.05), 1), np.stack((x, lower), 1)[::-1]))
    points = np.concatenate((strip, np.full((len(strip), 1), depth)), axis=1)
    _fill(picture, camera(points)[1], TEETH)


def _draw_eyes(picture: np.ndarray, camera: _Camera, controls: dict[str, float]) -> None:
    """Draw eyes, lids and brows on the face."""
    shut = controls["blink"]
    lift, squint = -0.075 * controls["brow"], 0.02 * controls["smile"]
    for sign in (-1.0, 1.0):

        def on_face(points: np.ndarray, above: float = 0.0, sign: float = sign) -> np.ndarray:
            x, y = sign * points[:, 0], points[:, 1]
            depth = np.full(len(x), float(surface(np.array(sign * EYE[0]), np.array(EYE[1])))) + 0.05 + above
            return camera(np.stack((x, y, depth - 0.35 * (points[:, 0] - EYE[0]) ** 2), axis=1))[1]

        inner, outer = (EYE[0] - 0.118, EYE[1] + 0.014), (EYE[0] + 0.122, EYE[1] - 0.004)
        low = EYE[1] + 0.062 - squint
        high = (EYE[1] - 0.078) * (1 - shut) + (low - 0.012) * shut
        upper, under = _curve((inner, (EYE[0], high), outer)), _curve((inner, (EYE[0], low), outer))
        crease = _curve((inner, (EYE[0], EYE[1] - 0.088), outer))
        _fill(picture, on_face(np.concatenate((crease, under[::-1]))), LID)
        opened = on_face(np.concatenate((upper, under[::-1])))
        _draw_ball(picture, opened, on_face, (sign * controls["gaze_x"], controls["gaze_y"]))
        _line(picture, on_face(under), (0.72, 0.50, 0.44), 0.8)
        _line(picture, on_face(upper), LASH, 2.2)
        _line(picture, on_face(crease + (0, -0.012)), (0.74, 0.54, 0.46), 0.8)
        start, middle, end = (0.13, -0.335), (0.29, -0.405), (0.44, -0.325)
        brow = _curve([(x, y + lift) for x, y in (start, middle, end)])
        thick = 0.024 * np.sin(np.linspace(0.5, np.pi, len(brow)))[:, None] * (0, 1) + (0, 0.004)
        depth = np.concatenate((brow - thick, (brow + thick)[::-1]))
        where = np.stack((sign * depth[:, 0], depth[:, 1], surface(depth[:, 0], depth[:, 1]) + 0.01), axis=1)
        _fill(picture, camera(where)[1], BROW)


def _draw_ball(
    picture: np.ndarray, opened: np.ndarray, on_face: Callable[[np.ndarray], np.ndarray], gaze: tuple[float, float]
) -> None:
    """Draw the eyeball where the lids are open."""
    low = np.maximum(np.floor(opened.min(axis=0)).astype(int) - 2, 0)
    high = np.minimum(np.ceil(opened.max(axis=0)).astype(int) + 3, picture.shape[1::-1])
    if (high - low < 2).any():
        return
    part = picture[low[1] : high[1], low[0] : high[0]]
    mask = np.zeros(part.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.rint((opened - low) * 2**SHIFT).astype(np.int32)], 255, cv2.LINE_AA, SHIFT)
    ball = np.full_like(part, np.rint(np.array(WHITE) * 255).astype(np.uint8))
    angle = np.linspace(0, 2 * np.pi, 32)
    ring = np.stack((np.cos(angle), np.sin(angle)), axis=1)
    middle = np.array((EYE[0] + 0.045 * gaze[0], EYE[1] - 0.008 + 0.022 * gaze[1]))
    for radius, colour in ((0.073, (0.17, 0.24, 0.27)), (0.066, IRIS), (0.032, DARK)):
        _fill(ball, on_face(middle + radius * ring) - low, colour)
    _fill(ball, on_face(middle + (-0.022, -0.024) + 0.013 * ring) - low, (1, 1, 1))
    shadow = np.linspace(0.78, 1.0, max(2, len(ball) // 2))
    ball[: len(shadow)] = (ball[: len(shadow)] * shadow[:, None, None]).astype(np.uint8)
    share = mask[..., None].astype(np.float32) / 255
    part[:] = np.rint(part + share * (ball.astype(np.float32) - part)).astype(np.uint8)
