# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Noise and microphones to augment separation training with, made on the spot: ``noise.scp`` and ``microphones.scp``.

Microphones are short impulse responses: a band, as of a cheap capsule, with a few resonances in it. Where a recipe has
recordings, those are better.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from espnet_av.corpora import acoustics
from espnet_av.data.audio_io import write_audio
from espnet_av.data.data_dir import write_scp
from espnet_av.data.mixture_dir import SAMPLE_RATE
from espnet_av.utils.cli import run_main

NOISE_SEC = 20
NUM_MICROPHONES = 12
TAPS = 512


def microphone(rng: np.random.Generator, sample_rate: int = SAMPLE_RATE, num_taps: int = TAPS) -> np.ndarray:
    """Draw the impulse response of a microphone.

    Args:
        rng: Source of chance.
        sample_rate: In Hz.
        num_taps: Length.

    Returns:
        Minimum-phase response ``(num_taps,)`` float32 with a largest magnitude of 0.9.
    """
    size = 4 * num_taps
    hertz = np.fft.rfftfreq(size, 1 / sample_rate)
    low, high = rng.uniform(60, 300), rng.uniform(3000, 7500)
    level = -20 * np.log10(np.sqrt(1 + (low / np.maximum(hertz, 1.0)) ** 4) * np.sqrt(1 + (hertz / high) ** 8))
    for _ in range(3):
        centre, width, height = rng.uniform(200, 7000), rng.uniform(0.1, 0.6), rng.uniform(-8, 8)
        level += height * np.exp(-0.5 * (np.log(np.maximum(hertz, 1.0) / centre) / width) ** 2)
    cepstrum = np.fft.irfft(np.maximum(level, -80) * np.log(10) / 20)
    cepstrum[1 : size // 2] *= 2  # folding the cepstrum makes the phase minimal
    cepstrum[size // 2 + 1 :] = 0
    response = np.fft.irfft(np.exp(np.fft.rfft(cepstrum)))[:num_taps]
    response *= np.hanning(2 * num_taps)[num_taps:]
    return (0.9 * response / np.abs(response).max()).astype(np.float32)


def make_sounds(output_dir: Path, seed: int = 0) -> None:
    """Write ``noise.scp`` (unless there is one) and ``microphones.scp`` with their sound files.

    Args:
        output_dir: Folder of the tables; the sound goes below it.
        seed: Seed of everything.
    """
    rng = np.random.default_rng([seed, 31])
    if not (output_dir / "noise.scp").is_file():
        table = {}
        for colour in acoustics.NOISE_SLOPES:
            noise = acoustics.coloured_noise(NOISE_SEC * SAMPLE_RATE, colour, SAMPLE_RATE, rng)
            table[f"noise-{colour}"] = (output_dir / "noise" / f"noise-{colour}.flac").absolute()
            write_audio(table[f"noise-{colour}"], noise * min(0.1, 0.95 / np.abs(noise).max()), SAMPLE_RATE)
        write_scp(output_dir / "noise.scp", table)
    table = {}
    for number in range(1, NUM_MICROPHONES + 1):
        name = f"microphone-{number:02d}"
        table[name] = (output_dir / "microphones" / f"{name}.flac").absolute()
        write_audio(table[name], microphone(rng), SAMPLE_RATE)
    write_scp(output_dir / "microphones.scp", table)


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(prog="augment_sounds", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--output_dir", type=Path, default=Path("data"), help="where the tables go")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; options that it does not know are those of the recipe's reader."""
    args, _ = get_parser().parse_known_args(cmd)
    make_sounds(args.output_dir, args.seed)
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
