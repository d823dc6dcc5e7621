# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Small talking faces whose voice is as loud as their mouth is open, as data and as generated samples."""

from pathlib import Path

import numpy as np
import soundfile
from scipy.ndimage import gaussian_filter1d

from espnet_av.data.data_dir import write_scp

FPS, RATE, CONTROLS, CODES = 30, 48000, 4, 12
NAMES = ("opening", "width", "brow", "gaze")


def basis(seed: int = 0) -> np.ndarray:
    """Orthonormal rows ``(K, C)``."""
    random = np.random.default_rng(seed).standard_normal((CODES, CONTROLS))
    return np.linalg.qr(random)[0].T


def make_controls(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Controls ``(F, K)``: a mouth that opens and closes, a brow, and little else."""
    opening = np.clip(gaussian_filter1d(rng.standard_normal(frames), 2) * 2 + 0.3, 0, 1)
    others = gaussian_filter1d(rng.standard_normal((frames, CONTROLS - 1)), 4, axis=0)
    return np.concatenate([opening[:, None], 0.5 * others], axis=1)


def voice(opening: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Noise ``(N,)`` that is as loud as the mouth is open."""
    samples = len(opening) * rate // FPS
    times = (np.arange(samples) + 0.5) / rate * FPS - 0.5
    return (0.3 * np.interp(times, np.arange(len(opening)), opening) * rng.standard_normal(samples)).clip(-1, 1)


def head(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Poses ``(F, 3, 4)`` of a nodding head."""
    angle = 0.3 * gaussian_filter1d(rng.standard_normal(frames), 4)
    pose = np.zeros((frames, 3, 4))
    pose[:, 0, 0] = 1
    pose[:, 1, 1] = pose[:, 2, 2] = np.cos(angle)
    pose[:, 1, 2], pose[:, 2, 1] = -np.sin(angle), np.sin(angle)
    pose[:, 1, 3] = 10 * angle
    return pose


def make_data(folder: Path, count: int = 4, frames: int = 60, seed: int = 0) -> dict[str, np.ndarray]:
    """Write a data folder with its ``face_basis.npz``; returns the controls of each recording."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    np.savez(folder / "face_basis.npz", Q=basis().astype(np.float32), names=np.array(NAMES))
    tables: dict[str, dict[str, object]] = {name: {} for name in ("wav.scp", "face.scp", "head.scp", "text")}
    found = {}
    for number in range(count):
        uid = f"u{number}"
        controls = found[uid] = make_controls(frames, rng)
        partner = np.where(np.arange(frames) < frames // 2, 0.0, make_controls(frames, rng)[:, 0])
        controls[frames // 2 :, 0] *= number % 2  # every second actor listens in the second half
        sound = np.stack([voice(controls[:, 0], RATE, rng), voice(partner, RATE, rng)], axis=1)
        soundfile.write(folder / f"{uid}.wav", sound, RATE)
        np.save(folder / f"{uid}.face.npy", (controls @ basis()).astype(np.float32))
        np.save(folder / f"{uid}.head.npy", head(frames, rng).astype(np.float32))
        tables["wav.scp"][uid] = folder / f"{uid}.wav"
        tables["face.scp"][uid] = folder / f"{uid}.face.npy"
        tables["head.scp"][uid] = folder / f"{uid}.head.npy"
        tables["text"][uid] = "SET RED"
    for name, table in tables.items():
        write_scp(folder / name, table)
    return found


def write_sample(folder: Path, controls: np.ndarray, seed: int = 0, late: int = 0) -> None:
    """Write a sample whose mouth is ``late`` frames behind its voice."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    soundfile.write(folder / "audio.wav", voice(controls[:, 0], 22050, rng), 22050)
    shown = np.concatenate([controls[:1].repeat(late, axis=0), controls])[: len(controls)]
    pose = head(len(controls), rng).astype(np.float32)
    face = (shown @ basis()).astype(np.float32)
    np.savez(folder / "motion.npz", face=face, head_R=pose[..., :3], head_t=pose[..., 3], fps=FPS)


def make_samples(
    folder: Path, controls: dict[str, np.ndarray], samples: int = 2, noise: float = 0.0, late: int = 0
) -> None:
    """Write samples of every recording: the true movement with noise on it."""
    rng = np.random.default_rng(1)
    for uid, values in controls.items():
        for number in range(samples):
            changed = values + noise * rng.standard_normal(values.shape)
            write_sample(folder / uid / str(number), changed, number, late)
