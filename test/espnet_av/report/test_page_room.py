# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A page never grows beyond its limit, and says what it leaves out; the worst items are listed."""

import pytest

from espnet_av.report import page as pages
from espnet_av.report.page import ReportOptions, write_report
from espnet_av.report.results import read_results
from espnet_av.report.room import MAX_NAMED, Room
from espnet_av.report.worst import worst_section
from espnet_av.utils.errors import DataError


def test_room_names_what_does_not_fit():
    room = Room(10)
    assert room.take("12345", "first") == "12345" and room.take(None, "nothing") is None
    assert room.take("1234567", "second") is None and room.take("12345", "third") == "12345"
    assert room.num_left_out == 1 and room.left_bytes == 0
    assert room.section() == {"num_left_out": 1, "left_out": ["second (0.00 MB)"], "used_bytes": 10}
    for number in range(MAX_NAMED + 4):
        room.take("1", f"more {number}")
    assert room.section()["left_out"][-1] == "and 5 more"


def test_a_page_that_is_too_large_is_built_again_with_less(separated, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(pages, "SPARE_BYTES", 5000)
    whole = write_report(separated.exp_dir, separated.dump_dir, tmp_path / "whole.html")
    text = whole.read_text()
    assert "were left out" not in text and text.count("<audio") > 5
    most = len(text.encode()) - 100_000
    small = write_report(
        separated.exp_dir, separated.dump_dir, tmp_path / "small.html", ReportOptions(max_page_bytes=most)
    )
    text = small.read_text()
    assert small.stat().st_size <= most and "were left out to keep the page below 20 MB" in text
    assert "of e_f (0." in text.split("left out to keep")[1]
    assert sum("too large" in line for line in caplog.messages) == 1  # one more attempt was enough
    with pytest.raises(DataError, match="without any clip"):
        write_report(separated.exp_dir, separated.dump_dir, tmp_path / "x.html", ReportOptions(max_page_bytes=1000))
    assert not (tmp_path / "x.html").exists()


def test_worst_items_of_separation(separated):
    (table,) = worst_section(separated.exp_dir, read_results(separated.exp_dir))
    assert table["title"] == "test, own" and table["header"] == ["item", "SI-SNRi (dB)"]
    assert [row[0] for row in table["rows"]] == ["a_b", "c_d", "e_f"]  # half, a quarter, a tenth of the other voice
    assert worst_section(separated.exp_dir, None) == [] == worst_section(separated.exp_dir, {"rows": []})


def test_worst_items_of_recognition(experiment):
    tables = worst_section(experiment.exp_dir, read_results(experiment.exp_dir), 2)
    assert len(tables) == 2 and tables[0]["header"] == ["item", "WER (%)", "reference", "recognised"]
    rates = [float(row[1]) for row in tables[0]["rows"]]
    assert len(rates) == 2 and rates == sorted(rates, reverse=True) and rates[0] > 0
