# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Small sets of sound and a small codec, for tests of training and its command line."""

from pathlib import Path

import numpy as np
import yaml

from espnet_av.data.audio_io import write_audio
from espnet_av.data.data_dir import DataDir, write_scp

SAMPLE_RATE = 24000
CHUNK = 4800
CONFIG = {
    "model": "lrac",
    "model_conf": {"preset": "tiny"},
    "optim": "radam",
    "optim_conf": {"lr": 3e-4},
    "optim2": "radam",
    "optim2_conf": {"lr": 3e-4},
    "scheduler": "exponentiallr",
    "scheduler_conf": {"gamma": 0.9},
    "scheduler2": "exponentiallr",
    "scheduler2_conf": {"gamma": 0.9},
    "iterator_type": "chunk",
    "chunk_length": CHUNK,
    "batch_type": "unsorted",
    "batch_size": 4,
    "max_epoch": 2,
    "seed": 777,
    "keep_nbest_models": 2,
    "best_model_criterion": [["valid", "mel_loss", "min"], ["train", "total_count", "max"]],
    "num_workers": 0,
    "use_matplotlib": False,
}


def make_sound(folder: Path, name: str, wave: np.ndarray) -> Path:
    """Write a sound file and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.wav"
    write_audio(path, wave, SAMPLE_RATE)
    return path


def make_speech(folder: Path, count: int = 5, seed: int = 0, shortest: int = 3000, step: int = 2500) -> DataDir:
    """Write utterances of unlike lengths, one shorter than a chunk."""
    rng = np.random.default_rng(seed)
    data, files, samples = DataDir(folder), {}, {}
    for number in range(count):
        uid, size = f"spk-u{number:02d}", shortest + step * number
        time = np.arange(size) / SAMPLE_RATE
        loud = np.repeat(rng.random(-(-size // 1200)) > 0.3, 1200)[:size]
        wave = 0.2 * np.sin(2 * np.pi * rng.uniform(100, 1000) * time) * loud + 0.02 * rng.standard_normal(size)
        files[uid], samples[uid] = make_sound(folder / "wav", uid, wave), size
    data.write("wav.scp", files)
    data.write("utt2num_samples", samples)
    return data


def make_lists(folder: Path, seed: int = 0, count: int = 3) -> dict[str, Path]:
    """Write noises (three columns in the list) and rooms (two columns)."""
    rng = np.random.default_rng(seed)
    noises, rooms = {}, {}
    for number in range(count):
        noise = 0.1 * rng.standard_normal(4000 + 9000 * number)
        noises[f"n{number}"] = f"{SAMPLE_RATE} {make_sound(folder / 'noise', f'n{number}', noise)}"
        taps = rng.standard_normal(2400) * np.exp(-np.arange(2400) / 400) * 0.2
        taps[:40], taps[40] = 0.0, 0.9
        rooms[f"r{number}"] = make_sound(folder / "rir", f"r{number}", taps)
    for name, table in (("noise.scp", noises), ("rirs.scp", rooms)):
        write_scp(folder / name, table)
    return {"noise_scp": folder / "noise.scp", "rir_scp": folder / "rirs.scp"}


def train_command(root: Path, output: Path, config: dict | None = None) -> list[str]:
    """Return the options of a small training; data and configuration are written below ``root`` when absent."""
    for name, seed in (("train", 0), ("valid", 1)):
        if not (root / name / "wav.scp").exists():
            make_speech(root / name, count=5 if name == "train" else 2, seed=seed)
    content = yaml.safe_dump(CONFIG if config is None else config)
    path = root / f"{output.name}.yaml"
    path.write_text(content)
    command = ["--config", str(path), "--output_dir", str(output)]
    for name in ("train", "valid"):
        command += [f"--{name}_data_path_and_name_and_type", f"{root / name / 'wav.scp'},audio,sound"]
    return command
