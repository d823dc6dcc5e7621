# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Sound and lips of a mixture stay together through cutting, remixing, swapping and padding."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from avss_data import LIP_STREAMS, STREAMS, make_mixtures

from espnet_av.avss.preprocess import Augmentation, SeparationCollate, SeparationPreprocessor, build_preprocessor
from espnet_av.avss.remix import VoiceBank
from espnet_av.data.audio_io import write_audio
from espnet_av.data.dataset import AVDataset
from espnet_av.utils.errors import DataError, MissingDataError, UsageError

PLAIN = {"swap": False}


def stamped(num_frames: int = 20, num_samples: int | None = None, variants: int = 0) -> dict[str, np.ndarray]:
    """A mixture whose samples and lips tell the frame (thousandths) and the voice they belong to."""
    clock = np.repeat(np.arange(num_frames) / 1000, 640).astype(np.float32)
    data = {"s1": clock + 0.1, "s2": clock + 0.3}
    data = {name: wave[: num_samples or len(wave)] for name, wave in data.items()}
    data["mix"] = data["s1"] + data["s2"]
    for name, offset in (("s1", 0.1), ("s2", 0.3)):
        lips = np.repeat(np.arange(num_frames)[:, None] / 1000 + offset, 3, axis=1).astype(np.float32)
        data[f"lips_{name}"] = np.stack([lips + 10 * k for k in range(variants)]) if variants else lips
    return data


def run(data: dict, rng: int = 0, *, peak: float | None = None, with_lips: bool = True, **steps: object) -> dict:
    step = SeparationPreprocessor(Augmentation(**steps), peak=peak, with_lips=with_lips)
    return step("a_b", data, np.random.default_rng(rng))


def test_validation_leaves_the_clip_whole():
    data = stamped(variants=3)
    item = SeparationPreprocessor(peak=None)("a_b", data)
    np.testing.assert_array_equal(item["mix"], data["mix"])
    np.testing.assert_array_equal(item["target"], [data["s1"], data["s2"]])
    np.testing.assert_array_equal(item["lips"], [data["lips_s1"][0], data["lips_s2"][0]])
    assert set(item) == {"mix", "target", "lips"}


def test_training_items_can_be_made_by_hand():
    item = SeparationPreprocessor(Augmentation(segment_frames=5), peak=None)("a_b", stamped())
    assert item["mix"].shape == (3200,) and item["lips"].shape == (2, 5, 3)


def test_peak_gain_is_that_of_the_mixture():
    data = stamped()
    item = SeparationPreprocessor(peak=0.99)("a_b", data)
    gain = 0.99 / data["mix"].max()
    assert np.abs(item["mix"]).max() == pytest.approx(0.99)
    np.testing.assert_allclose(item["target"][0], data["s1"] * gain, rtol=1e-6)
    np.testing.assert_allclose(item["mix"], item["target"].sum(axis=0), atol=1e-6)


def test_segments_of_sound_and_lips_show_the_same_frames():
    starts = set()
    for seed in range(60):
        item = run(stamped(), seed, segment_frames=5)
        assert item["mix"].shape == (3200,) and item["target"].shape == (2, 3200) and item["lips"].shape == (2, 5, 3)
        np.testing.assert_allclose(item["target"][:, ::640], item["lips"][..., 0], atol=1e-6)
        np.testing.assert_allclose(item["mix"], item["target"].sum(axis=0), atol=1e-6)
        starts.add(round(1000 * float(item["lips"][0, 0, 0] - (0.1 if item["lips"][0, 0, 0] < 0.2 else 0.3))))
    assert starts == set(range(16))


def test_short_clips_get_silence_and_their_last_lips():
    item = run(stamped(4, num_samples=2500), segment_frames=6, **PLAIN)
    assert item["mix"].shape == (3840,) and not item["mix"][2500:].any() and item["mix"][:2500].all()
    np.testing.assert_allclose(item["lips"][0, :, 0], [0.1, 0.101, 0.102, 0.103, 0.103, 0.103], atol=1e-6)


def test_swap_exchanges_sound_and_lips_together():
    firsts = []
    for seed in range(100):
        item = run(stamped(), seed, segment_frames=None)
        np.testing.assert_allclose(item["target"][:, ::640], item["lips"][..., 0], atol=1e-6)
        firsts.append(item["target"][0, 0] > 0.2)
    assert 30 < sum(firsts) < 70
    assert all(run(stamped(), seed, segment_frames=None, **PLAIN)["target"][0, 0] < 0.2 for seed in range(20))


def test_one_target_is_either_voice():
    drawn = [run(stamped(), seed, segment_frames=None, targets="one") for seed in range(60)]
    assert all(item["target"].shape[0] == item["lips"].shape[0] == 1 for item in drawn)
    assert all(item["target"][0, 0] == pytest.approx(item["lips"][0, 0, 0]) for item in drawn)
    assert 15 < sum(item["target"][0, 0] > 0.2 for item in drawn) < 45
    both = run(stamped(), segment_frames=None, targets="one", with_lips=False)
    assert both["target"].shape[0] == 2 and "lips" not in both


def test_training_draws_among_the_variants_of_the_crops():
    drawn = {int(run(stamped(variants=4), seed, segment_frames=None)["lips"][0, 0, 0] // 10) for seed in range(60)}
    assert drawn == {0, 1, 2, 3}


def test_without_lips_the_loudest_voice_is_the_target():
    seen = []
    for seed in range(100):
        item = run(stamped(), seed, segment_frames=None, lips_dropout=0.3, peak=0.5)
        item_gain = 0.5 / 0.438
        for target, lips, has_lips in zip(item["target"], item["lips"], item["has_lips"], strict=True):
            assert target[0] == pytest.approx((lips[0, 0] if has_lips else 0.3) * item_gain, rel=1e-3)
        seen += list(item["has_lips"])
    assert 120 < sum(seen) < 160
    assert "has_lips" not in run(stamped(), segment_frames=None)


@pytest.mark.parametrize("num_samples", [20 * 640 - 600, 19 * 640, 20 * 640])
def test_lips_may_differ_by_a_frame(num_samples):
    item = SeparationPreprocessor(peak=None)("a_b", stamped(num_samples=num_samples))
    assert item["lips"].shape[1] == round(num_samples / 640)


def test_what_does_not_fit_is_refused():
    step = SeparationPreprocessor()
    data = stamped()
    with pytest.raises(DataError, match=r"a_b.*lips_s1.*length"):
        step("a_b", stamped(num_samples=18 * 640))
    with pytest.raises(DataError, match=r"a_b.*unequal length"):
        step("a_b", {**data, "s2": data["s2"][:-1]})
    with pytest.raises(DataError, match=r"a_b.*lacks the lips of s2"):
        step("a_b", {name: value for name, value in data.items() if name != "lips_s2"})
    with pytest.raises(DataError, match=r"a_b.*lacks streams.*mix"):
        step("a_b", {"s1": data["s1"]})
    with pytest.raises(DataError, match=r"lips_s1: no lip embeddings.*uint8"):
        step("a_b", {**data, "lips_s1": np.zeros((20, 96, 96), np.uint8)})
    with pytest.raises(DataError, match=r"no lip embeddings"):
        step("a_b", {**data, "lips_s1": data["lips_s1"][:, 0]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("mixtures") / "train"
    make_mixtures(root)
    return root


def streams(folder: Path) -> dict[str, str]:
    return {name: str(folder / file) for file, name, _ in (*STREAMS, *LIP_STREAMS)}


def dataset(folder: Path, conf: dict, *, with_lips: bool = True) -> AVDataset:
    rows = [(folder / file, name, kind) for file, name, kind in (*STREAMS, *(LIP_STREAMS if with_lips else ()))]
    table = {name: str(path) for path, name, _ in rows}
    return AVDataset(rows, build_preprocessor(True, conf, table, with_lips=with_lips))


def test_remixed_voices_keep_their_lips(folder):
    conf = {"segment_sec": 0.4, "remix": {"snr_db": [-3, 3]}, "peak": None}
    data = dataset(folder, conf)
    new = 0
    for epoch in range(4):
        for uid in data.keys:
            item = data[epoch, uid][1]
            np.testing.assert_allclose(item["mix"], item["target"].sum(axis=0), atol=1e-6)
            loud = np.abs(item["target"]).reshape(2, 10, 640).max(axis=2) > 1e-3
            np.testing.assert_array_equal(loud, item["lips"].mean(axis=2) > 0.5)  # the tone is on where the lips say so
            levels = np.square(item["target"], dtype=np.float64).sum(axis=1)
            if levels.min() > 0:
                new += abs(10 * np.log10(levels[0] / levels[1])) <= 3.01
    assert new >= 20


def test_items_repeat_with_their_seed_alone(folder):
    conf = {"segment_sec": 0.4, "remix": {}, "lips_dropout": 0.5}
    first, second = (dataset(folder, conf)[3, "a01_b01"][1] for _ in range(2))
    other = dataset(folder, conf)[4, "a01_b01"][1]
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not np.array_equal(first["mix"], other["mix"])


def test_remix_without_lips_needs_no_lips(folder):
    item = dataset(folder, {"remix": {}, "segment_sec": 0.4}, with_lips=False)["a01_b01"][1]
    assert set(item) == {"mix", "target"}


def test_noise_and_responses_come_from_files_of_any_rate(folder, tmp_path):
    rng = np.random.default_rng(0)
    write_audio(tmp_path / "noise.wav", 0.1 * rng.standard_normal(48000).astype(np.float32), 48000)
    write_audio(tmp_path / "ir/mic.wav", np.eye(1, 240, dtype=np.float32)[0] * 0.5, 48000)
    (tmp_path / "noise.scp").write_text(f"n1 {tmp_path / 'noise.wav'}\n")
    conf = {
        "segment_sec": None,
        "swap": False,
        "peak": None,
        "noise": {"scp": str(tmp_path / "noise.scp"), "snr_db": [10, 10]},
        "impulse_response": {"scp": str(tmp_path / "ir")},
    }
    plain = dataset(folder, {"segment_sec": None, "swap": False, "peak": None})["a01_b01"][1]
    item = dataset(folder, conf)["a01_b01"][1]
    gain = np.vdot(item["target"], plain["target"]) / np.vdot(plain["target"], plain["target"])
    assert 0 < gain < 1
    residual = item["mix"] - item["target"].sum(axis=0)
    level = 10 * np.log10(np.square(item["mix"]).sum() / np.square(residual).sum())
    assert level == pytest.approx(10, abs=2)


@pytest.mark.parametrize(
    ("conf", "hint"),
    [
        ({"segments": 2}, "segment_sec"),
        ({"segment_sec": 0.01}, "too short"),
        ({"targets": "all"}, "both"),
        ({"lips_dropout": 2}, "0 to 1"),
        ({"peak": 2}, "peak"),
        ({"noise": {}}, "noise.scp"),
        ({"noise": True}, "mapping"),
        ({"remix": {"snr": 3}}, "remix"),
        ({"remix": {"snr_db": [3, 0]}}, "remix.snr_db"),
        ({"impulse_response": {"scp": "/nowhere/irs"}}, "impulse_response.scp"),
    ],
)
def test_wrong_settings_are_refused(folder, conf, hint):
    with pytest.raises((UsageError, MissingDataError), match=hint):
        build_preprocessor(True, conf, streams(folder))


def test_validation_ignores_what_only_training_does(folder):
    step = build_preprocessor(False, {"segment_sec": 0.4, "remix": {}, "noise": {"scp": "x"}, "peak": 0.5}, {})
    assert step.augmentation is None and step.peak == 0.5


def test_collate_pads_along_time():
    step = SeparationPreprocessor(peak=None)
    items = [(f"u{frames}", step("a_b", stamped(frames))) for frames in (3, 5)]
    uids, batch = SeparationCollate()([*items, None])
    assert uids == ["u3", "u5"]
    assert batch["mix"].shape == (2, 3200) and batch["target"].shape == (2, 2, 3200)
    assert batch["lips"].shape == (2, 2, 5, 3)
    assert batch["mix_lengths"].tolist() == [1920, 3200] and "target_lengths" not in batch
    assert not batch["target"][0, :, 1920:].any() and not batch["lips"][0, :, 3:].any()
    np.testing.assert_array_equal(batch["target"][0, 1, :1920], items[0][1]["target"][1])
    np.testing.assert_array_equal(batch["lips"][1, 1], items[1][1]["lips"][1])


def test_a_new_partner_is_never_the_same_clip():
    sound = [{"a_b": "a.wav", "c_a": "c.wav"}, {"a_b": "b.wav", "c_a": "a2.wav"}]
    lips = [{"a_b": "a.npy", "c_a": "c.npy"}, {"a_b": "b.npy", "c_a": "a.npy"}]  # rendered anew, embedded once
    rng = np.random.default_rng(0)
    drawn = {VoiceBank(sound, lips).draw("a_b", 0, rng) for _ in range(50)}
    assert drawn == {("c_a", 0)}
    assert {VoiceBank(sound).draw("a_b", 0, rng) for _ in range(50)} == {("c_a", 0), ("c_a", 1)}
    assert VoiceBank([{"a_b": "a.wav"}]).draw("a_b", 0, rng) is None
    with pytest.raises(UsageError, match="each voice"):
        VoiceBank(sound, lips[:1])
