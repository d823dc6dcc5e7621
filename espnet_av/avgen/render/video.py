# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Files of samples: sound, motion and mel as scoring reads them, and a video with the sample's own sound."""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from espnet_av.avgen.clock import SAMPLE_RATE
from espnet_av.avgen.render import Renderer
from espnet_av.avgen.score_files import AUDIO, MEL, MOTION
from espnet_av.utils.errors import usage_error
from espnet_av.utils.files import atomic_write

if TYPE_CHECKING:
    from espnet_av.avgen.output import Generated

VIDEO = "video.mp4"
MOST_IN_ROW = 4  # pictures of a grid


def write_sample(folder: str | os.PathLike, sample: "Generated", renderer: Renderer | None = None) -> list[Path]:
    """Write ``audio.wav``, ``motion.npz``, ``mel.npy`` and ``video.mp4``.

    Args:
        folder: Made when absent.
        sample: What was generated; without sound there is no ``audio.wav``.
        renderer: Draws the video; None: there is none.

    Returns:
        The files.
    """
    from espnet_av.data.audio_io import write_audio

    folder = Path(folder)
    write_motion(folder / MOTION, sample)
    with atomic_write(folder / MEL, "wb") as stream:
        np.save(stream, sample.mel, allow_pickle=False)
    files = [folder / MOTION, folder / MEL]
    if sample.wav is not None:
        write_audio(folder / AUDIO, sample.wav, SAMPLE_RATE)
        files.append(folder / AUDIO)
    if renderer is not None:
        write_sample_video(folder / VIDEO, sample, renderer)
        files.append(folder / VIDEO)
    return files


def write_motion(path: str | os.PathLike, sample: "Generated") -> None:
    """Write a ``.npz`` file of ``face``, ``fps``, and ``head_R`` and ``head_t``, or ``head`` where poses are angles."""
    motion: dict[str, Any] = {"face": sample.face, "fps": np.float32(sample.fps)}
    if sample.head_R is None:
        motion["head"] = sample.head
    else:
        motion |= {"head_R": sample.head_R, "head_t": sample.head_t}
    with atomic_write(path, "wb") as stream:
        np.savez(stream, **motion)


def write_sample_video(path: str | os.PathLike, sample: "Generated", renderer: Renderer) -> None:
    """Write the video of a sample with its own sound."""
    _write_video(path, renderer(sample), sample)


def write_grid_video(
    path: str | os.PathLike, samples: Sequence["Generated"], renderer: Renderer, sound_of: int = 0
) -> None:
    """Write samples of one input side by side, more than four in rows.

    Args:
        path: The video.
        samples: Of equal duration.
        renderer: Draws each.
        sound_of: Whose sound is heard.

    Raises:
        UsageError: There is no such sample, or the samples are of unequal duration.
    """
    if not 0 <= sound_of < len(samples):
        usage_error("there is no such sample", sound_of, f"0 to {len(samples) - 1}")
    if len({(len(sample.face), sample.fps) for sample in samples}) > 1:
        usage_error("a grid needs samples of one duration", [len(sample.face) for sample in samples])
    _write_video(path, _side_by_side([renderer(sample) for sample in samples]), samples[sound_of])


def _side_by_side(videos: Sequence[Iterator[np.ndarray]]) -> Iterator[np.ndarray]:
    columns = len(videos) if len(videos) <= MOST_IN_ROW else math.ceil(math.sqrt(len(videos)))
    for pictures in zip(*videos, strict=True):
        blank = [np.full_like(pictures[0], 255)] * (-len(pictures) % columns)
        cells = [*pictures, *blank]
        rows = [np.concatenate(cells[first : first + columns], axis=1) for first in range(0, len(cells), columns)]
        yield np.concatenate(rows)


def _write_video(path: str | os.PathLike, frames: Iterator[np.ndarray], sample: "Generated") -> None:
    from espnet_av.data.video_writer import write_video

    write_video(path, frames, sample.fps, sample.wav, SAMPLE_RATE, audio_bit_rate=96000)
