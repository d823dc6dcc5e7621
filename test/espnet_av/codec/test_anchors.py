# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from codec_decoded import QUICK, RATE, make_decoded

from espnet_av.codec import anchors
from espnet_av.codec.opus import has_opus
from espnet_av.codec.scoring import ScoreOptions
from espnet_av.data.audio_io import write_audio

pytestmark = pytest.mark.skipif(not has_opus(), reason="PyAV has no libopus")
OPTIONS = ScoreOptions(metrics=QUICK, num_resamples=20, opus_kbps=(24, 6))


@pytest.fixture
def made(tmp_path):
    return make_decoded(tmp_path)


@pytest.fixture
def counted(monkeypatch):
    """Count what is encoded and scored."""
    counts = {"write_opus_set": 0, "score_files": 0}

    def count(name, function):
        def wrapped(*args, **options):
            counts[name] += 1
            return function(*args, **options)

        monkeypatch.setattr(anchors, name, wrapped)

    for name in counts:
        count(name, getattr(anchors, name))
    return counts


def test_rows(made, tmp_path):
    found = anchors.score_anchors(made.data_dir, OPTIONS, tmp_path / "cache")
    assert [(item.row["system"], item.row["bitrate_kbps"]) for item in found] == [
        ("input", None),
        ("Opus", 6.0),
        ("Opus", 24.0),
    ]
    source, low, high = (item.row for item in found)
    assert source["stft_distance"] == 0 and source["snr"] is None
    assert low["measured_kbps"] == pytest.approx(6, rel=0.01)
    assert high["stft_distance"] < low["stft_distance"]


def test_nothing_is_done_twice(made, tmp_path, counted):
    first = anchors.score_anchors(made.data_dir, OPTIONS, tmp_path / "cache")
    assert counted == {"write_opus_set": 2, "score_files": 3}
    second = anchors.score_anchors(made.data_dir, OPTIONS, tmp_path / "cache")
    assert counted == {"write_opus_set": 2, "score_files": 3}
    assert [item.row["si_sdr"] for item in first] == [item.row["si_sdr"] for item in second]
    assert [item.row.get("measured_kbps") for item in first] == [item.row.get("measured_kbps") for item in second]


def test_other_metrics_score_again_and_keep_the_sound(made, tmp_path, counted):
    anchors.score_anchors(made.data_dir, OPTIONS, tmp_path / "cache")
    other = ScoreOptions(metrics=["snr"], num_resamples=20, opus_kbps=(24, 6))
    anchors.score_anchors(made.data_dir, other, tmp_path / "cache")
    assert counted == {"write_opus_set": 2, "score_files": 6}


def test_another_recording_makes_everything_again(made, tmp_path, counted):
    before = anchors.score_anchors(made.data_dir, OPTIONS, tmp_path / "cache")
    write_audio(made.root / "media" / "b.wav", np.full(13000, 0.1, np.float32), RATE)
    after = anchors.score_anchors(made.data_dir, OPTIONS, tmp_path / "cache")
    assert counted == {"write_opus_set": 4, "score_files": 6}
    assert after[1].row["seconds"] > before[1].row["seconds"]


def test_without_anchors(made, tmp_path):
    options = ScoreOptions(metrics=QUICK, opus_kbps=(), score_input=False)
    assert anchors.score_anchors(made.data_dir, options, tmp_path / "cache") == []


def test_noisy_input_is_encoded_and_compared_with_the_reference(made, tmp_path):
    rng = np.random.default_rng(5)
    for uid in "abc":
        write_audio(made.root / "media" / f"{uid}_noisy.wav", 0.3 * rng.standard_normal(12000), RATE)
    table = "".join(f"{uid} {made.root}/media/{uid}_noisy.wav\n" for uid in "abc")
    (made.data_dir / "wav.scp").write_text(table)
    source = anchors.score_anchors(made.data_dir, OPTIONS, tmp_path / "cache")[0].row
    assert source["si_sdr"] < -10
