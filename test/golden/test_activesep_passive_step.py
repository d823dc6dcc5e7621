# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Spectra of a data point and two steps of passive training against numbers of the reference."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from activesep_recipe import INPUT_OFFSET, PREFIX, assert_close, base_seed, read, reference_weights
from scipy.io import wavfile
from scipy.signal import fftconvolve

from espnet_av.activesep.convert import below_separator, from_reference, original_name
from espnet_av.activesep.separators import PassiveSeparator
from espnet_av.activesep.spectra import ear_magnitude, mixture_log_magnitude, normalised_mono_target
from espnet_av.train.conversion import load_strictly

LR, EPS = 5e-4, 1e-5
MODULES = {
    "binSep_enc": "extractor.unet.encoder",
    "binSep_dec": "extractor.unet.decoder",
    "bin2mono_enc": "converter.unet.encoder",
    "bin2mono_dec": "converter.unet.decoder",
}


@pytest.fixture(scope="module")
def folder(fixtures_dir) -> Path:
    return fixtures_dir("activesep")


@pytest.fixture(scope="module")
def readme(folder) -> str:
    path = folder / "README.md"
    if not path.is_file():
        pytest.skip(f"no {path}, which names files and labels")
    return path.read_text()


def draw_inputs(folder: Path, readme: str) -> tuple[torch.Tensor, ...]:
    """Recipe R2: mixture, target at the ears, dry target, labels; their number tells that of the seconds."""
    labels = json.loads(re.search(r"labels (\[[\d, ]+\])", readme)[1])
    random = np.random.RandomState(base_seed(folder) + INPUT_OFFSET)

    def normal(channels: int) -> np.ndarray:
        return np.abs(random.standard_normal((len(labels), 512, 32, channels)))

    arrays = [np.log1p(0.5 * normal(2)), 0.4 * normal(2), normal(1)]
    mixed, ears, mono = (torch.from_numpy(array.astype(np.float32)) for array in arrays)
    return mixed, torch.tensor(labels), ears, mono


@pytest.fixture
def two_threads() -> Iterator[None]:
    """As the numbers were made: then they are the same to the last digit."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def gradient_norm(module: torch.nn.Module) -> float:
    return torch.stack([p.grad.double().norm() for p in module.parameters()]).norm().item()


def test_two_steps(folder, readme, two_threads):
    expected = json.loads((folder / "passive_train_step.json").read_text())
    separator = PassiveSeparator().train()
    load_strictly(separator, below_separator(from_reference(reference_weights(folder, passive=True))[0]))
    optimiser = torch.optim.Adam(separator.parameters(), lr=LR, eps=EPS)
    inputs = draw_inputs(folder, readme)
    for number, step in enumerate(expected["steps"]):
        tolerance = 1e-2 if number else 1e-4
        losses = separator.loss(*inputs)
        optimiser.zero_grad()
        losses.total.backward()
        assert losses.binaural.item() == pytest.approx(step["bin_loss"], rel=tolerance)
        assert losses.mono.item() == pytest.approx(step["mono_loss"], rel=tolerance)
        for theirs, ours in MODULES.items():
            norm = gradient_norm(separator.get_submodule(ours))
            assert norm == pytest.approx(step["grad_norm"][theirs], rel=max(tolerance, 1e-3)), theirs
        optimiser.step()
    state = {original_name(f"separator.{name}"): tensor for name, tensor in separator.state_dict().items()}
    for name, total in expected["after"].items():
        # Adam divides tiny gradients by themselves: rounding flips signs, and sums of many weights wander
        wander = 0.1 * LR * state[name].numel() ** 0.5 if "weight" in name else 0.0
        assert state[name].double().sum().item() == pytest.approx(total, rel=1e-3, abs=wander), name
        assert name.startswith(PREFIX)


def chunk_at_ears(scene: Path, clip: Path, rir: str) -> np.ndarray:
    """One second of a clip through a response, as 16-bit samples ``(2, N)``."""
    rate, wave = wavfile.read(clip)
    rate_of_rir, response = wavfile.read(next(scene.glob(f"binaural_rirs/*/*/{rir}")))
    assert rate == rate_of_rir == 16000
    ears = [fftconvolve(wave.astype(np.float64), response[:, ear], mode="same") for ear in range(2)]
    return np.round(np.stack(ears)).astype(np.int16)


def test_spectra_of_a_data_point(folder, readme):
    data = read(folder / "passive_datapoint.npz")
    described = re.search(
        r"for target `([^`]+)` with RIR `([^`]+)` and distractor `([^`]+)` with RIR `([^`]+)`", readme
    )
    target, target_rir, distractor, distractor_rir = described.groups()
    scene = folder / "scene"
    clips = [next(scene.glob(f"audio_data/**/1s_chunks/**/{name}")) for name in (target, distractor)]
    ears, other = (chunk_at_ears(scene, *pair) for pair in zip(clips, (target_rir, distractor_rir), strict=True))
    mixture = torch.from_numpy((ears.astype(np.float32) + other.astype(np.float32)) / 2 / 32768)
    assert_close(mixture_log_magnitude(mixture), data["mixed_log1p"], rtol=0)
    assert_close(ear_magnitude(torch.from_numpy(ears)), data["gt_bin_mag"], rtol=0)
    assert_close(normalised_mono_target(torch.from_numpy(wavfile.read(clips[0])[1])), data["gt_mono_mag"], rtol=0)
