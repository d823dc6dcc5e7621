# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Other people's numbers: read strictly, shown beside ours."""

import pytest

from espnet_av.report.published import Published, PublishedSystem, comparison, own_results, read_published
from espnet_av.report.session_results import SessionResult
from espnet_av.utils.errors import DataError

GOOD = """
note: >-
  Two
  lines.
systems:
  - {name: theirs, modality: av, trained_on: LRS3, source: A. Author, wer: {test: 0.72, test_snr_n5_interferer_2: 50}}
  - {name: lips, modality: video, source: A. Author, wer: {test: 19.1}, other: {"noise, 0 dB": 12}}
"""
ROWS = [
    {"set": "test", "modality": "audio", "wer": 0.25},
    {"set": "test", "modality": "av", "wer": 0.1},
    {"set": "test_snr_n5_interferer_2", "modality": "av", "wer": 0.3},
    {"set": "valid", "modality": "av", "wer": 0.9},
]


def test_ours_come_first_and_means_need_all_sets(tmp_path):
    path = tmp_path / "published.yaml"
    path.write_text(GOOD)
    table = comparison(own_results({"rows": ROWS}), read_published(path))
    assert table["header"][3:] == ["test", "-5 dB, 2 talkers", "mean", "noise, 0 dB"]
    assert table["rows"] == [
        ["this experiment", "audio-visual", "", "10.0", "30.0", "20.0", "–"],
        ["this experiment", "audio only", "", "25.0", "–", "–", "–"],
        ["theirs [1]", "audio-visual", "LRS3", "0.72", "50", "25.4", "–"],
        ["lips [1]", "video only", "", "19.1", "–", "–", "12"],
    ]
    assert (
        table["sources"] == ["[1] A. Author"]
        and table["note"] == "Two lines."
        and table["num_ours"] == 2
        and table["has_levels"]
    )


def test_sets_of_several_kinds_keep_their_names():
    wer = {"a": 0.1, "a_snr_0_interferer_1": 0.2, "b_snr_0_interferer_1": 0.3}
    table = comparison([], Published((PublishedSystem("x", "av", "y", wer=wer),)))
    assert set(table["header"][3:]) == {*wer, "mean"} and table["num_ours"] == 0 and not table["has_levels"]


def test_nothing_is_published(tmp_path):
    assert read_published(None) == read_published(tmp_path / "absent.yaml") == Published()
    assert comparison(own_results({"rows": ROWS}), Published()) == {}
    assert own_results(None) == []


def test_averages_of_no_rows_are_passed_over():
    assert own_results({"rows": [], "averages": [{"title": "asd_chunk", "wer": 0.5}]}) == []


def test_averages_and_sessions_are_ours_too():
    averages = [{"title": "asd_chunk, weighted by words", "wer": 0.5}, {"title": "gold_chunk", "wer": None}]
    ours = own_results(
        {"rows": [{"set": "video_0_asd_chunk", "modality": "av", "wer": 0.4}], "averages": averages},
        [SessionResult("fixed_chunk", 2, wer=0.6, clustering_f1=0.8), SessionResult("gold_chunk", 2)],
    )
    wer, other = {"asd_chunk": 0.746, "sessions": 0.55}, {"clustering F1": "0.815"}
    table = comparison(ours, Published((PublishedSystem("x", "av", "y", wer=wer, other=other),)))
    assert table["header"][3:] == ["asd_chunk", "sessions", "clustering F1"]  # no mean of unlike sets
    assert [row[0::3] + row[4:] for row in table["rows"]] == [
        ["this experiment", "50.0", "–", "–"],
        ["this experiment, fixed_chunk", "–", "60.0", "0.800"],
        ["x [1]", "74.6", "55", "0.815"],
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("systems: [", "no plain|not plain YAML"),
        ("[1]", "no list of systems"),
        ("{systems: [], sytems: []}", "unknown keys.*sytems"),
        ("systems: [1]", "system 1 is no mapping"),
        ("systems: [{name: a, modality: av}]", "system 1 lacks text for source"),
        ("systems: [{name: a, modality: lips, source: b}]", "unknown modality; got 'lips'; allowed: av, audio, video"),
        ("systems: [{name: a, modality: av, source: b, wer: 3}]", "wer is no mapping"),
        ("systems: [{name: a, modality: av, source: b, wer: {test: '3'}}]", "wer of test; got '3'; allowed: percent"),
        ("systems: [{name: a, modality: av, source: b, wer: {test: -1}}]", "wer of test; got -1"),
        ("systems: [{name: a, modality: av, source: b, score: 3}]", "unknown keys.*score"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    path = tmp_path / "published.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read_published(path)
    assert str(path) in str(error.value)


def test_files_of_the_recipes_are_good(repo_root):
    for path in sorted(repo_root.glob("egs/*/*/conf/published.yaml")):
        assert read_published(path).systems, path
