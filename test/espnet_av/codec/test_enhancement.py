# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Rooms and noise on clean speech: ratios, alignment, lists, and sounds that cannot be used."""

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

sys.path.insert(0, str(Path(__file__).parents[1]))
from codec_train_data import SAMPLE_RATE, make_lists, make_sound

from espnet_av.codec.enhancement import SoundList, SpeechMixer, active_power, active_samples, parse_db_range
from espnet_av.codec.preprocess import build_preprocessor
from espnet_av.utils.errors import DataError, MissingDataError, UsageError

RNG = np.random.default_rng


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    wave = 0.1 * RNG(0).standard_normal(24000).astype(np.float32)
    wave[8000:14000] *= 0.01  # a pause
    return wave


@pytest.fixture
def lists(tmp_path) -> dict:
    return make_lists(tmp_path)


def mixer(lists: dict, **options) -> SpeechMixer:
    return SpeechMixer(SoundList(lists["rir_scp"]), SoundList(lists["noise_scp"]), SAMPLE_RATE, **options)


def test_ratio_over_active_samples_is_the_one_drawn(speech, lists):
    mixture, target, draws = mixer(lists, rir_apply_prob=0.0, noise_apply_prob=1.0, snr_db=(7.0, 7.0))(speech, RNG(1))
    noise = mixture - speech
    ratio = 10 * np.log10(active_power(speech) / np.square(noise, dtype=np.float64).mean())
    assert draws.snr_db == 7.0 and ratio == pytest.approx(7.0, abs=1e-3)
    np.testing.assert_array_equal(target, speech)
    assert active_power(speech) > 1.2 * np.square(speech).mean()  # the pause does not count


def test_input_and_target_keep_power_and_delay(speech, lists):
    one = mixer(lists, rir_apply_prob=1.0, noise_apply_prob=0.0)
    mixture, target, draws = one(speech, RNG(2))
    assert draws.room is not None and draws.noise is None
    for signal in (mixture, target):
        assert active_power(signal) == pytest.approx(active_power(speech), rel=1e-3)
        lag = np.correlate(signal[:4000], speech[:3900], "valid").argmax()
        assert lag == 40  # of the direct path


def test_target_has_the_early_reflections_alone(speech, tmp_path):
    taps = np.zeros(6000)
    taps[[100, 700, 4000]] = 0.8, 0.3, 0.5  # direct, early (25 ms later), late
    (tmp_path / "rooms").write_text(f"a {make_sound(tmp_path, 'a', taps)}\n")
    rooms = SoundList(tmp_path / "rooms")
    delayed = {lag: np.concatenate([np.zeros(lag), speech])[: len(speech)] for lag in (100, 700, 4000)}
    early = 0.8 * delayed[100] + 0.3 * delayed[700]
    heard = early + 0.5 * delayed[4000]
    for match in (False, True):
        mixture, target, _ = SpeechMixer(rooms, None, SAMPLE_RATE, rir_apply_prob=1.0, match_direct_path=match)(
            speech, RNG(0)
        )
        gains = [np.sqrt(active_power(speech) / active_power(signal)) for signal in (heard, early)]
        np.testing.assert_allclose(mixture, gains[0] * heard, atol=1e-4)
        np.testing.assert_allclose(target, (gains[0] if match else gains[1]) * early, atol=1e-4)


def test_a_strong_negative_tap_is_the_direct_path(speech, tmp_path):
    taps = np.zeros(6000)
    taps[100], taps[3000] = -0.9, 0.5
    (tmp_path / "rooms").write_text(f"a {make_sound(tmp_path, 'a', taps)}\n")
    rooms = SoundList(tmp_path / "rooms")
    _, target, _ = SpeechMixer(rooms, None, SAMPLE_RATE, rir_apply_prob=1.0)(speech, RNG(0))
    _, legacy, _ = SpeechMixer(rooms, None, SAMPLE_RATE, rir_apply_prob=1.0, legacy=True)(speech, RNG(0))
    assert np.corrcoef(target[100:], -speech[:-100])[0, 1] == pytest.approx(1.0, abs=1e-6)
    assert np.corrcoef(legacy[100:], -speech[:-100])[0, 1] < 0.95  # takes the late reflection along


def test_same_generator_same_mixture_and_copies_of_the_mixer_too(speech, lists):
    one = mixer(lists, rir_apply_prob=1.0, noise_apply_prob=1.0)
    first, again, other = one(speech, RNG(5)), copy.deepcopy(one)(speech, RNG(5)), one(speech, RNG(6))
    assert first[2] == again[2] != other[2]
    np.testing.assert_array_equal(first[0], again[0])


def test_sounds_of_another_rate_are_converted(speech, tmp_path):
    time = np.arange(16000) / 16000
    soundfile.write(tmp_path / "tone.wav", 0.3 * np.sin(2 * np.pi * 1000 * time), 16000)
    (tmp_path / "list").write_text(f"tone 16000 {tmp_path / 'tone.wav'}\n")
    one = SpeechMixer(None, SoundList(tmp_path / "list"), SAMPLE_RATE, noise_apply_prob=1.0, snr_db=(0.0, 0.0))
    mixture, _, _ = one(speech, RNG(0))
    spectrum = np.abs(np.fft.rfft((mixture - speech)[2000:22000]))
    assert spectrum.argmax() * SAMPLE_RATE / 20000 == pytest.approx(1000, abs=5)


def test_lists_of_two_and_three_columns_and_of_paths(tmp_path):
    (tmp_path / "list").write_text("a 24000 /x/a b.wav\nc /x/c.wav\n/x/d.wav\ne 24000\n")
    assert list(SoundList(tmp_path / "list").paths.values()) == ["/x/a b.wav", "/x/c.wav", "/x/d.wav", "24000"]


@pytest.mark.parametrize(
    ("content", "message"), [("", "no sounds"), ("a x\na y\n", "duplicate id 'a'"), ("a sox x |\n", "a command")]
)
def test_bad_lists(tmp_path, content, message):
    (tmp_path / "list").write_text(content)
    with pytest.raises(DataError, match=message):
        SoundList(tmp_path / "list")


def test_silence_and_short_speech(speech, lists):
    one = mixer(lists, rir_apply_prob=1.0, noise_apply_prob=1.0)
    for wave in (np.zeros(3000, np.float32), speech[:1], speech[:500]):
        mixture, target, _ = one(wave, RNG(0))
        assert len(mixture) == len(target) == len(wave)
        assert np.isfinite(mixture).all() and np.isfinite(target).all()
    assert active_samples(np.zeros(3000)).all() and active_samples(speech[:9]).all()
    with pytest.raises(DataError, match="only speech of one channel"):
        one(speech[:0], RNG(0))


@pytest.mark.parametrize(
    ("kind", "message"),
    [("gone", "does not exist"), ("text", "cannot be read"), ("nan", "not finite"), ("zero", "silent")],
)
def test_a_bad_room_is_named(speech, tmp_path, kind, message):
    path = make_sound(tmp_path, "a", np.ones(100) * 0.1)
    (tmp_path / "rooms").write_text(f"room7 {path}\n")
    one = SpeechMixer(SoundList(tmp_path / "rooms"), None, SAMPLE_RATE, rir_apply_prob=1.0)
    if kind == "gone":
        path.unlink()
    elif kind == "text":
        path.write_text("no sound")
    else:
        soundfile.write(path, np.full(100, np.nan if kind == "nan" else 0.0), SAMPLE_RATE, subtype="FLOAT")
    with pytest.raises(DataError, match=f"room7.*{message}"):
        one(speech, RNG(0))


def test_targets_of_both_tracks(speech, lists):
    options = {"sample_rate": SAMPLE_RATE, "noise_apply_prob": 1.0, **{name: str(path) for name, path in lists.items()}}
    clean, same = (build_preprocessor(**options, mixing_target=target) for target in ("clean", "mixture"))
    item, robust = (step("u", {"audio": speech}, RNG(4)) for step in (clean, same))
    assert list(item) == ["audio", "speech_ref1"] and list(robust) == ["audio"]
    np.testing.assert_array_equal(item["audio"], robust["audio"])
    assert not np.array_equal(item["audio"], item["speech_ref1"])
    with pytest.raises(DataError, match="'u'.*differ in length"):
        clean("u", {"audio": speech, "speech_ref1": speech[1:]}, RNG(4))


def test_sounds_of_validation_are_left_out(lists, tmp_path):
    held = tmp_path / "held.scp"
    held.write_text("n1 /x/n1.wav\nr2 /x/r2.wav\n")
    names = {name: str(path) for name, path in lists.items()}
    mixing = build_preprocessor(sample_rate=SAMPLE_RATE, **names, held_out=[str(held)]).mixer
    assert (mixing.noises.keys, mixing.rooms.keys) == (["n0", "n2"], ["r0", "r1"])
    with pytest.raises(DataError, match="all sounds are also used in validation"):
        build_preprocessor(sample_rate=SAMPLE_RATE, **names, held_out=[names["noise_scp"]])


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (UsageError, "needs noises or rooms", {"noise_scp": None, "rir_scp": None}),
        (UsageError, "noise_db_range", {"noise_db_range": "30_-5"}),
        (UsageError, "noise_db_range", {"noise_db_range": "loud"}),
        (UsageError, "rir_apply_prob", {"rir_apply_prob": 1.5}),
        (UsageError, "mixing_target", {"mixing_target": "noise"}),
        (MissingDataError, "noise_scp: no such list", {"noise_scp": "nowhere.scp"}),
    ],
)
def test_bad_settings(lists, error, message, options):
    names = {name: str(path) for name, path in lists.items()}
    with pytest.raises(error, match=message):
        build_preprocessor(**{"sample_rate": SAMPLE_RATE, **names, **options})


def test_missing_files_of_a_list_are_found_before_training(lists, tmp_path):
    (tmp_path / "noise" / "n2.wav").unlink()
    with pytest.raises(MissingDataError, match="the file of 'n2' does not exist"):
        build_preprocessor(sample_rate=SAMPLE_RATE, noise_scp=str(lists["noise_scp"]), rir_scp=None)


def test_ranges_of_decibels():
    assert parse_db_range("-5_30") == (-5.0, 30.0) and parse_db_range(3) == (3.0, 3.0)
    assert parse_db_range([1, 2]) == (1.0, 2.0)
