# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The kinds of noise and the transform that a configuration describes."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from espnet_av.avsr import preprocess
from espnet_av.avsr.augment import EvalTransform
from espnet_av.data.audio_io import write_audio
from espnet_av.utils.errors import DataError, MissingDataError, UsageError

LEVELS = {"s1-a": 0.1, "s1-b": 0.2, "s2-a": 0.3}


@pytest.fixture
def speech_scp(tmp_path: Path) -> Path:
    """Three utterances of two speakers, each a constant of its own, with ``utt2spk`` beside the scp file."""
    for key, level in LEVELS.items():
        write_audio(tmp_path / f"{key}.flac", np.full(3 * 16000, level, np.float32), 16000)
    (tmp_path / "wav.scp").write_text("".join(f"{key} {tmp_path}/{key}.flac\n" for key in LEVELS))
    (tmp_path / "utt2spk").write_text("".join(f"{key} {key[:2]}\n" for key in LEVELS))
    return tmp_path / "wav.scp"


def test_kinds_of_noise_are_drawn_equally_often():
    banks = preprocess.NoiseBanks({"noise": lambda rng, n: np.full(n, 1.0), "music": lambda rng, n: np.full(n, 2.0)})
    rng = np.random.default_rng(0)
    counts = Counter(float(banks(rng, 2)[0]) for _ in range(400))
    assert counts[1.0] == pytest.approx(200, abs=40) and repr(banks) == "NoiseBanks(noise, music)"


def test_the_configuration_becomes_a_transform(speech_scp):
    folder = str(speech_scp.parent)
    conf = {
        "legacy": True,
        "audio_masks": False,
        "interferers": {"counts": [1]},
        "noise": {"banks": {"noise": folder}, "babble_talkers": [2, 3], "snrs_db": [0], "probability": 0.5},
    }
    transform = preprocess.build_transform(True, conf, speech_scp=str(speech_scp))
    assert transform.legacy and transform.interferers.legacy and transform.interferers.counts == [1]
    assert transform.noise.source.names == ["noise", "babble"] and transform.noise.probability == 0.5
    wave = np.full(3 * 16000, 0.1, np.float32)
    assert not np.array_equal(transform.audio(wave, np.random.default_rng(1), "s1-a"), wave)
    assert preprocess.build_transform(True, {"interferers": {}}, str(speech_scp)).interferers.legacy is False
    assert isinstance(preprocess.build_transform(False, conf), EvalTransform)


def test_training_items_can_be_made_by_hand():
    step = preprocess.AVSRPreprocessor(preprocess.build_transform(True, {}))
    item = step("a", {"speech": np.ones(32000, np.float32), "video": np.ones((50, 96, 96), np.uint8)})
    assert item["speech"].shape == (32000,) and item["video"].shape == (50, 88, 88)


def test_the_target_s_speaker_does_not_interfere_with_itself(speech_scp):
    conf = {"audio_masks": False, "interferers": {"counts": [1], "target_snrs_db": [0.0]}}
    step = preprocess.AVSRPreprocessor(preprocess.build_transform(True, conf, str(speech_scp)))
    wave = np.tile(np.array([0.1, -0.1], np.float32), 24000)
    for seed in range(5):  # constants: the first sample tells whether anything was mixed in
        mixed = step("s2-a", {"speech": wave}, np.random.default_rng(seed))["speech"]
        assert mixed[0] - wave[0] == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize(
    ("conf", "error", "message"),
    [
        ({"noise": {}}, UsageError, "noise needs sounds"),
        ({"noise": {"scp": "/nowhere.scp"}}, MissingDataError, "noise.banks.noise: no such file or folder"),
        ({"noise": {"banks": ["a"]}}, UsageError, "maps kinds"),
        ({"noise": {"babble_talkers": 4}}, UsageError, "babble_talkers"),
        ({"noise": {"babble_talkers": [1, 2]}}, UsageError, "no sounds to draw from"),
        ({"interferers": {}}, UsageError, "interferers.scp has no sounds"),
        ({"interferers": True}, UsageError, "no mapping"),
        ({"maskz": 1}, UsageError, "preprocessor_conf.*legacy"),
    ],
)
def test_wrong_configurations(conf, error, message):
    with pytest.raises(error, match=message):
        preprocess.build_transform(True, conf)


def test_wrong_keywords_of_a_part(speech_scp):
    with pytest.raises(UsageError, match="preprocessor_conf.interferers: .*snr"):
        preprocess.build_transform(True, {"interferers": {"snr": 1}}, str(speech_scp))
    (speech_scp.parent / "empty").mkdir()
    with pytest.raises(DataError, match="no sounds here"):
        preprocess.build_transform(True, {"noise": {"scp": str(speech_scp.parent / "empty")}})
