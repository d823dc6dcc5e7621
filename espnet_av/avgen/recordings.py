# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""One recording of an actor on disk, and stretches of its streams on the clock of the mel.

Nothing is read whole: arrays are memory-mapped, of sound only the samples of a stretch are read. A stretch equals the
same frames of the whole recording.

Axes: ``N`` frames of motion, ``M`` token frames, ``T`` frames at the mel rate, ``D`` values of a frame.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_av.avgen.clock import (
    HOP_LENGTH,
    MEL_RATE,
    MOTION_RATE,
    REFERENCE_MEL_RATE,
    SAMPLE_RATE,
    TOKEN_SAMPLE_RATE,
    mel_frames,
    sample_at,
    token_frames,
)
from espnet_av.avgen.gap_repair import Gaps, find_gaps
from espnet_av.data.types import load_npy
from espnet_av.utils.errors import DataError, MissingDataError, describe

MOST_DRIFT_SEC = 0.1  # between the ends of sound and motion
_TOKEN_DRIFT, _TOKEN_DRIFT_SHARE = 2, 0.001  # frames that extractors may lose


@dataclass(frozen=True)
class Recording:
    """The files of one recording.

    Attributes:
        uid: Its id.
        wav: Sound; the first channel is the actor, the second the partner.
        face: ``.npy`` of face codes ``(N, D)``.
        head: ``.npy`` of poses ``(N, 3, 4)``, vectors ``(N, 7)`` or angles ``(N, 4)``, or of wider body poses.
        tokens: ``.npy`` of tokens, ``(M, 29)`` or for each channel ``(C, M, 29)``; None where there are none yet.
        missing: ``.npy`` of the numbers of frames whose face was lost; None: none.
        other_expression: ``.npy`` of the partner's expression, ``(N, 55)``.
        other_head: ``.npy`` of the partner's head, ``(N, 3)``.
        text: What the actor says; None where it is not known.
        fps: Rate of the motion in Hz.
        columns: First column and the one behind the last of ``head``; None: all.
    """

    uid: str
    wav: str
    face: str
    head: str
    tokens: str | None = None
    missing: str | None = None
    other_expression: str | None = None
    other_head: str | None = None
    text: str | None = None
    fps: float = MOTION_RATE
    columns: tuple[int, int] | None = None

    @property
    def has_partner(self) -> bool:
        """Whether the partner's face is known."""
        return self.other_expression is not None and self.other_head is not None


@dataclass(frozen=True)
class Extent:
    """How long the streams of a recording are.

    Attributes:
        samples: Of the sound, at ``rate``.
        rate: In Hz.
        channels: Of the sound.
        motion: Frames N.
        tokens: Frames M.
        frames: Frames T that all streams reach.
        ratio: Mel frames of a frame of motion.
        token_ratio: Mel frames of a token frame.
    """

    samples: int
    rate: int
    channels: int
    motion: int
    tokens: int
    frames: int
    ratio: float
    token_ratio: float


def measure(recording: Recording, *, reference_compat: bool = False) -> Extent:
    """Look at the headers of a recording's files.

    Args:
        recording: The recording.
        reference_compat: Use the rounded frame rate of the published system.

    Raises:
        MissingDataError: A file is not there.
        DataError: Streams have other shapes, or differ in length.
    """
    import soundfile

    if recording.tokens is None or not Path(recording.tokens).is_file():
        fix = "run the stage that extracts tokens, or check token_dir"
        raise MissingDataError(describe(f"'{recording.uid}' has no tokens", recording.tokens, fix=fix))
    try:
        sound = soundfile.info(recording.wav)
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        raise DataError(f"{recording.wav}: cannot be read as sound ({error}); fix: drop the recording") from error
    face, head, tokens = (load_npy(path) for path in (recording.face, recording.head, recording.tokens))
    if face.ndim != 2 or len(head) != len(face):
        what = f"face and head of '{recording.uid}' do not fit"
        raise DataError(describe(what, (face.shape, head.shape), "(N, codes) and (N, ...)", "drop the recording"))
    seconds = sound.frames / sound.samplerate
    if abs(seconds - len(face) / recording.fps) > MOST_DRIFT_SEC:
        what = f"sound and motion of '{recording.uid}' differ in length"
        got = f"{seconds:.2f} s and {len(face)} frames at {recording.fps:g} Hz"
        raise DataError(describe(what, got, f"up to {MOST_DRIFT_SEC} s apart", "drop the recording"))
    num_tokens = tokens.shape[-2] if tokens.ndim in (2, 3) else 0
    expected = token_frames(int(seconds * TOKEN_SAMPLE_RATE))
    if abs(num_tokens - expected) > token_drift(expected):
        what = f"tokens of '{recording.uid}' do not last as long as its sound"
        raise DataError(describe(what, tokens.shape, f"about {expected} frames", "extract them again"))
    rate = REFERENCE_MEL_RATE if reference_compat else MEL_RATE
    ratio, token_ratio = rate / recording.fps, seconds * rate / num_tokens
    frames = min(mel_frames(sound.frames, sound.samplerate), int(len(face) * ratio + 1e-6))
    return Extent(sound.frames, sound.samplerate, sound.channels, len(face), num_tokens, frames, ratio, token_ratio)


def token_drift(expected: int) -> float:
    """Return by how many frames tokens may miss the expected number, as extractors lose some."""
    return _TOKEN_DRIFT + _TOKEN_DRIFT_SHARE * expected


def positions(start: int, count: int, ratio: float) -> np.ndarray:
    """Return where frames lie in a stream.

    Args:
        start: First frame at the mel rate.
        count: T.
        ratio: Mel frames of a frame of the stream.

    Returns:
        float64 ``(T,)`` in frames of the stream, 0 at the centre of the first; see
        :func:`~espnet_av.avgen.clock.resample_linear`.
    """
    return np.maximum((np.arange(start, start + count) + 0.5) / ratio - 0.5, 0.0)


def neighbours(where: np.ndarray, num_frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the frames around positions ``(T,)`` and the share of the second; behind the last frame it is held."""
    low = np.minimum(where.astype(np.int64), num_frames - 1)
    return low, np.minimum(low + 1, num_frames - 1), np.minimum(where - low, 1.0)


def read_at(stream: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Interpolate between frames.

    Args:
        stream: ``(N, ...)``, perhaps memory-mapped; only the stretch that is needed is read.
        where: Positions ``(T,)``.

    Returns:
        float32 ``(T, ...)``.
    """
    low, high, share = neighbours(where, len(stream))
    first = int(low.min())
    part = np.asarray(stream[first : int(high.max()) + 1], dtype=np.float64)
    share = share.reshape(-1, *[1] * (part.ndim - 1))
    return ((1 - share) * part[low - first] + share * part[high - first]).astype(np.float32)


def read_repaired(stream: np.ndarray, where: np.ndarray, gaps: Gaps) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate between frames of a stream with gaps.

    Args:
        stream: ``(N, D)``, perhaps memory-mapped.
        where: Positions ``(T,)``.
        gaps: Of the whole stream.

    Returns:
        ``(float32 (T, D), valid (T,))``; a frame is valid when all that it is made of was seen.
    """
    low, high, share = neighbours(where, len(stream))
    first, last = int(gaps.before[low].min()), int(gaps.after[high].max())
    part = np.asarray(stream[first : last + 1], dtype=np.float64)

    def frame(index: np.ndarray) -> np.ndarray:
        weight = gaps.weight[index][:, None]
        return (1 - weight) * part[gaps.before[index] - first] + weight * part[gaps.after[index] - first]

    values = (1 - share[:, None]) * frame(low) + share[:, None] * frame(high)
    valid = gaps.valid[low] & (gaps.valid[high] | (share == 0))
    return values.astype(np.float32), valid


def gaps_of(recording: Recording, num_frames: int) -> Gaps | None:
    """Return the gaps of a recording's face; None where it was always seen.

    Raises:
        DataError: The list is damaged or names other frames.
    """
    if recording.missing is None:
        return None
    missing = np.asarray(load_npy(recording.missing))
    return find_gaps(num_frames, missing) if missing.size else None


def read_sound(recording: Recording, extent: Extent, start: int, count: int) -> np.ndarray:
    """Return the samples of a stretch at the rate of the file, cut where the published system cuts.

    Args:
        recording: The recording.
        extent: Its lengths.
        start: First mel frame.
        count: Mel frames.

    Returns:
        float32 ``(channels, samples)``.
    """
    from espnet_av.avgen.sound_files import read_channels

    first, length = sample_at(start, extent.rate), sample_at(count, extent.rate)
    return read_channels(recording.wav, start=first, num_samples=length)[0]


def read_voice(recording: Recording, extent: Extent, start: int, count: int, context: int) -> tuple[np.ndarray, int]:
    """Return the actor's sound at 22.05 kHz around a stretch, as it is in the whole recording.

    Args:
        recording: The recording.
        extent: Its lengths.
        start: First mel frame.
        count: Mel frames.
        context: Mel frames to read on both sides, where there are any.

    Returns:
        ``(float32 (samples,), frames before the stretch)``: frame ``start`` begins ``frames * 256`` samples in.
    """
    import torch

    from espnet_av.avgen.mel import resample
    from espnet_av.avgen.sound_files import read_channels

    common = int(np.gcd(extent.rate, SAMPLE_RATE))
    step_in, step_out = extent.rate // common, SAMPLE_RATE // common
    before = min(context, start)
    wanted = (start - before) * HOP_LENGTH  # first sample at 22.05 kHz
    block = max(0, wanted // step_out - 1)  # a place where samples of both rates meet, and room for the filter
    end = (start + count + context) * HOP_LENGTH
    last = min(extent.samples, -(-end * step_in // step_out) + 2 * step_in)
    first = block * step_in
    wave = read_channels(recording.wav, start=first, num_samples=last - first)[0][0]
    voice = resample(torch.from_numpy(wave), extent.rate, SAMPLE_RATE).numpy()
    offset = wanted - block * step_out
    whole = last == extent.samples
    stop = None if whole else offset + end - wanted
    return voice[offset:stop], before
