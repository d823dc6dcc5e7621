# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The same recording is found again, another one is not."""

import numpy as np
import pytest
from doctor_plants import RATE, as_mp3

from espnet_av.corpora.acoustics import coloured_noise
from espnet_av.data.audio_io import resample_audio
from espnet_av.data.doctor.fingerprint import Index, fingerprint
from espnet_av.data.doctor.prints import PrintStore, find_same

LIMITS = {"max_error": 0.25, "min_sec": 0.5}


def speech(seed: int, seconds: float = 3.0) -> np.ndarray:
    """Noise whose spectrum changes every 80 ms, as that of speech does."""
    rng = np.random.default_rng(seed)
    count = round(seconds * RATE)
    spans = [coloured_noise(1280, "white", RATE, rng) for _ in range(-(-count // 1280))]
    shaped = []
    for span in spans:
        spectrum = np.fft.rfft(span)
        places = np.arange(len(spectrum)) / len(spectrum) * 8000
        peaks = sum(np.exp(-(((places - rng.uniform(300, 3500)) / 200) ** 2)) for _ in range(3))
        shaped.append(np.fft.irfft(spectrum * (peaks + 0.01)))
    wave = np.concatenate(shaped)[:count]
    return (0.2 * wave / np.abs(wave).max()).astype(np.float32)


CLIPS = [speech(seed) for seed in range(12)]
CHANGES = {
    "as it is": lambda wave: wave,
    "softer": lambda wave: 0.05 * wave,
    "later": lambda wave: wave[5003:],
    "lossy": lambda wave: 0.3 * as_mp3(wave)[1111:],
    "narrow": lambda wave: resample_audio(resample_audio(wave[300:], RATE, 8000), 8000, RATE),
    "among others": lambda wave: np.concatenate([speech(99, 1.0), wave, speech(98, 1.0)]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_found_again(name):
    index = Index([fingerprint(wave, RATE) for wave in CLIPS])
    for number in (0, 5, 11):
        matches = index.search(7, fingerprint(CHANGES[name](CLIPS[number]), RATE), **LIMITS)
        assert [match.second for match in matches] == [number], name
        assert matches[0].first == 7 and matches[0].overlap_sec > 1.0
    shift = {"later": 5003 / RATE, "lossy": 1111 / RATE, "narrow": 300 / RATE, "among others": -1.0}.get(name, 0.0)
    assert matches[0].shift_sec == pytest.approx(shift, abs=0.02)


def test_others_are_not():
    index = Index([fingerprint(wave, RATE) for wave in CLIPS])
    for number, wave in enumerate(CLIPS):
        assert index.search(0, fingerprint(wave, RATE), **LIMITS, skip=number) == []
    assert index.search(0, fingerprint(np.zeros(48000, np.float32), RATE), **LIMITS) == []
    assert index.search(0, fingerprint(CLIPS[0][:2000], RATE), **LIMITS) == []
    assert Index([]).search(0, fingerprint(CLIPS[0], RATE), **LIMITS) == []


def test_store_keeps_what_it_was_given(monkeypatch):
    """Fingerprints come back from disk as they were, and blocks of an index change nothing."""
    store = PrintStore()
    prints = [None, *(fingerprint(wave, RATE) for wave in CLIPS), fingerprint(0.5 * CLIPS[3][2000:], RATE)]
    for item in prints:
        store.append(item)
    assert len(store) == 14 and len(store[0].codes) == 0
    assert (store[4].codes == prints[4].codes).all() and (store[4].weak == prints[4].weak).all()
    assert (store[4].valid == prints[4].valid).all()
    whole = find_same(store, range(14), range(14), **LIMITS, only_earlier=True)
    assert [(match.first, match.second) for match in whole] == [(13, 4)]
    monkeypatch.setattr("espnet_av.data.doctor.prints.BLOCK_CODES", 500)
    assert len(list(store.blocks(range(14)))) > 3
    assert find_same(store, range(14), range(14), **LIMITS, only_earlier=True) == whole
    folder = store._path.parent
    store.close()
    assert not folder.exists()
