# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 8 from the command line."""

import shutil

import pytest

from espnet_av.bin import report
from espnet_av.utils.errors import MissingDataError, UsageError


def test_report_is_written_and_named(experiment, capsys):
    options = ["--exp_dir", str(experiment.exp_dir), "--dump_dir", str(experiment.dump_dir), "--num_worst", "1"]
    assert report.main([*options, "--num_noisy", "0", "--title", "my run", "--max_media_mb", "1"]) is None
    page = experiment.exp_dir / "report.html"
    assert f"report: {page} (" in capsys.readouterr().out
    assert "<h1>my run</h1>" in page.read_text(encoding="utf-8")
    output = experiment.exp_dir / "pages" / "one.html"
    report.main([*options, "--output", str(output)])
    assert output.is_file()


def test_help_needs_no_heavy_package(capsys):
    with pytest.raises(SystemExit) as stop:
        report.main(["--help"])
    assert stop.value.code == 0 and "--max_media_mb" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--num_worst", "-1"], UsageError, "--num_worst is out of range"),
        (["--max_media_mb", "nan"], UsageError, "--max_media_mb is out of range"),
        (["--published", "nope.yaml"], MissingDataError, "--published: no file nope.yaml"),
        (["--output", "x.json"], UsageError, "--output names the page"),
        (["B", "--output", "x.json"], UsageError, "--output names the page"),
    ],
)
def test_options_are_checked(tmp_path, words, error, message):
    with pytest.raises(error, match=message):
        report.main([str(tmp_path), *words])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_experiment(tmp_path):
    with pytest.raises(MissingDataError, match="no experiment: .* holds none of config.yaml, results.json"):
        report.main([str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


def test_a_data_folder_that_is_not_there(experiment, caplog):
    report.main([str(experiment.exp_dir), "--dump_dir", "nope", "--alignment", "false"])
    assert "--dump_dir: no folder nope" in caplog.text


def test_what_a_comparison_ignores_is_named(experiment, tmp_path, caplog):
    other = shutil.copytree(experiment.exp_dir, tmp_path / "exp" / "other")
    report.main([str(experiment.exp_dir), str(other), "--title", "x", "--num_worst", "3"])
    assert "ignored when experiments are compared: --title, --num_worst" in caplog.text
