# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest

from espnet_av.avgen import beats, metrics
from espnet_av.utils.errors import DataError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_frechet_distance_of_shifted_frames_is_the_square_of_the_shift(rng):
    frames = rng.standard_normal((3, 50, 4))
    assert metrics.frechet_distance(frames, frames + 2.0) == pytest.approx(16.0, rel=1e-9)
    assert metrics.frechet_distance(frames, frames) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_scaled_frames_in_one_dimension(rng):
    frames = rng.standard_normal((1, 500, 1))
    deviation = frames.std(ddof=1)
    expected = (2 * frames.mean()) ** 2 + (2 * deviation) ** 2
    assert metrics.frechet_distance(frames, 3 * frames) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_frames_on_a_plane_is_finite(rng):
    flat = rng.standard_normal((2, 40, 2)) @ rng.standard_normal((2, 5))
    assert metrics.frechet_distance(flat, flat) == pytest.approx(0, abs=1e-9)
    assert metrics.frechet_distance(flat, flat + 1) == pytest.approx(5, rel=1e-4)


def test_frechet_distance_needs_equal_widths_and_two_frames(rng):
    with pytest.raises(DataError, match="different widths"):
        metrics.frechet_distance(rng.standard_normal((9, 3)), rng.standard_normal((9, 4)))
    assert math.isnan(metrics.frechet_distance(rng.standard_normal((1, 3)), rng.standard_normal((9, 3))))


def test_sequences_may_differ_in_length(rng):
    parts = [rng.standard_normal((length, 3)) for length in (5, 9)]
    assert metrics.pool(parts).shape == (14, 3)
    assert [len(part) for part in metrics.differences(parts)] == [4, 8]
    with pytest.raises(DataError):
        metrics.pool([np.zeros((4, 3)), np.zeros((4, 2))])


def test_a_still_face_has_no_diversity():
    still = np.ones((2, 20, 3))
    values = (metrics.static_diversity(still), metrics.kinetic_diversity(still), metrics.l1_diversity(still))
    assert (*values, metrics.jerk(still)) == (0, 0, 0, 0)


def test_jerk_of_a_cubic_movement_is_its_third_derivative():
    time = np.arange(20) / 30
    assert metrics.jerk((time**3)[:, None]) == pytest.approx(6.0, rel=1e-6)


@pytest.mark.parametrize("lag", [-3, 0, 5])
def test_lip_sync_finds_how_late_the_mouth_is(rng, lag):
    envelope = beats.smooth(rng.standard_normal(200), 2)
    found = metrics.lip_sync(envelope[10:-10], np.roll(envelope, lag)[10:-10])
    assert found.best_lag == lag
    assert found.best_r == pytest.approx(1)


def test_lip_sync_of_a_still_mouth_is_not_defined(rng):
    assert metrics.lip_sync(rng.standard_normal(50), np.ones(50)) is None
    with pytest.raises(DataError, match="differ in length"):
        metrics.lip_sync(np.zeros(5), np.zeros(6))


def test_closure_of_equal_mouths_is_perfect_and_adds_up(rng):
    opening = rng.random(100)
    threshold = metrics.closure_threshold([opening])
    assert threshold == pytest.approx(0.15 * np.percentile(opening, 95))
    same = metrics.closure(opening, opening, threshold)
    assert same.f1 == same.precision == same.recall == 1
    wrong = metrics.closure(np.array([0.0, 1, 0]), np.array([1.0, 0, 0]), 0.5)
    assert wrong.f1 == pytest.approx(0.5)
    assert (wrong + wrong).num_real == 4
    assert math.isnan(metrics.closure(np.ones(4), np.ones(4), 0.5).f1)


def test_nearest_viseme_of_a_target_is_itself():
    from espnet_av.avgen.face.visemes import VISEMES

    targets = np.array(list(VISEMES.values()))
    assert metrics.nearest_viseme(targets[:, 0], targets[:, 1], VISEMES).tolist() == list(VISEMES)


def test_distortion_follows_the_definition_and_warps_time(rng):
    cepstra = rng.standard_normal((30, 13))
    louder = cepstra.copy()
    louder[:, 0] += 5
    assert metrics.mel_cepstral_distortion(cepstra, louder) == 0
    moved = cepstra.copy()
    moved[:, 3] += 1
    assert metrics.mel_cepstral_distortion(cepstra, moved) == pytest.approx(10 * math.sqrt(2) / math.log(10))
    slow = cepstra.repeat(2, axis=0)
    assert metrics.mel_cepstral_distortion(cepstra, slow) > 1
    assert metrics.mel_cepstral_distortion(cepstra, slow, align=True) == pytest.approx(0, abs=1e-5)


def test_cepstra_give_the_log_spectrum_back(rng):
    mel = rng.standard_normal((2, 8))
    cepstra = metrics.mel_cepstra(mel, 7)
    angles = np.pi * np.arange(1, 8)[:, None] * (2 * np.arange(8) + 1) / 16
    np.testing.assert_allclose(cepstra[:, :1] + 2 * cepstra[:, 1:] @ np.cos(angles), mel, atol=1e-12)


def test_response_finds_the_delay(rng):
    partner = beats.smooth(rng.standard_normal(300), 3)
    found = metrics.response(partner, np.roll(partner, 9))
    assert found.argmax() == 9
    assert len(found) == 61


def test_envelope_is_the_loudness_of_each_frame():
    wav = np.concatenate([np.full(1600, 0.5), np.full(1600, -0.25), np.zeros(800)])
    np.testing.assert_allclose(beats.rms_envelope(wav, 48000, 4, sigma=0), [0.5, 0.25, 0, 0])


def test_rotation_speed_is_the_angle_per_second():
    angles = np.array([0.0, 0.1, 0.4, 0.4])
    turn = np.zeros((4, 3, 3))
    turn[:, 2, 2] = 1
    turn[:, 0, 0] = turn[:, 1, 1] = np.cos(angles)
    turn[:, 1, 0], turn[:, 0, 1] = np.sin(angles), -np.sin(angles)
    np.testing.assert_allclose(beats.rotation_speed(turn), [3, 9, 0], atol=1e-9)


def test_onsets_are_found_where_a_sound_begins(rng):
    rate = 22050
    wav = 1e-3 * rng.standard_normal(2 * rate)
    for start in (0.5, 1.2):
        first, length = round(start * rate), round(0.2 * rate)
        wav[first : first + length] += 0.3 * rng.standard_normal(length)
    found = beats.audio_beats(wav, rate)
    assert np.abs(found[:, None] - [0.5, 1.2]).min(axis=0).max() < 0.04
    assert beats.audio_beats(np.zeros(rate), rate).size == 0


def test_beats_that_coincide_are_aligned():
    times = np.array([0.5, 1.0, 2.0])
    assert beats.beat_alignment(times, times) == 1
    assert beats.beat_alignment(times, times + 0.1) == pytest.approx(math.exp(-0.5))
    assert math.isnan(beats.beat_alignment(times, np.zeros(0)))


def test_speaking_frames_are_the_loud_ones():
    assert beats.speaking_frames(np.array([1.0, 0.5, 0.001, 0.0])).tolist() == [True, True, False, False]
    assert not beats.speaking_frames(np.zeros(3)).any()


def test_words_are_compared_without_case_and_punctuation():
    assert metrics.word_errors({"a": "It's on, now!"}, {"a": "it's on now"}).wer == 0
