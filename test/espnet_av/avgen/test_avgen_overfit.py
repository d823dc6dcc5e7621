# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A small generator that learns one clip by heart: the mouth follows the voice, and who listens is silent.

Axes: ``F`` frames of motion, ``T`` frames at the mel rate, ``M`` mel bands.
"""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from avgen_score_sets import CODES, FPS, basis

from espnet_av.avgen import beats, metrics
from espnet_av.avgen.choices import build_model
from espnet_av.avgen.clock import HOP_LENGTH, SAMPLE_RATE, resample_linear
from espnet_av.avgen.griffin_lim import GriffinLim
from espnet_av.avgen.mel import MelConfig, MelSpectrogram
from espnet_av.avgen.sampler import SolverRules

BANDS = MelConfig(num_mels=16)
HEIGHTS, SYLLABLE = (0.6, 1.0, 0.4, 0.8), 9
SPEAKING, FRAMES = SYLLABLE * len(HEIGHTS), 50  # the actor speaks, then listens
STEPS, BATCH = 200, 4
TRANSFORMER = {"d_model": 64, "hidden_dim": 64, "num_heads": 2, "window_per_layer": [[4, 4]]}


class Clip(NamedTuple):
    """Opening ``(F,)``, and streams at the mel rate."""

    opening: np.ndarray
    mel: torch.Tensor
    face: torch.Tensor
    tokens: torch.Tensor


def make_clip() -> Clip:
    """Syllables of different loudness, as far open as they are loud, and silence."""
    within = (np.arange(SYLLABLE) + 0.5) / SYLLABLE
    opening = np.concatenate([height * np.sin(np.pi * within) ** 2 for height in HEIGHTS])
    opening = np.pad(opening, (0, FRAMES - SPEAKING))
    times = (np.arange(FRAMES * SAMPLE_RATE // FPS) + 0.5) / SAMPLE_RATE
    buzz = sum(np.sin(2 * np.pi * 150 * number * times + number**2) / number for number in range(1, 40))
    room = 3e-4 * np.random.default_rng(0).standard_normal(len(times))
    wave = 0.15 * np.interp(times * FPS - 0.5, np.arange(FRAMES), opening) * buzz + room
    mel = MelSpectrogram(BANDS)(torch.from_numpy(wave.astype(np.float32))[None])[0].T
    face = torch.from_numpy((opening[:, None] * basis()[:1]).astype(np.float32))
    letters = 3 * torch.randn(SPEAKING // 2 + 1, 29, generator=torch.Generator().manual_seed(1))
    frames = ((torch.arange(len(mel)) + 0.5) * HOP_LENGTH / SAMPLE_RATE * FPS).long()
    tokens = letters[torch.where(frames < SPEAKING, 1 + frames // 2, 0)]  # 0: the vector of silence
    return Clip(opening, mel, resample_linear(face[None], len(mel), 1)[0], tokens)


@pytest.fixture(scope="module")
def learned():
    clip = make_clip()
    torch.manual_seed(0)
    sizes = {"face_dim": CODES, "melspec_dim": BANDS.num_mels, "head_vae": False, "condition_drop": 0.0}
    model = build_model("avflow", {**sizes, "transformer_conf": TRANSFORMER})
    spread = {"face_mean": clip.face.mean(dim=0), "face_std": clip.face.std(dim=0)}
    model.set_statistics({**spread, "mel_mean": float(clip.mel.mean()), "mel_std": float(clip.mel.std())})
    head = torch.eye(7)[:1].expand(len(clip.mel), -1)
    streams = {"mel": clip.mel, "face": clip.face, "tokens": clip.tokens, "head": head}
    batch = {name: stream.expand(BATCH, -1, -1) for name, stream in streams.items()}
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=STEPS)
    for _ in range(STEPS):
        loss, _ = model.train()(**batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    samples = model.eval().generate(
        clip.tokens, num_samples=2, solver=SolverRules(8), vocoder=GriffinLim(BANDS), seed=5
    )
    return clip, samples


def test_the_mouth_follows_the_voice(learned):
    clip, samples = learned
    for sample in samples:
        opening = (sample.face @ basis().T)[:, 0]
        assert metrics.correlate_at(clip.opening[: len(opening)], opening, 0) > 0.95
        sync = metrics.lip_sync(beats.rms_envelope(sample.wav, SAMPLE_RATE, len(opening), FPS), opening)
        assert sync.r > 0.9
        assert sync.best_lag == 0


def test_who_listens_is_40_db_below_the_own_speech(learned):
    clip, samples = learned
    speaking = SPEAKING * SAMPLE_RATE // FPS // HOP_LENGTH
    for sample in samples:
        power = np.exp(2 * sample.mel).mean(axis=1)
        listening = power[speaking + 8 :]  # the last syllable is over
        assert len(listening) > 25
        assert 10 * np.log10(listening.mean() / power[:speaking].mean()) < -40
        sound = sample.wav.reshape(-1, HOP_LENGTH)
        assert 10 * np.log10((sound[speaking + 8 :] ** 2).mean() / (sound[:speaking] ** 2).mean()) < -40
