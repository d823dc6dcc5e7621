# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import json

import pytest
from codec_decoded import UIDS, make_decoded

from espnet_av.bin import codec_score, show_results
from espnet_av.report.results import read_results
from espnet_av.utils.errors import DataError, MissingDataError, UsageError


@pytest.fixture
def made(tmp_path):
    return make_decoded(tmp_path)


def _row(results, system, kbps):
    return next(row for row in results["rows"] if (row["system"], row["bitrate_kbps"]) == (system, kbps))


def test_an_experiment(made, capsys):
    made.score()
    results = read_results(made.exp_dir)
    assert [(row["system"], row["bitrate_kbps"]) for row in results["rows"]] == [
        ("input", None),
        ("codec", 1.0),
        ("codec", 6.0),
        ("Opus", 6.0),
    ]
    assert all(len(row["data_digest"]) == 12 for row in results["rows"])
    assert _row(results, "codec", 6.0)["si_sdr"] > _row(results, "codec", 1.0)["si_sdr"]
    assert _row(results, "codec", 6.0)["infer_command"] == "infer"
    difference = results["comparisons"][0]
    assert (difference["first"]["bitrate_kbps"], difference["second"]["bitrate_kbps"]) == (6.0, 1.0)
    assert difference["differences"]["si_sdr"]["ci_low"] > 0
    shown = capsys.readouterr().out
    assert "| test | this codec       |    6.0 |" in shown
    assert "wer: skipped (no recogniser; fix: --asr MODEL)" in shown
    text = (made.exp_dir / "RESULTS.md").read_text()
    assert "## Use of the codebooks" in text and "- wer: skipped (no recogniser" in text
    folder = made.decoded(6) / "score_6kbps"
    assert {path.name for path in folder.iterdir()} == {"utt_result.txt", "avg_result.txt", "scores.json"}
    assert (made.exp_dir.parent / "anchors" / "test" / "opus_6kbps" / "avg_result.txt").is_file()
    show_results.main([str(made.exp_dir)])
    assert "| test | Opus " in capsys.readouterr().out
    show_results.main([str(made.exp_dir), "--format", "tsv"])
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_two_systems_are_told_apart_and_compared(made):
    made.decode(1, 3.0, tag="untrained")
    made.score("--opus", "false", "--score_input", "false")
    results = json.loads((made.exp_dir / "results.json").read_text())
    assert {row["system"] for row in results["rows"]} == {"decode_best", "untrained"}
    pairs = [(item["first"]["system"], item["second"]["system"]) for item in results["comparisons"]]
    assert pairs == [("decode_best", "decode_best"), ("decode_best", "untrained")]
    assert results["comparisons"][1]["differences"]["si_sdr"]["mean"] > 5


def test_two_lists_of_files(made, tmp_path, capsys):
    options = ["--metrics", "si_sdr", "--num_resamples", "10", "--output_dir", str(tmp_path / "out")]
    reference = str(made.data_dir / "reference.scp")
    codec_score.main(["--gt", reference, "--pred", str(made.decoded(6) / "wav"), *options])
    assert capsys.readouterr().out.startswith("si_sdr: ")
    assert len((tmp_path / "out" / "utt_result.txt").read_text().splitlines()) == len(UIDS)


def test_lists_of_metrics_as_versa_reads_them(tmp_path):
    path = tmp_path / "score.yaml"
    path.write_text(
        "- name: pesq\n- name: pseudo_mos\n  predictor_types: [utmos, plcmos]\n- name: sheet_ssqa\n- name: stoi\n"
    )
    found = codec_score.read_score_config(path)
    assert found["metrics"][:3] == ["pesq", "plcmos", "stoi"]
    assert found["versa_metrics"] == [
        {"name": "pseudo_mos", "predictor_types": ["utmos"]},
        {"name": "sheet_ssqa"},
    ]


@pytest.mark.parametrize(
    "text, error, message",
    [
        ("metric: [pesq]", UsageError, "unknown key in .*; got 'metric'.*write metrics"),
        ("3", DataError, "no scoring configuration"),
        ("- pesq", DataError, "no scoring configuration"),
        ("a: [", DataError, "not plain YAML"),
    ],
)
def test_bad_configurations(tmp_path, text, error, message):
    path = tmp_path / "score.yaml"
    path.write_text(text)
    args = codec_score.get_parser().parse_args(["--config", str(path)])
    with pytest.raises(error, match=message):
        codec_score.read_options(args)


def test_options_override_the_configuration(tmp_path):
    path = tmp_path / "score.yaml"
    path.write_text("metrics: [pesq, stoi]\nmax_utts: 5\nopus_kbps: [12, 6]\n")
    parser = codec_score.get_parser()
    options = codec_score.read_options(parser.parse_args(["--config", str(path), "--max_utts", "2"]))
    assert (options.metrics, options.max_utts, options.opus_kbps) == (("pesq_wb", "stoi"), 2, (6.0, 12.0))
    options = codec_score.read_options(parser.parse_args(["--config", str(path), "--opus", "false"]))
    assert options.opus_kbps == ()


def test_nothing_to_score(made, tmp_path):
    with pytest.raises(UsageError, match="nothing to score"):
        codec_score.main([])
    with pytest.raises(MissingDataError, match="no decoded sound.*--stage 6"):
        codec_score.main(["--exp_dir", str(tmp_path)])
    with pytest.raises(MissingDataError, match="the data folder of the decoded set 'test' is not named"):
        codec_score.main(["--exp_dir", str(made.exp_dir)])
    with pytest.raises(MissingDataError, match="no references in"):
        codec_score.main(["--gt", str(tmp_path / "none"), "--pred", str(made.decoded(6))])


def test_folder_without_bit_rate(made):
    folder = made.exp_dir / "decode"
    made.decoded(6).parent.rename(folder)
    args = ["--exp_dir", str(made.exp_dir), "--decode_dirs", str(folder), "--data_dirs", str(made.data_dir)]
    work = codec_score.find_work(codec_score.get_parser().parse_args(args))
    assert [item.kbps for item in work] == [6.0]  # from infer.json
    (folder / "test" / "infer.json").unlink()
    with pytest.raises(MissingDataError, match="the bit rate of .* is not known"):
        codec_score.find_work(codec_score.get_parser().parse_args(args))
