# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import json
import math

import numpy as np
import pytest
from codec_decoded import QUICK, RATE, UIDS, make_decoded

from espnet_av.codec import scoring
from espnet_av.codec.scoring import ScoredSet, ScoredUtterance, ScoreOptions, score_set
from espnet_av.data.audio_io import write_audio
from espnet_av.data.data_dir import write_scp
from espnet_av.utils.errors import DataError, MissingDataError, UsageError

OPTIONS = ScoreOptions(metrics=QUICK, num_resamples=50)


@pytest.fixture
def made(tmp_path):
    return make_decoded(tmp_path)


def test_scores_of_a_set(made):
    low, high = (score_set(made.data_dir, made.decoded(kbps), OPTIONS, kbps=kbps) for kbps in (1, 6))
    assert high.row["si_sdr"] > low.row["si_sdr"] + 15
    assert high.row["stft_distance"] < low.row["stft_distance"]
    for row in (low.row, high.row):
        assert row["n_utts"] == 3 and row["seconds"] == pytest.approx(1.5) and row["n_missing"] == 0
        assert row["metrics"] == list(QUICK)
        assert all(row["ci"][name][0] <= row[name] <= row["ci"][name][1] for name in QUICK)
        assert row["skipped"] == {"wer": "no recogniser; fix: --asr MODEL"}
        assert len(row["codebooks"]) == row["bitrate_kbps"]
    mean = np.mean([item.values["si_sdr"] for item in high.utterances])
    assert high.row["si_sdr"] == pytest.approx(mean)


def test_result_files(made, tmp_path):
    scored = score_set(made.data_dir, made.decoded(6), OPTIONS, kbps=6)
    scoring.write_set(scored, tmp_path / "out", "digest")
    lines = [json.loads(line) for line in (tmp_path / "out" / "utt_result.txt").read_text().splitlines()]
    assert [line["key"] for line in lines] == list(UIDS)
    assert lines[0]["si_sdr"] == scored.utterances[0].values["si_sdr"]
    means = dict(line.split(": ", 1) for line in (tmp_path / "out" / "avg_result.txt").read_text().splitlines())
    assert float(means["si_sdr"]) == pytest.approx(scored.row["si_sdr"], abs=1e-6)
    assert means["wer"].startswith("skipped (no recogniser")
    again, digest = scoring.read_set(tmp_path / "out")
    assert digest == "digest"
    assert again.utterances == scored.utterances
    assert again.row["si_sdr"] == scored.row["si_sdr"]


def test_undefined_values_count_nowhere():
    """A mean with zeros for what is not defined would be 1."""
    items = [ScoredUtterance(uid, 1.0, {"snr": value}) for uid, value in (("a", 3.0), ("nan", math.nan), ("b", 1.0))]
    row = scoring.set_row(items, OPTIONS, {"utmos": "no VERSA"})
    assert row["snr"] == 2.0
    assert row["n_undefined"] == {"snr": 1}
    nothing = scoring.set_row(items[1:2], OPTIONS, {"utmos": "no VERSA"})
    assert nothing["snr"] is None
    assert scoring.mean_lines(nothing) == ["snr: undefined", "utmos: skipped (no VERSA)"]


def test_skipped_metric_is_no_zero(made, monkeypatch):
    monkeypatch.setattr(scoring, "why_skipped", lambda name: "not today" if name == "snr" else None)
    row = score_set(made.data_dir, made.decoded(6), OPTIONS).row
    assert "snr" not in row and row["skipped"]["snr"] == "not today"


def test_missing_recordings(made):
    folder = made.decoded(6)
    table = {uid: str(folder / "wav" / f"{uid}.wav") for uid in UIDS[1:]}
    write_scp(folder / "wav" / "wav.scp", table)
    with pytest.raises(DataError, match="1 of 3 recordings are not decoded; got 'a'"):
        score_set(made.data_dir, folder, OPTIONS)
    row = score_set(made.data_dir, folder, ScoreOptions(metrics=QUICK, allow_missing=True)).row
    assert (row["n_utts"], row["n_missing"]) == (2, 1)
    (folder / "bad.json").write_text(json.dumps({"reasons": {"silent": {"utterances": {"a": "x"}}}}))
    assert score_set(made.data_dir, folder, OPTIONS).row["n_missing"] == 1


def test_unknown_recordings(made):
    folder = made.decoded(6)
    table = {uid: str(folder / "wav" / "a.wav") for uid in (*UIDS, "stranger")}
    write_scp(folder / "wav" / "wav.scp", table)
    with pytest.raises(DataError, match="1 recordings have no reference; got 'stranger'"):
        score_set(made.data_dir, folder, OPTIONS)


def test_nothing_decoded(made, tmp_path):
    with pytest.raises(MissingDataError, match="no decoded sound"):
        score_set(made.data_dir, tmp_path, OPTIONS)


def test_length_of_a_recording(made):
    folder = made.decoded(6)
    write_audio(folder / "wav" / "b.wav", np.full(12000 - 240, 0.1, np.float32), RATE)
    assert score_set(made.data_dir, folder, OPTIONS).row["n_utts"] == 3
    write_audio(folder / "wav" / "b.wav", np.full(12000 - 241, 0.1, np.float32), RATE)
    with pytest.raises(DataError, match="b.wav has another length than its reference; got 11759"):
        score_set(made.data_dir, folder, OPTIONS)


def test_other_rates_are_resampled(made):
    import soundfile

    wave, _ = soundfile.read(made.decoded(6) / "wav" / "a.wav")
    expected = score_set(made.data_dir, made.decoded(6), OPTIONS).utterances[0].values["si_sdr"]
    soundfile.write(made.decoded(6) / "wav" / "a.wav", np.repeat(wave, 2), 48000, subtype="FLOAT")
    found = score_set(made.data_dir, made.decoded(6), OPTIONS).utterances[0]
    assert found.seconds == pytest.approx(0.5)
    assert 0 < found.values["si_sdr"] < expected


def test_samples_that_are_not_finite(made):
    import soundfile

    soundfile.write(made.decoded(6) / "wav" / "a.wav", np.full(12000, np.nan), RATE, subtype="FLOAT")
    with pytest.raises(DataError, match="a.wav or .* not finite"):
        score_set(made.data_dir, made.decoded(6), OPTIONS)


def test_silent_reference_and_silent_estimate(made):
    silence = np.zeros(12000, np.float32)
    write_audio(made.root / "media" / "a.wav", silence, RATE)
    write_audio(made.decoded(6) / "wav" / "b.wav", silence, RATE)
    row = score_set(made.data_dir, made.decoded(6), OPTIONS).row
    assert (row["n_silent"], row["n_silent_estimates"]) == (1, 1)
    assert row["n_undefined"] == dict.fromkeys(QUICK, 1)


def test_few_recordings(made):
    assert scoring.spread(list("abcdefg"), 3) == ["a", "d", "g"]
    assert scoring.spread(list("abc"), 0) == scoring.spread(list("abc"), 9) == list("abc")
    row = score_set(made.data_dir, made.decoded(6), ScoreOptions(metrics=QUICK, max_utts=2)).row
    assert (row["n_utts"], row["n_missing"]) == (2, 0)


def test_paired_differences():
    def scored(system, values):
        items = tuple(ScoredUtterance(uid, 1.0, {"snr": value}) for uid, value in values.items())
        return ScoredSet({"set": "test", "system": system, "bitrate_kbps": 6.0}, items)

    first = scored("codec", {"a": 3.0, "b": 5.0, "c": math.nan})
    second = scored("start", {"a": 2.0, "b": 3.0, "c": 9.0})
    found = scoring.compare_sets(first, second, OPTIONS)
    assert found["first"] == {"system": "codec", "bitrate_kbps": 6.0}
    assert found["differences"]["snr"]["mean"] == 1.5
    assert found["differences"]["snr"]["n"] == 2
    assert 1.0 <= found["differences"]["snr"]["ci_low"] <= found["differences"]["snr"]["ci_high"] <= 2.0


def test_words(made, monkeypatch):
    (made.data_dir / "text").write_text("a one two\nb three\nc four five\n")

    class Recogniser:
        @classmethod
        def from_pretrained(cls, folder):
            assert folder == "model"
            return cls()

        def __call__(self, audio, video, modality):
            assert video is None and modality == "audio" and audio.shape == (8000,)
            return type("Heard", (), {"text": "one two"})()

    monkeypatch.setattr("espnet_av.avsr.inference.AVSR", Recogniser)
    scored = score_set(made.data_dir, made.decoded(6), ScoreOptions(metrics=["snr"], asr="model"))
    assert scored.row["n_words"] == 5
    assert scored.row["wer"] == pytest.approx((0 + 2 + 2) / 5)
    assert "wer" not in scored.row["skipped"]
    assert scored.utterances[0].words["wer"] == 0


def test_words_need_texts(made):
    row = score_set(made.data_dir, made.decoded(6), ScoreOptions(metrics=["snr"], asr="model")).row
    assert row["skipped"]["wer"] == "the data folder has no text of these recordings"


def test_versa(made, monkeypatch):
    entries = [{"name": "pseudo_mos", "predictor_types": ["utmos"]}]
    options = ScoreOptions(metrics=["snr"], versa_metrics=entries)
    monkeypatch.setattr(scoring, "why_absent", lambda: "not installed")
    row = score_set(made.data_dir, made.decoded(6), options).row
    assert row["skipped"]["pseudo_mos (utmos)"] == "not installed"
    monkeypatch.setattr(scoring, "why_absent", lambda: None)
    given = {}

    def run(estimates, references, metrics):
        given.update(estimates)
        return {uid: {"utmos": 3.0, "snr": 1.0} for uid in estimates}

    monkeypatch.setattr(scoring, "run_versa", run)
    row = score_set(made.data_dir, made.decoded(6), options).row
    assert row["utmos"] == 3.0 and row["versa_snr"] == 1.0 and row["snr"] > 10
    assert sorted(given) == list(UIDS)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"metrics": ["mos"]}, "unknown metric"),
        ({"versa": "on"}, "versa is unknown"),
        ({"sample_rate": 100}, "sample_rate is too low"),
    ],
)
def test_wrong_options(values, message):
    with pytest.raises(UsageError, match=message):
        ScoreOptions(**values)
