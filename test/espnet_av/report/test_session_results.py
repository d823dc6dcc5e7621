# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Results of whole sessions: read as stage 7a writes them."""

import json

import pytest

from espnet_av.avsr.session_scoring import score_session, summarize
from espnet_av.avsr.vtt import Caption
from espnet_av.data.drops import Drops
from espnet_av.report.session_results import HEADER, read_sessions, session_rows
from espnet_av.utils.errors import DataError
from espnet_av.utils.experiment import write_json


def test_numbers_are_those_of_the_scorer(tmp_path):
    pytest.importorskip("whisper_normalizer")
    labels = {"a": [Caption(0.0, 1.0, "HELLO WORLD")], "b": [Caption(1.0, 2.0, "GOOD NIGHT")]}
    found = {"a": [Caption(0.0, 1.0, "HELLO")], "b": [Caption(1.0, 2.0, "GOOD NIGHT")]}
    same = {"a": 0, "b": 0}
    score = score_session(labels, found, name="s", true_clusters=same, clusters=same, uem={"a": (0, 2), "b": (0, 2)})
    drops = Drops(4)
    drops.add("s/a/track_00", "no_scores", "")
    path = tmp_path / "sessions" / "gold_chunk" / "results.json"
    path.parent.mkdir(parents=True)
    write_json(path, {"tracks": drops.summary(), **summarize([score])}, sort_keys=True)
    (row,) = session_rows(read_sessions(tmp_path))
    table = dict(zip(HEADER, row, strict=True))
    assert table["segmentation"] == "gold_chunk" and table["WER (%)"] == "25.0" and table["tracks left out"] == 1
    assert (table["sessions"], table["people"], table["clustering F1"]) == (1, 2, "1.000")
    assert table["joint error"] == "0.125"


def test_sessions_without_labels_and_broken_files(tmp_path):
    path = tmp_path / "sessions" / "asd_chunk" / "results.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"tracks": {}, "segmentation": "asd_chunk"}))
    assert read_sessions(tmp_path) == read_sessions(tmp_path / "absent") == []
    path.write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        read_sessions(tmp_path)
