# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Results of separation: means over voices, tables, and how they are read back."""

import csv
import json

import numpy as np
import pytest

from espnet_av.avss.pair_scores import PairScore, read_scores, summarise
from espnet_av.bin import show_results
from espnet_av.report.results import read_results
from espnet_av.report.separation_results import find_separations, kind_table, main_table, metric_cell, shown
from espnet_av.utils.errors import DataError, MissingDataError

SCORES = [
    PairScore("m1", "s1", "same_gender", {"si_snri": 1.0, "stoi": 0.5}),
    PairScore("m1", "s2", "same_gender", {"si_snri": 3.0}),
    PairScore("m2", "s1", "other", {"si_snri": 8.0, "stoi": 0.7}),
]


def test_means_are_over_voices():
    row = summarise(SCORES, num_silent=1, num_resamples=200)
    assert (row["n_mixtures"], row["n_pairs"], row["n_silent"]) == (2, 3, 1)
    assert row["si_snri"] == pytest.approx(4.0) and row["stoi"] == pytest.approx(0.6)
    assert list(row["kinds"]) == ["same_gender", "other"]
    assert row["kinds"]["same_gender"]["si_snri"] == pytest.approx(2.0)
    assert row["kinds"]["same_gender"]["ci_low"] is None  # one mixture has no interval
    # Only whole mixtures are drawn: {m1, m1} 2, {m1, m2} 4, {m2, m2} 8.
    assert row["ci_low"] == pytest.approx(2.0) and row["ci_high"] == pytest.approx(8.0)


def test_interval_narrows_with_more_mixtures():
    rng = np.random.default_rng(0)
    scores = [PairScore(str(i), "s1", "", {"si_snri": float(x)}) for i, x in enumerate(rng.normal(10, 2, 400))]
    row = summarise(scores, num_resamples=400)
    assert "kinds" not in row
    assert row["ci_high"] - row["ci_low"] == pytest.approx(2 * 1.96 * 2 / 20, rel=0.2)
    assert row["ci_low"] < row["si_snri"] < row["ci_high"]


def test_cells():
    assert shown(-0.004, 2) == "0.00" and shown(-0.006, 2) == "-0.01"
    row = {"si_snri": 9.126, "ci_low": 8.0, "ci_high": None, "stoi": 0.91234, "pesq_wb": float("nan")}
    assert metric_cell(row, interval=True) == "9.13"
    assert metric_cell({**row, "ci_high": 10.0}, interval=True) == "9.13 [8.00, 10.00]"
    assert metric_cell(row, "stoi") == "0.912" and metric_cell(row, "pesq_wb") == metric_cell(None) == "–"


def test_tables():
    rows = [
        {"set": "test", "lips": "swapped", "n_mixtures": 2, "n_pairs": 4, "si_snri": -5.0},
        {
            "set": "test",
            "lips": "own",
            "n_mixtures": 2,
            "n_pairs": 4,
            "si_snri": 9.0,
            "kinds": {"other": {"si_snri": 9.0}},
        },
    ]
    header, body = main_table(rows)
    assert header == ["set", "lips", "mixtures", "voices", "SI-SNRi (dB)"]
    assert body == [["test", "own lips", "2", "4", "9.00"], ["test", "lips swapped", "2", "4", "-5.00"]]
    assert kind_table(rows) == (["set", "lips", "other pairs (dB)"], [["test", "own lips", "9.00"]])


def test_scores_of_the_scorer_are_read_back(separated):
    for found in find_separations(separated.exp_dir / "decode"):
        row = json.loads((found.folder / "scores.json").read_text())
        scores = read_scores(found.folder / "scores.csv")
        assert summarise(scores)["si_snri"] == pytest.approx(row["si_snri"], abs=1e-5)
        assert {item.kind for item in scores} == {"same_speaker", "same_gender", "other"}
        assert found.voice("a_b", "s1").is_file()
    assert [(item.lips, item.set_name) for item in find_separations(separated.exp_dir / "decode")] == [
        ("own", "test"),
        ("swapped", "test"),
    ]


def test_lips_of_sets_are_told_from_the_facts(tmp_path):
    for name, facts in (("x/one", {"lips_mode": "none"}), ("two", {"task": "avss"}), ("other/three", None)):
        (tmp_path / name / "s1").mkdir(parents=True)
        if facts is not None:
            (tmp_path / name / "infer.json").write_text(json.dumps(facts))
    found = {item.set_name: item.lips for item in find_separations(tmp_path)}
    assert found == {"one": "none", "two": "audio", "three": "other"}


def test_bad_scores_are_named(tmp_path):
    path = tmp_path / "scores.csv"
    with pytest.raises(MissingDataError, match="--stage 7"):
        read_scores(path)
    path.write_text("mixture,si_snri\na,1\n")
    with pytest.raises(DataError, match="lacks columns.*voice"):
        read_scores(path)
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([["mixture", "voice", "si_snri"], ["a", "s1", "nan"], ["a", "s2", "loud"]])
    with pytest.raises(DataError, match="line 3, si_snri.*'loud'"):
        read_scores(path)


def test_rows_must_fit_their_task(separated):
    path = separated.exp_dir / "results.json"
    content = json.loads(path.read_text())
    assert [row["lips"] for row in read_results(path)["rows"]] == ["own", "swapped"]
    del content["rows"][0]["lips"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="no result rows"):
        read_results(path)


def test_commands_show_results(separated, capsys):
    show_results.main([str(separated.exp_dir.parent)])
    text = capsys.readouterr().out
    assert "| test | lips swapped |" in text and "same speaker (dB)" in text
    show_results.main([str(separated.exp_dir), "--format", "tsv"])
    header, first, *_ = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert header[:4] == ["run", "set", "lips", "n_mixtures"] and first[1:5] == ["test", "own", "3", "6"]


def test_markdown(separated):
    text = (separated.exp_dir / "RESULTS.md").read_text()
    for piece in (
        "# Results of looks",
        "SI-SNRi by kind of pair",
        "| test | own lips     |",
        "avss_score",
    ):
        assert piece in text, piece
