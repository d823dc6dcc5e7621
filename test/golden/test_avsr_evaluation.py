# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Word error rates of an evaluated session against golden data of the reference system."""

import json

import pytest

from espnet_av.avsr.evaluation import EvalOptions, score_session_folder
from espnet_av.avsr.vtt import parse_vtt


def test_session_scores_of_the_reference(fixtures_dir, tmp_path):
    golden = json.loads((fixtures_dir("avsr") / "k_session_wer.json").read_text())
    captions = parse_vtt(golden["label_vtt"])
    assert golden["hypotheses"]
    for chunking, hypotheses in golden["hypotheses"].items():
        folder = tmp_path / chunking
        folder.mkdir()
        lines = [
            {"id": str(number), "nbest": [{"text": text, "score": 0.0}], "start_sec": start, "end_sec": end}
            for number, (start, end, text) in enumerate(hypotheses)
        ]
        (folder / "hypotheses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        scored = score_session_folder(folder, captions, chunking, EvalOptions(tmp_path))
        assert scored.score.wer == pytest.approx(golden["expected_wer"][chunking], abs=1e-9)
        assert scored.row["n_words"] == golden["num_words"] and scored.row["n_utts"] == len(captions)
