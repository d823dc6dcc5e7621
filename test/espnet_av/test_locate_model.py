# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Where models are looked for, and that a damaged pack is not loaded."""

import json
from pathlib import Path

import pytest
from small_models import TASKS, load, make_experiment, public_class

from espnet_av import hub
from espnet_av.report.packing import PackOptions, pack_experiment
from espnet_av.utils.errors import DataError, UsageError


@pytest.fixture
def pack(tmp_path):
    return pack_experiment(make_experiment("avss", tmp_path), tmp_path / "pack", None, PackOptions())


def test_damaged_weights_are_not_loaded(pack):
    weights = pack / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(DataError, match="model.safetensors is not what was packed.*pack or download"):
        load("avss", pack)


def test_texts_of_a_pack_may_be_edited(pack):
    for name in ("README.md", "config.yaml"):
        (pack / name).write_text((pack / name).read_text() + "\n")
    assert load("avss", pack).origin.folder == pack


@pytest.mark.parametrize("content", ["{", "", '{"files": '])
def test_an_unreadable_description_is_an_error(pack, content):
    (pack / "meta.json").write_text(content)
    with pytest.raises(DataError, match="meta.json is not valid JSON.*pack or download the model again"):
        load("avss", pack)


def test_a_description_of_something_else_is_left_alone(pack):
    (pack / "meta.json").write_text(json.dumps({"licence": "MIT"}))
    assert hub.locate_model(pack) == pack


@pytest.mark.parametrize("task", TASKS)
def test_names_of_the_hub(task, tmp_path, monkeypatch):
    exp, asked = make_experiment(task, tmp_path), []

    def fetch(name, cache_dir, **options):
        asked.append((name, options))
        return exp

    monkeypatch.setattr(hub, "fetch_repository", fetch)
    monkeypatch.chdir(tmp_path)
    for source in ("org/model@v1.0", "hf://org/model", "hf://org/model@refs/pr/1"):
        load(task, source, token="hf_secret")
        assert asked.pop() == (source, {"revision": None, "token": "hf_secret"})
    (tmp_path / "org" / "model").mkdir(parents=True)
    public_class(task).from_pretrained(Path("hf://org/model"), **({"vocoder": "none"} if task == "avgen" else {}))
    assert asked == [("hf:/org/model", {"revision": None, "token": None})]


def test_addresses_that_are_none(tmp_path):
    with pytest.raises(UsageError, match="not a name of the hub; got 'hf://model'; allowed: organisation/name"):
        hub.locate_model("hf://model")
    assert hub.locate_model(tmp_path / "a@b" / "c") == tmp_path / "a@b" / "c"
