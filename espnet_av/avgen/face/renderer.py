# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A talking face from motion tracks: still texture, painted mouth and eyes, then one warp for jaw and head pose.

The same tracks, identity and ``render_seed`` give the same frames, bit for bit. Legend: T video frames, A = 7
articulation values, S side of the texture.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from espnet_av.avgen.face.features import EyePainter, MouthPainter
from espnet_av.avgen.face.identity import Identity
from espnet_av.avgen.face.texture import HALF, PIXELS_PER_UNIT, make_texture, step
from espnet_av.avgen.face.visemes import ARTICULATION, LOWER_TUCK, OPENING

FRAME_SIDE = 224
_COARSE = 4  # the warp is computed on a grid this much coarser than the frame
_SENSOR_NOISE = 1.1  # standard deviation in grey levels
_JAW_DROP = 0.105  # of the chin, at opening 1, in face units


@dataclass(frozen=True)
class MotionTracks:
    """All that moves: articulation ``(T, A)``, pose ``(T, 6)``, blink ``(T,)``, gaze ``(T, 2)``."""

    articulation: np.ndarray
    pose: np.ndarray
    blink: np.ndarray
    gaze: np.ndarray

    def rounded(self) -> "MotionTracks":
        """Return the tracks as they are stored (float16), so that a clip can be rendered again exactly."""
        return MotionTracks(*(value.astype(np.float16) for value in vars(self).values()))


class FaceRenderer:
    """Render clips of one identity.

    Args:
        identity: The face.
    """

    def __init__(self, identity: Identity) -> None:
        self._who = identity
        texture = make_texture(identity)
        self._pictures = texture.pictures
        self._mouth, self._eyes = MouthPainter(identity, texture), EyePainter(identity, texture)
        centre = (np.arange(FRAME_SIDE // _COARSE, dtype=np.float32) + 0.5) / (FRAME_SIDE // _COARSE) * 2 - 1
        self._u, self._v = np.meshgrid(centre * HALF, centre * HALF)
        pixels = (np.arange(FRAME_SIDE, dtype=np.float32) + 0.5) / FRAME_SIDE * 2 * HALF * PIXELS_PER_UNIT - 0.5
        self._base = np.stack(np.meshgrid(pixels, pixels), axis=-1)
        edge = np.maximum(np.abs(self._u), np.abs(self._v * (self._v < 0)))
        self._hold = step(HALF, 0.80, edge) * step(1.30, 0.90, self._v)  # the room behind and the shoulders stay
        rng = np.random.default_rng([identity.seed, 41])
        noise = rng.normal(0, _SENSOR_NOISE, (FRAME_SIDE + 64, FRAME_SIDE + 64, 3))
        self._noise = np.round(noise).astype(np.int16)

    def render(self, tracks: MotionTracks, render_seed: int) -> np.ndarray:
        """Render a clip.

        Args:
            tracks: The motion.
            render_seed: Seed of lighting drift and sensor noise.

        Returns:
            RGB frames, uint8 ``(T, 224, 224, 3)``.
        """
        num_frames = len(tracks.articulation)
        articulation = tracks.articulation.astype(np.float32)
        if articulation.shape[1] != len(ARTICULATION):
            raise ValueError(f"articulation must be (T, {len(ARTICULATION)}), got {articulation.shape}")
        rng = np.random.default_rng([render_seed, 51])
        light, offsets = self._lighting(num_frames, rng), rng.integers(0, 64, (num_frames, 2))
        frames = np.empty((num_frames, FRAME_SIDE, FRAME_SIDE, 3), dtype=np.uint8)
        for t in range(num_frames):
            picture = cv2.addWeighted(self._pictures[0], 1 - light[t], self._pictures[1], light[t], 0)
            self._eyes.paint(picture, float(tracks.blink[t]), tracks.gaze[t], light[t])
            self._mouth.paint(picture, articulation[t], light[t])
            warp = self._warp(articulation[t], tracks.pose[t].astype(np.float32))
            # a map of pairs (x, y) goes without a second map, which OpenCV's stubs do not know
            frame = cv2.remap(picture, warp, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
            top, left = offsets[t]
            noise = self._noise[top : top + FRAME_SIDE, left : left + FRAME_SIDE]
            cv2.add(frame, noise, dst=frames[t], dtype=cv2.CV_8U)
        return frames

    def _lighting(self, num_frames: int, rng: np.random.Generator) -> list[float]:
        """Return how far the light has gone over to the second direction, in 0..1."""
        times = np.arange(num_frames) / 25
        slow = np.sin(2 * np.pi * rng.uniform(0.05, 0.15) * times + rng.uniform(0, 2 * np.pi))
        return [float(value) for value in 0.5 + 0.4 * slow + 0.01 * rng.standard_normal(num_frames)]

    def _warp(self, articulation: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """Return where in the texture (pixels) each pixel of the frame comes from, float32 ``(224, 224, 2)``."""
        roll, shift_x, shift_y, scale, yaw, pitch = (float(value) for value in pose)
        zoom = self._who.zoom * scale
        cos, sin = np.cos(roll) / zoom, np.sin(roll) / zoom
        u, v = self._u - shift_x, self._v - shift_y
        x, y = cos * u + sin * v, -sin * u + cos * v
        depth = np.clip(1 - (x / 0.85) ** 2 - (y / 1.1) ** 2, 0, 1)
        x, y = x - yaw * depth, y - pitch * depth
        drop = _JAW_DROP * max(0.0, float(articulation[OPENING])) * (1 - 0.6 * float(articulation[LOWER_TUCK]))
        my, fh = self._who.mouth_y, self._who.half_height
        jaw = step(my + 0.02, my + 0.40, y) * step(fh + 0.22, fh + 0.02, y)
        y = y - drop * jaw * np.exp(-((x / 0.75) ** 4))
        away = np.stack([x - self._u, y - self._v], axis=-1) * (self._hold * PIXELS_PER_UNIT)[..., None]
        return self._base + cv2.resize(
            away.astype(np.float32), (FRAME_SIDE, FRAME_SIDE), interpolation=cv2.INTER_LINEAR
        )
