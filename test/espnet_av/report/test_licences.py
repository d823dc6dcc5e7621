# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The licence ledger, and pairs of licences that do not go together."""

import json

import pytest

from espnet_av.report.licences import (
    find_conflicts,
    ledger,
    read_terms,
    trained_licences,
    unknown_licences,
    unknown_sets,
)
from espnet_av.report.model_card import front_matter


@pytest.mark.parametrize(
    ("licence", "forbids", "non_commercial", "share_alike", "known"),
    [
        ("CC-BY-4.0", False, False, False, True),
        ("CC BY-NC-SA 4.0", False, True, True, True),
        ("cc-by-nd-4.0", True, False, False, True),
        ("Apache-2.0", False, False, False, True),
        ("research use only, no redistribution", True, True, False, True),
        ("GPL-3.0-or-later", False, False, True, True),
        ("Made here (Apache-2.0) with espeak-ng (GPL-3.0-or-later; not its output).", False, False, False, True),
        ("not for commercial use", False, True, False, True),
        ("no commercial use", False, True, False, True),
        ("Commercial use of the data is strictly prohibited.", False, True, False, True),
        ("research purposes only", False, True, False, True),
        ("only for non-profit academic and research use", False, True, False, True),
        ("LDC user agreement", True, False, False, True),
        ("terms of MCoRec (CHiME-9), to be accepted where the data is given out", True, False, False, True),
        ("redistribution is not allowed", True, False, False, True),
        ("licensed for research and commercial use", False, False, False, False),
        ("Apache-2.0, from a research project, commercial use allowed", False, False, False, True),
        ("BBC agreement", False, False, False, False),
        ("CC-BY-NC-4.0 and not stated", False, True, False, False),
        ("Tandy sans ncurses", False, False, False, False),  # letters inside words mean nothing
        ("", False, False, False, False),
        (None, False, False, False, False),
    ],
)
def test_terms(licence, forbids, non_commercial, share_alike, known):
    terms = read_terms(licence)
    assert (terms.forbids_sharing, terms.non_commercial, terms.share_alike, terms.known) == (
        forbids,
        non_commercial,
        share_alike,
        known,
    )


@pytest.mark.parametrize(
    ("data", "model", "count"),
    [
        (["CC-BY-4.0", "CC0", "MIT"], "Apache-2.0", 0),
        (["CC-BY-NC-4.0"], "Apache-2.0", 1),
        (["CC-BY-NC-4.0"], "CC-BY-NC-4.0", 0),
        (["CC BY-SA 4.0"], "cc-by-sa-4.0", 0),
        (["CC-BY-SA-4.0"], "MIT", 1),
        (["CC-BY-SA-4.0", "CC-BY-NC-SA-4.0"], "CC-BY-NC-SA-4.0", 2),  # no licence satisfies this pair
        (["all rights reserved"], "CC-BY-NC-4.0", 1),
        (["something new"], "Apache-2.0", 0),
    ],
)
def test_conflicts(data, model, count):
    assert len(find_conflicts(data, model)) == count


def test_a_model_for_own_use_has_no_conflicts():
    data = ["BBC/LRS2 research agreement; not redistributable", "CC-BY-NC-ND-4.0", "CC-BY-SA-4.0"]
    assert find_conflicts(data, "CC-BY-NC-4.0")
    assert find_conflicts(data, "not redistributable") == []


def test_unknown_licences_are_named():
    assert unknown_licences(["CC0", None, "something new"]) == ["not stated", "something new"]


def test_ledger_takes_the_sets_of_the_configuration(tmp_path):
    for name, licence in (("train", "CC0"), ("extra", "MIT"), ("valid", "CC0"), ("test", "CC-BY-NC-4.0")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.json").write_text(json.dumps({"licence": licence, "description": name.upper()}))
    config = {
        "train_data_path_and_name_and_type": [
            [str(tmp_path / "extra" / "wav.scp"), "speech", "sound"],
            [str(tmp_path / "extra" / "text"), "text", "text"],
        ],
        "valid_data_path_and_name_and_type": [f"{tmp_path}/valid/wav.scp,speech,sound"],
    }
    entries = ledger(config, tmp_path)
    assert {item.set_name: item.trained_on for item in entries} == {
        "extra": True,
        "valid": True,
        "test": False,
        "train": False,
    }
    assert trained_licences(entries) == ["CC0", "MIT"]
    assert {item.set_name for item in ledger(None, tmp_path) if item.trained_on} == {"train", "valid"}
    assert ledger(None, None) == []


def test_data_folders_are_found_from_any_working_folder(tmp_path, monkeypatch):
    recipe, elsewhere = tmp_path / "recipe", tmp_path / "other"
    for folder in (recipe / "dump" / "train", recipe / "exp" / "tag", recipe / "pack", elsewhere / "dump" / "train"):
        folder.mkdir(parents=True)
    (recipe / "dump" / "train" / "data.json").write_text(json.dumps({"licence": "CC BY-NC 4.0"}))
    (elsewhere / "dump" / "train" / "data.json").write_text(json.dumps({"licence": "CC0"}))
    (recipe / "pack" / "meta.json").write_text(json.dumps({"name": "start", "licence": "no redistribution"}))
    config = {
        "train_data_path_and_name_and_type": [["dump/train/wav.scp", "speech", "sound"]],
        "init_param": ["pack/model.safetensors:encoder"],
    }
    for folder in (recipe, tmp_path, elsewhere):
        monkeypatch.chdir(folder)
        entries = ledger(config, None, recipe / "exp" / "tag")
        assert trained_licences(entries) == ["CC BY-NC 4.0", "no redistribution"], folder


def test_folders_that_generators_are_trained_on_count(tmp_path):
    for name in ("one", "two"):
        (tmp_path / "dump" / name).mkdir(parents=True)
        (tmp_path / "dump" / name / "data.json").write_text(json.dumps({"licence": f"CC-BY-NC-4.0, {name}"}))
    config = {"train_data_path_and_name_and_type": [], "train_dir": "dump/one", "valid_dir": "dump/two"}
    assert trained_licences(ledger(config, None, tmp_path / "exp" / "tag")) == [
        "CC-BY-NC-4.0, one",
        "CC-BY-NC-4.0, two",
    ]


def test_what_cannot_be_told_is_said(tmp_path):
    (tmp_path / "dump" / "train").mkdir(parents=True)
    (tmp_path / "dump" / "valid").mkdir()
    (tmp_path / "dump" / "valid" / "data.json").write_text("[]")
    sets = {"train": "dump/train/wav.scp", "valid": "dump/valid/wav.scp", "more": "gone/more/wav.scp"}
    config = {"train_data_path_and_name_and_type": [[path, "speech", "sound"] for path in sets.values()]}
    assert unknown_sets(ledger(config, None, tmp_path / "exp" / "tag")) == [
        f"{name}: 'not stated' (no data.json was found)" for name in sets
    ]
    moved = tmp_path / "moved"
    (moved / "more").mkdir(parents=True)
    (moved / "more" / "data.json").write_text(json.dumps({"licence": "CC-BY-NC-4.0"}))
    entries = ledger(config, moved, tmp_path / "exp" / "tag")
    assert [entry.licence for entry in entries if entry.set_name == "more"] == ["CC-BY-NC-4.0"]
    assert len(unknown_sets(entries)) == 2


def test_models_that_a_training_started_from_count(tmp_path):
    pack, earlier, data = tmp_path / "pack", tmp_path / "exp", tmp_path / "dump" / "train"
    for folder in (pack, earlier, data):
        folder.mkdir(parents=True)
    (pack / "meta.json").write_text(json.dumps({"name": "reader", "licence": "CC-BY-NC-4.0"}))
    (data / "data.json").write_text(json.dumps({"licence": "no redistribution"}))
    sets = [[str(data / "wav.scp"), "speech", "sound"]]
    (earlier / "config.yaml").write_text(json.dumps({"train_data_path_and_name_and_type": sets}))
    config = {"initialised_from": [f"{pack}/model.safetensors:encoder"], "init_param": [f"{earlier}/best.pth"]}
    found = {entry.set_name: entry.licence for entry in ledger(config, None) if entry.trained_on}
    assert found == {"start: reader": "CC-BY-NC-4.0", "start: train": "no redistribution"}
    assert len(find_conflicts(trained_licences(ledger(config, None)), "Apache-2.0")) == 2
    assert ledger({"model_name_or_path": str(pack)}, None)[0].licence == "CC-BY-NC-4.0"
    assert ledger({"init_param": ["gone/model.pth"]}, None) == []


@pytest.mark.parametrize(
    ("licence", "fields"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        ("CC BY-NC 4.0", {"license": "cc-by-nc-4.0"}),
        ("not redistributable", {"license": "other", "license_name": "not-redistributable"}),
    ],
)
def test_hubs_are_told_a_licence_that_they_know(licence, fields):
    meta = {"task": "avsr", "licence": licence, "licences": [], "name": "model"}
    head = front_matter(meta)
    assert {key: value for key, value in head.items() if key.startswith("license")} == fields
