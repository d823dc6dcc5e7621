# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Content of the sections that the page test does not look into."""

import inspect

import pytest

from espnet_av.report import sections
from espnet_av.train import trainer
from espnet_av.utils.errors import UsageError


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


def test_equal_criteria_and_notes_of_the_run_are_no_changed_settings(monkeypatch):
    criteria = {"best_model_criterion": [("valid", "loss", "min")]}
    monkeypatch.setattr(sections, "default_settings", lambda names: criteria)
    notes = {"git_commit": "0" * 12, "espnet_av_version": "1", "output_dir": "exp/a", "data_digests": {"train": {}}}
    part = sections.configuration_section({"best_model_criterion": [["valid", "loss", "min"]], **notes, "seed": 3})
    assert [row[0] for row in part["rows"]] == ["seed"] and part["note"].startswith("1 of 2 settings")
    assert "git_commit" in part["full"]


def test_the_environment_says_whose_it_is():
    names = {row[0] for row in sections.environment_section({"versions": {"torch": "2.11.0"}}, None)}
    assert {"torch of the scoring", "cores of the machine of this page"} <= names
    names = {row[0] for row in sections.environment_section(None, None)}
    assert "torch of this page" in names


def test_a_repeated_epoch_counts_once(tmp_path):
    (tmp_path / "history.jsonl").write_text('{"epoch": 1, "time_sec": 1}\n{"epoch": 2}\n{"epoch": 1, "time_sec": 9}\n')
    assert [(item["epoch"], item.get("time_sec")) for item in sections.read_history(tmp_path)] == [(1, 9), (2, None)]


def test_network_needs_a_configuration_of_this_task():
    assert sections.build_network(None) is None
    assert sections.build_network({"token_list": "tokens.txt"}) is None
    with pytest.raises(UsageError, match="other"):
        sections.build_network({"token_list": ["a"], "model": "other"})


def test_epochs_carry_the_time_that_the_trainer_writes():
    assert '"time_sec"' in inspect.getsource(trainer)
    cards = sections.headline_cards(None, [{"epoch": 1, "time_sec": 61.0}, {"epoch": 2, "time_sec": 59.0}], None)
    assert [(card["name"], card["value"], card["detail"]) for card in cards] == [("training", "00:02:00", "2 epochs")]


def test_silent_faces_have_their_own_table():
    rows = [
        {"set": "test", "modality": "audio", "wer": None, "n_silent": 3, "silent_ins": 4, "silent_ins_per_min": 8.04},
        {"set": "test", "modality": "av", "wer": None, "n_silent": 3, "silent_ins": 0, "silent_ins_per_min": None},
        {"set": "other", "modality": "av", "wer": 0.1},
    ]
    assert sections.silence_rows(rows) == [
        ["test", "audio-visual", 3, 0, "–"],
        ["test", "audio only", 3, 4, "8.0"],
    ]
