# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Tables of results."""

import math

import pytest

from espnet_av.report.results import markdown_table, ratio_cell, results_markdown, stage_rows, wer_cell, wer_table
from espnet_av.utils.experiment import without_nan
from espnet_av.utils.figures import percent

ROWS = [
    {"set": "b", "modality": "audio", "n_utts": 2, "n_words": 9, "wer": 0.5, "ci_low": 0.25, "ci_high": 0.75},
    {"set": "b", "modality": "av", "n_utts": 2, "n_words": 9, "wer": 0.125, "ci_low": None, "ci_high": None},
    {"set": "a", "modality": "av", "n_utts": 1, "n_words": 4, "wer": None, "ci_low": None, "ci_high": None},
]


def test_cells():
    assert percent(1.5) == "150.0" and percent(None) == percent(math.nan) == "–"
    assert wer_cell(ROWS[0]) == "50.0 [25.0, 75.0]" and wer_cell(ROWS[1]) == "12.5" and wer_cell(None) == "–"
    assert ratio_cell({"ratio": 0.5, "ci_low": 0.25, "ci_high": 1.0}) == "0.50 [0.25, 1.00]"
    assert ratio_cell({"ratio": math.nan, "ci_low": math.nan, "ci_high": math.nan}) == "–"


def test_main_table():
    lines = wer_table(ROWS).splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == [
        *("set", "utterances", "words", "audio-visual", "audio only")
    ]
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["a", "1", "4", "–", "–"]
    assert [cell.strip() for cell in lines[3].split("|")[1:-1]] == ["b", "2", "9", "12.5", "50.0 [25.0, 75.0]"]
    assert len({len(line) for line in lines}) == 1


def test_bars_and_breaks_do_not_break_a_table():
    table = markdown_table(["name", "value"], [["a|b", "c\nd"]])
    assert table.splitlines()[2].startswith("| a\\|b") and len(table.splitlines()) == 3


def test_stages_add_up():
    stages = [
        {"stage": 1, "name": "prepare", "wall_s": 60, "cpu_s": 100, "max_rss_mb": 900},
        {"stage": 5, "name": "train", "wall_s": 3600, "cpu_s": None, "max_rss_mb": 1500},
    ]
    assert stage_rows(stages)[1:] == [
        ["5", "train", "01:00:00", "–", "1,500 MB"],
        ["", "all", "01:01:00", "00:01:40", "1,500 MB"],
    ]
    assert stage_rows([]) == []


def test_numbers_that_json_cannot_hold():
    assert without_nan({"a": [math.nan, math.inf, 1.0], "b": (2,)}) == {"a": [None, None, 1.0], "b": [2]}


@pytest.mark.parametrize("silent", [True, False])
def test_silent_faces_have_their_table(silent):
    rows = [{**ROWS[0], **({"n_silent": 3, "silent_ins": 6, "silent_ins_per_min": 2.0} if silent else {})}]
    text = results_markdown({"rows": rows}, [], "x")
    assert ("## Silent faces" in text) == silent and ("## Time and memory" in text) is False


def test_sets_without_words_are_not_in_the_tables_of_rates():
    silent = {**ROWS[0], "set": "quiet", "n_words": 0}
    assert "quiet" not in wer_table([*ROWS, silent])
    assert "quiet" in wer_table([silent])
