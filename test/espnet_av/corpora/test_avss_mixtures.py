# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Two-speaker mixtures made of clips: the level rule, who is mixed with whom, and the files."""

import numpy as np
import pytest

from espnet_av.corpora import avss_mixtures
from espnet_av.corpora.active_level import active_level_db
from espnet_av.corpora.avss_mixtures import draw_pairs, make_set, mix_pair, pair_kind
from espnet_av.data.audio_io import read_audio, write_audio
from espnet_av.data.data_dir import DataDir
from espnet_av.data.drops import TooManyDropped
from espnet_av.data.mixture_dir import read_mixtures
from espnet_av.utils.errors import DataError, MissingDataError, UsageError

SPEAKER_OF = {f"{speaker}-{index}": speaker for speaker in ("a", "b", "c", "d") for index in range(5)}
GENDER_OF = {clip: "f" if speaker in "ab" else "m" for clip, speaker in SPEAKER_OF.items()}


def speech(seed: int, num_samples: int = 32000, level: float = 0.05) -> np.ndarray:
    """Noise in bursts, as loud as asked for."""
    rng = np.random.default_rng(seed)
    bursts = np.repeat(rng.random(num_samples // 1600 + 1) > 0.3, 1600)[:num_samples]
    return (level * bursts * rng.standard_normal(num_samples)).astype(np.float32)


def make_clips(root, seconds=(2.4, 2.0, 3.0, 2.4), silent=()):
    """Make a folder of formatted clips of two speakers."""
    (root / "clips").mkdir(parents=True)
    data = DataDir(root / "clips")
    waves, mouths, speakers = {}, {}, {}
    for index, sec in enumerate(seconds):
        clip = f"s{index % 2}-{index}"
        waves[clip], mouths[clip] = root / f"{clip}.flac", root / f"{clip}.npy"
        wave = speech(index, round(sec * 16000) - 100)  # real sound ends a little before the video
        write_audio(waves[clip], np.zeros_like(wave) if clip in silent else wave, 16000)
        np.save(mouths[clip], np.full((round(sec * 25), 96, 96), index, dtype=np.uint8))
        speakers[clip] = clip[:2]
    data.write("wav.scp", waves)
    data.write("mouth.scp", mouths)
    data.write("utt2spk", speakers)
    data.write_meta({"licence": "CC0-1.0"})
    return data.path


def make(root, clips, name="train", **more):
    """Make the mixtures of a set."""
    kept = {"num_mixtures": 4, **more}
    make_set(clips, root / "formatted" / name, root / "media" / name, root / "cut", **kept)
    return root / "formatted" / name


@pytest.mark.parametrize("rate", [8000, 16000])
def test_active_level_of_a_tone_is_its_power(rate):
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(4 * rate) / rate)
    assert active_level_db(tone, rate) == pytest.approx(-23.01, abs=0.1)
    assert active_level_db(0.01 * tone, rate) == pytest.approx(-63.01, abs=0.1)


def test_active_level_leaves_out_silence():
    wave = speech(0, 64000)
    padded = np.concatenate([np.zeros(64000), wave, np.zeros(64000)])
    level = active_level_db(padded, 16000, None)
    assert level == pytest.approx(active_level_db(wave, 16000, None), abs=0.5)
    assert level > 10 * np.log10(np.mean(padded**2)) + 4
    assert active_level_db(padded, 16000) == pytest.approx(level - 3, abs=0.5)  # half of white noise is above 4 kHz
    assert active_level_db(np.zeros(8000), 16000) == -np.inf


def test_level_rule():
    mixed = mix_pair(speech(0, 32000, 0.2), speech(1, 30000, 0.01), 3.0, -3.0)
    assert mixed.shape == (3, 30000) and mixed.dtype == np.int16
    assert np.array_equal(mixed[0].astype(int), mixed[1].astype(int) + mixed[2])
    assert np.abs(mixed.astype(int)).max() == pytest.approx(0.9 * 32768, abs=1)
    levels = [active_level_db(row / 32768, 16000) for row in mixed[1:]]
    assert levels[0] - levels[1] == pytest.approx(6.0, abs=0.5)  # the first was cut after its level was measured
    with pytest.raises(DataError, match="silent"):
        mix_pair(np.zeros(3200, np.float32), speech(1), 1.0, -1.0)


def test_pairs_of_every_kind():
    pairs = draw_pairs(SPEAKER_OF, GENDER_OF, 30, np.random.default_rng(0))
    assert len({frozenset((pair.first, pair.second)) for pair in pairs}) == 30
    for kind in ("same_speaker", "same_gender", "other"):
        chosen = [pair for pair in pairs if pair.kind == kind]
        assert len(chosen) == 10
        assert {pair_kind(pair.first, pair.second, SPEAKER_OF, GENDER_OF) for pair in chosen} == {kind}
    assert all(abs(pair.gain_db) < 5 for pair in pairs)
    assert {pair.gain_db > 0 for pair in pairs} == {True, False}
    first = draw_pairs(SPEAKER_OF, GENDER_OF, 30, np.random.default_rng(0), louder="first")
    assert all(pair.gain_db >= 0 for pair in first)
    assert pairs == draw_pairs(SPEAKER_OF, GENDER_OF, 30, np.random.default_rng(0))


def test_kinds_that_speakers_do_not_allow():
    one = {clip: "a" for clip in ("x", "y", "z")}
    pairs = draw_pairs(one, {}, 10, np.random.default_rng(0))
    assert len(pairs) == 3 and {pair.kind for pair in pairs} == {"same_speaker"}
    assert pair_kind("x", "w", {**one, "w": "b"}, {}) == "other"  # genders are not known
    with pytest.raises(DataError, match="allow no pair"):
        draw_pairs(one, {}, 10, np.random.default_rng(0), kinds=["other"])
    with pytest.raises(UsageError, match="unknown kinds"):
        draw_pairs(one, {}, 10, np.random.default_rng(0), kinds=["twins"])


def test_files_of_a_set(tmp_path):
    folder = make(tmp_path, make_clips(tmp_path))
    data = DataDir(folder)
    assert [stream.name for stream in data.streams] == ["mix", "s1", "s2"]
    assert data.meta["licence"] == "CC0-1.0"
    mixtures = read_mixtures(folder)
    assert len(mixtures) == 4
    for mixture in mixtures:
        clips = mixture.facts["utt2clips"].split()
        assert mixture.utt == "_".join(clips)
        mix, *sources = (read_audio(path, 16000)[0] for path in (mixture.mix, *mixture.sources))
        assert np.array_equal(mix, sources[0] + sources[1])
        assert len(mix) == mixture.num_samples == 640 * mixture.num_frames
        assert mixture.num_frames in (49, 50)  # the clip of 2.0 s has sound for 49 whole frames
        for clip, path in zip(clips, mixture.mouths, strict=True):
            crops = np.load(path)
            assert len(crops) == mixture.num_frames and (crops == int(clip[-1])).all()


def test_the_seed_decides(tmp_path):
    clips = make_clips(tmp_path)
    first, again, other = (
        read_mixtures(make(tmp_path / str(place), clips, seed=seed)) for place, seed in enumerate((0, 0, 1))
    )
    assert [m.utt for m in first] == [m.utt for m in again]
    assert [m.facts for m in first] == [m.facts for m in again] != [m.facts for m in other]
    assert all(open(a.mix, "rb").read() == open(b.mix, "rb").read() for a, b in zip(first, again, strict=True))


def test_whole_clips(tmp_path):
    mixtures = read_mixtures(make(tmp_path, make_clips(tmp_path, (2.4, 3.0)), num_mixtures=1, mix_sec=0))
    assert [mixture.num_frames for mixture in mixtures] == [59]


def test_silent_clips_are_counted(tmp_path):
    clips = make_clips(tmp_path, silent=("s1-1",))
    with pytest.raises(TooManyDropped, match="cannot_mix"):
        make(tmp_path, clips, num_mixtures=6, max_dropped_share=0.2)
    assert not (tmp_path / "formatted" / "train").exists()
    folder = make(tmp_path, clips, num_mixtures=6, max_dropped_share=0.5)
    assert len(read_mixtures(folder)) == 3
    assert '"cannot_mix"' in (folder / "mix_report.json").read_text()


def test_command_line(tmp_path, capsys):
    clips = make_clips(tmp_path)
    words = ["--data_dir", clips, "--output_dir", tmp_path / "out", "--media_dir", tmp_path / "media"]
    words = [str(word) for word in (*words, "--mouth_dir", tmp_path / "cut", "--num_mixtures", 3)]
    assert avss_mixtures.main([*words, "--kinds", "other"]) == 0
    assert capsys.readouterr().out.strip().endswith("3 of 3 kept; other 3")
    with pytest.raises(UsageError, match="impossible"):
        avss_mixtures.main([*words, "--mix_sec", "-1"])
    (clips / "mouth.scp").unlink()
    with pytest.raises(MissingDataError, match=r"mouth\.scp"):
        avss_mixtures.main(words)
