# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The command that says what a separator costs."""

import json

import pytest

from espnet_av.bin.avss_complexity import get_parser, main, read_model
from espnet_av.utils.errors import MissingDataError

SMALL = "{filters: 16, kernel: 16, bottleneck: 8, hidden: 12, layers: 2, stacks: 1}"


def test_counts(tmp_path, capsys):
    target = tmp_path / "cost.json"
    main(["--model", "convtasnet", "--model_conf", SMALL, "--runs", "0", "--output", str(target)])
    figures = json.loads(target.read_text(encoding="utf-8"))
    shown = capsys.readouterr().out
    assert f"{figures['num_parameters']:,}" in shown and f"{figures['gmacs']:.2f} G" in shown
    assert figures["inference"] is None


def test_model_of_a_configuration(tmp_path):
    (tmp_path / "config.yaml").write_text("model: convtasnet\nmodel_conf: {layers: 3, stacks: 2}\n", encoding="utf-8")

    def read(*options):
        return read_model(get_parser().parse_args(options))

    here = str(tmp_path)
    assert read("--train_dir", here) == ("convtasnet", {"layers": 3, "stacks": 2})
    path = str(tmp_path / "config.yaml")
    assert read("--config", path, "--model_conf", "layers=4") == ("convtasnet", {"layers": 4, "stacks": 2})
    assert read("--config", path, "--model", "rtfsnet") == ("rtfsnet", {})
    assert read() == ("rtfsnet", {})
    with pytest.raises(MissingDataError):
        read("--train_dir", str(tmp_path / "none"))
