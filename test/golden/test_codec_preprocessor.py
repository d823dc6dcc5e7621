# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Mixing of noise and rooms against ESPnet's preprocessor with the settings of track 2: the draws and the signals."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_av.codec.enhancement import SoundList, SpeechMixer, active_samples

FIXTURES = Path(os.environ.get("ESPNET_AV_FIXTURES", Path(__file__).parents[3] / "shared/specs/fixtures")) / "codec"
TOLERANCE = 1e-6
SAMPLE_RATE = 24000
FULL_SCALE = 32768
SEEDS = 500  # the data do not say which one made the loud mixture

pytestmark = pytest.mark.skipif(
    not (FIXTURES / "preprocessor.npz").is_file(), reason=f"no golden data in {FIXTURES}; set ESPNET_AV_FIXTURES"
)


@pytest.fixture(scope="module")
def arrays():
    with np.load(FIXTURES / "preprocessor.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def speech(arrays):
    return arrays["speech"].astype(np.float32) / FULL_SCALE


@pytest.fixture(scope="module")
def lists(arrays, tmp_path_factory):
    """Write the sounds under the names that the draws are told by, one list with rates and one without."""
    folder = tmp_path_factory.mktemp("sounds")
    lines = {"noise": [], "rir": []}
    for name in sorted(arrays):
        kind = name.rstrip("0123456789")
        if kind in lines and name != kind:
            path = folder / f"{kind[0]}{name[len(kind) :]}.wav"
            subtype = "PCM_16" if arrays[name].dtype == np.int16 else "FLOAT"
            soundfile.write(path, arrays[name], SAMPLE_RATE, subtype=subtype)
            lines[kind].append(f"{path.name} {f'{SAMPLE_RATE} ' if kind == 'noise' else ''}{path}\n")
    for kind, content in lines.items():
        (folder / f"{kind}.scp").write_text("".join(content))
    return {kind: SoundList(folder / f"{kind}.scp") for kind in lines}


def cases():
    path = FIXTURES / "preprocessor.json"
    found = json.loads(path.read_text()) if path.is_file() else []
    return [(number, case) for number, case in enumerate(found) if "np_seed" in case]


@pytest.mark.parametrize(("number", "case"), cases(), ids=lambda value: str(value) if isinstance(value, int) else "")
def test_draws_and_signals(arrays, speech, lists, number, case):
    mixer = SpeechMixer(lists["rir"], lists["noise"], SAMPLE_RATE, legacy=True)
    rng = np.random.RandomState(case["np_seed"])
    mixture, target, draws = mixer(speech, rng)
    assert (draws.room, draws.noise) == (case["rir"], case["noise"])
    assert draws.snr_db == pytest.approx(case["snr_db"]) if case["noise"] else draws.snr_db is None
    assert rng.random() == case["next_uniform_after"]
    np.testing.assert_allclose(mixture, arrays[f"case{number}.audio"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(target, arrays[f"case{number}.speech_ref1"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose([np.abs(mixture).max(), np.abs(target).max()], case["max_abs"], atol=TOLERANCE)


@pytest.mark.parametrize(("number", "case"), cases(), ids=lambda value: str(value) if isinstance(value, int) else "")
def test_single_precision_gives_the_same_signals(arrays, speech, lists, number, case):
    """The default computes in float32 and takes the largest tap by magnitude, which is the same for these rooms."""
    mixer = SpeechMixer(lists["rir"], lists["noise"], SAMPLE_RATE)
    mixture, target, _ = mixer(speech, np.random.RandomState(case["np_seed"]))
    np.testing.assert_allclose(mixture, arrays[f"case{number}.audio"], rtol=0, atol=2 * TOLERANCE)
    np.testing.assert_allclose(target, arrays[f"case{number}.speech_ref1"], rtol=0, atol=2 * TOLERANCE)


def test_loud_mixtures_are_brought_down_together(arrays, speech, lists):
    target = arrays["loud.speech_ref1"]
    loudness = 2 * float(target @ speech / (speech @ speech))  # any that makes the mixture exceed full scale
    mixer = SpeechMixer(None, lists["noise"], SAMPLE_RATE, noise_apply_prob=1.0, snr_db=(0.0, 0.0), legacy=True)
    made = (mixer(np.float32(loudness) * speech, np.random.RandomState(seed)) for seed in range(SEEDS))
    wanted = arrays["loud.audio"]
    mixture, quieter, _ = next(signals for signals in made if np.abs(signals[0] - wanted).max() < TOLERANCE)
    np.testing.assert_allclose(quieter, target, rtol=0, atol=TOLERANCE)
    assert np.abs(mixture).max() == pytest.approx(1.0, abs=TOLERANCE)


def test_active_samples(arrays, speech):
    np.testing.assert_array_equal(active_samples(speech), arrays["vad.mask"])
