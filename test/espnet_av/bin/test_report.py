# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 8 from the command line."""

import pytest

from espnet_av.bin import report


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
