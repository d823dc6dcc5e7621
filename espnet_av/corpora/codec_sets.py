# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Data folders of codec recipes: speech, lists of noises and room responses, and test sets in the three conditions.

The layout is that of the LRAC challenge: ``<set>/{wav,spk1}.scp`` with the tables ``text utt2spk utt2fs utt2category``
for speech, ``<set>/{wav.scp,reference.scp}`` for tests, and ``{noise,noise_val,rirs,rirs_val}.scp`` beside them.

A track-1 codec has to give back what it hears, so the reference of its noisy and reverberant tests is the input itself;
a track-2 codec has to enhance, so the reference is the clean speech, in rooms with its early reflections.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.corpora import acoustics
from espnet_av.data.audio_io import read_audio, write_audio
from espnet_av.data.data_dir import DataDir, write_scp
from espnet_av.data.mixing import limit_peak, mix_at_snr
from espnet_av.utils.folders import atomic_folder

logger = logging.getLogger(__name__)
SAMPLE_RATE = 24000
CONDITIONS = ("clean", "noisy", "reverb")
SNRS_DB = {1: (10.0, 25.0), 2: (0.0, 20.0)}  # of the noisy tests: track 1 asks for robustness to mild noise
EARLY_SEC = 0.05  # reflections up to here after the direct sound belong to the target of track 2
NO_TEXT = "<not-available>"


@dataclass(frozen=True)
class Recording:
    """One utterance: file (24 kHz mono PCM), speaker, gender (m, f or o), length in samples, transcript."""

    path: Path
    speaker: str
    gender: str
    num_samples: int
    text: str = NO_TEXT


def write_speech_set(folder: Path, recordings: Mapping[str, Recording], meta: Mapping[str, Any]) -> None:
    """Write a data folder of speech; it appears when complete.

    Args:
        folder: The folder.
        recordings: By utterance id.
        meta: What goes into ``data.json`` beside the rate: licence, description.
    """
    with atomic_folder(folder) as new:
        data = DataDir(new)
        paths = {utt: item.path.absolute() for utt, item in recordings.items()}
        data.write("wav.scp", paths)
        data.write("spk1.scp", paths)
        data.write("utt2spk", {utt: item.speaker for utt, item in recordings.items()})
        data.write("spk2gender", {item.speaker: item.gender for item in recordings.values()})
        data.write("text", {utt: item.text or NO_TEXT for utt, item in recordings.items()})
        data.write("utt2fs", dict.fromkeys(recordings, SAMPLE_RATE))
        data.write("utt2category", dict.fromkeys(recordings, f"1ch_{SAMPLE_RATE}Hz"))
        data.write("utt2num_samples", {utt: item.num_samples for utt, item in recordings.items()})
        data.write_streams([("wav.scp", "audio", "sound")])
        data.write_meta({"sample_rate": SAMPLE_RATE, **meta})


def write_noises(folder: Path, noises: Mapping[str, np.ndarray]) -> dict[str, Path]:
    """Write noises ``(N,)`` at an RMS of 0.1 (or a peak of 0.95) and return the files, by id."""
    table = {}
    for name, noise in noises.items():
        level = max(float(np.sqrt(np.mean(np.square(noise, dtype=np.float64)))), 1e-9)
        peak = max(float(np.abs(noise).max()), 1e-9)
        table[name] = folder / f"{name}.wav"
        write_audio(table[name], noise * min(0.1 / level, 0.95 / peak), SAMPLE_RATE)
    return table


def make_coloured_noises(seconds: float, rng: np.random.Generator, suffix: str = "") -> dict[str, np.ndarray]:
    """Return white, pink and brown noise whose level rises and falls slowly, by id."""
    count = round(seconds * SAMPLE_RATE)
    noises = {}
    for colour in acoustics.NOISE_SLOPES:
        knots = rng.uniform(-6, 6, size=max(2, round(seconds) + 1))  # dB, one a second
        swell = np.interp(np.arange(count) / SAMPLE_RATE, np.arange(len(knots)), knots)
        noise = acoustics.coloured_noise(count, colour, SAMPLE_RATE, rng) * 10 ** (swell / 20)
        noises[f"noise-{colour}{suffix}"] = noise
    return noises


def make_babbles(
    clips: Sequence[np.ndarray], seconds: float, rng: np.random.Generator, suffix: str = ""
) -> dict[str, np.ndarray]:
    """Return the murmur of 4 and of 7 talkers, by id."""
    count = round(seconds * SAMPLE_RATE)
    return {f"noise-babble{n}{suffix}": acoustics.babble(clips, count, n, rng) for n in (4, 7)}


def write_rooms(folder: Path, count: int, rng: np.random.Generator, prefix: str = "rir") -> dict[str, Path]:
    """Write the impulse responses of ``count`` drawn rooms and return the files, by id."""
    table = {}
    for number in range(1, count + 1):
        name = f"{prefix}-{number:02d}"
        table[name] = folder / f"{name}.wav"
        write_audio(table[name], 0.9 * acoustics.shoebox_rir(acoustics.draw_room(rng), SAMPLE_RATE), SAMPLE_RATE)
    return table


def write_lists(output_dir: Path, lists: Mapping[str, Mapping[str, Path]]) -> None:
    """Write ``<name>.scp`` (``id path``) for each list, e.g. ``noise`` and ``noise_val``."""
    for name, table in lists.items():
        write_scp(output_dir / f"{name}.scp", {key: path.absolute() for key, path in table.items()})


def reverberate(speech: np.ndarray, response: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put speech ``(N,)`` into a room.

    Args:
        speech: Clean speech.
        response: Impulse response ``(K,)``.

    Returns:
        What is heard, and the part of it that came directly or within 50 ms after, both ``(N,)``, aligned with each
        other and scaled alike so that the direct sound keeps its level.
    """
    from scipy.signal import fftconvolve

    direct = int(np.abs(response).argmax())
    early = response[: direct + round(EARLY_SEC * SAMPLE_RATE)]
    heard, target = (fftconvolve(speech, part)[direct : direct + len(speech)] for part in (response, early))
    level = np.abs(response[direct])
    return heard / level, target / level


def write_tests(
    output_dir: Path,
    media_dir: Path,
    speech: Mapping[str, Recording],
    noises: Sequence[Path],
    rooms: Sequence[Path],
    seed: int,
    meta: Mapping[str, Any],
) -> list[str]:
    """Write ``test_track{1,2}_{clean,noisy,reverb}``, each with ``wav.scp`` and ``reference.scp``.

    Args:
        output_dir: Where the folders go.
        media_dir: Where mixed sound goes.
        speech: Clean recordings by utterance id.
        noises: Files of noise that training does not hear.
        rooms: Files of impulse responses that training does not hear.
        seed: The same seed gives the same tests.
        meta: What goes into ``data.json`` beside the rate.

    Returns:
        The names of the sets.
    """
    names = []
    noise_waves = [read_audio(path, SAMPLE_RATE)[0] for path in noises]
    responses = [read_audio(path, SAMPLE_RATE)[0] for path in rooms]
    for track in (1, 2):
        for condition in CONDITIONS:
            names.append(f"test_track{track}_{condition}")
            folder = media_dir / names[-1]
            rng = np.random.default_rng([seed, 53, track, CONDITIONS.index(condition)])
            inputs, references = ({utt: item.path for utt, item in speech.items()} for _ in range(2))
            for utt, item in speech.items() if condition != "clean" else ():
                clean = read_audio(item.path, SAMPLE_RATE)[0]
                if condition == "noisy":
                    heard, target = _add_noise(clean, noise_waves, SNRS_DB[track], rng), clean
                else:
                    heard, target = reverberate(clean, responses[int(rng.integers(len(responses)))])
                peak = max(1.0, float(np.abs(heard).max()) / 0.99, float(np.abs(target).max()) / 0.99)
                inputs[utt] = references[utt] = folder / f"{utt}.wav"
                write_audio(inputs[utt], heard / peak, SAMPLE_RATE)
                if track == 2:
                    references[utt] = folder / "reference" / f"{utt}.wav"
                    write_audio(references[utt], target / peak, SAMPLE_RATE)
            write_test_set(output_dir / names[-1], inputs, references, speech, meta)
    return names


def _add_noise(
    clean: np.ndarray, noises: Sequence[np.ndarray], snrs_db: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    noise = noises[int(rng.integers(len(noises)))]
    start = int(rng.integers(len(noise)))
    part = np.resize(np.roll(noise, -start), len(clean))
    return limit_peak(mix_at_snr(clean, part, float(rng.uniform(*snrs_db))))[0]


def write_test_set(
    folder: Path,
    inputs: Mapping[str, Path],
    references: Mapping[str, Path],
    speech: Mapping[str, Recording],
    meta: Mapping[str, Any],
) -> None:
    """Write a test folder: ``wav.scp`` is coded, ``reference.scp`` is what it is compared with.

    Args:
        folder: The folder; it appears when complete.
        inputs: Files by utterance id.
        references: Files by utterance id.
        speech: Who says what.
        meta: What goes into ``data.json`` beside the rate.
    """
    with atomic_folder(folder) as new:
        data = DataDir(new)
        data.write("wav.scp", {utt: path.absolute() for utt, path in inputs.items()})
        data.write("reference.scp", {utt: path.absolute() for utt, path in references.items()})
        data.write("utt2spk", {utt: speech[utt].speaker for utt in inputs})
        if all(speech[utt].text not in ("", NO_TEXT) for utt in inputs):
            data.write("text", {utt: speech[utt].text for utt in inputs})
        data.write_streams([("wav.scp", "audio", "sound"), ("reference.scp", "speech_ref1", "sound")])
        data.write_meta({"sample_rate": SAMPLE_RATE, **meta})
