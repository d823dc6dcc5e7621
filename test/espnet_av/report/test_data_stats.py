# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Statistics of data sets, joined noisy copies, reasons of drops, and the sheet of crops."""

import json

import pytest

from espnet_av.report.data_stats import Dropped, collect_drops, collect_sets, join_noisy, mouth_sheet


def test_sets(experiment):
    sets = {item.set_name: item for item in collect_sets(experiment.dump_dir)}
    assert list(sets) == ["train", "test", "test_snr_n5_interferer_1"]
    test = sets["test"]
    assert (test.num_clips, test.num_speakers, test.num_words, test.licence) == (3, 2, 11, "CC-BY-4.0")
    assert sum(test.durations_sec) == pytest.approx(1.2)
    (experiment.dump_dir / "test" / "text").write_text("a one\na two\n")
    assert "test" not in {item.set_name for item in collect_sets(experiment.dump_dir)}  # broken: left out, not fatal


def test_noisy_copies_are_joined():
    def drop(name, count=1):
        return Dropped(name, "3 filter", "too_short", count, ("a",))

    names = ["test", "test_snr_n5_interferer_1", "test_snr_0_interferer_1", "other"]
    joined = join_noisy([*map(drop, names), drop("test_snr_5_interferer_1", 2)])
    assert [name for name, _ in joined] == ["test and 2 noisy copies", "other", "test_snr_5_interferer_1"]
    joined = join_noisy([drop("test_snr_0_interferer_1"), drop("test_snr_5_interferer_1")])
    assert [name for name, _ in joined] == ["2 noisy copies of test"]


def test_drops_of_both_stages(experiment):
    formatted = experiment.dump_dir / "formatted" / "test"
    formatted.mkdir(parents=True)
    reasons = {"no_face": {"count": 2, "utterances": {"u1": "", "u2": ""}}, "none_of_these": {"count": 0}}
    (formatted / "roi_report.json").write_text(json.dumps({"reasons": reasons}))
    (experiment.dump_dir / "train" / "filter_report.json").write_text("{")  # broken: left out
    drops = collect_drops(experiment.dump_dir)
    assert [(item.stage, item.set_name, item.reason, item.count) for item in drops] == [
        ("2 format", "test", "no_face", 2),
        ("3 filter", "test", "too_short", 1),
        ("3 filter", "test_snr_n5_interferer_1", "too_short", 1),
    ]


def test_sheet(experiment):
    sheet = mouth_sheet(experiment.dump_dir, num_clips=4, columns=2)
    assert sheet.shape == (98, 98)  # two rows and columns of 48 with a gap of 2
    for name in ("train", "test"):
        (experiment.dump_dir / name / "mouth.scp").unlink()
    assert mouth_sheet(experiment.dump_dir) is None
