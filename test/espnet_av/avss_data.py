# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A data folder of two-voice mixtures and the smallest separators, for tests of the task and its command lines."""

from pathlib import Path

import numpy as np
import yaml

from espnet_av.data.audio_io import write_audio
from espnet_av.data.data_dir import DataDir, write_scp

WIDTH = 8
RTFSNET = {
    "repeats": 2,
    "channels": 8,
    "hidden": 4,
    "rnn_hidden": 2,
    "rnn_layers": 1,
    "attn_heads": 2,
    "attn_qk_channels": 2,
    "video_hidden": 8,
    "video_heads": 2,
    "video_depth": 2,
    "video_ffn": 8,
    "caf_heads": 2,
    "n_fft": 64,
    "hop": 32,
}
CONFIG = {
    "model": "rtfsnet",
    "model_conf": RTFSNET,
    "loss_conf": {"terms": [{"name": "snr"}]},
    "preprocessor_conf": {"segment_sec": 0.4, "remix": {"probability": 0.5}, "lips_dropout": 0.2},
    "batch_size": 2,
    "max_epoch": 2,
    "optim": "adamw",
    "optim_conf": {"lr": 1e-3},
    "grad_clip": 5.0,
    "best_model_criterion": [["valid", "si_snri", "max"]],
    "num_workers": 0,
    "use_matplotlib": False,
}
STREAMS = [("mix.scp", "mix", "sound"), ("s1.scp", "s1", "sound"), ("s2.scp", "s2", "sound")]
LIP_STREAMS = [("lips_s1.scp", "lips_s1", "npy"), ("lips_s2.scp", "lips_s2", "npy")]


def voice(rng: np.random.Generator, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """A tone that goes on and off with the lips: ``(640 T,)`` and ``(T, WIDTH)``."""
    loud = np.repeat(rng.random(-(-num_frames // 5)) > 0.4, 5)[:num_frames].astype(np.float32)
    loud[0] = 1.0
    time = np.arange(640 * num_frames) / 16000
    wave = 0.3 * np.sin(2 * np.pi * float(rng.uniform(200, 2000)) * time) * np.repeat(loud, 640)
    lips = rng.standard_normal((num_frames, WIDTH)) * 0.1 + loud[:, None]
    return wave.astype(np.float32), lips.astype(np.float16)


def make_mixtures(folder: Path, count: int = 6, seed: int = 0, variants: int = 2) -> DataDir:
    """Write mixtures of 15 frames and more with their voices and ``variants`` versions of the lips."""
    rng = np.random.default_rng(seed)
    media = folder / "media"
    media.mkdir(parents=True)
    tables: dict[str, dict] = {name: {} for name in (row[0] for row in (*STREAMS, *LIP_STREAMS))}
    frames, samples = {}, {}
    for number in range(count):
        uid, num_frames = f"a{number:02d}_b{number:02d}", 15 + number
        waves = {}
        for name in ("s1", "s2"):
            waves[name], lips = voice(rng, num_frames)
            np.save(media / f"{uid}.{name}.npy", np.stack([lips] * variants))
            tables[f"lips_{name}.scp"][uid] = media / f"{uid}.{name}.npy"
        waves["mix"] = waves["s1"] + waves["s2"]
        for name, wave in waves.items():
            write_audio(media / f"{uid}.{name}.wav", wave, 16000)
            tables[f"{name}.scp"][uid] = media / f"{uid}.{name}.wav"
        frames[uid], samples[uid] = num_frames, 640 * num_frames
    tables |= {"utt2num_frames": frames, "utt2num_samples": samples, "utt2spk": {uid: uid for uid in frames}}
    for name, table in tables.items():
        write_scp(folder / name, table)
    data = DataDir(folder)
    data.write_streams([*STREAMS, *LIP_STREAMS])
    lips = {"front_end": "drawn", "digest": "0" * 64, "dim": WIDTH, "variants": variants, "seed": 0}
    data.write_meta({"sample_rate": 16000, "fps": 25, "licence": "CC0-1.0", "description": "tones", "lips": lips})
    return data


def train_command(root: Path, output_dir: Path, config: dict | None = None, *, with_lips: bool = True) -> list[str]:
    """Prepare data below ``root`` and return the options of a training."""
    command = ["--output_dir", str(output_dir)]
    for kind, count, seed in (("train", 6, 0), ("valid", 3, 1)):
        folder = root / kind
        if not folder.exists():
            make_mixtures(folder, count, seed)
        for name, stream, kind_of in (*STREAMS, *(LIP_STREAMS if with_lips else ())):
            command += [f"--{kind}_data_path_and_name_and_type", f"{folder / name},{stream},{kind_of}"]
        command += [f"--{kind}_shape_file", str(folder / "utt2num_frames")]
    path = root / f"{output_dir.name}.yaml"
    path.write_text(yaml.safe_dump(config or CONFIG), encoding="utf-8")
    return [*command, "--config", str(path)]
