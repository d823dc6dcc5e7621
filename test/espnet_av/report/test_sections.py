# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Content of the sections that the page test does not look into."""

from espnet_av.report import sections


def test_defaults_are_those_of_the_training_options():
    defaults = sections.default_settings(["max_epoch", "token_type", "no_such_option"])
    assert defaults == {"max_epoch": 40, "token_type": "bpe", "no_such_option": None}


def test_only_changed_settings_are_listed(monkeypatch):
    monkeypatch.setattr(sections, "default_settings", lambda names: {"a": 1, "pair": (1, 2)})
    part = sections.configuration_section({"a": 2, "pair": [1, 2], "token_list": ["x"], "api_key": "k3y"})
    assert [row[:2] for row in part["rows"]] == [["a", "2"], ["api_key", "***"]]
    assert "k3y" not in part["full"] and "token_list" not in part["full"]
    monkeypatch.setattr(sections, "default_settings", lambda names: None)
    assert sections.configuration_section({"a": 2, "empty": {}})["rows"] == [["a", "2"]]


def test_a_repeated_epoch_counts_once(tmp_path):
    (tmp_path / "history.jsonl").write_text('{"epoch": 1, "time": 1}\n{"epoch": 2}\n{"epoch": 1, "time": 9}\n')
    assert [(item["epoch"], item.get("time")) for item in sections.read_history(tmp_path)] == [(1, 9), (2, None)]


def test_network_needs_a_configuration_of_this_task():
    assert sections.build_network(None) is None
    assert sections.build_network({"token_list": "tokens.txt"}) is None
    assert sections.build_network({"token_list": ["a"], "model": "other"}) is None
