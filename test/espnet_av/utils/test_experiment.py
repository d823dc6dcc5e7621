# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Reading of experiment folders."""

import pytest

from espnet_av.utils.errors import DataError
from espnet_av.utils.experiment import (
    find_decodes,
    noise_condition,
    read_config,
    read_json_lines,
    read_stages,
    set_order,
)


def test_names_of_noisy_sets():
    noise = noise_condition("lrs2_test_snr_n5_interferer_2")
    assert (noise.base, noise.num_interferers, noise.snr_db) == ("lrs2_test", 2, -5.0)
    assert noise_condition("test_snr_10_interferer_1").snr_db == 10
    for name in ("test", "test_snr_5", "test_snr_x_interferer_1", "test_snr__interferer_1", "test_snr_5_interferer_"):
        assert noise_condition(name) is None, name


def test_reading_order():
    names = ["b", "a_snr_10_interferer_1", "a_snr_n5_interferer_2", "valid", "a", "a_snr_n5_interferer_1", "train"]
    assert sorted(names, key=set_order) == [
        "train",
        "valid",
        "a",
        "a_snr_n5_interferer_1",
        "a_snr_10_interferer_1",
        "a_snr_n5_interferer_2",
        "b",
    ]


def test_decodes_are_found_in_order(tmp_path):
    for name in ("video/b", "av/b", "audio/a", "fast/a", "av/a/deeper", "av/empty"):
        (tmp_path / name).mkdir(parents=True)
        if name != "av/empty":
            (tmp_path / name / "text").write_text("")
    found = [(item.set_name, item.modality) for item in find_decodes(tmp_path)]
    assert found == [("a", "audio"), ("a", "fast"), ("b", "av"), ("b", "video")]


def test_json_lines_of_a_killed_run(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"epoch": 1}\n\n{"epoch": 2}\n{"epo')
    assert [item["epoch"] for item in read_json_lines(path)] == [1, 2]
    path.write_text('{"epoch": 1\n{"epoch": 2}\n')
    with pytest.raises(DataError, match="line 1 is not valid JSON"):
        read_json_lines(path)
    assert read_json_lines(tmp_path / "absent") == []


def test_last_run_of_a_stage_counts(tmp_path):
    lines = [
        '{"stage": 10, "wall_s": 1}',
        '{"stage": "5a", "wall_s": 2}',
        '{"stage": 5, "wall_s": 3}',
        '{"stage": 5, "wall_s": 4}',
    ]
    (tmp_path / "stages.jsonl").write_text("\n".join(lines))
    assert [(item["stage"], item["wall_s"]) for item in read_stages(tmp_path)] == [(5, 4), ("5a", 2), (10, 1)]


def test_configuration_is_plain_yaml(tmp_path):
    path = tmp_path / "config.yaml"
    assert read_config(tmp_path) is None
    path.write_text("a: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(DataError, match="not plain YAML"):
        read_config(tmp_path)
    path.write_text("- a\n")
    with pytest.raises(DataError, match="holds no mapping"):
        read_config(tmp_path)
