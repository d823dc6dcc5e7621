# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Audio features in torch against numpy item by item, as loaders of AV-HuBERT style systems compute them.

The numpy version is written from the description of python_speech_features' log filterbank: pre-emphasis, frames,
FFT, mel filters, logarithm; then four frames are stacked and normalised. Prints seconds per clip and the ratio by turns
in one run, and fails where results differ.

    python test/bench/bench_avsr_features.py --seconds 10 --batch 8
"""

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from espnet_av.avsr.features import LogFbankStack, mel_filterbank

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
RATE, FRAME, SHIFT, FFT, MELS, STACK = 16000, 400, 160, 512, 26, 4


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each clip")
    parser.add_argument("--batch", type=int, default=8, help="clips")
    parser.add_argument("--repeat", type=int, default=7, help="rounds; the median counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", default="wall", choices=sorted(CLOCKS), help="cpu: CPU seconds of the process")
    return parser


def numpy_filterbank() -> np.ndarray:
    """Return the mel filters; the numpy original makes them anew for every clip."""
    return mel_filterbank.__wrapped__(MELS, FFT, RATE)


def numpy_features(wave: np.ndarray) -> np.ndarray:
    """Return the features of one clip: ``(N,)`` samples -> ``(T, 104)``."""
    count = 1 + max(0, -(-(len(wave) - FRAME) // SHIFT))
    emphasised = np.append(wave[0], wave[1:] - 0.97 * wave[:-1])
    padded = np.concatenate([emphasised, np.zeros((count - 1) * SHIFT + FRAME - len(wave))])
    places = np.tile(np.arange(FRAME), (count, 1)) + np.tile(np.arange(0, count * SHIFT, SHIFT), (FRAME, 1)).T
    frames = padded[places] * np.tile(np.ones(FRAME), (count, 1))  # a rectangular window
    power = np.square(np.absolute(np.fft.rfft(frames, FFT))) / FFT
    energy = power @ numpy_filterbank().T
    energy = np.where(energy == 0, np.finfo(float).eps, energy)
    rows = np.log(energy).astype(np.float32)
    rows = np.concatenate([rows, np.zeros((-len(rows) % STACK, MELS), np.float32)]).reshape(-1, STACK * MELS)
    centred = rows - rows.mean(axis=1, keepdims=True)
    return centred / np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + 1e-5)


def main() -> int:
    """Run the comparison."""
    args = get_parser().parse_args()
    torch.set_num_threads(args.threads)
    clock = CLOCKS[args.clock]
    waves = 0.1 * np.random.default_rng(0).standard_normal((args.batch, int(args.seconds * RATE))).astype(np.float32)
    module, tensor = LogFbankStack(), torch.from_numpy(waves)
    runs: dict[str, Callable[[], object]] = {
        "numpy, one by one": lambda: [numpy_features(wave.astype(np.float64)) for wave in waves],
        "torch, one by one": lambda: [module(wave.unsqueeze(0))[0] for wave in tensor],
        "torch, one batch": lambda: module(tensor)[0],
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    results = {name: run() for name, run in runs.items()}  # a round that does not count
    for _ in range(args.repeat):
        for name, run in runs.items():
            start = clock()
            run()
            times[name].append((clock() - start) / args.batch)
    medians = {name: sorted(values)[len(values) // 2] for name, values in times.items()}
    for name, seconds in medians.items():
        ratio = medians["numpy, one by one"] / seconds
        sys.stdout.write(f"{name:20s} {1000 * seconds:8.2f} ms per clip of {args.seconds:g} s   {ratio:5.2f} x\n")
    reference = np.stack(results["numpy, one by one"])
    difference = float(np.abs(results["torch, one batch"].transpose(1, 2).numpy() - reference).max())
    sys.stdout.write(f"largest difference: {difference:.1e}\n")
    return int(difference > 1e-4)


if __name__ == "__main__":
    sys.exit(main())
