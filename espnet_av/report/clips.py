# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Clips of a data folder as the model gets them: waveform and mouth crops of one utterance."""

import functools
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.data.av_clock import DEFAULT_FPS, DEFAULT_SAMPLE_RATE, AVClock
from espnet_av.data.data_dir import DataDir
from espnet_av.data.types import open_table
from espnet_av.utils.errors import DataError

logger = logging.getLogger(__name__)
SOUND_TYPES = ("sound", "video_sound")
VIDEO_TYPES = ("video", "video_rgb", "video_npy", "video_npz")
# Where a folder without the file ``streams`` keeps its media.
USUAL_STREAMS = (("wav.scp", "sound"), ("mouth.scp", "video_npy"))


@dataclass(frozen=True)
class Clip:
    """One utterance.

    Attributes:
        wave: ``(N,)`` float32 in [-1, 1], or None.
        sample_rate: In Hz.
        frames: ``(T, H, W)`` or ``(T, H, W, 3)`` uint8, or None.
        fps: Frames per second.
    """

    wave: np.ndarray | None
    sample_rate: int
    frames: np.ndarray | None
    fps: float


class ClipReader:
    """Reads clips of one data folder; what cannot be read is absent with a warning, for a report must not fail.

    Args:
        data_dir: A folder of stage 3, e.g. ``dump/test``.
    """

    def __init__(self, data_dir: str | Path) -> None:
        self.folder = DataDir(data_dir)
        meta = self.folder.meta
        self.clock = AVClock(int(meta.get("sample_rate") or DEFAULT_SAMPLE_RATE), meta.get("fps") or DEFAULT_FPS)

    @functools.cached_property
    def sounds(self) -> Mapping[str, Any]:
        """Utterance id -> waveform ``(N,)``, read when asked for; empty without a sound stream."""
        return self._open(SOUND_TYPES)

    @functools.cached_property
    def videos(self) -> Mapping[str, Any]:
        """Utterance id -> frames ``(T, H, W[, 3])``, read when asked for; empty without a video stream."""
        return self._open(VIDEO_TYPES)

    def read(self, uid: str) -> Clip:
        """Read the sound and the mouth crops of an utterance."""
        wave, frames = self._get(self.sounds, uid), self.read_frames(uid)
        return Clip(wave, self.clock.sample_rate, frames, float(self.clock.fps))

    def read_frames(self, uid: str) -> np.ndarray | None:
        """Read only the mouth crops."""
        return self._get(self.videos, uid)

    def _get(self, table: Mapping[str, Any], uid: str) -> np.ndarray | None:
        if uid not in table:
            return None
        try:
            return np.asarray(table[uid])
        except (DataError, OSError) as error:
            logger.warning("%s is not shown in the report: %s", uid, error)
            return None

    def _open(self, kinds: Iterable[str]) -> Mapping[str, Any]:
        try:
            has_list = self.folder.has("streams")
            streams = [(item.file, item.type) for item in self.folder.streams] if has_list else USUAL_STREAMS
            for file, kind in streams:
                if kind in kinds and self.folder.has(file):
                    return open_table(str(self.folder / file), kind, self.clock)
        except DataError as error:
            logger.warning("%s has no clips for the report: %s", self.folder.path, error)
        return {}
