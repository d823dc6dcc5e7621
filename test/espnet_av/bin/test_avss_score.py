# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 7 of separation: an experiment, two folders, options, errors."""

import json

import numpy as np
import pytest
import soundfile

from espnet_av.bin.avss_score import main
from espnet_av.utils.errors import MissingDataError, UsageError

FAST = ["--metrics", "si_snri", "si_snr", "--num_resamples", "20"]
NAMES = ("a_b", "c_d")


def write(path, wave):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, 16000, subtype="FLOAT")


@pytest.fixture
def experiment(tmp_path):
    """Two sets, separated with own and with swapped lips, and one set without ground truth."""
    rng = np.random.default_rng(0)
    for set_name in ("test_a", "test_b", "real"):
        data = tmp_path / "dump" / set_name
        data.mkdir(parents=True)
        tables = {"mix": [], "s1": [], "s2": []}
        for uid in NAMES:
            voices = 0.1 * rng.standard_normal((2, 3200))
            for name, wave in zip(tables, (voices.sum(0), *voices), strict=True):
                path = tmp_path / "audio" / set_name / name / f"{uid}.wav"
                write(path, wave)
                tables[name].append(f"{uid} {path}\n")
            for lips, order in (("own", 1), ("swapped", -1)):
                folder = tmp_path / "exp" / "decode" / lips / set_name
                estimates = (voices + 0.1 * voices[::-1])[::order]
                for name, wave in zip(("s1", "s2"), estimates, strict=True):
                    write(folder / name / f"{uid}.wav", wave)
                (folder / "infer.json").write_text(json.dumps({"lips_mode": lips}), encoding="utf-8")
        for name, lines in tables.items():
            if name == "mix" or set_name != "real":
                (data / f"{name}.scp").write_text("".join(lines), encoding="utf-8")
    return tmp_path


def dirs(experiment):
    return ["--data_dirs", *(str(experiment / "dump" / name) for name in ("test_a", "test_b", "real"))]


def test_experiment(experiment, capsys, caplog):
    exp = experiment / "exp"
    main(["--exp_dir", str(exp), *dirs(experiment), *FAST])
    results = json.loads((exp / "results.json").read_text(encoding="utf-8"))
    rows = {(row["set"], row["lips"]): row for row in results["rows"]}
    assert set(rows) == {(name, lips) for name in ("test_a", "test_b") for lips in ("own", "swapped")}
    for (_, lips), row in rows.items():
        assert row["permutation"] == "fixed" and row["n_pairs"] == 4 and len(row["data_digest"]) == 12
        assert (row["si_snri"] > 15, row["other_si_snri"] > 15) == ((True, False) if lips == "own" else (False, True))
    assert results["task"] == "avss" and "avss_score" in results["command"]
    text = (exp / "RESULTS.md").read_text(encoding="utf-8")
    assert "test_a" in text and "lips swapped" in text and "test_b" in capsys.readouterr().out
    assert "real has no ground truth" in caplog.text
    assert (exp / "decode" / "own" / "test_a" / "scores.csv").is_file()
    from espnet_av.report.results import read_results

    assert len(read_results(exp)["rows"]) == 4


def test_a_decode_folder_without_lips(experiment):
    exp = experiment / "exp"
    flat = experiment / "flat"
    (exp / "decode" / "own").rename(flat)
    (flat / "test_a" / "infer.json").write_text("{}", encoding="utf-8")
    main(["--exp_dir", str(exp), "--decode_dir", str(flat), *dirs(experiment), *FAST])
    rows = json.loads((exp / "results.json").read_text(encoding="utf-8"))["rows"]
    found = {row["set"]: (row["lips"], row["permutation"]) for row in rows}
    assert found == {"test_a": ("audio", "pit"), "test_b": ("own", "fixed")}


def test_two_folders(experiment, tmp_path, capsys):
    config = tmp_path / "calc_metrics.yaml"
    truth, predicted = experiment / "audio" / "test_a", experiment / "exp" / "decode" / "swapped" / "test_a"
    config.write_text(f"gt_path: {truth}\npit: true\nmetrics: [si_snri]\n", encoding="utf-8")
    target = tmp_path / "scores"
    command = ["--config", str(config), "--pred_path", str(predicted), "--output_dir", str(target)]
    main(command)
    row = json.loads((target / "scores.json").read_text(encoding="utf-8"))
    assert row["permutation"] == "pit" and row["si_snri"] > 15
    assert not (predicted / "scores.csv").exists() and "SI-SNRi" in capsys.readouterr().out
    main([*command, "--pit", "false"])
    assert json.loads((target / "scores.json").read_text(encoding="utf-8"))["si_snri"] < 0


def test_what_is_particular_is_said(experiment, capsys):
    folder = experiment / "exp" / "decode" / "own" / "test_a"
    (folder / "s1" / "a_b.wav").unlink()
    write(experiment / "audio" / "test_a" / "s2" / "c_d.wav", np.zeros(3200))
    main(
        [
            "--gt_path",
            str(experiment / "audio" / "test_a"),
            "--pred_path",
            str(folder),
            "--allow_missing",
            "true",
            *FAST,
        ]
    )
    said = capsys.readouterr().out
    assert "1 mixtures without an estimate" in said and "1 voices with a silent reference" in said


def test_nothing_to_score(experiment, tmp_path):
    with pytest.raises(UsageError, match="--gt_path"):
        main([])
    with pytest.raises(UsageError, match="--gt_path"):
        main(["--pred_path", str(tmp_path)])
    with pytest.raises(MissingDataError, match="stage 6"):
        main(["--exp_dir", str(tmp_path / "none"), *dirs(experiment)])
    with pytest.raises(MissingDataError, match="--data_dirs"):
        main(["--exp_dir", str(experiment / "exp")])


def test_unknown_key(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("metric: [si_snri]\n", encoding="utf-8")
    with pytest.raises(UsageError, match="write metrics"):
        main(["--config", str(config), "--exp_dir", str(tmp_path)])
