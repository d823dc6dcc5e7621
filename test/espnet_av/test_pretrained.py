# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Models of all systems go into folders and to a hub and come back, and nothing of this machine goes along."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from fake_hub import TOKEN, running_hub
from small_models import TASKS, load, make_experiment, public_class

import espnet_av
from espnet_av.bin import upload
from espnet_av.hub import Pretrained
from espnet_av.report.packing import LicenceConflict, PackOptions, pack_experiment, verify_pack
from espnet_av.utils.errors import CheckpointError, DataError, EnvironmentProblem, MissingDataError, UsageError

constants = pytest.importorskip("huggingface_hub.constants")
FOREIGN_PATH = re.compile(r"(?<![\w.:/~<])/(?:[\w.-]+/)+[\w.-]+")  # an absolute path, but not one of an address


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub in the place of the real one, for which this user has a token."""
    with running_hub() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.address)
        template = running.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield running


def weights(model):
    return {name: value.clone() for name, value in model.trained_network().state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def change(model):
    """Train a little."""
    with torch.no_grad():
        next(model.trained_network().parameters()).add_(1.0)
    return model


@pytest.mark.parametrize("task", TASKS)
def test_a_pack_is_whole_without_the_experiment_and_the_corpora(task, tmp_path):
    exp = make_experiment(task, tmp_path / "here")
    model = load(task, exp)
    wanted = weights(model)
    folder = model.save_pretrained(tmp_path / "here" / "pack")
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    shutil.move(folder, moved)
    shutil.rmtree(tmp_path / "here")
    for path in (path for path in moved.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert str(tmp_path).encode() not in content and b"/corpora/" not in content, path
        if path.suffix != ".safetensors":
            assert not FOREIGN_PATH.findall(content.decode()), path
    meta = verify_pack(moved)
    assert meta["task"] == task and meta["licence"] == "Apache-2.0"
    assert [(item["licence"], item["trained_on"]) for item in meta["licences"]] == [("CC-BY-4.0", True)]
    assert same(weights(load(task, moved)), wanted)
    module, _, name = meta["class"].partition(":")
    assert f"from espnet_av import {name}" in (moved / "README.md").read_text() and module


@pytest.mark.parametrize("task", TASKS)
def test_to_the_hub_and_back(task, tmp_path, hub):
    model = load(task, make_experiment(task, tmp_path / "here"))
    first = weights(model)
    commit = model.push_to_hub("me/small", private=True)
    assert hub.repositories["me/small"].private and hub.repositories["me/small"].heads["main"] == commit
    shutil.rmtree(tmp_path / "here")
    loaded = load(task, "me/small")
    assert same(weights(loaded), first) and loaded.origin.folder.is_relative_to(tmp_path / "hub_cache")
    second = weights(change(loaded))
    newer = loaded.push_to_hub("me/small", commit_message="Train on")
    assert newer != commit and hub.repositories["me/small"].messages[-1] == "Train on"
    assert same(weights(load(task, "me/small")), second)
    assert same(weights(load(task, "me/small", revision=commit)), first)
    assert verify_pack(load(task, "me/small").origin.folder)["name"] == "small"


def test_branches_and_revisions_that_are_not_there(tmp_path, hub):
    model = load("avss", make_experiment("avss", tmp_path))
    model.push_to_hub("me/model")
    first = weights(model)
    change(model).push_to_hub("me/model", revision="trial")
    assert same(weights(load("avss", "me/model")), first)
    assert same(weights(load("avss", "me/model", revision="trial")), weights(model))
    with pytest.raises(MissingDataError, match="there is no path me/model.*lacks what is needed"):
        load("avss", "me/model", revision="v9")
    with pytest.raises(MissingDataError, match="there is no path me/other.*no such repository"):
        load("avss", "me/other")
    with pytest.raises(UsageError, match="a revision is of a model on the hub"):
        load("avss", tmp_path / "exp" / "small_avss", revision="main")


def test_a_broken_connection_is_taken_up(tmp_path, hub, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    model = load("avss", make_experiment("avss", tmp_path))
    model.push_to_hub("me/model")
    hub.cut_after = 10_000
    assert same(weights(load("avss", "me/model")), weights(model))
    resumed = [request for request in hub.asked("GET", "model.safetensors") if request[2]]
    assert [request[2] for request in resumed] == ["bytes=10000-"]


def test_what_is_there_is_not_fetched_again(tmp_path, hub, monkeypatch):
    model = load("avss", make_experiment("avss", tmp_path))
    model.push_to_hub("me/model")
    load("avss", "me/model")
    hub.requests.clear()
    load("avss", "me/model")
    assert not hub.asked("GET", "/resolve/")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert same(weights(load("avss", "me/model")), weights(model))  # without network


def test_a_model_of_the_hub_is_compared_with_its_digests(tmp_path, hub):
    load("avss", make_experiment("avss", tmp_path)).push_to_hub("me/model")
    repository = hub.repositories["me/model"]
    files = repository.commits[repository.heads["main"]]
    repository.commit("main", {**files, "config.yaml": files["config.yaml"] + b"\n"})
    with pytest.raises(DataError, match="config.yaml is not what was packed"):
        load("avss", "me/model")


def test_uploads_that_the_hub_refuses(tmp_path, hub, monkeypatch):
    model = load("avss", make_experiment("avss", tmp_path))
    hub.read_only = True
    with pytest.raises(EnvironmentProblem, match="does not let this account write to 'me/model'.*hf auth login"):
        model.push_to_hub("me/model")
    with pytest.raises(UsageError, match="organisation/name"):
        model.push_to_hub("model")
    assert not hub.repositories
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(EnvironmentProblem, match="could not be uploaded"):
        model.push_to_hub("me/model")


def test_licences_of_the_data_hold_for_saving_and_uploading(tmp_path, hub):
    model = load("avss", make_experiment("avss", tmp_path, licence="CC-BY-NC-4.0"))
    with pytest.raises(LicenceConflict, match="'CC-BY-NC-4.0' is non-commercial, 'Apache-2.0' is not"):
        model.save_pretrained(tmp_path / "pack")
    with pytest.raises(LicenceConflict):
        model.push_to_hub("me/model")
    assert not (tmp_path / "pack").exists() and not hub.repositories
    packed = load("avss", model.save_pretrained(tmp_path / "pack", licence="CC-BY-NC-4.0", name="mine"))
    with pytest.raises(LicenceConflict):
        packed.save_pretrained(tmp_path / "again", licence="MIT")
    packed.push_to_hub("me/model")
    own = load("avss", model.save_pretrained(tmp_path / "own", licence="not redistributable"))
    with pytest.raises(LicenceConflict, match="may not be passed on"):
        own.push_to_hub("me/own")
    card = (tmp_path / "pack" / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "cc-by-nc-4.0" and "# mine" in card
    assert sorted(hub.repositories) == ["me/model"]


def test_changed_weights_do_not_keep_their_results(tmp_path):
    exp = make_experiment("avss", tmp_path)
    folder = pack_experiment(exp, tmp_path / "pack", None, PackOptions())
    meta = json.loads((folder / "meta.json").read_text())
    meta["results"] = {"task": "avss", "rows": []}
    (folder / "meta.json").write_text(json.dumps(meta))
    model = load("avss", folder)
    kept = model.save_pretrained(tmp_path / "same")
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    changed = verify_pack(change(model).save_pretrained(folder))  # over the one it came from
    assert changed["results"] is None and changed["changed_after_loading"] == 1
    assert changed["weights"]["source"] == "valid.loss.ave_2best.pth, changed after loading"
    assert same(weights(load("avss", folder)), weights(model))


def test_models_that_cannot_be_saved(tmp_path):
    exp = make_experiment("avss", tmp_path)
    model = load("avss", exp)
    with pytest.raises(UsageError, match="was built, not loaded"):
        espnet_av.Separator(model.network).save_pretrained(tmp_path / "pack")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="no packed model"):
        model.save_pretrained(tmp_path / "thesis")
    model.network = torch.nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match="another one than was loaded"):
        model.save_pretrained(tmp_path / "pack")
    assert not (tmp_path / "pack").exists()


def test_converted_models_have_no_licence_until_one_is_given(tmp_path, hub):
    exp = make_experiment("avss", tmp_path)
    config = yaml.safe_load((exp / "config.yaml").read_text())
    converted = tmp_path / "converted"
    converted.mkdir()
    kept = {key: config[key] for key in ("model", "model_conf")}
    (converted / "config.yaml").write_text(yaml.safe_dump(kept))
    shutil.copy(exp / "valid.loss.ave_2best.pth", converted)
    (converted / "conversion.json").write_text(json.dumps({"kind": "rtfsnet", "source": "x.ckpt", "sha256": "ab"}))
    model = load("avss", converted, weights="valid.loss.ave_2best.pth")
    meta = verify_pack(model.save_pretrained(tmp_path / "pack"))
    assert meta["licence"] == "not stated" and meta["task"] == "avss" and meta["converted_from"]["source"] == "x.ckpt"
    with pytest.raises(UsageError, match="licence of the weights is not known"):
        model.push_to_hub("me/model")
    model.push_to_hub("me/model", licence="MIT")
    assert verify_pack(load("avss", "me/model").origin.folder)["licence"] == "MIT"


def test_data_of_unknown_licence_are_uploaded_only_when_told(tmp_path, hub, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "recipe"
    exp = make_experiment("avss", recipe, licence="CC-BY-NC-ND-4.0")
    config = yaml.safe_load((exp / "config.yaml").read_text())
    config["train_data_path_and_name_and_type"] = [["dump/train/wav.scp", "speech", "sound"]]
    (exp / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(LicenceConflict):
        load("avss", exp).save_pretrained(tmp_path / "pack")
    shutil.rmtree(recipe / "dump")
    model = load("avss", exp)
    assert verify_pack(model.save_pretrained(tmp_path / "pack"))["licence"] == "not stated"
    assert "the pack states no licence" in caplog.text
    with pytest.raises(UsageError, match="a licence needs a name"):
        model.save_pretrained(tmp_path / "pack", licence=" ")
    packed = load("avss", model.save_pretrained(tmp_path / "pack", licence="MIT"))
    for known in (model, packed):
        with pytest.raises(LicenceConflict, match="train: 'not stated'.*allow_unknown_licences=True"):
            known.push_to_hub("me/model", licence="MIT")
    assert not hub.repositories
    packed.push_to_hub("me/model", allow_unknown_licences=True)
    assert sorted(hub.repositories) == ["me/model"]


def test_parts_of_a_generator_go_along(tmp_path):
    from espnet_av.avgen.vocoder_choices import build_generator, complete_conf

    exp = make_experiment("avgen", tmp_path / "here")
    vocoder = tmp_path / "here" / "vocoder"
    vocoder.mkdir()
    sizes = complete_conf("hifigan", {"preset": "tiny"})
    network = build_generator("hifigan", sizes)
    torch.save(network.state_dict(), vocoder / "valid.loss.best.pth")
    config = {"model": "hifigan", "model_conf": sizes, "mel_conf": {}, "output_dir": str(vocoder)}
    (vocoder / "config.yaml").write_text(yaml.safe_dump(config))
    model = load("avgen", exp, vocoder=vocoder)
    folder = model.save_pretrained(tmp_path / "pack")
    shutil.rmtree(tmp_path / "here")
    meta = verify_pack(folder)
    assert list(meta["parts"]) == ["vocoder"] and "vocoder/model.safetensors" in meta["files"]
    assert [item["licence"] for item in meta["licences"]] == ["CC-BY-4.0", "not stated"]
    loaded = load("avgen", folder, vocoder="auto")
    assert same(loaded.vocoder.network.state_dict(), model.vocoder.network.state_dict())
    again = load("avgen", loaded.save_pretrained(tmp_path / "again"), vocoder="hifigan")
    assert same(weights(again), weights(model))


def test_public_names_are_loaded_when_they_are_used():
    code = "import sys, espnet_av; assert 'torch' not in sys.modules; print(' '.join(espnet_av.__all__))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for task in TASKS:
        kind = public_class(task)
        assert kind.__name__ in done.stdout.split() and issubclass(kind, Pretrained) and kind.system_name == task


def run_upload_stage(repo_root, exp, hub, scratch):
    script = (
        'set -euo pipefail; run_job() { shift 2; "$@"; };'
        f"source '{repo_root}/utils/model_stages.sh'; exp='{exp}'; hub_repo=me/recipe; upload"
    )
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        **{"HF_ENDPOINT": hub.address, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(scratch / "hf")},
    }
    return subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True)


def test_the_upload_stage_of_the_recipes(tmp_path, hub, repo_root):
    exp = make_experiment("avss", tmp_path)
    folder = pack_experiment(exp, exp / "pack", None, PackOptions())
    done = run_upload_stage(repo_root, exp, hub, tmp_path)
    assert done.returncode == 0, done.stderr
    files = hub.repositories["me/recipe"].commits[hub.repositories["me/recipe"].heads["main"]]
    assert {path.name for path in folder.iterdir()} <= files.keys()
    assert same(weights(load("avss", done.stdout.removeprefix("uploaded: ").strip())), weights(load("avss", folder)))


def test_the_upload_stage_asks_for_data_of_unknown_licence(tmp_path, hub, repo_root):
    exp = make_experiment("avss", tmp_path, licence="not stated")
    folder = pack_experiment(exp, exp / "pack", None, PackOptions(licence="MIT"))
    done = run_upload_stage(repo_root, exp, hub, tmp_path)
    assert done.returncode != 0 and "--allow_unknown_licences" in done.stderr and not hub.repositories
    upload.main([str(folder), "me/recipe", "--private", "--revision", "trial", "--allow_unknown_licences"])
    assert hub.repositories["me/recipe"].private and set(hub.repositories["me/recipe"].heads) == {"main", "trial"}
