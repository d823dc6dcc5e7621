# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Sound and pictures as bytes that a page can carry: FLAC, H.264, PNG, and their ``data:`` addresses."""

import base64
import io
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from espnet_av.utils.optional import require

MEL_BANDS = 48
WINDOW_SEC = 0.032
HOP_SEC = 0.010
FLOOR = 1e-10


def data_uri(content: bytes, media_type: str) -> str:
    """Return ``content`` as a ``data:`` address, so that the page needs no other file."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def flac_bytes(wave: np.ndarray, sample_rate: int) -> bytes:
    """Return a waveform ``(N,)`` in [-1, 1] as 16-bit FLAC, which all current browsers play."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(wave, -1.0, 1.0), sample_rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def mp4_bytes(frames: np.ndarray, wave: np.ndarray | None, sample_rate: int, fps: float) -> bytes:
    """Return frames ``(T, H, W[, 3])`` uint8 and their sound ``(N,)`` as an H.264 clip; odd sizes lose a line."""
    from espnet_av.data.video_io import write_video

    even = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, even, fps=fps, audio=wave, sample_rate=sample_rate, crf=23)
        return path.read_bytes()


def png_bytes(image: np.ndarray) -> bytes:
    """Return a picture ``(H, W)`` or ``(H, W, 3)`` uint8 as PNG."""
    picture = require("PIL.Image", "report").fromarray(np.ascontiguousarray(image))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def log_mel(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return the log-mel spectrogram of a waveform ``(N,)`` in dB, ``(48, frames)``: 32 ms windows every 10 ms."""
    from scipy.signal import stft

    from espnet_av.avsr.features import mel_filterbank

    size = 2 ** math.ceil(math.log2(WINDOW_SEC * sample_rate))
    window = round(WINDOW_SEC * sample_rate)
    padded = np.pad(wave, (0, max(0, window - len(wave))))
    hop = round(HOP_SEC * sample_rate)
    _, _, spectrum = stft(padded, sample_rate, "hann", window, window - hop, 2 * size)
    return 10.0 * np.log10(mel_filterbank(MEL_BANDS, 2 * size, sample_rate) @ np.abs(spectrum) ** 2 + FLOOR)


def contact_sheet(images: Sequence[np.ndarray], columns: int = 12, gap: int = 2) -> np.ndarray:
    """Arrange gray pictures of one size ``(H, W)`` on a white sheet, row by row; other sizes are cut or padded."""
    height, width = images[0].shape[:2]
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        part = image[:height, :width]
        sheet[top : top + part.shape[0], left : left + part.shape[1]] = part
    return sheet
