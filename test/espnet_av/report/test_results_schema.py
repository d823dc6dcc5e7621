# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""results.json has one schema for all tasks: every program that writes one goes through it."""

import ast
import json
import math
from pathlib import Path

import pytest

from espnet_av.report.results import ROW_KEYS, read_results, write_results
from espnet_av.report.schema import check_results, results_schema, violations
from espnet_av.utils.errors import DataError
from espnet_av.utils.experiment import read_json

BIN = Path(__file__).resolve().parents[3] / "espnet_av" / "bin"
ROWS = {
    "avsr": {"set": "test", "modality": "av", "wer": 0.061, "ci_low": 0.04, "ci_high": 0.08, "cer": 0.04, "n_utts": 60},
    "avss": {"set": "test", "lips": "own", "si_snri": 9.1, "ci_low": 8.8, "ci_high": 9.4, "stoi": 0.9, "n_mixtures": 3},
    "codec": {
        **{"set": "test", "system": "codec", "bitrate_kbps": 1.0, "n_utts": 4, "pesq_wb": 2.1, "wer": 0.2},
        "ci": {"pesq_wb": [2.0, 2.2]},
    },
    "avgen": {"set": "test", "system": "joint", "n_utts": 4, "closure_f1": 0.8, "wer": 0.1, "ci": {"wer": [0.05, 0.2]}},
    "activesep": {
        **{"set": "test_heard", "system": "near_target", "kind": "policy", "num_episodes": 10},
        "return": {"mean": -4.0, "ci95": 0.5},
        "refined": {"paper": {"stft_l2": {"mean": 0.3, "ci95": 0.01}}},
    },
}
FIRST = {
    "avsr": ("av", "wer", 6.1, 4.0, "%", "lower", 60),
    "avss": ("own", "si_snri", 9.1, 8.8, "dB", "higher", 3),
    "codec": ("codec, 1 kbit/s", "pesq_wb", 2.1, 2.0, "", "higher", 4),
    "avgen": ("joint", "closure_f1", 0.8, None, "", "higher", 4),
    "activesep": ("near_target", "return", -4.0, -4.5, "", "higher", 10),
}


def results_of(task):
    return {
        "task": task,
        "date": "2026-01-01T00:00:00Z",
        "command": "python -m espnet_av.bin.x",
        "versions": {"python": "3.11", "espnet_av": "0.1.0"},
        "bootstrap": {"unit": "utterance", "num_resamples": 1000, "level": 0.95, "seed": 0},
        "rows": [ROWS[task]],
    }


@pytest.mark.parametrize("task", sorted(ROW_KEYS))
def test_every_task_has_the_same_form(task, tmp_path):
    write_results(tmp_path, results_of(task))
    written = read_results(tmp_path)
    assert list(violations(written, results_schema())) == [] and written["format"] == 1
    names = ("system", "metric", "value", "ci_low", "unit", "better", "count")
    system, metric, value, low, *rest = (written["scores"][0][name] for name in names)
    assert (system, metric, *rest) == (FIRST[task][0], FIRST[task][1], *FIRST[task][4:])
    assert value == pytest.approx(FIRST[task][2]) and low == (FIRST[task][3] and pytest.approx(FIRST[task][3]))


def test_every_writer_goes_through_the_schema():
    """No program of stage 7 writes results.json by itself; write_results checks what it is given."""
    writers = []
    for path in sorted(BIN.glob("*.py")):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = [getattr(call.func, "attr", getattr(call.func, "id", "")) for call in calls]
        for call, name in zip(calls, names, strict=True):
            if name == "write_json":
                words = {getattr(node, "value", getattr(node, "id", "")) for arg in call.args for node in ast.walk(arg)}
                assert not words & {"results.json", "RESULTS_JSON"} or path.stem == "avsr_sessions", path
        if "write_results" in names and "espnet_av.report" in path.read_text():
            writers.append(path.stem)
    assert {f"{task}_score" for task in ROW_KEYS} | {"avsr_evaluate"} <= set(writers)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": "other"}, "$.task is 'other'"),
        ({"date": "yesterday"}, "$.date is 'yesterday'"),
        ({"command": ""}, "$.command is shorter"),
        ({"versions": {"python": "3.11", "espnet_av": 1}}, "$.versions.espnet_av is int, not string"),
        ({"bootstrap": {"unit": "x", "num_resamples": 1, "level": 2, "seed": 0}}, "$.bootstrap.level is 2, out of"),
        ({"rows": [{"modality": "av"}]}, "$.rows[0] lacks set"),
        ({"seed": True}, "$.seed is bool"),
    ],
)
def test_wrong_results_are_refused_and_nothing_is_written(change, said, tmp_path):
    wrong = {**results_of("avsr"), **change}
    if "rows" in change:
        wrong["scores"] = []
        with pytest.raises(DataError) as caught:
            check_results({"format": 1, **wrong})
    else:
        with pytest.raises(DataError) as caught:
            write_results(tmp_path, wrong)
        assert not list(tmp_path.iterdir())
    assert said in str(caught.value)


def test_scores_have_no_other_keys_and_no_nan(tmp_path):
    row = {**ROWS["avsr"], "wer": math.nan}
    written = write_results(tmp_path, {**results_of("avsr"), "rows": [row]})
    assert written["scores"][0]["value"] is None and read_json(tmp_path / "results.json")["rows"][0]["wer"] is None
    written["scores"][0]["extra"] = 1
    assert list(violations(written, results_schema())) == ["$.scores[0] has the unknown extra"]
    with pytest.raises(DataError, match="unknown keyword"):
        list(violations(1, {"multipleOf": 2}))


@pytest.mark.parametrize("fixture", ["experiment", "separated"])
def test_commands_of_stage_7_write_it(fixture, request):
    """What recognition and separation write fits; the commands of the other tasks call the same function."""
    made = request.getfixturevalue(fixture)
    content = json.loads((made.exp_dir / "results.json").read_text())
    check_results(content)
    assert content["scores"] and "## How to reproduce" in (made.exp_dir / "RESULTS.md").read_text()
    assert (made.exp_dir / "RESULTS.md").read_text().startswith("# Results of ")
