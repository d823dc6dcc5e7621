# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Figures: drawn for what is there, None for what is not, the same bytes twice."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from espnet_av.report import plots
from espnet_av.report.media import contact_sheet, log_mel
from espnet_av.report.published import PublishedSystem


def _row(name, modality, wer, width=0.05):
    return {"set": name, "modality": modality, "wer": wer, "ci_low": wer - width, "ci_high": wer + width}


ROWS = [
    _row("test", "av", 0.1),
    _row("test", "audio", 0.15),
    _row("test_snr_n5_interferer_1", "av", 0.3),
    _row("test_snr_n5_interferer_1", "audio", 0.6),
    _row("test_snr_5_interferer_1", "audio", 0.4),
]


def _texts(svg):
    return [item.text for item in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_noise_figure_has_units_and_levels():
    svg = plots.wer_over_snr(ROWS)
    texts = _texts(svg)
    assert {"signal-to-noise ratio (dB)", "WER (%)", "-5", "5", "clean", "audio-visual", "audio only"} <= set(texts)
    assert any("1 interfering talker" in text for text in texts)
    assert svg == plots.wer_over_snr(ROWS)
    assert plots.wer_over_snr(ROWS[:2]) is None


def test_lips_alone_are_a_level_line_and_others_are_thin():
    other = PublishedSystem("theirs", "av", "a paper", wer={"test": 0.2, "test_snr_n5_interferer_1": 0.5})
    far = PublishedSystem("elsewhere", "av", "a paper", wer={"test": 0.2, "else_snr_n5_interferer_1": 0.5})
    texts = _texts(plots.wer_over_snr([*ROWS, _row("test", "video", 0.3)], [other, far]))
    assert "video only, whatever the noise" in texts and "theirs" in texts
    assert "elsewhere" not in texts  # no point in this panel but the clean one
    assert "video only, whatever the noise" not in _texts(plots.wer_over_snr(ROWS))


def test_bars_carry_their_numbers():
    texts = _texts(plots.wer_bars(ROWS[:2]))
    assert {"10.0", "15.0", "test", "WER (%)"} <= set(texts)
    assert plots.wer_bars([{**ROWS[0], "wer": None}]) is None
    assert plots.wer_bars([_row(f"video_{number}", "av", 0.1) for number in range(51)]) is None


def test_training_curves_take_what_the_history_has():
    history = [
        {"epoch": e, "train": {"loss": 1 / e}, "valid": {"loss": 1.0, "acc": float("nan")}, "lr": [1e-3]}
        for e in (1, 2)
    ]
    texts = _texts(plots.training_curves(history))
    assert {"Loss", "Learning rate", "epoch", "train", "valid"} <= set(texts) and "Accuracy" not in texts
    assert plots.training_curves([]) is None and plots.training_curves([{"epoch": 1}]) is None
    assert plots.epoch_times([{"epoch": 1}]) is None and plots.duration_histogram({"a": []}) is None


def test_a_single_epoch_is_a_point(monkeypatch):
    history = [{"epoch": 1, "train": {"loss": 1.0}, "lr": [1e-3]}]

    def count_marks():
        drawn = plots.training_curves(history), plots.compared_curves({"a": history, "b": history}, [("train", "loss")])
        return [svg.count(b"<use") for svg in drawn]

    marked = count_marks()
    monkeypatch.setattr(plots, "_marker", lambda points: None)
    assert [one - other for one, other in zip(marked, count_marks(), strict=True)] >= [1, 2]


def test_spectrogram_shows_a_tone_where_it_is():
    rate = 16000
    wave = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
    mel = log_mel(wave, rate)
    assert mel.shape[0] == 48 and abs(mel.shape[1] - 100) <= 2
    band = int(mel.mean(axis=1).argmax())
    assert band == pytest.approx(plots.hz_to_mel(1000) / plots.hz_to_mel(8000) * 49 - 1, abs=1)
    assert plots.spectrogram(mel, 1.0, rate / 2).startswith(b"\x89PNG")
    assert log_mel(np.zeros(10), rate).shape[0] == 48  # shorter than a window


def test_sheet_takes_pictures_of_any_size():
    sheet = contact_sheet(
        [np.zeros((4, 6), np.uint8), np.ones((9, 2), np.uint8), np.ones((4, 6), np.uint8)], columns=2, gap=1
    )
    assert sheet.shape == (9, 13)
    assert sheet[0, 7] == 1 and sheet[0, 9] == 255 and sheet[5, 7] == 255
