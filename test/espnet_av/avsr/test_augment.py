# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
from collections import Counter

import numpy as np
import pytest

from espnet_av.avsr import augment
from espnet_av.utils.errors import DataError, UsageError

RATE = 16000


def snr_db(target: np.ndarray, mixed: np.ndarray) -> float:
    """Ratio of the target's energy to that of what was added."""
    added = mixed.astype(np.float64) - target
    return 10 * np.log10(np.square(target, dtype=np.float64).sum() / np.square(added).sum())


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def speech(rng: np.random.Generator, seconds: float) -> np.ndarray:
    return (0.1 * rng.standard_normal(int(seconds * RATE))).astype(np.float32)


@pytest.mark.parametrize("wanted", [-5.0, 0.0, 20.0])
def test_mixing_hits_the_ratio(rng, wanted):
    target, other = speech(rng, 3), 3 * speech(rng, 3)
    mixed = augment.add_at_snr(target, other, wanted)
    assert mixed.dtype == np.float32
    assert snr_db(target, mixed) == pytest.approx(wanted, abs=0.01)


def test_silence_is_not_mixed(rng):
    target, silence = speech(rng, 1), np.zeros(RATE, np.float32)
    np.testing.assert_array_equal(augment.add_at_snr(target, silence, 0.0), target)
    np.testing.assert_array_equal(augment.add_at_snr(silence, target, 0.0), silence)
    with pytest.raises(DataError, match="equal lengths"):
        augment.add_at_snr(target, silence[1:], 0.0)


def test_fit_length():
    assert augment.fit_length(np.arange(4.0), 6).tolist() == [0, 1, 2, 3, 0, 0]
    assert augment.fit_length(np.arange(4.0), 2).tolist() == [0, 1]


def test_masks_keep_their_bounds(rng):
    for size in (1, 10, 26, 60, 100):
        for _ in range(200):
            spans = augment.draw_time_masks(size, rng, max_length=10, stride=25)
            assert len(spans) <= -(-size // 25)
            assert all(0 <= start and 0 < length < 10 and start + length <= size for start, length in spans)
    spans = [span for _ in range(2000) for span in augment.draw_time_masks(100, rng, max_length=10, stride=25)]
    lengths = Counter(length for _, length in spans)
    assert set(lengths) == set(range(1, 10))
    assert max(lengths.values()) < 1.3 * min(lengths.values())
    assert len(spans) == pytest.approx(2000 * 4 * 0.9, rel=0.02)  # a tenth has length 0
    assert max(start + length for start, length in spans) == 100 and min(start for start, _ in spans) == 0


def test_masks_of_the_reference(rng):
    starts = [
        start for _ in range(100) for start, _ in augment.draw_time_masks(2, rng, max_length=2, stride=1, legacy=True)
    ]
    assert set(starts) == {0}  # a limit of 1 leaves one start in a clip of 2
    spans = [
        span for _ in range(2000) for span in augment.draw_time_masks(100, rng, max_length=10, stride=25, legacy=True)
    ]
    assert {length for _, length in spans} == set(range(10))  # empty ones among them
    assert len(spans) == pytest.approx(2000 * 4 * 0.9, rel=0.02)
    assert max(start + length for start, length in spans) > 100
    wave = np.ones(16000, np.float32)
    repaired, legacy = (
        augment.TrainTransform(legacy=legacy).audio(wave, np.random.default_rng(4)) for legacy in (False, True)
    )
    assert not np.array_equal(repaired, legacy)


def test_masking_copies(rng):
    wave = np.ones(RATE * 2, np.float32)
    masked = [augment.mask_time(wave, rng, max_length=6400, stride=RATE) for _ in range(20)]
    assert wave.all()
    assert sum((m == 0).any() for m in masked) >= 15
    assert all((m == 0).sum() < 2 * 6400 for m in masked)


def test_number_of_interferers(rng):
    drawn = []

    def source(rng: np.random.Generator, avoid: str | None) -> np.ndarray:
        drawn.append(1)
        return np.ones(2 * RATE, np.float32)

    mixer, wave = augment.Interferers(source), np.ones(2 * RATE, np.float32)
    counts = Counter()
    for _ in range(800):
        drawn.clear()
        mixer(wave, rng)
        counts[len(drawn)] += 1
    assert counts[0] == pytest.approx(400, abs=60)
    assert counts[1] == pytest.approx(200, abs=50)
    assert counts[2] == pytest.approx(200, abs=50)


def test_ratio_of_interferers(rng):
    target = speech(rng, 3)
    mixer = augment.Interferers(lambda rng, avoid: speech(rng, 2.5), counts=(2,), target_snrs_db=(-5.0,))
    assert snr_db(target, mixer(target, rng)) == pytest.approx(-5.0, abs=0.01)


@pytest.mark.parametrize(("target_sec", "clip_sec"), [(1.9, 5.0), (3.0, 1.9), (3.0, 10.1)])
def test_short_targets_and_odd_clips_are_left_out(rng, target_sec, clip_sec):
    target = speech(rng, target_sec)
    mixer = augment.Interferers(lambda rng, avoid: speech(rng, clip_sec), counts=(1, 2))
    np.testing.assert_array_equal(mixer(target, rng), target)


def test_clips_of_an_unsuitable_length_are_drawn_again(rng):
    asked = []

    def source(rng: np.random.Generator, avoid: str | None) -> np.ndarray:
        asked.append(avoid)
        return speech(rng, 1.0 if len(asked) % 2 else 3.0)

    target = speech(rng, 3)
    mixed = augment.Interferers(source, counts=(1,), target_snrs_db=(0.0,))(target, rng, "me")
    assert snr_db(target, mixed) == pytest.approx(0.0, abs=0.01) and asked == ["me", "me"]
    asked.clear()
    mixed = augment.Interferers(source, counts=(1,), legacy=True)(target, rng, "me")
    assert asked == [None] and np.array_equal(mixed, target)  # skipped, and it might have been the target itself


@pytest.mark.parametrize("wanted", augment.TARGET_SNRS_DB)
def test_ratio_over_the_active_part(rng, wanted):
    target = np.concatenate([np.zeros(RATE, np.float32), speech(rng, 2)])
    active = np.concatenate([np.zeros(RATE, np.float32), speech(rng, 2)])
    for count in (1, 2):
        mixer = augment.Interferers(lambda rng, avoid: active, counts=(count,), target_snrs_db=(wanted,))
        mixed = mixer(target, rng)
        assert snr_db(target[RATE:], mixed[RATE:]) == pytest.approx(wanted, abs=0.1)
        assert not mixed[:RATE].any()


def noise(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    return augment.random_part(speech(rng, 0.7), num_samples, rng)


def test_zero_db_is_a_ratio_of_noise(rng):
    target = speech(rng, 3)
    assert snr_db(target, augment.Noise(noise, snrs_db=(0.0,))(target, rng)) == pytest.approx(0.0, abs=0.01)
    np.testing.assert_array_equal(augment.Noise(noise, snrs_db=(None,))(target, rng), target)
    rare = augment.Noise(noise, snrs_db=(0.0,), probability=0.25)
    share = np.mean([not np.array_equal(rare(target, rng), target) for _ in range(300)])
    assert share == pytest.approx(0.25, abs=0.08)
    with pytest.raises(UsageError, match="probability"):
        augment.Noise(noise, probability=1.5)


def test_parts_are_cut_at_random_and_repeated_where_short(rng):
    clip = np.arange(10.0)
    parts = {tuple(augment.random_part(clip, 4, rng)) for _ in range(200)}
    assert parts == {tuple(np.arange(start, start + 4.0)) for start in range(7)}
    assert augment.random_part(np.arange(3.0), 7, rng).tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_babble_is_made_of_people_of_the_same_energy(rng):
    loudness = iter([1.0, 100.0, 0.0, 1.0, 1.0])
    voices = []

    def source(rng: np.random.Generator, avoid: str | None) -> np.ndarray:
        voices.append(next(loudness) * speech(rng, 1.0))
        return voices[-1]

    babble = augment.Babble(source, talkers=(3, 3))(rng, RATE)
    assert babble.dtype == np.float32 and babble.shape == (RATE,) and len(voices) == 3
    expected = sum(voice / np.sqrt(np.square(voice.astype(np.float64)).mean()) for voice in voices[:2])
    np.testing.assert_allclose(babble, expected, atol=1e-4)
    with pytest.raises(UsageError, match="babble_talkers"):
        augment.Babble(source, talkers=(3, 2))


def test_transforms(rng):
    frames = rng.integers(1, 256, (60, 96, 96), dtype=np.uint8)
    train = augment.TrainTransform()
    outputs = [train.video(frames, rng) for _ in range(10)]
    assert all(out.shape == (60, 88, 88) and out.dtype == np.uint8 and out.flags.c_contiguous for out in outputs)
    assert any((out == 0).all(axis=(1, 2)).any() for out in outputs)
    assert len({out[np.argmax(out.any(axis=(1, 2)))].tobytes() for out in outputs}) > 5
    plain = augment.EvalTransform()
    np.testing.assert_array_equal(plain.video(frames), frames[:, 4:92, 4:92])
    wave = speech(rng, 3)
    np.testing.assert_array_equal(plain.audio(wave), wave)


def test_the_generator_decides_everything():
    wave, frames = speech(np.random.default_rng(1), 3), np.ones((75, 96, 96), np.uint8)
    transform = augment.TrainTransform(
        interferers=augment.Interferers(lambda rng, avoid: speech(rng, 3)), noise=augment.Noise(noise)
    )

    def run(seed: int) -> tuple[bytes, bytes]:
        rng = np.random.default_rng(seed)
        return transform.audio(wave, rng).tobytes(), transform.video(frames, rng).tobytes()

    assert run(3) == run(3)
    assert run(3) != run(4)


def test_empty_lists_are_refused():
    with pytest.raises(UsageError, match="counts is empty"):
        augment.Interferers(lambda rng, avoid: np.zeros(1), counts=())
    with pytest.raises(UsageError, match="snrs_db is empty"):
        augment.Noise(noise, snrs_db=())
