# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Tiny trees in the published layouts of recordings of actors."""

import io
import zipfile

import numpy as np
import soundfile
import torch

RATE, FPS, STEP = 48000, 30, 1600
TOKENS = "wav2vec2_fairseq_base_ls960_asr_ls960_vad100"
SEGMENTS = (
    "l--20240301--0900--ABC123--pilot--Chatsy",
    "l--20240302--0900--ABC123--pilot--Chatsy",
    "l--20240408--0900--ABC123--pilot--Chatsy",
    "l--20240509--1052--ABC123--pilot--Chatsy",
)


def sound(frames, rng, rate=RATE, channels=2):
    """Noise in bursts, so that somebody seems to speak, ``(samples, channels)``."""
    count = frames * rate // FPS
    bursts = 0.02 + 0.1 * np.abs(np.sin(2 * np.pi * 2 * np.arange(count) / rate))
    return bursts[:, None] * rng.standard_normal((count, channels)).clip(-3, 3)


def rotations(frames, rng):
    """Poses ``(frames, 3, 4)`` that turn slowly about the vertical axis."""
    angle = 0.2 * np.sin(np.arange(frames) / 20 + rng.uniform(0, 6))
    pose = np.zeros((frames, 3, 4), dtype=np.float32)
    pose[:, 0, 0] = pose[:, 2, 2] = np.cos(angle)
    pose[:, 0, 2], pose[:, 2, 0], pose[:, 1, 1] = np.sin(angle), -np.sin(angle), 1
    pose[:, :, 3] = rng.standard_normal(3) + 0.05 * np.cumsum(rng.standard_normal((frames, 3)), axis=0) / 10
    return pose


def smooth(frames, width, rng):
    return (0.1 * np.cumsum(rng.standard_normal((frames, width)), axis=0)).astype(np.float32)


def token_frames(frames):
    return (frames * 16000 // FPS - 400) // 320 + 1


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)


def make_50h(root, segments=SEGMENTS, frames=60, tokens=True, partner=True, text=False, seed=0):
    """Write a folder in the 50h layout; returns it."""
    rng = np.random.default_rng(seed)
    smirk = root / "participant" / "camera01" / "smirk_outputs"
    (root / "audio").mkdir(parents=True)
    for number, name in enumerate(segments):
        count = frames + 3 * number
        soundfile.write(root / "audio" / f"{name}.wav", sound(count, rng), RATE, subtype="PCM_16")
        save(root / "expression_codes" / f"{name}.npy", smooth(count, 256, rng))
        save(root / "headpose" / f"{name}--headpose.npy", rotations(count, rng))
        if tokens:
            save(root / TOKENS / f"{name}.npy", rng.standard_normal((2, token_frames(count), 29)).astype(np.float32))
        if partner:
            save(smirk / f"{name}--expression.npy", smooth(count, 55, rng))
            save(smirk / f"{name}--headpose.npy", smooth(count, 3, rng))
    statistics = root / "headpose" / "headpose_normstats"
    for name, size in (("translation", 3), ("qvec", 4)):
        save(statistics / f"head_{name}_mean.npy", np.eye(4, dtype=np.float32)[0, :size])
        save(statistics / f"head_{name}_std.npy", np.ones(size, dtype=np.float32))
    if partner:
        for name, size in (("expression", 55), ("headpose", 3)):
            save(smirk / "stats" / f"{name}_min.npy", np.full(size, -3, dtype=np.float32))
            save(smirk / "stats" / f"{name}_max.npy", np.full(size, 3, dtype=np.float32))
    if text:
        (root / "text").write_text("".join(f"{name} HELLO THERE\n" for name in sorted(segments)))
    return root


def make_a2p(root, scenes=8, frames=45, seed=0):
    """Write the folder of one person of Audio2Photoreal; returns it."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True)
    for number in range(1, scenes + 1):
        name, count = f"scene{number:02d}", frames + number
        soundfile.write(root / f"{name}_audio.wav", sound(count, rng), RATE, subtype="PCM_16")
        save(root / f"{name}_body_pose.npy", smooth(count, 104, rng))
        save(root / f"{name}_face_expression.npy", smooth(count, 256, rng))
        save(root / f"{name}_missing_face_frames.npy", np.array([3, 4] if number % 2 else [], dtype=np.int64))
        save(root / TOKENS / f"{name}.npy", rng.standard_normal((2, token_frames(count), 29)).astype(np.float32))
    sizes = {"code": (256, 1), "pose": (104, 1), "audio": (2, 1)}
    stats = {}
    for name, (size, flat) in sizes.items():
        stats[f"{name}_mean"] = np.zeros(size, dtype=np.float32)
        stats[f"{name}_std"] = np.ones(size, dtype=np.float32)
        stats[f"{name}_std_flat"] = np.ones(flat, dtype=np.float32)
    save_old_numpy(root / "data_stats.pth", stats)
    return root


def save_old_numpy(path, content):
    """Save as torch does, but name numpy's functions as version 1 did: ``numpy.core`` and not ``numpy._core``."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for item in old.infolist():
            data = old.read(item)
            if item.filename.endswith("data.pkl"):
                data = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            new.writestr(item.filename, data)
