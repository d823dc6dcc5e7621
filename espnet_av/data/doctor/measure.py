# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Decode one clip, measure it, and name what is wrong with it alone. Runs in a process of its own.

Axis legend: ``T`` video frames, ``H`` x ``W`` pixels, ``N`` samples, ``L`` lags and ``R`` ratios of speed
of :mod:`.sync`.
"""

import hashlib
import re
import wave as wave_module
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from espnet_av.data.audio_io import read_audio
from espnet_av.data.doctor.clips import Clip
from espnet_av.data.doctor.findings import Limits
from espnet_av.data.doctor.fingerprint import Print, fingerprint
from espnet_av.data.doctor.sound import SoundFacts, measure_sound
from espnet_av.data.doctor.sync import (
    MIN_FRAMES,
    lag_map,
    mouth_curves,
    near_repeats,
    repeated_share,
    sharp_curve,
    sound_envelope,
)
from espnet_av.data.types import load_video_npy, load_video_npz
from espnet_av.data.validate import VIDEO_SUFFIXES
from espnet_av.utils.errors import DataError, MissingDataError

CROP_FPS = 25.0
TRACK_SUFFIXES = (*VIDEO_SUFFIXES, ".m4a")
TRACK_RATE = 16000
PICTURE_SIZE = 96  # whole pictures are looked at in about this size
BLANK = 2.0  # standard deviation of the pixels of a picture of one colour
STILL = 0.05  # mean change of the pixels of pictures that do not change


@dataclass(frozen=True)
class Depth:
    """How closely to look.

    Attributes:
        sync: Compare lips and sound.
        pictures: Decode clips with pictures where there are no mouth crops, which takes most of the time.
        prints: Take fingerprints.
    """

    sync: bool = True
    pictures: bool = True
    prints: bool = True


@dataclass(frozen=True)
class Measured:
    """What was measured of a clip.

    Attributes:
        clip: The clip.
        faults: Kinds of findings and what was measured.
        sound: Measures of the sound; None without, or where it cannot be read.
        video_sec: Length of the pictures; None without.
        lags: Correlation at every ratio of speed and lag ``(R, L)``; None where lips and sound were not compared.
        sharp: Correlation at every lag, half of it of what changes quickly ``(L,)``.
        sound_digest: Of the samples.
        video_digest: Of the pictures.
        print: Fingerprint of the sound.
    """

    clip: Clip
    faults: tuple[tuple[str, str], ...] = ()
    sound: SoundFacts | None = None
    video_sec: float | None = None
    lags: np.ndarray | None = None
    sharp: np.ndarray | None = None
    sound_digest: str = ""
    video_digest: str = ""
    print: Print | None = None


@dataclass
class _Look:
    faults: list[tuple[str, str]] = field(default_factory=list)
    wave: np.ndarray | None = None
    rate: int = TRACK_RATE
    frames: np.ndarray | None = None
    fps: float = CROP_FPS


def measure_clip(clip: Clip, limits: Limits, depth: Depth) -> Measured:
    """Measure a clip; what cannot be read becomes a finding."""
    look = _Look()
    if clip.sound is not None:
        _read_sound(clip, look)
    if clip.crops is not None or (clip.video is not None and depth.pictures):
        _read_pictures(clip, look)
    result = Measured(clip)
    if look.wave is not None:
        facts = measure_sound(look.wave, look.rate)
        look.faults += judge_sound(facts, limits)
        result = replace(
            result, sound=facts, sound_digest=digest(np.rint(np.nan_to_num(look.wave) * 32768).astype(np.int32))
        )
        if depth.prints and facts.finite and clip.part != "mix":
            result = replace(result, print=fingerprint(look.wave, look.rate))
    if look.frames is not None:
        result = replace(result, video_sec=len(look.frames) / look.fps, video_digest=digest(look.frames))
        look.faults += judge_pictures(look.frames, limits)
    if look.frames is not None and look.wave is not None and result.sound is not None:
        look.faults += _compare_lengths(result, look.fps, limits)
        if depth.sync and result.sound.peak_db > limits.silent_db:
            result = _compare_motion(result, look)
    look.faults += judge_text(clip, result.sound, limits)
    return replace(result, faults=tuple(look.faults))


def digest(array: np.ndarray) -> str:
    """Return a digest of the content of an array."""
    return hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=12).hexdigest()


def _read_sound(clip: Clip, look: _Look) -> None:
    path = Path(str(clip.sound))
    try:
        if path.suffix.lower() in TRACK_SUFFIXES:
            from espnet_av.data.video_io import read_audio_track

            look.wave = read_audio_track(path, TRACK_RATE)
            if clip.span_sec:
                look.wave = look.wave[round(clip.span_sec[0] * look.rate) : round(clip.span_sec[1] * look.rate)]
        elif clip.span_sec:
            from espnet_av.data.audio_io import probe_audio

            rate = probe_audio(path)[1]
            start, end = (round(second * rate) for second in clip.span_sec)
            look.wave, look.rate = read_audio(path, start=start, num_samples=end - start)
        else:
            look.wave, look.rate = read_audio(path)
            _find_missing_end(path, len(look.wave), look)
    except (DataError, MissingDataError) as error:
        look.faults.append((_kind_of(error), str(error)))
        return
    if not len(look.wave):
        look.faults.append(("truncated", f"{path}: no samples in this stretch"))
        look.wave = None
    elif clip.num_samples:
        stated, got = clip.num_samples / clip.sample_rate, len(look.wave) / look.rate
        if got < 0.99 * stated and stated - got > 0.05:
            look.faults.append(("truncated", f"{path}: {got:.2f} s of sound, the tables say {stated:.2f} s"))


def _find_missing_end(path: Path, got: int, look: _Look) -> None:
    """A WAV file that was cut still says in its header how long it was; its reader does not mind."""
    if path.suffix.lower() != ".wav":
        return
    try:
        with wave_module.open(str(path)) as stream:
            stated = stream.getnframes()
    except (wave_module.Error, EOFError, OSError):
        return
    if got < stated and stated < 1 << 30:  # streams state a length beyond all files
        look.faults.append(("truncated", f"{path}: {got} of the {stated} samples that its header states"))


def _kind_of(error: Exception) -> str:
    return "truncated" if re.search(r"\d+ of \d+ frames|ends at|ends before", str(error)) else "unreadable"


def _read_pictures(clip: Clip, look: _Look) -> None:
    try:
        if clip.crops is not None:
            look.frames = read_crops(clip.crops)
        else:
            look.frames, look.fps = read_small(str(clip.video))
    except (DataError, MissingDataError, ValueError, OSError) as error:
        kind = _kind_of(error)
        if clip.crops is None and clip.video == clip.sound:  # one file that is broken is one finding
            look.faults = [fault for fault in look.faults if fault[0] != kind]
        look.faults.append((kind, str(error)))
        return
    stated, got = clip.num_frames, len(look.frames)
    if clip.crops is not None and stated and got < stated:
        look.faults.append(("truncated", f"{clip.crops}: {got} frames, the tables say {stated}"))


def read_crops(path: str) -> np.ndarray:
    """Read mouth crops as gray ``(T, H, W)`` uint8.

    Raises:
        DataError: The file is damaged or holds no pictures.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".npz":
        frames = load_video_npz(path)
    elif suffix == ".npy":
        frames = load_video_npy(path)
    else:
        frames, _ = read_small(path)
    frames = np.asarray(frames)
    if frames.ndim == 4 and frames.shape[-1] in (1, 3):
        frames = frames.mean(axis=-1).astype(np.uint8)
    if frames.ndim != 3 or frames.size == 0:
        raise DataError(f"{path}: no pictures (T, H, W), but {frames.shape}")
    return frames


def read_small(path: str) -> tuple[np.ndarray, float]:
    """Decode a clip frame by frame into small gray pictures ``(T, H, W)``, and return them with the frame rate.

    Raises:
        MissingDataError, DataError: As :func:`espnet_av.data.video_io.iter_frames`.
    """
    from espnet_av.data.video_io import iter_frames, probe

    fps = probe(path).fps
    pictures = []
    for frame in iter_frames(path, gray=True):
        step = max(1, min(frame.shape) // PICTURE_SIZE)
        rows, columns = frame.shape[0] // step, frame.shape[1] // step
        part = frame[: rows * step, : columns * step].reshape(rows, step, columns, step)
        pictures.append(part.mean(axis=(1, 3), dtype=np.float32).astype(np.uint8))
    return np.stack(pictures), fps


def judge_sound(facts: SoundFacts, limits: Limits) -> list[tuple[str, str]]:
    """Name what is wrong with a sound."""
    if not facts.finite:
        return [("not_finite", "samples that are no finite numbers")]
    if facts.peak_db < limits.silent_db:
        return [("silent", f"peak {facts.peak_db:.0f} dB of full scale; limit {limits.silent_db:g} dB")]
    found = []
    if facts.loudness_lufs < limits.quiet_lufs:
        found.append(("quiet", f"{facts.loudness_lufs:.1f} LUFS; limit {limits.quiet_lufs:g}"))
    if facts.speech_share < limits.speech_share:
        found.append(("mostly_silent", f"{100 * facts.speech_share:.0f} % of the time within 35 dB of the loud parts"))
    if facts.clipped_share > limits.clipped_share and facts.num_tops >= limits.min_tops:
        found.append(("clipped", f"{100 * facts.clipped_share:.2f} % of the samples in {facts.num_tops} flat tops"))
    elif facts.top_share > limits.top_share:
        found.append(
            ("clipped", f"{100 * facts.top_share:.0f} % of the samples within 3 dB of the top, rounded by coding")
        )
    if facts.longest_hole_sec > limits.hole_sec:
        found.append(("hole", f"{facts.longest_hole_sec:.2f} s of zeros in the middle"))
    if abs(facts.offset) > limits.dc_offset:
        found.append(("dc_offset", f"mean {facts.offset:+.3f}"))
    return found


def judge_pictures(frames: np.ndarray, limits: Limits) -> list[tuple[str, str]]:
    """Name what is wrong with pictures ``(T, H, W)``."""
    some = frames[:: max(1, len(frames) // 8)]
    spread = float(np.mean([picture.std() for picture in some]))
    if spread < BLANK:
        return [("blank_video", f"the pixels of a picture differ by {spread:.1f} of 255")]
    share, longest = repeated_share(frames)
    if len(frames) > 2 and share == 1.0:
        return [("no_lip_motion", f"all {len(frames)} frames are equal")]
    change = float(np.abs(np.diff(some.astype(np.float32), axis=0)).mean()) if len(some) > 1 else 1.0
    if change < STILL:
        return [("no_lip_motion", f"the pixels change by {change:.3f} of 255")]
    if share > limits.repeated_share:
        return [
            ("repeated_frames", f"{100 * share:.0f} % of the frames equal the one before, up to {longest} in a row")
        ]
    near = near_repeats(frames)
    if near >= max(limits.min_near_repeats, limits.near_repeats * (len(frames) - 1)):
        much = f"{100 * near / (len(frames) - 1):.0f} % of the frames"
        return [("repeated_frames", f"{much} are nearly the one before, unlike those round them: repeated, then coded")]
    return []


def _compare_lengths(result: Measured, fps: float, limits: Limits) -> list[tuple[str, str]]:
    if result.sound is None or result.video_sec is None:
        return []
    sound, video = result.sound.seconds, result.video_sec
    if abs(sound - video) * fps <= limits.length_frames:
        return []
    how = f"{(sound - video) * fps:+.1f} frames, ratio {sound / video:.4f}"
    return [("length_mismatch", f"{sound:.2f} s of sound, {video:.2f} s of video ({how})")]


def _compare_motion(result: Measured, look: _Look) -> Measured:
    if look.wave is None or look.frames is None:
        return result
    count = min(len(look.frames), int(len(look.wave) / look.rate * look.fps))
    if count < MIN_FRAMES or result.clip.part == "mix":
        return result
    frames = look.frames[:count]
    cues = mouth_curves(frames if result.clip.crops is not None else likely_mouth(frames))
    envelope = sound_envelope(look.wave, count, look.rate / look.fps)
    return replace(result, lags=lag_map(*cues, envelope), sharp=sharp_curve(*cues, envelope))


def likely_mouth(frames: np.ndarray) -> np.ndarray:
    """Return the part of whole pictures ``(T, H, W)`` where the mouth of a talking head is that fills them."""
    height, width = frames.shape[1:]
    return frames[:, int(0.55 * height) : int(0.9 * height), int(0.3 * width) : int(0.7 * width)]


def judge_text(clip: Clip, sound: SoundFacts | None, limits: Limits) -> list[tuple[str, str]]:
    """Name what is wrong with a transcript alone."""
    if clip.text is None:
        return []
    letters = len(clip.text.replace(" ", ""))
    if not letters:
        return [("empty_text", "no words")]
    if sound is not None and sound.seconds > 0 and letters / sound.seconds > limits.chars_per_sec:
        return [
            ("speaking_rate", f"{letters} characters in {sound.seconds:.2f} s; limit {limits.chars_per_sec:g} a second")
        ]
    return []
