# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The scorer's command line on experiment folders made by the test."""

import json

import pytest

from espnet_av.bin import avsr_score, show_results
from espnet_av.utils.errors import DataError, MissingDataError, UsageError

REFERENCES = {"s1-a": "bin blue at a one", "s1-b": "set red by z two", "s2-c": "<unk>"}


@pytest.fixture
def work(tmp_path):
    """Make an experiment with two sets, av and audio, and return (exp_dir, dump_dir)."""
    exp, dump = tmp_path / "exp" / "small", tmp_path / "dump"
    for name in ("test", "test_snr_n5_interferer_1"):
        _write(dump / name / "text", REFERENCES)
        _write(dump / name / "utt2spk", {uid: uid[:2] for uid in REFERENCES})
        _write(dump / name / "utt2num_samples", dict.fromkeys(REFERENCES, "48000"))
        _write(exp / "decode" / "av" / name / "text", {**REFERENCES, "s1-a": "bin blue at one"})
        _write(
            exp / "decode" / "audio" / name / "text", {"s1-a": "bin", "s1-b": REFERENCES["s1-b"], "s2-c": "uh <unk>"}
        )
    (exp / "config.yaml").write_text("seed: 17\nngpu: 0\nmodel_conf: {size: 4}\n")
    (exp / "stages.jsonl").write_text(
        '{"stage": 5, "name": "train", "wall_s": 90.0, "cpu_s": 99.0, "max_rss_mb": 1000}\n'
        '{"stage": 5, "name": "train", "wall_s": 100.0, "cpu_s": 190.0, "max_rss_mb": 1234.5}\n'
        '{"stage": 6, "name": "infer", "wall_s": 20.0, "cpu_s": 19.0, "max_rss_mb": 500}\n'
    )
    (exp / "decode" / "av" / "test" / "infer.json").write_text('{"rtf": 0.4, "command": "python -m x"}')
    return exp, dump


def _write(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{key} {value}\n" for key, value in table.items()), encoding="utf-8")


def _score(work, *more):
    exp, dump = work
    avsr_score.main(["--exp_dir", str(exp), "--dump_dir", str(dump), "--normalize", "none", *more])
    return json.loads((exp / "results.json").read_text())


def test_rows_equal_those_by_hand(work):
    results = _score(work)
    rows = {(row["set"], row["modality"]): row for row in results["rows"]}
    assert len(rows) == 4
    both, audio = rows["test", "av"], rows["test", "audio"]
    assert both["wer"] == pytest.approx(1 / 10) and both["del"] == 1 and both["n_words"] == 10 and both["n_utts"] == 3
    assert audio["wer"] == pytest.approx(5 / 10) and (audio["sub"], audio["del"], audio["ins"]) == (0, 4, 1)
    assert audio["deletion_rate"] == pytest.approx(0.4)
    assert both["ci_low"] <= both["wer"] <= both["ci_high"]
    assert audio["n_silent"] == 1 and audio["silent_ins_per_min"] == pytest.approx(20.0)  # one word in 3 s of silence
    assert both["rtf"] == 0.4 and both["infer_command"] == "python -m x"
    assert both["seed"] == 17 and len(both["config_digest"]) == 12 and len(both["data_digest"]) == 12
    assert both["speakers"]["s1"]["wer"] == pytest.approx(0.1) and both["speakers"]["s2"]["wer"] is None
    assert results["ratios"][0]["ratio"] == pytest.approx(0.2)
    assert [item["set"] for item in results["ratios"]] == ["test", "test_snr_n5_interferer_1"]


def test_files_of_a_set(work):
    _score(work)
    folder = work[0] / "decode" / "audio" / "test"
    per_set = json.loads((folder / "wer.json").read_text())
    assert [item["id"] for item in per_set["utterances"]] == ["s1-a", "s2-c", "s1-b"]
    assert per_set["utterances"][0]["wer"] == pytest.approx(0.8)
    text = (folder / "result.txt").read_text()
    assert "REF: bin blue at a one\nHYP: bin *    *  * *\n         D    D  D D" in text
    assert text.index("s1-a") < text.index("s2-c") < text.index("s1-b")


def test_results_markdown_and_printed_table(work, capsys):
    _score(work)
    printed = capsys.readouterr().out
    markdown = (work[0] / "RESULTS.md").read_text(encoding="utf-8")
    assert "| set " in printed and "10.0 [" in printed and "RESULTS.md" in printed
    for piece in ("Results of small", "audio-visual", "0.20", "seed of the training: `17`", "00:01:40", "1,234 MB"):
        assert piece in markdown
    assert "avsr_score --exp_dir" in markdown and "python 3" in markdown
    assert markdown.count("| train ") == 1  # the last run of a stage counts
    first = markdown.index("| test ")
    assert first < markdown.index("| test_snr_n5_interferer_1 ")


def test_digest_ignores_machine_settings(work):
    before = _score(work)["config_digest"]
    config = work[0] / "config.yaml"
    config.write_text(config.read_text().replace("ngpu: 0", "ngpu: 1"))
    assert _score(work)["config_digest"] == before
    config.write_text(config.read_text().replace("size: 4", "size: 5"))
    assert _score(work)["config_digest"] != before


def test_same_input_gives_the_same_results(work, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setattr("espnet_av.utils.source._git", lambda *arguments: None)  # it may change meanwhile
    first = _score(work)
    assert first["date"] == "2023-11-14T22:13:20Z"
    assert _score(work) == first
    assert _score(work, "--seed", "1")["bootstrap"]["seed"] == 1


def test_missing_hypotheses_are_refused_or_counted(work):
    path = work[0] / "decode" / "av" / "test" / "text"
    _write(path, {"s1-a": "bin blue at a one"})
    with pytest.raises(DataError, match=r"2 of 3 utterances have no hypothesis; got 's1-b, s2-c'.*--allow_missing"):
        _score(work)
    rows = {(row["set"], row["modality"]): row for row in _score(work, "--allow_missing", "true")["rows"]}
    assert rows["test", "av"]["del"] == 5 and rows["test", "av"]["n_missing"] == 2
    assert "missing hypotheses are counted as deletions" in (work[0] / "RESULTS.md").read_text()
    assert "s1-b, s2-c" in path.with_name("result.txt").read_text()


def test_unknown_hypotheses_are_refused(work):
    _write(work[0] / "decode" / "av" / "test" / "text", {**REFERENCES, "s9-x": "hello"})
    with pytest.raises(DataError, match="1 hypotheses without a reference; got 's9-x'"):
        _score(work)


def test_bad_files_are_named(work):
    path = work[0] / "decode" / "av" / "test" / "text"
    path.write_text("s1-a one\ns1-a two\n")
    with pytest.raises(DataError, match="text:2: duplicate id 's1-a'"):
        _score(work)
    path.write_bytes(b"s1-a \xff\xfe\n")
    with pytest.raises(DataError, match="text:1: not UTF-8"):
        _score(work)
    (work[1] / "test" / "text").unlink()
    with pytest.raises(MissingDataError, match="no file .*test/text"):
        _score(work)


def test_nothing_decoded_names_the_stage(tmp_path):
    with pytest.raises(MissingDataError, match="--stage 6"):
        avsr_score.main(["--exp_dir", str(tmp_path), "--normalize", "none"])
    with pytest.raises(UsageError, match="--pairs"):
        avsr_score.main([])


def test_choice_of_sets_modalities_and_utterances(work, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("s1-a\n")
    rows = _score(work, "--sets", "test", "--modalities", "av", "--key_file", str(keys))["rows"]
    assert [(row["set"], row["modality"], row["n_utts"], row["n_words"]) for row in rows] == [("test", "av", 1, 5)]
    with pytest.raises(MissingDataError, match="not decoded.*lips"):
        _score(work, "--modalities", "lips")


def test_interval_over_speakers_needs_speakers(work):
    results = _score(work, "--ci_unit", "speaker")
    assert results["bootstrap"]["unit"] == "speaker"
    (work[1] / "test" / "utt2spk").unlink()
    with pytest.raises(DataError, match="ci_unit speaker"):
        _score(work, "--ci_unit", "speaker")


def test_pairs_without_an_experiment(tmp_path, capsys):
    _write(tmp_path / "ref", {"a": "one two"})
    _write(tmp_path / "hyp", {"a": "one too"})
    avsr_score.main(["--normalize", "none", "--pairs", "mine", "av", str(tmp_path / "ref"), str(tmp_path / "hyp")])
    assert "50.0 [50.0, 50.0]" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hyp", "ref"]


def test_both_sides_are_normalised(tmp_path, capsys):
    _write(tmp_path / "ref", {"a": "It's one, two!", "b": "<unk>"})
    _write(tmp_path / "hyp", {"a": "it's ONE two", "b": "<unk>"})
    avsr_score.main(["--pairs", "mine", "av", str(tmp_path / "ref"), str(tmp_path / "hyp")])
    assert "|     3 | 0.0 [0.0, 0.0] |" in capsys.readouterr().out


def test_show_results(work, capsys):
    _score(work)
    capsys.readouterr()
    show_results.main([str(work[0].parent)])
    assert "exp/small" in (shown := capsys.readouterr().out) and "10.0 [" in shown
    show_results.main([str(work[0]), "--format", "tsv"])
    lines = capsys.readouterr().out.splitlines()
    assert (
        len(lines) == 5 and lines[0].startswith("run\tset\tmodality") and all(len(x.split("\t")) == 12 for x in lines)
    )
    with pytest.raises(MissingDataError, match="--stage 7"):
        show_results.main([str(work[1])])
