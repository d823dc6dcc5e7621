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
            assert all(0 <= start < size and 0 <= length < 10 for start, length in spans)
    starts = [start for _ in range(100) for start, _ in augment.draw_time_masks(2, rng, max_length=2, stride=1)]
    assert set(starts) == {0}  # a limit of 1 leaves one start in a clip of 2
    lengths = [length for _ in range(2000) for _, length in augment.draw_time_masks(100, rng, max_length=10, stride=25)]
    assert set(lengths) == set(range(10))
    assert len(lengths) == pytest.approx(2000 * 4 * 0.9, rel=0.02)  # a tenth is skipped


def test_masking_copies(rng):
    wave = np.ones(RATE * 2, np.float32)
    masked = [augment.mask_time(wave, rng, max_length=6400, stride=RATE) for _ in range(20)]
    assert wave.all()
    assert sum((m == 0).any() for m in masked) >= 15
    assert all((m == 0).sum() < 2 * 6400 for m in masked)


def test_number_of_interferers(rng):
    drawn = []

    def source(rng: np.random.Generator) -> np.ndarray:
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
    mixer = augment.Interferers(lambda rng: speech(rng, 2.5), counts=(2,), target_snrs_db=(-5.0,))
    assert snr_db(target, mixer(target, rng)) == pytest.approx(-5.0, abs=0.01)


@pytest.mark.parametrize(("target_sec", "clip_sec"), [(1.9, 5.0), (3.0, 1.9), (3.0, 10.1)])
def test_short_targets_and_odd_clips_are_left_out(rng, target_sec, clip_sec):
    target = speech(rng, target_sec)
    mixer = augment.Interferers(lambda rng: speech(rng, clip_sec), counts=(1, 2))
    np.testing.assert_array_equal(mixer(target, rng), target)


def test_noise_is_repeated_and_zero_db_is_a_ratio(rng):
    target = speech(rng, 3)
    mixed = augment.Noise(lambda rng: speech(rng, 0.7), snrs_db=(0.0,))(target, rng)
    assert snr_db(target, mixed) == pytest.approx(0.0, abs=0.01)
    np.testing.assert_array_equal(augment.Noise(lambda rng: target, snrs_db=(None,))(target, rng), target)


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
        interferers=augment.Interferers(lambda rng: speech(rng, 3)), noise=augment.Noise(lambda rng: speech(rng, 1))
    )

    def run(seed: int) -> tuple[bytes, bytes]:
        rng = np.random.default_rng(seed)
        return transform.audio(wave, rng).tobytes(), transform.video(frames, rng).tobytes()

    assert run(3) == run(3)
    assert run(3) != run(4)


def test_empty_lists_are_refused():
    with pytest.raises(UsageError, match="counts is empty"):
        augment.Interferers(lambda rng: np.zeros(1), counts=())
    with pytest.raises(UsageError, match="snrs_db is empty"):
        augment.Noise(lambda rng: np.zeros(1), snrs_db=())
